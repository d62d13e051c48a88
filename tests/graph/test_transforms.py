"""Transforms and the edge data that they carry, against lists of edges in plain Python: every transform says
what each new edge was.
"""

from __future__ import annotations

import re

import networkx
import numpy as np
import pytest
import scipy.sparse
from checks import check_gradient
from device import DeviceArray, asarray, device
from strategies import given, graphs, seeds, settings

import numgraph as ng
from numgraph.graph import EdgeMap, Graph

__all__ = ["device"]

steps = settings(deadline=None, max_examples=30)
NUMPY = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "prod": np.prod}


def pairs(g):
    return list(zip(g.src.tolist(), g.dst.tolist()))


def some(count, rng, repeats=False):
    """Ids among so many, in any order."""
    return (
        rng.integers(0, count, rng.integers(0, 6) if count else 0)
        if repeats
        else rng.permutation(count)[: rng.integers(0, count + 1)]
    )


# What each transform gives: for every new edge (source, destination, old edges it was), in order, and the old
# number of every node, of both sides. `old` are the edges as pairs.


def looped(g, old, nodes):
    return [(u, v, [e]) for e, (u, v) in enumerate(old)] + [(v, v, []) for v in nodes]


def by_destination(found):
    return [(u, v, found[u, v]) for u, v in sorted(found, key=lambda pair: pair[::-1])]


def merged(old, also_reversed=False):
    found = {}
    for back in (False, True)[: 1 + also_reversed]:
        for e, (u, v) in enumerate(old):
            found.setdefault((v, u) if back else (u, v), []).append(e)
    return found


def chosen(old, src, dst):
    """Edges between chosen nodes, which take their places as numbers."""
    src, dst = src.tolist(), dst.tolist()
    return [(src.index(u), dst.index(v), [e]) for e, (u, v) in enumerate(old) if u in src and v in dst]


def remaining(old, ids):
    return [(*old[e], [e]) for e in ids]


def add_self_loops(g, rng):
    return g.add_self_loops(return_edges=True), looped(g, pairs(g), range(g.num_nodes)), None


def add_missing_loops(g, rng):
    lacking = [v for v in range(g.num_nodes) if (v, v) not in pairs(g)]
    return g.add_self_loops(only_missing=True, return_edges=True), looped(g, pairs(g), lacking), None


def remove_self_loops(g, rng):
    old = pairs(g)
    return (
        g.remove_self_loops(return_edges=True),
        remaining(old, [e for e, (u, v) in enumerate(old) if u != v]),
        None,
    )


def add_edges(g, rng):
    count = 3 if g.num_src and g.num_dst else 0
    src, dst = rng.integers(0, max(g.num_src, 1), count), rng.integers(0, max(g.num_dst, 1), count)
    old = pairs(g)
    want = remaining(old, range(len(old))) + [(int(u), int(v), []) for u, v in zip(src, dst)]
    return g.add_edges(src, dst, return_edges=True), want, None


def remove_edges(g, rng):
    ids = some(g.num_edges, rng, repeats=True)
    return (
        g.remove_edges(ids, return_edges=True),
        remaining(pairs(g), [e for e in range(g.num_edges) if e not in ids]),
        None,
    )


def coalesce(g, rng):
    return g.coalesce(return_edges=True), by_destination(merged(pairs(g))), None


def to_simple(g, rng):
    return g.to_simple(return_edges=True), [(u, v, ids) for (u, v), ids in merged(pairs(g)).items()], None


def to_simple_without_loops(g, rng):
    want = [(u, v, ids) for (u, v), ids in merged(pairs(g)).items() if u != v]
    return g.to_simple(self_loops=False, return_edges=True), want, None


def to_bidirected(g, rng):
    return g.to_bidirected(return_edges=True), by_destination(merged(pairs(g), also_reversed=True)), None


