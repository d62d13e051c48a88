"""Planning a walk: which kernels it takes, what they make; for the CPU also how their loops and lanes lie, and their compiled code."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from numgraph import errors
from numgraph.expressions.expr import Expr, is_float, leaves_of, topological
from numgraph.expressions.walk import Output, Reads, sides
from numgraph.kernels import shells, sources, vectormath
from numgraph.kernels.axes import Axes, analyse
from numgraph.kernels.codegen import Generator, expression_size
from numgraph.kernels.layout import CACHE_LINE, HALVES, Layout, Target, compute_name
from numgraph.kernels.lowering import hoist, lowered
from numgraph.kernels.reducing import REDUCERS
from numgraph.kernels.verify import verify

LIGHT = 4
"""Values that an edge computes at most in a kernel that is ``light``, none of them by a polynomial. Attention's gradients took 15 % longer
without asking for single cache lines, which the numbers per head are."""


@dataclass
class Kernel:
    """A compiled body with its argument block: words, with the sizes and constants in place, and what stands at the offsets of arrays."""

    rows: str
    address: int
    text: str
    words: list[int]
    arrays: list[
        tuple[int, str, Any]
    ]  # offset, and a slot: ("ids", name), ("field" or, without gaps, "whole", key), ("out", (target, place))
    targets: list[tuple[int, Target]]
    features: int
    for_chunks: Kernel | None = None  # the same without rounding to 16 bits, for what is put together later


@dataclass
class Plan:
    """The kernels of a walk, the fields that it reads, the values computed per node before the kernels, and the arrays that they make."""

    outputs: tuple[Output, ...]
    reads: Reads
    hoisted: list[tuple[tuple[str, str], Expr]]
    kernels: list[Any]
    results: list[list[tuple[tuple[int, ...], np.dtype[Any]]]]
    empty: bool = False


@functools.lru_cache(maxsize=1024)
def make_plan(
    outputs: tuple[Output, ...],
    ids: np.dtype[Any],
    orders: tuple[tuple[str, bool], ...],
    dense: bool,
    wide: bool,
    build: Callable[..., Any] | None = None,
    lengths: tuple[int, ...] = (),
) -> Plan:
    """The kernels of a walk.

    ids: dtype of the graph's indices. orders: for each end of ``walked_ends``, whether edge ids are positions there. dense: more edges than
    nodes. wide: rows are put together from chunks, so 16-bit floats must not be rounded before. build: what makes a
    kernel, if not for the CPU. lengths: for each end, how many edges a row has, roughly.
    """
    leaves = leaves_of(expression for output in outputs for expression in output.expressions)
    reads = tuple([(leaf.attrs, leaf.shape, leaf.dtype) for leaf in leaves])
    if any(0 in node.shape for output in outputs for node in topological(output.expressions)):
        return Plan(outputs, reads, [], [], [], empty=True)  # a feature axis of length 0: there are no vectors of no lanes
    low = [Output(tuple(lowered(output.expressions)), output.to, output.reduce) for output in outputs]
    hoisted: list[tuple[tuple[str, str], Expr]] = []
    kernels: list[Any] = []
    for (rows, ordered), length in zip(orders, lengths or (0,) * len(orders), strict=True):
        numbers = [i for i, side in enumerate(sides(outputs)) if side == rows]
        group = [low[i] for i in numbers]
        if dense:
            group, found = hoist(group, "u" if rows == "v" else "v", len(hoisted))
            hoisted += found
        if build:
            _check_generated(group)
        made = None if build else by_compiler(group, numbers, rows, ids.name, ordered, wide, length)
        if made is not None:
            kernels.append(made)
            continue
        kernels += [(build or _kernel)(*one, rows, ids.name, ordered, wide) for one in _grouped(group, numbers)]
    return Plan(outputs, reads, hoisted, kernels, [output.results() for output in outputs])


def _check_generated(outputs: Sequence[Output]) -> None:
    for output in outputs:
        if output.reduce not in REDUCERS:
            fix = 'move the graph and its fields to the host, or reduce by "mean" twice, of the messages and of their squared distances'
            raise errors.not_possible("update_all", f"there is no kernel for {output.reduce!r} on a device", fix)


def by_compiler(outputs: list[Output], numbers: list[int], rows: str, ids: str, ordered: bool, wide: bool, length: int) -> Kernel | None:
    """The compiler's kernel for all outputs of an end, where it is better than the generator's."""
    from numgraph.compiler.cpu.kernel import kernel

    return kernel(outputs, numbers, rows, ids, ordered, wide, length)


def _grouped(outputs: list[Output], numbers: list[int]) -> list[tuple[list[tuple[int, Target]], Axes]]:
    """The outputs that one kernel each can make, and their axes."""
    indexed, axes = analyse(outputs)
    groups: list[list[tuple[int, Target]]] = []
    for number, output, kept in zip(numbers, indexed, axes.results, strict=True):
        target = _target(output, kept, axes)
        for group in groups:
            if _compatible([*[t for _, t in group], target], axes):
                group.append((number, target))
                break
        else:
            groups.append([(number, target)])
    return [(group, axes) for group in groups]


def _target(output: Output, kept: tuple[int, ...], axes: Axes) -> Target:
    """A sum over feature axes at the root need not be done edge by edge: it becomes axes that the output is summed over."""
    value = output.expressions[-1]
    if output.reduce in ("sum", "mean", "edge"):
        while value.op in ("axes", "sum") or (value.op == "cast" and is_float(value.dtype) and is_float(value.args[0].dtype)):
            value = value.args[0]
    return Target(output, value, kept, tuple(sorted(set(axes.of[id(value)]) - set(kept))))


def loops_of(targets: Sequence[Target]) -> set[int]:
    return {axis for target in targets for axis in (*target.kept, *target.summed)}


def _compatible(targets: Sequence[Target], axes: Axes) -> bool:
    loops = loops_of(targets)
    if len(targets) > 1 and any(axes.size[axis] == 0 for axis in loops):
        return False  # a loop without steps must not keep other outputs from their stores
    return len(loops & axes.lanes) <= 1 and all(not t.summed or {*t.kept, *t.summed} == loops for t in targets)


@functools.cache
def register_bytes() -> int:
    """Width of the host's vector registers."""
    features = llvm.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


