"""Dense functions where there is nothing, one number, equal numbers, infinities and NaN: values, gradients,
and no warning on the way.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.special

import numgraph as ng
from numgraph.autodiff.tape import unwrap

INF, NAN = np.inf, np.nan


def run(f, *arrays):
    """Value and gradients of the sum, with warnings as errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ng.Tape() as tape:
            watched = [tape.watch(np.asarray(a)) for a in arrays]
            y = f(*watched)
            # A sum of what is finite: inf − inf is no number, and not the function's doing.
            loss = (y[np.isfinite(unwrap(y))] if np.ndim(y) else y).sum()
        return unwrap(y), tape.gradient(loss, watched)


# function, x, value, gradient of the sum of the finite values
POINTS = [
    ("mean", np.mean, [], NAN, []),
    ("mean of no rows", lambda x: np.mean(x, axis=1), np.zeros((3, 0)), [NAN, NAN, NAN], np.zeros((3, 0))),
    ("mean of columns", lambda x: np.mean(x, axis=1), np.zeros((0, 3)), [], np.zeros((0, 3))),
    ("sum", np.sum, [], 0, []),
    ("sum over no rows", lambda x: np.sum(x, axis=0), np.zeros((0, 3)), [0, 0, 0], np.zeros((0, 3))),
    ("prod", np.prod, [], 1, []),
    ("prod", np.prod, [0.0, 2, 3], 0, [6, 0, 0]),
    ("prod", np.prod, [0.0, 2, 0], 0, [0, 0, 0]),
    ("prod", np.prod, [2.0], 2, [1]),
    ("prod", np.prod, [INF, 2], INF, [2, INF]),
    ("var", np.var, [], NAN, []),
    ("var", np.var, [3.0], 0, [0]),
    ("var", np.var, [3.0, 3, 3], 0, [0, 0, 0]),
    ("var, ddof 1", lambda x: np.var(x, ddof=1), [3.0], NAN, [NAN]),
    ("var, ddof 2", lambda x: np.var(x, ddof=2), [1.0, 3], INF, [-INF, INF]),
    ("var, ddof 5", lambda x: np.var(x, ddof=5), [1.0, 3], INF, [-INF, INF]),
    ("var of rows", lambda x: np.var(x, axis=1, ddof=1), np.ones((2, 1)), [NAN, NAN], [[NAN], [NAN]]),
    ("var", np.var, [INF, 1.0], NAN, [NAN, NAN]),
    ("std", np.std, [], NAN, []),
    ("std", np.std, [3.0], 0, [0]),
    ("std", np.std, [0.1, 0.1, 0.1], 0, [0, 0, 0]),
    ("std of rows", lambda x: np.std(x, axis=1), [[2.0, 2], [1, 3]], [0, 1], [[0, 0], [-0.5, 0.5]]),
    ("std, ddof 1", lambda x: np.std(x, ddof=1), [3.0], NAN, [NAN]),
    ("std", np.std, [NAN, 1], NAN, [NAN, NAN]),
    ("max", np.max, [2.0, 2, 1], 2, [0.5, 0.5, 0]),
    ("max", np.max, [INF, INF, 1], INF, [0.5, 0.5, 0]),
    ("max", np.max, [-INF, -INF], -INF, [0.5, 0.5]),
    ("max", np.max, [NAN, 1, NAN], NAN, [0.5, 0, 0.5]),
    ("min", np.min, [1.0, 2, 1], 1, [0.5, 0, 0.5]),
    ("min", np.min, [NAN, -INF], NAN, [1, 0]),
    ("maximum", lambda x: np.maximum(x, 0), [0.0, -1, 1], [0, 0, 1], [0.5, 0, 1]),
    ("minimum", lambda x: np.minimum(x, 0), [0.0, -1, 1], [0, -1, 0], [0.5, 1, 0]),
    ("abs", np.abs, [0.0, -2, 3], [0, 2, 3], [0, -1, 1]),
    ("cumsum", np.cumsum, [], [], []),
    ("logsumexp", ng.logsumexp, [2.0], 2, [1]),
    ("logsumexp", ng.logsumexp, [-INF, -INF], -INF, [0, 0]),
    ("logsumexp", ng.logsumexp, [-INF, 1.0], 1, [0, 1]),
    ("logsumexp", ng.logsumexp, [INF, 1.0], INF, [1, 0]),
    ("logsumexp", ng.logsumexp, [INF, 1, INF, -INF], INF, [0.5, 0, 0.5, 0]),
    ("logsumexp", ng.logsumexp, [NAN, 1.0], NAN, [NAN, NAN]),
    ("logsumexp", ng.logsumexp, [800.0, 800], 800 + np.log(2), [0.5, 0.5]),
    ("softmax", ng.softmax, [], [], []),
    ("softmax of no columns", ng.softmax, np.zeros((3, 0)), np.zeros((3, 0)), np.zeros((3, 0))),
    ("softmax", ng.softmax, [2.0], [1], [0]),
    ("softmax", ng.softmax, [-INF, 0.0, 0], [0, 0.5, 0.5], [0, 0, 0]),
    ("log_softmax", ng.log_softmax, np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3))),
    ("log_softmax", ng.log_softmax, [-INF, 0.0], [-INF, 0], [0, 0]),
    ("cross_entropy", lambda x: ng.cross_entropy(x, [1]), [[-INF, 0.0]], 0, [[0, 0]]),
    ("cross_entropy", lambda x: ng.cross_entropy(x, [0]), [[2.0]], 0, [[0]]),
    ("cross_entropy", lambda x: ng.cross_entropy(x, [0]), [[1000.0, -1000]], 0, [[0, 0]]),
    ("cross_entropy", lambda x: ng.cross_entropy(x, [1]), [[1000.0, -1000]], 2000, [[1, -1]]),
    ("bce", lambda x: ng.binary_cross_entropy_with_logits(x, [1.0, 0]), [1000.0, -1000], 0, [0, 0]),
    ("mse", lambda x: ng.mse(x, [1.0, 1]), [1.0, INF], INF, [0, INF]),
    ("layer_norm", ng.layer_norm, [[5.0]], [[0]], [[0]]),
    ("layer_norm", ng.layer_norm, np.full((2, 3), 0.1), np.zeros((2, 3)), np.zeros((2, 3))),
    ("layer_norm", ng.layer_norm, np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3))),
    ("batch_norm", ng.batch_norm, np.full((3, 2), 0.1), np.zeros((3, 2)), np.zeros((3, 2))),
    ("batch_norm of no columns", ng.batch_norm, np.zeros((3, 0)), np.zeros((3, 0)), np.zeros((3, 0))),
    ("x ** 0", lambda x: x**0, [0.0, -1, INF, NAN], [1, 1, 1, 1], [0, 0, 0, 0]),
    ("x ** 1", lambda x: x**1, [0.0, -1], [0, -1], [1, 1]),
    ("x ** 2", lambda x: x**2, [0.0, -1], [0, 1], [0, -2]),
    ("x ** [0 1 2]", lambda x: x ** np.array([0.0, 1, 2]), [0.0, 0, 0], [1, 0, 0], [0, 1, 0]),
    ("0 ** x", lambda x: 0.0**x, [2.0, 0], [0, 1], [0, 0]),
    ("sqrt", np.sqrt, [0.0, 4], [0, 2], [INF, 0.25]),
    ("x ** 0.5", lambda x: x**0.5, [0.0, 4], [0, 2], [INF, 0.25]),
    ("x ** p", lambda x: x ** np.array([0.5, 0.5]), [0.0, 4], [0, 2], [INF, 0.25]),
    ("expm1 and log1p", lambda x: np.log1p(np.expm1(x)), [0.0], [0], [1]),
    ("logaddexp", lambda x: np.logaddexp(x, 0), [-800.0, 0], [0, np.log(2)], [0, 0.5]),
    ("softplus", ng.softplus, [800.0, -800], [800, 0], [1, 0]),
    ("relu", ng.relu, [0.0, -1, INF], [0, 0, INF], [0, 0, 0]),
]