def subgraph(g, rng):
    src, dst = some(g.num_src, rng), some(g.num_dst, rng)
    if not g.is_bipartite:
        return g.subgraph(src, return_edges=True), chosen(pairs(g), src, src), (src, src)
    return g.subgraph((src, dst), return_edges=True), chosen(pairs(g), src, dst), (src, dst)


def in_subgraph(g, rng):
    nodes = some(g.num_dst, rng, repeats=True)
    old = pairs(g)
    return (
        g.in_subgraph(nodes, return_edges=True),
        remaining(old, [e for e, (u, v) in enumerate(old) if v in nodes]),
        None,
    )


def out_subgraph(g, rng):
    nodes = some(g.num_src, rng, repeats=True)
    old = pairs(g)
    return (
        g.out_subgraph(nodes, return_edges=True),
        remaining(old, [e for e, (u, v) in enumerate(old) if u in nodes]),
        None,
    )


def edge_subgraph(g, rng):
    ids = some(g.num_edges, rng, repeats=True)
    return g.edge_subgraph(ids, return_edges=True), remaining(pairs(g), ids.tolist()), None


def khop_subgraph(g, rng):
    hops, direction, old = int(rng.integers(0, 4)), rng.choice(["in", "out", "both"]), pairs(g)
    seeds = some(g.num_nodes, rng)
    nodes, last = seeds.tolist(), set(seeds.tolist())
    for _ in range(hops):
        found = {u for u, v in old if v in last and direction != "out"} | {
            v for u, v in old if u in last and direction != "in"
        }
        last = found - set(nodes)
        nodes += sorted(last)
    made, got, edges = g.khop_subgraph(seeds, hops, direction=str(direction), return_edges=True)
    np.testing.assert_array_equal(got, nodes)
    nodes = np.array(nodes, int)
    return (made, edges), chosen(old, nodes, nodes), (nodes, nodes)


def remove_nodes(g, rng):
    src, dst = some(g.num_src, rng, repeats=True), some(g.num_dst, rng, repeats=True)
    made, got, edges = g.remove_nodes((src, dst) if g.is_bipartite else src, return_edges=True)
    left = (
        np.setdiff1d(np.arange(g.num_src), src),
        np.setdiff1d(np.arange(g.num_dst), dst if g.is_bipartite else src),
    )
    for nodes, want in zip(got if g.is_bipartite else [got], left):
        np.testing.assert_array_equal(nodes, want)
    return (made, edges), chosen(pairs(g), *left), left


def remove_isolated_nodes(g, rng):
    made, got, edges = g.remove_isolated_nodes(return_edges=True)
    left = [np.unique(g.src), np.unique(g.dst)] if g.is_bipartite else [np.union1d(g.src, g.dst)] * 2
    for nodes, want in zip(got if g.is_bipartite else [got], left):
        np.testing.assert_array_equal(nodes, want)
    return (made, edges), chosen(pairs(g), *left), left


def reorder(g, rng):
    made, permutation, edges = g.reorder("degree", return_edges=True)
    return (made, edges), chosen(pairs(g), permutation, permutation), (permutation, permutation)


SQUARE = [
    add_self_loops,
    add_missing_loops,
    remove_self_loops,
    to_simple_without_loops,
    to_bidirected,
    khop_subgraph,
    reorder,
]
ANY = [
    add_edges,
    remove_edges,
    coalesce,
    to_simple,
    subgraph,
    in_subgraph,
    out_subgraph,
    edge_subgraph,
    remove_nodes,
    remove_isolated_nodes,
]
GRAPHS = {
    "multigraph": Graph([0, 0, 1, 2, 2, 0, 3, 1, 1], [1, 1, 0, 2, 2, 1, 0, 1, 2], 6),
    "bipartite": Graph([0, 0, 1, 2, 2, 0], [1, 1, 0, 2, 2, 1], num_src=4, num_dst=3),
    "as many sources as destinations": Graph([0, 0, 1, 2, 0], [1, 1, 0, 2, 1], num_src=3, num_dst=3),
    "reversed": Graph([0, 0, 1, 2, 2, 0], [1, 1, 0, 2, 2, 1], 4).reverse(),
    "of rows": Graph.from_csr([0, 3, 4, 4], [2, 0, 2, 1], num_dst=3),
    "without edges": Graph([], [], 3),
    "without nodes": Graph([], [], 0),
    "without sources": Graph([], [], num_src=0, num_dst=2),
}


