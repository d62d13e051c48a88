"""`--json` of every command: one object that begins with the command, on stdout or in a file, with the keys
that docs/commands.md lists.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_cli import KARATE

from numgraph.cli import main
from numgraph.cli.options import _finite

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text("utf-8")
KEYS = {
    row[0]: re.findall(r"`(\S+)`", row[1])
    for row in re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE)
}
BENCH = (
    "--suite kernels --rows copy_u_sum --features 4 --nodes-log2 4 --edges 50 --repeats 1 --seconds 0 "
    "--peers none"
)


def strict(text: str) -> dict[str, object]:
    """An object of JSON as the standard has it: without NaN and Infinity, which Python's reader takes."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found: dict[str, object] = json.loads(text, parse_constant=refuse)
    return found


@pytest.fixture
def words(tmp_path: Path) -> dict[str, list[str]]:
    (tmp_path / "edges.csv").write_text("from,to\nann,ben\nben,cid\ncid,ann\nann,dan\n")
    (tmp_path / "nodes.csv").write_text("name,x,team\nann,1,red\nben,2,red\ncid,0,blue\ndan,1,blue\n")
    tables = ["--edges", str(tmp_path / "edges.csv"), "--nodes", str(tmp_path / "nodes.csv")]
    model = str(tmp_path / "model.npz")
    assert main(["train", *tables, "--target", "team", "--epochs", "2", "--quiet", "--save", model]) == 0
    return {
        "train": [*KARATE, "--epochs", "2"],
        "predict": ["predict", "--model", model, *tables, "--out", str(tmp_path / "out.csv")],
        "explain": ["explain", "--message", "u.x * e.w"],
        "partition": [
            "partition",
            "--dataset",
            "karate",
            "--parts",
            "2",
            "--method",
            "random",
            "--out",
            str(tmp_path / "shards"),
        ],
        "bench": ["bench", *BENCH.split()],
        "info": ["info"],
    }


def test_every_command(
    words: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words.keys() == KEYS.keys()
    capsys.readouterr()
    for command, arguments in words.items():
        assert main([*arguments, "--json"]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        result = strict(line)
        assert next(iter(result.items())) == ("command", command)
        listed = [
            key
            for key in KEYS[command]
            if key not in ("dataset", "model", "record", "operation", "reads", "makes", "lines")
        ]
        assert result.keys() >= set(listed if command == "explain" else KEYS[command]), command


def test_into_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "result.json"
    assert main(["explain", "--message", "u.x * e.w", "--kernel", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    result = strict(file.read_text("utf-8"))
    (record,) = result["records"]  # type: ignore[misc]
    assert (result["command"], record["operation"], record["reads"], record["makes"]) == (
        "explain",
        "update_all(sum)",
        [[4, 3], [6, 1]],
        [[4, 3]],
    )
    assert all(
        f"     {line}" in out.splitlines() for line in record["lines"]
    )  # what people are told meanwhile
    assert any(line.startswith("kernel of z_v") for line in record["lines"])
    assert out.splitlines()[-1] == f"result: {file}"
    assert main(["explain", "--model", "gcn", "--json"]) == 0
    assert (
        strict(capsys.readouterr().out).items() >= {"dataset": "karate", "model": "gcn", "html": None}.items()
    )


@pytest.mark.parametrize(
    ("file", "message"), [("nowhere/result.json", "there is no folder"), (".", "is a folder")]
)
def test_files_that_cannot_be_written(file: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json", file]) == 1
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.startswith("numgraph info: error: --json")
    assert message in err


def test_numbers_that_json_has_not() -> None:
    nan, inf = float("nan"), float("inf")
    assert _finite({"a": [1.5, nan], "b": (inf, {"c": -inf}), "d": "nan", "e": 2}) == {
        "a": [1.5, None],
        "b": [None, {"c": None}],
        "d": "nan",
        "e": 2,
    }
