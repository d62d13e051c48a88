"""What a training minimises and measures: labels or numbers of nodes or graphs, links between nodes."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from numgraph.arrays.devices import host_copy
from numgraph.arrays.inputs import kind_of
from numgraph.autodiff.tensor import unwrap
from numgraph.data.graph_set import GraphDataset
from numgraph.data.links import Links, keys_of, negative_pairs
from numgraph.data.loader import GraphLoader
from numgraph.data.record import Dataset
from numgraph.dense import binary_cross_entropy_with_logits, cross_entropy, mse
from numgraph.errors import bad_type, bad_value
from numgraph.graph import Graph, Spread
from numgraph.sampling.links import LinkLoader
from numgraph.sampling.loaders import Loader
from numgraph.training.alone import Alone
from numgraph.training.metrics import Metrics, link_values, regression_values


class Objective:
    """The nodes of a dataset with the model's results for them; a subclass says what is wanted of these.

    score : the name of what is to be high
    what : whose labels they are
    loader : batches that an epoch's steps are made of; None: the whole graph is one step
    """

    score = ""
    what = "node"
    loader: Any = None
    processes: Any = Alone()
    """Those that take part, and of whose losses this one's is a part."""

    def __init__(self, data: Dataset, features: Any = None) -> None:
        self.data, self.features = data, data.features if features is None else features

    def steps(self, model: Any, rng: np.random.Generator) -> Iterator[tuple[Callable[[], Any], int]]:
        """For each step of an epoch what gives its loss, a scalar for the tape, and of how many nodes or
        pairs that is the mean.
        """
        if self.loader is None:
            yield lambda: self.loss(model, rng), 1
            return
        for batch in self.loader:
            own = self.count(batch)
            count = self.processes.total(own)
            if count:
                yield functools.partial(self._part_of, model, batch, rng, own, count), count

    def _part_of(self, model: Any, batch: Any, rng: np.random.Generator, own: int, count: int) -> Any:
        """What a batch's own nodes or pairs have of the mean of all that the processes have; of none 0, for
        the tape.
        """
        if not own:
            return (next(iter(model.parameters())) * 0).sum()
        loss = self.batch_loss(model, batch, rng)
        return loss if own == count else loss * (own / count)

    def gradients(self, own: list[Any]) -> list[Any]:
        """The gradients of the whole loss, of those of this process's part."""
        return own if self.loader is None else self.processes.summed(own)

    def results(self, model: Any) -> Any:
        """The model's results for all nodes, of a model in evaluation mode: layer by layer where the training
        has batches.
        """
        if self.loader is None or not hasattr(model, "inference"):
            return unwrap(self.forward(model))
        return model.inference(self.loader)

    def of_batch(self, model: Any, batch: Any, rng: np.random.Generator) -> Any:
        """The model's results for the seeds of a batch."""
        options = drawn_from(model, rng)
        weight = self.data.edge_weight
        if weight is not None and takes_weights(model):
            whole = isinstance(batch.blocks, Graph)
            options["edge_weight"] = (
                weight[batch.edge_ids] if whole else [weight[ids] for ids in batch.edge_ids]
            )
        return model(batch.blocks, batch.x, **options)

    def count(self, batch: Any) -> int:
        """How many nodes or pairs of a batch are learnt."""
        raise NotImplementedError

    def batch_loss(self, model: Any, batch: Any, rng: np.random.Generator) -> Any:
        """The mean loss of a batch, in training mode."""
        raise NotImplementedError

    def forward(self, model: Any, **options: Any) -> Any:
        """The model's results for all nodes."""
        data = self.data
        if data.edge_weight is not None and takes_weights(model):
            options["edge_weight"] = data.edge_weight
        return model(data.graph, self.features, **options)

    def loss(self, model: Any, rng: np.random.Generator) -> Any:
        """The loss of the training part, in training mode: a scalar for the tape."""
        raise NotImplementedError

    def evaluate(self, model: Any, parts: Sequence[str]) -> list[Metrics | None]:
        """The metrics of the parts "train", "val" and "test" from one pass, without dropout; None of an empty
        one.
        """
        raise NotImplementedError


