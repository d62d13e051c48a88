"""Graphs against plain NumPy: stable argsort for the groupings, dense adjacency counts for constructors and
transforms.
"""

from __future__ import annotations

import copy
import os
import pickle
import re
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import hypothesis.strategies as st
import networkx
import numba
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings

from numgraph.graph import Graph, sorting, transforms
from numgraph.runtime import threads

steps = settings(deadline=None, max_examples=60)


@st.composite
def edge_lists(draw, square=False):
    """(src, dst, num_src, num_dst) with no edges, isolated nodes, self loops, parallel edges and hubs among
    them.
    """
    num_src = draw(st.integers(0, 9))
    num_dst = num_src if square else draw(st.integers(0, 9))
    if num_src == 0 or num_dst == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), num_src, num_dst
    hub = st.just(num_dst - 1)
    pairs = draw(
        st.lists(st.tuples(st.integers(0, num_src - 1), st.integers(0, num_dst - 1) | hub), max_size=40)
    )
    src, dst = np.array(pairs, np.int64).reshape(-1, 2).T
    return src, dst, num_src, num_dst


def dense(src, dst, num_src, num_dst):
    """[num_src, num_dst] number of edges from u to v."""
    counts = np.zeros((num_src, num_dst), np.int64)
    np.add.at(counts, (np.asarray(src), np.asarray(dst)), 1)
    return counts


def dense_of(graph):
    return dense(graph.src, graph.dst, graph.num_src, graph.num_dst)


def check_rows(rows, keys, others, num_rows):
    """`rows` is the stable grouping of edges by `keys`."""
    order = np.argsort(keys, kind="stable")
    np.testing.assert_array_equal(rows.edge_ids, order)
    np.testing.assert_array_equal(rows.indices, np.asarray(others)[order])
    np.testing.assert_array_equal(
        rows.indptr, np.searchsorted(np.asarray(keys)[order], np.arange(num_rows + 1))
    )
    assert rows.ordered == bool(np.all(np.diff(keys) >= 0))
    assert rows.num_rows == num_rows
    assert rows.num_edges == len(order)
    assert rows.indptr.dtype == rows.edge_ids.dtype >= rows.indices.dtype
    assert not any(array.flags.writeable for array in (rows.indptr, rows.indices, rows.edge_ids))


def check_graph(graph, src, dst, num_src, num_dst):
    """Everything a graph tells about its edges."""
    assert (graph.num_src, graph.num_dst, graph.num_edges) == (num_src, num_dst, len(src))
    np.testing.assert_array_equal(graph.src, src)
    np.testing.assert_array_equal(graph.dst, dst)
    assert not graph.src.flags.writeable
    assert not graph.dst.flags.writeable
    check_rows(graph.out_edges, src, dst, num_src)
    check_rows(graph.in_edges, dst, src, num_dst)
    assert graph.src.dtype == graph.dst.dtype == graph.in_edges.indices.dtype == graph.out_edges.indices.dtype
    np.testing.assert_array_equal(
        graph.in_degrees(), np.bincount(np.asarray(dst, np.int64), minlength=num_dst)
    )
    np.testing.assert_array_equal(
        graph.out_degrees(), np.bincount(np.asarray(src, np.int64), minlength=num_src)
    )


# --- building -----------------------------------------------------------------------------------------------


@given(edge_lists())
@steps
def test_edges_by_either_end(edges):
    src, dst, num_src, num_dst = edges
    check_graph(Graph(src, dst, num_src=num_src, num_dst=num_dst), *edges)


@given(edge_lists(square=True))
@steps
def test_number_of_nodes_is_inferred(edges):
    src, dst, *_ = edges
    graph = Graph(src, dst)
    assert graph.num_nodes == max([-1, *src, *dst]) + 1
    assert Graph(src, dst, graph.num_nodes + 3).num_nodes == graph.num_nodes + 3


def test_one_side_inferred():
    assert repr(Graph([0, 2], [1, 1], num_src=5)) == "Graph(num_src=5, num_dst=2, num_edges=2)"
    assert repr(Graph([0, 2], [1, 1], num_dst=5)) == "Graph(num_src=3, num_dst=5, num_edges=2)"
    assert repr(Graph([0, 2], [1, 1], num_nodes=np.int8(3))) == "Graph(num_nodes=3, num_edges=2)"


def test_nodes_of_a_bipartite_graph():
    with pytest.raises(
        ValueError,
        match=re.escape(
            "Graph.num_nodes: the graph is bipartite, with 5 sources and 2 destinations; this needs"
        ),
    ):
        _ = Graph([0, 2], [1, 1], num_src=5).num_nodes
    assert Graph([0], [1], 2).num_nodes == 2


unaligned = np.zeros(4 * 8 + 1, np.uint8)[1:].view(np.int64)
unaligned[:] = [0, 2, 1, 2]
readonly = np.array([0, 2, 1, 2])
readonly.flags.writeable = False