def check(g, transform, rng):
    (made, edges), want, nodes = transform(g, rng)
    assert pairs(made) == [(u, v) for u, v, _ in want]
    assert made.is_bipartite == g.is_bipartite
    assert (made.num_src, made.num_dst) == (
        (g.num_src, g.num_dst) if nodes is None else tuple(map(len, nodes))
    )
    groups = [ids for *_, ids in want]
    assert isinstance(edges, EdgeMap)
    assert (edges.old, edges.new, len(edges)) == (g, made, made.num_edges)
    assert edges.num_new == sum(not ids for ids in groups)
    np.testing.assert_array_equal(edges.ids, [ids[0] if ids else -1 for ids in groups])
    np.testing.assert_array_equal(np.asarray(edges), edges.ids)
    np.testing.assert_array_equal(edges.counts(), [len(ids) for ids in groups])
    assert pairs(edges.graph) == [(e, i) for i, ids in enumerate(groups) for e in ids]
    assert (edges.graph.num_src, edges.graph.num_dst, edges.graph.is_bipartite) == (
        g.num_edges,
        made.num_edges,
        True,
    )
    w, fill = rng.normal(size=g.num_edges), 7.5
    for reduce, function in NUMPY.items():
        wanted = [function(w[ids]) if ids else fill for ids in groups]
        np.testing.assert_allclose(edges.gather(w, reduce=reduce, fill=fill), wanted, rtol=1e-14, atol=1e-15)
    got = edges.gather(w, reduce="first", fill=fill)
    np.testing.assert_array_equal(got, [w[ids[0]] if ids else fill for ids in groups])


CASES = [
    (name, transform) for name, g in GRAPHS.items() for transform in (ANY if g.is_bipartite else SQUARE + ANY)
]


@pytest.mark.parametrize(("name", "transform"), CASES)
def test_each_transform_on_awkward_graphs(name, transform):
    for seed in range(3):
        check(GRAPHS[name], transform, np.random.default_rng(seed))


@pytest.mark.parametrize("transform", ANY)
@given(graphs(), seeds)
@steps
def test_each_transform_of_any_graph(transform, g, seed):
    check(g, transform, np.random.default_rng(seed))


@pytest.mark.parametrize("transform", SQUARE)
@given(graphs(square=True), seeds)
@steps
def test_each_transform_of_one_set_of_nodes(transform, g, seed):
    check(g, transform, np.random.default_rng(seed))


def test_without_return_edges_the_graph_is_the_same():
    g = GRAPHS["multigraph"]
    plain = [
        (lambda **o: g.add_self_loops(**o)),
        (lambda **o: g.remove_self_loops(**o)),
        (lambda **o: g.add_edges([0], [5], **o)),
        (lambda **o: g.remove_edges([0], **o)),
        (lambda **o: g.coalesce(**o)),
        (lambda **o: g.to_simple(**o)),
        (lambda **o: g.to_bidirected(**o)),
        (lambda **o: g.subgraph([2, 1], **o)),
        (lambda **o: g.in_subgraph([1], **o)),
        (lambda **o: g.out_subgraph([1], **o)),
        (lambda **o: g.edge_subgraph([1, 1], **o)),
    ]
    for call in plain:
        assert pairs(call()) == pairs(call(return_edges=True)[0])
    for call in (
        lambda **o: g.khop_subgraph([1], 1, **o),
        lambda **o: g.remove_nodes([1], **o),
        lambda **o: g.remove_isolated_nodes(**o),
        lambda **o: g.reorder("rcm", **o),
    ):
        made, nodes = call()
        again, same, _ = call(return_edges=True)
        assert pairs(made) == pairs(again)
        np.testing.assert_array_equal(nodes, same)


