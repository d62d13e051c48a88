"""GraphLoader: a set of graphs in batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays import library_of
from numgraph.arrays.inputs import as_array, kind_of
from numgraph.arrays.typed import Array
from numgraph.errors import bad_type, bad_value, shown
from numgraph.graph import Graph, GraphBatch, check_graph


class LoadedBatch(GraphBatch):
    """A batch of a GraphLoader: a GraphBatch with its data.

    Attributes
    ----------
    graphs, graph, node_offsets, src_offsets, edge_offsets : as of ``GraphBatch``
    x : [nodes, …] the graphs' features, one after the other
    labels : [graphs, …] a row for each graph, or None
    indices : [graphs] their places in the data set: other data, say,
        are ``np.concatenate([w[i] for i in batch.indices])``
    edge_attr : [edges, …] features of the edges, of a data set that has them, or None

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> graphs = [ng.Graph([0, 1], [1, 0]), ng.Graph([0, 1, 2], [1, 2, 0])] * 2
    >>> data = ng.GraphDataset.from_graphs(graphs, [np.ones((g.num_nodes, 4)) for g in graphs], [0, 1] * 2)
    >>> batch = next(iter(ng.GraphLoader(data, batch_size=3)))
    >>> batch.x.shape, batch.labels, batch.indices
    ((7, 4), array([0, 1, 0]), array([0, 1, 2]))
    """

    def __init__(
        self, graphs: list[Graph], x: Any, labels: Any, indices: NDArray[np.int64], edge_attr: Any = None
    ) -> None:
        super().__init__(graphs)
        self.x: Array = x
        self.labels: Array = labels
        self.indices = indices
        self.edge_attr: Array | None = edge_attr


class GraphLoader:
    """Batches of a set of graphs; every pass over the loader is one over the set.

    Parameters
    ----------
    dataset : a GraphDataset, a sequence of (graph, x, label), or an object with ``graphs`` and ``features``,
        lists, ``labels`` [graphs, …] or None, and maybe ``edge_attr``, a list. x has a row for each node (of
        a bipartite graph each source), the same feature axes everywhere; arrays of NumPy, torch or JAX
    batch_size : graphs in a batch
    input_graphs : which graphs, a mask or ids, as ``dataset.train_mask``; by default all
    shuffle : in another order at every pass
    drop_last : leave out the last batch where it is smaller
    seed : of the orders; that of pass k depends on seed and k alone

    Raises
    ------
    TypeError, ValueError : items of another kind, or features and labels that do not fit the graphs;
        the message has the place

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> pair, ring = ng.Graph([0, 1], [1, 0]), ng.Graph([0, 1, 2], [1, 2, 0])
    >>> samples = [(pair, np.ones((2, 4)), 0), (ring, np.ones((3, 4)), 1), (pair, np.zeros((2, 4)), 0)]
    >>> for batch in ng.GraphLoader(samples, 2):
    ...     print(batch.graph, batch.x.shape, batch.labels, batch.node_offsets)
    Graph(num_nodes=5, num_edges=5) (5, 4) [0 1] [0 2 5]
    Graph(num_nodes=2, num_edges=2) (2, 4) [0] [0 2]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 32,
        *,
        input_graphs: Any = None,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
    ) -> None:
        for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise bad_value(
                    "GraphLoader", f"{name} is {shown(value)}", f"give a whole number, {least} or more"
                )
        self.dataset = dataset
        self.graphs, self.features, self.labels = _taken(dataset)
        self.edge_attr = _edges(self.graphs, getattr(dataset, "edge_attr", None))
        self.ids = (
            np.arange(len(self.graphs)) if input_graphs is None else _chosen(input_graphs, len(self.graphs))
        )
        self.batch_size, self.shuffle, self.drop_last, self.seed = (
            int(batch_size),
            shuffle,
            drop_last,
            int(seed),
        )
        self.epoch = 0

    def __len__(self) -> int:
        """Batches of a pass."""
        whole, rest = divmod(len(self.ids), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[LoadedBatch]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        order = self.ids.copy()
        if self.shuffle:
            np.random.default_rng([self.seed, epoch]).shuffle(order)
        return (self._batch(order[k * self.batch_size : (k + 1) * self.batch_size]) for k in range(len(self)))

    def _batch(self, indices: NDArray[np.int64]) -> LoadedBatch:
        chosen = indices.tolist()
        rows = [self.features[i] for i in chosen]
        labels = None if self.labels is None else self.labels[indices]
        of_edges = None if self.edge_attr is None else [self.edge_attr[i] for i in chosen]
        edge_attr = None if of_edges is None else library_of(of_edges[0]).concatenated(of_edges)
        return LoadedBatch(
            [self.graphs[i] for i in chosen],
            library_of(rows[0]).concatenated(rows),
            labels,
            indices,
            edge_attr,
        )


def _chosen(given: Any, count: int) -> NDArray[np.int64]:
    """Ids of graphs, of ids or of a mask."""
    ids = as_array("GraphLoader", "input_graphs", given)
    if ids.dtype == np.bool_ and ids.shape == (count,):
        return np.flatnonzero(ids)
    if ids.ndim != 1 or (ids.dtype.kind not in "iu" and ids.size):
        problem = f"input_graphs has dtype {ids.dtype} and shape {list(ids.shape)}"
        raise bad_type("GraphLoader", problem, f"give ids of graphs, or a mask [{count}]")
    wrong = np.flatnonzero((ids < 0) | (ids >= count))
    if len(wrong):
        raise bad_value(
            "GraphLoader", f"input_graphs[{wrong[0]}] is {ids[wrong[0]]}", f"ids run from 0 to {count - 1}"
        )
    found: NDArray[np.int64] = ids.astype(np.int64)
    return found


def _edges(graphs: list[Graph], given: Any) -> list[Any] | None:
    """The features of each graph's edges."""
    if given is None:
        return None
    arrays = list(given)
    if len(arrays) != len(graphs):
        problem = f"dataset has {len(graphs)} graphs and {len(arrays)} arrays of edge_attr"
        raise bad_value("GraphLoader", problem, "give an array for each graph")
    for i, (g, attr) in enumerate(zip(graphs, arrays, strict=True)):
        attr = arrays[i] = (
            attr if hasattr(attr, "shape") else as_array("GraphLoader", f"edge_attr of graph {i}", attr)
        )
        if len(attr.shape) == 0 or attr.shape[0] != g.num_edges or attr.shape[1:] != arrays[0].shape[1:]:
            problem = (
                f"edge_attr of graph {i} has shape {list(attr.shape)}, its graph has {g.num_edges} edges"
            )
            raise bad_value(
                "GraphLoader", problem, "give a row for each edge, as wide as those of the first graph"
            )
    return arrays


def _taken(dataset: Any) -> tuple[list[Graph], list[Any], Any]:
    """Graphs, features and labels, checked once."""
    if all(hasattr(dataset, name) for name in ("graphs", "features", "labels")):
        graphs, features, labels = list(dataset.graphs), list(dataset.features), dataset.labels
        if len(features) != len(graphs):
            raise bad_value(
                "GraphLoader",
                f"dataset has {len(graphs)} graphs and {len(features)} features",
                "give an array for each graph",
            )
    else:
        if not hasattr(dataset, "__iter__"):
            raise bad_type(
                "GraphLoader",
                f"dataset is {kind_of(dataset)}",
                "give a list of (graph, x, label), or an object with graphs, features, labels",
            )
        items = list(dataset)
        for i, item in enumerate(items):
            if not isinstance(item, tuple | list) or len(item) != 3:
                what = f"has {len(item)} entries" if isinstance(item, tuple | list) else f"is {kind_of(item)}"
                raise bad_type("GraphLoader", f"dataset[{i}] {what}", "an item is (graph, x, label)")
        graphs, features = [item[0] for item in items], [item[1] for item in items]
        given = [item[2] for item in items]
        if any(label is None for label in given):
            if i := next((i for i, label in enumerate(given) if (label is None) != (given[0] is None)), 0):
                raise bad_value(
                    "GraphLoader",
                    f"of dataset[0] and dataset[{i}] one has no label",
                    "give all graphs a label, or None to all",
                )
            labels = None
        elif given and library_of(given[0]).has_autodiff:
            library = library_of(given[0])
            labels = library.concatenated([label.reshape(1, *label.shape) for label in given])
        else:
            labels = given
    for i, (g, x) in enumerate(zip(graphs, features, strict=True)):
        check_graph("GraphLoader", f"graph {i}", g)
        x = features[i] = x if hasattr(x, "shape") else as_array("GraphLoader", f"x of graph {i}", x)
        if len(x.shape) == 0 or x.shape[0] != g.num_src or x.shape[1:] != features[0].shape[1:]:
            expected = ["…"] if i == 0 else list(features[0].shape[1:])
            problem = (
                f"x of graph {i} has shape {list(x.shape)}, its graph has {g.num_src} "
                f"{'sources' if g.is_bipartite else 'nodes'}"
            )
            raise bad_value("GraphLoader", problem, f"give [{', '.join(map(str, [g.num_src, *expected]))}]")
    if labels is not None:
        labels = labels if hasattr(labels, "shape") else as_array("GraphLoader", "labels", labels)
        if len(labels.shape) == 0 or labels.shape[0] != len(graphs):
            problem = f"labels has shape {list(labels.shape)}, there are {len(graphs)} graphs"
            raise bad_value("GraphLoader", problem, "give a row for each graph")
    return graphs, features, labels
