"""Work that waits for the disk at every step, by as many threads as a disk answers at once: kernels without
the GIL, on mapped files.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable

READERS = 64
"""Threads that wait for the disk."""
_FIRST = 64
"""Steps before it is known whether the disk is waited for; then twice as many, and so on."""
_COLD = 16
"""Waits among that many steps on which the others are done by many threads."""
_PIECE = 128
"""Steps that a reader takes at once, at most."""
_STACK = 8 << 20
"""Bytes of a thread's stack, as systems count them."""

Work = Callable[[int, int], object]
"""Does the steps from the first to one before the last."""


def in_steps(work: Work, count: int, others: Callable[[int], Work] | None = None) -> None:
    """work(0, count), in parts; from where the disk is waited for on, by many threads.

    others: of the number of steps that are done, what does the others instead of work, numbered anew from 0.
    """
    done, step = 0, _FIRST
    while done < count:
        before = _waits()
        last = min(done + step, count)
        work(done, last)
        cold = before is None or (_waits() or 0) - before > (last - done) // _COLD
        done, step = last, 2 * step
        if cold and count - done > _PIECE:
            _by_many(others(done) if others is not None else _after(work, done), count - done)
            return


def _after(work: Work, done: int) -> Work:
    return lambda first, last: work(done + first, done + last)


def _waits() -> int | None:
    """How often this thread has waited for a disk to bring a page; None where the system does not say."""
    if sys.platform != "linux":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt


def _by_many(work: Work, count: int) -> None:
    """work(0, count) in pieces, on threads that wait most of their time."""
    size = min(max(count // (4 * READERS), 1), _PIECE)
    bounds = [*range(0, count, size), count]
    left, failed = iter(list(itertools.pairwise(bounds))), list[BaseException]()

    def run() -> None:
        try:
            for first, last in left:  # a list's iterator may be shared by threads
                work(first, last)
        except BaseException as error:
            failed.append(error)

    threads = [
        threading.Thread(target=run, daemon=True, name=f"numgraph reader {i}")
        for i in range(min(_readers(), len(bounds) - 1) - 1)
    ]
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
    """Threads that may wait for the disk: where the process's memory is limited, their stacks take a
    sixteenth of it at most.
    """
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return READERS
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS)]
    return min(
        [READERS, *[max(limit // 16 // _STACK, 1) for limit in limits if limit != resource.RLIM_INFINITY]]
    )
