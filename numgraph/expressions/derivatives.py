"""The derivative of a walk, as expressions only: what message.py runs in the backward and explaining.py prints.

The derivative of a reduce is a message again. It reads arrays at the nodes that the forward made or the backward is given (the gradient,
the winning edges, shift and scale of a softmax, …), each known here by its name; whoever calls supplies their symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from numgraph.expressions import elementary, expr
from numgraph.expressions.expr import Expr
from numgraph.expressions.precision import wide
from numgraph.expressions.walk import Output

Key = tuple[str, str]
Need = Callable[[str], Any]
"""The symbol of a node array by its name in NEEDS; None for a gradient that is not there."""


def derive(outputs: Sequence[Output], needs: Sequence[Need | None], wanted: Sequence[Key]) -> dict[Key, Output]:
    """The walk of the backward: for each wanted field that the loss depends on, the output that is its gradient.

    needs: for each output the symbols of its arrays, or None if no gradient arrives at it.
    """
    roots: list[Expr] = []
    seeds: list[Expr | None] = []
    for output, need in zip(outputs, needs, strict=True):
        if need is not None:
            roots += output.expressions
            seeds += SEEDS[output.reduce](output, need)
    leaves = {leaf.attrs: leaf for leaf in expr.leaves_of(roots)}
    read = [key for key in wanted if key in leaves]
    found = gradients(roots, seeds, [leaves[key] for key in read])
    return {key: _summed_at(key, gradient) for key, gradient in zip(read, found, strict=True) if gradient is not None}


def _summed_at(key: Key, gradient: Expr) -> Output:
    """Where the gradient of a field is summed: at the field's own node or edge; a shared field's in every v, and then over v, whose sums
    are not rounded to half precision before."""
    target = key[0]
    if target == "shared":
        gradient = expr.cast(gradient, wide(gradient.dtype))
    return Output((gradient,), "e", "edge") if target == "e" else Output((gradient,), "u" if target == "u" else "v", "sum")


def gradients(roots: Sequence[Expr], seeds: Sequence[Expr | None], wrt: Sequence[Expr]) -> list[Expr | None]:
    """Reverse-mode derivatives of Σ ⟨seed, root⟩ with respect to leaves, as expressions (None where there is no dependence).

    Shapes: a seed has its root's shape, a gradient its leaf's shape and dtype.
    """
    order = expr.topological(roots)
    active: set[int] = {id(leaf) for leaf in wrt}
    for node in order:
        if expr.is_float(node.dtype) and any(id(arg) in active for arg in node.args):
            active.add(id(node))
    adjoints: dict[int, Expr] = {}

    def accumulate(node: Expr, value: Any) -> None:
        if value is None or id(node) not in active or not expr.is_float(node.dtype):
            return
        value = expr.unbroadcast(expr.broadcast_to(expr.lift(value), np.broadcast_shapes(expr.lift(value).shape, node.shape)), node.shape)
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


def needed_shape(output: Output, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Feature shape and dtype of an array of NEEDS, without the array. What is made for the derivative is not rounded to half precision."""
    results = output.results()
    if name in ("shift", "scale", "⟨g, z⟩", "g of scale", "winner"):
        return results[-1]
    shape, dtype = results[0]
    return shape, dtype if name == "g" else wide(dtype)


NEEDS: Mapping[str, str] = {
    "g": "the gradient of z",
    "g/degree": "the gradient of z over the number of edges at the node",
    "winner": "the id of the winning edge",
    "shift": "what is subtracted from the scores: near their maximum, and a constant, as no weight depends on it",
    "scale": "1 / Σ exp(score − shift)",
    "g of scale": "the gradient of scale, where something reads it",
    "⟨g, z⟩": "the products of gradient and result, summed over what one score weights",
    "rest": "the product of the factors that are not 0",
    "zeros": "the product of the factors that are 0, and of nothing else",
    "num_zeros": "how many factors are 0",
    "sum_zeros": "the sum of the factors that are 0, and of nothing else",
}
"""The arrays at the nodes that derivatives of reduces read."""


def factors(phi: Expr, to: str) -> tuple[Output, ...]:
    """The walk that makes rest, zeros, num_zeros and sum_zeros of a product of φ."""
    phi = expr.cast(phi, wide(phi.dtype))  # float16 holds fewer products than quotients
    zero: Any = phi == 0
    apart: tuple[Any, ...] = np.where(zero, 1, phi), np.where(zero, phi, 1), np.where(zero, phi, 0)
    return (
        Output((apart[0],), to, "prod"),
        Output((apart[1],), to, "prod"),
        Output((zero.astype(phi.dtype),), to, "sum"),
        Output((apart[2],), to, "sum"),
    )


# Each reduce's seeds: the derivative of the loss by each expression of the output, for one edge, as an expression.


def _seed_sum(output: Output, need: Need) -> list[Expr]:
    return [need("g")]


def _seed_mean(output: Output, need: Need) -> list[Expr]:
    return [need("g/degree")]


def _seed_extreme(output: Output, need: Need) -> list[Any]:
    """Only the winning edge of each (node, feature) passes the gradient."""
    won: Any = expr.edge_id() == need("winner")
    return [np.where(won, need("g"), 0)]


def _seed_prod(output: Output, need: Need) -> list[Any]:
    """∂z/∂φ_e is the product of the others. With P the product of the factors ≠ 0 and Q that of the zeros, which is 1 if there are none:
    P/φ_e · Q where φ_e ≠ 0, P where φ_e is the only zero, and of two zeros P times the other one, their sum less φ_e. What is 0 in value
    here, Q and the other zero, has derivatives. (Of three zeros at a node, only derivatives by all three of them are left out.)"""
    (phi,) = output.expressions
    zero: Any = phi == 0
    g, rest, zeros, num_zeros, sum_zeros = map(need, ("g", "rest", "zeros", "num_zeros", "sum_zeros"))
    others = np.where(num_zeros == 1, 1, np.where(num_zeros == 2, sum_zeros - phi, 0))
    return [np.where(zero, g * rest * others, g * zeros * rest / np.where(zero, 1, phi))]


def _seed_softmax(output: Output, need: Need) -> list[Expr | None]:
    """Of softmax and of logsumexp, which has no value φ. With α = exp(s − shift) · scale: ∂L/∂φ = α·g, and
    ∂L/∂s = α·(⟨g, φ⟩ − ⟨g, z⟩ − scale · ∂L/∂scale).

    The shift is a constant of every order of derivative: what α, z and shift − log(scale) are does not depend on it.
    """
    score, *values = output.expressions
    scale, g_scale = need("scale"), need("g of scale")
    alpha: Any = np.exp(score - need("shift")) * scale
    inner: Any = 0
    seeds: list[Expr | None] = []
    for value in values:
        g = need("g")
        seeds.append(None if g is None else alpha * g)
        if g is not None:
            inner = expr.unbroadcast(expr.broadcast_to(g * value, g.shape), score.shape) - need("⟨g, z⟩")
    if g_scale is not None:
        inner = inner - g_scale * scale
    return [alpha * inner, *seeds]


SEEDS: dict[str, Callable[[Output, Need], Sequence[Expr | None]]] = {
    "sum": _seed_sum,
    "edge": _seed_sum,
    "mean": _seed_mean,
    "max": _seed_extreme,
    "min": _seed_extreme,
    "prod": _seed_prod,
    "softmax": _seed_softmax,
    "logsumexp": _seed_softmax,
}
