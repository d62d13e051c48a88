"""Messages, ops, layers, optimisers and training on the device (support/device.py): the host's numbers, and
no array that leaves it.
"""

from __future__ import annotations

import dataclasses

import checks
import numpy as np
import pytest
import test_messages
import test_nn
import test_optim
import test_rowwise
from device import DeviceArray, asarray, back, device, synchronised, there

import numgraph as ng
from numgraph import nn
from numgraph.autodiff.tape import Parameter, Tape, Tensor, unwrap
from numgraph.compiler import rows
from numgraph.data import load
from numgraph.dense.activations import biased
from numgraph.nn.graphs import with_self_loops
from numgraph.optim import SGD, Adam
from numgraph.serialize import load_parameters, save_parameters
from numgraph.training import evaluate, fit
from numgraph.training.recipes import build, recipe, training_features

__all__ = ["device"]

G = test_messages.G
REDUCES = ("sum", "mean", "max", "min", "prod")
weights_like = checks.weights_like


@pytest.fixture
def both(device, monkeypatch):
    """both(f, *arrays): f(place, *Tensors) with place the identity on the host and ``there`` on the device;
    first and second derivatives, as two lists that must be equal."""

    def run(f, *arrays, order=1):
        made = []
        for place in (lambda x: x, there):
            monkeypatch.setattr(checks, "weights_like", lambda *a, place=place: place(weights_like(*a)))
            with Tape() as outer:
                watched = [outer.watch(place(np.array(a))) for a in arrays]
                with Tape() as inner:
                    for x in watched:
                        inner.watch(x)
                    y = f(place, *watched)
                    loss = checks.scalar(y)
                first = inner.gradient(loss, watched)
                combined = checks.scalar(first) if order == 2 else None
            second = outer.gradient(combined, watched) if order == 2 else []
            made.append(
                [unwrap(part) for part in (*(y if isinstance(y, tuple | list) else [y]), *first, *second)]
            )
        want, got = made
        checks.assert_close(back(got), want, 1e-12)
        assert [g.dtype for g in got] == [w.dtype for w in want]

    return run


def on(place, g):
    return g if place is not there else g.to("cuda")


# Messages and ops


# The pairs of message and reduce, and the orders, are those of test_messages.py: their kernels are compiled
# already.
CASES = test_messages.CASES
WALKS = [(case, "sum") for case in CASES] + [(CASES[i], reduce) for i in (0, 4, 13) for reduce in REDUCES[1:]]


@pytest.mark.parametrize(("case", "reduce"), WALKS, ids=[f"{case.name}, {reduce}" for case, reduce in WALKS])
def test_reduces(both, case, reduce):
    def f(place, *arrays):
        message, fields = case.fields(arrays)
        return ng.update_all(on(place, G), message, reduce, **fields)

    both(f, *case.arrays, order=case.order if reduce == "sum" else 2 if case is CASES[13] else 1)


@pytest.mark.parametrize("case", [CASES[i] for i in (0, 1, 9, 11, 18)], ids=lambda c: c.name)
def test_edge_values(both, case):
    def f(place, *arrays):
        message, fields = case.fields(arrays)
        return ng.apply_edges(on(place, G), message, **fields)

    both(f, *case.arrays)


def test_attention(both):
    def f(place, h, el, er):
        score = lambda u, v: ng.leaky_relu(u.el + v.er, 0.2)
        return ng.attend(on(place, G), score, lambda u: u.h, u={"h": h, "el": el}, v={"er": er})

    data = test_messages.data
    both(f, data(5, 2, 3), data(5, 2, 1, seed=1), data(6, 2, 1, seed=2), order=2)


@pytest.mark.parametrize("reduce", REDUCES)
@pytest.mark.parametrize("op", ["add", "sub", "mul", "div", "copy_lhs", "copy_rhs"])
def test_spmm(both, op, reduce):
    both(
        lambda place, x, w: ng.ops.gspmm(on(place, G), op, reduce, x, w),
        test_messages.data(5, 3),
        test_messages.data(8, 1),
    )


