"""Layers and models on blocks: all in-edges give the whole graph's results and gradients, with its degrees
and self loops.
"""

from __future__ import annotations

import numpy as np
import pytest

import numgraph as ng
from numgraph import nn
from numgraph.graph import Block, Origin
from numgraph.nn.degrees import degree_scales

N, F = 40, 4
RNG = np.random.default_rng(0)
SRC, DST = RNG.integers(0, N, 160), RNG.integers(0, N - 3, 160)
G = ng.Graph(SRC, DST, N)  # with self loops and parallel edges; three nodes have no in-edges
X = RNG.standard_normal((N, F))
W = RNG.uniform(0.5, 2, G.num_edges)
UNSCALED = nn.GCN(F, 5, 3, weighted_degrees=False, rng=0)
ATTR = RNG.standard_normal((G.num_edges, 2))
RELATIONS = RNG.integers(0, 3, G.num_edges)
SEEDS = np.array([5, 0, 39, 17, 3, 22])
D = {"rng": 0, "dtype": np.float64}


def blocks_of(hops, weight=None, fanout=-1):
    batch = ng.sampling.NeighborSampler([fanout] * hops).sample(G, SEEDS)
    origin = Origin(G, weight)
    for block in batch.blocks:
        block.origin = origin
    return batch


LAYERS = {
    **{f"gcn {norm}": (nn.GCNConv(F, 3, norm=norm, **D), ()) for norm in ("both", "in", "right", "none")},
    "gcn no loops": (nn.GCNConv(F, 3, add_self_loops=False, **D), ()),
    "gcn improved": (nn.GCNConv(F, 6, improved=True, **D), ()),
    "gcn collapsed": (nn.GCNConv(F, 3, collapse_loops=True, **D), ()),
    "gcn weighted": (nn.GCNConv(F, 3, **D), (W,)),
    "gcn weighted collapsed": (nn.GCNConv(F, 3, norm="in", collapse_loops=True, fill_value=0.5, **D), (W,)),
    "gcn weighted, plain degrees": (nn.GCNConv(F, 3, weighted_degrees=False, **D), (W,)),
    "sage": (nn.SAGEConv(F, 3, aggr=["mean", "max"], **D), (W,)),
    "gin": (nn.GINConv(nn.MLP([F, 5, 3], **D), eps=0.5), ()),
    "gine": (nn.GINEConv(nn.MLP([F, 3], **D), edge_dim=2, **D), (ATTR,)),
    "gat": (nn.GATConv(F, 3, heads=2, edge_dim=2, fill_value="mean", **D), (ATTR,)),
    "gat collapsed": (nn.GATConv(F, 3, collapse_loops=True, **D), ()),
    "gatv2": (nn.GATv2Conv(F, 3, heads=2, share_weights=True, **D), ()),
    "pna": (nn.PNAConv(F, 3, **D), ()),
    "edge": (nn.EdgeConv(F, 3, **D), ()),
    "rgcn": (nn.RGCNConv(F, 3, 3, **D), (RELATIONS,)),
    "transformer": (nn.TransformerConv(F, 3, edge_dim=2, **D), (ATTR,)),
    "sgc": (nn.SGConv(F, 3, k=1, **D), (W,)),
    "appnp": (nn.APPNP(k=1), ()),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_on_all_in_edges_is_the_layer_on_the_graph(name):
    layer, edge_data = LAYERS[name]
    weight = W if "weighted" in name or name == "sgc" else None
    batch = blocks_of(1, weight)
    (block,) = batch.blocks
    given = [data[block.edge_ids] for data in edge_data]
    want = layer(G, X, *edge_data)[SEEDS]
    np.testing.assert_allclose(layer(block, X[batch.nodes], *given), want, rtol=1e-12, atol=1e-13)
    listed = (
        [given] if isinstance(layer, nn.SGConv) else given
    )  # a layer of any number of hops has a list of edge data too
    np.testing.assert_allclose(layer(batch.blocks, X[batch.nodes], *listed), want, rtol=1e-12, atol=1e-13)


MODELS = {
    "gcn": (nn.GCN(F, 5, 3, layers=3, dropout=0, **D), {}),
    "gcn weighted, cat": (nn.GCN(F, 5, 3, layers=2, dropout=0, jk="cat", **D), {"edge_weight": W}),
    "sage max": (nn.SAGE(F, 5, 3, layers=2, dropout=0, jk="max", norm="layer", **D), {}),
    "gat": (nn.GAT(F, 5, 3, heads=2, layers=2, dropout=0, edge_dim=2, **D), {"edge_attr": ATTR}),
    "gin": (nn.GIN(F, 5, 3, layers=2, dropout=0, **D), {}),
    "sgc": (nn.SGConv(F, 3, k=2, **D), {}),
    "appnp": (nn.APPNP(k=3), {"edge_weight": W}),
}
HOPS = {"gcn": 3, "appnp": 3}


def loss_and_gradients(model, g, x, rows, options):
    with ng.Tape() as tape:
        watched = tape.watch(x)
        z = model(g, watched, **options)
        z = z if rows is None else z[rows]
        loss = (z * np.cos(np.arange(z.shape[0] * z.shape[1])).reshape(z.shape)).sum()
    return z.data, tape.gradient(loss, [watched, *model.parameters()])


@pytest.mark.parametrize("name", MODELS)
def test_a_model_on_blocks_is_the_model_on_the_graph(name):
    model, options = MODELS[name]
    batch = blocks_of(HOPS.get(name, 2), W if "edge_weight" in options else None)
    want, of_graph = loss_and_gradients(model, G, X, SEEDS, options)
    by_block = {key: [data[ids] for ids in batch.edge_ids] for key, data in options.items()}
    for given in (options, by_block):
        found, of_blocks = loss_and_gradients(model, batch.blocks, X[batch.nodes], None, given)
        np.testing.assert_allclose(found, want, rtol=1e-11, atol=1e-12)
        dx = np.zeros_like(X)
        dx[batch.nodes] = of_blocks[0]
        for a, b in zip([dx, *of_blocks[1:]], of_graph):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11)


