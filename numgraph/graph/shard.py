"""A graph that several processes share: each owns some of the nodes, and has all edges into them."""

from __future__ import annotations

from typing import Any, NoReturn

from numgraph.errors import bad_value
from numgraph.graph.block import Block
from numgraph.graph.edges import SRC, DeviceEdges, Edges
from numgraph.graph.sorting import Ids


class Spread:
    """What layers need of a graph that processes share; ``numgraph.distributed`` makes them.

    graph : this process's Shard
    num_nodes, num_edges : of the whole graph
    """

    graph: Shard
    num_nodes: int
    num_edges: int

    def exchange(self, x: Any) -> Any:
        """The rows of the shard's sources, from those of the nodes that each process owns."""
        raise NotImplementedError

    def collect(self, y: Any) -> Any:
        """The adjoint: rows of the owned nodes, to which every process has added what it has for them."""
        raise NotImplementedError

    def replicate(self, values: list[Any]) -> list[Any]:
        """Values that all processes share, as each one's own; gradients are summed."""
        raise NotImplementedError

    def total(self, x: Any) -> Any:
        """The sum of x over all processes, as each one's own."""
        raise NotImplementedError


class Shard(Block):
    """A process's part: the destinations are the nodes that it owns, the sources these and, after them, its ghosts, owned by others.

    All in-edges of the owned nodes are there, each node's in the order of their ids in the whole graph.

    Attributes
    ----------
    nodes : [num_src] the sources' ids in the whole graph
    edge_ids : [num_edges] the edges' ids there
    spread : what exchanges rows with the other processes
    """

    __slots__ = ("spread",)

    spread: Spread

    @classmethod
    def whole_rows(cls, spread: Spread, nodes: Ids, edges: Edges | DeviceEdges, ids: Ids | None) -> Shard:
        """A shard of these edges between its sources, numbered from 0, and its destinations, the first of them."""
        shard: Any = cls.__new__(cls)
        shard._edges, shard._out, shard._twin = edges, SRC, None
        shard.nodes, shard._positions, shard._found, shard.spread = nodes, None, ids, spread
        return shard

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
