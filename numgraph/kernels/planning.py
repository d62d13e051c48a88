"""Planning a walk: which kernels it takes, and what they make."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgraph.expressions.expr import Expr, leaves_of, topological
from numgraph.expressions.walk import Output, Reads, sides
from numgraph.kernels.layout import CACHE_LINE, HALVES, Target, compute_name
from numgraph.kernels.lowering import hoist, lowered


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
    lengths: tuple[int, ...] = (),
) -> Plan:
    """The kernels of a walk.

    ids: dtype of the graph's indices. orders: for each end of ``walked_ends``, whether edge ids are positions there. dense: more edges than
    nodes. wide: rows are put together from chunks, so 16-bit floats must not be rounded before. lengths: for each end,
    how many edges a row has, roughly.
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
        kernels += by_compiler(group, numbers, rows, ids.name, ordered, wide, length)
    return Plan(outputs, reads, hoisted, kernels, [output.results() for output in outputs])


def by_compiler(outputs: list[Output], numbers: list[int], rows: str, ids: str, ordered: bool, wide: bool, length: int) -> list[Kernel]:
    """The CPU's kernels for the outputs of an end."""
    from numgraph.compiler.cpu.kernel import kernels

    return kernels(outputs, numbers, rows, ids, ordered, wide, length)


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
