"""Rows of features by number, copied into memory that batches before have used.

Rows of a mapped file that are not in memory cost a wait for the disk each. A disk has many in work at once, so as many threads wait: the
copy is a kernel without the GIL, and the page faults are its own. The rows that are asked for most are kept.
"""

from __future__ import annotations

import math
import mmap
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays import recycling
from numgraph.arrays.inputs import is_sparse
from numgraph.data.npy import mapping_of
from numgraph.graph.sorting import frozen
from numgraph.runtime.compiling import njit
from numgraph.sampling.memory import LINE, ask, move

_AHEAD = 12
"""Rows whose memory is asked for before they are copied, and how many bytes of them; the processor goes on by itself."""
_ASKED = 1024
READERS = 64
"""Threads that wait for the disk."""
_FIRST = 64
"""Rows that are copied before it is known whether the disk is waited for; then twice as many, and so on."""
_COLD = 16
"""Waits among that many rows on which the others are read by many threads."""
_PIECE = 128
"""Rows that a reader takes at once, at most."""
_STACK = 8 << 20
"""Bytes of a thread's stack, as systems count them."""
_NO_SLOTS, _NO_ORDER = np.zeros(0, np.int32), np.zeros(0, np.int64)


def rows_of(x: Any, ids: NDArray[Any]) -> Any:
    """x[ids], for ids that are known to be there; x is an array, also one that is mapped from a file, or a SciPy sparse matrix."""
    return Rows(x)(ids)


class Rows:
    """``Rows(x)(ids)`` is x[ids], for ids that are known to be there. Only of a mapped x anything is kept.

    Parameters
    ----------
    x : an array, also one that is mapped from a file, or a SciPy sparse matrix
    kept_bytes : of a mapped file, memory for rows that ``keep`` reads
    hottest : ids of so many rows, those that will be asked for most
    """

    def __init__(self, x: Any, kept_bytes: int = 0, hottest: Callable[[int], NDArray[Any]] | None = None) -> None:
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
        if self._mapping is not None and hasattr(mmap, "MADV_RANDOM"):
            self._mapping.madvise(mmap.MADV_RANDOM)  # a page is read for its rows, and not megabytes after it
        self._room = min(kept_bytes // self._size, len(x)) if self._mapping is not None else 0

    def __reduce__(self) -> tuple[Any, ...]:
        return Rows, self._given

    def __call__(self, ids: NDArray[Any]) -> Any:
        if self._bytes is None:
            return self.x[ids]
        made = recycling.empty((len(ids) * self._size,), np.uint8)
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
        self._kept, self._slots, self._hottest = frozen(kept), slots, None  # kept first: a slot is of rows that are there

    def _copy_into(self, made: NDArray[Any], ids: NDArray[Any]) -> None:
        if self._mapping is None:
            _copy(self._bytes, self._kept, self._slots, ids, _NO_ORDER, 0, len(ids), self._size, made)
            return
        slots, kept = self._slots, self._kept
        done, step = 0, _FIRST
        while done < len(ids):
            before = _waits()
            last = min(done + step, len(ids))
            _copy(self._bytes, kept, slots, ids, _NO_ORDER, done, last, self._size, made)
            cold = before is None or (_waits() or 0) - before > (last - done) // _COLD
            done, step = last, 2 * step
            if cold and len(ids) - done > _PIECE:
                self._read(made, ids, done, slots, kept)
                return

    def _read(self, made: NDArray[Any], ids: NDArray[Any], done: int, slots: Any, kept: Any) -> None:
        """The rows from `done` on, by many threads; rows of one page one after the other."""
        order = (done + np.argsort(ids[done:])).astype(np.int64)
        size = min(max(len(order) // (4 * READERS), 1), _PIECE)
        pieces = [(first, min(first + size, len(order))) for first in range(0, len(order), size)]
        _by_many(lambda piece: _copy(self._bytes, kept, slots, ids, order, *piece, self._size, made), pieces)


def _waits() -> int | None:
    """How often this thread has waited for a disk to bring a page; None where the system does not say."""
    if sys.platform != "linux":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt


def _by_many(work: Callable[[Any], None], pieces: Iterable[Any]) -> None:
    """work(piece) for every piece, on threads that wait most of their time."""
    pieces = list(pieces)
    left, failed = iter(pieces), list[BaseException]()

    def run() -> None:
        try:
            for piece in left:  # a list's iterator may be shared by threads
                work(piece)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, daemon=True, name=f"numgraph reader {i}") for i in range(min(_readers(), len(pieces)) - 1)]
    try:
        for thread in threads:
            thread.start()
    except RuntimeError:  # no more threads: those that there are read all
        pass
    run()
    for thread in threads:
        if thread.ident is not None:
            thread.join()
    if failed:
        raise failed[0]


def _readers() -> int:
    """Threads that may wait for the disk: where the process's memory is limited, their stacks take an eighth of it at most."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return READERS
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS)]
    return min([READERS, *[max(limit // 8 // _STACK, 1) for limit in limits if limit != resource.RLIM_INFINITY]])


@njit()
def _copy(x, kept, slots, ids, order, first, last, size, made):
    """Rows first … last - 1, or those at these places of order: from the kept ones where they have a slot, else from x. All are bytes."""
    ordered, asked = len(order) > 0, min(size, _ASKED)
    for at in range(first, last):
        if at + _AHEAD < last:
            slot, row = _place(slots, ids[order[at + _AHEAD]] if ordered else ids[at + _AHEAD])
            for k in range(0, asked, LINE):
                if slot < 0:
                    ask(x, row * size + k)
                else:
                    ask(kept, slot * size + k)
        i = np.int64(order[at]) if ordered else np.int64(at)
        slot, row = _place(slots, ids[i])
        if slot < 0:
            move(x, row * size, made, i * size, size)
        else:
            move(kept, slot * size, made, i * size, size)


@njit(inline="always")
def _place(slots, row):
    """The slot of a row among the kept ones, -1 where it is not there, and its number in x."""
    return np.int64(slots[row]) if len(slots) > 0 else np.int64(-1), np.int64(row)
