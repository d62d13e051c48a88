"""Graph transformer layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from numgraph.dense.reductions import mean
from numgraph.expressions import elementary
from numgraph.graph import Graph
from numgraph.nn import init
from numgraph.nn.blocks import Convolution
from numgraph.nn.dropout import attend_dropping, check_dropout
from numgraph.nn.gat import joined
from numgraph.nn.graphs import both_sides, edge_attributes
from numgraph.nn.linear import Linear
from numgraph.nn.module import check_size, pair_of
from numgraph.nn.typed import of_graph


class TransformerConv(Convolution):
    """z_v = x_v W_skip + Σ_{u → v} α_uv (h_u + W_edge w_uv) with α_uv = softmax_v(q_v · (k_u + W_edge w_uv) /
    √d), head by head (Shi et al., Masked Label Prediction, IJCAI 2021).

    Parameters
    ----------
    in_features : width of x, or a pair (of sources, of destinations)
    out_features : d, the width of a head
    heads, concat : how many there are, and whether they stand beside each other, else their mean is taken
    skip : have x_v W_skip
    gated : the two parts r = x_v W_skip and m, the sum, are mixed by the paper's gate:
        β r + (1 − β) m with β = sigmoid([m, r, m − r] w)
    edge_dim : width of edge_attr, where there is some; without edge_attr its terms are left out
    dropout : the probability with which each α is dropped while training
    bias : q = x W_q + b_q, k = x W_k + b_k, h = x W_h + b_h and the skip have biases
    rng, dtype : of the parameters' first values; rng also draws what is dropped

    Notes
    -----
    Called as ``conv(g, x, edge_attr=None, rng=None, return_attention_weights=False)``: x [num_nodes,
    in_features], an array, Tensor or SciPy sparse matrix, or a pair ([num_src, in_src], [num_dst, in_dst]);
    edge_attr [num_edges, edge_dim]; rng draws what is dropped instead of the layer's own generator. Returns
    [num_dst, heads · out_features] ([num_dst, out_features] averaged), and with return_attention_weights a
    pair of it and (g, α [num_edges, heads]).

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> conv = ng.nn.TransformerConv(4, 2, heads=3, edge_dim=1)
    >>> conv(g, np.ones((3, 4), np.float32), np.ones((3, 1))).shape
    (3, 6)
    """

    def __init__(
        self,
        in_features: int | tuple[int, int],
        out_features: int,
        *,
        heads: int = 1,
        concat: bool = True,
        skip: bool = True,
        gated: bool = False,
        edge_dim: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        in_src, in_dst = pair_of("TransformerConv", in_features)
        check_size("TransformerConv", in_src=in_src, in_dst=in_dst, out_features=out_features, heads=heads)
        self.in_features, self.heads, self.concat = (in_src, in_dst), heads, concat
        self.dropout, self.rng = check_dropout("TransformerConv", dropout), np.random.default_rng(rng)
        options = {"bias": bias, "rng": self.rng, "dtype": dtype}
        width, out = heads * out_features, heads * out_features if concat else out_features
        self.query = Linear(in_dst, width, **options)
        self.key = Linear(in_src, width, **options)
        self.value = Linear(in_src, width, **options)
        self.skip = Linear(in_dst, out, **options) if skip or gated else None
        self.gate = Linear(3 * out, 1, bias=False, rng=self.rng, dtype=dtype) if gated else None
        self.edge = (
            None if edge_dim is None else Linear(edge_dim, width, bias=False, rng=self.rng, dtype=dtype)
        )

    @of_graph
    def forward(
        self,
        g: Graph,
        x: Any,
        edge_attr: Any = None,
        *,
        rng: np.random.Generator | None = None,
        return_attention_weights: bool = False,
    ) -> Any:
        """The layer."""
        dtype = self.key.weight.dtype
        x_src, x_dst = both_sides("TransformerConv", g, x, *self.in_features, dtype)
        width = self.key.weight.shape[1] // self.heads
        q, k, h = (
            y.reshape(y.shape[0], self.heads, width)
            for y in (self.query(x_dst), self.key(x_src), self.value(x_src))
        )
        q = q * (1 / math.sqrt(q.shape[-1]))
        edge_attr = edge_attributes(
            "TransformerConv", g, edge_attr, None if self.edge is None else self.edge.weight.shape[0], dtype
        )
        e, score, value = (
            (None, _score, None)
            if edge_attr is None
            else ({"w": self._of_edges(edge_attr, width)}, _edge_score, _edge_value)
        )
        p, rng = self.dropout if self.training else 0, self.rng if rng is None else rng
        weights = return_attention_weights
        z, alpha = attend_dropping(
            g, score, p, rng, u={"h": h, "k": k}, v={"q": q}, e=e, value=value, weights=weights
        )
        z = joined(z) if self.concat else mean(z, axis=1)
        if self.skip is not None:
            r = self.skip(x_dst)
            if self.gate is None:
                z = z + r
            else:
                beta = elementary.sigmoid(self.gate(np.concatenate([z, r, z - r], 1)))
                z = beta * r + (1 - beta) * z
        return (z, (g, alpha)) if weights else z

    def _of_edges(self, edge_attr: Any, width: int) -> Any:
        return (
            None if self.edge is None else self.edge(edge_attr).reshape(edge_attr.shape[0], self.heads, width)
        )


def _score(u: Any, v: Any) -> Any:
    return (u.k * v.q).sum(-1, keepdims=True)


def _edge_score(u: Any, v: Any, e: Any) -> Any:
    return ((u.k + e.w) * v.q).sum(-1, keepdims=True)


def _edge_value(u: Any, e: Any) -> Any:
    return u.h + e.w
