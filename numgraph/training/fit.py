"""Training, of the whole graph or in batches: the loop behind ``numgraph.fit``, ``numgraph train`` and benchmarks/accuracy.py."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numgraph.arrays.inputs import kind_of
from numgraph.autodiff.tape import Tape
from numgraph.data.links import Links
from numgraph.data.record import Dataset
from numgraph.errors import bad_type, bad_value, shown
from numgraph.nn.module import Module
from numgraph.optim import Adam
from numgraph.training.metrics import Metrics
from numgraph.training.objectives import Labels, objective_of, warn_of_weights


class Diverged(ValueError):
    """The loss became infinite or no number."""


@dataclass
class History:
    """One number an epoch. ``train_loss`` is what the step minimised, with dropout; the others are measured after it, without.

    The score is the accuracy of a classification, R² of a regression, the area under the ROC curve of links. Without nodes or links for
    validation ``val_loss`` and ``val_score`` stay empty, and the best epoch is that of the best training score.
    """

    train_loss: list[float] = field(default_factory=list)
    train_score: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_score: list[float] = field(default_factory=list)
    score: str = "accuracy"  # or "r2", "auc"
    best_epoch: int = 0  # the first is 1; 0 is before training
    stopped: str = "epochs"  # or "patience", "callback", "interrupted"
    seconds: float = 0.0

    @property
    def epochs(self) -> int:
        return len(self.train_loss)

    @property
    def train_accuracy(self) -> list[float]:
        """``train_score`` of a classification."""
        return self._accuracy(self.train_score)

    @property
    def val_accuracy(self) -> list[float]:
        """``val_score`` of a classification."""
        return self._accuracy(self.val_score)

    def _accuracy(self, scores: list[float]) -> list[float]:
        if self.score != "accuracy":
            raise AttributeError(f"a History of {self.score} has no accuracy; see its train_score and val_score")
        return scores


Callback = Callable[[int, History], Any]


def evaluate(model: Module, dataset: Dataset, features: Any, *masks: np.ndarray) -> list[Metrics]:
    """The model's metrics on the nodes of each mask, from one pass in its evaluation mode; its mode is what it was afterwards."""
    objective = objective_of("evaluate", dataset, features)
    assert isinstance(objective, Labels)
    nothing = Metrics(np.nan, np.nan, {objective.score: np.nan})
    return [nothing if found is None else found for found in objective.of_masks(model, masks)]


@contextmanager
def interrupts() -> Iterator[list[bool]]:
    """What is no longer empty after a Ctrl-C; a second one raises KeyboardInterrupt.

    An exception raised just anywhere may be lost: Python drops those in callbacks of weak references, which an epoch has many of.
    """
    asked: list[bool] = []

    def handler(*_: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(True)

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    before = signal.signal(signal.SIGINT, handler) if ours else None
    try:
        yield asked
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)


