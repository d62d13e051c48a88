"""Signals wait while something runs that must not be left half done.

Numba's and LLVM's state is shared by all that is compiled in the process, and an exception out of a signal's
handler (KeyboardInterrupt, SystemExit of a SIGTERM, a timeout of SIGALRM) may come between any two steps of
theirs."""

from __future__ import annotations

# the module signal looks every number up in an enumeration, which takes 10 times as long
import _signal as signal
import sys
import threading
from collections.abc import Callable
from typing import Any

_NUMBERS = sorted(
    map(int, signal.valid_signals()), key=lambda number: number != signal.SIGINT
)  # the likeliest first


class deferred:
    """``with deferred():`` signals that Python code handles are handled at the end of the block, each once.

    Only the main thread runs handlers, so elsewhere, and inside of another such block, it does nothing.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[..., Any]] = {}
        self._pending: dict[int, None] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        try:
            for number in _NUMBERS:
                handler = signal.getsignal(number)
                if callable(handler) and not isinstance(getattr(handler, "__self__", None), deferred):
                    self._handlers[number] = handler
                    signal.signal(number, self._note)
        except ValueError:  # a main thread of Python's that the interpreter takes no handlers from
            self._handlers.clear()
        except BaseException:
            self._restore()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self._restore()
        finally:
            self._deliver()

    def _note(self, number: int, frame: Any) -> None:
        self._pending[number] = None

    def _restore(self) -> None:
        try:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
        except BaseException:  # a handler that is back has raised: the others come back all the same
            self._restore()
            raise

    def _deliver(self) -> None:
        if self._pending:
            number = next(iter(self._pending))
            del self._pending[number]
            try:
                self._handlers[number](number, sys._getframe())
            finally:
                self._deliver()