@pytest.mark.parametrize("op", ["add", "sub", "mul", "div", "dot", "copy_lhs", "copy_rhs"])
def test_sddmm(both, op):
    both(
        lambda place, x, y: ng.ops.gsddmm(on(place, G), op, x, y),
        test_messages.data(5, 3),
        test_messages.data(6, 3),
    )


@pytest.mark.parametrize("norm_by", ["dst", "src"])
def test_edge_softmax(both, norm_by):
    both(lambda place, s: ng.ops.edge_softmax(on(place, G), s, norm_by), test_messages.data(8, 2), order=2)


def test_segments(both):
    x, a, b = test_messages.data(8, 3), test_messages.data(8, 3, seed=1), test_messages.data(3, 3, 2, seed=2)
    offsets = np.array([0, 3, 3, 8])
    for reduce in REDUCES:
        both(lambda place, x, reduce=reduce: ng.ops.segment_reduce(offsets, x, reduce), x)
    both(lambda place, x: ng.ops.segment_softmax(offsets, x), x)
    both(lambda place, a, b: ng.ops.segment_mm(a, b, offsets), a, b, order=2)
    both(lambda place, a, b: ng.ops.segment_mm(a, b, [3, 0, 5]), a, b)
    both(lambda place, a, b: ng.ops.gather_mm(a, b, [2, 0, 1, 1, 0, 2, 2, 0]), a, b, order=2)


@pytest.mark.parametrize("name", test_rowwise.CASES)
def test_functions_of_rows_as_kernels(both, monkeypatch, name):
    monkeypatch.setattr(rows, "LARGE", 1)
    both(lambda place, x: place(test_rowwise.CASES[name][0])(x), test_messages.data(5, 3), order=2)


def test_bias_and_activation_as_kernels(both, device, monkeypatch):
    monkeypatch.setattr(rows, "LARGE", 1)
    for activation in (None, ng.relu, ng.elu):
        both(
            lambda place, x, b, f=activation: biased(x, b, f),
            test_messages.data(600, 3),
            test_messages.data(3),
        )
    with Tape() as tape:
        x = tape.watch(asarray(np.ones((600, 3))))
        biased(x, asarray(np.ones(3)), ng.relu)
    assert tape.explain().startswith("#0 bias, relu"), "it went through one kernel"
    with pytest.raises(TypeError, match="bias, relu: operand 0 is on cuda, operand 1 is on cpu"):
        biased(asarray(np.ones((600, 3))), Tensor(np.ones(3)), ng.relu)


def test_captured_arrays_and_explanations(device):
    g, x, scale = G.to("cuda"), asarray(test_messages.data(5, 3)), asarray(np.arange(3.0))
    with Tape() as tape:
        t = tape.watch(x)
        loss = ng.update_all(g, lambda u: u.x * scale, "sum", u={"x": t}).sum()
    synchronised.clear()
    tape.gradient(loss, t)
    assert "SpMM on the REVERSED graph" in tape.explain()
    assert not synchronised, "a gradient copies nothing to the host"


