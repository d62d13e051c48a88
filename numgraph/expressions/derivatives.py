"""The derivative of a walk, as expressions only: what propagate.py runs in the backward and explaining.py
prints.

That of a reduce stands in its row (reduces.py): a message again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numgraph.expressions import elementary, expr
from numgraph.expressions.expr import Expr
from numgraph.expressions.precision import wide
from numgraph.expressions.reduces import REDUCES, NeedOf, factors
from numgraph.expressions.traversal import leaves_of, topological
from numgraph.expressions.walk import Output

Key = tuple[str, str]


def derive(
    outputs: Sequence[Output], needs: Sequence[NeedOf | None], wanted: Sequence[Key]
) -> dict[Key, Output]:
    """The walk of the backward: for each wanted field that the loss depends on, the output that is its
    gradient.

    needs: for each output the symbols of its arrays, or None if no gradient arrives at it.
    """
    roots: list[Expr] = []
    seeds: list[Expr | None] = []
    for output, need in zip(outputs, needs, strict=True):
        if need is not None:
            roots += output.expressions
            seeds += REDUCES[output.reduce].seeds(output.expressions, need)
    leaves = {leaf.attrs: leaf for leaf in leaves_of(roots)}
    read = [key for key in wanted if key in leaves]
    found = gradients(roots, seeds, [leaves[key] for key in read])
    return {
        key: _summed_at(key, gradient)
        for key, gradient in zip(read, found, strict=True)
        if gradient is not None
    }


def _summed_at(key: Key, gradient: Expr) -> Output:
    """Where the gradient of a field is summed: at the field's own node, edge or other end; a shared field's
    in every v, and then over v, whose sums are not rounded to half precision before."""
    target = key[0]
    if target == "shared":
        gradient = expr.cast(gradient, wide(gradient.dtype))
    return (
        Output((gradient,), "e", "edge")
        if target == "e"
        else Output((gradient,), "v" if target == "shared" else target, "sum")
    )


def factor_walk(output: Output) -> tuple[Output, ...]:
    """The walk that makes what the derivative of a product needs beside it."""
    return tuple(
        [Output((expression,), output.to, reduce) for expression, reduce in factors(output.expressions[0])]
    )


def gradients(roots: Sequence[Expr], seeds: Sequence[Expr | None], wrt: Sequence[Expr]) -> list[Expr | None]:
    """Reverse-mode derivatives of Σ ⟨seed, root⟩ with respect to leaves, as expressions (None where there is
    no dependence).

    Shapes: a seed has its root's shape, a gradient its leaf's shape and dtype.
    """
    order = topological(roots)
    active: set[int] = {id(leaf) for leaf in wrt}
    for node in order:
        if expr.is_float(node.dtype) and any(id(arg) in active for arg in node.args):
            active.add(id(node))
    adjoints: dict[int, Expr] = {}

    def accumulate(node: Expr, value: Any) -> None:
        if value is None or id(node) not in active or not expr.is_float(node.dtype):
            return
        value = expr.unbroadcast(
            expr.broadcast_to(expr.lift(value), np.broadcast_shapes(expr.lift(value).shape, node.shape)),
            node.shape,
        )
        known = adjoints.get(id(node))
        adjoints[id(node)] = value if known is None else known + value

    for root, seed in zip(roots, seeds, strict=True):
        accumulate(root, seed)
    for node in reversed(order):
        g = adjoints.get(id(node))
        if g is None or not node.args:
            continue
        for arg, value in zip(node.args, _operand_gradients(node, g), strict=True):
            accumulate(arg, value)
    found = [adjoints.get(id(leaf)) for leaf in wrt]
    return [None if g is None else expr.cast(g, leaf.dtype) for g, leaf in zip(found, wrt, strict=True)]


def _operand_gradients(node: Expr, g: Expr) -> Sequence[Any]:
    if node.op == "cast":
        return (g,)
    if node.op == "broadcast":
        return (g,)
    if node.op == "axes":
        (arg,) = node.args
        back = tuple(node.attrs.index(i) if i in node.attrs else None for i in range(arg.ndim))
        return (expr.view_axes(g, back),)
    if node.op == "sum":
        return (expr.broadcast_to(g, node.args[0].shape),)
    if node.op == "max":
        (arg,) = node.args
        hit = (arg == node).astype(node.dtype)
        return (hit * (g / expr.reduce_axes("sum", hit, node.attrs, True)),)
    vjp = elementary.TABLE[node.op].vjp
    if vjp is None:
        return tuple(None for _ in node.args)
    full = expr.broadcast_to(g, node.shape)
    return vjp(full, node, *node.args)
