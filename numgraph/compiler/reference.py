"""The oracle: a walk in plain NumPy, with an array per edge for every node of the expression. Right, simple,
slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numgraph.expressions import elementary
from numgraph.expressions.expr import Expr, constant_value
from numgraph.expressions.reduces import REDUCES
from numgraph.expressions.traversal import topological
from numgraph.expressions.walk import Arrays, Output, ids_of_ends, rows_of


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """float16 and bfloat16 are storage: they compute in float32."""
    return np.dtype(np.float32) if dtype.itemsize == 2 and dtype.kind not in "iub" else dtype


def evaluate(roots: Sequence[Expr], graph: Any, fields: Arrays) -> list[Any]:
    """The value of every root on every edge, [num_edges, …] in edge-id order."""
    edges = {"u": graph.src, "v": graph.dst, "e": slice(None)} | ids_of_ends(graph)
    values: dict[int, Any] = {}
    for node in topological(roots):
        args = [values[id(arg)] for arg in node.args]
        dtype = compute_dtype(node.dtype)
        if node.op == "field":
            target = node.attrs[0]
            array = np.asarray(fields[node.attrs])
            value = array[None] if target == "shared" else array[edges[target]]
            value = value.astype(dtype, copy=False)
        elif node.op == "edge_id":
            value = np.arange(graph.num_edges)
        elif node.op == "constant":
            value = constant_value(node) if node.weak else dtype.type(constant_value(node))
        elif node.op == "cast":
            value = np.asarray(args[0]).astype(node.dtype).astype(dtype)
        elif node.op == "broadcast":
            value = _aligned(args[0], node.args[0], node.ndim)
        elif node.op == "axes":
            (arg,) = node.args
            value = _full(args[0], arg)
            value = value.reshape(
                value.shape[:1] + tuple(1 if axis is None else value.shape[axis + 1] for axis in node.attrs)
            )
        elif node.op in ("sum", "max"):
            (arg,) = node.args
            value = getattr(np, node.op)(
                _full(args[0], arg), axis=tuple(axis + 1 for axis in node.attrs), keepdims=True
            )
        else:
            with np.errstate(all="ignore"):
                value = elementary.TABLE[node.op].evaluate(
                    *[_aligned(x, arg, node.ndim) for x, arg in zip(args, node.args, strict=True)]
                )
            value = np.asarray(value).astype(dtype, copy=False) if not node.weak else value
        values[id(node)] = value
    edges_shape = (graph.num_edges,)
    return [
        np.broadcast_to(_aligned(values[id(root)], root, root.ndim), edges_shape + root.shape)
        for root in roots
    ]


def _aligned(value: Any, node: Expr, rank: int) -> Any:
    """The edge axis first, then feature axes filled up to rank from the left."""
    if np.ndim(value) == 0:
        return value
    return (
        value.reshape(value.shape[:1] + (1,) * (rank - node.ndim) + value.shape[1:])
        if rank > node.ndim
        else value
    )


def _full(value: Any, node: Expr) -> Any:
    value = np.asarray(value)
    value = value.reshape((1,) * (node.ndim + 1)) if value.ndim == 0 else value
    return np.broadcast_to(value, value.shape[:1] + node.shape)


def execute(graph: Any, outputs: Sequence[Output], fields: Arrays) -> list[Any]:
    """All arrays of all outputs, in order."""
    results: list[Any] = []
    for output in outputs:
        values = evaluate(output.expressions, graph, fields)
        shapes = output.results()
        if output.reduce == "edge":
            results.append(np.ascontiguousarray(values[0].astype(shapes[0][1])))
            continue
        index = np.asarray(({"u": graph.src, "v": graph.dst} | ids_of_ends(graph))[output.to])
        with np.errstate(all="ignore"):
            results += _reduced(output, values, index, rows_of(graph, output.to))
    return results


def _reduced(output: Output, values: list[Any], index: Any, rows: int) -> list[Any]:
    """The definition of a reduce, for each row with edges; in the order of edge ids."""
    row, made = REDUCES[output.reduce], []
    for empty, (shape, dtype) in zip(row.empty, output.results(), strict=True):
        made.append(np.full((rows, *shape), np.asarray(empty).astype(dtype)))
    if all(array.size == 0 for array in made):
        return made
    order = np.argsort(index, kind="stable")
    bounds = np.searchsorted(index[order], np.arange(rows + 1))
    for number in np.flatnonzero(np.diff(bounds)):
        edges = order[bounds[number] : bounds[number + 1]]
        found = list(row.definition(*[value[edges] for value in values]))
        if row.winner:
            found[-1] = edges[found[-1]]
        for array, value in zip(made, found, strict=True):
            array[number] = value
    return made
