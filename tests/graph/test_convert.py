"""Graphs of other libraries and back: structure, names and attributes, each compared with what the other
library itself says.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
from device import device
from strategies import given, graphs, seeds, settings, st

from numgraph import Graph
from numgraph.graph import naming

__all__ = ["device"]

networkx = pytest.importorskip("networkx", reason="networkx is not installed")


def library(name):
    return pytest.importorskip(name, reason=f"{name} is not installed")


def plain(value):
    """A value without NumPy: what is compared."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def rows_of(graph, edges, names):
    """The edges with their attributes, by names, in any order."""
    sources, targets = names if graph.is_bipartite else (names, names)
    records = [{key: plain(values[e]) for key, values in edges.items()} for e in range(graph.num_edges)]
    return Counter(
        repr((plain(sources[u]), plain(targets[v]), record))
        for u, v, record in zip(graph.src, graph.dst, records)
    )


def fields_for(count, seed):
    """A field of every kind: numbers of several dtypes, text, vectors, anything."""
    rng = np.random.default_rng(seed)
    return {
        "weight": rng.normal(size=count),
        "count": rng.integers(-5, 5, count),
        "flag": rng.integers(0, 2, count).astype(bool),
        "label": [f"λ{i}" for i in rng.integers(0, 3, count)],
        "place": rng.normal(size=(count, 2)),
        "mixed": [[None, "x", 1.5][i] for i in rng.integers(0, 3, count)],
    }


def same_fields(found, given, count):
    given = given if count else {}
    return found.keys() == given.keys() and all(plain(found[key]) == plain(given[key]) for key in given)


def check_round_trip(g, back, nodes, edges, names):
    graph, found_nodes, found_edges, found_names = back
    assert (graph.num_src, graph.num_dst, graph.is_bipartite) == (g.num_src, g.num_dst, g.is_bipartite)
    pairs = (
        zip(nodes, found_nodes, (g.num_src, g.num_dst), strict=True)
        if g.is_bipartite
        else [(nodes, found_nodes, g.num_src)]
    )
    assert all(same_fields(found, given, count) for given, found, count in pairs)
    assert (
        [list(one) for one in found_names] == [list(one) for one in names]
        if g.is_bipartite
        else list(found_names) == list(names)
    )
    given_edges = {
        key: values if isinstance(values, np.ndarray) else naming.as_objects(values)
        for key, values in edges.items()
    }
    assert rows_of(graph, found_edges, found_names) == rows_of(g, given_edges, names)


def belongings(g, seed):
    """Fields of nodes and edges, and names in an order of their own."""
    nodes = fields_for(g.num_src, seed)
    names = [f"n{i * 7 % 101}" for i in range(g.num_src)]
    if g.is_bipartite:
        nodes, names = (
            (nodes, fields_for(g.num_dst, seed + 1)),
            (names, [(i, "dst") for i in range(g.num_dst)]),
        )
    return nodes, fields_for(g.num_edges, seed), names


@given(graphs(), seeds)
@settings(deadline=None, max_examples=60)
def test_networkx_round_trip(g, seed):
    nodes, edges, names = belongings(g, seed)
    G = g.to_networkx(nodes, edges, names)
    pairs = list(zip(g.src.tolist(), g.dst.tolist()))
    assert type(G) is (networkx.DiGraph if len(set(pairs)) == len(pairs) else networkx.MultiDiGraph)
    back = Graph.from_networkx(G, bipartite=g.is_bipartite, data=True)
    if G.is_multigraph():
        assert Counter(back.edges.pop("key").tolist()) == Counter(key for *_, key in G.edges(keys=True))
    check_round_trip(g, back, nodes, edges, names)


@pytest.mark.parametrize(
    "kind", [networkx.Graph, networkx.DiGraph, networkx.MultiGraph, networkx.MultiDiGraph]
)
def test_networkx_attributes(kind):
    """What NetworkX says of each edge and node is what the arrays say, both ways along undirected edges."""
    G = kind()
    G.add_nodes_from(["d", 7, ("a", 1)], colour="red")
    G.nodes[7]["colour"] = "blue"
    for i, (u, v) in enumerate([("d", 7), (7, "d"), ("d", "d"), (("a", 1), "d"), ("d", 7)]):
        G.add_edge(u, v, weight=i / 2, size=[i, i + 1])
    graph, nodes, edges, names = Graph.from_networkx(G, data=True)
    assert names == list(G)
    assert nodes["colour"].tolist() == [G.nodes[name]["colour"] for name in names]
    wanted = list(G.edges(data=True))
    wanted += [] if G.is_directed() else [(v, u, record) for u, v, record in wanted if u != v]
    assert [(names[u], names[v]) for u, v in zip(graph.src, graph.dst)] == [(u, v) for u, v, _ in wanted]
    assert edges["weight"].tolist() == [record["weight"] for *_, record in wanted]
    assert edges["size"].shape == (graph.num_edges, 2)
    assert edges["size"].tolist() == [record["size"] for *_, record in wanted]
    assert ("key" in edges) == G.is_multigraph()
    again = graph.to_networkx(nodes, edges, names, multigraph=G.is_multigraph())
    again = again if G.is_directed() else again.to_undirected()
    assert networkx.utils.graphs_equal(again, G)


