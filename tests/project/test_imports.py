"""Who may import whom, and what an import of numgraph does: nothing but define things."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import numgraph

PACKAGE = Path(numgraph.__file__).parent

# A room (a folder, or a module beside them) imports only from the rooms of the lines above its own. Imports
# inside functions count too.
ORDER = [
    ["errors"],
    ["runtime"],
    ["arrays"],
    ["expressions"],
    ["autodiff"],
    ["graph"],
    ["compiler"],
    ["message"],
    ["dense"],
    ["ops"],
    ["serialize"],
    ["nn", "optim"],
    ["data"],
    ["sampling"],
    ["distributed"],
    ["bridges"],
    ["torch"],
    ["training"],
    ["extend"],
    ["profiling"],
    ["__init__"],
    ["info"],
    ["bench"],
    ["cli"],
    ["__main__"],
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}

REQUIRED = {"llvmlite", "numba", "numpy"}
"""What a module may import at its top besides the standard library; the function that needs SciPy or anything
optional imports it.
"""

FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse((PACKAGE / path).read_text("utf-8"))


def part(path: Path) -> str:
    return path.parts[0] if len(path.parts) > 1 else path.stem


def imports(tree: ast.AST) -> list[tuple[str, int]]:
    """Every imported module with its line, a name from a package as a module of it."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def framework(path: Path) -> set[str]:
    """What a module is about, and may import at its top: it is imported where a caller has that library, or
    by that name.
    """
    if path == Path("torch", "pyg.py"):
        return {"torch", "torch_geometric"}
    return (
        {path.stem.split("_")[0]}
        if path.parts[0] == "bridges"
        else {"torch"}
        if path.parts[0] == "torch"
        else set()
    )


def type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def test_imports_go_one_way():
    assert {part(path) for path in FILES} <= set(RANK), "ORDER says where each part belongs"
    upwards = []
    for path in FILES:
        for name, line in imports(parsed(path)):
            pieces = name.split(".")
            if pieces[0] == "numgraph":
                other = pieces[1] if len(pieces) > 1 and pieces[1] in RANK else "__init__"
                if other != part(path) and RANK[other] > RANK[part(path)]:
                    upwards.append(f"numgraph/{path}:{line} imports {name}, which is above it in ORDER")
    assert not upwards, "\n".join(upwards)


def test_no_circle_of_files():
    """Inside rooms too: the files have an order in which each imports only from those before it."""
    modules = {
        ".".join(["numgraph", *path.with_suffix("").parts]).removesuffix(".__init__"): path for path in FILES
    }
    needs: dict[str, set[str]] = {}
    for module, path in modules.items():
        tree = parsed(path)
        for_types = {
            line
            for node in ast.walk(tree)
            if type_checking(node)
            for line in range(node.lineno, node.end_lineno + 1)
        }
        needs[module] = set()
        for name, line in imports(tree):
            while name and name not in modules:
                name = name.rpartition(".")[0]
            if name and name != module and line not in for_types:
                needs[module].add(name)
    TopologicalSorter(needs).prepare()  # a CycleError names the circle


TARGETS = sorted(
    {path.parts[1] for path in FILES if path.parts[0] == "compiler" and len(path.parts) > 2} - {"llvm"}
)


def test_targets_do_not_know_each_other():
    """A third one touches nothing else."""
    assert {"cpu", "cuda"} <= set(TARGETS)
    for path in FILES:
        if path.parts[0] != "compiler" or len(path.parts) < 3 or path.parts[1] not in TARGETS:
            continue
        others = [f"numgraph.compiler.{name}" for name in TARGETS if name != path.parts[1]]
        for name, line in imports(parsed(path)):
            assert not any(f"{name}.".startswith(f"{other}.") for other in others), (
                f"numgraph/{path}:{line} imports {name}"
            )


def test_modules_import_little_at_the_top():
    heavy = []
    for path in FILES:
        top = ast.Module(
            [node for node in parsed(path).body if isinstance(node, ast.Import | ast.ImportFrom | ast.Try)],
            [],
        )
        known = {"numgraph", *REQUIRED, *sys.stdlib_module_names, *framework(path)}
        heavy += [
            f"numgraph/{path}:{line} imports {name}"
            for name, line in imports(top)
            if name.split(".")[0] not in known
        ]
    assert not heavy, "\n".join(["to be imported in the functions that need it:", *heavy])


def test_files_are_short():
    assert not [path for path in FILES if path.stem in ("utils", "common", "misc", "helpers")]
    lines = {path: len((PACKAGE / path).read_text("utf-8").splitlines()) for path in FILES}
    long = {str(path): number for path, number in lines.items() if number > 500}
    assert not long, f"more than 500 lines, split them by topic: {long}"


WATCHED_IMPORT = """
import json, os, sys, threading
import numba, numpy
loaded = set(sys.modules)
tasks = lambda: len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else threading.active_count()
before, environment, path = tasks(), dict(os.environ), list(sys.path)
import numgraph
print(json.dumps({
    "modules": sorted(set(sys.modules) - loaded), "threads": tasks() - before,
    "environment": dict(os.environ) != environment, "path": sys.path != path,
    "numba_threads": numba.np.ufunc.parallel._is_initialized if hasattr(numba.np.ufunc, "parallel") else False,
}))
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A fresh process that imports numgraph with an empty home; what it printed, and what it left in that
    home.
    """
    home = tmp_path_factory.mktemp("home")
    env = {
        **os.environ,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "TMPDIR": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for name in ("NUMBA_CACHE_DIR", "NUMGRAPH_CACHE_DIR"):
        env.pop(name, None)
    tree = {path: path.stat().st_mtime_ns for path in PACKAGE.rglob("*") if path.is_file()}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", WATCHED_IMPORT],
        env=env,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    changed = [
        path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".py" and path not in tree
    ]
    return json.loads(run.stdout), [*home.rglob("*"), *changed]


@pytest.mark.parametrize(
    "library",
    [
        "numba_cuda",
        "numba.cuda",
        "scipy",
        "matplotlib",
        "tqdm",
        "torch",
        "jax",
        "cupy",
        "pooch",
        "safetensors",
        "networkx",
        "dgl",
        "igraph",
        "pandas",
        "polars",
        "pyarrow",
        "mpi4py",
        "pymetis",
        "numgraph.distributed",
    ],
)
def test_import_loads_no_heavy_library(imported, library):
    loaded = [name for name in imported[0]["modules"] if name == library or name.startswith(library + ".")]
    assert not loaded


def test_import_writes_nothing(imported):
    assert imported[1] == []


def test_import_starts_no_thread_and_configures_nothing(imported):
    facts = imported[0]
    assert facts["threads"] == 0
    assert not facts["environment"]
    assert not facts["path"]
    assert not facts["numba_threads"]
