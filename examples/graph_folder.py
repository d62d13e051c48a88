"""A folder of graphs in the TU format, as many public sets are: written, read, and classified by cross-validation."""

import pathlib
import tempfile

import numpy as np

import numgraph as ng

# Rings of 4 to 9 nodes, whose nodes have one of two labels; in class 1 the labels alternate, in class −1 each has a half of the ring.
rng, first = np.random.default_rng(0), 1
edges, indicator, node_labels, graph_labels = [], [], [], []
for number in range(1, 121):
    size, alternating = 2 * int(rng.integers(2, 5)), number % 2
    for i in range(size):
        one, other = first + i, first + (i + 1) % size
        edges += [f"{one}, {other}", f"{other}, {one}"]
    node_labels += (np.arange(size) % 2 if alternating else np.sort(np.arange(size) % 2)).tolist()
    indicator += [number] * size
    graph_labels.append(2 * alternating - 1)
    first += size

with tempfile.TemporaryDirectory() as folder:
    files = {"A": edges, "graph_indicator": indicator, "node_labels": node_labels, "graph_labels": graph_labels}
    for kind, lines in files.items():
        (pathlib.Path(folder) / f"RINGS_{kind}.txt").write_text("\n".join(map(str, lines)))
    data = ng.data.read_tu(folder)
print(data)


def make(fold):
    gnn = ng.nn.GIN(data.num_features, 8, data.num_outputs, layers=2, norm="batch", jk="cat", dropout=0, rng=fold)
    return ng.nn.GraphModel(gnn, "sum", dropout=0.1, rng=fold)


found = ng.training.cross_validate(make, data, folds=3, epochs=10)
print(f"accuracy {found.mean:.3f} ± {found.std:.3f} over 3 folds, in epoch {found.best_epoch}")
