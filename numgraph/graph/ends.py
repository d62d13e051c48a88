"""Further ends of edges: rows of tables that a field of integers names for each edge, as the relation that it
is of.

To a walk they are what sources and destinations are: a value of an end is read by row, and what is summed
into an end is summed over the edges that name its row. So neither a table's rows nor their gradients are ever
spread over edges."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from numgraph.expressions.walk import grouped
from numgraph.graph.graph import REMEMBERED, Graph
from numgraph.graph.sorting import INT32_LIMIT, Adjacency, Ids, frozen, group

KEPT = 4
"""Graphs with ends that a graph keeps: a training asks for the same ones in every step."""

T = TypeVar("T")


class End(NamedTuple):
    """Which row of how many each edge names. ids: [num_edges], in the order of edge ids."""

    ids: Ids
    rows: int


class GraphWithEnds(Graph):
    """A graph whose edges have ends beside source and destination, each under a name that is no other
    target's.
    """

    __slots__ = ("_along", "_groups", "_routes", "ends")

    ends: dict[str, End]
    _groups: dict[str, Adjacency]
    _along: dict[tuple[str, str], Ids]
    _routes: dict[Hashable, Any]

    def remembered(self, key: Hashable, make: Callable[[Graph, Any], T]) -> T:
        """As of other graphs, but for these ends."""
        found = self._routes.get(key)
        if found is None:
            if len(self._routes) >= REMEMBERED:
                self._routes.clear()
            found = self._routes[key] = make(self, key)
        made: T = found
        return made

    def by_end(self, name: str) -> Adjacency:
        """The edges grouped by an end: ``indices`` are sources."""
        if name not in self._groups:
            end, positions = self.ends[name], self.in_edges.indptr.dtype
            self._groups[name] = group(end.ids, np.ascontiguousarray(self.src), end.rows, positions)
        return self._groups[name]

    def along(self, rows: str, name: str) -> Ids:
        """The rows of an end, or "src" or "dst", of the edges as a grouping has them; "e": in the order of
        ids.
        """
        found = self._along.get((rows, name))
        if found is None:
            ids = self.ends[name].ids if name in self.ends else getattr(self, name)
            by_rows = None if rows == "e" else grouped(self, rows)
            found = self._along[rows, name] = (
                ids if by_rows is None or by_rows.ordered else frozen(ids[by_rows.edge_ids])
            )
        return found


_with_ends: weakref.WeakKeyDictionary[Graph, list[GraphWithEnds]] = weakref.WeakKeyDictionary()


def with_ends(g: Graph, ends: dict[str, tuple[NDArray[Any], int]]) -> GraphWithEnds | tuple[str, int]:
    """The graph with these ends, ids and numbers of rows; or the name of an end and the first edge whose id
    is out of range.

    The ids are copied. The same ones again give the same object, so that what is planned and grouped for them
    is kept."""
    known = _with_ends.setdefault(g, [])
    for one in known:
        if one.ends.keys() == ends.keys() and all(
            _equal(one.ends[name], *given) for name, given in ends.items()
        ):
            return one
    found: dict[str, End] = {}
    for name, (ids, rows) in ends.items():
        own = ids.astype(np.int64)  # what is checked is what is kept, whoever changes the array meanwhile
        wrong = (own < 0) | (own >= rows)
        if wrong.any():
            return name, int(wrong.argmax())
        found[name] = End(frozen(own.astype(g.in_edges.indices.dtype)), rows)
    made = GraphWithEnds._sharing(g._edges, g._out)
    assert isinstance(made, GraphWithEnds)
    made.ends, made._groups, made._along, made._routes = found, {}, {}, {}
    known.insert(0, made)
    del known[KEPT:]
    return made


def can_have_ends(g: Graph, rows: int) -> bool:
    """Whether rows of so many can be ends of a graph's edges: on the host, in the dtype of its nodes."""
    return g.device == "cpu" and (rows < INT32_LIMIT or g.in_edges.indices.dtype == np.int64)


def _equal(end: End, ids: NDArray[Any], rows: int) -> bool:
    return end.rows == rows and np.array_equal(end.ids, ids)
