"""Graph attention, GAT and GATv2, with PyG's conventions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from numgraph.arrays.traced import TRACED, is_traced
from numgraph.errors import bad_value, check_name
from numgraph.expressions.elementary import leaky_relu
from numgraph.graph import Graph
from numgraph.message import apply_edges, attend, update_all
from numgraph.ops import edge_softmax
from numgraph.torch.nn.graphs import REDUCES, arranged, check_features, looped, rows, sides, without_loops
from numgraph.torch.nn.linear import Linear, extra_repr, glorot, linear, pair_of

Fields = dict[str, torch.Tensor]


class _Attention(torch.nn.Module):
    """What both have: sizes and options, and the parts that do not depend on how edges are scored."""

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        add_self_loops: bool = True,
        edge_dim: int | None = None,
        fill_value: float | torch.Tensor | str = "mean",
        bias: bool = True,
        residual: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= dropout <= 1:
            raise bad_value(
                type(self).__name__, f"dropout is {dropout}", "it is a probability, 0 ≤ dropout ≤ 1"
            )
        if isinstance(fill_value, str):
            check_name(type(self).__name__, "fill_value", fill_value, REDUCES)
        self.in_channels, self.out_channels, self.heads, self.concat = (
            in_channels,
            out_channels,
            heads,
            concat,
        )
        self.negative_slope, self.dropout, self.add_self_loops = negative_slope, dropout, add_self_loops
        self.edge_dim, self.fill_value, self.residual = edge_dim, fill_value, residual
        self._maps(*pair_of(type(self).__name__, in_channels), heads * out_channels, bias)
        self.lin_edge = (
            None if edge_dim is None else linear(edge_dim, heads * out_channels, bias=False, glorot=True)
        )
        total = heads * out_channels if concat else out_channels
        in_dst = pair_of(type(self).__name__, in_channels)[1]
        self.res = linear(in_dst, total, bias=False, glorot=True) if residual else None
        self.bias = torch.nn.Parameter(torch.empty(total)) if bias else None
        self.reset_parameters()

    def _maps(self, in_src: int, in_dst: int, width: int, bias: bool) -> None:
        """The maps of sources and destinations, and the vectors of attention."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """New random weights."""
        for inner in self.children():
            inner.reset_parameters()  # type: ignore[operator]
        for name, parameter in self.named_parameters(recurse=False):
            if name == "bias":
                torch.nn.init.zeros_(parameter)
            else:
                glorot(parameter)

    def extra_repr(self) -> str:
        return extra_repr(self, "heads")


class GATConv(_Attention):
    """z_v = Σ_{u → v} α_uv h_u + b with h = W x and α_uv = softmax_v(leaky_relu(a_src · h_u + a_dst · h_v +
    a_edge · W_edge w_uv)), head by head, as PyG's ``GATConv`` (Veličković et al., ICLR 2018).

    Self loops are replaced by one for each node.

    Parameters
    ----------
    in_channels : width of x, or (of sources, of destinations), which then have a map each;
        −1 is that of the first x
    out_channels : width of each head
    heads : how many there are
    concat : heads stand side by side, else their mean is taken
    negative_slope : of leaky_relu
    dropout : the probability with which each α is dropped while training;
        masks are those that PyG draws from torch's generator
    add_self_loops : else the edges are taken as they are
    edge_dim : width of edge_attr, where there is some
    fill_value : edge_attr of the loops, a number, a tensor, or "mean", "add", "max", "min",
        "mul" of the node's in-edges
    bias : have b
    residual : add W_res x_v

    Notes
    -----
    Called as ``conv(g, x, edge_attr)`` or ``conv(x, edge_index, edge_attr, size)``: x [num_nodes,
    in_channels], or a pair (x_src, x_dst), whose second may be None; edge_attr [num_edges, edge_dim] or None;
    size: (num_src, num_dst) where edges are given as edge_index. Returns [num_dst, heads · out_channels],
    [num_dst, out_channels] for the mean. With ``return_attention_weights=True`` that and (edge_index, α
    [edges, heads]) of the edges with loops; for a call with a graph edge_index is a Graph.

    Examples
    --------
    >>> import torch, numgraph as ng, numgraph.torch
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> conv = numgraph.torch.nn.GATConv(4, 2, heads=3)
    >>> conv(g, torch.ones(3, 4)).shape
    torch.Size([3, 6])
    """

    def _maps(self, in_src: int, in_dst: int, width: int, bias: bool) -> None:
        self.lin = self.lin_src = self.lin_dst = None
        if isinstance(self.in_channels, int):
            self.lin = linear(in_src, width, bias=False, glorot=True)
        else:
            self.lin_src = linear(in_src, width, bias=False, glorot=True)
            self.lin_dst = linear(in_dst, width, bias=False, glorot=True)
        vector = (1, self.heads, self.out_channels)
        self.att_src, self.att_dst = (
            torch.nn.Parameter(torch.empty(vector)),
            torch.nn.Parameter(torch.empty(vector)),
        )
        self.att_edge = None if self.edge_dim is None else torch.nn.Parameter(torch.empty(vector))

    def forward(
        self,
        x: Any,
        edge_index: Any,
        edge_attr: torch.Tensor | None = None,
        size: tuple[int, int] | None = None,
        return_attention_weights: bool | None = None,
    ) -> Any:
        """The layer; x and edge_index may be a graph and x."""
        return attention(self, x, edge_index, edge_attr, size, return_attention_weights)


class GATv2Conv(_Attention):
    """z_v = Σ_{u → v} α_uv h_u + b with h = W_l x + b_l, t = W_r x + b_r and α_uv = softmax_v(a ·
    leaky_relu(h_u + t_v + W_edge w_uv)), head by head, as PyG's ``GATv2Conv`` (Brody, Alon and Yahav, ICLR
    2022).

    Options, calls and shapes are GATConv's, without ``size``, and with one more:

    Parameters
    ----------
    share_weights : W_r, b_r are W_l, b_l

    Examples
    --------
    >>> import torch, numgraph as ng, numgraph.torch
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> conv = numgraph.torch.nn.GATv2Conv(4, 2, heads=3, concat=False)
    >>> conv(g, torch.ones(3, 4)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        add_self_loops: bool = True,
        edge_dim: int | None = None,
        fill_value: float | torch.Tensor | str = "mean",
        bias: bool = True,
        share_weights: bool = False,
        residual: bool = False,
    ) -> None:
        self.share_weights = share_weights
        options = (
            in_channels,
            out_channels,
            heads,
            concat,
            negative_slope,
            dropout,
            add_self_loops,
            edge_dim,
            fill_value,
            bias,
            residual,
        )
        super().__init__(*options)

    def _maps(self, in_src: int, in_dst: int, width: int, bias: bool) -> None:
        self.lin_l = linear(in_src, width, bias=bias, glorot=True)
        self.lin_r = self.lin_l if self.share_weights else linear(in_dst, width, bias=bias, glorot=True)
        self.att = torch.nn.Parameter(torch.empty(1, self.heads, self.out_channels))

    def forward(
        self,
        x: Any,
        edge_index: Any,
        edge_attr: torch.Tensor | None = None,
        return_attention_weights: bool | None = None,
    ) -> Any:
        """The layer; x and edge_index may be a graph and x."""
        return attention_v2(self, x, edge_index, edge_attr, return_attention_weights)


