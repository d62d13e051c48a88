"""negative_edges: exactly the pairs without an edge, each as likely, however few are left."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.stats import chisquare

import numgraph as ng
from numgraph.sampling import negative_edges

RNG = np.random.default_rng(0)
SPARSE = ng.Graph(
    [0, 0, 0, 1, 2, 4], [1, 1, 0, 0, 3, 5], 6
)  # parallel edges, a self loop, an edge and its reverse
DENSE = ng.Graph(*np.nonzero(RNG.random((9, 9)) < 0.8), 9)
BIPARTITE = ng.Graph([0, 0, 1, 2, 2], [0, 3, 3, 1, 1], num_src=3, num_dst=4)
GRAPHS = {"sparse": SPARSE, "dense": DENSE, "bipartite": BIPARTITE, "empty": ng.Graph([], [], 4)}


def free_pairs(g, loops=False, directed=True):
    """All pairs without an edge, by looking at each."""
    edges = set(zip(g.src.tolist(), g.dst.tolist()))
    return [
        (u, v)
        for u in range(g.num_src)
        for v in range(g.num_dst)
        if (u, v) not in edges
        and (u != v or loops or g.is_bipartite)
        and (directed or (u <= v and (v, u) not in edges))
    ]


CASES = [(name, loops, True) for name in GRAPHS for loops in (False, True)]
CASES += [(name, loops, False) for name in ("sparse", "dense", "empty") for loops in (False, True)]


@pytest.mark.parametrize(("name", "loops", "directed"), CASES)
def test_exactly_the_pairs_without_an_edge(name, loops, directed):
    g, options = GRAPHS[name], {"self_loops": loops, "directed": directed}
    want = free_pairs(g, loops, directed)
    for count in {0, 1, len(want) // 3, len(want)}:
        src, dst = negative_edges(g, count, seed=3, **options)
        found = list(zip(src.tolist(), dst.tolist()))
        assert len(found) == len(set(found)) == count
        assert set(found) <= set(want)
    assert not g.has_edges(src, dst).any()
    with pytest.raises(
        ValueError, match=f"{len(want) + 1} pairs are wanted, and of .* are joined, {len(want)} are not"
    ):
        negative_edges(g, len(want) + 1, **options)
    assert len(negative_edges(g, 500, replace=True, **options)[0]) == 500


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize(
    ("name", "directed"), [("sparse", True), ("sparse", False), ("dense", True), ("bipartite", True)]
)
def test_every_pair_is_as_likely(name, directed, replace):
    g = GRAPHS[name]
    want = free_pairs(g, directed=directed)
    place = {pair: i for i, pair in enumerate(want)}
    counts = np.zeros(len(want))
    for seed in range(1500):
        for pair in zip(*negative_edges(g, 3, seed=seed, directed=directed, replace=replace)):
            counts[place[pair]] += 1
    assert chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("replace", [False, True])
def test_of_each_source(replace):
    edges = RNG.random((3, 300)) < 0.1
    edges[1] = True
    edges[1, [4, 7, 250]] = False  # three are left, which tries alone would hardly find
    g = ng.Graph(*np.nonzero(edges), 300)
    counts = np.zeros((3, 300))
    for seed in range(300):
        src, dst = negative_edges(g, 2, sources=[0, 1, 1, 2], seed=seed, replace=replace)
        np.testing.assert_array_equal(src, [0, 0, 1, 1, 1, 1, 2, 2])
        assert replace or (dst[::2] != dst[1::2]).all()
        np.add.at(counts, (src, dst), 1)
    assert not counts[edges].any()
    assert not counts[[0, 1, 2], [0, 1, 2]].any()
    assert chisquare(counts[1, [4, 7, 250]]).pvalue > 1e-4
    assert (counts[0] > 0).sum() > 200
    with pytest.raises(ValueError, match=r"sources\[1\], node 1, has no edge to 3 nodes, and 4 are wanted"):
        negative_edges(g, 4, sources=[0, 1])


def test_many_of_a_large_graph_on_any_number_of_threads():
    g = ng.Graph(RNG.integers(0, 3000, 20_000), RNG.integers(0, 3000, 20_000), 3000)
    src, dst = negative_edges(g, 20_000, seed=7)
    assert not g.has_edges(src, dst).any()
    assert len(np.unique(src.astype(np.int64) * 3000 + dst)) == 20_000
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: negative_edges(g, 20_000, seed=7), range(4)):
            np.testing.assert_array_equal(found, (src, dst))
    assert (negative_edges(g, 20_000, seed=8)[0] != src).any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: negative_edges(SPARSE, -1), ValueError, "count is -1"),
        (lambda: negative_edges(SPARSE, 2.0), ValueError, "count is 2.0"),
        (lambda: negative_edges(SPARSE, 1, sources=[6]), IndexError, r"sources\[0\] is 6"),
        (lambda: negative_edges(BIPARTITE, 1, directed=False), ValueError, "the graph is bipartite"),
        (
            lambda: negative_edges(SPARSE, 1, sources=[0], directed=False),
            TypeError,
            "sources are given beside directed=False",
        ),
        (lambda: negative_edges(np.eye(3), 1), TypeError, "g is"),
        (lambda: negative_edges(SPARSE, 1, seed=-1), ValueError, "seed is -1"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