def _kernel(group: list[tuple[int, Target]], axes: Axes, rows: str, ids: str, ordered: bool, chunked: bool, wide: bool = False) -> Kernel:
    """chunked: some rows are put together from chunks. wide: 16-bit floats are not rounded to."""
    targets = [target for _, target in group]
    if not ordered and by_edge_ids(targets, rows):
        rows, ordered = "e", True
    loops = loops_of(targets)
    lane, head, length, width = _tile(targets, axes, loops)
    packed = axes.size[lane] if lane is not None and head is not None else 0
    tiled = length > width
    masked = length % max(width, 1) != 0
    outer = [axis for axis in sorted(loops) if axis not in (lane, head)]
    final = settled(group, {*outer, *([lane] if tiled and not packed else [])}, ids, wide)
    layout = Layout(rows, ids, ordered, width, masked, tiled, packed, _is_light(targets))
    source = Generator(axes, layout, [target for _, target in final], outer, lane, head).generate()
    offsets, length = block_of(source.slots)
    verify(source.text, source.slots, offsets, axes.size, targets, rows)
    words, arrays = [0] * length, []
    for offset, (kind, what) in zip(offsets, source.slots, strict=True):
        if kind in ("ids", "field", "out"):
            arrays.append((offset, kind, what))
        else:
            words[offset] = word_of(kind, what, axes.size)
    module = sources.load(source.text)
    features = math.prod(axes.size[axis] for axis in loops | {axis for axis in (lane,) if axis is not None})
    made = Kernel(rows, shells.address_of(module.body), source.text, words, arrays, final, features)
    if chunked and any(name in HALVES for _, target in final for name in target.stored):
        made.for_chunks = _kernel(group, axes, rows, ids, ordered, False, wide=True)
    return made


def _is_light(targets: Sequence[Target]) -> bool:
    ops = [node.op for node in topological(expression for target in targets for expression in target.output.expressions)]
    computed = sum(op not in ("field", "constant", "axes", "broadcast", "cast") for op in ops)
    plain = all(target.output.reduce in ("sum", "mean", "edge") for target in targets)
    return plain and computed <= LIGHT and vectormath.FUNCTIONS.keys().isdisjoint(ops)


def by_edge_ids(targets: Sequence[Target], rows: str) -> bool:
    """Whether outputs per edge alone are better walked in the order of edge ids: edge data in sequence, and both ends out of order.

    Counted in bytes, an access out of order as a cache line more, a result as a read and a write.
    """
    if any(target.output.reduce != "edge" for target in targets):
        return False
    fields = {leaf.attrs: leaf for leaf in leaves_of(expression for target in targets for expression in target.output.expressions)}
    sizes = [(key[0], math.prod(leaf.shape) * leaf.dtype.itemsize) for key, leaf in fields.items()]
    sizes += [("out", math.prod(shape) * dtype.itemsize) for target in targets for shape, dtype in target.output.results()]
    weight = {"e": 1, "out": 2}
    by_rows = sum(weight[where] * (size + CACHE_LINE) for where, size in sizes if where in weight)
    by_edges = sum(weight[where] * size if where in weight else size + CACHE_LINE for where, size in sizes if where in (rows, *weight))
    return by_edges <= by_rows


