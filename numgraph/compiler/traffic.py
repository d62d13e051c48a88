"""Kernels in a profile: what a kernel is called, and how many bytes it moves."""

from __future__ import annotations

from typing import Any

from numgraph.compiler.target import Buffers
from numgraph.expressions.traversal import leaves_of
from numgraph.expressions.walk import Arrays, grouped, sides


def named(kernel: Any) -> str:
    """By what it makes."""
    return "kernel: " + ", ".join([made.output.text() for made in kernel.outputs])


def moved(kernel: Any, graph: Any, fields: Arrays, buffers: Buffers, made: None = None) -> int:
    """Bytes: index arrays, fields and results once, and rows that are gathered once an edge."""
    outputs = [made.output for made in kernel.outputs]
    leaves = leaves_of(expression for output in outputs for expression in output.expressions)
    side = getattr(kernel, "rows", sides(outputs)[0])
    by_edge = any(leaf.attrs[0] == "e" for leaf in leaves) or any(output.to == "e" for output in outputs)
    if side == "e":
        ends = {leaf.attrs[0] for leaf in leaves}
        count = sum(
            [getattr(graph, name).nbytes for end, name in (("u", "src"), ("v", "dst")) if end in ends]
        )
    else:
        rows = grouped(graph, side)
        count = rows.indptr.nbytes + rows.indices.nbytes
        count += rows.edge_ids.nbytes if by_edge and not rows.ordered else 0
    for leaf in leaves:
        array, target = fields[leaf.attrs], leaf.attrs[0]
        gathered = target in ("u", "v") and target != side
        count += array.nbytes // max(len(array), 1) * graph.num_edges if gathered else array.nbytes
    own = {one.number for one in kernel.outputs}
    return int(count + sum([array.nbytes for (number, _), array in buffers.items() if number in own]))
