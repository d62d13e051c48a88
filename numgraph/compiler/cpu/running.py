"""The CPU target: finds the plan of a walk (cached by its expressions), lays out the arguments of its kernels, runs them over the rows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from numgraph.arrays import recycling
from numgraph.compiler import reference
from numgraph.compiler.cpu import shells
from numgraph.compiler.cpu.balance import Hub, Parts, each_alone, parts_of, parts_of_edges
from numgraph.compiler.cpu.kernel import Kernel
from numgraph.compiler.cpu.planning import Plan, make_plan
from numgraph.compiler.lowering import node_walk
from numgraph.compiler.reduces import REDUCES
from numgraph.compiler.storage import memory_dtype, memory_of
from numgraph.expressions.expr import Expr
from numgraph.expressions.walk import Arrays, Key, Output, check_fields, rows_of, walked_ends
from numgraph.graph import Graph
from numgraph.runtime import threads

Place = tuple[int, int]
"""A result: the number of the output, and of its array."""
Buffers = dict[Place, Any]
Buffer = tuple[Place, tuple[int, ...], np.dtype[Any], bool]
"""What a result needs: shape, dtype of its memory, and whether kernels add to it."""

LENGTHS = (0, 12, 96)
"""Edges a row from which on a walk may have another plan."""
LANE_SPEED = 32
"""Features that a kernel in lanes handles while threads.SMALL counts one element. Below a million features a thread takes about 0.2 ms; a
second one saves less than the pool costs where other processes keep the cores busy (10 ms a call, measured at a load of 3 a core)."""


@dataclass(frozen=True, slots=True, eq=False)
class Launch:
    """A kernel on the rows of one graph: the words of its argument block with the index arrays in place, and what else stands there.

    fields: offset, key, and whether its memory must be without gaps; outs: offset and buffer. work: to judge whether threads are worth it.
    """

    kernel: Kernel
    words: list[int]
    fields: list[tuple[int, Key, bool]]
    outs: list[tuple[int, Place]]
    parts: Parts
    work: int


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A plan on one graph: its launches, and the buffers of the results."""

    plan: Plan
    launches: list[Launch]
    buffers: list[Buffer]


def execute(graph: Graph, outputs: Sequence[Output], fields: Arrays, out: Sequence[Any] | None = None) -> list[Any]:
    """All arrays of all outputs, in order (see Output.results). out: contiguous arrays that take them, of any dtypes."""
    outputs = tuple(outputs)
    if numba.config.DISABLE_JIT:  # for coverage and debuggers
        return _placed(reference.execute(graph, outputs, fields), out)
    return _run(graph, graph.remembered(outputs, _route), fields, out)


def route(graph: Graph, outputs: tuple[Output, ...]) -> Route:
    """The route of a walk, made once."""
    return graph.remembered(outputs, _route)


def _route(graph: Graph, outputs: tuple[Output, ...]) -> Route:
    adjacencies = {rows: graph.in_edges if rows == "v" else graph.out_edges for rows in walked_ends(outputs)}
    orders = tuple([(rows, adjacency.ordered) for rows, adjacency in adjacencies.items()])
    dense = graph.num_edges > graph.num_src + graph.num_dst
    wide = any(adjacency.derived("parts", parts_of).hubs for adjacency in adjacencies.values())
    lengths = tuple([_length(adjacency) for adjacency in adjacencies.values()])
    plan = make_plan(outputs, next(iter(adjacencies.values())).indptr.dtype, orders, dense, wide, lengths=lengths)
    buffers = []
    for kernel in plan.kernels:
        for number, target in kernel.targets:
            rows = rows_of(graph, target.output.to)
            for place, stored in enumerate(target.stored):
                shape = (rows, *plan.results[number][place][0])
                buffers.append(((number, place), shape, memory_dtype(stored), target.accumulate))
    return Route(plan, [_launch_of(kernel, graph) for kernel in plan.kernels], buffers)


def _walked(kernel: Kernel, graph: Graph) -> Any:
    return graph if kernel.rows == "e" else graph.in_edges if kernel.rows == "v" else graph.out_edges


def index_arrays(kernel: Kernel, graph: Graph) -> list[Any]:
    """The arrays of the graph that a kernel reads."""
    return [getattr(_walked(kernel, graph), what) for _, kind, what in kernel.arrays if kind == "ids"]


