"""Every program in examples/ is short, runs, and prints what it claims."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))

CLAIMS = {
    "flights": (r"right about (\d+) % of 600", 90, 100),
    "knowledge_graph": (r"test MRR ([\d.]+)", 0.8, 1),
    "graph_classification": (r"right about (\d+) % of 60", 95, 100),
    "graph_folder": (r"accuracy ([\d.]+) ±", 0.9, 1),
    "own_tables": (r"right about (\d+) % of 75", 85, 100),
    "sampled_links": (r"test AUC ([\d.]+)", 0.85, 1),
    "link_prediction": (r"test AUC ([\d.]+)", 0.9, 1),
    "edge_features": (r"mean attention to a road of kind 2: ([\d.]+)", 0.4, 1),
    "on_disk": (r"right about (\d+) % of", 90, 100),
    "regression": (r"validation R² ([\d.]+)", 0.9, 1),
    "stop_and_go_on": (r"stopped by (?:callback|patience) after (\d+) epochs", 2, 499),
}
"""A number that an example prints, and between what it lies."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_examples_run(
    path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    if path.stem == "own_tables":
        pytest.importorskip("pyarrow", reason="pyarrow (the extra tables) is not installed")
    runpy.run_path(str(path), run_name="__main__")
    out, err = capsys.readouterr()
    assert err == ""
    pattern, low, high = CLAIMS[path.stem]
    found = re.search(pattern, out)
    assert found, out
    assert low <= float(found[1]) <= high


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) < 40


def test_every_example_has_a_claim() -> None:
    assert {path.stem for path in FILES} == set(CLAIMS)
