"""LinkLoader: its targets and pairs are what they are said to be, and no batch's model sees the edges that it
is to find.
"""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import chisquare

import numgraph as ng
from numgraph.graph import Origin
from numgraph.graph.sorting import frozen
from numgraph.sampling.random import key_of

RNG = np.random.default_rng(0)
N = 60
SRC, DST = RNG.integers(0, N, 400), RNG.integers(0, N, 400)
SRC, DST = (
    np.concatenate([SRC, SRC[:40], DST[:80]]),
    np.concatenate([DST, DST[:40], SRC[:80]]),
)  # parallel edges, and edges back
G = ng.Graph(SRC, DST, N)
X = RNG.standard_normal((N, 4)).astype(np.float32)
TARGETS = RNG.permutation(np.flatnonzero(SRC != DST))[:90]


def loader_of(**options):
    return ng.LinkLoader(
        (G, {"x": X}), **{"num_neighbors": [-1, -1], "edges": TARGETS, "batch_size": 20, **options}
    )


def ends_of(batch, block, ids):
    """The edges of a block as pairs of the graph's nodes, checked against its edges' ids."""
    nodes = batch.nodes[: block.num_src]
    ends = list(zip(nodes[block.src].tolist(), nodes[block.dst].tolist()))
    assert ends == list(zip(SRC[ids].tolist(), DST[ids].tolist()))
    return ends


@pytest.mark.parametrize("exclude", ["both", "forward", None])
@pytest.mark.parametrize("fanouts", [[-1, -1], [4, 3]])
def test_no_target_is_sampled(exclude, fanouts):
    seen = []
    for batch in loader_of(exclude=exclude, num_neighbors=fanouts):
        targets = set(zip(SRC[batch.edges].tolist(), DST[batch.edges].tolist()))
        barred = {"both": targets | {(v, u) for u, v in targets}, "forward": targets, None: set()}[exclude]
        for block, ids, fanout in zip(batch.blocks, batch.edge_ids, fanouts):
            found = ends_of(batch, block, ids)
            assert not barred & set(found)
            if fanout < 0:  # all other edges are there
                into = set(batch.nodes[: block.num_dst].tolist())
                assert sorted(found) == sorted(
                    (u, v) for u, v in zip(SRC.tolist(), DST.tolist()) if v in into and (u, v) not in barred
                )
        seen.extend(batch.edges)
    assert seen == TARGETS.tolist()


@pytest.mark.parametrize("method", ["uniform", "source"])
@pytest.mark.parametrize("negatives", [0, 1, 3])
def test_pairs_are_targets_and_no_edges(method, negatives):
    edges = set(zip(SRC.tolist(), DST.tolist()))
    for batch in loader_of(negatives=negatives, negative_method=method):
        count = len(batch.edges)
        assert batch.pairs.shape == (count * (1 + negatives), 2)
        np.testing.assert_array_equal(batch.labels, np.repeat([1, 0], [count, count * negatives]))
        left, right = batch.seeds[batch.pairs].T
        np.testing.assert_array_equal([left[:count], right[:count]], [SRC[batch.edges], DST[batch.edges]])
        np.testing.assert_array_equal(batch.negatives, batch.pairs[count:])
        for u, v in zip(left[count:].tolist(), right[count:].tolist()):
            assert u != v
            assert (u, v) not in edges
            assert method == "source" or (v, u) not in edges
        if method == "source":
            np.testing.assert_array_equal(left[count:], np.repeat(left[:count], negatives))
        assert len(np.unique(batch.seeds)) == len(batch.seeds)
        np.testing.assert_array_equal(batch.nodes[: len(batch.seeds)], batch.seeds)
        np.testing.assert_array_equal(batch.x, X[batch.nodes])


def test_batches_are_the_same_with_any_number_of_threads():
    one, other = (
        loader_of(num_neighbors=[4, 3], shuffle=True, seed=2, prefetch=prefetch) for prefetch in (0, 3)
    )
    epochs = []
    for _ in range(2):
        for a, b in zip(one, other, strict=True):
            for name in ("edges", "pairs", "labels", "seeds", "nodes", "x"):
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
            for x, y in zip(a.edge_ids, b.edge_ids):
                np.testing.assert_array_equal(x, y)
            epochs.append(a.pairs.tolist())
    assert len({str(pairs) for pairs in epochs}) == len(epochs)