X, Y, W = np.ones((5, 2)), np.ones((6, 2)), np.ones((8, 2))
U = lambda u: u.x
HOST_ALONE = "and this op runs on the host alone; take"
WRONG = [
    (
        "update_all",
        lambda g: ng.update_all(g, U, "sum", u={"x": X}),
        r"update_all: field u.x is on cpu, the graph is on cuda; bring both",
    ),
    (
        "host graph",
        lambda g: ng.update_all(G, U, "sum", u={"x": asarray(X)}),
        "update_all: field u.x is on cuda, the graph is on cpu",
    ),
    (
        "edges",
        lambda g: ng.apply_edges(g, lambda v, e: v.y * e.w, v={"y": asarray(Y)}, e={"w": W}),
        "apply_edges: field e.w is on cpu",
    ),
    (
        "captured",
        lambda g: ng.update_all(g, lambda u: u.x * X[0], "sum", u={"x": asarray(X)}),
        "update_all: array captured0 is on cpu, the graph is on cuda",
    ),
    (
        "attend",
        lambda g: ng.attend(g, lambda u: u.x, U, u={"x": X}),
        "attend: field u.x is on cpu, the graph is on cuda",
    ),
    ("gspmm", lambda g: ng.ops.gspmm(g, "mul", "sum", asarray(X), W), "update_all: field e.rhs is on cpu"),
    (
        "layer",
        lambda g: nn.GCNConv(2, 2, add_self_loops=False)(g, asarray(X)),
        r"matmul: operand 0 is on cuda, operand 1 is on cpu.*module.to",
    ),
    (
        "offsets",
        lambda g: ng.ops.segment_reduce(asarray([0, 5]), asarray(X)),
        r"offsets is on cuda; segments are planned on the host",
    ),
    (
        "lengths",
        lambda g: ng.ops.segment_mm(asarray(X), asarray(np.ones((1, 2, 2))), asarray([5])),
        r"give offsets.get\(\)",
    ),
    (
        "idx_b",
        lambda g: ng.ops.gather_mm(asarray(X), asarray(np.ones((1, 2, 2))), asarray([0] * 5)),
        r"give idx_b.get\(\)",
    ),
    (
        "csrmm",
        lambda g: ng.ops.csrmm(g, asarray(W[:, 0]), g, W[:, 0]),
        rf"csrmm: A_graph is on cuda, {HOST_ALONE} A_graph.*to\('cpu'\)",
    ),
    (
        "csrsum",
        lambda g: ng.ops.csrsum([G], [asarray(W[:, 0])]),
        rf"csrsum: weights\[0\] is on cuda, {HOST_ALONE} weights\[0\].*get\(\)",
    ),
    ("csrmask", lambda g: ng.ops.csrmask(G, W[:, 0], g), rf"csrmask: B_graph is on cuda, {HOST_ALONE}"),
]


@pytest.mark.parametrize(
    ("wrong", "text"), [(wrong, text) for _, wrong, text in WRONG], ids=[name for name, _, _ in WRONG]
)
def test_what_is_on_two_devices_is_an_error(device, wrong, text):
    with pytest.raises((TypeError, ValueError), match=text):
        wrong(ng.Graph(G.src, G.dst, num_src=5, num_dst=6).to("cuda"))


# Layers


@pytest.mark.parametrize("graph", test_nn.GRAPHS)
@pytest.mark.parametrize("name", test_nn.CASES)
def test_layers(device, monkeypatch, name, graph):
    case, g = test_nn.CASES[name], test_nn.GRAPHS[graph]
    made = []
    for place in (lambda x: x, there):
        monkeypatch.setattr(checks, "weights_like", lambda *a, place=place: place(weights_like(*a)))
        layer, x, floats, fixed = test_nn.inputs(case, g)
        layer.to("cpu" if place is not there else "cuda")
        made.append(trained_once(layer, on(place, g), place(x), place(floats), place(fixed)))
    want, got = made
    checks.assert_close(back(got), want, 1e-12)


def trained_once(layer, g, x, floats, fixed):
    """The output and all gradients."""
    with Tape() as tape:
        given = {name: tape.watch(array) for name, array in floats.items()}
        x = tape.watch(x)
        z = layer(g, x, **given, **fixed)
        loss = checks.scalar(z)
    return [z.data, *tape.gradient(loss, [x, *given.values(), *layer.parameters()])]


