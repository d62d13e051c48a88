"""Hubs: rows cut into chunks and combined give what the whole row gives, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

import numgraph as ng
from numgraph.compiler import reference
from numgraph.compiler.cpu import balance

EDGES, NODES = 300, 12


@pytest.fixture
def hub_graph(monkeypatch: pytest.MonkeyPatch) -> ng.Graph:
    """Half of the edges enter node 3, many leave node 5, and a chunk is 7 edges."""
    monkeypatch.setattr(balance, "HUB_EDGES", 7)
    rng = np.random.default_rng(3)
    dst = np.where(rng.random(EDGES) < 0.5, 3, rng.integers(0, NODES - 1, EDGES))
    src = np.where(rng.random(EDGES) < 0.4, 5, rng.integers(0, NODES, EDGES))
    graph = ng.Graph(src, dst, NODES)
    assert len(graph.in_edges.derived("parts", balance.parts_of).hubs) > 5
    return graph


def both(monkeypatch: pytest.MonkeyPatch, function, arrays):
    """Value and gradients of function(*Tensors) with the compiled kernels and with plain NumPy."""

    def run():
        with ng.Tape() as tape:
            xs = [tape.watch(array) for array in arrays]
            z = function(*xs)
            weights = np.random.default_rng(0).standard_normal(z.shape)
            loss = (z * weights).sum()
        return [z.data, *tape.gradient(loss, xs)]

    compiled = run()
    with monkeypatch.context() as patch:
        patch.setattr(
            "numgraph.message.propagate.execute",
            lambda g, outputs, fields, out: reference.execute(g, outputs, fields),
        )
        return compiled, run()


@pytest.mark.parametrize("shape", [(), (5,), (3, 4)])
@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min", "prod"])
def test_reduces(hub_graph, monkeypatch, reduce, shape):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, NODES, *shape))
    w = rng.standard_normal((EDGES, *shape))

    def message(x, y, w):
        return ng.update_all(
            hub_graph, lambda u, v, e: np.tanh(u.x - v.y) * e.w, reduce, u={"x": x}, v={"y": y}, e={"w": w}
        )

    for compiled, expected in zip(*both(monkeypatch, message, [x, y, w]), strict=True):
        np.testing.assert_allclose(compiled, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(5,), (3, 4)])
def test_attention_and_softmax(hub_graph, monkeypatch, shape):
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, NODES, *shape))

    def attention(x, y):
        score = lambda u, v: np.tanh(u.x + v.y).sum(-1, keepdims=True)
        return ng.attend(hub_graph, score, lambda u: u.x, u={"x": x}, v={"y": y})

    for compiled, expected in zip(*both(monkeypatch, attention, [x, y]), strict=True):
        np.testing.assert_allclose(compiled, expected, rtol=1e-10, atol=1e-12)
    scores = rng.standard_normal((EDGES, *shape))
    softmax = ng.ops.edge_softmax(hub_graph, scores)
    total = np.zeros((NODES, *shape))
    np.add.at(total, hub_graph.dst, np.exp(scores))
    np.testing.assert_allclose(softmax, np.exp(scores) / total[hub_graph.dst], rtol=1e-12)


def test_nan_ties_and_minus_infinity(hub_graph):
    x = np.zeros((NODES, 2))
    x[2, 0] = np.nan
    z = ng.update_all(hub_graph, lambda u: u.x, "max", u={"x": x})
    read = np.zeros(NODES, bool)
    read[hub_graph.dst[hub_graph.src == 2]] = True
    np.testing.assert_array_equal(np.isnan(z[:, 0]), read)
    with ng.Tape() as tape:
        w = tape.watch(np.ones(EDGES))
        loss = ng.update_all(hub_graph, lambda e: e.w, "max", e={"w": w}).sum()
    (gradient,) = tape.gradient(loss, [w])
    first = np.zeros(EDGES)
    first[np.unique(hub_graph.dst, return_index=True)[1]] = 1
    np.testing.assert_array_equal(gradient, first)
    scores = np.full(EDGES, -np.inf)
    alive = np.flatnonzero(hub_graph.dst == 3)[[10, 90]]
    scores[alive] = [0.0, 1.0]
    z = ng.attend(
        hub_graph, lambda e: e.s, lambda e: e.w, e={"s": scores, "w": np.arange(EDGES, dtype=float)}
    )
    weights = np.exp([0.0, 1.0]) / np.exp([0.0, 1.0]).sum()
    assert z[3] == pytest.approx(weights @ alive)


def test_every_edge_is_in_one_part(hub_graph):
    for adjacency in (hub_graph.in_edges, hub_graph.out_edges):
        parts = adjacency.derived("parts", balance.parts_of)
        rows = [row for start, stop in parts.ranges for row in range(start, stop)] + [
            hub.row for hub in parts.hubs
        ]
        assert sorted(rows) == list(range(NODES))
        for hub in parts.hubs:
            assert hub.bounds[0] == adjacency.indptr[hub.row]
            assert hub.bounds[-1] == adjacency.indptr[hub.row + 1]
            assert hub.counts.max() <= 7
