"""The CPU target: plans a walk as kernels (cached by its expressions), lays out their arguments, runs them over the rows."""

from __future__ import annotations

import functools
import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from numgraph import threads
from numgraph.expr import Expr, leaves_of, topological
from numgraph.graph import Graph
from numgraph.kernels import reference, shells, sources
from numgraph.kernels.axes import Axes, analyse
from numgraph.kernels.codegen import Generator, expression_size
from numgraph.kernels.layout import Layout, Target, compute_name, storage_name
from numgraph.kernels.lowering import hoist, lowered
from numgraph.kernels.walk import Arrays, Output, rows_of, sides

PARTS = 64
"""Parts of equal work that the rows are cut into: several a thread, so that uneven rows even out."""

LANE_SPEED = 16
"""Features that a kernel in lanes handles while threads.SMALL counts one element: below half a million features one thread is as fast."""


@dataclass
class Kernel:
    """A compiled body with the layout of its argument block."""

    rows: str
    address: int
    text: str
    slots: list[tuple[Any, ...]]
    offsets: list[int]
    words: int
    sizes: dict[int, int]
    targets: list[tuple[int, Target]]
    features: int


@dataclass
class Plan:
    """The kernels of a walk, the values computed per node before them, and the arrays that they make."""

    outputs: tuple[Output, ...]
    hoisted: list[tuple[tuple[str, str], Expr]]
    kernels: list[Kernel]
    results: list[list[tuple[tuple[int, ...], np.dtype[Any]]]]
    empty: bool = False


_plans: OrderedDict[Any, Plan] = OrderedDict()
_lock = threading.Lock()
_PLAN_LIMIT = 1024


def execute(graph: Graph, outputs: Sequence[Output], fields: Arrays) -> list[Any]:
    """All arrays of all outputs, in order (see Output.results)."""
    outputs = tuple(outputs)
    walked = _adjacencies(graph, outputs)
    ids = walked[0][0].indptr.dtype.name
    orders = tuple((rows, adjacency.ordered) for adjacency, rows in walked)
    dense = graph.num_edges > graph.num_src + graph.num_dst
    key = (tuple(output.key for output in outputs), ids, orders, dense)
    with _lock:
        plan = _plans.get(key)
        if plan is not None:
            _plans.move_to_end(key)
    if plan is None:
        plan = _make_plan(outputs, ids, dict(orders), dense)
        with _lock:
            _plans[key] = plan
            while len(_plans) > _PLAN_LIMIT:
                _plans.popitem(last=False)
    return _run(graph, plan, fields)


def _adjacencies(graph: Graph, outputs: Sequence[Output]) -> list[tuple[Any, str]]:
    return [(graph.in_edges if rows == "v" else graph.out_edges, rows) for rows in sorted(set(sides(outputs)))]


# --- planning -----------------------------------------------------------------------------------------------------------------------------


def _make_plan(outputs: tuple[Output, ...], ids: str, ordered: dict[str, bool], dense: bool) -> Plan:
    if any(0 in node.shape for output in outputs for node in topological(output.expressions)):
        return Plan(outputs, [], [], [], empty=True)  # a feature axis of length 0: there are no vectors of no lanes
    low = [Output(tuple(lowered(output.expressions)), output.to, output.reduce) for output in outputs]
    walked = sides(outputs)
    hoisted: list[tuple[tuple[str, str], Expr]] = []
    kernels: list[Kernel] = []
    for rows in sorted(set(walked)):
        numbers = [i for i, side in enumerate(walked) if side == rows]
        group = [low[i] for i in numbers]
        if dense:
            group, found = hoist(group, "u" if rows == "v" else "v", len(hoisted))
            hoisted += found
        kernels += _kernels(group, numbers, rows, ids, ordered[rows])
    return Plan(outputs, hoisted, kernels, [output.results() for output in outputs])


def _kernels(outputs: list[Output], numbers: list[int], rows: str, ids: str, ordered: bool) -> list[Kernel]:
    roots = [expression for output in outputs for expression in output.expressions]
    together = [(output.expressions[0], output.expressions[1]) for output in outputs if output.reduce == "softmax"]
    axes = analyse(roots, together)
    groups: list[list[tuple[int, Target]]] = []
    for number, output in zip(numbers, outputs, strict=True):
        target = _target(output, axes)
        for group in groups:
            if _compatible([*[t for _, t in group], target], axes):
                group.append((number, target))
                break
        else:
            groups.append([(number, target)])
    return [_kernel(group, axes, rows, ids, ordered) for group in groups]


