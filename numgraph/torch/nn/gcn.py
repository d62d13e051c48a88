"""Graph convolution with PyG's conventions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from numgraph.arrays.traced import TRACED, is_traced
from numgraph.errors import bad_value, check_name
from numgraph.graph import Graph
from numgraph.message import update_all
from numgraph.nn.graphs import once
from numgraph.torch.nn.graphs import REDUCES, arranged, check_features, looped, rows, sides
from numgraph.torch.nn.linear import extra_repr, linear

_plain = lambda u: u.x
_weighted = lambda u, e: u.x * e.w
_scaled = lambda u, v: u.x * (u.scale * v.scale)
_scaled_weighted = lambda u, v, e: u.x * (u.scale * e.w * v.scale)


class GCNConv(torch.nn.Module):
    """z_v = Σ_{u → v} w_uv / √(d_u d_v) · W x_u + b with in-degrees d_v = Σ_{u → v} w_uv at both ends, as
    PyG's ``GCNConv`` (Kipf and Welling, ICLR 2017).

    Self loops are collapsed into one for each node, which has the weight of the node's last one, or 1 where
    there was none (2 with ``improved``, which as in PyG acts on weighted graphs only). A node without
    in-edges has the scale 0.

    Parameters
    ----------
    in_channels, out_channels : widths of x and of the result; in_channels −1 is that of the first x
    improved : new loops weigh 2 in a weighted graph
    cached : keep the first graph, and its weights, for all later calls
    add_self_loops : by default as ``normalize``
    normalize : scale by degrees; else z_v = Σ w_uv · W x_u
    bias : have b
    aggr : "add", or "mean", "max", "min", "mul"

    Notes
    -----
    Called as ``conv(g, x, edge_weight)`` or ``conv(x, edge_index, edge_weight)``: x [num_nodes, in_channels],
    edge_weight [num_edges] or None. Returns [num_nodes, out_channels]. Where a node has several loops only
    the last one's weight has a gradient (PyG gives the others the same, though they play no part).

    Examples
    --------
    >>> import torch, numgraph as ng, numgraph.torch
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> conv = numgraph.torch.nn.GCNConv(4, 2)
    >>> conv(g, torch.ones(3, 4)).shape
    torch.Size([3, 2])
    >>> conv(torch.ones(3, 4), torch.tensor([[0, 1, 2], [1, 2, 0]])).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        improved: bool = False,
        cached: bool = False,
        add_self_loops: bool | None = None,
        normalize: bool = True,
        bias: bool = True,
        *,
        aggr: str = "add",
    ) -> None:
        super().__init__()
        check_name("GCNConv", "aggr", aggr, REDUCES)
        self.in_channels, self.out_channels, self.improved, self.cached = (
            in_channels,
            out_channels,
            improved,
            cached,
        )
        self.normalize, self.aggr = normalize, aggr
        self.add_self_loops = normalize if add_self_loops is None else add_self_loops
        if self.add_self_loops and not normalize:
            raise bad_value(
                "GCNConv",
                "add_self_loops is True without normalize",
                "leave it out, or add loops to the graph",
            )
        self.lin = linear(in_channels, out_channels, bias=False, glorot=True)
        self.bias = torch.nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New random weights; the graph that was kept is forgotten."""
        self.lin.reset_parameters()  # type: ignore[operator]
        if self.bias is not None:
            torch.nn.init.zeros_(self.bias)
        forget(self)

    def forward(self, x: Any, edge_index: Any, edge_weight: torch.Tensor | None = None) -> torch.Tensor:
        """The convolution; x and edge_index may be a graph and x."""
        return convolution(self, x, edge_index, edge_weight)

    def extra_repr(self) -> str:
        return extra_repr(self)


def forget(layer: Any) -> None:
    """No graph is kept by ``cached``."""
    layer.__dict__.pop("_kept_graph", None)


def convolution(layer: Any, x: Any, edge_index: Any, edge_weight: torch.Tensor | None) -> torch.Tensor:
    """What GCNConv computes, of any module with its attributes."""
    x, edges = arranged(x, edge_index)
    if not isinstance(x, torch.Tensor):
        raise bad_value(
            "GCNConv",
            "x is no tensor",
            "this layer has one set of nodes: give x [num_nodes, in_channels], a tensor "
            "(torch.from_numpy(x))",
        )
    kept = layer.__dict__.get("_kept_graph") if layer.cached and layer.normalize else None
    check_features("GCNConv", layer.in_channels, x, None)
    if kept is None:
        kept = sides("GCNConv", (x, None), edges, None)[2], edge_weight
        if layer.cached and layer.normalize:
            layer.__dict__["_kept_graph"] = kept
    g, weight = kept
    fill = (2.0 if layer.improved else 1.0) if layer.add_self_loops else None
    z = _convolved(g, REDUCES[layer.aggr], layer.normalize, fill, e={"h": layer.lin(x), "w": weight})
    return z if layer.bias is None else z + layer.bias


def _convolved(
    g: Graph, reduce: str, normalize: bool, fill: float | None, *, e: dict[str, Any]
) -> torch.Tensor:
    """The messages of h [num_nodes, features], reduced; w: a weight an edge, or None. fill: the weight of new
    loops, None for no loops.
    """
    if is_traced():
        return TRACED["torch"](_convolved, (g, reduce, normalize, fill), {"e": e})
    h, weight = e["h"], e["w"]
    if g.is_bipartite and normalize:
        problem = f"the graph is bipartite, with {g.num_src} sources and {g.num_dst} destinations"
        raise bad_value("GCNConv", problem, "this layer has one set of nodes: Graph(src, dst, num_nodes)")
    if weight is not None:
        if weight.shape not in ((g.num_edges,), (g.num_edges, 1)):
            raise bad_value(
                "GCNConv",
                f"edge_weight has shape {list(weight.shape)}",
                f"one weight an edge: [{g.num_edges}]",
            )
        weight = weight.reshape(-1, 1)
    if normalize and fill is not None:
        g, ids, _ = looped(g)
        weight = None if weight is None else rows(torch.cat([weight, weight.new_full((1, 1), fill)]), ids)
    u, v = {"x": h}, {}
    if normalize:
        u["scale"] = v["scale"] = _degree_scale(g, weight, torch.promote_types(h.dtype, torch.float32))
    message: Any = {(0, 0): _plain, (0, 1): _weighted, (1, 0): _scaled, (1, 1): _scaled_weighted}[
        len(v), int(weight is not None)
    ]
    z = update_all(g, message, reduce, u=u, v=v, e=None if weight is None else {"w": weight})
    return z.to(h.dtype if weight is None else torch.promote_types(h.dtype, weight.dtype))


def _degree_scale(g: Graph, weight: torch.Tensor | None, dtype: torch.dtype) -> Any:
    """1 / √degree of every node [num_nodes, 1], 0 where the degree is 0, NaN where it is negative; an array
    where it is the same always.
    """
    if weight is None:
        return once(
            g,
            ("scale of PyG", dtype),
            lambda g: _constant_scale(g, np.float64 if dtype is torch.float64 else np.float32),
        )
    degrees = update_all(
        g, lambda e: e.w, "sum", e={"w": weight.to(torch.promote_types(weight.dtype, torch.float32))}
    )
    empty = degrees == 0
    return torch.where(empty, 0, torch.where(empty, 1, degrees).rsqrt())


def _constant_scale(g: Graph, dtype: Any) -> Any:
    degrees = g.in_degrees().astype(np.float64)[:, None]
    return np.where(degrees > 0, 1 / np.sqrt(np.maximum(degrees, 1)), 0).astype(dtype)
