"""Models: stacks of one kind of layer with normalisation and activation between, for node classification and
regression.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np

from numgraph.arrays.inputs import generator, kind_of
from numgraph.autodiff.tensor import unwrap
from numgraph.dense import elu, relu
from numgraph.errors import bad_type, bad_value, check_name
from numgraph.expressions.precision import floating
from numgraph.graph import Graph
from numgraph.nn import init
from numgraph.nn.blocks import first_rows, per_hop, rows_given
from numgraph.nn.dropout import Dropout
from numgraph.nn.gat import GATConv, GATv2Conv
from numgraph.nn.gcn import GCNConv
from numgraph.nn.gin import GINConv
from numgraph.nn.graphs import NORMS
from numgraph.nn.linear import MLP, Linear, activation_of
from numgraph.nn.module import Module, check_features, check_size
from numgraph.nn.norm import normalisation
from numgraph.nn.sage import SAGEConv
from numgraph.nn.typed import of_graph

JUMPS = ("cat", "max", "last")


class Stack(Module):
    """h ← act(norm(layer(dropout(h)))) for every layer, without norm and act after the last.

    Parameters
    ----------
    in_features, hidden, out_features : widths
    layers : how many
    dropout : of every layer's input
    act : a function, such as ``numgraph.elu``, or its name; None is none, "default" the model's own
    norm : "batch", "layer", or a function of a width that makes a Module
    act_first : act stands before norm
    jk : what the model gives is a Linear (``out``) of all layers' results,
        side by side ("cat") or their maximum ("max"), or of the last layer's ("last") (Xu et al.,
        Representation Learning on Graphs with Jumping Knowledge Networks, ICML 2018). All layers have then
        ``hidden`` features, and norm and act.
    rng, dtype : of the parameters' first values; rng also draws dropout
    options : the layers'

    Notes
    -----
    ``model(g, x, edge_weight=None, edge_attr=None)``: g is a graph, or a list of blocks, one for each layer
    (``numgraph.sampling``), whose edge data are a list too, or the whole graph's; x [num_nodes, in_features],
    an array, Tensor or SciPy sparse matrix; edge_weight [num_edges] and edge_attr [num_edges, edge_dim] are
    every layer's. Returns [num_nodes, out_features], for classification the logits.
    Dropout acts while training (``train()``, the start) and not after ``eval()``; ``rng`` at a call draws it
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
        act: Callable[[Any], Any] | str | None = "default",
        norm: Any = None,
        act_first: bool = False,
        jk: str | None = None,
        rng: init.Seed = None,
        dtype: Any = np.float32,
        **options: Any,
    ) -> None:
        op = type(self).__name__
        check_size(op, in_features=in_features, hidden=hidden, out_features=out_features, layers=layers)
        if jk is not None:
            check_name(op, "jk", jk, JUMPS)
        rng = generator(type(self).__name__, rng)
        self.dropout, self.dtype, self.jk = Dropout(dropout, rng=rng), np.dtype(dtype), jk
        self.act = (
            type(self).activation if isinstance(act, str) and act == "default" else activation_of(op, act)
        )
        self.layers: list[Any] = []
        widths = [in_features, *[hidden] * (layers - 1), out_features if jk is None else hidden]
        for number, (width_in, width_out) in enumerate(pairwise(widths)):
            acting = self.act if (norm is None or act_first) and self._acts(number, layers) else None
            self.layers.append(
                self._layer(width_in, width_out, activation=acting, rng=rng, dtype=dtype, **options)
            )
        wide = self._width(hidden)
        self.act_first = act_first
        self.norms = (
            []
            if norm is None
            else [normalisation(op, norm, wide, dtype) for n in range(layers) if self._acts(n, layers)]
        )
        self.out = (
            None
            if jk is None
            else Linear(wide * layers if jk == "cat" else wide, out_features, rng=rng, dtype=dtype)
        )

    def _acts(self, number: int, layers: int) -> bool:
        """Whether norm and act follow the layer."""
        return self.jk is not None or number < layers - 1

    def _width(self, hidden: int) -> int:
        """How many features there are between layers."""
        return hidden

    def _layer(self, width_in: int, width_out: int, **options: Any) -> Any:
        """The next one of ``layers``."""
        raise NotImplementedError

    @of_graph
    def forward(
        self,
        g: Graph,
        x: Any,
        edge_weight: Any = None,
        edge_attr: Any = None,
        *,
        rng: np.random.Generator | None = None,
    ) -> Any:
        """The model."""
        return self.jumped(self.between(g, x, edge_weight, edge_attr, rng=rng))

    def between(
        self,
        g: Graph,
        x: Any,
        edge_weight: Any = None,
        edge_attr: Any = None,
        *,
        rng: np.random.Generator | None = None,
    ) -> list[Any]:
        """[num_nodes, …] the results of every layer, with what follows it."""
        op = type(self).__name__
        steps = per_hop(op, g, len(self.layers), edge_weight, edge_attr)
        first, last = steps[0][0], steps[-1][0]
        x = floating(check_features(op, x, rows_given(first), None), self.dtype)
        between = []
        for number, (graph, weight, attr) in enumerate(steps):
            x = self._step(number, graph, x, weight, attr, rng)
            between.append(x)
        return [first_rows(last, h) for h in between]

    def _step(
        self,
        number: int,
        g: Graph,
        x: Any,
        edge_weight: Any,
        edge_attr: Any,
        rng: np.random.Generator | None = None,
    ) -> Any:
        """Layer ``number`` and what follows it."""
        x = self._propagate(self.layers[number], g, self.dropout(x, rng=rng), edge_weight, edge_attr, rng)
        if number < len(self.norms):
            x = self.norms[number](x)
            x = x if self.act is None or self.act_first else self.act(x)
        return x

    def jumped(self, between: list[Any]) -> Any:
        """The model's result from those of its layers."""
        x = between[-1]
        if self.out is None:
            return x
        return self.out(
            np.concatenate(between, 1)
            if self.jk == "cat"
            else reduce(np.maximum, between)
            if self.jk == "max"
            else x
        )

    def inference(self, loader: Any) -> np.ndarray:
        """The results for all nodes, layer by layer, each over batches of nodes with all their in-edges, in
        evaluation mode.

        Parameters
        ----------
        loader : a loader of ``numgraph.sampling`` of the graph and the features;
            its batch size is taken, if not small, its fanouts are not

        Returns
        -------
        [num_nodes, out_features], as ``model.eval()(graph, x)`` gives
        """
        op = f"{type(self).__name__}.inference"
        if not hasattr(loader, "over_all"):
            raise bad_type(
                op,
                f"loader is {kind_of(loader)}",
                "give a NeighborLoader(data, fanouts); of a graph and x call the model",
            )
        if loader.x is None:
            raise bad_value(
                op, "the loader has no features", 'make it of a Dataset or of (graph, {"x": features})'
            )
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            between = []
            x = loader.x
            for number in range(len(self.layers)):
                made: Any = None
                for batch in loader.over_all(x):
                    ((g, weight),) = per_hop(type(self).__name__, batch.blocks, 1, loader.origin.edge_weight)
                    h = unwrap(self._step(number, g, floating(batch.x, self.dtype), weight, None))
                    made = (
                        np.zeros((loader.origin.graph.num_nodes, h.shape[1]), h.dtype)
                        if made is None
                        else made
                    )
                    made[batch.seeds] = h
                if made is None:
                    raise bad_value(op, "the graph has no nodes", "there is nothing to infer")
                x = loader.all_rows(made)
                between.append(x)
            found: np.ndarray = unwrap(self.jumped(between))
            return found
        finally:
            for module, mode in modes:
                module.training = mode

    def _propagate(
        self, layer: Any, g: Graph, x: Any, edge_weight: Any, edge_attr: Any, rng: np.random.Generator | None
    ) -> Any:
        if edge_attr is not None:
            op = type(self).__name__
            raise bad_value(
                op,
                "edge_attr is given, which its layers do not take",
                "choose GAT(…, edge_dim=…), or give edge_weight",
            )
        return layer(g, x, edge_weight)


