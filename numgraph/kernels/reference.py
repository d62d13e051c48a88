"""The oracle: a walk in plain NumPy, with an array per edge for every node of the expression. Right, simple, slow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numgraph.expressions import elementary
from numgraph.expressions.expr import Expr, constant_value, topological
from numgraph.expressions.walk import Arrays, Output, rows_of


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """float16 and bfloat16 are storage: they compute in float32."""
    return np.dtype(np.float32) if dtype.itemsize == 2 and dtype.kind not in "iub" else dtype


def evaluate(roots: Sequence[Expr], graph: Any, fields: Arrays) -> list[Any]:
    """The value of every root on every edge, [num_edges, …] in edge-id order."""
    edges = {"u": graph.src, "v": graph.dst, "e": slice(None)}
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
            value = value.reshape(value.shape[:1] + tuple(1 if axis is None else value.shape[axis + 1] for axis in node.attrs))
        elif node.op in ("sum", "max"):
            (arg,) = node.args
            value = getattr(np, node.op)(_full(args[0], arg), axis=tuple(axis + 1 for axis in node.attrs), keepdims=True)
        else:
            with np.errstate(all="ignore"):
                value = elementary.TABLE[node.op].evaluate(*[_aligned(x, arg, node.ndim) for x, arg in zip(args, node.args, strict=True)])
            value = np.asarray(value).astype(dtype, copy=False) if not node.weak else value
        values[id(node)] = value
    edges_shape = (graph.num_edges,)
    return [np.broadcast_to(_aligned(values[id(root)], root, root.ndim), edges_shape + root.shape) for root in roots]


def _aligned(value: Any, node: Expr, rank: int) -> Any:
    """The edge axis first, then feature axes filled up to rank from the left."""
    if np.ndim(value) == 0:
        return value
    return value.reshape(value.shape[:1] + (1,) * (rank - node.ndim) + value.shape[1:]) if rank > node.ndim else value


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
        index = graph.src if output.to == "u" else graph.dst
        with np.errstate(all="ignore"):
            found = _reduce(output.reduce, values, np.asarray(index), rows_of(graph, output.to))
        results += [np.asarray(array).astype(dtype) for array, (_, dtype) in zip(found, shapes, strict=True)]
    return results


def _reduce(reduce: str, values: list[Any], index: Any, rows: int) -> tuple[Any, ...]:
    message = values[-1]
    shape = (rows, *message.shape[1:])
    if reduce in ("sum", "mean"):
        total = np.zeros(shape, message.dtype)
        np.add.at(total, index, message)
        if reduce == "mean":
            degree = np.maximum(np.bincount(index, minlength=rows), 1).reshape((rows,) + (1,) * (total.ndim - 1))
            total = total / degree.astype(total.dtype)
        return (total,)
    if reduce == "prod":
        product = np.ones(shape, message.dtype)
        np.multiply.at(product, index, message)
        return (product,)
    if reduce in ("max", "min"):
        return _extreme(reduce, message, index, shape)
    score = values[0]
    top = np.full((rows, *score.shape[1:]), -np.inf, score.dtype)
    np.maximum.at(top, index, score)
    weight = np.where(score == -np.inf, 0, np.exp(score - top[index])).astype(score.dtype)
    total = np.zeros_like(top)
    np.add.at(total, index, weight)
    if reduce == "logsumexp":
        return top, 1 / total
    rank = max(message.ndim, score.ndim)
    weight, message, divisor = (a.reshape(a.shape[:1] + (1,) * (rank - a.ndim) + a.shape[1:]) for a in (weight, message, total))
    z = np.zeros((rows, *np.broadcast_shapes(weight.shape[1:], message.shape[1:])), message.dtype)
    np.add.at(z, index, weight * message)
    empty = np.bincount(index, minlength=rows) == 0
    return np.where(empty.reshape((rows,) + (1,) * (rank - 1)), 0, z / divisor), top, 1 / total


def _extreme(reduce: str, message: Any, index: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """The first winning edge in edge-id order; NaN wins over everything."""
    best = np.zeros(shape, message.dtype)
    winner = np.full(shape, -1, np.int64)
    for edge, row in enumerate(index):
        value = message[edge]
        better = value > best[row] if reduce == "max" else value < best[row]
        take = (winner[row] < 0) | better | (np.isnan(value) & ~np.isnan(best[row]))
        take &= ~((winner[row] >= 0) & np.isnan(best[row]))
        best[row] = np.where(take, value, best[row])
        winner[row] = np.where(take, edge, winner[row])
    return best, winner
