"""A walk run twice: by the compiled kernels, and by plain NumPy with an array per edge."""

from __future__ import annotations

import contextlib
from unittest import mock

import numpy as np

from numgraph import Graph, Tape
from numgraph.compiler import reference
from numgraph.compiler.cpu import running as cpu
from numgraph.expressions.walk import Output
from numgraph.message import propagate
from numgraph.message.fields import traced

TOLERANCE = {"float16": 2e-3, "float32": 2e-5, "float64": 1e-12}


def graph(num_src=9, num_dst=7, num_edges=60, ordered="", seed=0):
    """A graph with a hub, rows without edges, parallel edges; its edge ids are in in-edge order for "v", in
    out-edge order for "u".
    """
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(0, num_src - 1, num_edges), rng.integers(0, num_dst - 1, num_edges)
    dst[: num_edges // 3] = 2
    src[-5:], dst[-5:] = 3, 4
    if ordered == "v":
        order = np.argsort(dst, kind="stable")
        return Graph.from_csc(
            np.searchsorted(dst[order], np.arange(num_dst + 1)), src[order], num_src=num_src
        )
    if ordered == "u":
        order = np.argsort(src, kind="stable")
        return Graph.from_csr(
            np.searchsorted(src[order], np.arange(num_src + 1)), dst[order], num_dst=num_dst
        )
    return Graph(src, dst, num_src=num_src, num_dst=num_dst)


def rows(g, target):
    return {"u": g.num_src, "v": g.num_dst, "e": g.num_edges}[target]


def normal(g, target, *shape, dtype=np.float32, seed=1):
    """A field of u, v or e. Numbers keep away from 0, so that products and quotients have a relative
    error.
    """
    rng = np.random.default_rng([seed, *map(ord, target), *shape])
    found = rng.uniform(0.2, 1.5, (rows(g, target), *shape)) * rng.choice([-1, 1], (rows(g, target), *shape))
    return found.astype(dtype)


def assert_same(got, want, rtol=None):
    """Equal shapes, dtypes, NaN and infinities; integers equal; floats close relative to the largest of
    all.
    """
    assert len(got) == len(want)
    for number, (a, b) in enumerate(zip(got, want)):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape, f"array {number}: {a.shape}, not {b.shape}"
        if b.dtype.kind != "f":
            np.testing.assert_array_equal(a, b, err_msg=f"array {number}")
            continue
        assert a.dtype == b.dtype, f"array {number}: {a.dtype}, not {b.dtype}"
        finite = np.isfinite(b)
        np.testing.assert_array_equal(
            np.where(finite, 0, a), np.where(finite, 0, b), err_msg=f"array {number}: what is not finite"
        )
        scale = max(1.0, np.abs(b[finite], dtype=np.float64).max(initial=0))
        error = np.abs(np.where(finite, a, 0) - np.where(finite, b, 0)).max(initial=0)
        assert error <= (rtol or TOLERANCE[b.dtype.name]) * scale, (
            f"array {number}: off by {error}, of {scale}"
        )


def in_one_number(arrays, reduce):
    """The shift of a softmax may be any number near the largest score: with its scale it is log Σ exp(score)
    = shift − log(scale).
    """
    if reduce not in ("softmax", "logsumexp"):
        return arrays
    *values, shift, scale = arrays
    assert shift.dtype == scale.dtype
    with np.errstate(all="ignore"):
        return [*values, shift - np.log(scale)]


def compare(g, functions, reduce, *, to="v", u=None, v=None, e=None, rtol=None):
    """Every array of a walk is the same from both. reduce: as in Output."""
    functions = functions if isinstance(functions, tuple) else (functions,)
    roots, fields = traced("test", g, functions, u, v, e)
    outputs = (Output(tuple(roots), to, reduce),)
    with np.errstate(all="ignore"):
        want = reference.execute(g, outputs, fields)
    got = cpu.execute(g, outputs, fields)
    assert_same(in_one_number(got, reduce), in_one_number(want, reduce), rtol)
    return got


@contextlib.contextmanager
def plain_numpy():
    """Messages run on the plain implementation here."""

    def execute(g, outputs, fields, out=None):
        with np.errstate(all="ignore"):
            return reference.execute(g, outputs, fields)

    with mock.patch.object(propagate, "execute", execute):
        yield


FLOATING = "fV"
"""Kinds of dtypes; bfloat16's is V."""


def step(run, fields):
    """run(u, v, e) and the gradients of its weighted sum by every float field: a list of arrays."""
    with Tape() as tape:
        watched = {
            target: {name: tape.watch(x) if x.dtype.kind in FLOATING else x for name, x in given.items()}
            for target, given in fields.items()
        }
        z = run(*[watched.get(target, {}) for target in "uve"])
        weights = np.cos(np.arange(z.size, dtype=np.float64)).reshape(z.shape).astype(z.dtype)
        loss = (z * weights).sum()
    inputs = [x for given in watched.values() for x in given.values() if isinstance(x, type(loss))]
    return [z.data, *tape.gradient(loss, inputs)]


def compare_step(run, fields, rtol=None):
    """Forward and backward are the same from both."""
    with plain_numpy():
        want = step(run, fields)
    assert_same(step(run, fields), want, rtol)
