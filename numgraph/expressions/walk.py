"""The one request that every kernel target serves: a walk over the edges of a graph with any number of
outputs.

Over the in-edges of every destination node (or the out-edges of every source node) each output evaluates its
expressions per edge and either reduces them into the row's node or stores them for the edge. A message, its
gradients and attention are all such walks."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgraph import errors
from numgraph.expressions import formulas
from numgraph.expressions.expr import Expr
from numgraph.expressions.reduces import REDUCES

Key = tuple[str, str]
Arrays = dict[Key, Any]
"""Field arrays by (target, name): [num_src, …], [num_dst, …], [num_edges, …], [rows of another end, …], or
the feature shape alone for shared fields."""


@dataclass(frozen=True, eq=False)
class Output:
    """One output of a walk.

    reduce: a name in reduces.REDUCES, into the rows of an end, ``to``; or edge: stored, to "e". softmax has
    two expressions, score, value. Where the terms of a softmax or logsumexp are sums themselves, exp(score) ·
    mass, the mass stands behind the score. Outputs are equal if their expressions are the same objects, which
    equal expressions are: so a walk's plan is found again."""

    expressions: tuple[Expr, ...]
    to: str
    reduce: str

    def __hash__(self) -> int:
        return hash((self.expressions, self.to, self.reduce))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Output) or (self.to, self.reduce) != (other.to, other.reduce):
            return False
        return len(self.expressions) == len(other.expressions) and all(
            map(operator.is_, self.expressions, other.expressions)
        )

    def results(self) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
        """Feature shape and dtype of each array it makes."""
        return REDUCES[self.reduce].arrays(self.expressions)

    def text(self) -> str:
        """What it computes, in a few words: Σ u.x · e.w into v."""
        written = " ; ".join([formulas.text(expression) for expression in self.expressions])
        written = written if len(written) <= 60 else written[:59] + "…"
        return f"{self.reduce} {written}" if self.to == "e" else f"{self.reduce} of {written} into {self.to}"

    def is_winner(self, place: int) -> bool:
        """Whether an array has the ids of the winning edges, in the dtype of edge ids."""
        return place == 1 and REDUCES[self.reduce].winner


def rows_of(graph: Any, target: str) -> int:
    """How many rows a field of u, v, e or another end has."""
    if target not in ("u", "v", "e"):
        return int(graph.ends[target].rows)
    found: int = graph.num_src if target == "u" else graph.num_dst if target == "v" else graph.num_edges
    return found


def grouped(graph: Any, end: str) -> Any:
    """The edges of a graph by their rows at an end."""
    return graph.in_edges if end == "v" else graph.out_edges if end == "u" else graph.by_end(end)


def ids_of_ends(graph: Any) -> dict[str, Any]:
    """The row of each edge at the ends that a graph has beside source and destination."""
    return {name: end.ids for name, end in getattr(graph, "ends", {}).items()}


Reads = tuple[tuple[tuple[str, str], tuple[int, ...], np.dtype[Any]], ...]
"""The fields that a walk reads: target and name, feature shape, dtype."""


def on_graph(graph: Any, reads: Reads) -> Reads:
    """The same with the shapes that the whole arrays have on a graph."""
    return tuple(
        [
            (key, shape if key[0] == "shared" else (rows_of(graph, key[0]), *shape), dtype)
            for key, shape, dtype in reads
        ]
    )


def check_fields(graph: Any, reads: Reads, fields: Arrays) -> None:
    """Raise RuntimeError where an array is not what a walk was planned for: kernels know its rows, its
    features and its dtype.
    """
    check_arrays(on_graph(graph, reads), fields)


def check_arrays(reads: Reads, fields: Arrays) -> None:
    """The same, of what ``on_graph`` gave."""
    for key, shape, dtype in reads:
        array = fields[key]
        given = array.dtype
        if array.shape != shape or (
            given is not dtype and given != dtype and given.newbyteorder("=") != dtype.newbyteorder("=")
        ):
            problem = (
                f"field {'.'.join(key)} is {list(array.shape)} {given}, the walk is planned for "
                f"{list(shape)} {dtype}"
            )
            raise errors.unsound("walk", problem)


def sides(outputs: Sequence[Output]) -> list[str]:
    """Which end's rows each output is walked by: its own; outputs per edge go along with what is walked
    anyway.
    """
    reduced = {output.to for output in outputs if output.to != "e"}
    edge_side = "u" if reduced == {"u"} else "v"
    return [edge_side if output.to == "e" else output.to for output in outputs]


@functools.lru_cache(maxsize=1024)
def walked_ends(outputs: tuple[Output, ...]) -> tuple[str, ...]:
    """The ends, "u", "v" or others, whose rows are walked."""
    return tuple(sorted(set(sides(outputs))))
