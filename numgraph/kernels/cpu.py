"""The CPU target: finds the plan of a walk (cached by its expressions), lays out the arguments of its kernels, runs them over the rows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from numgraph import recycling, threads
from numgraph.expr import Expr, leaves_of
from numgraph.graph import Graph
from numgraph.kernels import reference, shells
from numgraph.kernels.balance import COMBINE, Hub, each_alone, parts_of, parts_of_edges
from numgraph.kernels.layout import memory_name, memory_of
from numgraph.kernels.lowering import retarget
from numgraph.kernels.planning import Kernel, Plan, make_plan
from numgraph.kernels.walk import Arrays, Output, rows_of, sides

Buffers = dict[tuple[int, int], Any]
"""Result arrays by (number of the output, number of its array)."""

LANE_SPEED = 32
"""Features that a kernel in lanes handles while threads.SMALL counts one element. Below a million features a thread takes about 0.2 ms; a
second one saves less than the pool costs where other processes keep the cores busy (10 ms a call, measured at a load of 3 a core)."""
_BITS = (np.dtype(np.uint8), np.dtype(np.uint16))
"""Memory of bool and of the 16-bit floats."""


def execute(graph: Graph, outputs: Sequence[Output], fields: Arrays) -> list[Any]:
    """All arrays of all outputs, in order (see Output.results)."""
    outputs = tuple(outputs)
    walked = _adjacencies(graph, outputs)
    ids = walked[0][0].indptr.dtype
    orders = tuple((rows, adjacency.ordered) for adjacency, rows in walked)
    dense = graph.num_edges > graph.num_src + graph.num_dst
    wide = any(adjacency.derived("parts", parts_of).hubs for adjacency, _ in walked)
    return _run(graph, make_plan(outputs, ids, orders, dense, wide), fields)


def _adjacencies(graph: Graph, outputs: Sequence[Output]) -> list[tuple[Any, str]]:
    return [(graph.in_edges if rows == "v" else graph.out_edges, rows) for rows in sorted(set(sides(outputs)))]


def _run(graph: Graph, plan: Plan, fields: Arrays) -> list[Any]:
    if plan.empty:
        return reference.execute(graph, plan.outputs, fields)
    fields = dict(fields)
    for key, expression in plan.hoisted:
        fields[key] = _per_node(graph, key[0], expression, fields)
    buffers: Buffers = {}
    for kernel in plan.kernels:
        for number, target in kernel.targets:
            rows = rows_of(graph, target.output.to)
            for place, (shape, _) in enumerate(plan.results[number]):
                allocate = recycling.zeros if target.accumulate else recycling.empty
                buffers[number, place] = allocate((rows, *shape), memory_name(target.stored[place]))
        _launch(kernel, graph, fields, buffers)
    return [finished(buffers[key], plan.results[key[0]][key[1]][1], plan.outputs[key[0]], key[1]) for key in sorted(buffers)]


def finished(array: Any, dtype: np.dtype[Any], output: Output, place: int) -> Any:
    """A buffer in the dtype of its result; winners stay in the dtype of the edge ids."""
    if array.dtype == dtype or (place == 1 and output.reduce in ("max", "min")):
        return array
    return array.view(dtype) if array.dtype in _BITS else array.astype(dtype)


def _per_node(graph: Graph, target: str, expression: Expr, fields: Arrays) -> Any:
    """The value of an expression of one node's fields, for every node: a walk over the nodes themselves."""
    count = rows_of(graph, target)
    nodes = _itself(count)
    renamed = {("e", leaf.attrs[1]): fields[leaf.attrs] for leaf in leaves_of((expression,)) if leaf.attrs[0] == target}
    renamed |= {leaf.attrs: fields[leaf.attrs] for leaf in leaves_of((expression,)) if leaf.attrs[0] == "shared"}
    return execute(nodes, (Output((retarget(expression, "e"),), "e", "edge"),), renamed)[0]


@functools.lru_cache(maxsize=8)
def _itself(count: int) -> Graph:
    """The graph whose only edges are node i → node i."""
    return Graph.from_csc(np.arange(count + 1), np.arange(count), num_src=count)


