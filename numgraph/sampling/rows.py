"""Rows of features by number, copied into memory that batches before have used."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays import recycling
from numgraph.arrays.inputs import is_sparse
from numgraph.runtime.compiling import njit
from numgraph.sampling.random import ask

_AHEAD = 8
"""Rows whose memory is asked for before they are copied."""
_LINE = 64


def rows_of(x: Any, ids: NDArray[Any]) -> Any:
    """x[ids], for ids that are known to be there; x is an array, also one that is mapped from a file, or a SciPy sparse matrix."""
    if is_sparse(x):
        return x[ids]
    x = np.asarray(x)
    size = x.dtype.itemsize * math.prod(x.shape[1:])
    word = next((w for w in (8, 4, 2, 1) if size % w == 0), 1)
    if size == 0 or x.dtype.kind == "O" or not x.flags.c_contiguous or not x.flags.aligned:
        return x[ids]
    made = _memory(len(ids) * size)[: len(ids) * size]
    words = np.dtype(f"u{word}")
    flat = np.ndarray((len(x) * size // word,), words, x, strides=(word,)) if len(x) else np.zeros(0, words)
    flat.flags.writeable = False
    _copy(flat, ids, size // word, made.view(words))
    return made.view(x.dtype).reshape(len(ids), *x.shape[1:])


def _memory(size: int) -> NDArray[np.uint8]:
    """So many bytes or up to an eighth more: blocks are kept by size, and batches have another one each."""
    step = 1 << max(size.bit_length() - 4, 0)
    return recycling.empty((-(-size // step) * step,), np.uint8)


@njit()
def _copy(x, ids, width, made):
    step = max(_LINE * width // max(x.itemsize * width, 1), 1)
    for i in range(len(ids)):
        if i + _AHEAD < len(ids):
            start = np.int64(ids[i + _AHEAD]) * width
            for k in range(0, width, step):
                ask(x, start + k)
        start, place = np.int64(ids[i]) * width, i * width
        for k in range(width):
            made[place + k] = x[start + k]
