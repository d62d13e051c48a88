"""What every loader returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from numgraph.arrays.devices import moved
from numgraph.arrays.inputs import as_array, given, is_sparse, kind_of
from numgraph.arrays.typed import Array
from numgraph.data.columns import Columns
from numgraph.data.split import parts_of
from numgraph.errors import bad_type, bad_value, check_name, no_attribute
from numgraph.graph import Graph, check_graph

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


_ARRAYS = ("features", "labels", "train_mask", "val_mask", "test_mask", "edge_weight")
TASKS = ("classification", "regression")


Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool]]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A graph with features and labels on its nodes, split for training, validation and test.

    Attributes
    ----------
    name : str
    graph : Graph
        N nodes; an undirected edge is stored as two directed ones.
    features : float32 array [N, F], or a SciPy sparse matrix
    labels : int64 array [N], or float32 for a regression
        0 … num_classes − 1, or −1 where the source gives no label; NaN for a regression. Such nodes are in no
        mask.
    train_mask, val_mask, test_mask : bool arrays [N]
        Disjoint.
    num_classes : int
        0 for a regression.
    edge_weight : float32 array [num_edges] or None
    names : the name of each node, or None
        Node i is names[i].
    task : "classification" or "regression"
    label_scale : (mean, deviation)
        A regression learns (label − mean) / deviation, and so a model's results are mean + deviation ·
        model(graph, features).
    columns : how the columns of a table became features and labels, or None
        ``columns.classes[k]`` is the name of class k.

    Notes
    -----
    ``Dataset.from_arrays`` makes one of arrays of your own, ``numgraph.data.read_tables`` of files.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> graph = ng.Graph([0, 1, 2, 3], [1, 2, 3, 0])
    >>> data = ng.Dataset.from_arrays(graph, np.eye(4), ["a", "b", "a", "b"], (0.5, 0.25, 0.25))
    >>> data.labels, data.num_features, data.columns.classes
    (array([0, 1, 0, 1]), 4, ('a', 'b'))
    """

    name: str
    graph: Graph
    features: Array
    labels: Array
    train_mask: Mask
    val_mask: Mask
    test_mask: Mask
    num_classes: int
    edge_weight: Array | None = None
    names: Sequence[Any] | None = None
    task: str = "classification"
    label_scale: tuple[float, float] = (0.0, 1.0)
    columns: Columns | None = None

    @classmethod
    def from_arrays(
        cls,
        graph: Graph,
        x: Any = None,
        y: Any = None,
        split: Any = (0.6, 0.2, 0.2),
        rng: int | np.random.Generator | None = 0,
        *,
        edge_weight: Any = None,
        names: Sequence[Any] | None = None,
        name: str = "arrays",
    ) -> Dataset:
        """A dataset of your own arrays.

        Parameters
        ----------
        graph : Graph with N nodes
        x : features [N, F], an array or a SciPy sparse matrix; a vector [N] is one feature;
            None: each node is a feature of its own
        y : labels [N]; whole numbers are classes 0, 1, …, and −1 a node without label;
            texts are names of classes, sorted in ``columns.classes``, and None or "" a node without; floats
            are a regression, and NaN a node without; None: no labels, as for ``split_links``
        split : the shares of the labelled nodes for training, validation and test,
            each class by itself as far as the numbers let it; or three boolean masks
        rng : a seed or a generator, from which the split is drawn
        edge_weight : [num_edges] or None
        names : [N] names of the nodes or None
        name : what the dataset is called in messages

        Returns
        -------
        Dataset

        Raises
        ------
        ValueError
            Lengths that do not fit the graph, a split that is none, no node with a label.

        Examples
        --------
        >>> import numpy as np, numgraph as ng
        >>> graph = ng.Graph([0, 1, 2, 3], [1, 2, 3, 0])
        >>> ng.Dataset.from_arrays(graph, np.eye(4), [0, 1, 0, 1], split=(0.5, 0.25, 0.25))
        Dataset('arrays', nodes=4, edges=4, features=4, classes=2, split=2/1/1)
        """
        op = "Dataset.from_arrays"
        check_graph(op, "graph", graph)
        learnt = (
            Targets.none(graph.num_nodes) if y is None else Targets.of(op, y, graph.num_nodes, split, rng)
        )
        if edge_weight is not None:
            edge_weight = as_array(op, "edge_weight", edge_weight).astype(np.float32)
            bad = np.argwhere(~np.isfinite(edge_weight))
            if len(bad):
                place = [int(i) for i in bad[0]]
                raise bad_value(
                    op, f"edge_weight{place} is {edge_weight[tuple(bad[0])]}", "weights are finite numbers"
                )
        features = as_features(op, x, graph.num_nodes)
        return cls(
            name=name,
            graph=graph,
            features=features,
            labels=learnt.labels,
            train_mask=learnt.masks[0],
            val_mask=learnt.masks[1],
            test_mask=learnt.masks[2],
            num_classes=learnt.num_classes,
            edge_weight=edge_weight,
            names=names,
            task=learnt.task,
            columns=Columns(extra=int(features.shape[1]), classes=learnt.classes) if learnt.classes else None,
        )

    @property
    def num_nodes(self) -> int:
        """Number of nodes, N."""
        return self.labels.shape[0]

    @property
    def num_features(self) -> int:
        """Number of features of a node, F."""
        return self.features.shape[1]

    @property
    def num_outputs(self) -> int:
        """How many numbers a model gives for a node: one for each class, or one for a regression."""
        return 1 if self.task == "regression" else self.num_classes

    @cached_property
    def sparse_features(self) -> csr_matrix:
        """The features as a SciPy CSR matrix, made at the first access (Cora's are 98.7 % zeros)."""
        from scipy.sparse import csr_matrix

        if self.graph.device != "cpu":
            raise bad_type(
                "Dataset.sparse_features",
                f"the dataset is on {self.graph.device}",
                "they are SciPy's, on the host; use features",
            )
        return csr_matrix(self.features)

    def to(self, device: str) -> Dataset:
        """The same with its graph and its arrays on a device; itself if it is there.

        Parameters
        ----------
        device : "cpu" or "cuda"

        Returns
        -------
        Dataset

        Raises
        ------
        ValueError, ModuleNotFoundError, OSError : as of ``Graph.to``
        """
        if device == self.graph.device:
            return self
        graph = self.graph.to(device)  # first, as it says what a device lacks
        given: Any = self.features
        dense = given.toarray() if is_sparse(given) else given
        arrays = {name: getattr(self, name) for name in _ARRAYS} | {"features": dense}
        there = {name: moved(array, device) for name, array in arrays.items() if array is not None}
        return replace(self, graph=graph, **there)

    if not TYPE_CHECKING:  # a checker knows the names

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            raise no_attribute("a Dataset", name, [one for one in (*_ARRAYS, *dir(Dataset)) if one[0] != "_"])

    def __post_init__(self) -> None:
        op = f"Dataset {self.name}"
        check_graph(op, "graph", self.graph)
        check_name(op, "task", self.task, TASKS)
        count = self.graph.num_nodes
        for field in _ARRAYS:
            value = getattr(self, field)
            if value is None and field == "edge_weight":
                continue
            array = value if field == "features" and is_sparse(value) else given(op, field, value)
            object.__setattr__(self, field, array)
            if field == "labels" and array.dtype.kind not in ("iu" if self.task == "classification" else "f"):
                fix = (
                    "labels are class numbers, as labels.astype(np.int64); numbers to be predicted are "
                    "task='regression'"
                )
                raise bad_type(
                    op,
                    f"labels have dtype {array.dtype}",
                    fix if self.task == "classification" else "labels are floats",
                )
            if field.endswith("mask") and array.dtype != np.bool_:
                fix = (
                    "give one True or False for each node, as mask.astype(bool) or by "
                    "np.isin(np.arange(num_nodes), ids)"
                )
                raise bad_type(op, f"{field} has dtype {array.dtype} and shape {list(array.shape)}", fix)
            length, wanted, row = array.shape[0], count, "node"
            if field == "edge_weight":
                wanted, row = self.graph.num_edges, "edge"
            if length != wanted:
                raise bad_value(
                    op,
                    f"{field} has {length} rows, the graph {wanted} {row}s",
                    f"give one row {'an' if row == 'edge' else 'a'} {row}",
                )
        if self.names is not None and len(self.names) != count:
            raise bad_value(
                op, f"names has {len(self.names)} entries, the graph {count} nodes", "give one a node"
            )
        masks = np.stack([self.train_mask, self.val_mask, self.test_mask])
        shared = np.flatnonzero(masks.sum(0) > 1)
        if shared.size:
            raise bad_value(op, f"node {shared[0]} is in more than one of the masks", "make them disjoint")
        none = (
            np.isnan(self.labels)
            if self.task == "regression"
            else (self.labels < 0) | (self.labels >= self.num_classes)
        )
        unlabelled = np.flatnonzero(masks.any(0) & none)
        if unlabelled.size:
            node = unlabelled[0]
            fix = (
                "numbers"
                if self.task == "regression"
                else f"labels of split nodes run from 0 to {self.num_classes - 1}"
            )
            raise bad_value(op, f"node {node} is in a mask and has label {self.labels[node]}", fix)

    def __repr__(self) -> str:
        what = "regression" if self.task == "regression" else f"classes={self.num_classes}"
        split = "/".join(str(int(mask.sum())) for mask in (self.train_mask, self.val_mask, self.test_mask))
        return (
            f"Dataset({self.name!r}, nodes={self.num_nodes}, edges={self.graph.num_edges}, "
            f"features={self.num_features}, {what}, split={split})"
        )


