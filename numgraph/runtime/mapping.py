"""Files that arrays are mapped from: which one it is, and how it will be read."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np


def mapping_of(array: Any) -> mmap.mmap | None:
    """The mapped file whose memory an array is a part of; also of np.memmap, of np.load's, and of views of
    them.
    """
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, mmap.mmap) else None


def advise(array: Any, how: str) -> None:
    """Tell the system how the file of a mapped array will be read, as "RANDOM": a page for its rows, and not
    megabytes after it.
    """
    mapping, advice = mapping_of(array), getattr(mmap, f"MADV_{how}", None)
    if mapping is not None and advice is not None:
        mapping.madvise(advice)
