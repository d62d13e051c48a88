"""Graph convolution of Kipf and Welling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.arrays.inputs import is_sparse
from numgraph.dense import matmul
from numgraph.dense.activations import biased
from numgraph.expressions.precision import narrowed
from numgraph.graph import Graph
from numgraph.message import update_all
from numgraph.nn import init
from numgraph.nn.graphs import check_norm, column, degree_scales, node_features, with_self_loops
from numgraph.nn.module import Module, check_activation, check_size


def normalised_sum(g: Graph, x: Any, norm: str = "both", edge_weight: Any = None) -> Any:
    """z_v = Σ_{e = (u → v)} w_e x_u / √(d_u d_v) for norm "both", / d_v for "right", neither for "none".

    x: [num_src, features]; edge_weight: None for 1, or [num_edges, 1]. d_u is u's out-degree, d_v v's in-degree (sums of weights), so the
    edges' factors are factors of nodes. Returns [num_dst, features].
    """
    scale_src, scale_dst = degree_scales(g, norm, edge_weight, x.dtype)
    u, v, e = ({} if scale is None else {"scale": scale} for scale in (scale_src, scale_dst, edge_weight))
    z = update_all(g, _MESSAGES[norm, edge_weight is not None], "sum", u={"x": x, **u}, v=v, e=e)
    return narrowed(z, x.dtype if edge_weight is None else np.result_type(x.dtype, edge_weight.dtype))


_MESSAGES: dict[tuple[str, bool], Callable[..., Any]] = {  # by norm, and whether edges have weights
    ("both", False): lambda u, v: u.x * (u.scale * v.scale),
    ("both", True): lambda u, v, e: u.x * (u.scale * v.scale * e.scale),
    ("right", False): lambda u, v: u.x * v.scale,
    ("right", True): lambda u, v, e: u.x * (v.scale * e.scale),
    ("none", False): lambda u: u.x,
    ("none", True): lambda u, e: u.x * e.scale,
}


class GCNConv(Module):
    """z = D^-½ A D^-½ x W + b (Kipf and Welling, ICLR 2017).

    A is the graph's (weighted) adjacency, with self loops of weight 1 added to the nodes that have none, unless ``add_self_loops`` is
    False. norm "both" is the formula, with out-degrees for sources and in-degrees for destinations (equal on an undirected graph);
    "right" is D^-1 A, a mean; "none" is A. activation: a function of z, such as ``numgraph.relu``, or None.

    Shapes: x [num_src, in_features], an array, Tensor or SciPy sparse matrix; edge_weight None or [num_edges]; returns
    [num_dst, out_features]. A bipartite graph needs ``add_self_loops=False``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        norm: str = "both",
        add_self_loops: bool = True,
        bias: bool = True,
        activation: Callable[[Any], Any] | None = None,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        check_size("GCNConv", in_features=in_features, out_features=out_features)
        self.norm = check_norm("GCNConv", norm)
        self.add_self_loops, self.activation = add_self_loops, check_activation("GCNConv", activation)
        self.weight = init.glorot(np.random.default_rng(rng), (in_features, out_features), dtype)
        self.bias = init.zeros((out_features,), dtype) if bias else None

    def forward(self, g: Graph, x: Any, edge_weight: Any = None) -> Any:
        width_in, width_out = self.weight.shape
        x = node_features("GCNConv", g, x, width_in, self.weight.dtype, "u")
        if edge_weight is not None:
            edge_weight = column("GCNConv", g, edge_weight, self.weight.dtype)
        if self.add_self_loops:
            g, edge_weight = with_self_loops(g, edge_weight, "GCNConv")
        if width_out < width_in or is_sparse(x):  # the narrower side passes the edges
            z = normalised_sum(g, matmul(x, self.weight), self.norm, edge_weight)
        else:
            z = matmul(normalised_sum(g, x, self.norm, edge_weight), self.weight)
        return biased(z, self.bias, self.activation)
