"""Two CSV files, a few labels, predictions for the rest. `numgraph train --edges … --nodes …` does the same without code."""

import csv
import tempfile
from pathlib import Path

import numpy as np

import numgraph as ng

folder, rng = Path(tempfile.mkdtemp()), np.random.default_rng(0)
team = rng.integers(0, 3, 150)  # people know mostly those of their own team; of half of them the team is not known
knows = np.argwhere(np.triu(rng.random((150, 150)) < np.where(team[:, None] == team, 0.12, 0.01), 1))
with open(folder / "edges.csv", "w", newline="") as file:
    csv.writer(file).writerows([["from", "to"], *([f"person {u}", f"person {v}"] for u, v in knows)])
with open(folder / "nodes.csv", "w", newline="") as file:
    rows = ([f"person {i}", f"team {t}" if i % 2 else "", rng.integers(20, 60)] for i, t in enumerate(team))
    csv.writer(file).writerows([["name", "team", "age"], *rows])

data = ng.data.read_tables(folder / "edges.csv", folder / "nodes.csv", target="team", directed=False, identity=True)
print(data)
model = ng.nn.GCN(data.num_features, 16, data.num_classes, rng=0)
history = ng.fit(model, data, epochs=200, patience=50)
print(f"validation accuracy {max(history.val_accuracy):.2f} in epoch {history.best_epoch}")

logits = model(data.graph, data.features)
predicted = [data.columns.classes[k] for k in logits.argmax(axis=1)]
print({name: predicted[i] for i, name in enumerate(data.names[:5])})
unknown = data.labels < 0
right = np.mean(np.array(predicted)[unknown] == np.array([f"team {t}" for t in team])[unknown])
print(f"right about {100 * right:.0f} % of {unknown.sum()} people whose team was not known")
