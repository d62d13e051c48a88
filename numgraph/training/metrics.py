"""How well predictions fit: shares, errors, and the order of scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Metrics:
    """What was measured over some nodes, graphs or pairs.

    Attributes
    ----------
    loss : the mean loss
    score : what training wants to be high: the accuracy, R² for a regression,
        the area under the ROC curve for links
    values : the measures of the task, by name

    Examples
    --------
    >>> import numgraph as ng
    >>> ng.training.Metrics(0.5, 0.75, {"accuracy": 0.75}).accuracy
    0.75
    """

    loss: float
    score: float
    values: dict[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """The share of right answers, of a classification."""
        return self.values["accuracy"]


def regression_values(predicted: Any, wanted: Any) -> dict[str, float]:
    """R², the root of the mean squared error and the mean absolute error; R² is NaN where all wanted numbers
    are equal.
    """
    error = np.asarray(predicted, np.float64) - np.asarray(wanted, np.float64)
    spread = float(np.var(np.asarray(wanted, np.float64)))
    squared = float(np.mean(error**2))
    return {
        "r2": 1 - squared / spread if spread else np.nan,
        "rmse": squared**0.5,
        "mae": float(np.mean(np.abs(error))),
    }


def roc_auc(wanted: Any, scores: Any) -> float:
    """The area under the ROC curve: the share of pairs of a positive and a negative in which the positive has
    the higher score.

    Equal scores count half (the statistic of Mann and Whitney, 1947). NaN where all are positive, or none.
    """
    from scipy.stats import rankdata

    wanted = np.asarray(wanted, bool)
    positives, negatives = int(wanted.sum()), int((~wanted).sum())
    if not positives or not negatives:
        return np.nan
    ranks = float(rankdata(scores)[wanted].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def average_precision(wanted: Any, scores: Any) -> float:
    """Σ (R_k − R_{k−1}) P_k over the distinct scores from the highest on: R_k is the recall, P_k the
    precision of what scores as high.
    """
    wanted, scores = np.asarray(wanted, bool), np.asarray(scores, np.float64)
    if not wanted.any():
        return np.nan
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    found = np.cumsum(wanted[order])[last]
    return float(np.sum(np.diff(found, prepend=0) / wanted.sum() * found / (last + 1)))


def link_values(wanted: Any, scores: Any) -> dict[str, float]:
    """The area under the ROC curve and the average precision."""
    return {"auc": roc_auc(wanted, scores), "average_precision": average_precision(wanted, scores)}


def ranking_values(ranks: Any) -> dict[str, float]:
    """The mean of 1 / rank (MRR), the shares of ranks up to 1, 3 and 10, and the mean rank; NaN where there
    are none.
    """
    ranks = np.asarray(ranks, np.float64)
    if not len(ranks):
        return dict.fromkeys(("mrr", "hits@1", "hits@3", "hits@10", "mean_rank"), np.nan)
    hits = {f"hits@{k}": float(np.mean(ranks <= k)) for k in (1, 3, 10)}
    return {"mrr": float(np.mean(1 / ranks)), **hits, "mean_rank": float(np.mean(ranks))}
