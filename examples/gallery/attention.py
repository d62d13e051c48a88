"""Whom does attention look at? A graph attention layer finds the one neighbour whose number counts: the largest."""

import numpy as np
from matplotlib.figure import Figure

import numgraph as ng


def draw(size=1500):
    rng = np.random.default_rng(0)
    graph = ng.Graph(np.tile(np.arange(6), 6), np.repeat(np.arange(6), 6), 6)  # all with all
    conv = ng.nn.GATv2Conv(1, 16, heads=1, add_self_loops=False, rng=0)
    out = ng.nn.Linear(16, 1, rng=1)
    optimizer = ng.optim.Adam([*conv.parameters(), *out.parameters()], lr=0.02)
    for _ in range(size):
        x = rng.uniform(-1, 1, (6, 1)).astype(np.float32)
        with ng.Tape() as tape:
            loss = ng.mse(out(conv(graph, x)), np.full((6, 1), x.max()))
        optimizer.step(tape.gradient(loss, optimizer.parameters))

    x = np.linspace(-1, 1, 6, dtype=np.float32)[:, None]
    _, (_, alpha) = conv(graph, x, return_attention_weights=True)
    figure = Figure(figsize=(7, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    image = left.imshow(alpha.reshape(6, 6), cmap="Blues", vmin=0)
    left.set(xlabel="source u", ylabel="destination v", title="α")
    figure.colorbar(image, ax=left)
    angle = np.arange(6) * np.pi / 3
    place = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    for u, v, a in zip(graph.src, graph.dst, alpha[:, 0]):
        right.plot(*place[[u, v]].T, color="steelblue", linewidth=6 * a, zorder=1)
    right.scatter(*place.T, c=x[:, 0], cmap="coolwarm", s=400, edgecolor="k", zorder=2)
    right.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal")
    right.axis("off")
    return figure
