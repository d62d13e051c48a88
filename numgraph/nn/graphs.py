"""What layers are given, and what they derive from a graph, once a graph: self loops, weights with them. Kept
as long as it lives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeGuard
from weakref import WeakKeyDictionary

import numpy as np

from numgraph.arrays.devices import device_of, moved
from numgraph.arrays.inputs import as_array
from numgraph.autodiff.tape import Tensor, unwrap
from numgraph.dense import gather
from numgraph.errors import bad_value, check_name, shown
from numgraph.expressions.expr import check_dtype
from numgraph.expressions.precision import floating
from numgraph.expressions.reduces import NAMES
from numgraph.expressions.walk import rows_of
from numgraph.graph import Block, Graph, Origin, Shard, check_graph
from numgraph.graph.edges import Edges
from numgraph.graph.sorting import frozen
from numgraph.message import update_all
from numgraph.nn.module import check_features

NORMS = ("both", "right", "none", "in")

_derived: WeakKeyDictionary[Graph, dict[Any, Any]] = WeakKeyDictionary()


def once(g: Graph, key: Any, make: Callable[[Graph], Any]) -> Any:
    """``make(g)``, remembered for this graph under ``key``; it must not hold ``g`` itself."""
    known = g.derived if isinstance(g, Shard) else _derived.setdefault(g, {})
    if key not in known:
        known[key] = make(g)
    return known[key]


def node_features(
    op: str,
    g: Graph,
    x: Any,
    features: int | None,
    like: Any,
    side: str = "both",
    name: str = "x",
    deep: bool = False,
) -> Any:
    """x as an array, Tensor or sparse matrix [nodes, features], a row for each source ("u"), destination
    ("v"), or node of the one set.

    features: how many, or None for any number. like: dtype of the parameters, or None where there are none.
    Integers and booleans take it (precision.floating), and floats of fewer bits are widened to it. deep: axes
    may stand between, [nodes, …, features]."""
    check_graph(op, "the first argument", g)
    if side == "both" and g.is_bipartite and not isinstance(g, Block):
        problem = f"the graph is bipartite, with {g.num_src} sources and {g.num_dst} destinations"
        raise bad_value(op, problem, "this layer needs one set of nodes: Graph(src, dst, num_nodes)")
    x = floating(check_features(op, x, rows_of(g, "v" if side == "v" else "u"), features, name, deep), like)
    if like is None or x.dtype == like:
        return x
    computed = np.result_type(x.dtype, like)  # also what is summed before it meets the parameters
    return x if x.dtype == computed else x.astype(computed)


def both_sides(
    op: str,
    g: Graph,
    x: Any,
    in_src: int | None,
    in_dst: int | None,
    like: Any,
    lone: bool = False,
    owned: bool = False,
) -> tuple[Any, Any]:
    """The features of sources and destinations: a pair, or on a graph of one set of nodes also one array,
    which is both.

    lone: the second of a pair may be None, for destinations without features. owned: those of sources are
    given for the nodes that a process owns, its destinations.
    """
    check_graph(op, "the first argument", g)
    if isinstance(x, tuple):
        if len(x) != 2:
            raise bad_value(
                op,
                f"x is a tuple of {len(x)}",
                "a pair has the features of the sources and of the destinations",
            )
        x_src = node_features(op, g, x[0], in_src, like, "v" if owned else "u", "x[0]")
        if x[1] is None:
            if not lone:
                raise bad_value(
                    op,
                    "x[1] is None",
                    "the layer computes with the features of the destinations too: pass (x_src, x_dst)",
                )
            return x_src, None
        return x_src, node_features(op, g, x[1], in_dst, like, "v", "x[1]")
    if owned:
        x = node_features(op, g, x, in_src, like, "v")
        return x, x if in_src == in_dst else node_features(op, g, x, in_dst, like, "v")
    if isinstance(g, Block):
        x = node_features(op, g, x, in_src, like, "u")
        return x, x[: g.num_dst] if in_src == in_dst else node_features(
            op, g, x[: g.num_dst], in_dst, like, "v"
        )
    if g.is_bipartite:
        problem = (
            f"the graph is bipartite, with {g.num_src} sources and {g.num_dst} destinations, and x is one "
            "array"
        )
        raise bad_value(op, problem, "pass a pair of features, (x_src, x_dst)")
    x = node_features(op, g, x, in_src, like)
    return x, x if in_src == in_dst else node_features(op, g, x, in_dst, like)


class Looped(NamedTuple):
    """A graph in which every node has a self loop: edges that were kept, in their order, then loops.

    kept: ids of the edges before, None for all. nodes: those with a loop at the end. last: ids of these
    nodes' last loops before, num_edges where there was none; None where none of them had one.
    """

    graph: Graph
    kept: np.ndarray | None
    nodes: np.ndarray
    last: np.ndarray | None


def with_self_loops(
    g: Graph, edge_weight: Any = None, op: str = "self loops", fill: float = 1.0, collapse: bool = False
) -> tuple[Graph, Any]:
    """The graph with an edge v → v for every node that has none, and its edge weights: ``fill`` for the new
    edges, whose ids come last.

    collapse: each node's loops become one, whose id is among the last, and whose weight is that of the last
    of them."""
    made = looped(g, op, collapse)
    if made is None:
        return g, edge_weight
    if edge_weight is not None:
        shape = edge_weight.shape[1:]
        if _is_sampled(g) and made.last is not None:
            known = np.append(weights_of_origin(op, g), fill)[made.last]
            loops = moved(known.astype(edge_weight.dtype), g.device).reshape(-1, *shape)
        elif made.last is None:
            loops = np.full_like(edge_weight, fill, shape=(len(made.nodes), *shape))
        else:
            loops = gather(
                np.concatenate([edge_weight, np.full_like(edge_weight, fill, shape=(1, *shape))]),
                _on(made.last, edge_weight),
            )
        edge_weight = np.concatenate([_kept(made, edge_weight), loops])
        if _is_sampled(g) and g.origin.edge_weight is not None:
            return _with_weights(g, made, op, fill, collapse), edge_weight
    return made.graph, edge_weight


def _with_weights(g: Block, made: Looped, op: str, fill: float, collapse: bool) -> Block:
    """The block with loops, of a graph with loops and weights."""
    key, whole = ("weighted loops", fill, collapse), g.origin.graph
    origin = g.origin.kept.get(key)
    if origin is None:
        weight = moved(weights_of_origin(op, g).reshape(-1, 1), whole.device)
        graph, weight = with_self_loops(whole, weight, op, fill, collapse)
        origin = g.origin.kept.setdefault(key, Origin(graph, moved(weight, "cpu").reshape(-1)))
    return Block.of(origin.without(g.origin.left_out), g.nodes, made.graph._edges)


def weighted_loops(
    g: Graph, edge_weight: Any, op: str, fill: float, collapse: bool, dtype: Any
) -> tuple[Graph, Any]:
    """``with_self_loops`` where edges without weights have weight 1: they get them if the loops' is
    another.
    """
    if edge_weight is None and fill != 1:
        if _is_sampled(g):
            ones = g.origin.kept.get("ones") or g.origin.kept.setdefault(
                "ones", Origin(g.origin.graph, np.ones(g.origin.graph.num_edges))
            )
            g = Block.of(ones.without(g.origin.left_out), g.nodes, g._edges)
        edge_weight = moved(np.ones((g.num_edges, 1), dtype), g.device)
    return with_self_loops(g, edge_weight, op, fill, collapse)


def loop_weight(op: str, fill_value: Any, improved: bool = False) -> float:
    """The weight of new loops."""
    if not isinstance(fill_value, int | float | np.number):
        raise bad_value(
            op, f"fill_value is {shown(fill_value)}", "it is the weight of the loops that are added, a number"
        )
    if improved and fill_value not in (1, 2):
        raise bad_value(
            op,
            f"improved is True and fill_value is {fill_value}",
            "improved stands for fill_value=2: give one of them",
        )
    return 2.0 if improved else float(fill_value)


def features_with_loops(g: Graph, w: Any, fill: Any, collapse: bool) -> Any:
    """Features [num_edges, D] for the edges of ``with_self_loops``'s graph; the new loops have ``fill``: a
    number, an array [D], or the name of what is reduced over the node's in-edges that are no loops. collapse:
    all loops are new."""
    made = looped(g, "self loops", collapse)
    if made is None:
        return w
    kept = _kept(made, w)
    if isinstance(fill, str):
        others = once(g, "no self loops", _without_loops)
        plain = w if others is None else gather(w, _on(others[1], w))
        loops = update_all(g if others is None else others[0], lambda e: e.w, fill, e={"w": plain})
        loops = loops if len(made.nodes) == g.num_dst else gather(loops, _on(made.nodes, w))
    else:
        loops = np.broadcast_to(
            moved(np.asarray(fill), g.device).astype(w.dtype), (len(made.nodes), *w.shape[1:])
        )
    return np.concatenate([kept, loops])


def check_fill(op: str, fill: Any, edge_dim: int | None) -> Any:
    """The features of new loops: a number, one for each of the edge_dim features, or the name of a reduce."""
    if isinstance(fill, str):
        check_name(op, "fill_value", fill, NAMES)
        return fill
    shape = np.shape(fill)
    if np.asarray(fill).dtype.kind not in "biuf" or shape not in ((), (edge_dim,)):
        raise bad_value(
            op,
            f"fill_value is {shown(fill)}",
            f"give a number, edge_dim numbers, or one of {', '.join(NAMES)}",
        )
    return fill


def looped(g: Graph, op: str, collapse: bool) -> Looped | None:
    """The graph with self loops, or None where it is the graph itself."""
    if isinstance(g, Shard):
        found: Looped | None = once(
            g, ("self loops", collapse), _collapsed_shard if collapse else _missing_of_shard
        )
        return found
    if isinstance(g, Block):
        found = once(g, ("self loops", collapse), lambda _: _looped_block(g, op, collapse))
        return found
    if g.is_bipartite:
        problem = (
            f"the graph is bipartite, with {g.num_src} sources and {g.num_dst} destinations, which have no "
            "self loops"
        )
        raise bad_value(op, problem, f"make the layer as {op}(…, add_self_loops=False)")
    found = once(g, ("self loops", collapse), _collapsed if collapse else _missing)
    return found


def _looped_block(g: Block, op: str, collapse: bool) -> Looped | None:
    """A block of the graph with self loops: those of the destinations, also where a graph's own loop was not
    drawn.

    last: ids in the graph that the block is of.
    """
    whole = g.origin.graph
    made = looped(whole, op, collapse)
    if made is None:
        return None
    place = once(whole, ("places of loops", collapse), lambda whole: _places(made.nodes, whole.num_nodes))
    found = place[g.nodes[: g.num_dst]]
    into = np.flatnonzero(found >= 0)
    kept = np.flatnonzero(g.src != g.dst) if collapse else None
    known = g.origin.kept.get(("looped", collapse))
    if known is None:
        known = g.origin.kept.setdefault(("looped", collapse), Origin(made.graph))
    last = None if made.last is None else made.last[made.nodes][found[into]]
    block = g.to("cpu").looped(into, known.without(g.origin.left_out), kept).to(g.device)
    return Looped(block, kept, into, last)


def _missing_of_shard(g: Any) -> Looped:
    """Always another shard, also where no owned node lacks a loop: what processes derive together of a graph
    is new on all of them.
    """
    has = np.zeros(g.num_dst, bool)
    has[g.dst[g.src == g.dst]] = True
    into = np.flatnonzero(~has)
    return Looped(_with_loops(g, into, slice(None)), None, into, None)


def _collapsed_shard(g: Any) -> Looped:
    loops, into = np.flatnonzero(g.src == g.dst), np.arange(g.num_dst)
    last = np.full(g.num_dst, g.num_edges, np.int64)
    last[g.dst[loops]] = loops  # NumPy assigns in order: the last one stays
    kept = np.flatnonzero(g.src != g.dst)
    return Looped(_with_loops(g, into, kept), kept, into, last)


def _with_loops(g: Shard, into: np.ndarray, kept: Any) -> Shard:
    columns: list[Any] = [
        frozen(np.concatenate([ends[kept], into.astype(ends.dtype)])) for ends in (g.src, g.dst)
    ]
    return g.with_edges(Edges((g.num_src, g.num_dst), columns, [None, None], True))


def _is_sampled(g: Graph) -> TypeGuard[Block]:
    """Whether a block has some of the in-edges, and the graph that it is from tells degrees and loops."""
    return isinstance(g, Block) and not isinstance(g, Shard)


def _places(nodes: np.ndarray, num_nodes: int) -> np.ndarray:
    places = np.full(num_nodes, -1, np.int64)
    places[nodes] = np.arange(len(nodes))
    return places


def weights_of_origin(op: str, g: Block) -> Any:
    """[num_edges] the weights of all edges of the graph that a block is of."""
    weight = g.origin.edge_weight
    if weight is None:
        fix = (
            "sample with a NeighborLoader of a Dataset that has edge_weight, or choose weighted_degrees=False"
        )
        raise bad_value(
            op, "degrees are sums of weights, and the block knows those of its own edges alone", fix
        )
    return np.asarray(weight).reshape(-1)


def _missing(g: Graph) -> Looped | None:
    """A loop for every node that lacks one."""
    if g.device != "cpu":
        found: Looped | None = _moved(g, _missing, False)
        return found
    graph = g.add_self_loops(only_missing=True)
    return None if graph.num_edges == g.num_edges else Looped(graph, None, graph.dst[g.num_edges :], None)


def _collapsed(g: Graph) -> Looped:
    """One loop for every node, in the order of nodes."""
    if g.device != "cpu":
        found: Looped = _moved(g, _collapsed, True)
        return found
    plain, edges = g.remove_self_loops(return_edges=True)
    loops = np.flatnonzero(g.src == g.dst)
    last = np.full(g.num_nodes, g.num_edges, np.int64)
    last[g.src[loops]] = loops  # NumPy assigns in order: the last one stays
    return Looped(plain.add_self_loops(), edges.ids, np.arange(g.num_nodes), last)


def _moved(g: Graph, make: Any, collapse: bool) -> Any:
    made = once(g.to("cpu"), ("self loops", collapse), make)
    return made and made._replace(graph=made.graph.to(g.device))


def _without_loops(g: Graph) -> tuple[Graph, np.ndarray] | None:
    """The graph's other edges and their ids; None where it has no loops."""
    if isinstance(g, Block):
        ids = np.flatnonzero(g.src != g.dst)
        return None if len(ids) == g.num_edges else (g.edge_subgraph(ids), ids)
    plain, edges = g.remove_self_loops(return_edges=True)
    return None if len(edges) == g.num_edges else (plain, edges.ids)


