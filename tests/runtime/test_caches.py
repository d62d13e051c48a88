"""What a process keeps for the next one, what it takes of memory, and where its kernels read and write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scripts import run

# --- caches ---

COUNTING = """
from numba.core import event
compiled = event.RecordingListener()
event.register("numba:compile", compiled)
"""

GAT_STEP = """
import numpy as np, numgraph as ng
rng = np.random.default_rng(0)
g = ng.Graph(rng.integers(0, 60, 400), rng.integers(0, 60, 400), 60)
x = rng.standard_normal((60, 16)).astype(np.float32)
model = ng.nn.GAT(16, 8, 4)
optimiser = ng.optim.Adam(model.parameters(), lr=0.01)
with ng.Tape() as tape:
    loss = ng.dense.cross_entropy(model(g, x), rng.integers(0, 4, 60))
optimiser.step(tape.gradient(loss, optimiser.parameters))
print(sum(1 for _, found in compiled.buffer if found.is_start))
"""


def test_a_second_process_compiles_nothing(tmp_path):
    """For a GAT's training step: forward, backward, optimiser."""
    cache = {"NUMGRAPH_CACHE_DIR": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    assert int(run(GAT_STEP, setup=COUNTING, **cache)) > 0
    files = sorted(path.name for path in tmp_path.rglob("*"))
    assert run(GAT_STEP, setup=COUNTING, **cache) == "0\n"
    assert sorted(path.name for path in tmp_path.rglob("*")) == files


def test_importing_compiles_nothing_starts_nothing_prints_nothing(tmp_path):
    out = run(
        """
        import sys, threading
        import numgraph, numgraph.nn, numgraph.data, numgraph.ops, numgraph.optim
        import numba
        assert not compiled.buffer
        assert threading.active_count() == 1
        try:
            print(numba.threading_layer())
        except ValueError:
            pass  # Numba's pool was not started
        """,
        setup=COUNTING,
        NUMGRAPH_CACHE_DIR=str(tmp_path / "cache"),
        NUMBA_CACHE_DIR=str(tmp_path / "numba"),
        HOME=str(tmp_path),
        PYTHONDONTWRITEBYTECODE="1",
    )
    assert out == ""
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


RIGHT = """
import numpy as np, numgraph as ng
g = ng.Graph([0, 1, 2, 2], [1, 2, 0, 1], 3)
x = np.arange(6.0).reshape(3, 2)
z = ng.update_all(g, lambda u, v: u.x * 3.5 + v.x, "sum", u={"x": x}, v={"x": x})
want = np.array([[4.0 * 3.5 + 0, 5 * 3.5 + 1], [(0 + 4) * 3.5 + 4, (1 + 5) * 3.5 + 6], [2 * 3.5 + 4, 3 * 3.5 + 5]])
np.testing.assert_array_equal(z, want)
"""


def test_processes_race_on_an_empty_cache(tmp_path):
    env = {**os.environ, "NUMGRAPH_CACHE_DIR": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RIGHT],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(3)
    ]
    for racer in racers:
        out, _ = racer.communicate(timeout=300)
        assert racer.returncode == 0, out
        assert out == ""
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_damaged_cache_is_made_anew(tmp_path):
    """After a crash of the machine, files may be there without their content."""
    cache = {"NUMGRAPH_CACHE_DIR": str(tmp_path)}
    run(RIGHT, setup="", **cache)
    for text in tmp_path.rglob("numgraph_kernel_*.py"):
        text.write_text("")
    run(RIGHT, setup="", **cache)


TEMPORARY = """
from pathlib import Path
from numgraph.runtime import caches
folder = caches.folder()
assert folder.is_dir() and caches.cache_root() not in folder.parents
print(folder)
"""

NO_HOME = """
import pwd
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
"""

NOTHING_CAN_BE_KEPT = """
from numgraph.runtime import atomic
def refuse(*args, **options):
    raise OSError(30, "Read-only file system")
atomic.write = refuse
"""

NO_TEMPORARY_FOLDER = """
import tempfile
def none(*args, **options):
    raise FileNotFoundError("No usable temporary directory found")
tempfile.mkdtemp = tempfile.mkstemp = tempfile.TemporaryFile = none
"""


@pytest.mark.parametrize("setup", ["", NOTHING_CAN_BE_KEPT])
@pytest.mark.parametrize("where", ["below a file", "in a folder that takes no files", "no home"])
def test_without_a_writable_cache(where, setup, tmp_path):
    """The kernels go to a folder of the process, which is gone afterwards."""
    (tmp_path / "file").write_text("")
    script = RIGHT + TEMPORARY
    if where == "no home":  # a container's user that the system does not know
        environment = dict.fromkeys(("NUMGRAPH_CACHE_DIR", "XDG_CACHE_HOME", "HOME"))
        setup = NO_HOME + setup
    else:
        environment = {
            "NUMGRAPH_CACHE_DIR": {"below a file": str(tmp_path / "file" / "cache")}.get(
                where, "/proc/1/numgraph"
            )
        }
    assert not Path(run(script, setup=setup, **environment).strip()).exists()


