"""``numgraph train --task graph``: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

import numgraph as ng
from numgraph.cli import main
from numgraph.data import read_tu
from numgraph.serialize import read_arrays, save_parameters
from numgraph.training import evaluate
from numgraph.training.graph_predictor import GraphPredictor
from numgraph.training.recipes import build_of_graphs, recipe

SMALL = ["--hidden", "8", "--layers", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rings of 3 to 6 nodes, and such with one edge missing; the numbers are those of the nodes."""
    path, rng, first = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0), 1
    edges, indicator, labels, numbers = [], [], [], []
    for graph in range(40):
        size, closed = int(rng.integers(3, 7)), graph % 2
        for i in range(size - (not closed)):
            pair = (first + i, first + (i + 1) % size)
            edges += [f"{pair[0]}, {pair[1]}", f"{pair[1]}, {pair[0]}"]
        first += size
        indicator += [graph + 1] * size
        labels.append(2 * closed - 1)
        numbers.append(size / 2)
    files = {
        "A": edges,
        "graph_indicator": indicator,
        "graph_labels": labels,
        "graph_attributes": numbers,
        "edge_labels": [0] * len(edges),
    }
    for kind, lines in files.items():
        (path / f"shapes_{kind}.txt").write_text("\n".join(map(str, lines)), "utf-8")
    return path


