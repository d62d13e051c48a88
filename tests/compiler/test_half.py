"""float16 and bfloat16 are storage: arithmetic and accumulation in float32, one rounding at the end."""

from __future__ import annotations

import numpy as np
import pytest

import numgraph as ng
from numgraph.compiler.cpu import balance

try:
    from ml_dtypes import bfloat16
except ModuleNotFoundError:
    bfloat16 = None
missing = pytest.mark.skipif(bfloat16 is None, reason="ml_dtypes is not installed")
DTYPES = [pytest.param(np.float16, id="float16"), pytest.param(bfloat16, id="bfloat16", marks=missing)]
NODES, EDGES = 30, 200


def graph() -> ng.Graph:
    rng = np.random.default_rng(0)
    return ng.Graph(rng.integers(0, NODES, EDGES), rng.integers(0, NODES - 1, EDGES), NODES)


def close(made, expected, dtype):
    """Equal up to one rounding to dtype, and what float32's order of additions may change."""
    assert made.dtype == np.dtype(dtype)
    spacing = {2: 2.0**-10, 1: 2.0**-7}[1 if dtype is bfloat16 else 2]
    np.testing.assert_allclose(made.astype(np.float64), expected, rtol=spacing, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (5,), (40,), (8, 8)])
def test_sum_forward_and_gradients(dtype, shape):
    rng = np.random.default_rng(1)
    g = graph()
    x = rng.standard_normal((NODES, *shape)).astype(dtype)
    w = rng.standard_normal((EDGES, *shape)).astype(dtype)
    with ng.Tape() as tape:
        xs, ws = tape.watch(x), tape.watch(w)
        z = ng.update_all(g, lambda u, e: u.x * e.w, "sum", u={"x": xs}, e={"w": ws})
        loss = z.astype(np.float32).sum()
    dx, dw = tape.gradient(loss, [xs, ws])
    wide_x, wide_w = x.astype(np.float64), w.astype(np.float64)
    total, back = np.zeros((NODES, *shape)), np.zeros((NODES, *shape))
    np.add.at(total, g.dst, wide_x[g.src] * wide_w)
    np.add.at(back, g.src, wide_w)
    close(z.data, total, dtype)
    close(dx, back, dtype)
    np.testing.assert_array_equal(dw, x[g.src])