# --- data that come along -----------------------------------------------------------------------------------


@given(graphs(square=True), seeds)
@steps
def test_loops_take_a_reduction_over_the_in_edges(g, seed):
    w = np.random.default_rng(seed).normal(size=(g.num_edges, 2))
    _, edges = g.add_self_loops(return_edges=True)
    for fill, function in NUMPY.items():
        rows = [
            function(w[g.dst == v], axis=0) if (g.dst == v).any() else np.full(2, fill == "prod", float)
            for v in range(g.num_nodes)
        ]
        want = np.concatenate([w, np.reshape(rows, (-1, 2))])
        np.testing.assert_allclose(edges.gather(w, fill=fill), want, rtol=1e-14, atol=1e-15)


def test_weights_follow_matrices():
    """coalesce adds as SciPy does, to_bidirected gives A + Aᵀ, a subgraph is A[nodes][:, nodes]."""
    rng = np.random.default_rng(0)
    src, dst, w = rng.integers(0, 40, 600), rng.integers(0, 40, 600), rng.normal(size=600)
    g, A = Graph(src, dst, 40), scipy.sparse.coo_array((w, (src, dst)), shape=(40, 40)).toarray()
    nodes = rng.permutation(40)[:25]
    for (made, edges), want in [
        (g.coalesce(return_edges=True), A),
        (g.to_simple(return_edges=True), A),
        (g.to_bidirected(return_edges=True), A + A.T),
        (g.subgraph(nodes, return_edges=True), A[nodes][:, nodes]),
        (g.add_self_loops(return_edges=True), A + 2 * np.eye(40)),
    ]:
        np.testing.assert_allclose(
            made.to_scipy(edges.gather(w, fill=2.0)).toarray(), want, rtol=1e-12, atol=1e-13
        )


def test_as_pyg_fills_and_adds():
    pytest.importorskip(
        "torch_geometric", reason="torch_geometric is not installed; the tests above have the same by NumPy"
    )
    import torch
    import torch_geometric.utils as pyg

    g, rng = GRAPHS["multigraph"], np.random.default_rng(0)
    w, index = rng.normal(size=(g.num_edges, 3)), torch.tensor(g.to_edge_index())
    _, edges = g.add_self_loops(return_edges=True)
    for fill, theirs in (
        (2.0, 2.0),
        ("mean", "mean"),
        ("sum", "add"),
        ("max", "max"),
        ("min", "min"),
        ("prod", "mul"),
    ):
        _, want = pyg.add_self_loops(index, torch.tensor(w), fill_value=theirs, num_nodes=g.num_nodes)
        np.testing.assert_allclose(edges.gather(w, fill=fill), want.numpy(), rtol=1e-14, atol=1e-15)
    made, edges = g.to_bidirected(return_edges=True)
    for reduce, theirs in (("sum", "add"), ("mean", "mean"), ("max", "max"), ("min", "min"), ("prod", "mul")):
        found, want = pyg.to_undirected(index, torch.tensor(w), num_nodes=g.num_nodes, reduce=theirs)
        order = np.lexsort((found[0], found[1]))
        np.testing.assert_array_equal(made.to_edge_index(), found.numpy()[:, order])
        np.testing.assert_allclose(
            edges.gather(w, reduce=reduce), want.numpy()[order], rtol=1e-14, atol=1e-15
        )


def test_gathers_are_differentiable_to_second_order():
    g, rng = GRAPHS["multigraph"], np.random.default_rng(1)
    w = rng.normal(size=(g.num_edges, 2))
    merged, looped = g.to_bidirected(return_edges=True)[1], g.add_self_loops(return_edges=True)[1]
    for reduce in NUMPY:
        check_gradient(lambda x, reduce=reduce: (merged.gather(x, reduce=reduce) ** 2).sum(), [w], order=2)
        check_gradient(lambda x, reduce=reduce: (looped.gather(x, fill=reduce) ** 3).sum(), [w], order=2)
    check_gradient(lambda x, f: (looped.gather(x, fill=f) ** 2).sum(), [w, rng.normal(size=2)])
    check_gradient(lambda x, f: (looped.gather(x, fill=f) ** 2).sum(), [w, rng.normal(size=(6, 2))])