def test_a_model_is_trained_measured_and_saved(folder, tmp_path, capsys):
    target = tmp_path / "model.npz"
    words = [*SMALL, "--epochs", "40", "--batch-size", "16", "--seed", "1", "--json", "--save", str(target)]
    assert main(["train", "--task", "graph", "--data", str(folder), *words]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert "shapes: 40 graphs" in err
    assert (
        "3 features; the edges' 1 features are left out, as gin takes none, 2 classes; 32 graphs train, 4 "
        "validate, 4 test" in err
    )
    assert "gin: 2 layers, hidden 8, sum over the nodes of every layer" in err
    assert "2 steps an epoch, of 16 graphs" in err
    assert (result["task"], result["target"], result["model"], result["readout"]) == (
        "graph",
        "classification",
        "gin",
        "sum",
    )
    data = read_tu(folder, rng=1)
    model, _, _ = build_of_graphs(recipe("gin", "graph", hidden=8, layers=2), data)
    arrays = read_arrays(target)
    model.load_state_dict(
        {name.removeprefix("model/"): array for name, array in arrays.items() if name.startswith("model/")}
    )
    for part in ("train", "val", "test"):
        (measured,) = evaluate(model.eval(), data, None, getattr(data, f"{part}_mask"))
        assert result[f"{part}_accuracy"] == measured.accuracy
    assert result["train_accuracy"] > 0.8


@pytest.mark.parametrize("model", ["gcn", "sage", "gat"])
def test_other_models_learn_numbers(model, folder, capsys):
    words = ["--model", model, "--target", "0", *SMALL, "--epochs", "2", "--quiet"]
    assert main(["train", "--task", "graph", "--data", str(folder), *words]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("test R² ")
    assert (out.count("\n"), err) == (1, "")


def test_folds_report_the_best_epoch_of_all(folder, capsys):
    words = [*SMALL, "--epochs", "3", "--folds", "3", "--readout", "max", "--json"]
    assert main(["train", "--task", "graph", "--data", str(folder), *words]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert [line.split("   ")[0] for line in err.splitlines() if line.startswith("fold")] == [
        "fold 1/3",
        "fold 2/3",
        "fold 3/3",
    ]
    assert (
        f"3 folds: accuracy {100 * result['val_accuracy']:.1f} ± {100 * result['val_accuracy_std']:.1f} %"
        in err
    )
    assert result["val_accuracy"] == pytest.approx(np.mean(result["of_folds"]))
    assert result["val_accuracy_std"] == pytest.approx(np.std(result["of_folds"]))
    assert (result["folds"], result["epochs_run"], result["readout"]) == (3, 3, "max")


def test_a_saved_model_predicts_of_another_folder(folder, tmp_path, capsys):
    """One with fewer graphs, in another order, whose degrees and classes are not all there."""
    model, other, table = tmp_path / "model.npz", tmp_path / "other", tmp_path / "predictions.csv"
    words = [*SMALL, "--epochs", "20", "--batch-size", "16", "--seed", "1", "--save", str(model), "--quiet"]
    assert main(["train", "--task", "graph", "--data", str(folder), *words]) == 0
    capsys.readouterr()
    data, chosen = read_tu(folder, rng=1), [7, 1, 30]
    other.mkdir()
    edges, indicator, first = [], [], 1
    for number, i in enumerate(chosen, 1):
        g = data.graphs[i]
        edges += [f"{first + a}, {first + b}" for a, b in zip(g.src.tolist(), g.dst.tolist())]
        indicator += [str(number)] * g.num_nodes
        first += g.num_nodes
    for kind, lines in {"A": edges, "graph_indicator": indicator, "graph_labels": ["1", "1", "5"]}.items():
        (other / f"some_{kind}.txt").write_text("\n".join(lines), "utf-8")
    assert main(["predict", "--model", str(model), "--data", str(other), "--out", str(table), "--json"]) == 0
    out = capsys.readouterr().out
    fresh, _, _ = build_of_graphs(recipe("gin", "graph", hidden=8, layers=2), data)
    arrays = read_arrays(model)
    fresh.load_state_dict(
        {name.removeprefix("model/"): array for name, array in arrays.items() if name.startswith("model/")}
    )
    fresh.eval()
    b = ng.batch([data.graphs[i] for i in chosen])
    z = np.asarray(fresh(b, np.concatenate([data.features[i] for i in chosen])), np.float64)
    expected = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    rows = [line.replace('"', "").split(",") for line in table.read_text("utf-8").splitlines()]
    assert rows[0] == ["graph", "prediction", "probability"]
    assert [row[0] for row in rows[1:]] == ["1", "2", "3"]
    assert [int(row[1]) for row in rows[1:]] == [data.classes[k] for k in z.argmax(1)]
    np.testing.assert_allclose([float(row[2]) for row in rows[1:]], expected.max(1), rtol=1e-5)
    result = json.loads(out)
    assert (result["task"], result["predictions"], result["labelled"]) == ("graph", 3, 2)
    assert result["accuracy"] == np.mean([data.classes[k] == 1 for k in z.argmax(1)[:2]])
    assert main(["predict", "--model", str(model), "--edges", "e.csv", "--out", str(table)]) == 1
    assert "--edges is for models of nodes" in capsys.readouterr().err
    (other / "some_node_labels.txt").write_text("\n".join(["0"] * len(indicator)), "utf-8")
    assert main(["predict", "--model", str(model), "--data", str(other), "--out", str(table)]) == 1
    assert "some_node_labels.txt has 1 columns, the model's set had 0" in capsys.readouterr().err


def test_a_model_that_takes_features_of_edges_is_given_them(folder, tmp_path, capsys):
    """Graphs that differ in their edges' labels alone are told apart by gat, also of another folder, and not
    without them.
    """
    name, table = tmp_path / "model.npz", tmp_path / "predictions.csv"
    for place, count in (("first", 40), ("second", 10)):
        path = tmp_path / place
        path.mkdir()
        texts = {kind: [] for kind in ("A", "graph_indicator", "graph_labels", "edge_labels")}
        for graph in range(count):
            for i in range(4):
                texts["A"] += [f"{4 * graph + i + 1}, {4 * graph + (i + 1) % 4 + 1}"]
                texts["graph_indicator"].append(str(graph + 1))
                texts["edge_labels"].append(str(5 * (graph % 2 and i == 0)))
            texts["graph_labels"].append(str(graph % 2))
        for kind, lines in texts.items():
            (path / f"rings_{kind}.txt").write_text("\n".join(lines), "utf-8")
        (path / "rings_node_attributes.txt").write_text(
            "\n".join(str(i % 4) for i in range(4 * count)), "utf-8"
        )
    words = [
        "--model",
        "gat",
        *SMALL,
        "--heads",
        "2",
        "--epochs",
        "60",
        "--lr",
        "0.03",
        "--batch-size",
        "40",
        "--dropout",
        "0",
    ]
    assert (
        main(
            [
                "train",
                "--task",
                "graph",
                "--data",
                str(tmp_path / "first"),
                *words,
                "--save",
                str(name),
                "--json",
            ]
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert "1 features, 2 of edges, 2 classes" in err
    assert json.loads(out)["train_accuracy"] == 1
    assert (
        main(
            [
                "predict",
                "--model",
                str(name),
                "--data",
                str(tmp_path / "second"),
                "--out",
                str(table),
                "--json",
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1
    (tmp_path / "second" / "rings_edge_labels.txt").unlink()
    assert (
        main(["predict", "--model", str(name), "--data", str(tmp_path / "second"), "--out", str(table)]) == 1
    )
    assert "rings_edge_labels.txt has 0 columns, the model's set had 1" in capsys.readouterr().err


def test_a_saved_regression_predicts_in_the_labels_own_scale(folder, tmp_path, capsys):
    model, table = tmp_path / "model.safetensors", tmp_path / "predictions.csv"
    words = [
        "--target",
        "0",
        *SMALL,
        "--epochs",
        "2",
        "--batch-size",
        "16",
        "--quiet",
        "--json",
        "--save",
        str(model),
    ]
    assert main(["train", "--task", "graph", "--data", str(folder), *words]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert (
        main(["predict", "--model", str(model), "--data", str(folder), "--out", str(table), "--quiet"]) == 0
    )
    predicted = np.array([float(line.split(",")[1]) for line in table.read_text("utf-8").splitlines()[1:]])
    data = read_tu(folder, task="regression")
    error = (predicted - data.labels)[data.test_mask]
    np.testing.assert_allclose(np.sqrt(np.mean(error**2)), trained["test_rmse"], rtol=1e-5)


@pytest.mark.parametrize(
    "changed",
    [{"recipe": {"layers": 10**9}}, {"target": "ranks"}, {"columns": {"degrees": 10**12}}, {"readout": 3}],
)
def test_a_lying_description_is_an_error(changed, folder, tmp_path, capsys):
    model = tmp_path / "model.npz"
    words = [*SMALL, "--epochs", "1", "--quiet", "--save", str(model)]
    assert main(["train", "--task", "graph", "--data", str(folder), *words]) == 0
    arrays = read_arrays(model)
    about = json.loads(arrays["about"].tobytes())
    for name, value in changed.items():
        about[name] = about[name] | value if isinstance(value, dict) else value
    save_parameters(model, arrays | {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)})
    with pytest.raises(ValueError, match="damaged"):
        GraphPredictor.load(model)


REFUSED = {
    "no data": (["--task", "graph"], "give --data, a folder with NAME_A.txt"),
    "no folder": (["--task", "graph", "--data", "nowhere"], "there is no folder nowhere"),
    "edges": (
        ["--task", "graph", "--data", "x", "--edges", "e.csv"],
        "--edges was given beside --task graph",
    ),
    "a scorer": (["--task", "graph", "--data", "x", "--model", "transe"], "--model transe is one of triples"),
    "device": (
        ["--task", "graph", "--data", "x", "--device", "cuda"],
        "sets of graphs are learnt on the host",
    ),
    "a file of folds": (
        ["--task", "graph", "--data", "x", "--folds", "2", "--save", "m.npz"],
        "--save was given beside --folds",
    ),
    "a column's name": (
        ["--task", "graph", "--data", "x", "--target", "mass"],
        "--target is 'mass'; of graphs it is a column",
    ),
    "folds of nodes": (["--folds", "5"], "--folds was given without --task graph"),
    "heads": (["--task", "graph", "--data", "x", "--heads", "2"], "only gat has heads"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(name, capsys):
    words, text = REFUSED[name]
    assert main(["train", *words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert text in err
    assert err.count("\n") == 1


def test_more_folds_than_graphs(folder, capsys):
    assert main(["train", "--task", "graph", "--data", str(folder), *SMALL, "--folds", "41", "--quiet"]) == 1
    assert "folds is 41, and 40 graphs have a label" in capsys.readouterr().err
