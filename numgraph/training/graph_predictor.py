"""A trained model of graphs with all that it takes to predict of another set of them, in one file without
pickles.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.autodiff.tensor import unwrap
from numgraph.data import GraphLoader
from numgraph.data.graph_set import GraphDataset, SetColumns
from numgraph.data.tu import read_tu
from numgraph.serialize import read_arrays, save_parameters
from numgraph.training.metrics import regression_values
from numgraph.training.objectives import edges_of_batch, evaluating
from numgraph.training.predictor import ABOUT, PARAMETERS, restored
from numgraph.training.recipes import RECIPES, Recipe, edge_width, make_of_graphs

FORMAT, TASK = 1, "graph"
_AT_ONCE = 256
"""Graphs that are predicted together."""


@dataclass
class GraphPredictor:
    """A trained model with the recipe it was made by, and how the files of its set became features.

    Attributes
    ----------
    model : the trained GraphModel
    recipe, readout : its kind, widths and layers, and how nodes' rows become a graph's
    target : "classification" or "regression"
    column : of a regression that of NAME_graph_attributes.txt
    columns : the files' features and classes
    label_scale : (mean, deviation) of a regression's labels
    """

    model: Any
    recipe: Recipe
    readout: str
    target: str
    column: int
    columns: SetColumns
    label_scale: tuple[float, float] = (0.0, 1.0)

    @classmethod
    def of(cls, model: Any, recipe: Recipe, readout: str, column: int, data: GraphDataset) -> GraphPredictor:
        """Of a model that was trained on what ``read_tu`` gave."""
        assert data.columns is not None
        columns = (
            data.columns
            if edge_width(recipe, data)
            else replace(data.columns, edge_attributes=0, edge_kinds=())
        )
        return cls(model, recipe, readout, data.task, column, columns, data.label_scale)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a .npz or .safetensors file, in one step."""
        about = {name: getattr(self, name) for name in ("readout", "target", "column", "label_scale")}
        about |= {
            "format": FORMAT,
            "task": TASK,
            "recipe": asdict(self.recipe),
            "columns": asdict(self.columns),
        }
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        save_parameters(
            path,
            {ABOUT: text} | {PARAMETERS + name: array for name, array in self.model.state_dict().items()},
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> GraphPredictor | None:
        """Read what ``save`` wrote; None of a file with something else.

        Raises
        ------
        ValueError : a damaged file
        """
        arrays = read_arrays(path)
        try:
            about = json.loads(arrays[ABOUT].tobytes())
            if about["task"] != TASK:
                return None
        except (KeyError, ValueError, TypeError):
            return None
        return restored(path, arrays, cls._made)

    @classmethod
    def _made(cls, about: Mapping[str, Any], stored: int) -> GraphPredictor:
        """The predictor that a description tells of, with new parameters; stored: how many numbers the file
        has for them.
        """
        if about["format"] != FORMAT or about["target"] not in ("classification", "regression"):
            raise ValueError(
                f"format {about['format']!r} and target {about['target']!r} are of another version"
            )
        types = {field.name: type(getattr(RECIPES["gcn"], field.name)) for field in fields(Recipe)}
        recipe = Recipe(**{name: kind(about["recipe"][name]) for name, kind in types.items()})
        given = about["columns"]
        kinds, edge_kinds = (
            tuple(tuple(map(int, values)) for values in given[name]) for name in ("kinds", "edge_kinds")
        )
        numbers, classes = (
            (int(given["attributes"]), int(given["degrees"])),
            tuple(map(int, given["classes"])),
        )
        columns = SetColumns(
            numbers[0], kinds, numbers[1], classes, int(given["edge_attributes"]), edge_kinds
        )
        outputs = len(columns.classes) if about["target"] == "classification" else 1
        widest = max(recipe.hidden * recipe.heads, columns.width, columns.edge_width, outputs)
        if (
            max(recipe.layers, widest) > stored
            or min(recipe.hidden, recipe.layers, recipe.heads, outputs) < 1
        ):
            raise ValueError(
                f"{stored} numbers cannot be the parameters of {recipe.layers} layers up to {widest} wide"
            )
        mean, deviation = (float(number) for number in about["label_scale"])
        model = make_of_graphs(recipe, columns.width, outputs, about["readout"], edge_dim=columns.edge_width)
        return cls(
            model, recipe, about["readout"], about["target"], int(about["column"]), columns, (mean, deviation)
        )

    def read(self, folder: str | os.PathLike[str]) -> GraphDataset:
        """The set of another folder, with features as they were in training; its labels, if it has some, are
        for the test.
        """
        return read_tu(folder, task=self.target, target=self.column, columns=self.columns)

    def results(self, data: GraphDataset) -> NDArray[np.float64]:
        """[graphs, outputs] what the model gives for the graphs."""
        with evaluating(self.model) as ready:
            rows = [self._of(ready, batch) for batch in GraphLoader(data, _AT_ONCE)]
        return np.concatenate(rows)

    @staticmethod
    def _of(model: Any, batch: Any) -> NDArray[np.float64]:
        return np.asarray(unwrap(model(batch, batch.x, **edges_of_batch(model, batch))), np.float64)

    def predict(self, data: GraphDataset) -> dict[str, Any]:
        """The predictions: ``graph``, counted from 1, ``prediction``, and of a classification the
        ``probability`` of what is predicted.
        """
        z, graphs = self.results(data), np.arange(1, len(data) + 1)
        if self.target == "regression":
            mean, deviation = self.label_scale
            return {"graph": graphs, "prediction": z[:, 0] * deviation + mean}
        probability = 1 / np.exp(z - z.max(1, keepdims=True)).sum(1)
        return {
            "graph": graphs,
            "prediction": np.array(self.columns.classes)[z.argmax(1)],
            "probability": probability,
        }

    def measure(self, data: GraphDataset, predictions: Mapping[str, Any]) -> Mapping[str, float]:
        """The measures of predictions of graphs whose label is known; empty where there is none."""
        known = data.test_mask
        if not known.any():
            return {}
        predicted = np.asarray(predictions["prediction"])[known]
        if self.target == "regression":
            return regression_values(predicted, data.labels[known].astype(np.float64))
        return {"accuracy": float(np.mean(predicted == np.array(self.columns.classes)[data.labels[known]]))}