@contextmanager
def evaluating(model: Any) -> Iterator[Any]:
    """The model in evaluation mode; its mode is what it was afterwards."""
    training = model.training
    try:
        yield model.eval()
    finally:
        model.train(training)


@functools.cache
def _arguments(call: Callable[..., Any]) -> tuple[frozenset[str], bool]:
    """The names of a model's arguments, and whether it takes others."""
    known = inspect.signature(call).parameters
    return frozenset(known), any(one.kind is one.VAR_KEYWORD for one in known.values())


def takes_weights(model: Any) -> bool:
    """Whether a model takes the weights of edges."""
    return "edge_weight" in _arguments(type(model).__call__)[0]


def drawn_from(model: Any, rng: np.random.Generator) -> dict[str, Any]:
    """The generator as an argument, for a model that takes one."""
    names, others = _arguments(type(model).__call__)
    return {"rng": rng} if others or "rng" in names else {}


def warn_of_weights(op: str, model: Any, data: Dataset) -> None:
    """A warning where the edges have weights that the model does not take."""
    if data.edge_weight is not None and not takes_weights(model):
        warnings.warn(
            f"{op}: {type(model).__name__} takes no weights of edges; they are left out",
            UserWarning,
            stacklevel=3,
        )


class Labels(Objective):
    """Classes of nodes: the mean cross entropy, the share of right answers."""

    score = "accuracy"

    def loss(self, model: Any, rng: np.random.Generator) -> Any:
        results = self.forward(model, **drawn_from(model, rng))
        return self._error(results, self.data.labels, self.data.train_mask)

    def count(self, batch: Any) -> int:
        return int(self.data.train_mask[self.places(batch)].sum())

    def places(self, batch: Any) -> Any:
        """Of whom the rows of a batch's results are."""
        return batch.seeds

    def batch_loss(self, model: Any, batch: Any, rng: np.random.Generator) -> Any:
        places = self.places(batch)
        mask = self.data.train_mask[
            places
        ]  # whatever the loader's nodes are, nothing is learnt of the others' labels
        return self._error(
            self.of_batch(model, batch, rng), self.data.labels[places], None if mask.all() else mask
        )

    def _error(self, results: Any, labels: Any, mask: Any) -> Any:
        return cross_entropy(results, labels, mask)

    def evaluate(self, model: Any, parts: Sequence[str]) -> list[Metrics | None]:
        return self.of_masks(model, [getattr(self.data, f"{part}_mask") for part in parts])

    def of_masks(self, model: Any, masks: Sequence[Any]) -> list[Metrics | None]:
        """The metrics of the nodes of each mask."""
        with evaluating(model) as ready:
            results = self.results(ready)
        return [self._metrics(results, mask) if bool(mask.any()) else None for mask in masks]

    def _metrics(self, logits: Any, mask: Any) -> Metrics:
        accuracy = float((logits[mask].argmax(1) == self.data.labels[mask]).mean())
        return Metrics(
            float(unwrap(self._error(logits, self.data.labels, mask))), accuracy, {"accuracy": accuracy}
        )


class Numbers(Labels):
    """Numbers of nodes: the mean squared error of what is learnt, (label − mean) / deviation, and R²."""

    score = "r2"

    def _error(self, results: Any, labels: Any, mask: Any) -> Any:
        mean, deviation = self.data.label_scale
        chosen = slice(None) if mask is None else np.flatnonzero(mask)
        if results.ndim == 2 and results.shape[1] != 1:
            raise bad_value(
                "fit",
                f"the model gives {results.shape[1]} numbers for a {self.what}, a regression needs one",
                "make it with one output, the dataset's num_outputs",
            )
        return mse(results[chosen].reshape(-1), (labels[chosen] - mean) / deviation)

    def _metrics(self, results: Any, mask: Any) -> Metrics:
        mean, deviation = self.data.label_scale
        predicted, wanted = host_copy(results[mask].reshape(-1)), host_copy(self.data.labels[mask])
        values = regression_values(predicted * deviation + mean, wanted)
        loss = float(unwrap(self._error(results, self.data.labels, mask)))
        return Metrics(loss, values["r2"] if np.isfinite(values["r2"]) else -loss, values)


