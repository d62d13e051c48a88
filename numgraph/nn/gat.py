"""Graph attention: GAT and GATv2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.arrays.devices import namespace_of
from numgraph.autodiff.tape import unwrap
from numgraph.dense import matmul
from numgraph.dense.activations import biased
from numgraph.dense.reductions import mean
from numgraph.expressions import elementary
from numgraph.graph import Graph
from numgraph.nn import init
from numgraph.nn.dropout import attend_dropping, check_dropout
from numgraph.nn.graphs import both_sides, with_self_loops
from numgraph.nn.module import Module, check_activation, check_size, pair_of


class _Attention(Module):
    """What both have: sizes, the choice to concatenate or average the heads, bias, dropout."""

    def __init__(
        self,
        in_features: int | tuple[int, int],
        out_features: int,
        *,
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        add_self_loops: bool = True,
        bias: bool = True,
        activation: Callable[[Any], Any] | None = None,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        op = type(self).__name__
        in_src, in_dst = pair_of(op, in_features)
        check_size(op, in_src=in_src, in_dst=in_dst, out_features=out_features, heads=heads)
        self.heads, self.concat, self.negative_slope, self.activation = heads, concat, negative_slope, check_activation(op, activation)
        self.dropout, self.add_self_loops = check_dropout(op, dropout), add_self_loops
        self.rng = np.random.default_rng(rng)
        self._parameters(in_src, in_dst, out_features, isinstance(in_features, tuple), dtype)
        self.bias = init.zeros((heads * out_features if concat else out_features,), dtype) if bias else None

    def _parameters(self, in_src: int, in_dst: int, out_features: int, pair: bool, dtype: Any) -> None:
        raise NotImplementedError

    def _inputs(self, g: Graph, x: Any, weight_dst: Any) -> tuple[Graph, Any, Any]:
        """The graph that is attended over, and both sides' features."""
        op = type(self).__name__
        x_src, x_dst = both_sides(op, g, x, self.weight.shape[0], weight_dst.shape[0], self.weight.dtype)
        if self.add_self_loops and not isinstance(x, tuple):
            g, _ = with_self_loops(g, None, op)
        return g, x_src, x_dst

    def _by_head(self, x: Any, weight: Any) -> Any:
        return matmul(x, weight).reshape(x.shape[0], self.heads, weight.shape[1] // self.heads)

    def _output(self, z: Any) -> Any:
        """[num_dst, heads, out] → [num_dst, heads · out], or the mean over the heads."""
        z = joined(z) if self.concat or self.heads == 1 else mean(z, axis=1)
        return biased(z, self.bias, self.activation)

    def _attend(self, g: Graph, score: Any, rng: np.random.Generator | None, u: dict[str, Any], v: dict[str, Any]) -> Any:
        return attend_dropping(g, score, self.dropout if self.training else 0, self.rng if rng is None else rng, u=u, v=v)

    weight: Any
    bias: Any


def joined(h: Any) -> Any:
    """[nodes, heads, features] → [nodes, heads · features]."""
    return h.reshape(h.shape[0], h.shape[1] * h.shape[2])


def head_dots(x: Any, weight: Any, h: Any, *vectors: Any) -> Any:
    """⟨h[n, k], a[k]⟩ of every node n and head k for each of the vectors a, with h = x W: [nodes, heads, 1] for [heads, width] each.

    One product with a block-diagonal matrix that holds the vectors, of h or of x, whichever is narrower.
    """
    heads, width = vectors[0].shape
    diagonal = namespace_of(unwrap(weight)).eye(heads, dtype=weight.dtype).reshape(heads, 1, 1, heads)
    stacked = np.concatenate([a.reshape(heads, width, 1, 1) for a in vectors], axis=2)
    blocks = (stacked * diagonal).reshape(heads * width, len(vectors) * heads)
    dots = matmul(x, matmul(weight, blocks)) if x.shape[1] <= heads * width else matmul(joined(h), blocks)
    return np.split(dots.reshape(*dots.shape, 1), len(vectors), axis=1)


class GATConv(_Attention):
    """z_v = Σ_{u → v} α_uv h_u + b with h = x W and α_uv = softmax_v(leaky_relu(a_src · h_u + a_dst · h_v)), head by head
    (Veličković et al., ICLR 2018).

    Heads are concatenated, or averaged with ``concat=False``. While training each α is dropped with probability ``dropout``. Nodes without
    a self loop get one, unless ``add_self_loops`` is False or x is a pair (two sets of nodes have no loops). activation: a function of the
    result, such as ``numgraph.elu``, or None.

    Shapes: x [num_nodes, in_features], an array, Tensor or SciPy sparse matrix, or a pair ([num_src, in_src], [num_dst, in_dst]); W is
    one for both, or two if ``in_features=(in_src, in_dst)``. Returns [num_dst, heads · out_features] ([num_dst, out_features] averaged).
    """

    def _parameters(self, in_src: int, in_dst: int, out_features: int, pair: bool, dtype: Any) -> None:
        self.weight = init.glorot(self.rng, (in_src, self.heads * out_features), dtype)
        self.weight_dst = init.glorot(self.rng, (in_dst, self.heads * out_features), dtype) if pair else None
        self.attention_src = init.glorot(self.rng, (self.heads, out_features), dtype, (out_features, 1))
        self.attention_dst = init.glorot(self.rng, (self.heads, out_features), dtype, (out_features, 1))

    def forward(self, g: Graph, x: Any, *, rng: np.random.Generator | None = None) -> Any:
        """``rng`` draws what is dropped, instead of the layer's own generator."""
        weight_dst = self.weight if self.weight_dst is None else self.weight_dst
        g, x_src, x_dst = self._inputs(g, x, weight_dst)
        h = self._by_head(x_src, self.weight)
        if x_dst is x_src and weight_dst is self.weight:
            el, er = head_dots(x_src, self.weight, h, self.attention_src, self.attention_dst)
        else:
            (el,) = head_dots(x_src, self.weight, h, self.attention_src)
            (er,) = head_dots(x_dst, weight_dst, self._by_head(x_dst, weight_dst), self.attention_dst)
        slope = self.negative_slope
        return self._output(
            self._attend(g, lambda u, v: elementary.leaky_relu(u.el + v.er, slope), rng, u={"h": h, "el": el}, v={"er": er})
        )


class GATv2Conv(_Attention):
    """z_v = Σ_{u → v} α_uv h_u + b with h = x W, t = x W_dst and α_uv = softmax_v(a · leaky_relu(h_u + t_v)), head by head
    (Brody, Alon and Yahav, How Attentive are Graph Attention Networks?, ICLR 2022).

    Options and shapes are GATConv's. The sum h_u + t_v lives on edges only inside the message.
    """

    def _parameters(self, in_src: int, in_dst: int, out_features: int, pair: bool, dtype: Any) -> None:
        self.weight = init.glorot(self.rng, (in_src, self.heads * out_features), dtype)
        self.weight_dst = init.glorot(self.rng, (in_dst, self.heads * out_features), dtype)
        self.attention = init.glorot(self.rng, (self.heads, out_features), dtype, (out_features, 1))

    def forward(self, g: Graph, x: Any, *, rng: np.random.Generator | None = None) -> Any:
        """``rng`` draws what is dropped, instead of the layer's own generator."""
        g, x_src, x_dst = self._inputs(g, x, self.weight_dst)
        h, t = self._by_head(x_src, self.weight), self._by_head(x_dst, self.weight_dst)
        a, slope = self.attention, self.negative_slope

        def score(u: Any, v: Any) -> Any:
            return (a * elementary.leaky_relu(u.h + v.t, slope)).sum(-1, keepdims=True)

        return self._output(self._attend(g, score, rng, u={"h": h}, v={"t": t}))
