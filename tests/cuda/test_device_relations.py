"""Relations on the device (support/device.py): the host's numbers, and no array that leaves it."""

from __future__ import annotations

import numpy as np
import pytest
from checks import weights_like
from device import DeviceArray, back, device, there

import numgraph as ng
from numgraph import nn
from numgraph.autodiff.tape import Tape, unwrap
from numgraph.data import Triples
from numgraph.training import fit_triples, rank_triples

__all__ = ["device"]

H = ng.HeteroGraph(
    {
        ("a", "r", "b"): ([0, 1, 1, 2], [0, 0, 1, 3]),
        ("b", "s", "b"): ([0, 2, 3], [1, 1, 0]),
        ("b", "t", "a"): ([1, 1], [0, 2]),
    },
    {"a": 3, "b": 4, "c": 2},
)
X = {
    kind: np.random.default_rng(i).normal(size=(count, 2))
    for i, (kind, count) in enumerate(H.num_nodes.items())
}
OPTIONS = {"rng": 0, "dtype": np.float64}
FUNCTIONS = {"r": (lambda u: u.x, "sum"), "s": (lambda u, v: u.x * v.x, "max"), "t": (lambda u: u.x, "mean")}
LAYERS = {
    "heteroconv": lambda: nn.HeteroConv(
        {name: nn.SAGEConv((2, 2), 2, **OPTIONS) for name in ("r", "s", "t")}, "mean"
    ),
    "hgt": lambda: nn.HGTConv(2, 2, H, heads=2, **OPTIONS),
    "rgcn": lambda: nn.RGCNConv(2, 2, 3, **OPTIONS),
    "max": lambda: (
        lambda h, x: ng.multi_update_all(
            h, FUNCTIONS, "max", nodes={kind: {"x": one} for kind, one in x.items()}
        )
    ),
    "stack": lambda: (
        lambda h, x: ng.multi_update_all(
            h, FUNCTIONS, "stack", nodes={kind: {"x": one} for kind, one in x.items()}
        )
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_relations_are_the_hosts(name, device):
    made = []
    for place in ("cpu", "cuda"):
        layer = LAYERS[name]()
        layer = layer.to(place) if isinstance(layer, nn.Module) else layer
        put = there if place == "cuda" else np.array
        with Tape() as tape:
            x = {kind: tape.watch(put(one)) for kind, one in X.items()}
            z = layer(H.to(place), x)
            loss = sum((z[kind] * put(weights_like(z[kind].shape))).sum() for kind in ("a", "b"))
        made.append([*(unwrap(one) for one in z.values()), *tape.gradient(loss, [x["a"], x["b"]])])
    check(made)


@pytest.mark.parametrize("make", [nn.ComplEx, nn.TransE])
def test_scores_of_triples_are_the_hosts(make, device):
    made, (h, r, t) = [], ([0, 3, 2, 0], [1, 0, 1, 1], [2, 3, 0, 2])
    for place in ("cpu", "cuda"):
        model = make(4, 2, 3, reciprocal=make is nn.ComplEx, rng=1, dtype=np.float64).to(place)
        put = there if place == "cuda" else np.array
        with Tape() as tape:
            scores, both = model.score(h, r, t), model.score_both(h, r, t)
            loss = sum((one * put(weights_like(one.shape))).sum() for one in (scores, both)) + model.penalty(
                h, r, t
            )
        made.append([unwrap(scores), unwrap(both), *tape.gradient(loss, model.parameters())])
    check(made)


def test_triples_are_learnt_as_on_the_host(device):
    rows = np.array([(i, 0, (i + 1) % 8) for i in range(8)] + [((i + 1) % 8, 1, i) for i in range(8)])
    data = Triples("ring", rows[:12], rows[12:14], rows[14:], [str(i) for i in range(8)], ["next", "before"])
    made = []
    for place in ("cpu", "cuda"):
        model = nn.ComplEx(8, 2, 3, reciprocal=True, rng=0, dtype=np.float64).to(place)
        history = fit_triples(model, data, epochs=3, batch_size=6, penalty=0.01)
        made.append(
            [np.array(history.train_loss), np.array(history.val_score), model.state_dict()["entities"]]
        )
        made[-1].append(np.array(rank_triples(model, data.test, data)["mean_rank"]))
    assert all(np.allclose(a, b, rtol=1e-9) for a, b in zip(*made))


def check(made):
    assert all(isinstance(one, DeviceArray) for one in made[1])
    for want, got in zip(made[0], back(made[1])):
        assert np.allclose(got, want, atol=1e-12)
