"""Graph convolution of Kipf and Welling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.arrays.inputs import generator, is_sparse
from numgraph.dense import matmul
from numgraph.dense.activations import biased
from numgraph.expressions.precision import narrowed
from numgraph.graph import Graph
from numgraph.message import update_all
from numgraph.nn import init
from numgraph.nn.blocks import Convolution, hop
from numgraph.nn.degrees import degree_scales
from numgraph.nn.graphs import check_norm, column, loop_weight, node_features, weighted_loops
from numgraph.nn.module import check_activation, check_size
from numgraph.nn.typed import of_graph


def normalised_sum(
    g: Graph, x: Any, norm: str = "both", edge_weight: Any = None, weighted_degrees: bool = True
) -> Any:
    """z_v = Σ_{e = (u → v)} w_e x_u / √(d_u d_v) for norm "both" and "in", / d_v for "right", neither for
    "none".

    x: [num_src, …, features]; edge_weight: None for 1, or [num_edges, 1]. d_v is v's in-degree, d_u u's
    out-degree, or with "in" its in-degree (sums of weights, unless ``weighted_degrees`` is False), so the
    edges' factors are factors of nodes. Returns [num_dst, …, features].
    """
    scale_src, scale_dst = degree_scales(g, norm, edge_weight if weighted_degrees else None, x.dtype)
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
_MESSAGES |= {("in", weighted): _MESSAGES["both", weighted] for weighted in (False, True)}


class GCNConv(Convolution):
    """z = D^-½ A D^-½ x W + b (Kipf and Welling, ICLR 2017), with A the graph's (weighted) adjacency and self
    loops.

    Parameters
    ----------
    in_features, out_features : widths
    norm : "both" is the formula,
        with out-degrees for sources and in-degrees for destinations (equal on an undirected graph); "in" has
        in-degrees for both, as PyG; "right" is D^-1 A, a mean; "none" is A
    add_self_loops : nodes that have no self loop get one. A bipartite graph needs False.
    fill_value : the weight of these loops
    improved : it is 2 (Gao and Ji, Graph U-Nets, ICML 2019)
    collapse_loops : a node's own loops become one, with the weight of the last, as in PyG; else each counts
    weighted_degrees : degrees are sums of edge weights, else numbers of edges, as in DGL
    bias : have b
    activation : a function of z, such as ``numgraph.relu``, or None
    rng, dtype : of the parameters' first values

    Notes
    -----
    Called as ``conv(g, x, edge_weight=None)``: x [num_src, in_features], an array, Tensor or SciPy sparse
    matrix, also with axes between, [num_src, …, in_features], or a pair whose first it is; edge_weight None
    or [num_edges]. Returns [num_dst, …, out_features].

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> ng.nn.GCNConv(4, 2, norm="in", improved=True)(g, np.ones((3, 4), np.float32)).shape
    (3, 2)
    """

    projects = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        norm: str = "both",
        add_self_loops: bool = True,
        fill_value: float = 1.0,
        improved: bool = False,
        collapse_loops: bool = False,
        weighted_degrees: bool = True,
        bias: bool = True,
        activation: Callable[[Any], Any] | None = None,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        check_size("GCNConv", in_features=in_features, out_features=out_features)
        self.norm, self.weighted_degrees = check_norm("GCNConv", norm), weighted_degrees
        self.add_self_loops, self.collapse_loops = add_self_loops, collapse_loops
        self.fill_value = loop_weight("GCNConv", fill_value, improved)
        self.activation = check_activation("GCNConv", activation)
        self.weight = init.glorot(generator(type(self).__name__, rng), (in_features, out_features), dtype)
        self.bias = init.zeros((out_features,), dtype) if bias else None

    @of_graph
    def forward(self, g: Graph, x: Any, edge_weight: Any = None) -> Any:
        """The convolution."""
        width_in, width_out = self.weight.shape
        x = x[0] if type(x) is tuple and len(x) == 2 else x
        g, side, sources = hop(g)
        x = node_features("GCNConv", g, x, width_in, self.weight.dtype, side, deep=True)
        if edge_weight is not None:
            edge_weight = column("GCNConv", g, edge_weight, self.weight.dtype)
        if self.add_self_loops:
            g, edge_weight = weighted_loops(
                g, edge_weight, "GCNConv", self.fill_value, self.collapse_loops, self.weight.dtype
            )
        if width_out < width_in or is_sparse(x):  # the narrower side passes the edges
            z = normalised_sum(
                g, sources(matmul(x, self.weight)), self.norm, edge_weight, self.weighted_degrees
            )
        else:
            z = matmul(
                normalised_sum(g, sources(x), self.norm, edge_weight, self.weighted_degrees), self.weight
            )
        return biased(z, self.bias, self.activation)
