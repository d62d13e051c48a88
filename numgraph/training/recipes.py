"""What each model is trained with unless told otherwise: the settings of its paper, for the command line and
benchmarks/accuracy.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from numgraph.arrays.inputs import is_sparse
from numgraph.data.graph_set import GraphDataset
from numgraph.data.links import Links
from numgraph.data.record import Dataset
from numgraph.errors import bad_value, unknown
from numgraph.optim import Adam
from numgraph.runtime.mapping import mapping_of
from numgraph.sampling import LinkLoader, NeighborLoader


@dataclass(frozen=True)
class Recipe:
    """``hidden`` is the width of a hidden layer (of one head, for gat); ``patience`` 0 trains for all
    epochs.
    """

    model: str
    hidden: int
    layers: int = 2
    heads: int = 1
    epochs: int = 200
    lr: float = 0.01
    weight_decay: float = 5e-4
    decay: str = "all"  # which layers' parameters decay: "all" or "first"
    dropout: float = 0.5
    patience: int = 0


RECIPES = {
    # Kipf and Welling, Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017, section
    # 5.2.
    "gcn": Recipe("gcn", hidden=16, decay="first"),
    # Hamilton, Ying and Leskovec, Inductive Representation Learning on Large Graphs, NeurIPS 2017: mean
    # aggregation. The paper has no citation network with this split; the rest is the GCN's.
    "sage": Recipe("sage", hidden=16),
    # Veličković et al., Graph Attention Networks, ICLR 2018, section 3.3: one output head, dropout on
    # features and attention.
    "gat": Recipe("gat", hidden=8, heads=8, epochs=1000, lr=0.005, dropout=0.6, patience=100),
    # Xu et al., How Powerful are Graph Neural Networks?, ICLR 2019. The paper classifies graphs, with 16 to
    # 64 hidden units; with 16 some seeds do not learn the digits (79.5 ± 22.2 % over ten). The rest is the
    # GCN's.
    "gin": Recipe("gin", hidden=64),
}


OF_TASKS: dict[str, dict[str, Any]] = {
    "classification": {},
    # A quantity is learnt from features that dropout would tear; more units, the best of more epochs.
    "regression": {"hidden": 64, "dropout": 0.0, "epochs": 300, "patience": 100, "weight_decay": 5e-4},
    # Kipf and Welling, Variational Graph Auto-Encoders, 2016: a GCN of 32 and 16 units, inner products, 200
    # epochs, no dropout.
    "link": {"hidden": 32, "dropout": 0.0, "epochs": 200, "weight_decay": 0.0},
    # Xu et al., ICLR 2019, section 7: five layers, 16 or 32 units, Adam at 0.01, batches of 32; dropout of
    # what is read out.
    "graph": {
        "hidden": 32,
        "layers": 5,
        "epochs": 100,
        "lr": 0.01,
        "dropout": 0.5,
        "patience": 0,
        "weight_decay": 0.0,
        "decay": "all",
    },
}
"""What the recipe of a model has instead for other tasks than classes of nodes."""
HALVED = 50
"""Epochs after which the learning rate of a training on graphs is halved, as in GIN's paper."""
READOUTS = {"gin": "sum", "gcn": "mean", "sage": "mean", "gat": "mean"}
"""What makes a graph's row of its nodes' unless told otherwise."""


def recipe(model: str, task: str = "classification", **changes: Any) -> Recipe:
    """The recipe of a model for a task, with what is not None in ``changes`` put in its place."""
    if model not in RECIPES:
        raise unknown("recipe", "model", model, RECIPES)
    if changes.get("heads") not in (None, 1) and model != "gat":
        raise bad_value("recipe", f"heads is {changes['heads']} for {model}", "only gat has heads")
    chosen = RECIPES[model]
    of_task = dict(OF_TASKS[task])
    if "hidden" in of_task:
        of_task["hidden"] //= chosen.heads
    return replace(chosen, **of_task | {name: value for name, value in changes.items() if value is not None})


def make(chosen: Recipe, in_features: int, out_features: int, seed: int = 0) -> Any:
    """The model with its initial parameters drawn from ``seed``."""
    from numgraph import nn

    options: dict[str, Any] = {
        "layers": chosen.layers,
        "dropout": chosen.dropout,
        "rng": np.random.default_rng(seed),
    }
    if chosen.model == "gat":
        options["heads"] = chosen.heads
    kind = {"gcn": nn.GCN, "sage": nn.SAGE, "gat": nn.GAT, "gin": nn.GIN}[chosen.model]
    return kind(in_features, chosen.hidden, out_features, **options)


