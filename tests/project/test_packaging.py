"""What is declared is what is there: dependencies, extras, version, embedded data, commands, make's
targets.
"""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

import numgraph

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAMED = re.compile(r"(?:numgraph|'\.|-e \.)\[([a-z0-9,]+)\]")
"""Extras, as in ``pip install numgraph[torch]`` and ``pip install '.[cli,data]'``."""
SOURCES = sorted((ROOT / "numgraph").rglob("*.py"))


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[A-Za-z0-9-]+", requirement)[0] for requirement in requirements}  # type: ignore[index]


def test_runtime_dependencies_are_three() -> None:
    assert names(PROJECT["dependencies"]) == {"numba", "numpy", "scipy"}
    assert all(">=" in requirement for requirement in PROJECT["dependencies"])
    assert PROJECT["requires-python"] == ">=3.11"


def test_extras() -> None:
    extras = PROJECT["optional-dependencies"]
    assert extras.keys() >= {"cuda", "torch", "jax", "data", "plot", "bench", "dev"}
    mine = {extra for requirement in extras["dev"] for extra in re.findall(r"numgraph\[(.*)\]", requirement)}
    assert mine == {"test,mpi,docs,torch,jax"}
    assert "numgraph[cli,data,plot,save,tables]" in extras["test"]


def test_every_import_is_declared() -> None:
    """Whatever a module imports, at its top or inside a function, is in the standard library or named in
    pyproject.toml.
    """
    declared = names(PROJECT["dependencies"]) | {
        name.split("[")[0] for extra in PROJECT["optional-dependencies"].values() for name in names(extra)
    }
    known = {name.replace("-", "_") for name in declared} | {"numgraph"}
    known |= {
        "llvmlite",
        "cupy",
        "cupyx",
        "cuda",
    }  # Numba's, what cupy-cuda13x installs, and cuda-bindings, which numba-cuda needs
    known |= {
        "sklearn",
        "dgl",
    }  # make_digits.py alone, which says so; a peer in benchmarks, which has no packages for every Python
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: a relative import"
                found = [node.module or ""]
            else:
                continue
            for name in found:
                top = name.split(".")[0]
                assert top in known or top in sys.stdlib_module_names, f"{path} imports {name}"
                assert top != "sklearn" or path.name == "make_digits.py"


def test_version_is_in_one_place() -> None:
    assert "version" in PROJECT["dynamic"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", numgraph.__version__)
    assert importlib.metadata.version("numgraph") == numgraph.__version__


def test_the_release_is_told() -> None:
    """The changelog begins with what is not released yet, then this version, of the day that CITATION.cff
    has.
    """
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    cited = dict(
        line.split(": ", 1)
        for line in (ROOT / "CITATION.cff").read_text("utf-8").splitlines()
        if re.match(r"[a-z-]+: ", line)
    )
    assert cited["version"] == numgraph.__version__
    day = cited["date-released"].strip('"')
    assert headings[:2] == ["[Unreleased]", f"[{numgraph.__version__}] - {day}"]


def test_extras_that_pages_and_errors_name_are_there() -> None:
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *(ROOT / "docs").glob("*.md"),
    ]
    named = {
        extra
        for path in [*pages, *SOURCES]
        for found in NAMED.findall(path.read_text("utf-8"))
        for extra in found.split(",")
    }
    assert {"torch", "jax", "cuda", "mpi", "tables"} <= named
    assert named <= PROJECT["optional-dependencies"].keys()


def test_package_has_its_data() -> None:
    assert files("numgraph.data").joinpath("digits.npz").stat().st_size < 60_000  # type: ignore[attr-defined]


def test_the_command_and_the_module_are_the_same() -> None:
    script = Path(sys.executable).with_name("numgraph")
    outputs = [
        subprocess.run(
            [*command, "train", "--help"], capture_output=True, text=True, timeout=120, check=True
        ).stdout
        for command in ([str(script)], [sys.executable, "-m", "numgraph"])
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].startswith("usage: numgraph train")


def test_licence_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == "Apache-2.0"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", ["train", "test", "lint", "bench", "docs"])
def test_targets_install_first(target: str, tmp_path: Path) -> None:
    """In a folder without .venv, a dry run installs and then does the work; with a fresh stamp it only does
    the work.
    """
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    dry = ["make", "--dry-run", "--no-print-directory", target]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    first = subprocess.run(
        dry, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert first.index("-m venv .venv") < first.index("pip install") < first.index("touch .venv/.installed")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    second = subprocess.run(
        dry, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert "pip install" not in second
    assert first.endswith(second)
    assert second.startswith(".venv/bin/")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_help_lists_the_targets() -> None:
    text = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for target in ("install", "train", "test", "lint", "bench", "docs", "format"):
        assert f"make {target} " in text


@pytest.mark.parametrize(("lint", "test"), [(0, 0), (1, 0), (0, 2), (1, 2)])
def test_ci_lints_and_tests(lint: int, test: int, tmp_path: Path) -> None:
    """It fails where one of the two does, and shows what lint said. ``make`` is a script that tells."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text().splitlines()
    (tmp_path / ".ci").mkdir()
    shutil.copy(script, tmp_path / ".ci" / "run")
    made = {
        "make": f"echo made $1; case $1 in lint) exit {lint};; test) exit {test};; esac",
        "chromium": "true",
    }
    for name, text in made.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [str(tmp_path / ".ci" / "run")], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode == 0) == (lint == test == 0)
    assert {"made install", "made lint", "made test"} <= set(done.stdout.splitlines())


@pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="no git checkout here"
)
def test_no_dataset_but_the_embedded_one_is_committed() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert not [path for path in tracked if "/ind." in path]
    assert [path for path in tracked if path.endswith((".npz", ".safetensors", ".npy"))] == [
        "numgraph/data/digits.npz"
    ]
