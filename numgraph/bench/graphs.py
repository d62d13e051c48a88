"""Graphs to measure on: R-MAT (heavy tail of degrees, as in social networks), and a grid (the locality that a
good order finds).
"""

from __future__ import annotations

import numba
import numpy as np

from numgraph.graph import Graph
from numgraph.runtime.compiling import njit

RMAT = (0.57, 0.19, 0.19, 0.05)  # the probabilities of Graph500 (graph500.org, specification, section 3.2)


def rmat_edges(nodes_log2: int, num_edges: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sources and destinations, int32 [num_edges] each, of 2^nodes_log2 nodes, in random order, parallel
    edges and self loops kept.

    R-MAT (Chakrabarti, Zhan and Faloutsos, 2004): an edge falls into one quadrant of the adjacency matrix
    with the probabilities RMAT, then into one quadrant of that, and so on. Random numbers are a hash of seed,
    edge and level, so any number of threads gives the same edges.
    """
    src, dst = np.empty(num_edges, np.int32), np.empty(num_edges, np.int32)
    a, b, c, _ = RMAT
    _rmat(nodes_log2, np.uint64(seed), np.array([a, a + b, a + b + c]) * 2.0**32, src, dst)
    return src, dst


def rmat(nodes_log2: int, num_edges: int, seed: int = 0, order: str = "random") -> Graph:
    """The graph of ``rmat_edges``.

    order: of the edge ids. "random" as generated: data of edges is read and written through a permutation, by
    everybody; "destination": ids are in in-edge order.
    """
    src, dst = rmat_edges(nodes_log2, num_edges, seed)
    if order == "destination":
        by_destination = np.argsort(dst, kind="stable")
        src, dst = src[by_destination], dst[by_destination]
    return Graph(src, dst, 2**nodes_log2)


def grid(side: int, seed: int = 0) -> Graph:
    """side × side nodes, each joined to its 8 neighbours in both directions, numbered at random."""
    nodes = np.arange(side * side).reshape(side, side)
    pairs = [
        (nodes[:, :-1], nodes[:, 1:]),
        (nodes[:-1], nodes[1:]),
        (nodes[:-1, :-1], nodes[1:, 1:]),
        (nodes[:-1, 1:], nodes[1:, :-1]),
    ]
    low, high = (np.concatenate([pair[end].ravel() for pair in pairs]) for end in (0, 1))
    return shuffled(Graph(np.concatenate([low, high]), np.concatenate([high, low]), side * side), seed)


def shuffled(g: Graph, seed: int = 0) -> Graph:
    """The graph with its nodes numbered at random: no order that a generator or a crawl has left."""
    numbers = np.random.default_rng(seed).permutation(g.num_nodes)
    return built(Graph(numbers[g.src], numbers[g.dst], g.num_nodes))


def built(g: Graph) -> Graph:
    """The graph, its in-edges and out-edges made: building them is no part of a kernel's time."""
    _ = g.in_edges, g.out_edges
    return g


@njit()
def _hash(x):
    """SplitMix64's finaliser (Steele, Lea and Flood, 2014): 64 bits that depend on every bit of x."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(parallel=True)
def _rmat(levels, seed, bounds, src, dst):
    """bounds: the cumulated probabilities times 2^32. A hash serves two levels."""
    for i in numba.prange(len(src)):
        u = v = 0
        bits = np.uint64(0)
        state = _hash((seed + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)) ^ (
            np.uint64(i) * np.uint64(0xD1342543DE82EF95)
        )
        for level in range(levels):
            bits = (
                bits >> np.uint64(32)
                if level % 2
                else _hash(state + np.uint64(level) * np.uint64(0x9E3779B97F4A7C15))
            )
            x = np.float64(bits & np.uint64(0xFFFFFFFF))
            low, right, both = x < bounds[0], x >= bounds[1], x >= bounds[2]
            u = 2 * u + (1 if right else 0)
            v = 2 * v + (1 if both or (not low and not right) else 0)
        src[i], dst[i] = u, v
