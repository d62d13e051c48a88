"""Layers of a HeteroGraph: a layer for each relation (HeteroConv), and attention over all relations
(HGTConv).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from numgraph.arrays.inputs import generator, kind_of
from numgraph.autodiff.typed import Result
from numgraph.dense import gelu, matmul
from numgraph.errors import bad_type, bad_value, check_name, shown
from numgraph.expressions import elementary
from numgraph.expressions.precision import floating
from numgraph.graph import HeteroBlock, HeteroGraph, check_hetero
from numgraph.message import attend
from numgraph.message.relations import CROSS_REDUCES, crossed, with_all_types
from numgraph.nn import init
from numgraph.nn.linear import Linear
from numgraph.nn.module import Module, check_features, check_size


def features_of_types(op: str, h: Any, x: Any, widths: Mapping[str, int] | None = None) -> dict[str, Any]:
    """x as a dict {type: [nodes, features]} whose rows fit the graph's; widths: of each type, None for
    any.
    """
    check_hetero(op, h)
    given = h.by_type(op, "x", x)
    found = {}
    for kind, value in given.items():
        width = None if widths is None else widths.get(kind)
        found[kind] = check_features(op, value, h.num_nodes[kind], width, f"x[{kind!r}]")
    return found


class HeteroConv(Module):
    """z_v = ⊗_r conv_r(x)_v over the relations r that lead to v's type: a layer for each relation.

    Parameters
    ----------
    convs : {relation: layer}; a relation is named by its triple, or by its name if no other has that
    aggr : ⊗, "sum", "mean", "max", "min" or "stack", as the cross_reduce of ``multi_update_all``

    Notes
    -----
    Called as ``conv(h, x, **edge_data)``: h a HeteroGraph, x {type: [nodes, features]}. A layer is called
    with its relation's Graph and the features of its nodes: x[type] within one type, the pair (x[source
    type], x[destination type]) between two. Edge data are dicts by relation, ``edge_weight={"writes": w}``,
    of which each layer gets its own. Layers of types that x lacks are left out. Returns {type: [nodes, out]}
    for every type; a type that no layer leads to has zeros.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> writes, cites = ("author", "writes", "paper"), ("paper", "cites", "paper")
    >>> h = ng.HeteroGraph({writes: ([0, 1], [0, 0]), cites: ([0], [1])})
    >>> layers = {"writes": ng.nn.SAGEConv((2, 3), 4), "cites": ng.nn.GCNConv(3, 4)}
    >>> conv = ng.nn.HeteroConv(layers, aggr="mean")
    >>> z = conv(h, {"author": np.ones((2, 2), np.float32), "paper": np.ones((2, 3), np.float32)})
    >>> {name: array.shape for name, array in z.items()}
    {'author': (2, 4), 'paper': (2, 4)}
    """

    def __init__(self, convs: Mapping[Any, Any], aggr: str = "sum") -> None:
        if not isinstance(convs, Mapping) or not convs:
            raise bad_type(
                "HeteroConv",
                f"convs is {shown(convs)}",
                "give a layer for each relation, {'writes': SAGEConv(…)}",
            )
        check_name("HeteroConv", "aggr", aggr, CROSS_REDUCES)
        self.relations = [tuple(key) if isinstance(key, list) else key for key in convs]
        for key, conv in zip(self.relations, convs.values()):
            if not isinstance(key, str | tuple):
                raise bad_type(
                    "HeteroConv",
                    f"a relation is {shown(key)}",
                    "name it by a triple, ('author', 'writes', 'paper')",
                )
            if not callable(conv) or isinstance(conv, type):
                raise bad_type(
                    "HeteroConv",
                    f"of {shown(key)} there is {kind_of(conv)}",
                    "give a layer, such as SAGEConv((2, 3), 4)",
                )
        self.convs = dict(zip(_keys("HeteroConv", self.relations), convs.values()))
        self.aggr = aggr

    def forward(
        self, h: HeteroGraph, x: Mapping[str, Any], **edge_data: Mapping[Any, Any]
    ) -> dict[str, Result]:
        """The layer."""
        op = "HeteroConv"
        x = features_of_types(op, h, x)
        layers = h.by_relation(op, "convs", dict(zip(self.relations, self.convs.values())))
        beside = {
            name: h.by_relation(op, name, values) for name, values in edge_data.items() if values is not None
        }
        made: dict[str, dict[Any, Any]] = {}
        for relation, conv in layers.items():
            source, _, target = relation
            if source not in x or target not in x:
                continue
            own = {name: values[relation] for name, values in beside.items() if relation in values}
            try:
                z = conv(
                    h[relation], x[source] if source == target else (x[source], _first(h, target, x)), **own
                )
            except (AttributeError, IndexError, TypeError, ValueError) as error:
                error.add_note(f"{op}: this was the relation {relation}")
                raise
            made.setdefault(target, {})[relation] = z
        if not made:
            raise bad_value(
                op,
                f"x has the types {', '.join(map(repr, x)) or 'none'}",
                "give features of both ends of one relation at least",
            )
        return with_all_types(
            h, {kind: crossed(op, h, self.aggr, results) for kind, results in made.items()}, self.aggr
        )


def _key(relation: Any) -> str:
    """What a relation's parameters are called."""
    return relation if isinstance(relation, str) else "__".join(relation)


