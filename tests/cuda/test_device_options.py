"""Options of layers and models on the device (tests/support/device.py): the numbers and gradients of the
host.
"""

from __future__ import annotations

import checks
import numpy as np
import pytest
from device import back, device, there
from test_device_layers import on, trained_once, weights_like

from numgraph import Graph, nn
from numgraph.autodiff.tape import unwrap

__all__ = ["device"]

# Node 1 has two self loops and parallel in-edges, node 3 no in-edges, node 5 no edges.
G = Graph([0, 1, 1, 2, 2, 4, 3, 1, 4, 0, 1], [1, 1, 1, 1, 1, 1, 0, 0, 2, 2, 4], 6)
RNG = np.random.default_rng(0)
X, WEIGHT, ATTR = RNG.standard_normal((6, 3)), RNG.uniform(0.5, 1.5, 11), RNG.standard_normal((11, 2))
W, A = {"edge_weight": WEIGHT}, {"edge_attr": ATTR}
WIDE = {"rng": 0, "dtype": np.float64}

LAYERS = {
    "gcn": (lambda: nn.GCNConv(3, 2, norm="in", improved=True, collapse_loops=True, **WIDE), W),
    "gcn without weights": (lambda: nn.GCNConv(3, 2, improved=True, **WIDE), {}),
    "sage": (lambda: nn.SAGEConv(3, 2, aggr=["mean", "std", "median"], normalize=True, **WIDE), W),
    "gin": (lambda: nn.GINConv(nn.MLP([3, 2], norm="layer", **WIDE)), W),
    "gat": (lambda: nn.GATConv(3, 2, heads=2, edge_dim=2, residual=True, **WIDE), A | W),
    "gat, one loop": (
        lambda: nn.GATConv(3, 2, edge_dim=2, fill_value=[1.0, 2.0], collapse_loops=True, **WIDE),
        A,
    ),
    "gatv2": (
        lambda: nn.GATv2Conv(
            3, 2, edge_dim=2, fill_value="max", projection_bias=True, collapse_loops=True, **WIDE
        ),
        A,
    ),
    "transformer": (lambda: nn.TransformerConv(3, 2, edge_dim=2, **WIDE), A),
    "edge": (lambda: nn.EdgeConv(nn.MLP([6, 2], **WIDE), aggr=["max", "median"]), {}),
    "pna": (lambda: nn.PNAConv(3, 4, towers=2, edge_dim=2, delta=1.0, std_eps=0, **WIDE), A),
    "model": (lambda: nn.GAT(3, 2, 2, dropout=0, heads=2, norm="batch", jk="max", act="relu", **WIDE), W),
}


@pytest.mark.parametrize("name", LAYERS)
def test_options(device, monkeypatch, name):
    made = []
    for place in (lambda x: x, there):
        monkeypatch.setattr(checks, "weights_like", lambda *a, place=place: place(weights_like(*a)))
        make, data = LAYERS[name]
        layer = make().to("cpu" if place is not there else "cuda")
        made.append(trained_once(layer, on(place, G), place(X), place(data), {}))
    checks.assert_close(back(made[1]), made[0], 1e-12)


def test_relations_and_categories(device):
    relations, ids = np.arange(11) % 3, np.array([[0, 2], [1, 1]])
    layer, table = nn.RGCNConv(3, 6, 3, num_blocks=3, **WIDE), nn.Embedding(3, 2, **WIDE)
    want = [unwrap(layer(G, X, relations, WEIGHT)), unwrap(table(ids))]
    layer.to("cuda"), table.to("cuda")
    got = [unwrap(layer(G.to("cuda"), there(X), there(relations), there(WEIGHT))), unwrap(table(there(ids)))]
    checks.assert_close(back(got), want, 1e-12)


def test_attention_is_returned(device):
    layer = nn.GATConv(3, 2, heads=2, **WIDE)
    _, (_, want) = layer(G, X, return_attention_weights=True)
    _, (g, alpha) = layer.to("cuda")(G.to("cuda"), there(X), return_attention_weights=True)
    assert g.device == "cuda"
    checks.assert_close(back([unwrap(alpha)]), [unwrap(want)], 1e-12)
