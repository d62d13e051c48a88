"""Aggregations of messages by name, several of them beside each other: what a layer's ``aggr`` may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from numgraph.arrays.devices import device_of, moved
from numgraph.autodiff.tape import unwrap
from numgraph.dense import gather
from numgraph.errors import bad_type, bad_value, check_name, shown
from numgraph.expressions.precision import widened
from numgraph.graph import Graph
from numgraph.message import apply_edges, update_all

AGGREGATIONS = ("sum", "mean", "max", "min", "prod", "var", "std", "softmax", "median")


def check_aggregations(
    op: str, what: str, names: Any, known: Sequence[str] = AGGREGATIONS
) -> tuple[str, ...]:
    """The names of one aggregation, or of several."""
    names = (names,) if isinstance(names, str) else names
    if not isinstance(names, list | tuple):
        raise bad_type(
            op, f"{what} is {shown(names)}", f"give a name or a list of names, of {', '.join(known)}"
        )
    if not names:
        raise bad_value(op, f"there is no {what}", f"choose from {', '.join(known)}")
    for name in names:
        check_name(op, what, name, known)
    return tuple(names)


def aggregate(
    g: Graph,
    message: Callable[..., Any],
    names: Sequence[str],
    *,
    u: Mapping[str, Any] | None = None,
    v: Mapping[str, Any] | None = None,
    e: Mapping[str, Any] | None = None,
) -> list[Any]:
    """⊕ message(u, v, e) over the in-edges of every node for each named ⊕, [num_dst, features] each; 0 (prod:
    1) without in-edges.

    All are made by one walk, but a median, the lower one of each feature: its messages are made, [num_edges,
    features], and sorted."""
    walked = tuple(dict.fromkeys(name for name in names if name != "median"))
    found: dict[str, Any] = {}
    if len(walked) > 1:
        found.update(zip(walked, update_all(g, message, walked, u=u, v=v, e=e)))
    elif walked:
        found[walked[0]] = update_all(g, message, walked[0], u=u, v=v, e=e)
    if "median" in names:
        found["median"] = _median(g, apply_edges(g, message, u=u, v=v, e=e))
    return [found[name] for name in names]


def joined(parts: Sequence[Any]) -> Any:
    """[nodes, features] each → [nodes, parts · features]."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, 1)


def _median(g: Graph, m: Any) -> Any:
    """The lower median of each feature of the messages [num_edges, features] of every node, whose edge takes
    the gradient; NaN is one.
    """
    edges, width = m.shape
    rows, there = g.in_edges.host, device_of(unwrap(m))
    degrees = np.diff(rows.indptr)
    nodes = np.flatnonzero(degrees)
    into, last = np.repeat(np.arange(g.num_dst), degrees), rows.indptr[1:][nodes] - 1
    middle = rows.indptr[:-1][nodes] + (degrees[nodes] - 1) // 2
    values = moved(unwrap(widened(m)), "cpu")[rows.edge_ids]
    chosen = np.zeros((g.num_dst, width), np.int64)
    for k in range(width if len(nodes) else 0):
        order = np.lexsort((values[:, k], into))  # NaN comes last
        place = np.where(np.isnan(values[order[last], k]), last, middle)
        chosen[nodes, k] = rows.edge_ids[order[place]] * width + k
    if not len(nodes):
        return np.zeros_like(m, shape=(g.num_dst, width))
    picked = gather(m.reshape(edges * width), moved(chosen.ravel(), there)).reshape(g.num_dst, width)
    return np.where(moved((degrees > 0)[:, None], there), picked, 0)
