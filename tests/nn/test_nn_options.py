"""Options of layers and models that PyG has not, against dense formulas; attention that is returned; what
cannot be, and its errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from checks import check_float32, check_gradient

import numgraph as ng
from numgraph import Graph, Tape, nn
from numgraph.autodiff.tape import unwrap

# Node 1 has two self loops and parallel in-edges, node 3 no in-edges, node 5 no edges.
SRC, DST = [0, 1, 1, 2, 2, 4, 3, 1, 4, 0, 1], [1, 1, 1, 1, 1, 1, 0, 0, 2, 2, 4]
G = Graph(SRC, DST, 6)
PAIR = Graph([0, 1, 2, 3, 3, 0, 0], [0, 0, 2, 2, 2, 3, 3], num_src=5, num_dst=4)
RNG = np.random.default_rng(0)
X, WEIGHT, ATTR = RNG.standard_normal((6, 3)), RNG.uniform(0.5, 1.5, 11), RNG.standard_normal((11, 2))
X_SRC, X_DST = RNG.standard_normal((5, 3)), RNG.standard_normal((4, 3))
WIDE: dict[str, Any] = {"rng": 0, "dtype": np.float64}


def filled(layer: Any) -> Any:
    rng = np.random.default_rng(1)
    for p in layer.parameters():
        p.data = rng.uniform(-1, 1, p.shape).astype(p.dtype)
    return layer


def dense(g: Graph, weights: np.ndarray) -> np.ndarray:
    a = np.zeros((g.num_dst, g.num_src))
    np.add.at(a, (g.dst, g.src), weights)
    return a


def close(found: Any, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(unwrap(found), wanted, rtol=1e-11, atol=1e-12)


def looped(g: Graph, weights: np.ndarray, fill: float) -> np.ndarray:
    """The adjacency with loops of a weight where there are none."""
    a = dense(g, weights)
    lacking = np.setdiff1d(np.arange(g.num_dst), g.src[g.src == g.dst])
    a[lacking, lacking] = fill
    return a


def test_gcn_of_dgl() -> None:
    """DGL's GraphConv: degrees are numbers of edges, of which messages have weights; out of the source, into
    the destination.
    """
    layer = filled(nn.GCNConv(3, 2, add_self_loops=False, weighted_degrees=False, **WIDE))
    out, into = np.bincount(SRC, minlength=6), np.bincount(DST, minlength=6)
    scaled = dense(G, WEIGHT / np.sqrt(out[SRC] * into[DST]))
    close(layer(G, X, WEIGHT), scaled @ X @ layer.weight.data + layer.bias.data)
    check_gradient(lambda x, w: layer(G, x, w), [X, WEIGHT])


@pytest.mark.parametrize("norm", ["both", "in", "right", "none"])
def test_gcn_fills_loops(norm: str) -> None:
    layer = filled(nn.GCNConv(3, 4, norm=norm, fill_value=0.5, **WIDE))
    for weights in (None, WEIGHT):
        a = looped(G, np.ones(11) if weights is None else weights, 0.5)
        into, out = a.sum(1), a.sum(0)
        left = {"both": into**-0.5, "in": into**-0.5, "right": 1 / into, "none": np.ones(6)}[norm]
        right = {"both": out**-0.5, "in": into**-0.5}.get(norm, np.ones(6))
        close(layer(G, X, weights), left[:, None] * a * right @ X @ layer.weight.data + layer.bias.data)


@pytest.mark.parametrize("out", [2, 4])
def test_gcn_of_features_with_three_axes(out: int) -> None:
    layer = filled(nn.GCNConv(3, out, **WIDE))
    x = RNG.standard_normal((6, 2, 3))
    found = layer(G, x, WEIGHT)
    assert found.shape == (6, 2, out)
    for k in range(2):
        close(unwrap(found)[:, k], unwrap(layer(G, x[:, k], WEIGHT)))
    check_gradient(lambda x, w: layer(G, x, w), [x, WEIGHT])


def test_collapsed_loops_of_weights() -> None:
    """Of node 1's loops 1 and 2 the last counts."""
    layer = filled(nn.GCNConv(3, 2, norm="none", collapse_loops=True, **WIDE))
    a = dense(G, np.where([u == v for u, v in zip(SRC, DST)], 0, WEIGHT)) + np.diag(
        [1, WEIGHT[2], 1, 1, 1, 1]
    )
    close(layer(G, X, WEIGHT), a @ X @ layer.weight.data + layer.bias.data)
    with Tape() as tape:
        w = tape.watch(WEIGHT)
        loss = layer(G, X, w).sum()
    (found,) = tape.gradient(loss, [w])
    assert found[1] == 0
    assert np.count_nonzero(found) == 10


