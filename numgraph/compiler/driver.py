"""The loop above targets: plan a walk, compute what is per node, allocate, launch, combine, finish."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from numgraph.compiler.index import Notation
from numgraph.compiler.lowering import hoist, lowered, node_walk
from numgraph.compiler.storage import memory_of
from numgraph.compiler.target import Buffers, Made, Request, Target
from numgraph.compiler.verify import verify
from numgraph.expressions.expr import Expr, leaves_of, topological
from numgraph.expressions.walk import Arrays, Key, Output, Reads, check_fields, rows_of, sides

SLACK = 0.02
"""How much more, as a part of what they cost apart, outputs may cost in one kernel, which is compiled and launched once."""


@dataclass
class Plan:
    """The kernels of a walk, the fields that it reads, the values computed per node before the kernels, and the arrays that they make."""

    outputs: tuple[Output, ...]
    reads: Reads
    hoisted: list[tuple[Key, Expr]]
    kernels: list[Any]
    results: list[list[tuple[tuple[int, ...], np.dtype[Any]]]]
    empty: bool = False


@functools.lru_cache(maxsize=1024)
def make_plan(target: Target, outputs: tuple[Output, ...], requests: tuple[Request, ...], dense: bool) -> Plan:
    """The kernels of a walk: a request for each end of ``walked_ends``. dense: more edges than nodes."""
    leaves = leaves_of(expression for output in outputs for expression in output.expressions)
    reads = tuple([(leaf.attrs, leaf.shape, leaf.dtype) for leaf in leaves])
    if any(0 in node.shape for output in outputs for node in topological(output.expressions)):
        return Plan(outputs, reads, [], [], [], empty=True)  # a feature axis of length 0: there are no lanes
    low = [Output(tuple(lowered(output.expressions)), output.to, output.reduce) for output in outputs]
    hoisted: list[tuple[Key, Expr]] = []
    kernels: list[Any] = []
    for request in requests:
        numbers = [i for i, side in enumerate(sides(outputs)) if side == request.rows]
        group = [low[i] for i in numbers]
        if dense:
            group, found = hoist(group, "u" if request.rows == "v" else "v", len(hoisted))
            hoisted += found
        for chosen in grouped(target, group, request):
            kernels.append(kernel(target, [group[i] for i in chosen], [numbers[i] for i in chosen], request))
    return Plan(outputs, reads, hoisted, kernels, [output.results() for output in outputs])


def grouped(target: Target, outputs: Sequence[Output], request: Request) -> list[list[int]]:
    """Which outputs go into one kernel: those that cost no more together than apart."""

    def price(group: list[int]) -> float:
        own = [outputs[i] for i in group]
        return target.choose(Notation(own, request.rows), request.places(own), request.length)[1]

    if len(outputs) == 1:
        return [[0]]
    groups: list[list[int]] = []
    prices: list[float] = []
    for number in range(len(outputs)):
        alone = price([number])
        for i, group in enumerate(groups):
            together = price([*group, number])
            if together <= (prices[i] + alone) * (1 + SLACK):
                groups[i], prices[i] = [*group, number], together
                break
        else:
            groups.append([number])
            prices.append(alone)
    return groups


def kernel(target: Target, outputs: Sequence[Output], numbers: Sequence[int], request: Request) -> Any:
    """One kernel: its program is proven before it is printed."""
    program, _ = target.choose(Notation(outputs, request.rows), request.places(outputs), request.length)
    verify(program)
    addable = [request.atomic and output.reduce in ("sum", "mean") for output in outputs]
    stored = [request.stored(output) for output in outputs]
    made = [
        Made(number, output, names, atomic and names[0] in ("float32", "float64"))
        for number, output, names, atomic in zip(numbers, outputs, stored, addable, strict=True)
    ]
    return target.build(target.print(program, made, request), made, request)


def run(target: Target, graph: Any, plan: Plan, fields: Arrays) -> list[Any]:
    """All arrays of all outputs, in order (see Output.results)."""
    check_fields(graph, plan.reads, fields)
    fields = dict(fields)
    for key, expression in plan.hoisted:
        fields[key] = _per_node(target, graph, key[0], expression, fields)
    buffers: Buffers = {}
    like = list(fields.values())
    for kernel in plan.kernels:
        for made in kernel.outputs:
            for place, (shape, _) in enumerate(plan.results[made.number]):
                buffers[made.number, place] = target.allocate(made, place, graph, shape, like)
        target.launch(kernel, graph, fields, buffers)
        target.combine(kernel, graph, fields, buffers)
    results = []
    for number, place in sorted(buffers):
        output, array = plan.outputs[number], buffers[number, place]
        rows = rows_of(graph, output.to)
        results.append(finished(array if len(array) == rows else array[:rows], plan.results[number][place][1], output, place))
    return results


def finished(array: Any, dtype: np.dtype[Any], output: Output, place: int) -> Any:
    """A buffer in the dtype of its result; winners stay in the dtype of the edge ids."""
    if array.dtype == dtype or output.is_winner(place):
        return array
    return array.view(dtype) if array.dtype == memory_of(dtype) else array.astype(dtype)


def _per_node(target: Target, graph: Any, end: str, expression: Expr, fields: Arrays) -> Any:
    """The value of an expression of one node's fields, for every node: a walk over the nodes themselves, each an edge of its own."""
    outputs, names = node_walk(end, expression)
    renamed = {name: fields[key] for key, name in names}
    count = rows_of(graph, end)
    nodes = SimpleNamespace(num_src=count, num_dst=count, num_edges=count)
    return run(target, nodes, make_plan(target, outputs, (Request("v", "int64", True),), False), renamed)[0]
