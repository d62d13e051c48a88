"""EdgeConv of dynamic graph CNNs."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph.dense import matmul
from numgraph.dense.activations import biased
from numgraph.expressions import elementary
from numgraph.graph import Graph
from numgraph.message import update_all
from numgraph.nn import init
from numgraph.nn.graphs import both_sides
from numgraph.nn.module import Module, check_size


class EdgeConv(Module):
    """z_v = max_{u → v} relu((x_u − x_v) Θ + x_v Φ + b) (Wang et al., Dynamic Graph CNN, ACM Transactions on Graphics 2019).

    The paper's function of an edge, with one linear layer: then it splits into x_u Θ + (x_v (Φ − Θ) + b), two products over nodes, and
    only the sum, relu and max are left for the edges. 0 where v has no in-edges.

    Shapes: x [num_nodes, in_features], or on a bipartite graph a pair ([num_src, in_features], [num_dst, in_features]); returns
    [num_dst, out_features].
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, rng: init.Seed = None, dtype: Any = np.float32) -> None:
        check_size("EdgeConv", in_features=in_features, out_features=out_features)
        rng = np.random.default_rng(rng)
        self.theta = init.kaiming(rng, (in_features, out_features), dtype, 2 * in_features)
        self.phi = init.kaiming(rng, (in_features, out_features), dtype, 2 * in_features)
        self.bias = init.zeros((out_features,), dtype) if bias else None

    def forward(self, g: Graph, x: Any) -> Any:
        x_src, x_dst = both_sides("EdgeConv", g, x, self.theta.shape[0], self.theta.shape[0], self.theta.dtype)
        t = matmul(x_dst, self.phi - self.theta)
        t = biased(t, self.bias)
        return update_all(g, lambda u, v: elementary.relu(u.h + v.t), "max", u={"h": matmul(x_src, self.theta)}, v={"t": t})
