"""A noisy picture of two colours, cleaned by belief propagation: neighbours agree with probability 0.85."""

import numpy as np
from matplotlib.figure import Figure

import numgraph as ng


def draw(size=48):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    truth = ((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.12) ^ (np.abs(x - y) < 0.08)
    seen = truth ^ (rng.random(truth.shape) < 0.2)

    grid, n = np.arange(size * size).reshape(size, size), size * size
    one, other = np.r_[grid[:, :-1].ravel(), grid[:-1].ravel()], np.r_[grid[:, 1:].ravel(), grid[1:].ravel()]
    graph = ng.Graph(np.r_[one, other], np.r_[other, one], n)
    reverse = np.roll(np.arange(graph.num_edges), len(one))  # the id of each edge's reverse
    theta = np.log(np.where(seen.ravel()[:, None] == [0, 1], 0.8, 0.2))
    psi = np.log([[0.85, 0.15], [0.15, 0.85]])

    told = np.zeros((graph.num_edges, 2))
    for _ in range(20):
        belief = theta + ng.update_all(graph, lambda e: e.m, "sum", e={"m": told})
        fields = {"u": {"b": belief}, "e": {"back": told[reverse]}}
        message = ng.apply_edges(graph, lambda u, e: ng.log_softmax(ng.logsumexp((u.b - e.back)[..., None] + psi, axis=-2)), **fields)
        told = 0.5 * told + 0.5 * message
    clean = ng.softmax(belief, axis=1)[:, 1].reshape(size, size)

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    wrong = [np.mean(seen != truth), np.mean((clean > 0.5) != truth)]
    pictures = {"as it was": truth, f"seen: {wrong[0]:.0%} wrong": seen, f"P(1): {wrong[1]:.1%} wrong": clean}
    for axis, (title, picture) in zip(figure.subplots(1, 3), pictures.items()):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    return figure
