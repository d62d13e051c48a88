"""PageRank: where does a surfer end up who follows edges at random?"""

import numpy as np
from matplotlib.figure import Figure

import numgraph as ng


def pagerank(graph, d=0.85, steps=60):
    n, out = graph.num_nodes, graph.out_degrees()
    p = np.full(n, 1 / n)
    for _ in range(steps):
        arriving = ng.update_all(graph, lambda u: u.p, "sum", u={"p": p / np.maximum(out, 1)})
        p = (1 - d) / n + d * (arriving + p[out == 0].sum() / n)
    return p


def draw(size=60):
    rng = np.random.default_rng(3)
    old = np.arange(size).repeat(2)
    new = (old * rng.random(len(old)) ** 2).astype(int)  # each page names two that are older, the oldest ones most often
    graph = ng.Graph(old[new != old], new[new != old], size)
    p = pagerank(graph)
    angle = np.arange(size) * 2.4
    place = np.sqrt(np.arange(size))[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for u, v in zip(graph.src, graph.dst):
        left.plot(*place[[u, v]].T, color="0.8", linewidth=0.7, zorder=1)
    left.scatter(*place.T, s=4000 * p, c=p, cmap="viridis", zorder=2)
    left.axis("off")
    right.scatter(graph.in_degrees(), p, s=12)
    right.set(xlabel="in-degree", ylabel="rank")
    return figure
