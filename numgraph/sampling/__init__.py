"""Samples of a graph that is too large to be trained whole: neighbours of seeds as blocks.

Drawing is serial code without the GIL; random numbers are counted, so results do not depend on threads.
"""

from __future__ import annotations

from numgraph.errors import no_attribute
from numgraph.sampling.loaders import NeighborLoader
from numgraph.sampling.neighbors import Batch, NeighborSampler, sample_neighbors

__all__ = ["Batch", "NeighborLoader", "NeighborSampler", "sample_neighbors"]


def __getattr__(name: str) -> object:
    if name.startswith("_"):
        raise AttributeError(f"module 'numgraph.sampling' has no attribute {name!r}")
    raise no_attribute("numgraph.sampling", name, __all__)
