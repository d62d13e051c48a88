"""Propagation without weights between the steps: SGC and APPNP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.arrays.inputs import generator, is_sparse
from numgraph.dense import matmul
from numgraph.dense.activations import biased
from numgraph.errors import bad_type, bad_value, shown
from numgraph.expressions.precision import narrowed, widened
from numgraph.graph import Graph
from numgraph.nn import init
from numgraph.nn.blocks import first_rows, hop, per_hop
from numgraph.nn.gcn import normalised_sum
from numgraph.nn.graphs import check_norm, column, loop_weight, node_features, weighted_loops
from numgraph.nn.module import Module, check_size
from numgraph.nn.typed import of_graph


class _Propagation(Module):
    k: int
    add_self_loops: bool
    collapse_loops: bool
    fill_value: float

    def _steps(
        self, op: str, g: Any, edge_weight: Any, dtype: Any
    ) -> list[tuple[Any, Any, Callable[[Any], Any]]]:
        """Graph and edge weights of each of the k steps, with self loops, and what makes the rows of its
        sources.
        """
        made: list[tuple[Any, Any, Callable[[Any], Any]]] = []
        before = None
        for given, weight in per_hop(op, g, self.k, edge_weight):
            if made and given is before:
                made.append(made[-1])
                continue
            before, (graph, _, sources) = given, hop(given)
            weight = None if weight is None else column(op, graph, weight, dtype)
            if self.add_self_loops:
                graph, weight = weighted_loops(graph, weight, op, self.fill_value, self.collapse_loops, dtype)
            made.append((graph, weight, sources))
        return made


def _features(op: str, g: Any, x: Any, features: int | None, like: Any) -> Any:
    """x for the first of the graphs in g."""
    first = g[0] if isinstance(g, list | tuple) and g else g
    graph, side, _ = hop(first)
    return node_features(op, graph, x, features, like, "both" if side == "u" else side)


class SGConv(_Propagation):
    """z = S^k x W + b with S = D^-½ A D^-½ (Wu et al., Simplifying Graph Convolutional Networks, ICML 2019).

    Parameters
    ----------
    in_features, out_features : widths
    k : how many steps
    norm, add_self_loops, fill_value, collapse_loops : of A and its degrees, as in GCNConv
    bias : have b
    rng, dtype : of the parameters' first values

    Notes
    -----
    Called as ``conv(g, x, edge_weight=None)``: x [num_nodes, in_features], an array, Tensor or SciPy sparse
    matrix; edge_weight None or [num_edges]. Returns [num_nodes, out_features].

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> x = np.ones((3, 4), np.float32)
    >>> ng.nn.SGConv(4, 2, k=3)(g, x).shape
    (3, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        k: int = 2,
        norm: str = "both",
        add_self_loops: bool = True,
        fill_value: float = 1.0,
        collapse_loops: bool = False,
        bias: bool = True,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        check_size("SGConv", in_features=in_features, out_features=out_features, k=k)
        self.k, self.norm = k, check_norm("SGConv", norm)
        self.add_self_loops, self.collapse_loops, self.fill_value = (
            add_self_loops,
            collapse_loops,
            loop_weight("SGConv", fill_value),
        )
        self.weight = init.glorot(generator(type(self).__name__, rng), (in_features, out_features), dtype)
        self.bias = init.zeros((out_features,), dtype) if bias else None

    @of_graph
    def forward(self, g: Graph, x: Any, edge_weight: Any = None) -> Any:
        width_in, width_out = self.weight.shape
        steps = self._steps("SGConv", g, edge_weight, self.weight.dtype)
        x = _features("SGConv", g, x, width_in, self.weight.dtype)
        first = width_out < width_in or is_sparse(x)
        z = matmul(x, self.weight) if first else x
        for graph, weight, sources in steps:
            z = normalised_sum(graph, sources(z), self.norm, weight)
        z = z if first else matmul(z, self.weight)
        return biased(z, self.bias)


class APPNP(_Propagation):
    """z⁰ = x, zⁱ⁺¹ = (1 − alpha) S zⁱ + alpha x, returns zᵏ: personalised PageRank of predictions, with
    GCNConv's S = D^-½ A D^-½ (Gasteiger, Bojchevski and Günnemann, ICLR 2019). It has no parameters.

    Parameters
    ----------
    k : how many steps
    alpha : the share of x in each step, between 0 and 1
    norm, add_self_loops, fill_value, collapse_loops : as in GCNConv

    Notes
    -----
    Called as ``layer(g, x, edge_weight=None)``: x [num_nodes, features]; edge_weight None or [num_edges].
    Returns [num_nodes, features].

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> x = np.ones((3, 4), np.float32)
    >>> ng.nn.APPNP(k=5, alpha=0.2)(g, x).shape
    (3, 4)
    """

    def __init__(
        self,
        *,
        k: int = 10,
        alpha: float = 0.1,
        norm: str = "both",
        add_self_loops: bool = True,
        fill_value: float = 1.0,
        collapse_loops: bool = False,
    ) -> None:
        check_size("APPNP", k=k)
        if not isinstance(alpha, int | float | np.number) or not 0 <= alpha <= 1:
            raise bad_value(
                "APPNP", f"alpha is {shown(alpha)}", "it is the probability of a return, 0 ≤ alpha ≤ 1"
            )
        self.k, self.alpha, self.norm = k, float(alpha), check_norm("APPNP", norm)
        self.add_self_loops, self.collapse_loops, self.fill_value = (
            add_self_loops,
            collapse_loops,
            loop_weight("APPNP", fill_value),
        )

    @of_graph
    def forward(self, g: Graph, x: Any, edge_weight: Any = None) -> Any:
        x = _features("APPNP", g, x, None, None)
        if is_sparse(x):
            raise bad_type(
                "APPNP", f"x is a SciPy sparse {type(x).__name__}, which a few steps fill", "give x.toarray()"
            )
        steps = self._steps("APPNP", g, edge_weight, x.dtype)
        dtype, x = x.dtype, widened(x)
        z, start = x, x * self.alpha
        for graph, weight, sources in steps:
            start = first_rows(graph, start)
            z = normalised_sum(graph, sources(z), self.norm, weight) * (1 - self.alpha) + start
        return narrowed(z, dtype)