def build(chosen: Recipe, dataset: Dataset | Links, seed: int = 0) -> tuple[Any, Adam]:
    """The model for a dataset with its initial parameters drawn from ``seed``, and its optimiser; of links it
    gives ``hidden`` numbers.
    """
    data, width = (
        (dataset.data, chosen.hidden) if isinstance(dataset, Links) else (dataset, dataset.num_outputs)
    )
    model = make(chosen, data.num_features, width, seed)
    return model, Adam(_groups(model, chosen), lr=chosen.lr)


def build_of_graphs(
    chosen: Recipe, dataset: GraphDataset, readout: str | None = None, seed: int = 0
) -> tuple[Any, Adam, Any]:
    """The model for a set of graphs, which reads out every layer, its optimiser, and the callback of ``fit``
    that halves its rate.
    """
    readout, edge_dim = readout or READOUTS[chosen.model], edge_width(chosen, dataset)
    model = make_of_graphs(chosen, dataset.num_features, dataset.num_outputs, readout, seed, edge_dim)
    optimizer = Adam(model.parameters(), lr=chosen.lr, weight_decay=chosen.weight_decay)

    def halve(epoch: int, history: Any) -> None:
        optimizer.lr = chosen.lr * 0.5 ** (epoch // HALVED)

    return model, optimizer, halve


def edge_width(chosen: Recipe, dataset: GraphDataset) -> int:
    """Features of edges that the model takes."""
    return dataset.edge_attr[0].shape[1] if chosen.model == "gat" and dataset.edge_attr is not None else 0


def make_of_graphs(
    chosen: Recipe, in_features: int, out_features: int, readout: str, seed: int = 0, edge_dim: int = 0
) -> Any:
    """The model with its initial parameters drawn from ``seed``; edge_dim: features of edges, for gat."""
    from numgraph import nn

    rng = np.random.default_rng(seed)
    options: dict[str, Any] = (
        {"heads": chosen.heads, "edge_dim": edge_dim or None} if chosen.model == "gat" else {}
    )
    kind: Any = {"gcn": nn.GCN, "sage": nn.SAGE, "gat": nn.GAT, "gin": nn.GIN}[chosen.model]
    options |= {"layers": chosen.layers, "norm": "batch", "jk": "cat", "dropout": 0.0, "rng": rng}
    gnn = kind(in_features, chosen.hidden, out_features, **options)
    return nn.GraphModel(gnn, readout, dropout=chosen.dropout, rng=rng)


def _groups(model: Any, chosen: Recipe) -> list[dict[str, Any]]:
    parameters = list(model.parameters())
    first = len(list(model.layers[0].parameters())) if chosen.decay == "first" else len(parameters)
    groups = [
        {"params": parameters[:first], "weight_decay": chosen.weight_decay},
        {"params": parameters[first:], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


LARGE = 1 << 28
"""Bytes of features that are not read through just to see what they are."""


def training_features(dataset: Dataset) -> Any:
    """Sparse where less than a tenth of the features is not zero (the citation networks), dense otherwise, on
    a device, and if they are large and on disk."""
    if mapping_of(dataset.features) is not None and dataset.features.nbytes > LARGE:
        return dataset.features
    if dataset.graph.device != "cpu" or is_sparse(dataset.features):
        return dataset.features
    return (
        dataset.sparse_features
        if np.count_nonzero(dataset.features) < 0.1 * dataset.features.size
        else dataset.features
    )


def sampling(
    dataset: Dataset | Links, features: Any, fanouts: Sequence[int], batch_size: int, seed: int = 0
) -> NeighborLoader | LinkLoader:
    """The loader that a training in batches goes over: of the nodes for training, or of the links."""
    if isinstance(dataset, Links):
        links = replace(dataset, data=replace(dataset.data, features=features))
        return LinkLoader(links, fanouts, batch_size=batch_size, shuffle=True, seed=seed)
    data = replace(dataset, features=features)
    return NeighborLoader(
        data, fanouts, input_nodes=data.train_mask, batch_size=batch_size, shuffle=True, seed=seed
    )
