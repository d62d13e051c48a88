"""Training, of the whole graph or in batches: the loop behind ``numgraph.fit``, ``numgraph train`` and
benchmarks/accuracy.py.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from numgraph.arrays.inputs import generator, kind_of
from numgraph.autodiff.tape import Tape
from numgraph.data.graph_set import GraphDataset
from numgraph.data.links import Links
from numgraph.data.record import Dataset
from numgraph.errors import bad_type, bad_value, shown
from numgraph.nn.module import Module
from numgraph.optim import Adam
from numgraph.training.metrics import Metrics
from numgraph.training.objectives import Labels, objective_of, warn_of_weights
from numgraph.training.standing import Checkpoint, History, Standing


class Diverged(ValueError):
    """The loss became infinite or no number."""


Callback = Callable[[int, History], Any]


def evaluate(model: Module, dataset: Dataset, features: Any, *masks: np.ndarray) -> list[Metrics]:
    """The model's metrics on the nodes of each mask, from one pass in its evaluation mode; its mode is what
    it was afterwards.

    Parameters
    ----------
    model : as that of ``fit``
    dataset : Dataset
    features : what the model is given
    masks : bool arrays [nodes]

    Returns
    -------
    Metrics for each mask

    Examples
    --------
    >>> import numgraph as ng
    >>> data = ng.data.load("karate")
    >>> model = ng.nn.GCN(data.num_features, 8, data.num_classes, rng=0)
    >>> (metrics,) = ng.training.evaluate(model, data, data.features, data.test_mask)
    >>> 0 <= metrics.values["accuracy"] <= 1
    True
    """
    objective = objective_of("evaluate", dataset, features)
    assert isinstance(objective, Labels)
    nothing = Metrics(np.nan, np.nan, {objective.score: np.nan})
    return [nothing if found is None else found for found in objective.of_masks(model, masks)]


@contextmanager
def interrupts(alone: bool = True) -> Iterator[list[bool]]:
    """What is no longer empty after a Ctrl-C; a second one raises KeyboardInterrupt, but where several
    processes must stop together.

    An exception raised just anywhere may be lost: Python drops those in callbacks of weak references, which
    an epoch has many of."""
    asked: list[bool] = []

    def handler(*_: Any) -> None:
        if asked and alone:
            raise KeyboardInterrupt
        asked.append(True)

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    before = signal.signal(signal.SIGINT, handler) if ours else None
    try:
        yield asked
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)


def fit(
    model: Module,
    dataset: Dataset | Links | GraphDataset,
    optimizer: Any = None,
    *,
    epochs: int = 200,
    patience: int = 0,
    seed: int = 0,
    features: Any = None,
    loader: Any = None,
    callback: Callback | Sequence[Callback] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 10,
) -> History:
    """Train with the loss of the training nodes, and leave the model with the state of its best epoch, in
    evaluation mode.

    The best epoch is the one of the highest validation score (accuracy, R² for a regression, the area under
    the ROC curve for links), among equals the one of the lowest validation loss; without nodes for validation
    those of the training nodes stand in for them. Ctrl-C ends the training after the step that runs, as its
    last epoch would, a second one at once; ``history.stopped`` tells.

    Parameters
    ----------
    model
        ``model(graph, x)`` gives logits [nodes, classes], for a regression [nodes, 1], for links
        [nodes, features]. If it takes ``rng``, what it drops in training mode is drawn from that generator;
        if it takes ``edge_weight``, the dataset's are passed. Of a GraphDataset it is
        ``model(batch, x)`` and gives rows for graphs, as ``numgraph.nn.GraphModel``.
    dataset
        A Dataset, the links that ``numgraph.data.split_links`` dealt out, or a GraphDataset.
    optimizer
        Its ``parameters`` are trained, by ``optimizer.step(gradients)``; by default
        ``Adam(model.parameters(), lr=0.01)``.
    epochs
        Steps at most; each sees every training node.
    patience
        Stop after so many epochs in which neither validation score nor validation loss reached a new best; 0:
        never.
    seed
        Of the generator that dropout, and pairs that are no links, are drawn from.
    features
        In place of ``dataset.features``, for example ``dataset.sparse_features``.
    loader
        A NeighborLoader of the dataset's training nodes, a ClusterLoader of it, or a LinkLoader of links:
        each batch is a step, and ``model.inference(loader)`` measures. Features are the loader's; of its
        nodes those outside of train_mask are in no loss. Of a GraphDataset a GraphLoader of it; by default
        its training graphs, shuffled, 32 at a step.
    callback
        A function, or several, called after each epoch (1, 2, …) with the history so far; one that returns
        True ends the training.
    checkpoint, checkpoint_every
        A file (.npz or .safetensors) that the training goes on from where it is there, with the same results
        as if it had never stopped; it is replaced, in one step, after every ``checkpoint_every`` epochs and
        at the end, but not by an epoch that Ctrl-C has cut short.

    Returns
    -------
    History
        Losses and scores of every epoch.

    Raises
    ------
    Diverged
        A loss that is no finite number; the model then has its best state.

    Examples
    --------
    >>> import numgraph as ng
    >>> data = ng.data.load("karate")
    >>> model = ng.nn.GCN(data.num_features, 8, data.num_classes, rng=0)
    >>> learnt = lambda epoch, history: history.train_loss[-1] < 1e-3
    >>> history = ng.fit(model, data, epochs=50, patience=20, callback=learnt)
    >>> history.val_accuracy[history.best_epoch - 1] > 0.7
    True
    """
    if not isinstance(model, Module):
        raise bad_type(
            "fit", f"model is {kind_of(model)}", "give a numgraph.nn.Module, then a dataset and an optimizer"
        )
    objective = objective_of("fit", dataset, features, loader, seed)
    loader = objective.loader
    processes = objective.processes
    optimizer = trainer_of("fit", model, optimizer)
    for name, number, least in (
        ("epochs", epochs, 0),
        ("patience", patience, 0),
        ("checkpoint_every", checkpoint_every, 1),
    ):
        if not isinstance(number, int | np.integer) or number < least:
            raise bad_value(
                "fit", f"{name} is {shown(number)}", f"{name} is a whole number, at least {least}"
            )
    callbacks = [callback] if callable(callback) else [] if callback is None else callback
    if not isinstance(callbacks, list | tuple) or not all(callable(one) for one in callbacks):
        raise bad_type(
            "fit", f"callback is {shown(callback)}", "give a function of epoch and history, or a list of them"
        )
    if not isinstance(dataset, Links) and not processes.agreed(bool(dataset.train_mask.any())):
        raise bad_value(
            "fit",
            f"no {objective.what} is for training",
            "give the dataset a train_mask, or a split whose first share is larger",
        )
    warn_of_weights("fit", model, objective.data)
    rng = generator("fit", seed, "seed")
    parameters = list(optimizer.parameters)
    standing = Standing(History(score=objective.score), model.state_dict())
    same: dict[str, Any] = {
        "epochs": epochs,
        "patience": patience,
        "seed": seed,
        "checkpoint_every": checkpoint_every,
    }
    same |= {
        "checkpoint is None": checkpoint is None,
        "loader.batch_size": getattr(loader, "batch_size", None),
    }
    processes.alike("fit", same | {f"the model's {name}": array for name, array in standing.best.items()})
    kept = None if checkpoint is None else Checkpoint(checkpoint, model, optimizer, rng)
    if kept is not None:
        found = processes.from_first(kept.read)
        if found is not None:
            standing = kept.restored(found, objective.score)
            if loader is not None:
                loader.epoch = standing.history.epochs
    history, before = standing.history, standing.history.seconds
    start = time.perf_counter()
    try:
        with interrupts(not processes.several) as asked:
            for epoch in range(history.epochs + 1, epochs + 1):
                model.train()
                with np.errstate(
                    over="ignore", invalid="ignore"
                ):  # a training that diverges is an error below
                    total, count, cut = 0.0, 0, False
                    for loss_of, size in objective.steps(model, processes.generator(seed, epoch, rng)):
                        if count and processes.agreed(bool(asked)):
                            cut = True
                            break
                        with Tape() as tape:
                            loss = loss_of()
                        optimizer.step(objective.gradients(tape.gradient(loss, parameters)))
                        total, count = total + size * loss.item(), count + size
                    if not count:
                        problem = f"no batch of the loader has a {objective.what} for training"
                        raise bad_value("fit", problem, f"give it the {objective.what}s of train_mask")
                    mean_loss = processes.total(total / count)
                    train, val = objective.evaluate(model, ("train", "val"))
                assert train is not None
                judged = train if val is None else val
                for kind, value in (
                    ("loss", mean_loss),
                    ("training loss" if val is None else "validation loss", judged.loss),
                ):
                    if not np.isfinite(value):
                        raise Diverged(
                            f"fit: the {kind} is {value} in epoch {epoch}; lower the learning rate, "
                            f"{optimizer.lr:g}"
                        )
                standing.took(model, mean_loss, train, val)
                history.seconds = before + time.perf_counter() - start
                ends = [one(epoch, history) for one in callbacks]
                if processes.agreed(any(isinstance(end, bool | np.bool_) and end for end in ends)):
                    history.stopped = "callback"
                elif patience and standing.waited >= patience:
                    history.stopped = "patience"
                elif processes.agreed(bool(asked)):
                    history.stopped = "interrupted"
                ending = history.stopped != "epochs" or epoch == epochs
                if kept is not None and not cut and (ending or epoch % checkpoint_every == 0):
                    processes.from_first(partial(kept.write, standing))
                if ending:
                    break
    except KeyboardInterrupt:
        history.stopped = "interrupted"
    finally:
        model.load_state_dict(standing.best)
        model.eval()
    return history


def trainer_of(op: str, model: Any, optimizer: Any) -> Any:
    """The optimiser, by default Adam; one that has no parameter of the model would train nothing, and no loss
    would tell.
    """
    if optimizer is None:
        return Adam(model.parameters(), lr=0.01)
    fix = "give an object, as numgraph.optim.Adam(model.parameters())"
    if isinstance(optimizer, type) or not hasattr(optimizer, "step"):
        raise bad_type(op, f"optimizer is {kind_of(optimizer)}", fix)
    own = {id(one) for one in model.parameters()} if hasattr(model, "parameters") else set()
    if own and own.isdisjoint(map(id, optimizer.parameters)):
        raise bad_value(
            op,
            "the optimizer has none of the model's parameters",
            "make it after the model, as Adam(model.parameters())",
        )
    return optimizer