@pytest.mark.parametrize("dtype", DTYPES)
def test_accumulation_is_wide(dtype, monkeypatch):
    """4096 ones and 0.25 at the end: float16 would stop at 2048, bfloat16 at 256; in hubs' chunks too."""
    x = np.ones((4097, 3), dtype)
    x[-1] = 0.25
    for chunk in (balance.HUB_EDGES, 1000):
        monkeypatch.setattr(balance, "HUB_EDGES", chunk)
        g = ng.Graph(np.arange(4097), np.zeros(4097, int), num_src=4097, num_dst=1)
        z = ng.update_all(g, lambda u: u.x, "sum", u={"x": x})
        np.testing.assert_array_equal(z, np.full((1, 3), 4096.25, np.float32).astype(dtype))
        x16 = np.full((4097, 3), 30.0, dtype)
        cancel = np.where(np.arange(4097)[:, None] % 2 == 0, x16, -x16).astype(dtype)
        np.testing.assert_array_equal(
            ng.update_all(g, lambda u: u.x * 500, "sum", u={"x": cancel}),
            np.full((1, 3), 15000, np.float32).astype((cancel[:1] * 500).dtype),  # NumPy 2.1 says float32
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values_round_trip(dtype):
    """A message that copies changes no bits: NaN, infinities, zeros with their signs, subnormals, the largest
    number.
    """
    bits = np.concatenate(
        [np.arange(0, 2**16, 37), [0x7C00, 0xFC00, 0x7F80, 0xFF80, 0x8000, 0x0001, 0x7BFF, 0x7F7F]]
    ).astype(np.uint16)
    values = bits.view(dtype)
    g = ng.Graph(np.arange(len(values)), np.arange(len(values)))
    made = ng.apply_edges(g, lambda u: u.x, u={"x": values})
    nan = np.isnan(values.astype(np.float32))
    np.testing.assert_array_equal(made.view(np.uint16)[~nan], bits[~nan])
    assert np.isnan(made.astype(np.float32)[nan]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_is_to_nearest_even(dtype):
    wide = np.float32(
        [1 + 2**-9, 1 + 3 * 2**-9, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, 3.4e38, -3.4e38]
    )
    g = ng.Graph(np.arange(len(wide)), np.arange(len(wide)))
    with np.errstate(over="ignore"):
        expected = wide.astype(dtype)
    made = ng.apply_edges(g, lambda u: u.x.astype(dtype), u={"x": wide})
    np.testing.assert_array_equal(made.view(np.uint16), expected.view(np.uint16))


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_and_max(dtype):
    rng = np.random.default_rng(2)
    g = graph()
    x = rng.standard_normal((NODES, 4, 8)).astype(dtype)
    s = rng.standard_normal((EDGES, 4, 1)).astype(dtype)
    z = ng.attend(g, lambda e: e.s, lambda u: u.x, u={"x": x}, e={"s": s})
    wide, scores = x.astype(np.float64), s.astype(np.float64)
    expected = np.zeros((NODES, 4, 8))
    top = np.full((NODES, 4, 8), -np.inf)
    for v in range(NODES):
        edges = np.flatnonzero(g.dst == v)
        if len(edges):
            weights = np.exp(scores[edges])
            expected[v] = (weights * wide[g.src[edges]]).sum(0) / weights.sum(0)
            top[v] = wide[g.src[edges]].max(0)
    close(z, expected, dtype)
    best = ng.update_all(g, lambda u: u.x, "max", u={"x": x}).astype(np.float64)
    np.testing.assert_array_equal(best, np.where(np.isinf(top), 0, top))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (5,), (40,), (4, 8)])
@pytest.mark.parametrize("chunk", [7, 10_000], ids=["hubs", "no hubs"])
def test_node_and_edge_gradients_of_one_walk(dtype, shape, chunk, monkeypatch):
    """∂v is put together from chunks, ∂e is stored edge by edge, in the kernel of the other rows and in that
    of the chunks.
    """
    monkeypatch.setattr(balance, "HUB_EDGES", chunk)
    rng = np.random.default_rng(3)
    src = rng.integers(0, NODES, EDGES)
    dst = np.where(rng.random(EDGES) < 0.4, 3, rng.integers(0, NODES - 1, EDGES))
    g = ng.Graph(src, dst, NODES)
    y = rng.standard_normal((NODES, *shape)).astype(dtype)
    w = rng.standard_normal((EDGES, *shape)).astype(dtype)
    with ng.Tape() as tape:
        ys, ws = tape.watch(y), tape.watch(w)
        z = ng.update_all(g, lambda v, e: v.y * e.w, "sum", v={"y": ys}, e={"w": ws})
        loss = z.astype(np.float32).sum()
    dy, dw = tape.gradient(loss, [ys, ws])
    wide_y, wide_w = y.astype(np.float64), w.astype(np.float64)
    total, back = np.zeros((NODES, *shape)), np.zeros((NODES, *shape))
    np.add.at(total, dst, wide_y[dst] * wide_w)
    np.add.at(back, dst, wide_w)
    close(z.data, total, dtype)
    close(dy, back, dtype)
    np.testing.assert_array_equal(dw, y[dst])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduce", ["mean", "max", "min", "prod"])
