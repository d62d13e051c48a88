"""Layers and models of graph neural networks. A layer is called with a graph and arrays; parameters are
``numgraph.Parameter``.
"""

from __future__ import annotations

from numgraph.errors import no_attribute
from numgraph.nn.dropout import Dropout
from numgraph.nn.edge import EdgeConv
from numgraph.nn.embedding import Embedding
from numgraph.nn.gat import GATConv, GATv2Conv
from numgraph.nn.gcn import GCNConv
from numgraph.nn.gin import GINConv, GINEConv
from numgraph.nn.graph_model import GraphModel
from numgraph.nn.hetero import HeteroConv, HGTConv
from numgraph.nn.knowledge import ComplEx, DistMult, TransE
from numgraph.nn.linear import MLP, Linear, Sequential
from numgraph.nn.models import GAT, GCN, GIN, SAGE
from numgraph.nn.module import Module
from numgraph.nn.norm import BatchNorm, LayerNorm
from numgraph.nn.pna import PNAConv, mean_log_degree
from numgraph.nn.pooling import AttentionPooling, GraphNorm, Set2Set, SortPooling
from numgraph.nn.propagation import APPNP, SGConv
from numgraph.nn.pyg import load_pyg
from numgraph.nn.rgcn import RGCNConv
from numgraph.nn.sage import SAGEConv
from numgraph.nn.transformer import TransformerConv

__all__ = [
    "APPNP",
    "GAT",
    "GCN",
    "GIN",
    "MLP",
    "SAGE",
    "AttentionPooling",
    "BatchNorm",
    "ComplEx",
    "DistMult",
    "Dropout",
    "EdgeConv",
    "Embedding",
    "GATConv",
    "GATv2Conv",
    "GCNConv",
    "GINConv",
    "GINEConv",
    "GraphModel",
    "GraphNorm",
    "HGTConv",
    "HeteroConv",
    "LayerNorm",
    "Linear",
    "Module",
    "PNAConv",
    "RGCNConv",
    "SAGEConv",
    "SGConv",
    "Sequential",
    "Set2Set",
    "SortPooling",
    "TransE",
    "TransformerConv",
    "load_pyg",
    "mean_log_degree",
]


def __getattr__(name: str) -> object:
    raise no_attribute("numgraph.nn", name, __all__)
