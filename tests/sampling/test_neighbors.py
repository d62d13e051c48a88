"""NeighborSampler and sample_neighbors: draws against exact probabilities, edges against the graph, the same
bits on threads.
"""

from __future__ import annotations

import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.stats import chisquare

import numgraph as ng
from numgraph.graph import Block, Origin
from numgraph.graph.sorting import Adjacency
from numgraph.sampling import drawing
from numgraph.sampling.random import key_of

DRAWS = 4000


def random_graph(seed=0, nodes=200, edges=3000, order="mixed"):
    """With parallel edges, self loops, nodes without in-edges, and a hub; in no order, or sorted by
    destination.
    """
    rng = np.random.default_rng(seed)
    src = rng.integers(0, nodes, edges)
    dst = np.where(rng.random(edges) < 0.2, 7, rng.integers(0, nodes - 20, edges))
    if order == "sorted":
        dst = np.sort(dst)
    return ng.Graph(src, dst, nodes)


GRAPHS = {"mixed": random_graph(), "sorted": random_graph(order="sorted")}


def check_batch(g, batch, fanouts, replace=False):
    """Blocks as they are promised: real edges, prefixes, sizes, nothing twice without replacement."""
    blocks = batch.blocks
    assert len(blocks) == len(fanouts)
    np.testing.assert_array_equal(batch.nodes[: len(batch.seeds)], batch.seeds)
    assert len(np.unique(batch.nodes)) == len(batch.nodes)
    assert blocks[-1].num_dst == len(batch.seeds)
    assert blocks[0].num_src == len(batch.nodes)
    degrees = np.bincount(g.dst, minlength=g.num_nodes)
    for i, (block, ids, fanout) in enumerate(zip(blocks, batch.edge_ids, fanouts)):
        nodes = batch.nodes[: block.num_src]
        np.testing.assert_array_equal(g.src[ids], nodes[block.src])
        np.testing.assert_array_equal(g.dst[ids], nodes[block.dst])
        if i + 1 < len(blocks):
            assert block.num_dst == blocks[i + 1].num_src
        of_dst = degrees[nodes[: block.num_dst]]
        wanted = (
            of_dst
            if fanout < 0
            else np.where(of_dst > 0, fanout, 0)
            if replace
            else np.minimum(of_dst, fanout)
        )
        np.testing.assert_array_equal(np.bincount(block.dst, minlength=block.num_dst), wanted)
        assert replace or len(np.unique(ids)) == len(ids)
        used = np.union1d(block.src, np.arange(block.num_dst))
        np.testing.assert_array_equal(used, np.arange(block.num_src))  # a source is a destination or is read


@pytest.mark.parametrize("order", GRAPHS)
@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("fanouts", [[3], [-1], [0], [4, 2], [-1, 3, 5], [100, 70]])
def test_blocks_are_edges_of_the_graph(order, replace, fanouts):
    g = GRAPHS[order]
    seeds = np.random.default_rng(1).permutation(g.num_nodes)[:50]
    check_batch(
        g, ng.sampling.NeighborSampler(fanouts, replace=replace).sample(g, seeds, seed=5), fanouts, replace
    )


@pytest.mark.parametrize("order", GRAPHS)
def test_all_in_edges_keep_their_order(order):
    g = GRAPHS[order]
    batch = ng.sampling.NeighborSampler([-1]).sample(g, np.arange(g.num_nodes))
    np.testing.assert_array_equal(batch.edge_ids[0], g.in_edges.edge_ids)
    np.testing.assert_array_equal(batch.blocks[0].in_edges.indptr, g.in_edges.indptr)


def star(degree):
    """Edges from 1 … degree to node 0, among others."""
    return ng.Graph([*range(1, degree + 1), 0, 0], [0] * degree + [1, 2], degree + 1)


def rows(g, sampler, draws=DRAWS):
    """[draws, drawn] the sources of node 0, in the order in which they stand."""
    found = []
    for seed in range(draws):
        batch = sampler.sample(g, [0], seed=seed)
        found.append(batch.nodes[batch.blocks[0].src])
    return np.array(found)


def agrees(counts, probabilities):
    assert chisquare(counts, np.asarray(probabilities) * np.sum(counts)).pvalue > 1e-4


@pytest.mark.parametrize(("degree", "fanout"), [(5, 1), (6, 2), (6, 4), (7, 6)])
def test_every_set_is_as_likely(degree, fanout):
    found = np.sort(rows(star(degree), ng.sampling.NeighborSampler([fanout])), 1)
    sets = list(itertools.combinations(range(1, degree + 1), fanout))
    counts = [int((found == one).all(1).sum()) for one in sets]
    assert sum(counts) == DRAWS
    agrees(counts, np.full(len(sets), 1 / len(sets)))


