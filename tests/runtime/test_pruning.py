"""Which kernels on disk are deleted, and which never are."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from scripts import run

from numgraph import info
from numgraph.runtime import caches

DAY = 86400
KERNEL = (
    "{}.py",
    "__pycache__/{}.cpython-311.pyc",
    "__pycache__/{}.body-9.cpython-311.nbi",
    "__pycache__/{}.body-9.cpython-311.1.nbc",
)


def kernel(folder: Path, name: str, days: float, size: int = 1000) -> Path:
    """The files of a kernel that was read so many days ago; only its machine code was."""
    (folder / "__pycache__").mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for pattern in KERNEL:
        path = folder / pattern.format(name)
        path.write_bytes(bytes(size // len(KERNEL)))
        when = time.time() - DAY * (days if path.suffix == ".nbc" else 1000)
        os.utime(path, (when, when))
    return folder / f"{name}.py"


def left(root: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def root(tmp_path):
    tmp_path.chmod(0o700)
    return tmp_path


def test_what_was_not_read_for_long_goes_whole(root):
    for name, days in (("now", 0), ("recent", 80), ("old", 100)):
        kernel(root / "kernels-a", name, days)
        kernel(root / "kernels-b", f"{name}_too", days)
    caches.prune(root, unused=90 * DAY)
    assert left(root) == {"now", "recent", "now_too", "recent_too"}


def test_beyond_the_limit_what_was_not_read_for_longest_goes(root):
    for i, name in enumerate("dacb"):
        kernel(root / f"kernels-{i % 2}", name, {"a": 0, "b": 1, "c": 2, "d": 3}[name])
    caches.prune(root, largest=2000)
    assert left(root) == {"a", "b"}
    caches.prune(root, largest=2000)
    assert left(root) == {"a", "b"}


def test_what_this_process_uses_stays(root):
    folder = root / "kernels-a"
    kernel(folder, "gone", 100)
    caches.keep(folder / "__pycache__" / "kept.body-9.nbc", b"code", b"purpose")
    used = kernel(folder, "kept", 100)
    caches.prune(root, unused=90 * DAY, largest=0)
    assert left(root) == {"kept"}
    assert used.is_file()


def test_reading_is_noted(root):
    path = root / "kernels-a" / "a.nbc"
    caches.keep(path, b"code", b"purpose")
    long_ago = time.time() - 50 * DAY
    os.utime(path, (long_ago, long_ago))
    assert caches.kept(path, b"purpose") == b"code"
    assert path.stat().st_mtime > time.time() - DAY


def test_nothing_else_is_touched(root):
    """Other folders, links, and folders that others may write to; folders of other versions go when they are
    empty.
    """
    kernel(root / "downloads", "data", 1000)
    target = kernel(root / "elsewhere", "target", 1000)
    kernel(root / "kernels-open", "open", 1000)
    (root / "kernels-open").chmod(0o777)
    kernel(root / "kernels-mine", "mine", 1000)
    (root / "kernels-mine" / "link.py").symlink_to(target)
    kernel(root / "kernels-empty", "old", 1000)
    (root / "kernels-link").symlink_to(root / "elsewhere")
    caches.prune(root)
    assert left(root) == {"data", "target", "open", "link"}
    assert not (root / "kernels-empty").exists()
    assert sum(caches.size_of(root)) == 1000  # of the folder that is open to others


def test_info_says_how_much_there_is(root, monkeypatch):
    kernel(root / "kernels-a", "one", 0, size=3_000_000)
    kernel(root / "kernels-b", "other", 0, size=1_500_000)
    monkeypatch.setenv("NUMGRAPH_CACHE_DIR", str(root))
    facts = info.info()
    assert facts["folders"]["kernels_bytes"] == 4_500_000
    assert "4.5 MB" in info.describe(facts)


def test_no_folder_at_all(tmp_path):
    caches.prune(tmp_path / "none")
    assert caches.size_of(tmp_path / "none") == []


SUMS = """
import numpy as np, numgraph as ng
g = ng.Graph([0, 1], [1, 0])
assert ng.update_all(g, MESSAGE, "sum", u={"x": np.ones((2, 3), np.float32)}).sum() == TOTAL
"""


def test_a_process_that_compiles_prunes(tmp_path):
    """A kernel that was not used for long is gone after another was compiled, and is compiled again when it
    is asked for.
    """
    cache = {"NUMGRAPH_CACHE_DIR": str(tmp_path)}
    first, second = (
        SUMS.replace("MESSAGE", m).replace("TOTAL", t)
        for m, t in (("lambda u: u.x * 3", "18"), ("lambda u: u.x + 3", "24"))
    )
    run(first, setup="", **cache)
    texts = set(tmp_path.rglob("numgraph_kernel_*.py"))
    assert len(texts) == 1
    long_ago = time.time() - 100 * DAY
    for path in tmp_path.rglob("*"):
        os.utime(path, (long_ago, long_ago))
    run(first, setup="", **cache)  # nothing is compiled, so nothing is looked at; its use is noted
    run(second, setup="", **cache)
    assert len(set(tmp_path.rglob("numgraph_kernel_*.py"))) == 2
    for path in tmp_path.rglob(f"{texts.copy().pop().stem}*"):
        os.utime(path, (long_ago, long_ago))
    run(SUMS.replace("MESSAGE", "lambda u: u.x - 3").replace("TOTAL", "-12"), setup="", **cache)
    assert not texts & set(tmp_path.rglob("numgraph_kernel_*.py"))
    run(first, setup="", **cache)
