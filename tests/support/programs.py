"""A slow machine for programs of the compiler: lanes are NumPy arrays, every access is checked. What a program must not use it finds
poisoned: lanes not in use hold NaN, or numbers far out of range."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np

from numgraph import Graph
from numgraph.compiler import cost, driver
from numgraph.compiler import program as ir
from numgraph.compiler.build import Places, build
from numgraph.compiler.cpu import running as cpu
from numgraph.compiler.cpu.kernel import machine
from numgraph.compiler.index import EDGE, ROW, Notation, Variable
from numgraph.compiler.lowering import lowered
from numgraph.compiler.reference import compute_dtype
from numgraph.compiler.schedule import Machine, Schedule, candidates
from numgraph.compiler.target import Request
from numgraph.compiler.verify import verify
from numgraph.expressions import elementary
from numgraph.expressions.walk import Output, sides, walked_ends
from numgraph.message import propagate

MACHINE = Machine(register_bytes=32)


def poison(dtype: str) -> Any:
    return np.nan if dtype.startswith("float") else True if dtype == "bool" else 1 << 30


def run(program: ir.Program, arrays: dict[str, np.ndarray], graph: Any) -> dict[str, np.ndarray]:
    """The results by name. arrays: fields by name, [rows, features] each, shared ones in one row."""
    adjacency = graph.in_edges if program.walked == "v" else graph.out_edges
    given = dict(arrays)
    given["begin"], given["end"] = adjacency.indptr[:-1, None], adjacency.indptr[1:, None]
    given["far"], given["edge"] = adjacency.indices[:, None], adjacency.edge_ids[:, None]
    return _Machine(program, given, adjacency.num_rows, graph.num_edges).results()


class _Machine:
    def __init__(self, program: ir.Program, arrays: dict[str, np.ndarray], rows: int, num_edges: int) -> None:
        self.program, self.lanes, self.arrays = program, program.lanes, arrays
        self.values: dict[str, Any] = {"rows": rows}
        self.types: dict[str, ir.Type] = {}
        self.at: dict[Variable, int] = {}
        self.times: dict[str, np.ndarray] = {}
        for name, array in program.arrays.items():
            if array.written:
                shape = (num_edges if array.rows == "row e" else rows, array.features)
                self.arrays[name], self.times[name] = np.zeros(shape, array.stored), np.zeros(shape, int)

    def results(self) -> dict[str, np.ndarray]:
        with np.errstate(all="ignore"):
            self.body(self.program.body)
        for name, times in self.times.items():
            assert (times == 1).all(), f"{name} is stored {times}"
        return {name: self.arrays[name] for name in self.times}

    def body(self, records: ir.Records) -> None:
        for record in records:
            if hasattr(record, "type"):
                self.types[record.name] = record.type
            getattr(self, type(record).__name__.lower())(record)

    def number(self, end: Any) -> int:
        return int(self.values[end]) if isinstance(end, str) else end

    def loop(self, record: ir.Loop) -> None:
        v = record.variable
        lanes = self.lanes.of({v})
        for place in range(self.number(record.begin), self.number(record.end), record.step):
            self.at[v] = place
            self.values[v.name] = place + self.lanes.digits(lanes)[v] if lanes else place
            self.body(record.body)
        self.at.pop(v, None)

    def when(self, record: ir.When) -> None:
        if np.any(self.values[record.condition]):
            self.body(record.body)

    def places(self, lanes: tuple[Variable, ...]) -> dict[Variable, Any]:
        """The value of every variable, in each lane."""
        return {**self.at, **{v: self.at.get(v, 0) + digit for v, digit in self.lanes.digits(lanes).items()}}

    def active(self, lanes: tuple[Variable, ...], masked: bool) -> Any:
        width = self.lanes.width(lanes)
        if not lanes or not masked:
            return np.ones(width or (), bool)
        first, unit = lanes[0], self.lanes.count(lanes[1:])
        end = self.number("end") if first == EDGE else first.extent
        left = min(end - self.at.get(first, 0), self.lanes.size(first))
        return np.arange(width) < left * unit

    def access(self, record: Any, lanes: tuple[Variable, ...]) -> tuple[Any, Any]:
        """Row and column in each lane."""
        row = self.values[record.row] if record.row else 0
        if np.ndim(row):
            row = row[list(self.lanes.places(self.lanes.of({EDGE}), lanes))]
        places, shape = self.places(lanes), self.lanes.width(lanes) or ()
        column = sum((stride * places[v] for v, stride in record.column.strides), 0)
        return np.broadcast_to(row, shape), np.broadcast_to(column, shape)

    def load(self, record: ir.Load) -> None:
        lanes, array = record.type.lanes, self.arrays[record.array]
        used = self.active(lanes, record.masked)
        row, column = self.access(record, lanes)
        dtype = record.type.dtype if "row" not in record.type.dtype and record.type.dtype != "bound" else "int64"
        found = np.full(used.shape, poison(dtype), dtype)
        assert (row[used] >= 0).all()
        assert (column[used] >= 0).all()
        found[used] = array[row[used], column[used]].astype(compute_dtype(array.dtype))
        self.values[record.name] = found

    def prefetch(self, record: ir.Prefetch) -> None:
        assert {ROW, EDGE} <= self.at.keys()

    def store(self, record: ir.Store) -> None:
        if any(self.at[v] for v in record.first):
            return
        value, lanes = np.asarray(self.values[record.value]), self.types[record.value].lanes
        used = self.active(lanes, record.masked)
        row, column = self.access(record, lanes)
        self.arrays[record.array][row[used], column[used]] = value[used]
        np.add.at(self.times[record.array], (row[used], column[used]), 1)

    def constant(self, record: ir.Constant) -> None:
        self.values[record.name] = np.full(self.lanes.width(record.type.lanes) or (), record.number, record.type.dtype)

    def op(self, record: ir.Op) -> None:
        args = [np.asarray(self.values[name]) for name in record.args]
        if record.op in ("cast", "wrap"):
            made = args[0].astype(record.detail) if record.op == "wrap" else args[0]
        else:
            made = elementary.TABLE[record.op].evaluate(*args)
        self.values[record.name] = np.asarray(made).astype(record.type.dtype)

    def spread(self, record: ir.Spread) -> None:
        value, have = np.asarray(self.values[record.value]), self.types[record.value].lanes
        places = list(self.lanes.places(have, record.type.lanes))
        self.values[record.name] = value[places] if have else np.full(len(places), value)

    def narrowed(self, record: Any, reduced: Any) -> None:
        """reduced(grid): what is made of a value's lanes in an array with an axis for each variable."""
        have, value = self.types[record.value].lanes, np.asarray(self.values[record.value])
        grid = value[: self.lanes.count(have)].reshape([self.lanes.size(v) for v in have])
        made = reduced(grid, have)
        width = self.lanes.width(record.type.lanes)
        filled = np.full(width or (), poison(record.type.dtype), record.type.dtype)
        if width:
            filled[: made.size] = made.ravel()
        self.values[record.name] = filled if width else made.reshape(())

    def fold(self, record: ir.Fold) -> None:
        fold = {"add": np.sum, "multiply": np.prod, "maximum": np.max}[record.op]
        self.narrowed(record, lambda grid, have: fold(grid, axis=tuple(i for i, v in enumerate(have) if v not in record.type.lanes)))

    def accumulate(self, record: ir.Accumulate) -> None:
        used = self.active(self.types[record.name].lanes, record.masked)
        self.values[record.name] = np.where(used, self.values[record.value], self.values[record.name])


