"""Graphs with so many edges that only their ids and positions take 8 bytes: everything is as it is with 4.
The limit is set to 64 here.
"""

from __future__ import annotations

import numpy as np
import pytest

import numgraph as ng
from numgraph.graph import sorting

RNG = np.random.default_rng(0)
N, E, F = 40, 200, 5
SRC, DST = RNG.integers(0, N, E), RNG.integers(0, N, E)
DST[:60] = 3
X, W = RNG.standard_normal((N, F)).astype(np.float32), RNG.standard_normal((E, F)).astype(np.float32)
LIMIT = 64


@pytest.fixture
def low(monkeypatch):
    monkeypatch.setattr(sorting, "INT32_LIMIT", LIMIT)


def made(kind):
    if kind == "sorted":
        order = np.argsort(DST, kind="stable")
        return ng.Graph.from_csc(np.searchsorted(DST[order], np.arange(N + 1)), SRC[order], num_src=N)
    return ng.Graph(SRC, DST, N) if kind == "plain" else ng.Graph(SRC, DST, num_src=N, num_dst=N)


def step(g, message, reduce):
    with ng.Tape() as tape:
        x, y, w = (tape.watch(a) for a in (X, X[::-1].copy(), W))
        z = ng.update_all(g, message, reduce, u={"x": x}, v={"x": y}, e={"w": w})
        return [z.data, *tape.gradient((z * z).sum(), [x, y, w])]


def parts(g):
    rows = [array for one in (g.in_edges, g.out_edges) for array in (one.indptr, one.indices, one.edge_ids)]
    return [g.src, g.dst, g.in_degrees(), g.out_degrees(), *rows]


def mapped(changed):
    return [
        part for one in changed for part in (parts(one) if isinstance(one, ng.Graph) else [np.asarray(one)])
    ]


def batches(loader):
    found = []
    for batch in loader:
        blocks = batch.blocks if isinstance(batch.blocks, list) else [batch.blocks]
        ids = batch.edge_ids if isinstance(batch.edge_ids, list) else [batch.edge_ids]
        found += [batch.nodes, batch.x, *ids, *(part for block in blocks for part in (block.src, block.dst))]
    return found


def packed(g):
    b = ng.batch([g, g.reverse(), g])
    return [*parts(b.graph), *(part for one in ng.unbatch(b) for part in parts(one))]


WORKS = {
    "groupings": parts,
    "max": lambda g: step(g, lambda u, v, e: np.maximum(u.x, v.x) * e.w, "max"),
    "sum": lambda g: step(g, lambda u, v, e: np.maximum(u.x, v.x) * e.w, "sum"),
    "edges": lambda g: [ng.apply_edges(g, lambda u, v: (u.x * v.x).sum(-1), u={"x": X}, v={"x": X})],
    "packed": packed,
    "line_graph": lambda g: parts(g.line_graph()),
    "edge_subgraph": lambda g: mapped(g.edge_subgraph(np.arange(0, E, 2), return_edges=True)),
    "to_simple": lambda g: mapped(g.to_simple(return_edges=True)),
    "pairs": lambda g: [
        *g.edge_ids(SRC[:9], DST[:9], parallel=True),
        *g.find_edges([0, E - 1]),
        g.has_edges(SRC, DST[::-1]),
    ],
    "coalesce": lambda g: mapped(g.coalesce(return_edges=True)),
    "to_bidirected": lambda g: mapped(g.to_bidirected(return_edges=True)),
    "add_self_loops": lambda g: mapped(g.add_self_loops(return_edges=True)),
    "subgraph": lambda g: mapped(g.subgraph(np.arange(0, N, 2), return_edges=True)),
    "khop": lambda g: mapped(g.khop_subgraph([3], 1)),
    "reorder": lambda g: mapped(g.reorder("rcm")),
    "sampled": lambda g: batches(ng.NeighborLoader((g, {"x": X}), [3, -1], batch_size=16)),
    "links": lambda g: batches(ng.LinkLoader((g, {"x": X}), [3], batch_size=64)),
    "clusters": lambda g: batches(ng.ClusterLoader((g, {"x": X}), np.arange(N) % 3)),
    "walks": lambda g: [ng.sampling.random_walk(g, np.arange(N), 4, p=0.5, q=2.0)],
    "negatives": lambda g: list(ng.sampling.negative_edges(g, 50)),
}


SORTED, BIPARTITE = ("groupings", "sum", "coalesce", "sampled"), ("groupings", "max", "packed")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("plain", name) for name in WORKS]
    + [("sorted", name) for name in SORTED]
    + [("bipartite", name) for name in BIPARTITE],
)
def test_everything_is_as_with_few_edges(kind, name, low, monkeypatch):
    work, g = WORKS[name], made(kind)
    assert g.src.dtype == g.in_edges.indices.dtype == np.int32
    assert g.in_edges.indptr.dtype == g.out_edges.edge_ids.dtype == np.int64
    found = work(g)
    monkeypatch.undo()
    few = made(kind)
    assert few.out_edges.edge_ids.dtype == np.int32
    for a, b in zip(found, work(few), strict=True):
        np.testing.assert_array_equal(a, b)


def test_folders_of_many_edges(low, tmp_path):
    data = ng.Dataset.from_arrays(made("plain"), X, np.arange(N) % 3)
    ng.data.save(tmp_path / "saved", data)
    with ng.data.GraphWriter(tmp_path / "written", N) as writer:
        for part in (slice(0, 70), slice(70, E)):
            writer.add_edges(SRC[part], DST[part])
    for name in ("saved", "written"):
        found = ng.data.open_dataset(tmp_path / name, verify="full").graph
        for a, b in zip(parts(found), parts(data.graph), strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
