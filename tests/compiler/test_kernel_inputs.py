"""What kernels read: every dtype with NumPy's promotion and overflow, every memory layout."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import walks
from walks import compare, compare_step, normal

import numgraph as ng

G = walks.graph()
INTEGERS = ("int8", "uint8", "uint16", "int32", "uint32", "int64")


def integers(target, *shape, dtype, low=-50, high=100):
    rng = np.random.default_rng([*map(ord, target + dtype), *shape])
    return rng.integers(
        max(low, 0) if dtype.startswith("u") else low, high, (walks.rows(G, target), *shape)
    ).astype(dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(dtype):
    """Integers overflow as NumPy's do, inside of the message too."""
    fields = {"u": {"x": integers("u", 5, dtype=dtype)}, "v": {"y": integers("v", 5, dtype=dtype)}}
    for message in (
        lambda u, v: u.x - v.y,
        lambda u, v: np.where((u.x - v.y) > 5, np.abs(u.x * v.y) + np.maximum(u.x, v.y) - np.sign(u.x), 1),
        lambda u, v: (u.x - v.y) / (np.abs(v.y) + 1),
        lambda u, v: (u.x * v.y).sum(-1),
        lambda u, v: (u.x - v.y).max(-1),
    ):
        got = ng.apply_edges(G, message, **fields)
        want = oracle.apply_edges(G, message, **fields)
        assert got.dtype == want.dtype or (got.dtype == np.int64 and want.dtype == np.uint64), (
            "sums of integers are int64"
        )
        np.testing.assert_allclose(
            got, want, rtol=2e-3 if want.dtype == np.float16 else 1e-6 if want.dtype == np.float32 else 1e-12
        )
    compare(G, lambda u, v: (u.x - v.y).astype(np.int64), "sum", **fields)
    compare(G, lambda u, v: u.x - v.y, "max", **fields)


def test_booleans():
    fields = {"u": {"x": normal(G, "u", 3, 9) > 0}, "v": {"y": normal(G, "v", 3, 9) > 0.5}}
    for message in (
        lambda u, v: (u.x | ~v.y) ^ (u.x & v.y),
        lambda u, v: (u.x == v.y) & (u.x >= u.x * v.y) & (v.y < u.x + v.y),
        lambda u, v: np.maximum(u.x, v.y) ^ np.minimum(u.x, v.y),
        lambda u, v: np.where(u.x.max(-1, keepdims=True), v.y, True),
        lambda u, v: u.x.sum(-1, keepdims=True) + v.y,
        lambda u, v: u.x * 1.5,
    ):
        want = oracle.apply_edges(G, message, **fields)
        got = ng.apply_edges(G, message, **fields)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
    for reduce in ("max", "min", "sum", "mean", "prod"):
        got, want = (
            run(G, lambda u: u.x, reduce, u=fields["u"]) for run in (ng.update_all, oracle.update_all)
        )
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-15)


MIXED = [
    ("float32", "float64"),
    ("float32", "int32"),
    ("float32", "int8"),
    ("int32", "int64"),
    ("bool", "float32"),
    ("float16", "float32"),
]
MIXED += [
    ("float16", "float64"),
    ("int8", "uint8"),
    ("bool", "int8"),
    ("float16", "int8"),
    ("uint32", "int32"),
]


@pytest.mark.parametrize(("a", "b"), MIXED)
def test_mixed_dtypes_promote_as_numpy_does(a, b):
    fields = {
        "u": {"x": integers("u", 6, dtype="int8", low=0, high=9).astype(a)},
        "v": {"y": integers("v", 6, dtype="int8", low=0).astype(b)},
    }
    for message in (
        lambda u, v: u.x + v.y,
        lambda u, v: u.x * v.y * 2,
        lambda u, v: np.maximum(u.x, v.y) * 0.5,
        lambda u, v: u.x <= v.y,
    ):
        got, want = ng.apply_edges(G, message, **fields), oracle.apply_edges(G, message, **fields)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def test_float16_is_storage():
    """Sums of float16 are made in float32: a thousand ones and more, where float16 itself ends at 2048 + 1 =
    2048.
    """
    g = ng.Graph(np.zeros(5000, np.int64), np.zeros(5000, np.int64), 1)
    z = ng.update_all(g, lambda u: u.x, "sum", u={"x": np.ones((1, 3), np.float16)})
    assert z.dtype == np.float16
    np.testing.assert_array_equal(z, 5000)
    fields = {
        "u": {"x": normal(G, "u", 6, dtype=np.float16)},
        "v": {"y": normal(G, "v", 6, dtype=np.float16)},
    }
    compare_step(lambda u, v, e: ng.update_all(G, lambda u, v: u.x * v.y, "sum", u=u, v=v), fields)
    compare_step(lambda u, v, e: ng.attend(G, lambda u, v: u.x * v.y, lambda u: u.x, u=u, v=v), fields, 1e-2)


