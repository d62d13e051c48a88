"""Questions about edges: which are there, between which nodes, and under which ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numgraph.errors import bad_value
from numgraph.graph import transforms
from numgraph.graph.part import Part
from numgraph.graph.sorting import Ids

Many = NDArray[Any] | Sequence[int]


class Lookups(Part):
    """All take one id or many. The first question about pairs sorts the edges by both ends, which the graph
    keeps; the others search.
    """

    __slots__ = ()

    @overload
    def has_edges(self, u: int, v: int) -> bool: ...
    @overload
    def has_edges(self, u: int, v: Many) -> NDArray[np.bool]: ...
    @overload
    def has_edges(self, u: Many, v: Many | int) -> NDArray[np.bool]: ...
    def has_edges(self, u: ArrayLike, v: ArrayLike) -> Any:
        """Whether there are edges u → v.

        Parameters
        ----------
        u, v : an id, or [n], of a source and a destination; one id goes with each of many

        Returns
        -------
        bool, or an array [n] of them

        Raises
        ------
        TypeError : ids that are not integers
        ValueError : arrays of different lengths
        IndexError : an id of no node

        Examples
        --------
        >>> import numgraph as ng
        >>> ng.Graph([0, 0], [1, 1]).has_edges([0, 1], [1, 0])
        array([ True, False])
        """
        first, last, single = self._ranges("Graph.has_edges", u, v)
        return bool(last[0] > first[0]) if single else last > first

    @overload
    def edge_ids(self, u: int, v: int, *, parallel: Literal[False] = ...) -> int: ...
    @overload
    def edge_ids(self, u: int, v: Many, *, parallel: Literal[False] = ...) -> Ids: ...
    @overload
    def edge_ids(self, u: Many, v: Many | int, *, parallel: Literal[False] = ...) -> Ids: ...
    @overload
    def edge_ids(
        self, u: ArrayLike, v: ArrayLike, *, parallel: Literal[True]
    ) -> tuple[Ids, NDArray[np.int64]]: ...
    def edge_ids(self, u: ArrayLike, v: ArrayLike, *, parallel: bool = False) -> Any:
        """The ids of the edges u → v.

        Parameters
        ----------
        u, v : an id, or [n], of a source and a destination; one id goes with each of many
        parallel : ask for all edges of each pair, and none is no error

        Returns
        -------
        an int, or [n]: the first edge of each pair, the one with the lowest id; with ``parallel=True`` a pair
        (ids, places) of arrays [edges]: ``ids[k]`` is an edge u[i] → v[i] for i = ``places[k]``, ascending in
        i, then in ids

        Raises
        ------
        ValueError : a pair without an edge

        Examples
        --------
        >>> import numgraph as ng
        >>> g = ng.Graph([0, 1, 0], [1, 2, 1])
        >>> g.edge_ids(0, 1)
        0
        >>> g.edge_ids([1, 0, 2], [2, 1, 0], parallel=True)
        (array([1, 0, 2], dtype=int32), array([0, 1, 1]))
        """
        op = "Graph.edge_ids"
        first, last, single = self._ranges(op, u, v)
        _, ids = self._sorted()
        if parallel:
            counts = last - first
            places = np.repeat(np.arange(len(counts)), counts)
            return ids[
                np.arange(len(places)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
            ], places
        lacking = np.flatnonzero(last == first)
        if len(lacking):
            i = int(lacking[0])
            pair = [int(np.broadcast_to(np.asarray(x), len(first))[i]) for x in (u, v)]
            problem = f"there is no edge {pair[0]} → {pair[1]}{'' if single else f', pair {i}'}"
            raise bad_value(op, problem, "ask has_edges(u, v) first, or pass parallel=True")
        found = ids[first]
        return int(found[0]) if single else found

    @overload
    def find_edges(self, edge_ids: int) -> tuple[int, int]: ...
    @overload
    def find_edges(self, edge_ids: Many) -> tuple[Ids, Ids]: ...
    def find_edges(self, edge_ids: ArrayLike) -> Any:
        """The ends of edges: ``src[edge_ids]`` and ``dst[edge_ids]`` with ids that were checked.

        Parameters
        ----------
        edge_ids : an id, or [n]

        Returns
        -------
        (sources, destinations), two ints or two arrays [n]

        Raises
        ------
        TypeError : ids that are not integers
        IndexError : an id of no edge

        Examples
        --------
        >>> import numgraph as ng
        >>> ng.Graph([0, 1], [1, 2]).find_edges(1)
        (1, 2)
        """
        host = self.to("cpu")
        ids = host._edges_given("Graph.find_edges", "edge_ids", np.atleast_1d(edge_ids))
        ends = host.src[ids], host.dst[ids]
        return ends if np.ndim(edge_ids) else (int(ends[0][0]), int(ends[1][0]))

    def _ranges(
        self, op: str, u: ArrayLike, v: ArrayLike
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
        """The first position of each pair's edges among the sorted ones, and one past the last; whether one
        pair was asked for.
        """
        host = self.to("cpu")
        names = ("num_src", "num_dst") if self.is_bipartite else ("num_nodes", "num_nodes")
        sources = host._nodes_given(op, "u", np.atleast_1d(u), names[0], self.num_src)
        targets = host._nodes_given(op, "v", np.atleast_1d(v), names[1], self.num_dst)
        if len(sources) != len(targets) and np.ndim(u) and np.ndim(v):
            raise bad_value(
                op,
                f"u has {len(sources)} entries and v has {len(targets)}",
                "give pairs, or one id for all of the others",
            )
        count = len(targets) if np.ndim(u) == 0 else len(sources)
        sources, targets = (np.ascontiguousarray(np.broadcast_to(ids, count)) for ids in (sources, targets))
        rows, _ = host._sorted()
        first, last = transforms.search(rows, sources, targets)
        return first, last, np.ndim(u) == 0 and np.ndim(v) == 0

    def _sorted(self) -> tuple[Any, Ids]:
        """The edges grouped by source, destinations ascending, and the edge at each position; kept with the
        in-edges.
        """
        host = self.to("cpu")

        def build(rows: Any) -> tuple[Any, Ids]:
            columns = transforms.by_both(rows, host.num_src)
            return columns, transforms.composed(rows, columns)

        return host.in_edges.derived("sorted by both ends", build)
