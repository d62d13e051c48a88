"""Every Python block of README.md and docs/*.md runs, in order, in one namespace per file; a block marked python that raises is a bug.

Blocks marked ``python gpu`` need a CUDA device: they run on the double of one (device.py), and on hardware where there is one.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from device import HARDWARE, device

from numgraph.arrays import devices

__all__ = ["device"]

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
GPU_BLOCK = re.compile(r"^```python gpu\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\(([^)#]+)(#[^)]*)?\)")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_python_blocks_run(path, tmp_path, monkeypatch):
    written = path.read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in BLOCK.finditer(written):
        line = written[: block.start()].count("\n") + 1
        code = "\n" * line + block[1]  # so that a traceback shows the line of the page
        exec(compile(code, str(path), "exec"), namespace)


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


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target, _ in LINK.findall(path.read_text("utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_page_is_linked_from_the_index():
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    for path in (ROOT / "docs").glob("*.md"):
        assert path.name == "index.md" or f"({path.name})" in index, f"docs/index.md has no link to {path.name}"


def test_output_shown_in_the_readme_is_what_is_printed(capsys, tmp_path, monkeypatch):
    """The text block after a Python block that prints is its output."""
    monkeypatch.chdir(tmp_path)
    shown = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", re.M | re.S)
    checked = 0
    for path in FILES:
        written, namespace = path.read_text("utf-8"), {"__name__": "__main__"}
        outputs = {match[1]: match[2] for match in shown.finditer(written)}
        for block in BLOCK.finditer(written):
            capsys.readouterr()
            exec(compile(block[1], str(path), "exec"), namespace)
            if block[1] in outputs:
                assert capsys.readouterr().out == outputs[block[1]], path.name
                checked += 1
    assert checked