def _target(output: Output, axes: Axes) -> Target:
    """A sum over feature axes at the root need not be done edge by edge: it becomes axes that the output is summed over."""
    value = output.expressions[-1]
    kept = set(axes.of[id(value)])
    if output.reduce == "softmax":
        kept |= set(axes.of[id(output.expressions[0])])
    if output.reduce in ("sum", "mean", "edge"):
        while value.op in ("axes", "sum") or (value.op == "cast" and value.dtype.kind == value.args[0].dtype.kind == "f"):
            value = value.args[0]
    summed = set(axes.of[id(value)]) - kept
    return Target(output, value, tuple(sorted(kept)), tuple(sorted(summed)), False)


def _loops(targets: Sequence[Target]) -> set[int]:
    return {axis for target in targets for axis in (*target.kept, *target.summed)}


def _compatible(targets: Sequence[Target], axes: Axes) -> bool:
    loops = _loops(targets)
    if len(targets) > 1 and any(axes.size[axis] == 0 for axis in loops):
        return False  # a loop without steps must not keep other outputs from their stores
    return len(loops & axes.lanes) <= 1 and all(not t.summed or {*t.kept, *t.summed} == loops for t in targets)


@functools.cache
def register_bytes() -> int:
    """Width of the host's vector registers."""
    features = llvm.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


def _kernel(group: list[tuple[int, Target]], axes: Axes, rows: str, ids: str, ordered: bool) -> Kernel:
    targets = [target for _, target in group]
    loops = _loops(targets)
    lane, head, length, width = _tile(targets, axes, loops)
    packed = axes.size[lane] if lane is not None and head is not None else 0
    tiled = length > width
    masked = length % max(width, 1) != 0
    outer = [axis for axis in sorted(loops) if axis not in (lane, head)]
    final = []
    for number, target in group:
        accumulate = bool(set(target.summed) & set(outer)) or (tiled and not packed and lane in target.summed)
        final.append((number, Target(target.output, target.value, target.kept, target.summed, accumulate)))
    layout = Layout(rows, ids, ordered, width, masked, tiled, packed)
    source = Generator(axes, layout, [target for _, target in final], outer, lane, head).generate()
    offsets, words = [], 0
    for slot in source.slots:
        offsets.append(words)
        words += {"ids": 2, "field": 3, "out": 3}.get(slot[0], 1)
    module = sources.load(source.text)
    features = math.prod(axes.size[axis] for axis in loops | {axis for axis in (lane,) if axis is not None})
    return Kernel(rows, shells.address_of(module.body), source.text, source.slots, offsets, words, axes.size, final, features)


