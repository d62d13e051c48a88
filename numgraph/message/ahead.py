"""Walks over a process's shard while rows are on their way: forward the interior first, which needs none of
the ghosts'; in the backward the gradients of ghosts first, which their owners wait for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numba

from numgraph.arrays import recycling
from numgraph.autodiff.deferred import Deferred
from numgraph.autodiff.tensor import Tensor
from numgraph.compiler import execute
from numgraph.expressions.walk import Output
from numgraph.graph import Shard


def arriving(graph: Shard, arrays: Sequence[Any]) -> list[Any]:
    """What waits for those of the arrays that are not complete yet; from now on nobody else does."""
    flying = graph.spread.in_flight
    return [flying.pop(id(array)) for array in arrays if id(array) in flying]


def run_ahead(
    graph: Shard, outputs: tuple[Output, ...], fields: dict[Any, Any], results: Any, pending: list[Any]
) -> list[Any]:
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
        execute(
            piece.graph,
            outputs,
            here,
            [array[part[target]] for target, array in zip(targets, made, strict=True)],
        )
    for one in pending:
        one.wait()
    return made


def can_wait(graph: Any, outputs: Sequence[Output], fields: dict[Any, Any]) -> TypeGuard[Shard]:
    """Whether gradients of sources may be computed later, in parts: of a shard with ghosts, and nobody
    records what is done to them.
    """
    if not isinstance(graph, Shard) or graph.num_src == graph.num_dst or numba.config.DISABLE_JIT:
        return False
    targets = [output.to for output in outputs]
    return "u" in targets and "e" not in targets and not any(isinstance(x, Tensor) for x in fields.values())


class SourceGradients:
    """A walk into sources that runs when its results are read: at once, or the ghosts' rows before the
    others.

    results : their shapes and dtypes
    """

    def __init__(
        self, graph: Shard, outputs: tuple[Output, ...], fields: dict[Any, Any], results: Any
    ) -> None:
        self._graph, self._outputs, self._fields, self._results = graph, outputs, fields, results
        self._made: list[Any] | None = None
        self._left = False

    def deferred(self) -> list[Deferred]:
        """The results, not computed yet."""
        return [Deferred(self, place, shape, dtype) for place, (shape, dtype) in enumerate(self._results)]

    def whole(self) -> list[Any]:
        """The results."""
        if self._made is None:
            self._made = list(execute(self._graph, self._outputs, self._fields, None))
            self._fields = {}
        self.rest(lambda: None)
        return self._made

    def of_ghosts(self) -> list[Any]:
        """The results, of which the rows of ghosts are complete; what is left takes ``rest``."""
        if self._made is None:
            self._made, self._left = [recycling.empty(shape, dtype) for shape, dtype in self._results], True
            self._run(ghosts=True, between=lambda: None)
        return self._made

    def rest(self, between: Callable[[], None]) -> None:
        """Complete the other rows, with calls of ``between`` on the way."""
        if self._left:
            self._left = False
            self._run(ghosts=False, between=between)
            self._fields = {}

    def _run(self, ghosts: bool, between: Callable[[], None]) -> None:
        assert self._made is not None
        for piece in self._graph.source_pieces():
            if piece.interior != ghosts:
                between()
                here = {
                    key: array[piece.rows] if key[0] == "u" else array for key, array in self._fields.items()
                }
                execute(piece.graph, self._outputs, here, [array[piece.rows] for array in self._made])
