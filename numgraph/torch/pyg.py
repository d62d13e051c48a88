"""PyG's layers with numgraph's message passing: classes that a layer changes to and back, whatever it holds.
Imported where PyG is.

A call that numgraph does not take goes to PyG's own forward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch_geometric import nn as pyg

from numgraph.graph import Graph
from numgraph.torch.nn import gat, gcn, gin, sage
from numgraph.torch.nn.graphs import REDUCES

_IDS = (torch.int64, torch.int32)
_HOOKS = [
    f"_{part}_forward{when}_hooks"
    for part in ("propagate", "message", "aggregate", "message_and_aggregate", "edge_update")
    for when in ("", "_pre")
]


_METHODS = (
    "forward",
    "propagate",
    "message",
    "aggregate",
    "message_and_aggregate",
    "update",
    "edge_update",
    "edge_updater",
)


class Accelerated:
    """What the classes below have before PyG's: a layer of theirs is one of PyG's class, with the same
    attributes.
    """

    def reset_parameters(self) -> None:
        """As PyG's; the graph that was kept is forgotten too."""
        super().reset_parameters()  # type: ignore[misc]
        gcn.forget(self)

    def _set_jittable_templates(self, raise_on_error: bool = False) -> None:
        """PyG's class has its own already: what PyG would write here is the same text again."""


class GCNConv(Accelerated, pyg.GCNConv):
    """PyG's GCNConv on numgraph."""

    def forward(self, x: Any, edge_index: Any, edge_weight: Any = None) -> Any:
        """As PyG's."""
        if _is_taken(self, x, edge_index, edge_weight) and isinstance(x, torch.Tensor):
            return gcn.convolution(self, x, edge_index, edge_weight)
        return super().forward(x, edge_index, edge_weight)


class SAGEConv(Accelerated, pyg.SAGEConv):
    """PyG's SAGEConv on numgraph."""

    def forward(self, x: Any, edge_index: Any, size: Any = None) -> Any:
        """As PyG's."""
        if _is_taken(self, x, edge_index):
            return sage.sage(self, x, edge_index, size)
        return super().forward(x, edge_index, size)


class GINConv(Accelerated, pyg.GINConv):
    """PyG's GINConv on numgraph."""

    def forward(self, x: Any, edge_index: Any, size: Any = None) -> Any:
        """As PyG's."""
        if _is_taken(self, x, edge_index):
            return gin.isomorphism(self, x, edge_index, size)
        return super().forward(x, edge_index, size)


class GATConv(Accelerated, pyg.GATConv):
    """PyG's GATConv on numgraph."""

    def forward(
        self,
        x: Any,
        edge_index: Any,
        edge_attr: Any = None,
        size: Any = None,
        return_attention_weights: Any = None,
    ) -> Any:
        """As PyG's."""
        if _is_taken(self, x, edge_index, edge_attr):
            return gat.attention(self, x, edge_index, edge_attr, size, return_attention_weights)
        return super().forward(x, edge_index, edge_attr, size, return_attention_weights)


class GATv2Conv(Accelerated, pyg.GATv2Conv):
    """PyG's GATv2Conv on numgraph."""

    def forward(
        self, x: Any, edge_index: Any, edge_attr: Any = None, return_attention_weights: Any = None
    ) -> Any:
        """As PyG's."""
        if _is_taken(self, x, edge_index, edge_attr):
            return gat.attention_v2(self, x, edge_index, edge_attr, return_attention_weights)
        return super().forward(x, edge_index, edge_attr, return_attention_weights)


CLASSES: dict[type, type] = {
    pyg.GCNConv: GCNConv,
    pyg.SAGEConv: SAGEConv,
    pyg.GINConv: GINConv,
    pyg.GATConv: GATConv,
    pyg.GATv2Conv: GATv2Conv,
}
"""PyG's class, and the one in its place."""


def refused(layer: Any) -> str | None:
    """Why a layer stays PyG's; None if numgraph takes it."""
    kind = type(layer)
    if kind not in CLASSES and not isinstance(layer, Accelerated):
        base = next((known for known in CLASSES if isinstance(layer, known)), None)
        return (
            "numgraph.torch has no such layer"
            if base is None
            else f"it is a class of its own, derived from {base.__name__}"
        )
    own = [name for name in _METHODS if name in layer.__dict__]
    if own:
        return f"{own[0]} was set on it"
    if layer.flow != "source_to_target":
        return f"flow={layer.flow!r}"
    if not isinstance(layer.aggr, str) or layer.aggr not in REDUCES:
        return f"aggr={layer.aggr!r}"
    if layer.node_dim not in (-2, 0):
        return f"node_dim={layer.node_dim}"
    if isinstance(layer, pyg.GATConv | pyg.GATv2Conv):
        if REDUCES[layer.aggr] != "sum":
            return f"aggr={layer.aggr!r}"
        if isinstance(layer.fill_value, str) and layer.fill_value not in REDUCES:
            return f"fill_value={layer.fill_value!r}"
    if isinstance(layer, pyg.GCNConv) and (
        layer._cached_edge_index is not None or layer._cached_adj_t is not None
    ):
        return "cached=True, and PyG has cached a graph; reset_parameters() forgets it"
    if layer.explain or any(getattr(layer, name, None) for name in _HOOKS):
        return "its messages are hooked or explained"
    return None


def _is_taken(layer: Any, x: Any, edges: Any, data: Any = None) -> bool:
    """Whether numgraph computes a call: of dense features on the host, with an edge_index or a Graph; not
    while torch.jit looks on.
    """
    if isinstance(edges, Graph):
        if edges.device != "cpu":
            return False
    elif (
        type(edges) is not torch.Tensor
        or edges.layout is not torch.strided
        or edges.dtype not in _IDS
        or edges.dim() != 2
    ):
        return False
    first, *others = x if isinstance(x, tuple | list) else (x,)
    if (
        first is None
        or len(others) > 1
        or (not isinstance(edges, Graph) and (len(edges) != 2 or edges.device.type != "cpu"))
    ):
        return False
    for features in (first, *others, data):
        if features is None:
            continue
        if (
            not isinstance(features, torch.Tensor)
            or features.layout is not torch.strided
            or features.device.type != "cpu"
        ):
            return False
        if features is not data and (features.dim() != 2 or not features.is_floating_point()):
            return False
    return not torch.jit.is_tracing() and refused(layer) is None
