"""GraphSAGE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgraph.arrays.inputs import generator, is_sparse
from numgraph.dense import matmul, relu
from numgraph.dense.activations import biased
from numgraph.errors import bad_type
from numgraph.expressions.precision import narrowed, widened
from numgraph.graph import Graph
from numgraph.nn import init
from numgraph.nn.aggregation import AGGREGATIONS, aggregate, check_aggregations, joined
from numgraph.nn.blocks import Convolution, hop
from numgraph.nn.graphs import both_sides, column
from numgraph.nn.linear import Linear
from numgraph.nn.module import check_activation, check_size, pair_of
from numgraph.nn.typed import of_graph

_LINEAR = ("sum", "mean")
"""What commutes with W."""


class SAGEConv(Convolution):
    """z_v = x_v W_self + ⊕_{u → v} w_uv h_u W + b with h = x, or relu(x P + p) (Hamilton, Ying and Leskovec,
    NeurIPS 2017).

    Parameters
    ----------
    in_features : width of x, or a pair (of sources, of destinations)
    out_features : width of z
    aggr : ⊕, one of "sum", "mean", "max", "min", "prod", "var", "std", "softmax", "median",
        or several of them, which stand beside each other before W; 0 (prod: 1) where v has no in-edges.
        "pool" is "max" with ``project=True``, the paper's.
    project : h is relu(x P + p)
    root_weight : have x_v W_self
    normalize : z is divided by its length, the paper's last step
    bias : have b
    activation : a function of z, such as ``numgraph.relu``, or None
    rng, dtype : of the parameters' first values

    Notes
    -----
    Called as ``conv(g, x, edge_weight=None)``: x [num_nodes, in_features], an array, Tensor or (for sum, mean
    and project) SciPy sparse matrix, or a pair ([num_src, in_src], [num_dst, in_dst]), whose second may be
    None: then x_v W_self is left out. edge_weight: None for 1, or [num_edges]; the mean divides by the number
    of edges all the same. Returns [num_dst, out_features].

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> ng.nn.SAGEConv(4, 2, aggr=["mean", "std"], normalize=True)(g, np.ones((3, 4), np.float32)).shape
    (3, 2)
    """

    projects = True

    def __init__(
        self,
        in_features: int | tuple[int, int],
        out_features: int,
        *,
        aggr: str | Sequence[str] = "mean",
        project: bool = False,
        root_weight: bool = True,
        normalize: bool = False,
        bias: bool = True,
        activation: Callable[[Any], Any] | None = None,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        in_src, in_dst = pair_of("SAGEConv", in_features)
        check_size("SAGEConv", in_src=in_src, in_dst=in_dst, out_features=out_features)
        names = check_aggregations("SAGEConv", "aggr", aggr, (*AGGREGATIONS, "pool"))
        rng = generator(type(self).__name__, rng)
        self.aggr = tuple("max" if name == "pool" else name for name in names)
        self.normalize, self.activation = normalize, check_activation("SAGEConv", activation)
        self.in_features = (in_src, in_dst)
        self.weight = init.glorot(rng, (in_src * len(names), out_features), dtype)
        self.weight_self = init.glorot(rng, (in_dst, out_features), dtype) if root_weight else None
        self.bias = init.zeros((out_features,), dtype) if bias else None
        self.pool = Linear(in_src, in_src, rng=rng, dtype=dtype) if project or "pool" in names else None

    @of_graph
    def forward(self, g: Graph, x: Any, edge_weight: Any = None) -> Any:
        """The convolution."""
        g, side, sources = hop(g)
        x_src, x_dst = both_sides(
            "SAGEConv", g, x, *self.in_features, self.weight.dtype, lone=True, owned=side == "v"
        )
        e = None if edge_weight is None else {"w": column("SAGEConv", g, edge_weight, self.weight.dtype)}
        h = x_src if self.pool is None else relu(self.pool(x_src))
        width_in, width_out = self.weight.shape
        first = len(self.aggr) == 1 and self.aggr[0] in _LINEAR and (width_out < width_in or is_sparse(h))
        if is_sparse(h) and not first:
            names = ", ".join(map(repr, self.aggr))
            raise bad_type(
                "SAGEConv",
                f"x is sparse and aggr is {names}",
                "pass x.toarray(), or choose aggr sum, mean or pool",
            )
        h = sources(matmul(h, self.weight) if first else h)  # the narrower side passes the edges
        message = (lambda u, v, e: u.x) if e is None else (lambda u, v, e: u.x * e.w)
        dtype = h.dtype
        z = narrowed(joined(aggregate(g, message, self.aggr, u={"x": h}, e=e)), dtype)
        z = z if first else matmul(z, self.weight)
        if self.weight_self is not None and x_dst is not None:
            z = z + matmul(x_dst, self.weight_self)
        if not self.normalize:
            return biased(z, self.bias, self.activation)
        return biased(unit_rows(biased(z, self.bias)), None, self.activation)


def unit_rows(x: Any) -> Any:
    """Rows divided by their lengths, those shorter than 1e-12 by that."""
    wide = widened(x)
    return narrowed(wide / np.sqrt(np.maximum(np.square(wide).sum(-1, keepdims=True), 1e-24)), x.dtype)