def _length(adjacency: Any) -> int:
    """How many edges a row has, as roughly as plans depend on it."""
    mean = adjacency.num_edges // max(adjacency.num_rows, 1)
    return max([length for length in LENGTHS if length <= mean])


def _launch_of(kernel: Kernel, graph: Graph) -> Launch:
    walked = _walked(kernel, graph)
    rows, parts = (0, parts_of_edges(graph.num_edges)) if walked is graph else (walked.num_rows, walked.derived("parts", parts_of))
    words = list(kernel.words)
    for offset, kind, what in kernel.arrays:
        if kind == "ids":
            words[offset : offset + 2] = _ids_of(getattr(walked, what))
    given = [(offset, kind, what) for offset, kind, what in kernel.arrays if kind in ("field", "whole")]
    fields = [(offset, what, kind == "whole" or what[0] == "shared") for offset, kind, what in given]
    outs = [(offset, (kernel.targets[what[0]][0], what[1])) for offset, kind, what in kernel.arrays if kind == "out"]
    return Launch(kernel, words, fields, outs, parts, _work(kernel, graph.num_edges + rows))


def _run(graph: Graph, route: Route, fields: Arrays, out: Sequence[Any] | None) -> list[Any]:
    plan = route.plan
    check_fields(graph, plan.reads, fields)
    if plan.empty:
        return _placed(reference.execute(graph, plan.outputs, fields), out)
    if plan.hoisted:
        fields = dict(fields)
        for key, expression in plan.hoisted:
            fields[key] = _per_node(graph, key[0], expression, fields)
    buffers: Buffers = {} if out is None else _given(route, out)
    for place, shape, dtype, added in route.buffers:
        if place not in buffers:
            buffers[place] = recycling.zeros(shape, dtype) if added else recycling.empty(shape, dtype)
        elif added:
            buffers[place].fill(0)
    for launch in route.launches:
        _launch(launch, graph, fields, buffers)
    made = [finished(buffers[key], plan.results[key[0]][key[1]][1], plan.outputs[key[0]], key[1]) for key in sorted(buffers)]
    return _placed(made, out)


def _given(route: Route, out: Sequence[Any]) -> Buffers:
    """The caller's arrays that kernels can store into."""
    pairs = zip(out, sorted(route.buffers), strict=True)
    return {buffer[0]: array.view(buffer[2]) for array, buffer in pairs if stores_as(route, buffer, array.dtype)}


def stores_as(route: Route, buffer: Buffer, dtype: np.dtype[Any]) -> bool:
    """Whether a result of a dtype is stored as its buffer is: then kernels may store into the caller's memory."""
    (number, place), _, memory, _ = buffer
    return memory_of(dtype) == memory and dtype in (memory, route.plan.results[number][place][1])


def _placed(made: list[Any], out: Sequence[Any] | None) -> list[Any]:
    """The results in the caller's arrays, cast to their dtypes."""
    if out is None:
        return made
    for array, result in zip(out, made, strict=True):
        if not np.may_share_memory(array, result):
            with np.errstate(all="ignore"):
                array[...] = result
    return list(out)


def finished(array: Any, dtype: np.dtype[Any], output: Output, place: int) -> Any:
    """A buffer in the dtype of its result; winners stay in the dtype of the edge ids."""
    if array.dtype == dtype or output.is_winner(place):
        return array
    return array.view(dtype) if array.dtype == memory_of(dtype) else array.astype(dtype)


def _per_node(graph: Graph, target: str, expression: Expr, fields: Arrays) -> Any:
    """The value of an expression of one node's fields, for every node: a walk over the nodes themselves."""
    outputs, names = node_walk(target, expression)
    return execute(nodes(graph, target), outputs, {name: fields[key] for key, name in names})[0]


def nodes(graph: Graph, target: str) -> Graph:
    """The sources or destinations as a graph, each an edge of its own."""
    return _itself(rows_of(graph, target))


@functools.lru_cache(maxsize=8)
def _itself(count: int) -> Graph:
    """The graph whose only edges are node i → node i."""
    return Graph.from_csc(np.arange(count + 1), np.arange(count), num_src=count)


def _launch(launch: Launch, graph: Graph, fields: Arrays, buffers: Buffers) -> None:
    """One kernel over all rows: the parts by threads, then the hubs one after another, each in chunks by threads."""
    words, kept = _block(launch, fields, buffers)
    _enter(launch.kernel, words, launch.parts.ranges, launch.work)
    if launch.parts.hubs:
        _launch_hubs(launch, graph, fields, buffers, words)
    del kept


