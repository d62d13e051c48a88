"""Loaders: batches of a dataset, sampled and gathered ahead of the training."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numgraph.arrays.inputs import as_array, kind_of
from numgraph.autodiff.tensor import Tensor
from numgraph.data.record import Dataset
from numgraph.errors import bad_type, bad_value, shown
from numgraph.graph import Graph, Origin
from numgraph.graph.sorting import checked_ids, frozen, given_ids
from numgraph.sampling.ahead import ahead
from numgraph.sampling.neighbors import Batch, NeighborSampler, checked_host, seeds_of
from numgraph.sampling.random import checked_seed, key_of
from numgraph.sampling.rows import Rows

CACHE_BYTES = 1 << 26
"""Memory for the rows of mapped features that are kept, if nothing else is said."""
MASKS = ("train_mask", "val_mask", "test_mask")


KINDS: dict[type, type[NeighborLoader]] = {}
"""What a NeighborLoader of other graphs than Graph is."""
_AT_ONCE = 4096
"""Nodes that inference takes together, at least."""


class Loader:
    """Batches of ids in an order of each epoch; a subclass makes them."""

    ids: NDArray[Any]
    processes: Any = None
    """Those that divide each batch's ids among them (numgraph.distributed.divide); None: this one has all."""

    def __init__(
        self,
        op: str,
        data: Any,
        *,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        seed: int,
        prefetch: int,
        cache_bytes: int = 0,
    ) -> None:
        self.origin, self.fields = _parts(op, data)
        self.x, self.labels = self.fields.get("x"), self.fields.get("labels")
        self.data = data
        self._rows = Rows(
            self.x, whole(op, "cache_bytes", cache_bytes, 0), functools.partial(hottest, self.origin.graph)
        )
        self._in_batches(op, batch_size, shuffle, drop_last, seed, prefetch)

    def _in_batches(
        self, op: str, batch_size: Any, shuffle: Any, drop_last: Any, seed: Any, prefetch: Any
    ) -> None:
        """How ids become batches."""
        self.batch_size, self.prefetch = (
            whole(op, "batch_size", batch_size, 1),
            whole(op, "prefetch", prefetch, 0),
        )
        self.shuffle, self.drop_last, self.seed = bool(shuffle), bool(drop_last), checked_seed(op, seed)
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.ids) // self.batch_size if self.drop_last else -(-len(self.ids) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        self._keep_rows()  # here, and not on one of the threads below
        ids = np.random.default_rng([self.seed, epoch]).permutation(self.ids) if self.shuffle else self.ids
        ids = frozen(ids.view())
        size = self.batch_size

        def make(i: int) -> Batch:
            return self._batch(self._own(ids[i * size : (i + 1) * size]), key_of(self.seed, epoch, i))

        return ahead(make, len(self), self.prefetch)

    def _keep_rows(self) -> None:
        """Read what is kept of mapped features, once."""
        self._rows.keep()

    def _batch(self, ids: NDArray[Any], key: np.uint64) -> Batch:
        raise NotImplementedError

    def _own(self, ids: NDArray[Any]) -> NDArray[Any]:
        """This process's part of a batch's ids. What is drawn for one does not depend on the others."""
        if self.processes is None:
            return ids
        rank, ranks = self.processes.rank, self.processes.size
        return ids[len(ids) * rank // ranks : len(ids) * (rank + 1) // ranks]

    def all_rows(self, own: NDArray[Any]) -> NDArray[Any]:
        """The rows of all nodes, of those that this process has found, which are 0 elsewhere."""
        return own if self.processes is None else self.processes.summed([own])[0]

    def take_rows(self, rows: Any) -> None:
        """Features are what ``rows(ids)`` gives, which is called for one batch after the other."""
        self.x, self._rows, self.prefetch = rows, rows, 0

    def over_all(self, x: Any) -> NeighborLoader:
        """A loader of every node with all in-edges, one hop, and these features: what a layer's inference
        goes over.
        """
        fields = {} if x is self._rows else {"x": x}
        made = NeighborLoader(
            (self.origin.graph, fields), [-1], batch_size=self._nodes_in_batch(), prefetch=self.prefetch
        )
        if x is self._rows:
            made.take_rows(x)
        made.origin, made.processes = self.origin, self.processes
        return made

    def _nodes_in_batch(self) -> int:
        """Nodes in a batch of inference. It has one hop only, so that many nodes read fewer rows than a small
        batch of several hops.
        """
        return max(self.batch_size, _AT_ONCE)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} batches of {self.batch_size}, {self.origin.graph!r})"


