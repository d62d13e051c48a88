"""The tape: records what was computed, and replays it backwards to give gradients of any order. It knows no
graphs and no formulas.

``Tape`` is the engine, ``record`` the one door through which an operation gets on the tapes; tensor.py has
the arrays that they track."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from threading import get_ident
from typing import Any, NamedTuple, NoReturn, TypeVar, overload
from weakref import WeakValueDictionary

import numpy as np

from numgraph.arrays.inputs import kind_of, listed
from numgraph.arrays.typed import Array
from numgraph.autodiff import page
from numgraph.autodiff.arriving import add, nothing_of, results_of, seed_of
from numgraph.autodiff.deferred import Deferred, computed
from numgraph.autodiff.leaves import Leaf, changed_of, check_unchanged, leaf_of
from numgraph.autodiff.lost import check_thread, plain
from numgraph.autodiff.tensor import RECORDING, TAPES, Parameter, Tensor, check_float, is_float, unwrap
from numgraph.autodiff.typed import Result
from numgraph.autodiff.watching import watcher as new_watcher
from numgraph.errors import bad_type, bad_value
from numgraph.runtime import atomic

K = TypeVar("K")

__all__ = ["Parameter", "Tape", "Tensor", "record", "unwrap"]


class _Record(NamedTuple):
    """An operation on the tape. made, arrays: what is in outputs and inputs where these are Tensors."""

    name: str
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    made: tuple[Any, ...]
    vjp: Callable[..., Sequence[Any]]
    many: bool  # outputs came as a tuple
    explain: Callable[[Sequence[bool]], list[str]] | None
    held: tuple[Any, ...]
    collective: bool
    takes_deferred: bool
    arrays: tuple[Any, ...]
    needs: tuple[bool, ...]

    def summary(self) -> tuple[Any, ...]:
        """What explain() prints, without the arrays."""
        return (
            self.name,
            [getattr(x, "shape", ()) for x in self.arrays],
            [y.shape for y in self.made],
            self.needs,
            self.explain,
        )


_new_record = tuple.__new__  # past the class's own, which is Python: a third of its time


def record(
    name: str,
    inputs: Sequence[Any],
    outputs: Any,
    vjp: Callable[..., Sequence[Any]] | None,
    explain: Callable[..., list[str]] | None = None,
    held: tuple[Any, ...] = (),
    collective: bool = False,
    takes_deferred: bool = False,
) -> Any:
    """Put an operation on the active tapes: the one door.

    ``outputs`` (an array or a tuple of arrays) was computed from the unwrapped ``inputs``. They are returned
    as they are without a Tensor among the inputs, and without an active tape if those are Parameters.
    Otherwise the floating-point arrays are boxed as Tensors, and each active tape that tracks an input gets a
    record.

    ``vjp(grads, inputs, outputs, needs)`` returns one gradient (or None) per input. ``grads`` is the output's
    gradient (for a tuple of outputs a tuple, None for those that got none); ``inputs`` and ``outputs`` are
    plain arrays, or Tensors while another tape records, so that what vjp computes is recorded there;
    ``needs`` says whose gradient is wanted. A vjp must not change the arrays it is given. ``vjp=None``: the
    derivative is zero everywhere.

    ``explain(needs)`` returns the lines of ``Tape.explain`` on the replay, and its method ``kernels(needs)``,
    if it has one, those that ``explain(kernel=True)`` adds; it must not hold arrays. ``held``: arrays of the
    caller that vjp reads beside the inputs, such as row ids.

    ``collective``: several processes run the operation together, as they do its vjp, and another's inputs
    reach this one's outputs. Where an input is a Tensor, tracked or not, every active tape takes it and
    replays it once, with zeros for outputs without a gradient: so processes that run the same program meet in
    the same operations in the same order, whatever their losses depend on, at every order.

    ``takes_deferred``: vjp takes a gradient that is not computed yet (``Deferred``) as it is.
    """
    tapes = TAPES.get()
    for x in inputs:
        if isinstance(x, Tensor) and (tapes or not isinstance(x, Parameter)):
            break
    else:
        return outputs
    if len(RECORDING) > len(tapes) and vjp is not None:
        check_thread(name, inputs, tapes)
    many = isinstance(outputs, tuple)
    made = outputs if many else (outputs,)
    if many:
        boxed = tuple([Tensor(y) if is_float(y.dtype) else plain(name, y, inputs) for y in outputs])
    else:
        boxed = (Tensor(outputs) if is_float(outputs.dtype) else plain(name, outputs, inputs),)
    what = name, tuple(inputs), boxed, made, vjp, many, explain, held, collective, takes_deferred
    for tape in tapes:
        if tape._recording:
            tape._take(what)
    return boxed if many else boxed[0]


class Tape:
    """Records what is computed inside its ``with``; ``gradient`` replays it backwards. Tapes nest in any
    order: an outer tape records an inner tape's ``gradient``. The replay frees what it has passed, unless
    ``persistent``: then ``gradient`` may be called again.

    ``check=True`` looks at every number that is recorded or replayed, and stops with a FloatingPointError at
    the first that is not finite: it names the operation, the caller's line, the row, and the inputs there.
    ``check="nan"`` lets infinities pass.

    Parameters
    ----------
    persistent : ``gradient`` may be called more than once
    check : True, "nan" or False

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> with ng.Tape() as tape:
    ...     x = tape.watch(np.array([1.0, 2.0]))
    ...     loss = np.sum(x**2)
    >>> tape.gradient(loss, x)
    array([2., 4.])
    """

    def __init__(self, persistent: bool = False, check: bool | str = False) -> None:
        self.persistent = persistent
        self._records: list[_Record] = []
        self._replayed: list[tuple[Any, ...]] = []  # summaries, last record first
        self._tracked: dict[
            int, int
        ] = {}  # by ids of Tensors that _records and _watched keep alive: how many records there were then
        self._watched: dict[int, Tensor] = {}
        self._sources: set[int] = set()  # ids of what was used and is tracked without a record that made it
        self._leaves: dict[
            int, Leaf | None
        ] = {}  # by ids of what _records read and made; None: a result, or what cannot change
        self._flat: dict[int, Tensor] = {}  # results whose derivatives are zero everywhere, by id
        self._passed: WeakValueDictionary[int, Tensor] | None = (
            None  # what was used here without being tracked, by id; None: nothing
        )
        self._watcher = new_watcher(check)
        self._used = False
        self._recording = False
        self._thread = 0

    def __enter__(self) -> Tape:
        self._check_unused("Tape")
        if self._recording:
            raise bad_value("Tape", "it is recording already", "a nested tape is another Tape()")
        TAPES.set((*[tape for tape in TAPES.get() if tape._recording], self))
        self._recording, self._thread = True, get_ident()
        RECORDING.add(self)
        return self

    def __exit__(self, *error: object) -> None:
        self._recording = False
        RECORDING.discard(self)
        TAPES.set(self._others())

    def __reduce__(self) -> NoReturn:
        raise bad_type(
            "Tape",
            "it cannot be copied or pickled",
            "it belongs to the arrays that it recorded; copy or save the gradients",
        )

    def _others(self) -> tuple[Tape, ...]:
        tapes = TAPES.get()
        return (
            ()
            if len(tapes) == 1 and tapes[0] is self
            else tuple([tape for tape in tapes if tape is not self])
        )

    def _check_unused(self, op: str) -> None:
        if self._used:
            raise bad_value(
                op,
                "this tape was replayed and has freed its records",
                "make it with Tape(persistent=True), or make a new one",
            )

    @property
    def is_checked(self) -> bool:
        """Whether every number that is recorded is looked at."""
        return self._watcher is not None and bool(self._watcher.check)

    def records(self, x: Tensor) -> bool:
        """Whether what is computed from x now is recorded."""
        return self._recording and (id(x) in self._tracked or isinstance(x, Parameter))

    def reached(self, x: Tensor) -> bool:
        """Whether x was computed under this tape, from something that it tracks."""
        return id(x) in self._tracked or id(x) in self._flat or isinstance(x, Parameter)

    def _take(self, what: tuple[Any, ...]) -> None:
        """Record an operation, if it has an input that is tracked, or may have one in another process. what:
        the first fields of its _Record.
        """
        _, inputs, outputs, _, vjp, _, _, held, collective, _ = what
        tracked, leaves = self._tracked, self._leaves
        arrays, needs = [], []
        for x in inputs:
            if isinstance(x, Tensor):
                arrays.append(x.data)
                needs.append(id(x) in tracked or isinstance(x, Parameter))
            else:
                arrays.append(x)
                needs.append(False)
        if (True not in needs and not collective) or vjp is None:
            results = [y for y in outputs if isinstance(y, Tensor)]
            if True in needs or any(id(x) in self._flat for x in inputs):
                self._flat.update([(id(y), y) for y in results])
            else:
                if self._passed is None:
                    self._passed = WeakValueDictionary()
                self._passed.update([(id(x), x) for x in inputs if isinstance(x, Tensor)])
            return
        for x in (*inputs, *held) if held else inputs:
            if id(x) not in leaves:
                leaves[id(x)] = leaf_of(x)
                if id(x) in tracked or isinstance(x, Parameter):
                    self._sources.add(id(x))
        entry: _Record = _new_record(_Record, (*what, tuple(arrays), tuple(needs)))
        self._records.append(entry)
        count = len(self._records)
        for y in outputs:
            if isinstance(y, Tensor):
                tracked[id(y)] = count
                leaves[id(y)] = None
        if self._watcher is not None:
            self._watcher.recorded(entry)

    def watch(self, array: Any) -> Tensor:
        """A Tensor of an array that this tape tracks.

        Parameters
        ----------
        array : of floating-point numbers; a Tensor is marked and returned itself

        Returns
        -------
        Tensor

        Raises
        ------
        TypeError, ValueError : an array of another dtype, a Tensor that this tape has used before
        """
        self._check_unused("watch")
        x = array if isinstance(array, Tensor) else Tensor(array)
        check_float("watch", x)
        if id(x) not in self._tracked and not isinstance(x, Parameter):
            if id(x) in self._leaves or (self._passed is not None and self._passed.get(id(x)) is x):
                problem = (
                    f"the Tensor of shape {x.shape} was used on this tape before: the gradient of that use "
                    "would be lost"
                )
                raise bad_value("watch", problem, "watch it before its first use")
            self._tracked[id(x)] = len(self._records)
            self._watched[id(x)] = x
        return x

    @overload
    def gradient(self, loss: Result, inputs: Tensor, seed: Any = None) -> Array: ...
    @overload
    def gradient(self, loss: Result, inputs: Mapping[K, Tensor], seed: Any = None) -> dict[K, Array]: ...
    @overload
    def gradient(self, loss: Result, inputs: Sequence[Tensor], seed: Any = None) -> list[Array]: ...
    def gradient(self, loss: Any, inputs: Any, seed: Any = None) -> Any:
        """∂loss/∂inputs, for a list of Tensors a list, for one Tensor one array, for a dict a dict.

        Each gradient has its input's shape and dtype, zeros where the loss does not depend on it. While
        another tape records, the gradients are Tensors, recorded there.

        Parameters
        ----------
        loss : a scalar Tensor; of any shape where `seed` is given
        inputs : what ``watch`` returned, Parameters or results on the way, as a list, a dict or one Tensor
        seed : array or Tensor of loss's shape, or a number: gives Σ seed · ∂loss/∂inputs,
            the product of vector and Jacobian. Tensors of other tapes keep their derivative there

        Returns
        -------
        list, dict or one array, as inputs are

        Raises
        ------
        ValueError, TypeError : a loss that is no scalar or not of this tape, an input that it does not track

        Examples
        --------
        >>> import numpy as np, numgraph as ng
        >>> with ng.Tape() as tape:
        ...     x = tape.watch(np.array([1.0, 2.0, 3.0]))
        ...     y = x**2
        >>> tape.gradient(y, x, seed=np.array([1.0, 0.0, 10.0]))
        array([ 2.,  0., 60.])
        """
        if isinstance(inputs, Tensor):
            return self.gradient(loss, [inputs], seed)[0]
        if isinstance(inputs, dict):
            return dict(zip(inputs, self.gradient(loss, list(inputs.values()), seed), strict=True))
        inputs = listed("gradient", "inputs", inputs)
        self._check_unused("gradient")
        self._check_gradient(loss, inputs, seed is not None)
        active, others = TAPES.get(), self._others()
        TAPES.set(others)
        try:
            with np.errstate(
                all="ignore"
            ):  # a derivative may be infinite where its function is not, as that of √x at 0
                return self._replay(loss, seed_of(loss, seed, bool(others)), inputs, bool(others))
        finally:
            if self.persistent:
                TAPES.set(active)
            else:
                self._used, self._recording = True, False
                RECORDING.discard(self)
                self._records, self._watched, self._tracked, self._leaves, self._flat = [], {}, {}, {}, {}
                self._sources = set()

    def _check_gradient(self, loss: Any, inputs: list[Any], seeded: bool) -> None:
        fix = (
            "compute it inside the `with` of this tape, from Parameters or from what tape.watch(array) "
            "returned"
        )
        if not isinstance(loss, Tensor):
            raise bad_type(
                "gradient",
                f"loss is {kind_of(loss)}, no Tensor of numgraph: nothing that a tape tracks led to it",
                fix,
            )
        if loss.shape != () and not seeded:
            fix = "reduce it with .sum() or .mean(), or give seed=, the gradient that arrives at it"
            raise bad_value("gradient", f"loss has shape {loss.shape}, a scalar is needed", fix)
        for i, x in enumerate(inputs):
            if not isinstance(x, Parameter) and not (isinstance(x, Tensor) and id(x) in self._tracked):
                what = (
                    f"a Tensor of shape {x.shape} that this tape does not track"
                    if isinstance(x, Tensor)
                    else f"a {type(x).__name__}"
                )
                raise bad_value(
                    "gradient",
                    f"inputs[{i}] is {what}",
                    "pass what tape.watch(array) returned, or a Parameter",
                )
        made = self._tracked.get(id(loss))
        if made is None and id(loss) not in self._flat and not isinstance(loss, Parameter):
            what = (
                f"recorded {len(self._records)} operations, and none of them made it"
                if self._records
                else "recorded nothing"
            )
            raise bad_value("gradient", f"the loss was not computed under this tape, which {what}", fix)
        if made is None or id(loss) in self._watched:
            return
        for i, x in enumerate(inputs):
            if id(x) in self._watched and self._tracked[id(x)] >= made:
                problem = f"inputs[{i}], a Tensor of shape {x.shape}, was watched after the loss was computed"
                raise bad_value(
                    "gradient", problem, "watch it before, and compute the loss from what tape.watch returned"
                )

    def _replay(self, loss: Tensor, seed: Any, inputs: list[Tensor], taped: bool) -> list[Any]:
        records, persistent, watcher = self._records, self.persistent, self._watcher
        changed = changed_of(self._leaves)
        kept = set(map(id, inputs))
        reached = None if self._sources <= kept else self._reached(kept)
        grads: dict[int, Any] = {id(loss): seed}
        owned: set[int] = set()  # ids of Tensors whose gradient is a sum made here: nobody else holds it
        for i in range(len(records) - 1, -1, -1):
            entry = records[i]
            if not persistent:
                records.pop()
                self._replayed.append(entry.summary())
            name, xs, ys, made, vjp, many, _, _, collective, takes_deferred, arrays, needs = entry
            got: Any = []
            arrived = False
            for y in ys:
                g = grads.pop(id(y), None)
                got.append(g)
                if g is not None:
                    arrived = True
                    if id(y) in kept:
                        grads[id(y)] = g
            if reached is not None:
                needs = tuple([need and id(x) in reached for need, x in zip(needs, xs)])
            if collective:
                got = [nothing_of(y, taped) if g is None else g for g, y in zip(got, ys, strict=True)]
            elif not arrived or True not in needs:
                continue
            if changed:
                check_unchanged(entry, changed)
            if (many or type(got[0]) is Deferred) and not takes_deferred:
                got = map(computed, got)
            got = tuple(got)
            if taped:
                arrays, made = xs, ys
            args = got if many else got[0], arrays, made if many else made[0], needs
            back = (
                vjp(*args)
                if watcher is None
                else watcher.replayed(i, entry, got, functools.partial(vjp, *args))
            )
            del entry, got, ys, arrays, made, vjp, args
            for x, need, g in zip(xs, needs, back, strict=True):
                if need and g is not None:
                    add(grads, owned, x, g, taped, name)
        return results_of(grads, inputs, taped)

    def _reached(self, inputs: set[int]) -> set[int]:
        """Ids of what depends on an input: only that is worth a gradient."""
        reached = set(inputs)
        for entry in self._records:
            if entry.collective or not reached.isdisjoint(map(id, entry.inputs)):
                reached.update(map(id, entry.outputs))
        return reached

    def __repr__(self) -> str:
        state = (
            "recording"
            if self._recording
            else "replayed"
            if self._used
            else "closed"
            if self._thread
            else "not entered yet"
        )
        parts = [
            f"{len(self._records) or len(self._replayed)} records",
            state,
            *(["persistent"] if self.persistent else []),
        ]
        return f"<Tape: {', '.join(parts)}>"

    def explain(self, kernel: bool = False, html: str | os.PathLike[str] | None = None) -> str:
        """Every record, and how it is replayed; before and after ``gradient``.

        Parameters
        ----------
        kernel : also the schedules of the compiled kernels: whose edges each walks, what it loops over,
            what is in the lanes of a register
        html : where to write a page with pictures: the walk of each message and those of its gradients,
            drawn on a small graph, the matrices beside them, and the schedules. It is one file, and loads
            nothing. A notebook shows it for a tape

        Returns
        -------
        the lines, as text
        """
        if html is not None:
            atomic.write(html, page.document(self._summaries()).encode())
        lines = []
        for record in self._explained(kernel):
            into, out = (", ".join(map(str, shapes)) for shapes in (record["reads"], record["makes"]))
            lines.append(f"#{record['record']} {record['operation']}  {into} → {out}")
            lines += [f"     {line}" for line in record["lines"]]
        return "\n".join(lines)

    def _explained(self, kernel: bool) -> list[dict[str, Any]]:
        """What is told of each record: its number, operation, shapes and lines, as
        ``numgraph explain --json`` prints it.
        """
        told = []
        for number, (name, shapes_in, shapes_out, needs, explain) in enumerate(self._summaries()):
            lines = explain(needs) if explain else []
            lines += explain.kernels(needs) if kernel and hasattr(explain, "kernels") else []
            shapes = {
                "reads": [tuple(shape) for shape in shapes_in],
                "makes": [tuple(shape) for shape in shapes_out],
            }
            told.append({"record": number, "operation": name, **shapes, "lines": lines})
        return told

    def _repr_html_(self) -> str:
        return page.fragment(self._summaries())

    def _summaries(self) -> list[tuple[Any, ...]]:
        return self._replayed[::-1] + [entry.summary() for entry in self._records]
