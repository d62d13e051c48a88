"""Two sets of nodes stay two where they are as many: a graph of 3 sources and 3 destinations is treated like
one of 3 and 2.
"""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from device import device

import numgraph as ng
from numgraph import Graph, nn
from numgraph.autodiff.tape import unwrap

__all__ = ["device"]

SRC, DST = np.array([0, 1, 2, 2]), np.array([1, 1, 2, 0])
INDPTR = np.array([0, 1, 2, 4])  # of the rows of SRC
COLUMNS = np.array([0, 1, 2, 4]), np.array([2, 0, 1, 2])  # of the rows of DST
MATRIX = sp.coo_array((np.ones(4), (SRC, DST)), shape=(3, 3))
X = np.arange(6.0, dtype=np.float32).reshape(3, 2) + 1

TWO = {
    "both counts": lambda: Graph(SRC, DST, num_src=3, num_dst=3),
    "num_src alone": lambda: Graph(SRC, DST, num_src=3),
    "num_dst alone": lambda: Graph(SRC, DST, num_dst=3),
    "no edges": lambda: Graph([], [], num_src=3, num_dst=3),
    "from_csr": lambda: Graph.from_csr(INDPTR, DST, num_src=3, num_dst=3),
    "from_csc": lambda: Graph.from_csc(*COLUMNS, num_src=3, num_dst=3),
    "from_scipy": lambda: Graph.from_scipy(MATRIX, num_src=3, num_dst=3),
    "from_scipy, one count": lambda: Graph.from_scipy(MATRIX, num_dst=3),
    "from_edge_index": lambda: Graph.from_edge_index([SRC, DST], num_src=3, num_dst=3),
}
ONE = {
    "Graph": lambda: Graph(SRC, DST),
    "num_nodes": lambda: Graph(SRC, DST, 3),
    "from_csr": lambda: Graph.from_csr(INDPTR, DST, num_dst=3),
    "from_csc": lambda: Graph.from_csc(*COLUMNS, num_src=3),
    "from_scipy": lambda: Graph.from_scipy(MATRIX),
    "from_edge_index": lambda: Graph.from_edge_index([SRC, DST], 3),
    "karate": lambda: ng.data.load("karate").graph,
}
KEPT = {
    "itself": lambda g: g,
    "reverse": lambda g: g.reverse(),
    "reverse twice": lambda g: g.reverse().reverse(),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda g: pickle.loads(pickle.dumps(g)),
    "pickle of the reverse": lambda g: pickle.loads(pickle.dumps(g.reverse())),
    "pickle of grouped edges": lambda g: (g.in_edges, g.out_edges, pickle.loads(pickle.dumps(g)))[-1],
    "coalesce": lambda g: g.coalesce(),
    "coalesce and pickle": lambda g: pickle.loads(pickle.dumps(g.coalesce())),
    "csrsum": lambda g: ng.ops.csrsum([g, g], [np.ones(g.num_edges)] * 2)[0],
}


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("made", TWO)
def test_two_sets_stay_two(made, kept):
    g = KEPT[kept](TWO[made]())
    assert (g.is_bipartite, g.num_src, g.num_dst) == (True, 3, 3)
    assert repr(g).startswith("Graph(num_src=3, num_dst=3, ")
    with pytest.raises(
        ValueError,
        match=r"Graph\.num_nodes: the graph is bipartite, with 3 sources and 3 destinations; .*num_nodes=3",
    ):
        _ = g.num_nodes


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("made", ONE)
def test_one_set_stays_one(made, kept):
    g = KEPT[kept](ONE[made]())
    assert not g.is_bipartite
    assert g.num_nodes == g.num_src == g.num_dst
    assert repr(g).startswith("Graph(num_nodes=")


def test_on_a_device(device):
    g = TWO["both counts"]().to("cuda")
    for there in (g, g.reverse(), g.coalesce(), pickle.loads(pickle.dumps(g))):
        assert there.device == "cuda"
        assert there.is_bipartite
        assert there.to("cpu").is_bipartite
    assert not ONE["num_nodes"]().to("cuda").is_bipartite


@pytest.mark.parametrize(
    "transform",
    ["add_self_loops", "remove_self_loops", "to_bidirected", "subgraph", "reorder"],
)
@pytest.mark.parametrize("made", ["both counts", "from_csr"])
def test_what_needs_one_set_is_refused(made, transform):
    argument = {"subgraph": ([0],), "reorder": ("rcm",)}.get(transform, ())
    with pytest.raises(
        ValueError,
        match=rf"Graph\.{transform}: the graph is bipartite, with 3 sources and 3 destinations; this needs "
        rf"one",
    ):
        getattr(TWO[made](), transform)(*argument)


