"""Models: stacks of one kind of layer with an activation between, for node classification and regression."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from numgraph.dense import elu, relu
from numgraph.graph import Graph
from numgraph.nn import init
from numgraph.nn.dropout import Dropout
from numgraph.nn.gat import GATConv
from numgraph.nn.gcn import GCNConv
from numgraph.nn.gin import GINConv
from numgraph.nn.linear import MLP
from numgraph.nn.module import Module, check_size
from numgraph.nn.sage import SAGEConv


class _Stack(Module):
    """h ← layer(dropout(h)) for every layer, with an activation between.

    ``model(g, x)``: x [num_nodes, in_features], an array, Tensor or SciPy sparse matrix; returns [num_nodes, out_features], for
    classification the logits. Dropout acts while training (``train()``, the start) and not after ``eval()``; ``rng`` at a call draws it
    instead of the model's own generator.
    """

    layers: list[Any]
    activation: Callable[[Any], Any] = staticmethod(relu)

    def __init__(self, dropout: float, rng: np.random.Generator) -> None:
        self.layers = []
        self.dropout = Dropout(dropout, rng=rng)

    def forward(self, g: Graph, x: Any, *, rng: np.random.Generator | None = None) -> Any:
        for i, layer in enumerate(self.layers):
            x = self.dropout(x if i == 0 else self.activation(x), rng=rng)
            x = self._propagate(layer, g, x, rng)
        return x

    def _propagate(self, layer: Any, g: Graph, x: Any, rng: np.random.Generator | None) -> Any:
        return layer(g, x)


def _widths(op: str, in_features: int, hidden: int, out_features: int, layers: int) -> list[tuple[int, int]]:
    """(in, out) of every layer."""
    check_size(op, in_features=in_features, hidden=hidden, out_features=out_features, layers=layers)
    widths = [in_features, *[hidden] * (layers - 1), out_features]
    return list(pairwise(widths))


class GCN(_Stack):
    """GCNConv layers with relu between (Kipf and Welling, ICLR 2017).

    in_features, hidden, out_features: widths; layers: how many, 2 in the paper; dropout: of every layer's input.
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        out_features: int,
        *,
        layers: int = 2,
        dropout: float = 0.5,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        rng = np.random.default_rng(rng)
        super().__init__(dropout, rng)
        self.layers = [GCNConv(*pair, rng=rng, dtype=dtype) for pair in _widths("GCN", in_features, hidden, out_features, layers)]


class SAGE(_Stack):
    """SAGEConv layers with relu between (Hamilton, Ying and Leskovec, NeurIPS 2017).

    in_features, hidden, out_features: widths; layers: how many; aggr: SAGEConv's; dropout: of every layer's input.
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        out_features: int,
        *,
        layers: int = 2,
        aggr: str = "mean",
        dropout: float = 0.5,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        rng = np.random.default_rng(rng)
        super().__init__(dropout, rng)
        pairs = _widths("SAGE", in_features, hidden, out_features, layers)
        self.layers = [SAGEConv(*pair, aggr=aggr, rng=rng, dtype=dtype) for pair in pairs]


class GAT(_Stack):
    """GATConv layers with elu between (Veličković et al., ICLR 2018).

    in_features, hidden, out_features: widths, ``hidden`` that of one head; layers: how many, 2 in the paper; heads: of the hidden
    layers, concatenated; out_heads: of the last layer, averaged; dropout: of every layer's input, and of the attention unless
    ``attention_dropout`` is given.
    """

    activation = staticmethod(elu)

    def __init__(
        self,
        in_features: int,
        hidden: int,
        out_features: int,
        *,
        layers: int = 2,
        heads: int = 8,
        out_heads: int = 1,
        dropout: float = 0.6,
        attention_dropout: float | None = None,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        _widths("GAT", in_features, hidden, out_features, layers)
        check_size("GAT", heads=heads, out_heads=out_heads)
        rng = np.random.default_rng(rng)
        super().__init__(dropout, rng)
        options: dict[str, Any] = {"dropout": dropout if attention_dropout is None else attention_dropout, "rng": rng, "dtype": dtype}
        widths = [in_features, *[heads * hidden] * (layers - 1)]
        self.layers = [GATConv(width, hidden, heads=heads, **options) for width in widths[:-1]]
        self.layers.append(GATConv(widths[-1], out_features, heads=out_heads, concat=False, **options))

    def _propagate(self, layer: Any, g: Graph, x: Any, rng: np.random.Generator | None) -> Any:
        return layer(g, x, rng=rng)


class GIN(_Stack):
    """GINConv layers with a trained eps, each with an MLP of one hidden layer, and relu between (Xu et al., ICLR 2019).

    in_features, hidden, out_features: widths; layers: how many; dropout: of every layer's input; norm: the paper's batch normalisation in
    the MLPs. It classifies graphs; with the few labels of Cora its nodes are classified 6 points worse with than without.
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        out_features: int,
        *,
        layers: int = 2,
        norm: bool = False,
        dropout: float = 0.5,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        rng = np.random.default_rng(rng)
        super().__init__(dropout, rng)
        for width_in, width_out in _widths("GIN", in_features, hidden, out_features, layers):
            mlp = MLP([width_in, hidden, width_out], norm=norm, rng=rng, dtype=dtype)
            self.layers.append(GINConv(mlp, train_eps=True, dtype=dtype))
