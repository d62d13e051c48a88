"""Walks on a device: plan, allocate, launch, and put long rows together from their chunks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from numgraph.arrays import devices
from numgraph.expressions import expr
from numgraph.expressions.expr import Expr
from numgraph.expressions.walk import Arrays, Output, check_fields, rows_of, walked_ends
from numgraph.graph.sorting import expanded
from numgraph.kernels import reference
from numgraph.kernels.cpu import finished
from numgraph.kernels.cuda import tasks
from numgraph.kernels.cuda.launching import Operand, launch, operand_of
from numgraph.kernels.cuda.planning import Kernel, build, build_atomic
from numgraph.kernels.layout import memory_name
from numgraph.kernels.lowering import node_walk
from numgraph.kernels.planning import Plan, make_plan

Buffers = dict[tuple[int, int], Any]
"""Result arrays by (number of the output, number of its array), with rows for chunks behind those of the result."""


@dataclass(frozen=True)
class Schedule:
    """The tasks of an adjacency's rows on its device; rows: of outputs, those for chunks included."""

    levels: tuple[tasks.Level, ...]
    rows: int


def execute(graph: Any, outputs: Sequence[Output], fields: Arrays) -> list[Any]:
    """All arrays of all outputs, in order (see Output.results)."""
    outputs = tuple(outputs)
    walked = {rows: graph.in_edges if rows == "v" else graph.out_edges for rows in walked_ends(outputs)}
    orders = tuple((rows, adjacency.ordered) for rows, adjacency in walked.items())
    reduced = {output.to for output in outputs if output.to != "e"}
    wide = any(len(_schedule(walked[rows]).levels) > 1 for rows in reduced)
    dense = graph.num_edges > graph.num_src + graph.num_dst
    ids = next(iter(walked.values())).indptr.dtype
    plan = make_plan(outputs, ids, orders, dense, wide, build_atomic if wide and devices.ATOMICS.get() else build)
    return _run(graph, plan, walked, fields) if not plan.empty else _on_host(graph, outputs, fields)


def _on_host(graph: Any, outputs: Sequence[Output], fields: Arrays) -> list[Any]:
    """Axes of length 0: next to nothing is computed."""
    found = reference.execute(graph.to("cpu"), outputs, {key: devices.moved(array, "cpu") for key, array in fields.items()})
    return [devices.moved(array, graph.device) for array in found]


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


def _run(graph: Any, plan: Plan, walked: dict[str, Any], fields: Arrays) -> list[Any]:
    check_fields(graph, plan.reads, fields)
    library = devices.namespace_of(next(iter(walked.values())).indptr, *fields.values())
    fields = dict(fields)
    for key, expression in plan.hoisted:
        fields[key] = _per_node(graph, key[0], expression, fields)
    buffers: Buffers = {}
    for kernel in plan.kernels:
        for number, target in kernel.targets:
            to = target.output.to
            rows = rows_of(graph, to) if to == "e" or target.atomic else _schedule(walked[to]).rows
            for place, (shape, _) in enumerate(plan.results[number]):
                allocate = library.zeros if target.accumulate or target.atomic else library.empty
                buffers[number, place] = allocate((rows, *shape), memory_name(target.stored[place]))
        _walk(kernel, graph, walked.get(kernel.rows), fields, buffers)
    results = []
    for number, place in sorted(buffers):
        output, made = plan.outputs[number], buffers[number, place]
        rows = rows_of(graph, output.to)
        made = made if len(made) == rows else made[:rows]
        results.append(finished(made, plan.results[number][place][1], output, place))
    return results


def _per_node(graph: Any, target: str, expression: Expr, fields: Arrays) -> Any:
    """The value of an expression of one node's fields, for every node: a walk over the nodes themselves."""
    outputs, names = node_walk(target, expression)
    renamed = {name: fields[key] for key, name in names}
    count = rows_of(graph, target)
    plan = make_plan(outputs, np.dtype(np.int64), (("v", True),), False, False, build)
    # Every node is an edge of its own, in order. Of indptr only the library is asked.
    nodes = SimpleNamespace(num_src=count, num_dst=count, num_edges=count, indptr=next(iter(renamed.values())))
    return _run(nodes, plan, {"v": nodes}, renamed)[0]


