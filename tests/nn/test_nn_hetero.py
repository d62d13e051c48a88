"""Layers of heterographs: against PyG's with the same weights, against their relations one by one, and a
model that learns.
"""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
from checks import check_gradient, weights_like

import numgraph as ng
from numgraph import HeteroGraph, Tape, nn
from numgraph.nn.pyg import sources

WRITES, CITES, AT, REV = (
    ("author", "writes", "paper"),
    ("paper", "cites", "paper"),
    ("paper", "at", "venue"),
    ("paper", "by", "author"),
)
RELATIONS = [CITES, WRITES, AT, REV]
H = HeteroGraph(
    {
        CITES: ([0, 2, 2, 3, 0], [1, 1, 0, 3, 1]),
        WRITES: ([0, 0, 1, 2, 0], [0, 1, 1, 3, 1]),
        AT: ([3, 0], [0, 1]),
        REV: ([0, 1, 1, 3, 1], [0, 0, 1, 2, 0]),
    },
    {"author": 4, "paper": 5, "venue": 3},
)
WIDTHS = {"author": 2, "paper": 4, "venue": 3}
RNG = np.random.default_rng(3)
X = {kind: RNG.normal(size=(H.num_nodes[kind], width)) for kind, width in WIDTHS.items()}


def torch_and_pyg():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    return torch, pytest.importorskip(
        "torch_geometric.nn", reason="PyG is not installed", exc_type=ImportError
    )


def ends(torch):
    return {
        relation: torch.tensor(np.stack([H[relation].src, H[relation].dst]).astype(np.int64))
        for relation in RELATIONS
    }


def same_as_theirs(torch, ours, theirs, kinds):
    """Values, and gradients of inputs and of all parameters."""
    nn.load_pyg(ours, theirs.state_dict())
    tx = {kind: torch.tensor(array, requires_grad=True) for kind, array in X.items()}
    wanted = theirs(tx, ends(torch))
    sum(
        (wanted[kind] * torch.tensor(weights_like(tuple(wanted[kind].shape)))).sum() for kind in kinds
    ).backward()
    with Tape() as tape:
        x = {kind: tape.watch(array) for kind, array in X.items()}
        found = ours(H, x)
        loss = sum((found[kind] * weights_like(found[kind].shape)).sum() for kind in kinds)
    parameters = dict(ours.named_parameters())
    slopes_here = tape.gradient(loss, [*x.values(), *parameters.values()])
    of_x, grads = slopes_here[: len(x)], slopes_here[len(x) :]
    assert list(found) == H.node_types
    for kind in kinds:
        assert np.abs(found[kind].data - wanted[kind].detach().numpy()).max() <= 1e-10
    for kind, grad in zip(x, of_x):
        want = np.zeros_like(grad) if tx[kind].grad is None else tx[kind].grad.numpy()
        assert np.abs(grad - want).max() <= 1e-10
    slopes = {
        name: one.grad if one.grad is not None else torch.zeros_like(one)
        for name, one in theirs.named_parameters()
    }
    for name, grad in zip(parameters, grads):
        names, change = next(source for one, _, source in sources(ours, slopes) if one == name)
        want = change(next(slopes[one] for one in names if one in slopes).numpy())
        assert np.abs(grad - want).max() <= 1e-10, name


@pytest.mark.parametrize(("out", "heads"), [(4, 2), (6, 1), (3, 3)])
def test_hgt_is_pygs(out, heads):
    torch, pyg = torch_and_pyg()
    torch.manual_seed(1)
    theirs = pyg.HGTConv(WIDTHS, out, (list(WIDTHS), RELATIONS), heads=heads).double()
    with torch.no_grad():
        for one in (*theirs.skip.values(), *theirs.p_rel.values()):
            one.copy_(torch.randn_like(one))
    ours = nn.HGTConv(WIDTHS, out, RELATIONS, heads=heads, rng=0, dtype=np.float64)
    same_as_theirs(torch, ours, theirs, ["author", "paper", "venue"])


