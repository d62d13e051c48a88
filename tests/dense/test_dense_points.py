"""Dense functions where differences do not reach: dtypes, ties, overflow, other people's formulas, errors."""

from __future__ import annotations

import numba
import numpy as np
import oracle
import pytest
import scipy.sparse as sp
import scipy.special
from checks import check_gradient, gradients

from numgraph import dense
from numgraph.autodiff.tape import Tape, Tensor, unwrap
from numgraph.dense import masks
from numgraph.dense.elementwise import select
from numgraph.expressions import elementary

RNG = np.random.default_rng(0)
A = sp.random_array((3, 4), density=0.6, rng=np.random.default_rng(1))
WEIGHT, BIAS = np.array([0.7, -1.2, 0.4]), np.array([0.1, 0.5, -0.3])


def normal(*shape):
    return RNG.normal(size=shape)


# Comparisons, dtypes, detached functions.


def test_comparisons_and_detached_functions_give_plain_results():
    a = normal(2, 3)
    x = Tensor(a)
    for f in (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal):
        got = f(x, 0.5)
        assert type(got) is np.ndarray
        np.testing.assert_array_equal(got, f(a, 0.5))
    for f in (
        np.isnan,
        np.isinf,
        np.isfinite,
        np.argmax,
        np.argsort,
        np.shape,
        np.ndim,
        np.size,
        np.zeros_like,
        np.ones_like,
        np.any,
    ):
        got = f(x)
        assert not isinstance(got, Tensor)
        np.testing.assert_array_equal(got, f(a))
    assert np.allclose(x, a)
    assert np.array_equal(a, x)
    assert np.result_type(x, np.float32) == np.float64
    np.testing.assert_array_equal(np.where(x > 0)[0], np.where(a > 0)[0])


def test_astype_and_its_gradient():
    check_gradient(lambda x: (x.astype(np.float64) ** 2) * 3, [normal(3)], order=2)
    with Tape() as tape:
        x = tape.watch(np.float32([1, 2, 3]))
        assert x.astype(np.float32) is x
        assert type(x.astype(np.int32)) is np.ndarray
        y = x.astype(np.float64)
        loss = (y * y).sum()
        assert loss.dtype == np.float64
    dx = tape.gradient(loss, x)
    assert dx.dtype == np.float32
    np.testing.assert_array_equal(dx, [2, 4, 6])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_select_is_where_bit_for_bit(dtype):
    specials = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.5], dtype)
    a, b = RNG.choice(specials, (2, 60, 40))
    full, column = RNG.normal(size=(60, 40)) > 0, RNG.normal(size=(60, 1)) > 0
    pairs = [
        (a, b),
        (a, 0),
        (0, a),
        (-0.0, a),
        (a, 2),
        (np.nan, a),
        (a, b[0]),
        (a[:, :1], b),
        (a.T.copy().T, b),
        (a, a[::-1]),
        (1, 2),
        (True, a),
    ]
    pairs += [
        (a, b.astype(np.float64)),
        (a, np.float32(3)),
        (a, 1j),
        ([1.0] * 40, a),
        (np.broadcast_to(a[0], a.shape), b),
    ]
    for condition in (
        full,
        column,
        full[:, 0][:, None],
        full.T.copy().T,
        full.astype(int),
        full[0],
        True,
        np.asfortranarray(full),
    ):
        for x, y in pairs:
            got, want = select(condition, x, y), np.where(condition, x, y)
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
            np.testing.assert_array_equal(np.signbit(got.real), np.signbit(want.real))


# Points that differences do not reach.


@pytest.mark.parametrize("function", [np.max, np.min])
def test_ties_share_the_gradient_equally(function):
    (g,) = gradients(lambda x: function(x, axis=1), [np.array([[1.0, 1, 1], [1, 1, 1], [0, 0, 0]])])
    np.testing.assert_allclose(g, np.repeat(g[:, :1], 3, axis=1))
    with Tape() as tape:
        x = tape.watch(np.array([2.0, 1, 2, 1]))
        loss = np.max(x) + np.min(x) * 10
    np.testing.assert_array_equal(tape.gradient(loss, x), [0.5, 5, 0.5, 5])


def test_nan_reaches_the_result():
    x = Tensor(np.array([1.0, np.nan]))
    for f in (np.max, np.min, np.sum, dense.logsumexp, elementary.relu):
        assert np.isnan(unwrap(f(x))).any()


