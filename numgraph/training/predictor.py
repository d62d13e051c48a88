"""A trained model with all that it takes to predict from other tables, in one file without pickles."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from numgraph.data.columns import Columns
from numgraph.data.record import Dataset
from numgraph.data.tables import read_tables
from numgraph.errors import bad_value
from numgraph.serialize import read_arrays, save_parameters
from numgraph.training.objectives import Labels, evaluating, objective_of, pair_scores, takes_weights
from numgraph.training.recipes import RECIPES, Recipe, make

T = TypeVar("T")

ABOUT, PARAMETERS = "about", "model/"
FORMAT = 1
TASKS = ("classification", "regression", "link")


@dataclass
class Predictor:
    """A trained model with the recipe it was made by, and the columns that it was trained on.

    Attributes
    ----------
    model : the trained module
    recipe : its kind, widths and layers
    task : "classification", "regression" or "link"
    columns : how a table's columns become features; the names of classes
    label_scale : (mean, deviation) of a regression's labels
    directed : whether messages go along edges alone, not also against them

    Examples
    --------
    >>> import tempfile, numpy as np, numgraph as ng
    >>> from numgraph.training.recipes import Recipe, make
    >>> graph, recipe = ng.Graph([0, 1, 2, 3], [1, 2, 3, 0]), Recipe("gcn", hidden=4)
    >>> data = ng.Dataset.from_arrays(graph, np.eye(4), ["a", "b", "a", "b"], (0.5, 0.25, 0.25))
    >>> trained = ng.training.Predictor(make(recipe, 4, 2), recipe, data.task, data.columns)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trained.save(f"{folder}/model.npz")
    ...     again = ng.training.Predictor.load(f"{folder}/model.npz")
    >>> np.array_equal(again.predict(data)["probability"], trained.predict(data)["probability"])
    True
    """

    model: Any
    recipe: Recipe
    task: str
    columns: Columns
    label_scale: tuple[float, float] = (0.0, 1.0)
    directed: bool = False

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, in one step.

        Parameters
        ----------
        path : .npz or .safetensors
        """
        about = {
            "format": FORMAT,
            "task": self.task,
            "recipe": asdict(self.recipe),
            "columns": self.columns.as_dict(),
            "label_scale": self.label_scale,
            "directed": self.directed,
        }
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        save_parameters(
            path,
            {ABOUT: text} | {PARAMETERS + name: array for name, array in self.model.state_dict().items()},
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictor:
        """Read what ``save`` wrote.

        Parameters
        ----------
        path : .npz or .safetensors

        Returns
        -------
        Predictor

        Raises
        ------
        ValueError : a damaged file, or one of parameters alone
        """
        arrays = read_arrays(path)
        if ABOUT not in arrays:
            fix = "train on tables of your own, numgraph train --edges … --save"
            raise bad_value(
                "predict", f"{path} has the parameters of a model, but not what it was trained on", fix
            )
        return restored(path, arrays, cls._made)

    @classmethod
    def _made(cls, about: Mapping[str, Any], stored: int) -> Predictor:
        """The predictor that a description tells of, with new parameters; stored: how many numbers the file
        has for them.
        """
        if about["format"] != FORMAT or about["task"] not in TASKS:
            raise ValueError(f"format {about['format']!r} and task {about['task']!r} are of another version")
        kinds = {field.name: type(getattr(RECIPES["gcn"], field.name)) for field in fields(Recipe)}
        recipe = Recipe(**{name: kind(about["recipe"][name]) for name, kind in kinds.items()})
        columns = Columns.from_dict(about["columns"])
        outputs = {"classification": len(columns.classes), "regression": 1, "link": recipe.hidden}[
            about["task"]
        ]
        # One layer has no hidden features, but for the network inside GIN's.
        hidden = recipe.hidden * recipe.heads if recipe.layers > 1 or recipe.model == "gin" else 1
        widest = max(hidden, columns.width, outputs)
        if (
            recipe.layers > stored
            or widest > stored
            or min(recipe.hidden, recipe.layers, recipe.heads, outputs) < 1
        ):
            raise ValueError(
                f"{stored} numbers cannot be the parameters of {recipe.layers} layers up to {widest} wide"
            )
        mean, deviation = (float(number) for number in about["label_scale"])
        model = make(recipe, columns.width, outputs)
        return cls(model, recipe, about["task"], columns, (mean, deviation), bool(about["directed"]))

    def read(self, edges: Any, nodes: Any = None, *, features: Any = None) -> Dataset:
        """The dataset of other tables, with features as they were in training.

        Parameters
        ----------
        edges, nodes, features : as of ``numgraph.data.read_tables``

        Returns
        -------
        Dataset
        """
        task = "regression" if self.task == "regression" else "classification"
        return read_tables(
            edges, nodes, features=features, task=task, directed=self.directed, columns=self.columns
        )

    def results(self, data: Dataset) -> NDArray[np.floating[Any]]:
        """What the model gives for the nodes of a dataset, in its evaluation mode.

        Parameters
        ----------
        data : Dataset

        Returns
        -------
        [nodes, outputs] floats
        """
        weighted = data.edge_weight is not None and takes_weights(self.model)
        with evaluating(self.model) as ready:
            return np.asarray(
                ready(data.graph, data.features, **({"edge_weight": data.edge_weight} if weighted else {}))
            )

    def predict(self, data: Dataset) -> dict[str, Any]:
        """The predictions for all nodes.

        Parameters
        ----------
        data : Dataset

        Returns
        -------
        dict of ``name``, ``prediction``, and of a classification the ``probability`` of what is predicted;
            [nodes] each
        """
        z = self.results(data)
        if self.task == "regression":
            mean, deviation = self.label_scale
            return {"name": data.names, "prediction": z[:, 0].astype(np.float64) * deviation + mean}
        z = z.astype(np.float64)
        chosen = z.argmax(1)
        probability = 1 / np.exp(z - z.max(1, keepdims=True)).sum(1)
        return {
            "name": data.names,
            "prediction": [self.columns.classes[k] for k in chosen],
            "probability": probability,
        }

    def predict_links(self, data: Dataset, pairs: Any) -> NDArray[np.floating[Any]]:
        """The probability that an edge joins two nodes.

        Parameters
        ----------
        data : Dataset
        pairs : integers [pairs, 2], ids of nodes

        Returns
        -------
        float64 [pairs]
        """
        scores = pair_scores(self.results(data).astype(np.float64), np.asarray(pairs))
        found: NDArray[np.floating[Any]] = np.exp(-np.logaddexp(0, -scores))
        return found

    def measure(self, data: Dataset) -> Mapping[str, float]:
        """The measures of the predictions for the nodes whose label is known.

        Parameters
        ----------
        data : Dataset

        Returns
        -------
        {name: number}; empty where no label is known, and for links
        """
        if self.task == "link" or not bool(data.test_mask.any()):
            return {}
        objective = objective_of("predict", replace(data, label_scale=self.label_scale))
        assert isinstance(objective, Labels)
        (found,) = objective.of_masks(self.model, [data.test_mask])
        return found.values if found else {}


def restored(path: Any, arrays: Mapping[str, NDArray[Any]], make: Callable[[Any, int], T]) -> T:
    """What ``make`` makes of a file's description and the number of its parameters, with these, in eval mode.

    Raises
    ------
    ValueError : a damaged file
    """
    state = {
        name.removeprefix(PARAMETERS): array for name, array in arrays.items() if name.startswith(PARAMETERS)
    }
    try:
        made: Any = make(json.loads(arrays[ABOUT].tobytes()), sum(array.size for array in state.values()))
        made.model.load_state_dict(state)
    except Exception as error:  # whatever a damaged or foreign description leads to
        raise bad_value(
            "predict",
            f"{path} is damaged: {type(error).__name__}: {error!s:.200}",
            "save the model again",
        ) from error
    made.model.eval()
    return made  # type: ignore[no-any-return]
