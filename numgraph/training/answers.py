"""A trained scorer of triples with the names that it knows, in one file without pickles: it answers (head,
relation, ?).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph import nn
from numgraph.arrays.devices import moved
from numgraph.autodiff.tensor import unwrap
from numgraph.data.triples import Triples
from numgraph.errors import bad_value, unknown
from numgraph.serialize import read_arrays, save_parameters
from numgraph.training.predictor import ABOUT, PARAMETERS
from numgraph.training.triples import Truth

SCORERS = {"complex": nn.ComplEx, "distmult": nn.DistMult, "transe": nn.TransE}
"""What the command line calls the kinds of scorers."""
FORMAT = 1


@dataclass
class Answers:
    """A scorer and its names.

    Attributes
    ----------
    model : the trained module, one of SCORERS
    entities, relations : the names
    known : [n, 3] ids of the triples that are known
    """

    model: Any
    entities: Sequence[str]
    relations: Sequence[str]
    known: NDArray[np.int64]

    @classmethod
    def of(cls, model: Any, triples: Triples) -> Answers:
        """Those of a scorer that was trained on triples."""
        return cls(model, triples.entities, triples.relations, triples.known)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a .npz or .safetensors file, in one step."""
        model = self.model
        kind = next(name for name, one in SCORERS.items() if type(model) is one)
        about = {
            "format": FORMAT,
            "task": "triples",
            "model": kind,
            "dim": model.dim,
            "reciprocal": model.reciprocal,
        }
        about |= {
            "norm": getattr(model, "norm", None),
            "entities": list(self.entities),
            "relations": list(self.relations),
        }
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        arrays = {PARAMETERS + name: array for name, array in model.state_dict().items()}
        save_parameters(path, {ABOUT: text, "known": self.known, **arrays})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Answers | None:
        """Read what ``save`` wrote; None of a file with something else.

        Raises
        ------
        ValueError : a damaged file
        """
        arrays = read_arrays(path)
        try:
            about = json.loads(arrays[ABOUT].tobytes())
            if about["task"] != "triples":
                return None
        except (KeyError, ValueError, TypeError):
            return None
        try:
            if about["format"] != FORMAT:
                raise ValueError(f"format {about['format']!r} is of another version")
            state = {
                name.removeprefix(PARAMETERS): array
                for name, array in arrays.items()
                if name.startswith(PARAMETERS)
            }
            entities, relations = (
                [str(one) for one in about["entities"]],
                [str(one) for one in about["relations"]],
            )
            if int(about["dim"]) * (len(entities) + len(relations)) > sum(
                array.size for array in state.values()
            ):
                raise ValueError("the parameters are fewer than the names need")
            options = {} if about["norm"] is None else {"norm": about["norm"]}
            kind = SCORERS[about["model"]]
            model = kind(
                len(entities),
                len(relations),
                int(about["dim"]),
                reciprocal=bool(about["reciprocal"]),
                **options,
            )
            model.load_state_dict(state)
            nothing = np.empty((0, 3), np.int64)
            known = Triples("known", arrays["known"], nothing, nothing, entities, relations).train
        except Exception as error:  # whatever a damaged or foreign description leads to
            raise bad_value(
                "predict",
                f"{path} is damaged: {type(error).__name__}: {error!s:.200}",
                "save the model again",
            ) from error
        model.eval()
        return cls(model, entities, relations, known)

    def tails(self, heads: Sequence[str], relations: Sequence[str], top: int = 10) -> dict[str, Any]:
        """The best `top` tails of each (head, relation), best first, as columns: ``head``, ``relation``,
        ``tail``, ``score``, ``probability`` (the softmax over all entities) and ``known``, whether the triple
        is one of those known.

        Raises
        ------
        ValueError : a name that was in no triple
        """
        h, r = (
            self._numbers("entity", heads, self.entities),
            self._numbers("relation", relations, self.relations),
        )
        top, truth = min(top, len(self.entities)), Truth(self.known, len(self.relations))
        columns: dict[str, list[Any]] = {
            name: [] for name in ("head", "relation", "tail", "score", "probability", "known")
        }
        step = max(1, 2**22 // len(self.entities))
        for first in range(0, len(h), step):
            part = slice(first, first + step)
            scores = moved(unwrap(self.model.score_tails(h[part], r[part])), "cpu").astype(np.float64)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
            known = np.zeros(scores.shape, bool)
            known[truth.answers(truth.tails, h[part], r[part])] = True
            weights = np.exp(scores - scores.max(1, keepdims=True))
            rows = np.arange(len(scores))[:, None]
            columns["head"] += np.repeat(np.asarray(heads, object)[part], top).tolist()
            columns["relation"] += np.repeat(np.asarray(relations, object)[part], top).tolist()
            columns["tail"] += [self.entities[i] for i in best.ravel().tolist()]
            columns["score"] += scores[rows, best].ravel().tolist()
            columns["probability"] += (weights / weights.sum(1, keepdims=True))[rows, best].ravel().tolist()
            columns["known"] += known[rows, best].ravel().tolist()
        return columns

    @staticmethod
    def _numbers(what: str, names: Sequence[str], known: Sequence[str]) -> NDArray[np.int64]:
        place = {name: i for i, name in enumerate(known)}
        for row, name in enumerate(names):
            if name not in place:
                raise unknown("predict", f"{what} of question {row + 1}:", name, known)
        return np.array([place[name] for name in names], np.int64)