@pytest.mark.parametrize(("degree", "fanout"), [(80, 70), (500, 66)])
def test_many_of_many(degree, fanout):
    """Both ways of drawing more than a few: each edge as often, each pair of neighbours as often as a set of
    that size has it.
    """
    found = rows(star(degree), ng.sampling.NeighborSampler([fanout]), 1000)
    assert all(len(set(row)) == fanout for row in found.tolist())
    counts = np.bincount(found.ravel(), minlength=degree + 1)[1:]
    p = fanout / degree
    z = (counts - 1000 * p) / np.sqrt(1000 * p * (1 - p))
    assert np.abs(z).max() < 4.5
    has = np.zeros((1000, degree + 2), bool)
    np.put_along_axis(has, found, True, 1)
    both = (has[:, 1:degree] & has[:, 2 : degree + 1]).mean()
    assert abs(both - p * (fanout - 1) / (degree - 1)) < 0.01


def test_with_replacement():
    found = rows(star(4), ng.sampling.NeighborSampler([3], replace=True))
    code = (found - 1) @ [16, 4, 1]
    agrees(np.bincount(code, minlength=64), np.full(64, 1 / 64))


WEIGHTS = np.array([1.0, 0.0, 3.0, 0.5, 2.0])


def test_weighted_with_replacement():
    found = rows(star(5), ng.sampling.NeighborSampler([2], weight=[*WEIGHTS, 1, 1], replace=True))
    p = np.outer(WEIGHTS, WEIGHTS).ravel() / WEIGHTS.sum() ** 2
    counts = np.bincount((found - 1) @ [5, 1], minlength=25)
    assert (counts[p == 0] == 0).all()
    agrees(counts[p > 0], p[p > 0])


def test_weighted_without_replacement():
    """In the order of the draws: the first in proportion to the weights, the second to those that are
    left.
    """
    found = rows(star(5), ng.sampling.NeighborSampler([2], weight=[*WEIGHTS, 1, 1]))
    w = WEIGHTS / WEIGHTS.sum()
    pairs = [(a, b) for a in range(5) for b in range(5) if a != b and w[a] and w[b]]
    counts = [int(((found - 1) == pair).all(1).sum()) for pair in pairs]
    assert sum(counts) == DRAWS
    agrees(counts, [w[a] * w[b] / (1 - w[a]) for a, b in pairs])


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("fanout", [2, 4, 9, -1])
def test_edges_of_weight_zero_are_never_drawn(replace, fanout):
    g = star(5)
    for seed in range(50):
        batch = ng.sampling.NeighborSampler([fanout], weight=[0, 0, 3, 0, 3, 0, 1], replace=replace).sample(
            g, [0, 1, 2], seed=seed
        )
        ids = batch.edge_ids[0]
        assert set(ids.tolist()) <= {2, 4, 6}
        count = {True: fanout, False: min(fanout, 2)}[replace] if fanout > 0 else 2
        assert (
            np.bincount(batch.blocks[0].dst, minlength=3)[:2] == [count, 0]
        ).all()  # node 1 has one edge, of weight 0


def test_weights_follow_edge_ids():
    g = random_graph(3)
    weight = (g.src % 3 == 0).astype(float)
    batch = ng.sampling.NeighborSampler([4, -1], weight=weight).sample(g, np.arange(60))
    assert all((weight[ids] > 0).all() for ids in batch.edge_ids)
    assert all(len(ids) for ids in batch.edge_ids)


@pytest.mark.parametrize("weight", [None, "random"])
@pytest.mark.parametrize("replace", [False, True])
def test_a_node_draws_the_same_whatever_is_beside_it(weight, replace):
    g = random_graph(2)
    weight = None if weight is None else np.random.default_rng(0).random(g.num_edges)
    sampler = ng.sampling.NeighborSampler([5, 3], weight=weight, replace=replace)
    whole = sampler.sample(g, np.arange(150), seed=9)
    halves = [sampler.sample(g, part, seed=9) for part in (np.arange(60), np.arange(60, 150)[::-1])]

    def drawn(batch, hop, node):
        block = batch.blocks[hop]
        place = np.flatnonzero(batch.nodes[: block.num_dst] == node)
        return batch.edge_ids[hop][block.dst == place[0]].tolist() if len(place) else None

    for node in range(150):
        assert drawn(whole, 1, node) == drawn(halves[node >= 60], 1, node)
    compared = 0
    for half in halves:
        for node in half.nodes[: half.blocks[0].num_dst]:
            assert drawn(whole, 0, node) == drawn(half, 0, node)
            compared += 1
    assert compared > 150


