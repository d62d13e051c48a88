"""random_walk: steps are edges, drawn as node2vec says, the same on any number of threads."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from scipy.stats import chisquare

import numgraph as ng
from numgraph.sampling import random_walk

RNG = np.random.default_rng(0)
G = ng.Graph(RNG.integers(0, 80, 500), RNG.integers(0, 100, 500), 100)  # nodes from 80 on have no out-edges


@pytest.mark.parametrize(("p", "q"), [(1, 1), (0.25, 4), (1e6, 1e-3)])
def test_steps_are_edges_and_end_where_there_is_none(p, q):
    nodes = RNG.integers(0, 100, 50)
    walks = random_walk(G, nodes, 12, p=p, q=q, seed=4)
    assert walks.shape == (50, 13)
    np.testing.assert_array_equal(walks[:, 0], nodes)
    here, after = walks[:, :-1], walks[:, 1:]
    goes_on = (here >= 0) & (G.out_degrees()[np.maximum(here, 0)] > 0)
    np.testing.assert_array_equal(after >= 0, goes_on)
    assert G.has_edges(here[goes_on], after[goes_on]).all()
    assert (after[~goes_on] == -1).all()
    assert 0 < goes_on.sum() < goes_on.size


def test_each_out_edge_is_as_likely():
    g = ng.Graph([0, 0, 0, 0], [1, 2, 2, 3], 4)
    ends = random_walk(g, np.zeros(8000, int), 1)[:, 1]
    assert chisquare(np.bincount(ends, minlength=4)[1:], [2000, 4000, 2000]).pvalue > 1e-4


@pytest.mark.parametrize(("p", "q"), [(0.25, 4.0), (4.0, 0.25), (1.0, 3.0), (1e-9, 1.0), (1.0, 1e-9)])
@pytest.mark.parametrize("returns", [True, False])
def test_second_steps_are_those_of_node2vec(p, q, returns):
    """From 0 to 1, then back to 0, to 2 that 0 has an edge to, or to 3 and 4 that it has none to; 3 twice."""
    g = ng.Graph(
        [0, 0, 1, 1, 1, 1, 1][: 7 if returns else 6], [1, 2, 2, 3, 3, 4, 0][: 7 if returns else 6], 5
    )
    walks = random_walk(g, np.zeros(20_000, int), 2, p=p, q=q, seed=1)
    second = walks[walks[:, 1] == 1, 2]
    weights = np.array([returns / p, 0, 1, 2 / q, 1 / q])
    found, want = np.bincount(second, minlength=5), weights / weights.sum() * len(second)
    seen = want > 5
    assert found[~seen].sum() < 30
    if seen.sum() > 1:  # all but one may have no chance to speak of
        assert chisquare(found[seen], want[seen] * found[seen].sum() / want[seen].sum()).pvalue > 1e-4


@pytest.mark.parametrize("q", [1, 2])
def test_the_same_bits_on_any_number_of_threads(q):
    nodes = RNG.integers(0, 100, 9000)  # more than one piece
    walks = random_walk(G, nodes, 6, q=q, seed=3)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        np.testing.assert_array_equal(random_walk(G, nodes, 6, q=q, seed=3), walks)
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(random_walk(G, nodes[:5000], 6, q=q, seed=3), walks[:5000])
    assert (random_walk(G, nodes, 6, q=q, seed=4) != walks).any()
    same = random_walk(G, np.zeros(50, int), 3, q=q)
    assert len(np.unique(same, axis=0)) > 10  # a node that is there more than once has more than one walk


def test_small_ones():
    assert random_walk(G, [3, 4], 0).tolist() == [[3], [4]]
    assert random_walk(G, [], 5).shape == (0, 6)
    assert random_walk(ng.Graph([], [], 2), [1], 2).tolist() == [[1, -1, -1]]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"length": -1}, ValueError, "length is -1"),
        ({"length": 1.5}, ValueError, "length is 1.5"),
        ({"nodes": [100]}, IndexError, r"nodes\[0\] is 100"),
        ({"p": 0}, ValueError, "p is 0; give a finite number above 0"),
        ({"q": "2"}, TypeError, "q is '2'"),
        ({"g": ng.Graph([0], [0], num_src=1, num_dst=1)}, ValueError, "bipartite"),
    ],
)
def test_errors(options, error, message):
    with pytest.raises(error, match=message):
        random_walk(**{"g": G, "nodes": [0], "length": 2, **options})
