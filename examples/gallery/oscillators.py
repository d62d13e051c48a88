"""Kuramoto's oscillators: each is pulled towards the phases of its neighbours; coupled strongly enough, they swing together."""

import numpy as np
from matplotlib.figure import Figure

import numgraph as ng


def draw(size=300):
    rng = np.random.default_rng(0)
    graph = ng.Graph(rng.integers(0, size, 8 * size), rng.integers(0, size, 8 * size), size).to_bidirected()
    own, start = rng.normal(0, 1, size), rng.uniform(0, 2 * np.pi, size)
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    left, *rings = figure.subplots(1, 3, width_ratios=[1.6, 1, 1])
    for ring, coupling in zip(rings, (0.5, 4.0)):
        phase, order = start, []
        for _ in range(400):
            pull = ng.update_all(graph, lambda u, v: np.sin(u.p - v.p), "mean", u={"p": phase}, v={"p": phase})
            phase = phase + 0.05 * (own + coupling * pull)
            order.append(np.abs(np.exp(1j * phase).mean()))
        left.plot(np.arange(400) * 0.05, order, label=f"coupling {coupling}")
        ring.scatter(np.cos(phase), np.sin(phase), c=own, cmap="coolwarm", s=8)
        ring.set_title(f"coupling {coupling}", fontsize=9)
        ring.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")
        ring.axis("off")
    left.set(xlabel="time", ylabel="order |mean of exp(iφ)|", ylim=(0, 1.19))
    left.legend(fontsize=7, ncols=2, loc="upper center")
    return figure
