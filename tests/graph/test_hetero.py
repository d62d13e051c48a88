"""HeteroGraph: names, counts, parts and wholes, other libraries, errors."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

import numgraph as ng
from numgraph import HeteroGraph

WRITES, CITES, AT = ("author", "writes", "paper"), ("paper", "cites", "paper"), ("paper", "at", "venue")
EDGES = {
    CITES: ([0, 2, 2, 3], [1, 1, 0, 3]),
    WRITES: ([0, 0, 1, 2, 0], [0, 1, 1, 3, 1]),
    AT: ([3, 0], [0, 1]),
}


def academic(**counts):
    return HeteroGraph(EDGES, {"author": 4, "paper": 5, "venue": 2, **counts})


def edges_of(h):
    return {relation: sorted(zip(graph.src.tolist(), graph.dst.tolist())) for relation, graph in h.items()}


def test_types_are_sorted_and_relations_found_by_name():
    h = academic(city=3)
    assert h.node_types == ["author", "city", "paper", "venue"]
    assert h.edge_types == [WRITES, AT, CITES]
    assert h.num_nodes == {"author": 4, "city": 3, "paper": 5, "venue": 2}
    assert h.num_edges == {WRITES: 5, AT: 2, CITES: 4}
    for name in ("writes", WRITES, list(WRITES)):
        assert h[name] is h[WRITES]
    assert h["author", "writes", "paper"].is_bipartite
    assert h["writes"].num_src == 4
    assert h["cites"].num_nodes == 5
    assert h["writes"].src.tolist() == EDGES[WRITES][0]
    assert list(h) == h.edge_types
    assert len(h) == 3
    assert "writes" in h
    assert CITES in h
    assert "reads" not in h
    assert h.canonical("at") == AT


def test_counts_are_inferred_over_all_relations():
    h = HeteroGraph(
        {("a", "r", "b"): ([4], [0]), ("b", "s", "a"): ([2, 0], [1, 5]), ("b", "t", "b"): ([], [])}
    )
    assert h.num_nodes == {"a": 6, "b": 3}
    assert h["t"].num_nodes == 3


def test_graphs_are_taken_as_they_are():
    cites, writes = ng.Graph([0], [1], 5), ng.Graph([0], [1], num_src=2, num_dst=5)
    h = HeteroGraph({WRITES: writes, CITES: cites})
    assert h["writes"] is writes
    assert h["cites"] is cites
    with pytest.raises(ValueError, match="the graph has 5 nodes of type 'paper', elsewhere there are 6"):
        HeteroGraph({CITES: cites}, {"paper": 6})
    with pytest.raises(ValueError, match="give one of two sets"):
        HeteroGraph({WRITES: cites})
    with pytest.raises(ValueError, match="give one of one set"):
        HeteroGraph({CITES: writes})


def test_copies_and_pickles():
    h = academic()
    assert copy.copy(h) is h
    assert copy.deepcopy(h) is h
    back = pickle.loads(pickle.dumps(h))
    assert repr(back) == repr(h)
    assert all(
        np.array_equal(back[one].src, h[one].src) and np.array_equal(back[one].dst, h[one].dst) for one in h
    )


def test_repr_says_what_it_is():
    assert (
        repr(HeteroGraph({CITES: ([0], [1])})) == "HeteroGraph(paper: 2 nodes; paper -cites-> paper: 1 edge)"
    )
    assert repr(HeteroGraph({}, {"a": 1})) == "HeteroGraph(a: 1 node; )"


def test_metagraph():
    h = academic()
    meta = h.metagraph
    assert [(h.node_types[u], h.node_types[v]) for u, v in zip(meta.src, meta.dst)] == [
        (a, b) for a, _, b in h.edge_types
    ]


def test_reverse_relations_and_loops():
    h = academic()
    turned = h.reverse()
    assert turned.edge_types == [
        ("paper", "cites", "paper"),
        ("paper", "writes", "author"),
        ("venue", "at", "paper"),
    ]
    assert turned["writes"].is_reverse_of(h["writes"])
    both = h.add_reverse_relations()
    assert len(both) == 6
    assert both["rev_cites"].src.tolist() == EDGES[CITES][1]
    with pytest.raises(ValueError, match=r"there is a relation .* already"):
        both.add_reverse_relations()
    looped = h.add_self_loops()
    assert looped.num_edges == {**h.num_edges, CITES: 4 + 5}
    named = h.add_self_loops("self")
    assert named["venue", "self", "venue"].dst.tolist() == [0, 1]
    assert named["cites"] is h["cites"]


def test_parts():
    h = academic()
    assert h.node_type_subgraph(["paper", "author"]).edge_types == [WRITES, CITES]
    only = h.edge_type_subgraph(["at"])
    assert only.num_nodes == {"paper": 5, "venue": 2}
    assert h.edge_type_subgraph("at").edge_types == h.edge_type_subgraph(AT).edge_types == [AT]
    part = h.subgraph({"paper": [3, 1], "author": [2, 1]})
    assert part.num_nodes == {"author": 2, "paper": 2, "venue": 2}
    assert edges_of(part) == {WRITES: [(0, 0), (1, 1)], AT: [(0, 0)], CITES: [(0, 0)]}


def test_into_has_the_sources_of_each_relation():
    h = academic()
    into = h.into("paper")
    assert into.relations == (WRITES, CITES)
    assert (into.graph.num_src, into.graph.num_dst) == (4 + 5, 5)
    for k, relation in enumerate(into.relations):
        edges = slice(*into.edge_offsets[k : k + 2])
        assert (into.graph.src[edges] - into.src_offsets[k]).tolist() == h[relation].src.tolist()
        assert into.graph.dst[edges].tolist() == h[relation].dst.tolist()
    assert h.into("paper") is into
    assert h.into("author").graph.num_edges == 0


def test_homogeneous_and_back():
    h = academic(city=3)
    whole = h.to_homogeneous()
    assert whole.node_offsets.tolist() == [0, 4, 7, 12, 14]
    assert whole.edge_type.tolist() == [0] * 5 + [1] * 2 + [2] * 4
    for k, relation in enumerate(h.edge_types):
        edges = whole.edge_type == k
        start, end = (whole.node_offsets[h.node_types.index(kind)] for kind in (relation[0], relation[2]))
        assert (whole.graph.src[edges] - start).tolist() == h[relation].src.tolist()
        assert (whole.graph.dst[edges] - end).tolist() == h[relation].dst.tolist()
    back = HeteroGraph.from_homogeneous(
        whole.graph, whole.node_type, whole.edge_type, h.node_types, h.edge_types
    )
    assert back.num_nodes == h.num_nodes
    assert edges_of(back) == edges_of(h)


def test_types_in_any_order_are_taken_apart():
    g = ng.Graph([0, 1, 3, 2], [1, 3, 0, 0], 4)  # nodes b, a, b, a
    h = HeteroGraph.from_homogeneous(
        g,
        [1, 0, 1, 0],
        [1, 2, 0, 3],
        ["a", "b"],
        [("a", "r", "b"), ("b", "r", "a"), ("a", "s", "a"), ("b", "t", "b")],
    )
    assert edges_of(h) == {
        ("a", "r", "b"): [(1, 0)],
        ("a", "s", "a"): [(0, 1)],
        ("b", "r", "a"): [(0, 0)],
        ("b", "t", "b"): [(1, 0)],
    }
    with pytest.raises(ValueError, match=r"edge 1 is of .* node 3 is of type 'a'; it must be 'b'"):
        HeteroGraph.from_homogeneous(
            g, [1, 0, 1, 0], [1, 0, 0, 2], ["a", "b"], [("a", "r", "b"), ("b", "r", "a"), ("b", "t", "b")]
        )
    with pytest.raises(IndexError, match=r"node_type\[2\] is 5"):
        HeteroGraph.from_homogeneous(g, [1, 0, 5, 0], [0] * 4, ["a", "b"], [("a", "r", "b")])
    with pytest.raises(ValueError, match="edge_type has 3 entries"):
        HeteroGraph.from_homogeneous(g, [1, 0, 1, 0], [0] * 3, ["a", "b"], [("a", "r", "b")])


LONELY = HeteroGraph({WRITES: ([0], [1])}, {"alone": 2})  # in no relation
ERRORS = [
    (lambda: HeteroGraph([0, 1]), TypeError, "edges is a list; give a dict"),
    (lambda: HeteroGraph({"writes": ([0], [1])}), TypeError, "a relation is 'writes'; name it by a triple"),
    (
        lambda: HeteroGraph({WRITES: [0, 1, 2]}),
        TypeError,
        r"give two arrays of ids, \(src, dst\), or a Graph",
    ),
    (lambda: HeteroGraph({WRITES: ([0, 1], [0])}), ValueError, r"'writes'.*src has 2 entries and dst has 1"),
    (
        lambda: HeteroGraph({WRITES: ([0, 7], [0, 0])}, {"author": 3}),
        IndexError,
        r"of \('author', 'writes', 'paper'\): .*src\[1\] is 7",
    ),
    (lambda: HeteroGraph({WRITES: ([0.5], [0])}), TypeError, "'writes'.*src is float64"),
    (lambda: HeteroGraph(EDGES, [4, 5, 2]), TypeError, "num_nodes is a list; give a dict"),
    (lambda: HeteroGraph(EDGES, {"author": -1}), ValueError, r"num_nodes\['author'\] is -1"),
    (lambda: academic()["writs"], ValueError, "there is no relation 'writs'.*did you mean 'writes'"),
    (lambda: academic()["author", "cites", "paper"], ValueError, "there is no relation .*did you mean"),
    (
        lambda: HeteroGraph({("a", "r", "b"): ([], []), ("b", "r", "a"): ([], [])})["r"],
        ValueError,
        "2 relations are called 'r'; name one",
    ),
    (lambda: academic().into("papers"), ValueError, "unknown node type 'papers'.*did you mean 'paper'"),
    (
        lambda: academic().subgraph({"paper": [1, 1]}),
        ValueError,
        r"nodes\['paper'\]\[0\] and .*both 1; give each node once",
    ),
    (lambda: LONELY.subgraph({"alone": [0, 0]}), ValueError, r"nodes\['alone'\]\[1\] are both 0"),
    (
        lambda: LONELY.subgraph({"alone": [1, 2]}),
        IndexError,
        r"nodes\['alone'\]\[1\] is 2, num_nodes\['alone'\] is 2",
    ),
    (
        lambda: LONELY.subgraph({"alone": [True, False]}),
        TypeError,
        r"nodes\['alone'\] is bool.*np.flatnonzero",
    ),
    (lambda: academic().add_reverse_relations(3), TypeError, "add_reverse_relations: prefix is 3; give text"),
    (
        lambda: academic().num_node,
        AttributeError,
        "a HeteroGraph has no 'num_node', did you mean 'num_nodes'",
    ),
    (lambda: HeteroGraph.from_pyg(SimpleNamespace()), TypeError, "HeteroData"),
]


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS)
def test_errors_say_what_to_do(call, kind, text):
    with pytest.raises(kind, match=text):
        call()


def test_pyg_and_back():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    data = pytest.importorskip("torch_geometric.data", reason="PyG is not installed", exc_type=ImportError)
    G = data.HeteroData()
    G["author"].x, G["paper"].x, G["venue"].num_nodes = torch.randn(4, 2), torch.randn(5, 3), 2
    G["city"].num_nodes = 3
    for relation, ends in EDGES.items():
        G[relation].edge_index = torch.tensor(ends)
    G[WRITES].edge_attr = torch.arange(5.0)
    h, nodes, edges, names = HeteroGraph.from_pyg(G, data=True)
    assert h.num_nodes == {"author": 4, "city": 3, "paper": 5, "venue": 2}
    assert edges_of(h) == edges_of(academic())
    assert np.array_equal(nodes["paper"]["x"], G["paper"].x.numpy())
    assert edges[WRITES]["edge_attr"].tolist() == [0, 1, 2, 3, 4]
    assert names["paper"] == range(5)
    assert HeteroGraph.from_pyg(G).edge_types == h.edge_types
    back = h.to_pyg(nodes, edges)
    assert {*back.edge_types} == {*G.edge_types}
    assert back["city"].num_nodes == 3
    assert all(torch.equal(back[one].edge_index, G[one].edge_index) for one in G.edge_types)
    assert torch.equal(back["author"].x, G["author"].x)
    assert torch.equal(back[WRITES].edge_attr, G[WRITES].edge_attr)


class OneType:
    """What is read of a DGL graph with one edge type."""

    def __init__(self, relation, ends, counts):
        self.canonical_etypes, self._ends, self._counts = [relation], ends, counts
        self.edata, self.ndata, self.srcdata, self.dstdata = {"w": np.arange(len(ends[0]))}, {}, {}, {}

    def num_nodes(self, kind):
        return self._counts[kind]

    def edges(self, order):
        return tuple(np.asarray(ids) for ids in self._ends)


class ManyTypes:
    """What is read of a heterograph of DGL."""

    canonical_etypes, ntypes = list(EDGES), ["author", "paper", "venue"]
    counts = {"author": 4, "paper": 5, "venue": 2}

    def __getitem__(self, relation):
        return OneType(relation, EDGES[relation], self.counts)

    def num_nodes(self, kind):
        return self.counts[kind]

    @property
    def nodes(self):
        return {kind: SimpleNamespace(data={"x": np.arange(count)}) for kind, count in self.counts.items()}


def test_dgl():
    """DGL has no wheel here: a stand-in with the attributes that are read of its graphs."""
    h, nodes, edges, _ = HeteroGraph.from_dgl(ManyTypes(), data=True)
    assert h.num_nodes == ManyTypes.counts
    assert edges_of(h) == edges_of(academic())
    assert nodes["paper"]["x"].tolist() == [0, 1, 2, 3, 4]
    assert edges[CITES]["w"].tolist() == [0, 1, 2, 3]


def test_networkx():
    pytest.importorskip("networkx", reason="networkx is not installed")
    G = academic().to_networkx()
    assert G.number_of_nodes() == 11
    assert G.number_of_edges() == 11
    assert G.number_of_edges(("author", 0), ("paper", 1)) == 2
    assert G.nodes["venue", 1]["type"] == "venue"
    assert {one["relation"] for *_, one in G.edges(data=True)} == set(EDGES)
    h, _, _, names = HeteroGraph.from_networkx(G, data=True)
    assert edges_of(h) == edges_of(academic())
    assert names["venue"] == [("venue", 0), ("venue", 1)]
    G.add_edge(("venue", 0), ("author", 1), relation="hosts")
    assert HeteroGraph.from_networkx(G)["venue", "hosts", "author"].dst.tolist() == [1]
    G.add_edge(("venue", 0), ("author", 1), relation=("venue", "hosts", "paper"))
    with pytest.raises(ValueError, match="from 'venue' to 'author' has relation"):
        HeteroGraph.from_networkx(G)
    G.add_node("bare")
    with pytest.raises(ValueError, match="node 'bare' has no 'type'"):
        HeteroGraph.from_networkx(G)
