"""Conway's Game of Life: the sum over eight neighbours, in integers."""

import numpy as np
from matplotlib.figure import Figure

import numgraph as ng


def draw(size=64):
    rng = np.random.default_rng(4)
    grid = np.arange(size * size).reshape(size, size)
    shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    src = np.concatenate([np.roll(grid, shift, axis=(0, 1)).ravel() for shift in shifts])  # the world is a torus
    graph = ng.Graph(src, np.tile(grid.ravel(), 8), size * size)

    alive = rng.random(size * size) < 0.3
    population, frames = [], {}
    for step in range(201):
        if step in (0, 20, 200):
            frames[step] = alive.reshape(size, size)
        population.append(alive.mean())
        neighbours = ng.update_all(graph, lambda u: u.alive, "sum", u={"alive": alive})
        alive = (neighbours == 3) | (alive & (neighbours == 2))

    figure = Figure(figsize=(7, 2), layout="constrained")
    *axes, last = figure.subplots(1, 4)
    for axis, (step, frame) in zip(axes, frames.items()):
        axis.imshow(frame, cmap="Greys", interpolation="nearest")
        axis.set_title(f"step {step}", fontsize=8)
        axis.set(xticks=[], yticks=[])
    last.plot(population)
    last.set_title("share that is alive", fontsize=8)
    last.tick_params(labelsize=7)
    return figure
