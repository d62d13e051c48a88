"""The one gate to parallel kernels: a kernel runs on the thread pool only where that is safe and worth it,
else its serial twin runs. ``share`` spreads calls of NumPy, which leaves the interpreter to others while it
computes, over threads that sleep in between.

Numba's workqueue layer aborts the process when two threads enter it at once, and a pool that was started
before a fork is dead in the child (the OpenMP layer ends the process there). So one Python thread at a time
is let into the pool, and a child of a process that had started it never is. A parallel kernel and its serial
twin must give identical bits: nobody chooses which one runs."""

from __future__ import annotations

import _thread
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numba

from numgraph.runtime.interrupts import deferred

SMALL = 32768
"""Work (array elements touched) below which entering the pool, about 7 µs, costs more than it saves."""

_gate = threading.Lock()
_sharing = threading.Lock()
_helpers: list[_Helper] = []
_forked = _started = False


def run(parallel: Callable[..., Any], serial: Callable[..., Any], *args: Any, work: int) -> Any:
    """``parallel(*args)`` if `work` is large and the pool is free and usable here, else ``serial(*args)``. A
    thread waits for the pool only if another one took it at the same moment.

    Raises what the kernel raises; the pool is free again afterwards. Kernels raise only under
    NUMBA_BOUNDSCHECK=1, and Numba's parallel loops lose exceptions: with that setting everything is serial.
    """
    if work < SMALL or _forked or numba.config.BOUNDSCHECK or _gate.locked():
        return serial(*args)
    # a Ctrl-C between acquire() and a try would leave it locked. get_num_threads starts the pool, so it is
    # asked inside
    with _gate:
        if not _started:
            _start()
        return (parallel if numba.get_num_threads() > 1 else serial)(*args)


def share(pieces: Iterable[Callable[[], Any]]) -> None:
    """Call every piece, each on whichever thread is free. None runs any more when this returns or raises.

    While another thread, or a piece, shares its own, all are called here.
    """
    pieces = list(pieces)
    left = iter(pieces)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for piece in left:  # a list's iterator may be shared by threads
                if failed:
                    return
                piece()
        except BaseException as error:
            failed.append(error)

    gate, helpers = _sharing, []
    free = gate.acquire(blocking=False)
    try:
        if free:
            helpers = _awake(min(numba.get_num_threads(), len(pieces)) - 1)
        with deferred():
            for helper in helpers:
                helper.begin(work)
        work()
    finally:
        with deferred():
            for helper in helpers:
                helper.wait()
        if free:
            gate.release()
    if failed:
        raise failed[0]


class _Helper:
    """A thread that sleeps until there is something to call: a product of 0.4 ms waits 0.05 ms for it, and
    0.15 ms for a new thread.
    """

    def __init__(self) -> None:
        self._work: Callable[[], None] | None = None
        self._go, self._done = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._done.acquire()
        _thread.start_new_thread(self._serve, ())

    def _serve(self) -> None:
        while True:
            self._go.acquire()
            assert self._work is not None
            self._work()
            self._done.release()

    def begin(self, work: Callable[[], None]) -> None:
        """Have work(), which raises nothing, called."""
        self._work = work
        self._go.release()

    def wait(self) -> None:
        """Until it has been called, if it was to be."""
        if self._work is not None:
            self._done.acquire()
            self._work = None


def _awake(count: int) -> list[_Helper]:
    """So many helpers, or as many as the system gives."""
    while len(_helpers) < count:
        try:
            _helpers.append(_Helper())
        except RuntimeError:
            break
    return _helpers[: max(count, 0)]


def _start() -> None:
    """Start the pool; an exception of a signal's handler in the middle would leave its locks taken."""
    global _started
    with deferred():
        numba.get_num_threads()
        _started = True


def _after_fork_in_child() -> None:
    """The parent's pool has no threads here, and whoever was inside the gate does not exist here."""
    global _gate, _sharing, _helpers, _forked
    _forked = _forked or _gate.locked() or _pool_started()
    _gate, _sharing, _helpers = threading.Lock(), threading.Lock(), []


def _pool_started() -> bool:
    """Whether anything in this process, also outside this package, has started Numba's pool."""
    try:
        numba.threading_layer()
    except ValueError:
        return False
    return True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