@pytest.mark.parametrize(
    "src",
    [
        [0, 2, 1, 2],
        (0, 2, 1, 2),
        *(
            np.array([0, 2, 1, 2], kind)
            for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4", ">i8")
        ),
        np.array([0, 9, 2, 9, 1, 9, 2, 9])[::2],
        np.array([2, 1, 2, 0])[::-1],
        np.asfortranarray([[0, 7], [2, 7], [1, 7], [2, 7]])[:, 0],
        np.broadcast_to(np.array([[0, 2, 1, 2]]), (3, 4))[1],
        readonly,
        unaligned,
        memoryview(np.array([0, 2, 1, 2])),
    ],
)
def test_layouts_and_dtypes(src):
    check_graph(Graph(src, [2, 0, 1, 1]), [0, 2, 1, 2], [2, 0, 1, 1], 3, 3)
    check_graph(Graph([2, 0, 1, 1], src), [2, 0, 1, 1], [0, 2, 1, 2], 3, 3)


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_later_changes_to_the_input_do_not_reach_the_graph(kind):
    src, dst, indptr = np.array([0, 1], kind), np.array([1, 0], kind), np.array([0, 1, 2], kind)
    graphs = [Graph(src, dst), Graph.from_csr(indptr, dst, num_dst=2), Graph.from_csc(indptr, src, num_src=2)]
    src[:] = dst[:] = indptr[:] = 99
    for graph, columns in zip(graphs, [([0, 1], [1, 0]), ([0, 1], [1, 0]), ([0, 1], [0, 1])]):
        check_graph(graph, *columns, 2, 2)


@given(edge_lists())
@steps
def test_from_csr_and_csc(edges):
    src, dst, num_src, num_dst = edges
    order = np.argsort(src, kind="stable")
    indptr = np.searchsorted(src[order], np.arange(num_src + 1))
    by_source = Graph.from_csr(indptr, dst[order], num_dst=num_dst)
    check_graph(by_source, src[order], dst[order], num_src, num_dst)
    assert by_source.out_edges.ordered
    by_destination = Graph.from_csc(indptr, dst[order], num_src=num_dst)
    check_graph(by_destination, dst[order], src[order], num_dst, num_src)
    assert by_destination.in_edges.ordered


@given(edge_lists())
@steps
def test_round_trip_through_the_adjacency(edges):
    src, dst, num_src, num_dst = edges
    graph = Graph(src, dst, num_src=num_src, num_dst=num_dst)
    rows, columns = graph.out_edges, graph.in_edges
    again = Graph.from_csr(rows.indptr, rows.indices, num_dst=num_dst)
    np.testing.assert_array_equal(again.src, src[rows.edge_ids])
    np.testing.assert_array_equal(again.dst, dst[rows.edge_ids])
    again = Graph.from_csc(columns.indptr, columns.indices, num_src=num_src)
    np.testing.assert_array_equal(again.src, src[columns.edge_ids])
    np.testing.assert_array_equal(again.dst, dst[columns.edge_ids])


@given(edge_lists())
@steps
def test_reverse_shares_and_swaps(edges):
    src, dst, num_src, num_dst = edges
    graph = Graph(src, dst, num_src=num_src, num_dst=num_dst)
    back = graph.reverse()
    check_graph(back, dst, src, num_dst, num_src)
    assert back.out_edges is graph.in_edges
    assert back.in_edges is graph.out_edges
    assert back.reverse().src is graph.src
    assert back.reverse().in_edges is graph.in_edges
    assert graph.in_degrees().sum() == graph.out_degrees().sum() == graph.num_edges


def test_equality_is_identity():
    graph, twin = Graph([0], [1]), Graph([0], [1])
    assert graph != twin
    assert len({graph, twin, graph}) == 2
    assert graph.in_edges != twin.in_edges
    assert graph.in_edges is graph.in_edges


# --- sorting ------------------------------------------------------------------------------------------------