@dataclass(frozen=True)
class Targets:
    """Labels of nodes or graphs as they are learnt, and which of them are for what.

    classes: what the numbers mean, if the labels were text.
    """

    labels: np.ndarray
    masks: tuple[np.ndarray, ...]
    num_classes: int
    task: str
    classes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        op: str,
        y: Any,
        count: int,
        split: Any,
        rng: int | np.random.Generator | None,
        what: str = "node",
    ) -> Targets:
        """Of labels and a split as ``Dataset.from_arrays`` takes them, for so many nodes, or graphs."""
        y, classes = _classes(as_array(op, "y", y))
        if y.dtype.kind not in "biuf" or y.size != count:
            fix = f"y has a class number or a real number for each of the {count} {what}s"
            raise bad_value(op, f"y has dtype {y.dtype} and shape {list(y.shape)}", fix)
        with np.errstate(over="ignore"):  # what float32 has no number for is an error below
            y = y.reshape(-1).astype(np.float32 if y.dtype.kind == "f" else np.int64)
        if y.dtype.kind == "f" and np.isinf(y).any():
            row = int(np.flatnonzero(np.isinf(y))[0])
            raise bad_value(
                op,
                f"y[{row}] is {y[row]}",
                "labels are finite numbers within the range of float32; NaN is to be predicted",
            )
        labelled = ~np.isnan(y) if y.dtype.kind == "f" else y >= 0
        if not labelled.any():
            raise bad_value(
                op,
                f"no {what} has a label",
                f"y is −1 for {what}s without a class, NaN for those without a number",
            )
        masks = parts_of(op, y, labelled, split, rng, what)
        if y.dtype.kind == "f":
            return cls(y, masks, 0, "regression")
        return cls(y, masks, len(classes) or int(y.max()) + 1, "classification", classes)

    @classmethod
    def none(cls, count: int) -> Targets:
        """No labels."""
        return cls(
            np.full(count, -1, np.int64), tuple(np.zeros(count, bool) for _ in range(3)), 0, "classification"
        )


