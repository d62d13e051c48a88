"""What a tape notes beside its records while it is checked or profiled: the caller's line of each, and where
numbers stop being finite.

A tape that is neither has no watcher, and pays for none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from numgraph.autodiff.deferred import computed
from numgraph.autodiff.tensor import Parameter, unwrap
from numgraph.errors import bad_value, not_finite, shown
from numgraph.expressions.expr import is_float
from numgraph.runtime import spans

CHECKS = (False, True, "nan")

_CHECKED: ContextVar[bool | str] = ContextVar("CHECKED", default=False)


@contextmanager
def debug(check: bool | str = True) -> Iterator[None]:
    """Within it every tape is made with ``check``, whoever makes it:
    ``with ng.debug(): ng.fit(model, data)``. It costs a look at every number that is computed.

    Parameters
    ----------
    check : True for NaN and infinity, "nan" for NaN alone, where −inf is meant,
        as in the scores of what is masked

    Returns
    -------
    A context manager.

    Raises
    ------
    FloatingPointError : the first record, forward or backward, and the first row whose value is not finite;
        the message has the operation, the caller's line, the shape, and the values of the inputs at that row.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> with ng.debug(), ng.Tape() as tape:
    ...     x = tape.watch(np.array([1.0, 0.0]))
    ...     loss = np.sum(np.sqrt(x))
    >>> tape.gradient(loss, x)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FloatingPointError: ∇ sqrt: the gradient of input 0 by record #0 is inf at [1] of float64[2] (...
    """
    _check_check("debug", check)
    token = _CHECKED.set(check)
    try:
        yield
    finally:
        _CHECKED.reset(token)


def _check_check(op: str, check: Any) -> None:
    if not any(check is one or check == one for one in CHECKS):
        raise bad_value(op, f"check is {shown(check)}", "it is True, 'nan' or False")


def watcher(check: bool | str) -> Watcher | None:
    """The watcher of a new tape; None where nobody looks."""
    if check is not False:
        _check_check("Tape", check)
    check = check or _CHECKED.get()
    return Watcher(check) if check or spans.OPEN else None


class Watcher:
    """lines: of the caller, of each record."""

    def __init__(self, check: bool | str) -> None:
        self.check = check
        self.lines: list[str] = []

    def recorded(self, entry: Any) -> None:
        """After an operation got on the tape."""
        self.lines.append(spans.caller())
        if self.check:
            for place, y in enumerate(entry.outputs):
                found = self._found(y)
                if found is not None:
                    raise self._told(
                        entry, len(self.lines) - 1, found, unwrap(y), _inputs_at(entry, place, found)
                    )

    def replayed(
        self, number: int, entry: Any, grads: Sequence[Any], vjp: Callable[[], Sequence[Any]]
    ) -> Sequence[Any]:
        """The gradients of a record's inputs, computed by ``vjp()``."""
        line = self.lines[number]

        def moved(back: Sequence[Any]) -> int:
            return sum([unwrap(g).nbytes for g in (*grads, *back) if hasattr(unwrap(g), "nbytes")])

        def whole() -> Sequence[Any]:
            return [computed(g) for g in vjp()]

        back = spans.timed(lambda: f"∇ {entry.name}", moved, whole, True, line) if spans.OPEN else whole()
        if self.check:
            for place, (need, g) in enumerate(zip(entry.needs, back, strict=True)):
                found = self._found(g) if need and g is not None else None
                if found is not None:
                    raise self._told(
                        entry,
                        number,
                        found,
                        unwrap(g),
                        _arrived(entry, place, found, grads),
                        _name(entry, place),
                    )
        return back

    def _found(self, y: Any) -> tuple[int, ...] | None:
        """Where the first number is that is not finite, or not a number."""
        data = unwrap(y)
        if not hasattr(data, "dtype") or not is_float(data.dtype):
            return None
        bad = np.isnan(data) if self.check == "nan" else ~np.isfinite(data)
        return tuple([int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape)]) if bad.any() else None

    def _told(
        self,
        entry: Any,
        number: int,
        found: tuple[int, ...],
        data: Any,
        details: list[str],
        gradient: str = "",
    ) -> FloatingPointError:
        subject = (
            f"the gradient of {gradient} by record #{number} is" if gradient else f"record #{number} gives"
        )
        line = self.lines[number] or "no line of a file"
        problem = (
            f"{subject} {_number(data[found])} at {list(found)} of {data.dtype}{list(data.shape)} ({line})"
        )
        return not_finite(f"∇ {entry.name}" if gradient else entry.name, problem, "; ".join(details))


