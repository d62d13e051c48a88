"""The softmax over edges: as accurate for large scores as for small ones, the same in every op, NaN where
NumPy's is, of every order.

Whatever way it is computed, z_v = Σ softmax_v(s)_e · x_e; the weights are the gradient of Σ z by x, so each
test sees forward and backward."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import walks
from checks import assert_close, check_gradient, differences, products, scalar

import numgraph as ng
from numgraph.compiler.cpu import balance
from numgraph.message import passing as message

try:
    from ml_dtypes import bfloat16
except ModuleNotFoundError:
    bfloat16 = None
HALVES = [
    (np.float16, 2.0**-11),
    pytest.param(
        bfloat16, 2.0**-8, marks=pytest.mark.skipif(bfloat16 is None, reason="ml_dtypes is not installed")
    ),
]

G = walks.graph()
ERROR = {np.float32: 4e-6, np.float64: 1e-14}
"""Of a weight, relative: the rounding of s − max s, of its exponential and of a sum over a row."""


# --- four ways to one softmax: functions of scores [num_edges, …] and values [num_edges, …] of the same
# number of axes


def attended(g, s, x):
    return ng.attend(g, lambda e: e.s, lambda e: e.x, e={"s": s, "x": x})


def weighted(g, alpha, x):
    return ng.update_all(g, lambda e: e.a * e.x, "sum", e={"a": alpha, "x": x})


def in_segments(g, s):
    order = np.argsort(g.dst, kind="stable")
    offsets = np.searchsorted(g.dst[order], np.arange(g.num_dst + 1))
    return ng.ops.segment_softmax(offsets, s[order])[np.argsort(order)]


WAYS = {
    "attend": attended,
    "edge_softmax, dst": lambda g, s, x: weighted(g, ng.ops.edge_softmax(g, s), x),
    "edge_softmax, src": lambda g, s, x: weighted(g, ng.ops.edge_softmax(g.reverse(), s, "src"), x),
    "segment_softmax": lambda g, s, x: weighted(g, in_segments(g, s), x),
}


@pytest.fixture(params=WAYS)
def softmax(request):
    return WAYS[request.param]


@pytest.fixture(params=["whole rows", "hubs"])
def hubs(request, monkeypatch):
    """Whether long rows are cut into chunks (on CUDA they are anyway)."""
    if request.param == "hubs":
        monkeypatch.setattr(balance, "HUB_EDGES", 6)
    return walks.graph()


def run(softmax, g, s, x, seed=0):
    """z, the gradients of Σ z · w by s and by x, and the weights, which are the gradient of Σ z by x if x has
    the shape of s.
    """
    w = (
        np.random.default_rng(seed)
        .standard_normal((g.num_dst, *np.broadcast_shapes(s.shape[1:], x.shape[1:])))
        .astype(x.dtype)
    )
    with ng.Tape(persistent=True) as tape:
        ts, tx, ones = tape.watch(s), tape.watch(x), tape.watch(np.ones(s.shape, x.dtype))
        z = softmax(g, ts, tx)
        loss, total = (z * w).sum(), softmax(g, ts, ones).sum()
    return [z.data, *tape.gradient(loss, [ts, tx]), tape.gradient(total, ones)]


def expected(g, s, x, seed=0):
    """The same from the formulas, in float64 of the same numbers."""
    w = (
        np.random.default_rng(seed)
        .standard_normal((g.num_dst, *np.broadcast_shapes(s.shape[1:], x.shape[1:])))
        .astype(x.dtype)
    )
    s, x, w = (array.astype(np.float64) for array in (s, x, w))
    alpha = oracle.edge_softmax(g, s)
    z = np.zeros(w.shape)
    np.add.at(z, g.dst, alpha * x)
    inner = w[g.dst] * (x - z[g.dst])
    wider = tuple(axis for axis in range(1, s.ndim) if s.shape[axis] != inner.shape[axis])
    return [z, alpha * inner.sum(axis=wider, keepdims=True), alpha * w[g.dst], alpha]


def scores(g, around, dtype, *shape, seed=1):
    rng = np.random.default_rng(seed)
    found = rng.standard_normal((g.num_edges, *shape))
    return (found + (rng.choice([-1e6, 0, 1e6], found.shape) if around == "mixed" else around)).astype(dtype)


# --- accuracy ---


@pytest.mark.parametrize("shape", [(), (3,), (4, 1)], ids=str)
@pytest.mark.parametrize(
    ("dtype", "around"),
    [
        *[(np.float32, around) for around in (0, 1e3, 1e4, -1e4, 1e6, "mixed")],
        *[(np.float64, around) for around in (0, 1e8, "mixed")],
    ],
)
def test_the_size_of_scores_does_not_matter(softmax, hubs, dtype, around, shape):
    g = hubs
    s = scores(g, around, dtype, *shape)
    x = walks.normal(g, "e", *shape[:-1], *((8,) if shape[1:] == (1,) else shape[-1:]), dtype=dtype)
    *found, alpha = run(softmax, g, s, x)
    *want, weights = expected(g, s, x)
    np.testing.assert_allclose(alpha, weights, rtol=ERROR[dtype], atol=0)
    for a, b in zip(found, want, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=ERROR[dtype] * np.abs(b).max())


@pytest.mark.parametrize("around", [1e3, -1e3])
@pytest.mark.parametrize(("dtype", "rounding"), HALVES)
def test_halves_are_rounded_once(softmax, hubs, dtype, rounding, around):
    s = (around + 8 * np.random.default_rng(1).integers(-1, 2, (hubs.num_edges, 3))).astype(dtype)
    ones = np.ones(s.shape, dtype)
    with ng.Tape() as tape:
        x = tape.watch(ones)
        total = softmax(hubs, s, x).astype(np.float32).sum()
    weights = oracle.edge_softmax(hubs, s.astype(np.float64))
    np.testing.assert_allclose(
        tape.gradient(total, x).astype(np.float64), weights, rtol=1.01 * rounding, atol=1e-7
    )


@pytest.mark.parametrize("around", [0, 1e4, "two scores"])
def test_a_long_row(softmax, around):
    """Where few numbers are added again and again, their rounding errors do not cancel."""
    edges = 100_000
    g = ng.Graph(np.arange(edges), np.zeros(edges, np.int64), num_src=edges, num_dst=1)
    s = scores(g, 0 if around == "two scores" else around, np.float32, 2)
    s = np.where(s > 0, s.dtype.type(0.3), 0) if around == "two scores" else s
    *_, alpha = run(softmax, g, s, np.ones((edges, 2), np.float32))
    weights = np.exp(s.astype(np.float64) - s.max(axis=0))
    np.testing.assert_allclose(alpha, weights / weights.sum(axis=0), rtol=8e-6)


COMPUTED = {
    "a sum": lambda u, v, e: u.q[..., :] + v.k,
    "a product": lambda u, v, e: u.q * v.k,
    "a product and more": lambda u, v, e: u.q * v.k * 0.37 + e.b,
    "a dot product": lambda u, v, e: (u.q * v.k).sum(-1, keepdims=True),
    "a scaled dot product": lambda u, v, e: (u.q * v.k).sum(-1, keepdims=True) * 0.37,
    "a scaled sum": lambda u, v, e: ng.leaky_relu((u.q + v.k).sum(-1, keepdims=True) * -43.7, 0.2),
    "a square": lambda u, v, e: -np.square(u.q - 2 * v.k),
}


@pytest.mark.parametrize("shape", [(1,), (1, 1), (8, 1), (8, 8), (3, 5), (1, 70)], ids=str)
@pytest.mark.parametrize("name", COMPUTED)
def test_equal_scores_weigh_the_same_to_the_last_bit(name, shape):
    """Forward and backward round a computed score alike, or its weights would be off by as much as the score
    is.
    """
    score = COMPUTED[name]
    g = ng.Graph([0, 1, 2, 3], [0, 0, 1, 1], num_src=4, num_dst=2)
    rng = np.random.default_rng(2)
    q = (31 + rng.random((1, *shape))).astype(np.float32).repeat(4, axis=0)
    k = (30 + rng.random((2, *shape))).astype(np.float32)
    b = np.full((4, 1), 0.3, np.float32)
    x = rng.integers(-9, 9, (4, *shape)).astype(np.float32)
    with ng.Tape() as tape:
        tx = tape.watch(x)
        z = ng.attend(g, score, lambda u: u.x, u={"q": q, "x": tx}, v={"k": k}, e={"b": b})
        total = z.sum()
    np.testing.assert_array_equal(z.data, (x[::2] + x[1::2]) / 2)
    np.testing.assert_array_equal(tape.gradient(total, tx), np.full(x.shape, 0.5))


# --- what is not finite ---

LARGEST = np.finfo(np.float32).max
ROWS = {
    "finite": [0.0, 1, 2, -1, 0, 3, 1],
    "+inf": [0.0, 1, np.inf, -1, 0, 3, 1],
    "+inf first": [np.inf, 1, 0, -1, 0, 3, 1],
    "+inf twice": [0, 1, np.inf, np.inf, 0, 3, 1],
    "+inf and −inf": [0, -np.inf, np.inf, -np.inf, 0, 3, 1],
    "NaN": [0, 1, np.nan, 5, 0, 3, 1],
    "NaN first": [np.nan, 1, 0, 5, 0, 3, 1],
    "NaN last": [0, 1, 0, 5, 0, 3, np.nan],
    "NaN and +inf": [0, np.inf, np.nan, 5, 0, 3, 1],
    "NaN and −inf": [-np.inf, -np.inf, np.nan, 5, 0, 3, 1],
    "some −inf": [-np.inf, -np.inf, 0.5, -np.inf, 0, -np.inf, -np.inf],
    "−inf first": [-np.inf] * 4 + [0, 3, 1],
    "−inf last": [0, 3, 1] + [-np.inf] * 4,
    "−inf but one": [-np.inf] * 6 + [-5000.0],
    "only −inf": [-np.inf] * 7,
    "far apart": [-LARGEST, LARGEST, 0, LARGEST, -LARGEST, 1, 2],
}


@pytest.mark.parametrize("chunk", [2, 3, 10_000])
@pytest.mark.parametrize("row", ROWS)
def test_what_is_not_finite_is_as_in_numpy(softmax, monkeypatch, row, chunk):
    """A row of seven edges between two others, which must not be touched, and a node without edges."""
    monkeypatch.setattr(balance, "HUB_EDGES", chunk)
    dst = np.array([0] * 3 + [1] * 7 + [3] * 2)
    g = ng.Graph(np.arange(12), dst, num_src=12, num_dst=4)
    s = np.concatenate([[1, 2, 3], ROWS[row], [4, 4]]).astype(np.float32)[:, None] * np.ones(3, np.float32)
    x = walks.normal(g, "e", 3)
    with np.errstate(all="ignore"):
        want = expected(g, s, x)
    for a, b in zip(run(softmax, g, s, x), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


# --- derivatives ---


def third(f, arrays):
    """The tape's gradients of the weighted sum of all second derivatives, which ``products`` gives."""
    with ng.Tape() as outermost:
        watched = [outermost.watch(array) for array in arrays]
        with ng.Tape() as outer:
            for x in watched:
                outer.watch(x)
            with ng.Tape() as inner:
                for x in watched:
                    inner.watch(x)
                loss = scalar(f(*watched))
            combined = scalar(inner.gradient(loss, watched))
        total = scalar(outer.gradient(combined, watched))
    return outermost.gradient(total, watched)


