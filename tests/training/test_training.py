"""The training loop: what it keeps, when it stops, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from numgraph.autodiff.tape import Parameter
from numgraph.data import Dataset, load
from numgraph.dense import cross_entropy, dropout, matmul
from numgraph.graph import Graph
from numgraph.message import update_all
from numgraph.nn import Module
from numgraph.optim import SGD, Adam
from numgraph.training import History, evaluate, fit


class Smoothed(Module):
    """Logits from the features averaged with the neighbours': no layer of the package, so that the loop is
    tested alone.
    """

    def __init__(self, dataset: Dataset, seed: int = 0, p: float = 0.0) -> None:
        weight = 0.1 * np.random.default_rng(seed).standard_normal(
            (dataset.num_features, dataset.num_classes)
        )
        self.weight = Parameter(weight.astype(np.float32), name="weight")
        self.p = p
        self.steps = np.zeros(())

    buffers = ("steps",)

    def forward(self, graph: Any, x: Any, rng: np.random.Generator | None = None) -> Any:
        if self.training:
            assert rng is not None
            x = dropout(x, self.p, rng)
        self.steps += self.training
        z = matmul(x, self.weight)
        return z + update_all(graph, lambda u: u.z, "mean", u={"z": z})


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def trained(
    dataset: Dataset, epochs: int = 30, lr: float = 0.05, p: float = 0.0, seed: int = 0, **options: Any
) -> tuple[Smoothed, History]:
    model = Smoothed(dataset, p=p)
    return model, fit(model, dataset, Adam([model.weight], lr=lr), epochs=epochs, seed=seed, **options)


def test_it_learns_and_counts(digits: Dataset) -> None:
    model, history = trained(digits)
    assert (
        history.epochs
        == len(history.train_loss)
        == len(history.val_loss)
        == len(history.train_accuracy)
        == 30
    )
    assert history.stopped == "epochs"
    assert history.train_loss[-1] < 0.5 * history.train_loss[0]
    (test,) = evaluate(model, digits, digits.features, digits.test_mask)
    assert test.accuracy > 0.85
    assert not model.training


def test_metrics_against_numpy(digits: Dataset) -> None:
    model = Smoothed(digits)
    adjacency = np.zeros((1797, 1797))
    adjacency[digits.graph.dst, digits.graph.src] = 1
    z = digits.features.astype(np.float64) @ model.weight.data.astype(np.float64)
    logits = z + adjacency @ z / adjacency.sum(1, keepdims=True)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    nodes = np.flatnonzero(digits.val_mask)
    (val,) = evaluate(model, digits, digits.features, digits.val_mask)
    assert val.loss == pytest.approx(-np.log(probabilities[nodes, digits.labels[nodes]]).mean(), rel=1e-5)
    assert val.accuracy == pytest.approx((logits[nodes].argmax(1) == digits.labels[nodes]).mean(), abs=1e-9)


def test_best_epoch_is_kept(digits: Dataset) -> None:
    """Steps so large that accuracy goes up and down: the model must come back as it was in the best epoch."""
    seen: list[np.ndarray] = []
    model = Smoothed(digits)
    history = fit(
        model,
        digits,
        SGD([model.weight], lr=30.0),
        epochs=25,
        callback=lambda epoch, history: seen.append(model.weight.data.copy()),
    )
    accuracy, loss = np.array(history.val_accuracy), np.array(history.val_loss)
    best = min(np.flatnonzero(accuracy == accuracy.max()), key=lambda epoch: loss[epoch])
    assert best != 24
    assert history.best_epoch == best + 1
    np.testing.assert_array_equal(model.weight.data, seen[best])
    assert model.steps == best + 1  # buffers too
    assert not model.training


def test_patience_counts_epochs_without_a_better_loss_or_accuracy(digits: Dataset) -> None:
    _, history = trained(digits, epochs=200, lr=2.0, patience=5)
    assert history.stopped == "patience"
    accuracy, loss = np.array(history.val_accuracy), np.array(history.val_loss)
    better = [
        (accuracy[e] > accuracy[:e].max(initial=-1)) or (loss[e] < loss[:e].min(initial=np.inf))
        for e in range(history.epochs)
    ]
    assert not any(better[-5:])
    assert better[-6]
    runs = "".join("b" if one else "." for one in better[:-1])
    assert "....." not in runs


def test_seeds(digits: Dataset) -> None:
    one, two, other = (trained(digits, epochs=3, p=0.5, seed=seed) for seed in (1, 1, 2))
    assert one[0].weight.data.tobytes() == two[0].weight.data.tobytes()
    assert one[1].train_loss == two[1].train_loss
    assert one[1].train_loss != other[1].train_loss


def test_sparse_features_train_alike(digits: Dataset) -> None:
    dense, _ = trained(digits, epochs=3)
    sparse, _ = trained(digits, epochs=3, features=digits.sparse_features)
    np.testing.assert_allclose(sparse.weight.data, dense.weight.data, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("when", [1, 7])
def test_interrupted_training_keeps_the_best(digits: Dataset, when: int) -> None:
    seen: list[np.ndarray] = []

    def press(epoch: int, history: History) -> None:
        seen.append(model.weight.data.copy())
        if epoch == when:
            raise KeyboardInterrupt

    model = Smoothed(digits)
    history = fit(model, digits, Adam([model.weight], lr=0.05), epochs=100, callback=press)
    assert history.stopped == "interrupted"
    assert history.epochs == when
    np.testing.assert_array_equal(model.weight.data, seen[history.best_epoch - 1])


def test_interrupt_in_the_middle_of_a_step(digits: Dataset) -> None:
    model = Smoothed(digits)
    start = model.weight.data.copy()

    class Pressed(Adam):
        def _updater(self, *options: float) -> Callable[..., None]:
            def update(p: Any, *rest: Any) -> None:
                p[:] = np.nan  # half a step
                raise KeyboardInterrupt

            return update

    history = fit(model, digits, Pressed([model.weight], lr=0.05), epochs=100)
    assert (history.stopped, history.epochs, history.best_epoch) == ("interrupted", 0, 0)
    np.testing.assert_array_equal(model.weight.data, start)


def test_divergence_is_an_error_and_keeps_the_best(digits: Dataset) -> None:
    model = Smoothed(digits)
    start = model.weight.data.copy()
    with pytest.raises(
        ValueError,
        match=r"fit: the (validation )?loss is (nan|inf) in epoch 1; lower the learning rate, 1e\+38",
    ):
        fit(model, digits, SGD([model.weight], lr=1e38), epochs=5)
    np.testing.assert_array_equal(model.weight.data, start)


def test_loss_is_that_of_the_training_nodes(digits: Dataset) -> None:
    model = Smoothed(digits)
    before = float(
        cross_entropy(model.eval()(digits.graph, digits.features), digits.labels, digits.train_mask)
    )
    history = fit(model, digits, Adam([model.weight]), epochs=1)
    assert history.train_loss == [pytest.approx(before, rel=1e-6)]


def test_without_validation_the_training_nodes_judge(digits: Dataset) -> None:
    nobody = np.zeros(digits.num_nodes, bool)
    data = replace(digits, val_mask=nobody)
    seen: list[np.ndarray] = []
    model = Smoothed(data)
    optimizer = SGD([model.weight], lr=20.0)
    history = fit(
        model,
        data,
        optimizer,
        epochs=40,
        patience=4,
        callback=lambda *_: seen.append(model.weight.data.copy()),
    )
    kept = model.weight.data.copy()
    assert (history.val_loss, history.val_score) == ([], [])
    scores = [evaluate(_with(model, weight), data, data.features, data.train_mask)[0] for weight in seen]
    best = max(range(len(seen)), key=lambda epoch: (scores[epoch].accuracy, -scores[epoch].loss))
    assert history.best_epoch == best + 1
    np.testing.assert_array_equal(kept, seen[best])


def _with(model: Smoothed, weight: np.ndarray) -> Smoothed:
    model.weight.data[...] = weight
    return model


@pytest.mark.parametrize("end", [True, np.True_])
def test_a_callback_ends_the_training(digits: Dataset, end: Any) -> None:
    calls: list[int] = []

    def watch(epoch: int, history: History) -> int:
        calls.append(epoch)
        return 7  # no answer to whether it ends

    def stop(epoch: int, history: History) -> Any:
        return end if history.train_loss[-1] < history.train_loss[0] and epoch == 4 else None

    model = Smoothed(digits)
    history = fit(model, digits, Adam([model.weight], lr=0.05), callback=[watch, stop])
    assert (history.stopped, history.epochs, calls) == ("callback", 4, [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("callback", "message"),
    [(5, "callback is 5"), ([print, 3], "callback is .*, 3"), ("stop", "callback is 'stop'")],
)
def test_what_is_no_callback(callback: Any, message: str, digits: Dataset) -> None:
    with pytest.raises(TypeError, match=f"fit: {message}"):
        fit(Smoothed(digits), digits, callback=callback)


def test_an_optimizer_of_another_model_is_an_error(digits: Dataset) -> None:
    """It would train nothing, and the losses would be those of a model that does not learn."""
    with pytest.raises(
        ValueError, match="fit: the optimizer has none of the model's parameters; make it after the model"
    ):
        fit(Smoothed(digits), digits, Adam(Smoothed(digits).parameters()))


def test_no_node_for_training_is_an_error() -> None:
    data = Dataset.from_arrays(Graph([0], [1], 4), None, [0.5, 1.5, 2.5, 3.5], split=(0, 0, 1))
    with pytest.raises(ValueError, match="fit: no node is for training"):
        fit(Line(), data)


def test_the_optimizer_may_be_left_to_fit(digits: Dataset) -> None:
    one, two = Smoothed(digits), Smoothed(digits)
    fit(one, digits, epochs=3)
    fit(two, digits, Adam([two.weight], lr=0.01), epochs=3)
    np.testing.assert_array_equal(one.weight.data, two.weight.data)


class Line(Module):
    """slope · x + offset: a regression with a known best answer."""

    def __init__(self) -> None:
        self.slope, self.offset = Parameter(np.zeros(1)), Parameter(np.zeros(1))

    def forward(self, graph: Any, x: Any, rng: Any = None) -> Any:
        return x * self.slope + self.offset


def test_a_regression_finds_the_least_squares() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=40)
    y = 3 * x - 2 + 0.3 * rng.normal(size=40)
    y[:10] = np.nan
    data = Dataset.from_arrays(Graph([0], [1], 40), x, y, split=(1, 0, 0))
    model = Line()
    history = fit(model, data, SGD(model.parameters(), lr=0.3), epochs=200)
    slope, offset = np.polyfit(x[10:], y[10:], 1)
    assert (model.slope.data[0], model.offset.data[0]) == (
        pytest.approx(slope, rel=1e-4),
        pytest.approx(offset, rel=1e-4),
    )
    residual = y[10:] - slope * x[10:] - offset
    assert history.score == "r2"
    assert max(history.train_score) == pytest.approx(1 - residual.var() / y[10:].var(), rel=1e-4)
    with pytest.raises(AttributeError, match="has no accuracy"):
        _ = history.val_accuracy


def test_a_regression_learns_scaled_labels_and_is_measured_in_their_unit() -> None:
    x = np.linspace(-1, 1, 30)
    y = (1e5 + 4e3 * x).astype(np.float32)
    data = Dataset.from_arrays(Graph([0], [1], 30), x, y, split=(0.8, 0.0, 0.2))
    chosen = y[data.train_mask].astype(float)
    data = replace(data, label_scale=(chosen.mean(), chosen.std()))
    model = Line()
    fit(model, data, SGD(model.parameters(), lr=0.3), epochs=100)
    (test,) = evaluate(model, data, data.features, data.test_mask)
    predicted = np.asarray(model(data.graph, data.features))[:, 0] * chosen.std() + chosen.mean()
    np.testing.assert_allclose(predicted, y, rtol=1e-4)
    assert test.values["rmse"] == pytest.approx(
        np.sqrt(np.mean((predicted - y)[data.test_mask] ** 2)), rel=1e-3, abs=1e-3
    )


class Weighed(Line):
    def forward(self, graph: Any, x: Any, edge_weight: Any = None, rng: Any = None) -> Any:
        return (
            update_all(
                graph, lambda u, e: u.x * e.w, "sum", u={"x": x * self.slope}, e={"w": edge_weight[:, None]}
            )
            + self.offset
        )


def test_weights_of_edges_reach_models_that_take_them() -> None:
    rng = np.random.default_rng(1)
    graph = Graph(rng.integers(0, 20, 60), rng.integers(0, 20, 60), 20)
    x, w = rng.normal(size=20), rng.random(60).astype(np.float32)
    y = np.zeros(20)
    np.add.at(y, graph.dst, x[graph.src] * w)
    data = Dataset.from_arrays(graph, x, y, split=(1, 0, 0), edge_weight=w)
    model = Weighed()
    fit(model, data, SGD(model.parameters(), lr=0.2), epochs=300)
    assert model.slope.data[0] == pytest.approx(1, abs=1e-3)
    with pytest.warns(UserWarning, match="fit: Line takes no weights of edges"):
        fit(Line(), data, epochs=1)


class Drawn(Line):
    drawn: Any = None

    def forward(self, graph: Graph, x: Any, rng: Any = None) -> Any:
        self.drawn = self.drawn or rng
        return x * self.slope + self.offset


class Plain(Line):
    def forward(self, graph: Graph, x: Any) -> Any:
        return x * self.slope + self.offset


def test_a_model_is_given_a_generator_if_it_takes_one() -> None:
    data = Dataset.from_arrays(Graph([0, 1, 2], [1, 2, 0]), [1.0, 2.0, 3.0], [2.0, 4.0, 6.0], split=(1, 0, 0))
    drawn, plain = Drawn(), Plain()
    losses = [
        fit(model, data, SGD(model.parameters(), lr=0.1), epochs=3).train_loss for model in (drawn, plain)
    ]
    assert losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0]
    assert isinstance(drawn.drawn, np.random.Generator)


def test_a_regression_needs_one_number_a_node() -> None:
    data = Dataset.from_arrays(Graph([0], [1], 2), np.ones((2, 2)), [0.5, 1.5], split=(1, 0, 0))
    with pytest.raises(ValueError, match="fit: the model gives 2 numbers for a node, a regression needs one"):
        fit(Line(), data, epochs=1)


def test_a_history_is_shown_in_a_line() -> None:
    assert repr(History([0.5] * 300, [0.25] * 300, best_epoch=3)).startswith(
        "History(300 epochs, best_epoch=3, train_score=0.25, score='accuracy', stopped='epochs'"
    )
