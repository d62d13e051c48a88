"""From two files to predictions in two commands, and what is said where that cannot be."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numgraph.cli import main
from numgraph.serialize import read_arrays, save_parameters
from numgraph.training.predictor import Predictor

pytest.importorskip("pyarrow", reason="pyarrow (the extra tables) is not installed")


def write_rows(path: Path, header: list[str], rows: list[list[Any]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([header, *rows])
    return str(path)


class Blocks:
    """A stochastic block model of named nodes in two files; the labels of some nodes are hidden."""

    def __init__(
        self,
        folder: Path,
        nodes: int = 600,
        blocks: int = 4,
        inside: float = 0.06,
        outside: float = 0.006,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.block = rng.integers(0, blocks, nodes)
        chance = np.where(self.block[:, None] == self.block, inside, outside)
        self.pairs = np.argwhere(np.triu(rng.random((nodes, nodes)) < chance, 1))
        self.names = [f"node {i}" for i in rng.permutation(nodes)]
        self.hidden = rng.random(nodes) < 0.5
        self.x = rng.normal(size=(nodes, 2)).round(3)
        self.y = (2.5 * self.x[:, 0] - self.x[:, 1] + 10 * self.block + 100).round(3)
        self.edges = write_rows(
            folder / "edges.csv",
            ["source", "target"],
            [[self.names[u], self.names[v]] for u, v in self.pairs],
        )
        self.nodes = self.write_nodes(folder / "nodes.csv", range(nodes))

    def write_nodes(self, path: Path, order: Any, header: str = "name,label,amount,x,kind") -> str:
        columns = {
            "name": self.names,
            "label": ["" if hidden else f"block {b}" for hidden, b in zip(self.hidden, self.block)],
            "amount": ["" if hidden else y for hidden, y in zip(self.hidden, self.y)],
            "x": self.x[:, 0],
            "kind": ["even" if i % 2 == 0 else "odd" for i in range(len(self.names))],
        }
        return write_rows(
            path, header.split(","), [[columns[name][i] for name in header.split(",")] for i in order]
        )


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Blocks:
    return Blocks(tmp_path_factory.mktemp("blocks"))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("model", ["gcn", "sage", "gat"])
def test_hidden_blocks_are_predicted_from_files(
    model: str, blocks: Blocks, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save, out = tmp_path / "model.npz", tmp_path / "predictions.csv"
    files = ["--edges", blocks.edges, "--nodes", blocks.nodes]
    options = ["--epochs", "150"] if model == "gat" else []
    result = call(capsys, "train", *files, "--target", "label", "--model", model, "--save", save, *options)
    assert (result["task"], result["model"]) == ("classification", model)
    assert result["test_accuracy"] > 0.85
    told = call(capsys, "predict", "--model", save, *files, "--out", out)
    assert told["predictions"] == 600
    rows = rows_of(out)
    assert list(rows[0]) == ["name", "prediction", "probability"]
    assert [row["name"] for row in rows] == blocks.names
    right = np.array([row["prediction"] == f"block {b}" for row, b in zip(rows, blocks.block)])
    assert right[blocks.hidden].mean() >= 0.85
    assert told["accuracy"] == pytest.approx(right[~blocks.hidden].mean())
    assert all(0.25 <= float(row["probability"]) <= 1 for row in rows)


def test_predictions_do_not_depend_on_the_order_of_rows_and_columns(
    blocks: Blocks, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save = tmp_path / "model.safetensors"
    call(
        capsys,
        "train",
        "--edges",
        blocks.edges,
        "--nodes",
        blocks.nodes,
        "--target",
        "label",
        "--epochs",
        "20",
        "--save",
        save,
    )
    turned = blocks.write_nodes(tmp_path / "turned.csv", range(599, -1, -1), "name,kind,x,amount")
    found = []
    for nodes, out in ((blocks.nodes, "a.csv"), (turned, "b.tsv")):
        call(
            capsys,
            "predict",
            "--model",
            save,
            "--edges",
            blocks.edges,
            "--nodes",
            nodes,
            "--out",
            tmp_path / out,
        )
        separator = "," if out == "a.csv" else "\t"
        found.append(
            {
                line.split(separator)[0]: line.split(separator)[1:]
                for line in (tmp_path / out).read_text("utf-8").splitlines()
            }
        )
    assert found[0].keys() == found[1].keys()
    for name, (prediction, probability) in list(found[0].items())[1:]:
        assert found[1][name][0] == prediction
        assert float(found[1][name][1]) == pytest.approx(float(probability), rel=1e-4)


def test_a_model_is_for_other_nodes_too(
    blocks: Blocks, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained on features that tell the block, it is right of nodes that it has never seen."""
    other = Blocks(tmp_path, nodes=200, inside=0.15, outside=0.01, seed=9)
    save, out = tmp_path / "model.npz", tmp_path / "p.parquet"
    for one, folder in ((blocks, tmp_path / "one.csv"), (other, tmp_path / "other.csv")):
        signal = one.x[:, 0] + 3 * (one.block % 2), one.x[:, 1] + 3 * (one.block // 2)
        label = ["" if hidden and one is blocks else f"block {b}" for hidden, b in zip(one.hidden, one.block)]
        write_rows(folder, ["name", "label", "p", "q"], [list(row) for row in zip(one.names, label, *signal)])
    call(
        capsys,
        "train",
        "--edges",
        blocks.edges,
        "--nodes",
        tmp_path / "one.csv",
        "--target",
        "label",
        "--inductive",
        "--save",
        save,
    )
    told = call(
        capsys,
        "predict",
        "--model",
        save,
        "--edges",
        other.edges,
        "--nodes",
        tmp_path / "other.csv",
        "--out",
        out,
    )
    assert (told["labelled"], told["accuracy"] > 0.9) == (200, True)
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(out).column_names == ["name", "prediction", "probability"]


def test_a_regression_from_files(blocks: Blocks, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save, out = tmp_path / "model.npz", tmp_path / "p.csv"
    nodes = blocks.write_nodes(tmp_path / "nodes.csv", range(600), "name,amount,x")
    files = ["--edges", blocks.edges, "--nodes", nodes]
    result = call(
        capsys,
        "train",
        *files,
        "--target",
        "amount",
        "--model",
        "sage",
        "--save",
        save,
        "--plot",
        tmp_path / "curves.svg",
    )
    assert result["task"] == "regression"
    assert result["test_r2"] > 0.7
    assert result["test_rmse"] < 6.5
    told = call(capsys, "predict", "--model", save, *files, "--out", out)
    rows = rows_of(out)
    assert list(rows[0]) == ["name", "prediction"]
    predicted = np.array([float(row["prediction"]) for row in rows])
    error, hidden = predicted - blocks.y, blocks.hidden
    assert 1 - error[hidden].var() / blocks.y[hidden].var() > 0.7
    assert told["rmse"] == pytest.approx(np.sqrt(np.mean(error[~hidden] ** 2)), rel=1e-4)


def test_links_from_files(blocks: Blocks, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No model can tell pairs inside a block from one another: the area under the curve is at most that of
    "in one block".
    """
    save, out = tmp_path / "model.npz", tmp_path / "p.csv"
    result = call(
        capsys, "train", "--edges", blocks.edges, "--task", "link", "--save", save, "--epochs", "60"
    )
    same = blocks.block[blocks.pairs[:, 0]] == blocks.block[blocks.pairs[:, 1]]
    share = np.mean(blocks.block[:, None] == blocks.block)
    best = 0.5 + (same.mean() - share) / 2
    assert 0.9 * best < result["test_auc"] < best + 0.06
    assert 0.5 < result["test_average_precision"] <= 1
    rng = np.random.default_rng(0)
    degree = np.bincount(blocks.pairs.ravel(), minlength=600)
    known = np.flatnonzero(degree > 0)
    asked = known[rng.integers(0, len(known), (400, 2))]
    pairs = write_rows(
        tmp_path / "pairs.csv",
        ["u", "v", "note"],
        [[blocks.names[u], blocks.names[v], "?"] for u, v in asked],
    )
    call(capsys, "predict", "--model", save, "--edges", blocks.edges, "--pairs", pairs, "--out", out)
    rows = rows_of(out)
    assert [(row["source"], row["target"]) for row in rows] == [
        (blocks.names[u], blocks.names[v]) for u, v in asked
    ]
    probability = np.array([float(row["probability"]) for row in rows])
    inside = blocks.block[asked[:, 0]] == blocks.block[asked[:, 1]]
    assert probability[inside].mean() > probability[~inside].mean() + 0.2
    assert [row["prediction"] for row in rows] == [str(int(p >= 0.5)) for p in probability]


@pytest.mark.parametrize("model", ["gcn", "sage", "gat", "gin"])
def test_weights_of_edges_count(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Edges join nodes of all blocks alike; only their weights tell which are near."""
    one = Blocks(tmp_path, nodes=200, blocks=2, inside=0.1, outside=0.1)
    same = one.block[one.pairs[:, 0]] == one.block[one.pairs[:, 1]]
    rows = [[one.names[u], one.names[v], 1.0 if near else 0.02] for (u, v), near in zip(one.pairs, same)]
    edges = write_rows(tmp_path / "weighted.csv", ["u", "v", "weight"], rows)
    nodes = one.write_nodes(tmp_path / "labels.csv", range(200), "name,label")
    options = ["--nodes", nodes, "--target", "label", "--model", model, "--epochs", "60"]
    weighted = call(capsys, "train", "--edges", edges, *options, "--save", tmp_path / "m.npz")
    assert (
        call(capsys, "train", "--edges", one.edges, *options)["test_accuracy"]
        < 0.8
        < 0.9
        < weighted["test_accuracy"]
    )
    told = call(
        capsys,
        "predict",
        "--model",
        tmp_path / "m.npz",
        "--edges",
        edges,
        "--nodes",
        nodes,
        "--out",
        tmp_path / "p.csv",
    )
    right = [row["prediction"] == f"block {b}" for row, b in zip(rows_of(tmp_path / "p.csv"), one.block)]
    assert told["labelled"] == int((~one.hidden).sum())
    assert np.mean(np.array(right)[one.hidden]) > 0.9


def test_everything_in_a_table_is_for_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A split column without val and test: trained all the same, null where there is nothing to measure
    by.
    """
    edges = write_rows(tmp_path / "edges.csv", ["u", "v"], [["a", "b"], ["b", "c"], ["c", "d"]])
    nodes = write_rows(
        tmp_path / "nodes.csv",
        ["name", "y", "split"],
        [["a", "p", "train"], ["b", "p", "train"], ["d", "q", "train"], ["c", "", ""]],
    )
    result = call(capsys, "train", "--edges", edges, "--nodes", nodes, "--target", "y", "--epochs", "5")
    assert (result["val_accuracy"], result["test_accuracy"], result["test_loss"]) == (None, None, None)
    assert result["train_accuracy"] >= 0
    assert (
        main(["train", "--edges", edges, "--nodes", nodes, "--target", "y", "--epochs", "2", "--quiet"]) == 0
    )
    assert re.fullmatch(r"no test   \(best in epoch \d of 2; .*\)\n", capsys.readouterr().out)


def one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith(f"numgraph {arguments[0]}: error: ")
    return err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nodes", "nodes.csv"], "--nodes was given without --edges"),
        (["--inductive"], "--inductive was given without --edges"),
        (["--checkpoint-every", "3"], "--checkpoint-every was given without --checkpoint"),
        (["--task", "link"], "--task was given without --edges"),
        (["--edges", "edges.csv"], "give --nodes, the file of nodes, or --task link"),
        (["--edges", "edges.csv", "--nodes", "nodes.csv"], "give --target, the column of --nodes to learn"),
        (["--edges", "edges.csv", "--dataset", "karate"], "--edges was given beside --dataset karate"),
        (["--edges", "edges.csv", "--nodes", "nowhere.csv", "--target", "y"], "there is no file nowhere.csv"),
        (
            ["--edges", "edges.csv", "--nodes", "nodes.csv", "--target", "z"],
            "nodes.csv has no column 'z' for the target",
        ),
        (
            ["--edges", "edges.csv", "--nodes", "nodes.csv", "--target", "y", "--save", "a.pt"],
            "unknown file extension '.pt'",
        ),
        (
            ["--edges", "edges.csv", "--nodes", "nodes.csv", "--target", "y", "--features", "x.npy"],
            "there is no file x.npy",
        ),
        (
            ["--edges", "edges.csv", "--nodes", "nodes.csv", "--target", "y", "--features", "edges.csv"],
            "edges.csv is no .npy file",
        ),
        (
            ["--edges", "edges.csv", "--nodes", "edges.csv", "--target", "v"],
            "line 4: the node 'b' is there twice",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_one_line(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "edges.csv", ["u", "v"], [["a", "b"], ["b", "c"], ["b", "a"]])
    write_rows(tmp_path / "nodes.csv", ["name", "y"], [["a", "p"], ["b", "q"], ["c", ""]])
    assert message in one_line(capsys, ["train", *options])


def test_warnings_are_lines_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edges = write_rows(tmp_path / "edges.csv", ["u", "v"], [["a", "b"], ["b", "a"]])
    nodes = write_rows(
        tmp_path / "nodes.csv", ["name", "y"], [["a", "p"], ["b", "q"], ["c", "p"], ["d", "q"]]
    )
    assert (
        main(["train", "--edges", edges, "--nodes", nodes, "--target", "y", "--epochs", "2", "--quiet"]) == 0
    )
    err = capsys.readouterr().err
    assert (
        err
        == f"numgraph train: warning: read_tables: {nodes}, line 4: the node 'c' has no edges (and 1 more of this kind)\n"
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    write_rows(folder / "edges.csv", ["u", "v"], [["a", "b"], ["b", "c"], ["c", "d"]])
    write_rows(
        folder / "nodes.csv", ["name", "y", "x"], [["a", "p", 1], ["b", "q", 2], ["c", "p", 3], ["d", "q", 4]]
    )
    files = ["--edges", str(folder / "edges.csv"), "--nodes", str(folder / "nodes.csv"), "--target", "y"]
    assert main(["train", *files, "--epochs", "2", "--quiet", "--save", str(folder / "model.npz")]) == 0
    return folder


def predict_in(folder: Path, out: Path, **changes: Path | str) -> list[str]:
    given = {
        "model": folder / "model.npz",
        "edges": folder / "edges.csv",
        "nodes": folder / "nodes.csv",
        "out": out,
        **changes,
    }
    return ["predict", *(text for name, path in given.items() for text in (f"--{name}", str(path)))]


def test_a_file_of_predictions_is_replaced_in_one_step(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import pyarrow.csv

    out = tmp_path / "p.csv"
    assert main(predict_in(trained, out)) == 0
    before = out.read_bytes()
    capsys.readouterr()

    def full(table: Any, file: Any, *_: Any) -> None:
        file.write(b"half a fi")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pyarrow.csv, "write_csv", full)
    assert "No space left" in one_line(capsys, predict_in(trained, out))
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


def test_an_interrupted_prediction_writes_nothing(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def press(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "predict", press)
    assert main(predict_in(trained, tmp_path / "p.csv")) == 130
    assert "numgraph predict: interrupted" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": "name,y\na,p\nb,\nc,\nd,\n"}, "nodes.csv has no column 'x'"),
        (
            {"nodes": "name,x\na,1\nb,2\nc,three\nd,4\n"},
            "nodes.csv, line 4, column 'x': 'three' is no number",
        ),
        ({"edges": "u,v\na,b\nz,a\n"}, "edges.csv, line 3, column 'u': the node 'z' is not in"),
    ],
)
def test_tables_that_do_not_fit_the_model_are_one_line(
    change: dict[str, str], message: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in change.items():
        (tmp_path / f"{name}.csv").write_text(text)
    paths: dict[str, Any] = {name: tmp_path / f"{name}.csv" for name in change}
    assert message in one_line(capsys, predict_in(trained, tmp_path / "p.csv", **paths))
    assert not (tmp_path / "p.csv").exists()


def test_options_of_predict_that_cannot_be(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out, message in (("p.xlsx", "extension '.xlsx'"), ("nowhere/p.csv", "there is no folder")):
        assert message in one_line(capsys, predict_in(trained, tmp_path / out))
    tables = [tmp_path / "edges.csv", tmp_path / "nodes.csv"]
    for path in tables:
        path.write_bytes((trained / path.name).read_bytes())
        said = one_line(capsys, predict_in(trained, path, edges=tables[0], nodes=tables[1]))
        assert f"--out is the file of --{path.stem}" in said
        assert path.read_bytes() == (trained / path.name).read_bytes()
    pairs = predict_in(trained, tmp_path / "p.csv", pairs=tmp_path / "pairs.csv")
    assert "--pairs is for models of links" in one_line(capsys, pairs)
    (tmp_path / "x.npy").write_bytes(b"1,2\n3,4\n")
    assert "is no .npy file of numbers" in one_line(
        capsys, predict_in(trained, tmp_path / "p.csv", features=tmp_path / "x.npy")
    )
    np.save(tmp_path / "x.npy", np.ones((4, 2)))
    assert "the model was trained with 0" in one_line(
        capsys, predict_in(trained, tmp_path / "p.csv", features=tmp_path / "x.npy")
    )
    assert "there is no table of nodes" in one_line(
        capsys, [text for text in predict_in(trained, tmp_path / "p.csv") if "nodes" not in text]
    )


@pytest.mark.parametrize("model", ["gcn", "sage", "gat", "gin"])
def test_a_model_of_one_layer_predicts(
    model: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A small one: its hidden width is above the number of its parameters."""
    save, out = tmp_path / "model.npz", tmp_path / "p.csv"
    files = [
        "--edges",
        str(trained / "edges.csv"),
        "--nodes",
        str(trained / "nodes.csv"),
        "--target",
        "y",
        "--inductive",
    ]
    assert (
        main(
            [
                "train",
                *files,
                "--model",
                model,
                "--layers",
                "1",
                "--epochs",
                "2",
                "--quiet",
                "--save",
                str(save),
            ]
        )
        == 0
    )
    assert main([*predict_in(trained, out, model=save), "--quiet"]) == 0
    assert len(out.read_text().splitlines()) == 5


def damages(about: dict[str, Any]) -> dict[str, Any]:
    """Descriptions of a model that are not what it was."""
    recipe, columns = about["recipe"], about["columns"]
    return {
        "format": {**about, "format": 99},
        "task": {**about, "task": "clustering"},
        "model": {**about, "recipe": {**recipe, "model": "eval"}},
        "width": {**about, "recipe": {**recipe, "hidden": 10**9}},
        "layers": {**about, "recipe": {**recipe, "layers": 10**8}},
        "negative": {**about, "recipe": {**recipe, "hidden": -1}},
        "no number": {**about, "recipe": {**recipe, "hidden": "many"}},
        "another task": {**about, "task": "link"},
        "fewer features": {**about, "columns": {**columns, "inputs": []}},
        "no columns": {name: value for name, value in about.items() if name != "columns"},
        "classes": {**about, "columns": {**columns, "classes": ["p"]}},
        "a list": [],
        "nothing": None,
    }


def test_damaged_models_are_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = read_arrays(trained / "model.npz")
    about = json.loads(arrays["about"].tobytes())
    files: dict[str, bytes] = {"cut": (trained / "model.npz").read_bytes()[:-100], "no archive": b"hello"}
    for name, changed in damages(about).items():
        path = tmp_path / "changed.npz"
        save_parameters(path, {**arrays, "about": np.frombuffer(json.dumps(changed).encode(), np.uint8)})
        files[name] = path.read_bytes()
    save_parameters(
        path, {name.removeprefix("model/"): array for name, array in arrays.items() if name != "about"}
    )
    files["parameters alone"] = path.read_bytes()
    save_parameters(path, {name: array for name, array in arrays.items() if "bias" not in name})
    files["a parameter less"] = path.read_bytes()
    for name, content in files.items():
        path.write_bytes(content)
        said = one_line(capsys, predict_in(trained, tmp_path / "p.csv", model=path))
        assert "changed.npz" in said, name
    assert not (tmp_path / "p.csv").exists()


def test_what_is_saved_gives_the_bits_that_were_measured(trained: Path) -> None:
    one, two = Predictor.load(trained / "model.npz"), Predictor.load(trained / "model.npz")
    data = one.read(trained / "edges.csv", trained / "nodes.csv")
    np.testing.assert_array_equal(one.results(data), two.results(data))
    assert one.columns.classes == ("p", "q")
    one.save(trained / "again.npz")
    assert read_arrays(trained / "again.npz").keys() == read_arrays(trained / "model.npz").keys()
