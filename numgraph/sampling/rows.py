"""Rows of features by number, copied into memory that batches before have used.

Rows of a mapped file that are not in memory cost a wait for the disk each. A disk has many in work at once,
so as many threads wait: the copy is a kernel without the GIL, and the page faults are its own. The rows that
are asked for most are kept."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays import recycling
from numgraph.arrays.inputs import is_sparse
from numgraph.graph.sorting import frozen
from numgraph.runtime.compiling import njit
from numgraph.runtime.mapping import advise, mapping_of
from numgraph.sampling.cold import Work, in_steps
from numgraph.sampling.memory import LINE, ask_near, move

_AHEAD = 16
"""Rows whose memory is asked for before they are copied, and how many bytes of them; the processor goes on by
itself.
"""
_ASKED = 1024
_NO_SLOTS, _NO_ORDER = np.zeros(0, np.int32), np.zeros(0, np.int64)


def rows_of(x: Any, ids: NDArray[Any]) -> Any:
    """x[ids], for ids that are known to be there; x is an array, also one that is mapped from a file, or a
    SciPy sparse matrix.
    """
    return Rows(x)(ids)


class Rows:
    """``Rows(x)(ids)`` is x[ids], for ids that are known to be there. Only of a mapped x anything is kept.

    Parameters
    ----------
    x : an array, also one that is mapped from a file, or a SciPy sparse matrix
    kept_bytes : of a mapped file, memory for rows that ``keep`` reads
    hottest : ids of so many rows, those that will be asked for most
    """

    def __init__(
        self, x: Any, kept_bytes: int = 0, hottest: Callable[[int], NDArray[Any]] | None = None
    ) -> None:
        self._given = x, kept_bytes, hottest
        self.x = x if is_sparse(x) else np.asarray(x)
        self._bytes, self._slots, self._kept = None, _NO_SLOTS, frozen(np.zeros(0, np.uint8))
        self._room, self._hottest = 0, hottest
        if is_sparse(x):
            return
        x = self.x
        self._size = x.dtype.itemsize * math.prod(x.shape[1:])
        if self._size == 0 or x.dtype.kind == "O" or not x.flags.c_contiguous:
            return
        self._bytes = frozen(np.ndarray((x.nbytes,), np.uint8, x) if len(x) else np.zeros(0, np.uint8))
        self._mapping = mapping_of(x)
        advise(x, "RANDOM")
        self._room = min(kept_bytes // self._size, len(x)) if self._mapping is not None else 0

    def __reduce__(self) -> tuple[Any, ...]:
        return Rows, self._given

    def __call__(self, ids: NDArray[Any]) -> Any:
        if self._bytes is None:
            return self.x[ids]
        made = self._memory(len(ids) * self._size)
        self._copy_into(made, ids)
        return made.view(self.x.dtype).reshape(len(ids), *self.x.shape[1:])

    def keep(self) -> None:
        """Read the hottest rows, in the order of the file, if there is memory for some; once."""
        if self._room == 0 or self._hottest is None:
            return
        ids = np.sort(self._hottest(self._room))
        kept = np.empty(len(ids) * self._size, np.uint8)
        self._copy_into(kept, ids)
        slots = np.full(len(self.x), -1, np.int32)
        slots[ids] = np.arange(len(ids), dtype=np.int32)
        self._kept, self._slots, self._hottest = (
            frozen(kept),
            slots,
            None,
        )  # kept first: a slot is of rows that are there

    def _memory(self, size: int) -> NDArray[np.uint8]:
        """Rows of a mapped file come into memory of the system's own, which has them back when they are gone:
        the C library would keep as much for each of the threads that read."""
        if self._mapping is None or size == 0:
            found: NDArray[np.uint8] = recycling.empty((size,), np.uint8)
            return found
        return np.ndarray((size,), np.uint8, mmap.mmap(-1, size))

    def _copy_into(self, made: NDArray[Any], ids: NDArray[Any]) -> None:
        if self._mapping is None:
            _copy(self._bytes, ids, self._size, made)
            return
        slots, kept = self._slots, self._kept

        def copy(first: int, last: int) -> None:
            _copy_mapped(self._bytes, kept, slots, ids, _NO_ORDER, first, last, self._size, made)

        def in_order_of_pages(done: int) -> Work:
            order = (done + np.argsort(ids[done:])).astype(np.int64)
            return lambda first, last: _copy_mapped(
                self._bytes, kept, slots, ids, order, first, last, self._size, made
            )

        in_steps(copy, len(ids), in_order_of_pages)


@njit()
def _copy(x, ids, size, made):
    """The rows of ids, from bytes to bytes."""
    asked = min(size, _ASKED)
    for i in range(len(ids)):
        if i + _AHEAD < len(ids):
            start = np.int64(ids[i + _AHEAD]) * size
            for k in range(0, asked, LINE):
                ask_near(x, start + k)
        move(x, np.int64(ids[i]) * size, made, np.int64(i) * size, size)


@njit()
def _copy_mapped(x, kept, slots, ids, order, first, last, size, made):
    """Rows first … last - 1, or those at these places of order: from the kept ones where they have a slot,
    else from the file.
    """
    for at in range(first, last):
        i = np.int64(order[at]) if len(order) > 0 else np.int64(at)
        row = np.int64(ids[i])
        slot = np.int64(slots[row]) if len(slots) > 0 else np.int64(-1)
        if slot >= 0:
            move(kept, slot * size, made, i * size, size)
        else:
            move(x, row * size, made, i * size, size)