def messages(reduce: Callable[..., Any], m: np.ndarray, empty: float = 0.0) -> np.ndarray:
    rows = [m[np.array(DST) == v] for v in range(6)]
    return np.array([reduce(row, axis=0) if len(row) else np.full(m.shape[1], empty) for row in rows])


def lower_median(row: np.ndarray, axis: int) -> np.ndarray:
    return np.sort(row, axis=0)[(len(row) - 1) // 2]


REDUCES: dict[str, Callable[..., Any]] = {
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
    "var": np.var,
    "std": np.std,
    "median": lower_median,
}


@pytest.mark.parametrize("aggr", [*REDUCES, ["var", "median", "std", "sum"]], ids=str)
def test_sage_aggregates_weighted_messages(aggr: Any) -> None:
    layer = filled(nn.SAGEConv(3, 2, aggr=aggr, **WIDE))
    m = X[SRC] * WEIGHT[:, None]
    parts = np.concatenate(
        [messages(REDUCES[name], m) for name in ([aggr] if isinstance(aggr, str) else aggr)], 1
    )
    close(layer(G, X, WEIGHT), parts @ layer.weight.data + X @ layer.weight_self.data + layer.bias.data)
    check_gradient(lambda x, w: layer(G, x, w), [X, WEIGHT], step=1e-4)
    check_float32(lambda x, w: layer(G, x, w), [X, WEIGHT])


def test_a_median_with_nan_is_nan() -> None:
    m = np.array([[1.0], [np.nan], [3.0], [2.0]])
    layer = nn.EdgeConv(lambda _: m, aggr="median")
    found = layer(Graph([0, 1, 2, 0], [0, 0, 1, 1], 3), np.zeros((3, 1)))
    np.testing.assert_array_equal(found, [[np.nan], [2.0], [0.0]])


def test_edge_weights_of_gin_and_gat() -> None:
    f = nn.MLP([3, 2], **WIDE)
    gin = filled(nn.GINConv(f, eps=0.5))
    close(gin(G, X, WEIGHT), unwrap(f(1.5 * X + dense(G, WEIGHT) @ X)))
    check_gradient(lambda x, w: gin(G, x, w), [X, WEIGHT])

    gat = filled(nn.GATConv(3, 2, heads=2, **WIDE))
    z, (g, alpha) = gat(G, X, None, WEIGHT, return_attention_weights=True)
    weights = np.concatenate([WEIGHT, np.ones(g.num_edges - 11)])
    h = (X @ gat.weight.data).reshape(6, 2, 2)
    by_head = [dense(g, unwrap(alpha)[:, k] * weights) @ h[:, k] for k in range(2)]
    close(z, np.concatenate(by_head, 1) + gat.bias.data)
    check_gradient(lambda x, w: gat(G, x, None, w), [X, WEIGHT])


ATTENTIONS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "gat": (lambda **o: nn.GATConv(3, 2, heads=2, **o), {}),
    "gat, edges": (
        lambda **o: nn.GATConv(3, 2, heads=2, edge_dim=2, fill_value="max", **o),
        {"edge_attr": ATTR},
    ),
    "gatv2, edges": (lambda **o: nn.GATv2Conv(3, 2, heads=2, edge_dim=2, **o), {"edge_attr": ATTR}),
    "gatv2": (lambda **o: nn.GATv2Conv(3, 2, heads=2, concat=False, **o), {"edge_weight": WEIGHT}),
    "transformer": (lambda **o: nn.TransformerConv(3, 2, heads=2, edge_dim=2, **o), {"edge_attr": ATTR}),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_is_returned(name: str) -> None:
    """The same result; the weights of each node's in-edges sum to 1, and have the gradient of central
    differences.
    """
    make, data = ATTENTIONS[name]
    layer = filled(make(dropout=0.5, **WIDE)).eval()
    z, (g, alpha) = layer(G, X, **data, return_attention_weights=True)
    close(z, unwrap(layer(G, X, **data)))
    assert unwrap(alpha).shape == (g.num_edges, 2)
    close(
        dense(Graph(np.zeros(g.num_edges, int), g.dst, 6), unwrap(alpha)[:, 0])[:, 0],
        (g.in_degrees() > 0).astype(float),
    )
    check_gradient(lambda x: layer(G, x, **data, return_attention_weights=True)[1][1], [X], step=1e-4)
    layer.train()
    z, (_, dropped) = layer(G, X, **data, rng=np.random.default_rng(2), return_attention_weights=True)
    close(z, unwrap(layer(G, X, **data, rng=np.random.default_rng(2))))
    kept = unwrap(dropped) != 0
    assert 0 < np.count_nonzero(kept) < kept.size
    close(unwrap(dropped)[kept], 2 * unwrap(alpha)[kept])


def test_missing_loops_have_what_is_made_of_in_edges() -> None:
    """Without collapse_loops the loops of node 1 keep their features."""
    layer = filled(nn.GATConv(3, 2, edge_dim=2, fill_value="mean", **WIDE))
    without = filled(nn.GATConv(3, 2, edge_dim=2, add_self_loops=False, **WIDE))
    loops = [0, 2, 3, 4, 5]
    attr = np.concatenate([ATTR, messages(np.mean, ATTR)[loops]])
    close(layer(G, X, ATTR), unwrap(without(Graph([*SRC, *loops], [*DST, *loops], 6), X, attr)))
    check_gradient(lambda x, w: layer(G, x, w), [X, ATTR])


def test_pairs_of_pna() -> None:
    """The square graph whose nodes are both sets, of which only the destinations' rows are read."""
    layer = filled(nn.PNAConv(3, 2, delta=1.5, **WIDE))
    joined = Graph(PAIR.src + 4, PAIR.dst, 9)
    close(layer(PAIR, (X_SRC, X_DST)), unwrap(layer(joined, np.concatenate([X_DST, X_SRC])))[:4])


def test_linear_scalers_of_pna() -> None:
    """Beside the mean in-degree of the graph, 11 / 6, unless another is given."""
    layer = filled(nn.PNAConv(3, 2, aggregators=["mean"], scalers=["linear", "inverse_linear"], **WIDE))
    degrees = np.bincount(DST, minlength=6)[:, None]
    m = messages(np.mean, X[SRC] @ layer.theta.data) + np.where(degrees > 0, unwrap(layer.phi(X)), 0)
    for mean in (11 / 6, 2.5):
        parts = np.concatenate([m * degrees / mean, m * mean / np.maximum(degrees, 1)], 1)
        close(
            layer(G, X),
            X @ layer.self_update.data + parts @ layer.update.weight.data + layer.update.bias.data,
        )
        layer.mean_degree = 2.5


def test_rgcn_norm_and_lone_sources() -> None:
    relations = np.arange(11) % 3
    layer = filled(nn.RGCNConv(3, 2, 3, num_bases=2, **WIDE))
    matrices = np.einsum("rb,bio->rio", layer.coefficients.data, layer.bases.data)
    z = X @ layer.weight_self.data + layer.bias.data
    for r in range(3):
        z = z + dense(G, np.where(relations == r, WEIGHT, 0)) @ X @ matrices[r]
    close(layer(G, X, relations, WEIGHT), z)
    check_gradient(lambda x, w: layer(G, x, relations, w), [X, WEIGHT])
    close(layer(G, (X, None), relations, WEIGHT), z - X @ layer.weight_self.data)


def test_sources_alone() -> None:
    """What a pair without destinations' features leaves out: x_v and its terms."""
    f = nn.MLP([3, 2], **WIDE)
    close(nn.GINConv(f)(PAIR, (X_SRC, None)), unwrap(f(dense(PAIR, np.ones(7)) @ X_SRC)))
    w = RNG.standard_normal((7, 3))
    summed = np.zeros((4, 3))
    np.add.at(summed, PAIR.dst, np.maximum(X_SRC[PAIR.src] + w, 0))
    close(nn.GINEConv(f)(PAIR, (X_SRC, None), w), unwrap(f(summed)))
    for layer in (nn.GATv2Conv(3, 2), nn.TransformerConv(3, 2), nn.EdgeConv(3, 2), nn.PNAConv(3, 2)):
        with pytest.raises(ValueError, match=r"x\[1\] is None"):
            layer(PAIR, (X_SRC, None))


def test_embedding() -> None:
    table = nn.Embedding(3, 4, **WIDE)
    ids = np.array([[0, 2], [2, 2]], np.uint8)
    np.testing.assert_array_equal(unwrap(table(ids)), table.weight.data[ids])
    assert table([]).shape == (0, 4)
    with Tape() as tape:
        loss = (table(ids) * np.arange(16.0).reshape(2, 2, 4)).sum()
    (found,) = tape.gradient(loss, table.parameters())
    np.testing.assert_array_equal(found, [[0, 1, 2, 3], [0] * 4, [24, 27, 30, 33]])


MODELS: dict[str, Callable[..., Any]] = {"gcn": nn.GCN, "sage": nn.SAGE, "gat": nn.GAT, "gin": nn.GIN}


@pytest.mark.parametrize("name", MODELS)
def test_models_give_weights_to_every_layer(name: str) -> None:
    model = filled(MODELS[name](3, 4, 2, **WIDE)).eval()
    h = X
    for layer in model.layers:
        h = layer(G, h, edge_weight=WEIGHT)
    close(model(G, X, WEIGHT), unwrap(h))
    assert not np.allclose(unwrap(model(G, X)), unwrap(h))
    if name != "gat":
        with pytest.raises(ValueError, match="edge_attr is given"):
            model(G, X, edge_attr=ATTR)


@pytest.mark.parametrize("jk", ["cat", "max", "last"])
@pytest.mark.parametrize("name", MODELS)
def test_models_with_jumps_and_norms(name: str, jk: str) -> None:
    model = filled(
        MODELS[name](
            3,
            4,
            2,
            layers=3,
            jk=jk,
            norm=lambda width: nn.LayerNorm(width, dtype=np.float64),
            act="silu",
            **WIDE,
        )
    ).eval()
    h, between = X, []
    for layer, norm in zip(model.layers, model.norms, strict=True):
        h = unwrap(ng.silu(norm(layer(G, h))))
        between.append(h)
    jumped = {"cat": np.concatenate(between, 1), "max": np.max(between, axis=0), "last": between[-1]}[jk]
    close(model(G, X), jumped @ model.out.weight.data + model.out.bias.data)
    state = MODELS[name](3, 4, 2, layers=3, jk=jk, norm="layer", act="silu", rng=3, dtype=np.float64).eval()
    state.load_state_dict(model.state_dict())
    close(state(G, X), unwrap(model(G, X)))


ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "aggregation": (
        lambda: nn.SAGEConv(3, 2, aggr="lstm"),
        ValueError,
        "SAGEConv: unknown aggr 'lstm'; choose from 'sum', 'mean'",
    ),
    "one of several": (lambda: nn.SAGEConv(3, 2, aggr=["mean", "men"]), ValueError, "did you mean 'mean'"),
    "no aggregation": (lambda: nn.EdgeConv(3, 2, aggr=[]), ValueError, "EdgeConv: there is no aggr"),
    "a number": (lambda: nn.EdgeConv(3, 2, aggr=3), TypeError, "aggr is 3; give a name or a list of names"),
    "improved": (
        lambda: nn.GCNConv(3, 2, improved=True, fill_value=3),
        ValueError,
        "improved is True and fill_value is 3",
    ),
    "a word as weight": (
        lambda: nn.GCNConv(3, 2, fill_value="mean"),
        ValueError,
        "fill_value is 'mean'; it is the weight",
    ),
    "fill": (
        lambda: nn.GATConv(3, 2, edge_dim=2, fill_value="median"),
        ValueError,
        "unknown fill_value 'median'; choose from",
    ),
    "fill of another width": (
        lambda: nn.GATConv(3, 2, edge_dim=2, fill_value=[1, 2, 3]),
        ValueError,
        r"fill_value is \[1, 2, 3\]",
    ),
    "in-degrees of two sets": (
        lambda: nn.GCNConv(3, 2, norm="in", add_self_loops=False)(PAIR, X_SRC),
        ValueError,
        "norm is 'in' and the graph is bipartite",
    ),
    "no edge_dim": (
        lambda: nn.GATConv(3, 2)(G, X, ATTR),
        ValueError,
        r"GATConv: edge_attr is given and the layer has no edge_dim",
    ),
    "edge features": (
        lambda: nn.TransformerConv(3, 2, edge_dim=3)(G, X, ATTR),
        ValueError,
        r"edge_attr has shape \[11, 2\]; graph and layer need \[11, 3\]",
    ),
    "edge_dim": (lambda: nn.GATv2Conv(3, 2, edge_dim=0), ValueError, "GATv2Conv: edge_dim is 0"),
    "no edge data": (
        lambda: nn.PNAConv(3, 2, edge_dim=2)(G, X),
        ValueError,
        "edge_attr is None and the layer has an edge_dim",
    ),
    "width of GINE": (lambda: nn.GINEConv(ng.relu, edge_dim=2), ValueError, "GINEConv: in_features is None"),
    "shared": (
        lambda: nn.GATv2Conv((3, 2), 2, share_weights=True),
        ValueError,
        r"share_weights is True and in_features is \(3, 2\)",
    ),
    "towers": (lambda: nn.PNAConv(3, 4, towers=3), ValueError, "towers is 3, the widths are 3 and 4"),
    "mean_degree": (
        lambda: nn.PNAConv(3, 4, mean_degree=0),
        ValueError,
        "mean_degree is 0; it is a mean of in-degrees, above 0",
    ),
    "std_eps": (lambda: nn.PNAConv(3, 4, std_eps=-1), ValueError, "std_eps is -1"),
    "blocks": (
        lambda: nn.RGCNConv(3, 4, 2, num_blocks=2),
        ValueError,
        "num_blocks is 2, the widths are 3 and 4",
    ),
    "blocks and bases": (
        lambda: nn.RGCNConv(4, 4, 2, num_blocks=2, num_bases=2),
        ValueError,
        "num_bases is 2 and num_blocks is 2",
    ),
    "rgcn norm": (
        lambda: nn.RGCNConv(3, 2, 2)(G, X, [0] * 11, [1.0]),
        ValueError,
        r"norm has shape \[1\]; one weight an edge",
    ),
    "jk": (
        lambda: nn.GCN(3, 4, 2, jk="lstm"),
        ValueError,
        "GCN: unknown jk 'lstm'; choose from 'cat', 'max', 'last'",
    ),
    "act": (
        lambda: nn.SAGE(3, 4, 2, act="swish"),
        ValueError,
        "SAGE: unknown act 'swish'; choose from 'relu'",
    ),
    "norm": (
        lambda: nn.SAGE(3, 4, 2, norm="graph"),
        ValueError,
        "SAGE: unknown norm 'graph'; choose from 'batch', 'layer'",
    ),
    "norm of another kind": (lambda: nn.SAGE(3, 4, 2, norm=3), TypeError, "norm is 3; choose"),
    "two norms": (
        lambda: nn.GCN(3, 4, 2, norm="right", degree_norm="in"),
        ValueError,
        "norm is 'right' and degree_norm is 'in'",
    ),
    "mlp_width": (lambda: nn.GIN(3, 4, 2, mlp_width="in"), ValueError, "unknown mlp_width 'in'"),
    "category": (
        lambda: nn.Embedding(3, 2)([[0, 1], [3, 0]]),
        IndexError,
        r"ids\[1, 0\] is 3; categories run from 0 to 2",
    ),
    "categories": (lambda: nn.Embedding(3, 2)([0.5]), TypeError, "ids have dtype float64"),
    "sparse": (
        lambda: nn.EdgeConv(nn.MLP([6, 2]))(G, csr(X)),
        TypeError,
        "x is sparse and f is a function of edges",
    ),
    "PyG's names": (
        lambda: nn.load_pyg(nn.GCNConv(3, 2), {"bias": np.zeros(2)}),
        ValueError,
        "lin.weight is not in the state, for weight",
    ),
    "too many": (
        lambda: nn.load_pyg(
            nn.SAGEConv(3, 2, root_weight=False, bias=False),
            {"lin_l.weight": np.ones((2, 3)), "lin_r.weight": np.zeros((2, 3))},
        ),
        ValueError,
        "lin_r.weight of the state stand for nothing here",
    ),
    "a kind that PyG has not": (
        lambda: nn.load_pyg(nn.Dropout(), {}),
        TypeError,
        "PyG's names are known for Linear",
    ),
}


def csr(x: np.ndarray) -> Any:
    from scipy.sparse import csr_array

    return csr_array(x)


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    call, kind, text = ERRORS[name]
    with pytest.raises(kind, match=text):
        call()