def fit(
    model: Module,
    dataset: Dataset | Links,
    optimizer: Any = None,
    *,
    epochs: int = 200,
    patience: int = 0,
    seed: int = 0,
    features: Any = None,
    loader: Any = None,
    callback: Callback | Sequence[Callback] | None = None,
) -> History:
    """Train with the loss of the training nodes, and leave the model with the state of its best epoch, in evaluation mode.

    The best epoch is the one of the highest validation score (accuracy, R² for a regression, the area under the ROC curve for links), among
    equals the one of the lowest validation loss; without nodes for validation those of the training nodes stand in for them. Ctrl-C ends
    the training after the step that runs, as its last epoch would, a second one at once; ``history.stopped`` tells.

    Parameters
    ----------
    model
        ``model(graph, x, rng=generator)`` gives logits [nodes, classes], for a regression [nodes, 1], for links [nodes, features]; what it
        drops in training mode is drawn from the generator. If it takes ``edge_weight``, the dataset's are passed.
    dataset
        A Dataset, or the links that ``numgraph.data.split_links`` dealt out.
    optimizer
        Its ``parameters`` are trained, by ``optimizer.step(gradients)``; by default ``Adam(model.parameters(), lr=0.01)``.
    epochs
        Steps at most; each sees every training node.
    patience
        Stop after so many epochs in which neither validation score nor validation loss reached a new best; 0: never.
    seed
        Of the generator that dropout, and pairs that are no links, are drawn from.
    features
        In place of ``dataset.features``, for example ``dataset.sparse_features``.
    loader
        A NeighborLoader of the dataset's training nodes, a ClusterLoader of it, or a LinkLoader of links: each batch is a step, and
        ``model.inference(loader)`` measures. Features are the loader's.
    callback
        A function, or several, called after each epoch (1, 2, …) with the history so far; one that returns True ends the training.

    Raises
    ------
    Diverged
        A loss that is no finite number; the model then has its best state.

    Examples
    --------
    >>> import numgraph as ng
    >>> data = ng.data.load("karate")
    >>> model = ng.nn.GCN(data.num_features, 8, data.num_classes, rng=0)
    >>> history = ng.fit(model, data, epochs=50, patience=20, callback=lambda epoch, history: history.train_loss[-1] < 1e-3)
    >>> history.val_accuracy[history.best_epoch - 1] > 0.7
    True
    """
    if not callable(model) or isinstance(model, type):
        raise bad_type("fit", f"model is {kind_of(model)}", "give a module, then a dataset and an optimizer")
    objective = objective_of("fit", dataset, features, loader)
    optimizer = Adam(model.parameters(), lr=0.01) if optimizer is None else optimizer
    if isinstance(optimizer, type) or not hasattr(optimizer, "step"):
        raise bad_type("fit", f"optimizer is {kind_of(optimizer)}", "give an object, as numgraph.optim.Adam(model.parameters())")
    for name, number in (("epochs", epochs), ("patience", patience)):
        if not isinstance(number, int | np.integer) or number < 0:
            raise bad_value("fit", f"{name} is {shown(number)}", f"{name} is a whole number, at least 0")
    callbacks = [callback] if callable(callback) else [] if callback is None else callback
    if not isinstance(callbacks, list | tuple) or not all(callable(one) for one in callbacks):
        raise bad_type("fit", f"callback is {shown(callback)}", "give a function of epoch and history, or a list of them")
    if not isinstance(dataset, Links) and not objective.agreed(bool(dataset.train_mask.any())):
        raise bad_value("fit", "no node is for training", "give the dataset a train_mask, or a split whose first share is larger")
    warn_of_weights("fit", model, objective.data)
    rng = np.random.default_rng(seed)
    parameters = list(optimizer.parameters)
    history = History(score=objective.score)
    best = model.state_dict()
    best_score = (-np.inf, -np.inf)  # validation score, and minus validation loss
    highest, lowest, waited = -np.inf, np.inf, 0
    start = time.perf_counter()
    try:
        with interrupts() as asked:
            for epoch in range(1, epochs + 1):
                model.train()
                with np.errstate(over="ignore", invalid="ignore"):  # a training that diverges is an error below
                    total, count = 0.0, 0
                    for loss_of, size in objective.steps(model, objective.generator(seed, epoch, rng)):
                        with Tape() as tape:
                            loss = loss_of()
                        optimizer.step(tape.gradient(loss, parameters))
                        total, count = total + size * loss.item(), count + size
                        if asked:
                            break
                    if not count:
                        raise bad_value("fit", "no batch of the loader has a node for training", "give it the nodes of train_mask")
                    mean_loss = objective.total(total / count)
                    train, val = objective.evaluate(model, ("train", "val"))
                assert train is not None
                judged = train if val is None else val
                for kind, value in (("loss", mean_loss), ("training loss" if val is None else "validation loss", judged.loss)):
                    if not np.isfinite(value):
                        raise Diverged(f"fit: the {kind} is {value} in epoch {epoch}; lower the learning rate, {optimizer.lr:g}")
                history.train_loss.append(mean_loss)
                history.train_score.append(train.score)
                if val is not None:
                    history.val_loss.append(val.loss)
                    history.val_score.append(val.score)
                if (judged.score, -judged.loss) > best_score:
                    best, best_score = model.state_dict(), (judged.score, -judged.loss)
                    history.best_epoch = epoch
                waited = 0 if judged.score > highest or judged.loss < lowest else waited + 1
                highest, lowest = max(highest, judged.score), min(lowest, judged.loss)
                history.seconds = time.perf_counter() - start
                ends = [one(epoch, history) for one in callbacks]
                if objective.agreed(any(isinstance(end, bool | np.bool_) and end for end in ends)):
                    history.stopped = "callback"
                    break
                if patience and waited >= patience:
                    history.stopped = "patience"
                    break
                if objective.agreed(bool(asked)):
                    history.stopped = "interrupted"
                    break
    except KeyboardInterrupt:
        history.stopped = "interrupted"
    finally:
        model.load_state_dict(best)
        model.eval()
    return history