def test_sums_over_all_in_edges_are_the_same_bits():
    batch = blocks_of(1)
    x = X.astype(np.float32)
    message = lambda u: u.x * 1.1
    found = ng.update_all(batch.blocks[0], message, "sum", u={"x": x[batch.nodes]})
    np.testing.assert_array_equal(found, ng.update_all(G, message, "sum", u={"x": x})[SEEDS])


def test_sampled_blocks_have_the_whole_graphs_degrees_and_loops():
    """GCN on two edges a node, by hand: a loop for each node that has none in the graph, degrees of the graph
    with loops.
    """
    batch = blocks_of(1, fanout=2)
    (block,) = batch.blocks
    has_loop = np.zeros(N, bool)
    has_loop[SRC[SRC == DST]] = True
    out, into = (np.bincount(ends, minlength=N) + ~has_loop for ends in (SRC, DST))
    layer = nn.GCNConv(F, 3, **D)
    z = np.zeros((len(SEEDS), F))
    for u, v in zip(block.src, block.dst):
        a, b = batch.nodes[u], batch.nodes[v]
        z[v] += X[a] / np.sqrt(out[a] * into[b])
    for i, v in enumerate(SEEDS):
        if not has_loop[v]:
            z[i] += X[v] / np.sqrt(out[v] * into[v])
    np.testing.assert_allclose(layer(block, X[batch.nodes]), z @ layer.weight.data, rtol=1e-12)
    scales = degree_scales(block, "right", None, np.float64)
    np.testing.assert_allclose(
        scales[1][:, 0] * np.maximum(np.bincount(DST, minlength=N)[SEEDS], 1), SEEDS < N - 3
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda b: nn.SAGE(F, 5, 3)(b.blocks[:1], X[b.nodes]), ValueError, "1 blocks for 2 hops"),
        (lambda b: nn.SAGE(F, 5, 3)(b.blocks[0], X[b.nodes]), ValueError, "one block and there are 2 hops"),
        (lambda b: nn.SAGEConv(F, 3)(b.blocks, X[b.nodes]), ValueError, "2 blocks for 1 hops"),
        (lambda b: nn.SAGE(F, 5, 3)(b.blocks, X), ValueError, "x has shape"),
        (lambda b: nn.SAGE(F, 5, 3)([b.blocks[0], 3], X[b.nodes]), TypeError, "block 1 is"),
        (
            lambda b: nn.GCN(F, 5, 3)(b.blocks, X[b.nodes], edge_weight=W),
            ValueError,
            "weighted_degrees=False",
        ),
        (
            lambda b: UNSCALED(b.blocks, X[b.nodes], edge_weight=W[:7]),
            ValueError,
            r"GCN: edge data have shape \[7\], .* has 160 edges; give a row",
        ),
        (
            lambda b: UNSCALED(b.blocks, X[b.nodes], edge_weight=np.append(W, 1)),
            ValueError,
            r"edge data have shape \[161\]",
        ),
        (
            lambda b: nn.GCN(F, 5, 3)(b.blocks, X[b.nodes], edge_weight=[W]),
            ValueError,
            "1 arrays of edge data for 2 blocks",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(blocks_of(2))


def test_a_loop_is_no_sampled_edge():
    made = blocks_of(1).blocks[0].looped(np.arange(2), Origin(G))
    assert isinstance(made, Block)
    assert made.num_edges == blocks_of(1).blocks[0].num_edges + 2
