"""Full-batch training of a node classifier: the loop behind ``numgraph train`` and benchmarks/accuracy.py."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numgraph.arrays.inputs import kind_of
from numgraph.autodiff.tape import Tape
from numgraph.autodiff.tensor import unwrap
from numgraph.data.record import Dataset
from numgraph.dense import cross_entropy
from numgraph.errors import bad_type, bad_value, shown
from numgraph.nn.module import Module


class Diverged(ValueError):
    """The loss became infinite or no number."""


@dataclass(frozen=True)
class Metrics:
    """Mean cross entropy and share of right answers over some nodes."""

    loss: float
    accuracy: float


@dataclass
class History:
    """One number an epoch. ``train_loss`` is what the step minimised, with dropout; the others are measured after it, without."""

    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    best_epoch: int = 0  # the first is 1; 0 is before training
    stopped: str = "epochs"  # or "patience", "interrupted"
    seconds: float = 0.0

    @property
    def epochs(self) -> int:
        return len(self.val_accuracy)


def evaluate(model: Module, dataset: Dataset, features: Any, *masks: np.ndarray) -> list[Metrics]:
    """The model's metrics on the nodes of each mask, from one pass in its evaluation mode; its mode is what it was afterwards."""
    training = model.training
    try:
        logits = unwrap(model.eval()(dataset.graph, features))
    finally:
        model.train(training)
    return [
        Metrics(
            float(unwrap(cross_entropy(logits, dataset.labels, mask))),
            float((logits[mask].argmax(1) == dataset.labels[mask]).mean()),
        )
        for mask in masks
    ]


@contextmanager
def _interrupts() -> Iterator[list[bool]]:
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
    dataset: Dataset,
    optimizer: Any,
    *,
    epochs: int = 200,
    patience: int = 0,
    seed: int = 0,
    features: Any = None,
    callback: Callable[[int, History], None] | None = None,
) -> History:
    """Train with the loss of the training nodes, and leave the model with the state of its best epoch, in evaluation mode.

    The best epoch is the one of the highest validation accuracy, among equals the one of the lowest validation loss. Ctrl-C ends the
    training after the epoch that runs, as its last epoch would, a second one at once; ``history.stopped`` tells.

    Parameters
    ----------
    model
        ``model(graph, x, rng=generator)`` gives logits [nodes, classes]; what it drops in training mode is drawn from the generator.
    optimizer
        Its ``parameters`` are trained, by ``optimizer.step(gradients)``.
    epochs
        Steps at most; each sees every training node.
    patience
        Stop after so many epochs in which neither validation accuracy nor validation loss reached a new best; 0: never.
    seed
        Of the generator that dropout draws from.
    features
        In place of ``dataset.features``, for example ``dataset.sparse_features``.
    callback
        Called after each epoch (1, 2, …) with the history so far.

    Raises
    ------
    Diverged
        A loss that is no finite number; the model then has its best state.
    """
    if not callable(model) or isinstance(model, type):
        raise bad_type("fit", f"model is {kind_of(model)}", "give a module, then a dataset and an optimizer")
    if not isinstance(dataset, Dataset):
        raise bad_type("fit", f"dataset is {kind_of(dataset)}", "give a numgraph.data.Dataset, as numgraph.data.load returns it")
    if isinstance(optimizer, type) or not hasattr(optimizer, "step"):
        raise bad_type("fit", f"optimizer is {kind_of(optimizer)}", "give an object, as numgraph.optim.Adam(model.parameters())")
    for name, number in (("epochs", epochs), ("patience", patience)):
        if not isinstance(number, int | np.integer) or number < 0:
            raise bad_value("fit", f"{name} is {shown(number)}", f"{name} is a whole number, at least 0")
    features = dataset.features if features is None else features
    rng = np.random.default_rng(seed)
    parameters = list(optimizer.parameters)
    history = History()
    best = model.state_dict()
    best_score = (-np.inf, -np.inf)  # validation accuracy, and minus validation loss
    highest, lowest, waited = -np.inf, np.inf, 0
    start = time.perf_counter()
    try:
        with _interrupts() as asked:
            for epoch in range(1, epochs + 1):
                model.train()
                with np.errstate(over="ignore", invalid="ignore"):  # a training that diverges is an error below
                    with Tape() as tape:
                        loss = cross_entropy(model(dataset.graph, features, rng=rng), dataset.labels, dataset.train_mask)
                    optimizer.step(tape.gradient(loss, parameters))
                    train, val = evaluate(model, dataset, features, dataset.train_mask, dataset.val_mask)
                for kind, value in (("loss", loss.item()), ("validation loss", val.loss)):
                    if not np.isfinite(value):
                        raise Diverged(f"fit: the {kind} is {value} in epoch {epoch}; lower the learning rate, {optimizer.lr:g}")
                history.train_loss.append(loss.item())
                history.train_accuracy.append(train.accuracy)
                history.val_loss.append(val.loss)
                history.val_accuracy.append(val.accuracy)
                if (val.accuracy, -val.loss) > best_score:
                    best, best_score = model.state_dict(), (val.accuracy, -val.loss)
                    history.best_epoch = epoch
                waited = 0 if val.accuracy > highest or val.loss < lowest else waited + 1
                highest, lowest = max(highest, val.accuracy), min(lowest, val.loss)
                history.seconds = time.perf_counter() - start
                if callback is not None:
                    callback(epoch, history)
                if patience and waited >= patience:
                    history.stopped = "patience"
                    break
                if asked:
                    history.stopped = "interrupted"
                    break
    except KeyboardInterrupt:
        history.stopped = "interrupted"
    finally:
        model.load_state_dict(best)
        model.eval()
    return history
