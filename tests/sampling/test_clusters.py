"""ClusterLoader: each node in one batch, with all edges inside; parts given or cut."""

from __future__ import annotations

import sys
from itertools import chain

import numpy as np
import pytest

import numgraph as ng

RNG = np.random.default_rng(0)
N = 90
SRC, DST = RNG.integers(0, N, 700), RNG.integers(0, N, 700)
X = RNG.standard_normal((N, 4)).astype(np.float32)
FIELDS = {"x": X, "labels": np.arange(N) % 3, "train_mask": np.arange(N) % 4 == 0}
PARTS = RNG.integers(0, 7, N) * 2  # every second part is empty
GRAPHS = {"mixed": ng.Graph(SRC, DST, N), "sorted": ng.Graph(SRC, np.sort(DST), N)}


@pytest.mark.parametrize("order", GRAPHS)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_batches_are_subgraphs(order, batch_size):
    g = GRAPHS[order]
    loader = ng.ClusterLoader((g, FIELDS), PARTS, batch_size=batch_size)
    batches = list(loader)
    assert len(batches) == len(loader) == -(-7 // batch_size)
    np.testing.assert_array_equal(
        np.concatenate([batch.nodes for batch in batches]), np.argsort(PARTS, kind="stable")
    )
    for batch in batches:
        want, edges = g.subgraph(batch.nodes, return_edges=True)
        made = batch.graph
        assert made is batch.blocks
        assert batch.negatives is None
        assert (made.num_nodes, made.is_bipartite) == (len(batch.nodes), False)
        order = np.argsort(batch.edge_ids)
        np.testing.assert_array_equal(batch.edge_ids[order], edges.ids)
        np.testing.assert_array_equal(made.src[order], want.src)
        np.testing.assert_array_equal(made.dst[order], want.dst)
        np.testing.assert_array_equal(batch.x, X[batch.nodes])
        for name in ("labels", "train_mask"):
            np.testing.assert_array_equal(getattr(batch, name), FIELDS[name][batch.nodes])
        assert batch.val_mask is None
        np.testing.assert_allclose(
            ng.nn.SAGEConv(4, 2, rng=0)(made, batch.x), ng.nn.SAGEConv(4, 2, rng=0)(want, batch.x), rtol=1e-5
        )


def test_orders_and_threads():
    one, other = (
        ng.ClusterLoader((GRAPHS["mixed"], FIELDS), PARTS, batch_size=3, shuffle=True, prefetch=n)
        for n in (0, 3)
    )
    epochs = []
    for _ in range(2):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a.nodes, b.nodes)
            np.testing.assert_array_equal(a.blocks.src, b.blocks.src)
            epochs.append(a.nodes.tolist())
    assert epochs[:3] != epochs[3:]
    assert sorted(chain(*epochs[:3])) == sorted(chain(*epochs[3:])) == list(range(N))


def rings(count, size):
    """Rings of nodes in a random order."""
    order = np.random.default_rng(1).permutation(count * size).reshape(count, size)
    return ng.Graph(order.ravel(), np.roll(order, 1, 1).ravel(), count * size)


@pytest.mark.parametrize("metis", [True, False])
def test_a_number_of_parts(metis, monkeypatch):
    if metis:
        pytest.importorskip("pymetis", reason="pymetis is not installed")
    else:
        monkeypatch.setitem(sys.modules, "pymetis", None)
    g = rings(6, 20)
    loader = ng.ClusterLoader((g, {}), 6)
    np.testing.assert_array_equal(np.bincount(loader.parts), [20] * 6)
    assert sum(batch.blocks.num_edges for batch in loader) == g.num_edges  # nothing is cut
    assert sum(len(batch.nodes) for batch in ng.ClusterLoader((g, {}), 120)) == 120
    assert len(ng.ClusterLoader((ng.Graph([], [], 3), {}), 1)) == 1


def test_a_model_trains_on_clusters_and_infers_the_whole():
    data = ng.data.load("karate")
    loader = ng.ClusterLoader(data, data.labels)
    model = ng.nn.GCN(data.num_features, 8, 2, dropout=0, rng=0)
    history = ng.fit(model, data, loader=loader, epochs=20)
    assert history.train_loss[-1] < 0.5 * history.train_loss[0]
    np.testing.assert_allclose(
        model.inference(loader), model(data.graph, data.features), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        (0, ValueError, "parts is 0, of 90 nodes"),
        (91, ValueError, "parts is 91"),
        (2.5, TypeError, "parts is 2.5"),
        (np.zeros(3, int), ValueError, "parts has 3 entries, the graph 90 nodes"),
        (np.arange(N) - 1, ValueError, r"parts\[0\] is -1"),
        (np.zeros(N), TypeError, "parts is float64"),
    ],
)
def test_errors(parts, error, message):
    with pytest.raises(error, match=message):
        ng.ClusterLoader((GRAPHS["mixed"], FIELDS), parts)
