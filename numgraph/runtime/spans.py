"""Where a profile looks: a span is a stretch of work with a name. While no profile is open, nothing is timed
and nothing is named.

What is worth a span begins with ``if spans.OPEN:``, and that is all that it costs.
"""

from __future__ import annotations

import linecache
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

_HERE = (str(Path(__file__).parents[1]), str(Path(np.__file__).parent))


def caller() -> str:
    """The innermost line that is neither this package's nor NumPy's, as ``file.py:12  its text``."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    if frame is None:
        return ""
    path, number = frame.f_code.co_filename, frame.f_lineno
    text = linecache.getline(path, number, frame.f_globals).strip()
    return f"{Path(path).name}:{number}  {text if len(text) <= 90 else text[:89] + '…'}".rstrip()


@dataclass
class Span:
    """seconds: without those of the spans inside of it. bytes: what it read and wrote."""

    name: str
    backward: bool
    line: str
    seconds: float = 0.0
    bytes: int = 0


@dataclass
class Recorder:
    """What was timed between the opening and the closing of a profile, by the thread that opened it."""

    thread: int = field(default_factory=threading.get_ident)
    spans: list[Span] = field(default_factory=list)
    inside: list[Span] = field(default_factory=list)

    def run(self, span: Span, call: Callable[[], Any]) -> Any:
        """call(), timed; the time is taken off what is around it."""
        self.inside.append(span)
        start = perf_counter()
        try:
            return call()
        finally:
            seconds = perf_counter() - start
            self.inside.pop()
            span.seconds += seconds
            if self.inside:
                self.inside[-1].seconds -= seconds
            self.spans.append(span)


OPEN: list[Recorder] = []
"""The profiles that are open."""


def timed(
    name: Callable[[], str],
    moved: Callable[[Any], int],
    call: Callable[[], Any],
    backward: bool = False,
    line: str | None = None,
) -> Any:
    """call(), as a span of every open profile of this thread. name, and moved (the bytes, of the result), are
    asked after it.

    A span inside of another one is of the same line, and of the backward if that one is.
    """
    done = call
    spans: list[Span] = []
    for recorder in OPEN:
        if recorder.thread == threading.get_ident():
            around = recorder.inside[-1] if recorder.inside else None
            at = line if line is not None else around.line if around else caller()
            span = Span("", backward or (around is not None and around.backward), at)
            spans.append(span)
            done = _within(recorder, span, done)
    result = done()
    for span in spans:
        span.name, span.bytes = name(), moved(result)
    return result


def _within(recorder: Recorder, span: Span, call: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: recorder.run(span, call)
