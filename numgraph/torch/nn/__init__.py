"""Layers for PyTorch: each has the parameters of PyG's layer of its name, loads its ``state_dict`` and gives
its results.

They are called with a ``numgraph.Graph``, ``conv(g, x)``, or as PyG's are, ``conv(x, edge_index)``; PyG
itself is not needed. ``torch.compile`` takes a layer whole where it is called with a Graph; an edge_index,
whose numbers it cannot see, divides what is compiled."""

from numgraph.torch.nn.gat import GATConv, GATv2Conv
from numgraph.torch.nn.gcn import GCNConv
from numgraph.torch.nn.gin import GINConv
from numgraph.torch.nn.sage import SAGEConv

__all__ = ["GATConv", "GATv2Conv", "GCNConv", "GINConv", "SAGEConv"]