@pytest.mark.parametrize(
    ("f", "x", "value", "slope"),
    [p[1:] for p in POINTS],
    ids=[f"{p[0]} {np.ravel(p[2]).tolist()}" for p in POINTS],
)
def test_points(f, x, value, slope):
    got, (d,) = run(f, np.asarray(x, np.float64))
    np.testing.assert_allclose(got, value, atol=1e-12)
    assert d.shape == np.shape(slope)
    np.testing.assert_allclose(d, slope, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, None, (0, 1)])
def test_logsumexp_is_scipys_with_a_softmax_as_derivative(axis):
    x = np.array([[INF, 1, 2], [-INF, -INF, -INF], [3, -INF, 1], [0, 5, -2.0]])
    y, (d,) = run(lambda t: ng.logsumexp(t, axis), x)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(y, scipy.special.logsumexp(x, axis))
    assert ((d >= 0) & (d <= 1)).all()


@pytest.mark.parametrize("function", [ng.softmax, ng.log_softmax])
@pytest.mark.parametrize("size", [1, 20_000], ids=["rows", "kernel"])
def test_rows_without_a_finite_maximum_are_no_numbers_and_touch_no_other_row(function, size):
    x = np.tile(np.array([[INF, 1.0], [-INF, -INF], [NAN, 0], [0, 0], [-INF, 2]]), (size, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ng.Tape() as tape:
            t = tape.watch(x)
            y = function(t)
            loss = (y[3::5] * [1, 3]).sum()
        d = tape.gradient(loss, t)
    assert np.isnan(y.data.reshape(size, 5, 2)[:, :3]).all()
    assert np.isfinite(np.exp(y.data.reshape(size, 5, 2)[:, 3:])).all()
    want = [-0.5, 0.5] if function is ng.softmax else [-1, 1]
    np.testing.assert_allclose(d[3::5], np.tile(want, (size, 1)), atol=1e-12)
    np.testing.assert_array_equal(d[4::5], 0)


# Products.

SHAPES = [
    ((2,), (2,)),
    ((2,), (2, 3)),
    ((4, 2), (2,)),
    ((4, 2), (2, 3)),
    ((5, 4, 2), (2,)),
    ((5, 4, 2), (2, 3)),
    ((2,), (5, 2, 3)),
    ((4, 2), (5, 2, 3)),
    ((5, 4, 2), (5, 2, 3)),
    ((1, 4, 2), (5, 2, 3)),
    ((6, 1, 4, 2), (5, 2, 3)),
    ((6, 5, 4, 2), (1, 2, 3)),
]
EMPTY = [
    tuple(tuple(0 if n == gone else n for n in shape) for shape in pair)
    for pair in SHAPES
    for gone in (2, 3, 4, 5)
    if gone in pair[0] + pair[1]
]


@pytest.mark.parametrize(("a", "b"), SHAPES + EMPTY, ids=str)
@pytest.mark.parametrize("needs", [(0, 1), (0,), (1,)], ids=str)
def test_products_of_every_rank(a, b, needs):
    """A product is linear in each operand: the derivative is what unit matrices give."""
    rng = np.random.default_rng(0)
    operands = [rng.normal(size=a), rng.normal(size=b)]
    y = np.matmul(*operands)
    g = rng.normal(size=y.shape)
    with ng.Tape() as tape:
        given = [tape.watch(x) if i in needs else x for i, x in enumerate(operands)]
        loss = np.sum(np.matmul(*given) * g)
    for i, d in zip(needs, tape.gradient(loss, [given[i] for i in needs])):
        assert d.shape == operands[i].shape
        for at in np.ndindex(d.shape):
            unit = np.zeros(d.shape)
            unit[at] = 1
            pair = [unit if k == i else x for k, x in enumerate(operands)]
            np.testing.assert_allclose(d[at], np.sum(np.matmul(*pair) * g), rtol=1e-12, atol=1e-12)


SUBSCRIPTS = [
    "ij,jk->ik",
    "ij,ij->i",
    "ij->j",
    "ij->ji",
    "i,j->ij",
    "nij,njk->nik",
    "ij,jk,kl->il",
    "ij->",
    "i,i->",
]


@pytest.mark.parametrize("subscripts", SUBSCRIPTS)
@pytest.mark.parametrize("gone", ["", *"ijknl"])
def test_einsum_with_axes_of_length_zero(subscripts, gone):
    inputs = subscripts.partition("->")[0]
    sizes = {letter: 0 if letter == gone else 2 + k for k, letter in enumerate("ijknl")}
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=[sizes[c] for c in term]) for term in inputs.split(",")]
    y, found = run(lambda *xs: np.einsum(subscripts, *xs), *arrays)
    np.testing.assert_allclose(y, np.einsum(subscripts, *arrays))
    for d, x in zip(found, arrays):
        want, step = np.zeros(x.shape), 1e-3
        for i in np.ndindex(x.shape):
            at, sums = x[i], []
            for x[i] in (at + step, at - step):
                sums.append(np.einsum(subscripts, *arrays).sum())
            x[i] = at
            want[i] = (sums[0] - sums[1]) / (2 * step)
        np.testing.assert_allclose(d, want, atol=1e-9)