def test_networkx_keys():
    G = networkx.MultiDiGraph()
    G.add_edge("a", "b", key="train", km=3)
    G.add_edge("a", "b", key="bus", km=4)
    graph, nodes, edges, names = Graph.from_networkx(G, data=True)
    assert edges["key"].tolist() == ["train", "bus"]
    assert networkx.utils.graphs_equal(graph.to_networkx(nodes, edges, names), G)
    single = Graph([0], [1], 2).to_networkx(edges={"key": ["k"]})
    assert single[0][1] == {"key": "k"}
    assert list(Graph([0], [1], 2).to_networkx(edges={"key": ["k"]}, multigraph=True).edges(keys=True)) == [
        (0, 1, "k")
    ]
    with pytest.raises(ValueError, match="repeats a key between the same two nodes"):
        graph.to_networkx(edges={"key": [0, 0]})
    with pytest.raises(ValueError, match="the graph has parallel edges, which a DiGraph cannot hold"):
        graph.to_networkx(multigraph=False)


def test_networkx_of_two_sets():
    G = networkx.Graph()
    G.add_node("item", bipartite=1, price=3.0)
    G.add_nodes_from(["ann", "ben"], bipartite=0, age=40)
    G.add_node("other", bipartite=1, price=4.0)
    G.add_edge("item", "ben", stars=5)  # stored as item → ben
    G.add_edge("ann", "other", stars=2)
    graph, nodes, edges, names = Graph.from_networkx(G, bipartite=True, data=True)
    assert names == (["ann", "ben"], ["item", "other"])
    assert {(names[0][u], names[1][v]): s for u, v, s in zip(graph.src, graph.dst, edges["stars"])} == {
        ("ben", "item"): 5,
        ("ann", "other"): 2,
    }
    assert nodes[0]["age"].tolist() == [40, 40]
    assert nodes[1]["price"].tolist() == [3.0, 4.0]
    assert Graph.from_networkx(G, bipartite=True).num_dst == 2
    G.add_edge("ann", "ben", stars=1)
    with pytest.raises(
        ValueError, match=re.escape("edge ('ann', 'ben') does not lead from a source to a destination")
    ):
        Graph.from_networkx(G, bipartite=True)
    G.add_node("new")
    with pytest.raises(
        ValueError, match="node 'new' has bipartite=None; it is 0 for sources and 1 for destinations"
    ):
        Graph.from_networkx(G, bipartite=True)


def test_absent_attributes():
    G = networkx.DiGraph([("a", "b"), ("b", "c")])
    G["a"]["b"]["weight"] = 2.0
    G.nodes["a"]["kind"] = "x"
    assert Graph.from_networkx(G).num_edges == 2
    message = re.escape(
        "Graph.from_networkx: edge ('b', 'c') has no 'weight', which others have; say what it is for those "
        "without it,"
    )
    with pytest.raises(ValueError, match=message.replace(r"without\ it,", "without")):
        Graph.from_networkx(G, data=True)
    with pytest.raises(ValueError, match=re.escape("node 'b' has no 'kind', which others have")):
        Graph.from_networkx(G, data=True, fill={"weight": 1})
    _, nodes, edges, _ = Graph.from_networkx(G, data=True, fill={"weight": 1, "kind": None})
    assert edges["weight"].tolist() == [2.0, 1.0]
    assert nodes["kind"].tolist() == ["x", None, None]


COLUMNS = {
    "integers": ([1, 2], np.int64, (2,)),
    "numbers": ([1, 2.5], np.float64, (2,)),
    "bools": ([True, False], np.bool_, (2,)),
    "complex": ([1j, 2], np.complex128, (2,)),
    "float32 scalars": ([np.float32(1), np.float32(2)], np.float32, (2,)),
    "dates": ([np.datetime64("2020-01-01"), np.datetime64("2021-01-01")], np.dtype("M8[D]"), (2,)),
    "vectors": ([[1, 2, 3], [4, 5, 6]], np.int64, (2, 3)),
    "arrays": ([np.ones(2, np.float32), np.zeros(2, np.float32)], np.float32, (2, 2)),
    "ragged": ([[1], [2, 3]], object, (2,)),
    "text": (["a", "bb"], object, (2,)),
    "text and numbers": (["a", 1], object, (2,)),
    "lists of text": ([["a", "b"], ["c", "d"]], object, (2,)),
    "None": ([None, 1], object, (2,)),
    "dicts": ([{"a": 1}, {}], object, (2,)),
    "beyond 64 bits": ([2**64, 1], object, (2,)),
    "beyond 63 bits beside negative": ([2**63, -1], object, (2,)),
}


@pytest.mark.parametrize(("values", "dtype", "shape"), COLUMNS.values(), ids=COLUMNS)
def test_columns_of_values(values, dtype, shape):
    column = naming.as_column(values)
    assert (column.dtype, column.shape) == (dtype, shape)
    for found, wanted in zip(column, values):
        assert plain(found) == plain(wanted)
        assert dtype is not object or found is wanted


# --- SciPy and edge indices ---------------------------------------------------------------------------------