def random_keys(kind, num_edges, num_rows, dtype):
    rng = np.random.default_rng(0)
    if kind == "hub":
        keys = np.where(rng.random(num_edges) < 0.9, num_rows // 2, rng.integers(0, num_rows, num_edges))
    elif kind == "descending":
        keys = np.sort(rng.integers(0, num_rows, num_edges))[::-1]
    else:
        keys = rng.integers(0, num_rows, num_edges)
    return [sorting.frozen(array.astype(dtype)) for array in (keys, rng.integers(0, 50, num_edges))]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("kind", ["uniform", "hub", "descending"])
@pytest.mark.parametrize(
    ("num_edges", "num_rows"),
    [(0, 1), (1, 1), (3, 10_000), (700, 2), (5000, 255), (5000, 256), (5000, 257), (9999, 3001)],
)
def test_sort_in_any_number_of_parts(kind, num_edges, num_rows, dtype):
    keys, values = random_keys(kind, num_edges, num_rows, dtype)
    order = np.argsort(keys, kind="stable")
    wanted = np.searchsorted(keys[order], np.arange(num_rows + 1)), values[order], order

    def result(sort, *more):
        got = np.full(num_rows + 1, -1, dtype), np.full(num_edges, -1, dtype), np.full(num_edges, -1, dtype)
        sort(keys, values, *got, *more)
        for array, right in zip(got, wanted):
            np.testing.assert_array_equal(array, right)

    result(sorting.sort_serial)
    for parts in (1, 2, 3, 4, 16):
        result(sorting._sort_in_parts, np.empty(num_edges, dtype), parts)


def test_same_arrays_on_one_and_on_all_threads():
    keys, values = random_keys("uniform", 3 * threads.SMALL, 4000, np.int32)
    all_threads = sorting.group(keys, values, 4000)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one_thread = sorting.group(keys, values, 4000)
    finally:
        numba.set_num_threads(before)
    check_rows(all_threads, keys, values, 4000)
    check_rows(one_thread, keys, values, 4000)


def test_sorted_edges_need_no_permutation():
    graph = Graph([3, 1, 0], [0, 0, 2])
    assert graph.in_edges.ordered
    assert graph.in_edges.indices is graph.src
    assert graph.in_edges.edge_ids is graph.in_edges.edge_ids
    assert not graph.out_edges.ordered


def test_int64_ids_from_the_limit_on(monkeypatch):
    src, dst = [2, 0, 1, 2, 0], [0, 2, 2, 1, 0]
    assert sorting.ids_dtype(2**31 - 2, 5) == np.int32
    assert sorting.ids_dtype(5, 2**31 - 1) == np.int64
    assert Graph([0], [0], 2**31 - 2).src.dtype == np.int32
    assert Graph([2**31 - 2], [0]).src.dtype == np.int64
    for limit, nodes, positions in (
        (6, np.int32, np.int32),
        (5, np.int32, np.int64),
        (3, np.int64, np.int64),
    ):
        monkeypatch.setattr(sorting, "INT32_LIMIT", limit)
        graph = Graph(src, dst)
        for rows in (graph.in_edges, graph.out_edges):
            assert {graph.src.dtype, rows.indices.dtype} == {np.dtype(nodes)}
            assert {rows.indptr.dtype, rows.edge_ids.dtype} == {np.dtype(positions)}
        check_graph(graph, src, dst, 3, 3)
        check_graph(Graph.from_csr([0, 2, 5], src, num_dst=3), [0, 0, 1, 1, 1], src, 2, 3)
        assert graph.remove_self_loops().num_edges == 4
        for changed in (
            graph.to_bidirected(),
            graph.add_self_loops(),
            graph.coalesce(),
            graph.reorder("rcm")[0],
            graph.subgraph([2, 0]),
        ):
            check_graph(changed, changed.src, changed.dst, changed.num_nodes, changed.num_nodes)


def test_derived_is_built_once():
    rows = Graph([0, 1], [1, 0]).in_edges
    built = rows.derived("parts", lambda a: [a.num_rows])
    assert built == [2]
    assert rows.derived("parts", lambda a: pytest.fail("built twice")) is built


# --- other libraries ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [scipy.sparse.coo_array, scipy.sparse.coo_matrix])
@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "lil", "dok", "dia"])
@given(edges=edge_lists())
@settings(deadline=None, max_examples=8)
def test_from_scipy(make, form, edges):
    src, dst, num_src, num_dst = edges
    if num_src == 0 or num_dst == 0:
        num_src, num_dst = num_src + 1, num_dst + 1  # SciPy's formats do not all take an empty axis
    values = np.where(np.arange(len(src)) % 3 == 0, -1.0, 1.0)  # duplicates can cancel
    matrix = make((values, (src, dst)), shape=(num_src, num_dst)).asformat(form)
    rows, columns = np.nonzero(matrix.toarray())
    check_graph(Graph.from_scipy(matrix), rows, columns, num_src, num_dst)


def test_from_scipy_zeros_duplicates_and_nan():
    matrix = scipy.sparse.csr_array(
        (np.array([1.0, 2.0, 0.0, np.nan, -2.0]), [2, 1, 0, 0, 1], [0, 2, 3, 5]), shape=(3, 3)
    )
    kept = matrix.copy()
    check_graph(Graph.from_scipy(matrix), [0, 0, 2, 2], [1, 2, 0, 1], 3, 3)
    np.testing.assert_array_equal(matrix.indices, kept.indices)
    np.testing.assert_array_equal(matrix.data, kept.data)
    cancelling = scipy.sparse.csr_array((np.array([5, -5, 7]), [1, 1, 0], [0, 3]), shape=(1, 2))
    check_graph(Graph.from_scipy(cancelling), [0], [0], 1, 2)
    check_graph(Graph.from_scipy(scipy.sparse.csr_array((3, 3), dtype=bool)), [], [], 3, 3)


@pytest.mark.parametrize(
    "kind", [networkx.DiGraph, networkx.Graph, networkx.MultiDiGraph, networkx.MultiGraph]
)
def test_from_networkx(kind):
    G = kind()
    G.add_nodes_from("dabc")
    G.add_edges_from([("a", "b"), ("b", "d"), ("d", "d"), ("a", "b"), ("b", "a")])
    graph = Graph.from_networkx(G)
    wanted = networkx.to_numpy_array(G, nodelist="dabc").astype(int)
    if not G.is_directed():
        np.testing.assert_array_equal(wanted, wanted.T)
    np.testing.assert_array_equal(dense_of(graph), wanted)
    number = {"d": 0, "a": 1, "b": 2, "c": 3}
    assert list(zip(graph.src, graph.dst))[: G.number_of_edges()] == [
        (number[u], number[v]) for u, v in G.edges()
    ]
    assert repr(Graph.from_networkx(kind())) == "Graph(num_nodes=0, num_edges=0)"


