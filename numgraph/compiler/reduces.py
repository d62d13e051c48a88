"""How each reduce runs: what it starts with, its step for an edge, how lanes of edges become one, and what a row stores. Mathematics only.

A reduce is one row of REDUCES. Its functions are written with operators of values, which write the records of a program. Edges side by side
in lanes are put together by ``folded``; the chunks of a row that is too long for one thread by kernels/balance.py, in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgraph.kernels.reducing import SLACK

INF = float("inf")
State = Sequence[Any]


@dataclass(frozen=True)
class Part:
    """One value of a reduce's state. start: what it is before the first edge; message: along the lanes of which message it lies (a place
    among them); dtype: what it is kept in, None for that of the message, "ids" for edge ids."""

    start: Any
    message: int
    dtype: str | None = None


@dataclass(frozen=True)
class Reduce:
    """parts: the state. step(state, messages) gives a state; finish(state, degree) gives the arrays.

    folded(state, fold): the state of edges that were side by side, where fold(op, value) folds over them; None where their order counts.

    raised(state, messages), where there is one, comes before the step and only where its condition holds in any lane: (condition, state).
    winner: the last message is the edge's id.
    """

    parts: tuple[Part, ...]
    step: Callable[[State, State], Sequence[Any]]
    folded: Callable[[State, Callable[[str, Any], Any]], Sequence[Any]] | None
    finish: Callable[[State, Any], Sequence[Any]]
    raised: Callable[[State, State], tuple[Any, Callable[[], Sequence[Any]]]] | None = None
    winner: bool = False


def where(condition: Any, a: Any, b: Any) -> Any:
    return condition.builder.op("where", condition, a, b)


# --- softmax: shift m, total l = Σ exp(s − m), and weighted sum z. A score that exceeds m by more than SLACK becomes the new m ------------


def _raised(state: State, messages: State) -> tuple[Any, Callable[[], Sequence[Any]]]:
    """Rarely: once or a few times a row. s − m is taken anew afterwards, as it is NaN for a score of +∞."""
    top, *sums = state
    score = messages[0]
    up = score - top > SLACK

    def state_there() -> Sequence[Any]:
        scale = where(up, np.exp(-(score - top)), 1.0)
        return where(up, score, top), *[part * scale for part in sums]

    return up, state_there


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


# --- max and min: a message replaces the best if it is the first, is better, or is the first NaN ------------------------------------------


def _extreme(better: Callable[[Any, Any], Any]) -> Callable[[State, State], Sequence[Any]]:
    def step(state: State, messages: State) -> Sequence[Any]:
        (best, winner), (value, edge) = state, messages
        take = (winner < 0) | better(value, best)
        if value.type.dtype.startswith("float"):
            take = take | (value != value) & (best == best)
        return where(take, value, best), where(take, edge, winner)

    return step


def _mean(state: State, degree: Any) -> Sequence[Any]:
    return (state[0] / np.maximum(degree, 1).cast(state[0].type.dtype),)


def _normalised(state: State, degree: Any) -> Sequence[Any]:
    top, total, *z = state
    values = [where(degree == 0, 0.0, part / total) for part in z]
    return *values, top, 1.0 / total


def _each(op: str) -> Callable[[State, Callable[[str, Any], Any]], Sequence[Any]]:
    return lambda state, fold: (fold(op, state[0]),)


def _added(state: State, messages: State) -> Sequence[Any]:
    return (state[0] + messages[0],)


_SHIFT, _TOTAL = Part(-INF, 0), Part(0, 0)

REDUCES = {
    "sum": Reduce((Part(0, 0),), _added, _each("add"), lambda state, degree: state),
    "mean": Reduce((Part(0, 0),), _added, _each("add"), _mean),
    "prod": Reduce((Part(1, 0),), lambda state, x: (state[0] * x[0],), _each("multiply"), lambda state, degree: state),
    "max": Reduce((Part(0, 0), Part(-1, 0, "ids")), _extreme(lambda a, b: a > b), None, lambda state, degree: state, winner=True),
    "min": Reduce((Part(0, 0), Part(-1, 0, "ids")), _extreme(lambda a, b: a < b), None, lambda state, degree: state, winner=True),
    "softmax": Reduce((_SHIFT, _TOTAL, Part(0, -1)), _softmax, _of_largest, _normalised, _raised),
    "logsumexp": Reduce((_SHIFT, _TOTAL), _logsumexp, _of_largest, _normalised, _raised),
}
"""The reduces; "edge" is none: it stores each edge's value."""
