"""Planning a walk: which kernels it takes, and what they make."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgraph.compiler.cpu.kernel import Kernel, kernels
from numgraph.compiler.lowering import hoist, lowered
from numgraph.expressions.expr import Expr, leaves_of, topological
from numgraph.expressions.walk import Output, Reads, sides


@dataclass
class Plan:
    """The kernels of a walk, the fields that it reads, the values computed per node before the kernels, and the arrays that they make."""

    outputs: tuple[Output, ...]
    reads: Reads
    hoisted: list[tuple[tuple[str, str], Expr]]
    kernels: list[Kernel]
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
    made: list[Kernel] = []
    for (rows, ordered), length in zip(orders, lengths or (0,) * len(orders), strict=True):
        numbers = [i for i, side in enumerate(sides(outputs)) if side == rows]
        group = [low[i] for i in numbers]
        if dense:
            group, found = hoist(group, "u" if rows == "v" else "v", len(hoisted))
            hoisted += found
        made += kernels(group, numbers, rows, ids.name, ordered, wide, length)
    return Plan(outputs, reads, hoisted, made, [output.results() for output in outputs])