def test_reduces_of_hubs(dtype, reduce, monkeypatch):
    monkeypatch.setattr(balance, "HUB_EDGES", 6)
    rng = np.random.default_rng(4)
    g = ng.Graph(rng.integers(0, NODES, EDGES), np.sort(rng.integers(0, NODES, EDGES)), NODES)
    x = rng.uniform(0.8, 1.25, (NODES, 9)).astype(dtype)
    made = ng.update_all(g, lambda u: u.x, reduce, u={"x": x})
    wide = x.astype(np.float64)
    combine = {"mean": np.mean, "max": np.max, "min": np.min, "prod": np.prod}[reduce]
    expected = [
        combine(wide[g.src[g.dst == v]], axis=0)
        if (g.dst == v).any()
        else np.full(9, float(reduce == "prod"))
        for v in range(NODES)
    ]
    close(made, np.array(expected), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduce", ["sum", "mean", "prod", "attend"])
def test_what_is_computed_once_a_node_is_not_rounded(dtype, reduce):
    """exp(x) is beyond float16, the message is not; in bfloat16 the roundings of the factors would add up."""
    rng = np.random.default_rng(5)
    g = graph()  # more edges than nodes
    x = rng.uniform(11.5, 12, (NODES, 5)).astype(dtype)
    w = (np.exp(-11.75) * rng.uniform(0.8, 1.25, (EDGES, 5))).astype(dtype)
    fields = {"u": {"x": x}, "e": {"w": w}}
    if reduce == "attend":
        made = ng.attend(g, lambda u: u.x - u.x, lambda u, e: np.exp(u.x) * e.w, **fields)
    else:
        made = ng.update_all(g, lambda u, e: np.exp(u.x) * e.w, reduce, **fields)
    messages = np.exp(x.astype(np.float64))[g.src] * w.astype(np.float64)
    combine, empty = {"sum": np.sum, "prod": np.prod}.get(reduce, np.mean), float(reduce == "prod")
    rows = [messages[g.dst == v] for v in range(NODES)]
    close(made, np.array([combine(row, axis=0) if len(row) else np.full(5, empty) for row in rows]), dtype)


@pytest.mark.parametrize(
    "factors", [[1e-4, 1e-4], [300, 300], [0.05] * 5, [1e-4, 1e-4, 300, 300], [0, 1e-4, 1e-4], [0.3] * 20]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_of_products(dtype, factors):
    """The product of the others, also where the product of all is beyond the dtype."""
    x = np.array(factors, dtype)
    g = ng.Graph(np.arange(len(x)), np.zeros(len(x), int), len(x))
    with ng.Tape() as tape:
        xs = tape.watch(x)
        loss = ng.update_all(g, lambda u: u.x, "prod", u={"x": xs})[0]
    got = tape.gradient(loss, xs).astype(np.float64)
    want = [np.prod(np.delete(x.astype(np.float64), i)) for i in range(len(x))]
    np.testing.assert_allclose(
        got, want, rtol=2.0**-7 if dtype is bfloat16 else 2.0**-10, atol=2.0**-25
    )  # half of the least float16


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_of_a_mean_over_many(dtype):
    """1 / 3,000,000 is no float16; what a message multiplies it with makes it one."""
    count = 3_000_000
    g = ng.Graph(np.zeros(count, int), np.zeros(count, int), 1)
    with ng.Tape() as tape:
        xs = tape.watch(np.ones((1,), dtype))
        loss = ng.update_all(g, lambda u: u.x * 3.0, "mean", u={"x": xs})[0]
    close(tape.gradient(loss, xs), np.array([3.0]), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_of_a_captured_array_is_rounded_once(dtype):
    """The nodes' parts, near 1000 and −1000, are not rounded before they are added: what remains is less than
    their last bits.
    """
    x = np.where(np.arange(100) % 2, 1000.0, -1000.0).astype(dtype)
    y = np.where(np.arange(100) % 2, 1.25, 1.25 + 2**-7).astype(dtype)
    g = ng.Graph(np.arange(100), np.arange(100), 100)
    with ng.Tape() as tape:
        w = tape.watch(np.ones(1, dtype))
        loss = np.sum(
            ng.update_all(g, lambda u: np.sin(u.y) * u.x * w, "sum", u={"x": x, "y": y}).astype(np.float32)
        )
    close(
        tape.gradient(loss, w), np.array([np.sum(np.sin(y.astype(np.float64)) * x.astype(np.float64))]), dtype
    )