@given(graphs(), seeds)
@settings(deadline=None, max_examples=40)
def test_to_scipy(g, seed):
    w = np.random.default_rng(seed).integers(1, 9, g.num_edges).astype(np.float32)
    dense = np.zeros((g.num_src, g.num_dst))
    np.add.at(dense, (g.src, g.dst), w)
    A = g.to_scipy(w[:, None])
    assert A.dtype == np.float32
    np.testing.assert_array_equal(A.toarray(), dense)
    counts = {"num_src": g.num_src, "num_dst": g.num_dst} if g.is_bipartite else {}
    graph, nodes, edges, names = Graph.from_scipy(A, **counts, data=True)
    merged = g.coalesce()
    assert graph.is_bipartite == g.is_bipartite
    assert set(zip(graph.src, graph.dst)) == set(zip(merged.src, merged.dst))
    assert graph.num_edges == merged.num_edges
    np.testing.assert_array_equal(edges["weight"], dense[graph.src, graph.dst])
    assert edges["weight"].dtype == np.float32
    assert (nodes, names) == (
        (({}, {}), (range(g.num_src), range(g.num_dst))) if g.is_bipartite else ({}, range(g.num_src))
    )
    np.testing.assert_array_equal(graph.to_scipy(edges["weight"]).toarray(), dense)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia", "dok", "lil"])
def test_formats_and_dtypes_of_scipy(form):
    g = Graph([0, 2, 2, 0], [1, 0, 0, 1], num_src=3, num_dst=2)
    assert g.to_scipy(format=form).format == form
    for dtype in (bool, np.int8, np.uint16, np.int64, np.float32, np.float64, np.complex64):
        A = g.to_scipy(np.array([1, 0, 1, 1], dtype), form)
        assert A.dtype == dtype
        np.testing.assert_array_equal(A.toarray(), np.array([[0, 2], [0, 0], [1, 0]]).astype(dtype))
    np.testing.assert_array_equal(g.to_scipy().toarray(), [[0, 2], [0, 0], [2, 0]])
    assert Graph([], [], 0).to_scipy(format="csr").shape == (0, 0)


def test_what_is_made_for_scipy_belongs_to_the_caller():
    g = Graph([1, 0, 1], [2, 1, 0], 3)
    A = g.to_scipy(np.array([1.0, 2.0, 3.0]))
    A.data[:] = 0
    A.eliminate_zeros()
    assert g.src.tolist() == [1, 0, 1]
    assert g.out_edges.indices.tolist() == [1, 2, 0]
    B = scipy.sparse.csr_array(np.eye(2))
    edges = Graph.from_scipy(B, data=True).edges
    edges["weight"][:] = 5
    assert B.data.tolist() == [1, 1]


@given(graphs())
@settings(deadline=None, max_examples=20)
def test_edge_index_round_trip(g):
    ids = g.to_edge_index()
    assert (ids.dtype, ids.shape) == (np.int64, (2, g.num_edges))
    counts = {"num_src": g.num_src, "num_dst": g.num_dst} if g.is_bipartite else {"num_nodes": g.num_src}
    back = Graph.from_edge_index(ids, **counts)
    assert (back.src.tolist(), back.dst.tolist()) == (g.src.tolist(), g.dst.tolist())
    assert repr(back) == repr(g)


def test_edge_index_of_torch():
    torch = library("torch")
    ids = Graph([0, 2], [1, 0], 3).to_edge_index("torch")
    assert ids.dtype == torch.int64
    assert ids.tolist() == [[0, 2], [1, 0]]
    ids += 1  # the caller's own


# --- igraph, PyG, DGL ---------------------------------------------------------------------------------------


@given(graphs(), seeds)
@settings(deadline=None, max_examples=30)
def test_igraph_round_trip(g, seed):
    library("igraph")
    nodes, edges, names = belongings(g, seed)
    edges.pop("mixed")  # igraph has None for what is absent
    for one in nodes if g.is_bipartite else (nodes,):
        one.pop("mixed")
    G = g.to_igraph(nodes, edges, names)
    assert G.get_edgelist() == [
        (u, v + g.is_bipartite * g.num_src) for u, v in zip(g.src.tolist(), g.dst.tolist())
    ]
    back = Graph.from_igraph(G, bipartite=g.is_bipartite, data=True)
    assert (back.graph.src.tolist(), back.graph.dst.tolist()) == (g.src.tolist(), g.dst.tolist())
    check_round_trip(g, back, nodes, edges, names)


def test_undirected_igraph():
    igraph = library("igraph")
    G = igraph.Graph([(0, 1), (1, 1), (2, 1)])
    G.es["weight"] = [1.0, 2.0, 3.0]
    graph, nodes, edges, names = Graph.from_igraph(G, data=True)
    (a, b), loop, (c, d) = G.get_edgelist()
    assert list(zip(graph.src, graph.dst, edges["weight"])) == [
        (a, b, 1),
        (*loop, 2),
        (c, d, 3),
        (b, a, 1),
        (d, c, 3),
    ]
    assert (nodes, names) == ({}, range(3))
    G.es[1]["weight"] = None
    with pytest.raises(
        ValueError, match=re.escape("Graph.from_igraph: edge (1, 1) has no 'weight', which others have")
    ):
        Graph.from_igraph(G, data=True)
    assert Graph.from_igraph(G, data=True, fill={"weight": 0}).edges["weight"].tolist() == [1, 0, 3, 1, 3]


