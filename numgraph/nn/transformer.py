"""Graph transformer layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from numgraph.dense.reductions import mean
from numgraph.expressions import elementary
from numgraph.graph import Graph
from numgraph.nn import init
from numgraph.nn.dropout import attend_dropping, check_dropout
from numgraph.nn.gat import joined
from numgraph.nn.graphs import both_sides
from numgraph.nn.linear import Linear
from numgraph.nn.module import Module, check_size, pair_of


class TransformerConv(Module):
    """z_v = x_v W_skip + Σ_{u → v} α_uv h_u with α_uv = softmax_v(q_v · k_u / √d), head by head
    (Shi et al., Masked Label Prediction, IJCAI 2021).

    q = x W_q + b_q, k = x W_k + b_k, h = x W_h + b_h; d is out_features. Heads are concatenated, or averaged with ``concat=False``;
    ``skip=False`` leaves x_v W_skip away. With ``gated`` the two parts r = x_v W_skip and m, the sum, are mixed by the paper's gate:
    β r + (1 − β) m with β = sigmoid([m, r, m − r] w). While training each α is dropped with probability ``dropout``.

    Shapes: x [num_nodes, in_features], an array, Tensor or SciPy sparse matrix, or on a bipartite graph a pair
    ([num_src, in_src], [num_dst, in_dst]) with ``in_features=(in_src, in_dst)``; returns [num_dst, heads · out_features]
    ([num_dst, out_features] averaged).
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

    def forward(self, g: Graph, x: Any, *, rng: np.random.Generator | None = None) -> Any:
        """``rng`` draws what is dropped, instead of the layer's own generator."""
        x_src, x_dst = both_sides("TransformerConv", g, x, *self.in_features, self.key.weight.dtype)
        width = self.key.weight.shape[1] // self.heads
        q, k, h = (y.reshape(y.shape[0], self.heads, width) for y in (self.query(x_dst), self.key(x_src), self.value(x_src)))
        q = q * (1 / math.sqrt(q.shape[-1]))
        z = attend_dropping(
            g,
            lambda u, v: (u.k * v.q).sum(-1, keepdims=True),
            self.dropout if self.training else 0,
            self.rng if rng is None else rng,
            u={"h": h, "k": k},
            v={"q": q},
        )
        z = joined(z) if self.concat else mean(z, axis=1)
        if self.skip is None:
            return z
        r = self.skip(x_dst)
        if self.gate is None:
            return z + r
        beta = elementary.sigmoid(self.gate(np.concatenate([z, r, z - r], 1)))
        return beta * r + (1 - beta) * z
