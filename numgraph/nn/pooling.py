"""Layers over the graphs of a batch: a row for each graph, and normalisation within each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.arrays.devices import device_of, moved
from numgraph.arrays.inputs import generator
from numgraph.autodiff.tensor import unwrap
from numgraph.dense import gather, sigmoid
from numgraph.errors import bad_value
from numgraph.expressions.precision import floating, narrowed, widened
from numgraph.graph import GraphBatch, check_batch
from numgraph.message import apply_edges, attend, readout
from numgraph.message.readout import node_rows
from numgraph.nn import init
from numgraph.nn.linear import Linear
from numgraph.nn.module import Module, check_features, check_size
from numgraph.nn.typed import of_batch


class AttentionPooling(Module):
    """z_g = Σ softmax_g(gate(x_i)) · value(x_i) over the nodes i of graph g (Li et al., ICLR 2016).

    Parameters
    ----------
    features : the width of x
    gate : a Module or function to [nodes, 1], or one score for each of value's features;
        by default Linear(features, 1)
    value : the same to [nodes, …]; by default x itself
    rng, dtype : of the parameters' first values

    Notes
    -----
    Called as ``pool(batch, x)`` with a GraphBatch and x [nodes, features]. Returns [graphs, …], 0 for graphs
    without nodes.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> two = ng.batch([ng.Graph([0, 1], [1, 2], 3), ng.Graph([0], [1], 2)])
    >>> x = np.arange(20, dtype=np.float32).reshape(5, 4)
    >>> ng.nn.AttentionPooling(4, rng=0)(two, x).shape
    (2, 4)
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


class Set2Set(Module):
    """q_t = LSTM(q*_{t−1}), r_t = Σ softmax_g(x_i · q_t) x_i over the nodes i of graph g, q*_t = [q_t, r_t]
    (Vinyals et al., ICLR 2016).

    Parameters
    ----------
    features : the width of x
    steps : how many; the result is the last q*
    rng, dtype : of the parameters' first values

    Notes
    -----
    Called as ``pool(batch, x)`` with a GraphBatch and x [nodes, features]. Returns [graphs, 2 · features]; r
    is 0 for graphs without nodes. The LSTM has one layer: ``of_query`` (of q*) and ``of_state`` (of its
    state) are Linears to its four gates, input, forget, cell and output, side by side. ``load_pyg`` fills it
    from PyG's.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> two = ng.batch([ng.Graph([0, 1], [1, 2], 3), ng.Graph([0], [1], 2)])
    >>> x = np.arange(20, dtype=np.float32).reshape(5, 4)
    >>> ng.nn.Set2Set(4, rng=0)(two, x).shape
    (2, 8)
    """

    def __init__(
        self, features: int, steps: int = 3, *, rng: init.Seed = None, dtype: Any = np.float32
    ) -> None:
        check_size("Set2Set", features=features, steps=steps)
        rng = generator(type(self).__name__, rng)
        self.features, self.steps = features, steps
        self.of_query = Linear(2 * features, 4 * features, rng=rng, dtype=dtype)
        self.of_state = Linear(features, 4 * features, rng=rng, dtype=dtype)

    @of_batch
    def forward(self, b: GraphBatch, x: Any) -> Any:
        x = floating(_rows("Set2Set", b, x, self.features), self.of_query.weight.dtype)
        n = self.features
        q = c = np.zeros_like(x, shape=(len(b), n))
        both = np.zeros_like(x, shape=(len(b), 2 * n))
        for _ in range(self.steps):
            gates = self.of_query(both) + self.of_state(q)
            c = sigmoid(gates[:, n : 2 * n]) * c + sigmoid(gates[:, :n]) * np.tanh(gates[:, 2 * n : 3 * n])
            q = sigmoid(gates[:, 3 * n :]) * np.tanh(c)
            r = attend(
                b.pool, lambda v, e: (v.q * e.x).sum(-1, keepdims=True), lambda e: e.x, v={"q": q}, e={"x": x}
            )
            both = np.concatenate([q, r], 1)
        return both


class SortPooling(Module):
    """The k nodes of each graph whose last feature is the highest, one after the other (Zhang et al., AAAI
    2018).

    Parameters
    ----------
    k : how many nodes

    Notes
    -----
    Called as ``pool(batch, x)`` with a GraphBatch and x [nodes, features]. Returns [graphs, k · features], 0
    where a graph has fewer nodes. Nodes with equal last features stand in their own order. Gradients go to
    the nodes that are chosen.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> two = ng.batch([ng.Graph([0, 1], [1, 2], 3), ng.Graph([0], [1], 2)])
    >>> x = np.arange(20, dtype=np.float32).reshape(5, 4)
    >>> ng.nn.SortPooling(1)(two, x).tolist()
    [[8.0, 9.0, 10.0, 11.0], [16.0, 17.0, 18.0, 19.0]]
    """

    def __init__(self, k: int) -> None:
        check_size("SortPooling", k=k)
        self.k = k

    @of_batch
    def forward(self, b: GraphBatch, x: Any) -> Any:
        check_batch("SortPooling", b)
        nodes, k = int(b.node_offsets[-1]), self.k
        x = floating(node_rows("SortPooling", b, x), None)
        if len(x.shape) != 2 or not x.shape[1]:
            raise bad_value(
                "SortPooling",
                f"x has shape {list(x.shape)}",
                f"x is [{nodes}, features], sorted by the last of these",
            )
        last = moved(unwrap(x), "cpu")[:, -1]
        order = np.lexsort((-last.astype(np.float64), b.graph_ids))
        place = np.arange(nodes) - b.node_offsets[b.graph_ids]
        chosen = np.full((len(b), k), nodes)  # the row of zeros that follows those of the nodes
        first = place < k
        chosen[b.graph_ids[first], place[first]] = order[first]
        rows = np.concatenate([x, np.zeros_like(x, shape=(1, x.shape[1]))])
        return gather(rows, moved(chosen.ravel(), device_of(unwrap(x)))).reshape(len(b), k * x.shape[1])


class GraphNorm(Module):
    """(x − α · mean) / √(var + eps) · weight + bias for each feature over the nodes of each graph (Cai et
    al., ICML 2021).

    Parameters
    ----------
    features : the width of x
    eps : what is added to the variance, which is the mean of (x − α · mean)²
    dtype : of the parameters; α, ``mean_scale``, is one of them

    Notes
    -----
    Called as ``norm(batch, x)`` with a GraphBatch and x [nodes, features]. Returns x's shape.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> two = ng.batch([ng.Graph([0, 1], [1, 2], 3), ng.Graph([0], [1], 2)])
    >>> x = np.arange(20, dtype=np.float32).reshape(5, 4)
    >>> ng.nn.GraphNorm(4)(two, x)[3:].round(2).tolist()
    [[-1.0, -1.0, -1.0, -1.0], [1.0, 1.0, 1.0, 1.0]]
    """

    def __init__(self, features: int, *, eps: float = 1e-5, dtype: Any = np.float32) -> None:
        check_size("GraphNorm", features=features)
        if not eps > 0:
            raise bad_value(
                "GraphNorm",
                f"eps is {eps}",
                "it keeps the root from 0: give a small number above it, such as 1e-5",
            )
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