def test_pyg_round_trip():
    torch = library("torch")
    pyg = library("torch_geometric.data")
    edge_index, x = torch.tensor([[0, 2, 2, 0], [1, 0, 0, 0]]), torch.rand(4, 3, requires_grad=True)
    G = pyg.Data(x=x, edge_index=edge_index, edge_attr=torch.arange(4.0), y=torch.tensor([0, 1, 0, 1]))
    G.train_mask = torch.tensor([True, False, True, False])
    graph, nodes, edges, names = Graph.from_pyg(G, data=True)
    assert repr(graph) == "Graph(num_nodes=4, num_edges=4)"
    np.testing.assert_array_equal(nodes["x"], x.detach().numpy())
    assert nodes.keys() >= {"x", "y", "train_mask"}
    assert edges["edge_attr"].tolist() == [0, 1, 2, 3]
    assert names == range(4)
    back = graph.to_pyg({"x": nodes["x"]}, edges)
    assert torch.equal(back.edge_index, edge_index)
    assert torch.equal(back.x, x)
    assert torch.equal(back.edge_attr, G.edge_attr)
    assert back.num_nodes == 4
    with pytest.raises(ValueError, match="nodes and edges both have 'w'"):
        graph.to_pyg({"w": np.ones(4)}, {"w": np.ones(4)})
    with pytest.raises(
        TypeError, match=r"Graph\.to_pyg: 'name' has dtype object, which tensors do not have; leave it out"
    ):
        graph.to_pyg({"name": ["a", "b", "c", "d"]})
    with pytest.raises(TypeError, match=re.escape("for this write Graph.from_pyg(…)")):
        Graph.from_edge_index(G)
    with pytest.raises(ValueError, match="G has no edge_index"):
        Graph.from_pyg(pyg.Data(x=x))


def test_pyg_of_several_types():
    torch = library("torch")
    pyg = library("torch_geometric.data")
    G = pyg.HeteroData()
    G["user"].x, G["item"].x = torch.rand(3, 2), torch.rand(2, 5)
    G["user", "buys", "item"].edge_index = torch.tensor([[0, 2], [1, 0]])
    G["user", "buys", "item"].stars = torch.tensor([5, 1])
    graph, nodes, edges, names = Graph.from_pyg(G, data=True)
    assert repr(graph) == "Graph(num_src=3, num_dst=2, num_edges=2)"
    np.testing.assert_array_equal(nodes[1]["x"], G["item"].x)
    assert edges["stars"].tolist() == [5, 1]
    assert names == (range(3), range(2))
    back = graph.to_pyg(nodes, edges, edge_type=("user", "buys", "item"))
    assert torch.equal(back["user", "buys", "item"].edge_index, G["user", "buys", "item"].edge_index)
    assert torch.equal(back["item"].x, G["item"].x)
    assert back["user"].num_nodes == 3
    G["user", "knows", "user"].edge_index = torch.tensor([[0], [1]])
    assert repr(Graph.from_pyg(G, ("user", "knows", "user"))) == "Graph(num_nodes=3, num_edges=1)"
    with pytest.raises(
        ValueError,
        match=re.escape("G has 2 edge types; choose one, as in edge_type=('user', 'buys', 'item')"),
    ):
        Graph.from_pyg(G)
    with pytest.raises(ValueError, match="unknown edge_type"):
        Graph.from_pyg(G, ("user", "bus", "item"))


class StandIn:
    """A graph with DGL's names; `rows` are its formats where it is restricted to one."""

    is_block = False

    def __init__(self, src, dst, counts, rows=None):
        self.ends, self.counts, self.rows = (np.asarray(src), np.asarray(dst)), counts, rows
        self.edata, self.srcdata, self.dstdata = {}, {}, {}
        self.canonical_etypes = [("user", "buys", "item")] if len(counts) == 2 else [("_N", "_E", "_N")]
        if len(counts) == 1:
            self.ndata = self.srcdata = self.dstdata

    def formats(self):
        return {"created": [self.rows or "coo"], "not created": []}

    def edges(self, order):
        assert order == "eid"
        assert self.rows is None, "a restricted graph has no columns"
        return self.ends

    def adj_tensors(self, kind):
        assert kind == self.rows
        rows, others = self.ends if kind == "csr" else self.ends[::-1]
        order = np.argsort(rows, kind="stable")
        return (
            np.searchsorted(rows[order], np.arange(self.counts[0 if kind == "csr" else -1] + 1)),
            others[order],
            order,
        )

    def num_nodes(self, kind="_N"):
        return self.counts[-1] if kind == "item" else self.counts[0]


@pytest.mark.parametrize("rows", [None, "csr", "csc"])
def test_dgl_fields(rows):
    """Edge data follow the edge ids, whatever the formats of the graph are."""
    G = StandIn([2, 0, 1, 0], [0, 1, 2, 2], [3], rows)
    G.ndata["x"], G.edata["w"] = np.eye(3), np.array([1.0, 2.0, 3.0, 4.0])
    graph, nodes, edges, names = Graph.from_dgl(G, data=True)
    assert list(zip(graph.src, graph.dst, edges["w"])) == [(2, 0, 1.0), (0, 1, 2.0), (1, 2, 3.0), (0, 2, 4.0)]
    np.testing.assert_array_equal(nodes["x"], np.eye(3))
    assert names == range(3)
    B = StandIn([2, 0], [0, 1], [3, 2], rows)
    B.srcdata["x"], B.dstdata["y"] = np.arange(3), np.arange(2)
    graph, nodes, _, names = Graph.from_dgl(B, data=True)
    assert repr(graph) == "Graph(num_src=3, num_dst=2, num_edges=2)"
    assert (nodes[0]["x"].tolist(), nodes[1]["y"].tolist()) == ([0, 1, 2], [0, 1])
    assert names == (range(3), range(2))


