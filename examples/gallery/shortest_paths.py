"""Shortest paths across a landscape by min-plus products; the path comes out of the gradient of its length."""

import numpy as np
from matplotlib.figure import Figure

import numgraph as ng


def draw(size=40):
    rng = np.random.default_rng(0)
    grid = np.arange(size * size).reshape(size, size)
    graph = ng.Graph(np.r_[grid[:, :-1].ravel(), grid[:-1].ravel()], np.r_[grid[:, 1:].ravel(), grid[1:].ravel()], size * size)
    graph = graph.to_bidirected()
    height = rng.random((size, size))
    for _ in range(3):  # smooth hills
        height = sum(np.roll(height, shift, axis) for shift in (-1, 0, 1) for axis in (0, 1))
    height = ((height - height.min()) / np.ptp(height)).ravel()
    length = 0.1 + 3 * (height[graph.src] + height[graph.dst])

    start = np.where(np.arange(size * size) == 0, 0.0, np.inf)
    with ng.Tape() as tape:
        w, d = tape.watch(length), start
        for _ in range(3 * size):
            d = ng.update_all(graph, lambda u, e: u.d + e.w, "min", u={"d": d}, e={"w": w}, initial=d)
        end = d[size * size - 1]
    on_path = np.flatnonzero(tape.gradient(end, w))  # 1 for each edge of the shortest path, 0 for all others

    figure = Figure(figsize=(7, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(height.reshape(size, size), cmap="gist_earth")
    left.set_title("height, and the shortest path", fontsize=10)
    for u, v in zip(graph.src[on_path], graph.dst[on_path]):
        left.plot([u % size, v % size], [u // size, v // size], color="crimson", linewidth=2)
    right.imshow(d.data.reshape(size, size), cmap="magma")
    right.set_title("distance from the corner", fontsize=10)
    return figure