def test_seeds_and_hops_draw_anew():
    g = star(300)
    sampler = ng.sampling.NeighborSampler([10, 10])
    batches = [sampler.sample(g, [0], seed=seed) for seed in (0, 1, 2**63, 2**70)]
    assert len({tuple(batch.edge_ids[1]) for batch in batches}) == 4
    one = batches[0]
    first = one.edge_ids[0][one.blocks[0].dst == 0]
    assert set(first) != set(one.edge_ids[1])  # node 0 is a destination of both hops
    np.testing.assert_array_equal(sampler.sample(g, [0], seed=0).edge_ids[1], one.edge_ids[1])


def test_threads_sample_the_same_bits():
    g = random_graph(4, 500, 6000)
    sampler = ng.sampling.NeighborSampler([5, 5], weight=np.random.default_rng(1).random(g.num_edges))
    tasks = [(np.random.default_rng(i).permutation(500)[:64], i) for i in range(24)]

    def run(task):
        batch = sampler.sample(g, task[0], seed=task[1])
        return [batch.nodes, *batch.edge_ids, *(block.src for block in batch.blocks)]

    alone = list(map(run, tasks))
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(run, tasks)):
            for a, b in zip(one, other):
                np.testing.assert_array_equal(a, b)


def test_wide_ids_sample_the_same():
    """A graph with int64 ids, as those of 2**31 edges are."""
    g = random_graph(5)
    rows = g.in_edges
    wide = Adjacency(
        rows.indptr.astype(np.int64), rows.indices.astype(np.int64), False, rows.edge_ids.astype(np.int64)
    )
    made = random_graph(5)
    made._edges.adjacencies[1] = wide
    sampler = ng.sampling.NeighborSampler([3, 4])
    narrow, batch = sampler.sample(g, np.arange(40)), sampler.sample(made, np.arange(40))
    assert batch.nodes.dtype == np.int64
    for a, b in zip([narrow.nodes, *narrow.edge_ids], [batch.nodes, *batch.edge_ids]):
        np.testing.assert_array_equal(a, b)
    assert batch.blocks[0].src.dtype == np.int32


def test_the_table_starts_anew_when_its_stamps_end():
    g = random_graph(6)
    sampler = ng.sampling.NeighborSampler([3])
    before = sampler.sample(g, np.arange(30))
    (table,) = g.in_edges.derived("tables of samplers", lambda rows: [])
    table._stamp = 2**31 - 2
    for _ in range(3):
        np.testing.assert_array_equal(sampler.sample(g, np.arange(30)).nodes, before.nodes)
    assert table._stamp < 10


@pytest.mark.parametrize("fanouts", [[2], [-1, -1]])
def test_empty_graphs_and_isolated_seeds(fanouts):
    sampler = ng.sampling.NeighborSampler(fanouts)
    alone = ng.Graph([], [], 5)
    batch = sampler.sample(alone, [3, 1])
    check_batch(alone, batch, fanouts)
    assert batch.nodes.tolist() == [3, 1]
    none = sampler.sample(ng.Graph([], [], 0), [])
    assert [block.num_src for block in none.blocks] == [0] * len(fanouts)
    g = GRAPHS["mixed"]
    check_batch(g, sampler.sample(g, []), fanouts)
    check_batch(g, sampler.sample(g, [199, 7, 190]), fanouts)  # 199 and 190 have no in-edges
    weighted = ng.sampling.NeighborSampler(fanouts, weight=[]).sample(alone, [2])
    assert weighted.nodes.tolist() == [2]


def test_blocks_are_graphs():
    g = GRAPHS["mixed"]
    batch = ng.sampling.NeighborSampler([4]).sample(g, np.arange(10))
    (block,) = batch.blocks
    assert isinstance(block, Block)
    assert block.is_bipartite
    assert not isinstance(block.reverse(), Block)
    x = np.random.default_rng(0).random((block.num_src, 3))
    want = np.zeros((10, 3))
    np.add.at(want, block.dst, x[block.src])
    np.testing.assert_allclose(ng.update_all(block, lambda u: u.x, "sum", u={"x": x}), want, rtol=1e-12)
    again = pickle.loads(pickle.dumps(block))
    assert isinstance(again, Block)
    for name in ("src", "dst", "nodes", "edge_ids"):
        np.testing.assert_array_equal(getattr(again, name), getattr(block, name))
    assert again.origin.graph.num_edges == g.num_edges
    with pytest.raises(ValueError, match="read-only"):
        block.nodes[0] = 1


