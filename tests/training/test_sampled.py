"""Training in batches: with all in-edges the whole graph's numbers, with few of them as good a model; the
command line.
"""

from __future__ import annotations

import json
import signal
from dataclasses import replace

import numpy as np
import pytest

import numgraph as ng
from numgraph.cli import main
from numgraph.training import evaluate
from numgraph.training.recipes import RECIPES

RNG = np.random.default_rng(0)
N = 80
G = ng.Graph(RNG.integers(0, N, 400), RNG.integers(0, N, 400), N)
X = RNG.standard_normal((N, 4))
DATA = {
    "classes": ng.Dataset.from_arrays(G, X, (X[:, 0] > 0).astype(int)),
    "numbers": ng.Dataset.from_arrays(G, X, X @ [1.0, 2.0, -1.0, 0.5]),
    "weighted": ng.Dataset.from_arrays(G, X, (X[:, 0] > 0).astype(int), edge_weight=RNG.uniform(0.5, 2, 400)),
}
LOADERS = {
    "neighbours": lambda data: ng.NeighborLoader(data, [-1, -1], input_nodes=data.train_mask),
    "all nodes": lambda data: ng.NeighborLoader(data, [-1, -1]),
    "clusters without masks": lambda data: ng.ClusterLoader(
        (data.graph, {"x": data.features}), np.zeros(N, int)
    ),
    "clusters": lambda data: ng.ClusterLoader(data, np.zeros(N, int)),
}


def trained(data, **options):
    model = ng.nn.GCN(data.num_features, 8, data.num_outputs, dropout=0, rng=0)
    return model, ng.fit(model, data, epochs=6, **options)


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in DATA for kind in LOADERS if "weighted" not in name or "masks" not in kind],
)
def test_one_batch_of_all_is_the_whole_graph(name, kind):
    data = DATA[name]
    model, history = trained(data, loader=LOADERS[kind](data))
    whole, want = trained(data)
    for curve in ("train_loss", "train_score", "val_loss", "val_score"):
        np.testing.assert_allclose(getattr(history, curve), getattr(want, curve), rtol=2e-3, atol=1e-4)
    for a, b in zip(model.parameters(), whole.parameters()):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-2, atol=1e-3)


def test_the_loss_is_the_mean_over_batches():
    data = DATA["classes"]
    model = ng.nn.GCN(4, 8, 2, dropout=0, rng=0)
    loader = ng.NeighborLoader(data, [-1, -1], input_nodes=data.train_mask, batch_size=20)
    assert len(loader) == 3
    history = ng.fit(model, data, ng.optim.SGD(model.parameters(), lr=0.0), epochs=1, loader=loader)
    z = ng.nn.GCN(4, 8, 2, dropout=0, rng=0)(data.graph, data.features)
    assert history.train_loss == pytest.approx(
        [ng.cross_entropy(z, data.labels, data.train_mask).item()], rel=1e-5
    )


def test_links_in_batches():
    links = ng.data.split_links(ng.data.load("karate"))
    model = ng.nn.SAGE(34, 16, 8, dropout=0, rng=0)
    history = ng.fit(
        model, links, epochs=40, loader=ng.LinkLoader(links, [-1, -1], batch_size=16, shuffle=True)
    )
    assert (history.score, history.epochs) == ("auc", 40)
    assert history.train_loss[-1] < 0.8 * history.train_loss[0]
    assert max(history.train_score) > 0.85


def test_a_few_neighbours_learn_as_well_as_all():
    """Two seeds of the digits, whose nodes have 11 in-edges, on 5 of them at each hop: about the accuracy of
    the whole graph.
    """
    data = ng.data.load("digits")
    scores = {False: [], True: []}
    for seed in range(2):
        for sampled in scores:
            model = ng.nn.SAGE(data.num_features, 16, data.num_classes, rng=seed)
            loader = (
                ng.NeighborLoader(
                    data, [5, 5], input_nodes=data.train_mask, batch_size=50, shuffle=True, seed=seed
                )
                if sampled
                else None
            )
            ng.fit(model, data, epochs=30 if sampled else 60, seed=seed, loader=loader)  # as many steps
            (test,) = evaluate(model, data, data.features, data.test_mask)
            scores[sampled].append(test.accuracy)
    assert min(scores[False]) > 0.9
    assert abs(np.mean(scores[False]) - np.mean(scores[True])) < 0.02


