"""The target: walks on a device, and long rows put together from their chunks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgraph.arrays import devices
from numgraph.compiler import driver
from numgraph.compiler import program as ir
from numgraph.compiler.build import Places
from numgraph.compiler.cost import Choice
from numgraph.compiler.cuda import choosing, chunks, tasks
from numgraph.compiler.cuda.launching import Operand, launch, operand_of
from numgraph.compiler.cuda.planning import Kernel, printed
from numgraph.compiler.index import Notation
from numgraph.compiler.schedule import Machine
from numgraph.compiler.target import Buffer, Buffers, Made, Request, Target, length_of
from numgraph.expressions.walk import Arrays, Output, rows_of, walked_ends
from numgraph.graph.sorting import expanded

LENGTHS = (0, 12, 48, 192)
"""Edges a row from which on a walk may have another plan."""


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

    def prepare(self, kernel: Kernel, graph: Any) -> Kernel:
        """The kernel alone: what stays with the host's arrays must not hold those of a device."""
        return kernel

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

    def launch(self, prepared: Kernel, graph: Any, fields: Arrays, buffers: Buffers) -> Sequence[tasks.Level]:
        """Over all rows, and all chunks of long ones, or over all edges. Returns the levels of the chunks."""
        if prepared.per_edge:
            adjacency = None if prepared.rows == "e" else _adjacency(graph, prepared.rows)
            ids = lambda name: _owners(adjacency) if name == "owners" else getattr(adjacency or graph, name)
            _start(prepared, ids, fields, buffers, graph.num_edges)
            return ()
        adjacency = _adjacency(graph, prepared.rows)
        first, *others = self.placed(adjacency)
        _start(
            prepared,
            lambda name: first.tasks if name == "tasks" else getattr(adjacency, name),
            fields,
            buffers,
            len(first.tasks) // 4,
        )
        return others

    def combine(self, prepared: Kernel, parts: Sequence[tasks.Level], graph: Any, buffers: Buffers) -> None:
        for level in parts:
            for made in prepared.outputs:
                if made.output.reduce != "edge" and not made.atomic:
                    walk = functools.partial(self.walk_chunks, level)
                    chunks.combine(
                        walk,
                        made.output,
                        level,
                        [buffers[key] for key in sorted(buffers) if key[0] == made.number],
                    )

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

    def walk_chunks(self, level: tasks.Level, output: Output, fields: Arrays, made: list[Any]) -> None:
        """A walk over the rows of a level, whose edges are chunks."""
        plan = driver.make_plan(
            self, (output,), (Request("v", level.tasks.dtype.name, True, wide=True),), False
        )
        fields = {key: fields[key] for key, _, _ in plan.reads}
        buffers = {(0, place): array for place, array in enumerate(made)}
        for kernel in plan.kernels:
            _start(kernel, lambda _: level.tasks, fields, buffers, len(level.tasks) // 4)


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


def _mover(adjacency: Any) -> Callable[[Any], Any]:
    return lambda array: devices.moved(array, devices.device_of(adjacency.indptr))


def _owners(adjacency: Any) -> Any:
    """[num_edges] the row of each position."""
    return adjacency.derived("owners", lambda a: _mover(a)(expanded(a.host.indptr)))


def _start(kernel: Kernel, ids: Callable[[str], Any], fields: Arrays, buffers: Buffers, count: int) -> None:
    operands: list[Any] = []
    for kind, what in kernel.slots:
        if kind == "ids":
            operands.append(ids(what))
        elif kind == "field":
            operands.append(operand_of(fields[what], shared=what[0] == "shared"))
        elif kind == "out":
            array = buffers[kernel.outputs[what[0]].number, what[1]]
            operands.append(Operand(array, len(array), array.strides[0]))
        else:
            operands.append(
                count
                if kind == "count"
                else int(np.float64(what).view(np.int64))
                if kind == "float"
                else int(what)
            )
    launch(kernel, operands, count)