class TensorLike:
    """Only what np.asarray needs of a tensor."""

    def __init__(self, array):
        self.array = np.array(array)

    def __array__(self, dtype=None, copy=None):
        return self.array


@pytest.mark.parametrize(
    "make", [np.array, list, TensorLike, np.asfortranarray], ids=["array", "list", "tensor", "Fortran"]
)
def test_from_edge_index(make):
    check_graph(Graph.from_edge_index(make([[0, 2, 2], [1, 0, 3]])), [0, 2, 2], [1, 0, 3], 4, 4)
    check_graph(Graph.from_edge_index(make([[0, 2, 2], [1, 0, 3]]), num_nodes=6), [0, 2, 2], [1, 0, 3], 6, 6)
    check_graph(Graph.from_edge_index(make([[], []])), [], [], 0, 0)


def test_from_edge_index_of_torch():
    torch = pytest.importorskip(
        "torch", reason="torch is not installed; test_from_edge_index covers its protocol"
    )
    check_graph(Graph.from_edge_index(torch.tensor([[0, 2, 2], [1, 0, 3]])), [0, 2, 2], [1, 0, 3], 4, 4)


def dgl_graph(src, dst, types, sizes, is_block=False):
    """What Graph.from_dgl reads of a DGL graph."""

    def num_nodes(kind):
        assert not is_block, "ambiguous in a block"
        return sizes[[t for edge in types for t in (edge[0], edge[2])].index(kind)]

    return SimpleNamespace(
        edges=lambda order: (
            (TensorLike(src), TensorLike(dst)) if order == "eid" else pytest.fail("edge ids would be lost")
        ),
        canonical_etypes=types,
        num_nodes=num_nodes,
        num_src_nodes=lambda: sizes[0],
        num_dst_nodes=lambda: sizes[1],
        is_block=is_block,
    )


class RestrictedGraph:
    """A DGL graph that has its rows alone, as DGL 1.1.3 gives them; their reader had another name before."""

    canonical_etypes = (("_N", "_E", "_N"),)
    is_block = False

    def __init__(self, src, dst, there, reader="adj_tensors", numbered=True):
        self.ends, self.there, self.numbered = {"csr": (src, dst), "csc": (dst, src)}, there, numbered
        setattr(self, reader, self._rows)

    def formats(self):
        return {"created": self.there[:1], "not created": self.there[1:]}

    def edges(self, form="uv", order="eid"):
        raise RuntimeError("Check failed: the edges of these formats have no order")

    def num_nodes(self, kind):
        return 4

    def _rows(self, kind):
        assert kind in self.there
        rows, others = (np.array(ids, int) for ids in self.ends[kind])
        order = np.argsort(rows, kind="stable")
        indptr = np.searchsorted(rows[order], np.arange(5))
        return (
            TensorLike(indptr.tolist()),
            TensorLike(others[order].tolist()),
            TensorLike(order.tolist() if self.numbered else []),
        )


@pytest.mark.parametrize("reader", ["adj_tensors", "adj_sparse"])
@pytest.mark.parametrize("there", [["csr"], ["csc"], ["csr", "csc"], ["csc", "csr"]])
def test_from_dgl_of_rows_alone(there, reader):
    for src, dst, numbered in [
        ([2, 0, 1, 0, 2, 2], [0, 1, 2, 2, 0, 0], True),
        ([0, 0, 1, 3], [1, 2, 2, 3], False),
        ([], [], True),
    ]:
        graph = Graph.from_dgl(RestrictedGraph(src, dst, there, reader, numbered))
        check_graph(graph, src, dst, 4, 4)
        assert not graph.is_bipartite


def test_from_dgl():
    src, dst = [0, 2, 2], [1, 0, 1]
    check_graph(Graph.from_dgl(dgl_graph(src, dst, [("_N", "_E", "_N")], (4, 4))), src, dst, 4, 4)
    check_graph(Graph.from_dgl(dgl_graph(src, dst, [("user", "buys", "item")], (3, 2))), src, dst, 3, 2)
    check_graph(
        Graph.from_dgl(dgl_graph(src, dst, [("_N", "_E", "_N")], (3, 2), is_block=True)), src, dst, 3, 2
    )
    with pytest.raises(
        ValueError,
        match=re.escape("Graph.from_dgl: G has 2 edge types; give one, G[source, edge, destination]"),
    ):
        Graph.from_dgl(dgl_graph(src, dst, [("a", "b", "a"), ("a", "c", "a")], (3, 3)))


# --- bad input ----------------------------------------------------------------------------------------------


def damaged(form, name, position, value):
    matrix = scipy.sparse.random_array((4, 4), density=0.5, format=form, rng=np.random.default_rng(0))
    getattr(matrix, name)[position] = value
    return matrix


