"""Memory of large results, used again.

Memory that is fresh from the system costs a page fault and zeros for every page: relu of 64 MB took 4.7 and
5.1 ms into used memory, and 6.9 and 8.3 into fresh. A result's block comes back here when the last array that
sees it is gone, and serves the next result of about its size: a training loop needs fresh memory in its first
epoch only, one over mini-batches, whose sizes change, in its first steps. What a process holds is an eighth
more than its results once needed together, at most; ``release`` gives back what waits."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

LARGE = 1 << 20
"""Bytes from which on blocks are kept; the C library keeps smaller ones by itself."""


def _physical() -> int:
    """Bytes of this machine's memory; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


KEPT = max(1 << 30, _physical() // 8)
"""Bytes of idle blocks at most. Softmaxes over 16 M edges with 8 heads need three blocks of 0.5 GB: forward
and backward take 0.55 s; 0.65 with 1 GB, and up to 1.6 where the system looks for pages that it got back.
"""
CLASSES = 8
"""Sizes of blocks between a power of two and the next one. At most a ninth of a block is not asked for, and
the system need not back it.
"""
LINE = 64
"""Blocks begin at a multiple of so many bytes: rows of 64 bytes then touch one cache line each, not two."""

# Changed by single operations of dict and list only, so that no lock is needed
_idle: dict[int, list[Any]] = {}  # blocks by size
_leased: dict[int, int] = {}  # bytes of the others, by the identity of their leases
_most = 0  # bytes that were leased together


class _Lease:
    """What owns a block while arrays see it."""

    __slots__ = ("__array_interface__", "_block")

    def __init__(self, block: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._block = block
        _leased[id(self)] = block.nbytes
        self.__array_interface__ = {
            "shape": shape,
            "typestr": dtype.str,
            "data": (block.ctypes.data, False),
            "version": 3,
        }

    def __del__(self) -> None:
        block = self._block
        if _idle is None:  # the interpreter ends
            return
        _leased.pop(id(self), None)
        if idle_bytes() + block.nbytes <= KEPT:
            _idle.setdefault(block.nbytes, []).append(block)


def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """np.empty, for results: the memory of a large one may be another's that is gone. ``owns`` tells that
    nobody else sees it.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE or dtype.kind == "V":
        return np.empty(shape, dtype)
    return np.asarray(_Lease(_block(_rounded(size)), shape, dtype))


def zeros(shape: tuple[int, ...], dtype: Any) -> Any:
    """np.zeros, for results."""
    made = empty(shape, dtype)
    made.fill(0)
    return made


def owns(array: Any) -> bool:
    """Whether a new array's memory is its own: it is no view of another array."""
    return array.base is None or type(array.base) is _Lease


def release() -> None:
    """Give all idle blocks back to the system."""
    global _most
    _idle.clear()
    _most = 0


def idle_bytes() -> int:
    """Bytes that wait to be used again."""
    return sum(size * len(blocks) for size, blocks in list(_idle.items()))


def _rounded(size: int) -> int:
    """The size of the blocks that serve results of a size."""
    step = (1 << (size.bit_length() - 1)) // CLASSES
    return -(-size // step) * step


def _block(size: int) -> Any:
    block = _taken(size)
    return _fresh(size) if block is None else block


def _taken(size: int) -> Any:
    try:
        return _idle[size].pop()
    except (KeyError, IndexError):
        return None


def _fresh(size: int) -> Any:
    """A new block. Idle ones of other sizes go for it where the process would hold more than its results once
    needed together and an eighth. Without that eighth a step that needs a small block as well would lose
    a large one for it each time.
    """
    global _most
    leased = sum(list(_leased.values())) + size
    _most = max(_most, leased)
    for other in list(_idle):
        while leased + idle_bytes() > _most * 9 // 8 and _taken(other) is not None:
            pass
    memory = np.empty(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size]