Choice = Callable[[Sequence[Schedule]], Sequence[Schedule]]
"""Those of a walk's schedules that are run."""


@contextlib.contextmanager
def interpreting(choice: Choice) -> Iterator[None]:
    """Walks are interpreted by programs under the schedules of a choice, which must agree."""
    with mock.patch.object(propagate, "execute", lambda graph, outputs, fields, out=None: execute(graph, outputs, fields, choice)):
        yield


@contextlib.contextmanager
def compiling(choice: Choice) -> Iterator[list[Schedule]]:
    """Walks are run by one kernel an end, under the first schedule of a choice. Yields those schedules."""
    used: list[Schedule] = []
    own = cpu.Cpu.choose

    def forced(self: Any, notation: Notation, places: Places, length: int) -> cost.Choice:
        if notation.rows == "e":  # values per node
            return own(self, notation, places, length)
        used.append(choice(candidates(notation, machine()))[0])
        return cost.Choice(used[-1], build(notation, used[-1], places), 0.0)

    def together(target: Any, outputs: Any, request: Request) -> Any:
        return [([*range(len(outputs))], forced(target, Notation(outputs, request.rows), request.places(outputs), 0))]

    with (
        mock.patch.object(cpu.Cpu, "choose", forced),
        mock.patch.object(cpu.Cpu, "walked", lambda self, outputs, request: request),
        mock.patch.object(driver, "grouped", together),
        mock.patch.object(driver, "make_plan", functools.lru_cache(maxsize=64)(driver.make_plan.__wrapped__)),
        mock.patch.object(Graph, "remembered", lambda self, key, make: make(self, key)),
    ):
        yield used


def execute(graph: Any, outputs: Sequence[Output], fields: Any, choice: Choice) -> list[Any]:
    """A walk by interpreted programs, each verified before."""
    outputs = tuple(outputs)
    results: dict[tuple[int, int], Any] = {}
    for rows in walked_ends(outputs):
        numbers = [i for i, side in enumerate(sides(outputs)) if side == rows]
        notation = notation_of([outputs[i] for i in numbers], rows)
        ordered = (graph.in_edges if rows == "v" else graph.out_edges).ordered
        arrays = {f"{t}.{n}": np.asarray(x).reshape(1 if t == "shared" else len(x), -1) for (t, n), x in fields.items()}
        for schedule in choice(candidates(notation, MACHINE)):
            program = build(notation, schedule, places_of(notation, graph.in_edges.indptr.dtype.name, ordered))
            verify(program)
            made = run(program, arrays, graph)
            for local, number in enumerate(numbers):
                output = outputs[number]
                own = [made[f"out{local}.{place}"] for place in range(len(output.results()))]
                own = [array.reshape(len(array), *shape) for array, (shape, _) in zip(own, output.results(), strict=True)]
                for place, array in enumerate(own):
                    results.setdefault((number, place), array)
                first = [results[number, place] for place in range(len(own))]
                for x, y in zip(comparable(output, own), comparable(output, first), strict=True):
                    np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-9, err_msg=f"array of {output.reduce} under {schedule}")
    return [results[key] for key in sorted(results)]


def notation_of(outputs: Sequence[Output], rows: str = "v") -> Notation:
    return Notation([Output(tuple(lowered(output.expressions)), output.to, output.reduce) for output in outputs], rows)


def places_of(notation: Notation, ids: str = "int32", ordered: bool = False) -> Places:
    return Places(ids, ordered, tuple([tuple([dtype.name for _, _, dtype in result.arrays]) for result in notation.results]))


def comparable(output: Output, arrays: Sequence[Any]) -> list[Any]:
    """Shift and scale of a softmax are not unique; shift − log(scale) is."""
    if output.reduce not in ("softmax", "logsumexp"):
        return list(arrays)
    *values, shift, scale = arrays
    with np.errstate(all="ignore"):
        return [*values, shift - np.log(scale)]
