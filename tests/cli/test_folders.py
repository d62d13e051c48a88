"""``numgraph train --data FOLDER``: the same training as by name, whole and in batches, and what is
refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import numgraph as ng
from numgraph.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("folders") / "club"
    ng.data.save(path, ng.data.load("karate"))
    return str(path)


def train(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["train", "--seed", "3", "--epochs", "20", "--json", *options]) == 0
    told = capsys.readouterr()
    made = json.loads(told.out.splitlines()[-1])
    return {name: made[name] for name in made if name != "seconds"} | {"told": told.err}


@pytest.mark.parametrize(
    "options",
    [[], ["--model", "sage", "--batch-size", "1", "--num-neighbors", "4,4"]],
    ids=["whole", "batches"],
)
def test_a_folder_is_trained_as_the_dataset_is(
    folder: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    by_name, by_folder = (
        train(capsys, "--dataset", "karate", *options),
        train(capsys, "--data", folder, *options),
    )
    assert f"{folder}: edges and features stay on disk" in by_folder.pop("told")
    assert "on disk" not in by_name.pop("told")
    assert by_folder == by_name


def test_links_of_a_folder(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 <= train(capsys, "--data", folder, "--task", "link")["test_auc"] <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "karate"], "--dataset was given beside --data"),
        (["--edges", "edges.csv"], "--edges was given beside --data"),
        (["--task", "regression"], "--task is regression"),
        (["--data", "nothing"], "there is no folder nothing"),
        (["--data", str(Path(__file__).parent)], "no dataset of numgraph"),
    ],
)
def test_what_is_refused(
    folder: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--data", folder, *options]) == 1
    assert message in capsys.readouterr().err


def test_the_command_explains_a_folder(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--data", folder]) == 0
    assert "SpMM" in capsys.readouterr().out
