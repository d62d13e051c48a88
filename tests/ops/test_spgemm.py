"""Sparse products, sums and masks of weighted graphs against dense matrices, with gradients to the
weights.
"""

from __future__ import annotations

import threading

import numpy as np
import oracle
import pytest
import scipy.sparse as sp
from checks import check_float32, check_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import graphs, seeds

import numgraph as ng
from numgraph import ops
from numgraph.runtime import threads


def random_graph(rng, num_src, num_dst, num_edges):
    return ng.Graph(
        rng.integers(0, num_src, num_edges),
        rng.integers(0, num_dst, num_edges),
        num_src=num_src,
        num_dst=num_dst,
    )


RNG = np.random.default_rng(3)
A, B, MASK = (
    random_graph(RNG, 4, 5, 9),
    random_graph(RNG, 5, 6, 10),
    random_graph(RNG, 4, 5, 8),
)  # with parallel edges
a, b = RNG.normal(size=9), RNG.normal(size=10)


def assert_simple(g):
    """No parallel edges, ordered by source, then destination."""
    keys = g.src.astype(np.int64) * max(g.num_dst, 1) + g.dst
    assert (np.diff(keys) > 0).all()


def pattern(g):
    return oracle.matrix(g, np.ones(g.num_edges, np.int64)) > 0


@settings(max_examples=60, deadline=None)
@given(graphs(), st.data(), seeds)
def test_product_sum_and_mask_of_any_graphs(left, data, seed):
    rng = np.random.default_rng(seed)
    num, size = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 12))
    right = random_graph(rng, left.num_dst, num, size if left.num_dst else 0)
    x, y = rng.normal(size=left.num_edges), rng.normal(size=right.num_edges)
    product, weights = ops.csrmm(left, x, right, y)
    assert_simple(product)
    np.testing.assert_array_equal(
        pattern(product), pattern(left).astype(int) @ pattern(right).astype(int) > 0
    )
    np.testing.assert_allclose(
        oracle.matrix(product, weights),
        oracle.matrix(left, x) @ oracle.matrix(right, y),
        rtol=1e-12,
        atol=1e-12,
    )

    other = random_graph(rng, left.num_src, left.num_dst, size if left.num_src and left.num_dst else 0)
    z = rng.normal(size=other.num_edges)
    total, weights = ops.csrsum([left, other, left], [x, z, x])
    assert_simple(total)
    np.testing.assert_array_equal(pattern(total), pattern(left) | pattern(other))
    np.testing.assert_allclose(
        oracle.matrix(total, weights),
        2 * oracle.matrix(left, x) + oracle.matrix(other, z),
        rtol=1e-12,
        atol=1e-12,
    )

    masked = ops.csrmask(left, x, other)
    np.testing.assert_allclose(masked, oracle.matrix(left, x)[other.src, other.dst], rtol=1e-12, atol=1e-12)


def test_gradients_of_every_order():
    check_gradient(lambda a, b: ops.csrmm(A, a, B, b)[1], [a, b], order=2)
    check_gradient(lambda a, b: ops.csrsum([A, MASK], [a, b])[1], [a, b[:8]], order=2)
    check_gradient(lambda a: ops.csrmask(A, a, MASK) ** 2, [a], order=2)
    check_float32(lambda a, b: ops.csrmm(A, a, B, b)[1], [a, b])


def test_third_derivative_of_a_cube():
    """L = Σ (A·A·A) of one loop of weight x is x³: the gradients are 3x², 6x, 6."""
    loop = ng.Graph([0], [0])
    with ng.Tape() as third:
        x = third.watch(np.array([2.0]))
        with ng.Tape() as second:
            second.watch(x)
            with ng.Tape() as first:
                first.watch(x)
                square_graph, square = ops.csrmm(loop, x, loop, x)
                loss = ops.csrmm(square_graph, square, loop, x)[1].sum()
            d1 = first.gradient(loss, x)
            assert d1.data == pytest.approx(12)
            slope = d1.sum()
        d2 = second.gradient(slope, x)
        assert d2.data == pytest.approx(12)
        curve = d2.sum()
    assert third.gradient(curve, x) == pytest.approx(6)


def test_gradient_of_a_product_is_a_masked_product():
    """∂L/∂A = (∂L/∂C · Bᵀ) on A's edges."""
    with ng.Tape() as tape:
        x = tape.watch(a)
        C, c = ops.csrmm(A, x, B, b)
        g = np.random.default_rng(1).normal(size=C.num_edges)
        loss = (c * g).sum()
    G, weights = ops.csrmm(C, g, B.reverse(), b)
    np.testing.assert_allclose(tape.gradient(loss, x), ops.csrmask(G, weights, A), rtol=1e-12, atol=1e-12)


