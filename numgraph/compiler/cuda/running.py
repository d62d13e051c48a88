"""The target: walks on a device, and long rows put together from their chunks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from numgraph.arrays import devices
from numgraph.compiler import driver
from numgraph.compiler import program as ir
from numgraph.compiler.build import Places
from numgraph.compiler.cost import Choice
from numgraph.compiler.cuda import choosing, chunks, tasks
from numgraph.compiler.cuda.launching import Launch, launch_of, start
from numgraph.compiler.cuda.planning import Kernel, printed
from numgraph.compiler.index import Notation
from numgraph.compiler.schedule import Machine
from numgraph.compiler.target import Buffer, Buffers, Made, Place, Request, Target, length_of
from numgraph.expressions.walk import Arrays, Output, rows_of, walked_ends
from numgraph.graph.sorting import expanded

LENGTHS = (0, 12, 48, 192)
"""Edges a row from which on a walk may have another plan."""


class Combination(NamedTuple):
    """How the chunks of a level become its rows: memory for what is only needed meanwhile, walks, and then
    the results, at the rows there, of which square roots are taken.
    """

    scratch: list[Buffer]
    launches: list[Launch]
    roots: list[tuple[Place, Any]]


class Prepared(NamedTuple):
    """A kernel on a graph of the device: its launch over rows or edges, and what comes after it."""

    launch: Launch
    combinations: list[Combination]


@dataclass(frozen=True, eq=False)
class Cuda(Target):
    """A device that CUDA drives, or Numba's simulator of one. atomic: chunks may add to their row in memory;
    chunk: edges of a chunk.
    """

    atomic: bool
    chunk: int

    def describe(self) -> Machine:
        return choosing.MACHINE

    def requests(self, graph: Any, outputs: tuple[Output, ...]) -> tuple[Request, ...]:
        host = graph.to("cpu")
        walked = {rows: _adjacency(host, rows) for rows in walked_ends(outputs)}
        wide = any(len(self.levels(walked[output.to])[0]) > 1 for output in outputs if output.to != "e")
        return tuple(
            [
                Request(
                    rows,
                    one.indptr.dtype.name,
                    one.ordered,
                    wide,
                    length_of(one, LENGTHS),
                    wide and self.atomic,
                )
                for rows, one in walked.items()
            ]
        )

    def choose(self, notation: Notation, places: Places, length: int) -> Choice:
        return choosing.choose(notation, places, length)

    def print(self, program: ir.Program, outputs: Sequence[Made], request: Request) -> Kernel:
        return printed(program, outputs, request)

    def build(self, printed: Kernel, outputs: Sequence[Made], request: Request) -> Kernel:
        """The text: it is compiled when it is launched, as that tells which device it is for."""
        return printed

    def prepare(self, kernel: Kernel, graph: Any) -> Prepared:
        """Over all rows, and all chunks of long ones, or over all edges."""
        rows = {made.number: self.rows(made, graph) for made in kernel.outputs}
        adjacency = None if kernel.rows == "e" else _adjacency(graph, kernel.rows)
        levels = [] if adjacency is None or kernel.per_edge else self.placed(adjacency)

        def ids(name: str) -> Any:
            if name == "owners":
                return _owners(adjacency)
            return levels[0].tasks if name == "tasks" else getattr(adjacency or graph, name)

        count = levels[0].count if levels else graph.num_edges
        launch = launch_of(kernel, count, ids, {**_rows(graph), **rows})
        return Prepared(launch, [self.combination(kernel.outputs, level, rows) for level in levels[1:]])

    def combination(self, outputs: Sequence[Made], level: tasks.Level, rows: dict[int, int]) -> Combination:
        """rows: those of each output's memory."""
        found = Combination([], [], [])
        for made in outputs:
            if made.output.reduce == "edge" or made.atomic:
                continue
            number, count = made.number, rows[made.number]
            for step in chunks.steps(made.output.reduce, chunks.shapes_of(made)):
                found.launches.extend(self.step(step, level, number, count))
            if made.output.is_winner(1):
                shape, ids = made.output.results()[1][0], level.tasks.dtype
                found.scratch.append(Buffer((number, chunks.SCRATCH), (count, *shape), ids, False))
            if made.output.reduce == "std":
                found.roots.append(((number, 0), level.tasks[3::4]))
        return found

    def step(self, step: chunks.Step, level: tasks.Level, number: int, rows: int) -> list[Launch]:
        """The launches of a walk over the rows of a level, whose edges are chunks. rows: those of memory."""
        request = Request("v", level.tasks.dtype.name, True, wide=True)
        launches = []
        for kernel in driver.make_plan(self, (step.output,), (request,), False).kernels:
            launch = launch_of(
                kernel,
                level.count,
                lambda _: level.tasks,
                {"e": level.num_edges, "v": rows, 0: rows},
            )
            made = [(at, (number, step.makes[place]), begin) for at, (_, place), begin in launch.made]
            for one in launch.fields:
                if one.key == chunks.SHARE:
                    shares = level.shares_as(one.dtype)
                    launch.words[one.at] = shares.data.ptr
                    launch.held.append(shares)
                else:
                    begin = level.first * one.stride if one.key[0] == "e" else 0
                    made.append((one.at, (number, step.reads[one.key]), begin))
            launches.append(replace(launch, fields=[], made=made))
        return launches

    def rows(self, made: Made, graph: Any) -> int:
        """Those of chunks are behind those of the result."""
        to = made.output.to
        return (
            rows_of(graph, to)
            if to == "e" or made.atomic
            else self.levels(_adjacency(graph.to("cpu"), to))[1]
        )

    def allocate(self, buffer: Buffer) -> Any:
        library = devices.cupy()
        return (library.zeros if buffer.zeroed else library.empty)(buffer.shape, buffer.dtype)

    def launch(
        self, prepared: Prepared, graph: Any, fields: Arrays, buffers: Buffers
    ) -> Sequence[Combination]:
        start(prepared.launch, fields, buffers)
        return prepared.combinations

    def combine(self, prepared: Prepared, parts: Sequence[Combination], graph: Any, buffers: Buffers) -> None:
        """Level by level, each over the results of the one before."""
        for scratch, launches, roots in parts:
            arrays = buffers | {buffer.place: self.allocate(buffer) for buffer in scratch}
            for launch in launches:
                start(launch, {}, arrays)
            for place, rows in roots:
                array = buffers[place]
                array[rows] = np.sqrt(array[rows])

    def levels(self, adjacency: Any) -> tuple[list[tasks.Level], int]:
        """The launches that an adjacency's rows take, on the host, and the rows of outputs, those for chunks
        included.
        """
        found: tuple[list[tasks.Level], int] = adjacency.host.derived(
            ("levels", self.chunk), lambda host: tasks.levels_of(host.indptr, self.chunk)
        )
        return found

    def placed(self, adjacency: Any) -> list[tasks.Level]:
        """The same launches with their tasks on the device of the adjacency."""
        found: list[tasks.Level] = adjacency.derived(
            ("placed", self.chunk), lambda a: [level.on(_mover(a)) for level in self.levels(a)[0]]
        )
        return found


@functools.cache
def target(atomic: bool, chunk: int) -> Cuda:
    """The target under these options."""
    return Cuda(atomic, chunk)


TARGET = target(False, tasks.CHUNK)


def execute(graph: Any, outputs: Sequence[Output], fields: Arrays) -> list[Any]:
    """All arrays of all outputs, in order (see Output.results)."""
    return driver.execute(chosen(), graph, tuple(outputs), fields)


def chosen() -> Cuda:
    """The target under the options that hold now."""
    return target(devices.ATOMICS.get(), tasks.CHUNK)


def _adjacency(graph: Any, rows: str) -> Any:
    return graph.in_edges if rows == "v" else graph.out_edges


def _rows(graph: Any) -> dict[Any, int]:
    """Of the fields of a graph, by their targets."""
    return {"shared": 1} | {end: rows_of(graph, end) for end in "uve"}


def _mover(adjacency: Any) -> Callable[[Any], Any]:
    return lambda array: devices.moved(array, devices.device_of(adjacency.indptr))


def _owners(adjacency: Any) -> Any:
    """[num_edges] the row of each position."""
    return adjacency.derived("owners", lambda a: _mover(a)(expanded(a.host.indptr)))