def test_the_counts_that_are_given_must_be_those_of_the_rows():
    for make, text in [
        (
            lambda: Graph.from_csr(INDPTR, DST, num_src=4, num_dst=3),
            "Graph.from_csr: num_src is 4 and there are 3 rows",
        ),
        (
            lambda: Graph.from_csc(*COLUMNS, num_src=3, num_dst=2),
            "Graph.from_csc: num_dst is 2 and there are 3 rows",
        ),
        (lambda: Graph.from_scipy(MATRIX, num_src=4), "Graph.from_scipy: num_src is 4 and there are 3 rows"),
        (
            lambda: Graph.from_scipy(MATRIX, num_dst=4),
            r"Graph.from_scipy: num_dst is 4, A has shape \[3, 3\]",
        ),
    ]:
        with pytest.raises(ValueError, match=text):
            make()


LAYERS = {
    "GCNConv": lambda: nn.GCNConv(2, 2, rng=0),
    "SGConv": lambda: nn.SGConv(2, 2, rng=0),
    "SGConv without loops": lambda: nn.SGConv(2, 2, add_self_loops=False, rng=0),
    "APPNP": lambda: nn.APPNP(),
    "APPNP without loops": lambda: nn.APPNP(add_self_loops=False),
    "GATConv": lambda: nn.GATConv(2, 2, rng=0),
    "GATConv without loops": lambda: nn.GATConv(2, 2, add_self_loops=False, rng=0),
    "GATv2Conv": lambda: nn.GATv2Conv(2, 2, rng=0),
    "SAGEConv": lambda: nn.SAGEConv(2, 2, rng=0),
    "EdgeConv": lambda: nn.EdgeConv(2, 2, rng=0),
    "TransformerConv": lambda: nn.TransformerConv(2, 2, rng=0),
    "GINConv": lambda: nn.GINConv(nn.MLP([2, 2], rng=0)),
    "PNAConv": lambda: nn.PNAConv(2, 2, rng=0),
    "GCN": lambda: nn.GCN(2, 2, 2, rng=0),
    "GAT": lambda: nn.GAT(2, 2, 2, rng=0),
    "SAGE": lambda: nn.SAGE(2, 2, 2, rng=0),
    "GIN": lambda: nn.GIN(2, 2, 2, rng=0),
}


@pytest.mark.parametrize("counts", [(3, 3), (3, 4)])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_do_not_join_u_i_and_v_i(name, counts):
    """One array cannot be the features of two sets, be they as many or not."""
    g = Graph(SRC, DST, num_src=counts[0], num_dst=counts[1])
    with pytest.raises(
        ValueError, match=rf"the graph is bipartite, with 3 sources and {counts[1]} destinations"
    ):
        LAYERS[name]()(g, X)


def test_layers_with_edge_data_do_not_join_them_either():
    g, relations = TWO["both counts"](), np.array([0, 1, 0, 1])
    for call in (
        lambda: nn.RGCNConv(2, 2, 2)(g, X, relations),
        lambda: nn.GINEConv(lambda x: x)(g, X, X[:1].repeat(4, 0)),
    ):
        with pytest.raises(ValueError, match="the graph is bipartite, with 3 sources and 3 destinations"):
            call()


PAIRS = {
    "GATConv": lambda: nn.GATConv((2, 2), 2, rng=0),
    "GATv2Conv": lambda: nn.GATv2Conv((2, 2), 2, rng=0),
    "SAGEConv": lambda: nn.SAGEConv((2, 2), 2, rng=0),
    "EdgeConv": lambda: nn.EdgeConv(2, 2, rng=0),
    "TransformerConv": lambda: nn.TransformerConv((2, 2), 2, rng=0),
    "RGCNConv": lambda: nn.RGCNConv(2, 2, 1, rng=0),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_give_what_a_graph_of_other_counts_gives(name):
    """The same edges with one more destination, which has none, give the same rows."""
    layer, y = PAIRS[name](), -X[::-1].copy()
    more = [np.zeros(4, int)] if name == "RGCNConv" else []
    equal = layer(TWO["both counts"](), (X, y), *more)
    wider = layer(Graph(SRC, DST, num_src=3, num_dst=4), (X, np.concatenate([y, y[:1]])), *more)
    np.testing.assert_allclose(unwrap(equal), unwrap(wider)[:3], rtol=1e-6)


def test_a_convolution_without_loops():
    conv = nn.GCNConv(2, 2, norm="none", add_self_loops=False, bias=False, rng=0)
    conv.weight.data[...] = np.eye(2)
    want = np.zeros((3, 2), np.float32)
    np.add.at(want, DST, X[SRC])
    np.testing.assert_allclose(conv(TWO["both counts"](), X), want)


def test_products_of_graphs():
    """A·B goes from A's sources to B's destinations: one set of nodes only if both have one, or B is A turned
    round.
    """
    two, one, w = TWO["both counts"](), ONE["num_nodes"](), np.ones(4)
    for a, b, bipartite in [
        (two, two, True),
        (one, two, True),
        (two, one, True),
        (one, one, False),
        (two, two.reverse(), False),
    ]:
        assert ng.ops.csrmm(a, w, b, w)[0].is_bipartite == bipartite