class Interrupted(ng.nn.GCN):
    """Ctrl-C comes in the middle of a step."""

    steps, last = 0, 10**9

    def forward(self, g, x, **options):
        if isinstance(g, list) and self.training:
            self.steps += 1
            if self.steps == self.last:
                signal.raise_signal(signal.SIGINT)
        return super().forward(g, x, **options)


@pytest.mark.parametrize(("last", "epochs"), [(1, 1), (5, 1), (7, 2)])
def test_an_interrupt_ends_after_the_step(last, epochs, tmp_path):
    """An epoch of five steps that is cut short is in the history; a checkpoint has whole epochs alone, and
    goes on from them.
    """
    data = DATA["classes"]

    def training(**options):
        loader = ng.NeighborLoader(data, [3, 3], input_nodes=data.train_mask, batch_size=10, shuffle=True)
        assert len(loader) == 5
        model = Interrupted(4, 8, 2, dropout=0.5, rng=0)
        model.last = options.pop("last", model.last)
        return model, ng.fit(model, data, epochs=4, loader=loader, **options)

    model, history = training(last=last, checkpoint=tmp_path / "point.npz")
    assert (model.steps, history.epochs, history.stopped) == (last, epochs, "interrupted")
    _, resumed = training(checkpoint=tmp_path / "point.npz")
    _, want = training()
    assert resumed.train_loss == want.train_loss


def other_graph():
    return replace(DATA["classes"], graph=ng.Graph(G.src, G.dst, N))


@pytest.mark.parametrize(
    ("loader", "error", "message"),
    [
        (lambda d: [1], TypeError, "loader is .*; give a NeighborLoader or ClusterLoader"),
        (lambda d: ng.LinkLoader(d, [2]), TypeError, "give a NeighborLoader"),
        (lambda d: ng.NeighborLoader(other_graph(), [2, 2]), ValueError, "loader is of another graph"),
        (
            lambda d: ng.NeighborLoader((d.graph, {"x": X}), [2, 2]),
            ValueError,
            "loader has no weights of edges",
        ),
        (
            lambda d: ng.NeighborLoader(d, [2, 2], input_nodes=d.test_mask),
            ValueError,
            "no batch of the loader has a node for training",
        ),
    ],
)
def test_errors(loader, error, message):
    with pytest.raises(error, match=message):
        trained(DATA["weighted"], loader=loader(DATA["weighted"]))


KARATE = ("train", "--dataset", "karate", "--epochs", "5")


@pytest.mark.parametrize("model", sorted(RECIPES))
def test_every_model_on_the_command_line(model, capsys):
    assert main([*KARATE, "--model", model, "--batch-size", "2", "--num-neighbors", "-1,4", "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert (result["batch_size"], result["num_neighbors"], result["epochs_run"]) == (2, [-1, 4], 5)
    assert 0.2 < result["test_accuracy"] <= 1
    assert (
        "sampled: 1 step an epoch, of 2 nodes; in-edges of a node that are drawn, by layer: all, 4; measured "
        "with all of them" in err
    )


def test_links_on_the_command_line(tmp_path, capsys):
    pytest.importorskip("pyarrow", reason="pyarrow (the extra tables) is not installed")
    g = ng.data.load("karate").graph
    rows = "".join(f"{u},{v}\n" for u, v in zip(g.src, g.dst) if u < v)
    (tmp_path / "edges.csv").write_text("source,target\n" + rows)
    options = [
        "--task",
        "link",
        "--batch-size",
        "20",
        "--epochs",
        "5",
        "--json",
        "--model",
        "sage",
        "--save",
        str(tmp_path / "model.npz"),
    ]
    assert main(["train", "--edges", str(tmp_path / "edges.csv"), *options]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["test_auc"] > 0.3
    assert "sampled: 4 steps an epoch, of 20 links and as many pairs without one" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-neighbors", "5,5"], "--num-neighbors was given without --batch-size"),
        (["--batch-size", "4", "--num-neighbors", "5"], "--num-neighbors has 1 numbers for 2 layers"),
        (["--batch-size", "4", "--device", "cuda"], "neighbours are sampled on the host"),
        (["--batch-size", "4", "--num-neighbors", "5,x"], "'x' is not a whole number"),
    ],
)
def test_what_cannot_be_is_told(options, message, capsys):
    try:
        status = main([*KARATE, *options])
    except SystemExit as end:
        status = end.code
    assert status != 0
    assert message in capsys.readouterr().err
