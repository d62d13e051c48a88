"""The target: walks on a device, and long rows put together from their chunks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgraph.arrays import devices
from numgraph.compiler import driver, reference
from numgraph.compiler import program as ir
from numgraph.compiler.build import Places
from numgraph.compiler.cuda import choosing, chunks, tasks
from numgraph.compiler.cuda.launching import Operand, launch, operand_of
from numgraph.compiler.cuda.planning import Kernel, printed
from numgraph.compiler.index import Notation
from numgraph.compiler.schedule import Machine
from numgraph.compiler.storage import memory_name
from numgraph.compiler.target import Buffers, Made, Request, Target
from numgraph.expressions.walk import Arrays, Output, rows_of, walked_ends
from numgraph.graph.sorting import expanded

LENGTHS = (0, 12, 48, 192)
"""Edges a row from which on a walk may have another plan."""


@dataclass(frozen=True)
class Schedule:
    """The tasks of an adjacency's rows on its device; rows: of outputs, those for chunks included."""

    levels: tuple[tasks.Level, ...]
    rows: int


class Cuda(Target):
    """A device that CUDA drives, or Numba's simulator of one."""

    def describe(self) -> Machine:
        return choosing.MACHINE

    def choose(self, notation: Notation, places: Places, length: int) -> tuple[ir.Program, float]:
        return choosing.choose(notation, places, length)

    def print(self, program: ir.Program, outputs: Sequence[Made], request: Request) -> Kernel:
        return printed(program, outputs, request)

    def build(self, printed: Kernel, outputs: Sequence[Made], request: Request) -> Kernel:
        """The text: it is compiled when it is launched, as that tells which device it is for."""
        return printed

    def allocate(self, made: Made, place: int, graph: Any, shape: tuple[int, ...], like: Sequence[Any]) -> Any:
        """With rows for chunks behind those of the result."""
        to, library = made.output.to, devices.namespace_of(*_indptr(graph), *like)
        rows = rows_of(graph, to) if to == "e" or made.atomic else _schedule(_adjacency(graph, to)).rows
        return (library.zeros if made.atomic else library.empty)((rows, *shape), memory_name(made.stored[place]))

    def launch(self, kernel: Kernel, graph: Any, fields: Arrays, buffers: Buffers) -> None:
        """Over all rows, and all chunks of long ones, or over all edges."""
        if kernel.per_edge:
            adjacency = None if kernel.rows == "e" else _adjacency(graph, kernel.rows)
            ids = lambda name: _owners(adjacency) if name == "owners" else getattr(adjacency or graph, name)
            _start(kernel, ids, fields, buffers, graph.num_edges)
            return
        adjacency = _adjacency(graph, kernel.rows)
        first = _schedule(adjacency).levels[0]
        _start(kernel, lambda name: first.tasks if name == "tasks" else getattr(adjacency, name), fields, buffers, len(first.tasks) // 4)

    def combine(self, kernel: Kernel, graph: Any, fields: Arrays, buffers: Buffers) -> None:
        if kernel.per_edge:
            return
        for level in _schedule(_adjacency(graph, kernel.rows)).levels[1:]:
            for made in kernel.outputs:
                if made.output.reduce != "edge" and not made.atomic:
                    walk = functools.partial(_walk_chunks, level)
                    chunks.combine(walk, made.output, level, [buffers[key] for key in sorted(buffers) if key[0] == made.number])


TARGET = Cuda()


def execute(graph: Any, outputs: Sequence[Output], fields: Arrays, out: Sequence[Any] | None = None) -> list[Any]:
    """All arrays of all outputs, in order (see Output.results). out: arrays that take them."""
    made = driver.run(TARGET, graph, plan, fields) if not (plan := _plan(graph, tuple(outputs))).empty else _on_host(graph, outputs, fields)
    if out is None:
        return made
    for array, result in zip(out, made, strict=True):
        array[...] = result
    return list(out)


def _plan(graph: Any, outputs: tuple[Output, ...]) -> driver.Plan:
    walked = {rows: _adjacency(graph, rows) for rows in walked_ends(outputs)}
    reduced = {output.to for output in outputs if output.to != "e"}
    wide = any(len(_schedule(walked[rows]).levels) > 1 for rows in reduced)
    atomic = wide and devices.ATOMICS.get()
    requests = [Request(rows, one.indptr.dtype.name, one.ordered, wide, _length(one), atomic) for rows, one in walked.items()]
    return driver.make_plan(TARGET, outputs, tuple(requests), graph.num_edges > graph.num_src + graph.num_dst)


def _length(adjacency: Any) -> int:
    """How many edges a row has, as roughly as plans depend on it."""
    mean = adjacency.num_edges // max(adjacency.num_rows, 1)
    return max([length for length in LENGTHS if length <= mean])


def _on_host(graph: Any, outputs: Sequence[Output], fields: Arrays) -> list[Any]:
    """Axes of length 0: next to nothing is computed."""
    found = reference.execute(graph.to("cpu"), outputs, {key: devices.moved(array, "cpu") for key, array in fields.items()})
    return [devices.moved(array, graph.device) for array in found]


def _adjacency(graph: Any, rows: str) -> Any:
    return graph.in_edges if rows == "v" else graph.out_edges


def _indptr(graph: Any) -> list[Any]:
    """An index array of a graph, if it has any."""
    return [graph.in_edges.indptr] if hasattr(graph, "in_edges") else []


def _schedule(adjacency: Any) -> Schedule:
    def make(adjacency: Any) -> Schedule:
        levels, rows = tasks.levels_of(adjacency.host.indptr)
        return Schedule(tuple(level.on(_mover(adjacency)) for level in levels), rows)

    return adjacency.derived(("schedule", tasks.CHUNK), make)


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
            operands.append(count if kind == "count" else int(np.float64(what).view(np.int64)) if kind == "float" else int(what))
    launch(kernel, operands, count)


def _walk_chunks(level: tasks.Level, output: Output, fields: Arrays, made: list[Any]) -> None:
    """A walk over the rows of a level, whose edges are chunks."""
    plan = driver.make_plan(TARGET, (output,), (Request("v", level.tasks.dtype.name, True, wide=True),), False)
    fields = {key: fields[key] for key, _, _ in plan.reads}
    buffers = {(0, place): array for place, array in enumerate(made)}
    for kernel in plan.kernels:
        _start(kernel, lambda _: level.tasks, fields, buffers, len(level.tasks) // 4)
