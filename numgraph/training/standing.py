"""How far a training is: its history, its best state, and the file that it goes on from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from numgraph.errors import bad_type, bad_value
from numgraph.serialize import as_bytes, check_target, fill, from_bytes, read_arrays, save_parameters
from numgraph.training.metrics import Metrics


@dataclass(repr=False)
class History:
    """What ``fit`` returns: one number an epoch, and how the training ended.

    Attributes
    ----------
    train_loss : what the step minimised, with dropout; the others are measured after it, without
    train_score, val_loss, val_score : those of validation are empty without nodes or links for it
    score : "accuracy" of a classification, "r2" of a regression, "auc", the area under the ROC curve, of
        links, "mrr" of triples
    best_epoch : that of the best validation score, without validation of the best training score;
        the first is 1, 0 is before training
    stopped : "epochs", "patience", "callback" or "interrupted"
    seconds : of the whole training

    Examples
    --------
    >>> import numgraph as ng
    >>> history = ng.training.History(train_loss=[0.7, 0.5], train_score=[0.5, 1.0], best_epoch=2)
    >>> history.epochs, history.train_accuracy[history.best_epoch - 1]
    (2, 1.0)
    """

    train_loss: list[float] = field(default_factory=list)
    train_score: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_score: list[float] = field(default_factory=list)
    score: str = "accuracy"  # or "r2", "auc", of triples "mrr"
    best_epoch: int = 0  # the first is 1; 0 is before training
    stopped: str = "epochs"  # or "patience", "callback", "interrupted"
    seconds: float = 0.0

    @property
    def epochs(self) -> int:
        """How many epochs were trained."""
        return len(self.train_loss)

    def __repr__(self) -> str:
        part, scores = ("val", self.val_score) if self.val_score else ("train", self.train_score)
        best = f", {part}_score={scores[self.best_epoch - 1]:.4g}" if scores and self.best_epoch else ""
        return (
            f"History({self.epochs} epochs, best_epoch={self.best_epoch}{best}, score={self.score!r}, "
            f"stopped={self.stopped!r}, {self.seconds:.1f} s)"
        )

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
            raise AttributeError(
                f"a History of {self.score} has no accuracy; see its train_score and val_score"
            )
        return scores


@dataclass
class Standing:
    """What an epoch changes besides the model and its optimiser.

    best : the state of the best epoch, that of the highest score, among equals of the lowest loss
    waited : epochs since the score or the loss was better than ever
    """

    history: History
    best: dict[str, Any]
    best_score: tuple[float, float] = (-np.inf, -np.inf)  # and minus the loss
    highest: float = -np.inf
    lowest: float = np.inf
    waited: int = 0

    def took(self, model: Any, loss: float, train: Metrics, val: Metrics | None) -> None:
        """An epoch: what its step minimised, and what was measured after it."""
        history, judged = self.history, train if val is None else val
        history.train_loss.append(loss)
        history.train_score.append(train.score)
        if val is not None:
            history.val_loss.append(val.loss)
            history.val_score.append(val.score)
        if (judged.score, -judged.loss) > self.best_score:
            self.best, self.best_score = model.state_dict(), (judged.score, -judged.loss)
            history.best_epoch = history.epochs
        self.waited = 0 if judged.score > self.highest or judged.loss < self.lowest else self.waited + 1
        self.highest, self.lowest = max(self.highest, judged.score), min(self.lowest, judged.loss)


class Checkpoint:
    """A file with a standing and all that it is of: the model's and the optimiser's state, and that of random
    generators.

    Parameters
    ----------
    path : .npz or .safetensors
    rng : the generator that the epochs draw from
    """

    def __init__(
        self, path: str | os.PathLike[str], model: Any, optimizer: Any, rng: np.random.Generator
    ) -> None:
        check_target(path)
        if not hasattr(optimizer, "state_dict"):
            raise bad_type(
                "fit",
                f"optimizer is a {type(optimizer).__name__} without state_dict()",
                "leave out checkpoint",
            )
        self.path, self._model, self._optimizer, self._rng = path, model, optimizer, rng

    def write(self, standing: Standing) -> None:
        """Replace the file."""
        numbers = {name: getattr(standing, name) for name in ("best_score", "highest", "lowest", "waited")}
        about = {
            "history": asdict(standing.history),
            "random": self._model.random_state(),
            "rng": self._rng.bit_generator.state,
            **numbers,
        }
        parts = {
            "model": self._model.state_dict(),
            "best": standing.best,
            "optimizer": self._optimizer.state_dict(),
        }
        arrays = {f"{part}/{name}": array for part, state in parts.items() for name, array in state.items()}
        save_parameters(self.path, arrays | {"standing": as_bytes(about)})

    def read(self) -> Mapping[str, Any] | None:
        """The arrays of the file, None where it is not there."""
        return read_arrays(self.path) if Path(self.path).exists() else None

    def restored(self, arrays: Mapping[str, Any], score: str) -> Standing:
        """Set model, optimiser and generators to what the file says, and give the standing."""
        if "standing" not in arrays:
            raise bad_value(
                "fit",
                f"{self.path} is no checkpoint of a training",
                "give another path, or move the file away",
            )
        about = from_bytes(self.path, arrays["standing"])
        parts: dict[str, dict[str, Any]] = {"model": {}, "best": {}, "optimizer": {}}
        for key, array in arrays.items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = array
        history = History(**about["history"])
        if history.score != score:
            raise bad_value(
                "fit",
                f"{self.path} is of a training with the score {history.score!r}",
                f"this one has {score!r}: give another",
            )
        best = self._model.state_dict()
        fill("fit", best, parts["best"], "the file", str(self.path))
        self._model.load_state_dict(parts["model"])
        self._model.load_random_state(about["random"])
        self._optimizer.load_state_dict(parts["optimizer"])
        self._rng.bit_generator.state = about["rng"]
        history.stopped = "epochs"
        return Standing(
            history, best, (*about["best_score"],), about["highest"], about["lowest"], about["waited"]
        )
