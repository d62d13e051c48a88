"""Scripts in processes of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import zlib
from collections import defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

SETUP = """
import numpy as np, numgraph as ng
from numgraph.runtime import threads
from numgraph.compiler.cpu import balance
threads.SMALL, balance.HUB_EDGES = 0, 1000  # every kernel is worth the pool, the hub is cut into chunks
rng = np.random.default_rng(0)
n, m, f = 500, 6000, 40
src, dst = rng.integers(0, n, m), rng.integers(0, n, m)
dst[:2500] = 7  # a hub
g = ng.Graph(src, dst, n)
x, y, w = (rng.standard_normal(s).astype(np.float32) for s in ((n, f), (n, f), (m, 1)))
heads = rng.standard_normal((n, 8, 5)).astype(np.float32)
left, right = (rng.standard_normal((n, 8, 1)).astype(np.float32) for _ in range(2))

def step(g=g, taped=True):
    '''Results and gradients of one walk of every kind, as one list of arrays.'''
    found = []
    def messages(x, y, w, heads, left, right):
        u, v, e = {"x": x, "h": heads, "l": left}, {"y": y, "r": right}, {"w": w}
        outs = [ng.update_all(g, lambda u, v, e: ng.relu(u.x - v.y) * e.w, r, u=u, v=v, e=e) for r in ("sum", "mean", "max", "min", "prod")]
        outs.append(ng.attend(g, lambda u, v: ng.leaky_relu(u.l + v.r, 0.2), lambda u: u.h, u=u, v=v))
        outs.append(ng.apply_edges(g, lambda u, v: (u.x * v.y).sum(-1), u=u, v=v))
        outs.append(ng.ops.edge_softmax(g, w))
        return outs
    if not taped:
        return messages(x, y, w, heads, left, right)
    with ng.Tape() as tape:
        inputs = [tape.watch(a) for a in (x, y, w, heads, left, right)]
        outs = messages(*inputs)
        loss = sum((o * o).sum() for o in outs)
    return [o.data for o in outs] + tape.gradient(loss, inputs)

def same(a, b):
    return len(a) == len(b) and all(p.dtype == q.dtype and p.tobytes() == q.tobytes() for p, q in zip(a, b))
"""


@pytest.fixture
def interruptible():
    """Processes that a test starts take SIGINT, even if the tests were started in the background, where it is
    ignored.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def run(script, *, setup=SETUP, timeout=300, **environment):
    """What a script prints. It must end well, and say nothing on stderr. environment: None removes a
    variable.
    """
    env = {
        name: value
        for name, value in {**os.environ, "PYTHONWARNINGS": "error", **environment}.items()
        if value is not None
    }
    text = textwrap.dedent(setup) + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", text], env=env, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout


WHOLE = bool(os.environ.get("NUMGRAPH_TEST_WHOLE"))
"""Whether the slow routes of the CUDA target run every test that they can (see cuda_route)."""
SHARE = 1 if WHOLE else 24
"""Else they run every test for one in so many of its parameters (see ``sampled``)."""


def whole_only(names, left_out):
    """Parameters of which some run with NUMGRAPH_TEST_WHOLE alone: each file compiles some hundred kernels
    for a device.
    """
    mark = pytest.mark.skipif(not WHOLE, reason="make test-whole runs it")
    return [pytest.param(name, marks=mark) if name in left_out else name for name in names]


def sampled(items, share):
    """One in `share` of every test's parameters, and one at least: which, their names decide, so they are the
    same ones every time.
    """
    tests = defaultdict(list)
    for item in items:
        tests[item.path, item.originalname].append(item)
    for each in tests.values():
        each.sort(key=lambda item: zlib.crc32(item.name.encode()))
    return {item for each in tests.values() for item in each[: -(-len(each) // share)]}


def run_on_the_device(tests, chosen, least, **environment):
    """Run a file's tests with every walk on the CUDA target (see cuda_route.py): what pytest printed.

    least: how many tests there are at least to choose from, so that none is lost unseen.
    """
    path = os.pathsep.join([str(TESTS / "support"), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "cuda_route",
        "-p",
        "no:cacheprovider",
        "-q",
        str(TESTS / tests),
        "-k",
        chosen,
    ]
    env = {**os.environ, **environment, "PYTHONPATH": path}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= least / SHARE
    assert "skipped" not in done.stdout
    return done.stdout
