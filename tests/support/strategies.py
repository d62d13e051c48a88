"""Hypothesis strategies: graphs of every awkward kind, and feature arrays for them. Where Hypothesis is
missing, as it may be on a machine with a GPU, its tests are skipped and the others of their files run."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from numgraph import Graph

try:
    from hypothesis import given, settings
    from hypothesis import strategies as st
except ModuleNotFoundError:

    def settings(**options):
        return lambda test: test

    def given(*strategies):
        @pytest.mark.skip(reason="hypothesis is not installed")
        def skipped():
            pass

        return lambda test: skipped

    st = SimpleNamespace(composite=lambda function: lambda **options: None, integers=lambda *bounds: None)

__all__ = ["given", "graphs", "seeds", "settings"]

KINDS = (
    "random",
    "random",
    "random",
    "bipartite",
    "no edges",
    "no nodes",
    "hub in",
    "hub out",
    "parallel",
    "self loops",
)


@st.composite
def graphs(draw, square=False, max_nodes=6, max_edges=14):
    """Graphs with isolated nodes, self loops, parallel edges, a hub, no edges, no nodes; bipartite ones
    unless `square`.
    """
    kind = draw(st.sampled_from([k for k in KINDS if not (square and k == "bipartite")]))
    if kind == "no nodes":
        return Graph([], [], 0)
    n = draw(st.integers(1, max_nodes))
    m = draw(st.integers(1, max_nodes)) if kind == "bipartite" else n
    counts = {"num_src": n, "num_dst": m} if kind == "bipartite" else {"num_nodes": n}
    if kind == "no edges":
        return Graph([], [], **counts)
    size = draw(st.integers(0, max_edges))
    src = draw(st.lists(st.integers(0, n - 1), min_size=size, max_size=size))
    dst = draw(st.lists(st.integers(0, m - 1), min_size=size, max_size=size))
    if kind == "hub in":
        dst = [0] * size
    elif kind == "hub out":
        src = [n - 1] * size
    elif kind == "parallel":
        src, dst = [0] * size, [m - 1] * size
    elif kind == "self loops":
        dst = src
    return Graph(np.array(src, np.int64), np.array(dst, np.int64), **counts)


seeds = st.integers(0, 2**32 - 1)
"""Seeds of feature arrays: Hypothesis shrinks the graph, the numbers only need to be different."""