BAD = [
    (
        lambda: Graph([0, 1], [0]),
        ValueError,
        "Graph: src has 2 entries and dst has 1; edge e runs from src[e] to dst[e], so give as many of each",
    ),
    (
        lambda: Graph([0, 5, 9], [1, 1, 1], 5),
        IndexError,
        "Graph: src[1] is 5, num_nodes is 5, ids run from 0 to 4; correct src or enlarge num_nodes",
    ),
    (
        lambda: Graph([1, 1], [0, -3], 5),
        IndexError,
        "Graph: dst[1] is -3, num_nodes is 5, ids run from 0 to 4;",
    ),
    (lambda: Graph([1, -1], [0, 3]), IndexError, "Graph: src[1] is -1, num_nodes is 4, ids run from 0 to 3;"),
    (
        lambda: Graph([-1], [-1]),
        IndexError,
        (
            "Graph: src[0] is -1, num_nodes is 0, so there are no ids; correct src, ids do not count from the "
            "end"
        ),
    ),
    (
        lambda: Graph([2], [0], num_src=2, num_dst=7),
        IndexError,
        "Graph: src[0] is 2, num_src is 2, ids run from 0 to 1;",
    ),
    (
        lambda: Graph([2], [8], num_src=3, num_dst=7),
        IndexError,
        "Graph: dst[0] is 8, num_dst is 7, ids run from 0 to 6;",
    ),
    (
        lambda: Graph(np.array([2**32], np.int64), [0], 3),
        IndexError,
        "Graph: src[0] is 4294967296, num_nodes is 3, ids run from 0 to 2;",
    ),
    (
        lambda: Graph(np.array([2**63 + 1], np.uint64), [0], 3),
        IndexError,
        "Graph: src[0] is 9223372036854775809, num_nodes is 3",
    ),
    (
        lambda: Graph(np.array([2**63 + 1], np.uint64), [0]),
        IndexError,
        "Graph: src[0] is 9223372036854775809; ids must be below 2**63 - 2",
    ),
    (
        lambda: Graph([0.0, 1.0], [0, 1]),
        TypeError,
        "Graph: src is float64, ids must be integers; cast it, as in src.astype(np.int64)",
    ),
    (
        lambda: Graph([0], [np.nan]),
        TypeError,
        "Graph: dst is float64, ids must be integers; cast it, as in dst.astype(np.int64)",
    ),
    (
        lambda: Graph([True], [False]),
        TypeError,
        "Graph: src is bool, ids must be integers; for a mask use np.flatnonzero(mask)",
    ),
    (lambda: Graph([0], ["a"]), TypeError, "Graph: dst is <U1, ids must be integers; cast it"),
    (lambda: Graph([None], [0]), TypeError, "Graph: src is object, ids must be integers; cast it"),
    (lambda: Graph([2**70], [0]), TypeError, "Graph: src is object, ids must be integers; cast it"),
    (lambda: Graph([1j], [0]), TypeError, "Graph: src is complex128, ids must be integers; cast it"),
    (lambda: Graph([[0], [0, 1]], [0]), TypeError, "Graph: src cannot be read as an array of integers ("),
    (lambda: Graph([[0, 1]], [0, 1]), ValueError, "Graph: src has shape [1, 2]; it must have 1 axis"),
    (lambda: Graph(0, 0), ValueError, "Graph: src has shape []; it must have 1 axis, as [0]"),
    (
        lambda: Graph([0], [0], 3, num_src=3),
        ValueError,
        "Graph: num_nodes=3 was given beside num_src=3, num_dst=None; give num_nodes alone, or",
    ),
    (
        lambda: Graph([0], [0], -1),
        ValueError,
        "Graph: num_nodes is -1; a number of nodes is between 0 and 2**63 - 2",
    ),
    (
        lambda: Graph([0], [0], 2**63),
        ValueError,
        "Graph: num_nodes is 9223372036854775808; a number of nodes is between",
    ),
    (lambda: Graph([0], [0], 3.0), TypeError, "Graph: num_nodes is 3.0, of type float; give a whole number"),
    (
        lambda: Graph([0], [0], num_dst=True),
        TypeError,
        "Graph: num_dst is True, of type bool; give a whole number",
    ),
    (lambda: Graph([0], [0], [3]), TypeError, "Graph: num_nodes is [3], of type list; give a whole number"),
    (
        lambda: Graph.from_csr([], [], num_dst=0),
        ValueError,
        "Graph.from_csr: indptr is empty; it has one entry more than there are rows",
    ),
    (
        lambda: Graph.from_csr([1, 2], [0, 0], num_dst=1),
        ValueError,
        "Graph.from_csr: indptr[0] is 1; it must be 0, the start of the first row",
    ),
    (
        lambda: Graph.from_csr([0, 2, 1, 2], [0, 0], num_dst=1),
        ValueError,
        "Graph.from_csr: indptr[2] is 1, less than indptr[1], 2; row starts must",
    ),
    (
        lambda: Graph.from_csc([0, 3], [0, 0], num_src=1),
        ValueError,
        "Graph.from_csc: indptr[1], the last, is 3 and indices has 2 entries; the last",
    ),
    (
        lambda: Graph.from_csc([0, 2], [0, 4], num_src=4),
        IndexError,
        "Graph.from_csc: indices[1] is 4, num_src is 4, ids run from 0 to 3;",
    ),
    (
        lambda: Graph.from_csr([0, 2], [-1, 4], num_dst=5),
        IndexError,
        "Graph.from_csr: indices[0] is -1, num_dst is 5, ids run from 0 to 4;",
    ),
    (
        lambda: Graph.from_csr([0.0, 2.0], [0, 4], num_dst=5),
        TypeError,
        "Graph.from_csr: indptr is float64, ids must be integers; cast it",
    ),
    (
        lambda: Graph.from_csr([[0, 2]], [0, 4], num_dst=5),
        ValueError,
        "Graph.from_csr: indptr has shape [1, 2]; it must have 1 axis",
    ),
    (
        lambda: Graph.from_csr([0, 1], [0], num_dst=None),
        TypeError,
        "Graph.from_csr: num_dst is None, of type NoneType; give a whole number",
    ),
    (
        lambda: Graph.from_scipy(np.eye(3)),
        TypeError,
        "Graph.from_scipy: A is a ndarray; give a SciPy sparse array, as csr_array(A)",
    ),
    (
        lambda: Graph.from_scipy(scipy.sparse.coo_array([1, 0])),
        ValueError,
        "Graph.from_scipy: A has shape [2]; A needs two axes, [num_src, num_dst]",
    ),
    (
        lambda: Graph.from_scipy(damaged("csr", "indices", 0, 77)),
        ValueError,
        "Graph.from_scipy: A is damaged (",
    ),
    (
        lambda: Graph.from_scipy(damaged("csc", "indptr", 1, -5)),
        ValueError,
        "Graph.from_scipy: A is damaged (",
    ),
    (
        lambda: Graph.from_scipy(damaged("coo", "row", 2, 77)),
        ValueError,
        "Graph.from_scipy: A is damaged (Graph: src[2] is 77, num_src is 4, ids run",
    ),
    (
        lambda: Graph.from_networkx([(0, 1)]),
        TypeError,
        "Graph.from_networkx: G is a list; give a networkx graph",
    ),
    (lambda: Graph.from_dgl([(0, 1)]), TypeError, "Graph.from_dgl: G is a list; give a dgl.DGLGraph"),
    (
        lambda: Graph.from_edge_index([0, 1]),
        ValueError,
        "Graph.from_edge_index: edge_index has shape [2]; it must have 2 axes",
    ),
    (
        lambda: Graph.from_edge_index([[0, 1], [1, 2], [3, 4]]),
        ValueError,
        "Graph.from_edge_index: edge_index has shape [3, 2], it must be [2, num_edges]; transpose it",
    ),
    (
        lambda: Graph.from_edge_index(np.zeros((3, 4), int)),
        ValueError,
        (
            "edge_index has shape [3, 4], it must be [2, num_edges]; its rows are the sources and the "
            "destinations"
        ),
    ),
    (
        lambda: Graph.from_edge_index([[0.5], [1]]),
        TypeError,
        "Graph.from_edge_index: edge_index is float64, ids must be integers; cast it",
    ),
    (
        lambda: Graph.from_edge_index([[0, 9], [1, 1]], 4),
        IndexError,
        "src[1] is 9, num_nodes is 4, ids run from 0 to 3;",
    ),
    (
        lambda: Graph([0], [1], num_dst=4).add_self_loops(),
        ValueError,
        "Graph.add_self_loops: the graph is bipartite, with 1 sources and 4 dest",
    ),
    (
        lambda: Graph([0], [1], num_dst=4).remove_self_loops(),
        ValueError,
        "Graph.remove_self_loops: the graph is bipartite",
    ),
    (
        lambda: Graph([0], [1], num_dst=4).to_bidirected(),
        ValueError,
        "Graph.to_bidirected: the graph is bipartite",
    ),
    (lambda: Graph([0], [1], num_dst=4).subgraph([0]), ValueError, "Graph.subgraph: the graph is bipartite"),
    (lambda: Graph([0], [1], num_dst=4).reorder("rcm"), ValueError, "Graph.reorder: the graph is bipartite"),
    (
        lambda: Graph([0], [1]).reorder("best"),
        ValueError,
        "Graph.reorder: unknown method 'best'; choose from 'rcm', 'degree'",
    ),
    (
        lambda: Graph([0], [1]).subgraph([0, 2]),
        IndexError,
        "Graph.subgraph: nodes[1] is 2, num_nodes is 2, ids run from 0 to 1;",
    ),
    (
        lambda: Graph([0], [1]).subgraph([1, 0, 1]),
        ValueError,
        "Graph.subgraph: nodes[0] and nodes[2] are both 1; give each node once",
    ),
    (
        lambda: Graph([0], [1]).subgraph([True, False]),
        TypeError,
        "Graph.subgraph: nodes is bool, ids must be integers; for a mask use np.flat",
    ),
]


