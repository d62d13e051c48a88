"""A slow machine for programs of the compiler: lanes are NumPy arrays, every access is checked. What a
program must not use it finds poisoned: lanes not in use hold NaN, or numbers far out of range."""

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
from numgraph.compiler.schedule import LONG, Machine, Schedule, at_once, candidates
from numgraph.compiler.target import Request
from numgraph.compiler.verify import verify
from numgraph.expressions import elementary
from numgraph.expressions.walk import Output, sides, walked_ends
from numgraph.message import propagate

MACHINE = Machine(register_bytes=32)
Step = Callable[[], None]


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
    """Each record of a program becomes a step once, a function without arguments: what is the same at every
    turn of a loop is in it.
    """

    def __init__(self, program: ir.Program, arrays: dict[str, np.ndarray], rows: int, num_edges: int) -> None:
        self.program, self.lanes, self.arrays = program, program.lanes, arrays
        self.values: dict[str, Any] = {"rows": np.asarray(rows)}
        self.types: dict[str, ir.Type] = {}
        self.at: dict[Variable, int] = {}
        self.times: dict[str, np.ndarray] = {}
        for name, array in program.arrays.items():
            if array.written:
                shape = (num_edges if array.rows == "row e" else rows, array.features)
                self.arrays[name], self.times[name] = np.zeros(shape, array.stored), np.zeros(shape, int)

    def results(self) -> dict[str, np.ndarray]:
        with np.errstate(all="ignore"):
            for step in self.steps(self.program.body):
                step()
        for name, times in self.times.items():
            assert (times == 1).all(), f"{name} is stored {times}"
        return {name: self.arrays[name] for name in self.times}

    def steps(self, records: ir.Records) -> list[Step]:
        made = []
        for record in records:
            if hasattr(record, "type"):
                self.types[record.name] = record.type
            made.append(getattr(self, type(record).__name__.lower())(record))
        return made

    def number(self, end: Any) -> int:
        return int(self.values[end]) if isinstance(end, str) else end

    def loop(self, record: ir.Loop) -> Step:
        v, at, values = record.variable, self.at, self.values
        lanes = self.lanes.of({v})
        digits = self.lanes.digits(lanes)[v] if lanes else 0
        body = self.steps(record.body)

        def step() -> None:
            for place in range(self.number(record.begin), self.number(record.end), record.step):
                at[v], values[v.name] = place, np.asarray(place + digits)
                for each in body:
                    each()
            at.pop(v, None)

        return step

    def when(self, record: ir.When) -> Step:
        body = self.steps(record.body)

        def step() -> None:
            if np.any(self.values[record.condition]):
                for each in body:
                    each()

        return step

    def active(self, lanes: tuple[Variable, ...], masked: bool) -> Callable[[], int]:
        """How many of a value's lanes are in use, the first ones: all that fill its registers up where
        nothing is masked.
        """
        width = self.lanes.width(lanes)
        if not masked or not lanes:
            return lambda: width
        first, unit = lanes[0], self.lanes.count(lanes[1:])
        size, at = self.lanes.size(first), self.at

        def counted() -> int:
            left = (self.number("end") if first == EDGE else first.extent) - at.get(first, 0)
            return min(max(min(left, size) * unit, 0), width)

        return counted

    def access(self, record: Any, lanes: tuple[Variable, ...]) -> Callable[[int], Any]:
        """The index of an array's elements in the first lanes, which is not below 0; NumPy checks that it
        isn't beyond the end.
        """
        values, at, width, digits = self.values, self.at, self.lanes.width(lanes), self.lanes.digits(lanes)
        own = sum(
            (stride * digits[v] for v, stride in record.column.strides if v in digits),
            np.zeros(width or (), np.intp),
        )
        lowest = np.minimum.accumulate(own) if width else own
        within = [(v, stride) for v, stride in record.column.strides if v in digits]
        around = [(v, stride) for v, stride in record.column.strides if v not in digits]
        taken = np.array(self.lanes.places(self.lanes.of({EDGE}), lanes), np.intp) if EDGE in lanes else None

        def found(count: int) -> Any:
            begin = 0
            for v, stride in around:
                begin += stride * at[v]
            for v, stride in within:
                begin += stride * at.get(v, 0)
            assert begin + (lowest[count - 1] if count else 0) >= 0
            column = begin + own[:count] if width else begin
            if not record.row:
                return 0, column
            row = values[record.row]
            if row.ndim:
                row = row[taken][:count]
                assert (row >= 0).all()
            else:
                assert row >= 0
            return row, column

        return found

    def load(self, record: ir.Load) -> Step:
        lanes, array, values, name = record.type.lanes, self.arrays[record.array], self.values, record.name
        width, active, access = (
            self.lanes.width(lanes),
            self.active(lanes, record.masked),
            self.access(record, lanes),
        )
        dtype = np.dtype(
            record.type.dtype if "row" not in record.type.dtype and record.type.dtype != "bound" else "int64"
        )
        computed, unused = compute_dtype(array.dtype), poison(dtype.name)

        as_stored = array.dtype == computed == dtype

        def step() -> None:
            count = active()
            loaded = np.asarray(array[access(count)])
            if not as_stored:
                loaded = loaded.astype(computed, copy=False).astype(dtype, copy=False)
            if count < width:
                values[name] = np.full(width, unused, dtype)
                values[name][:count] = loaded
            else:
                values[name] = loaded

        return step

    def prefetch(self, record: ir.Prefetch) -> Step:
        def step() -> None:
            assert {ROW, EDGE} <= self.at.keys()

        return step

    def store(self, record: ir.Store) -> Step:
        lanes, array, times = (
            self.types[record.value].lanes,
            self.arrays[record.array],
            self.times[record.array],
        )
        width, active, access = (
            self.lanes.width(lanes),
            self.active(lanes, record.masked),
            self.access(record, lanes),
        )

        def step() -> None:
            if any(self.at[v] for v in record.first):
                return
            count = active()
            place, value = access(count), np.asarray(self.values[record.value])
            array[place] = value[:count] if width else value
            np.add.at(times, place, 1)

        return step

    def constant(self, record: ir.Constant) -> Step:
        made = np.full(self.lanes.width(record.type.lanes) or (), record.number, record.type.dtype)
        return lambda: self.values.__setitem__(record.name, made)

    def op(self, record: ir.Op) -> Step:
        values, dtype, name, args = self.values, np.dtype(record.type.dtype), record.name, record.args
        evaluate = (lambda x: x) if record.op == "cast" else None
        if record.op == "wrap":
            evaluate = lambda x: x.astype(record.detail)
        evaluate = evaluate or elementary.TABLE[record.op].evaluate

        def step() -> None:
            made = np.asarray(evaluate(*[values[arg] for arg in args]))
            values[name] = made if made.dtype == dtype else made.astype(dtype)

        return step

    def spread(self, record: ir.Spread) -> Step:
        have = self.types[record.value].lanes
        places = np.array(self.lanes.places(have, record.type.lanes), np.intp)

        def step() -> None:
            value = np.asarray(self.values[record.value])
            self.values[record.name] = value[places] if have else np.full(len(places), value)

        return step

    def fold(self, record: ir.Fold) -> Step:
        """An axis of the lanes in use for each variable, of which those that the result has no lanes along
        are reduced.
        """
        have, dtype = self.types[record.value].lanes, record.type.dtype
        count, sizes, width = (
            self.lanes.count(have),
            [self.lanes.size(v) for v in have],
            self.lanes.width(record.type.lanes),
        )
        reduce = {"add": np.add, "multiply": np.multiply, "maximum": np.maximum}[record.op].reduce
        axes = tuple([i for i, v in enumerate(have) if v not in record.type.lanes])

        def step() -> None:
            made = reduce(np.asarray(self.values[record.value])[:count].reshape(sizes), axis=axes)
            filled = np.full(width or (), poison(dtype), dtype)
            if width:
                filled[: made.size] = made.ravel()
            self.values[record.name] = filled if width else np.asarray(made).reshape(())

        return step

    def accumulate(self, record: ir.Accumulate) -> Step:
        lanes, values, name, value = self.types[record.name].lanes, self.values, record.name, record.value
        width, active = self.lanes.width(lanes), self.active(lanes, record.masked)
        order = np.arange(width)

        def step() -> None:
            count = active()
            values[name] = (
                values[value] if count == width else np.where(order < count, values[value], values[name])
            )

        return step


