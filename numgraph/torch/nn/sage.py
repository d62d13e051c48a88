"""GraphSAGE with PyG's conventions."""

from __future__ import annotations

from typing import Any

import torch

from numgraph.errors import bad_value, check_name
from numgraph.message import update_all
from numgraph.torch.nn.graphs import REDUCES, arranged, check_features, sides
from numgraph.torch.nn.linear import extra_repr, linear, pair_of

_copy = lambda u: u.x


class SAGEConv(torch.nn.Module):
    """z_v = W_l · mean_{u → v} x_u + b + W_r x_v, as PyG's ``SAGEConv`` (Hamilton, Ying and Leskovec, NeurIPS
    2017).

    Parameters
    ----------
    in_channels : width of x, or (of sources, of destinations); −1 is that of the first x
    out_channels : width of the result
    aggr : "mean", or "add" ("sum"), "max", "min", "mul" in its place
    normalize : divide each row by its length
    root_weight : have W_r x_v
    project : aggregate relu(W x_u + c) in place of x_u
    bias : have b

    Notes
    -----
    Called as ``conv(g, x)`` or ``conv(x, edge_index, size=None)``: x [num_nodes, in_channels], or a pair
    (x_src, x_dst), whose second may be None. size: (num_src, num_dst) where edges are given as edge_index.
    Returns [num_dst, out_channels]; nodes without in-edges aggregate 0. Where several neighbours have the
    largest or smallest number the first one's gets the gradient (in PyG they share it).

    Examples
    --------
    >>> import torch, numgraph as ng, numgraph.torch
    >>> g = ng.Graph([0, 1, 1], [1, 0, 2], num_src=2, num_dst=3)
    >>> conv = numgraph.torch.nn.SAGEConv((4, 5), 2)
    >>> conv(g, (torch.ones(2, 4), torch.ones(3, 5))).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        aggr: str = "mean",
        normalize: bool = False,
        root_weight: bool = True,
        project: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_name("SAGEConv", "aggr", aggr, REDUCES)
        in_src, in_dst = pair_of("SAGEConv", in_channels)
        self.in_channels, self.out_channels, self.aggr = in_channels, out_channels, aggr
        self.normalize, self.root_weight, self.project = normalize, root_weight, project
        if project:
            if in_src == -1:
                raise bad_value("SAGEConv", "in_channels is -1 and project is True", "give the width of x")
            self.lin = linear(in_src, in_src, bias=True)
        self.lin_l = linear(in_src, out_channels, bias=bias)
        if root_weight:
            self.lin_r = linear(in_dst, out_channels, bias=False)

    def reset_parameters(self) -> None:
        """New random weights."""
        for inner in self.children():
            inner.reset_parameters()  # type: ignore[operator]

    def forward(self, x: Any, edge_index: Any, size: tuple[int, int] | None = None) -> torch.Tensor:
        """The layer; x and edge_index may be a graph and x."""
        return sage(self, x, edge_index, size)

    def extra_repr(self) -> str:
        return extra_repr(self, "aggr")


def sage(layer: Any, x: Any, edge_index: Any, size: Any) -> torch.Tensor:
    """What SAGEConv computes, of any module with its attributes."""
    x_src, x_dst, g = sides("SAGEConv", *arranged(x, edge_index), size)
    check_features("SAGEConv", layer.in_channels, x_src, x_dst if layer.root_weight else None)
    if layer.project:
        x_src = layer.lin(x_src).relu()
    z = layer.lin_l(update_all(g, _copy, REDUCES[layer.aggr], u={"x": x_src}))
    if layer.root_weight and x_dst is not None:
        z = z + layer.lin_r(x_dst)
    return torch.nn.functional.normalize(z, p=2.0, dim=-1) if layer.normalize else z