@pytest.mark.parametrize("aggr", ["sum", "mean", "max"])
def test_heteroconv_is_pygs(aggr):
    torch, pyg = torch_and_pyg()
    torch.manual_seed(2)
    layers = {
        CITES: pyg.GraphConv(4, 3),
        WRITES: pyg.SAGEConv((2, 4), 3),
        AT: pyg.GATv2Conv((4, 3), 3, add_self_loops=False),
        REV: pyg.SAGEConv((4, 2), 3),
    }
    theirs = pyg.HeteroConv(layers, aggr=aggr).double()
    made = {
        CITES: nn.SAGEConv(4, 3, aggr="sum", rng=0, dtype=np.float64),
        WRITES: nn.SAGEConv((2, 4), 3, rng=0, dtype=np.float64),
        AT: nn.GATv2Conv(
            (4, 3), 3, heads=1, projection_bias=True, add_self_loops=False, rng=0, dtype=np.float64
        ),
        REV: nn.SAGEConv((4, 2), 3, rng=0, dtype=np.float64),
    }
    same_as_theirs(torch, nn.HeteroConv(made, aggr=aggr), theirs, ["author", "paper", "venue"])


def test_a_type_that_nothing_leads_to_comes_back():
    conv = nn.HeteroConv({"at": nn.SAGEConv((4, 3), 2, rng=0), "cites": nn.GCNConv(4, 2, rng=0)})
    z = conv(H, X)
    assert {kind: one.shape for kind, one in z.items()} == {
        "author": (4, 2),
        "paper": (5, 2),
        "venue": (3, 2),
    }
    assert not z["author"].any()
    assert nn.HGTConv(WIDTHS, 2, [CITES], rng=0)(H.edge_type_subgraph([CITES]), {"paper": X["paper"]})[
        "paper"
    ].shape == (5, 2)


def test_edge_data_go_to_their_relations():
    weight = {"writes": RNG.uniform(size=5), CITES: RNG.uniform(size=5)}
    convs = {"writes": nn.SAGEConv((2, 4), 2, rng=0), "cites": nn.GCNConv(4, 2, rng=1)}
    z = nn.HeteroConv(convs)(H, X, edge_weight=weight)["paper"]
    parts = [
        convs["writes"](H["writes"], (X["author"], X["paper"]), weight["writes"]),
        convs["cites"](H["cites"], X["paper"], weight[CITES]),
    ]
    assert np.allclose(z, parts[0] + parts[1], rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"num_bases": 2}])
def test_rgcn_is_its_sum_over_relations(options):
    h = HeteroGraph(dict(H.items()), H.num_nodes)
    x = {kind: RNG.normal(size=(count, 3)) for kind, count in h.num_nodes.items()}
    conv = nn.RGCNConv(3, 2, 4, rng=0, dtype=np.float64, **options)
    found = conv(h, x)
    matrices = conv.bases.data
    matrices = (
        matrices if conv.coefficients is None else np.einsum("rb,bio->rio", conv.coefficients.data, matrices)
    )
    for kind in h.node_types:
        wanted = x[kind] @ conv.weight_self.data + conv.bias.data
        for r, (relation, graph) in enumerate(h.items()):
            if relation[2] == kind:
                counts = np.zeros((graph.num_dst, graph.num_src))
                np.add.at(counts, (graph.dst, graph.src), 1)
                wanted = (
                    wanted
                    + counts / np.maximum(counts.sum(1, keepdims=True), 1) @ x[relation[0]] @ matrices[r]
                )
        assert np.allclose(found[kind], wanted, atol=1e-12)
    check_gradient(
        lambda a, b: conv(h, {"author": a, "paper": b, "venue": x["venue"]})["paper"],
        [x["author"], x["paper"]],
    )


