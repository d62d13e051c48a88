"""Knowledge graphs: training of scorers, and filtered ranks of what they answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.devices import device_of, moved
from numgraph.arrays.inputs import as_array, kind_of
from numgraph.autodiff.tape import Tape
from numgraph.autodiff.tensor import unwrap
from numgraph.data.triples import Triples
from numgraph.dense import cross_entropy, softplus
from numgraph.dense.reductions import mean
from numgraph.errors import bad_index, bad_type, bad_value, check_name, shown
from numgraph.training.fit import Callback, Diverged, interrupts, trainer_of
from numgraph.training.metrics import ranking_values
from numgraph.training.standing import History

LOSSES = ("softmax", "negatives")
SETTINGS: dict[str, dict[str, Any]] = {
    "complex": {
        "dim": 200,
        "reciprocal": True,
        "penalty": 0.005,
        "epochs": 50,
        "batch_size": 512,
        "lr": 0.01,
        "patience": 10,
    },
    "distmult": {
        "dim": 200,
        "reciprocal": True,
        "penalty": 0.005,
        "epochs": 50,
        "batch_size": 512,
        "lr": 0.01,
        "patience": 10,
    },
    "transe": {
        "dim": 100,
        "reciprocal": False,
        "penalty": 0.0,
        "epochs": 50,
        "batch_size": 512,
        "lr": 0.01,
        "patience": 10,
    },
}
"""What the command line trains each kind of scorer with unless told otherwise: found on Nations, Kinships and
UMLS.
"""
_NUMBERS = 2**22
"""Scores that are made at once while ranks are counted."""


def fit_triples(
    model: Any,
    triples: Triples,
    optimizer: Any = None,
    *,
    epochs: int = 50,
    batch_size: int = 512,
    loss: str = "softmax",
    penalty: float = 0.0,
    negatives: int = 32,
    margin: float = 0.0,
    patience: int = 0,
    seed: int = 0,
    callback: Callback | Sequence[Callback] | None = None,
) -> History:
    """Train a scorer of triples, and leave it with the parameters of its best epoch: the one of the highest
    MRR in validation.

    Parameters
    ----------
    model : DistMult, ComplEx or TransE, or a Module with their methods
    triples : Triples; without triples for validation the last epoch is kept
    optimizer : by default ``Adam(model.parameters(), lr=0.01)``
    epochs, batch_size : passes over the training triples, and how many make a step
    loss : "softmax", the cross entropy of the right tail among all entities, and of the right head;
        or "negatives", for graphs of very many entities: −log σ(margin + s) of each triple and the mean of
        −log σ(−margin − s') over triples with another head or tail
    penalty : the share of ``model.penalty`` in the loss
    negatives : for each triple; half of them have another head. They are drawn evenly from all entities
    margin : of "negatives"; scores of TransE are below 0, so that it needs one
    patience : stop after so many epochs without a higher MRR; 0: never
    seed : of the order of the triples, and of negatives
    callback : as that of ``numgraph.fit``; the history's ``val_score`` is the MRR

    Returns
    -------
    History

    Raises
    ------
    Diverged : a loss that is no finite number

    Notes
    -----
    Softmax over all entities with N3 is the training of Lacroix et al. (ICML 2018); negatives with a margin
    that of Sun et al. (RotatE, ICLR 2019) without their weights.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ring = np.array([[i, 0, (i + 1) % 9] for i in range(9)])
    >>> triples = ng.data.Triples("ring", ring, ring[:0], ring[:0], list(range(9)), ["next"])
    >>> model = ng.nn.ComplEx(9, 1, 8, rng=0)
    >>> history = ng.training.fit_triples(model, triples, epochs=3)
    >>> history.train_loss[-1] < history.train_loss[0]
    True
    """
    op = "fit_triples"
    if not isinstance(triples, Triples):
        raise bad_type(op, f"triples is {kind_of(triples)}", "give what numgraph.data.load_triples returns")
    check_name(op, "loss", loss, LOSSES)
    for name, number, least in (
        ("epochs", epochs, 0),
        ("batch_size", batch_size, 1),
        ("negatives", negatives, 2),
        ("patience", patience, 0),
    ):
        if not isinstance(number, int | np.integer) or number < least:
            raise bad_value(op, f"{name} is {shown(number)}", f"{name} is a whole number, at least {least}")
    if not hasattr(model, "score_both"):
        raise bad_type(
            op,
            f"model is {kind_of(model)}",
            "give a scorer, as numgraph.nn.ComplEx(triples.num_entities, triples.num_relations)",
        )
    optimizer = trainer_of(op, model, optimizer)
    callbacks: Any = [callback] if callable(callback) else callback or []
    rng, parameters = np.random.default_rng(seed), list(optimizer.parameters)
    history, best, waited, start = History(score="mrr"), None, 0, time.perf_counter()
    truth = Truth(triples)
    model.train()
    try:
        with interrupts() as asked:
            for epoch in range(1, epochs + 1):
                total, order = 0.0, rng.permutation(len(triples.train))
                for first in range(0, len(order), batch_size):
                    h, r, t = triples.train[order[first : first + batch_size]].T
                    with Tape() as tape:
                        value = (
                            _softmax(model, h, r, t)
                            if loss == "softmax"
                            else _negatives(model, h, r, t, rng, negatives, margin)
                        )
                        value = value + penalty * model.penalty(h, r, t) if penalty else value
                    optimizer.step(tape.gradient(value, parameters))
                    total += value.item() * len(h)
                if not np.isfinite(total):
                    raise Diverged(
                        f"{op}: the loss is {total} in epoch {epoch}; lower the learning rate, "
                        f"{optimizer.lr:g}"
                    )
                history.train_loss.append(total / len(order))
                score = (
                    rank_triples(model, triples.val, truth)["mrr"]
                    if len(triples.val)
                    else -history.train_loss[-1]
                )
                if len(triples.val):
                    history.val_score.append(score)
                waited += 1
                if best is None or not len(triples.val) or score > best[0]:
                    best, history.best_epoch, waited = (score, model.state_dict()), epoch, 0
                history.seconds = time.perf_counter() - start
                if any(
                    isinstance(end, bool | np.bool_) and end
                    for end in [one(epoch, history) for one in callbacks]
                ):
                    history.stopped = "callback"
                elif patience and waited >= patience:
                    history.stopped = "patience"
                elif asked:
                    history.stopped = "interrupted"
                if history.stopped != "epochs":
                    break
    except KeyboardInterrupt:
        history.stopped = "interrupted"
    finally:
        if best is not None:
            model.load_state_dict(best[1])
        model.eval()
    return history


def _softmax(model: Any, h: Any, r: Any, t: Any) -> Any:
    scores = model.score_both(h, r, t)
    return cross_entropy(scores, moved(np.concatenate([t, h]), device_of(unwrap(scores))))


def _negatives(
    model: Any, h: Any, r: Any, t: Any, rng: np.random.Generator, count: int, margin: float
) -> Any:
    others = rng.integers(0, model.num_entities, (len(h), count))
    half = count // 2
    heads = np.concatenate([others[:, :half], np.repeat(h[:, None], count - half, 1)], 1).ravel()
    tails = np.concatenate([np.repeat(t[:, None], half, 1), others[:, half:]], 1).ravel()
    wrong = model.score(heads, np.repeat(r, count), tails)
    return mean(softplus(-(margin + model.score(h, r, t)))) + mean(softplus(margin + wrong))


class Truth:
    """All tails that are known for each (head, relation), and all heads for each (relation, tail): what
    filtered ranks leave out.

    triples : Triples, all of whose parts are known, or an array [n, 3] beside the number of relations
    """

    def __init__(self, triples: Triples | NDArray[Any], num_relations: int | None = None) -> None:
        known = triples.known if isinstance(triples, Triples) else np.asarray(triples)
        if isinstance(triples, Triples):
            num_relations = triples.num_relations
        self.num_relations = int(known[:, 1].max(initial=-1)) + 1 if num_relations is None else num_relations
        h, r, t = known.T
        self.tails, self.heads = self._grouped(h, r, t), self._grouped(t, r, h)

    def _grouped(self, ends: Any, r: Any, answers: Any) -> tuple[Any, Any]:
        keys = ends * self.num_relations + r
        order = np.argsort(keys, kind="stable")
        return keys[order], answers[order]

    def answers(self, grouped: tuple[Any, Any], ends: Any, r: Any) -> tuple[Any, Any]:
        """Row i and an entity that is known to answer question i, for every pair of such."""
        keys, answers = grouped
        asked = ends * self.num_relations + r
        first, last = np.searchsorted(keys, asked), np.searchsorted(keys, asked, side="right")
        counts = last - first
        rows = np.repeat(np.arange(len(asked)), counts)
        places = (
            np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
        )
        return rows, answers[places]


def rank_triples(model: Any, part: NDArray[Any], truth: Truth | Triples) -> dict[str, float]:
    """Filtered measures of a scorer on triples: "mrr", "hits@1", "hits@3", "hits@10" and "mean_rank".

    Parameters
    ----------
    model : DistMult, ComplEx or TransE, or what has their score_tails and score_heads
    part : [n, 3] ids, (head, relation, tail)
    truth : Triples (or ``Truth`` of such, to be made once): what is known to be true

    Returns
    -------
    the measures by name

    Notes
    -----
    Each triple asks twice: for its tail among all entities, and for its head. Other right answers that are
    known, from any part, are left out (the filtered setting of Bordes et al., 2013). Of entities with the
    right one's score half are taken to stand before it: the mean of the best and the worst rank, so that a
    model that scores all alike gains nothing.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ring = np.array([[i, 0, (i + 1) % 9] for i in range(9)])
    >>> triples = ng.data.Triples("ring", ring[:6], ring[:0], ring[6:], list(range(9)), ["next"])
    >>> measured = ng.training.rank_triples(ng.nn.ComplEx(9, 1, 8, rng=0), triples.test, triples)
    >>> 1 <= measured["mean_rank"] <= 9
    True
    """
    truth = Truth(truth) if isinstance(truth, Triples) else truth
    if not isinstance(truth, Truth):
        raise bad_type(
            "rank_triples",
            f"truth is {kind_of(truth)}",
            "give the Triples, or Truth(known, num_relations) of an array",
        )
    return ranking_values(filtered_ranks(model, part, truth))


def filtered_ranks(model: Any, part: NDArray[Any], truth: Truth) -> NDArray[np.float64]:
    """[2n] the rank of each triple's tail, then that of each one's head, from 1 on; x.5 within ties."""
    h, r, t = _columns("rank_triples", part, model.num_entities, truth.num_relations).T
    step = max(1, _NUMBERS // max(model.num_entities, 1))
    found = []
    sides: tuple[tuple[Callable[..., Any], Any, Any, Any], ...] = (
        (lambda e, r: model.score_tails(e, r), h, t, truth.tails),
        (lambda e, r: model.score_heads(r, e), t, h, truth.heads),
    )
    for score, ends, targets, grouped in sides:
        for first in range(0, len(h), step):
            rows = slice(first, first + step)
            left_out = truth.answers(grouped, ends[rows], r[rows])
            found.append(_ranks(moved(unwrap(score(ends[rows], r[rows])), "cpu"), targets[rows], left_out))
    return np.concatenate(found) if found else np.empty(0)


def _columns(op: str, part: Any, entities: int, relations: int) -> NDArray[np.int64]:
    """[n, 3] triples, whose ids are in range."""
    rows = as_array(op, "part", part)
    if rows.ndim != 2 or rows.shape[1] != 3 or rows.dtype.kind not in "iu":
        raise bad_type(
            op,
            f"part has dtype {rows.dtype} and shape {list(rows.shape)}",
            "give ids, integers [n, 3]: head, relation, tail",
        )
    wrong = np.argwhere((rows < 0) | (rows >= np.array([entities, relations, entities])))
    if len(wrong):
        i, column = map(int, wrong[0])
        count, what = (relations, "relations") if column == 1 else (entities, "entities")
        raise bad_index(op, f"part[{i}, {column}] is {rows[i, column]}", f"{what} run from 0 to {count - 1}")
    found: NDArray[np.int64] = rows.astype(np.int64)
    return found


def _ranks(scores: NDArray[Any], targets: NDArray[Any], left_out: tuple[Any, Any]) -> NDArray[np.float64]:
    if np.isnan(scores).any():
        raise bad_value(
            "rank_triples", "the model's scores are NaN", "it has diverged: lower the learning rate"
        )
    right = scores[np.arange(len(scores)), targets][:, None]
    above, equal = scores > right, scores == right
    above[left_out] = equal[left_out] = False
    equal[np.arange(len(scores)), targets] = False
    found: NDArray[np.float64] = 1 + above.sum(1) + equal.sum(1) / 2
    return found
