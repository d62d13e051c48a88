"""Graph convolution with PyG's conventions."""

from __future__ import annotations

from typing import Any

import torch

from numgraph.errors import bad_value, check_name
from numgraph.graph import Graph
from numgraph.message import update_all
from numgraph.nn.graphs import once
from numgraph.torch.nn.graphs import REDUCES, arranged, looped, sides
from numgraph.torch.nn.linear import extra_repr, linear

_plain = lambda u: u.x
_weighted = lambda u, e: u.x * e.w
_scaled = lambda u, v: u.x * (u.scale * v.scale)
_scaled_weighted = lambda u, v, e: u.x * (u.scale * e.w * v.scale)


class GCNConv(torch.nn.Module):
    """z_v = Σ_{u → v} w_uv / √(d_u d_v) · W x_u + b with in-degrees d_v = Σ_{u → v} w_uv at both ends, as PyG's ``GCNConv``
    (Kipf and Welling, ICLR 2017).

    Self loops are collapsed into one for each node, which has the weight of the node's last one, or 1 where there was none (2 with
    ``improved``, which as in PyG acts on weighted graphs only). A node without in-edges has the scale 0.

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
    Called as ``conv(g, x, edge_weight)`` or ``conv(x, edge_index, edge_weight)``: x [num_nodes, in_channels], edge_weight [num_edges] or
    None. Returns [num_nodes, out_channels]. Where a node has several loops only the last one's weight has a gradient (PyG gives the others
    the same, though they play no part).

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
        self.in_channels, self.out_channels, self.improved, self.cached = in_channels, out_channels, improved, cached
        self.normalize, self.aggr = normalize, aggr
        self.add_self_loops = normalize if add_self_loops is None else add_self_loops
        if self.add_self_loops and not normalize:
            raise bad_value("GCNConv", "add_self_loops is True without normalize", "leave it out, or add loops to the graph")
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
        raise bad_value("GCNConv", "x is no tensor", "this layer has one set of nodes: give x [num_nodes, in_channels]")
    kept = layer.__dict__.get("_kept_graph")
    if kept is None or not layer.normalize:
        _, _, g = sides("GCNConv", x, edges, None)
        kept = _normalised(layer, g, x, edge_weight) if layer.normalize else (g, None, edge_weight)
        if layer.cached and layer.normalize:
            layer.__dict__["_kept_graph"] = kept
    g, scale, weight = kept
    h = layer.lin(x)
    u, v, e = {"x": h}, {}, {}
    if scale is not None:
        u["scale"] = v["scale"] = scale
    if weight is not None:
        e["w"] = weight.reshape(-1, 1)
    message: Any = {(0, 0): _plain, (0, 1): _weighted, (1, 0): _scaled, (1, 1): _scaled_weighted}[len(v), len(e)]
    z = update_all(g, message, REDUCES[layer.aggr], u=u, v=v, e=e)
    dtype = h.dtype if weight is None else torch.promote_types(h.dtype, weight.dtype)
    z = z.to(dtype)
    return z if layer.bias is None else z + layer.bias


def _normalised(layer: Any, g: Graph, x: torch.Tensor, weight: torch.Tensor | None) -> tuple[Graph, torch.Tensor, torch.Tensor | None]:
    """The graph with self loops, the degrees' scales [num_nodes, 1] and the edges' weights."""
    if g.is_bipartite:
        problem = f"the graph is bipartite, with {g.num_src} sources and {g.num_dst} destinations"
        raise bad_value("GCNConv", problem, "this layer has one set of nodes: Graph(src, dst, num_nodes)")
    if weight is not None:
        if weight.shape not in ((g.num_edges,), (g.num_edges, 1)):
            raise bad_value("GCNConv", f"edge_weight has shape {list(weight.shape)}", f"one weight an edge: [{g.num_edges}]")
        weight = weight.reshape(-1)
    if layer.add_self_loops:
        g, ids, _ = looped(g)
        if weight is not None:
            weight = torch.cat([weight, weight.new_full((1,), 2.0 if layer.improved else 1.0)])[ids]
    if weight is None:
        dtype = torch.promote_types(x.dtype, torch.float32)
        return g, once(g, ("scale of PyG", dtype), lambda g: _constant_scale(g, dtype)), None
    degrees = update_all(g, lambda e: e.w, "sum", e={"w": weight.to(torch.promote_types(weight.dtype, torch.float32))})
    return g, _scale(degrees, degrees.dtype), weight


def _constant_scale(g: Graph, dtype: torch.dtype) -> torch.Tensor:
    return _scale(torch.from_numpy(g.to("cpu").in_degrees()), dtype).to(g.device)


def _scale(degrees: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """1 / √degree as a column, 0 where the degree is 0, NaN where it is negative."""
    empty = degrees == 0
    return torch.where(empty, 0, torch.where(empty, 1, degrees).to(torch.promote_types(dtype, torch.float32)).rsqrt()).to(dtype)[:, None]
