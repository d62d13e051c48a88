"""Many graphs as one: numbering, groupings, data that follow, readouts for each library of arrays,
loaders.
"""

from __future__ import annotations

import copy
import pickle
import re
from types import SimpleNamespace

import frameworks
import numpy as np
import oracle
import pytest
from checks import check_gradient

import numgraph as ng


def graph(nodes, edges, seed, *, ordered=False, num_src=None):
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(0, num_src or nodes, edges), rng.integers(0, nodes, edges)
    if ordered:
        dst = np.sort(dst)
    return (
        ng.Graph(src, dst, nodes) if num_src is None else ng.Graph(src, dst, num_src=num_src, num_dst=nodes)
    )


SETS = {
    "of all sizes": [graph(5, 9, 0), graph(1, 3, 1), graph(7, 20, 2)],
    "sorted": [graph(5, 9, 0, ordered=True), graph(4, 6, 1, ordered=True)],
    "sorted and not": [graph(5, 9, 0, ordered=True), graph(4, 30, 1), graph(3, 5, 2, ordered=True)],
    "reversed": [graph(5, 9, 0).reverse(), graph(4, 6, 1, ordered=True).reverse()],
    "without nodes or edges": [ng.Graph([], []), graph(4, 6, 1), ng.Graph([], [], 3), ng.Graph([], [])],
    "one": [graph(5, 9, 0)],
    "the same twice": [graph(5, 9, 0)] * 2,
    "none": [],
    "bipartite": [
        graph(4, 9, 0, num_src=2),
        graph(3, 5, 1, num_src=3),
        ng.Graph([], [], num_src=2, num_dst=0),
    ],
    "no edges at all": [ng.Graph([], [], 2), ng.Graph([], [], 1)],
    "from rows": [
        ng.Graph.from_csr([0, 2, 3], [1, 0, 1], num_dst=2),
        ng.Graph.from_csc([0, 0, 2], [1, 0], num_src=2),
    ],
}
every_set = pytest.mark.parametrize("graphs", SETS.values(), ids=SETS)


def by_hand(graphs):
    """Sources and destinations of the batch, by adding up."""
    src, dst, first_src, first_dst = [], [], 0, 0
    for g in graphs:
        src += [first_src + int(i) for i in g.src]
        dst += [first_dst + int(i) for i in g.dst]
        first_src, first_dst = first_src + g.num_src, first_dst + g.num_dst
    return src, dst, first_src, first_dst


@every_set
def test_batch_is_the_graph_of_concatenated_edges(graphs):
    b = ng.batch(graphs)
    src, dst, num_src, num_dst = by_hand(graphs)
    bipartite = bool(graphs) and graphs[0].is_bipartite
    whole = ng.Graph(src, dst, num_src=num_src, num_dst=num_dst) if bipartite else ng.Graph(src, dst, num_src)
    got = b.graph
    assert (got.num_src, got.num_dst, got.num_edges, got.is_bipartite) == (
        num_src,
        num_dst,
        len(src),
        bipartite,
    )
    np.testing.assert_array_equal(got.src, src)
    np.testing.assert_array_equal(got.dst, dst)
    for name in ("in_edges", "out_edges"):
        mine, sorted_again = getattr(got, name), getattr(whole, name)
        for field in ("indptr", "indices", "edge_ids"):
            np.testing.assert_array_equal(
                getattr(mine, field), getattr(sorted_again, field), err_msg=f"{name}.{field}"
            )
            assert getattr(mine, field).dtype == np.int32
            assert not getattr(mine, field).flags.writeable


@every_set
def test_offsets_and_unbatch(graphs):
    b = ng.batch(graphs)
    assert len(b) == len(graphs)
    for offsets, counts in (
        (b.node_offsets, [g.num_dst for g in graphs]),
        (b.src_offsets, [g.num_src for g in graphs]),
        (b.edge_offsets, [g.num_edges for g in graphs]),
    ):
        assert offsets.dtype == np.int64
        assert offsets.tolist() == [sum(counts[:i]) for i in range(len(counts) + 1)]
    assert b.graph_ids.tolist() == [i for i, g in enumerate(graphs) for _ in range(g.num_dst)]
    back = ng.unbatch(b)
    assert len(back) == len(graphs)
    assert all(one is g for one, g in zip(back, graphs, strict=True))


@every_set
def test_a_step_over_the_batch_is_one_over_each_graph(graphs):
    """Value and gradients, with data of sources and edges one after the other: the same bits."""
    rng = np.random.default_rng(3)
    xs = [rng.standard_normal((g.num_src, 3)) for g in graphs]
    ws = [rng.standard_normal((g.num_edges, 1)) for g in graphs]

    def step(g, x, w):
        with ng.Tape() as tape:
            x, w = tape.watch(x), tape.watch(w)
            z = ng.update_all(g, lambda u, e: u.x * e.w, "sum", u={"x": x}, e={"w": w})
            loss = (z * z).sum()
        return (z.numpy(), *tape.gradient(loss, [x, w]))

    parts = [step(g, x, w) for g, x, w in zip(graphs, xs, ws, strict=True)]
    whole = step(
        ng.batch(graphs).graph, *[np.concatenate([np.zeros((0, k)), *data]) for data, k in ((xs, 3), (ws, 1))]
    )
    for k, got in enumerate(whole):
        np.testing.assert_array_equal(got, np.concatenate([got[:0], *[part[k] for part in parts]]))


