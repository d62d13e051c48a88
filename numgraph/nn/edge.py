"""EdgeConv of dynamic graph CNNs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgraph.arrays.inputs import generator, is_sparse
from numgraph.dense import gather, matmul
from numgraph.dense.activations import biased
from numgraph.errors import bad_type
from numgraph.expressions import elementary
from numgraph.expressions.precision import narrowed
from numgraph.graph import Graph
from numgraph.nn import init
from numgraph.nn.aggregation import aggregate, check_aggregations, joined
from numgraph.nn.blocks import Convolution
from numgraph.nn.gin import check_function, dtype_of
from numgraph.nn.graphs import both_sides
from numgraph.nn.module import check_size
from numgraph.nn.typed import of_graph


class EdgeConv(Convolution):
    """z_v = ⊕_{u → v} f([x_v, x_u − x_v]) (Wang et al., Dynamic Graph CNN, ACM Transactions on Graphics
    2019).

    Parameters
    ----------
    in_features : width of x, for the paper's f of one layer, relu((x_u − x_v) Θ + x_v Φ + b);
        or f itself, a Module or function of [num_edges, 2 · features], such as ``MLP([2 * in, hidden, out])``
    out_features : width of z; with f it is f's
    aggr : ⊕, one of "max" (the paper's), "sum", "mean", "min", "prod", "var", "std", "softmax", "median",
        or several side by side; 0 (prod: 1) where v has no in-edges
    bias : have b
    rng, dtype : of the parameters' first values

    Notes
    -----
    The one layer splits into x_u Θ + (x_v (Φ − Θ) + b), two products over nodes, and only the sum, relu and ⊕
    are left for the edges. Any other f is applied to an array over the edges. Called as ``conv(g, x)``: x
    [num_nodes, in_features], or a pair ([num_src, in_features], [num_dst, in_features]); returns [num_dst,
    out_features · aggregations].

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> ng.nn.EdgeConv(ng.nn.MLP([8, 5, 2]), aggr="mean")(g, np.ones((3, 4), np.float32)).shape
    (3, 2)
    """

    def __init__(
        self,
        in_features: int | Callable[[Any], Any],
        out_features: int | None = None,
        *,
        aggr: str | Sequence[str] = "max",
        bias: bool = True,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        self.aggr = check_aggregations("EdgeConv", "aggr", aggr)
        self.f, self.theta, self.phi, self.bias = None, None, None, None
        if not isinstance(in_features, int | np.integer) and out_features is None:
            self.f = check_function("EdgeConv", in_features)
            return
        check_size("EdgeConv", in_features=in_features, out_features=out_features)
        width: Any = in_features
        rng = generator(type(self).__name__, rng)
        self.theta = init.kaiming(rng, (width, out_features), dtype, 2 * width)  # type: ignore[arg-type]
        self.phi = init.kaiming(rng, (width, out_features), dtype, 2 * width)  # type: ignore[arg-type]
        self.bias = init.zeros((out_features,), dtype) if bias else None  # type: ignore[arg-type]

    @of_graph
    def forward(self, g: Graph, x: Any) -> Any:
        """The convolution."""
        if self.f is not None:
            x_src, x_dst = both_sides("EdgeConv", g, x, None, None, dtype_of(self.f))
            if is_sparse(x_src) or is_sparse(x_dst):
                raise bad_type("EdgeConv", "x is sparse and f is a function of edges", "pass x.toarray()")
            of_v = gather(x_dst, g.dst)
            m = self.f(np.concatenate([of_v, gather(x_src, g.src) - of_v], 1))
            return narrowed(joined(aggregate(g, lambda u, v, e: e.m, self.aggr, e={"m": m})), m.dtype)
        theta: Any = self.theta
        x_src, x_dst = both_sides("EdgeConv", g, x, theta.shape[0], theta.shape[0], theta.dtype)
        t = biased(matmul(x_dst, self.phi - theta), self.bias)
        u, v = {"h": matmul(x_src, theta)}, {"t": t}
        return narrowed(
            joined(aggregate(g, lambda u, v, e: elementary.relu(u.h + v.t), self.aggr, u=u, v=v)), t.dtype
        )