def _walk(kernel: Kernel, graph: Any, adjacency: Any, fields: Arrays, buffers: Buffers) -> None:
    """One kernel over all rows or edges, and then the chunks of long rows."""

    def ids(name: str) -> Any:
        if name == "tasks":
            return levels[0].tasks
        return _owners(adjacency) if name == "owners" else getattr(graph if name in ("src", "dst") else adjacency, name)

    if kernel.per_edge:
        _start(kernel, ids, fields, buffers, graph.num_edges)
        return
    levels = _schedule(adjacency).levels
    _start(kernel, ids, fields, buffers, len(levels[0].tasks) // 4)
    for level in levels[1:]:
        for number, target in kernel.targets:
            if target.output.reduce != "edge" and not target.atomic:
                _combine(target.output, level, [buffers[key] for key in sorted(buffers) if key[0] == number])


def _start(kernel: Kernel, ids: Callable[[str], Any], fields: Arrays, buffers: Buffers, count: int) -> None:
    operands: list[Any] = []
    for kind, what in kernel.slots:
        if kind == "size":
            operands.append(kernel.sizes[what])
        elif kind == "ids":
            operands.append(ids(what))
        elif kind == "field":
            operands.append(operand_of(fields[what], shared=what[0] == "shared"))
        elif kind == "out":
            array = buffers[kernel.targets[what[0]][0], what[1]]
            operands.append(Operand(array, len(array), array.strides[0]))
        else:
            operands.append(count if kind == "count" else int(np.float64(what).view(np.int64)) if kind == "float" else int(what))
    launch(kernel, operands, count)


# --- long rows ---


def _combine(output: Output, level: tasks.Level, made: list[Any]) -> None:
    """The results of a level's chunks become those of its rows: a walk whose edges are chunks. made: the arrays of one output."""
    reduce = output.reduce
    edges = [array[level.first : level.first + level.num_edges] for array in made]
    edges = [array.view(np.bool_) if dtype.kind == "b" else array for array, (_, dtype) in zip(edges, output.results(), strict=True)]
    shapes = tuple((array.shape[1:], array.dtype) for array in edges)
    fields: Arrays = {("e", f"x{i}"): array for i, array in enumerate(edges)}
    if reduce == "mean":
        fields["e", "share"] = level.shares_as(made[0].dtype)
    if reduce in ("max", "min"):
        chunk = devices.namespace_of(made[1]).empty(made[1].shape, made[1].dtype)
        _run_level(_combination(reduce, shapes, level.tasks.dtype), level, fields, [made[0], chunk])
        fields["v", "chunk"] = chunk
        _run_level(_winners(shapes, level.tasks.dtype), level, fields, [made[1]])
        return
    _run_level(_combination(reduce, shapes, level.tasks.dtype), level, fields, made)


def _run_level(plan: Plan, level: tasks.Level, fields: Arrays, made: list[Any]) -> None:
    buffers = {(0, place): array for place, array in enumerate(made)}
    for kernel in plan.kernels:
        _start(kernel, lambda _: level.tasks, fields, buffers, len(level.tasks) // 4)


Shapes = tuple[tuple[tuple[int, ...], Any], ...]


@functools.lru_cache(maxsize=256)
def _combination(reduce: str, shapes: Shapes, ids: Any) -> Plan:
    """The walk over chunks, of an output whose arrays have these feature shapes and dtypes."""
    x: list[Any] = [expr.field("e", f"x{i}", *one) for i, one in enumerate(shapes)]
    if reduce in ("softmax", "logsumexp"):
        *values, shift, scale = x
        values = [np.where(shift == -np.inf, 0, z) for z in values]  # z of a masked chunk is 0 / 0
        output = Output((shift, 1 / scale, *values), "v", reduce)
    elif reduce == "mean":
        share: Any = expr.field("e", "share", (), shapes[0][1])
        output = Output((x[0] * share,), "v", "sum")
    else:
        output = Output((x[0],), "v", reduce)
    return make_plan((output,), ids, (("v", True),), False, True, build)


@functools.lru_cache(maxsize=256)
def _winners(shapes: Shapes, ids: Any) -> Plan:
    """The walk that looks up the winning edge of the winning chunk."""
    shape, dtype = shapes[1]
    chosen: Any = expr.edge_id() == expr.field("v", "chunk", shape, dtype)
    edge: Any = np.where(chosen, expr.field("e", "x1", shape, dtype), 0)
    return make_plan((Output((edge,), "v", "sum"),), ids, (("v", True),), False, True, build)