def test_batches_of_batches_reverses_and_copies():
    first, second = SETS["of all sizes"], SETS["sorted and not"]
    nested = ng.batch([ng.batch(first).graph, ng.batch(second).graph.reverse()]).graph
    flat = ng.batch([*first, *[g.reverse() for g in second]]).graph
    for made in (nested, pickle.loads(pickle.dumps(nested)), copy.deepcopy(nested)):
        np.testing.assert_array_equal(made.src, flat.src)
        np.testing.assert_array_equal(made.in_edges.indices, flat.in_edges.indices)
        np.testing.assert_array_equal(made.out_edges.edge_ids, flat.out_edges.edge_ids)
    b = pickle.loads(pickle.dumps(ng.batch(first)))
    assert (len(b), b.node_offsets.tolist()) == (3, [0, 5, 6, 13])
    np.testing.assert_array_equal(b.graph.in_edges.edge_ids, ng.batch(first).graph.in_edges.edge_ids)


REDUCES = ["sum", "mean", "max", "min", "prod", "var", "std", "softmax"]


@pytest.mark.parametrize("reduce", REDUCES)
def test_readout(reduce):
    b = ng.batch(SETS["without nodes or edges"])
    x = np.random.default_rng(0).standard_normal((7, 3))
    np.testing.assert_allclose(
        ng.readout(b, x, reduce), oracle.segment_reduce(b.node_offsets, x, reduce), rtol=1e-14, atol=1e-15
    )
    check_gradient(lambda a: ng.readout(b, a, reduce), [x])


def test_readout_of_bipartite_graphs_is_of_destinations():
    b = ng.batch(SETS["bipartite"])
    x = np.arange(7.0)
    np.testing.assert_array_equal(ng.readout(b, x), [x[:4].sum(), x[4:].sum(), 0])


@pytest.mark.parametrize("kind", frameworks.KINDS)
@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
def test_readout_of_every_library(kind, reduce):
    if kind in frameworks.MISSING:
        pytest.skip(frameworks.MISSING[kind])
    arrays = frameworks.KINDS[kind]()
    b = ng.batch(SETS["of all sizes"])
    rng = np.random.default_rng(0)
    x, seed = rng.standard_normal((13, 3)).astype(np.float32), rng.standard_normal((3, 3)).astype(np.float32)
    with arrays.scope():
        given = arrays.make(x)
        z = ng.readout(b, given, reduce)
        (dx,) = arrays.gradients(lambda a: ng.readout(b, a, reduce), [x], seed)
        assert arrays.is_own(z)
        np.testing.assert_allclose(
            arrays.numpy(z), oracle.segment_reduce(b.node_offsets, x, reduce), rtol=1e-5
        )
        rows = np.repeat(seed, [5, 1, 7], axis=0)
        want = {
            "sum": rows,
            "mean": rows / np.repeat([5, 1, 7], [5, 1, 7])[:, None],
            "max": rows
            * (x == np.repeat(oracle.segment_reduce(b.node_offsets, x, "max"), [5, 1, 7], axis=0)),
        }
        np.testing.assert_allclose(dx, want[reduce], rtol=1e-5)


LABELS = np.array([0, 1, 0, 1, 1, 0, 1])
GRAPHS = [graph(2 + i, 3 * i, i) for i in range(7)]
FEATURES = [np.full((g.num_nodes, 2), i, np.float32) for i, g in enumerate(GRAPHS)]
ITEMS = list(zip(GRAPHS, FEATURES, LABELS.tolist(), strict=True))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    "dataset",
    [ITEMS, tuple(ITEMS), SimpleNamespace(graphs=GRAPHS, features=FEATURES, labels=LABELS)],
    ids=["list", "tuple", "object"],
)
def test_loader(dataset, shuffle, drop_last):
    loader = ng.GraphLoader(dataset, 3, shuffle=shuffle, drop_last=drop_last, seed=5)
    batches = list(loader)
    assert len(batches) == len(loader) == (2 if drop_last else 3)
    seen = np.concatenate([b.indices for b in batches]).tolist()
    assert len(set(seen)) == len(seen) == (6 if drop_last else 7)
    assert (seen == sorted(seen)) is not shuffle
    for b in batches:
        assert [one is GRAPHS[i] for one, i in zip(ng.unbatch(b), b.indices, strict=True)] == [True] * len(b)
        np.testing.assert_array_equal(b.labels, LABELS[b.indices])
        np.testing.assert_array_equal(b.x[:, 0], np.repeat(b.indices, np.diff(b.node_offsets)))
        assert b.x.shape == (b.graph.num_nodes, 2)
        assert b.x.dtype == np.float32
        np.testing.assert_array_equal(ng.readout(b, b.x, "max")[:, 0], b.indices)