def _keys(op: str, relations: Iterable[Any]) -> list[str]:
    """The names of several relations' parameters, which differ."""
    named: dict[str, Any] = {}
    for relation in relations:
        other = named.setdefault(_key(relation), relation)
        if other != relation:
            problem = (
                f"parameters of {shown(other)} and of {shown(relation)} would both be called "
                f"{_key(relation)!r}"
            )
            raise bad_value(op, problem, "choose names that stay distinct when '__' joins them")
    return list(named)


def _first(h: HeteroGraph, kind: str, x: Mapping[str, Any]) -> Any:
    """The features of the nodes of a type that edges lead to; of a block they are the first rows."""
    return x[kind][: h.num_dst[kind]] if isinstance(h, HeteroBlock) else x[kind]


class HGTConv(Module):
    """Attention over all in-edges of a node, of whatever relation (Hu et al., Heterogeneous Graph
    Transformer, WWW 2020).

    z_v = β_t W_t gelu(Σ_e α_e M_r h_u) + (1 − β_t) x_v with α = softmax over all in-edges e = (u → v) of v of
    μ_r (K_r k_u) · q_v / √d, head by head; k, q and h are linear in x by the type of the node, K_r, M_r and
    μ_r belong to the relation r of e, and β_t = sigmoid(skip_t) to the type t of v.

    Parameters
    ----------
    in_features : {type: width of its features}, or one width for all types of `node_types`
    out_features : width of the result, heads · d
    edge_types : the relations, triples, as ``h.edge_types``; or a HeteroGraph that has them;
        or PyG's metadata, (node types, edge types)
    heads : how many there are
    node_types : the types, where in_features is one width; by default those of the relations
    rng, dtype : of the parameters' first values

    Notes
    -----
    Called as ``conv(h, x)``: h a HeteroGraph with these types and relations, or fewer, x {type: [nodes,
    in_features[type]]}. Returns {type: [nodes, out_features]} for every type of h. The term with x_v is there
    for the types whose width is out_features; the others have W_t gelu(…) alone. One softmax goes over all
    relations into a node: its in-edges are walked once, as those of one graph.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> writes, cites = ("author", "writes", "paper"), ("paper", "cites", "paper")
    >>> h = ng.HeteroGraph({writes: ([0, 1], [0, 0]), cites: ([0], [1])})
    >>> conv = ng.nn.HGTConv({"author": 2, "paper": 3}, 8, h.edge_types, heads=2)
    >>> conv(h, {"author": np.ones((2, 2), np.float32), "paper": np.ones((2, 3), np.float32)})["paper"].shape
    (2, 8)
    """

    def __init__(
        self,
        in_features: int | Mapping[str, int],
        out_features: int,
        edge_types: HeteroGraph | Iterable[Any],
        *,
        heads: int = 1,
        node_types: Iterable[str] | None = None,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        op = "HGTConv"
        given: Any = edge_types
        if isinstance(given, HeteroGraph):
            given = given.node_types, given.edge_types
        if (
            isinstance(given, tuple | list)
            and len(given) == 2
            and isinstance(given[1], Iterable)
            and not any(isinstance(one, str) for one in given[1])
        ):  # else two triples
            node_types, given = given[0] if node_types is None else node_types, given[1]
        if not isinstance(given, Iterable) or isinstance(given, str | bytes):
            raise bad_type(op, f"edge_types is {shown(given)}", "give triples, as h.edge_types")
        relations = list(given)
        for one in relations:
            if not isinstance(one, tuple | list) or len(one) != 3:
                raise bad_type(op, f"edge_types has {shown(one)}", "give triples, as h.edge_types")
        relations = [tuple(one) for one in relations]
        if not isinstance(in_features, Mapping):
            known = (
                {kind for one in relations for kind in (one[0], one[2])} if node_types is None else node_types
            )
            in_features = dict.fromkeys(sorted(known), in_features)
        check_size(
            op,
            out_features=out_features,
            heads=heads,
            **{f"in_features[{kind!r}]": width for kind, width in in_features.items()},
        )
        if out_features % heads:
            raise bad_value(
                op, f"out_features is {out_features} and heads is {heads}", "heads divide out_features"
            )
        for one in relations:
            for kind in (one[0], one[2]):
                check_name(op, f"node type of {one}", kind, in_features)
        self.in_features, self.edge_types, self.heads, self.out_features = (
            dict(in_features),
            relations,
            heads,
            out_features,
        )
        rng, d = generator(type(self).__name__, rng), out_features // heads
        options = {"rng": rng, "dtype": dtype}
        self.key = {kind: Linear(width, out_features, **options) for kind, width in in_features.items()}
        self.query = {kind: Linear(width, out_features, **options) for kind, width in in_features.items()}
        self.value = {kind: Linear(width, out_features, **options) for kind, width in in_features.items()}
        self.out = {kind: Linear(out_features, out_features, **options) for kind in in_features}
        self.skip = {kind: init.ones((1,), dtype) for kind in in_features}
        names = _keys(op, relations)
        self.attention = {name: init.glorot(rng, (heads, d, d), dtype) for name in names}
        self.message = {name: init.glorot(rng, (heads, d, d), dtype) for name in names}
        self.prior = {name: init.ones((heads,), dtype) for name in names}

    def forward(self, h: HeteroGraph, x: Mapping[str, Any]) -> dict[str, Result]:
        """The layer."""
        op = "HGTConv"
        check_hetero(op, h)
        for relation in h.edge_types:
            if relation not in self.edge_types:
                raise bad_value(
                    op,
                    f"h has the relation {relation}",
                    f"the layer was made for {', '.join(map(str, self.edge_types))}",
                )
        x = features_of_types(op, h, x, self.in_features)
        lacking = [kind for kind in h.node_types if kind not in x]
        if lacking:
            raise bad_value(
                op,
                f"x has no features of {lacking[0]!r}",
                f"give those of all types, {', '.join(map(repr, h.node_types))}",
            )
        dtype = next(iter(self.skip.values())).dtype
        x = {kind: floating(value, dtype) for kind, value in x.items()}
        k, v = (
            {kind: self._heads(linears[kind](x[kind])) for kind in h.node_types}
            for linears in (self.key, self.value)
        )
        into = {kind: _first(h, kind, x) for kind in h.node_types}
        q = {kind: self._heads(self.query[kind](rows)) for kind, rows in into.items()}
        return {
            kind: self._mixed(kind, self._attended(h, kind, k, q, v), rows) for kind, rows in into.items()
        }

    def _heads(self, y: Any) -> Any:
        return y.reshape(y.shape[0], self.heads, self.out_features // self.heads)

    def _attended(
        self, h: HeteroGraph, kind: str, k: Mapping[str, Any], q: Mapping[str, Any], v: Mapping[str, Any]
    ) -> Any:
        """[nodes of the type, out_features] the attention over all relations into it."""
        into = h.into(kind)
        if not into.relations:
            return np.zeros_like(q[kind]).reshape(-1, self.out_features)
        scale = 1 / math.sqrt(self.out_features // self.heads)
        keys, values = [], []
        for relation in into.relations:
            key, source = _key(relation), relation[0]
            prior = (self.prior[key] * scale)[:, None, None]
            keys.append(_by_head(k[source], self.attention[key] * prior))
            values.append(_by_head(v[source], self.message[key]))
        z = attend(into.graph, _score, _value, u={"k": _joined(keys), "h": _joined(values)}, v={"q": q[kind]})
        return z.reshape(z.shape[0], self.out_features)

    def _mixed(self, kind: str, z: Any, x: Any) -> Any:
        z = self.out[kind](gelu(z))
        if x.shape[1] != self.out_features:
            return z
        beta = elementary.sigmoid(self.skip[kind])
        return beta * z + (1 - beta) * x


def _by_head(x: Any, matrices: Any) -> Any:
    """[nodes, heads, d] times [heads, d, d]."""
    return np.swapaxes(matmul(np.swapaxes(x, 0, 1), matrices), 0, 1)


def _joined(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _score(u: Any, v: Any) -> Any:
    return (u.k * v.q).sum(-1, keepdims=True)


def _value(u: Any) -> Any:
    return u.h