CONVOLUTIONS = {
    **{norm: {"norm": norm} for norm in ("both", "in", "right", "none")},
    "no loops": {"add_self_loops": False},
    "improved": {"improved": True},
    "collapsed": {"collapse_loops": True},
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_degrees_do_not_tell_what_is_left_out(name, weighted):
    """GCN on all in-edges of a batch is GCN on the graph without its targets."""
    x, weight = RNG.standard_normal((N, 4)), RNG.uniform(0.5, 2, G.num_edges)
    layer = ng.nn.GCNConv(4, 3, rng=0, dtype=np.float64, **CONVOLUTIONS[name])
    loader = loader_of(num_neighbors=[-1])
    loader.origin.edge_weight = weight if weighted else None
    for batch in loader:
        barred = {
            frozenset(pair)
            for pair in zip(SRC[batch.edges].tolist(), DST[batch.edges].tolist())
            if pair[0] != pair[1]
        }
        loops = SRC == DST
        assert not loops[batch.edges].any()
        left = np.array([frozenset(pair) not in barred for pair in zip(SRC.tolist(), DST.tolist())])
        g = ng.Graph(SRC[left], DST[left], N)
        want = layer(g, x, weight[left] if weighted else None)[batch.seeds]
        block = pickle.loads(pickle.dumps(batch.blocks[0])) if name == "both" else batch.blocks[0]
        found = layer(block, x[batch.nodes], weight[block.edge_ids] if weighted else None)
        np.testing.assert_allclose(found, want, rtol=1e-10, atol=1e-12)


def test_processes_divide_a_batch():
    """Each has its targets with their other pairs, and the rows that one process has."""
    whole = list(loader_of(num_neighbors=[4, 3], negatives=2))
    parts = []
    for rank in range(3):
        loader = loader_of(num_neighbors=[4, 3], negatives=2)
        loader.processes = SimpleNamespace(rank=rank, size=3)
        parts.append(list(loader))
    for i, one in enumerate(whole):
        batches = [batches[i] for batches in parts]
        np.testing.assert_array_equal(np.concatenate([batch.edges for batch in batches]), one.edges)
        found = np.concatenate([batch.seeds[batch.negatives] for batch in batches])
        np.testing.assert_array_equal(found, one.seeds[one.negatives])
        drawn = in_edges_of_seeds(one)
        for batch in batches:
            for node, edges in in_edges_of_seeds(batch).items():
                assert drawn[node] == edges


def in_edges_of_seeds(batch):
    """The edges that were drawn for each seed."""
    return {
        seed: batch.edge_ids[-1][batch.blocks[-1].dst == i].tolist()
        for i, seed in enumerate(batch.seeds.tolist())
    }


def test_a_weighted_sampler_leaves_targets_out_too():
    weight = RNG.uniform(0.5, 2, G.num_edges)
    for batch in loader_of(num_neighbors=ng.sampling.NeighborSampler([5], weight=weight, replace=True)):
        barred = {frozenset(pair) for pair in zip(SRC[batch.edges].tolist(), DST[batch.edges].tolist())}
        assert not barred & {frozenset(pair) for pair in ends_of(batch, batch.blocks[0], batch.edge_ids[0])}


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("barred", [3, 150, 299])
def test_what_is_left_of_a_long_row_is_as_likely(barred, replace):
    """Banned edges are few, so that draws are made again, or most, so that the others are looked up."""
    g = ng.Graph(np.arange(1, 301), np.zeros(300, int), 301)
    ban = np.sort(np.random.default_rng(1).permutation(np.arange(1, 301))[:barred])
    sampler, counts = ng.sampling.NeighborSampler([4], replace=replace), np.zeros(301)
    for seed in range(1500):
        batch = sampler.drawn(
            "test",
            Origin(g),
            frozen(np.array([0], np.int32)),
            key_of(seed),
            (np.zeros(barred, np.int64), ban),
        )
        sources = batch.nodes[batch.blocks[0].src]
        assert len(sources) == (4 if replace else min(4, 300 - barred))
        assert replace or len(set(sources.tolist())) == len(sources)
        np.add.at(counts, sources, 1)
    left = np.setdiff1d(np.arange(1, 301), ban)
    assert counts.sum() == counts[left].sum()
    assert len(left) == 1 or chisquare(counts[left]).pvalue > 1e-4


def test_links_that_were_dealt_out():
    data = ng.data.load("karate")
    links = ng.data.split_links(data, split=(0.7, 0.1, 0.2))
    batches = list(ng.LinkLoader(links, [-1], batch_size=16))
    pairs = np.concatenate([np.sort(batch.seeds[batch.pairs[: len(batch.edges)]], 1) for batch in batches])
    np.testing.assert_array_equal(pairs, links.train)
    for batch in batches:
        of_block = batch.nodes[np.stack([batch.blocks[0].src, batch.blocks[0].dst], 1)]
        barred = (
            {tuple(pair) for pair in links.train[: len(batch.edges)].tolist()}
            if batch is batches[0]
            else set()
        )
        assert not barred & {tuple(pair) for pair in np.sort(of_block, 1).tolist()}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"exclude": "all"}, ValueError, "exclude is 'all'; choose from 'both', 'forward', None"),
        ({"negative_method": "hard"}, ValueError, "negative_method is 'hard'"),
        ({"negatives": -1}, ValueError, "negatives is -1"),
        ({"edges": [0, 5, 0]}, ValueError, r"edges\[2\] is 0, which is there before; give each edge once"),
        ({"edges": [G.num_edges]}, IndexError, r"edges\[0\] is 520"),
        ({"edges": np.ones(3, bool)}, ValueError, r"edges is a mask of shape \[3\]"),
    ],
)
def test_errors(options, error, message):
    with pytest.raises(error, match=message):
        loader_of(**options)


def test_no_pair_is_left_to_be_drawn():
    u, v = np.nonzero(~np.eye(5, dtype=bool))
    with pytest.raises(
        ValueError, match="8 pairs are wanted, and of 10 pairs of nodes 10 are joined, 0 are not"
    ) as caught:
        list(ng.LinkLoader((ng.Graph(u, v, 5), {}), [-1], batch_size=8))
    assert caught.value.__notes__ == ["in batch 0 of 0 … 2"]