def attention(
    layer: Any, x: Any, edge_index: Any, edge_attr: torch.Tensor | None, size: Any, weights: bool | None
) -> Any:
    """What GATConv computes, of any module with its attributes."""
    x, edges = arranged(x, edge_index)
    x_src, x_dst, g = sides("GATConv", x, edges, size)
    check_features("GATConv", layer.in_channels, x_src, x_dst)
    of_src, of_dst = (layer.lin, layer.lin) if layer.lin is not None else (layer.lin_src, layer.lin_dst)
    h = _by_head(layer, of_src(x_src))
    u, v, e = {"h": h}, {}, {}
    if x_dst is x_src and of_dst is of_src:
        u["l"], v["r"] = _dots(h, layer.att_src, layer.att_dst)
    else:
        (u["l"],) = _dots(h, layer.att_src)
        if x_dst is not None:
            (v["r"],) = _dots(_by_head(layer, of_dst(x_dst)), layer.att_dst)
    if edge_attr is not None and layer.lin_edge is not None:
        e["w"] = _edge_dots(layer, _looped_attr(layer, g, edge_attr))
    return _output(layer, "GAT", g, u, v, e, x_dst, edges if weights else None)


def attention_v2(
    layer: Any, x: Any, edge_index: Any, edge_attr: torch.Tensor | None, weights: bool | None
) -> Any:
    """What GATv2Conv computes, of any module with its attributes."""
    x, edges = arranged(x, edge_index)
    x_src, x_dst, g = sides("GATv2Conv", x, edges, None)
    if x_dst is None:
        raise bad_value(
            "GATv2Conv", "x has no features of destinations", "give a pair of tensors, (x_src, x_dst), or one"
        )
    check_features("GATv2Conv", layer.in_channels, x_src, x_dst)
    h = _by_head(layer, layer.lin_l(x_src))
    t = h if layer.share_weights and x_dst is x_src else _by_head(layer, layer.lin_r(x_dst))
    u, v, e = {"h": h}, {"t": t, "a": layer.att[0]}, {}
    if edge_attr is not None:
        if layer.lin_edge is None:
            raise bad_value(
                "GATv2Conv", "edge_attr is given and the layer has no edge_dim", "make it with edge_dim"
            )
        e["w"] = _by_head(layer, layer.lin_edge(_looped_attr(layer, g, edge_attr)))
    return _output(layer, "GATv2", g, u, v, e, x_dst, edges if weights else None)


