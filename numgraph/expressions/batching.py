"""A walk over a batch of fields: its expressions with one more feature axis, the first, for the batch."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from numgraph.expressions import elementary, expr
from numgraph.expressions.derivatives import Key
from numgraph.expressions.expr import Expr
from numgraph.expressions.traversal import topological
from numgraph.expressions.walk import Output


def batched(outputs: Sequence[Output], size: int, which: Collection[Key]) -> tuple[Output, ...]:
    """The outputs for ``size`` batches. The fields in ``which`` have one each, along their first feature
    axis, and so has every result.
    """
    made: dict[Expr, Expr] = {}
    for node in topological([expression for output in outputs for expression in output.expressions]):
        made[node] = _batched(node, [made[arg] for arg in node.args], size, which)

    def whole(node: Expr) -> Expr:
        found = made[node]
        if found.ndim == node.ndim:
            found = expr.view_axes(found, (None, *range(node.ndim)))
        return expr.broadcast_to(found, (size, *node.shape))

    return tuple(
        [Output(tuple(map(whole, output.expressions)), output.to, output.reduce) for output in outputs]
    )


def _batched(node: Expr, args: Sequence[Expr], size: int, which: Collection[Key]) -> Expr:
    if node.op == "field" and node.attrs in which:
        return expr.field(*node.attrs, (size, *node.shape), node.dtype)
    if all(new.ndim == arg.ndim for new, arg in zip(args, node.args, strict=True)):
        return node
    if node.op == "axes":
        return expr.view_axes(args[0], (0, *[None if axis is None else axis + 1 for axis in node.attrs]))
    if node.op == "broadcast":
        return expr.broadcast_to(_aligned(args[0], node.args[0], node.ndim), (size, *node.shape))
    if node.op in ("sum", "max"):
        return expr.reduce_axes(node.op, args[0], tuple(axis + 1 for axis in node.attrs), keepdims=True)
    if node.op == "cast":
        return expr.cast(args[0], node.dtype)
    ndim = max(arg.ndim for arg in node.args)
    return expr.apply(
        elementary.TABLE[node.op],
        [_aligned(new, arg, ndim) for new, arg in zip(args, node.args, strict=True)],
    )


def _aligned(new: Expr, old: Expr, ndim: int) -> Expr:
    """A batched operand with as many feature axes as the others have: the new ones stand behind the
    batch's.
    """
    if new.ndim == old.ndim or old.ndim == ndim:
        return new
    return expr.view_axes(new, (0, *[None] * (ndim - old.ndim), *range(1, new.ndim)))