def _kept(made: Looped, w: Any) -> Any:
    return w if made.kept is None else gather(w, _on(made.kept, w))


def _on(ids: np.ndarray, like: Any) -> Any:
    """Ids where an array is."""
    return moved(ids, device_of(unwrap(like)))


def check_norm(op: str, norm: str) -> str:
    check_name(op, "norm", norm, NORMS)
    return norm


def column(op: str, g: Graph, edge_weight: Any, like: Any, name: str = "edge_weight") -> Any:
    """Edge weights as [num_edges, 1], integers and booleans in ``like``, the dtype of what they scale."""
    weight = _edge_array(op, g, edge_weight, name)
    if tuple(weight.shape) not in ((g.num_edges,), (g.num_edges, 1)):
        raise bad_value(op, f"{name} has shape {list(weight.shape)}", f"one weight an edge: [{g.num_edges}]")
    return floating(weight, like).reshape(g.num_edges, 1)


def edge_features(op: str, g: Graph, w: Any, features: int, like: Any, name: str = "w") -> Any:
    """w as an array or Tensor [num_edges, features], or [num_edges, 1] where each edge has one number for all
    features.
    """
    w = _edge_array(op, g, w, name)
    if tuple(w.shape) not in ((g.num_edges,), (g.num_edges, 1), (g.num_edges, features)):
        raise bad_value(
            op,
            f"{name} has shape {list(w.shape)}",
            f"graph and x need [{g.num_edges}, {features}] or [{g.num_edges}, 1]",
        )
    w = floating(w, like)
    return w if w.ndim == 2 else w.reshape(g.num_edges, 1)


