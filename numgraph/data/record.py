"""What every loader returns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from numgraph.arrays.devices import moved
from numgraph.arrays.inputs import given
from numgraph.errors import bad_type, bad_value, no_attribute
from numgraph.graph import Graph, check_graph

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


_ARRAYS = ("features", "labels", "train_mask", "val_mask", "test_mask")


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A graph with features and labels on its nodes, split for training, validation and test.

    Attributes
    ----------
    name : str
    graph : Graph
        N nodes; an undirected edge is stored as two directed ones.
    features : float32 array [N, F]
    labels : int64 array [N]
        0 … num_classes − 1, or −1 where the source gives no label; such nodes are in no mask.
    train_mask, val_mask, test_mask : bool arrays [N]
        Disjoint.
    num_classes : int
    """

    name: str
    graph: Graph
    features: np.ndarray
    labels: np.ndarray
    train_mask: np.ndarray
    val_mask: np.ndarray
    test_mask: np.ndarray
    num_classes: int

    @property
    def num_nodes(self) -> int:
        return self.labels.shape[0]

    @property
    def num_features(self) -> int:
        return self.features.shape[1]

    @cached_property
    def sparse_features(self) -> csr_matrix:
        """The features as a SciPy CSR matrix, made at the first access (Cora's are 98.7 % zeros)."""
        from scipy.sparse import csr_matrix

        if self.graph.device != "cpu":
            raise bad_type(
                "Dataset.sparse_features", f"the dataset is on {self.graph.device}", "they are SciPy's, on the host; use features"
            )
        return csr_matrix(self.features)

    def to(self, device: str) -> Dataset:
        """The same with its graph and its arrays on a device, "cpu" or "cuda"; itself if it is there."""
        if device == self.graph.device:
            return self
        graph = self.graph.to(device)
        return replace(self, graph=graph, **{name: moved(getattr(self, name), device) for name in _ARRAYS})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise no_attribute("a Dataset", name, [one for one in (*_ARRAYS, *dir(Dataset)) if one[0] != "_"])

    def __post_init__(self) -> None:
        op = f"Dataset {self.name}"
        check_graph(op, "graph", self.graph)
        count = self.graph.num_nodes
        for field in _ARRAYS:
            array = given(op, field, getattr(self, field))
            object.__setattr__(self, field, array)
            if field == "labels" and array.dtype.kind not in "iu":
                raise bad_type(op, f"labels have dtype {array.dtype}", "labels are class numbers, as labels.astype(np.int64)")
            if field.endswith("mask") and array.dtype != np.bool_:
                fix = "give one True or False for each node, as mask.astype(bool) or by np.isin(np.arange(num_nodes), ids)"
                raise bad_type(op, f"{field} has dtype {array.dtype} and shape {list(array.shape)}", fix)
            length = len(getattr(self, field))
            if length != count:
                raise bad_value(f"Dataset {self.name}", f"{field} has {length} rows, the graph {count} nodes", "give one row a node")
        masks = np.stack([self.train_mask, self.val_mask, self.test_mask])
        shared = np.flatnonzero(masks.sum(0) > 1)
        if shared.size:
            raise bad_value(f"Dataset {self.name}", f"node {shared[0]} is in more than one of the masks", "make them disjoint")
        unlabelled = np.flatnonzero(masks.any(0) & ((self.labels < 0) | (self.labels >= self.num_classes)))
        if unlabelled.size:
            node = unlabelled[0]
            raise bad_value(
                f"Dataset {self.name}",
                f"node {node} is in a mask and has label {self.labels[node]}",
                f"labels of split nodes run from 0 to {self.num_classes - 1}",
            )

    def __repr__(self) -> str:
        split = "/".join(str(int(mask.sum())) for mask in (self.train_mask, self.val_mask, self.test_mask))
        return (
            f"Dataset({self.name!r}, nodes={self.num_nodes}, edges={self.graph.num_edges}, "
            f"features={self.num_features}, classes={self.num_classes}, split={split})"
        )


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