def test_large_python_numbers():
    fields = {"u": {"x": normal(G, "u", 4, dtype=np.float64)}}
    for message in (
        lambda u: u.x * 10**20,
        lambda u: u.x > -(10**30),
        lambda u: np.where(u.x > 0, 2**63, u.x),
        lambda u: u.x * float("inf"),
    ):
        np.testing.assert_array_equal(
            ng.apply_edges(G, message, **fields), oracle.apply_edges(G, message, **fields)
        )


def layouts():
    """Arrays of the same numbers in memory of every kind."""
    plain = normal(G, "u", 4, 10)
    wide = np.zeros((9, 4, 25), np.float32)
    wide[:, :, 3:23:2] = plain
    padded = np.zeros((9, 4, 16), np.float32)
    padded[:, :, :10] = plain
    rows = np.zeros((27, 4, 10), np.float32)
    rows[1::3] = plain
    packed = np.zeros(9, [("tag", "u1"), ("x", "f4", (4, 10))])
    packed["x"] = plain
    records = np.zeros(9, [("x", "f4", (4, 10)), ("id", "i8")])
    records["x"] = plain
    frozen = plain.copy()
    frozen.flags.writeable = False
    raw = np.zeros(plain.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(plain.shape)
    unaligned[:] = plain
    return {
        "plain": plain,
        "every other column": wide[:, :, 3:23:2],
        "padded": padded[:, :, :10],
        "every third row": rows[1::3],
        "reversed rows": np.ascontiguousarray(plain[::-1])[::-1],
        "reversed columns": np.ascontiguousarray(plain[:, :, ::-1])[:, :, ::-1],
        "reversed heads": np.ascontiguousarray(plain[:, ::-1])[:, ::-1],
        "Fortran": np.asfortranarray(plain),
        "transposed": np.ascontiguousarray(plain.transpose(1, 2, 0)).transpose(2, 0, 1),
        "read-only": frozen,
        "unaligned": unaligned,
        "field of packed records": packed["x"],
        "field of records": records["x"],
        "big endian": plain.astype(">f4"),
        "little endian": plain.astype("<f4"),
    }


@pytest.mark.parametrize("name", layouts())
def test_memory_layouts(name):
    array = layouts()[name]
    before = array.copy()
    g = ng.Graph(G.src, G.src[::-1], 9)
    want = oracle.update_all(g, lambda u, v: u.x * v.x, "sum", u={"x": before}, v={"x": before})
    got = ng.update_all(g, lambda u, v: u.x * v.x, "sum", u={"x": array}, v={"x": array})
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    assert got.flags.c_contiguous
    assert got.dtype.isnative
    edges = np.concatenate([before] * 7)[: g.num_edges]
    if name in ("reversed rows", "every third row"):
        edges = np.ascontiguousarray(edges[::-1])[::-1]
    np.testing.assert_array_equal(
        ng.apply_edges(g, lambda u, e: u.x + e.x, u={"x": array}, e={"x": edges}), before[g.src] + edges
    )
    np.testing.assert_array_equal(array, before)


def test_one_row_for_all_nodes():
    """np.broadcast_to has stride 0 along the nodes, or along the features."""
    row = np.arange(6, dtype=np.float32)
    for array in (
        np.broadcast_to(row, (9, 6)),
        np.broadcast_to(np.arange(9, dtype=np.float32)[:, None], (9, 6)),
        np.broadcast_to(row[0], (9, 6)),
    ):
        fields = {"u": {"x": array}, "v": {"y": normal(G, "v", 6)}}
        compare(G, lambda u, v: u.x * v.y, "sum", **fields)
        compare_step(lambda u, v, e: ng.update_all(G, lambda u, v: u.x * v.y, "sum", u=u, v=v), fields)


def test_booleans_and_halves_in_strange_layouts():
    x = np.asfortranarray(normal(G, "u", 6) > 0)[:, ::-1]
    np.testing.assert_array_equal(ng.apply_edges(G, lambda u: ~u.x, u={"x": x}), ~x[G.src])
    h = normal(G, "u", 12, dtype=np.float16)[:, ::2]
    np.testing.assert_array_equal(ng.apply_edges(G, lambda u: u.x * 2, u={"x": h}), h[G.src] * 2)
    i = np.arange(9 * 4, dtype=">i2").reshape(9, 4)[::-1]
    np.testing.assert_array_equal(ng.apply_edges(G, lambda u: u.x + 1, u={"x": i}), (i + 1)[G.src])