def test_gathers_of_frameworks_keep_their_kind():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    g = GRAPHS["multigraph"]
    w = np.random.default_rng(2).normal(size=(g.num_edges, 2))
    for edges in (
        g.coalesce(return_edges=True)[1],
        g.add_self_loops(return_edges=True)[1],
        g.remove_self_loops(return_edges=True)[1],
    ):
        for fill in (1.5, "mean", np.ones(2)):
            tensor = torch.tensor(w, requires_grad=True)
            got = edges.gather(tensor, reduce="max", fill=fill)
            np.testing.assert_array_equal(got.detach().numpy(), edges.gather(w, reduce="max", fill=fill))
            (got**2).sum().backward()
            with ng.Tape() as tape:
                x = tape.watch(w)
                loss = (edges.gather(x, reduce="max", fill=fill) ** 2).sum()
            np.testing.assert_allclose(tensor.grad.numpy(), tape.gradient(loss, [x])[0], rtol=1e-14)


def test_gathers_of_jax_are_traced_and_differentiated():
    jax = pytest.importorskip("jax", reason="jax is not installed")
    g = GRAPHS["multigraph"]
    w = np.random.default_rng(2).normal(size=(g.num_edges, 2)).astype(np.float32)
    merged, looped = g.coalesce(return_edges=True)[1], g.add_self_loops(return_edges=True)[1]
    for edges, options in ((merged, {"reduce": "max"}), (looped, {"fill": "mean"}), (looped, {"fill": 1.5})):
        want = edges.gather(w, **options)
        with ng.Tape() as tape:
            x = tape.watch(w)
            loss = (edges.gather(x, **options) ** 2).sum()
        (gradient,) = tape.gradient(loss, [x])
        got = jax.jit(lambda x, edges=edges, options=options: edges.gather(x, **options))(
            w * jax.numpy.ones(1)
        )
        np.testing.assert_allclose(np.asarray(got), want, rtol=1e-6)
        got = jax.grad(lambda x, edges=edges, options=options: (edges.gather(x, **options) ** 2).sum())(
            w * jax.numpy.ones(1)
        )
        np.testing.assert_allclose(np.asarray(got), gradient, rtol=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        np.array(list("abcdefghi")),
        np.array([*"abcdefgh", None], object),
        np.arange(9).astype("M8[D]"),
        np.arange(9, dtype=np.int16),
        np.arange(9) > 4,
    ],
    ids=lambda values: str(values.dtype),
)
def test_data_of_any_dtype_are_carried(values):
    g = GRAPHS["multigraph"]
    merged, fewer = g.coalesce(return_edges=True)[1], g.remove_self_loops(return_edges=True)[1]
    for got, want in (
        (merged.gather(values, reduce="first"), values[merged.ids]),
        (fewer.gather(values), values[g.src != g.dst]),
    ):
        assert got.dtype == values.dtype
        np.testing.assert_array_equal(got, want)
    _, more = g.add_edges([0], [1], return_edges=True)
    got = more.gather(values, fill=values[:1])
    assert got.dtype == values.dtype
    np.testing.assert_array_equal(got, [*values, values[0]])


def test_dtypes_of_fills():
    g, (_, edges) = GRAPHS["multigraph"], GRAPHS["multigraph"].add_edges([0], [1], return_edges=True)
    for dtype, fill, want in (
        (np.float32, 1.5, np.float32),
        (np.int64, 2, np.int64),
        (np.int64, 1.5, np.float64),
        (bool, True, bool),
    ):
        got = edges.gather(np.ones(g.num_edges, dtype), fill=fill)
        assert (got.dtype, got[-1]) == (want, fill)


