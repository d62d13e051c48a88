"""accelerate: PyG's models on numgraph give what they gave, and are what they were."""

from __future__ import annotations

import copy
import doctest
import importlib
import logging
import pickle
import unittest

import numpy as np
import pytest

import numgraph as ng

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pyg = pytest.importorskip("torch_geometric.nn", reason="PyG is not installed", exc_type=ImportError)

RNG = np.random.default_rng(0)
NUM, F = 12, 6
EDGES = torch.from_numpy(np.concatenate([RNG.integers(0, NUM - 2, (2, 40)), [[3, 3, 5], [3, 3, 5]]], 1))
X = torch.randn(NUM, F, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
WEIGHT = torch.rand(EDGES.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.1


class Net(torch.nn.Module):
    """Layers in containers, and one that numgraph does not have."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.ModuleDict({"in": pyg.GATv2Conv(F, 4, heads=2)})
        self.rest = torch.nn.ModuleList([pyg.SAGEConv(8, 8), pyg.TransformerConv(8, 4)])

    def forward(self, x, edge_index):
        x = self.first["in"](x, edge_index).relu_()
        return self.rest[1](self.rest[0](x, edge_index).relu_(), edge_index)


def sequential():
    steps = [
        (pyg.GCNConv(F, 8), "x, edge_index -> x"),
        torch.nn.ReLU(inplace=True),
        (pyg.GATConv(8, 4), "x, edge_index -> x"),
    ]
    return pyg.Sequential("x, edge_index", steps)


MODELS = {
    "GCN": lambda: pyg.models.GCN(F, 8, 2, 4, dropout=0.3),
    "GCN, norm and jumps": lambda: pyg.models.GCN(F, 8, 3, 4, norm="batch", jk="cat"),
    "GraphSAGE": lambda: pyg.models.GraphSAGE(F, 8, 2, 4, dropout=0.3),
    "GIN": lambda: pyg.models.GIN(F, 8, 2, 4),
    "GAT": lambda: pyg.models.GAT(F, 8, 2, 4, heads=2, dropout=0.3),
    "GATv2": lambda: pyg.models.GAT(F, 8, 2, 4, v2=True, heads=2, residual=True),
    "nested": Net,
    "Sequential": sequential,
}
SWAPPED = (pyg.GCNConv, pyg.SAGEConv, pyg.GINConv, pyg.GATConv, pyg.GATv2Conv)


def pair(make):
    """A model, and a copy of it that is accelerated."""
    torch.manual_seed(0)
    model = make().double()
    twin = copy.deepcopy(model)
    accelerated, _ = ng.torch.accelerate(twin, report=True)
    assert accelerated is twin
    return model, twin


def convolutions(model):
    return [layer for layer in model.modules() if isinstance(layer, SWAPPED)]


def counted(monkeypatch):
    """The names of numgraph's walks, as they are run."""
    walks = []
    run = ng.message.propagate.Walk.run
    monkeypatch.setattr(
        ng.message.propagate.Walk, "run", lambda walk, arrays: (walks.append(walk.name), run(walk, arrays))[1]
    )
    return walks


@pytest.mark.parametrize("name", MODELS)
def test_training_is_as_before(name, monkeypatch):
    """Losses and parameters of some steps, dropout and running statistics among them."""
    model, twin = pair(MODELS[name])
    walks = counted(monkeypatch)
    losses = []
    for trained in (model, twin):
        torch.manual_seed(1)
        optimizer = torch.optim.Adam(trained.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            loss = (trained(X, EDGES) - 1).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert bool(walks) == (trained is twin)
    np.testing.assert_allclose(losses[3:], losses[:3], rtol=1e-9)
    states = model.state_dict(), twin.state_dict()
    assert list(states[0]) == list(states[1])
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-7, atol=1e-7)
    twin.load_state_dict(states[0])
    torch.testing.assert_close(twin.eval()(X, EDGES), model.eval()(X, EDGES), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["GCN", "GAT", "nested"])
def test_copies_and_restored_models(name, monkeypatch):
    model, twin = pair(MODELS[name])
    model.eval()
    twin.eval()
    expected = model(X, EDGES)
    walks = counted(monkeypatch)
    for again in (copy.deepcopy(twin), pickle.loads(pickle.dumps(twin))):
        walks.clear()
        torch.testing.assert_close(again(X, EDGES), expected, rtol=1e-10, atol=1e-10)
        assert walks
        assert not any(p is q for p, q in zip(again.parameters(), twin.parameters(), strict=True))
    kinds = [type(layer) for layer in convolutions(model)]
    assert [type(layer) for layer in convolutions(twin)] != kinds
    assert [repr(layer) for layer in convolutions(twin)] == [repr(layer) for layer in convolutions(model)]
    assert ng.torch.restore(twin) is twin
    assert [type(layer) for layer in convolutions(twin)] == kinds
    walks.clear()
    assert torch.equal(twin(X, EDGES), expected)
    assert not walks


def test_objects_stay_themselves():
    model = pyg.models.GCN(F, 8, 2, 4)
    layers, parameters = list(model.convs), list(model.parameters())
    seen = []
    model.convs[0].register_forward_hook(lambda layer, args, z: seen.append(z.shape))
    assert ng.torch.accelerate(model) is model
    assert all(a is b for a, b in zip(model.convs, layers, strict=True))
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert all(isinstance(layer, pyg.GCNConv | pyg.MessagePassing) for layer in model.convs)
    model(X.float(), EDGES)
    assert seen == [(NUM, 8)]
    twice, report = ng.torch.accelerate(model, report=True)
    assert twice is model
    assert report.accelerated == {"convs.0": "GCNConv", "convs.1": "GCNConv"}
    assert not report.left


class Halved(pyg.GCNConv):
    """A class of a user's own."""

    def message(self, x_j, edge_weight):
        return super().message(x_j, edge_weight) / 2


def patched(method):
    """A layer whose method was set on the object: one that gives the class's method's result, or half of
    it.
    """
    layer = pyg.GCNConv(F, 4)
    own = getattr(layer, method)
    setattr(layer, method, lambda *args, **options: own(*args, **options) / 2)
    return layer


LEFT = [
    *[
        (lambda method=method: patched(method), f"{method} was set on it")
        for method in ("forward", "propagate", "message", "aggregate", "update")
    ],
    (lambda: pyg.GCNConv(F, 4, flow="target_to_source"), "flow='target_to_source'"),
    (lambda: pyg.GCNConv(F, 4, aggr="median"), "aggr='median'"),
    (lambda: pyg.SAGEConv(F, 4, aggr=["mean", "max"]), "aggr="),
    (lambda: pyg.SAGEConv(F, 4, aggr="softmax", aggr_kwargs={"learn": True}), "aggr='softmax'"),
    (lambda: pyg.GATConv(F, 4, aggr="mean"), "aggr='mean'"),
    (lambda: Halved(F, 4), "a class of its own, derived from GCNConv"),
    (lambda: pyg.TransformerConv(F, 4), "no such layer"),
]


@pytest.mark.parametrize(("make", "reason"), LEFT, ids=[reason for _, reason in LEFT])
def test_what_stays_pygs_is_named(make, reason):
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"left": make(), "taken": pyg.GCNConv(F, 4)}).double()
    expected = [layer(X, EDGES) for layer in model.values()]
    kind = type(model["left"])
    with unittest.TestCase().assertLogs("numgraph.torch", logging.WARNING) as told:
        ng.torch.accelerate(model)
    assert any(f"left ({kind.__name__}: " in line and reason in line for line in told.output)
    _, report = ng.torch.accelerate(model, report=True)
    assert list(report.accelerated) == ["taken"]
    assert reason in report.left["left"]
    assert type(model["left"]) is kind
    for layer, z in zip(model.values(), expected, strict=True):
        torch.testing.assert_close(layer(X, EDGES), z, rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("ignore:Converting sparse tensor:UserWarning", "ignore:Sparse:UserWarning")
@pytest.mark.parametrize("kind", ["GCNConv", "SAGEConv", "GATConv"])
def test_other_inputs_go_to_pyg(kind, monkeypatch):
    layer, twin = pair(lambda: getattr(pyg, kind)(F, 4))
    walks = counted(monkeypatch)
    dense = torch.zeros(NUM, NUM, dtype=torch.float64).index_put_(
        (EDGES[1], EDGES[0]), torch.ones((), dtype=torch.float64)
    )
    calls = [(X, dense.to_sparse())]
    if kind != "GATConv":
        calls.append((torch.stack([X, 2 * X]), EDGES))
    for call in calls:
        torch.testing.assert_close(twin(*call), layer(*call), rtol=1e-12, atol=1e-12)
    assert not walks
    twin(X, EDGES)
    assert walks


def test_hooks_and_masks_of_messages_go_to_pyg():
    layer, twin = pair(lambda: pyg.GCNConv(F, 4))
    for conv in (layer, twin):
        conv.register_message_forward_hook(lambda module, args, out: out * 2)
    torch.testing.assert_close(twin(X, EDGES), layer(X, EDGES), rtol=1e-12, atol=1e-12)
    layer, twin = pair(lambda: pyg.GCNConv(F, 4))
    for conv in (layer, twin):
        conv.explain, conv._edge_mask, conv._apply_sigmoid = True, WEIGHT, False
        conv._loop_mask = EDGES[0] != EDGES[1]
    torch.testing.assert_close(twin(X, EDGES), layer(X, EDGES), rtol=1e-12, atol=1e-12)


def test_a_graph_that_pyg_has_cached_stays():
    torch.manual_seed(0)
    layer = pyg.GCNConv(F, 4, cached=True).double()
    expected = layer(X, EDGES)
    _, report = ng.torch.accelerate(layer, report=True)
    assert "cached" in report.left[""]
    assert torch.equal(layer(X, EDGES[:, :5]), expected)
    layer.reset_parameters()
    _, report = ng.torch.accelerate(layer, report=True)
    assert report.accelerated == {"": "GCNConv"}
    first = layer(X, EDGES)
    assert torch.equal(layer(X, EDGES[:, :5]), first)
    layer.reset_parameters()
    assert not torch.equal(layer(X, EDGES[:, :5]), first)


def test_data_of_edges_and_options_of_calls():
    for make, options in [
        (lambda: pyg.GCNConv(F, 4), {"edge_weight": WEIGHT}),
        (lambda: pyg.GATConv(F, 4, heads=2, edge_dim=1), {"edge_attr": WEIGHT}),
        (lambda: pyg.GATv2Conv(F, 4, edge_dim=1), {"edge_attr": WEIGHT[:, None]}),
        (lambda: pyg.SAGEConv(F, 4), {"size": (NUM, NUM)}),
        (lambda: pyg.GINConv(torch.nn.Linear(F, 4)), {"size": (NUM, NUM)}),
    ]:
        layer, twin = pair(make)
        torch.testing.assert_close(
            twin(X, EDGES, **options), layer(X, EDGES, **options), rtol=1e-10, atol=1e-10
        )
        torch.testing.assert_close(
            twin(x=X, edge_index=EDGES, **options), layer(X, EDGES, **options), rtol=1e-10, atol=1e-10
        )
    layer, twin = pair(lambda: pyg.GATConv(F, 4, heads=2))
    for (z, (ends, alpha)), (y, (ends_y, beta)) in [
        [conv(X, EDGES, return_attention_weights=True) for conv in (twin, layer)]
    ]:
        assert torch.equal(ends, ends_y)
        torch.testing.assert_close((z, alpha), (y, beta), rtol=1e-10, atol=1e-10)


def test_errors():
    with pytest.raises(TypeError, match="model is a Linear"):
        ng.torch.accelerate(ng.nn.Linear(2, 2))
    _, twin = pair(lambda: pyg.GCNConv(F, 4))
    with pytest.raises(IndexError, match=r"src\[1\] is 12"):
        twin(X, torch.tensor([[0, 12], [1, 1]]))


@pytest.mark.parametrize("module", ["acceleration", "module", "nn.gat", "nn.gcn", "nn.gin", "nn.sage"])
def test_examples_in_docstrings(module):
    found = doctest.testmod(importlib.import_module(f"numgraph.torch.{module}"))
    assert found.attempted
    assert not found.failed