def _score(kind: str, slope: float, v: Fields, e: Fields) -> tuple[Any, Fields]:
    """The score of an edge, and the fields of destinations that it reads."""
    if kind == "GATv2":
        a = v["a"]
        v = {"t": v["t"]}
        if e:
            return lambda u, v, e: (leaky_relu(u.h + v.t + e.w, slope) * a).sum(-1, keepdims=True), v
        return lambda u, v: (leaky_relu(u.h + v.t, slope) * a).sum(-1, keepdims=True), v
    if v:
        return (lambda u, v, e: leaky_relu(u.l + v.r + e.w, slope)) if e else (
            lambda u, v: leaky_relu(u.l + v.r, slope)
        ), v
    return (lambda u, e: leaky_relu(u.l + e.w, slope)) if e else (lambda u: leaky_relu(u.l, slope)), v


def _by_head(layer: Any, x: torch.Tensor) -> torch.Tensor:
    return x.view(-1, layer.heads, layer.out_channels)


def _columns(edge_attr: torch.Tensor) -> torch.Tensor:
    return edge_attr.view(-1, 1) if edge_attr.dim() == 1 else edge_attr


def _dots(h: torch.Tensor, *vectors: torch.Tensor) -> list[torch.Tensor]:
    """⟨h[n, k], a[k]⟩ of every node n and head k for each of the vectors a [1, heads, width]: [nodes, heads,
    1] each.

    One product with a block-diagonal matrix that holds the vectors: nothing as large as h is made.
    """
    _, heads, width = h.shape
    stacked = torch.cat(vectors)  # [vectors, heads, width]
    if heads == 1:
        blocks = stacked[:, 0].transpose(0, 1)
    else:
        blocks = (
            torch.diag_embed(stacked.permute(2, 0, 1))
            .permute(2, 0, 1, 3)
            .reshape(heads * width, len(vectors) * heads)
        )
    dots = h.reshape(-1, heads * width) @ blocks.to(h.dtype)
    return [part.unsqueeze(-1) for part in dots.split(heads, dim=1)]


def _edge_dots(layer: Any, edge_attr: torch.Tensor) -> torch.Tensor:
    """a_edge · W_edge w of every edge and head, [num_edges, heads, 1]; without W_edge w where that is known
    to be a plain product.
    """
    lin = layer.lin_edge
    if (
        type(lin).__name__ != Linear.__name__
        or lin._forward_hooks
        or lin._forward_pre_hooks
        or lin._backward_hooks
    ):
        return _dots(_by_head(layer, lin(edge_attr)), layer.att_edge)[0]
    folded = (lin.weight.view(layer.heads, layer.out_channels, -1) * layer.att_edge[0].unsqueeze(-1)).sum(1)
    return torch.nn.functional.linear(edge_attr, folded).unsqueeze(-1)


