"""Every Python block of README.md and docs/*.md runs, in order, in one namespace per file; a block marked
python that raises is a bug. The text block after one that prints is what it printed. Links and their anchors
lead somewhere.

Blocks marked ``python gpu`` need a CUDA device: they run on the double of one (device.py), and on hardware
where there is one."""

from __future__ import annotations

import inspect
import re
import sys
import unicodedata
from pathlib import Path
from types import GenericAlias, ModuleType

import pytest
from added import taken_back
from device import HARDWARE, device

import numgraph as ng
from numgraph.arrays import devices

__all__ = ["device"]

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
FILES = [*sorted(ROOT.glob("*.md")), *PAGES]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
GPU_BLOCK = re.compile(r"^```python gpu\n(.*?)^```$", re.M | re.S)
OPTIONAL = re.compile(r"^(?:import|from) (torch|torch_geometric|jax|mpi4py|pandas|igraph|networkx)\b", re.M)
ANY_BLOCK = re.compile(r"^```.*?^```$", re.M | re.S)
SHOWN = re.compile(r"\n\n```text\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)


@pytest.fixture(autouse=True)
def nothing_is_added():
    with taken_back():
        yield


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_python_blocks_run(path, tmp_path, monkeypatch, capsys):
    written = path.read_text("utf-8")
    for module in OPTIONAL.findall("".join(BLOCK.findall(written))):
        pytest.importorskip(module, reason=f"{path.name} imports {module}, which is not installed")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in BLOCK.finditer(written):
        line = written[: block.start()].count("\n") + 1
        code = "\n" * line + block[1]  # so that a traceback shows the line of the page
        capsys.readouterr()
        exec(compile(code, str(path), "exec"), namespace)
        shown = SHOWN.match(written, block.end())
        if shown:
            assert capsys.readouterr().out == shown[1], f"{path.name}, line {line}"


def run_gpu_blocks(path, tmp_path, monkeypatch):
    written, namespace = path.read_text("utf-8"), {"__name__": "__main__"}
    monkeypatch.chdir(tmp_path)
    for block in GPU_BLOCK.finditer(written):
        line = written[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block[1], str(path), "exec"), namespace)


WITH_GPU = [path for path in FILES if GPU_BLOCK.search(path.read_text("utf-8"))]


@pytest.mark.parametrize("path", WITH_GPU, ids=lambda path: path.name)
def test_gpu_blocks_run_on_the_double(path, device, tmp_path, monkeypatch):
    if not HARDWARE:
        monkeypatch.setitem(sys.modules, "cupy", device)
    run_gpu_blocks(path, tmp_path, monkeypatch)


@pytest.mark.gpu
@pytest.mark.skipif(devices.problem() is not None, reason=f"a GPU is needed: {devices.problem()}")
@pytest.mark.parametrize("path", WITH_GPU, ids=lambda path: path.name)
def test_gpu_blocks_run(path, tmp_path, monkeypatch):
    run_gpu_blocks(path, tmp_path, monkeypatch)


def anchors(path):
    """The ids of a page's headings, by the rule of Markdown's table of contents."""
    found = set()
    for heading in HEADING.findall(ANY_BLOCK.sub("", path.read_text("utf-8"))):
        plain = unicodedata.normalize("NFKD", heading.replace("`", "")).encode("ascii", "ignore").decode()
        found.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower()))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target, anchor in LINK.findall(ANY_BLOCK.sub("", path.read_text("utf-8"))):
        if "://" in target:
            continue
        page = path.parent / target if target else path
        assert page.exists(), f"{path.name} links to {target}"
        if anchor:
            assert anchor in anchors(page), (
                f"{path.name} links to {target}#{anchor}; {page.name} has {sorted(anchors(page))}"
            )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_that_are_named_are_there(path):
    for name in re.findall(
        r"`((?:tests|docs|examples|benchmarks|numgraph)/[\w/.-]+)`", path.read_text("utf-8")
    ):
        assert (ROOT / name).exists(), f"{path.name} names {name}"


def test_the_citation_is_complete():
    """The keys that the Citation File Format 1.2 requires, and the licence of the package."""
    written = (ROOT / "CITATION.cff").read_text("utf-8")
    for line in ("cff-version: 1.2.0", "message: ", "title: ", "authors:", "license: Apache-2.0"):
        assert f"\n{line}" in f"\n{written}"


def test_every_page_is_in_the_index_and_in_the_menu():
    index, menu = (ROOT / "docs" / "index.md").read_text("utf-8"), (ROOT / "mkdocs.yml").read_text("utf-8")
    for path in PAGES:
        assert path.name == "index.md" or f"({path.name})" in index, (
            f"docs/index.md has no link to {path.name}"
        )
        assert re.search(rf"- (Home: )?{path.name}\n", menu), f"mkdocs.yml does not name {path.name}"


def test_tasks_take_the_lines_that_the_page_says():
    """Those of the first block under each heading, without imports; the first six tasks have a limit each."""
    page = (ROOT / "docs" / "tasks.md").read_text("utf-8")
    counted = {}
    for section in re.split(r"(?m)^## ", page)[1:]:
        code = BLOCK.search(section)[1].splitlines()
        counted[section.splitlines()[0]] = sum(
            bool(line) and not line.lstrip().startswith(("import ", "from ", "#")) for line in code
        )
    assert {
        title: int(lines) for title, lines in re.findall(r"(?m)^\| \[(.+)\]\(.*\) \| (\d+) \|$", page)
    } == counted
    assert len(counted) == 10
    assert all(lines <= most for lines, most in zip(counted.values(), (19, 6, 11, 4, 8, 4)))


@pytest.mark.parametrize(
    "module", [ng, *(getattr(ng, name) for name in ng.__all__ if isinstance(getattr(ng, name), ModuleType))]
)
def test_help_shows_every_public_name(module):
    """Not the class of a table's row: a function with its parameters, or a class."""
    for name in module.__all__:
        found = getattr(module, name)
        if callable(found) and not isinstance(found, GenericAlias):  # which Array is
            assert inspect.isfunction(found) or inspect.isclass(found), (
                f"{module.__name__}.{name} is a {type(found).__name__}"
            )
            assert inspect.getdoc(found), f"{module.__name__}.{name} has no docstring"
