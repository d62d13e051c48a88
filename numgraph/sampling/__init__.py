"""Samples of a graph that is too large to be trained whole: blocks of neighbours, clusters, walks, pairs that
are no edges.

Drawing is serial code without the GIL; random numbers are counted, so results do not depend on threads.
"""

from __future__ import annotations

from numgraph.errors import no_attribute
from numgraph.sampling.clusters import ClusterLoader
from numgraph.sampling.hetero import HeteroSampler
from numgraph.sampling.links import LinkLoader
from numgraph.sampling.loaders import NeighborLoader
from numgraph.sampling.negatives import negative_edges
from numgraph.sampling.neighbors import Batch, NeighborSampler, sample_neighbors
from numgraph.sampling.walks import random_walk

__all__ = [
    "Batch",
    "ClusterLoader",
    "HeteroSampler",
    "LinkLoader",
    "NeighborLoader",
    "NeighborSampler",
    "negative_edges",
    "random_walk",
    "sample_neighbors",
]


def __getattr__(name: str) -> object:
    raise no_attribute("numgraph.sampling", name, __all__)
