"""The tape: records what was computed, and replays it backwards to give gradients of any order. It knows no graphs and no formulas.

``Tape`` is the engine, ``record`` the one door through which an operation gets on the tapes; tensor.py has the arrays that they track.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from numgraph import recycling
from numgraph.devices import writeable
from numgraph.errors import bad_type, bad_value
from numgraph.inputs import listed
from numgraph.tensor import Parameter, Tensor, check_float, is_float, unwrap

__all__ = ["Parameter", "Tape", "Tensor", "record", "unwrap"]


class _Record(NamedTuple):
    name: str
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    vjp: Callable[..., Sequence[Any]]
    many: bool  # outputs came as a tuple
    needs: tuple[bool, ...]
    explain: Callable[[Sequence[bool]], list[str]] | None

    def summary(self) -> tuple[Any, ...]:
        """What explain() prints, without the arrays."""
        shapes = [getattr(x, "shape", ()) for x in self.inputs], [y.shape for y in self.outputs]
        return self.name, *shapes, self.needs, self.explain


class _Thread(threading.local):
    tapes: tuple[Tape, ...] = ()  # the tapes that record what this thread computes, outermost first


_THREAD = _Thread()


def record(
    name: str,
    inputs: Sequence[Any],
    outputs: Any,
    vjp: Callable[..., Sequence[Any]] | None,
    explain: Callable[[Sequence[bool]], list[str]] | None = None,
) -> Any:
    """Put an operation on the active tapes: the one door.

    ``outputs`` (an array or a tuple of arrays) was computed from the unwrapped ``inputs``. Without a Tensor among the inputs it is
    returned as it is. Otherwise its floating-point arrays are boxed as Tensors, and each active tape that tracks an input gets a record.

    ``vjp(grads, inputs, outputs, needs)`` returns one gradient (or None) per input. ``grads`` is the output's gradient (for a tuple of
    outputs a tuple, None for those that got none); ``inputs`` and ``outputs`` are plain arrays, or Tensors while another tape records, so
    that what vjp computes is recorded there; ``needs`` says whose gradient is wanted. A vjp must not change the arrays it is given.
    ``vjp=None``: the derivative is zero everywhere.

    ``explain(needs)`` returns the lines of ``Tape.explain`` on the replay; it must not hold arrays.
    """
    for x in inputs:
        if isinstance(x, Tensor):
            break
    else:
        return outputs
    many = isinstance(outputs, tuple)
    boxed = tuple([Tensor(y) if is_float(y.dtype) else y for y in (outputs if many else (outputs,))])
    if vjp is not None:
        for tape in _THREAD.tapes:
            tracked = tape._tracked
            needs = tuple([id(x) in tracked or isinstance(x, Parameter) for x in inputs])
            if True in needs:
                tape._records.append(_Record(name, tuple(inputs), boxed, vjp, many, needs, explain))
                tracked.update([id(y) for y in boxed if isinstance(y, Tensor)])
    return boxed if many else boxed[0]


class Tape:
    """Records what is computed inside its ``with``; ``gradient`` replays it backwards. Tapes nest in any order: an outer tape records an
    inner tape's ``gradient``. The replay frees what it has passed, unless ``persistent``: then ``gradient`` may be called again."""

    def __init__(self, persistent: bool = False) -> None:
        self.persistent = persistent
        self._records: list[_Record] = []
        self._replayed: list[tuple[Any, ...]] = []  # summaries, last record first
        self._tracked: set[int] = set()  # ids of Tensors that _records and _watched keep alive
        self._watched: list[Tensor] = []
        self._used = False

    def __enter__(self) -> Tape:
        self._check_unused("Tape")
        if any(tape is self for tape in _THREAD.tapes):
            raise bad_value("Tape", "it is recording already", "a nested tape is another Tape()")
        _THREAD.tapes += (self,)
        return self

    def __exit__(self, *error: object) -> None:
        _THREAD.tapes = self._others()

    def _others(self) -> tuple[Tape, ...]:
        return tuple([tape for tape in _THREAD.tapes if tape is not self])

    def _check_unused(self, op: str) -> None:
        if self._used:
            raise bad_value(op, "this tape was replayed and has freed its records", "make it with Tape(persistent=True), or make a new one")

    def watch(self, array: Any) -> Tensor:
        """A Tensor of ``array`` that this tape tracks; a Tensor is marked and returned itself. Floating-point arrays only."""
        self._check_unused("watch")
        x = array if isinstance(array, Tensor) else Tensor(array)
        check_float("watch", x)
        if id(x) not in self._tracked:
            self._tracked.add(id(x))
            self._watched.append(x)
        return x

    def gradient(self, loss: Any, inputs: Any) -> Any:
        """∂loss/∂inputs, for a list of Tensors a list, for one Tensor one array, for a dict a dict.

        ``loss`` is a scalar Tensor. Each gradient has its input's shape and dtype, zeros where the loss does not depend on it. While
        another tape records, the gradients are Tensors, recorded there.
        """
        if isinstance(inputs, Tensor):
            return self.gradient(loss, [inputs])[0]
        if isinstance(inputs, dict):
            return dict(zip(inputs, self.gradient(loss, list(inputs.values())), strict=True))
        inputs = listed("gradient", "inputs", inputs)
        self._check_unused("gradient")
        self._check_gradient(loss, inputs)
        active, others = _THREAD.tapes, self._others()
        _THREAD.tapes = others
        try:
            with np.errstate(all="ignore"):  # a derivative may be infinite where its function is not, as that of √x at 0
                return self._replay(loss, inputs, bool(others))
        finally:
            if self.persistent:
                _THREAD.tapes = active
            else:
                self._used = True
                self._records, self._watched, self._tracked = [], [], set()

    def _check_gradient(self, loss: Any, inputs: list[Any]) -> None:
        if not isinstance(loss, Tensor):
            raise bad_type(
                "gradient", f"loss is a {type(loss).__name__}, no Tensor: nothing watched led to it", "compute it from tape.watch(array)"
            )
        if loss.shape != ():
            raise bad_value("gradient", f"loss has shape {loss.shape}, a scalar is needed", "reduce it with .sum() or .mean()")
        for i, x in enumerate(inputs):
            if not isinstance(x, Parameter) and not (isinstance(x, Tensor) and id(x) in self._tracked):
                what = f"a Tensor of shape {x.shape} that this tape does not track" if isinstance(x, Tensor) else f"a {type(x).__name__}"
                raise bad_value("gradient", f"inputs[{i}] is {what}", "pass what tape.watch(array) returned")

    def _replay(self, loss: Tensor, inputs: list[Tensor], taped: bool) -> list[Any]:
        records = self._records
        kept = {id(x) for x in inputs}
        reached = set(kept)  # only what depends on an input is worth a gradient
        for entry in records:
            if not reached.isdisjoint(map(id, entry.inputs)):
                reached.update(map(id, entry.outputs))
        grads: dict[int, Any] = {id(loss): np.ones_like(loss.data)}
        owned: set[int] = set()  # ids of Tensors whose gradient is a sum made here: nobody else holds it
        for i in range(len(records) - 1, -1, -1):
            entry = records[i]
            if not self.persistent:
                records.pop()
                self._replayed.append(entry.summary())
            got = tuple([grads.get(id(y)) if id(y) in kept else grads.pop(id(y), None) for y in entry.outputs])
            needs = tuple([need and id(x) in reached for need, x in zip(entry.needs, entry.inputs, strict=True)])
            if True not in needs or all(g is None for g in got):
                continue
            operands, results = entry.inputs, entry.outputs
            if not taped:
                operands, results = tuple(map(unwrap, operands)), tuple(map(unwrap, results))
            back = entry.vjp(got if entry.many else got[0], operands, results if entry.many else results[0], needs)
            del got, operands, results
            for x, need, g in zip(entry.inputs, needs, back, strict=True):
                if need and g is not None:
                    _add(grads, owned, x, g, taped, entry.name)
        return _results(grads, inputs, taped)

    def explain(self) -> str:
        """Every record, and how it is replayed; before and after ``gradient``."""
        summaries = self._replayed[::-1] + [entry.summary() for entry in self._records]
        lines = []
        for number, (name, shapes_in, shapes_out, needs, explain) in enumerate(summaries):
            into, out = (", ".join(str(tuple(shape)) for shape in shapes) for shapes in (shapes_in, shapes_out))
            lines.append(f"#{number} {name}  {into} → {out}")
            lines += [f"     {line}" for line in (explain(needs) if explain else ())]
        return "\n".join(lines)


