"""Modules and models: names, state, modes, seeds, sparse features, what a graph remembers, memory, errors."""

from __future__ import annotations

import copy
import gc
import pickle
import re
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from checks import check_gradient
from scipy.sparse import csr_array, csr_matrix

from numgraph import Graph, Parameter, Tape, nn, relu
from numgraph.autodiff.tape import unwrap
from numgraph.dense import cross_entropy
from numgraph.nn.graphs import with_self_loops
from numgraph.optim import Adam
from numgraph.serialize import load_parameters, save_parameters

MODELS: dict[str, Callable[..., nn.Module]] = {"gcn": nn.GCN, "sage": nn.SAGE, "gat": nn.GAT, "gin": nn.GIN}


def random_graph(num_nodes: int = 40, num_edges: int = 160, seed: int = 0) -> Graph:
    src, dst = np.random.default_rng(seed).integers(0, num_nodes, (2, num_edges))
    return Graph(src, dst, num_nodes)


def features(num_nodes: int = 40, width: int = 12, seed: int = 1) -> np.ndarray:
    """Most are 0, as in a bag of words."""
    rng = np.random.default_rng(seed)
    return (rng.random((num_nodes, width), np.float32) * (rng.random((num_nodes, width)) < 0.3)).astype(
        np.float32
    )


# Modules.


class Nested(nn.Module):
    buffers = ("seen",)

    def __init__(self) -> None:
        self.scale = Parameter(np.ones((), np.float32))
        self.parts = [
            nn.Linear(3, 2, rng=0),
            relu,
            nn.Sequential(nn.Linear(2, 2, bias=False, rng=1), nn.BatchNorm(2)),
        ]
        self.tied = self.parts[0].weight
        self.seen = np.zeros(2)


def test_names_follow_attributes() -> None:
    model = Nested()
    names = [
        "scale",
        "tied",
        "parts.0.bias",
        "parts.2.steps.0.weight",
        "parts.2.steps.1.weight",
        "parts.2.steps.1.bias",
    ]
    assert [name for name, _ in model.named_parameters()] == names
    assert [p.name for p in model.parameters()] == names
    assert [p.name for p in model.parts[2].parameters()] == names[3:], "the outermost module's names stay"
    assert next(iter(model.children())) == ("parts.0", model.parts[0])
    assert "parts.2: Sequential(" in repr(model)
    assert "weight: [3, 2], bias: [2]" in repr(model)


def test_state_round_trip(tmp_path: Any) -> None:
    model, other = Nested(), Nested()
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.data[...] = rng.standard_normal(p.shape)
    model.seen[:] = 5
    model.parts[2].steps[1].running_mean[:] = 7
    state = model.state_dict()
    arrays = [p.data for p in other.parameters()]
    other.load_state_dict(state)
    assert all(p.data is array for p, array in zip(other.parameters(), arrays)), "optimisers hold the arrays"
    for name, array in other.state_dict().items():
        assert array.tobytes() == state[name].tobytes()
    assert other.seen[0] == 5
    assert other.parts[2].steps[1].running_mean[0] == 7
    state["scale"][...] = 9
    assert model.scale.item() != 9, "state_dict copies"

    save_parameters(tmp_path / "m.npz", model.parameters())
    third = Nested()
    load_parameters(tmp_path / "m.npz", third.parameters())
    assert [p.data.tobytes() for p in third.parameters()] == [p.data.tobytes() for p in model.parameters()]


def test_state_that_does_not_fit_changes_nothing() -> None:
    model = nn.GCN(3, 4, 2, rng=0)
    before, state = model.state_dict(), nn.GCN(3, 4, 2, rng=1).state_dict()
    state["layers.1.weight"] = np.zeros((4, 3))
    state["more"] = state.pop("layers.0.bias")
    problem = re.escape(
        "layers.0.bias is not in the state; layers.1.weight has shape (4, 3) in the state, (4, 2) in the "
        "model; more is in"
    )
    with pytest.raises(ValueError, match=f"load_state_dict: .*{problem}"):
        model.load_state_dict(state)
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())


def test_modes_reach_every_module() -> None:
    model = nn.GAT(3, 4, 2, rng=0)
    assert model.training
    assert model.eval() is model
    assert [m.training for m in model.modules()] == [False] * 4
    assert all(m.training for m in model.train().modules())


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"]
)
def test_copies(clone: Callable[[Any], Any]) -> None:
    g, x, model = random_graph(), features(), nn.GAT(12, 4, 3, rng=0)
    twin = clone(model)
    assert all(
        a is not b and np.array_equal(a.data, b.data) for a, b in zip(model.parameters(), twin.parameters())
    )
    np.testing.assert_array_equal(model(g, x), twin(g, x))  # the generators are in the same state


