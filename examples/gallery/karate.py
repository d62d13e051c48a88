"""A club falls apart (Zachary, 1977): a graph convolution places its members, from one known member of each side."""

import numpy as np
from matplotlib.figure import Figure

import numgraph as ng


def draw(size=200):
    data = ng.data.load("karate")
    hidden, out = ng.nn.GCNConv(data.num_features, 2, rng=5), ng.nn.Linear(2, data.num_classes, rng=1)
    optimizer = ng.optim.Adam([*hidden.parameters(), *out.parameters()], lr=0.05)
    losses = []
    for _ in range(size):
        with ng.Tape() as tape:
            loss = ng.cross_entropy(out(np.tanh(hidden(data.graph, data.features))), data.labels, data.train_mask)
        optimizer.step(tape.gradient(loss, optimizer.parameters))
        losses.append(loss.item())

    place = np.tanh(hidden(data.graph, data.features))
    right = np.mean(out(place).argmax(axis=1) == data.labels)
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    left, axis = figure.subplots(1, 2, width_ratios=[1, 2])
    left.plot(losses)
    left.set(xlabel="step", ylabel="loss")
    for u, v in zip(data.graph.src, data.graph.dst):
        axis.plot(*place[[u, v]].T, color="0.85", linewidth=0.7, zorder=1)
    axis.scatter(*place.T, c=data.labels, cmap="coolwarm", s=np.where(data.train_mask, 120, 40), edgecolor="k", zorder=2)
    axis.set_title(f"hidden features; large: known; right about {right:.0%}", fontsize=9)
    return figure