@pytest.mark.parametrize("replace", [False, True])
def test_sample_neighbors(replace):
    g = GRAPHS["mixed"]
    made, edges = ng.sampling.sample_neighbors(g, [7, 3, 199], 4, seed=2, replace=replace, return_edges=True)
    assert made.num_nodes == g.num_nodes
    np.testing.assert_array_equal(g.src[edges.ids], made.src)
    np.testing.assert_array_equal(g.dst[edges.ids], made.dst)
    degrees = made.in_degrees()
    assert (degrees[7], degrees[199], degrees.sum()) == (4, 0, 4 + degrees[3])
    assert ng.sampling.sample_neighbors(g, [7], -1).num_edges == g.in_degrees()[7]


def test_banned_edges_are_not_drawn_and_the_others_are_as_likely():
    g = star(6)
    sampler = ng.sampling.NeighborSampler([2])
    found = []
    banned = (np.array([0, 0, 2]), np.array([2, 5, 0]))
    for seed in range(DRAWS):
        batch = sampler.drawn("test", Origin(g), np.array([0, 2, 1], np.int32), key_of(seed), banned)
        assert batch.blocks[0].in_degrees().tolist() == [2, 0, 1]
        found.append(sorted(batch.nodes[batch.blocks[0].src[:2]].tolist()))
    sets = list(itertools.combinations([1, 3, 4, 6], 2))
    agrees([found.count(list(one)) for one in sets], np.full(6, 1 / 6))


SQUARE = ng.Graph([0, 1, 2], [1, 2, 0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ng.sampling.NeighborSampler([2]).sample(SQUARE, [0, 3]),
            IndexError,
            r"seeds\[1\] is 3, num_nodes is 3",
        ),
        (lambda: ng.sampling.NeighborSampler([2]).sample(SQUARE, [-1]), IndexError, r"seeds\[0\] is -1"),
        (
            lambda: ng.sampling.NeighborSampler([2]).sample(SQUARE, [2, 0, 2]),
            ValueError,
            r"seeds\[0\] and seeds\[2\] are both 2",
        ),
        (lambda: ng.sampling.NeighborSampler([2]).sample(SQUARE, [0.5]), TypeError, "seeds"),
        (lambda: ng.sampling.NeighborSampler([2]).sample(SQUARE, [[0]]), ValueError, "seeds has shape"),
        (lambda: ng.sampling.NeighborSampler([2]).sample(SQUARE, [0], seed=-1), ValueError, "seed is -1"),
        (lambda: ng.sampling.NeighborSampler([2]).sample(SQUARE, [0], seed=0.5), TypeError, "seed is 0.5"),
        (lambda: ng.sampling.NeighborSampler([2]).sample([0], [0]), TypeError, "pass a numgraph.Graph"),
        (
            lambda: ng.sampling.NeighborSampler([2]).sample(ng.Graph([0], [0], num_src=2), [0]),
            ValueError,
            "bipartite",
        ),
        (lambda: ng.sampling.NeighborSampler(5), TypeError, "fanouts is 5"),
        (lambda: ng.sampling.NeighborSampler([]), ValueError, "no fanouts"),
        (lambda: ng.sampling.NeighborSampler([2, -2]), ValueError, r"fanouts\[1\] is -2"),
        (lambda: ng.sampling.NeighborSampler([2.5]), TypeError, r"fanouts\[0\] is 2.5"),
        (lambda: ng.sampling.NeighborSampler([2], weight=[1, -1, 0]), ValueError, r"weight\[1\] is -1"),
        (lambda: ng.sampling.NeighborSampler([2], weight=[1, 0, np.nan]), ValueError, r"weight\[2\] is nan"),
        (lambda: ng.sampling.NeighborSampler([2], weight=[np.inf, 0, 1]), ValueError, r"weight\[0\] is inf"),
        (
            lambda: ng.sampling.NeighborSampler([2], weight=[1, 1]).sample(SQUARE, [0]),
            ValueError,
            "2 entries, the graph 3 edges",
        ),
        (lambda: ng.sampling.sample_neighbors(SQUARE, [0, 0], 1), ValueError, "are both 0"),
        (lambda: ng.sampling.sample_neighbors(SQUARE, [0], -3), ValueError, "fanout is -3"),
        (
            lambda: ng.sampling.sample_neighbors(SQUARE, [0], 1, weight=[1, -1, 0]),
            ValueError,
            r"^sample_neighbors: weight\[1\] is -1",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_all_weights_zero():
    batch = ng.sampling.NeighborSampler([2, 2], weight=np.zeros(3)).sample(SQUARE, [1, 0])
    assert [block.num_edges for block in batch.blocks] == [0, 0]


def test_kernels_have_one_version_for_each_width():
    """Read-only and writeable arrays, slices and whole ones do not multiply what is compiled."""
    signatures = drawing.draw.signatures
    assert len({tuple(getattr(one, "dtype", one) for one in signature) for signature in signatures}) == len(
        signatures
    )
