"""What layers are given: features, edge weights and ids of every dtype; graphs without nodes, without edges,
and of two sets of nodes.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp

import numgraph as ng
from numgraph import Graph, nn
from numgraph.autodiff.tape import unwrap

try:
    from ml_dtypes import bfloat16
except ModuleNotFoundError:
    bfloat16 = None
missing = pytest.mark.skipif(bfloat16 is None, reason="ml_dtypes is not installed")
HALF = [pytest.param(np.float16, id="float16"), pytest.param(bfloat16, id="bfloat16", marks=missing)]
WHOLE = [np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64]

NODES, WIDTH = 6, 4
ODD = Graph([0, 1, 2, 2, 4, 3, 1, 4, 0], [1, 1, 1, 0, 1, 0, 0, 2, 2], NODES)


def mlp(widths, dtype=np.float32):
    return nn.MLP(widths, rng=0, dtype=dtype)


def relations(g):
    return np.arange(g.num_edges) % 3


def edges(g, dtype):
    return (np.arange(g.num_edges * WIDTH).reshape(g.num_edges, WIDTH) % 3).astype(dtype)


def weights(g, dtype):
    return (1 + np.arange(g.num_edges) % 2).astype(dtype)


# name: (the layer for a width and parameters of a dtype, what it is given beside x)
LAYERS = {
    "GCNConv": (lambda d, w=WIDTH: nn.GCNConv(w, 3, rng=0, dtype=d), lambda g, d: ()),
    "GCNConv wide": (lambda d, w=WIDTH: nn.GCNConv(w, 7, rng=0, dtype=d), lambda g, d: ()),
    "GCNConv right": (lambda d, w=WIDTH: nn.GCNConv(w, 3, norm="right", rng=0, dtype=d), lambda g, d: ()),
    "GCNConv weights": (lambda d, w=WIDTH: nn.GCNConv(w, 3, rng=0, dtype=d), lambda g, d: (weights(g, d),)),
    "SGConv": (lambda d, w=WIDTH: nn.SGConv(w, 3, rng=0, dtype=d), lambda g, d: ()),
    "SGConv weights": (lambda d, w=WIDTH: nn.SGConv(w, 7, rng=0, dtype=d), lambda g, d: (weights(g, d),)),
    "APPNP": (lambda d, w=WIDTH: nn.APPNP(k=3), lambda g, d: ()),
    "APPNP weights": (lambda d, w=WIDTH: nn.APPNP(k=3), lambda g, d: (weights(g, d),)),
    "SAGEConv mean": (lambda d, w=WIDTH: nn.SAGEConv(w, 3, rng=0, dtype=d), lambda g, d: ()),
    "SAGEConv max": (lambda d, w=WIDTH: nn.SAGEConv(w, 3, aggr="max", rng=0, dtype=d), lambda g, d: ()),
    "SAGEConv pool": (lambda d, w=WIDTH: nn.SAGEConv(w, 3, aggr="pool", rng=0, dtype=d), lambda g, d: ()),
    "GATConv": (lambda d, w=WIDTH: nn.GATConv(w, 3, heads=2, rng=0, dtype=d), lambda g, d: ()),
    "GATConv averaged": (
        lambda d, w=WIDTH: nn.GATConv(w, 3, heads=2, concat=False, rng=0, dtype=d),
        lambda g, d: (),
    ),
    "GATv2Conv": (lambda d, w=WIDTH: nn.GATv2Conv(w, 3, heads=2, rng=0, dtype=d), lambda g, d: ()),
    "TransformerConv": (
        lambda d, w=WIDTH: nn.TransformerConv(w, 3, heads=2, rng=0, dtype=d),
        lambda g, d: (),
    ),
    "TransformerConv averaged": (
        lambda d, w=WIDTH: nn.TransformerConv(w, 3, heads=2, concat=False, gated=True, rng=0, dtype=d),
        lambda g, d: (),
    ),
    "GINConv": (lambda d, w=WIDTH: nn.GINConv(mlp([w, 5, 3], d), dtype=d), lambda g, d: ()),
    "GINConv eps": (
        lambda d, w=WIDTH: nn.GINConv(mlp([w, 2, 3], d), train_eps=True, dtype=d),
        lambda g, d: (),
    ),
    "GINConv function": (lambda d, w=WIDTH: nn.GINConv(ng.softplus), lambda g, d: ()),
    "GINEConv": (lambda d, w=WIDTH: nn.GINEConv(mlp([w, 5, 3], d), dtype=d), lambda g, d: (edges(g, d),)),
    "GINEConv column": (
        lambda d, w=WIDTH: nn.GINEConv(mlp([w, 5, 3], d), dtype=d),
        lambda g, d: (edges(g, d)[:, :1],),
    ),
    "EdgeConv": (lambda d, w=WIDTH: nn.EdgeConv(w, 3, rng=0, dtype=d), lambda g, d: ()),
    "RGCNConv": (lambda d, w=WIDTH: nn.RGCNConv(w, 3, 3, rng=0, dtype=d), lambda g, d: (relations(g),)),
    "RGCNConv bases": (
        lambda d, w=WIDTH: nn.RGCNConv(w, 7, 3, num_bases=2, rng=0, dtype=d),
        lambda g, d: (relations(g),),
    ),
    "PNAConv": (lambda d, w=WIDTH: nn.PNAConv(w, 3, rng=0, dtype=d), lambda g, d: ()),
    "GCN": (lambda d, w=WIDTH: nn.GCN(w, 8, 3, rng=0, dtype=d).eval(), lambda g, d: ()),
    "SAGE": (lambda d, w=WIDTH: nn.SAGE(w, 8, 3, rng=0, dtype=d).eval(), lambda g, d: ()),
    "GAT": (lambda d, w=WIDTH: nn.GAT(w, 4, 3, heads=2, rng=0, dtype=d).eval(), lambda g, d: ()),
    "GIN": (lambda d, w=WIDTH: nn.GIN(w, 8, 3, rng=0, dtype=d).eval(), lambda g, d: ()),
}
SPARSE = [
    "GCNConv",
    "SGConv",
    "SAGEConv mean",
    "GATConv",
    "TransformerConv",
    "GINConv",
    "RGCNConv",
    "PNAConv",
    "GCN",
]
BIPARTITE = ("SAGEConv", "GATConv", "GATv2Conv", "TransformerConv", "EdgeConv", "RGCNConv")


def features(dtype, seed=0):
    low, high = (0, 2) if dtype is np.bool_ else (0 if np.dtype(dtype).kind == "u" else -100, 101)
    return np.random.default_rng(seed).integers(low, high, (NODES, WIDTH)).astype(dtype)


@pytest.mark.parametrize("dtype", WHOLE, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("name", LAYERS)
def test_whole_numbers_are_floats(name, dtype):
    make, beside = LAYERS[name]
    x, layer = features(dtype), make(np.float32)
    wanted = np.float64 if name in ("APPNP", "APPNP weights", "GINConv function") else np.float32
    want = layer(ODD, x.astype(wanted), *beside(ODD, wanted))
    got = layer(ODD, x, *beside(ODD, np.uint8))
    assert got.dtype == wanted
    np.testing.assert_allclose(unwrap(got), unwrap(want), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.int64])
@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_matrix, sp.coo_array])
@pytest.mark.parametrize("name", SPARSE)
def test_sparse_whole_numbers_are_floats(name, kind, dtype):
    make, beside = LAYERS[name]
    x, layer = (features(np.int8) % 2).astype(dtype), make(np.float32)
    got = unwrap(layer(ODD, kind(x), *beside(ODD, np.float32)))
    np.testing.assert_allclose(got, unwrap(layer(ODD, x, *beside(ODD, np.float32))), rtol=1e-5, atol=1e-5)


def test_modules_of_whole_numbers():
    x = features(np.int8)
    for module in (nn.Linear(WIDTH, 3, rng=0), mlp([WIDTH, 5, 3]), nn.LayerNorm(WIDTH), nn.BatchNorm(WIDTH)):
        got, want = (unwrap(module(a)) for a in (x, x.astype(np.float32)))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    dropped = nn.Dropout(0.5, rng=0)(x.astype(np.uint8))
    kept = np.asarray(dropped) != 0
    np.testing.assert_array_equal(dropped[kept], 2.0 * x.astype(np.uint8)[kept])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.uint32, np.uint64])
def test_relations_of_every_dtype(dtype):
    layer, x = nn.RGCNConv(WIDTH, 3, 3, rng=0), features(np.int8).astype(np.float32)
    want = layer(ODD, x, relations(ODD)).data
    np.testing.assert_array_equal(layer(ODD, x, relations(ODD).astype(dtype)).data, want)
    np.testing.assert_array_equal(layer(ODD, x, relations(ODD).tolist()).data, want)


# Half precision.


def star(leaves):
    """Every node from 1 on has an edge to node 0, and a self loop."""
    nodes = np.arange(leaves + 1)
    return Graph(
        np.concatenate([nodes[1:], nodes]), np.concatenate([np.zeros(leaves, int), nodes]), leaves + 1
    )


IN_HALF = {
    np.float16: [
        "GCNConv weights",
        "SGConv",
        "APPNP weights",
        "SAGEConv mean",
        "SAGEConv pool",
        "GATConv averaged",
        "GATv2Conv",
    ]
    + [
        "TransformerConv averaged",
        "GINConv eps",
        "GINEConv",
        "EdgeConv",
        "RGCNConv",
        "RGCNConv bases",
        "PNAConv",
    ],
    bfloat16: [
        "GCNConv",
        "SGConv weights",
        "APPNP",
        "SAGEConv max",
        "GATConv",
        "GATv2Conv",
        "TransformerConv averaged",
        "GINConv",
    ]
    + ["GINConv eps", "GINEConv", "EdgeConv", "RGCNConv bases", "PNAConv"],
}


@pytest.mark.parametrize(
    ("name", "dtype"), [pytest.param(n, *d.values, marks=d.marks) for d in HALF for n in IN_HALF[d.values[0]]]
)
def test_half_precision(name, dtype):
    """Near the result of the same numbers in float64: in relation to the largest, as sums of parts cancel."""
    make, beside = LAYERS[name]
    x = np.random.default_rng(0).normal(size=(NODES, WIDTH)).astype(dtype)
    half, wide = make(dtype), make(np.float64)
    wide.load_state_dict({k: np.asarray(v, np.float64) for k, v in half.state_dict().items()})
    made = []
    for layer, numbers in ((half, x), (wide, x.astype(np.float64))):
        with ng.Tape() as tape:
            t = tape.watch(numbers)
            y = layer(ODD, t, *beside(ODD, numbers.dtype))
            loss = np.mean(np.square(y.astype(np.float64)))
        made.append((y.data, tape.gradient(loss, t)))
    assert made[0][0].dtype == made[0][1].dtype == dtype
    for got, want in zip(*made):
        got = got.astype(np.float64)
        spacing = 2.0**-7 if dtype is bfloat16 else 2.0**-10
        np.testing.assert_allclose(got, want, atol=6 * spacing * np.abs(want).max())


@pytest.mark.parametrize("dtype", HALF)
def test_degrees_beyond_float16(dtype):
    g = star(70_000)
    x = np.ones((g.num_nodes, 2), dtype)
    one = np.ones(g.num_edges, dtype)
    for layer, beside in (
        (nn.GCNConv(2, 2, norm="right", rng=0, dtype=dtype), ()),
        (nn.GCNConv(2, 2, norm="right", rng=0, dtype=dtype), (one,)),
        (nn.SAGEConv(2, 2, rng=0, dtype=dtype), ()),
        (nn.RGCNConv(2, 2, 1, self_loop=False, rng=0, dtype=dtype), (np.zeros(g.num_edges, int),)),
        (nn.GATConv(2, 2, rng=0, dtype=dtype), ()),
        (nn.APPNP(k=1, alpha=0.0), ()),
        (nn.APPNP(k=1, alpha=0.0), (one,)),
    ):
        z = unwrap(layer(g, x, *beside)).astype(np.float64)
        if isinstance(layer, nn.APPNP):  # leaves have two out-edges, the hub one
            np.testing.assert_allclose(z[0], 70_000 / np.sqrt(2 * 70_001) + 1 / np.sqrt(70_001), rtol=1e-2)
        else:  # a mean of ones
            np.testing.assert_allclose(z[0], z[1], rtol=1e-2)
            assert np.isfinite(z).all()
            assert np.abs(z[0]).max() > 0.01


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(
    "name", [name for name in LAYERS if name not in ("APPNP", "APPNP weights", "GINConv function")]
)
def test_features_of_half_precision_in_wider_layers(name, dtype):
    """A float32 layer rounds nothing to its features' dtype on the way: sums of 3000 neighbours are beyond
    float16.

    Layers without parameters have no dtype of their own.
    """
    make, beside = LAYERS[name]
    layer, g = make(np.float32), star(3000)
    x = np.random.default_rng(0).uniform(50, 60, (g.num_nodes, WIDTH)).astype(dtype)
    others = beside(g, dtype)
    got = unwrap(layer(g, x, *others))
    want = unwrap(
        layer(g, x.astype(np.float64), *(a.astype(np.float64) if a.dtype == dtype else a for a in others))
    )
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())


# Graphs of every size.

SIZES = {
    "no nodes": Graph([], [], 0),
    "no edges": Graph([], [], 3),
    "one node": Graph([], [], 1),
    "one loop": Graph([0], [0], 1),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", LAYERS)
def test_small_graphs(name, size):
    """Values and gradients have their shapes, are finite, and raise no warning."""
    make, beside = LAYERS[name]
    g, layer = SIZES[size], make(np.float32)
    x = np.ones((g.num_src, WIDTH), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ng.Tape() as tape:
            t = tape.watch(x)
            y = layer(g, t, *beside(g, np.float32))
            loss = y.sum()
        wanted = [t, *layer.parameters()]
        found = tape.gradient(loss, wanted)
    assert y.shape[0] == g.num_dst
    assert y.shape[1:] == layer(ODD, np.ones((NODES, WIDTH), np.float32), *beside(ODD, np.float32)).shape[1:]
    assert np.isfinite(y.data).all()
    for d, of in zip(found, wanted):
        assert d.shape == of.shape
        assert np.isfinite(d).all()


def pair_graph(num_src, num_dst, num_edges):
    rng = np.random.default_rng(0)
    src, dst = (rng.integers(0, n, num_edges) if n else np.zeros(0, int) for n in (num_src, num_dst))
    return Graph(src, dst, num_src=num_src, num_dst=num_dst)


@pytest.mark.parametrize(
    "counts", [(3, 1, 3), (1, 3, 3), (3, 3, 5), (4, 2, 0), (0, 3, 0), (3, 0, 0), (0, 0, 0)], ids=str
)
@pytest.mark.parametrize("name", LAYERS)
def test_two_sets_of_nodes(name, counts):
    """The layer says that it needs something else, or gives a row for each destination, whatever the numbers
    of nodes are.
    """
    make, beside = LAYERS[name]
    g = pair_graph(*counts)
    rng = np.random.default_rng(1)
    x_src, x_dst = (rng.normal(size=(n, WIDTH)).astype(np.float32) for n in counts[:2])
    layer = make(np.float32)
    if name.startswith(BIPARTITE):
        y = layer(g, (x_src, x_dst), *beside(g, np.float32))
        assert y.shape[0] == g.num_dst
        if (
            counts[1] > 1
            and counts[2] == 0
            and "GATConv" not in name
            and "GATv2" not in name
            and "EdgeConv" not in name
        ):
            assert not np.allclose(y[0], y[1])  # each destination's own term
    with pytest.raises(ValueError, match=r"bipartite|pair|shape"):
        layer(g, x_src, *beside(g, np.float32))


def test_a_convolution_of_two_sets_has_a_row_for_each_destination():
    for norm in ("both", "right", "none"):
        g = pair_graph(3, 3, 5)
        x = np.random.default_rng(1).normal(size=(3, WIDTH)).astype(np.float32)
        layer = nn.GCNConv(WIDTH, 3, norm=norm, add_self_loops=False, rng=0)
        a = np.zeros((3, 3))
        np.add.at(a, (g.dst, g.src), 1)
        into, out = (1 / np.maximum(a.sum(axis), 1) for axis in (1, 0))
        scaled = {"both": np.sqrt(into)[:, None] * a * np.sqrt(out), "right": into[:, None] * a, "none": a}[
            norm
        ]
        np.testing.assert_allclose(layer(g, x).data, scaled @ x @ layer.weight.data, rtol=1e-4, atol=1e-5)


def test_edge_features_that_do_not_fit():
    x = np.ones((NODES, 1), np.float32)
    layer = nn.GINEConv(np.positive)
    for shape in ((ODD.num_edges, 3), (ODD.num_edges - 1, 1), (1,), (1, 1), (), (ODD.num_edges, 1, 1)):
        with pytest.raises(ValueError, match="w has shape"):
            layer(ODD, x, np.ones(shape, np.float32))
    for shape in ((NODES - 1,), (1,), (1, ODD.num_edges), (ODD.num_edges, 2), ()):
        with pytest.raises(ValueError, match="edge_weight has shape"):
            nn.APPNP()(ODD, x, np.ones(shape, np.float32))


NARROWER = [(np.float16, np.float32), (np.float16, np.float64), (np.float32, np.float64)]


@pytest.mark.parametrize(("features_dtype", "dtype"), NARROWER, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize(
    "name", [name for name in LAYERS if not name.startswith("APPNP") and name != "GINConv function"]
)
def test_features_narrower_than_the_parameters_are_computed_in_their_dtype(name, features_dtype, dtype):
    """The result for the same numbers in the parameters' dtype, also where a sum of rows is beyond
    float16.
    """
    make, beside = LAYERS[name]
    layer = make(dtype)
    g = star(300)
    x = np.random.default_rng(0).uniform(100, 1000, (g.num_nodes, WIDTH)).astype(features_dtype)
    got, want = (np.asarray(layer(g, numbers, *beside(g, dtype))) for numbers in (x, x.astype(dtype)))
    assert got.dtype == want.dtype == dtype
    np.testing.assert_allclose(got, want, rtol=1e-6 if dtype is np.float32 else 1e-14, atol=0)
