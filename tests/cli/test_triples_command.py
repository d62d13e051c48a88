"""``numgraph train --task triples``: what it prints and writes, and what it refuses."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from numgraph import nn
from numgraph.cli import main
from numgraph.data import load_triples
from numgraph.serialize import read_arrays, save_parameters
from numgraph.training import rank_triples
from numgraph.training.answers import Answers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The next and the one before, on a ring; of some pairs only one way is learnt."""
    path, people = tmp_path_factory.mktemp("ring"), 18
    out = {"valid": (2, 7, 11, 15), "test": (0, 5, 9, 13)}
    rows = [("train", f"p{(i + 1) % people}\tbefore\tp{i}\n") for i in range(people)]
    rows += [
        (next((part for part, own in out.items() if i in own), "train"), f"p{i}\tnext\tp{(i + 1) % people}\n")
        for i in range(people)
    ]
    for part in ("train", "valid", "test"):
        (path / f"{part}.txt").write_text("".join(row for name, row in rows if name == part), "utf-8")
    return path


def test_a_scorer_is_trained_measured_and_saved(folder, tmp_path, capsys):
    target = tmp_path / "scorer.npz"
    options = ["--hidden", "16", "--epochs", "20", "--lr", "0.05", "--batch-size", "64", "--seed", "1"]
    assert (
        main(["train", "--task", "triples", "--data", str(folder), *options, "--json", "--save", str(target)])
        == 0
    )
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert "ring0: 18 entities, 2 relations; 28 triples train, 4 validate, 4 test" in err
    assert "validation MRR" in err
    assert result["model"] == "complex"
    assert result["settings"]["dim"] == 16
    data = load_triples(folder)
    answers = Answers.load(target)
    measured = rank_triples(answers.model, data.test, data)
    assert result["test_mrr"] == pytest.approx(measured["mrr"])
    assert result["test_hits@10"] == pytest.approx(measured["hits@10"])
    assert result["val_mrr"] > 0.3
    assert (answers.entities, answers.relations) == (data.entities, data.relations)
    assert np.array_equal(answers.known, data.known)


@pytest.fixture(scope="module")
def saved(folder, tmp_path_factory):
    data = load_triples(folder)
    model = nn.TransE(data.num_entities, data.num_relations, 8, norm=2, rng=0)
    target = tmp_path_factory.mktemp("saved") / "scorer.npz"
    Answers.of(model, data).save(target)
    return str(target), model, data


def test_questions_are_answered(saved, tmp_path, capsys):
    pytest.importorskip("pyarrow", reason="pyarrow (the extra tables) is not installed")
    target, model, data = saved
    (tmp_path / "ask.tsv").write_text("head\trelation\np3\tnext\np4\tbefore\n", "utf-8")
    out = tmp_path / "answers.csv"
    words = [
        "predict",
        "--model",
        target,
        "--questions",
        str(tmp_path / "ask.tsv"),
        "--top",
        "3",
        "--out",
        str(out),
    ]
    assert main(words) == 0
    assert "6 answers to 2 questions" in capsys.readouterr().out
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["head"], row["relation"]) for row in rows] == [("p3", "next")] * 3 + [("p4", "before")] * 3
    for i, (head, relation) in enumerate([("p3", "next"), ("p4", "before")]):
        scores = model.score_tails([data.entities.index(head)], [data.relations.index(relation)])[0]
        best = np.argsort(-scores)[:3]
        own = rows[3 * i : 3 * i + 3]
        assert [row["tail"] for row in own] == [data.entities[k] for k in best]
        weights = np.exp(scores.astype(np.float64) - scores.max())
        assert np.allclose([float(row["probability"]) for row in own], (weights / weights.sum())[best])
        known = {tuple(row) for row in data.known.tolist()}
        ids = data.entities.index(head), data.relations.index(relation)
        assert [row["known"] == "true" for row in own] == [(*ids, int(k)) in known for k in best]


def test_answers_that_cannot_be(saved, folder, tmp_path, capsys):
    pytest.importorskip("pyarrow", reason="pyarrow (the extra tables) is not installed")
    (tmp_path / "ask.tsv").write_text("p3\tnexd\n", "utf-8")
    base = ["predict", "--model", saved[0], "--out", str(tmp_path / "answers.csv")]
    cases = [
        ([], "give --questions"),
        (
            ["--questions", str(tmp_path / "ask.tsv")],
            "unknown relation of question 1: 'nexd'; choose from 'before', 'next', did you mean 'next'?",
        ),
        (["--questions", "nowhere"], "there is no file nowhere"),
        (["--questions", str(tmp_path / "ask.tsv"), "--edges", "x"], "--edges was given"),
    ]
    for words, text in cases:
        assert main([*base, *words]) == 1
        assert text in capsys.readouterr().err
    damaged = tmp_path / "damaged.npz"
    arrays = read_arrays(saved[0])
    save_parameters(damaged, {**arrays, "model/entities": arrays["model/entities"][:4]})
    assert (
        main(["predict", "--model", str(damaged), "--questions", "x", "--out", str(tmp_path / "answers.csv")])
        == 1
    )
    assert "is damaged" in capsys.readouterr().err


def test_one_file_and_another_model(folder, tmp_path, capsys):
    (tmp_path / "all.tsv").write_text(
        "".join((folder / f"{name}.txt").read_text("utf-8") for name in ("train", "test")), "utf-8"
    )
    words = ["--hidden", "8", "--epochs", "2", "--quiet"]
    assert (
        main(
            ["train", "--task", "triples", "--data", str(tmp_path / "all.tsv"), "--model", "distmult", *words]
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert out.startswith("test MRR ")
    assert out.count("\n") == 1
    assert all("warning" in line for line in err.splitlines())


REFUSED = {
    "no data": (["--task", "triples"], "give --data, a folder with train.txt"),
    "no task": (["--model", "complex"], "--model complex is one of triples; give --task triples and --data"),
    "layers": (
        ["--task", "triples", "--data", "x", "--layers", "2"],
        "--layers was given beside --task triples",
    ),
    "another model": (
        ["--task", "triples", "--data", "x", "--model", "gcn"],
        "--model gcn is none of triples; choose from complex",
    ),
    "no file": (["--task", "triples", "--data", "nowhere"], "there is no file nowhere"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(name, capsys):
    words, text = REFUSED[name]
    assert main(["train", *words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert text in err
    assert err.count("\n") == 1
