"""A cloth of springs falls until it hangs. Forces are the gradient of an energy that is a sum over edges."""

import numpy as np
from matplotlib.figure import Figure

import numgraph as ng


def draw(size=16):
    grid = np.arange(size * size).reshape(size, size)
    ends = [(grid[:, :-1], grid[:, 1:]), (grid[:-1], grid[1:]), (grid[:-1, :-1], grid[1:, 1:])]
    springs = ng.Graph(*[np.concatenate([pair[side].ravel() for pair in ends]) for side in (0, 1)], size * size)
    row, column = np.divmod(np.arange(size * size), size)
    x = np.stack([column, -row], axis=1) / (size - 1.0)
    rest = ng.apply_edges(springs, lambda u, v: np.linalg.norm(u.x - v.x, axis=-1), u={"x": x}, v={"x": x})
    held = (row == 0) & ((column == 0) | (column == size - 1) | (column == size // 2))

    def energy(x):
        fields = {"u": {"x": x}, "v": {"x": x}, "e": {"rest": rest}}
        stretch = ng.apply_edges(springs, lambda u, v, e: np.linalg.norm(u.x - v.x, axis=-1) - e.rest, **fields)
        return 200 * (stretch**2).sum() + 0.2 * x[:, 1].sum()

    v = np.zeros_like(x)
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    for axis, steps in zip(figure.subplots(1, 3), (0, 30, 600)):
        for _ in range(steps):
            with ng.Tape() as tape:
                place = tape.watch(x)
                loss = energy(place)
            v = 0.98 * v - 0.02 * tape.gradient(loss, place)
            v[held] = 0
            x = x + 0.05 * v
        for s, d in zip(springs.src, springs.dst):
            axis.plot(*x[[s, d]].T, color="steelblue", linewidth=0.6)
        axis.set(xlim=(-0.1, 1.1), ylim=(-1.6, 0.1), title=f"{steps} steps")
        axis.axis("off")
    return figure
