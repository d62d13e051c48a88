"""Layers and models against PyG's with the same weights: values, and gradients of inputs and parameters, in
float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from checks import weights_like

from numgraph import Graph, Tape, nn
from numgraph.autodiff.tape import unwrap
from numgraph.nn.pyg import load_pyg, sources

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pyg = pytest.importorskip("torch_geometric.nn", reason="PyG is not installed", exc_type=ImportError)

# Parallel edges, repeated self loops of nodes 1 and 5, node 3 without in-edges, node 6 with a loop alone,
# node 7 with no edge.
SRC = [0, 1, 2, 2, 4, 3, 1, 4, 0, 1, 3, 2, 5, 5, 1, 6, 5]
DST = [1, 1, 1, 1, 1, 0, 0, 2, 2, 2, 4, 4, 5, 5, 1, 6, 4]
KEPT = [u != v for u, v in zip(SRC, DST)]
GRAPHS = {
    "loops": Graph(SRC, DST, 8),
    "directed": Graph(np.array(SRC)[KEPT], np.array(DST)[KEPT], 8),
    "no edges": Graph([], [], 3),
}
PAIRS = {
    "two sets": Graph([0, 1, 2, 3, 3, 0, 0], [0, 0, 2, 2, 2, 3, 3], num_src=5, num_dst=4),
    "more destinations": Graph([0, 1, 2, 2, 2], [5, 0, 2, 2, 3], num_src=3, num_dst=6),
    "two sets without edges": Graph([], [], num_src=3, num_dst=2),
}
WIDTH, OTHER, EDGE = 3, 2, 2


@dataclass(frozen=True)
class Case:
    """ours(**o) and theirs() are the layers for x of 3 features (2 of destinations in a pair); beside: the
    names of edge data.
    """

    ours: Callable[..., nn.Module]
    theirs: Callable[[], Any]
    beside: tuple[str, ...] = ()
    pair: str = ""  # "": one set of nodes; "pair"; "lone": a pair whose second is None
    ones: bool = False  # PyG is given weights of 1: it leaves improved out without weights
    weighted_loops: bool = (
        False  # PyG's gradient of a weight that another loop overwrites is not that of its function
    )


def mlp(*widths: int, **o: Any) -> nn.MLP:
    return nn.MLP(list(widths), **o)


def steps(*widths: int) -> Any:
    linear = [torch.nn.Linear(a, b) for a, b in pairwise(widths)]
    return torch.nn.Sequential(*[step for one in linear for step in (one, torch.nn.ReLU())][:-1])


ONE = {"norm": "in", "collapse_loops": True}
DEGREES = torch.tensor([1, 2, 3, 1, 0, 1])
PNA = {"aggregators": ["mean", "min", "max", "std"], "scalers": ["identity", "amplification", "attenuation"]}
MORE = {
    "aggregators": ["sum", "var", "median", "std"],
    "scalers": ["attenuation", "identity", "linear", "inverse_linear"],
}
NODE_NORM = {"norm": "layer_norm", "norm_kwargs": {"mode": "node"}}
W, A, RELATIONS = ("edge_weight",), ("edge_attr",), ("relations",)
CASES: dict[str, Case] = {
    "gcn": Case(lambda **o: nn.GCNConv(3, 2, **ONE, **o), lambda: pyg.GCNConv(3, 2)),
    "gcn, wider": Case(
        lambda **o: nn.GCNConv(3, 4, bias=False, **ONE, **o), lambda: pyg.GCNConv(3, 4, bias=False)
    ),
    "gcn, weights": Case(
        lambda **o: nn.GCNConv(3, 2, **ONE, **o), lambda: pyg.GCNConv(3, 2), W, weighted_loops=True
    ),
    "gcn, improved": Case(
        lambda **o: nn.GCNConv(3, 2, improved=True, **ONE, **o),
        lambda: pyg.GCNConv(3, 2, improved=True),
        ones=True,
    ),
    "gcn, improved, weights": Case(
        lambda **o: nn.GCNConv(3, 2, fill_value=2, **ONE, **o),
        lambda: pyg.GCNConv(3, 2, improved=True),
        W,
        weighted_loops=True,
    ),
    "gcn, no loops": Case(
        lambda **o: nn.GCNConv(3, 2, norm="in", add_self_loops=False, **o),
        lambda: pyg.GCNConv(3, 2, add_self_loops=False),
        W,
    ),
    "gcn, not normalised": Case(
        lambda **o: nn.GCNConv(3, 2, norm="none", add_self_loops=False, **o),
        lambda: pyg.GCNConv(3, 2, normalize=False),
        W,
    ),
    "sgc": Case(lambda **o: nn.SGConv(3, 2, k=2, **ONE, **o), lambda: pyg.SGConv(3, 2, K=2)),
    "sgc, weights": Case(
        lambda **o: nn.SGConv(3, 4, k=3, **ONE, **o), lambda: pyg.SGConv(3, 4, K=3), W, weighted_loops=True
    ),
    "appnp": Case(lambda **o: nn.APPNP(k=3, alpha=0.2, **ONE), lambda: pyg.APPNP(3, 0.2)),
    "appnp, weights": Case(
        lambda **o: nn.APPNP(k=2, alpha=0.2, **ONE), lambda: pyg.APPNP(2, 0.2), W, weighted_loops=True
    ),
    **{
        f"sage {aggr}": Case(
            lambda aggr=aggr, **o: nn.SAGEConv(3, 2, aggr=aggr, **o),
            lambda aggr=aggr: pyg.SAGEConv(3, 2, aggr=aggr),
        )
        for aggr in ("mean", "sum", "max", "min", "var", "std", "softmax", "median")
    },
    "sage prod": Case(
        lambda **o: nn.SAGEConv(3, 2, aggr="prod", **o), lambda: pyg.SAGEConv(3, 2, aggr="mul")
    ),
    "sage several": Case(
        lambda **o: nn.SAGEConv(3, 4, aggr=["mean", "max", "std", "median"], **o),
        lambda: pyg.SAGEConv(3, 4, aggr=["mean", "max", "std", "median"]),
    ),
    "sage, alone": Case(
        lambda **o: nn.SAGEConv(3, 4, root_weight=False, normalize=True, bias=False, **o),
        lambda: pyg.SAGEConv(3, 4, root_weight=False, normalize=True, bias=False),
    ),
    "sage pool": Case(
        lambda **o: nn.SAGEConv(3, 2, aggr="pool", **o), lambda: pyg.SAGEConv(3, 2, aggr="max", project=True)
    ),
    "sage, weights": Case(lambda **o: nn.SAGEConv(3, 2, aggr="sum", **o), lambda: pyg.GraphConv(3, 2), W),
    "sage mean, weights": Case(
        lambda **o: nn.SAGEConv(3, 4, **o), lambda: pyg.GraphConv(3, 4, aggr="mean"), W
    ),
    "sage max, weights": Case(
        lambda **o: nn.SAGEConv(3, 4, aggr="max", **o), lambda: pyg.GraphConv(3, 4, aggr="max"), W
    ),
    "sage, pair": Case(lambda **o: nn.SAGEConv((3, 2), 2, **o), lambda: pyg.SAGEConv((3, 2), 2), pair="pair"),
    "sage, project, pair": Case(
        lambda **o: nn.SAGEConv((3, 2), 4, project=True, normalize=True, **o),
        lambda: pyg.SAGEConv((3, 2), 4, project=True, normalize=True),
        pair="pair",
    ),
    "sage, lone": Case(lambda **o: nn.SAGEConv((3, 2), 2, **o), lambda: pyg.SAGEConv((3, 2), 2), pair="lone"),
    "gin": Case(
        lambda **o: nn.GINConv(mlp(3, 4, 2, **o), eps=0.5, train_eps=True, dtype=o["dtype"]),
        lambda: pyg.GINConv(steps(3, 4, 2), train_eps=True),
    ),
    "gin, narrower": Case(
        lambda **o: nn.GINConv(mlp(3, 2, 2, **o)), lambda: pyg.GINConv(steps(3, 2, 2), eps=0.3)
    ),
    "gin, PyG's MLP": Case(
        lambda **o: nn.GINConv(mlp(3, 4, 2, norm=True, **o)),
        lambda: pyg.GINConv(pyg.MLP([3, 4, 2], norm="batch_norm"), eps=0.3),
    ),
    "gin, pair": Case(
        lambda **o: nn.GINConv(mlp(3, 2, 2, **o), train_eps=True, dtype=o["dtype"]),
        lambda: pyg.GINConv(steps(3, 2, 2), train_eps=True),
        pair="even pair",
    ),
    "gin, lone": Case(
        lambda **o: nn.GINConv(mlp(3, 4, 2, **o)), lambda: pyg.GINConv(steps(3, 4, 2)), pair="lone"
    ),
    "gine": Case(
        lambda **o: nn.GINEConv(mlp(3, 4, 2, **o), edge_dim=2, **o),
        lambda: pyg.GINEConv(steps(3, 4, 2), edge_dim=2),
        A,
    ),
    "gine, pair": Case(
        lambda **o: nn.GINEConv(mlp(3, 4, 2, **o), edge_dim=2, train_eps=True, **o),
        lambda: pyg.GINEConv(steps(3, 4, 2), edge_dim=2, train_eps=True),
        A,
        pair="even pair",
    ),
    "gat": Case(
        lambda **o: nn.GATConv(3, 2, heads=2, collapse_loops=True, **o), lambda: pyg.GATConv(3, 2, heads=2)
    ),
    "gat, averaged": Case(
        lambda **o: nn.GATConv(
            3, 2, heads=2, concat=False, residual=True, add_self_loops=False, negative_slope=0.1, **o
        ),
        lambda: pyg.GATConv(
            3, 2, heads=2, concat=False, residual=True, add_self_loops=False, negative_slope=0.1
        ),
    ),
    **{
        f"gat, edges, {fill}": Case(
            lambda fill=fill, **o: nn.GATConv(
                3, 2, heads=2, edge_dim=2, fill_value=fill, collapse_loops=True, **o
            ),
            lambda fill=fill: pyg.GATConv(3, 2, heads=2, edge_dim=2, fill_value=fill),
            A,
        )
        for fill in ("mean", "sum", "max", 0.5)
    },
    "gat, edges, each": Case(
        lambda **o: nn.GATConv(
            3, 2, edge_dim=2, fill_value=[1.0, 2.0], collapse_loops=True, residual=True, bias=False, **o
        ),
        lambda: pyg.GATConv(3, 2, edge_dim=2, fill_value=torch.tensor([1.0, 2.0]), residual=True, bias=False),
        A,
    ),
    "gat, no edge data": Case(
        lambda **o: nn.GATConv(3, 2, heads=2, edge_dim=2, collapse_loops=True, **o),
        lambda: pyg.GATConv(3, 2, heads=2, edge_dim=2),
    ),
    "gat, pair": Case(
        lambda **o: nn.GATConv((3, 2), 2, heads=2, residual=True, **o),
        lambda: pyg.GATConv((3, 2), 2, heads=2, residual=True, add_self_loops=False),
        pair="pair",
    ),
    "gat, edges, pair": Case(
        lambda **o: nn.GATConv((3, 2), 2, heads=2, edge_dim=2, **o),
        lambda: pyg.GATConv((3, 2), 2, heads=2, edge_dim=2, add_self_loops=False),
        A,
        pair="pair",
    ),
    "gat, lone": Case(
        lambda **o: nn.GATConv((3, 2), 2, heads=2, residual=True, **o),
        lambda: pyg.GATConv((3, 2), 2, heads=2, residual=True, add_self_loops=False),
        pair="lone",
    ),
    "gat, edges, lone": Case(
        lambda **o: nn.GATConv((3, 2), 2, heads=2, edge_dim=2, **o),
        lambda: pyg.GATConv((3, 2), 2, heads=2, edge_dim=2, add_self_loops=False),
        A,
        pair="lone",
    ),
    "gatv2": Case(
        lambda **o: nn.GATv2Conv(3, 2, heads=2, projection_bias=True, collapse_loops=True, **o),
        lambda: pyg.GATv2Conv(3, 2, heads=2),
    ),
    "gatv2, shared": Case(
        lambda **o: nn.GATv2Conv(
            3, 2, heads=2, projection_bias=True, share_weights=True, residual=True, add_self_loops=False, **o
        ),
        lambda: pyg.GATv2Conv(3, 2, heads=2, share_weights=True, residual=True, add_self_loops=False),
    ),
    "gatv2, no bias": Case(
        lambda **o: nn.GATv2Conv(3, 2, heads=2, concat=False, bias=False, collapse_loops=True, **o),
        lambda: pyg.GATv2Conv(3, 2, heads=2, concat=False, bias=False),
    ),
    "gatv2, edges": Case(
        lambda **o: nn.GATv2Conv(
            3, 2, heads=2, edge_dim=2, fill_value="min", projection_bias=True, collapse_loops=True, **o
        ),
        lambda: pyg.GATv2Conv(3, 2, heads=2, edge_dim=2, fill_value="min"),
        A,
    ),
    "gatv2, edges, pair": Case(
        lambda **o: nn.GATv2Conv((3, 2), 2, heads=2, edge_dim=2, projection_bias=True, **o),
        lambda: pyg.GATv2Conv((3, 2), 2, heads=2, edge_dim=2, add_self_loops=False),
        A,
        pair="pair",
    ),
    "gatv2, shared, pair": Case(
        lambda **o: nn.GATv2Conv(3, 2, heads=2, share_weights=True, projection_bias=True, **o),
        lambda: pyg.GATv2Conv(3, 2, heads=2, share_weights=True, add_self_loops=False),
        pair="even pair",
    ),
    "transformer": Case(
        lambda **o: nn.TransformerConv(3, 2, heads=2, **o), lambda: pyg.TransformerConv(3, 2, heads=2)
    ),
    "transformer, gated": Case(
        lambda **o: nn.TransformerConv(3, 2, heads=2, concat=False, gated=True, **o),
        lambda: pyg.TransformerConv(3, 2, heads=2, concat=False, beta=True),
    ),
    "transformer, edges": Case(
        lambda **o: nn.TransformerConv(3, 2, heads=2, edge_dim=2, gated=True, **o),
        lambda: pyg.TransformerConv(3, 2, heads=2, edge_dim=2, beta=True),
        A,
    ),
    "transformer, alone": Case(
        lambda **o: nn.TransformerConv(3, 2, heads=2, skip=False, bias=False, **o),
        lambda: pyg.TransformerConv(3, 2, heads=2, root_weight=False, bias=False),
    ),
    "transformer, edges, pair": Case(
        lambda **o: nn.TransformerConv((3, 2), 2, heads=2, edge_dim=2, **o),
        lambda: pyg.TransformerConv((3, 2), 2, heads=2, edge_dim=2),
        A,
        pair="pair",
    ),
}

CASES |= {
    "edge": Case(
        lambda **o: nn.EdgeConv(3, 2, **o),
        lambda: pyg.EdgeConv(torch.nn.Sequential(torch.nn.Linear(6, 2), torch.nn.ReLU())),
    ),
    "edge, any network": Case(
        lambda **o: nn.EdgeConv(mlp(6, 4, 2, **o)), lambda: pyg.EdgeConv(steps(6, 4, 2))
    ),
    "edge, mean, pair": Case(
        lambda **o: nn.EdgeConv(mlp(6, 4, 2, **o), aggr="mean"),
        lambda: pyg.EdgeConv(steps(6, 4, 2), aggr="mean"),
        pair="even pair",
    ),
    "edge, sum": Case(
        lambda **o: nn.EdgeConv(3, 2, aggr="sum", **o),
        lambda: pyg.EdgeConv(torch.nn.Sequential(torch.nn.Linear(6, 2), torch.nn.ReLU()), aggr="sum"),
    ),
    "rgcn": Case(lambda **o: nn.RGCNConv(3, 2, 3, **o), lambda: pyg.RGCNConv(3, 2, 3), RELATIONS),
    "rgcn, bases": Case(
        lambda **o: nn.RGCNConv(3, 4, 3, num_bases=2, **o),
        lambda: pyg.RGCNConv(3, 4, 3, num_bases=2),
        RELATIONS,
    ),
    "rgcn, blocks": Case(
        lambda **o: nn.RGCNConv(3, 6, 3, num_blocks=3, self_loop=False, bias=False, **o),
        lambda: pyg.RGCNConv(3, 6, 3, num_blocks=3, root_weight=False, bias=False),
        RELATIONS,
    ),
    "rgcn, pair": Case(
        lambda **o: nn.RGCNConv((3, 2), 2, 3, **o), lambda: pyg.RGCNConv((3, 2), 2, 3), RELATIONS, pair="pair"
    ),
    "pna": Case(
        lambda **o: nn.PNAConv(3, 4, std_eps=0, mix=True, **PNA, **o),
        lambda: pyg.PNAConv(3, 4, deg=DEGREES, **PNA),
    ),
    "pna, more": Case(
        lambda **o: nn.PNAConv(3, 4, std_eps=0, mix=True, **MORE, **o),
        lambda: pyg.PNAConv(3, 4, deg=DEGREES, **MORE),
    ),
    "pna, towers": Case(
        lambda **o: nn.PNAConv(3, 4, std_eps=0, towers=2, edge_dim=2, **PNA, **o),
        lambda: pyg.PNAConv(3, 4, deg=DEGREES, towers=2, edge_dim=2, **PNA),
        A,
    ),
    "pna, divided": Case(
        lambda **o: nn.PNAConv(3, 6, std_eps=0, towers=3, divide_input=True, **PNA, **o),
        lambda: pyg.PNAConv(3, 6, deg=DEGREES, towers=3, divide_input=True, **PNA),
    ),
    "GCN": Case(
        lambda **o: nn.GCN(3, 4, 2, dropout=0, degree_norm="in", collapse_loops=True, **o),
        lambda: pyg.GCN(3, 4, 2, 2),
        W,
        weighted_loops=True,
    ),
    "GCN, jumps": Case(
        lambda **o: nn.GCN(
            3,
            4,
            2,
            layers=3,
            dropout=0,
            norm="batch",
            degree_norm="in",
            collapse_loops=True,
            jk="cat",
            act="elu",
            **o,
        ),
        lambda: pyg.GCN(3, 4, 3, 2, norm="batch_norm", jk="cat", act="elu"),
    ),
    "SAGE": Case(
        lambda **o: nn.SAGE(3, 4, 2, dropout=0, aggr="max", project=True, **o),
        lambda: pyg.GraphSAGE(3, 4, 2, 2, aggr="max", project=True),
    ),
    "SAGE, act first": Case(
        lambda **o: nn.SAGE(3, 4, 2, dropout=0, norm="batch", act_first=True, **o),
        lambda: pyg.GraphSAGE(3, 4, 2, 2, norm="batch_norm", act_first=True),
    ),
    "SAGE, jumps": Case(
        lambda **o: nn.SAGE(3, 4, 2, dropout=0, norm="layer", jk="max", **o),
        lambda: pyg.GraphSAGE(3, 4, 2, 2, jk="max", **NODE_NORM),
    ),
    "GAT": Case(
        lambda **o: nn.GAT(3, 2, 2, dropout=0, heads=2, out_heads=2, collapse_loops=True, edge_dim=2, **o),
        lambda: pyg.GAT(3, 4, 2, 2, heads=2, act="elu", edge_dim=2),
        A,
    ),
    "GAT, jumps": Case(
        lambda **o: nn.GAT(
            3, 2, 2, dropout=0, heads=2, collapse_loops=True, jk="last", act=None, residual=True, **o
        ),
        lambda: pyg.GAT(3, 4, 2, 2, heads=2, act=None, jk="last", residual=True),
    ),
    "GATv2": Case(
        lambda **o: nn.GAT(
            3, 2, 2, dropout=0, heads=2, out_heads=2, v2=True, collapse_loops=True, projection_bias=True, **o
        ),
        lambda: pyg.GAT(3, 4, 2, 2, heads=2, act="elu", v2=True),
    ),
    "GIN": Case(
        lambda **o: nn.GIN(3, 4, 2, dropout=0, train_eps=False, mlp_width="out", **o),
        lambda: pyg.GIN(3, 4, 2, 2, eps=0.2),
    ),
    "GIN, norm": Case(
        lambda **o: nn.GIN(3, 4, 2, dropout=0, norm="batch", mlp_width="out", jk="cat", **o),
        lambda: pyg.GIN(3, 4, 2, 2, train_eps=True, norm="batch_norm", jk="cat"),
    ),
}


def made(case: Case) -> tuple[Any, Any]:
    """PyG's layer with random weights, and ours with the same."""
    torch.manual_seed(0)
    theirs = case.theirs().double()
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.randn_like(p))  # biases too
    ours: Any = case.ours(rng=0, dtype=np.float64)
    if list(ours.named_parameters()) or isinstance(ours, nn.GINConv):
        load_pyg(ours, theirs.state_dict())
    return theirs, ours