@pytest.mark.parametrize(("make", "kind", "text"), BAD, ids=[text[:60] for _, _, text in BAD])
def test_bad_input(make, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        make()


def test_bad_input_in_any_position():
    ids = np.zeros(1000, np.int32)
    for position in (0, 1, 511, 998, 999):
        ids[position] = 7
        with pytest.raises(IndexError, match=re.escape(f"dst[{position}] is 7, num_nodes is 7")):
            Graph(np.zeros(1000, int), ids, 7)
        ids[position] = 0


def test_arrays_cannot_be_written():
    graph = Graph([1, 0], [0, 1])
    for array in (
        graph.src,
        graph.dst,
        graph.in_edges.indptr,
        graph.out_edges.indices,
        graph.out_edges.edge_ids,
        graph.in_edges.edge_ids,
    ):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(AttributeError):
        graph.src = np.zeros(2, int)
    with pytest.raises(AttributeError):
        graph.in_edges.indptr = np.zeros(3, int)


# --- transforms ---------------------------------------------------------------------------------------------


def check_made(graph):
    """A transform's result is a graph in every respect; gives its dense adjacency."""
    check_graph(graph, np.array(graph.src), np.array(graph.dst), graph.num_src, graph.num_dst)
    return dense_of(graph)


@given(edge_lists(square=True))
@steps
def test_self_loops(edges):
    src, dst, num_nodes, _ = edges
    graph, counts = Graph(src, dst, num_nodes), dense(*edges)
    more = graph.add_self_loops()
    np.testing.assert_array_equal(check_made(more), counts + np.eye(num_nodes, dtype=int))
    np.testing.assert_array_equal(more.src[: len(src)], src)
    np.testing.assert_array_equal(more.dst[len(src) :], np.arange(num_nodes))
    fewer = graph.remove_self_loops()
    np.testing.assert_array_equal(check_made(fewer), counts * (1 - np.eye(num_nodes, dtype=int)))
    np.testing.assert_array_equal(fewer.src, src[src != dst])


@given(edge_lists())
@steps
def test_coalesce(edges):
    src, dst, num_src, num_dst = edges
    graph = Graph(src, dst, num_src=num_src, num_dst=num_dst).coalesce()
    np.testing.assert_array_equal(check_made(graph), dense(*edges) > 0)
    np.testing.assert_array_equal(np.stack([graph.src, graph.dst]), np.nonzero((dense(*edges) > 0).T)[::-1])
    assert graph.in_edges.ordered
    np.testing.assert_array_equal(check_made(graph.reverse().coalesce()), (dense(*edges) > 0).T)


@given(edge_lists(square=True))
@steps
def test_to_bidirected(edges):
    src, dst, num_nodes, _ = edges
    graph = Graph(src, dst, num_nodes).to_bidirected()
    np.testing.assert_array_equal(check_made(graph), (dense(*edges) + dense(*edges).T) > 0)


@given(edge_lists(square=True), st.randoms(use_true_random=False))
@steps
def test_subgraph(edges, random):
    src, dst, num_nodes, _ = edges
    nodes = random.sample(range(num_nodes), random.randint(0, num_nodes))
    graph = Graph(src, dst, num_nodes).subgraph(nodes)
    assert graph.num_nodes == len(nodes)
    np.testing.assert_array_equal(
        check_made(graph), dense(*edges)[np.ix_(nodes, nodes)] if nodes else np.zeros((0, 0))
    )
    inside = np.isin(src, nodes) & np.isin(dst, nodes)
    np.testing.assert_array_equal(np.array(nodes, int)[graph.src], src[inside])
    np.testing.assert_array_equal(np.array(nodes, int)[graph.dst], dst[inside])


@pytest.mark.parametrize("method", ["rcm", "degree"])
@given(edge_lists(square=True))
@steps
def test_reorder(method, edges):
    src, dst, num_nodes, _ = edges
    graph, permutation = Graph(src, dst, num_nodes).reorder(method)
    np.testing.assert_array_equal(np.sort(permutation), np.arange(num_nodes))
    np.testing.assert_array_equal(permutation[graph.src], src)
    np.testing.assert_array_equal(permutation[graph.dst], dst)
    check_made(graph)
    if method == "degree":
        neighbours = ((dense(*edges) + dense(*edges).T) > 0).sum(axis=1)
        np.testing.assert_array_equal(permutation, np.argsort(-neighbours, kind="stable"))


def test_reorder_shortens_a_shuffled_path():
    names = np.random.default_rng(0).permutation(200)
    graph, _ = Graph(names[:-1], names[1:]).reorder("rcm")
    assert np.abs(graph.src - graph.dst).max() == 1


def test_every_order_is_tested():
    assert list(transforms.ORDERS) == ["rcm", "degree"]


@pytest.mark.parametrize("num_nodes", [0, 3])
def test_graphs_without_edges(num_nodes):
    graph = Graph([], [], num_nodes)
    empty = np.zeros(0, int)
    made = [
        graph,
        graph.reverse(),
        graph.coalesce(),
        graph.to_bidirected(),
        graph.remove_self_loops(),
        graph.subgraph(range(num_nodes)),
        graph.reorder("rcm")[0],
        graph.reorder("degree")[0],
        pickle.loads(pickle.dumps(graph)),
        Graph.from_csr([0] * (num_nodes + 1), [], num_dst=num_nodes),
        Graph.from_csc([0] * (num_nodes + 1), [], num_src=num_nodes),
    ]
    for each in made:
        check_graph(each, empty, empty, num_nodes, num_nodes)
    assert graph.add_self_loops().num_edges == num_nodes
    check_graph(Graph([], [], num_src=2, num_dst=0), empty, empty, 2, 0)


# --- copies, threads, processes -----------------------------------------------------------------------------


@given(edge_lists(), st.sampled_from(["coo", "csr", "csc", "sorted"]), st.booleans(), st.integers(2, 5))
@steps
def test_pickle_and_copy(edges, form, reverse, protocol):
    src, dst, num_src, num_dst = edges
    graph = Graph(src, dst, num_src=num_src, num_dst=num_dst)
    if form == "csr":
        graph = Graph.from_csr(graph.out_edges.indptr, graph.out_edges.indices, num_dst=num_dst)
    elif form == "csc":
        graph = Graph.from_csc(graph.in_edges.indptr, graph.in_edges.indices, num_src=num_src)
    elif form == "sorted":
        graph = graph.coalesce()
    graph = graph.reverse() if reverse else graph
    again = pickle.loads(pickle.dumps(graph, protocol))
    assert again is not graph
    check_graph(again, np.array(graph.src), np.array(graph.dst), graph.num_src, graph.num_dst)
    assert copy.copy(graph) is graph
    assert copy.deepcopy({"g": graph})["g"] is graph


def test_eight_threads_build_the_same_graph():
    rng = np.random.default_rng(0)
    src, dst = rng.integers(0, 5000, (2, 4 * threads.SMALL))
    order = np.argsort(dst, kind="stable")
    start = threading.Barrier(8)
    graphs = [Graph(src, dst) for _ in range(8)]

    def build(i):
        start.wait()
        return [graph.in_edges for graph in graphs[i:] + graphs[:i]], graphs[0].out_edges

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(build, range(8)))
    for i, (rows, out) in enumerate(results):
        assert all(a is b.in_edges for a, b in zip(rows, graphs[i:] + graphs[:i]))
        assert out is graphs[0].out_edges
    for graph in graphs:
        np.testing.assert_array_equal(graph.in_edges.edge_ids, order)
        np.testing.assert_array_equal(graph.in_edges.indices, src[order])


