"""Results that are made ahead of being asked for, each by a thread of its own that ends when it is made."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class _Task:
    """make(i) on a thread. No thread waits for anything, so none is left behind by whoever stops to ask."""

    def __init__(self, make: Callable[[int], Any], i: int) -> None:
        self._make, self._i = make, i
        self._found: tuple[Any] | None = None
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name=f"numgraph batch {i}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._found = (self._make(self._i),)
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self.thread.join()
        if self._error is not None:
            raise self._error
        return self._make(self._i) if self._found is None else self._found[0]  # none in the child of a fork, where the thread is not


def ahead(make: Callable[[int], T], count: int, depth: int) -> Iterator[T]:
    """make(0), make(1), … in order, up to `depth` of them in work while the caller has the last one; 0: each when it is asked for.

    An exception of make is raised in its place. When the iterator is closed it waits for the threads that run.
    """
    if depth == 0:
        yield from map(make, range(count))
        return
    tasks: deque[_Task] = deque()
    started = 0
    try:
        for i in range(count):
            while started < min(i + 1 + depth, count):
                tasks.append(_Task(make, started))
                started += 1
            yield tasks.popleft().result()
    finally:
        for task in tasks:
            task.thread.join()