def inputs(case: Case, g: Graph) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(2)
    x = [rng.standard_normal((g.num_src, WIDTH))]
    if case.pair.endswith("pair"):
        x.append(rng.standard_normal((g.num_dst, WIDTH if case.pair == "even pair" else OTHER)))
    data = {
        "edge_weight": rng.uniform(0.5, 1.5, g.num_edges),
        "edge_attr": rng.standard_normal((g.num_edges, EDGE)),
    }
    return x, {name: data[name] for name in case.beside if name in data}


def assert_near(found: Any, expected: Any, what: str) -> None:
    found, expected = np.asarray(unwrap(found)), expected.detach().numpy()
    assert found.shape == expected.shape, what
    np.testing.assert_allclose(
        found, expected, rtol=1e-8, atol=1e-8 * max(1, np.abs(expected).max(initial=0)), err_msg=what
    )


def overwritten(g: Graph) -> list[int]:
    """Ids of the loops that are not their node's last."""
    loops = [(int(v), e) for e, (u, v) in enumerate(zip(g.src, g.dst)) if u == v]
    return [e for v, e in loops if dict(loops)[v] != e]


def compare(case: Case, g: Graph) -> None:
    theirs, ours = made(case)
    x, data = inputs(case, g)
    tensors = [torch.from_numpy(a).requires_grad_() for a in (*x, *data.values())]
    their_x = tensors[0] if not case.pair else tuple([*tensors[: len(x)], None][:2])
    beside = dict(zip(data, tensors[len(x) :]))
    relations = {"relations": np.arange(g.num_edges) % 3} if case.beside == RELATIONS else {}
    if relations:
        beside["edge_type"] = torch.from_numpy(relations["relations"])
    edge_index = torch.from_numpy(np.stack([g.src, g.dst]).astype(np.int64))
    if case.ones:
        beside["edge_weight"] = torch.ones(g.num_edges, dtype=torch.float64)
    size = {"size": (g.num_src, g.num_dst)} if case.pair == "lone" else {}
    wanted = theirs(their_x, edge_index, **beside, **size)
    parameters = dict(theirs.named_parameters())
    asked = [*tensors, *parameters.values()]
    cotangent = weights_like(tuple(wanted.shape))
    their_grads = torch.autograd.grad(
        wanted, asked, torch.from_numpy(cotangent), allow_unused=True, materialize_grads=True
    )
    by_name = {name: grad.numpy() for name, grad in zip(parameters, their_grads[len(tensors) :])}

    with Tape() as tape:
        watched = [tape.watch(a) for a in (*x, *data.values())]
        our_x = watched[0] if not case.pair else tuple([*watched[: len(x)], None][:2])
        if isinstance(ours, nn.GINEConv):
            z = ours(g, our_x, watched[-1])
        else:
            z = ours(g, our_x, **dict(zip(data, watched[len(x) :])), **relations)
        loss = (z * cotangent).sum()
    named = dict(ours.named_parameters())
    grads = tape.gradient(loss, [*watched, *named.values()])
    assert_near(z, wanted, "values")
    for what, found, expected in zip([*["x", "x of destinations"][: len(x)], *data], grads, their_grads):
        if what == "edge_weight" and case.weighted_loops:
            expected[overwritten(g)] = 0
        assert_near(found, expected, f"gradient of {what}")
    found_by_name = dict(zip(named, grads[len(watched) :]))
    for name, _, source in sources(ours, theirs.state_dict()) if named else ():
        if name in found_by_name:
            theirs_name = next(one for one in source.names if one in by_name)
            expected = torch.from_numpy(np.array(source.change(by_name[theirs_name]), order="C"))
            assert_near(found_by_name.pop(name), expected, f"gradient of {name}")
    assert not found_by_name, "parameters of which PyG has none"


ROWS = [(name, graph) for name, case in CASES.items() for graph in (PAIRS if case.pair else GRAPHS)]
ROWS = [
    row
    for row in ROWS
    if row not in (("sage median", "no edges"), ("sage several", "no edges"), ("pna, more", "no edges"))
]  # PyG's median fails there


@pytest.mark.parametrize(("name", "graph"), ROWS, ids=[f"{name}-{graph}" for name, graph in ROWS])
def test_layer_is_pygs(name: str, graph: str) -> None:
    compare(CASES[name], {**GRAPHS, **PAIRS}[graph])
