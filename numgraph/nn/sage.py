"""GraphSAGE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.arrays.inputs import is_sparse
from numgraph.dense import matmul, relu
from numgraph.dense.activations import biased
from numgraph.errors import bad_type, check_name
from numgraph.graph import Graph
from numgraph.message import update_all
from numgraph.nn import init
from numgraph.nn.graphs import both_sides
from numgraph.nn.linear import Linear
from numgraph.nn.module import Module, check_activation, check_size, pair_of

AGGREGATORS = ("mean", "max", "pool")


class SAGEConv(Module):
    """z_v = x_v W_self + ⊕_{u → v} x_u W + b (Hamilton, Ying and Leskovec, NeurIPS 2017).

    ⊕ x_u is for aggr "mean" mean_u x_u, for "max" max_u x_u, for "pool" max_u relu(x_u P + p); 0 where v has no in-edges. The paper's
    normalisation of z to length 1 is left to the caller. activation: a function of z, such as ``numgraph.relu``, or None.

    Shapes: x [num_nodes, in_features], an array, Tensor or (not for max) SciPy sparse matrix, or on a bipartite graph a pair
    ([num_src, in_src], [num_dst, in_dst]) with ``in_features=(in_src, in_dst)``; returns [num_dst, out_features].
    """

    def __init__(
        self,
        in_features: int | tuple[int, int],
        out_features: int,
        *,
        aggr: str = "mean",
        bias: bool = True,
        activation: Callable[[Any], Any] | None = None,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        in_src, in_dst = pair_of("SAGEConv", in_features)
        check_size("SAGEConv", in_src=in_src, in_dst=in_dst, out_features=out_features)
        check_name("SAGEConv", "aggr", aggr, AGGREGATORS)
        rng = np.random.default_rng(rng)
        self.aggr, self.activation = aggr, check_activation("SAGEConv", activation)
        self.weight = init.glorot(rng, (in_src, out_features), dtype)
        self.weight_self = init.glorot(rng, (in_dst, out_features), dtype)
        self.bias = init.zeros((out_features,), dtype) if bias else None
        self.pool = Linear(in_src, in_src, rng=rng, dtype=dtype) if aggr == "pool" else None

    def forward(self, g: Graph, x: Any) -> Any:
        width_in, width_out = self.weight.shape
        x_src, x_dst = both_sides("SAGEConv", g, x, width_in, self.weight_self.shape[0], self.weight.dtype)
        if self.aggr == "mean" and (width_out < width_in or is_sparse(x_src)):  # the narrower side passes the edges
            z = update_all(g, lambda u: u.x, "mean", u={"x": matmul(x_src, self.weight)})
        else:
            if self.aggr == "max" and is_sparse(x_src):
                raise bad_type("SAGEConv", "x is sparse and aggr is 'max'", "pass x.toarray(), or choose aggr mean or pool")
            h = relu(self.pool(x_src)) if self.pool is not None else x_src
            z = matmul(update_all(g, lambda u: u.x, "mean" if self.aggr == "mean" else "max", u={"x": h}), self.weight)
        z = z + matmul(x_dst, self.weight_self)
        return biased(z, self.bias, self.activation)