def test_squares_and_products_at_zero():
    np.testing.assert_array_equal(gradients(lambda x: x**2, [np.zeros(2)])[0], 0)
    np.testing.assert_array_equal(
        np.abs(gradients(lambda x: x**1, [np.zeros(1)])[0]),
        np.abs(gradients(lambda x: x + 0, [np.zeros(1)])[0]),
    )
    with Tape() as tape:
        x = tape.watch(np.array([0.0, 2, 3]))
        loss = np.prod(x)
    np.testing.assert_array_equal(tape.gradient(loss, x), [6, 0, 0])


def test_no_overflow_in_softmax_and_losses():
    x = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]])
    np.testing.assert_allclose(dense.softmax(x), [[1, 0, 0], [1 / 3] * 3])
    np.testing.assert_allclose(dense.log_softmax(x), [[0, -2e4, -1e4], [-np.log(3)] * 3])
    np.testing.assert_allclose(dense.logsumexp(x, axis=1), [1e4, -1e4 + np.log(3)])
    np.testing.assert_allclose(dense.cross_entropy(x, [1, 0]), (2e4 + np.log(3)) / 2)
    np.testing.assert_allclose(
        dense.binary_cross_entropy_with_logits(np.array([1e4, -1e4]), np.array([1, 1])), 5e3
    )
    (g,) = gradients(lambda x: dense.cross_entropy(x, [1, 0]), [x])
    assert np.isfinite(g).all()


def test_logsumexp_of_minus_infinity():
    x = np.array([[-np.inf, -np.inf], [0.0, -np.inf]])
    np.testing.assert_array_equal(dense.logsumexp(x, axis=1), [-np.inf, 0])
    with Tape() as tape:
        t = tape.watch(x)
        loss = np.where(np.array([False, True]), dense.logsumexp(t, axis=1), 0).sum()
    np.testing.assert_array_equal(tape.gradient(loss, t), [[0, 0], [1, 0]])


def test_float16_accumulates_in_float32():
    n = 4096
    with Tape() as tape:
        b = tape.watch(np.zeros(2, np.float16))
        loss = (np.ones((n, 2), np.float16) * np.float16(0.1) + b).sum(axis=0).astype(np.float32).sum()
    np.testing.assert_array_equal(tape.gradient(loss, b), np.full(2, n, np.float16))
    x = RNG.normal(size=(3, 5)).astype(np.float16)
    y = dense.softmax(x)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y, scipy.special.softmax(x.astype(np.float64), axis=1), rtol=2e-3)
    ids = np.zeros(n, int)
    np.testing.assert_array_equal(dense.scatter_add(np.ones((n, 1), np.float16), ids, 2), [[n], [0]])


# Against formulas of others.


def test_against_scipy():
    x = normal(4, 5)
    np.testing.assert_allclose(dense.softmax(x), scipy.special.softmax(x, axis=-1), rtol=1e-14)
    np.testing.assert_allclose(dense.log_softmax(x), scipy.special.log_softmax(x, axis=-1), rtol=1e-14)
    np.testing.assert_allclose(dense.logsumexp(x, axis=0), scipy.special.logsumexp(x, axis=0), rtol=1e-14)
    labels = np.array([0, 4, 2, 2])
    want = -scipy.special.log_softmax(x, axis=1)[np.arange(4), labels]
    np.testing.assert_allclose(dense.cross_entropy(x, labels), want.mean(), rtol=1e-14)
    np.testing.assert_allclose(dense.cross_entropy(x, labels, [1, 2]), want[1:3].mean(), rtol=1e-14)
    p, t = scipy.special.expit(x), (x > 0.3).astype(float)
    np.testing.assert_allclose(
        dense.binary_cross_entropy_with_logits(x, t),
        -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(),
        rtol=1e-13,
    )


def test_normalisations_by_their_formulas():
    x = normal(6, 3).astype(np.float32)
    y = dense.layer_norm(x, WEIGHT, BIAS)
    want = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * WEIGHT + BIAS
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-6)
    mean, variance = np.full(3, 0.5, np.float32), np.full(3, 2.0, np.float32)
    y = dense.batch_norm(x, WEIGHT, BIAS, mean, variance, momentum=0.2)
    np.testing.assert_allclose(
        y, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * WEIGHT + BIAS, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(mean, 0.8 * 0.5 + 0.2 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, 0.8 * 2 + 0.2 * x.var(0, ddof=1), rtol=1e-5)
    y = dense.batch_norm(x, None, None, mean, variance, training=False)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-5), rtol=1e-5, atol=1e-6)


