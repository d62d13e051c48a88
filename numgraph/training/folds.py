"""Cross-validation on a set of graphs, as GIN's paper does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.inputs import kind_of
from numgraph.data.graph_set import GraphDataset
from numgraph.data.loader import GraphLoader
from numgraph.errors import bad_type, bad_value, shown
from numgraph.training.fit import fit
from numgraph.training.standing import History


@dataclass(frozen=True)
class CrossValidation:
    """What the trainings of all folds reached on the graphs that each was not trained on.

    Attributes
    ----------
    histories : list of History, one for each fold

    Examples
    --------
    >>> import numgraph as ng
    >>> folds = [ng.training.History(val_score=scores) for scores in ([0.5, 1.0], [1.0, 0.75])]
    >>> found = ng.training.CrossValidation(folds)
    >>> found.best_epoch, found.mean, found.std
    (2, 0.875, 0.125)
    """

    histories: list[History]

    @property
    def scores(self) -> NDArray[np.float64]:
        """float64 [folds, epochs] the validation score: accuracy, or R² of a regression."""
        return np.array([history.val_score for history in self.histories])

    @property
    def best_epoch(self) -> int:
        """The epoch (the first is 1) whose score, as the mean over the folds, is the highest; the first of
        such.
        """
        return int(self.scores.mean(0).argmax()) + 1

    @property
    def of_folds(self) -> NDArray[np.float64]:
        """[folds] the scores in that epoch."""
        return self.scores[:, self.best_epoch - 1]

    @property
    def mean(self) -> float:
        """The mean over the folds of the scores in the best epoch."""
        return float(self.of_folds.mean())

    @property
    def std(self) -> float:
        """The standard deviation over the folds of the scores in the best epoch."""
        return float(self.of_folds.std())


def cross_validate(
    make: Callable[[int], Any],
    dataset: GraphDataset,
    *,
    folds: int = 10,
    epochs: int = 100,
    batch_size: int = 32,
    seed: int = 0,
    callback: Callable[[int, History], Any] | None = None,
) -> CrossValidation:
    """Train once for each fold on the graphs of the others, and measure every epoch on the fold's.

    Parameters
    ----------
    make : a function of the fold (0, 1, …) that gives a model, or a tuple of the model, its optimiser,
        and maybe a callback of ``fit``
    dataset : graphs with a label are dealt out anew, each class by itself; its masks are not used
    folds, epochs, batch_size : how many parts, passes and graphs of a step
    seed : of the parts, of the graphs' order and of dropout
    callback : called with the fold and its history after each training

    Returns
    -------
    CrossValidation : ``mean`` and ``std`` are those of the one epoch that is best for all folds together

    Raises
    ------
    ValueError : fewer graphs with a label than folds; a callback of ``make`` that ends a training
    Diverged : a loss that is no finite number
    KeyboardInterrupt : Ctrl-C before the first fold has ended; later the folds that have are returned

    Notes
    -----
    The protocol of Xu et al. (ICLR 2019). No graph is left to test the choice of the epoch, so that the mean
    is a little better than what new graphs would give; it compares with what papers report that do the same.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> graphs = [ng.Graph([0, 1], [1, 0]), ng.Graph([0, 1, 2], [1, 2, 0])] * 6
    >>> features = [np.ones((g.num_nodes, 1)) for g in graphs]
    >>> data = ng.data.GraphDataset.from_graphs(graphs, features, [0, 1] * 6)
    >>> def make(fold):
    ...     return ng.nn.GraphModel(ng.nn.GIN(1, 8, 2, jk="cat", dropout=0, rng=fold))
    >>> found = ng.training.cross_validate(make, data, folds=3, epochs=5)
    >>> found.scores.shape
    (3, 5)
    """
    op = "cross_validate"
    if not isinstance(dataset, GraphDataset):
        raise bad_type(
            op,
            f"dataset is {kind_of(dataset)}",
            "give a numgraph.data.GraphDataset, as numgraph.data.read_tu returns it",
        )
    for name, number, least in (("folds", folds, 2), ("epochs", epochs, 1), ("batch_size", batch_size, 1)):
        if not isinstance(number, int | np.integer) or number < least:
            raise bad_value(op, f"{name} is {shown(number)}", f"{name} is a whole number, at least {least}")
    part = fold_of(op, dataset, folds, seed)
    histories: list[History] = []
    for fold in range(folds):
        split = dataset.with_masks((part != fold) & (part >= 0), part == fold, np.zeros(len(part), bool))
        model, optimizer, *callbacks = made if isinstance(made := make(fold), tuple) else (made, None)
        loader = GraphLoader(split, batch_size, input_graphs=split.train_mask, shuffle=True, seed=seed)
        history = fit(model, split, optimizer, epochs=epochs, seed=seed, loader=loader, callback=callbacks)
        if history.stopped == "callback":
            problem = f"a callback of make ended fold {fold} after {history.epochs} of {epochs} epochs"
            raise bad_value(op, problem, "folds are compared epoch by epoch: give fewer epochs")
        if history.epochs == epochs:
            histories.append(history)
            if callback is not None:
                callback(fold, history)
        if history.stopped == "interrupted":
            break
    if not histories:
        raise KeyboardInterrupt
    return CrossValidation(histories)


def fold_of(op: str, dataset: GraphDataset, folds: int, seed: int) -> NDArray[np.int64]:
    """[graphs] which fold each is in, −1 without a label; folds differ by a graph at most, and by one of each
    class.
    """
    labels = dataset.labels
    known = np.flatnonzero(~np.isnan(labels) if dataset.task == "regression" else labels >= 0)
    if len(known) < folds:
        raise bad_value(op, f"folds is {folds}, and {len(known)} graphs have a label", "choose fewer folds")
    known = np.random.default_rng(seed).permutation(known)
    if dataset.task == "classification":
        known = known[np.argsort(labels[known], kind="stable")]
    part = np.full(len(labels), -1, np.int64)
    part[known] = np.arange(len(known)) % folds
    return part
