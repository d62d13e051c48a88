"""What each reduce is, one row each: the arrays that it makes, what it means, its derivative, what a node
without edges gets.

How a reduce runs, step by step and chunk by chunk, stands in one row of compiler/reduces.py. Nothing else
knows one by its name.

The derivative of a reduce is a message again. It reads arrays at the nodes that the forward made or the
backward is given (the gradient, the winning edges, shift and scale of a softmax, …), each known by its name
in NEEDS; whoever differentiates supplies their symbols."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgraph.expressions import expr
from numgraph.expressions.dtypes import is_float
from numgraph.expressions.expr import Expr
from numgraph.expressions.precision import wide

Arrays = list[tuple[tuple[int, ...], np.dtype[Any]]]
"""Feature shape and dtype of each array."""
NeedOf = Callable[[str], Any]
"""The symbol of a node array by its name in NEEDS; None for a gradient that is not there."""


@dataclass(frozen=True)
class Need:
    """An array at the nodes that derivatives read. like: it has the shape and, in full precision, the dtype
    of this array of the output.

    result: it is this array of the output; constant: of which nothing depends on. gradient: it is made of the
    gradient that arrives at this array, and is not there without. rounded: in half precision, if its array
    is. by_degree: divided by the number of edges at the node. dotted: times the array itself, summed over the
    features that one score weights. factor: which output of ``factors`` it is."""

    meaning: str
    like: int = 0
    result: int | None = None
    gradient: int | None = None
    constant: bool = False
    rounded: bool = False
    by_degree: bool = False
    dotted: bool = False
    factor: int | None = None


NEEDS: Mapping[str, Need] = {
    "g": Need("the gradient of z", gradient=0, rounded=True),
    "z": Need("the result itself", result=0),
    "g/degree": Need("the gradient of z over the number of edges at the node", gradient=0, by_degree=True),
    "winner": Need("the id of the winning edge", like=-1, result=-1),
    "mean": Need("the mean of the messages", like=-1, result=-1),
    "g of mean/degree": Need(
        "the gradient of that mean, where something reads it, over the number of edges",
        -1,
        gradient=-1,
        by_degree=True,
    ),
    "shift": Need(
        "near the largest score; a constant, as no weight depends on it", like=-1, result=-2, constant=True
    ),
    "scale": Need("1 / Σ exp(score − shift)", like=-1, result=-1),
    "g of scale": Need("the gradient of scale, where something reads it", like=-1, gradient=-1),
    "⟨g, z⟩": Need(
        "the products of gradient and result, summed over what one score weights",
        like=-1,
        result=0,
        gradient=0,
        dotted=True,
    ),
    "rest": Need("the product of the factors that are not 0", factor=0),
    "zeros": Need("the product of the factors that are 0, and of nothing else", factor=1),
    "num_zeros": Need("how many factors are 0", factor=2),
    "sum_zeros": Need("the sum of the factors that are 0, and of nothing else", factor=3),
}


@dataclass(frozen=True)
class Reduce:
    """What a reduce of a node's messages is. Its expressions are the message alone, or a softmax's score and
    value.

    Parameters
    ----------
    arrays : ``arrays(expressions)`` gives the feature shape and dtype of each array that it makes.
    definition : ``definition(*messages)`` gives these arrays in NumPy, of a node's messages [edges, …],
        of which there is one at least; a winner as its place among them.
    empty : what they are for a node without edges.
    seeds : ``seeds(expressions, need)`` gives the derivative of the loss by each expression, for one edge.
        ``need(name)`` is an array at the node, named in NEEDS: "g", the gradient that arrives, "z", the
        result, "g/degree" and others.
    sign : what ``explain()`` writes before the message.
    kept : what it says of arrays that the backward reads.
    real : integers become float64.
    counted : sums of integers and booleans are int64.
    linear : Σ over features of results is the result of Σ over features.
    winner : its last array is the id of the winning edge, −1 for none.
    scored : the first expression is the score of a softmax.
    message : ``message(φ)`` gives the output's expressions; None for what no user names.
    value : the result of ``update_all`` from the arrays, where that is not the first.
    started : ``started(array, initial, *others)`` gives the result where the reduce starts with ``initial``;
        None: only a node without edges has it.
    """

    arrays: Callable[[Sequence[Expr]], Arrays]
    definition: Callable[..., Sequence[Any]]
    empty: tuple[float, ...]
    seeds: Callable[[Sequence[Expr], NeedOf], Sequence[Any]]
    sign: str = ""
    kept: str = ""
    real: bool = False
    counted: bool = False
    linear: bool = False
    winner: bool = False
    scored: bool = False
    message: Callable[[Expr], tuple[Expr, ...]] | None = lambda phi: (phi,)
    value: Callable[..., Any] | None = None
    started: Callable[..., Any] | None = None


# --- the arrays of results ----------------------------------------------------------------------------------


def one(expressions: Sequence[Expr]) -> Arrays:
    """A result alone, with the shape and dtype of the last expression."""
    return [(expressions[-1].shape, expressions[-1].dtype)]


def _with_winner(expressions: Sequence[Expr]) -> Arrays:
    return [*one(expressions), (expressions[-1].shape, np.dtype(np.int64))]


def _with_mean(expressions: Sequence[Expr]) -> Arrays:
    return [*one(expressions), (expressions[-1].shape, wide(expressions[-1].dtype))]


def _shift_and_scale(expressions: Sequence[Expr]) -> Arrays:
    """The weights of a softmax are exp(score − shift) · scale, and log Σ exp(score) = shift − log(scale). In
    one number they would have the rounding errors of the largest score in every weight."""
    return [(expressions[0].shape, wide(expressions[-1].dtype))] * 2


def _weighted(expressions: Sequence[Expr]) -> Arrays:
    shape = np.broadcast_shapes(expressions[0].shape, expressions[-1].shape)
    return [(shape, expressions[-1].dtype), *_shift_and_scale(expressions)]


# --- derivatives --------------------------------------------------------------------------------------------


def _passed_on(expressions: Sequence[Expr], need: NeedOf) -> list[Any]:
    return [need("g")]


def _shared_out(expressions: Sequence[Expr], need: NeedOf) -> list[Any]:
    return [need("g/degree")]


def _to_the_winner(expressions: Sequence[Expr], need: NeedOf) -> list[Any]:
    """Only the winning edge of each (node, feature) passes the gradient."""
    won: Any = expr.edge_id() == need("winner")
    return [np.where(won, need("g"), 0)]


def factors(phi: Expr) -> list[tuple[Expr, str]]:
    """What a product's derivative needs of φ beside it, as expressions with their reduces: rest, zeros,
    num_zeros and sum_zeros.
    """
    phi = expr.cast(phi, wide(phi.dtype))  # float16 holds fewer products than quotients
    zero: Any = phi == 0
    apart: tuple[Any, ...] = np.where(zero, 1, phi), np.where(zero, phi, 1), np.where(zero, phi, 0)
    return [(apart[0], "prod"), (apart[1], "prod"), (zero.astype(phi.dtype), "sum"), (apart[2], "sum")]


def _others(expressions: Sequence[Expr], need: NeedOf) -> list[Any]:
    """∂z/∂φ_e is the product of the others. With P the product of the factors ≠ 0 and Q that of the zeros,
    which is 1 if there are none: P/φ_e · Q where φ_e ≠ 0, P where φ_e is the only zero, and of two zeros P
    times the other one, their sum less φ_e. What is 0 in value here, Q and the other zero, has derivatives.
    (Of three zeros at a node, only derivatives by all three of them are left out.)"""
    (phi,) = expressions
    zero: Any = phi == 0
    g, rest, zeros, num_zeros, sum_zeros = map(need, ("g", "rest", "zeros", "num_zeros", "sum_zeros"))
    others = np.where(num_zeros == 1, 1, np.where(num_zeros == 2, sum_zeros - phi, 0))
    return [np.where(zero, g * rest * others, g * zeros * rest / np.where(zero, 1, phi))]


def _by_moments(direct: Callable[[Any, Any, NeedOf], Any]) -> Callable[[Sequence[Expr], NeedOf], list[Any]]:
    """Of the variance and the mean beside it, z = f(Σ (φ − mean)² / n): direct(g/n, φ − mean, need) +
    ∂L/∂mean / n. The mean that it reads has derivatives itself, so every order is right."""

    def seeds(expressions: Sequence[Expr], need: NeedOf) -> list[Any]:
        (phi,) = expressions
        g, g_mean = need("g/degree"), need("g of mean/degree")
        found = None if g is None else direct(g, expr.cast(phi, wide(phi.dtype)) - need("mean"), need)
        return [g_mean if found is None else found if g_mean is None else found + g_mean]

    return seeds


def _of_std(g: Any, distance: Any, need: NeedOf) -> Any:
    """g/n · (φ − mean) / z; where z = 0, which is its minimum, 0."""
    z = need("z")
    return np.where(z > 0, g * distance / np.where(z > 0, z, 1), 0)


def _of_weights(expressions: Sequence[Expr], need: NeedOf) -> list[Any]:
    """Of softmax and of logsumexp, which has no value φ. With α = exp(s − shift) · scale: ∂L/∂φ = α·g, and
    ∂L/∂s = α·(⟨g, φ⟩ − ⟨g, z⟩ − scale · ∂L/∂scale).

    The shift is a constant of every order of derivative: what α, z and shift − log(scale) are does not depend
    on it."""
    score, *values = expressions
    scale, g_scale = need("scale"), need("g of scale")
    alpha: Any = np.exp(score - need("shift")) * scale
    inner: Any = 0
    seeds: list[Any] = []
    for value in values:
        g = need("g")
        seeds.append(None if g is None else alpha * g)
        if g is not None:
            inner = expr.unbroadcast(expr.broadcast_to(g * value, g.shape), score.shape) - need("⟨g, z⟩")
    if g_scale is not None:
        inner = inner - g_scale * scale
    if not values:  # log Σ exp of scores of −∞ alone is −∞, and constant
        return [np.where(score == -np.inf, 0, alpha * inner)]
    return [alpha * inner, *seeds]


# --- definitions, in NumPy ----------------------------------------------------------------------------------


def _first(choose: Callable[..., Any]) -> Callable[[Any], Sequence[Any]]:
    """The first of the best, and its place; NaN is the best."""

    def chosen(m: Any) -> Sequence[Any]:
        place = choose(m, axis=0)
        return np.take_along_axis(m, place[None], 0)[0], place

    return chosen


def _weights(score: Any, *masses: Any) -> tuple[Any, Any, Any]:
    top = score.max(axis=0)
    weight = np.where(score == -np.inf, 0, np.exp(score - top)).astype(score.dtype)
    for mass in masses:
        weight = weight * mass
    return weight, top, 1 / weight.sum(axis=0)


def _softmax(score: Any, *rest: Any) -> Sequence[Any]:
    *masses, value = rest
    weight, top, scale = _weights(score, *masses)
    rank = max(value.ndim, weight.ndim)
    weight, value = (a.reshape(a.shape[:1] + (1,) * (rank - a.ndim) + a.shape[1:]) for a in (weight, value))
    return (weight * value).sum(axis=0) * scale, top, scale


_KEPT_WEIGHTS = (
    "α = exp(s − shift_{to}) · scale_{to}; these two, about the largest s and 1 / Σ exp(s − shift_{to}), one "
    "each per node and head, are "
    "all that the forward kept: α is recomputed per edge"
)
_KEPT_WINNER = (
    "win_{to} is the winning edge of each node and feature, kept from the forward: it alone passes the "
    "gradient on"
)
_KEPT_MEAN = "mean_{to} is kept from the forward: the mean of the messages"

REDUCES: dict[str, Reduce] = {
    "sum": Reduce(
        one,
        lambda m: [np.sum(m, axis=0, dtype=m.dtype)],
        (0,),
        _passed_on,
        "Σ",
        counted=True,
        linear=True,
        started=lambda z, initial: z + initial,
    ),
    "mean": Reduce(
        one,
        lambda m: [np.sum(m, axis=0, dtype=m.dtype) / m.dtype.type(len(m))],
        (0,),
        _shared_out,
        "mean",
        "g_{to}/deg_{to}: every edge passes on the same share of the gradient, 1/degree",
        real=True,
        linear=True,
    ),
    "max": Reduce(
        _with_winner,
        _first(np.argmax),
        (0, -1),
        _to_the_winner,
        "max",
        _KEPT_WINNER,
        winner=True,
        started=lambda z, initial, winner: np.where((winner >= 0) & ((z > initial) | (z != z)), z, initial),
    ),
    "min": Reduce(
        _with_winner,
        _first(np.argmin),
        (0, -1),
        _to_the_winner,
        "min",
        _KEPT_WINNER,
        winner=True,
        started=lambda z, initial, winner: np.where((winner >= 0) & ((z < initial) | (z != z)), z, initial),
    ),
    "prod": Reduce(
        one,
        lambda m: [np.prod(m, axis=0, dtype=m.dtype)],
        (1,),
        _others,
        "Π",
        "the derivative by a factor is the product of the others; rest_{to}: product of the factors ≠ 0, "
        "zeros_{to}: of those that "
        "are 0, num_zeros_{to}: their number, sum_zeros_{to}: their sum",
        counted=True,
        started=lambda z, initial: z * initial,
    ),
    "var": Reduce(
        _with_mean,
        lambda m: [np.var(m, axis=0), np.mean(m, axis=0)],
        (0, 0),
        _by_moments(lambda g, distance, need: g * (2 * distance)),
        "var",
        _KEPT_MEAN,
        real=True,
    ),
    "std": Reduce(
        _with_mean,
        lambda m: [np.std(m, axis=0), np.mean(m, axis=0)],
        (0, 0),
        _by_moments(_of_std),
        "std",
        _KEPT_MEAN,
        real=True,
    ),
    "softmax": Reduce(
        _weighted,
        _softmax,
        (0, -np.inf, np.inf),
        _of_weights,
        "Σ α ·",
        _KEPT_WEIGHTS,
        real=True,
        scored=True,
        message=lambda phi: (phi, phi),
    ),
    "logsumexp": Reduce(
        _shift_and_scale,
        lambda *m: _weights(*m)[1:],
        (-np.inf, np.inf),
        _of_weights,
        "log Σ exp",
        _KEPT_WEIGHTS,
        real=True,
        scored=True,
        value=lambda shift, scale: np.where(shift == np.inf, shift, shift - np.log(scale)),
        started=lambda z, initial: np.logaddexp(z, initial),
    ),
    "edge": Reduce(one, lambda m: [m], (), _passed_on, message=None),
}
"""By name. "edge" is none: it stores each edge's value."""

NAMES = [name for name, row in REDUCES.items() if row.message is not None]
"""The reduces of update_all."""


def message_of(reduce: str, phi: Expr) -> tuple[Expr, ...]:
    """The expressions of an output that reduces the message φ."""
    row = REDUCES[reduce]
    assert row.message is not None
    if row.real and not is_float(phi.dtype):
        phi = phi.astype(np.float64)
    elif row.counted and phi.dtype.kind in "biu":
        phi = phi.astype(np.int64)
    return row.message(phi)


def needed(expressions: Sequence[Expr], reduce: str, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Feature shape and dtype of an array of NEEDS, without the array. What is made for the derivative is not
    rounded to half precision.
    """
    need = NEEDS[name]
    shape, dtype = REDUCES[reduce].arrays(expressions)[need.like]
    return shape, dtype if need.rounded else wide(dtype)
