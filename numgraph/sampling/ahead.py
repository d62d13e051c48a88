"""Results that are made ahead of being asked for, each by a thread of its own that ends when it is made."""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from numgraph.runtime.interrupts import deferred

T = TypeVar("T")


def _named(make: Callable[[int], T], i: int, count: int) -> T:
    """make(i), whose error says in which batch it came."""
    try:
        return make(i)
    except Exception as error:
        error.add_note(f"in batch {i} of 0 … {count - 1}")
        raise


class _Task:
    """make(i) on a thread. No thread waits for anything, so none is left behind by whoever stops to ask."""

    def __init__(self, make: Callable[[], Any], i: int) -> None:
        self._make = make
        self._found: tuple[Any] | None = None
        self._error: BaseException | None = None
        self._process, self._running = os.getpid(), threading.Lock()
        self._running.acquire()
        self._thread = threading.Thread(target=self._run, name=f"numgraph batch {i}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found = (self._make(),)
        except BaseException as error:
            self._error = error
        finally:
            self._running.release()

    def wait(self) -> None:
        """Until the thread has ended. A join that an exception ends takes the thread for ended, so that its
        end is a lock's.
        """
        if self._process == os.getpid():  # in the child of a fork the thread is not
            with self._running:
                pass
            self._thread.join()

    def result(self) -> Any:
        """What was made, after ``wait``."""
        if self._error is not None:
            raise self._error
        return self._make() if self._found is None else self._found[0]  # none in the child of a fork


def ahead(make: Callable[[int], T], count: int, depth: int) -> Iterator[T]:
    """make(0), make(1), … in order, up to `depth` of them in work while the caller has the last one; 0: each
    when it is asked for.

    An exception of make is raised in its place. When the iterator is closed it waits for the threads that
    run.
    """
    if depth == 0:
        for i in range(count):
            yield _named(make, i, count)
        return
    tasks: deque[_Task] = deque()
    started = 0
    try:
        for i in range(count):
            while started < min(i + 1 + depth, count):
                with (
                    deferred()
                ):  # a Ctrl-C between a thread's start and its place in the line would leave it behind
                    tasks.append(_Task(functools.partial(_named, make, started, count), started))
                started += 1
            tasks[0].wait()  # it stays in line while it is waited for, where a Ctrl-C may come
            yield tasks.popleft().result()
    finally:
        for task in tasks:
            task.wait()