def _number(x: Any) -> str:
    return f"{float(x)!r}"


def _text(x: Any) -> str:
    """A number, or a few of an array's."""
    if not np.ndim(x):
        return _number(x) if is_float(unwrap(x).dtype) else str(x)
    return " ".join(
        np.array2string(np.asarray(x), precision=4, threshold=8, edgeitems=3, separator=", ").split()
    )


def _name(entry: Any, place: int) -> str:
    """What an input is called: a field of a message, a parameter, or its position."""
    x = entry.inputs[place]
    fields = getattr(entry.explain, "fields", ())
    if fields:
        return str(fields[place])
    return f"parameter {x.name!r}" if isinstance(x, Parameter) and x.name else f"input {place}"


def _inputs_at(entry: Any, place: int, found: tuple[int, ...]) -> list[str]:
    arrays = [unwrap(x) for x in entry.inputs]
    at = getattr(entry.explain, "at", None)
    if at is not None:
        return list(at(arrays, place, found[0] if found else 0))
    shape = tuple(entry.outputs[place].shape)
    return [_at(entry, i, x, shape, found) for i, x in enumerate(arrays) if hasattr(x, "shape")]


def _at(entry: Any, i: int, x: Any, shape: tuple[int, ...], found: tuple[int, ...]) -> str:
    """An input where a result of a shape was found not to be finite: the number that broadcasts to it, the
    row, or how large it is.
    """
    lead = len(shape) - x.ndim
    name = _name(entry, i)
    if lead >= 0 and all(n in (1, m) for n, m in zip(x.shape, shape[lead:])):
        index = tuple([0 if n == 1 else k for n, k in zip(x.shape, found[lead:])])
        return f"{name} at {list(index)} is {_text(x[index])}" if index else f"{name} is {_text(x)}"
    if x.ndim and found and x.shape[0] == shape[0]:
        return f"{name} at row {found[0]} is {_text(x[found[0]])}"
    return f"{name} {list(x.shape)} {_range(x)}"


def _range(x: Any) -> str:
    """How large the numbers are."""
    data = np.asarray(unwrap(x), np.float64)
    if not data.size:
        return "is empty"
    finite = np.isfinite(data)
    if finite.all():
        return f"is finite, from {data.min():.4g} to {data.max():.4g}"
    index = tuple([int(k) for k in np.unravel_index(int((~finite).argmax()), data.shape)])
    return f"is {_number(data[index])} at {list(index)} itself"


def _arrived(entry: Any, place: int, found: tuple[int, ...], grads: Sequence[Any]) -> list[str]:
    """The input where its gradient is not finite, the gradient that arrived, and the formula if the record
    has one.
    """
    x = unwrap(entry.inputs[place])
    details = [f"{_name(entry, place)} at {list(found)} is {_text(x[found])}"]
    lines = entry.explain(entry.needs) if entry.explain else ()
    for y, g in zip(entry.outputs, grads, strict=True):
        if g is None:
            continue
        same = not lines and tuple(y.shape) == tuple(x.shape)  # a walk reads the rows of neighbours
        details.append(
            f"the gradient that arrived there is {_text(unwrap(g)[found])}"
            if same
            else f"the gradient that arrived {_range(g)}"
        )
        if same:
            details.append(f"the result there is {_text(unwrap(y)[found])}")
    formula = next(
        (line.split("  ")[0] for line in lines if line.startswith(f"∂{_name(entry, place)} =")), None
    )
    return [*details, *([formula] if formula else [])]