def fails(*args):
    raise KeyError("as planned")


@pytest.mark.skipif(
    numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only, so there is no parallel path"
)
def test_the_gate():
    def parallel(x):
        return "parallel", threads.run(lambda y: "parallel", lambda y: "serial", x, work=threads.SMALL)

    def serial(x):
        return "serial", x

    assert threads.run(parallel, serial, 1, work=threads.SMALL - 1) == ("serial", 1)
    assert threads.run(parallel, serial, 1, work=threads.SMALL) == ("parallel", "serial")
    with pytest.raises(KeyError, match="as planned"):
        threads.run(fails, serial, 1, work=threads.SMALL)
    assert threads.run(parallel, serial, 1, work=threads.SMALL) == ("parallel", "serial")
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        assert threads.run(parallel, serial, 1, work=threads.SMALL) == ("serial", 1)
    finally:
        numba.set_num_threads(before)


def run_script(text, **environment):
    """Standard output of a fresh interpreter, in which warnings are errors, but for the one that speaks of
    forks.
    """
    command = [
        sys.executable,
        "-W",
        "error",
        "-W",
        "ignore:This process:DeprecationWarning",
        "-c",
        textwrap.dedent(text),
    ]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


FORK = """
    import os, signal, threading
    import numpy as np
    from numgraph.runtime import threads
    from numgraph.graph import Graph

    src, dst = np.random.default_rng(0).integers(0, 5000, (2, 4 * threads.SMALL))
    order = np.argsort(dst, kind="stable")
    shared = Graph(src, dst)
    def in_child():
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # a child that hangs must not outlive the test
            try:
                for graph in (Graph(src, dst), shared):
                    assert (graph.in_edges.edge_ids == order).all()
                print(threads.run(lambda: "parallel", lambda: "serial", work=10**6), flush=True)
            except BaseException as error:
                print(repr(error), flush=True)
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

    in_child()                                      # nothing started yet: the child may start a pool of its own
    with threads._gate:
        in_child()                                  # forked while another thread is inside
    held = threading.Thread(target=lambda: (shared._edges._lock.acquire(), taken.set(), done.wait(), shared._edges._lock.release()))
    taken, done = threading.Event(), threading.Event()
    held.start(); taken.wait()
    Graph(src, dst).in_edges
    in_child()                                      # after the pool was started, while another thread builds the same graph
    done.set(); held.join()
    print(threads.run(lambda: "parallel", lambda: "serial", work=10**6))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_after_fork(layer):
    lines = run_script(FORK, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")
    assert lines == ["parallel", "serial", "serial", "parallel"]


@pytest.mark.slow
def test_threads_on_the_workqueue_layer():
    text = """
        from concurrent.futures import ThreadPoolExecutor
        import numpy as np
        from numgraph.graph import Graph
        src, dst = np.random.default_rng(0).integers(0, 5000, (2, 100_000))
        order = np.argsort(dst, kind="stable")
        with ThreadPoolExecutor(8) as pool:
            print(all(pool.map(lambda _: (Graph(src, dst).in_edges.edge_ids == order).all(), range(40))))
    """
    assert run_script(text, NUMBA_THREADING_LAYER="workqueue", NUMBA_NUM_THREADS="4") == ["True"]


def test_import_starts_nothing():
    text = """
        import sys, threading
        import numgraph.graph, numba
        try:
            numba.threading_layer()
        except ValueError:
            print(threading.active_count(), *[name for name in ("scipy.sparse", "networkx", "torch", "dgl") if name in sys.modules])
    """
    assert run_script(text) == ["1"]
