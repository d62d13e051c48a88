"""HeteroBlock: one hop of sampled edges of a HeteroGraph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from numgraph.arrays import devices
from numgraph.errors import bad_type
from numgraph.graph.graph import Graph
from numgraph.graph.hetero import HeteroGraph
from numgraph.graph.relations import Relation


class HeteroBlock(HeteroGraph):
    """One hop of sampled edges: of each type, destination i is source i, the other sources come after.

    Layers take it as they take a HeteroGraph, with features of the sources, ``num_nodes`` rows of each type,
    and give ``num_dst`` rows.

    Attributes
    ----------
    nodes : {type: [num_nodes] the sources' ids in the graph that was sampled}
    """

    __slots__ = ("_dst", "_edge_ids", "nodes")

    nodes: dict[str, NDArray[Any]]
    _dst: dict[str, int]
    _edge_ids: dict[Relation, Any]

    @classmethod
    def made(
        cls,
        graphs: Mapping[Relation, Graph],
        nodes: Mapping[str, Any],
        dst: Mapping[str, int],
        edge_ids: Mapping[Any, Any],
    ) -> HeteroBlock:
        """edge_ids: of each relation the ids of its edges in the graph that was sampled, or a function that
        gives them.
        """
        block: Any = cls.__new__(cls)
        block._graphs, block._derived = dict(sorted(graphs.items())), {}
        block.nodes = dict(sorted(nodes.items()))
        block._counts = {kind: len(ids) for kind, ids in block.nodes.items()}
        block._dst, block._edge_ids = dict(sorted(dst.items())), dict(edge_ids)
        made: HeteroBlock = block
        return made

    @classmethod
    def _of(cls, graphs: Mapping[Relation, Graph], counts: Mapping[str, int]) -> HeteroGraph:
        raise bad_type(
            "HeteroBlock", "a block is one hop of sampled edges", "change the graph, and sample that"
        )

    @property
    def num_dst(self) -> dict[str, int]:
        """The number of destinations of each type, the first of its nodes."""
        return dict(self._dst)

    @property
    def edge_ids(self) -> dict[Relation, NDArray[Any]]:
        """Of each relation the ids of its edges in the graph that was sampled."""
        found = {key: ids() if callable(ids) else ids for key, ids in self._edge_ids.items()}
        self._edge_ids.update(found)
        return dict(sorted(found.items()))

    def to(self, device: str) -> HeteroBlock:
        """The same block for arrays on a device, "cpu" or "cuda"."""
        devices.known("HeteroBlock.to", device)
        if device == self.device:
            return self
        return self.made(
            {key: graph.to(device) for key, graph in self.items()}, self.nodes, self._dst, self._edge_ids
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return HeteroBlock.made, (self._graphs, self.nodes, self._dst, self.edge_ids)

    def __repr__(self) -> str:
        ends = ", ".join(f"{kind}: {count:,} → {self._dst[kind]:,}" for kind, count in self._counts.items())
        return f"HeteroBlock({ends}; {sum(self.num_edges.values()):,} edges)"
