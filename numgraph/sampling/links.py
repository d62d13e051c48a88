"""LinkLoader: batches of edges to be told from pairs that are none, without the edges themselves among what
the model sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numgraph.data.links import Links
from numgraph.errors import bad_value, shown
from numgraph.graph import Origin
from numgraph.graph.sorting import frozen
from numgraph.sampling.loaders import CACHE_BYTES, Loader, edges_of, sampler_of, whole
from numgraph.sampling.negatives import NonEdges
from numgraph.sampling.neighbors import Banned, Batch, NeighborSampler
from numgraph.sampling.random import key_of

EXCLUDE = ("both", "forward", None)
NEGATIVES = ("uniform", "source")


class LinkLoader(Loader):
    """Batches of edges with as many pairs that are no edges, and the sampled neighbours of their ends.

    Parameters
    ----------
    data : Dataset, or (Graph, {"x": features}) as of a NeighborLoader;
        or Links, whose edges are then the pairs for training, each once
    num_neighbors : for each layer, how many in-edges of a node are drawn, the seeds' last, -1 for all;
        or a NeighborSampler
    edges : ids of the target edges of an epoch, or a mask of all edges; None: every edge
    negatives : pairs that are no edges, for each target
    negative_method : "uniform", any pair of nodes is as likely;
        "source", the target's source with any other destination
    exclude : "both", no edge between a target's two ends is drawn by any node of its batch,
        neither in its direction nor against it, nor parallel ones; "forward", none in its direction; None,
        nothing is left out and the model sees what it is to find. Pairs that are no edges are none in these
        directions, at least their own
    batch_size : targets in a batch
    shuffle : an order of each epoch's own; else that of edges
    drop_last : leave out the last batch where it has fewer targets
    seed : of the order and of what is drawn
    prefetch : batches that are made ahead, each on a thread; 0 makes them when they are asked for.
        The batches are the same
    cache_bytes : memory for rows of mapped features, as of a NeighborLoader

    Notes
    -----
    A batch has ``edges``, the targets' ids; ``seeds``, the nodes of all its pairs; ``pairs``, two rows of the
    model's result for each, the targets' first; ``labels``, 1 for targets and 0 for the others, float32;
    ``blocks``, ``nodes`` and ``x`` as of a NeighborLoader. Degrees, by which GCN scales, are those of the
    graph without the edges that are left out: with them the ends of targets are told by degrees that do not
    fit their edges (GCN on Cora's links: an area under the ROC curve of 0.73 instead of 0.91).

    Examples
    --------
    >>> import numgraph as ng
    >>> data = ng.data.load("karate")
    >>> batch = next(iter(ng.LinkLoader(data, [5, 5], batch_size=8)))
    >>> h = ng.nn.SAGE(data.num_features, 8, 4, rng=0)(batch.blocks, batch.x)
    >>> scores = (h[batch.pairs[:, 0]] * h[batch.pairs[:, 1]]).sum(1)
    >>> scores.shape, batch.labels.sum().item()
    ((16,), 8.0)
    """

    def __init__(
        self,
        data: Any,
        num_neighbors: Sequence[int] | NeighborSampler,
        *,
        edges: ArrayLike | None = None,
        negatives: int = 1,
        negative_method: str = "uniform",
        exclude: str | None = "both",
        batch_size: int = 1024,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        prefetch: int = 2,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        op = "LinkLoader"
        if isinstance(data, Links):
            edges = data.edge_ids if edges is None else edges
            data = data.data
        common: dict[str, Any] = {
            "batch_size": batch_size,
            "shuffle": shuffle,
            "drop_last": drop_last,
            "seed": seed,
            "prefetch": prefetch,
        }
        super().__init__(op, data, **common, cache_bytes=cache_bytes)
        for name, value, known in (
            ("exclude", exclude, EXCLUDE),
            ("negative_method", negative_method, NEGATIVES),
        ):
            if value not in known:
                raise bad_value(op, f"{name} is {shown(value)}", f"choose from {', '.join(map(repr, known))}")
        g = self.origin.graph
        self.sampler, self.ids = sampler_of(num_neighbors), edges_of(op, g, edges)
        self.negatives, self.negative_method, self.exclude = (
            whole(op, "negatives", negatives, 0),
            negative_method,
            exclude,
        )
        self._others = (
            NonEdges(op, g, False, exclude != "both" or negative_method == "source")
            if self.negatives
            else None
        )

    def _own(self, ids: NDArray[Any]) -> NDArray[Any]:
        """All: what is drawn for one process's targets leaves out the others' too."""
        return ids

    def _batch(self, ids: NDArray[Any], key: np.uint64) -> Batch:
        op, g = "LinkLoader", self.origin.graph
        src, dst = g.src[ids], g.dst[ids]
        (banned, origin), (left, right) = (
            self._without(src, dst),
            self._drawn(op, src, key_of(int(key), 0, 0)),
        )
        own = super()._own(np.arange(len(ids)))
        left, right = (ends.reshape(len(ids), self.negatives)[own].reshape(-1) for ends in (left, right))
        ids, src, dst = ids[own], src[own], dst[own]
        seeds, rows = np.unique(np.concatenate([src, left, dst, right]), return_inverse=True)
        batch = self.sampler.drawn(op, origin, frozen(seeds), key, banned)
        if self.x is not None:
            batch.x = self._rows(batch.nodes)
        pairs = np.ascontiguousarray(rows.reshape(2, -1).T)
        labels = (np.arange(len(pairs)) < len(ids)).astype(np.float32)
        return replace(batch, edges=ids, pairs=pairs, labels=labels)

    def _drawn(self, op: str, sources: NDArray[Any], key: np.uint64) -> tuple[NDArray[Any], NDArray[Any]]:
        """Pairs that are no edges."""
        if self._others is None:
            return sources[:0], sources[:0]
        if self.negative_method == "source":
            return self._others.of_sources(op, sources, self.negatives, key, True)
        return self._others.evenly(op, len(sources) * self.negatives, key, True)

    def _without(self, src: NDArray[Any], dst: NDArray[Any]) -> tuple[Banned, Origin]:
        """What is not drawn, and the graph without it."""
        if self.exclude is None:
            return (src[:0].astype(np.int64), dst[:0].astype(np.int64)), self.origin
        into, out = (
            (np.concatenate([dst, src]), np.concatenate([src, dst])) if self.exclude == "both" else (dst, src)
        )
        order = np.lexsort((out, into))
        into, out = into[order].astype(np.int64), out[order].astype(np.int64)
        g, weight = self.origin.graph, self.origin.edge_weight
        ids = np.unique(g.edge_ids(out, into, parallel=True)[0])
        ids = ids[g.src[ids] != g.dst[ids]]  # a node has a loop in any case
        return (into, out), self.origin.without(
            (g.src[ids], g.dst[ids], None if weight is None else np.asarray(weight)[ids].reshape(-1))
        )