def test_orders_depend_on_seed_and_pass_alone():
    def passes(seed):
        loader = ng.GraphLoader(ITEMS, 2, shuffle=True, seed=seed)
        return [[b.indices.tolist() for b in loader] for _ in range(3)]

    assert passes(0) == passes(0)
    assert len({str(order) for order in [*passes(0), *passes(1)]}) == 6
    loader = ng.GraphLoader(ITEMS, 2, shuffle=True, seed=0)
    loader.epoch = 2
    assert [b.indices.tolist() for b in loader] == passes(0)[2]


def test_loader_of_torch_and_of_sets_without_labels():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    items = [
        (g, torch.from_numpy(x), torch.tensor([1.0, i]))
        for i, (g, x) in enumerate(zip(GRAPHS, FEATURES, strict=True))
    ]
    (b,) = ng.GraphLoader(items, 7)
    assert torch.equal(b.x, torch.from_numpy(np.concatenate(FEATURES)))
    assert torch.equal(b.labels, torch.stack([item[2] for item in items]))
    (b,) = ng.GraphLoader([(g, x, None) for g, x, _ in ITEMS], 7)
    assert b.labels is None
    assert list(ng.GraphLoader([], 3)) == []


ONE = ng.Graph([0], [1])
TWO_SETS = ng.Graph([0], [1], num_src=2, num_dst=2)
X = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: ng.batch(ONE), TypeError, "batch: graphs is a Graph; give a list of graphs, [g] for one"),
        (lambda: ng.batch(3), TypeError, "batch: graphs is an int; give a list of graphs"),
        (lambda: ng.batch([ONE, 3]), TypeError, "batch: graphs[1] is an int; pass a numgraph.Graph"),
        (
            lambda: ng.batch([ONE, TWO_SETS]),
            ValueError,
            "batch: graphs[0] has one set of nodes and graphs[1] is bipartite; batch graphs of one kind",
        ),
        (
            lambda: ng.unbatch(ONE),
            TypeError,
            "unbatch: the first argument is a Graph; give what numgraph.batch(graphs) or a GraphLoader",
        ),
        (lambda: ng.readout(ONE, X), TypeError, "returns; of one graph, numgraph.batch([g])"),
        (
            lambda: ng.readout(ng.batch([ONE]), X, "median"),
            ValueError,
            "readout: unknown reduce 'median'; choose from",
        ),
        (
            lambda: ng.readout(ng.batch([ONE, ONE]), X),
            ValueError,
            "readout: x has shape [2, 3], the batch's graphs have 4 nodes; the first axis must be 4",
        ),
        (
            lambda: ng.GraphLoader([(ONE, X, 0)], 0),
            ValueError,
            "GraphLoader: batch_size is 0; give a whole number, 1 or more",
        ),
        (
            lambda: ng.GraphLoader([(ONE, X, 0)], 2, seed=-1),
            ValueError,
            "GraphLoader: seed is -1; give a whole number, 0 or more",
        ),
        (
            lambda: ng.GraphLoader(3, 2),
            TypeError,
            "GraphLoader: dataset is an int; give a list of (graph, x, label), or an object",
        ),
        (
            lambda: ng.GraphLoader([(ONE, X, 0), (ONE, X)], 2),
            TypeError,
            "GraphLoader: dataset[1] has 2 entries; an item is",
        ),
        (
            lambda: ng.GraphLoader([ONE], 2),
            TypeError,
            "GraphLoader: dataset[0] is a Graph; an item is (graph, x, label)",
        ),
        (lambda: ng.GraphLoader([(X, X, 0)], 2), TypeError, "GraphLoader: graph 0 is a ndarray"),
        (
            lambda: ng.GraphLoader([(ONE, X, 0), (ONE, X[:, :2], 0)], 2),
            ValueError,
            "GraphLoader: x of graph 1 has shape [2, 2], its graph has 2 nodes; give [2, 3]",
        ),
        (
            lambda: ng.GraphLoader([(ONE, X[:1], 0)], 2),
            ValueError,
            "x of graph 0 has shape [1, 3], its graph has 2 nodes; give [2, …]",
        ),
        (
            lambda: ng.GraphLoader([(ONE, X, 0), (ONE, X, None)], 2),
            ValueError,
            "of dataset[0] and dataset[1] one has no label; give all",
        ),
        (
            lambda: ng.GraphLoader(SimpleNamespace(graphs=[ONE], features=[X], labels=[1, 2]), 2),
            ValueError,
            "GraphLoader: labels has shape [2], there are 1 graphs; give a row for each graph",
        ),
        (
            lambda: ng.GraphLoader(SimpleNamespace(graphs=[ONE], features=[], labels=[1]), 2),
            ValueError,
            "GraphLoader: dataset has 1 graphs and 0 features; give an array for each graph",
        ),
    ],
)
def test_errors(call, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        call()


@pytest.mark.slow
def test_readout_within_torch_compile():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    b, x = ng.batch(SETS["of all sizes"]), torch.arange(26.0).reshape(13, 2)
    compiled = torch.compile(lambda x: ng.readout(b, x * 2, "mean"), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), torch.stack([2 * rows.mean(0) for rows in x.split([5, 1, 7])]))