def test_norm_layers() -> None:
    x = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32) * 4 + 2
    batch, layer = nn.BatchNorm(3, momentum=0.5), nn.LayerNorm(3)
    np.testing.assert_allclose(batch(x).data, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), atol=1e-5)
    mean, variance = 0.5 * x.mean(0), 0.5 + 0.5 * x.var(0) * 20 / 19
    np.testing.assert_allclose(batch.eval()(x).data, (x - mean) / np.sqrt(variance + 1e-5), atol=1e-4)
    want = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(layer(x), want, atol=1e-5)


def test_initial_values() -> None:
    for kind, bound in ((nn.init.glorot, np.sqrt(6 / 500)), (nn.init.kaiming, np.sqrt(6 / 200))):
        p = kind(np.random.default_rng(0), (200, 300), np.float64)
        assert 0.99 * bound < np.abs(p.data).max() <= bound
        assert abs(p.data.std() - bound / np.sqrt(3)) < 0.01 * bound
        assert p.data.tobytes() == kind(np.random.default_rng(0), (200, 300), np.float64).data.tobytes()


# Models.


def logits_by_hand(name: str, model: Any, g: Graph, x: np.ndarray) -> Any:
    first, second = map(copy.copy, model.layers)
    assert second.activation is None
    first.activation = None
    hidden = unwrap(first(g, x))
    hidden = np.where(hidden > 0, hidden, np.expm1(hidden)) if name == "gat" else np.maximum(hidden, 0)
    return unwrap(second(g, hidden))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_its_layers(name: str) -> None:
    g, x, model = random_graph(), features(), MODELS[name](12, 6, 3, rng=0).eval()
    z = model(g, x)
    assert z.shape == (40, 3)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z, logits_by_hand(name, model, g, x), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(z, model(g, x))


@pytest.mark.parametrize("name", MODELS)
def test_seeds_decide(name: str) -> None:
    g, x = random_graph(), features()
    runs = [MODELS[name](12, 6, 3, rng=seed) for seed in (4, np.random.default_rng(4), 5)]
    first, same, other = [[model(g, x), model(g, x)] for model in runs]
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first[0], first[1]), "dropout goes on drawing"
    assert not np.array_equal(first[0], other[0])
    np.testing.assert_array_equal(*[runs[0](g, x, rng=np.random.default_rng(1)).data for _ in range(2)])


@pytest.mark.parametrize("kind", [csr_array, csr_matrix])
@pytest.mark.parametrize("name", MODELS)
def test_sparse_features(name: str, kind: Any) -> None:
    g, x, model = random_graph(), features(), MODELS[name](12, 6, 3, rng=0).eval()
    labels = np.random.default_rng(2).integers(0, 3, 40)
    found = []
    for given in (x, kind(x)):
        with Tape() as tape:
            loss = cross_entropy(model(g, given), labels)
        found.append([loss.data, *tape.gradient(loss, model.parameters())])
    for dense, sparse in zip(*found):
        np.testing.assert_allclose(sparse, dense, rtol=1e-4, atol=1e-6)
    assert np.isfinite(model.train()(g, kind(x)).data).all()


LAYERS: dict[str, Callable[..., nn.Module]] = {
    "SGConv": nn.SGConv,
    "GATv2Conv": nn.GATv2Conv,
    "TransformerConv": nn.TransformerConv,
    "PNAConv": nn.PNAConv,
}


