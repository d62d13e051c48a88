"""Walks over a process's shard while rows of its ghosts are on their way: the interior first, which needs none of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numgraph.arrays import recycling
from numgraph.compiler import execute
from numgraph.expressions.walk import Output
from numgraph.graph import Shard


def arriving(graph: Shard, arrays: Sequence[Any]) -> list[Any]:
    """What waits for those of the arrays that are not complete yet; from now on nobody else does."""
    flying = graph.spread.in_flight
    return [flying.pop(id(array)) for array in arrays if id(array) in flying]


def run_ahead(graph: Shard, outputs: tuple[Output, ...], fields: dict[Any, Any], results: Any, pending: list[Any]) -> list[Any]:
    """The walk's results; results: their shapes and dtypes."""
    of_edges = any(target == "e" for target, _ in fields) or any(output.to == "e" for output in outputs)
    winners = any(output.is_winner(place) for output in outputs for place in range(len(output.results())))
    if winners or any(output.to == "u" for output in outputs) or (of_edges and not graph.in_edges.ordered):
        for one in pending:
            one.wait()
        return list(execute(graph, outputs, fields, None))
    targets = [output.to for output in outputs for _ in output.results()]
    made = [recycling.empty(shape, dtype) for shape, dtype in results]
    for piece in graph.pieces():
        for one in pending:
            one.progress() if piece.interior else one.wait()
        part = {"v": piece.rows, "e": piece.positions}
        here = {key: array[part[key[0]]] if key[0] in part else array for key, array in fields.items()}
        execute(piece.graph, outputs, here, [array[part[target]] for target, array in zip(targets, made, strict=True)])
    for one in pending:
        one.wait()
    return made