def _launch(kernel: Kernel, graph: Graph, fields: Arrays, buffers: Buffers) -> None:
    """One kernel over all rows: the parts by threads, then the hubs one after another, each in chunks by threads."""
    walked: Any = graph
    if kernel.rows == "e":
        rows, parts = 0, parts_of_edges(graph.num_edges)
    else:
        walked = graph.in_edges if kernel.rows == "v" else graph.out_edges
        rows, parts = walked.num_rows, walked.derived("parts", parts_of)
    operands = [_operand_of(kernel, slot, walked, fields, buffers) for slot in kernel.slots]
    _enter(kernel, operands, parts.ranges, graph.num_edges + rows)
    if parts.hubs and kernel.for_chunks is not None:
        kernel = kernel.for_chunks
        operands = [_operand_of(kernel, slot, walked, fields, buffers) for slot in kernel.slots]
    for hub in parts.hubs:
        chunks = len(hub.bounds) - 1
        scratch: Buffers = {}
        for number, target in kernel.targets:
            if target.output.reduce != "edge":
                for place in range(len(target.output.results())):
                    whole = buffers[number, place]
                    scratch[number, place] = np.zeros((chunks, *whole.shape[1:]), memory_name(target.stored[place]))
        _enter(kernel, _of_hub(kernel, hub, operands, scratch), each_alone(chunks), int(hub.bounds[-1] - hub.bounds[0]))
        for number, target in kernel.targets:
            made = [scratch[key] for key in sorted(scratch) if key[0] == number]
            if made:
                for place, value in enumerate(COMBINE[target.output.reduce](made, hub.counts)):
                    buffers[number, place][hub.row] = _in_bits(value, buffers[number, place].dtype, target.output.results()[place][1])


def _in_bits(value: Any, memory: np.dtype[Any], dtype: np.dtype[Any]) -> Any:
    """A row of a result as its memory has it."""
    return np.asarray(value).astype(dtype).view(memory) if memory == np.uint16 and value.dtype != memory else value


def _operand_of(kernel: Kernel, slot: tuple[Any, ...], walked: Any, fields: Arrays, buffers: Buffers) -> Any:
    """The array or number that a slot of the argument block stands for."""
    kind, what = slot
    if kind == "size":
        return kernel.sizes[what]
    if kind == "ids":
        return getattr(walked, what)
    if kind == "field":
        return _operand(fields[what], shared=what[0] == "shared")
    if kind == "out":
        return _rows(buffers[kernel.targets[what[0]][0], what[1]])
    return np.float64(what).view(np.int64) if kind == "float" else what


def _of_hub(kernel: Kernel, hub: Hub, operands: list[Any], scratch: Buffers) -> list[Any]:
    """The operands for the chunks of one hub: its bounds for indptr, its fields for every chunk, scratch rows for its results."""
    changed = list(operands)
    chunks = len(hub.bounds) - 1
    for i, (kind, what) in enumerate(kernel.slots):
        if (kind, what) == ("ids", "indptr"):
            changed[i] = hub.bounds
        elif kind == "field" and what[0] == kernel.rows:
            changed[i] = np.broadcast_to(operands[i][hub.row], (chunks, operands[i].shape[1]))
        elif kind == "out" and (key := (kernel.targets[what[0]][0], what[1])) in scratch:
            changed[i] = _rows(scratch[key])
    return changed


def _enter(kernel: Kernel, operands: list[Any], ranges: Any, size: int) -> None:
    """Write the argument block and run the body over ranges of rows. size: edges and rows, to judge the work."""
    args = np.zeros(kernel.words, np.int64)
    for (kind, _), offset, operand in zip(kernel.slots, kernel.offsets, operands, strict=True):
        if kind == "ids":
            args[offset : offset + 2] = operand.__array_interface__["data"][0], len(operand)
        elif kind in ("field", "out"):
            args[offset : offset + 3] = operand.__array_interface__["data"][0], operand.shape[0], operand.strides[0]
        else:
            args[offset] = operand
    work = size * max(kernel.features, 1) // LANE_SPEED
    threads.run(shells.parallel, shells.serial, kernel.address, args, ranges, work=work)


def _rows(array: Any) -> Any:
    """An output as [rows, features]."""
    return array.reshape(array.shape[0], -1) if array.size else array.reshape(array.shape[0], 1 if array.ndim == 1 else 0)


def _operand(array: Any, shared: bool) -> Any:
    """A field as [rows, features] with contiguous features, in a dtype that kernels read; a copy only where the input needs one."""
    array = np.asarray(array)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    memory, viewed = memory_of(array.dtype)
    if array.dtype != memory:
        array = array.view(memory) if viewed else array.astype(memory)
    if shared:
        array = array[None]
    rows = array.shape[0]
    if array.size == 0:
        return np.zeros((rows, 1), array.dtype)
    if not array[0].flags.c_contiguous or not array.flags.aligned:
        array = np.ascontiguousarray(array)
    return array.reshape(rows, -1) if array.flags.c_contiguous else _flat_rows(array)


def _flat_rows(array: Any) -> Any:
    """Rows with any stride and contiguous features, as two axes without a copy."""
    count = array[0].size
    return np.lib.stride_tricks.as_strided(array, (array.shape[0], count), (array.strides[0], array.itemsize), writeable=False)