def test_dropout_keeps_the_mean_and_the_seed_decides():
    x = np.ones((200, 50), np.float32)
    y = dense.dropout(x, 0.3, np.random.default_rng(5))
    assert y.dtype == np.float32
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.7], rtol=1e-6)
    assert abs((y == 0).mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / x.size)
    np.testing.assert_array_equal(y, dense.dropout(Tensor(x), 0.3, np.random.default_rng(5)))
    assert (y != dense.dropout(x, 0.3, np.random.default_rng(6))).any()
    assert dense.dropout(x, 0.0, None) is x
    assert dense.dropout(x, 0.5, None, training=False) is x
    dropped = dense.dropout(A.tocsr(), 0.5, np.random.default_rng(0))
    assert sp.issparse(dropped)
    assert set(np.unique((dropped.toarray() / np.where(A.toarray() == 0, 1, A.toarray())).round(12))) == {
        0.0,
        2.0,
    }


def test_the_oracle_is_splitmix64():
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert oracle.splitmix64(1234567, 5) == published


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.Philox])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (0, 3), (31, 3), (2, 3, 5)])
def test_masks_are_those_of_the_counter(shape, bits):
    for p in (0.0, 0.3, 1 - 1e-12):
        mask = masks.kept(np.random.Generator(bits(4)), shape, p, np.empty(0))
        assert mask.shape == shape
        assert mask.dtype == np.bool_
        np.testing.assert_array_equal(mask, oracle.kept(np.random.Generator(bits(4)), shape, p))


def test_large_masks_do_not_depend_on_the_threads():
    rng, threads = np.random.default_rng(0), numba.get_num_threads()
    several = masks.kept(np.random.default_rng(0), (1001, 1001), 0.6, np.empty(0))
    try:
        numba.set_num_threads(1)
        np.testing.assert_array_equal(
            masks.kept(np.random.default_rng(0), (1001, 1001), 0.6, np.empty(0)), several
        )
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(several.reshape(-1)[:1000], oracle.kept(rng, (1000,), 0.6))
    for axis in (0, 1):  # every row and column has its share: 5 standard deviations of 1001 draws
        assert np.abs(several.mean(axis) - 0.4).max() < 5 * np.sqrt(0.24 / 1001)
    pairs = several[:, 1:] & several[:, :-1]
    assert (
        abs(pairs.mean() - 0.16) < 5 * np.sqrt(0.16 * 0.84 / pairs.size) * 1.5
    )  # neighbours are independent


def test_dropout_of_large_arrays_is_the_masks_product():
    x = RNG.normal(size=(700, 100)).astype(np.float32)
    mask = oracle.kept(np.random.default_rng(2), x.shape, 0.3)
    with Tape() as tape:
        watched = tape.watch(x)
        y = dense.dropout(watched, 0.3, np.random.default_rng(2))
        loss = (y * x).sum()
    np.testing.assert_allclose(y.data, np.where(mask, x, 0) / np.float32(0.7), rtol=1e-6)
    np.testing.assert_allclose(
        tape.gradient(loss, watched), np.where(mask, x, 0) / np.float32(0.7), rtol=1e-6
    )


@pytest.mark.parametrize(
    "ids", [[0, 2, 3], [-1, 2, 3], [1, 1, 1], [-4, -2, 3], [3, 2, 0], [-3, 1, 2], [2], []], ids=str
)
def test_the_gradient_of_rows_by_number_is_a_loop(ids):
    """Rows named once, rows named twice by the same or by different numbers, in any order."""
    ids, g = np.array(ids, np.int64), normal(len(ids), 3)
    with Tape() as tape:
        x = tape.watch(normal(4, 3))
        loss = (x[ids] * g).sum()
    want = np.zeros((4, 3))
    for k, i in enumerate(ids):
        want[i] += g[k]
    np.testing.assert_allclose(tape.gradient(loss, x), want, rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 2, 2), (7, 0)])
def test_scatter_add_is_a_loop(dtype, shape):
    values, ids = RNG.integers(-8, 8, shape).astype(dtype), np.array([3, 1, 3, 3, 0, 1, 3])
    want = np.zeros((5, *shape[1:]), dtype)
    for k, i in enumerate(ids):
        want[i] += values[k]
    got = dense.scatter_add(values, ids, 5)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(dense.scatter_add(values[:0], ids[:0], 5), np.zeros_like(want))