def _add(grads: dict[int, Any], owned: set[int], x: Any, g: Any, taped: bool, name: str) -> None:
    """Add g to x's gradient, in place where the tape made the sum itself: an array from a vjp may be somebody's."""
    if not taped:
        g = unwrap(g)
    if g.shape != x.shape:
        raise bad_value(name, f"its vjp gave a gradient of shape {g.shape} for an input of shape {x.shape}", "the vjp is wrong")
    if g.dtype != x.dtype:
        g = g.astype(x.dtype)
    key = id(x)
    before = grads.get(key)
    if before is None:
        grads[key] = g
    elif key in owned:
        np.add(before, g, out=before)
    else:
        grads[key] = before + g
        if not taped and g.shape:  # a sum of 0-d arrays is a scalar, which has no place
            owned.add(key)


def _results(grads: dict[int, Any], inputs: list[Tensor], taped: bool) -> list[Any]:
    """One gradient per input; plain ones are arrays that share memory with nothing, so that callers may scale them in place."""
    results: list[Any] = []
    for x in inputs:
        g = grads.get(id(x))
        if g is None:
            g = np.zeros_like(x.data)
        elif isinstance(g, np.generic):
            g = np.asarray(g)
        elif not isinstance(g, Tensor) and (not recycling.owns(g) or not writeable(g) or any(g is other for other in results)):
            g = g.copy()
        results.append(Tensor(g) if taped and not isinstance(g, Tensor) else g)
    return results