# Indices.

IDS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


def check_index(pick, index, x):
    """pick(x) is x[index]; its gradient is added up by np.add.at."""
    with ng.Tape() as tape:
        t = tape.watch(x)
        y = pick(t)
        g = 1.0 + np.arange(y.size).reshape(y.shape)
        loss = (y * g).sum() + t.sum()
    np.testing.assert_array_equal(y.data, x[index])
    want = np.ones_like(x)
    np.add.at(want, index, g)
    np.testing.assert_array_equal(tape.gradient(loss, t), want)


@pytest.mark.parametrize("rows", [100, 300, 70_000])
@pytest.mark.parametrize("tail", [(), (2,), (2, 1)], ids=str)
@pytest.mark.parametrize("dtype", IDS, ids=lambda d: np.dtype(d).name)
def test_ids_of_every_dtype(dtype, tail, rows):
    x = np.arange(rows * int(np.prod(tail, dtype=int)), dtype=float).reshape(rows, *tail)
    top = min(rows - 1, int(np.iinfo(dtype).max))
    for ids in ([top, 0, 3, top], [1, 2, 5], [3], [], [[0, top], [1, 0]]):
        ids = np.array(ids, dtype)
        signed = ids.astype(np.int64)
        check_index(lambda t, ids=ids: t[ids], signed, x)
        check_index(lambda t, ids=ids: np.take(t, ids, axis=0), signed, x)
        if ids.ndim == 1:
            check_index(lambda t, ids=ids: ng.gather(t, ids), signed, x)
            values = x[signed]
            made, want = ng.scatter_add(values, ids, rows), np.zeros_like(x)
            np.add.at(want, signed, values)
            np.testing.assert_array_equal(made, want)
    if np.dtype(dtype).kind == "i":
        negative = np.array([-1, 0, -1, -3], dtype)
        check_index(lambda t: t[negative], negative.astype(np.int64), x)
        with pytest.raises(IndexError, match=r"ids\[0\] is -1"):
            ng.gather(x, negative)
    if top + 1 <= np.iinfo(dtype).max:
        for call in (
            lambda ids: ng.gather(x, ids),
            lambda ids: ng.Tensor(x)[ids],
            lambda ids: ng.scatter_add(x[:1], ids, rows),
        ):
            with pytest.raises(IndexError):
                call(np.array([rows], dtype) if rows <= np.iinfo(dtype).max else np.array([rows]))


