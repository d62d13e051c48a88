"""Layers over the graphs of a batch: against formulas in NumPy, graph by graph, and central differences."""

from __future__ import annotations

import re

import numpy as np
import pytest
from checks import check_gradient
from test_nn import as_function, filled, values

import numgraph as ng
from numgraph import nn

SIZES = [4, 1, 0, 6]
B = ng.batch([ng.Graph([], [], n) for n in SIZES])
X = np.random.default_rng(0).standard_normal((11, 3))


def pooled(layer, x):
    if not len(x):
        return np.zeros(3)
    weights = np.exp(x @ np.asarray(layer.gate.weight.data) + np.asarray(layer.gate.bias.data))
    return (weights * x).sum(0, keepdims=True) / weights.sum()


def normalised(layer, x):
    weight, bias, alpha = (np.asarray(p.data) for p in (layer.weight, layer.bias, layer.mean_scale))
    centred = x - alpha * x.mean(0) if len(x) else x
    return weight * centred / np.sqrt((centred**2).mean(0) + 1e-5) + bias if len(x) else x


CASES = {
    "attention": (lambda dtype: nn.AttentionPooling(3, rng=0, dtype=dtype), pooled),
    "norm": (lambda dtype: nn.GraphNorm(3, dtype=dtype), normalised),
}


@pytest.mark.parametrize("name", CASES)
def test_pooling_layers(name):
    make, by_hand = CASES[name]
    layer = filled(make(np.float64), np.random.default_rng(1))
    want = np.vstack([by_hand(layer, x) for x in np.split(X, B.node_offsets[1:-1])])
    np.testing.assert_allclose(layer(B, X), want, rtol=1e-12, atol=1e-14)
    check_gradient(as_function(layer, B, [], {}), [X, *values(layer).values()], step=1e-4)
    assert filled(make(np.float32), np.random.default_rng(1))(B, X.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("name", CASES)
def test_pooling_layers_in_half_precision(name):
    """Sums of 2,000 squares are beyond float16."""
    make, by_hand = CASES[name]
    b, x = (
        ng.batch([ng.Graph([], [], 2000)]),
        np.random.default_rng(0).uniform(8, 24, (2000, 3)).astype(np.float16),
    )
    layer = make(np.float16)
    got = layer(b, x)
    assert got.dtype == np.float16
    np.testing.assert_allclose(got, by_hand(make(np.float64), x.astype(np.float64)), rtol=2e-2, atol=5e-3)


def test_attention_takes_a_gate_and_values():
    layer = nn.AttentionPooling(3, gate=lambda x: 0 * x[:, :1], value=lambda x: x[:, :2] + 1)
    np.testing.assert_allclose(layer(B, X)[3], X[5:, :2].mean(0) + 1, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_set2set_is_pygs(dtype):
    """Values, and gradients of x and of all weights; a graph has no nodes, another one alone."""
    torch, aggr = (
        pytest.importorskip("torch"),
        pytest.importorskip("torch_geometric.nn.aggr", exc_type=ImportError),
    )
    torch.manual_seed(0)
    kind, limits = (
        (torch.float64, {"rtol": 1e-11, "atol": 1e-13})
        if dtype == np.float64
        else (torch.float32, {"rtol": 1e-4, "atol": 1e-5})
    )
    theirs = aggr.Set2Set(3, processing_steps=4).to(kind)
    ours = nn.load_pyg(nn.Set2Set(3, 4, dtype=dtype), theirs.state_dict())
    x = torch.tensor(X, dtype=kind, requires_grad=True)
    z = theirs(x, torch.tensor(B.graph_ids.copy()), dim_size=len(B))
    seed = np.random.default_rng(2).standard_normal(z.shape)
    z.backward(torch.tensor(seed, dtype=kind))
    with ng.Tape() as tape:
        watched = tape.watch(X.astype(dtype))
        got = ours(B, watched)
    assert got.dtype == dtype
    np.testing.assert_allclose(got.numpy(), z.detach(), **limits)
    dx, *rest = tape.gradient(got, [watched, *ours.parameters()], seed=seed.astype(dtype))
    np.testing.assert_allclose(dx, x.grad, **limits)
    names = {
        "of_query.weight": "weight_ih_l0",
        "of_query.bias": "bias_ih_l0",
        "of_state.weight": "weight_hh_l0",
        "of_state.bias": "bias_hh_l0",
    }
    for (name, _), gradient in zip(ours.named_parameters(), rest, strict=True):
        want = getattr(theirs.lstm, names[name]).grad.numpy()
        np.testing.assert_allclose(gradient, want.T if want.ndim == 2 else want, err_msg=name, **limits)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_sort_pooling_is_pygs(k):
    """Fewer and more nodes than k; a graph without nodes."""
    torch, aggr = (
        pytest.importorskip("torch"),
        pytest.importorskip("torch_geometric.nn.aggr", exc_type=ImportError),
    )
    x = torch.tensor(X, requires_grad=True)
    z = aggr.SortAggregation(k)(x, torch.tensor(B.graph_ids.copy()), dim_size=len(B))
    seed = np.random.default_rng(2).standard_normal(z.shape)
    z.backward(torch.tensor(seed))
    with ng.Tape() as tape:
        watched = tape.watch(X)
        got = nn.SortPooling(k)(B, watched)
    np.testing.assert_array_equal(got.numpy(), z.detach())
    np.testing.assert_array_equal(tape.gradient(got, [watched], seed=seed)[0], x.grad)


def test_readouts_of_batches_without_nodes_or_graphs():
    for b in (ng.batch([ng.Graph([], [], 0)] * 2), ng.batch([])):
        x = np.zeros((0, 3), np.float32)
        assert nn.SortPooling(2)(b, x).tolist() == [[0.0] * 6] * len(b)
        assert nn.Set2Set(3, 2, rng=0)(b, x).shape == (len(b), 6)


def test_sort_pooling_keeps_the_order_of_equal_nodes():
    b, x = ng.batch([ng.Graph([], [], 3)]), np.array([[1.0, 0.0], [2.0, 5.0], [3.0, 0.0]])
    assert nn.SortPooling(3)(b, x).tolist() == [[2, 5, 1, 0, 3, 0]]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: nn.GraphNorm(3)(ng.Graph([], [], 11), X),
            TypeError,
            "GraphNorm: the first argument is a Graph; give what numgraph.batch",
        ),
        (
            lambda: nn.GraphNorm(4)(B, X),
            ValueError,
            "GraphNorm: x has shape [11, 3]; layer and graph need [11, 4]",
        ),
        (
            lambda: nn.AttentionPooling(3)(B, X[1:]),
            ValueError,
            "AttentionPooling: x has shape [10, 3]; layer and graph need",
        ),
        (lambda: nn.AttentionPooling(0), ValueError, "AttentionPooling: features is 0"),
        (lambda: nn.Set2Set(3, 0), ValueError, "Set2Set: steps is 0"),
        (
            lambda: nn.Set2Set(4)(B, X),
            ValueError,
            "Set2Set: x has shape [11, 3]; layer and graph need [11, 4]",
        ),
        (
            lambda: nn.SortPooling(2)(B, X[1:]),
            ValueError,
            "SortPooling: x has shape [10, 3], the batch's graphs have 11 nodes",
        ),
        (
            lambda: nn.SortPooling(2)(B, X[:, 0]),
            ValueError,
            "SortPooling: x has shape [11]; x is [11, features], sorted by the last",
        ),
        (lambda: nn.GraphNorm(3, eps=0), ValueError, "GraphNorm: eps is 0; it keeps the root from 0"),
    ],
)
def test_errors(call, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        call()
