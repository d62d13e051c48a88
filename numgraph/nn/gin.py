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
from numgraph.nn.graphs import edge_features, node_features
from numgraph.nn.linear import Linear, Sequential
from numgraph.nn.module import Module, check_activation


class GINConv(Module):
    """z_v = f((1 + eps) · x_v + Σ_{u → v} x_u) (Xu et al., How Powerful are Graph Neural Networks?, ICLR 2019).

    f: a Module or function of [num_nodes, features], the paper's is ``MLP([in, hidden, out])``. eps is a number, or with
    ``train_eps`` a Parameter of shape [] that starts at it. activation: a function of z, such as ``numgraph.relu``, or None.

    Shapes: x [num_nodes, in_features], an array or Tensor, or a SciPy sparse matrix if f starts with a Linear (which is then applied
    before the sum: both are linear); returns what f gives.
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
        self.f, self.activation = _checked("GINConv", f), check_activation("GINConv", activation)
        self.eps: Any = init.Parameter(np.array(eps, dtype)) if train_eps else float(eps)

    def forward(self, g: Graph, x: Any) -> Any:
        x = node_features("GINConv", g, x, None, _dtype_of(self.f))
        first, rest = _split(self.f)
        if first is not None and (is_sparse(x) or first.weight.shape[1] < first.weight.shape[0]):  # the narrower side passes the edges
            h = self._combine(g, first.project(x))
            return biased(rest(biased(h, first.bias)), None, self.activation)
        if is_sparse(x):
            raise bad_type("GINConv", "x is sparse and f does not start with a Linear", "pass x.toarray(), or an MLP")
        return biased(self.f(self._combine(g, x)), None, self.activation)

    def _combine(self, g: Graph, x: Any) -> Any:
        z = update_all(g, lambda u: u.x, "sum", u={"x": x})
        return narrowed(x * (1 + self.eps) + z, z.dtype)


def _checked(op: str, f: Any) -> Any:
    if not callable(f) or isinstance(f, type):
        raise bad_type(op, f"f is {shown(f)}", f"pass a function or Module of features, as {op}(numgraph.nn.MLP([in, hidden, out]))")
    return f


def _dtype_of(f: Any) -> Any:
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


class GINEConv(Module):
    """z_v = f((1 + eps) · x_v + Σ_{e = (u → v)} relu(x_u + w_e)) (Hu et al., Strategies for Pre-training Graph Neural Networks, ICLR 2020).

    f and eps are GINConv's. Shapes: x [num_nodes, features]; w [num_edges, features], or [num_edges, 1] to broadcast; returns what f gives.
    """

    def __init__(self, f: Callable[[Any], Any], *, eps: float = 0.0, train_eps: bool = False, dtype: Any = np.float32) -> None:
        self.f = _checked("GINEConv", f)
        self.eps: Any = init.Parameter(np.array(eps, dtype)) if train_eps else float(eps)

    def forward(self, g: Graph, x: Any, w: Any) -> Any:
        x = node_features("GINEConv", g, x, None, _dtype_of(self.f))
        if is_sparse(x):
            raise bad_type("GINEConv", f"x is a SciPy sparse {type(x).__name__}", "give x.toarray()")
        w = edge_features("GINEConv", g, w, x.shape[1], x.dtype)
        z = update_all(g, lambda u, e: elementary.relu(u.x + e.w), "sum", u={"x": x}, e={"w": w})
        return self.f(narrowed(x * (1 + self.eps) + z, z.dtype))
