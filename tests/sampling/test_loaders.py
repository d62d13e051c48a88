"""NeighborLoader: the same batches with and without threads, clean ends, features by number, inference as the
whole graph's.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest
from scipy.sparse import csr_array

import numgraph as ng
from numgraph.sampling.rows import rows_of

RNG = np.random.default_rng(0)
N, F = 60, 4
G = ng.Graph(RNG.integers(0, N, 400), RNG.integers(0, N, 400), N)
X = RNG.standard_normal((N, F)).astype(np.float32)
LABELS = np.arange(N) % 3


def bits(batch):
    return [
        batch.nodes,
        batch.seeds,
        batch.x,
        batch.labels,
        *batch.edge_ids,
        *(block.src for block in batch.blocks),
    ]


def loader_of(**options):
    return ng.NeighborLoader((G, {"x": X, "labels": LABELS}), [3, 2], **{"batch_size": 7, **options})


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_are_the_same_with_any_number_of_threads(shuffle):
    alone, ahead = (loader_of(shuffle=shuffle, seed=4, prefetch=prefetch) for prefetch in (0, 4))
    epochs = []
    for _ in range(2):
        batches = list(zip(alone, ahead, strict=True))
        assert len(batches) == len(alone) == 9
        for one, other in batches:
            for a, b in zip(bits(one), bits(other), strict=True):
                np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(one.x, X[one.nodes])
            np.testing.assert_array_equal(one.labels, LABELS[one.seeds])
        seeds = np.concatenate([one.seeds for one, _ in batches])
        np.testing.assert_array_equal(np.sort(seeds), np.arange(N))
        epochs.append(seeds.tolist())
    assert (epochs[0] != epochs[1]) == shuffle
    alone.epoch = 0
    np.testing.assert_array_equal(next(iter(alone)).seeds, epochs[0][:7])


def test_kept_batches_are_not_written_over():
    x = np.arange(N * 70_000, dtype=np.float32).reshape(
        N, -1
    )  # rows of which few are a large array, whose memory is used again
    batches = list(ng.NeighborLoader((G, {"x": x}), [2], batch_size=20))
    for batch in batches:
        np.testing.assert_array_equal(batch.x[:, ::9999], x[batch.nodes][:, ::9999])


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("numgraph batch")]


def test_a_loop_that_ends_early_leaves_no_thread():
    batches = iter(loader_of(prefetch=4))
    next(batches)
    batches.close()
    assert workers() == []
    with pytest.raises(ZeroDivisionError):
        [1 / 0 for _ in loader_of(prefetch=4)]
    list(loader_of())
    assert workers() == []


def test_errors_of_a_batch_are_the_callers():
    class Broken:
        shape, dtype = (N, 1), np.dtype(float)

        def __array__(self, *args, **options):
            raise RuntimeError("no such disk")

    with pytest.raises(RuntimeError, match="no such disk"):
        list(ng.NeighborLoader((G, {"x": Broken()}), [2]))
    assert workers() == []


def test_parts_of_the_nodes():
    mask = np.arange(N) % 4 == 1
    for given in (mask, np.flatnonzero(mask)):
        seeds = np.concatenate([batch.seeds for batch in loader_of(input_nodes=given)])
        np.testing.assert_array_equal(seeds, np.flatnonzero(mask))
    loader = loader_of(input_nodes=mask, drop_last=True)
    assert [len(batch.seeds) for batch in loader] == [7, 7]
    assert len(loader) == 2


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "u1", "i8", "?", "c16"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (64,)])
def test_rows_by_number(dtype, shape):
    x = (RNG.standard_normal((N, *shape)) * 9).astype(np.int8).astype(dtype)
    ids = RNG.integers(0, N, 30).astype(np.int32)
    for given in (x, x[::-1], np.asfortranarray(x)):
        found = rows_of(given, ids)
        assert found.dtype == x.dtype
        np.testing.assert_array_equal(found, given[ids])
    assert rows_of(x, ids[:0]).shape == (0, *shape)


def test_rows_of_a_file_and_of_a_sparse_matrix(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped, ids = np.load(tmp_path / "x.npy", mmap_mode="r"), np.array([3, 3, 59], np.int32)
    np.testing.assert_array_equal(rows_of(mapped, ids), X[ids])
    np.testing.assert_array_equal(rows_of(csr_array(X), ids).toarray(), X[ids])


MODELS = {
    "gcn": ng.nn.GCN(F, 5, 3, rng=0, norm="batch", jk="cat"),
    "sage": ng.nn.SAGE(F, 5, 3, layers=3, rng=0),
    "gat": ng.nn.GAT(F, 5, 3, heads=2, rng=0),
}


@pytest.mark.parametrize("name", MODELS)
def test_inference_of_all_nodes(name):
    model = MODELS[name].train()
    found = model.inference(loader_of())
    assert all(module.training for module in model.modules())
    np.testing.assert_allclose(found, model.eval()(G, X), rtol=2e-5, atol=2e-5)


def test_weights_of_edges_come_along():
    weight = RNG.uniform(0.5, 2, G.num_edges)
    data = ng.Dataset.from_arrays(G, X, LABELS, edge_weight=weight)
    model = ng.nn.GCN(F, 5, 3, rng=0).eval()
    loader = ng.NeighborLoader(data, [-1, -1], batch_size=11)
    want = model(G, X, data.edge_weight)
    for batch in loader:
        z = model(batch.blocks, batch.x, edge_weight=data.edge_weight)
        np.testing.assert_allclose(z, want[batch.seeds], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(model.inference(loader), want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"prefetch": -1}, ValueError, "prefetch is -1"),
        ({"input_nodes": [1, 2, 1]}, ValueError, r"input_nodes\[2\] is 1, which is there before"),
        ({"input_nodes": [60]}, IndexError, r"input_nodes\[0\] is 60"),
        ({"input_nodes": np.ones(3, bool)}, ValueError, "mask of shape"),
        (
            {"input_nodes": ("paper", [0])},
            TypeError,
            "NeighborLoader: input_nodes cannot be read as an array",
        ),
        ({"seed": -3}, ValueError, "seed is -3"),
    ],
)
def test_errors(options, error, message):
    with pytest.raises(error, match=message):
        loader_of(**options)


def test_errors_of_data():
    with pytest.raises(TypeError, match="give a Dataset"):
        ng.NeighborLoader(G, [2])
    with pytest.raises(ValueError, match="x has 59 rows, the graph 60 nodes"):
        ng.NeighborLoader((G, {"x": X[1:]}), [2])


H = ng.HeteroGraph({("a", "r", "a"): G})
NO_FIELDS = [
    (None, TypeError, "is None; leave it out"),
    (3.0, ValueError, "has no rows, the graph 60 nodes"),
    (ng.Parameter(X), TypeError, r"give x.data, or x\[batch.nodes\]"),
]


@pytest.mark.parametrize("kind", ["Graph", "HeteroGraph"])
@pytest.mark.parametrize(("x", "error", "message"), NO_FIELDS)
def test_what_is_no_field(x, error, message, kind):
    data = (G, {"x": x}) if kind == "Graph" else (H, {"a": {"x": x}})
    with pytest.raises(error, match=f"NeighborLoader: x .*{message}"):
        ng.NeighborLoader(data, [2], input_nodes=None if kind == "Graph" else "a")


@pytest.mark.parametrize("loader", [G, (G, {"x": X}), None, X])
def test_inference_of_no_loader(loader):
    with pytest.raises(TypeError, match=r"SAGE\.inference: loader is .*; give a NeighborLoader"):
        ng.nn.SAGE(F, 4, 2, rng=0).inference(loader)


def test_inference_of_relations_is_the_whole_graphs():
    with pytest.raises(
        TypeError, match=r"inference: the loader is of a HeteroGraph; call the model with the whole graph"
    ):
        ng.nn.SAGE(F, 4, 2, rng=0).inference(ng.NeighborLoader((H, {"a": {"x": X}}), [2, 2], input_nodes="a"))


def test_inference_without_features():
    with pytest.raises(ValueError, match=r"SAGE.inference: the loader has no features; make it of a Dataset"):
        ng.nn.SAGE(F, 4, 2, rng=0).inference(ng.NeighborLoader((G, {}), [2, 2]))
