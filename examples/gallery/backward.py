"""Why the backward of message passing walks the reversed graph: z = A x forward, then ∂x = Aᵀ g, and ∂A only where A has edges."""

import numpy as np
from matplotlib.figure import Figure

import numgraph as ng


def draw(size=5):
    rng = np.random.default_rng(2)
    edges = rng.permutation(size * size)[: 2 * size]
    graph = ng.Graph(edges % size, edges // size, size)
    x, w, g = rng.normal(size=(size, 3)), rng.uniform(0.5, 2, (graph.num_edges, 1)), rng.normal(size=(size, 3))
    with ng.Tape() as tape:
        tx, tw = tape.watch(x), tape.watch(w)
        z = ng.update_all(graph, lambda u, e: u.x * e.w, "sum", u={"x": tx}, e={"w": tw})
    dx, dw = tape.gradient(z, [tx, tw], seed=g)

    a, of_a = np.zeros((size, size)), np.full((size, size), np.nan)
    a[graph.dst, graph.src], of_a[graph.dst, graph.src] = w[:, 0], dw[:, 0]
    dense = ((z.data, a @ x), (dx, a.T @ g), (dw[:, 0], (g @ x.T)[graph.dst, graph.src]))
    assert all(np.allclose(found, expected) for found, expected in dense)
    walks, matrices = (figure := Figure(figsize=(7, 5), layout="constrained")).subplots(2, 3)
    titles = ["forward: z = Σ over in-edges", "∂x = Σ over out-edges: reversed", "∂w: one number an edge"]
    for axis, title, back, edge in zip(walks, titles, (False, True, False), ("-|>", "-|>", "-")):
        for u, v in zip(graph.src, graph.dst):
            ends = ((1, -v), (0, -u)) if back else ((0, -u), (1, -v))
            style = {"arrowstyle": edge, "color": "crimson" if back else "steelblue", "shrinkA": 9, "shrinkB": 9}
            axis.annotate("", ends[1], ends[0], arrowprops=style)
        for side, name, color in ((0, "∂x" if back else "x", "gold"), (1, "z" if title[0] == "f" else "g", "lightgreen")):
            for i in range(size):
                axis.text(side, -i, f"{name}{i}", ha="center", va="center", fontsize=8, bbox={"boxstyle": "circle", "fc": color})
        axis.set(xlim=(-0.3, 1.3), ylim=(0.6 - size, 0.6))
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    for axis, name, matrix in zip(matrices, ("A", "Aᵀ", "g xᵀ where A has edges"), (a, a.T, of_a)):
        axis.imshow(np.where(matrix == 0, np.nan, matrix), cmap="coolwarm", vmin=-3, vmax=3)
        axis.set(title=name, xticks=range(size), yticks=range(size))
    return figure
