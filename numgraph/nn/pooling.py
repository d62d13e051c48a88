"""Layers over the graphs of a batch: a row for each graph, and normalisation within each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.errors import bad_value
from numgraph.expressions.precision import floating, narrowed, widened
from numgraph.graph import GraphBatch, check_batch
from numgraph.message import apply_edges, attend, readout
from numgraph.nn import init
from numgraph.nn.linear import Linear
from numgraph.nn.module import Module, check_features, check_size
from numgraph.nn.typed import of_batch


class AttentionPooling(Module):
    """z_g = Σ softmax_g(gate(x_i)) · value(x_i) over the nodes i of graph g (Li et al., ICLR 2016).

    Called with a GraphBatch and x [nodes, features]; returns [graphs, …], 0 for graphs without nodes.

    gate: a Module or function to [nodes, 1], or one score for each of value's features; by default Linear(features, 1).
    value: the same to [nodes, …]; by default x itself.
    """

    def __init__(
        self,
        features: int,
        *,
        gate: Callable[[Any], Any] | None = None,
        value: Callable[[Any], Any] | None = None,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        check_size("AttentionPooling", features=features)
        self.features = features
        self.gate = Linear(features, 1, rng=rng, dtype=dtype) if gate is None else gate
        self.value = value

    @of_batch
    def forward(self, b: GraphBatch, x: Any) -> Any:
        x = _rows("AttentionPooling", b, x, self.features)
        scores, values = self.gate(x), x if self.value is None else self.value(x)
        return attend(b.pool, lambda e: e.score, lambda e: e.value, e={"score": scores, "value": values})


class GraphNorm(Module):
    """(x − α · mean) / √(var + eps) · weight + bias for each feature over the nodes of each graph (Cai et al., ICML 2021).

    Called with a GraphBatch and x [nodes, features]. α, ``mean_scale``, is learnt; var is the mean of (x − α · mean)².
    """

    def __init__(self, features: int, *, eps: float = 1e-5, dtype: Any = np.float32) -> None:
        check_size("GraphNorm", features=features)
        if not eps > 0:
            raise bad_value("GraphNorm", f"eps is {eps}", "it keeps the root from 0: give a small number above it, such as 1e-5")
        self.eps = eps
        self.weight, self.bias, self.mean_scale = (
            init.ones((features,), dtype),
            init.zeros((features,), dtype),
            init.ones((features,), dtype),
        )

    @of_batch
    def forward(self, b: GraphBatch, x: Any) -> Any:
        x = floating(_rows("GraphNorm", b, x, self.weight.shape[0]), self.weight.dtype)
        dtype, x = np.result_type(x.dtype, self.weight.dtype), widened(x)
        shift = readout(b, x, "mean") * self.mean_scale
        centred = apply_edges(b.pool, lambda v, e: e.x - v.shift, v={"shift": shift}, e={"x": x})
        scale = self.weight / np.sqrt(readout(b, centred * centred, "mean") + self.eps)
        y = apply_edges(b.pool, lambda v, e: e.x * v.scale, v={"scale": scale}, e={"x": centred}) + self.bias
        return narrowed(y, dtype)


def _rows(op: str, b: GraphBatch, x: Any, features: int) -> Any:
    check_batch(op, b)
    return check_features(op, x, int(b.node_offsets[-1]), features)