Choice = Callable[[Sequence[Schedule]], Sequence[Schedule]]
"""Those of a walk's schedules that are run."""


@contextlib.contextmanager
def interpreting(choice: Choice) -> Iterator[None]:
    """Walks are interpreted by programs under the schedules of a choice, which must agree."""
    with mock.patch.object(
        propagate, "execute", lambda graph, outputs, fields, out=None: execute(graph, outputs, fields, choice)
    ):
        yield


@contextlib.contextmanager
def compiling(choice: Choice) -> Iterator[list[Schedule]]:
    """Walks are run by one kernel an end, under the first schedule of a choice. Yields those schedules."""
    used: list[Schedule] = []
    own = cpu.Cpu.choose

    def forced(self: Any, notation: Notation, places: Places, length: int) -> cost.Choice:
        if notation.rows == "e":  # values per node
            return own(self, notation, places, length)
        used.append(at_once(choice(candidates(notation, machine()))[0], notation, machine(), LONG))
        return cost.Choice(used[-1], build(notation, used[-1], places), 0.0)

    def together(target: Any, outputs: Any, request: Request) -> Any:
        return [
            (
                [*range(len(outputs))],
                forced(target, Notation(outputs, request.rows), request.places(outputs), 0),
            )
        ]

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
        arrays = {
            f"{t}.{n}": np.asarray(x).reshape(1 if t == "shared" else len(x), -1)
            for (t, n), x in fields.items()
        }
        for schedule in choice(candidates(notation, MACHINE)):
            program = build(
                notation, schedule, places_of(notation, graph.in_edges.indptr.dtype.name, ordered)
            )
            verify(program)
            made = run(program, arrays, graph)
            for local, number in enumerate(numbers):
                output = outputs[number]
                own = [made[f"out{local}.{place}"] for place in range(len(output.results()))]
                own = [
                    array.reshape(len(array), *shape)
                    for array, (shape, _) in zip(own, output.results(), strict=True)
                ]
                for place, array in enumerate(own):
                    results.setdefault((number, place), array)
                first = [results[number, place] for place in range(len(own))]
                for x, y in zip(comparable(output, own), comparable(output, first), strict=True):
                    np.testing.assert_allclose(
                        x, y, rtol=1e-9, atol=1e-9, err_msg=f"array of {output.reduce} under {schedule}"
                    )
    return [results[key] for key in sorted(results)]


def notation_of(outputs: Sequence[Output], rows: str = "v") -> Notation:
    return Notation(
        [Output(tuple(lowered(output.expressions)), output.to, output.reduce) for output in outputs], rows
    )


def places_of(notation: Notation, ids: str = "int32", ordered: bool = False) -> Places:
    return Places(
        ids,
        ordered,
        tuple([tuple([dtype.name for _, _, dtype in result.arrays]) for result in notation.results]),
    )


def comparable(output: Output, arrays: Sequence[Any]) -> list[Any]:
    """Shift and scale of a softmax are not unique; shift − log(scale) is."""
    if output.reduce not in ("softmax", "logsumexp"):
        return list(arrays)
    *values, shift, scale = arrays
    with np.errstate(all="ignore"):
        return [*values, shift - np.log(scale)]
