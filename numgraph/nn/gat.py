"""Graph attention: GAT and GATv2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.arrays.devices import namespace_of
from numgraph.arrays.inputs import generator
from numgraph.autodiff.tape import unwrap
from numgraph.dense import matmul
from numgraph.dense.activations import biased
from numgraph.dense.reductions import mean
from numgraph.errors import bad_value
from numgraph.expressions import elementary
from numgraph.graph import Graph
from numgraph.nn import init
from numgraph.nn.blocks import Convolution
from numgraph.nn.dropout import attend_dropping, check_dropout
from numgraph.nn.graphs import (
    both_sides,
    check_fill,
    column,
    edge_attributes,
    features_with_loops,
    with_self_loops,
)
from numgraph.nn.linear import Linear
from numgraph.nn.module import check_activation, check_size, pair_of
from numgraph.nn.typed import attention


class _Attention(Convolution):
    """What both have: sizes, features and weights of edges, the choice to concatenate or average the heads,
    residual, bias, dropout.
    """

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
        collapse_loops: bool = False,
        edge_dim: int | None = None,
        fill_value: Any = "mean",
        residual: bool = False,
        bias: bool = True,
        activation: Callable[[Any], Any] | None = None,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        op = type(self).__name__
        in_src, in_dst = pair_of(op, in_features)
        check_size(op, in_src=in_src, in_dst=in_dst, out_features=out_features, heads=heads)
        self.heads, self.concat, self.negative_slope, self.activation = (
            heads,
            concat,
            negative_slope,
            check_activation(op, activation),
        )
        self.dropout, self.add_self_loops, self.collapse_loops = (
            check_dropout(op, dropout),
            add_self_loops,
            collapse_loops,
        )
        self.in_features, self.fill_value = (in_src, in_dst), check_fill(op, fill_value, edge_dim)
        self.rng = generator(type(self).__name__, rng)
        self._parameters(in_src, in_dst, out_features, isinstance(in_features, tuple), dtype)
        total = heads * out_features if concat else out_features
        self.weight_edge: Any = None
        if edge_dim is not None:
            check_size(op, edge_dim=edge_dim)
            self.weight_edge = init.glorot(self.rng, (edge_dim, heads * out_features), dtype)
            self._edge_parameters(out_features, dtype)
        self.residual = Linear(in_dst, total, bias=False, rng=self.rng, dtype=dtype) if residual else None
        self.bias = init.zeros((total,), dtype) if bias else None

    def _parameters(self, in_src: int, in_dst: int, out_features: int, pair: bool, dtype: Any) -> None:
        raise NotImplementedError

    def _edge_parameters(self, out_features: int, dtype: Any) -> None:
        """What the score of edge features needs beside weight_edge."""

    def _edges(self, g: Graph, x: Any, edge_attr: Any, edge_weight: Any) -> tuple[Graph, Any, Any]:
        """The graph that is attended over, and its edges' features and weights."""
        op, dtype = type(self).__name__, self.weight.dtype
        if edge_attr is not None:
            edge_attr = edge_attributes(
                op, g, edge_attr, None if self.weight_edge is None else self.weight_edge.shape[0], dtype
            )
        if edge_weight is not None:
            edge_weight = column(op, g, edge_weight, dtype)
        if not self.add_self_loops or isinstance(x, tuple):
            return g, edge_attr, edge_weight
        if edge_attr is not None:
            edge_attr = features_with_loops(g, edge_attr, self.fill_value, self.collapse_loops)
        g, edge_weight = with_self_loops(g, edge_weight, op, collapse=self.collapse_loops)
        return g, edge_attr, edge_weight

    def _by_head(self, x: Any, weight: Any, bias: Any = None) -> Any:
        return biased(matmul(x, weight), bias).reshape(x.shape[0], self.heads, weight.shape[1] // self.heads)

    def _attended(
        self,
        g: Graph,
        score: Any,
        u: Any,
        v: Any,
        e: Any,
        x_dst: Any,
        edge_weight: Any,
        rng: np.random.Generator | None,
        weights: bool,
    ) -> Any:
        """The layer's result: [num_dst, heads · out], or the mean over the heads; with ``weights`` a pair of
        it and (graph, α).
        """
        value = None
        if edge_weight is not None:
            e, value = {**e, "weight": edge_weight}, _weighted
        p = self.dropout if self.training else 0
        z, alpha = attend_dropping(
            g, score, p, self.rng if rng is None else rng, u=u, v=v, e=e, value=value, weights=weights
        )
        z = joined(z) if self.concat or self.heads == 1 else mean(z, axis=1)
        if self.residual is not None and x_dst is not None:
            z = z + self.residual(x_dst)
        z = biased(z, self.bias, self.activation)
        return (z, (g, alpha)) if weights else z

    weight: Any
    bias: Any


def _weighted(u: Any, e: Any) -> Any:
    return u.h * e.weight


def joined(h: Any) -> Any:
    """[nodes, heads, features] → [nodes, heads · features]."""
    return h.reshape(h.shape[0], h.shape[1] * h.shape[2])


def head_dots(x: Any, weight: Any, h: Any, *vectors: Any) -> Any:
    """⟨h[n, k], a[k]⟩ of every node n and head k for each of the vectors a, with h = x W: [nodes, heads, 1]
    for [heads, width] each.

    One product with a block-diagonal matrix that holds the vectors, of h (None: of x) or of x, whichever is
    narrower."""
    heads, width = vectors[0].shape
    diagonal = namespace_of(unwrap(weight)).eye(heads, dtype=weight.dtype).reshape(heads, 1, 1, heads)
    stacked = np.concatenate([a.reshape(heads, width, 1, 1) for a in vectors], axis=2)
    blocks = (stacked * diagonal).reshape(heads * width, len(vectors) * heads)
    dots = (
        matmul(x, matmul(weight, blocks))
        if h is None or x.shape[1] <= heads * width
        else matmul(joined(h), blocks)
    )
    return np.split(dots.reshape(*dots.shape, 1), len(vectors), axis=1)


class GATConv(_Attention):
    """z_v = Σ_{u → v} α_uv h_u + b with h = x W and α_uv = softmax_v(leaky_relu(a_src · h_u + a_dst · h_v +
    a_edge · W_edge w_uv)), head by head (Veličković et al., ICLR 2018).

    Parameters
    ----------
    in_features : width of x, with one W for both ends, or a pair (of sources, of destinations) with two
    out_features : width of a head
    heads, concat : how many there are, and whether they stand beside each other, else their mean is taken
    negative_slope : of leaky_relu
    dropout : the probability with which each α is dropped while training
    add_self_loops : nodes without a self loop get one;
        not where x is a pair (two sets of nodes have no loops)
    collapse_loops : a node's own loops become one, which is as a new one, as in PyG; else each counts
    edge_dim : width of edge_attr, where there is some; without edge_attr the term is left out
    fill_value : edge_attr of new loops: a number, an array [edge_dim], or what "mean", "sum", "max",
        "min" or "prod" makes of the node's in-edges that are no loops
    residual : add x_v W_residual
    bias : have b
    activation : a function of z, such as ``numgraph.elu``, or None
    rng, dtype : of the parameters' first values; rng also draws what is dropped

    Notes
    -----
    Called as ``conv(g, x, edge_attr=None, edge_weight=None, rng=None, return_attention_weights=False)``: x
    [num_nodes, in_features], an array, Tensor or SciPy sparse matrix, or a pair ([num_src, in_src], [num_dst,
    in_dst]), whose second may be None: then its term is left out; edge_attr [num_edges, edge_dim];
    edge_weight [num_edges], by which each α is multiplied after the softmax (1 for new loops); rng draws what
    is dropped instead of the layer's own generator. Returns [num_dst, heads · out_features] ([num_dst,
    out_features] averaged), and with return_attention_weights a pair of it and (the graph with loops, α [its
    edges, heads]).

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> conv = ng.nn.GATConv(4, 2, heads=3, edge_dim=1)
    >>> x, w = np.ones((3, 4), np.float32), np.ones((3, 1))
    >>> z, (looped, alpha) = conv(g, x, w, return_attention_weights=True)
    >>> z.shape, looped.num_edges, alpha.shape
    ((3, 6), 6, (6, 3))
    """

    def _parameters(self, in_src: int, in_dst: int, out_features: int, pair: bool, dtype: Any) -> None:
        self.weight = init.glorot(self.rng, (in_src, self.heads * out_features), dtype)
        self.weight_dst = init.glorot(self.rng, (in_dst, self.heads * out_features), dtype) if pair else None
        self.attention_src = init.glorot(self.rng, (self.heads, out_features), dtype, (out_features, 1))
        self.attention_dst = init.glorot(self.rng, (self.heads, out_features), dtype, (out_features, 1))
        self.attention_edge: Any = None

    def _edge_parameters(self, out_features: int, dtype: Any) -> None:
        self.attention_edge = init.glorot(self.rng, (self.heads, out_features), dtype, (out_features, 1))

    @attention
    def forward(
        self,
        g: Graph,
        x: Any,
        edge_attr: Any = None,
        edge_weight: Any = None,
        *,
        rng: np.random.Generator | None = None,
        return_attention_weights: bool = False,
    ) -> Any:
        """The layer."""
        x_src, x_dst = both_sides("GATConv", g, x, *self.in_features, self.weight.dtype, lone=True)
        g, edge_attr, edge_weight = self._edges(g, x, edge_attr, edge_weight)
        h = self._by_head(x_src, self.weight)
        weight_dst = self.weight if self.weight_dst is None else self.weight_dst
        u, v, e = {"h": h}, {}, {}
        if x_dst is x_src and weight_dst is self.weight:
            u["el"], v["er"] = head_dots(x_src, self.weight, h, self.attention_src, self.attention_dst)
        else:
            (u["el"],) = head_dots(x_src, self.weight, h, self.attention_src)
            if x_dst is not None:
                (v["er"],) = head_dots(x_dst, weight_dst, None, self.attention_dst)
        if edge_attr is not None:
            (e["ew"],) = head_dots(edge_attr, self.weight_edge, None, self.attention_edge)
        score = _additive(self.negative_slope, bool(v), bool(e))
        return self._attended(g, score, u, v, e, x_dst, edge_weight, rng, return_attention_weights)


def _additive(slope: float, of_v: bool, of_e: bool) -> Callable[..., Any]:
    """leaky_relu of the sum of what is there."""
    if of_v:
        if of_e:
            return lambda u, v, e: elementary.leaky_relu(u.el + v.er + e.ew, slope)
        return lambda u, v: elementary.leaky_relu(u.el + v.er, slope)
    if of_e:
        return lambda u, e: elementary.leaky_relu(u.el + e.ew, slope)
    return lambda u: elementary.leaky_relu(u.el, slope)


class GATv2Conv(_Attention):
    """z_v = Σ_{u → v} α_uv h_u + b with h = x W + b_src, t = x W_dst + b_dst and α_uv = softmax_v(a ·
    leaky_relu(h_u + t_v + W_edge w_uv)), head by head (Brody, Alon and Yahav, How Attentive are Graph
    Attention Networks?, ICLR 2022).

    Parameters
    ----------
    in_features, out_features, options : as in ``GATConv``; the features of destinations are needed
    projection_bias : have b_src and b_dst, as PyG and DGL; both stand inside leaky_relu
    share_weights : W_dst, b_dst are W, b_src

    Notes
    -----
    Calls and shapes are GATConv's. The sum h_u + t_v lives on edges only inside the message.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> ng.nn.GATv2Conv(4, 2, heads=3, share_weights=True)(g, np.ones((3, 4), np.float32)).shape
    (3, 6)
    """

    def __init__(
        self,
        in_features: int | tuple[int, int],
        out_features: int,
        *,
        projection_bias: bool = False,
        share_weights: bool = False,
        **options: Any,
    ) -> None:
        in_src, in_dst = pair_of("GATv2Conv", in_features)
        if share_weights and in_src != in_dst:
            problem = f"share_weights is True and in_features is {in_features}"
            raise bad_value("GATv2Conv", problem, "one W needs one width for sources and destinations")
        self.projection_bias, self.share_weights = projection_bias, share_weights
        super().__init__(in_features, out_features, **options)

    def _parameters(self, in_src: int, in_dst: int, out_features: int, pair: bool, dtype: Any) -> None:
        width = self.heads * out_features
        self.weight = init.glorot(self.rng, (in_src, width), dtype)
        self.weight_dst = None if self.share_weights else init.glorot(self.rng, (in_dst, width), dtype)
        self.attention = init.glorot(self.rng, (self.heads, out_features), dtype, (out_features, 1))
        self.bias_src = init.zeros((width,), dtype) if self.projection_bias else None
        self.bias_dst = (
            init.zeros((width,), dtype) if self.projection_bias and not self.share_weights else None
        )

    @attention
    def forward(
        self,
        g: Graph,
        x: Any,
        edge_attr: Any = None,
        edge_weight: Any = None,
        *,
        rng: np.random.Generator | None = None,
        return_attention_weights: bool = False,
    ) -> Any:
        """The layer."""
        x_src, x_dst = both_sides("GATv2Conv", g, x, *self.in_features, self.weight.dtype)
        g, edge_attr, edge_weight = self._edges(g, x, edge_attr, edge_weight)
        h = self._by_head(x_src, self.weight, self.bias_src)
        if self.share_weights:
            t = h if x_dst is x_src else self._by_head(x_dst, self.weight, self.bias_src)
        else:
            t = self._by_head(x_dst, self.weight_dst, self.bias_dst)
        a, slope, e = self.attention, self.negative_slope, {}
        score: Callable[..., Any]
        if edge_attr is None:
            score = lambda u, v: (a * elementary.leaky_relu(u.h + v.t, slope)).sum(-1, keepdims=True)
        else:
            e["w"] = self._by_head(edge_attr, self.weight_edge)
            score = lambda u, v, e: (a * elementary.leaky_relu(u.h + v.t + e.w, slope)).sum(-1, keepdims=True)
        return self._attended(
            g, score, {"h": h}, {"t": t}, e, x_dst, edge_weight, rng, return_attention_weights
        )