def settled(group: list[tuple[int, Target]], looped: set[int | None], ids: str, wide: bool) -> list[tuple[int, Target]]:
    """The targets with their storage, which is added to where they are summed over an axis that is looped over outside of the edges."""
    final = []
    for number, target in group:
        accumulate = bool(looped.intersection(target.summed))
        stored = stored_as(target.output, ids, (wide and target.output.reduce != "edge") or accumulate)
        final.append((number, Target(target.output, target.value, target.kept, target.summed, accumulate, stored)))
    return final


def block_of(slots: Sequence[tuple[Any, ...]]) -> tuple[list[int], int]:
    """Where each slot stands in the argument block, in words, and the block's length."""
    ends = list(itertools.accumulate({"ids": 2, "field": 3, "whole": 3, "out": 3}.get(slot[0], 1) for slot in slots))
    return [0, *ends[:-1]][: len(ends)], ends[-1] if ends else 0


def word_of(kind: str, what: Any, sizes: dict[int, int]) -> int:
    """What stands at the slot of a size or a constant."""
    return sizes[what] if kind == "size" else int(np.float64(what).view(np.int64)) if kind == "float" else int(what)


def stored_as(output: Output, ids: str, wide: bool) -> tuple[str, ...]:
    """The storage of an output's arrays: winners are edge ids; where parts are added up later, 16-bit floats are not rounded before."""
    names = [compute_name(dtype) if wide and dtype.name in HALVES else dtype.name for _, dtype in output.results()]
    return tuple([ids if output.is_winner(place) else name for place, name in enumerate(names)])


def _tile(targets: Sequence[Target], axes: Axes, loops: set[int]) -> tuple[int | None, int | None, int, int]:
    """The axis in lanes, the head axis packed with it, their length together, and the lanes a tile."""
    roots = [expression for target in targets for expression in target.output.expressions]
    item = max(np.dtype(compute_name(root.dtype)).itemsize for root in roots)
    folded = {axis for reduced in axes.reduced.values() for axis in reduced} & axes.lanes
    lane = next(iter(loops & axes.lanes), None)
    if lane is None and len(folded) == 1:
        (lane,) = folded
    size = expression_size(targets, axes, lane)
    registers = 8 if size <= 3 else 4 if size <= 16 else 2
    most = registers * register_bytes() // item
    head = head_of(targets, axes, loops, lane, most)
    length = 0 if lane is None else axes.size[lane] * (1 if head is None else axes.size[head])
    longest = max([length, *[axes.size[axis] for axis in folded]])
    width = min(1 << (longest - 1).bit_length(), most) if longest else 0
    if lane not in loops and head is None and length > width:
        return None, None, 0, width
    return lane, head, length, width


def head_of(targets: Sequence[Target], axes: Axes, loops: set[int], lane: int | None, most: int) -> int | None:
    """The axis to pack with a lane axis that leaves room in a tile of ``most`` lanes: the one before it.

    Not where something is summed over it or has another axis after it, nor where a result has the lane axis without it, and so no place
    for every head; nor where a reduction over the lane axis gives one value for all heads.
    """
    if lane is None or axes.size[lane] >= most or axes.size[lane] & (axes.size[lane] - 1) or axes.size[lane] < 2:
        return None
    heads = [axis for axis in sorted(loops) if axis < lane]
    if not heads or any(heads[-1] in reduced for reduced in [*axes.reduced.values(), *[target.summed for target in targets]]):
        return None
    head = heads[-1]
    stored = [target.kept for target in targets]
    stored += [axes.of[id(target.output.expressions[0])] for target in targets if target.output.reduce == "softmax"]
    computed = topological([root for target in targets for root in (*target.output.expressions[:-1], target.value)])
    folded = [axes.of[id(node)] for node in computed if lane in axes.reduced.get(id(node), ())]
    if any(head not in used for used in [*folded, *[used for used in stored if lane in used]]):
        return None
    return head if all(used[used.index(head) + 1 :] in ((), (lane,)) for used in [*axes.of.values(), *stored] if head in used) else None