def _looped_attr(layer: Any, g: Graph, edge_attr: torch.Tensor) -> torch.Tensor:
    """Features of the edges that are attended over, as rows."""
    edge_attr = _columns(edge_attr)
    return _with_loops(g, layer.fill_value, e={"w": edge_attr}) if layer.add_self_loops else edge_attr


def _with_loops(g: Graph, fill: float | torch.Tensor | str | None, *, e: Fields) -> torch.Tensor:
    """Features of the edges of the graph with loops: fill, or what it makes of a node's in-edges, stands at
    the loops.
    """
    if is_traced():
        return TRACED["torch"](_with_loops, (g, fill), {"e": e})
    _, ids, num_kept = looped(g)
    edge_attr, num_loops = e["w"], len(ids) - num_kept
    kept = rows(edge_attr, ids[:num_kept])
    if isinstance(fill, str):
        return torch.cat(
            [kept, update_all(without_loops(g), lambda e: e.w, REDUCES[fill], e={"w": kept})[:num_loops]]
        )
    if isinstance(fill, torch.Tensor):
        loops = fill.to(edge_attr).expand(num_loops, *edge_attr.shape[1:])
    else:
        loops = edge_attr.new_full((num_loops, *edge_attr.shape[1:]), 1.0 if fill is None else fill)
    return torch.cat([kept, loops])


def _output(
    layer: Any, kind: str, g: Graph, u: Fields, v: Fields, e: Fields, x_dst: torch.Tensor | None, edges: Any
) -> Any:
    """The result; with the weights of attention where ``edges``, a graph or an edge_index, is not None."""
    p = layer.dropout if layer.training else 0.0
    z, alpha = _attended(
        kind, g, layer.add_self_loops, layer.negative_slope, p, edges is not None, u=u, v=v, e=e
    )
    z = z.flatten(1) if layer.concat else z.mean(dim=1)
    if layer.res is not None and x_dst is not None:
        z = z + layer.res(x_dst)
    if layer.bias is not None:
        z = z + layer.bias
    if edges is None:
        return z
    g = looped(g).graph if layer.add_self_loops else g
    ends = (
        g
        if isinstance(edges, Graph)
        else torch.from_numpy(np.stack([g.to("cpu").src, g.to("cpu").dst])).to(edges)
    )
    return z, (ends, alpha)


def _attended(
    kind: str,
    g: Graph,
    loops: bool,
    slope: float,
    p: float,
    weights: bool,
    *,
    u: Fields,
    v: Fields,
    e: Fields,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Σ α h by head, [num_dst, heads, features], each α dropped with probability p; and the weights α, if
    they are asked for.
    """
    if is_traced():
        return TRACED["torch"](_attended, (kind, g, loops, slope, p, weights), {"u": u, "v": v, "e": e})
    score, v = _score(kind, slope, v, e)
    g = looped(g).graph if loops else g
    h, alpha = u["h"], None
    if weights:
        alpha = edge_softmax(g, apply_edges(g, score, u=u, v=v, e=e)).to(h.dtype)
        alpha = torch.nn.functional.dropout(alpha, p)
        z = update_all(g, lambda u, e: u.h * e.alpha, "sum", u={"h": h}, e={"alpha": alpha})
        alpha = alpha.squeeze(-1)
    elif p:
        # what torch's dropout draws for the weights of attention, by the same edges in the same order
        kept = torch.empty((g.num_edges, h.shape[1], 1), dtype=torch.bool, device=h.device).bernoulli_(1 - p)
        scale = 0.0 if p == 1 else 1 / (1 - p)
        z = attend(g, score, lambda u, e: np.where(e.kept, u.h * scale, 0), u=u, v=v, e={**e, "kept": kept})
    else:
        z = attend(g, score, lambda u: u.h, u=u, v=v, e=e)
    return z.to(h.dtype), alpha  # scores of bfloat16 are float32
