"""Short rows side by side: the same bits as rows one after the other, and right."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from programs import comparable, notation_of, places_of

import numgraph as ng
from numgraph.compiler import reference, sources
from numgraph.compiler.cost import choose
from numgraph.compiler.cpu import balance, kernel
from numgraph.compiler.cpu import running as cpu
from numgraph.compiler.index import EDGE, ROW
from numgraph.compiler.schedule import Machine, abreast
from numgraph.expressions import expr
from numgraph.expressions.traversal import leaves_of
from numgraph.expressions.walk import Output
from numgraph.runtime import caches

NODES = 61
MACHINE = Machine(abreast=True, gather=1.0)


def field(target: str, *shape: int, name: str = "x", dtype: Any = np.float32) -> Any:
    return expr.field(target, name, shape, np.dtype(dtype))


def scores(heads: int, width: int) -> list[Output]:
    """A softmax, a sum over it, and a sum over features: what attention and its gradients are made of."""
    x, s, r = field("u", heads, width), field("u", heads, 1, name="s"), field("v", heads, 1, name="r")
    weight: Any = np.exp(s - r)
    dot = weight * (x * field("v", heads, width, name="q")).sum(-1, keepdims=True)
    return [Output((s + r, x), "v", "softmax"), Output((weight * x,), "v", "sum"), Output((dot,), "v", "sum")]


def of_numbers(dtype: Any) -> list[Output]:
    u, v, e = field("u", dtype=dtype), field("v", name="y", dtype=dtype), field("e", name="w", dtype=dtype)
    real = [Output((u + v, e), "v", "softmax"), Output((u * e,), "v", "logsumexp")]
    real += [Output((u,), "v", reduce) for reduce in ("mean", "std")]
    return [
        *[Output((u * e + v,), "v", reduce) for reduce in ("sum", "max", "prod")],
        *(real if np.dtype(dtype).kind == "f" else []),
    ]


WALKS: dict[str, list[Output]] = {
    "heads": scores(3, 2),
    "one head": scores(1, 11),
    "a register": scores(4, 4),
    "numbers": of_numbers(np.float32),
    "doubles": of_numbers(np.float64),
    "integers": of_numbers(np.int64),
    "edges' features": [
        Output((field("e", 5, name="w5") * field("u", 5, name="x5"),), "v", reduce)
        for reduce in ("sum", "min")
    ],
    "products": [Output((field("u", 8) * field("e", 8, name="w"),), "v", "sum")],
    "products of two": [Output((field("u", 2) * field("e", 2, name="w"),), "v", "sum")],
    "products of doubles": [
        Output((field("u", 4, dtype=np.float64) * field("e", 4, name="w", dtype=np.float64),), "v", "sum")
    ],
    "to sources": [Output((field("v", 2, name="y2") - field("u", 1, name="x1"),), "u", "sum")],
}


def graph(ordered: bool) -> ng.Graph:
    """Rows of 0 to 6 edges, and one that is cut into chunks."""
    rng = np.random.default_rng(1)
    dst = np.concatenate([np.repeat(np.arange(NODES), rng.integers(0, 7, NODES)), np.full(90, NODES - 1)])
    dst = np.sort(dst) if ordered else rng.permutation(dst)
    return ng.Graph(rng.integers(0, NODES, len(dst)), dst, NODES)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("name", WALKS)
def test_rows_side_by_side_have_the_bits_of_rows_alone(name, ordered):
    rng, outputs = np.random.default_rng(2), tuple(WALKS[name])
    fields: dict[Any, Any] = {}
    for leaf in leaves_of(expression for output in outputs for expression in output.expressions):
        shape = graph(ordered).num_edges if leaf.attrs[0] == "e" else NODES, *leaf.shape
        drawn: Any = rng.integers(-3, 4, shape) if leaf.dtype.kind == "i" else rng.normal(size=shape)
        fields[leaf.attrs] = drawn.astype(leaf.dtype)
    made: list[list[Any]] = []
    machine = replace(kernel.machine(), abreast=True)
    with mock.patch.object(balance, "HUB_EDGES", 64), mock.patch.object(balance, "CHUNK_EDGES", 16):
        for even in (True, False):
            g = graph(ordered)
            with (
                mock.patch.object(cpu, "rows_are_even", lambda adjacency, even=even: even),
                mock.patch.object(cpu, "EVEN_FROM", 0),
                mock.patch.object(kernel, "machine", return_value=machine),
            ):
                made.append(cpu.execute(g, outputs, fields))
    for one, other in zip(*made, strict=True):
        np.testing.assert_array_equal(one, other)
    wide = {key: x.astype(np.float64) if x.dtype.kind == "f" else x for key, x in fields.items()}
    want = reference.execute(graph(ordered), outputs, wide)
    found, want = list(made[0]), list(want)
    for output in outputs:
        own, right = ([arrays.pop(0) for _ in output.results()] for arrays in (found, want))
        for a, b in zip(comparable(output, own), comparable(output, right), strict=True):
            np.testing.assert_allclose(a, b, 2e-5, 2e-5, err_msg=output.reduce)


@pytest.mark.parametrize(
    ("outputs", "want"),
    [
        (scores(1, 1), "v: lanes row, 16 a tile of 16"),
        (scores(3, 2)[:1], "v: lanes row × a:3 × b:2, 8 a tile of 48"),
        (scores(4, 4)[:1], "v: lanes row × a:4 × b:4, 4 a tile of 64"),
        (scores(4, 8)[:1], "v: lanes a:4 × b:8, 4 a tile of 32"),
        ([Output((field("u"),), "v", "sum"), Output((field("u"),), "e", "edge")], "v: scalars"),
        ([Output((field("u", dtype=np.int8),), "v", "sum")], "v: scalars"),
    ],
)
def test_which_rows_go_side_by_side(outputs, want):
    walk = notation_of(outputs)
    plain = choose(walk, replace(MACHINE, edges=False), places_of(walk)).schedule
    made = abreast(plain, walk, MACHINE)
    assert str(made) == want
    assert ROW not in plain.lanes
    assert EDGE not in made.lanes
    assert abreast(plain, walk, replace(MACHINE, abreast=False)) == plain


@pytest.mark.parametrize(
    ("degrees", "want"),
    [
        ([4] * 64, True),
        ([4, 3] * 32, True),
        ([4] * 61, True),
        ([20] * 64, False),
        ([1, 1, 1, 1, 1, 1, 1, 9] * 8, False),
        ([1] * 32 + [7] * 32, True),
        ([0] * 64, True),
        ([4] * 5, False),
    ],
)
def test_even_rows_are_short_and_as_long_as_their_neighbours(degrees, want):
    dst = np.repeat(np.arange(len(degrees)), degrees)
    g = ng.Graph(np.zeros(len(dst), int), dst, num_src=1, num_dst=len(degrees))
    assert balance.rows_are_even(g.in_edges) == want


@pytest.mark.parametrize("even", [False, True])
def test_the_cache_is_of_all_that_kernels_call(even):
    """A change of a module that a kernel's text imports makes kernels on disk others: it is in the cache's
    name.
    """
    read, seen = Path.read_bytes, set()

    def noted(path: Path) -> bytes:
        seen.add(path.stem)
        return read(path)

    with mock.patch.object(Path, "read_bytes", noted):
        caches.fingerprint.__wrapped__()
    texts, load = [], sources.load
    outputs = (Output((field("u", 3, name="called") * 2,), "v", "sum"),)
    x = {("u", "called"): np.ones((NODES, 3), np.float32)}
    with (
        mock.patch.object(sources, "load", lambda text: texts.append(text) or load(text)),
        mock.patch.object(cpu, "rows_are_even", return_value=even),
        mock.patch.object(cpu, "EVEN_FROM", 0),
        mock.patch.object(kernel, "machine", return_value=replace(kernel.machine(), abreast=True)),
    ):
        cpu.execute(graph(False), outputs, x)
    (text,) = texts
    called = set(re.findall(r"^from numgraph\.[\w.]* import (\w+)$", text, re.MULTILINE))
    called |= set(re.findall(r"^from numgraph\.[\w.]*\.(\w+) import", text, re.MULTILINE))
    files = {name for name in called if list(Path(ng.__file__).parent.rglob(f"{name}.py"))}
    assert {"memory", "vectors"} <= files
    assert ("row_lanes" in files) == even
    assert files <= seen