def test_nothing_at_all_is_writable():
    run(RIGHT, setup=NOTHING_CAN_BE_KEPT + NO_TEMPORARY_FOLDER, NUMGRAPH_CACHE_DIR="/proc/1/numgraph")


# --- memory ---

MEMORY = """
import resource, sys
import numpy as np, numgraph as ng
rng = np.random.default_rng(0)
n, m, f = 20_000, 2_000_000, 64
g = ng.Graph(rng.integers(0, n, m, dtype=np.int32), rng.integers(0, n, m, dtype=np.int32), n)
g.in_edges, g.out_edges
x, y, w = (rng.standard_normal(s, dtype=np.float32) for s in ((n, f), (n, f), (m, 1)))
a, b = (rng.standard_normal((n, 8, 1), dtype=np.float32) for _ in range(2))

def step(message, inputs):
    with ng.Tape() as tape:
        watched = [tape.watch(array) for array in inputs]
        loss = message(*watched).sum()
    return tape.gradient(loss, watched)

small = ng.Graph([0, 1], [1, 0], n)
def relu(x, y, w, g=g):
    return ng.update_all(g, lambda u, v, e: ng.relu(u.x - v.y) * e.w, "sum", u={"x": x}, v={"y": y}, e={"w": w})
def attention(x, a, b, g=g):
    return ng.attend(g, lambda u, v: ng.leaky_relu(u.a + v.b, 0.2), lambda u: u.x, u={"x": x, "a": a}, v={"b": b})
def extreme(x, y, g=g):
    return ng.update_all(g, lambda u, v: np.exp(u.x - v.y), "max", u={"x": x}, v={"y": y})
heads = x.reshape(n, 8, 8)
step(lambda *k: relu(*k, g=small), [x, y, w[:2]]), step(lambda *k: attention(*k, g=small), [heads, a, b])
step(lambda *k: extreme(*k, g=small), [x, y])  # compiled: LLVM's memory is not the question here
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before = peak()
step(relu, [x, y, w]), step(attention, [heads, a, b]), step(extreme, [x, y])
print((peak() - before) // 2**20)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the module resource is not on Windows")
def test_no_array_of_edges_by_features():
    """Two million edges × 64 floats are 488 MiB. Forward and backward of three messages take a few arrays of
    nodes and of edges.
    """
    assert int(run(MEMORY, setup="")) < 100


# --- bounds checks ---


def test_kernels_under_bounds_checks(tmp_path):
    """NUMBA_BOUNDSCHECK=1 finds no access outside of the arrays, and does find one that is planted: an output
    with a row too few.
    """
    out = run(
        """
        step(), step(g.reverse())
        from numgraph.compiler.cpu import running as cpu
        import pytest
        launch = cpu.Cpu.launch
        def short(self, made, graph, fields, buffers):
            return launch(self, made, graph, fields, {key: array[:-1] for key, array in buffers.items()})
        for small in (0, 1 << 62):
            threads.SMALL = small
            cpu.Cpu.launch = short
            with pytest.raises(IndexError):
                ng.update_all(g, lambda u: u.x, "sum", u={"x": x})
            cpu.Cpu.launch = launch
            step()
        print("done")
        """,
        NUMBA_BOUNDSCHECK="1",
        NUMGRAPH_CACHE_DIR=str(tmp_path),
        NUMBA_CACHE_DIR=str(tmp_path / "numba"),
    )
    assert out == "done\n"


# --- without a compiler ---

UNCOMPILED = """
rng = np.random.default_rng(0)
g = ng.Graph(rng.integers(0, 20, 80), rng.integers(0, 20, 80), 20)
x = rng.standard_normal((20, 6))
found = [ng.update_all(g, lambda u, v: np.exp(u.x) * v.x, r, u={"x": x}, v={"x": x}) for r in ("sum", "mean", "max", "min", "prod")]
found.append(ng.ops.edge_softmax(g, rng.standard_normal((80, 2))))
for model in (ng.nn.GAT(6, 4, 3, rng=0), ng.nn.GCN(6, 4, 3, rng=0)):
    optimiser = ng.optim.Adam(model.parameters(), lr=0.01)
    with ng.Tape() as tape:
        loss = ng.dense.cross_entropy(model(g, x), np.arange(20) % 3)
    gradients = tape.gradient(loss, optimiser.parameters)
    optimiser.step(gradients)
    found += [*gradients, *(p.data for p in optimiser.parameters)]
print([float(np.abs(array).sum()) for array in found])
"""


def test_without_a_compiler_the_results_are_the_same():
    setup = "import numpy as np, numgraph as ng\n"
    slow, fast = (
        np.array(json.loads(run(UNCOMPILED, setup=setup, NUMBA_DISABLE_JIT=off))) for off in ("1", "0")
    )
    np.testing.assert_allclose(slow, fast, rtol=1e-5)