def test_to_dgl(monkeypatch):
    library("torch")
    monkeypatch.setitem(sys.modules, "dgl", None)
    with pytest.raises(ModuleNotFoundError, match=r"Graph\.to_dgl: DGL is not installed"):
        Graph([0], [1], 2).to_dgl()
    made = SimpleNamespace(
        graph=lambda ends, num_nodes: StandIn(*ends, [num_nodes]),
        heterograph=lambda ends, num_nodes_dict: StandIn(
            *ends["source", "to", "target"], list(num_nodes_dict.values())
        ),
    )
    monkeypatch.setitem(sys.modules, "dgl", made)
    for g in (Graph([2, 0, 0], [1, 0, 0], 4), Graph([2, 0, 0], [1, 0, 0], num_src=3, num_dst=2)):
        nodes = {"x": np.arange(g.num_src)}
        nodes = (nodes, {"y": np.arange(g.num_dst)}) if g.is_bipartite else nodes
        graph, found, edges, _ = Graph.from_dgl(
            g.to_dgl(nodes, {"w": np.array([1.5, 2.0, 0.0], np.float32)}), data=True
        )
        assert (graph.src.tolist(), graph.dst.tolist(), repr(graph)) == (
            g.src.tolist(),
            g.dst.tolist(),
            repr(g),
        )
        assert edges["w"].dtype == np.float32
        assert edges["w"].tolist() == [1.5, 2, 0]
        for one, wanted in zip(found if g.is_bipartite else [found], nodes if g.is_bipartite else [nodes]):
            assert {key: values.tolist() for key, values in one.items()} == {
                key: values.tolist() for key, values in wanted.items()
            }


# --- tables -------------------------------------------------------------------------------------------------


def structured(columns):
    table = np.empty(
        len(columns["w"]),
        [(name, object if isinstance(values[0], str) else float) for name, values in columns.items()],
    )
    for name, values in columns.items():
        table[name] = values
    return table


