"""What layers derive from a graph, once a graph: with self loops, and scales by degree. Kept as long as the graph lives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from numgraph.arrays.devices import moved
from numgraph.arrays.inputs import as_array
from numgraph.autodiff.tape import Tensor, unwrap
from numgraph.errors import bad_value, check_name
from numgraph.expressions.expr import check_dtype
from numgraph.expressions.precision import floating, wide, widened
from numgraph.expressions.walk import rows_of
from numgraph.graph import Graph, check_graph
from numgraph.message import update_all
from numgraph.nn.module import check_features

NORMS = ("both", "right", "none")

_derived: WeakKeyDictionary[Graph, dict[Any, Any]] = WeakKeyDictionary()


def once(g: Graph, key: Any, make: Callable[[Graph], Any]) -> Any:
    """``make(g)``, remembered for this graph under ``key``; it must not hold ``g`` itself."""
    known = _derived.setdefault(g, {})
    if key not in known:
        known[key] = make(g)
    return known[key]


def node_features(op: str, g: Graph, x: Any, features: int | None, like: Any, side: str = "both", name: str = "x") -> Any:
    """x as an array, Tensor or sparse matrix [nodes, features], a row for each source ("u"), destination ("v"), or node of the one set.

    features: how many, or None for any number. like: dtype of the parameters, or None where there are none. Integers and booleans take it
    (precision.floating), and floats of fewer bits are widened to it.
    """
    check_graph(op, "the first argument", g)
    if side == "both" and g.is_bipartite:
        problem = f"the graph is bipartite, with {g.num_src} sources and {g.num_dst} destinations"
        raise bad_value(op, problem, "this layer needs one set of nodes: Graph(src, dst, num_nodes)")
    x = floating(check_features(op, x, rows_of(g, "v" if side == "v" else "u"), features, name), like)
    if like is None or x.dtype == like:
        return x
    computed = np.result_type(x.dtype, like)  # also what is summed before it meets the parameters
    return x if x.dtype == computed else x.astype(computed)


def both_sides(op: str, g: Graph, x: Any, in_src: int, in_dst: int, like: Any) -> tuple[Any, Any]:
    """The features of sources and destinations: a pair, or on a graph of one set of nodes also one array, which is both."""
    check_graph(op, "the first argument", g)
    if isinstance(x, tuple):
        if len(x) != 2:
            raise bad_value(op, f"x is a tuple of {len(x)}", "a pair has the features of the sources and of the destinations")
        return node_features(op, g, x[0], in_src, like, "u", "x[0]"), node_features(op, g, x[1], in_dst, like, "v", "x[1]")
    if g.is_bipartite:
        problem = f"the graph is bipartite, with {g.num_src} sources and {g.num_dst} destinations, and x is one array"
        raise bad_value(op, problem, "pass a pair of features, (x_src, x_dst)")
    x = node_features(op, g, x, in_src, like)
    return x, x if in_src == in_dst else node_features(op, g, x, in_dst, like)


def with_self_loops(g: Graph, edge_weight: Any = None, op: str = "self loops") -> tuple[Graph, Any]:
    """The graph with an edge v → v for every node that has none, and its edge weights: 1 for the new edges, whose ids come last."""
    if g.is_bipartite:
        problem = f"the graph is bipartite, with {g.num_src} sources and {g.num_dst} destinations, which have no self loops"
        raise bad_value(op, problem, f"make the layer as {op}(…, add_self_loops=False)")
    looped = once(g, "self loops", _add_missing_loops) or g
    added = looped.num_edges - g.num_edges
    if edge_weight is not None and added:
        ones = np.ones_like(edge_weight, shape=(added, *edge_weight.shape[1:]))
        edge_weight = np.concatenate([edge_weight, ones])
    return looped, edge_weight


def _add_missing_loops(g: Graph) -> Graph | None:
    """None where every node has one already."""
    if g.device != "cpu":
        looped = once(g.to("cpu"), "self loops", _add_missing_loops)
        return looped and looped.to(g.device)
    src, dst = g.src, g.dst
    lacking = np.ones(g.num_nodes, bool)
    lacking[src[src == dst]] = False
    loops = np.flatnonzero(lacking)
    if len(loops) == 0:
        return None
    if len(loops) == g.num_nodes:
        return g.add_self_loops()
    return Graph(np.concatenate([src, loops]), np.concatenate([dst, loops]), g.num_nodes)


def check_norm(op: str, norm: str) -> str:
    check_name(op, "norm", norm, NORMS)
    return norm


def column(op: str, g: Graph, edge_weight: Any, like: Any) -> Any:
    """Edge weights as [num_edges, 1], integers and booleans in ``like``, the dtype of what they scale."""
    weight = edge_weight if isinstance(edge_weight, Tensor) else as_array(op, "edge_weight", edge_weight)
    weight = weight if hasattr(edge_weight, "shape") else moved(weight, g.device)
    check_dtype(op, "edge_weight", weight.dtype)
    if tuple(weight.shape) not in ((g.num_edges,), (g.num_edges, 1)):
        raise bad_value(op, f"edge_weight has shape {list(weight.shape)}", f"one weight an edge: [{g.num_edges}]")
    return floating(weight, like).reshape(g.num_edges, 1)


def edge_features(op: str, g: Graph, w: Any, features: int, like: Any, name: str = "w") -> Any:
    """w as an array or Tensor [num_edges, features], or [num_edges, 1] where each edge has one number for all features."""
    w = w if isinstance(w, Tensor) else as_array(op, name, w)
    check_dtype(op, name, w.dtype)
    if tuple(w.shape) not in ((g.num_edges,), (g.num_edges, 1), (g.num_edges, features)):
        raise bad_value(op, f"{name} has shape {list(w.shape)}", f"graph and x need [{g.num_edges}, {features}] or [{g.num_edges}, 1]")
    w = floating(w, like)
    return w if w.ndim == 2 else w.reshape(g.num_edges, 1)


def degree_scales(g: Graph, norm: str, edge_weight: Any, dtype: Any) -> tuple[Any, Any]:
    """Factors of the sources [num_src, 1] and of the destinations [num_dst, 1]; None is 1. A node without edges gets 0.

    both: out-degree^-½ and in-degree^-½; right: 1 and in-degree^-1; none: 1 and 1. With weights [num_edges, 1] a degree is the sum of
    the weights, and has their gradient; the root of a negative one is NaN. Scales of half precision are float32, as a degree may be beyond
    float16.
    """
    if norm == "none":
        return None, None
    dtype = wide(dtype)
    if edge_weight is None:
        return once(g, (norm, np.dtype(dtype)), lambda g: _constant_scales(g, norm, dtype))
    edge_weight = widened(edge_weight)
    into = update_all(g, lambda e: e.w, "sum", e={"w": edge_weight})
    if norm == "right":
        return None, _inverse(into, 1)
    return _inverse(update_all(g.reverse(), lambda e: e.w, "sum", e={"w": edge_weight}), 0.5), _inverse(into, 0.5)


def _constant_scales(g: Graph, norm: str, dtype: Any) -> tuple[Any, Any]:
    into = g.in_degrees().astype(np.float64)[:, None]
    if norm == "right":
        return None, _frozen(_inverse(into, 1).astype(dtype))
    return _frozen(_inverse(g.out_degrees().astype(np.float64)[:, None], 0.5).astype(dtype)), _frozen(_inverse(into, 0.5).astype(dtype))


def _frozen(scales: Any) -> Any:
    """Read-only, so that tapes need not look whether they have changed."""
    if isinstance(scales, np.ndarray):
        scales.flags.writeable = False
    return scales


def _inverse(degree: Any, power: float) -> Any:
    """degree^-power, 0 where the degree is 0; NaN where it is NaN, or negative under a root."""
    some = unwrap(degree) != 0
    safe = np.where(some, degree, 1)
    with np.errstate(invalid="ignore"):
        return np.where(some, 1 / (safe if power == 1 else np.sqrt(safe)), 0)
