"""ClusterLoader: batches that are parts of the graph with the edges inside of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numgraph.arrays.inputs import INTEGERS, as_array
from numgraph.errors import bad_type, bad_value, shown
from numgraph.graph import Graph
from numgraph.graph.edges import SRC, Edges
from numgraph.graph.partition import partition
from numgraph.graph.sorting import Adjacency, Ids, frozen, given_ids, ids_dtype
from numgraph.runtime.compiling import njit
from numgraph.sampling import drawing
from numgraph.sampling.loaders import MASKS, Loader
from numgraph.sampling.neighbors import Batch, table_of


class ClusterLoader(Loader):
    """Batches of some parts of the graph, with all edges between their nodes (Chiang et al., Cluster-GCN, KDD
    2019).

    Parameters
    ----------
    data : Dataset, or (Graph, {"x": features}) as of a NeighborLoader, also with "train_mask",
        "val_mask" and "test_mask"
    parts : how many parts; or [num_nodes] the part of each node, 0, 1, …
    batch_size : parts in a batch
    shuffle : parts meet in another order in each epoch; else in the order of their numbers
    drop_last : leave out the last batch where it has fewer parts
    seed : of the orders
    prefetch : batches that are made ahead, each on a thread; 0 makes them when they are asked for.
        The batches are the same

    Attributes
    ----------
    parts : [num_nodes] the part of each node

    Notes
    -----
    A batch has ``blocks``, the subgraph, a Graph; ``nodes`` and ``seeds``, its nodes' ids, which ascend
    within each part; ``x``, ``labels`` and the masks, a row for each of them; ``edge_ids``, of the subgraph's
    edges. Degrees and self loops are those of the subgraph. A number of parts is cut by METIS where pymetis
    is installed, and else into stretches of a breadth-first order, which cut more edges.

    Examples
    --------
    >>> import numgraph as ng
    >>> data = ng.data.load("karate")
    >>> for batch in ng.ClusterLoader(data, data.labels):
    ...     print(batch.blocks, batch.x.shape, batch.train_mask.sum())
    Graph(num_nodes=17, num_edges=70) (17, 34) 1
    Graph(num_nodes=17, num_edges=64) (17, 34) 1
    """

    def __init__(
        self,
        data: Any,
        parts: int | ArrayLike,
        *,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        prefetch: int = 2,
    ) -> None:
        op = "ClusterLoader"
        super().__init__(
            op,
            data,
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            seed=seed,
            prefetch=prefetch,
        )
        self.parts = _parts_of(op, self.origin.graph, parts)
        count = int(self.parts.max(initial=-1)) + 1
        self._order = np.argsort(self.parts, kind="stable").astype(self.origin.graph.in_edges.indices.dtype)
        self._starts = np.searchsorted(self.parts[self._order], np.arange(count + 1))
        self.ids = np.flatnonzero(np.diff(self._starts))  # a part without nodes is none

    def _batch(self, ids: NDArray[Any], key: np.uint64) -> Batch:
        nodes = frozen(np.concatenate([self._order[self._starts[i] : self._starts[i + 1]] for i in ids]))
        made: tuple[Any, Ids] = _induced(self.origin.graph, nodes)
        batch = Batch(made[0], nodes, nodes, _edge_ids=made[1])
        if self.x is not None:
            batch.x = self._rows(nodes)
        for name in ("labels", *MASKS):
            array = self.fields.get(name)
            setattr(batch, name, None if array is None else array[nodes])
        return batch


def _induced(g: Graph, nodes: Ids) -> tuple[Graph, Ids]:
    """The edges between distinct nodes, in the order of in-edges, and their ids; it takes as long as there
    are in-edges of these nodes.
    """
    rows = g.in_edges
    idle, table = table_of(g)
    stamp = table.next()
    drawing.begin(table.entries, stamp, nodes, np.empty_like(nodes))
    most = int((rows.indptr[nodes + 1] - rows.indptr[nodes]).sum())
    local = ids_dtype(len(nodes), most)
    starts, numbers, positions = (
        np.empty(len(nodes) + 1, local),
        np.empty(most, local),
        np.empty(most, rows.indptr.dtype),
    )
    count = drawing.induce(rows.indptr, rows.indices, table.entries, stamp, nodes, starts, numbers, positions)
    idle.append(table)
    made = Adjacency(frozen(starts), frozen(numbers[:count].copy()), ordered=True)
    positions = positions[:count].copy()
    ids = positions if rows.ordered else rows.edge_ids[positions]
    edges = Edges((len(nodes), len(nodes)), [made.indices, None], [None, made])
    return Graph._sharing(edges, SRC), frozen(ids)


def _parts_of(op: str, g: Graph, parts: Any) -> Ids:
    """[num_nodes] the part of each node."""
    if not hasattr(parts, "ndim") and not np.isscalar(parts):
        parts = as_array(op, "parts", parts, INTEGERS)
    if np.ndim(parts) == 0:
        if isinstance(parts, bool | np.bool_) or not isinstance(parts, int | np.integer):
            raise bad_type(op, f"parts is {shown(parts)}", "give a number of parts, or the part of each node")
        if not 1 <= parts <= max(g.num_nodes, 1):
            raise bad_value(
                op,
                f"parts is {parts}, of {g.num_nodes} nodes",
                "give at least 1 and at most as many parts as nodes",
            )
        return _cut(g, int(parts))
    ids = given_ids(op, "parts", parts)
    if len(ids) != g.num_nodes:
        raise bad_value(
            op, f"parts has {len(ids)} entries, the graph {g.num_nodes} nodes", "give the part of each node"
        )
    if len(ids) and ids.min() < 0:
        node = int(np.flatnonzero(ids < 0)[0])
        raise bad_value(op, f"parts[{node}] is {ids[node]}", "parts are numbered from 0")
    return frozen(ids.astype(np.int64))


def _cut(g: Graph, parts: int) -> Ids:
    """Parts of METIS; without pymetis stretches of a breadth-first order."""
    try:
        return frozen(partition(g, parts).astype(np.int64))
    except ModuleNotFoundError:
        rows = g.to_bidirected().out_edges
        order = np.empty(g.num_nodes, np.int64)
        _breadth_first(rows.indptr, rows.indices, order)
        found = np.empty(g.num_nodes, np.int64)
        found[order] = np.arange(g.num_nodes) * parts // max(g.num_nodes, 1)
        return frozen(found)


@njit()
def _breadth_first(indptr, indices, order):
    """The nodes as a search finds them that begins anew at the first node that is left."""
    seen = np.zeros(len(order), np.bool_)
    count, head = 0, 0
    for first in range(len(order)):
        if seen[first]:
            continue
        seen[first] = True
        order[count] = first
        count += 1
        while head < count:
            node = order[head]
            head += 1
            for k in range(indptr[node], indptr[node + 1]):
                other = indices[k]
                if not seen[other]:
                    seen[other] = True
                    order[count] = other
                    count += 1
