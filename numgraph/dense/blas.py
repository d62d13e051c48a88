"""Matrix products by NumPy's BLAS: small ones on one thread, large ones into memory that is used again.

OpenBLAS hands a product of 0.3 MFLOP to all its threads. On an idle machine that saves some ten microseconds; where another program or
another library's threads hold a core, every product waits for the scheduler: 0.05 ms became 4 ms, and an epoch of a GAT on Cora 12 ms.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from numgraph import recycling

SMALL = 32e6
"""Floating-point operations up to which a product is left to one thread: about 0.3 ms."""

_gate = threading.Lock()


def product(a: Any, b: Any) -> Any:
    """np.matmul of matrices."""
    if type(a) is not np.ndarray or type(b) is not np.ndarray or not a.ndim == b.ndim == 2 or a.dtype != b.dtype:
        return a @ b
    rows, columns = a.shape[0], b.shape[1]
    if 2.0 * rows * columns * b.shape[0] > SMALL:
        return np.matmul(a, b, out=recycling.empty((rows, columns), a.dtype))
    threads = _threads()
    if threads is None or not _gate.acquire(blocking=False):  # somebody else's small product: the number is theirs to set and restore
        return a @ b
    get, put = threads
    try:
        before = get()
        put(1)
        try:
            return a @ b
        finally:
            put(before)
    finally:
        _gate.release()


@functools.cache
def _threads() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """The functions that get and set the number of threads of the OpenBLAS that comes with NumPy's wheels; None where it is another."""
    for path in Path(np.__file__).parent.parent.glob("numpy.libs/*openblas*"):
        library = ctypes.CDLL(str(path))
        get, put = (getattr(library, f"scipy_openblas_{name}_num_threads64_", None) for name in ("get", "set"))
        if get is not None and put is not None:
            return get, put
    return None
