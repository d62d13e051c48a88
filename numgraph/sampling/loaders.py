"""Loaders: batches of a dataset, sampled and gathered ahead of the training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numgraph.arrays.inputs import is_sparse, kind_of
from numgraph.data.record import Dataset
from numgraph.errors import bad_type, bad_value, shown
from numgraph.graph import Graph, Origin
from numgraph.sampling.ahead import ahead
from numgraph.sampling.neighbors import Batch, NeighborSampler, checked_host, seeds_of
from numgraph.sampling.random import checked_seed, key_of
from numgraph.sampling.rows import rows_of


class _Loader:
    """Batches of ids in an order of each epoch; a subclass makes them."""

    def __init__(
        self, op: str, data: Any, ids: NDArray[Any], batch_size: int, shuffle: bool, drop_last: bool, seed: int, prefetch: int
    ) -> None:
        self.origin, self.x, self.labels = _parts(op, data)
        self.data, self.ids = data, ids
        self.batch_size, self.prefetch = _count(op, "batch_size", batch_size, 1), _count(op, "prefetch", prefetch, 0)
        self.shuffle, self.drop_last, self.seed = bool(shuffle), bool(drop_last), checked_seed(op, seed)
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.ids) // self.batch_size if self.drop_last else -(-len(self.ids) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        ids = np.random.default_rng([self.seed, epoch]).permutation(self.ids) if self.shuffle else self.ids
        size = self.batch_size

        def make(i: int) -> Batch:
            return self._batch(ids[i * size : (i + 1) * size], key_of(self.seed, epoch, i))

        return ahead(make, len(self), self.prefetch)

    def _batch(self, ids: NDArray[Any], key: np.uint64) -> Batch:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} batches of {self.batch_size}, {self.origin.graph!r})"


class NeighborLoader(_Loader):
    """Batches of nodes with their sampled neighbours, features and labels.

    Parameters
    ----------
    data : Dataset, or (Graph, {"x": features}), where features are an array of a row a node, also one mapped from a file; "labels" too
    num_neighbors : for each layer, how many in-edges of a node are drawn, the seeds' last, -1 for all; or a NeighborSampler
    input_nodes : ids of the seeds of an epoch, or a mask of all nodes; None: every node
    batch_size : seeds in a batch
    shuffle : an order of each epoch's own; else that of input_nodes
    drop_last : leave out the last batch where it has fewer seeds
    seed : of the order and of what is drawn
    prefetch : batches that are made ahead, each on a thread; 0 makes them when they are asked for. The batches are the same

    Notes
    -----
    Each pass over the loader is an epoch, with draws of its own; ``loader.epoch`` is the number of the next one, and may be set.

    Examples
    --------
    >>> import numgraph as ng
    >>> data = ng.data.load("karate")
    >>> loader = ng.NeighborLoader(data, [5, 5], input_nodes=data.train_mask, batch_size=2)
    >>> batch = next(iter(loader))
    >>> ng.nn.SAGE(data.num_features, 8, 2)(batch.blocks, batch.x).shape
    (2, 2)
    """

    def __init__(
        self,
        data: Any,
        num_neighbors: Sequence[int] | NeighborSampler = (15, 10, 5),
        *,
        input_nodes: ArrayLike | None = None,
        batch_size: int = 1024,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        prefetch: int = 2,
    ) -> None:
        op = "NeighborLoader"
        self.sampler = num_neighbors if isinstance(num_neighbors, NeighborSampler) else NeighborSampler(num_neighbors)
        ids = nodes_of(op, _parts(op, data)[0].graph, input_nodes)
        super().__init__(op, data, ids, batch_size, shuffle, drop_last, seed, prefetch)

    def _batch(self, ids: NDArray[Any], key: np.uint64) -> Batch:
        batch = self.sampler.drawn("NeighborLoader", self.origin, ids, key)
        batch.x = None if self.x is None else rows_of(self.x, batch.nodes)
        batch.labels = None if self.labels is None else self.labels[ids]
        return batch

    def over_all(self, x: Any) -> NeighborLoader:
        """A loader of every node with all in-edges, one hop, and these features: what a layer's inference goes over."""
        made = NeighborLoader((self.origin.graph, {"x": x}), [-1], batch_size=self.batch_size, prefetch=self.prefetch)
        made.origin = self.origin
        return made


def nodes_of(op: str, g: Graph, nodes: Any) -> NDArray[Any]:
    """Distinct ids of nodes, of a mask where it is true, all of None."""
    if nodes is None:
        return np.arange(g.num_nodes, dtype=g.in_edges.indices.dtype)
    array = np.asarray(nodes)
    if array.dtype == np.bool_:
        if array.shape != (g.num_nodes,):
            raise bad_value(op, f"input_nodes is a mask of shape {list(array.shape)}", f"give ids, or a mask [{g.num_nodes}]")
        array = np.flatnonzero(array)
    ids = seeds_of(op, g, array, "input_nodes")
    _, first = np.unique(ids, return_index=True)
    if len(first) < len(ids):
        again = int(np.setdiff1d(np.arange(len(ids)), first)[0])
        raise bad_value(op, f"input_nodes[{again}] is {ids[again]}, which is there before", "give each node once, as np.unique(ids)")
    return ids


def _parts(op: str, data: Any) -> tuple[Origin, Any, Any]:
    """The graph with its weights, features and labels."""
    if isinstance(data, Dataset):
        data = data.to("cpu")
        return Origin(checked_host(op, data.graph), data.edge_weight), data.features, data.labels
    if not (isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[1], Mapping)):
        raise bad_type(op, f"data is {kind_of(data)}", 'give a Dataset, or (graph, {"x": features})')
    graph, fields = checked_host(op, data[0]), data[1]
    for name, array in fields.items():
        if name not in ("x", "labels"):
            raise bad_value(op, f"data has {shown(name)}", 'the fields are "x" and "labels"; others are rows by batch.nodes')
        rows = array.shape[0] if is_sparse(array) or hasattr(array, "shape") else len(array)
        if rows != graph.num_nodes:
            raise bad_value(op, f"{name} has {rows} rows, the graph {graph.num_nodes} nodes", "give one row a node")
    labels = fields.get("labels")
    return Origin(graph), fields.get("x"), None if labels is None else np.asarray(labels)


def _count(op: str, name: str, value: Any, least: int) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < least:
        raise bad_value(op, f"{name} is {shown(value)}", f"give a whole number of at least {least}")
    return int(value)
