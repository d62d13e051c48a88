"""A graph that several processes share: each owns some of the nodes, and has all edges into them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple, NoReturn

import numpy as np

from numgraph.autodiff.typed import of_array_in_class
from numgraph.errors import bad_value
from numgraph.graph.block import Block
from numgraph.graph.edges import SRC, DeviceEdges, Edges
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

    def exchange_ahead(self, x: Any) -> Any:
        """The same for a walk over the shard, or one of its nodes, that is next to read the result: it begins before all rows are there."""
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


INTERIOR_PIECES = 4
"""Between two of them MPI is asked how far it is, without which it does not send large messages."""


class Piece(NamedTuple):
    """Destinations of a shard, by their rows and by the positions of their in-edges, as a graph of its own; interior: it has no ghosts."""

    graph: Graph
    rows: slice
    positions: slice
    interior: bool


class Shard(Block):
    """A process's part: the destinations are the nodes that it owns, the sources these and, after them, its ghosts, owned by others.

    All in-edges of the owned nodes are there, each node's in the order of their ids in the whole graph.

    Attributes
    ----------
    nodes : [num_src] the sources' ids in the whole graph
    edge_ids : [num_edges] the edges' ids there
    spread : what exchanges rows with the other processes
    """

    __slots__ = ("_pieces", "derived", "spread")

    spread: Spread
    _pieces: list[Piece] | None
    derived: dict[Any, Any]
    """What layers derive of it; a shard is held by what is derived, so it holds that itself."""

    @classmethod
    def whole_rows(cls, spread: Spread, nodes: Ids, edges: Edges | DeviceEdges, ids: Ids | None) -> Shard:
        """A shard of these edges between its sources, numbered from 0, and its destinations, the first of them."""
        shard: Any = cls.__new__(cls)
        shard._edges, shard._out, shard._twin = edges, SRC, None
        shard.nodes, shard._positions, shard._found, shard.spread = nodes, None, ids, spread
        shard._pieces, shard.derived = None, {}
        found: Shard = shard
        return found

    def pieces(self) -> list[Piece]:
        """The shard's rows in pieces: some of the interior, with about as many edges each, then the others."""
        if self._pieces is None:
            rows, interior = self.in_edges, self.spread.interior
            cuts = np.searchsorted(rows.indptr[: interior + 1], np.linspace(0, rows.indptr[interior], INTERIOR_PIECES + 1)[:-1])
            starts = np.unique([0, *cuts, interior, rows.num_rows]).tolist()
            self._pieces = [self._piece(rows, start, stop, stop <= interior) for start, stop in pairwise(starts)]
        return self._pieces

    def _piece(self, rows: Adjacency, start: int, stop: int, interior: bool) -> Piece:
        first, last = int(rows.indptr[start]), int(rows.indptr[stop])
        indices = rows.indices[first:last]
        into = Adjacency(frozen(rows.indptr[start : stop + 1] - rows.indptr[start]), indices, ordered=True)
        edges = Edges((self.num_src, stop - start), [indices, None], [None, into], True)
        return Piece(Graph._sharing(edges, SRC), slice(start, stop), slice(first, last), interior)

    def with_edges(self, edges: Edges) -> Shard:
        """The shard of the same nodes with other edges, which have no ids in the whole graph."""
        return Shard.whole_rows(self.spread, self.nodes, edges, None)

    @property
    def edge_ids(self) -> Ids:  # type: ignore[override]
        """[num_edges] the edges' ids in the whole graph; read-only."""
        if self._found is None:
            raise bad_value("Shard.edge_ids", "edges were added, which the whole graph does not have", "see those of the graph before")
        return self._found

    def to(self, device: str) -> Any:
        """The same shard; there is none on a device."""
        if device != "cpu":
            raise bad_value("Shard.to", f"device is {device!r}", "processes share graphs on the host")
        return self

    def __reduce__(self) -> NoReturn:
        raise bad_value("Shard", "it belongs to the processes that share the graph, and cannot be pickled", "pickle the whole graph")