class Exporter:
    """A table that is known only to export itself as an Arrow stream."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


TABLES = {
    "pandas": lambda columns: library("pandas").DataFrame(columns),
    "pandas, Arrow inside": lambda columns: (
        library("pandas").DataFrame(columns).convert_dtypes(dtype_backend="pyarrow")
    ),
    "polars": lambda columns: library("polars").DataFrame(columns),
    "arrow": lambda columns: library("pyarrow").table(columns),
    "arrow stream": lambda columns: Exporter(library("pyarrow").table(columns)),
    "lists": dict,
    "structured array": structured,
}
EDGES = {"from": ["bo", "al", "bo", "cy"], "to": ["al", "al", "dé", "bo"], "w": [1.5, 2.0, 0.25, 4.0]}


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
def test_tables(make):
    table = make(EDGES)
    graph, nodes, edges, names = Graph.from_edge_list(table)
    assert list(names) == ["bo", "al", "dé", "cy"]
    assert (nodes, list(edges)) == ({}, ["w"])
    assert graph.src.tolist() == [0, 1, 0, 3]
    assert graph.dst.tolist() == [1, 1, 2, 0]
    np.testing.assert_array_equal(edges["w"], EDGES["w"])
    assert edges["w"].dtype == np.float64
    assert repr(Graph.from_edge_list(table, data=False)) == "Graph(num_nodes=4, num_edges=4)"
    assert Graph.from_edge_list(table, "to", "from", None).graph.src.tolist() == [0, 0, 2, 1]
    assert Graph.from_edge_list(table, "to", "from", None).edges == {}


@pytest.mark.parametrize(
    "make",
    [TABLES[name] for name in ("pandas", "polars", "arrow", "lists")],
    ids=["pandas", "polars", "arrow", "lists"],
)
@given(graphs(), seeds)
@settings(deadline=None, max_examples=15)
def test_table_round_trip(make, g, seed):
    _, edges, names = belongings(g, seed)
    names = [[str(name) for name in one] for one in names] if g.is_bipartite else names
    edges.pop("mixed")  # a column is of one type
    table = (
        make(g.to_edge_list(edges, names, source="from", target="to"))
        if g.num_edges
        else {"from": [], "to": []}
    )
    graph, _, found, known = Graph.from_edge_list(table, names=names, bipartite=g.is_bipartite)
    assert (graph.src.tolist(), graph.dst.tolist(), repr(graph)) == (g.src.tolist(), g.dst.tolist(), repr(g))
    assert [list(one) for one in known] == [list(one) for one in names]
    assert same_fields(found, edges, g.num_edges)
    numbered = Graph.from_edge_list(make(g.to_edge_list()), bipartite=g.is_bipartite)
    sources, targets = numbered.names if g.is_bipartite else (numbered.names, numbered.names)
    assert (sources[numbered.graph.src].tolist(), targets[numbered.graph.dst].tolist()) == (
        g.src.tolist(),
        g.dst.tolist(),
    )


@pytest.mark.parametrize(
    "make",
    [TABLES[name] for name in ("pandas", "polars", "arrow", "lists")],
    ids=["pandas", "polars", "arrow", "lists"],
)
def test_tables_of_every_kind_of_name(make):
    for names in ([30, 10, 20], [3.5, -1.0, 2.0], ["c", "a", "b"]):
        rows = {
            "u": [names[0], names[1], names[0]],
            "v": [names[1], names[1], names[2]],
            "w": [1, 2, 3],
            "k": ["x", "y", "z"],
        }
        graph, _, edges, found = Graph.from_edge_list(make(rows), edge_attr=["w", "k"])
        assert found.tolist() == names
        assert (graph.src.tolist(), graph.dst.tolist()) == ([0, 1, 0], [1, 1, 2])
        assert edges["w"].dtype == np.int64
        assert edges["k"].tolist() == ["x", "y", "z"]
    attributes = Graph.from_edge_list(
        make({"u": [1], "v": [2], "collect": [3], "columns": [4], "column_names": [5]})
    )
    assert list(attributes.edges) == ["collect", "columns", "column_names"]
    mixed = Graph.from_edge_list(make({"u": [1, 2], "v": ["1", "2"]}))
    assert mixed.names.tolist() == [1, "1", 2, "2"]
    chosen = Graph.from_edge_list(make({"w": [0.5], "target": ["b"], "source": ["a"]}))
    assert (chosen.names.tolist(), list(chosen.edges)) == (["a", "b"], ["w"])
    empty = Graph.from_edge_list(make({"u": [], "v": [], "w": []}))
    assert repr(empty.graph) == "Graph(num_nodes=0, num_edges=0)"
    assert len(empty.names) == len(empty.edges["w"]) == 0


@pytest.mark.parametrize(
    "make",
    [TABLES[name] for name in ("pandas", "polars", "arrow", "lists")],
    ids=["pandas", "polars", "arrow", "lists"],
)
def test_tables_with_gaps(make):
    with pytest.raises(ValueError, match=re.escape("Graph.from_edge_list: column 'v'[1] is")):
        Graph.from_edge_list(make({"u": ["a", "b"], "v": ["b", None]}))
    with pytest.raises(ValueError, match=re.escape("Graph.from_edge_list: column 'u'[2] is")):
        Graph.from_edge_list(make({"u": [1, 2, None], "v": [1, 2, 3]}))
    edges = Graph.from_edge_list(make({"u": [1, 2], "v": [1, 2], "w": [1, None], "k": ["x", None]})).edges
    np.testing.assert_array_equal(edges["w"], [1, np.nan])
    assert edges["k"][0] == "x"


@pytest.mark.parametrize(
    "ends",
    [
        "source target",
        "SRC dst",
        "from to",
        "u v",
        "Source_ID Target_ID",
        "source destination",
        "From Node To Node",
        "src_id dest_id",
    ],
)
def test_tables_name_the_ends_as_usual(ends):
    half = len(ends.split()) // 2
    source, target = (" ".join(part) for part in (ends.split()[:half], ends.split()[half:]))
    rows = {"weight": [0.5, 1.0], 7: ["k", "l"], target: ["b", "a"], "id": [3, 4], source: ["a", "c"]}
    graph, _, edges, names = Graph.from_edge_list(rows)
    assert (graph.src.tolist(), graph.dst.tolist(), names.tolist()) == ([0, 2], [1, 0], ["a", "b", "c"])
    assert list(edges) == ["weight", 7, "id"]
    assert Graph.from_edge_list(rows, 7, "id").names.tolist() == ["k", 3, "l", 4]
    assert Graph.from_edge_list(rows, target=7).names.tolist() == ["a", "k", "c", "l"]


def test_pandas_has_several_kinds_of_nothing():
    pandas = library("pandas")
    for dtype in ("Int64", "float64", "Float32", "string", "object", "category", "datetime64[ns]"):
        values = [3, 4, None] if dtype[0] in "Iif" else ["2020", "2021", None]
        column = pandas.Series(values).astype(dtype)
        with pytest.raises(ValueError, match=re.escape("column 'u'[2] is")):
            Graph.from_edge_list(pandas.DataFrame({"u": column, "v": [1, 2, 3]}))
    weights = pandas.Series([1, None, 3]).astype("Int64")
    edges = Graph.from_edge_list(pandas.DataFrame({"u": [1, 2, 3], "v": [1, 2, 3], "w": weights})).edges
    np.testing.assert_array_equal(edges["w"], [1, np.nan, 3])


def test_tables_with_vectors():
    pyarrow, polars = library("pyarrow"), library("polars")
    vectors = pyarrow.array([[1.0, 2.0], [3.0, 4.0]], pyarrow.list_(pyarrow.float64(), 2))
    for table in (
        pyarrow.table({"u": [1, 2], "v": [2, 1], "x": vectors}),
        polars.DataFrame(
            {"u": [1, 2], "v": [2, 1], "x": [[1.0, 2.0], [3.0, 4.0]]},
            schema_overrides={"x": polars.Array(polars.Float64, 2)},
        ),
        polars.DataFrame({"u": [1, 2], "v": [2, 1], "x": [[1.0, 2.0], [3.0, 4.0]]}),
    ):
        np.testing.assert_array_equal(Graph.from_edge_list(table).edges["x"], [[1.0, 2.0], [3.0, 4.0]])


def test_names_directions_and_two_sets_of_a_table():
    names = ["zoe", "cy", "bo", "al", "dé"]
    graph, _, edges, found = Graph.from_edge_list(EDGES, names=names, directed=False)
    assert graph.num_nodes == 5
    assert list(found) == names
    wanted = list(zip(EDGES["from"], EDGES["to"], EDGES["w"]))
    wanted += [(v, u, w) for u, v, w in wanted if u != v]
    assert [(names[u], names[v], w) for u, v, w in zip(graph.src, graph.dst, edges["w"])] == wanted
    two = Graph.from_edge_list(EDGES, bipartite=True)
    assert [one.tolist() for one in two.names] == [["bo", "al", "cy"], ["al", "dé", "bo"]]
    assert (two.graph.src.tolist(), two.graph.dst.tolist()) == ([0, 1, 0, 2], [0, 0, 1, 2])
    assert two.graph.is_bipartite
    two = Graph.from_edge_list(EDGES, bipartite=True, names=(names, ["bo", "al", "dé"]))
    assert (two.graph.num_src, two.graph.num_dst) == (5, 3)
    assert two.graph.src.tolist() == [2, 3, 2, 1]


# --- names --------------------------------------------------------------------------------------------------

if hasattr(st, "lists"):
    TEXT = st.text(st.sampled_from("ab\0é🙂"), max_size=4)
    NAMES = st.one_of(
        st.lists(TEXT),
        st.lists(st.text("x", min_size=60, max_size=70)),
        st.lists(st.integers(-3, 3)),
        st.lists(st.integers(-(2**63), 2**63 - 1)),
        st.lists(st.sampled_from([0.0, -0.0, 1.5, np.inf, -np.inf])),
        st.lists(st.one_of(TEXT, st.integers(0, 3), st.booleans(), st.tuples(st.integers(0, 1), TEXT))),
    )
else:
    NAMES = None


@given(NAMES)
@settings(deadline=None, max_examples=150)
def test_names_are_numbered_as_a_dict_does(names):
    numbers = {}
    wanted = [numbers.setdefault(name, len(numbers)) for name in names]
    ids, firsts = naming.numbered("op", "names", naming.as_names("op", "names", names))
    assert ids.tolist() == wanted
    assert [names[i] for i in firsts] == list(numbers)


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.int64, np.float32, np.dtype("M8[s]"), "U5", object])
def test_many_names(dtype):
    """More of them than the first table of the hash has slots for."""
    drawn = np.random.default_rng(0).integers(0, 100 if dtype is np.int8 else 4000, 20_000)
    names = drawn.astype(str).astype(object) if dtype is object else drawn.astype(dtype)
    ids, firsts = naming.numbered("op", "names", naming.as_names("op", "names", names))
    wanted, first, inverse = np.unique(drawn, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    np.testing.assert_array_equal(ids, rank[inverse])
    np.testing.assert_array_equal(firsts, np.sort(first))
    assert len(firsts) == len(wanted)


# --- errors -------------------------------------------------------------------------------------------------


def igraph_graph():
    return library("igraph").Graph([(0, 1)])


def frame():
    return library("pandas").DataFrame({"a": ["x"], "b": ["y"], "weight": [1.0]})


SQUARE = Graph([0, 1], [1, 0], 3)
ERRORS = {
    "igraph to networkx": (
        lambda: Graph.from_networkx(igraph_graph()),
        TypeError,
        "G is an igraph.Graph",
        "for this write Graph.from_igraph(…)",
    ),
    "networkx to igraph": (
        lambda: Graph.from_igraph(networkx.Graph()),
        TypeError,
        "G is a networkx.Graph",
        "Graph.from_networkx(…)",
    ),
    "networkx to scipy": (
        lambda: Graph.from_scipy(networkx.Graph()),
        TypeError,
        "A is a networkx.Graph",
        "Graph.from_networkx(…)",
    ),
    "networkx to pyg": (
        lambda: Graph.from_pyg(networkx.Graph()),
        TypeError,
        "G is a networkx.Graph",
        "Graph.from_networkx(…)",
    ),
    "networkx to Graph": (
        lambda: Graph(networkx.Graph()),
        TypeError,
        "src is a networkx.Graph",
        "Graph.from_networkx(…)",
    ),
    "table to networkx": (
        lambda: Graph.from_networkx(frame()),
        TypeError,
        "G is a pandas.DataFrame",
        "Graph.from_edge_list(…)",
    ),
    "scipy to dgl": (
        lambda: Graph.from_dgl(scipy.sparse.eye_array(2)),
        TypeError,
        "G is a dia_array",
        "Graph.from_scipy(…)",
    ),
    "networkx to a table": (
        lambda: Graph.from_edge_list(networkx.Graph()),
        TypeError,
        "the table is a networkx.Graph",
        "from_networkx(…)",
    ),
    "an array": (
        lambda: Graph.from_edge_list(np.ones((2, 2))),
        TypeError,
        "the table is a ndarray",
        "give a table of pandas, Polars or Arrow",
    ),
    "a lazy frame": (
        lambda: Graph.from_edge_list(library("polars").LazyFrame({"a": [1], "b": [2]})),
        TypeError,
        "polars.LazyFrame, which has not been computed",
        "give table.collect()",
    ),
    "floats as ends": (
        lambda: Graph.from_edge_list({"weight": [0.5], "a": ["x"], "b": ["y"]}),
        ValueError,
        "column 'weight', one of the first two, has float64 numbers, which are rarely names of nodes",
        "name the columns, source= and target=, among ['weight', 'a', 'b']",
    ),
    "one column twice": (
        lambda: Graph.from_edge_list({"a": ["x"], "b": ["y"]}, source="b"),
        ValueError,
        "source and target would both be column 'b'",
        "name both",
    ),
    "one column": (
        lambda: Graph.from_edge_list({"a": [1]}),
        ValueError,
        "the table has columns ['a']",
        "it needs two",
    ),
    "an unknown source": (
        lambda: Graph.from_edge_list(frame(), "aa"),
        ValueError,
        "unknown column source = 'aa'",
        "'b', 'weight', did you mean 'a'?",
    ),
    "an unknown attribute": (
        lambda: Graph.from_edge_list(frame(), edge_attr="wieght"),
        ValueError,
        "unknown column 'wieght'",
        "did you mean 'weight'?",
    ),
    "two columns of a name": (
        lambda: Graph.from_edge_list(library("pandas").DataFrame([[1, 2, 3]], columns=["a", "b", "b"])),
        ValueError,
        "the table has two columns 'b'",
        "rename one",
    ),
    "columns of two lengths": (
        lambda: Graph.from_edge_list({"a": [1], "b": [1, 2]}),
        ValueError,
        "column 'a' has 1 rows, 'b' has 2",
        "a row is",
    ),
    "data of another length": (
        lambda: Graph.from_edge_list({"a": [1], "b": [1], "c": []}),
        ValueError,
        "column 'c' has 0 rows, 'a' has 1",
        "give",
    ),
    "a strange name": (
        lambda: Graph.from_edge_list(frame(), names=["x", "z"]),
        ValueError,
        "column 'b'[0] is 'y', which is not in names",
        "names has all nodes",
    ),
    "names twice": (
        lambda: Graph.from_edge_list(frame(), names=["x", "y", "x"]),
        ValueError,
        "names[0] and names[2] are both 'x'",
        "its own name",
    ),
    "a list as a name": (
        lambda: Graph.from_edge_list({"a": ["x", [1]], "b": [1, 2]}),
        TypeError,
        "is [1], which cannot be hashed",
        "names are",
    ),
    "both ways between two sets": (
        lambda: Graph.from_edge_list(EDGES, bipartite=True, directed=False),
        ValueError,
        "directed=False was given beside bipartite=True",
        "names is a pair",
    ),
    "names of one set": (
        lambda: Graph.from_edge_list(EDGES, bipartite=True, names=["a", "b", "c"]),
        ValueError,
        "names has 3 entries beside bipartite=True",
        "names is a pair",
    ),
    "equal names": (
        lambda: SQUARE.to_networkx(names=["a", "b", "a"]),
        ValueError,
        "names[0] and names[2] are both 'a'",
        "its own name",
    ),
    "text as names": (
        lambda: SQUARE.to_networkx(names="abc"),
        TypeError,
        "names is a str",
        "the name of each node, by its id",
    ),
    "a number as fill": (
        lambda: Graph.from_networkx(networkx.Graph(), fill=1),
        TypeError,
        "fill is an int",
        "as in fill={'weight': 1}",
    ),
    "few names": (
        lambda: SQUARE.to_networkx(names=["a"]),
        ValueError,
        "names has 1 entries for 3 nodes",
        "give one for each node",
    ),
    "fields of another length": (
        lambda: SQUARE.to_networkx(edges={"w": [1.0]}),
        ValueError,
        "edges['w'] has shape [1], there are 2 edges",
        "a row",
    ),
    "an array as fields": (
        lambda: SQUARE.to_networkx(np.ones(3)),
        TypeError,
        "nodes is a ndarray",
        "give arrays by name, as in nodes={'x': x}",
    ),
    "fields of one set": (
        lambda: Graph([0], [0], num_src=1, num_dst=1).to_networkx({"x": [1]}),
        TypeError,
        "nodes is a dict and the graph is bipartite",
        "give a pair",
    ),
    "weights of another shape": (
        lambda: SQUARE.to_scipy(np.ones(3)),
        ValueError,
        "weights has shape [3], the graph has 2 edges",
        "a number for each",
    ),
    "weights of half": (
        lambda: SQUARE.to_scipy(np.ones(2, np.float16)),
        TypeError,
        "weights is float16",
        "weights.astype(np.float32)",
    ),
    "a field named as an end": (
        lambda: SQUARE.to_edge_list({"source": [1, 2]}),
        ValueError,
        "edges has 'source', the column of",
        "source='from'",
    ),
    "a format": (
        lambda: SQUARE.to_scipy(format="crs"),
        ValueError,
        "unknown format 'crs'",
        "did you mean 'csr'?",
    ),
    "a library": (
        lambda: SQUARE.to_edge_index("tf"),
        ValueError,
        "unknown library 'tf'",
        "choose from 'numpy', 'torch'",
    ),
}


@pytest.mark.parametrize(("call", "kind", "problem", "fix"), ERRORS.values(), ids=ERRORS)
def test_errors(call, kind, problem, fix):
    with pytest.raises(kind) as caught:
        call()
    assert problem in str(caught.value)
    assert fix in str(caught.value)


def test_a_graph_on_a_device_is_given_from_the_host(device):
    g = Graph([0, 2, 2], [1, 0, 0], 3)
    there = g.to("cuda")
    assert type(there.to_edge_index()) is np.ndarray
    np.testing.assert_array_equal(there.to_edge_index(), g.to_edge_index())
    w = np.array([1.0, 2.0, 4.0], np.float32)
    np.testing.assert_array_equal(there.to_scipy(device.asarray(w)).toarray(), g.to_scipy(w).toarray())
    assert networkx.utils.graphs_equal(
        there.to_networkx(edges={"w": device.asarray(w)}, multigraph=True), g.to_networkx(edges={"w": w})
    )
