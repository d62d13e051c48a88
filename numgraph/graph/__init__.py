"""Graphs: edges with ids and their two groupings, transforms, and what other libraries call graphs.

To import from outside: what stands here, and ``sorting`` for ids.
"""

from numgraph.graph.batch import GraphBatch, batch, check_batch, unbatch
from numgraph.graph.block import Block, Origin
from numgraph.graph.edge_map import EdgeMap
from numgraph.graph.ends import GraphWithEnds, can_have_ends, with_ends
from numgraph.graph.graph import Graph, check_graph
from numgraph.graph.hetero import HeteroGraph, check_hetero
from numgraph.graph.hetero_block import HeteroBlock
from numgraph.graph.homogeneous import Homogeneous, Into
from numgraph.graph.shard import Shard, Spread
from numgraph.graph.sorting import Adjacency

__all__ = [
    "Adjacency",
    "Block",
    "EdgeMap",
    "Graph",
    "GraphBatch",
    "GraphWithEnds",
    "HeteroBlock",
    "HeteroGraph",
    "Homogeneous",
    "Into",
    "Origin",
    "Shard",
    "Spread",
    "batch",
    "can_have_ends",
    "check_batch",
    "check_graph",
    "check_hetero",
    "unbatch",
    "with_ends",
]
