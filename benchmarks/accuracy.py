"""Test accuracies by dataset and model, mean and standard deviation over seeds:
``python benchmarks/accuracy.py``.

Every run is what ``numgraph train --dataset D --model M --seed S`` does. Prints a Markdown table and writes
the runs to benchmarks/results/accuracy.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

import numgraph
from numgraph.data import load
from numgraph.runtime import atomic
from numgraph.training import evaluate, fit
from numgraph.training.recipes import RECIPES, build, recipe, training_features

# The papers' figures for the public split, in percent. SAGE's paper does not have it.
PAPERS = {
    ("cora", "gcn"): 81.5,
    ("cora", "gat"): 83.0,
    ("citeseer", "gcn"): 70.3,
    ("citeseer", "gat"): 72.5,
    ("pubmed", "gcn"): 79.0,
}
PAPERS[("pubmed", "gat")] = 79.0


def run(dataset: Any, model_name: str, seed: int) -> dict[str, Any]:
    chosen = recipe(model_name)
    model, optimizer = build(chosen, dataset, seed)
    features = training_features(dataset)
    history = fit(
        model,
        dataset,
        optimizer,
        epochs=chosen.epochs,
        patience=chosen.patience,
        seed=seed,
        features=features,
    )
    if history.stopped == "interrupted":
        raise KeyboardInterrupt
    val, test = evaluate(model, dataset, features, dataset.val_mask, dataset.test_mask)
    return {
        "seed": seed,
        "test_accuracy": test.accuracy,
        "val_accuracy": val.accuracy,
        "best_epoch": history.best_epoch,
        "epochs_run": history.epochs,
        "seconds": round(history.seconds, 2),
    }


def table(results: list[dict[str, Any]]) -> str:
    lines = ["| dataset | model | test accuracy, % | paper | seconds a run |", "|---|---|---|---|---|"]
    for result in results:
        paper = PAPERS.get((result["dataset"], result["model"]))
        spread = f"{100 * result['mean']:.1f} ± {100 * result['std']:.1f}"
        seconds = np.median([one["seconds"] for one in result["runs"]])
        lines.append(
            f"| {result['dataset']} | {result['model']} | {spread} | {paper or '—'} | {seconds:.1f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", nargs="+", default=["digits", "cora"])
    parser.add_argument("--models", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--data-dir")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "accuracy.json")
    options = parser.parse_args()

    results = []
    for name in options.datasets:
        try:
            dataset = load(name, options.data_dir)
        except (OSError, ValueError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        for model in options.models:
            runs = []
            for seed in range(options.seeds):
                runs.append(run(dataset, model, seed))
                print(f"{name} {model} {runs[-1]}", file=sys.stderr, flush=True)
            accuracies = [one["test_accuracy"] for one in runs]
            settings = {key: value for key, value in vars(recipe(model)).items() if key != "model"}
            summary = {"mean": float(np.mean(accuracies)), "std": float(np.std(accuracies)), "runs": runs}
            results.append({"dataset": name, "model": model, "settings": settings, **summary})
    versions = {
        "numgraph": numgraph.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(
        options.output, (json.dumps({"versions": versions, "results": results}, indent=1) + "\n").encode()
    )
    print(f"Mean ± standard deviation of {options.seeds} seeds.\n\n{table(results)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
