"""Training from disk: a graph that is written in pieces, opened without being read, and learnt in batches."""

import tempfile
from pathlib import Path

import numpy as np

import numgraph as ng

rng = np.random.default_rng(0)
n, groups, width = 10_000, 5, 32
group = rng.integers(0, groups, n)
members = np.argsort(group, kind="stable")
starts = np.searchsorted(group[members], np.arange(groups + 1))

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "friends")
    with ng.data.GraphWriter(path, n) as writer:
        for _ in range(10):  # 8 of 10 edges end in the group where they begin
            src = rng.integers(0, n, 10_000)
            inside = starts[group[src]] + (rng.random(len(src)) * np.diff(starts)[group[src]]).astype(int)
            writer.add_edges(src, np.where(rng.random(len(src)) < 0.8, members[inside], rng.integers(0, n, len(src))))
        for first in range(0, n, 4096):  # features that say little of the group
            part = group[first : first + 4096]
            writer.add_features((rng.standard_normal((len(part), width)) + 0.7 * np.eye(groups, width)[part]).astype(np.float32))
        writer.set_labels(np.where(rng.random(n) < 0.2, group, -1), split=(0.8, 0.2, 0.0))

    data = ng.data.open_dataset(path)
    model = ng.nn.SAGE(width, 32, groups, dropout=0.2, rng=0)
    loader = ng.NeighborLoader(data, [10, 10], input_nodes=data.train_mask, batch_size=128, shuffle=True)
    ng.fit(model, data, loader=loader, epochs=8)
    predicted = model.inference(loader).argmax(1)

hidden = data.labels < 0
print(f"{data}\nright about {100 * (predicted == group)[hidden].mean():.0f} % of the {hidden.sum()} nodes without a label")
