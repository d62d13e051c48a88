"""Ten known digits of each kind, 1,797 images joined with those near to them: labels walk along edges (Zhou et al., NeurIPS 2003)."""

import numpy as np
from matplotlib.figure import Figure

import numgraph as ng


def draw(size=40):
    data = ng.data.load("digits")
    graph, classes = data.graph, data.num_classes
    scale = 1 / np.sqrt(np.maximum(graph.in_degrees(), 1))[:, None]
    known = np.eye(classes)[data.labels] * data.train_mask[:, None]
    z, right = known, []
    for _ in range(size):
        z = 0.1 * known + 0.9 * scale * ng.update_all(graph, lambda u: u.z, "sum", u={"z": scale * z})
        right.append(np.mean((z.argmax(axis=1) == data.labels)[data.test_mask]))

    figure = Figure(figsize=(7, 3), layout="constrained")
    left, middle = figure.subplots(1, 2)
    left.plot(np.arange(1, size + 1), right)
    left.set(xlabel="steps", ylabel="share of right answers", title=f"{right[-1]:.1%} with 100 labels")
    confused = np.zeros((classes, classes), int)
    np.add.at(confused, (data.labels[data.test_mask], z.argmax(axis=1)[data.test_mask]), 1)
    middle.imshow(np.log1p(confused), cmap="Blues")
    for (row, column), count in np.ndenumerate(confused):
        if count:
            middle.text(column, row, count, ha="center", va="center", fontsize=6, color="w" if count > 40 else "k")
    middle.set(xlabel="told", ylabel="is", xticks=range(classes), yticks=range(classes))
    return figure
