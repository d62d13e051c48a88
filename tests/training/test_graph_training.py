"""fit and cross-validation on sets of graphs, against steps and measures by hand."""

from __future__ import annotations

import signal

import numpy as np
import pytest

import numgraph as ng
from numgraph import nn
from numgraph.data import GraphDataset
from numgraph.training import cross_validate, evaluate
from numgraph.training.folds import fold_of


def rings(count: int = 40, task: str = "classification") -> GraphDataset:
    """Rings and chains of 3 to 6 nodes; of a regression their number of edges."""
    rng = np.random.default_rng(0)
    graphs, labels = [], []
    for closed in np.arange(count) % 2:
        n = int(rng.integers(3, 7))
        nodes = np.arange(n) if closed else np.arange(n - 1)
        graphs.append(ng.Graph(nodes, (nodes + 1) % n, n).to_bidirected())
        labels.append(closed if task == "classification" else float(len(nodes)))
    return GraphDataset.from_graphs(graphs, None, labels, (0.5, 0.25, 0.25), name=task)


def model_of(data: GraphDataset, seed: int = 0) -> nn.GraphModel:
    gnn = nn.GIN(
        data.num_features, 8, data.num_outputs, layers=2, norm="batch", jk="cat", dropout=0, rng=seed
    )
    return nn.GraphModel(gnn, dropout=0.1, rng=seed)


def test_a_model_reads_out_every_layer():
    """Against the formula: one Linear of the sums of all layers side by side."""
    data = rings(4)
    gnn = nn.GIN(data.num_features, 8, 2, layers=2, jk="cat", dropout=0, rng=0)
    (batch,) = ng.GraphLoader(data, 4)
    layers = gnn.between(batch.graph, batch.x)
    sums = [
        [h[start:end].sum(0) for start, end in zip(batch.node_offsets, batch.node_offsets[1:])]
        for h in layers
    ]
    want = np.concatenate(sums, 1) @ np.asarray(gnn.out.weight) + np.asarray(gnn.out.bias)
    np.testing.assert_allclose(nn.GraphModel(gnn)(batch, batch.x), want, rtol=1e-4, atol=1e-5)
    pool = nn.AttentionPooling(2, rng=0)
    other = nn.GraphModel(
        plain := nn.GIN(data.num_features, 8, 2, dropout=0, rng=0), pool, nn.Linear(2, 3, rng=0)
    )
    want = other.head(pool(batch, plain(batch.graph, batch.x)))
    np.testing.assert_array_equal(other(batch, batch.x), want)


def test_fit_is_these_steps():
    """The loss of each epoch, by a loop over the same batches."""
    data = rings()
    model, other = model_of(data), model_of(data)
    history = ng.fit(model, data, ng.optim.Adam(model.parameters(), lr=0.01), epochs=3, seed=4)
    optimizer, rng = ng.optim.Adam(other.parameters(), lr=0.01), np.random.default_rng(4)
    loader = ng.GraphLoader(data, input_graphs=data.train_mask, shuffle=True, seed=4)
    losses = []
    for _ in range(3):
        for batch in loader:
            with ng.Tape() as tape:
                loss = ng.cross_entropy(other(batch, batch.x, rng=rng), data.labels[batch.indices])
            optimizer.step(tape.gradient(loss, optimizer.parameters))
            losses.append(loss.item())
    np.testing.assert_allclose(history.train_loss, losses, rtol=1e-6)


def test_classes_and_numbers_are_learnt_and_measured():
    for task, score in (("classification", 0.9), ("regression", 0.7)):
        data = rings(60, task)
        model = model_of(data, 1)
        loader = ng.GraphLoader(data, 15, input_graphs=data.train_mask, shuffle=True)
        history = ng.fit(model, data, ng.optim.Adam(model.parameters(), lr=0.02), epochs=30, loader=loader)
        (measured,) = evaluate(model, data, None, data.val_mask)
        assert measured.score == history.val_score[history.best_epoch - 1] > score
        rows = [np.asarray(model(b, b.x)) for b in ng.GraphLoader(data, 7, input_graphs=data.val_mask)]
        got, want = np.concatenate(rows), data.labels[data.val_mask]
        if task == "classification":
            assert measured.accuracy == np.mean(got.argmax(1) == want)
        else:
            mean, deviation = data.label_scale
            assert measured.values["mae"] == pytest.approx(
                np.abs(got[:, 0] * deviation + mean - want).mean(), rel=1e-4
            )