def test_adjoint_identities():
    """⟨Ax, y⟩ = ⟨x, Aᵀy⟩ for the pairs of linear functions."""
    x, y, ids = normal(4, 3), normal(6, 3), np.array([3, 1, 3, 3, 0, 1])
    np.testing.assert_allclose((dense.gather(x, ids) * y).sum(), (x * dense.scatter_add(y, ids, 4)).sum())


def test_sparse_operands_stay_sparse_and_are_recorded():
    with Tape() as tape:
        w = tape.watch(normal(4, 2).astype(np.float32))
        y = A.tocsr().astype(np.float32) @ w
        assert y.dtype == np.float32
        loss = y.sum()
    np.testing.assert_allclose(tape.gradient(loss, w), A.T @ np.ones((3, 2)), rtol=1e-5)
    assert sp.issparse(dense.matmul(A.tocsr(), A.T.tocsr()))


# Errors.


def bad(message, error=ValueError):
    return pytest.raises(error, match=message)


def test_errors_say_what_and_how():
    x = Tensor(normal(4, 3))
    with bad(r"matmul: shapes \(4, 3\) and \(4, 3\) do not fit"):
        x @ x
    with bad(r"matmul: shapes \(3, 4\) and \(3, 4\) do not fit"):
        A.tocsr() @ Tensor(normal(3, 4))
    with bad(r"matmul: a sparse matrix times an array of shape \(2, 4, 1\)"):
        dense.matmul(A.tocsr(), normal(2, 4, 1))
    with bad("cross_entropy: labels have dtype float64", TypeError):
        dense.cross_entropy(x, np.zeros(4))
    with bad(r"cross_entropy: labels\[2\] is 3, logits have 3 classes; labels run from 0 to 2", IndexError):
        dense.cross_entropy(x, [0, 0, 3, 0])
    with bad(r"labels\[3\] is -1", IndexError):
        dense.cross_entropy(x, [0, 9, 0, -1], [0, 3])
    with bad(r"logits have shape \(4, 3\), labels \(3,\)"):
        dense.cross_entropy(x, [0, 0, 0])
    with bad("no rows are chosen"):
        dense.cross_entropy(x, [0, 0, 0, 0], np.zeros(4, bool))
    with bad(r"row mask has shape \(3,\)"):
        dense.cross_entropy(x, [0, 0, 0, 0], np.ones(3, bool))
    with bad(r"rows\[1\] is 4, there are 4 rows", IndexError):
        dense.cross_entropy(x, [0, 0, 0, 0], [0, 4])
    with bad("rows have dtype float64", TypeError):
        dense.cross_entropy(x, [0, 0, 0, 0], [0.0])
    for loss in (dense.mse, dense.binary_cross_entropy_with_logits):
        with bad(r"predictions have shape \(4, 3\), targets \(3,\)"):
            loss(x, normal(3))
        with bad("no elements"):
            loss(x[:0], normal(0, 3))
    for p in (1, -0.1, np.nan):
        with bad(f"dropout: p is {p}"):
            dense.dropout(x, p, np.random.default_rng(0))
    with bad("dropout: rng is a int", TypeError):
        dense.dropout(x, 0.5, 0)
    with bad(r"layer_norm: x has shape \(4, 3\), weight \(4,\); weight has shape \(3,\)"):
        dense.layer_norm(x, np.ones(4))
    with bad("batch_norm: .* has 1 rows"):
        dense.batch_norm(x[:1])
    with bad("running_mean and running_var"):
        dense.batch_norm(x, training=False)
    with bad(r"gather: ids\[1\] is 4, there are 4 rows", IndexError):
        dense.gather(x, [0, 4])
    with bad("gather: ids have dtype float64", TypeError):
        dense.gather(x, [0.0])
    with bad(r"scatter_add: ids have shape \(2,\), values \(4, 3\)"):
        dense.scatter_add(x, [0, 1], 5)
    with bad("einsum: operand 1 has shape .* for 'jk' of 'ij,jk'; a letter has one length"):
        np.einsum("ij,jk", x, x)
    with bad("sum: the option where= is not possible", TypeError):
        np.sum(x, where=np.ones(3, bool))
    with bad("add: the option dtype= is not possible", TypeError):
        np.add(x, 1, dtype=np.float32)
    with bad("split: axis 0 of shape"):
        np.split(x, 3)
    with pytest.raises(IndexError):
        x[7]
