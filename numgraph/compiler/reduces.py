"""How each reduce runs: what it starts with, its step for an edge, how lanes of edges and chunks of a row
become one, what a row stores.

A reduce is one row of REDUCES; what it is, and its derivative, stand in its row of expressions/reduces.py.
Its functions are written with operators of values, which write the records of a program; ``chunks`` is
NumPy's, as a row that is too long for one thread is rare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgraph.expressions import elementary

INF = float("inf")
SLACK = 8
"""How far a score may exceed the shift of its row's exponentials before they are rescaled: sums grow by e^8
at most.
"""
State = Sequence[Any]


@dataclass(frozen=True)
class Part:
    """One value of a reduce's state.

    Parameters
    ----------
    start : what it is before the first edge.
    message : along the lanes of which message it lies (a place among them); None for one number a row.
    dtype : what it is kept in; None for that of the message, "ids" for edge ids.
    """

    start: Any
    message: int | None
    dtype: str | None = None


@dataclass(frozen=True)
class Reduce:
    """How a kernel runs a reduce. All but ``chunks`` is called once, with values that write a program.

    Parameters
    ----------
    parts : the state.
    step : ``step(state, messages)`` gives the state after an edge.
    folded : ``folded(state, fold)`` gives the state of edges that were side by side,
        where ``fold(op, value)`` folds over them; None where their order counts.
    finish : ``finish(state, degree)`` gives the arrays of a row.
    chunks : ``chunks(made, counts)`` gives the arrays of a row from those of its chunks, [chunks, …] each,
        and how many edges each has; in NumPy.
    raised : ``raised(state, messages)`` comes before the step: (condition, state) pairs, of which each state
        is computed only where its condition holds in any lane.
    winner : whether the last message is the edge's id.
    """

    parts: tuple[Part, ...]
    step: Callable[[State, State], Sequence[Any]]
    folded: Callable[[State, Callable[[str, Any], Any]], Sequence[Any]] | None
    finish: Callable[[State, Any], Sequence[Any]]
    chunks: Callable[[list[Any], Any], Sequence[Any]]
    raised: Callable[[State, State], Sequence[tuple[Any, Callable[[], Sequence[Any]]]]] | None = None
    winner: bool = False


where = elementary.where


def _along(counts: Any, like: Any) -> Any:
    """Numbers of chunks as an array that broadcasts against those of chunks."""
    return counts.astype(like.dtype).reshape((-1,) + (1,) * (like.ndim - 1))


# --- softmax: shift m, total l = Σ exp(s − m), and weighted sum z. A score that exceeds m by more than SLACK
# becomes the new m


def _raised(state: State, messages: State) -> Sequence[tuple[Any, Callable[[], Sequence[Any]]]]:
    """Once a row, and rarely again: only then are there sums to rescale. s − m is taken anew afterwards, as
    it is NaN for a score of +∞.
    """
    top, *sums = state
    score = messages[0]
    up = score - top > SLACK

    def rescaled() -> Sequence[Any]:
        scale = where(up, np.exp(-(score - top)), 1.0)
        return top, *[part * scale for part in sums]

    return (up & (top > -INF), rescaled), (up, lambda: (where(up, score, top), *sums))


def _weight(state: State, messages: State) -> Any:
    score, top = messages[0], state[0]
    weight = where(score == -INF, 0.0, np.exp(score - top))
    return weight


def _softmax(state: State, messages: State) -> Sequence[Any]:
    top, total, z = state
    _, *masses, value = messages
    weight = _weight(state, messages)
    for mass in masses:
        weight = weight * mass
    return top, total + weight, z + weight * value


def _logsumexp(state: State, messages: State) -> Sequence[Any]:
    top, total = state
    weight = _weight(state, messages)
    for mass in messages[1:]:
        weight = weight * mass
    return top, total + weight


def _of_largest(state: State, fold: Callable[[str, Any], Any]) -> Sequence[Any]:
    """States of a softmax as one, whose shift is the largest; −∞, that of no edge, counts nothing."""
    top = fold("maximum", state[0])
    scale = where(state[0] == -INF, 0.0, np.exp(state[0] - top))
    return top, *[fold("add", part * scale) for part in state[1:]]


def _of_softmax_chunks(made: list[Any], counts: Any) -> Sequence[Any]:
    """A chunk of scores of −∞ has 1 / scale = 0, and its z is 0 / 0."""
    *values, shift, scale = made
    top, masked = np.max(shift, axis=0), np.isneginf(shift)
    weight = np.where(masked, 0, np.exp(shift - top)) / scale
    total = np.sum(weight, axis=0)
    for place, z in enumerate(values):
        shape = shift.shape[:1] + (1,) * (z.ndim - shift.ndim) + shift.shape[1:]
        z = np.sum(np.where(masked.reshape(shape), 0, weight.reshape(shape) * z), axis=0) / total.reshape(
            shape[1:]
        )
        values[place] = z
    return *values, top, 1 / total


# --- var and std: the number n of messages, their mean and Σ (x − mean)² (Welford, 1962), put together by
# Chan, Golub and LeVeque (1983)


def _moments(state: State, messages: State) -> Sequence[Any]:
    (n, mean, squares), (x,) = state, messages
    n = n + 1
    distance = x - mean
    mean = mean + distance * (1 / n)
    return n, mean, squares + distance * (x - mean)


def _joined_moments(state: State, fold: Callable[[str, Any], Any]) -> Sequence[Any]:
    n, mean, squares = state
    count = fold("add", n)
    center = fold("add", mean * n) / np.maximum(count, 1)
    distance = mean - center
    return count, center, fold("add", squares + distance * distance * n)


def _variance(state: State, degree: Any) -> Sequence[Any]:
    n, mean, squares = state
    return squares / np.maximum(n, 1), mean


def _deviation(state: State, degree: Any) -> Sequence[Any]:
    variance, mean = _variance(state, degree)
    return np.sqrt(variance), mean


def _of_moments(made: list[Any], counts: Any) -> Sequence[Any]:
    """made: variances and means."""
    n = _along(counts, made[0])
    state = n, made[1], made[0] * n
    return _variance(_joined_moments(state, lambda op, value: np.sum(value, axis=0)), None)


def _of_deviations(made: list[Any], counts: Any) -> Sequence[Any]:
    variance, mean = _of_moments([made[0] * made[0], made[1]], counts)
    return np.sqrt(variance), mean


# --- max and min: a message replaces the best if it is the first, is better, or is the first NaN. That it is
# the first is asked once an edge, not in every lane


def _first_edge(state: State, messages: State) -> Sequence[tuple[Any, Callable[[], Sequence[Any]]]]:
    """Of rows side by side, some may have none yet while others are past it."""
    new = state[2] < 0
    return ((new, lambda: [where(new, now, old) for now, old in zip((*messages, messages[1]), state)]),)


def _extreme(no_better: Callable[[Any, Any], Any]) -> Callable[[State, State], Sequence[Any]]:
    """A comparison is not true of NaN, which so replaces what is a number."""

    def step(state: State, messages: State) -> Sequence[Any]:
        (best, winner, first), (value, edge) = state, messages
        take = np.logical_not(no_better(value, best))
        if value.type.dtype.startswith("float"):
            take = take & (best == best)
        return where(take, value, best), where(take, edge, winner), first

    return step


def _best(state: State, degree: Any) -> Sequence[Any]:
    return state[:2]


def _mean(state: State, degree: Any) -> Sequence[Any]:
    return (state[0] / np.maximum(degree, 1).cast(state[0].type.dtype),)


def _normalised(state: State, degree: Any) -> Sequence[Any]:
    top, total, *z = state
    values = [where(degree == 0, 0.0, part / total) for part in z]
    return *values, top, 1.0 / total


def _mean_of_chunks(made: list[Any], counts: Any) -> Sequence[Any]:
    return (np.sum(made[0] * _along(counts / counts.sum(), made[0]), axis=0),)


def _first(choose: Callable[..., Any]) -> Callable[[list[Any], Any], Sequence[Any]]:
    """The first chunk with the best value; NaN is the best, as in the kernel."""

    def chosen(made: list[Any], counts: Any) -> Sequence[Any]:
        first = choose(made[0], axis=0)[None]
        return [np.take_along_axis(array, first, axis=0)[0] for array in made]

    return chosen


def _over_chunks(function: Callable[..., Any]) -> Callable[[list[Any], Any], Sequence[Any]]:
    return lambda made, counts: (function(made[0], axis=0, dtype=made[0].dtype),)


def _as_they_are(state: State, degree: Any) -> Sequence[Any]:
    return state


def _each(op: str) -> Callable[[State, Callable[[str, Any], Any]], Sequence[Any]]:
    return lambda state, fold: (fold(op, state[0]),)


def _added(state: State, messages: State) -> Sequence[Any]:
    return (state[0] + messages[0],)


def _multiplied(state: State, messages: State) -> Sequence[Any]:
    return (state[0] * messages[0],)


_SHIFT, _ZERO = Part(-INF, 0), Part(0, 0)
_BEST = (_ZERO, Part(-1, 0, "ids"), Part(-1, None, "ids"))
_MOMENTS = (Part(0, None), _ZERO, _ZERO)
_MORE, _LESS = _extreme(lambda a, b: a <= b), _extreme(lambda a, b: a >= b)

REDUCES: dict[str, Reduce] = {
    "sum": Reduce((_ZERO,), _added, _each("add"), _as_they_are, _over_chunks(np.sum)),
    "mean": Reduce((_ZERO,), _added, _each("add"), _mean, _mean_of_chunks),
    "prod": Reduce((Part(1, 0),), _multiplied, _each("multiply"), _as_they_are, _over_chunks(np.prod)),
    "max": Reduce(_BEST, _MORE, None, _best, _first(np.argmax), _first_edge, winner=True),
    "min": Reduce(_BEST, _LESS, None, _best, _first(np.argmin), _first_edge, winner=True),
    "var": Reduce(_MOMENTS, _moments, _joined_moments, _variance, _of_moments),
    "std": Reduce(_MOMENTS, _moments, _joined_moments, _deviation, _of_deviations),
    "softmax": Reduce(
        (_SHIFT, _ZERO, Part(0, -1)), _softmax, _of_largest, _normalised, _of_softmax_chunks, _raised
    ),
    "logsumexp": Reduce((_SHIFT, _ZERO), _logsumexp, _of_largest, _normalised, _of_softmax_chunks, _raised),
}
"""The reduces; "edge" is none: it stores each edge's value."""