@pytest.mark.parametrize("name", test_nn.TWO_SIDED_CASES)
def test_layers_between_two_sets_of_nodes(device, name):
    make, _ = test_nn.TWO_SIDED_CASES[name]
    g, rng = test_nn.TWO_SIDED, np.random.default_rng(0)
    layer = make(rng=0, dtype=np.float64)
    width = {"sage mean": (3, 2), "sage max": (3, 2), "gat": (3, 2)}.get(name, (3, 3))
    x = rng.standard_normal((g.num_src, width[0])), rng.standard_normal((g.num_dst, width[1]))
    x = x[0] if name == "gcn" else x
    want = unwrap(layer(g, x))
    checks.assert_close([back(unwrap(layer.to("cuda")(g.to("cuda"), there(x))))], [want], 1e-12)


def test_attention_dropout_is_drawn_on_the_device(device):
    g, x = test_nn.GRAPHS["odd"].to("cuda"), asarray(np.ones((6, 3), np.float32))
    layer = nn.GATConv(3, 2, heads=2, dropout=0.5, rng=0).to("cuda")
    one, two, other = (back(layer(g, x, rng=np.random.default_rng(seed))) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_self_loops_are_added_on_the_host_once(device):
    g = ng.Graph([0, 1, 1], [1, 0, 1], 3)
    there_, _ = with_self_loops(g.to("cuda"))
    assert there_.device == "cuda"
    assert with_self_loops(g.to("cuda"))[0] is there_
    assert there_.to("cpu") is with_self_loops(g)[0]
    full, weights = with_self_loops(g.to("cuda"), asarray(np.full((3, 1), 5.0)))
    assert back(weights).tolist() == [[5], [5], [5], [1], [1]]
    complete = full.add_self_loops()
    assert with_self_loops(complete)[0] is complete


def test_a_module_moves_with_its_buffers_and_keeps_its_parameters(device, tmp_path):
    model = nn.MLP([3, 4, 2], norm=True, rng=0)
    before, parameters = model.state_dict(), model.parameters()
    assert model.to("cuda") is model
    assert model.parameters() == parameters
    state = dict(model._walk(""))
    assert {type(unwrap(value)) for value in state.values()} == {DeviceArray}
    model(asarray(np.ones((5, 3), np.float32)))
    assert back(model.steps[1].running_mean).any()
    for name, array in model.state_dict().items():
        assert type(array) is np.ndarray
        assert array.shape == before[name].shape
    for suffix in ("npz", "safetensors"):
        save_parameters(tmp_path / f"p.{suffix}", model.state_dict())
        save_parameters(tmp_path / f"q.{suffix}", dict(model.named_parameters()))
        for parameter in model.parameters():
            parameter.data = parameter.data * 0
        load_parameters(tmp_path / f"q.{suffix}", dict(model.named_parameters()))
        np.testing.assert_array_equal(back(model.steps[0].weight.data), before["steps.0.weight"])
    model.load_state_dict(before)
    assert not back(model.steps[1].running_mean).any()
    for name, array in model.to("cpu").state_dict().items():
        np.testing.assert_array_equal(array, before[name])
        assert type(unwrap(dict(model._walk(""))[name])) is np.ndarray
    with pytest.raises(ValueError, match=r"MLP.to: unknown device 'gpu'; choose from 'cpu', 'cuda'"):
        model.to("gpu")


# Optimisers and training


@pytest.mark.parametrize("make", [case[0] for case in test_optim.CASES])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_optimisers(device, monkeypatch, make, dtype):
    want, _ = test_optim.run(make, dtype)
    monkeypatch.setattr(test_optim, "start", lambda dtype, start=test_optim.start: there(start(dtype)))
    got, optimizer = test_optim.run(make, dtype)
    assert got.dtype == dtype
    np.testing.assert_allclose(
        back(got), want, rtol={2: 2e-3, 4: 2e-6, 8: 1e-13}[got.itemsize]
    )  # the host's steps are one kernel each
    for arrays in optimizer._state.values():
        assert {type(array) for array in arrays} <= {DeviceArray}
    state = optimizer.state_dict()
    assert {type(array) for array in state.values()} == {np.ndarray}
    optimizer.load_state_dict(state)
    for name, arrays in optimizer._state.items():
        np.testing.assert_array_equal(back(arrays[0]), state[f"{name}.0"])


def test_the_state_of_an_optimiser_follows_its_parameters(device):
    model, still = (nn.Linear(2, 2, rng=0) for _ in range(2))
    optimizers = [Adam(m.parameters(), lr=0.1) for m in (model, still)]
    steps = [np.full((2, 2), 0.5, np.float32), np.full(2, 0.5, np.float32)]
    for k in range(3):
        model.to("cuda" if k == 1 else "cpu")
        optimizers[0].step(there(steps) if k == 1 else steps)
        optimizers[1].step(steps)
    np.testing.assert_allclose(model.weight.data, still.weight.data, rtol=1e-6)


@dataclasses.dataclass
class Run:
    model: nn.Module
    history: object
    data: object
    features: object


def train(name, place, dropout=0.0, epochs=4, patience=0, dtype=np.float32):
    data = load("karate")
    model, optimizer = build(recipe(name, dropout=dropout), data, seed=0)
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(dtype)
    if place == "cuda":
        data, model = data.to("cuda"), model.to("cuda")
    features = training_features(data).astype(dtype)
    history = fit(model, data, optimizer, epochs=epochs, seed=1, features=features, patience=patience)
    return Run(model, history, data, features)


@pytest.mark.parametrize("name", ["gcn", "gat", "sage", "gin"])
def test_training(device, name):
    """The same losses, epoch by epoch, and the same parameters, of float64: Adam divides small gradients by
    their own size. What crosses to the host is what the loop asks for.
    """
    host = train(name, "cpu", dtype=np.float64)
    synchronised.clear()
    there_ = train(name, "cuda", dtype=np.float64)
    for ours, theirs in zip(
        dataclasses.astuple(host.history), dataclasses.astuple(there_.history), strict=True
    ):
        if isinstance(ours, list):
            np.testing.assert_allclose(theirs, ours, rtol=1e-9)
    want = host.model.state_dict()
    for key, array in there_.model.state_dict().items():
        np.testing.assert_allclose(array, want[key], rtol=1e-7, atol=1e-9)
    assert {type(unwrap(value)) for _, value in there_.model._walk("")} == {DeviceArray}
    metrics = evaluate(there_.model, there_.data, there_.features, there_.data.test_mask)
    assert (
        metrics[0].accuracy == evaluate(host.model, host.data, host.features, host.data.test_mask)[0].accuracy
    )


@pytest.mark.parametrize("name", ["gcn", "gat"])
def test_training_with_dropout_learns(device, name):
    run = train(name, "cuda", dropout=0.5, epochs=60)
    assert evaluate(run.model, run.data, run.features, run.data.test_mask)[0].accuracy > 0.8
    again = train(name, "cuda", dropout=0.5, epochs=60)
    assert run.history.train_loss == again.history.train_loss


def test_datasets_move(device):
    data = load("karate").to("cuda")
    assert data.graph.device == "cuda"
    assert {
        type(getattr(data, name)) for name in ("features", "labels", "train_mask", "val_mask", "test_mask")
    } == {DeviceArray}
    assert repr(data) == repr(load("karate"))
    assert data.to("cuda") is data
    np.testing.assert_array_equal(data.to("cpu").features, load("karate").features)
    with pytest.raises(
        TypeError,
        match=r"sparse_features: the dataset is on cuda; they are SciPy's, on the host; use features",
    ):
        _ = data.sparse_features


def test_a_parameter_may_be_made_of_a_device_array(device):
    w = Parameter(asarray(np.ones(3, np.float32)))
    with Tape() as tape:
        loss = (w * w).sum()
    SGD([w], lr=0.1).step(tape.gradient(loss, [w]))
    np.testing.assert_allclose(back(w.data), 0.8, rtol=1e-6)
