"""Which edge makes a row of a walk's result what it is: where a number is not finite, or large."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from numgraph.compiler import reference
from numgraph.expressions import expr
from numgraph.expressions.formulas import text
from numgraph.expressions.walk import Arrays, Output, grouped, ids_of_ends
from numgraph.graph import Graph, GraphWithEnds, with_ends


def suspects(graph: Graph, output: Output, fields: Arrays, row: int) -> list[str]:
    """The first edge of the row whose message is not finite, or else the one with the largest: its ends, its
    message and its fields.
    """
    if graph.device != "cpu":
        return []
    end = {"e": None, "u": "source", "v": "destination"}.get(output.to, output.to)
    edges = np.array([row]) if end is None else _edges_of(graph, output.to, row)
    if not len(edges):
        return [f"{end} {row} has no edges"]
    src, dst = np.asarray(graph.src)[edges], np.asarray(graph.dst)[edges]
    part = Graph(src, dst, num_src=graph.num_src, num_dst=graph.num_dst)
    if isinstance(graph, GraphWithEnds):
        part = cast(
            Graph, with_ends(part, {name: (end.ids[edges], end.rows) for name, end in graph.ends.items()})
        )
    own = {key: x[edges] if key[0] == "e" else x for key, x in fields.items()}
    each = tuple([Output((expression,), "e", "edge") for expression in output.expressions])
    with np.errstate(all="ignore"):
        values = [
            np.asarray(x, np.float64).reshape(len(edges), -1) for x in reference.execute(part, each, own)
        ]
        size = np.max(np.concatenate([np.abs(value) for value in values], axis=1), axis=1, initial=0.0)
    bad = ~np.isfinite(size)
    k = int(bad.argmax()) if bad.any() else int(size.argmax())
    many = f"{bad.sum()} of {len(edges)} messages are not finite"
    told = (
        [
            f"at {end} {row}, "
            + (many if bad.any() else f"all {len(edges)} messages are finite, the largest is {size[k]:.4g}")
        ]
        if end
        else []
    )
    told.append(
        f"edge {edges[k]}, u = {src[k]} to v = {dst[k]}, gives {', '.join(few(value[k]) for value in values)}"
    )
    for key, x in fields.items():
        index = (
            {"u": src[k], "v": dst[k], "e": edges[k]}
            | {name: ids[edges[k]] for name, ids in ids_of_ends(graph).items()}
        ).get(key[0])
        name = text(expr.field(*key, (), float))
        told.append(f"{name}[{index}] is {few(x[index])}" if index is not None else f"{name} is {few(x)}")
    return told


def _edges_of(graph: Graph, end: str, row: int) -> Any:
    adjacency = grouped(graph, end)
    return np.asarray(adjacency.edge_ids[adjacency.indptr[row] : adjacency.indptr[row + 1]])


def few(x: Any) -> str:
    """An array in one line, its ends where it is long."""
    return " ".join(
        np.array2string(np.asarray(x), precision=4, threshold=8, edgeitems=3, separator=", ").split()
    )
