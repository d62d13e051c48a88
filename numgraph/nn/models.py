"""Models: stacks of one kind of layer with an activation between, for node classification and regression."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from numgraph.dense import elu, relu
from numgraph.expressions.precision import floating
from numgraph.graph import Graph, check_graph
from numgraph.nn import init
from numgraph.nn.dropout import Dropout
from numgraph.nn.gat import GATConv
from numgraph.nn.gcn import GCNConv
from numgraph.nn.gin import GINConv
from numgraph.nn.linear import MLP
from numgraph.nn.module import Module, check_features, check_size
from numgraph.nn.sage import SAGEConv


class _Stack(Module):
    """h ← activation(layer(dropout(h))) for every layer, without the activation after the last.

    in_features, hidden, out_features: widths; layers: how many; dropout: of every layer's input; the other options are the layers'.

    ``model(g, x)``: x [num_nodes, in_features], an array, Tensor or SciPy sparse matrix; returns [num_nodes, out_features], for
    classification the logits. Dropout acts while training (``train()``, the start) and not after ``eval()``; ``rng`` at a call draws it
    instead of the model's own generator.
    """

    activation: Callable[[Any], Any] = staticmethod(relu)

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
        **options: Any,
    ) -> None:
        check_size(type(self).__name__, in_features=in_features, hidden=hidden, out_features=out_features, layers=layers)
        rng = np.random.default_rng(rng)
        self.dropout, self.dtype = Dropout(dropout, rng=rng), np.dtype(dtype)
        self.layers: list[Any] = []
        for width_in, width_out in pairwise([in_features, *[hidden] * (layers - 1), out_features]):
            activation = self.activation if len(self.layers) < layers - 1 else None
            self.layers.append(self._layer(width_in, width_out, activation=activation, rng=rng, dtype=dtype, **options))

    def _layer(self, width_in: int, width_out: int, **options: Any) -> Any:
        """The next one of ``layers``."""
        raise NotImplementedError

    def forward(self, g: Graph, x: Any, *, rng: np.random.Generator | None = None) -> Any:
        check_graph(type(self).__name__, "the first argument", g)
        x = floating(check_features(type(self).__name__, x, None if g.is_bipartite else g.num_src, None), self.dtype)
        for layer in self.layers:
            x = self._propagate(layer, g, self.dropout(x, rng=rng), rng)
        return x

    def _propagate(self, layer: Any, g: Graph, x: Any, rng: np.random.Generator | None) -> Any:
        return layer(g, x)


class GCN(_Stack):
    """GCNConv layers with relu between (Kipf and Welling, ICLR 2017).

    in_features, hidden, out_features: widths; layers: how many, 2 in the paper; dropout: of every layer's input; the other options, norm,
    bias and add_self_loops, are GCNConv's.
    """

    def _layer(self, width_in: int, width_out: int, **options: Any) -> Any:
        return GCNConv(width_in, width_out, **options)


class SAGE(_Stack):
    """SAGEConv layers with relu between (Hamilton, Ying and Leskovec, NeurIPS 2017).

    in_features, hidden, out_features: widths; layers: how many; dropout: of every layer's input; the other options, aggr and bias, are
    SAGEConv's.
    """

    def _layer(self, width_in: int, width_out: int, **options: Any) -> Any:
        return SAGEConv(width_in, width_out, **options)


class GAT(_Stack):
    """GATConv layers with elu between (Veličković et al., ICLR 2018).

    in_features, hidden, out_features: widths, ``hidden`` that of one head; layers: how many, 2 in the paper; heads: of the hidden
    layers, concatenated; out_heads: of the last layer, averaged; dropout: of every layer's input, and of the attention unless
    ``attention_dropout`` is given; the other options, negative_slope, bias and add_self_loops, are GATConv's.
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
        **options: Any,
    ) -> None:
        check_size("GAT", layers=layers, heads=heads, out_heads=out_heads)
        self.heads = (*[heads] * (layers - 1), out_heads)
        self.attention_dropout = dropout if attention_dropout is None else attention_dropout
        super().__init__(in_features, hidden, out_features, layers=layers, dropout=dropout, **options)

    def _layer(self, width_in: int, width_out: int, **options: Any) -> Any:
        number = len(self.layers)
        concatenated = self.heads[number - 1] if number else 1
        options |= {"heads": self.heads[number], "concat": number < len(self.heads) - 1, "dropout": self.attention_dropout}
        return GATConv(concatenated * width_in, width_out, **options)

    def _propagate(self, layer: Any, g: Graph, x: Any, rng: np.random.Generator | None) -> Any:
        return layer(g, x, rng=rng)


class GIN(_Stack):
    """GINConv layers with a trained eps, each with an MLP of one hidden layer, and relu between (Xu et al., ICLR 2019).

    in_features, hidden, out_features: widths; layers: how many; dropout: of every layer's input; norm: the paper's batch normalisation in
    the MLPs. It classifies graphs; with the few labels of Cora its nodes are classified 6 points worse with than without.
    """

    def __init__(self, in_features: int, hidden: int, out_features: int, *, norm: bool = False, **options: Any) -> None:
        self.hidden, self.norm = hidden, norm
        super().__init__(in_features, hidden, out_features, **options)

    def _layer(self, width_in: int, width_out: int, **options: Any) -> Any:
        mlp = MLP([width_in, self.hidden, width_out], norm=self.norm, rng=options.pop("rng"), dtype=options["dtype"])
        return GINConv(mlp, train_eps=True, **options)