def _tile(targets: Sequence[Target], axes: Axes, loops: set[int]) -> tuple[int | None, int | None, int, int]:
    """The axis in lanes, the head axis packed with it, their length together, and the lanes a tile."""
    roots = [expression for target in targets for expression in target.output.expressions]
    item = max(np.dtype(compute_name(root.dtype)).itemsize for root in roots)
    folded = {axis for reduced in axes.reduced.values() for axis in reduced} & axes.lanes
    lane = next(iter(loops & axes.lanes), None)
    if lane is None and len(folded) == 1:
        (lane,) = folded
    head = _head(targets, axes, loops, lane, register_bytes() // item)
    length = 0 if lane is None else axes.size[lane] * (1 if head is None else axes.size[head])
    longest = max([length, *[axes.size[axis] for axis in folded]])
    size = expression_size(targets, axes, lane)
    registers = 8 if size <= 3 else 4 if size <= 16 else 2
    width = min(1 << (longest - 1).bit_length(), registers * register_bytes() // item) if longest else 0
    if lane not in loops and head is None and length > width:
        return None, None, 0, width
    return lane, head, length, width


def _head(targets: Sequence[Target], axes: Axes, loops: set[int], lane: int | None, native: int) -> int | None:
    """The axis to pack with a lane axis that is shorter than a register: the one before it, if nothing is summed over it and no field has
    another axis after it."""
    if lane is None or axes.size[lane] >= native or axes.size[lane] & (axes.size[lane] - 1) or axes.size[lane] < 2:
        return None
    heads = [axis for axis in sorted(loops) if axis < lane]
    if not heads or any(heads[-1] in reduced for reduced in [*axes.reduced.values(), *[target.summed for target in targets]]):
        return None
    head = heads[-1]
    return head if all(used[used.index(head) + 1 :] in ((), (lane,)) for used in axes.of.values() if head in used) else None


# --- running ------------------------------------------------------------------------------------------------------------------------------


def _run(graph: Graph, plan: Plan, fields: Arrays) -> list[Any]:
    if plan.empty:
        return reference.execute(graph, plan.outputs, fields)
    fields = dict(fields)
    for key, expression in plan.hoisted:
        fields[key] = _per_node(graph, key[0], expression, fields)
    made: list[list[Any]] = []
    for output, results in zip(plan.outputs, plan.results, strict=True):
        rows = rows_of(graph, output.to)
        arrays = []
        for place, (shape, dtype) in enumerate(results):
            storage = "int64" if output.reduce in ("max", "min") and place == 1 else storage_name(dtype)
            arrays.append((rows, shape, storage))
        made.append(arrays)
    buffers: dict[tuple[int, int], Any] = {}
    for kernel in plan.kernels:
        adjacency = graph.in_edges if kernel.rows == "v" else graph.out_edges
        for number, target in kernel.targets:
            for place, (rows, shape, storage) in enumerate(made[number]):
                if plan.outputs[number].reduce in ("max", "min") and place == 1:
                    storage = adjacency.indptr.dtype.name
                allocate = np.zeros if target.accumulate else np.empty
                buffers[number, place] = allocate((rows, *shape), storage)
        _launch(kernel, adjacency, fields, buffers)
    finished = []
    for number, (output, results) in enumerate(zip(plan.outputs, plan.results, strict=True)):
        for place, (_, dtype) in enumerate(results):
            array = buffers[number, place]
            winners = output.reduce in ("max", "min") and place == 1
            if dtype.kind == "b":
                array = array.view(np.bool_)
            finished.append(array if winners or array.dtype == dtype else array.astype(dtype))
    return finished


def _per_node(graph: Graph, target: str, expression: Expr, fields: Arrays) -> Any:
    """The value of an expression of one node's fields, for every node: a walk over the nodes themselves."""
    count = rows_of(graph, target)
    nodes = _itself(count)
    renamed = {("e", leaf.attrs[1]): fields[leaf.attrs] for leaf in leaves_of((expression,)) if leaf.attrs[0] == target}
    renamed |= {leaf.attrs: fields[leaf.attrs] for leaf in leaves_of((expression,)) if leaf.attrs[0] == "shared"}
    from numgraph.kernels.lowering import retarget

    return execute(nodes, (Output((retarget(expression, "e"),), "e", "edge"),), renamed)[0]


@functools.lru_cache(maxsize=8)
def _itself(count: int) -> Graph:
    """The graph whose only edges are node i → node i."""
    return Graph.from_csc(np.arange(count + 1), np.arange(count), num_src=count)


def _launch(kernel: Kernel, adjacency: Any, fields: Arrays, buffers: dict[tuple[int, int], Any]) -> None:
    args = np.zeros(kernel.words, np.int64)
    alive = []
    targets = kernel.targets
    for slot, offset in zip(kernel.slots, kernel.offsets, strict=True):
        kind = slot[0]
        if kind == "size":
            args[offset] = kernel.sizes[slot[1]]
        elif kind == "int":
            args[offset] = slot[1]
        elif kind == "float":
            args[offset : offset + 1].view(np.float64)[0] = slot[1]
        elif kind == "ids":
            array = getattr(adjacency, slot[1])
            args[offset : offset + 2] = array.__array_interface__["data"][0], len(array)
        else:
            if kind == "field":
                array = _operand(fields[slot[1]], shared=slot[1][0] == "shared")
            else:
                number, place = slot[1]
                array = buffers[targets[number][0], place]
                array = array.reshape(array.shape[0], -1) if array.size else array.reshape(array.shape[0], 1 if array.ndim == 1 else 0)
            alive.append(array)
            args[offset : offset + 3] = array.__array_interface__["data"][0], array.shape[0], array.strides[0]
    work = (adjacency.num_edges + adjacency.num_rows) * max(kernel.features, 1) // LANE_SPEED
    threads.run(shells.parallel, shells.serial, kernel.address, args, adjacency.derived("parts", _parts), work=work)
    del alive


def _parts(adjacency: Any) -> Any:
    """Bounds of PARTS groups of whole rows with about equal numbers of edges plus rows."""
    weight = adjacency.indptr.astype(np.int64) + np.arange(adjacency.num_rows + 1)
    bounds = np.searchsorted(weight, np.linspace(0, weight[-1], PARTS + 1)[1:-1])
    return np.unique(np.concatenate([[0], bounds, [adjacency.num_rows]])).astype(np.int64)


def _operand(array: Any, shared: bool) -> Any:
    """A field as [rows, features] with contiguous features, in a dtype that kernels read; a copy only where the input needs one."""
    array = np.asarray(array)
    storage = storage_name(array.dtype)
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    elif array.dtype.name != storage or not array.dtype.isnative:
        array = array.astype(storage)
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