@pytest.mark.parametrize("reduce", ["mean", "first"])
def test_data_on_a_device_stay_there(device, reduce):
    g, w = GRAPHS["multigraph"], np.arange(9.0)
    for call in (lambda g: g.coalesce(return_edges=True), lambda g: g.add_self_loops(return_edges=True)):
        (here, edges), (there, moved) = call(g), call(g.to("cuda"))
        assert there.device == moved.new.device == moved.old.device == "cuda"
        assert pairs(there.to("cpu")) == pairs(here)
        for fill in (2.0, "mean"):
            got = moved.gather(asarray(w), reduce=reduce, fill=fill)
            assert type(got) is DeviceArray
            np.testing.assert_array_equal(got.get(), edges.gather(w, reduce=reduce, fill=fill))
    _, nodes = two.to("cuda").remove_isolated_nodes()
    assert [ids.get().tolist() for ids in nodes] == [[0, 1, 2], [0, 1, 2]]
    assert g.to("cuda").has_edges([0, 5], [1, 5]).tolist() == [True, False]
    assert g.to("cuda").find_edges(2) == (1, 0)


def test_a_dict_of_data():
    _, edges = GRAPHS["multigraph"].coalesce(return_edges=True)
    data = {"w": np.arange(9.0), "t": np.ones((9, 2))}
    got = edges.gather(data, reduce="mean")
    assert list(got) == ["w", "t"]
    np.testing.assert_array_equal(got["w"], edges.gather(data["w"], reduce="mean"))


# --- adding nodes, line graphs, lookups ---------------------------------------------------------------------


def test_add_nodes():
    for name, g in GRAPHS.items():
        more = g.add_nodes(num_src=2, num_dst=1) if g.is_bipartite else g.add_nodes(3)
        assert pairs(more) == pairs(g)
        assert more.is_bipartite == g.is_bipartite
        assert (more.num_src - g.num_src, more.num_dst - g.num_dst) == (
            (2, 1) if g.is_bipartite else (3, 3)
        ), name
        assert pairs(g.add_nodes()) == pairs(g)


@given(graphs(square=True))
@steps
def test_line_graph(g):
    old = pairs(g)
    line = g.line_graph()
    want = [(e, f) for e, (_, v) in enumerate(old) for f, (u, _) in enumerate(old) if u == v]
    assert pairs(line) == want
    assert line.num_nodes == g.num_edges
    assert pairs(g.line_graph(backtracking=False)) == [(e, f) for e, f in want if old[f][1] != old[e][0]]
    simple = g.coalesce()
    ends = pairs(simple)
    found = {(ends[e], ends[f]) for e, f in pairs(simple.line_graph())}
    assert found == set(networkx.line_graph(networkx.DiGraph(ends)).edges)


@given(graphs(), seeds)
@steps
def test_lookups(g, seed):
    rng = np.random.default_rng(seed)
    old = pairs(g)
    if not (g.num_src and g.num_dst):
        assert g.has_edges([], []).tolist() == []
        return
    u, v = rng.integers(0, g.num_src, 20), rng.integers(0, g.num_dst, 20)
    there = [(a, b) in old for a, b in zip(u.tolist(), v.tolist())]
    assert g.has_edges(u, v).tolist() == there
    assert g.has_edges(int(u[0]), v).tolist() == [(u[0], b) in old for b in v.tolist()]
    assert g.has_edges(int(u[0]), int(v[0])) is there[0]
    u, v = u[there], v[there]
    assert g.edge_ids(u, v).tolist() == [old.index(pair) for pair in zip(u.tolist(), v.tolist())]
    u, v = rng.integers(0, g.num_src, 5), rng.integers(0, g.num_dst, 5)
    ids, places = g.edge_ids(u, v, parallel=True)
    assert list(zip(places.tolist(), ids.tolist())) == [
        (i, e) for i in range(5) for e, pair in enumerate(old) if pair == (u[i], v[i])
    ]
    assert g.reverse().has_edges(v, u).tolist() == g.has_edges(u, v).tolist()
    chosen = some(g.num_edges, rng, repeats=True)
    src, dst = g.find_edges(chosen)
    assert list(zip(src.tolist(), dst.tolist())) == [old[e] for e in chosen]
    if old:
        assert g.find_edges(0) == old[0]
        assert g.edge_ids(*old[-1]) == old.index(old[-1])


