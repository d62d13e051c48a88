"""Who gets the gradient? Messages into one node, and the derivative of each reduce by each of them."""

import numpy as np
from matplotlib.figure import Figure

import numgraph as ng

REDUCES = ("sum", "mean", "max", "prod", "var", "std", "logsumexp", "softmax")


def draw(size=7):
    graph = ng.Graph(np.arange(size), np.zeros(size, int), num_src=size, num_dst=1)
    messages = np.linspace(0.4, 1.6, size)[np.random.default_rng(0).permutation(size)]
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots(2, 4, sharex=True).ravel()
    for axis, reduce in zip(axes, REDUCES):
        with ng.Tape() as tape:
            phi = tape.watch(messages)
            z = ng.update_all(graph, lambda u: u.phi, reduce, u={"phi": phi})
        by_message = tape.gradient(z, phi, seed=1.0)
        axis.bar(np.arange(size), messages, color="0.88", width=0.9)
        axis.bar(np.arange(size), by_message, color="crimson", width=0.4)
        axis.axhline(0, color="0.5", linewidth=0.5)
        axis.set_title(f"{reduce} = {z.item():.2f}", fontsize=9)
        axis.tick_params(labelsize=7)
    figure.supxlabel("in-edges of the node: messages φ in grey, ∂z/∂φ in red", fontsize=9)
    return figure
