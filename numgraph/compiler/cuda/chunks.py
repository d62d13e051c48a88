"""How the chunks of a long row become the row: a walk too, over rows whose edges are chunks. Everything is
added in a fixed order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.arrays import devices
from numgraph.compiler.cuda.tasks import Level
from numgraph.expressions import expr
from numgraph.expressions.walk import Arrays, Output

Shapes = tuple[tuple[tuple[int, ...], Any], ...]
"""Feature shape and dtype of each array of an output."""
Walk = Callable[[Output, Arrays, list[Any]], None]
"""walk(output, fields, arrays): run a walk over a level's rows, whose results go into arrays."""


def combine(walk: Walk, output: Output, level: Level, made: list[Any]) -> None:
    """The results of a level's chunks become those of its rows. made: the arrays of one output."""
    reduce = output.reduce
    edges = [array[level.first : level.first + level.num_edges] for array in made]
    edges = [
        array.view(np.bool_) if dtype.kind == "b" else array
        for array, (_, dtype) in zip(edges, output.results(), strict=True)
    ]
    shapes = tuple((array.shape[1:], array.dtype) for array in edges)
    fields: Arrays = {("e", f"x{i}"): array for i, array in enumerate(edges)}
    if reduce in ("mean", "var", "std"):
        fields["e", "share"] = level.shares_as(made[0].dtype)
    if reduce in ("max", "min"):
        chunk = devices.namespace_of(made[1]).empty(made[1].shape, made[1].dtype)
        best, winners = _walks(reduce, shapes)
        walk(best, fields, [made[0], chunk])
        fields["v", "chunk"] = chunk
        walk(winners, fields, [made[1]])
    elif reduce in ("var", "std"):
        means, variances = _walks(reduce, shapes)
        walk(means, fields, [made[1]])
        fields["v", "mean"] = made[1]
        walk(variances, fields, [made[0]])
        if reduce == "std":
            rows = level.tasks[3::4]
            made[0][rows] = np.sqrt(made[0][rows])
    else:
        (whole,) = _walks(reduce, shapes)
        walk(whole, fields, made)


def _field(shapes: Shapes, place: int) -> Any:
    """An array of the chunks."""
    return expr.field("e", f"x{place}", *shapes[place])


def _share(shapes: Shapes) -> Any:
    """The part that a chunk's edges have of those of its row."""
    return expr.field("e", "share", (), shapes[0][1])


@functools.lru_cache(maxsize=256)
def _walks(reduce: str, shapes: Shapes) -> tuple[Output, ...]:
    """The walks that make the arrays of an output, in their order."""
    if reduce in ("max", "min"):
        return _combination(reduce, shapes), _winners(shapes)
    if reduce in ("var", "std"):
        return _means(shapes), _variances(reduce, shapes)
    return (_combination(reduce, shapes),)


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