def edge_attributes(
    op: str, g: Graph, edge_attr: Any, layer_dim: int | None, like: Any, name: str = "edge_attr"
) -> Any:
    """edge_attr as an array or Tensor [num_edges, layer_dim], the layer's edge_dim, or None; [num_edges] is
    [num_edges, 1].
    """
    if edge_attr is None:
        return None
    if layer_dim is None:
        raise bad_value(
            op,
            f"{name} is given and the layer has no edge_dim",
            f"make it as {op}(…, edge_dim=features of an edge)",
        )
    w = _edge_array(op, g, edge_attr, name)
    w = w.reshape(w.shape[0], 1) if w.ndim == 1 else w
    if tuple(w.shape) != (g.num_edges, layer_dim):
        raise bad_value(
            op,
            f"{name} has shape {list(w.shape)}",
            f"graph and layer need [{g.num_edges}, {layer_dim}]: a row an edge",
        )
    w = floating(w, like)
    return w if w.dtype == like else w.astype(np.result_type(w.dtype, like))


def _edge_array(op: str, g: Graph, w: Any, name: str) -> Any:
    made = w if isinstance(w, Tensor) else as_array(op, name, w)
    made = made if hasattr(w, "shape") else moved(made, g.device)
    check_dtype(op, name, made.dtype)
    return made
