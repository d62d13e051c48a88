"""Who may import whom, and what an import of numgraph does: nothing but define things."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
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


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_one_way(path):
    own = part(path)
    assert own in RANK, f"{path} has no place in ORDER"
    for name, line in imports(ast.parse((PACKAGE / path).read_text("utf-8"))):
        pieces = name.split(".")
        if pieces[0] == "numgraph":
            other = pieces[1] if len(pieces) > 1 and pieces[1] in RANK else "__init__"
            assert other == own or RANK[other] <= RANK[own], (
                f"numgraph/{path}:{line} imports {name}, which is above it in ORDER"
            )


def test_no_circle_of_files():
    """Inside rooms too: the files have an order in which each imports only from those before it."""
    modules = {
        ".".join(["numgraph", *path.with_suffix("").parts]).removesuffix(".__init__"): path for path in FILES
    }
    needs: dict[str, set[str]] = {}
    for module, path in modules.items():
        tree = ast.parse((PACKAGE / path).read_text("utf-8"))
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
        for name, line in imports(ast.parse((PACKAGE / path).read_text("utf-8"))):
            assert not any(f"{name}.".startswith(f"{other}.") for other in others), (
                f"numgraph/{path}:{line} imports {name}"
            )


@pytest.mark.parametrize("path", FILES, ids=str)
def test_modules_import_little_at_the_top(path):
    tree = ast.parse((PACKAGE / path).read_text("utf-8"))
    top = ast.Module(
        [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom | ast.Try)], []
    )
    for name, line in imports(top):
        library = name.split(".")[0]
        known = (
            library in REQUIRED
            or library == "numgraph"
            or library in sys.stdlib_module_names
            or library in framework(path)
        )
        assert known, (
            f"numgraph/{path}:{line} imports {library} when it is imported itself; import it in the function "
            "that needs it"
        )


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_are_short(path):
    assert path.stem not in ("utils", "common", "misc", "helpers")
    lines = len((PACKAGE / path).read_text("utf-8").splitlines())
    assert lines <= 500, f"numgraph/{path} has {lines} lines; split it by topic"


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
