"""Narrow integers, halves and bools are read and written as they are stored, in any byte order and layout."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import numgraph as ng
from numgraph.arrays import recycling

DTYPES = [
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "float16",
    "float32",
    "float64",
]
G = ng.Graph([0, 1, 2, 2, 0], [1, 2, 0, 1, 1], 3)


def numbers(dtype, *shape):
    rng = np.random.default_rng(len(shape))
    return (rng.integers(0, 2, shape) if dtype == "bool" else rng.integers(0, 100, shape)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_byte_order_and_layout(dtype):
    """u, v, e and shared; strided, reversed, read-only and foreign memory give the plain array's numbers in
    native order.
    """
    u, v, e, shared = (numbers(dtype, *shape) for shape in ((3, 2, 4), (3, 4), (5, 4), (4,)))
    want = np.maximum(np.maximum(u[G.src], v[G.dst][:, None]), np.maximum(e[:, None], shared))
    best = np.stack([want[G.dst == row].max(0) for row in range(3)])

    def strided(x):
        wide = np.zeros((2 * len(x), *x.shape[1:], 3), x.dtype)
        wide[::2, ..., 1] = x
        return wide[::2, ..., 1]

    def frozen(x):
        x = x.copy()
        x.flags.writeable = False
        return x

    reversed_ = lambda x: np.ascontiguousarray(x[::-1])[::-1]
    foreign = lambda x: x.astype(x.dtype.newbyteorder(">"))
    for change in (foreign, strided, frozen, reversed_, np.asfortranarray, lambda x: foreign(strided(x))):
        fields = {"u": {"x": change(u)}, "v": {"x": change(v)}, "e": {"x": change(e)}}
        captured = change(shared)
        message = lambda u, v, e: np.maximum(np.maximum(u.x, v.x), np.maximum(e.x, captured))  # noqa: B023
        got = ng.apply_edges(G, message, **fields)
        assert got.dtype == want.dtype
        assert got.dtype.isnative
        np.testing.assert_array_equal(got, want)
        got = ng.update_all(G, message, "max", **fields)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, best)


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8"])
def test_gradients_of_foreign_floats(dtype):
    x = numbers("float32", 3, 4).astype(dtype)
    with ng.Tape() as tape:
        t = tape.watch(x)
        loss = ng.update_all(G, lambda u: u.x * u.x, "sum", u={"x": t}).sum()
    (gradient,) = tape.gradient(loss, [t])
    np.testing.assert_array_equal(gradient, 2 * x * np.bincount(G.src, minlength=3)[:, None])


def test_casts_to_foreign_dtypes_are_native():
    got = ng.apply_edges(G, lambda u: u.x.astype(">i2"), u={"x": np.array([1, 300, -5])})
    assert got.dtype == np.int16
    np.testing.assert_array_equal(got, np.array([1, 300, -5])[G.src])


def test_records_are_refused():
    with pytest.raises(TypeError, match="dtype"):
        ng.update_all(G, lambda u: u.x, "sum", u={"x": np.zeros(3, [("a", "f4"), ("b", "i2")])})


@pytest.mark.parametrize("reduce", ["max", "sum", "mean", "edge"])
def test_no_copy_of_a_field(reduce):
    """What a call asks for beside its result is less than a tenth of the field, for every dtype."""
    edges, width = 20_000, 64
    g = ng.Graph(np.zeros(edges, np.int32), np.arange(edges, dtype=np.int32) % 7, num_src=1, num_dst=7)
    for dtype in DTYPES:
        m = np.ones((edges, width), dtype)

        def call():
            if reduce == "edge":
                return ng.apply_edges(g, lambda e: e.m.max(-1), e={"m": m})  # noqa: B023
            return ng.update_all(g, lambda e: e.m, reduce, e={"m": m})  # noqa: B023

        call()
        recycling.release()
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        result = edges * np.dtype(dtype).itemsize if reduce == "edge" else 0
        assert peak - result < m.nbytes / 10 + 8192, (dtype, peak, m.nbytes)