def test_a_zero_entry_stays_an_edge():
    C, c = ops.csrmm(ng.Graph([0, 0], [0, 1]), [1.0, 1.0], ng.Graph([0, 1], [0, 0]), [1.0, -1.0])
    assert C.num_edges == 1
    assert c == 0


@pytest.mark.parametrize(
    ("dtype", "made"),
    [(np.float32, np.float32), (np.float16, np.float16), (np.int32, np.int64), (bool, np.int64)],
)
def test_dtypes(dtype, made):
    left, right = np.abs(a * 4).astype(dtype), np.abs(b * 4).astype(dtype)
    wide = np.float64 if np.dtype(dtype).kind == "f" else np.int64
    C, c = ops.csrmm(A, left, B, right)
    assert c.dtype == made
    want = oracle.matrix(A, left.astype(wide)) @ oracle.matrix(B, right.astype(wide))
    np.testing.assert_allclose(oracle.matrix(C, c.astype(np.float64)), want, rtol=2e-3)
    assert ops.csrsum([A, A], [left, left])[1].dtype == made
    assert ops.csrmask(A, left, MASK).dtype == made


def test_mixed_dtypes_promote():
    c = ops.csrmm(A, a.astype(np.float32), B, b)[1]
    assert c.dtype == np.float64
    with ng.Tape() as tape:
        x = tape.watch(a.astype(np.float32))
        loss = ops.csrmm(A, x, B, b)[1].sum()
    assert tape.gradient(loss, x).dtype == np.float32


def test_large_products_in_parallel_serial_and_from_eight_threads_have_the_same_bits(monkeypatch):
    rng = np.random.default_rng(0)
    left, right = random_graph(rng, 700, 600, 20_000), random_graph(rng, 600, 500, 20_000)
    x, y = rng.normal(size=20_000), rng.normal(size=20_000)

    def run():
        with ng.Tape() as tape:
            p, q = tape.watch(x), tape.watch(y)
            C, c = ops.csrmm(left, p, right, q)
            loss = (c * c).sum()
        return C, c.data, *tape.gradient(loss, [p, q])

    C, *parallel = run()
    want = (sp.csr_array(oracle.matrix(left, x)) @ sp.csr_array(oracle.matrix(right, y))).toarray()
    np.testing.assert_allclose(oracle.matrix(C, parallel[0]), want, rtol=1e-9, atol=1e-9)
    results = [None] * 8

    def work(i):
        results[i] = run()[1:]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    monkeypatch.setattr(threads, "SMALL", 1 << 60)
    results.append(run()[1:])
    for found in results:
        assert all(one.tobytes() == two.tobytes() for one, two in zip(found, parallel))


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (
            lambda: ops.csrmm(A, a, A, a),
            ValueError,
            "csrmm: A_graph has 5 destinations and B_graph 4 sources; A's columns are B's rows",
        ),
        (
            lambda: ops.csrmm(A, b, B, b),
            ValueError,
            r"csrmm: A_weights has shape \[10\], the graph's num_edges is 9; give one number an edge, \[9\]",
        ),
        (lambda: ops.csrmm(A, a, B, b[:, None]), ValueError, r"csrmm: B_weights has shape \[10, 1\]"),
        (lambda: ops.csrmm(A, a * 1j, B, b), TypeError, "csrmm: A_weights has dtype complex128"),
        (
            lambda: ops.csrmm(sp.eye(3), a, B, b),
            TypeError,
            "csrmm: A_graph is a dia_matrix; pass a numgraph.Graph",
        ),
        (
            lambda: ops.csrsum([], []),
            ValueError,
            "csrsum: 0 graphs and 0 arrays of weights; give as many of each, at least one",
        ),
        (lambda: ops.csrsum([A, A], [a]), ValueError, "csrsum: 2 graphs and 1 arrays of weights"),
        (
            lambda: ops.csrsum([A, B], [a, b]),
            ValueError,
            r"csrsum: graphs\[0\] is Graph\(num_src=4, num_dst=5, .*graphs\[1\] is Graph\(num_src=5",
        ),
        (
            lambda: ops.csrsum([A, MASK], [a, a]),
            ValueError,
            r"csrsum: weights\[1\] has shape \[9\], the graph's num_edges is 8",
        ),
        (
            lambda: ops.csrmask(A, a, B),
            ValueError,
            "csrmask: A_graph is Graph.*; they must have the same numbers of nodes",
        ),
    ],
)
def test_errors(call, kind, text):
    with pytest.raises(kind, match=text):
        call()