def _classes(y: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels that are text as numbers, and what the numbers mean; others as they are."""
    if y.dtype.kind not in "UTO" or not all(
        one is None or isinstance(one, str) for one in y.ravel().tolist()
    ):
        return y, ()
    texts = [one or "" for one in y.ravel().tolist()]
    classes = tuple(sorted(set(texts) - {""}))
    number = {name: k for k, name in enumerate(classes)}
    return np.array([number.get(text, -1) for text in texts], np.int64), classes


def as_features(op: str, x: Any, num_nodes: int) -> Any:
    """[num_nodes, F] features in float32, sparse ones in CSR; of None each node is a feature."""
    if x is None or is_sparse(x):
        from scipy.sparse import csr_matrix, identity

        x = identity(num_nodes, np.float32, "csr") if x is None else x
        x = csr_matrix(x, dtype=np.float32)
    else:
        x = as_array(op, "x", x)
        if x.dtype.kind not in "biuf" or x.ndim not in (1, 2):
            raise bad_type(
                op,
                f"x is {kind_of(x)} of dtype {x.dtype} and shape {list(x.shape)}",
                "features are real numbers [nodes, features]",
            )
        with np.errstate(over="ignore"):  # what float32 has no number for is an error below
            x = np.ascontiguousarray(x if x.ndim == 2 else x[:, None], np.float32)
    if x.shape[0] != num_nodes:
        raise bad_value(op, f"x has {x.shape[0]} rows, the graph {num_nodes} nodes", "give one row a node")
    values = x.data if is_sparse(x) else x
    if not np.isfinite(values).all():
        bad = np.argwhere(~np.isfinite(values))[0]
        place = "the data of x" if is_sparse(x) else "x"
        raise bad_value(
            op,
            f"{place}{[int(i) for i in bad]} is {values[tuple(bad)]}",
            "features are finite numbers, within the range of float32",
        )
    return x


def undirected(src: Any, dst: Any, num_nodes: int) -> Graph:
    """Both directions of every pair once, without self loops, sorted by source and then destination."""
    src, dst = np.asarray(src, np.int64), np.asarray(dst, np.int64)
    keep = src != dst
    both = np.concatenate([src[keep] * num_nodes + dst[keep], dst[keep] * num_nodes + src[keep]])
    pairs = np.unique(both)
    return Graph(pairs // num_nodes, pairs % num_nodes, num_nodes)


def mask_of(nodes: Any, num_nodes: int) -> np.ndarray:
    mask = np.zeros(num_nodes, bool)
    mask[nodes] = True
    return mask