def test_a_model_learns_and_is_saved(tmp_path):
    """Which of two kinds of author wrote a paper: only the messages know."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 20)
    src, dst = rng.integers(0, 20, 40), np.arange(40)
    h = HeteroGraph({WRITES: (src, dst)}).add_reverse_relations()
    x = {"author": np.eye(2, dtype=np.float32)[kind], "paper": rng.normal(size=(40, 4)).astype(np.float32)}

    class Model(nn.Module):
        def __init__(self):
            self.first = nn.HGTConv({"author": 2, "paper": 4}, 4, h.edge_types, heads=2, rng=1)
            self.second = nn.HeteroConv(
                {"writes": nn.SAGEConv(4, 2, rng=2), "rev_writes": nn.SAGEConv(4, 2, rng=3)}
            )

        def forward(self, h, x):
            return self.second(h, {one: ng.relu(z) for one, z in self.first(h, x).items()})

    model = Model()
    optimizer = ng.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(30):
        with Tape() as tape:
            loss = ng.cross_entropy(model(h, x)["paper"], kind[src])
        optimizer.step(tape.gradient(loss, optimizer.parameters))
    assert np.mean(model(h, x)["paper"].argmax(1) == kind[src]) == 1
    ng.save(tmp_path / "model.npz", model)
    other = Model()
    ng.load(tmp_path / "model.npz", other)
    assert np.array_equal(other(h, x)["paper"], model(h, x)["paper"])
    assert "second.convs.rev_writes.weight" in model.state_dict()


def test_the_types_of_hgt_are_given_in_three_ways():
    triples = H.edge_types
    ways = [(H, None), ((H.node_types, triples), None), (triples, H.node_types)]
    states = [nn.HGTConv(4, 4, given, node_types=kinds, rng=0).state_dict() for given, kinds in ways]
    assert all(np.array_equal(states[0][name], one[name]) for one in states[1:] for name in states[0])


@pytest.mark.parametrize(
    "module", ["graph.hetero", "message.relations", "nn.hetero", "nn.knowledge", "sampling.hetero"]
)
def test_examples_of_docstrings_run(module):
    found = doctest.testmod(importlib.import_module(f"numgraph.{module}"))
    assert found.attempted
    assert not found.failed


SAGE = nn.SAGEConv((2, 4), 2, rng=0)
SAME_NAME = [("a__b", "c", "d"), ("a", "b__c", "d")]
ERRORS = [
    (lambda: nn.HeteroConv([SAGE]), TypeError, "give a layer for each relation"),
    (lambda: nn.HeteroConv({"writes": nn.SAGEConv}), TypeError, "of 'writes' there is the class SAGEConv"),
    (lambda: nn.HeteroConv({"writes": SAGE}, aggr="add"), ValueError, "did you mean 'sum'"),
    (lambda: nn.HeteroConv({"write": SAGE})(H, X), ValueError, "did you mean 'writes'"),
    (lambda: nn.HeteroConv({"writes": SAGE})(H["writes"], X), TypeError, "the first argument is a Graph"),
    (
        lambda: nn.HeteroConv({"writes": SAGE})(H, X["paper"]),
        TypeError,
        "x is a ndarray; give a dict by node type",
    ),
    (
        lambda: nn.HeteroConv({"writes": SAGE})(H, {"author": X["author"]}),
        ValueError,
        "give features of both ends",
    ),
    (
        lambda: nn.HeteroConv({"writes": SAGE})(H, {"paper": X["author"]}),
        ValueError,
        r"x\['paper'\] has shape \[4, 2\]",
    ),
    (
        lambda: nn.HeteroConv(dict.fromkeys(SAME_NAME, SAGE)),
        ValueError,
        r"\('a__b', 'c', 'd'\).*would both be called 'a__b__c__d'",
    ),
    (
        lambda: nn.HeteroConv({"a__b__c__d": SAGE, SAME_NAME[0]: SAGE}),
        ValueError,
        "would both be called 'a__b__c__d'",
    ),
    (
        lambda: nn.HGTConv(4, 6, SAME_NAME),
        ValueError,
        r"\('a', 'b__c', 'd'\) would both be called 'a__b__c__d'",
    ),
    (lambda: nn.HGTConv(4, 6, 2), TypeError, "edge_types is 2; give triples"),
    (lambda: nn.HGTConv(4, 6, (1, 2)), TypeError, "edge_types has 1; give triples"),
    (lambda: nn.HGTConv(4, 6, ["cites"]), TypeError, "edge_types has 'cites'; give triples"),
    (lambda: nn.HGTConv(4, 6, RELATIONS, heads=4), ValueError, "heads divide out_features"),
    (lambda: nn.HGTConv({"author": 2}, 6, RELATIONS), ValueError, "node type of .* 'paper'"),
    (lambda: nn.HGTConv(WIDTHS, 4, [CITES])(H, X), ValueError, "h has the relation"),
    (
        lambda: nn.HGTConv(WIDTHS, 4, RELATIONS)(H, {"paper": X["paper"]}),
        ValueError,
        "no features of 'author'",
    ),
    (lambda: nn.RGCNConv(3, 2, 4)(H, {"paper": X["paper"]}), ValueError, "no features of 'author'"),
    (lambda: nn.RGCNConv(3, 2, 4)(H["cites"], X["paper"]), TypeError, "relations is None"),
    (
        lambda: nn.RGCNConv(3, 2, 4)(H.edge_type_subgraph(["cites"]), X),
        ValueError,
        "h has 1 relations, num_relations is 4; give a graph with",
    ),
    (lambda: nn.RGCNConv(3, 2, 5)(H, X), ValueError, "h has 4 relations, num_relations is 5"),
]


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS)
def test_errors_say_what_to_do(call, kind, text):
    with pytest.raises(kind, match=text):
        call()
