"""``numgraph train --task triples``: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json

import pytest

from numgraph import nn
from numgraph.cli import main
from numgraph.data import load_triples
from numgraph.serialize import read_arrays
from numgraph.training import rank_triples


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The next and the one before, on a ring; of some pairs only one way is learnt."""
    path, people = tmp_path_factory.mktemp("ring"), 18
    out = {"valid": (2, 7, 11, 15), "test": (0, 5, 9, 13)}
    rows = [("train", f"p{(i + 1) % people}\tbefore\tp{i}\n") for i in range(people)]
    rows += [(next((part for part, own in out.items() if i in own), "train"), f"p{i}\tnext\tp{(i + 1) % people}\n") for i in range(people)]
    for part in ("train", "valid", "test"):
        (path / f"{part}.txt").write_text("".join(row for name, row in rows if name == part), "utf-8")
    return path


def test_a_scorer_is_trained_measured_and_saved(folder, tmp_path, capsys):
    target = tmp_path / "scorer.npz"
    options = ["--hidden", "16", "--epochs", "20", "--lr", "0.05", "--batch-size", "64", "--seed", "1"]
    assert main(["train", "--task", "triples", "--data", str(folder), *options, "--json", "--save", str(target)]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert "ring0: 18 entities, 2 relations; 28 triples train, 4 validate, 4 test" in err
    assert "validation MRR" in err
    assert result["model"] == "complex"
    assert result["settings"]["dim"] == 16
    data = load_triples(folder)
    model = nn.ComplEx(18, 2, 16, reciprocal=True)
    model.load_state_dict(read_arrays(target))
    measured = rank_triples(model, data.test, data)
    assert result["test_mrr"] == pytest.approx(measured["mrr"])
    assert result["test_hits@10"] == pytest.approx(measured["hits@10"])
    assert result["val_mrr"] > 0.3


def test_one_file_and_another_model(folder, tmp_path, capsys):
    (tmp_path / "all.tsv").write_text("".join((folder / f"{name}.txt").read_text("utf-8") for name in ("train", "test")), "utf-8")
    words = ["--hidden", "8", "--epochs", "2", "--quiet"]
    assert main(["train", "--task", "triples", "--data", str(tmp_path / "all.tsv"), "--model", "distmult", *words]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("test MRR ")
    assert out.count("\n") == 1
    assert all("warning" in line for line in err.splitlines())


REFUSED = {
    "no data": (["--task", "triples"], "give --data, a folder with train.txt"),
    "no task": (["--model", "complex"], "--model complex is one of triples; give --task triples and --data"),
    "layers": (["--task", "triples", "--data", "x", "--layers", "2"], "--layers was given beside --task triples"),
    "another model": (["--task", "triples", "--data", "x", "--model", "gcn"], "--model gcn is none of triples; choose from complex"),
    "no file": (["--task", "triples", "--data", "nowhere"], "there is no file nowhere"),
    "device": (["--task", "triples", "--data", "x", "--device", "cuda"], "triples are learnt on the host"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(name, capsys):
    words, text = REFUSED[name]
    assert main(["train", *words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert text in err
    assert err.count("\n") == 1