class GCN(Stack):
    """GCNConv layers with relu between (Kipf and Welling, ICLR 2017).

    Parameters
    ----------
    in_features, hidden, out_features : widths
    norm : of the values between the layers, as in the other models;
        GCNConv's names are also taken, as degree_norm
    degree_norm : GCNConv's norm
    options : layers (how many, 2 in the paper), dropout (of every layer's input), act, norm, jk,
        rng and dtype as in the other models; others, such as bias, add_self_loops, collapse_loops and
        improved, are GCNConv's

    Notes
    -----
    Called as ``model(g, x, edge_weight=None)``: x [num_nodes, in_features]. Returns [num_nodes,
    out_features].

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> x = np.ones((3, 4), np.float32)
    >>> ng.nn.GCN(4, 16, 2, layers=3, rng=0)(g, x).shape
    (3, 2)
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        out_features: int,
        *,
        norm: Any = None,
        degree_norm: str | None = None,
        **options: Any,
    ) -> None:
        if isinstance(norm, str) and norm in NORMS:
            if degree_norm is not None:
                raise bad_value(
                    "GCN",
                    f"norm is {norm!r} and degree_norm is {degree_norm!r}",
                    "give GCNConv's norm once, as degree_norm",
                )
            degree_norm, norm = norm, None
        self.degree_norm = "both" if degree_norm is None else degree_norm
        super().__init__(in_features, hidden, out_features, norm=norm, **options)

    def _layer(self, width_in: int, width_out: int, **options: Any) -> Any:
        return GCNConv(width_in, width_out, norm=self.degree_norm, **options)


class SAGE(Stack):
    """SAGEConv layers with relu between (Hamilton, Ying and Leskovec, NeurIPS 2017).

    Parameters
    ----------
    in_features, hidden, out_features : widths
    layers : how many
    dropout : of every layer's input
    act, norm, act_first, jk : as in the other models
    rng, dtype : of the parameters' first values
    options : aggr, project, normalize, root_weight, bias and others are SAGEConv's

    Notes
    -----
    Called as ``model(g, x, edge_weight=None)``: x [num_nodes, in_features]. Returns [num_nodes,
    out_features].

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> x = np.ones((3, 4), np.float32)
    >>> ng.nn.SAGE(4, 16, 2, aggr="max", rng=0)(g, x).shape
    (3, 2)
    """

    def _layer(self, width_in: int, width_out: int, **options: Any) -> Any:
        return SAGEConv(width_in, width_out, **options)


class GAT(Stack):
    """GATConv layers with elu between (Veličković et al., ICLR 2018).

    Parameters
    ----------
    in_features, hidden, out_features : widths, ``hidden`` that of one head
    layers : how many, 2 in the paper
    heads : of the hidden layers, concatenated
    out_heads : of the last layer, averaged; with jk it is as the others
    dropout : of every layer's input, and of the attention unless attention_dropout is given
    attention_dropout : of the attention
    v2 : the layers are GATv2Conv
    jk : None, "cat", "max" or "last", as in the other models
    options : act and norm as in the other models;
        others, such as negative_slope, bias, edge_dim, residual and add_self_loops, are the layers'

    Notes
    -----
    Called as ``model(g, x, edge_weight=None, edge_attr=None)``: x [num_nodes, in_features]. Returns
    [num_nodes, out_features].

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> x = np.ones((3, 4), np.float32)
    >>> ng.nn.GAT(4, 8, 2, heads=2, rng=0)(g, x).shape
    (3, 2)
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
        v2: bool = False,
        jk: str | None = None,
        **options: Any,
    ) -> None:
        check_size("GAT", layers=layers, heads=heads, out_heads=out_heads)
        self.heads = (*[heads] * (layers - 1), out_heads if jk is None else heads)
        self.attention_dropout, self.v2 = dropout if attention_dropout is None else attention_dropout, v2
        super().__init__(in_features, hidden, out_features, layers=layers, dropout=dropout, jk=jk, **options)

    def _width(self, hidden: int) -> int:
        return hidden * self.heads[0]

    def _layer(self, width_in: int, width_out: int, **options: Any) -> Any:
        number = len(self.layers)
        concatenated = self.heads[number - 1] if number else 1
        concat = self._acts(number, len(self.heads))
        options |= {"heads": self.heads[number], "concat": concat, "dropout": self.attention_dropout}
        return (GATv2Conv if self.v2 else GATConv)(concatenated * width_in, width_out, **options)

    def _propagate(
        self, layer: Any, g: Graph, x: Any, edge_weight: Any, edge_attr: Any, rng: np.random.Generator | None
    ) -> Any:
        return layer(g, x, edge_attr, edge_weight, rng=rng)


