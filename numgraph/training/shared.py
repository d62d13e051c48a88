"""A dataset whose nodes processes share, and what their training minimises and measures: the whole's loss, of
which each has a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from numgraph.arrays.inputs import kind_of
from numgraph.autodiff.tensor import unwrap
from numgraph.data.record import Dataset
from numgraph.dense import cross_entropy
from numgraph.distributed import DistGraph
from numgraph.distributed.shared import Processes
from numgraph.errors import bad_type, bad_value
from numgraph.nn import GAT, GCN, GIN, SAGE
from numgraph.training.metrics import Metrics
from numgraph.training.objectives import Objective, drawn_from, evaluating, takes_weights


@dataclass(frozen=True, eq=False)
class SharedDataset:
    """What a Dataset is, for the nodes that this process owns; ``numgraph.fit`` trains with it on all
    processes together.

    Attributes
    ----------
    graph : DistGraph
    features, labels, train_mask, val_mask, test_mask : rows of the owned nodes
    edge_weight : of ``graph.graph``'s edges, or None
    name, task, num_classes, label_scale : the Dataset's
    """

    graph: DistGraph
    features: Any
    labels: Any
    train_mask: Any
    val_mask: Any
    test_mask: Any
    edge_weight: Any
    name: str
    task: str
    num_classes: int
    label_scale: tuple[float, float]

    @classmethod
    def of(cls, dataset: Dataset, d: DistGraph, features: Any = None) -> SharedDataset:
        """The owned part of a dataset that every process has, with features in place of its own."""
        if not isinstance(dataset, Dataset):
            raise bad_type("SharedDataset.of", f"dataset is {kind_of(dataset)}", "give a numgraph.Dataset")
        if (dataset.graph.num_nodes, dataset.graph.num_edges) != (d.num_nodes, d.num_edges):
            raise bad_value(
                "SharedDataset.of",
                f"the dataset has {dataset.graph!r}, d is {d!r}",
                "give the DistGraph of its graph",
            )
        x, weight = (dataset.features if features is None else features)[d.owned], dataset.edge_weight
        arrays = {
            name: getattr(dataset, name)[d.owned]
            for name in ("labels", "train_mask", "val_mask", "test_mask")
        }
        weight = None if weight is None else weight[d.edge_ids]
        about = {name: getattr(dataset, name) for name in ("name", "task", "num_classes", "label_scale")}
        return cls(d, x, edge_weight=weight, **arrays, **about)

    @classmethod
    def stored(cls, d: DistGraph) -> SharedDataset:
        """What is stored beside the edges of a loaded DistGraph."""
        if not d.arrays:
            raise bad_value(
                "SharedDataset.stored", "d was not loaded from shards", "use SharedDataset.of(dataset, d)"
            )
        about = {name: d.about[name] for name in ("name", "task", "num_classes")}
        arrays = {"edge_weight": None, **d.arrays}
        return cls(d, **arrays, **about, label_scale=tuple(d.about["label_scale"]))

    @property
    def num_nodes(self) -> int:
        """Of the whole graph."""
        return self.graph.num_nodes

    @property
    def num_features(self) -> int:
        return int(self.features.shape[1])

    @property
    def num_outputs(self) -> int:
        """How many numbers a model gives for a node."""
        return 1 if self.task == "regression" else self.num_classes

    def objective(self, features: Any = None) -> SharedObjective:
        """What ``numgraph.fit`` minimises and measures; of its own features one, which gets the ghosts'
        once.
        """
        return self._objective if features is None else SharedObjective(self, features)

    @cached_property
    def _objective(self) -> SharedObjective:
        return SharedObjective(self)

    def count(self, part: str) -> int:
        """Nodes of the part "train", "val" or "test" on all processes; a collective call."""
        return int(self.graph.comm.allreduce(int(np.count_nonzero(getattr(self, f"{part}_mask")))))


class SharedObjective(Objective):
    """Classes or numbers of nodes. Every measure is the same number on all processes, so all of them stop and
    keep the same.
    """

    def __init__(self, data: SharedDataset, features: Any = None) -> None:
        super().__init__(data, features)  # type: ignore[arg-type]
        self.shared, self.comm = data, data.graph.comm
        self.processes = Processes(self.comm)
        self.score = "r2" if data.task == "regression" else "accuracy"
        self.counts = {part: data.count(part) for part in ("train", "val", "test")}
        self._sources: Any = None

    def forward(self, model: Any, **options: Any) -> Any:
        """The model's results for the owned nodes. Features are constant: models of the package get their
        ghosts' rows once.
        """
        data, d = self.shared, self.shared.graph
        if data.edge_weight is not None and takes_weights(model):
            options["edge_weight"] = data.edge_weight
        if not isinstance(model, GCN | SAGE | GAT | GIN):
            return model(d, self.features, **options)
        if self._sources is None:
            self._sources = d.exchange(self.features)
        return model(d.graph, self._sources, **options)

    def loss(self, model: Any, rng: np.random.Generator) -> Any:
        """This process's part of the mean."""
        results = self.forward(model, **drawn_from(model, rng))
        return self._sum(results, self.shared.train_mask) / max(self.counts["train"], 1)

    def _sum(self, results: Any, mask: Any) -> Any:
        chosen = np.flatnonzero(mask)
        if self.shared.task == "classification":
            return cross_entropy(results[chosen], self.shared.labels[chosen], reduction="sum")
        mean, deviation = self.shared.label_scale
        error = results[chosen].reshape(-1) - ((self.shared.labels[chosen] - mean) / deviation).astype(
            results.dtype
        )
        return (error * error).sum()

    def evaluate(self, model: Any, parts: Sequence[str]) -> list[Metrics | None]:
        with evaluating(model) as ready:
            results = unwrap(self.forward(ready))
        sums = np.stack([self._measured(results, getattr(self.shared, f"{part}_mask")) for part in parts])
        whole = np.empty_like(sums)
        self.comm.Allreduce(sums, whole)
        return [
            self._metrics(one, self.counts[part]) if self.counts[part] else None
            for part, one in zip(parts, whole)
        ]

    def _measured(self, results: Any, mask: Any) -> np.ndarray:
        """Sums over this process's nodes: of the loss, of right answers or absolute errors, squared errors,
        labels and their squares.
        """
        loss = float(unwrap(self._sum(results, mask)))
        labels = self.shared.labels[mask]
        if self.shared.task == "classification":
            return np.array([loss, np.count_nonzero(results[mask].argmax(1) == labels), 0, 0, 0])
        mean, deviation = self.shared.label_scale
        wanted = labels.astype(np.float64) - mean
        error = results[mask].reshape(-1).astype(np.float64) * deviation - wanted
        return np.array([loss, np.abs(error).sum(), (error**2).sum(), wanted.sum(), (wanted**2).sum()])

    def _metrics(self, sums: np.ndarray, count: int) -> Metrics:
        loss = float(sums[0] / count)
        if self.shared.task == "classification":
            accuracy = float(sums[1] / count)
            return Metrics(loss, accuracy, {"accuracy": accuracy})
        squared, spread = float(sums[2] / count), float(sums[4] / count - (sums[3] / count) ** 2)
        r2 = 1 - squared / spread if spread > 0 else np.nan
        values = {"r2": r2, "rmse": squared**0.5, "mae": float(sums[1] / count)}
        return Metrics(loss, r2 if np.isfinite(r2) else -loss, values)
