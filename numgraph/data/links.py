"""Pairs of nodes for link prediction: edges that are held out, and pairs that are no edges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.inputs import generator, kind_of
from numgraph.data.record import Dataset
from numgraph.data.split import shares_of
from numgraph.errors import bad_type, bad_value
from numgraph.graph import Graph

Pairs = NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class Links:
    """A dataset whose edges are dealt out: messages go along those for training, the others are to be told
    from pairs that are no edges.

    Attributes
    ----------
    data : Dataset
        Its graph has the edges for training alone.
    train, val, test : [pairs, 2]
        Pairs of nodes that edges join, in one or both directions; each pair once, the smaller id first,
        without self loops.
    val_negatives, test_negatives : [pairs, 2]
        As many pairs that no edge joins, in any part.

    Examples
    --------
    >>> import numgraph as ng
    >>> links = ng.data.split_links(ng.data.load("karate"), (0.8, 0.1, 0.1))
    >>> links, links.data.graph.num_edges
    (Links('karate', nodes=34, pairs=62/8/8), 124)
    """

    data: Dataset
    train: Pairs
    val: Pairs
    test: Pairs
    val_negatives: Pairs
    test_negatives: Pairs

    @cached_property
    def edge_ids(self) -> NDArray[np.int64]:
        """[pairs for training] the edge of each in the graph, the first one."""
        g = self.data.graph.to("cpu")
        known, first = np.unique(_keys(g), return_index=True)
        return first[np.searchsorted(known, self.train[:, 0] * g.num_nodes + self.train[:, 1])]

    def to(self, device: str) -> Links:
        """The same with its dataset on a device; pairs are ids, which stay on the host.

        Parameters
        ----------
        device : "cpu" or "cuda"

        Returns
        -------
        Links

        Raises
        ------
        ValueError, ModuleNotFoundError, OSError : as of ``Graph.to``
        """
        return replace(self, data=self.data.to(device))

    def __repr__(self) -> str:
        return (
            f"Links({self.data.name!r}, nodes={self.data.num_nodes}, "
            f"pairs={len(self.train)}/{len(self.val)}/{len(self.test)})"
        )


def split_links(
    data: Dataset, split: Any = (0.8, 0.1, 0.1), rng: int | np.random.Generator | None = 0
) -> Links:
    """Deal out the edges of a dataset for link prediction.

    Both directions of an edge, and parallel edges, stay together: nothing of a held-out pair is left in the
    graph.

    Parameters
    ----------
    data : Dataset
    split : the shares of the pairs for training, validation and test;
        pairs left over are in no part and not in the graph
    rng : a seed or a generator, from which the split and the pairs that are no edges are drawn

    Returns
    -------
    Links

    Raises
    ------
    ValueError
        No pair for training, or so many edges that there are not enough pairs without one.

    Examples
    --------
    >>> import numgraph as ng
    >>> ng.data.split_links(ng.data.load("karate"))
    Links('karate', nodes=34, pairs=62/8/8)
    """
    op = "split_links"
    if not isinstance(data, Dataset):
        raise bad_type(
            op,
            f"data is {kind_of(data)}",
            "give a Dataset, as numgraph.data.load, read_tables or Dataset.from_arrays(graph, x) returns it",
        )
    shares = shares_of(op, split)
    rng = generator(op, rng)
    graph, count = data.graph, data.num_nodes
    keys, loops = _keys(graph), graph.src == graph.dst
    joined = np.unique(keys[~loops])
    ends = np.round(np.cumsum(shares) * len(joined) + 1e-9).astype(int)
    if ends[0] == 0:
        raise bad_value(
            op,
            f"of {len(joined)} pairs none is for training with split {shares}",
            "give more edges, or a larger first share",
        )
    dealt = rng.permutation(joined)
    parts = [dealt[start:end] for start, end in zip((0, *ends[:-1]), ends)]
    train = np.sort(parts[0])
    _check_room(op, train, count)  # each epoch draws pairs beside these
    kept = np.flatnonzero(_among(keys, train) | loops)
    left = replace(
        data,
        graph=Graph(graph.src[kept], graph.dst[kept], count),
        edge_weight=None if data.edge_weight is None else data.edge_weight[kept],
    )
    negatives = [negative_pairs(op, joined, count, len(part), rng) for part in parts[1:]]
    return Links(left, *(_pairs(part, count) for part in parts), *negatives)


def _keys(g: Graph) -> NDArray[np.int64]:
    """low · num_nodes + high of the ends of each edge."""
    return np.minimum(g.src, g.dst).astype(np.int64) * g.num_nodes + np.maximum(g.src, g.dst)


def negative_pairs(
    op: str, joined: NDArray[np.int64], num_nodes: int, wanted: int, rng: np.random.Generator
) -> Pairs:
    """[wanted, 2] pairs of two nodes, drawn evenly from those that are not joined, the smaller id first; a
    pair may come twice.

    joined: the keys low · num_nodes + high of joined pairs, sorted.
    """
    if wanted:
        _check_room(op, joined, num_nodes)
    found = np.zeros(0, np.int64)
    while len(found) < wanted:
        ends = rng.integers(0, num_nodes, (max(16, 2 * (wanted - len(found))), 2))
        low, high = ends.min(1), ends.max(1)
        keys = (low * num_nodes + high)[low != high]
        found = np.concatenate([found, keys[~_among(keys, joined)]])
    return _pairs(found[:wanted], num_nodes)


def _check_room(op: str, joined: NDArray[np.int64], num_nodes: int) -> None:
    """An error where every pair of nodes is joined."""
    if num_nodes * (num_nodes - 1) // 2 <= len(joined):
        problem = f"all {len(joined):,} pairs of {num_nodes:,} nodes are joined"
        raise bad_value(op, problem, "there is no pair without an edge to tell apart")


def _among(keys: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each key is among the known ones, which are sorted."""
    if not len(known):
        return np.zeros(len(keys), bool)
    found: NDArray[np.bool_] = known[np.minimum(np.searchsorted(known, keys), len(known) - 1)] == keys
    return found


def _pairs(keys: NDArray[np.int64], num_nodes: int) -> Pairs:
    return np.stack([keys // num_nodes, keys % num_nodes], axis=1)


def keys_of(pairs: Pairs, num_nodes: int) -> NDArray[np.int64]:
    """The sorted keys of pairs, as ``negative_pairs`` takes them."""
    return np.sort(pairs[:, 0] * num_nodes + pairs[:, 1])