def _launch_hubs(launch: Launch, graph: Graph, fields: Arrays, buffers: Buffers, words: list[int]) -> None:
    kernel, kept = launch.kernel, None
    if kernel.for_chunks is not None:
        kernel = kernel.for_chunks
        words, kept = _block(_launch_of(kernel, graph), fields, buffers)
    for hub in launch.parts.hubs:
        chunks = len(hub.bounds) - 1
        scratch: Buffers = {}
        for number, target in kernel.targets:
            if target.output.reduce != "edge":
                for place, stored in enumerate(target.stored):
                    scratch[number, place] = np.zeros((chunks, *buffers[number, place].shape[1:]), memory_dtype(stored))
        size = int(hub.bounds[-1] - hub.bounds[0])
        _enter(kernel, _of_hub(kernel, hub, words, scratch), each_alone(chunks), _work(kernel, size))
        for number, target in kernel.targets:
            made = [scratch[key] for key in sorted(scratch) if key[0] == number]
            if made:
                for place, value in enumerate(_of_chunks(target.output.reduce, made, hub)):
                    buffers[number, place][hub.row] = _in_bits(value, buffers[number, place].dtype, target.output.results()[place][1])
    del kept


def _of_chunks(reduce: str, made: list[Any], hub: Hub) -> Sequence[Any]:
    """A row's arrays from those of its chunks; without NumPy's warnings of NaN and infinity, as kernels give none."""
    with np.errstate(all="ignore"):
        return REDUCES[reduce].chunks(made, hub.counts)


def _in_bits(value: Any, memory: np.dtype[Any], dtype: np.dtype[Any]) -> Any:
    """A row of a result as its memory has it."""
    return np.asarray(value).astype(dtype).view(memory) if memory == np.uint16 and value.dtype != memory else value


def _block(launch: Launch, fields: Arrays, buffers: Buffers) -> tuple[list[int], list[Any]]:
    """The words of the argument block, and the arrays that they point to."""
    words, kept = launch.words.copy(), []
    for offset, place in launch.outs:
        words[offset : offset + 3] = _rows(buffers[place])
    for offset, key, whole in launch.fields:
        array = _operand(fields[key], whole)
        kept.append(array)
        words[offset : offset + 3] = (_address(array), 1, 0) if key[0] == "shared" else _rows(array)
    return words, kept


def _of_hub(kernel: Kernel, hub: Hub, words: list[int], scratch: Buffers) -> list[int]:
    """The words for the chunks of one hub: its bounds for indptr, its row of fields for every chunk, scratch rows for its results."""
    words = list(words)
    chunks = len(hub.bounds) - 1
    for offset, kind, what in kernel.arrays:
        if kind == "ids" and what == "indptr":
            words[offset : offset + 2] = _ids_of(hub.bounds)
        elif kind == "field" and what[0] == kernel.rows:
            words[offset : offset + 3] = words[offset] + hub.row * words[offset + 2], chunks, 0
        elif kind == "out" and (key := (kernel.targets[what[0]][0], what[1])) in scratch:
            words[offset : offset + 3] = _rows(scratch[key])
    return words


def _work(kernel: Kernel, size: int) -> int:
    """What tells whether threads are worth it. size: edges and rows."""
    return size * max(kernel.features, 1) // LANE_SPEED


def _enter(kernel: Kernel, words: list[int], ranges: Any, work: int) -> None:
    """Run the body over ranges of rows."""
    threads.run(shells.parallel, shells.serial, kernel.address, np.array(words, np.int64), ranges, work=work)


def _address(array: Any) -> int:
    return array.__array_interface__["data"][0]


def _ids_of(array: Any) -> tuple[int, int]:
    return _address(array), len(array)


def _rows(array: Any) -> tuple[int, int, int]:
    """An array as rows of contiguous features: address, number of rows, bytes from one to the next."""
    return _address(array), array.shape[0], array.strides[0]


def _operand(array: Any, whole: bool) -> Any:
    """A field with contiguous features, or without any gaps (whole), in a dtype that kernels read; a copy only where one is needed."""
    array = np.asarray(array)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    memory = memory_of(array.dtype)
    if array.dtype != memory:
        array = array.view(memory)
    flags = array.flags
    if array.size == 0 or (flags.aligned and (flags.c_contiguous or (not whole and array[0].flags.c_contiguous))):
        return array
    return np.ascontiguousarray(array)
