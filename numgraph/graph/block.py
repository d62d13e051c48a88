"""Block: one hop of sampled edges, a bipartite graph whose destinations are the first of its sources."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.graph.edges import SRC, DeviceEdges, Edges
from numgraph.graph.graph import Graph
from numgraph.graph.sorting import Adjacency, Ids, frozen


class Origin:
    """The whole graph that blocks were sampled from, with its edges' weights, if it has some; what is derived
    of both is in ``kept``.

    left_out : (sources, destinations, weights or None) of edges that the blocks are to know nothing of,
        also not by degrees; or None
    """

    __slots__ = ("edge_weight", "graph", "kept", "left_out")

    def __init__(
        self, graph: Graph, edge_weight: Any = None, left_out: tuple[Ids, Ids, Any] | None = None
    ) -> None:
        self.graph, self.edge_weight, self.left_out = graph, edge_weight, left_out
        self.kept: dict[Hashable, Any] = {}

    def without(self, left_out: tuple[Ids, Ids, Any] | None) -> Origin:
        """The same graph for blocks without some of its edges."""
        if left_out is None:
            return self
        made = Origin(self.graph, self.edge_weight, left_out)
        made.kept = self.kept
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Origin, (self.graph, self.edge_weight, self.left_out)


class Block(Graph):
    """Edges of a graph into some of its nodes: destination i is source i, the other sources come after.

    A layer takes it as it takes a graph, with features of the sources alone: those of the destinations are
    their first rows.

    Attributes
    ----------
    origin : the graph that the edges are from
    nodes : [num_src] the sources' ids there
    edge_ids : [num_edges] the edges' ids there
    """

    __slots__ = ("_found", "_positions", "nodes", "origin")

    origin: Origin
    nodes: Ids
    _positions: Ids | None
    _found: Ids | None

    @classmethod
    def of(
        cls,
        origin: Origin,
        nodes: Ids,
        edges: Edges | DeviceEdges,
        positions: NDArray[Any] | None = None,
        ids: Ids | None = None,
    ) -> Block:
        """positions: of the edges among the origin's in-edges; ids: their ids, where those are known."""
        block: Any = cls.__new__(cls)
        block._edges, block._out, block._twin = edges, SRC, None
        block.origin, block.nodes, block._positions, block._found = origin, nodes, positions, ids
        found: Block = block
        return found

    @classmethod
    def from_rows(
        cls, origin: Origin, nodes: Ids, indptr: Ids, indices: Ids, positions: NDArray[Any]
    ) -> Block:
        """A block of in-edges whose numbers are known to be right, nothing is copied: row i has the sources
        of destination i.
        """
        rows = Adjacency(frozen(indptr), frozen(indices), ordered=True)
        return cls.of(
            origin,
            nodes,
            Edges((len(nodes), len(indptr) - 1), [indices, None], [None, rows], True),
            positions,
        )

    @classmethod
    def _sharing(cls, edges: Edges | DeviceEdges, out: int) -> Any:
        """A graph that is made of a block, such as its reverse, is none."""
        return Graph._sharing(edges, out)

    @property
    def edge_ids(self) -> Ids:  # type: ignore[override]
        """[num_edges] the edges' ids in the origin; read-only."""
        if self._found is None:
            assert self._positions is not None
            self._found = self.origin.graph.edge_ids_at(self._positions)
        return self._found

    def to(self, device: str) -> Any:
        """The same block for arrays on a device, "cpu" or "cuda"."""
        there = super().to(device)
        return (
            self
            if there is self
            else Block.of(self.origin, self.nodes, there._edges, self._positions, self._found)
        )

    def looped(self, into: NDArray[Any], origin: Origin, kept: NDArray[Any] | None = None) -> Block:
        """The block with self loops of the destinations `into` after its edges, or after those of them that
        are `kept`.
        """
        src, dst = (self.src, self.dst) if kept is None else (self.src[kept], self.dst[kept])
        columns = [frozen(np.concatenate([ends, into.astype(ends.dtype)])) for ends in (src, dst)]
        return Block.of(
            origin, self.nodes, Edges((self.num_src, self.num_dst), [*columns], [None, None], True)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        rows = self.in_edges
        if self._found is None and self._positions is None:
            return super().__reduce__()
        return _unpickled, (self.origin, self.nodes, rows.indptr, rows.indices, self.edge_ids)


def _unpickled(origin: Origin, nodes: Ids, indptr: Ids, indices: Ids, edge_ids: Ids) -> Block:
    block = Block.from_rows(origin, nodes, indptr, indices, edge_ids)
    block._found = edge_ids
    return block
