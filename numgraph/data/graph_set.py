"""Sets of graphs with a label for each, split for training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from numgraph.arrays.inputs import as_array, kind_of
from numgraph.data.record import TASKS, Targets, as_features
from numgraph.errors import bad_type, bad_value, check_name, no_attribute, shown
from numgraph.graph import Graph, check_graph

MOST_DEGREES = 64
"""In-degrees from this one on are one feature."""


@dataclass(frozen=True)
class SetColumns:
    """How files became features of nodes and labels of graphs: what a model of a set needs to read another
    one.

    attributes: numbers of a node; kinds: of each column of its labels the values, a feature each;
    edge_attributes, edge_kinds: the same of an edge; degrees: features of in-degrees; classes: the labels of
    the graphs."""

    attributes: int
    kinds: tuple[tuple[int, ...], ...]
    degrees: int
    classes: tuple[int, ...]
    edge_attributes: int = 0
    edge_kinds: tuple[tuple[int, ...], ...] = ()

    @property
    def width(self) -> int:
        """Features of a node; without any there is one, a 1."""
        return self.attributes + sum(map(len, self.kinds)) + self.degrees or 1

    @property
    def edge_width(self) -> int:
        """Features of an edge."""
        return self.edge_attributes + sum(map(len, self.edge_kinds))


@dataclass(frozen=True, eq=False, repr=False)
class GraphDataset:
    """Graphs with features on their nodes and a label each, split for training, validation and test.

    Attributes
    ----------
    name : str
    graphs : G of them
    features : a float32 array [nodes, F] for each graph
    labels : int64 array [G], or float32 for a regression
        0 … num_classes − 1, or −1 where there is none; NaN for a regression. Such graphs are in no mask.
    train_mask, val_mask, test_mask : bool arrays [G]
        Disjoint.
    num_classes : 0 for a regression
    edge_attr : a float32 array [edges, D] for each graph, or None
    task : "classification" or "regression"
    classes : what class k is called, or ()
    columns : of a set that was read from files, how they became features and labels

    Notes
    -----
    ``numgraph.data.read_tu`` reads one from a folder, ``GraphDataset.from_graphs`` makes one of lists of your
    own. A GraphLoader deals it out in batches, ``numgraph.fit`` trains on it.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> graphs = [ng.Graph([0, 1], [1, 0]), ng.Graph([0, 1, 2], [1, 2, 0])] * 4
    >>> data = ng.GraphDataset.from_graphs(graphs, None, [0, 1] * 4, (0.5, 0.25, 0.25))
    >>> len(data), data.labels
    (8, array([0, 1, 0, 1, 0, 1, 0, 1]))
    """

    name: str
    graphs: Sequence[Graph]
    features: Sequence[np.ndarray]
    labels: np.ndarray
    train_mask: np.ndarray
    val_mask: np.ndarray
    test_mask: np.ndarray
    num_classes: int
    edge_attr: Sequence[np.ndarray] | None = None
    task: str = "classification"
    classes: tuple[Any, ...] = ()
    columns: SetColumns | None = None

    edge_weight = None
    """None: what there is of edges is in ``edge_attr``."""

    @classmethod
    def from_graphs(
        cls,
        graphs: Sequence[Graph],
        x: Sequence[Any] | None,
        y: Any,
        split: Any = (0.8, 0.1, 0.1),
        rng: int | np.random.Generator | None = 0,
        *,
        edge_attr: Sequence[Any] | None = None,
        name: str = "graphs",
    ) -> GraphDataset:
        """A set of your own graphs.

        Parameters
        ----------
        graphs : G of them
        x : features [nodes, F] for each, or a vector, one feature;
            None: a feature for each in-degree (``degree_features``)
        y : labels [G]; whole numbers are classes 0, 1, …, and −1 a graph without label;
            texts are names of classes, sorted in ``classes``; floats are a regression, and NaN a graph
            without
        split : the shares of the labelled graphs for training, validation and test,
            each class by itself as far as the numbers let it; or three boolean masks
        rng : a seed or a generator, from which the split is drawn
        edge_attr : features [edges, D] for each, or None
        name : what messages call it

        Returns
        -------
        GraphDataset

        Raises
        ------
        TypeError, ValueError : lengths that do not fit the graphs, a split that is none,
            no graph with a label

        Examples
        --------
        >>> import numpy as np, numgraph as ng
        >>> pair, ring = ng.Graph([0, 1], [1, 0]), ng.Graph([0, 1, 2], [1, 2, 0])
        >>> x = [np.ones((2, 4)), np.ones((3, 4))] * 4
        >>> ng.data.GraphDataset.from_graphs([pair, ring] * 4, x, ["pair", "ring"] * 4, (0.5, 0.25, 0.25))
        GraphDataset('graphs', graphs=8, features=4, classes=2, split=4/2/2)
        """
        op = "GraphDataset.from_graphs"
        graphs = _listed(op, "graphs", graphs)
        for i, g in enumerate(graphs):
            check_graph(op, f"graphs[{i}]", g)
        learnt = Targets.of(op, y, len(graphs), split, rng, "graph")
        features = (
            degree_features(graphs) if x is None else _rows(op, "x", x, [g.num_src for g in graphs], "nodes")
        )
        of_edges = (
            None
            if edge_attr is None
            else _rows(op, "edge_attr", edge_attr, [g.num_edges for g in graphs], "edges")
        )
        return cls.of(name, graphs, features, learnt, of_edges, learnt.classes)

    @classmethod
    def of(
        cls,
        name: str,
        graphs: Sequence[Graph],
        features: Sequence[np.ndarray],
        learnt: Targets,
        edge_attr: Sequence[np.ndarray] | None,
        classes: tuple[Any, ...],
        columns: SetColumns | None = None,
    ) -> GraphDataset:
        """Of what has been read, with the labels and their split."""
        train, val, test = learnt.masks
        return cls(
            name,
            graphs,
            features,
            learnt.labels,
            train,
            val,
            test,
            learnt.num_classes,
            edge_attr,
            learnt.task,
            classes,
            columns,
        )

    @property
    def num_features(self) -> int:
        """Number of features of a node, F."""
        found: int = self.features[0].shape[1]
        return found

    @property
    def num_outputs(self) -> int:
        """How many numbers a model gives for a graph: one for each class, or one for a regression."""
        return 1 if self.task == "regression" else self.num_classes

    @cached_property
    def label_scale(self) -> tuple[float, float]:
        """(mean, deviation) of the training graphs' labels: a regression learns (label − mean) /
        deviation.
        """
        labels = self.labels[self.train_mask].astype(np.float64)
        if self.task != "regression" or not len(labels):
            return 0.0, 1.0
        return float(labels.mean()), float(labels.std()) or 1.0

    def with_masks(self, train: Any, val: Any, test: Any) -> GraphDataset:
        """The same graphs, split otherwise.

        Parameters
        ----------
        train, val, test : bool arrays [G]

        Returns
        -------
        GraphDataset

        Raises
        ------
        TypeError, ValueError : masks of another dtype or length, or that overlap
        """
        return replace(self, train_mask=train, val_mask=val, test_mask=test)

    def __len__(self) -> int:
        return len(self.graphs)

    if not TYPE_CHECKING:  # a checker knows the names

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            raise no_attribute(
                "a GraphDataset",
                name,
                [one for one in (*self.__dataclass_fields__, *dir(type(self))) if one[0] != "_"],
            )

    def __post_init__(self) -> None:
        op, count = f"GraphDataset {self.name}", len(self.graphs)
        check_name(op, "task", self.task, TASKS)
        if not count:
            raise bad_value(op, "there are no graphs", "give one or more")
        masks = ("train_mask", "val_mask", "test_mask")
        for field in ("features", "labels", *masks, "edge_attr"):
            value = getattr(self, field)
            if value is not None and len(value) != count:
                raise bad_value(
                    op,
                    f"{field} has {len(value)} entries, there are {count} graphs",
                    "give one for each graph",
                )
        if self.labels.dtype.kind not in ("iu" if self.task == "classification" else "f"):
            fix = "labels are class numbers, or floats with task='regression'"
            raise bad_type(op, f"labels have dtype {self.labels.dtype}, the task is {self.task}", fix)
        for field in masks:
            if getattr(self, field).dtype != np.bool_:
                raise bad_type(
                    op,
                    f"{field} has dtype {getattr(self, field).dtype}",
                    "give one True or False for each graph",
                )
        parts = np.stack([getattr(self, field) for field in masks])
        shared = np.flatnonzero(parts.sum(0) > 1)
        if shared.size:
            raise bad_value(op, f"graph {shared[0]} is in more than one of the masks", "make them disjoint")
        none = (
            np.isnan(self.labels)
            if self.task == "regression"
            else (self.labels < 0) | (self.labels >= self.num_classes)
        )
        bare = np.flatnonzero(parts.any(0) & none)
        if bare.size:
            fix = (
                "numbers"
                if self.task == "regression"
                else f"labels of split graphs run from 0 to {self.num_classes - 1}"
            )
            raise bad_value(op, f"graph {bare[0]} is in a mask and has label {self.labels[bare[0]]}", fix)

    def __repr__(self) -> str:
        what = "regression" if self.task == "regression" else f"classes={self.num_classes}"
        split = "/".join(str(int(mask.sum())) for mask in (self.train_mask, self.val_mask, self.test_mask))
        return (
            f"GraphDataset({self.name!r}, graphs={len(self)}, features={self.num_features}, {what}, "
            f"split={split})"
        )


def degree_features(graphs: Sequence[Graph], width: int | None = None) -> list[np.ndarray]:
    """What nodes without features are told apart by: 1 in the column of the node's in-degree.

    Parameters
    ----------
    graphs : whose nodes are described
    width : of the result, k + 1;
        by default k is the largest in-degree of all graphs, or 64 (Xu et al., ICLR 2019, for social networks)

    Returns
    -------
    for each graph [nodes, k + 1]; degrees above k stand in the last column

    Examples
    --------
    >>> import numgraph as ng
    >>> [one.tolist() for one in ng.data.degree_features([ng.Graph([0, 0], [1, 1], 2)])]
    [[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]]
    """
    graphs = _listed("degree_features", "graphs", graphs)
    for i, g in enumerate(graphs):
        check_graph("degree_features", f"graphs[{i}]", g)
    if width is not None and (not isinstance(width, int | np.integer) or width < 1):
        raise bad_value("degree_features", f"width is {shown(width)}", "give a whole number of at least 1")
    degrees = [
        np.minimum(g.in_degrees(), MOST_DEGREES if width is None else width - 1).astype(np.int64)
        for g in graphs
    ]
    width = max((int(of.max(initial=0)) for of in degrees), default=0) + 1 if width is None else width
    return [(of[:, None] == np.arange(width)).astype(np.float32) for of in degrees]


def _listed(op: str, what: str, given: Any) -> list[Any]:
    if isinstance(given, str | Graph) or not hasattr(given, "__iter__"):
        raise bad_type(op, f"{what} is {kind_of(given)}", "give a list with one for each graph")
    return list(given)


def _rows(op: str, what: str, given: Any, lengths: list[int], of: str) -> list[np.ndarray]:
    """An array [length, width] for each graph, of one width."""
    arrays = _listed(op, what, given)
    if len(arrays) != len(lengths):
        raise bad_value(
            op,
            f"{what} has {len(arrays)} entries, there are {len(lengths)} graphs",
            "give one for each graph",
        )
    made: list[np.ndarray] = []
    for i, (array, length) in enumerate(zip(arrays, lengths, strict=True)):
        if hasattr(array, "toarray"):
            array = array.toarray()
        array = as_array(op, f"{what}[{i}]", array)
        if array.ndim and len(array) != length:
            raise bad_value(
                op,
                f"{what}[{i}] has {len(array)} rows, its graph {length} {of}",
                f"give a row for each of the {of}",
            )
        array = as_features(f"{op}, {what}[{i}]", array, length)
        if made and array.shape[1] != made[0].shape[1]:
            problem = f"{what}[{i}] has {array.shape[1]} columns, {what}[0] has {made[0].shape[1]}"
            raise bad_value(op, problem, "all graphs have the same features")
        made.append(array)
    return made
