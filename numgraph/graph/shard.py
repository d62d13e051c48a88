"""A graph that several processes share: each owns some of the nodes, and has all edges into them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple, NoReturn

import numpy as np

from numgraph.autodiff.typed import of_array_in_class
from numgraph.errors import bad_value
from numgraph.graph.block import Block
from numgraph.graph.edges import DST, SRC, DeviceEdges, Edges
from numgraph.graph.graph import Graph
from numgraph.graph.sorting import Adjacency, Ids, frozen


class Spread:
    """What layers need of a graph that processes share; ``numgraph.distributed`` makes them.

    graph : this process's Shard
    num_nodes, num_edges : of the whole graph
    """

    graph: Shard
    num_nodes: int
    num_edges: int
    interior: int
    """How many of the shard's first destinations have no ghosts among their sources."""
    in_flight: dict[int, Any]
    """By the id of an array whose ghosts' rows are on their way, what waits for them."""

    @of_array_in_class
    def exchange(self, x: Any) -> Any:
        """The rows of the shard's sources, from those of the nodes that each process owns."""
        raise NotImplementedError

    @of_array_in_class
    def exchange_ahead(self, x: Any) -> Any:
        """The same for a walk over the shard, or one of its nodes, that is next to read the result: it begins
        before all rows are there.
        """
        raise NotImplementedError

    @of_array_in_class
    def collect(self, y: Any) -> Any:
        """The adjoint: rows of the owned nodes, to which every process has added what it has for them."""
        raise NotImplementedError

    def replicate(self, values: list[Any]) -> list[Any]:
        """Values that all processes share, as each one's own; gradients are summed."""
        raise NotImplementedError

    @of_array_in_class
    def total(self, x: Any) -> Any:
        """The sum of x over all processes, as each one's own."""
        raise NotImplementedError


PIECES = 16
"""Between two of them MPI is asked how far it is, without which it does not send large messages."""
PIECE_EDGES = 1 << 15
"""Edges of a piece, at least: a kernel's start should cost little beside."""


class Piece(NamedTuple):
    """Some rows of a shard's grouped edges as a graph of its own, by these rows and the positions of their
    edges.

    interior : destinations without ghosts among their sources, or sources that are no ghosts
    """

    graph: Graph
    rows: slice
    positions: slice
    interior: bool


def _cuts(indptr: Ids, stop: int) -> list[int]:
    """Where the rows before stop are cut into pieces of about as many edges."""
    edges = int(indptr[stop])
    count = max(1, min(PIECES, edges // PIECE_EDGES))
    inner = np.searchsorted(indptr[: stop + 1], np.linspace(0, edges, count + 1)[1:-1])
    found: list[int] = np.unique([0, *inner, stop]).tolist()
    return found


class Shard(Block):
    """A process's part: the destinations are the nodes that it owns, the sources these and, after them, its
    ghosts, owned by others.

    All in-edges of the owned nodes are there, each node's in the order of their ids in the whole graph.

    Attributes
    ----------
    nodes : [num_src] the sources' ids in the whole graph
    edge_ids : [num_edges] the edges' ids there
    spread : what exchanges rows with the other processes
    """

    __slots__ = ("_pieces", "_source_pieces", "derived", "spread")

    spread: Spread
    _pieces: list[Piece] | None
    _source_pieces: list[Piece] | None
    derived: dict[Any, Any]
    """What layers derive of it; a shard is held by what is derived, so it holds that itself."""

    @classmethod
    def whole_rows(cls, spread: Spread, nodes: Ids, edges: Edges | DeviceEdges, ids: Ids | None) -> Shard:
        """A shard of these edges between its sources, numbered from 0, and its destinations, the first of
        them.
        """
        shard: Any = cls.__new__(cls)
        shard._edges, shard._out, shard._twin = edges, SRC, None
        shard.nodes, shard._positions, shard._found, shard.spread = nodes, None, ids, spread
        shard._pieces, shard._source_pieces, shard.derived = None, None, {}
        found: Shard = shard
        return found

    def pieces(self) -> list[Piece]:
        """The destinations in pieces: those of the interior, then the others."""
        if self._pieces is None:
            rows, interior = self.in_edges, self.spread.interior
            starts = np.unique([*_cuts(rows.indptr, interior), rows.num_rows]).tolist()
            self._pieces = [
                self._piece(DST, start, stop, stop <= interior) for start, stop in pairwise(starts)
            ]
        return self._pieces

    def source_pieces(self) -> list[Piece]:
        """The sources in pieces: the ghosts, then the others. Edges keep their ids."""
        if self._source_pieces is None:
            starts = _cuts(self.out_edges.indptr, self.num_dst)
            bounds = [(self.num_dst, self.num_src), *pairwise(starts)]
            self._source_pieces = [
                self._piece(SRC, start, stop, stop <= self.num_dst) for start, stop in bounds if start < stop
            ]
        return self._source_pieces

    def _piece(self, side: int, start: int, stop: int, interior: bool) -> Piece:
        rows = self.in_edges if side == DST else self.out_edges
        first, last = int(rows.indptr[start]), int(rows.indptr[stop])
        indices, indptr = rows.indices[first:last], frozen(rows.indptr[start : stop + 1] - rows.indptr[start])
        into = (
            Adjacency(indptr, indices, True)
            if side == DST
            else Adjacency(indptr, indices, False, rows.edge_ids[first:last])
        )
        if side == DST:
            edges = Edges((self.num_src, stop - start), [indices, None], [None, into], True)
        else:
            edges = Edges((stop - start, self.num_dst), [None, indices], [into, None], True)
            edges.num_edges = self.num_edges
        return Piece(Graph._sharing(edges, SRC), slice(start, stop), slice(first, last), interior)

    def with_edges(self, edges: Edges) -> Shard:
        """The shard of the same nodes with other edges, which have no ids in the whole graph."""
        return Shard.whole_rows(self.spread, self.nodes, edges, None)

    @property
    def edge_ids(self) -> Ids:  # type: ignore[override]
        """[num_edges] the edges' ids in the whole graph; read-only."""
        if self._found is None:
            raise bad_value(
                "Shard.edge_ids",
                "edges were added, which the whole graph does not have",
                "see those of the graph before",
            )
        return self._found

    def to(self, device: str) -> Any:
        """The same shard; there is none on a device."""
        if device != "cpu":
            raise bad_value("Shard.to", f"device is {device!r}", "processes share graphs on the host")
        return self

    def __reduce__(self) -> NoReturn:
        raise bad_value(
            "Shard",
            "it belongs to the processes that share the graph, and cannot be pickled",
            "pickle the whole graph",
        )
