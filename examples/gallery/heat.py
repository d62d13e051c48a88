"""Heat spreads through a plate with a wall: each place takes a step towards the mean of its neighbours."""

import numpy as np
from matplotlib.figure import Figure

import numgraph as ng


def draw(size=50):
    grid = np.arange(size * size).reshape(size, size)
    wall = np.zeros((size, size), bool)
    wall[size // 2, : 3 * size // 4] = True
    src, dst = np.r_[grid[:, :-1].ravel(), grid[:-1].ravel()], np.r_[grid[:, 1:].ravel(), grid[1:].ravel()]
    graph, open_places = ng.Graph(src, dst, size * size).remove_nodes(np.flatnonzero(wall))  # and what its nodes were before
    graph = graph.to_bidirected()

    heat = (open_places // size < size // 5).astype(float)
    figure = Figure(figsize=(7, 2), layout="constrained")
    axes = figure.subplots(1, 4)
    for axis, steps in zip(axes, (0, 200, 800, 3000)):
        for _ in range(steps * size // 50):
            flow = ng.update_all(graph, lambda u, v: u.h - v.h, "sum", u={"h": heat}, v={"h": heat})
            heat = heat + 0.2 * flow
        plate = np.full(size * size, np.nan)
        plate[open_places] = heat
        axis.imshow(plate.reshape(size, size), cmap="inferno", vmin=0, vmax=1)
        axis.set_title(f"after {steps} more steps" if steps else "at first", fontsize=8)
        axis.axis("off")
    return figure
