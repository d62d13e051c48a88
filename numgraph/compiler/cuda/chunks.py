"""How the chunks of a long row become the row: a walk too, over rows whose edges are chunks. Everything is
added in a fixed order.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from numgraph.compiler.target import Made
from numgraph.expressions import expr
from numgraph.expressions.walk import Key, Output

Shapes = tuple[tuple[tuple[int, ...], Any], ...]
"""Feature shape and dtype of each array of an output."""
SCRATCH = 2
"""The place of memory that a walk of a maximum makes for the next one, behind the arrays of the output."""
SHARE = ("e", "share")
"""The field that has the part of a row's edges that are in a chunk."""


class Step(NamedTuple):
    """A walk over a level's rows, whose edges are chunks. reads: which array of the output each of its fields
    is, but the shares; those of chunks begin where the level's do. makes: the arrays that it makes."""

    output: Output
    reads: dict[Key, int]
    makes: tuple[int, ...]


def shapes_of(made: Made) -> Shapes:
    """Those of the arrays of an output, as they are put together."""
    return tuple(
        [
            (shape, np.dtype(stored))
            for (shape, _), stored in zip(made.output.results(), made.stored, strict=True)
        ]
    )


@functools.lru_cache(maxsize=256)
def steps(reduce: str, shapes: Shapes) -> tuple[Step, ...]:
    """The walks after which the results of a level's chunks are those of its rows, but that for std these are
    squares still.
    """
    reads: dict[Key, int] = {("e", f"x{place}"): place for place in range(len(shapes))}
    if reduce in ("max", "min"):
        return (
            Step(_combination(reduce, shapes), reads, (0, SCRATCH)),
            Step(_winners(shapes), {**reads, ("v", "chunk"): SCRATCH}, (1,)),
        )
    if reduce in ("var", "std"):
        return (
            Step(_means(shapes), reads, (1,)),
            Step(_variances(reduce, shapes), {**reads, ("v", "mean"): 1}, (0,)),
        )
    return (Step(_combination(reduce, shapes), reads, tuple(range(len(shapes)))),)


def _field(shapes: Shapes, place: int) -> Any:
    """An array of the chunks."""
    return expr.field("e", f"x{place}", *shapes[place])


def _share(shapes: Shapes) -> Any:
    """The part that a chunk's edges have of those of its row."""
    return expr.field(*SHARE, (), shapes[0][1])


def _combination(reduce: str, shapes: Shapes) -> Output:
    """The walk that makes all arrays of an output."""
    x = [_field(shapes, place) for place in range(len(shapes))]
    if reduce in ("softmax", "logsumexp"):
        *values, shift, scale = x
        values = [np.where(shift == -np.inf, 0, z) for z in values]  # z of a masked chunk is 0 / 0
        return Output((shift, 1 / scale, *values), "v", reduce)
    if reduce == "mean":
        return Output((x[0] * _share(shapes),), "v", "sum")
    return Output((x[0],), "v", reduce)


def _winners(shapes: Shapes) -> Output:
    """The walk that looks up the winning edge of the winning chunk."""
    chosen: Any = expr.edge_id() == expr.field("v", "chunk", *shapes[1])
    edge: Any = np.where(chosen, _field(shapes, 1), 0)
    return Output((edge,), "v", "sum")


def _means(shapes: Shapes) -> Output:
    """The walk that makes the mean of all edges."""
    return Output((_field(shapes, 1) * _share(shapes),), "v", "sum")


def _variances(reduce: str, shapes: Shapes) -> Output:
    """The walk that makes the variance of all edges: the mean of each chunk's, and of its squared distance
    from the mean of all.
    """
    x, distance = _field(shapes, 0), _field(shapes, 1) - expr.field("v", "mean", *shapes[1])
    own = x * x if reduce == "std" else x
    return Output(((own + distance * distance) * _share(shapes),), "v", "sum")