def edges_of_batch(model: Any, batch: Any) -> dict[str, Any]:
    """The argument edge_attr, for a model of graphs that has parameters for it."""
    return (
        {"edge_attr": batch.edge_attr}
        if batch.edge_attr is not None and getattr(model, "takes_edge_attr", False)
        else {}
    )


class _OfGraphs(Labels):
    """Labels of graphs, in batches of a GraphLoader: ``model(batch, x, rng=generator)`` gives their rows, of
    one that takes it with edge_attr."""

    what = "graph"
    _batches: list[Any] | None = None

    def places(self, batch: Any) -> Any:
        return batch.indices

    def of_batch(self, model: Any, batch: Any, rng: np.random.Generator) -> Any:
        return model(batch, batch.x, **edges_of_batch(model, batch), **drawn_from(model, rng))

    def results(self, model: Any) -> Any:
        """[graphs, outputs], 0 for graphs of no part."""
        data: Any = self.data  # a GraphDataset
        made: Any = np.zeros((len(data), 1), np.float32)
        for i, batch in enumerate(self._measured()):
            h = unwrap(model(batch, batch.x, **edges_of_batch(model, batch)))
            if i == 0:
                made = np.zeros((len(data), *h.shape[1:]), h.dtype)
            made[batch.indices] = h
        return made

    def _measured(self) -> Any:
        """The graphs of all parts, in batches that are kept where they are small, as they are the same in
        each epoch.
        """
        data: Any = self.data
        if self._batches is not None:
            return self._batches
        loader = GraphLoader(data, _MEASURED, input_graphs=data.train_mask | data.val_mask | data.test_mask)
        if sum(g.num_nodes + g.num_edges for g in data.graphs) > _KEPT:
            return loader
        self._batches = list(loader)
        return self._batches


class GraphLabels(_OfGraphs):
    """Classes of graphs."""


class GraphNumbers(_OfGraphs, Numbers):
    """Numbers of graphs."""


_MEASURED = 256
"""Graphs that are measured at once."""
_KEPT = 1 << 22
"""Nodes and edges of batches that are kept."""


class Pairs(Objective):
    """Links: σ(⟨h_u, h_v⟩) is the probability that an edge joins u and v, h being the model's results.

    The loss is the mean binary cross entropy over the training edges and as many pairs that are none, drawn
    anew in each epoch."""

    score = "auc"

    def __init__(self, links: Links, features: Any = None) -> None:
        super().__init__(links.data, features)
        self.links = links
        self._joined = keys_of(links.train, links.data.num_nodes)

    def loss(self, model: Any, rng: np.random.Generator) -> Any:
        pairs = self.links.train
        negatives = negative_pairs("fit", self._joined, self.data.num_nodes, len(pairs), rng)
        h = self.forward(model, **drawn_from(model, rng))
        return _pair_loss(pair_scores(h, np.concatenate([pairs, negatives])), len(pairs))

    def count(self, batch: Any) -> int:
        return len(batch.pairs)

    def batch_loss(self, model: Any, batch: Any, rng: np.random.Generator) -> Any:
        return _pair_loss(pair_scores(self.of_batch(model, batch, rng), batch.pairs), len(batch.edges))

    def evaluate(self, model: Any, parts: Sequence[str]) -> list[Metrics | None]:
        with evaluating(model) as ready:
            h = self.results(ready)
        return [self._metrics(h, part) for part in parts]

    def _metrics(self, h: Any, part: str) -> Metrics | None:
        pairs = getattr(self.links, part)
        if not len(pairs):
            return None
        if part == "train":
            rng = np.random.default_rng(0)
            negatives = negative_pairs("evaluate", self._joined, self.data.num_nodes, len(pairs), rng)
        else:
            negatives = getattr(self.links, f"{part}_negatives")
        scores = unwrap(pair_scores(h, np.concatenate([pairs, negatives])))
        wanted = np.arange(len(pairs) + len(negatives)) < len(pairs)
        values = link_values(wanted, host_copy(scores))
        return Metrics(float(unwrap(_pair_loss(scores, len(pairs)))), values["auc"], values)