class GIN(Stack):
    """GINConv layers, each with an MLP of one hidden layer, and relu between (Xu et al., ICLR 2019).

    Parameters
    ----------
    in_features, hidden, out_features : widths
    norm : True is the paper's batch normalisation in the MLPs;
        "batch", "layer" or a function stand in the MLPs and between the layers
    train_eps : eps is trained
    mlp_width : "hidden", or "out" where the MLPs' hidden layer is as wide as what they give,
        as in PyG (they differ in the last one)
    options : layers, dropout (of every layer's input), act, jk, rng and dtype as in the other models

    Notes
    -----
    Called as ``model(g, x, edge_weight=None)``: x [num_nodes, in_features]. Returns [num_nodes,
    out_features]. It classifies graphs; with the few labels of Cora its nodes are classified 6 points worse
    with norm than without.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> x = np.ones((3, 4), np.float32)
    >>> ng.nn.GIN(4, 16, 2, norm=True, rng=0)(g, x).shape
    (3, 2)
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        out_features: int,
        *,
        norm: Any = False,
        train_eps: bool = True,
        mlp_width: str = "hidden",
        **options: Any,
    ) -> None:
        check_name("GIN", "mlp_width", mlp_width, ("hidden", "out"))
        self.hidden, self.norm, self.train_eps, self.mlp_width = hidden, norm, train_eps, mlp_width
        super().__init__(
            in_features, hidden, out_features, norm=None if isinstance(norm, bool) else norm, **options
        )

    def _layer(self, width_in: int, width_out: int, **options: Any) -> Any:
        inner = self.hidden if self.mlp_width == "hidden" else width_out
        mlp = MLP(
            [width_in, inner, width_out],
            norm=self.norm,
            act=self.act,
            rng=options.pop("rng"),
            dtype=options["dtype"],
        )
        return GINConv(mlp, train_eps=self.train_eps, **options)