# --- what cannot be -----------------------------------------------------------------------------------------

two, square = GRAPHS["bipartite"], GRAPHS["multigraph"]
w = np.ones(9)
BAD = [
    (
        lambda: square.add_edges([0, 1], [2]),
        ValueError,
        "Graph.add_edges: src has 2 entries and dst has 1; edge i runs from src[i]",
    ),
    (
        lambda: square.add_edges([0, 6], [2, 1]),
        IndexError,
        "Graph.add_edges: src[1] is 6, num_nodes is 6, ids run from 0 to 5",
    ),
    (
        lambda: square.add_edges([0], [-1]),
        IndexError,
        "Graph.add_edges: dst[0] is -1, num_nodes is 6, ids run from 0 to 5; correct dst, ids",
    ),
    (lambda: two.add_edges([3], [3]), IndexError, "Graph.add_edges: dst[0] is 3, num_dst is 3"),
    (
        lambda: square.add_edges([0.0], [1]),
        TypeError,
        "Graph.add_edges: src is float64, ids must be integers; cast it",
    ),
    (
        lambda: square.remove_edges([0, 9]),
        IndexError,
        "Graph.remove_edges: edge_ids[1] is 9, num_edges is 9, ids run from 0 to 8",
    ),
    (lambda: square.remove_edges([-1]), IndexError, "Graph.remove_edges: edge_ids[0] is -1, num_edges is 9"),
    (
        lambda: square.remove_edges(w > 0),
        TypeError,
        "Graph.remove_edges: edge_ids is bool, ids must be integers; for a mask use np.flatnonz",
    ),
    (
        lambda: square.edge_subgraph(3),
        ValueError,
        "Graph.edge_subgraph: edge_ids has shape []; it must have 1 axis",
    ),
    (
        lambda: Graph([], []).remove_edges([0]),
        IndexError,
        "edge_ids[0] is 0, num_edges is 0, so there are no ids",
    ),
    (lambda: square.in_subgraph([7]), IndexError, "Graph.in_subgraph: nodes[0] is 7, num_nodes is 6"),
    (lambda: two.out_subgraph([4]), IndexError, "Graph.out_subgraph: nodes[0] is 4, num_src is 4"),
    (lambda: two.in_subgraph([3]), IndexError, "Graph.in_subgraph: nodes[0] is 3, num_dst is 3"),
    (
        lambda: two.subgraph([0, 1]),
        ValueError,
        "this needs one set of nodes, or ids as a pair (of sources, of destinations); see num_src",
    ),
    (
        lambda: two.subgraph(([0], [1, 1])),
        ValueError,
        "Graph.subgraph: nodes[1][0] and nodes[1][1] are both 1; give each node once",
    ),
    (lambda: two.remove_nodes(([0], [3])), IndexError, "Graph.remove_nodes: nodes[1][0] is 3, num_dst is 3"),
    (lambda: square.remove_nodes([6]), IndexError, "Graph.remove_nodes: nodes[0] is 6, num_nodes is 6"),
    (
        lambda: square.khop_subgraph([1, 1], 1),
        ValueError,
        "Graph.khop_subgraph: nodes[0] and nodes[1] are both 1; give each node once",
    ),
    (lambda: square.khop_subgraph([1], -1), ValueError, "Graph.khop_subgraph: hops is -1"),
    (
        lambda: square.khop_subgraph([1], 1, direction="inwards"),
        ValueError,
        "unknown direction 'inwards'; choose from 'in', 'out', 'both'",
    ),
    (lambda: square.add_nodes(-1), ValueError, "Graph.add_nodes: count is -1"),
    (
        lambda: square.add_nodes(num_src=1),
        ValueError,
        "Graph.add_nodes: num_src and num_dst are given, the graph is Graph(num_nodes=6, num_ed",
    ),
    (
        lambda: two.add_nodes(1),
        ValueError,
        "Graph.add_nodes: count is given, the graph is Graph(num_src=4, num_dst=3, num_edges=6); give num_s",
    ),
    (
        lambda: square.has_edges([0, 1], [1, 2, 3]),
        ValueError,
        "Graph.has_edges: u has 2 entries and v has 3; give pairs, or one id for all",
    ),
    (lambda: square.has_edges(6, 0), IndexError, "Graph.has_edges: u[0] is 6, num_nodes is 6"),
    (lambda: two.has_edges(0, 3), IndexError, "Graph.has_edges: v[0] is 3, num_dst is 3"),
    (
        lambda: square.edge_ids(1, 3),
        ValueError,
        "Graph.edge_ids: there is no edge 1 → 3; ask has_edges(u, v) first, or pass parallel=True",
    ),
    (
        lambda: square.edge_ids([0, 1], [1, 3]),
        ValueError,
        "Graph.edge_ids: there is no edge 1 → 3, pair 1; ask has_edges",
    ),
    (lambda: square.find_edges([0, -9]), IndexError, "Graph.find_edges: edge_ids[1] is -9, num_edges is 9"),
    (
        lambda: square.add_self_loops(return_edges=True)[1].gather(w),
        ValueError,
        "EdgeMap.gather: 6 edges are new, from edge 9 on, and fill is No",
    ),
    (
        lambda: square.add_self_loops(return_edges=True)[1].gather(w, fill="add"),
        ValueError,
        "unknown fill 'add'; choose from 'sum'",
    ),
    (
        lambda: square.add_self_loops(return_edges=True)[1].gather(w, fill=[1.0, 2.0]),
        ValueError,
        "EdgeMap.gather: fill has shape [2]; it is a number, or has the new edges' shape [6]",
    ),
    (
        lambda: square.coalesce(return_edges=True)[1].gather(w[1:]),
        ValueError,
        "EdgeMap.gather: values have shape [8], the old graph has 9 edges",
    ),
    (
        lambda: square.coalesce(return_edges=True)[1].gather(1.0),
        ValueError,
        "EdgeMap.gather: values have shape [], the old graph has 9 edges",
    ),
    (
        lambda: square.coalesce(return_edges=True)[1].gather(["a"] * len(w)),
        TypeError,
        'no sum; pass reduce="first"',
    ),
    (lambda: square.khop_subgraph([0], -1), ValueError, "hops is -1; a number of hops is between 0"),
    (
        lambda: square.coalesce(return_edges=True)[1].gather(w, reduce="avg"),
        ValueError,
        "unknown reduce 'avg'; choose from 'sum'",
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), BAD, ids=[text[:60] for *_, text in BAD])
def test_bad_input(call, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        call()


@pytest.mark.parametrize(
    "call",
    [
        Graph.add_self_loops,
        Graph.remove_self_loops,
        Graph.to_bidirected,
        Graph.line_graph,
        lambda g: g.to_simple(self_loops=False),
        lambda g: g.reorder("rcm"),
        lambda g: g.khop_subgraph([0], 1),
        lambda g: g.subgraph([0]),
        lambda g: g.remove_nodes([0]),
    ],
)
def test_what_needs_one_set_of_nodes(call):
    with pytest.raises(ValueError, match=r"Graph\.\w+(\(self_loops=False\))?: the graph is bipartite"):
        call(two)


def test_repr():
    assert repr(square.coalesce(return_edges=True)[1]) == "EdgeMap(9 edges → 6, new=0, 9 merged to 6)"
    assert repr(square.add_self_loops(return_edges=True)[1]) == "EdgeMap(9 edges → 15, new=6)"