@pytest.mark.parametrize("around", [0.0, 1000.0])
def test_derivatives_of_every_order(softmax, around):
    g = ng.Graph([0, 1, 2, 3, 1, 1], [0, 0, 0, 2, 2, 2], num_src=4, num_dst=3)
    rng = np.random.default_rng(3)
    arrays = [around + rng.standard_normal((6, 2)), rng.standard_normal((6, 2))]
    f = lambda s, x: np.square(softmax(g, s, x))
    check_gradient(f, arrays, order=2)
    assert_close(third(f, arrays), differences(lambda *xs: scalar(products(f, xs)), arrays), 1e-6)


def test_derivatives_by_both_ends_and_heads():
    g = ng.Graph([0, 1, 2, 3, 1, 1], [0, 0, 0, 2, 2, 2], num_src=4, num_dst=3)
    rng = np.random.default_rng(4)

    def f(q, k, x):
        score = lambda u, v: 400 + (u.q * v.k).sum(-1, keepdims=True)
        return ng.attend(g, score, lambda u, v: u.x * v.k, u={"q": q, "x": x}, v={"k": k})

    arrays = [rng.standard_normal((4, 2, 2)), rng.standard_normal((3, 2, 2)), rng.standard_normal((4, 2, 1))]
    check_gradient(f, arrays, order=2)


@pytest.mark.parametrize("around", [0.0, 1000.0])
def test_log_sum_exp(hubs, around):
    def f(s):
        shift, scale = message.log_sum_exp(hubs, lambda e: e.s, e={"s": s})
        return (shift - np.log(scale))[: hubs.num_dst - 1]  # the last node has no edges

    s = scores(hubs, around, np.float64)
    want = [np.logaddexp.reduce(s[hubs.dst == v]) for v in range(hubs.num_dst - 1)]
    np.testing.assert_allclose(f(s), want, rtol=1e-14)
    check_gradient(f, [s], order=2)
