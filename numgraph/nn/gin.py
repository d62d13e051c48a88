"""Graph isomorphism networks: GIN, and GINE with edge features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.arrays.inputs import is_sparse
from numgraph.dense.activations import biased
from numgraph.errors import bad_type, shown
from numgraph.expressions import elementary
from numgraph.expressions.precision import narrowed
from numgraph.graph import Graph
from numgraph.message import update_all
from numgraph.nn import init
from numgraph.nn.blocks import Convolution
from numgraph.nn.graphs import both_sides, column, edge_attributes, edge_features
from numgraph.nn.linear import Linear, Sequential
from numgraph.nn.module import Module, check_activation, check_size
from numgraph.nn.typed import of_graph


class GINConv(Convolution):
    """z_v = f((1 + eps) · x_v + Σ_{u → v} w_uv x_u) (Xu et al., How Powerful are Graph Neural Networks?, ICLR
    2019).

    Parameters
    ----------
    f : a Module or function of [num_nodes, features]; the paper's is ``MLP([in, hidden, out])``
    eps : a number
    train_eps : eps is a Parameter of shape [] that starts at it
    activation : a function of z, such as ``numgraph.relu``, or None
    dtype : of eps

    Notes
    -----
    Called as ``conv(g, x, edge_weight=None)``: x [num_nodes, features], an array or Tensor, or a SciPy sparse
    matrix if f starts with a Linear (which is then applied before the sum: both are linear), or a pair
    ([num_src, features], [num_dst, features]), whose second may be None: then the sum stands alone.
    edge_weight: None for 1, or [num_edges]. Returns what f gives.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> ng.nn.GINConv(ng.nn.MLP([4, 8, 2]), train_eps=True)(g, np.ones((3, 4), np.float32)).shape
    (3, 2)
    """

    def __init__(
        self,
        f: Callable[[Any], Any],
        *,
        eps: float = 0.0,
        train_eps: bool = False,
        activation: Callable[[Any], Any] | None = None,
        dtype: Any = np.float32,
    ) -> None:
        self.f, self.activation = check_function("GINConv", f), check_activation("GINConv", activation)
        self.eps: Any = _epsilon(type(self).__name__, eps, train_eps, dtype)

    @of_graph
    def forward(self, g: Graph, x: Any, edge_weight: Any = None) -> Any:
        """The convolution."""
        like = dtype_of(self.f)
        x_src, x_dst = both_sides("GINConv", g, x, None, None, like, lone=True)
        e = None if edge_weight is None else {"w": column("GINConv", g, edge_weight, x_src.dtype)}
        first, rest = _split(self.f)
        if first is not None and (
            is_sparse(x_src) or first.weight.shape[1] < first.weight.shape[0]
        ):  # the narrower side passes the edges
            h = first.project(x_src)
            h = self._combine(
                g, h, h if x_dst is x_src else None if x_dst is None else first.project(x_dst), e
            )
            return biased(rest(biased(h, first.bias)), None, self.activation)
        if is_sparse(x_src):
            raise bad_type(
                "GINConv", "x is sparse and f does not start with a Linear", "pass x.toarray(), or an MLP"
            )
        return biased(self.f(self._combine(g, x_src, x_dst, e)), None, self.activation)

    def _combine(self, g: Graph, x_src: Any, x_dst: Any, e: Any) -> Any:
        z = update_all(
            g, (lambda u: u.x) if e is None else (lambda u, e: u.x * e.w), "sum", u={"x": x_src}, e=e
        )
        z = narrowed(z, x_src.dtype)
        return z if x_dst is None else narrowed(x_dst * (1 + self.eps) + z, z.dtype)


def check_function(op: str, f: Any) -> Any:
    if not callable(f) or isinstance(f, type):
        raise bad_type(
            op,
            f"f is {shown(f)}",
            f"pass a function or Module of features, as {op}(numgraph.nn.MLP([in, hidden, out]))",
        )
    return f


def dtype_of(f: Any) -> Any:
    """The dtype of f's parameters, None if it has none."""
    first = next(f.named_parameters(), None) if isinstance(f, Module) else None
    return None if first is None else first[1].dtype


def _split(f: Any) -> tuple[Linear | None, Callable[[Any], Any]]:
    """f's first Linear, and what follows it."""
    if isinstance(f, Linear):
        return f, lambda x: x
    if isinstance(f, Sequential) and f.steps and isinstance(f.steps[0], Linear):
        return f.steps[0], lambda x: f.run(x, 1)
    return None, f


class GINEConv(Convolution):
    """z_v = f((1 + eps) · x_v + Σ_{e = (u → v)} relu(x_u + w_e)) (Hu et al., Strategies for Pre-training
    Graph Neural Networks, ICLR 2020).

    Parameters
    ----------
    f, eps, train_eps : GINConv's
    edge_dim : width of the edges' features, which a Linear (``edge``) brings to that of x;
        None where they have x's
    in_features : width of x, where edge_dim is given
    rng, dtype : of the Linear's and eps's first values

    Notes
    -----
    Called as ``conv(g, x, w)``: x [num_nodes, features], or a pair ([num_src, features], [num_dst,
    features]), whose second may be None; w [num_edges, features], or [num_edges, 1] to broadcast, or
    [num_edges, edge_dim]. Returns what f gives.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> conv = ng.nn.GINEConv(ng.nn.MLP([4, 2]), edge_dim=3, in_features=4)
    >>> conv(g, np.ones((3, 4), np.float32), np.ones((3, 3), np.float32)).shape
    (3, 2)
    """

    def __init__(
        self,
        f: Callable[[Any], Any],
        *,
        eps: float = 0.0,
        train_eps: bool = False,
        edge_dim: int | None = None,
        in_features: int | None = None,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        self.f = check_function("GINEConv", f)
        self.eps: Any = _epsilon(type(self).__name__, eps, train_eps, dtype)
        if edge_dim is None:
            self.edge = None
            return
        first, _ = _split(self.f)
        in_features = first.weight.shape[0] if in_features is None and first is not None else in_features
        check_size("GINEConv", edge_dim=edge_dim, in_features=in_features)
        self.edge = Linear(edge_dim, in_features or 0, rng=rng, dtype=dtype)

    @of_graph
    def forward(self, g: Graph, x: Any, w: Any) -> Any:
        """The convolution."""
        x_src, x_dst = both_sides("GINEConv", g, x, None, None, dtype_of(self.f), lone=True)
        if is_sparse(x_src):
            raise bad_type("GINEConv", f"x is a SciPy sparse {type(x_src).__name__}", "give x.toarray()")
        if self.edge is not None:
            w = self.edge(
                edge_attributes("GINEConv", g, w, self.edge.weight.shape[0], self.edge.weight.dtype, name="w")
            )
        w = edge_features("GINEConv", g, w, x_src.shape[1], x_src.dtype)
        z = update_all(g, lambda u, e: elementary.relu(u.x + e.w), "sum", u={"x": x_src}, e={"w": w})
        return self.f(z if x_dst is None else narrowed(x_dst * (1 + self.eps) + z, z.dtype))


def _epsilon(op: str, eps: Any, is_trained: bool, dtype: Any) -> Any:
    if not isinstance(eps, int | float | np.number | np.ndarray) or np.ndim(eps):
        raise bad_type(op, f"eps is {shown(eps)}", "give a number")
    return init.Parameter(np.array(eps, dtype)) if is_trained else float(eps)