@pytest.mark.parametrize("name", LAYERS)
def test_sparse_features_of_layers(name: str) -> None:
    g, x, layer = random_graph(), features(), LAYERS[name](12, 6, rng=0)
    np.testing.assert_allclose(layer(g, csr_array(x)), layer(g, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_training_lowers_the_loss(name: str) -> None:
    """Two groups of nodes, joined within, whose features are noise around two means."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    ends = rng.integers(0, 20, (2, 120)) + 20 * (rng.random(120) < 0.5)
    g = Graph(ends[0], ends[1], 40)
    x = (rng.standard_normal((40, 5)) + 0.5 * labels[:, None]).astype(np.float32)
    model = MODELS[name](5, 8, 2, dropout=0.1, rng=0)
    optimizer = Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        with Tape() as tape:
            loss = cross_entropy(model(g, x), labels)
        optimizer.step(tape.gradient(loss, optimizer.parameters))
        losses.append(loss.item())
    assert min(losses[-5:]) < 0.35 * losses[0]
    assert (model.eval()(g, x).argmax(1) == labels).mean() > 0.9


def test_model_of_any_depth() -> None:
    g, x = random_graph(), features()
    for name, make in MODELS.items():
        for layers in (1, 3):
            model = make(12, 6, 3, layers=layers, rng=0)
            assert len(model.layers) == layers, name
            assert model(g, x).shape == (40, 3)
    gat = nn.GAT(12, 4, 3, layers=3, heads=2, out_heads=5, attention_dropout=0.25, rng=0)
    assert [layer.weight.shape for layer in gat.layers] == [(12, 8), (8, 8), (8, 15)]
    assert [layer.dropout for layer in gat.layers] == [0.25] * 3


# What a graph remembers.


def test_loops_are_added_where_there_are_none() -> None:
    g = Graph([0, 1, 2], [1, 1, 0], 3)
    looped, weight = with_self_loops(g, np.array([2.0, 3.0, 4.0]))
    assert list(zip(looped.src.tolist(), looped.dst.tolist())) == [(0, 1), (1, 1), (2, 0), (0, 0), (2, 2)]
    assert weight.tolist() == [2, 3, 4, 1, 1]
    assert with_self_loops(g)[0] is looped
    assert with_self_loops(looped) == (looped, None)


def test_what_is_derived_lives_as_long_as_its_graph() -> None:
    g, x, model = random_graph(), features(), nn.GCN(12, 6, 3, rng=0)
    model(g, x)
    looped = with_self_loops(g)[0]
    assert with_self_loops(looped)[0] is looped
    dead = [weakref.ref(g), weakref.ref(looped)]
    del g, looped
    gc.collect()
    assert [ref() for ref in dead] == [None, None]


def test_relations_may_change() -> None:
    g, x, layer = (
        Graph([0, 1, 2], [0, 0, 0], 3),
        np.eye(3, dtype=np.float32),
        nn.RGCNConv(3, 2, 2, num_bases=1, rng=0),
    )
    relations = np.array([0, 0, 1])
    first = layer(g, x, relations)
    relations[:] = 0
    assert not np.allclose(layer(g, x, relations), first)
    np.testing.assert_array_equal(layer(g, x, np.array([0, 0, 1])), first)


def test_pna_options() -> None:
    g = random_graph()
    rng = np.random.default_rng(0)
    layer = nn.PNAConv(
        3, 2, aggregators=("std", "max"), scalers=("attenuation",), delta=1.5, rng=rng, dtype=np.float64
    )
    assert layer.update.weight.shape == (6, 2)
    check_gradient(lambda x: layer(g, x), [rng.standard_normal((40, 3))], step=1e-4)
    assert nn.mean_log_degree(g) == pytest.approx(np.log(g.in_degrees() + 1).mean())


# Memory.

EDGES, WIDTH = 1_600_000, 64


@pytest.fixture(scope="module")
def large() -> Graph:
    g = random_graph(4_000, EDGES)
    _ = with_self_loops(g)[0].in_edges, with_self_loops(g)[0].out_edges, g.in_edges, g.out_edges
    return g


MESSAGES: dict[str, Callable[[Graph], tuple[nn.Module, tuple[Any, ...]]]] = {
    "gcn": lambda g: (nn.GCNConv(WIDTH, WIDTH), ()),
    "sage max": lambda g: (nn.SAGEConv(WIDTH, WIDTH, aggr="max"), ()),
    "gat": lambda g: (nn.GATConv(WIDTH, WIDTH // 8, heads=8, dropout=0.5), ()),
    "gatv2": lambda g: (nn.GATv2Conv(WIDTH, WIDTH // 8, heads=8), ()),
    "transformer": lambda g: (nn.TransformerConv(WIDTH, WIDTH // 8, heads=8), ()),
    "edge": lambda g: (nn.EdgeConv(WIDTH, WIDTH), ()),
    "rgcn": lambda g: (nn.RGCNConv(WIDTH, WIDTH, 4, num_bases=2), (np.zeros(g.num_edges, np.int64),)),
    "pna": lambda g: (nn.PNAConv(WIDTH, WIDTH), ()),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_no_array_over_edges_and_features(name: str, large: Graph) -> None:
    """Forward and backward stay far below one float32 array [edges, features], 410 MB: node arrays are 1 MB,
    an edge's numbers are few.
    """
    layer, extra = MESSAGES[name](large)
    x = np.random.default_rng(0).standard_normal((large.num_nodes, WIDTH), np.float32)
    layer(large, x, *extra)  # compiles, and derives from the graph what it will remember
    tracemalloc.start()
    try:
        with Tape() as tape:
            loss = layer(large, tape.watch(x), *extra).sum()
        tape.gradient(loss, layer.parameters())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150e6, f"{peak / 1e6:.0f} MB"


# Errors.

G, X = Graph([0, 1], [1, 0], 3), np.zeros((3, 4), np.float32)
TWO = Graph([0, 1], [1, 0], num_src=3, num_dst=2)
ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "width": (
        lambda: nn.GCNConv(5, 2)(G, X),
        ValueError,
        r"GCNConv: x has shape \[3, 4\]; layer and graph need \[3, 5\]",
    ),
    "rows": (
        lambda: nn.GATConv(4, 2)(G, X[:2]),
        ValueError,
        r"GATConv: x has shape \[2, 4\]; layer and graph need \[3, 4\]",
    ),
    "gin rows": (
        lambda: nn.GINConv(nn.MLP([4, 2]))(G, X[:2]),
        ValueError,
        r"GINConv: x has shape \[2, 4\]; the graph needs \[3, features\]",
    ),
    "gin sparse": (
        lambda: nn.GINConv(relu)(G, csr_array(X)),
        TypeError,
        "x is sparse and f does not start with a Linear",
    ),
    "sage sparse": (
        lambda: nn.SAGEConv(4, 2, aggr="max")(G, csr_array(X)),
        TypeError,
        "x is sparse and aggr is 'max'",
    ),
    "pair for one set": (
        lambda: nn.SAGEConv((4, 5), 2)(G, X),
        ValueError,
        r"SAGEConv: x has shape \[3, 4\]; layer and graph need \[3, 5\]",
    ),
    "edge features": (
        lambda: nn.GINEConv(relu)(G, X, np.zeros((2, 3), np.float32)),
        ValueError,
        r"w has shape \[2, 3\]; graph and x need",
    ),
    "weights": (
        lambda: nn.GCNConv(4, 2)(G, X, np.ones(3)),
        ValueError,
        r"edge_weight has shape \[3\]; one weight an edge: \[2\]",
    ),
    "loops": (
        lambda: nn.GCNConv(4, 2)(TWO, X),
        ValueError,
        "the graph is bipartite, with 3 sources and 2 destinations",
    ),
    "a missing argument": (
        lambda: nn.GCN(4, 2, 2)(G),
        TypeError,
        r"^GCN: the call is missing 1 required .* 'x'; it takes \(g, x, edge_weight=None",
    ),
    "one too many": (lambda: nn.Linear(4, 2)(X, 3), TypeError, r"^Linear: the call takes 2 .*; it takes \("),
    "norm": (
        lambda: nn.GCNConv(4, 2, norm="left"),
        ValueError,
        "unknown norm 'left'; choose from 'both', 'right', 'none'",
    ),
    "aggr": (lambda: nn.SAGEConv(4, 2, aggr="lstm"), ValueError, "unknown aggr 'lstm'"),
    "dropout": (lambda: nn.GAT(4, 2, 2, dropout=1.0), ValueError, "dropout is 1.0; it is a probability"),
    "size": (lambda: nn.GCN(4, 0, 2), ValueError, "GCN: hidden is 0; hidden is a whole number, at least 1"),
    "heads": (lambda: nn.GATConv(4, 2, heads=1.5), ValueError, "GATConv: heads is 1.5"),
    "layers": (lambda: nn.GAT(4, 2, 2, layers=0), ValueError, "GAT: layers is 0"),
    "alpha": (lambda: nn.APPNP(alpha=1.5), ValueError, "alpha is 1.5"),
    "scaler": (lambda: nn.PNAConv(4, 2, scalers=("cubic",)), ValueError, "unknown scaler 'cubic'"),
    "delta": (lambda: nn.PNAConv(4, 2, delta=0.0), ValueError, "delta is 0.0"),
    "relation": (
        lambda: nn.RGCNConv(4, 2, 2)(G, X, [0, 2]),
        IndexError,
        r"relations\[1\] is 2; relations run from 0 to 1",
    ),
    "relations": (lambda: nn.RGCNConv(4, 2, 2)(G, X, [0]), ValueError, r"relations have shape \[1\]"),
    "relation dtype": (
        lambda: nn.RGCNConv(4, 2, 2)(G, X, [0.0, 1.0]),
        TypeError,
        "relations have dtype float64",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    call, kind, text = ERRORS[name]
    with pytest.raises(kind, match=text):
        call()