def pair_scores(h: Any, pairs: Any) -> Any:
    """[pairs] ⟨h_u, h_v⟩ of each pair of nodes."""
    return (h[pairs[:, 0]] * h[pairs[:, 1]]).sum(-1)


def _pair_loss(scores: Any, positives: int) -> Any:
    wanted = np.zeros(scores.shape[0], np.float32)
    wanted[:positives] = 1
    return binary_cross_entropy_with_logits(scores, wanted)


def _wanted(data: Any) -> str:
    """What to do with something that is no dataset."""
    if hasattr(data, "from_homogeneous"):  # a HeteroGraph
        return "write the loop of steps for several relations, as in the page Relations of the documentation"
    if hasattr(data, "num_relations"):
        return "triples are learnt by numgraph.training.fit_triples(model, triples)"
    return (
        "give a numgraph.data.Dataset, as numgraph.data.load or Dataset.from_arrays(graph, x, y) returns it, "
        "Links or a GraphDataset"
    )


def objective_of(op: str, data: Any, features: Any = None, loader: Any = None, seed: int = 0) -> Objective:
    """What is to be learnt of a dataset, of links or of a set of graphs; in batches of a loader of it. seed:
    of the graphs' order.
    """
    if isinstance(data, GraphDataset):
        return _of_graphs(op, data, features, loader, seed)
    if isinstance(data, Links):
        made: Objective = Pairs(data, features)
    elif isinstance(getattr(data, "graph", None), Spread):
        made = data.objective(features)
    elif isinstance(data, Dataset):
        made = (Numbers if data.task == "regression" else Labels)(data, features)
    else:
        raise bad_type(
            op,
            f"dataset is {kind_of(data)}",
            _wanted(data),
        )
    if loader is not None:
        if not isinstance(loader, Loader) or isinstance(loader, LinkLoader) != isinstance(made, Pairs):
            wanted = (
                "a LinkLoader of these links"
                if isinstance(made, Pairs)
                else "a NeighborLoader or ClusterLoader of this dataset"
            )
            raise bad_type(op, f"loader is {kind_of(loader)}", f"give {wanted}")
        if loader.origin.graph is not made.data.graph:
            raise bad_value(
                op,
                f"loader is of another graph, {loader.origin.graph!r}",
                f"make it of the dataset, {made.data!r}",
            )
        if made.data.edge_weight is not None and loader.origin.edge_weight is None:
            raise bad_value(
                op,
                "loader has no weights of edges, which the dataset has",
                f"make it of the dataset, {made.data!r}",
            )
        made.loader = loader
        if loader.processes is not None:
            made.processes = loader.processes
    return made


def _of_graphs(op: str, data: GraphDataset, features: Any, loader: Any, seed: int) -> Objective:
    if features is not None and features is not data.features:
        raise bad_value(
            op, "features were given beside a GraphDataset", "make a GraphDataset of these features"
        )
    if loader is None:
        loader = GraphLoader(data, input_graphs=data.train_mask, shuffle=True, seed=seed)
    elif not isinstance(loader, GraphLoader):
        raise bad_type(op, f"loader is {kind_of(loader)}", "give a GraphLoader of this dataset")
    elif loader.dataset is not data:
        raise bad_value(op, "loader is of other graphs", f"make it of the dataset, {data!r}")
    made: Any = (GraphNumbers if data.task == "regression" else GraphLabels)(data)  # type: ignore[arg-type]
    made.loader = loader
    found: Objective = made
    return found