def test_no_graph_outside_of_training_is_learnt():
    """A loader of all graphs gives the same losses whatever the labels of the others are."""
    data = rings()
    masks = (data.train_mask, np.zeros(len(data), bool), np.zeros(len(data), bool))
    losses = []
    for labels in (data.labels, np.where(data.train_mask, data.labels, 1 - data.labels)):
        one = GraphDataset.from_graphs(data.graphs, data.features, labels, masks)
        losses.append(
            ng.fit(model_of(one), one, epochs=2, loader=ng.GraphLoader(one, 10, shuffle=True)).train_loss
        )
    assert losses[0] == losses[1]


def test_a_checkpoint_goes_on_as_if_it_had_not_stopped(tmp_path):
    data = rings()
    whole, parts = model_of(data), model_of(data)
    ng.fit(whole, data, epochs=4)
    ng.fit(parts, data, epochs=2, checkpoint=tmp_path / "at.npz")
    resumed = model_of(data)
    history = ng.fit(resumed, data, epochs=4, checkpoint=tmp_path / "at.npz")
    assert history.epochs == 4
    for name, value in whole.state_dict().items():
        np.testing.assert_array_equal(value, resumed.state_dict()[name], err_msg=name)


def test_folds_are_disjoint_and_as_even_as_they_can_be():
    data = rings(47)
    part = fold_of("test", data, 5, 3)
    assert sorted(np.bincount(part)) == [9, 9, 9, 10, 10]
    for label in (0, 1):
        assert np.ptp(np.bincount(part[data.labels == label], minlength=5)) <= 1
    assert (part != fold_of("test", data, 5, 4)).any()


def test_cross_validation_reports_one_epoch_for_all_folds():
    data, seen = rings(24), []
    found = cross_validate(
        lambda fold: model_of(data, fold),
        data,
        folds=3,
        epochs=4,
        callback=lambda fold, history: seen.append(fold),
    )
    assert seen == [0, 1, 2]
    scores = np.array([history.val_score for history in found.histories])
    assert found.scores.shape == (3, 4)
    best = int(np.argmax(scores.mean(0)))
    assert found.best_epoch == best + 1
    assert (found.mean, found.std) == (scores[:, best].mean(), scores[:, best].std())
    part = fold_of("test", data, 3, 0)
    split = data.with_masks(part != 1, part == 1, np.zeros(24, bool))
    loader = ng.GraphLoader(split, 32, input_graphs=split.train_mask, shuffle=True, seed=0)
    alone = ng.fit(model_of(data, 1), split, epochs=4, loader=loader)
    assert alone.val_score == found.histories[1].val_score


def test_ctrl_c_leaves_the_folds_that_have_ended():
    """The signal comes in the first step of the second fold, and in the first fold's."""
    data, epochs = rings(12), []

    def make(at):
        def stop(epoch, history):
            epochs.append(epoch)
            if len(epochs) == at:
                signal.raise_signal(signal.SIGINT)

        return lambda fold: (model := model_of(data, fold), ng.optim.Adam(model.parameters()), stop)

    found = cross_validate(make(3), data, folds=2, epochs=2)
    assert found.scores.shape == (1, 2)
    epochs.clear()
    with pytest.raises(KeyboardInterrupt):
        cross_validate(make(1), data, folds=2, epochs=2)


def test_what_cannot_be():
    data = rings(8)
    model = model_of(data)
    for call, kind, text in (
        (
            lambda: ng.fit(model, data, loader=3),
            TypeError,
            "fit: loader is an int; give a GraphLoader of this dataset",
        ),
        (
            lambda: ng.fit(model, data, loader=ng.GraphLoader(rings(8))),
            ValueError,
            "fit: loader is of other graphs",
        ),
        (
            lambda: ng.fit(model, data, features=data.features[0]),
            ValueError,
            "fit: features were given beside a GraphDataset",
        ),
        (
            lambda: cross_validate(model_of, data, folds=9),
            ValueError,
            "folds is 9, and 8 graphs have a label",
        ),
        (
            lambda: cross_validate(lambda fold: (model, None, lambda *_: True), data, folds=2, epochs=2),
            ValueError,
            "ended fold 0 after 1 of 2",
        ),
        (
            lambda: cross_validate(model_of, [], folds=2),
            TypeError,
            "dataset is a list; give a numgraph.data.GraphDataset",
        ),
        (lambda: nn.GraphModel(nn.GIN(2, 4, 2)), ValueError, "there is no head, and gnn has no jk"),
        (lambda: nn.GraphModel(nn.GIN(2, 4, 2, jk="cat"), "summ"), ValueError, "unknown readout"),
        (
            lambda: model(data.graphs[0], data.features[0]),
            TypeError,
            "GraphModel: the first argument is a Graph",
        ),
    ):
        with pytest.raises(kind, match=text):
            call()
    none = np.zeros(8, bool)
    with pytest.raises(ValueError, match="no graph is for training"):
        ng.fit(model, data.with_masks(none, none, none))