class NeighborLoader(Loader):
    """Batches of nodes with their sampled neighbours, features and labels.

    Parameters
    ----------
    data : Dataset, or (Graph, {"x": features}), where features are an array of a row a node,
        also one mapped from a file; "labels" too; or (HeteroGraph, {type: {"x": features}})
    num_neighbors : for each layer, how many in-edges of a node are drawn, the seeds' last, -1 for all;
        or a NeighborSampler
    input_nodes : ids of the seeds of an epoch, or a mask of all nodes; None: every node;
        of a HeteroGraph a pair (type, ids, mask or None)
    batch_size : seeds in a batch
    shuffle : an order of each epoch's own; else that of input_nodes
    drop_last : leave out the last batch where it has fewer seeds
    seed : of the order and of what is drawn
    prefetch : batches that are made ahead, each on a thread; 0 makes them when they are asked for.
        The batches are the same
    cache_bytes : memory for features that are mapped from a file:
        the rows of the nodes with the most out-edges are read once and kept

    Notes
    -----
    Rows of a mapped file that are not in memory are read by 64 threads, and the file is then told not to be
    read ahead (MADV_RANDOM).

    Of a HeteroGraph the blocks are HeteroBlocks; num_neighbors are of each relation by itself, and may be
    {relation: list}; ``batch.x``, ``batch.nodes`` and ``batch.seeds`` are dicts by type, ``batch.labels``
    those of the seeds' type.

    Each pass over the loader is an epoch, with draws of its own; ``loader.epoch`` is the number of the next
    one, and may be set.

    Examples
    --------
    >>> import numgraph as ng
    >>> data = ng.data.load("karate")
    >>> loader = ng.NeighborLoader(data, [5, 5], input_nodes=data.train_mask, batch_size=2)
    >>> batch = next(iter(loader))
    >>> ng.nn.SAGE(data.num_features, 8, 2)(batch.blocks, batch.x).shape
    (2, 2)
    """

    def __new__(cls, data: Any = None, *args: Any, **options: Any) -> Any:
        graph = data[0] if isinstance(data, tuple | list) and len(data) else data
        return super().__new__(KINDS.get(type(graph), cls) if cls is NeighborLoader else cls)

    def __init__(
        self,
        data: Any,
        num_neighbors: Any = (15, 10, 5),
        *,
        input_nodes: ArrayLike | None = None,
        batch_size: int = 1024,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        prefetch: int = 2,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        op = "NeighborLoader"
        common: dict[str, Any] = {
            "batch_size": batch_size,
            "shuffle": shuffle,
            "drop_last": drop_last,
            "seed": seed,
            "prefetch": prefetch,
        }
        super().__init__(op, data, **common, cache_bytes=cache_bytes)
        self.sampler = sampler_of(num_neighbors)
        self.ids = nodes_of(op, self.origin.graph, input_nodes)

    functools.update_wrapper(__new__, __init__, (), ())  # whose arguments help() shows

    def _batch(self, ids: NDArray[Any], key: np.uint64) -> Batch:
        batch = self.sampler.drawn("NeighborLoader", self.origin, ids, key)
        if self.x is not None:
            batch.x = self._rows(batch.nodes)
        if self.labels is not None:
            batch.labels = self.labels[ids]
        return batch


def sampler_of(num_neighbors: Any) -> NeighborSampler:
    return num_neighbors if isinstance(num_neighbors, NeighborSampler) else NeighborSampler(num_neighbors)


def hottest(g: Graph, count: int) -> NDArray[Any]:
    """So many nodes with the most out-edges, which samples have most often."""
    degrees = g.degrees_of_sources()
    return np.argpartition(degrees, len(degrees) - count)[len(degrees) - count :]


def nodes_of(op: str, g: Graph, nodes: Any) -> NDArray[Any]:
    """Distinct ids of nodes, of a mask where it is true, all of None."""
    if nodes is None:
        return np.arange(g.num_nodes, dtype=g.in_edges_as_read().indices.dtype)
    ids = seeds_of(op, g, chosen(op, "input_nodes", nodes, g.num_nodes), "input_nodes")
    check_distinct(op, "input_nodes", ids)
    return ids


def edges_of(op: str, g: Graph, edges: Any) -> NDArray[Any]:
    """Distinct ids of edges, of a mask where it is true, all of None."""
    if edges is None:
        return np.arange(g.num_edges, dtype=g.in_edges_as_read().indptr.dtype)
    given = given_ids(op, "edges", chosen(op, "edges", edges, g.num_edges))
    ids = checked_ids(op, "edges", given, "num_edges", g.num_edges, g.in_edges_as_read().indptr.dtype)
    check_distinct(op, "edges", ids)
    return ids


def chosen(op: str, name: str, ids: Any, count: int) -> Any:
    """Ids, or those where a mask is true."""
    array = as_array(op, name, ids)
    if array.dtype != np.bool_:
        return ids
    if array.shape != (count,):
        raise bad_value(
            op, f"{name} is a mask of shape {list(array.shape)}", f"give ids, or a mask [{count}]"
        )
    return np.flatnonzero(array)


def check_distinct(op: str, name: str, ids: NDArray[Any]) -> None:
    """An error where an id is there twice."""
    _, first = np.unique(ids, return_index=True)
    if len(first) < len(ids):
        again = int(np.setdiff1d(np.arange(len(ids)), first)[0])
        raise bad_value(
            op,
            f"{name}[{again}] is {ids[again]}, which is there before",
            f"give each {name[-5:-1]} once, as np.unique(ids)",
        )


def _parts(op: str, data: Any) -> tuple[Origin, dict[str, Any]]:
    """The graph with its weights, and what its nodes have."""
    if isinstance(data, Dataset):
        data = data.to("cpu")
        fields = {"x": data.features, "labels": data.labels, **{name: getattr(data, name) for name in MASKS}}
        return Origin(checked_host(op, data.graph), data.edge_weight), fields
    if not (isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[1], Mapping)):
        raise bad_type(op, f"data is {kind_of(data)}", 'give a Dataset, or (graph, {"x": features})')
    graph, given = checked_host(op, data[0]), data[1]
    for name, array in given.items():
        if name not in ("x", "labels", *MASKS):
            raise bad_value(
                op,
                f"data has {shown(name)}",
                'the fields are "x", "labels" and masks; others are rows by batch.nodes',
            )
        check_rows(op, name, array, graph.num_nodes)
    return Origin(graph), {name: array if name == "x" else np.asarray(array) for name, array in given.items()}


def check_rows(op: str, name: str, array: Any, count: int) -> None:
    """An error where a field of nodes is no array of a row a node."""
    if array is None or isinstance(array, Tensor):
        fix = (
            "a loader copies rows of arrays: give x.data, or x[batch.nodes] inside the tape"
            if isinstance(array, Tensor)
            else "leave it out"
        )
        raise bad_type(op, f"{name} is {kind_of(array)}", fix)
    shape = array.shape if hasattr(array, "shape") else np.shape(array)
    if tuple(shape[:1]) != (count,):
        has = f"{shape[0]} rows" if shape else "no rows"
        raise bad_value(op, f"{name} has {has}, the graph {count} nodes", "give one row a node")


def whole(op: str, name: str, value: Any, least: int) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < least:
        raise bad_value(op, f"{name} is {shown(value)}", f"give a whole number of at least {least}")
    return int(value)
