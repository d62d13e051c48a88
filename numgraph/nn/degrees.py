"""What GCN divides by: scales of nodes by their degrees, of whole graphs, sampled blocks and what processes
share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.arrays.devices import moved
from numgraph.autodiff.tape import unwrap
from numgraph.errors import bad_value
from numgraph.expressions.precision import wide, widened
from numgraph.graph import Block, Graph, Shard
from numgraph.message import update_all
from numgraph.nn.graphs import once, weights_of_origin


def degree_scales(g: Graph, norm: str, edge_weight: Any, dtype: Any) -> tuple[Any, Any]:
    """Factors of the sources [num_src, 1] and of the destinations [num_dst, 1]; None is 1. A node without
    edges gets 0.

    both: out-degree^-½ and in-degree^-½; in: in-degree^-½ of both; right: 1 and in-degree^-1; none: 1 and 1.
    With weights [num_edges, 1] a degree is the sum of the weights, and has their gradient; the root of a
    negative one is NaN. Scales of half precision are float32, as a degree may be beyond float16.
    """
    if norm == "none":
        return None, None
    if isinstance(g, Shard):
        return _shard_scales(g, norm, edge_weight, wide(dtype))
    if isinstance(g, Block):
        return _block_scales(g, norm, edge_weight is not None, dtype)
    if norm == "in" and g.is_bipartite:
        problem = f"norm is 'in' and the graph is bipartite, with {g.num_src} sources, which have no in-edges"
        raise bad_value("GCNConv", problem, "choose norm 'both', 'right' or 'none'")
    dtype = wide(dtype)
    if edge_weight is None:
        found: tuple[Any, Any] = once(g, (norm, np.dtype(dtype)), lambda g: _constant_scales(g, norm, dtype))
        return found
    edge_weight = widened(edge_weight)
    into = update_all(g, lambda e: e.w, "sum", e={"w": edge_weight})
    if norm == "right":
        return None, _inverse(into, 1)
    if norm == "in":
        return (scale := _inverse(into, 0.5)), scale
    return _inverse(update_all(g.reverse(), lambda e: e.w, "sum", e={"w": edge_weight}), 0.5), _inverse(
        into, 0.5
    )


def _block_scales(g: Block, norm: str, weighted: bool, dtype: Any) -> tuple[Any, Any]:
    """Those of the whole graph, for the block's nodes."""
    if g.origin.left_out is not None:
        return _scales_without(g, norm, weighted, wide(dtype))
    origin, key = g.origin, ("scales", norm, weighted, np.dtype(wide(dtype)))
    found = origin.kept.get(key)
    if found is None:
        weight = (
            moved(weights_of_origin("GCNConv", g).astype(dtype).reshape(-1, 1), origin.graph.device)
            if weighted
            else None
        )
        made = degree_scales(origin.graph, norm, weight, dtype)
        found = origin.kept[key] = tuple(
            None if scale is None else moved(unwrap(scale), "cpu") for scale in made
        )
    sides = zip(found, (g.nodes, g.nodes[: g.num_dst]))
    scale_src, scale_dst = (
        None if scale is None else moved(_frozen(scale[ids]), g.device) for scale, ids in sides
    )
    return scale_src, scale_dst


def _scales_without(g: Block, norm: str, weighted: bool, dtype: Any) -> tuple[Any, Any]:
    """Those of the graph without the edges that are left out: with them the degrees would tell which were."""

    def scale(side: str, nodes: np.ndarray, power: float) -> Any:
        key = ("degrees", side, weighted)
        degrees = g.origin.kept.get(key)
        if degrees is None:
            whole = g.origin.graph
            ends = whole.src if side == "src" else whole.dst
            weights = weights_of_origin("GCNConv", g) if weighted else None
            degrees = g.origin.kept[key] = np.bincount(ends, weights, whole.num_nodes).astype(np.float64)
        assert g.origin.left_out is not None
        src, dst, lost = g.origin.left_out
        known, place = np.unique(src if side == "src" else dst, return_inverse=True)
        less = np.zeros(len(known) + 1)
        less[: len(known)] = np.bincount(place, lost if weighted else None, len(known))
        at = np.searchsorted(known, nodes)
        found = at < len(known)
        found[found] = known[at[found]] == nodes[found]
        left = degrees[nodes] - less[np.where(found, at, len(known))]
        left[np.abs(left) < 1e-9 * np.abs(degrees[nodes])] = (
            0  # sums of weights whose rounding is all that is left
        )
        return moved(_frozen(_inverse(left[:, None], power).astype(dtype)), g.device)

    into = g.nodes[: g.num_dst]
    if norm == "right":
        return None, scale("dst", into, 1)
    return scale("dst" if norm == "in" else "src", g.nodes, 0.5), scale("dst", into, 0.5)


def _shard_scales(g: Shard, norm: str, edge_weight: Any, dtype: Any) -> tuple[Any, Any]:
    """Out-degrees are sums over the processes that have a node's out-edges; factors of ghosts come from their
    owners.
    """
    if edge_weight is not None:
        return _scales_of_owned(
            g, norm, lambda of: update_all(of, lambda e: e.w, "sum", e={"w": widened(edge_weight)})
        )
    made = once(
        g,
        (norm, np.dtype(dtype)),
        lambda g: _scales_of_owned(g, norm, lambda of: of.in_degrees().astype(np.float64)[:, None]),
    )
    scale_src, scale_dst = (None if scale is None else _frozen(scale.astype(dtype)) for scale in made)
    return scale_src, scale_dst


def _scales_of_owned(g: Any, norm: str, degrees: Callable[[Graph], Any]) -> tuple[Any, Any]:
    into = degrees(g)
    if norm == "right":
        return None, _inverse(into, 1)
    scale_dst = _inverse(into, 0.5)
    return g.spread.exchange(
        scale_dst if norm == "in" else _inverse(g.spread.collect(degrees(g.reverse())), 0.5)
    ), scale_dst


def _constant_scales(g: Graph, norm: str, dtype: Any) -> tuple[Any, Any]:
    into = g.in_degrees().astype(np.float64)[:, None]
    if norm == "right":
        return None, _frozen(_inverse(into, 1).astype(dtype))
    if norm == "in":
        return (scale := _frozen(_inverse(into, 0.5).astype(dtype))), scale
    return _frozen(_inverse(g.out_degrees().astype(np.float64)[:, None], 0.5).astype(dtype)), _frozen(
        _inverse(into, 0.5).astype(dtype)
    )


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
