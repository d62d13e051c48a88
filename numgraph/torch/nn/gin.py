"""The graph isomorphism network's layer with PyG's conventions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from numgraph.errors import check_name
from numgraph.message import update_all
from numgraph.torch.nn.graphs import REDUCES, arranged, sides

_copy = lambda u: u.x


class GINConv(torch.nn.Module):
    """z_v = f((1 + ε) · x_v + Σ_{u → v} x_u), as PyG's ``GINConv`` (Xu et al., ICLR 2019).

    Parameters
    ----------
    nn : f, a module or function of [num_dst, features]
    eps : ε, or its first value
    train_eps : ε is a parameter; else it is a buffer, as PyG has it
    aggr : "add", or "mean", "max", "min", "mul" in its place

    Notes
    -----
    Called as ``conv(g, x)`` or ``conv(x, edge_index, size=None)``: x [num_nodes, features], or a pair (x_src,
    x_dst), whose second may be None: z_v is then f of the sum alone. size: (num_src, num_dst) where edges are
    given as edge_index. Returns what f gives.

    Examples
    --------
    >>> import torch, numgraph as ng, numgraph.torch
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> conv = numgraph.torch.nn.GINConv(torch.nn.Identity(), eps=1.0)
    >>> conv(g, torch.tensor([[1.0], [2.0], [3.0]])).flatten()
    tensor([5., 5., 8.])
    """

    eps: torch.Tensor

    def __init__(
        self, nn: Callable[..., Any], eps: float = 0.0, train_eps: bool = False, *, aggr: str = "add"
    ) -> None:
        super().__init__()
        check_name("GINConv", "aggr", aggr, REDUCES)
        self.nn, self.initial_eps, self.aggr = nn, eps, aggr
        start = torch.full((1,), float(eps))
        if train_eps:
            self.eps = torch.nn.Parameter(start)
        else:
            self.register_buffer("eps", start)

    def reset_parameters(self) -> None:
        """New random weights of f, as far as its modules have ``reset_parameters``, and the first ε."""
        if isinstance(self.nn, torch.nn.Module):
            _reset(self.nn)
        self.eps.data.fill_(self.initial_eps)

    def forward(self, x: Any, edge_index: Any, size: tuple[int, int] | None = None) -> Any:
        """The layer; x and edge_index may be a graph and x."""
        return isomorphism(self, x, edge_index, size)


def _reset(module: torch.nn.Module) -> None:
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()  # type: ignore[operator]
    else:
        for inner in module.children():
            _reset(inner)


def isomorphism(layer: Any, x: Any, edge_index: Any, size: Any) -> Any:
    """What GINConv computes, of any module with its attributes."""
    x_src, x_dst, g = sides("GINConv", *arranged(x, edge_index), size)
    z = update_all(g, _copy, REDUCES[layer.aggr], u={"x": x_src})
    return layer.nn(z if x_dst is None else z + (1 + layer.eps) * x_dst)
