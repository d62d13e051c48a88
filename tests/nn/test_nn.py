"""Every layer against its formula, written with loops over nodes; its gradients against central differences;
float32; odd graphs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from checks import check_float32, check_gradient
from oracle import kept

from numgraph import Graph, Parameter, Tape, nn
from numgraph.autodiff.tape import unwrap

Arrays = dict[str, np.ndarray]

# Node 1 has a self loop and parallel in-edges, node 3 no in-edges, node 5 no edges; node 1's in-degree is 5.
SRC = [0, 1, 2, 2, 4, 3, 1, 4, 0, 1, 3, 2]
DST = [1, 1, 1, 1, 1, 0, 0, 2, 2, 2, 4, 4]
GRAPHS = {"odd": Graph(SRC, DST, 6), "no edges": Graph([], [], 3), "one loop": Graph([0], [0], 1)}
TWO_SIDED = Graph([0, 1, 2, 3, 3, 0, 0], [0, 0, 2, 2, 2, 3, 3], num_src=5, num_dst=4)


# The formulas. g: graph, p: parameters by name, x: features of both sides, then what the layer is given
# beside them.


def in_edges(g: Graph, loops: bool = False) -> list[list[tuple[int, int]]]:
    """(edge, source) of every in-edge of every node; a loop that is added has the next free edge id."""
    rows: list[list[tuple[int, int]]] = [[] for _ in range(g.num_dst)]
    for e, (u, v) in enumerate(zip(g.src.tolist(), g.dst.tolist())):
        rows[v].append((e, u))
    free = g.num_edges
    for v in range(g.num_dst if loops else 0):
        if all(u != v for _, u in rows[v]):
            rows[v].append((free, v))
            free += 1
    return rows


def adjacency(
    g: Graph, norm: str = "both", loops: bool = True, weights: np.ndarray | None = None
) -> np.ndarray:
    """D^-½ A D^-½ as a matrix [num_dst, num_src]."""
    a = np.zeros((g.num_dst, g.num_src))
    for v, row in enumerate(in_edges(g, loops)):
        for e, u in row:
            a[v, u] += 1 if weights is None or e >= g.num_edges else weights[e]
    with np.errstate(divide="ignore"):
        into, out = np.where(a.sum(1) > 0, 1 / a.sum(1), 0), np.where(a.sum(0) > 0, 1 / a.sum(0), 0)
    if norm == "both":
        return np.sqrt(into)[:, None] * a * np.sqrt(out)
    return into[:, None] * a if norm == "right" else a


def reduced(
    g: Graph, messages: Callable[[int, int, int], np.ndarray], reduce: Callable[..., Any], width: int
) -> np.ndarray:
    """reduce over the messages(e, u, v) of the in-edges of every v, 0 without any."""
    rows = [[messages(e, u, v) for e, u in row] for v, row in enumerate(in_edges(g))]
    return np.array([reduce(row, axis=0) if row else np.zeros(width) for row in rows]).reshape(
        g.num_dst, width
    )


def attention(
    g: Graph,
    heads: int,
    h: np.ndarray,
    score: Callable[[int, int, int], float],
    loops: bool,
    keep: np.ndarray | None = None,
) -> np.ndarray:
    """Σ softmax(score(u, v, head)) h_u by head, [num_dst, heads, features]."""
    z = np.zeros((g.num_dst, heads, h.shape[2]))
    for v, row in enumerate(in_edges(g, loops)):
        for k in range(heads):
            weight = np.exp([score(u, v, k) for _, u in row])
            for (e, u), w in zip(row, weight / weight.sum()):
                z[v, k] += w * h[u, k] * (1 if keep is None else keep[e, k])
    return z


def mlp(p: Arrays, x: np.ndarray, prefix: str = "f.steps") -> np.ndarray:
    h = np.maximum(x @ p[f"{prefix}.0.weight"] + p[f"{prefix}.0.bias"], 0)
    return h @ p[f"{prefix}.2.weight"] + p[f"{prefix}.2.bias"]


def gcn(norm: str = "both", loops: bool = True, k: int = 1) -> Callable[..., np.ndarray]:
    def formula(g: Graph, p: Arrays, x: np.ndarray, edge_weight: np.ndarray | None = None) -> np.ndarray:
        for _ in range(k):
            x = adjacency(g, norm, loops, edge_weight) @ x
        return x @ p["weight"] + p["bias"]

    return formula


def appnp(g: Graph, p: Arrays, x: np.ndarray) -> np.ndarray:
    z = x
    for _ in range(3):
        z = 0.8 * adjacency(g) @ z + 0.2 * x
    return z


def sage(aggr: str) -> Callable[..., np.ndarray]:
    def formula(g: Graph, p: Arrays, x: Any) -> np.ndarray:
        x_src, x_dst = x if isinstance(x, tuple) else (x, x)
        h = np.maximum(x_src @ p["pool.weight"] + p["pool.bias"], 0) if aggr == "pool" else x_src
        z = reduced(g, lambda e, u, v: h[u], np.mean if aggr == "mean" else np.max, h.shape[1])
        return z @ p["weight"] + x_dst @ p["weight_self"] + p["bias"]

    return formula


def joined(z: np.ndarray, concat: bool) -> np.ndarray:
    return z.reshape(z.shape[0], z.shape[1] * z.shape[2]) if concat else z.mean(1)


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.2 * x)


def gat(heads: int, concat: bool = True, keep: np.ndarray | None = None) -> Callable[..., np.ndarray]:
    def formula(g: Graph, p: Arrays, x: Any) -> np.ndarray:
        x_src, x_dst = x if isinstance(x, tuple) else (x, x)
        h = (x_src @ p["weight"]).reshape(len(x_src), heads, p["weight"].shape[1] // heads)
        t = (x_dst @ p.get("weight_dst", p["weight"])).reshape(len(x_dst), heads, h.shape[2])
        a, b = p["attention_src"], p["attention_dst"]
        z = attention(
            g,
            heads,
            h,
            lambda u, v, k: leaky(a[k] @ h[u, k] + b[k] @ t[v, k]),
            not isinstance(x, tuple),
            keep,
        )
        return joined(z, concat) + p["bias"]

    return formula


def gatv2(g: Graph, p: Arrays, x: np.ndarray) -> np.ndarray:
    h, t = ((x @ p[name]).reshape(len(x), 2, 2) for name in ("weight", "weight_dst"))
    return (
        joined(attention(g, 2, h, lambda u, v, k: p["attention"][k] @ leaky(h[u, k] + t[v, k]), True), True)
        + p["bias"]
    )


def transformer(heads: int, concat: bool, gated: bool) -> Callable[..., np.ndarray]:
    def formula(g: Graph, p: Arrays, x: np.ndarray) -> np.ndarray:
        q, k, h, r = (
            x @ p[f"{name}.weight"] + p[f"{name}.bias"] for name in ("query", "key", "value", "skip")
        )
        q, k, h = (y.reshape(len(x), heads, -1 if y.size else 1) for y in (q, k, h))
        z = joined(
            attention(g, heads, h, lambda u, v, i: q[v, i] @ k[u, i] / np.sqrt(q.shape[2]), False), concat
        )
        if not gated:
            return z + r
        beta = 1 / (1 + np.exp(-np.concatenate([z, r, z - r], 1) @ p["gate.weight"]))
        return beta * r + (1 - beta) * z

    return formula


def gin(g: Graph, p: Arrays, x: np.ndarray) -> np.ndarray:
    return mlp(p, (1 + p["eps"]) * x + reduced(g, lambda e, u, v: x[u], np.sum, x.shape[1]))


def gine(g: Graph, p: Arrays, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return mlp(
        p, (1 + p["eps"]) * x + reduced(g, lambda e, u, v: np.maximum(x[u] + w[e], 0), np.sum, x.shape[1])
    )


def edge(g: Graph, p: Arrays, x: Any) -> np.ndarray:
    x_src, x_dst = x if isinstance(x, tuple) else (x, x)

    def message(e: int, u: int, v: int) -> np.ndarray:
        return np.maximum((x_src[u] - x_dst[v]) @ p["theta"] + x_dst[v] @ p["phi"] + p["bias"], 0)

    return reduced(g, message, np.max, p["theta"].shape[1])


def rgcn(g: Graph, p: Arrays, x: np.ndarray, relations: np.ndarray) -> np.ndarray:
    matrices = np.einsum("rb,bio->rio", p.get("coefficients", np.eye(len(p["bases"]))), p["bases"])
    z = x @ p["weight_self"] + p["bias"]
    for v, row in enumerate(in_edges(g)):
        for r, matrix in enumerate(matrices):
            near = [x[u] @ matrix for e, u in row if relations[e] == r]
            z[v] += np.mean(near, axis=0) if near else 0
    return z


def pna(g: Graph, p: Arrays, x: np.ndarray) -> np.ndarray:
    degrees = np.array([len(row) for row in in_edges(g)])
    delta = np.log(degrees + 1).mean() if g.num_edges else 1.0

    def message(e: int, u: int, v: int) -> np.ndarray:
        return x[u] @ p["theta"] + x[v] @ p["phi.weight"] + p["phi.bias"]

    mean, highest, lowest, square = (
        reduced(g, message, f, x.shape[1])
        for f in (np.mean, np.max, np.min, lambda m, axis: np.mean(np.square(m), axis))
    )
    parts = np.concatenate([mean, highest, lowest, np.sqrt(np.maximum(square - mean**2, 0) + 1e-5)], 1)
    amplified, attenuated = (
        parts * (np.log(degrees + 1) / delta)[:, None],
        parts * (delta / np.log(np.maximum(degrees, 1) + 1))[:, None],
    )
    return (
        x @ p["self_update"]
        + np.concatenate([parts, amplified, attenuated], 1) @ p["update.weight"]
        + p["update.bias"]
    )


# The table.


def no_arrays(g: Graph, rng: np.random.Generator) -> Arrays:
    return {}


@dataclass(frozen=True)
class Case:
    """make(rng, dtype) builds the layer for 3 features; floats and fixed are what it is given beside x, with
    and without gradient.
    """

    make: Callable[..., nn.Module]
    formula: Callable[..., np.ndarray]
    floats: Callable[[Graph, np.random.Generator], Arrays] = no_arrays
    fixed: Callable[[Graph, np.random.Generator], Arrays] = no_arrays
    second_order: bool = False


def edge_weights(g: Graph, rng: np.random.Generator) -> Arrays:
    return {"edge_weight": rng.uniform(0.5, 1.5, g.num_edges)}


def edge_features(g: Graph, rng: np.random.Generator) -> Arrays:
    return {"w": rng.standard_normal((g.num_edges, 3))}


def relations(g: Graph, rng: np.random.Generator) -> Arrays:
    return {"relations": rng.integers(0, 3, g.num_edges)}


def _gin(kind: Any, hidden: int) -> Callable[..., nn.Module]:
    return lambda **o: kind(nn.MLP([3, hidden, 2], **o), eps=0.1, train_eps=True, dtype=o["dtype"])


CASES = {
    "gcn": Case(lambda **o: nn.GCNConv(3, 2, **o), gcn()),
    "gcn, wider": Case(lambda **o: nn.GCNConv(3, 4, norm="right", **o), gcn("right")),
    "gcn, no norm": Case(
        lambda **o: nn.GCNConv(3, 4, norm="none", add_self_loops=False, **o), gcn("none", False)
    ),
    "gcn, weights": Case(lambda **o: nn.GCNConv(3, 2, **o), gcn(), edge_weights, second_order=True),
    "gcn, weights, right": Case(
        lambda **o: nn.GCNConv(3, 4, norm="right", add_self_loops=False, **o),
        gcn("right", False),
        edge_weights,
    ),
    "sgc": Case(lambda **o: nn.SGConv(3, 2, k=3, **o), gcn(k=3)),
    "sgc, wider": Case(lambda **o: nn.SGConv(3, 4, **o), gcn(k=2)),
    "appnp": Case(lambda **o: nn.APPNP(k=3, alpha=0.2), appnp),
    "sage mean": Case(lambda **o: nn.SAGEConv(3, 2, **o), sage("mean")),
    "sage mean, wider": Case(lambda **o: nn.SAGEConv(3, 4, **o), sage("mean")),
    "sage max": Case(lambda **o: nn.SAGEConv(3, 2, aggr="max", **o), sage("max")),
    "sage pool": Case(lambda **o: nn.SAGEConv(3, 2, aggr="pool", **o), sage("pool"), second_order=True),
    "gat": Case(lambda **o: nn.GATConv(3, 2, heads=2, **o), gat(2), second_order=True),
    "gat, averaged": Case(lambda **o: nn.GATConv(3, 2, heads=2, concat=False, **o), gat(2, False)),
    "gatv2": Case(lambda **o: nn.GATv2Conv(3, 2, heads=2, **o), gatv2, second_order=True),
    "transformer": Case(lambda **o: nn.TransformerConv(3, 2, heads=2, **o), transformer(2, True, False)),
    "transformer, gated": Case(
        lambda **o: nn.TransformerConv(3, 2, heads=2, concat=False, gated=True, **o),
        transformer(2, False, True),
    ),
    "gin": Case(_gin(nn.GINConv, 4), gin),
    "gin, narrower": Case(_gin(nn.GINConv, 2), gin),
    "gine": Case(_gin(nn.GINEConv, 4), gine, edge_features),
    "edge": Case(lambda **o: nn.EdgeConv(3, 2, **o), edge),
    "rgcn": Case(
        lambda **o: nn.RGCNConv(3, 2, 3, num_bases=2, **o), rgcn, fixed=relations, second_order=True
    ),
    "rgcn, wider": Case(lambda **o: nn.RGCNConv(3, 4, 3, num_bases=2, **o), rgcn, fixed=relations),
    "rgcn, own matrices": Case(lambda **o: nn.RGCNConv(3, 2, 3, **o), rgcn, fixed=relations),
    "pna": Case(lambda **o: nn.PNAConv(3, 2, **o), pna),
}


def filled(layer: nn.Module, rng: np.random.Generator) -> nn.Module:
    """Random values in every parameter, so that biases and eps count."""
    for parameter in layer.parameters():
        parameter.data = rng.uniform(-1, 1, parameter.shape).astype(parameter.dtype)
    return layer


def values(layer: nn.Module) -> Arrays:
    return {name: parameter.data for name, parameter in layer.named_parameters()}


def as_function(layer: nn.Module, g: Graph, names: list[str], fixed: Arrays) -> Callable[..., Any]:
    """f(x, *parameters, *named arrays): the layer with its parameters replaced by arrays or Tensors."""
    places = list(values(layer))

    def f(x: Any, *arrays: Any) -> Any:
        replica = copy.deepcopy(layer)
        for place, array in zip(places, arrays):
            owner: Any = replica
            *path, last = place.split(".")
            for step in path:
                owner = owner[int(step)] if step.isdigit() else getattr(owner, step)
            setattr(owner, last, array)
        return replica(g, x, **dict(zip(names, arrays[len(places) :])), **fixed)

    return f


def inputs(case: Case, g: Graph, seed: int = 3) -> tuple[nn.Module, np.ndarray, Arrays, Arrays]:
    rng = np.random.default_rng(seed)
    layer = filled(case.make(rng=rng, dtype=np.float64), rng)
    return layer, rng.standard_normal((g.num_nodes, 3)), case.floats(g, rng), case.fixed(g, rng)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("name", CASES)
def test_forward_is_the_formula(name: str, graph: str) -> None:
    case, g = CASES[name], GRAPHS[graph]
    layer, x, floats, fixed = inputs(case, g)
    z = unwrap(layer(g, x, **floats, **fixed))
    assert z.dtype == np.float64
    np.testing.assert_allclose(
        z, case.formula(g, values(layer), x, **floats, **fixed), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_inputs_and_parameters(name: str) -> None:
    case, g = CASES[name], GRAPHS["odd"]
    layer, x, floats, fixed = inputs(case, g)
    arrays = [x, *values(layer).values(), *floats.values()]
    f = as_function(layer, g, list(floats), fixed)
    check_gradient(f, arrays, order=2 if case.second_order else 1, step=1e-4)
    check_float32(f, arrays)


@pytest.mark.parametrize("name", CASES)
def test_gradients_without_edges(name: str) -> None:
    case, g = CASES[name], GRAPHS["no edges"]
    layer, x, floats, fixed = inputs(case, g)
    check_gradient(as_function(layer, g, list(floats), fixed), [x, *values(layer).values(), *floats.values()])


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_float32(name: str) -> None:
    case, g = CASES[name], GRAPHS["odd"]
    rng = np.random.default_rng(3)
    layer = filled(case.make(rng=rng, dtype=np.float32), rng)
    x = rng.standard_normal((g.num_nodes, 3), np.float32)
    floats, fixed = {key: a.astype(np.float32) for key, a in case.floats(g, rng).items()}, case.fixed(g, rng)
    with Tape() as tape:
        z = layer(g, tape.watch(x), **floats, **fixed)
    assert z.dtype == np.float32
    want = case.formula(
        g,
        {key: a.astype(np.float64) for key, a in values(layer).items()},
        x.astype(np.float64),
        **floats,
        **fixed,
    )
    np.testing.assert_allclose(z.data, want, rtol=0, atol=1e-4 * np.abs(want).max())


TWO_SIDED_CASES = {
    "gcn": (lambda **o: nn.GCNConv(3, 2, add_self_loops=False, **o), gcn(loops=False)),
    "sage mean": (lambda **o: nn.SAGEConv((3, 2), 2, **o), sage("mean")),
    "sage max": (lambda **o: nn.SAGEConv((3, 2), 4, aggr="max", **o), sage("max")),
    "gat": (lambda **o: nn.GATConv((3, 2), 2, heads=2, **o), gat(2)),
    "gat, one W": (lambda **o: nn.GATConv(3, 2, heads=2, **o), gat(2)),
    "edge": (lambda **o: nn.EdgeConv(3, 2, **o), edge),
}


@pytest.mark.parametrize("name", TWO_SIDED_CASES)
def test_two_sets_of_nodes(name: str) -> None:
    make, formula = TWO_SIDED_CASES[name]
    rng = np.random.default_rng(1)
    layer: Any = filled(make(rng=rng, dtype=np.float64), rng)
    width = 2 if name in ("sage mean", "sage max", "gat") else 3
    x, y = rng.standard_normal((5, 3)), rng.standard_normal((4, width))
    pair = x if name == "gcn" else (x, y)
    np.testing.assert_allclose(
        layer(TWO_SIDED, pair), formula(TWO_SIDED, values(layer), pair), rtol=1e-10, atol=1e-12
    )
    if name != "gcn":
        check_gradient(lambda x, y: layer(TWO_SIDED, (x, y)), [x, y])


def test_attention_dropout_drops_coefficients() -> None:
    """The paper drops α after the softmax: the rest is not normalised anew."""
    g = GRAPHS["odd"]
    rng = np.random.default_rng(3)
    layer = filled(nn.GATConv(3, 2, heads=2, dropout=0.4, rng=rng, dtype=np.float64), rng)
    x = rng.standard_normal((6, 3))
    keep = kept(np.random.default_rng(5), (g.num_edges + 5, 2), 0.4) / 0.6
    assert 0 < np.count_nonzero(keep) < keep.size
    z = layer(g, x, rng=np.random.default_rng(5))
    np.testing.assert_allclose(z.data, gat(2, keep=keep)(g, values(layer), x), rtol=1e-10, atol=1e-12)
    check_gradient(lambda x: layer(g, x, rng=np.random.default_rng(5)), [x])
    np.testing.assert_allclose(layer.eval()(g, x).data, gat(2)(g, values(layer), x), rtol=1e-10, atol=1e-12)


def test_parameters_are_parameters() -> None:
    for name, case in CASES.items():
        layer = case.make(rng=0, dtype=np.float32)
        assert all(isinstance(p, Parameter) and p.dtype == np.float32 for p in layer.parameters()), name


@pytest.mark.parametrize(("weight", "says"), [(-1.0, np.isnan), (np.nan, np.isnan), (0.0, np.isfinite)])
def test_degrees_without_a_root_are_not_hidden(weight, says):
    """Node 1 has the one in-edge 0 → 1: a degree of 0 scales by 0, a negative one or NaN by NaN."""
    g = Graph([0], [1], 2)
    out = nn.GCNConv(2, 2, rng=0, add_self_loops=False)(g, np.ones((2, 2)), edge_weight=np.array([weight]))
    assert says(out[1]).all()
    assert (out[0] == 0).all()
