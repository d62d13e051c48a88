"""How fast this machine reads memory: what the speed of a kernel is compared with."""

from __future__ import annotations

from time import perf_counter

import numba
import numpy as np

from numgraph.runtime.compiling import njit


@njit(fastmath=True)
def _sum(x):
    """Apart from the parallel loop, where LLVM does not turn it into vectors (5 times slower there)."""
    total = np.float32(0)
    for i in range(len(x)):
        total += x[i]
    return total


@njit(parallel=True)
def _sums(x, partial):
    """Sum of each part of x: a thread reads one run of memory from its start to its end."""
    size = len(x) // len(partial)
    for part in numba.prange(len(partial)):
        partial[part] = _sum(x[part * size : (part + 1) * size])


def read_bandwidth(size: int = 1 << 30, repeats: int = 7) -> float:
    """Bytes a second of a compiled parallel sum over a float32 array of `size` bytes: the best of some runs,
    so the roof, not the mean.
    """
    x = np.ones(max(1, size // 4), np.float32)
    partial = np.empty(numba.get_num_threads() * 8, np.float32)
    _sums(x, partial)
    best = float("inf")
    for _ in range(repeats):
        start = perf_counter()
        _sums(x, partial)
        best = min(best, perf_counter() - start)
    return x.nbytes / best
