"""Percolation: which places hang together if each road is open with probability p? The smallest label within reach, by minima."""

import numpy as np
from matplotlib.figure import Figure

import numgraph as ng


def components(graph):
    label = np.arange(graph.num_nodes)
    while True:
        smaller = ng.update_all(graph, lambda u: u.label, "min", u={"label": label}, initial=label)
        if np.array_equal(smaller, label):
            return label
        label = smaller


def draw(size=60):
    rng = np.random.default_rng(1)
    grid = np.arange(size * size).reshape(size, size)
    src, dst = np.r_[grid[:, :-1].ravel(), grid[:-1].ravel()], np.r_[grid[:, 1:].ravel(), grid[1:].ravel()]
    chance, color = rng.random(len(src)), rng.permutation(size * size)
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    for axis, p in zip(figure.subplots(1, 3), (0.4, 0.5, 0.6)):
        graph = ng.Graph(src[chance < p], dst[chance < p], size * size).to_bidirected()
        label = components(graph)
        largest = np.bincount(label).max() / label.size
        axis.imshow(color[label].reshape(size, size) % 20, cmap="tab20", interpolation="nearest")
        axis.set_title(f"p = {p}: largest has {largest:.0%}", fontsize=9)
        axis.axis("off")
    return figure