@pytest.mark.parametrize(
    "index",
    [
        [],
        [0, 2, 0],
        [-1, 1],
        [[0, 1], [1, 1]],
        [True, False, True],
        np.array([True, False, True]),
        ([], 1),
        ([0, 2, 0], [1, 1, 1]),
        ([], []),
        (slice(None), [1, 0, 1]),
        (slice(None), []),
        (..., [0, 0]),
        (None, [0, 0]),
        ([0, 0], None, [1, 1]),
        (0, [1, 1]),
        (np.array([True, False, True]), [1, 0]),
        (slice(None), np.array([True, False, False, True])),
        np.zeros((3, 4), bool),
        np.arange(12).reshape(3, 4) % 2 == 0,
        1,
        np.int8(-1),
        np.uint64(2),
        (np.int8(1), np.uint8(1)),
        slice(2, None, -1),
        slice(5, 9),
        ...,
        None,
        (),
        True,
        (np.array([0, 2, 0], np.uint8)[:, None], np.array([1, 1], np.int16)),
    ],
    ids=str,
)
def test_indices_of_every_kind(index):
    at = np.array(index, int) if type(index) is list and not index else index  # np.add.at takes no empty list
    check_index(lambda t: t[index], at, np.arange(12.0).reshape(3, 4))


def test_scatter_add_of_other_dtypes():
    ids = np.array([0, 1, 0], np.uint8)
    for dtype in (np.int8, np.uint16, np.int64, np.float16, np.float32):
        made = ng.scatter_add(np.array([[1], [2], [3]], dtype), ids, 3)
        assert made.dtype == dtype
        np.testing.assert_array_equal(made, [[4], [2], [0]])


# Shapes that would broadcast.


def test_shapes_of_losses_are_equal():
    column, row = np.zeros((4, 1)), np.zeros(4)
    for loss in (ng.mse, ng.binary_cross_entropy_with_logits):
        for a, b in (
            (column, row),
            (row, column),
            (column, np.zeros((1, 4))),
            (row, np.zeros(())),
            (np.zeros((4, 3)), np.zeros(3)),
        ):
            with pytest.raises(ValueError, match=r"predictions have shape \(.*\), targets \("):
                loss(a, b)
    for labels in (np.zeros((4, 1), int), np.zeros((1, 4), int), np.zeros(3, int), np.zeros((), int)):
        with pytest.raises(ValueError, match="labels"):
            ng.cross_entropy(np.zeros((4, 2)), labels)
    for shape in ((1,), (4, 3), (4, 1), ()):
        for norm in (ng.layer_norm, ng.batch_norm):
            with pytest.raises(ValueError, match=r"has shape \(3,\)"):
                norm(np.ones((4, 3)), np.ones(shape))
