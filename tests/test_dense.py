"""Dense rules: each against NumPy's own result and against central differences, first and second order, in float64 and float32."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.special
from checks import check_float32, check_gradient, gradients

from numgraph import dense, elementary
from numgraph.dense.elementwise import _DETACHED, BY_OPERAND, select
from numgraph.tape import Tape, Tensor, unwrap
from numgraph.tensor import _RULES

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape)


def away(*shape):
    """No value within 0.3 of 0, no two within 0.05 of each other: kinks and ties are out of the stencil's reach."""
    n = int(np.prod(shape))
    values = (0.3 + 0.06 * np.arange(n)) * RNG.choice([-1.0, 1.0], n)
    return RNG.permutation(values).reshape(shape)


def positive(*shape):
    return np.abs(away(*shape))


@dataclass
class Case:
    function: object
    arrays: list = field(default_factory=list)
    covers: tuple = ()

    def __repr__(self):
        return getattr(self.covers[0] if self.covers else self.function, "__name__", "case")


def case(function, *arrays, covers=()):
    return Case(function, list(arrays), covers or ((function,) if function in _RULES else ()))


ELEMENTWISE = [
    *[case(f, away(2, 3)) for f in (np.negative, np.absolute, np.fabs, np.square, np.exp, np.expm1, np.exp2, np.sin, np.cos, np.tan)],
    *[case(f, away(2, 3)) for f in (np.arctan, np.tanh, np.sinh, np.cosh, np.positive, np.reciprocal)],
    *[case(f, positive(2, 3)) for f in (np.sqrt, np.log, np.log1p, np.log2, np.log10)],
    *[case(f, away(2, 3)) for f in (elementary.sigmoid, elementary.erf, elementary.relu, elementary.leaky_relu, elementary.elu)],
    *[case(f, away(2, 3)) for f in (elementary.gelu, elementary.silu, elementary.softplus)],
    *[case(f, away(2, 3), away(2, 3)[::-1] + 0.02) for f in (np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum)],
    *[case(f, away(2, 3), away(2, 3)[::-1] + 0.02) for f in (np.logaddexp, np.hypot)],
    case(np.power, positive(2, 3), normal(2, 3)),
    case(np.float_power, positive(2, 3), normal(2, 3)),
    *[case(lambda x, p=p: x**p, positive(2, 3), covers=(np.power,)) for p in (0, 1, 2, 3, -1, 0.5, 2.0)],
    case(lambda x: 2.0**x, normal(2, 3), covers=(np.power,)),
    case(lambda x: 1 - x, normal(2, 3), covers=(np.subtract,)),
    case(lambda x: 1 / x, away(2, 3), covers=(np.divide,)),
    case(lambda x, y: np.where(np.array([True, False, True]), x, y), normal(2, 3), normal(2, 3), covers=(np.where,)),
    case(lambda x: np.where(x > 0, x, 0), away(2, 3), covers=(np.where, np.greater)),
    case(lambda x: np.clip(x, -0.4, 0.5) * x, away(2, 3), covers=(np.clip,)),
    case(lambda x: np.maximum(x, 0) * x, away(2, 3), covers=(np.maximum,)),
    case(lambda x: np.sign(x) * x * x + np.floor(x) * x + np.ceil(x), away(2, 3), covers=(np.sign, np.floor, np.ceil)),
    case(lambda x: x * (x // 0.7) + x % 0.7, positive(2, 3), covers=(np.floor_divide, np.remainder)),
]

BROADCASTS = [
    ((2, 3), (3,)),
    ((2, 3), ()),
    ((2, 1), (1, 3)),
    ((4, 1, 3), (2, 1)),
    ((1,), (2, 3)),
    ((2, 3), (1, 1)),
    ((), ()),
    ((0, 3), (3,)),
    ((1, 3), (0, 3)),
]
BROADCASTING = [
    case(f, away(*a), away(*b) + 0.02, covers=(f,))
    for f in (np.add, np.subtract, np.multiply, np.divide, np.maximum, np.logaddexp)
    for a, b in BROADCASTS
] + [case(lambda x, y: np.where(np.array([[True], [False]]), x, y), normal(3), normal(1, 1), covers=(np.where,))]

AXES = [
    {},
    {"axis": 0},
    {"axis": -1},
    {"axis": (0, 2)},
    {"axis": 1, "keepdims": True},
    {"axis": (0, -1), "keepdims": True},
    {"keepdims": True},
]
REDUCTIONS = [
    *[
        case(lambda x, f=f, o=o: f(x, **o), away(2, 3, 2), covers=(f,))
        for f in (np.sum, np.mean, np.max, np.min, np.prod, np.var, np.std)
        for o in AXES
    ],
    *[case(lambda x, f=f, o=o: f(x, **o), away(2, 3, 2), covers=(f,)) for f in (np.amax, np.amin) for o in AXES[:2]],
    *[case(lambda x, o=o: dense.logsumexp(x, **o), normal(2, 3, 2)) for o in AXES],
    case(lambda x: np.prod(np.where(np.arange(12).reshape(4, 3) % 5 == 0, 0, x), axis=0), normal(4, 3), covers=(np.prod,)),
    case(lambda x: np.prod(x * np.array([0.0, 0, 1, 1, 1])), normal(5), covers=(np.prod,)),
    *[case(lambda x, d=d: np.var(x, axis=0, ddof=d), normal(4, 3), covers=(np.var,)) for d in (0, 1)],
    *[case(lambda x, a=a: np.cumsum(x, axis=a) ** 2, normal(2, 3), covers=(np.cumsum,)) for a in (None, 0, 1, -1)],
    case(lambda x: np.add.reduce(x) ** 2, normal(2, 3), covers=((np.add, "reduce"),)),
    case(lambda x: np.multiply.reduce(x, axis=1), normal(2, 3), covers=((np.multiply, "reduce"),)),
    case(lambda x: np.maximum.reduce(x, axis=None) ** 2, away(2, 3), covers=((np.maximum, "reduce"),)),
    case(lambda x: np.minimum.reduce(x, keepdims=True) ** 2, away(2, 3), covers=((np.minimum, "reduce"),)),
    *[case(f, normal(), covers=(f,)) for f in (np.sum, np.mean, np.max, np.prod)],
    *[case(lambda x, f=f: f(x, axis=0), np.zeros((3, 0)), covers=(f,)) for f in (np.sum, np.mean, np.max, np.min, np.prod)],
    *[case(f, np.zeros((3, 0)), covers=(f,)) for f in (np.sum, np.prod)],
]

IDS = np.array([2, 0, 2, -1, 1, 2])
INDICES = [
    1,
    -1,
    slice(1, None),
    slice(None, None, -2),
    (0, 1),
    (slice(None), 2),
    (None, ..., 0),
    ...,
    (),
    IDS,
    [0, 0, 2],
    (IDS, 1),
    (slice(None), IDS),
]
INDICES += [
    (IDS, IDS),
    IDS.reshape(2, 3),
    np.array([True, False, True, False]),
    (np.arange(12).reshape(4, 3) % 2 == 0),
    np.zeros(0, int),
    (IDS.astype(np.int8), None),
]
MOVES = [
    *[case(lambda x, i=i: x[i] * x[i], normal(4, 3), covers=("getitem",)) for i in INDICES],
    case(lambda x: x[IDS] * 2.0, normal(3), covers=("getitem",)),
    case(lambda x: x[IDS] ** 2, normal(3, 2, 2), covers=("getitem",)),
    case(lambda x: x[IDS], normal(3, 0), covers=("getitem",)),
    case(lambda x: np.reshape(x, (3, -1)) ** 2, normal(2, 6), covers=(np.reshape,)),
    case(lambda x: np.ravel(x) ** 2, normal(2, 3), covers=(np.ravel,)),
    case(lambda x: np.expand_dims(x, (0, 2)) ** 2, normal(2, 3), covers=(np.expand_dims,)),
    case(lambda x: np.squeeze(x, 1) ** 2, normal(2, 1, 3), covers=(np.squeeze,)),
    case(lambda x: np.transpose(x) ** 2, normal(2, 3), covers=(np.transpose,)),
    case(lambda x: np.transpose(x, (-1, 0, 1)) ** 2, normal(2, 3, 4), covers=(np.transpose,)),
    case(lambda x: np.swapaxes(x, 0, -1) ** 2, normal(2, 3, 4), covers=(np.swapaxes,)),
    case(lambda x: np.matrix_transpose(x) ** 2, normal(2, 3, 4), covers=(np.matrix_transpose,)),
    case(lambda x: np.moveaxis(x, (0, 1), (-1, 0)) ** 2, normal(2, 3, 4), covers=(np.moveaxis,)),
    *[case(lambda x, a=a: np.flip(x, a) ** 2, normal(2, 3), covers=(np.flip,)) for a in (None, 0, (0, 1))],
    *[case(lambda x, s=s: np.broadcast_to(x, s) ** 2, normal(3, 1), covers=(np.broadcast_to,)) for s in ((3, 4), (2, 3, 1), (2, 3, 0))],
    *[
        case(lambda x, y, a=a: np.concatenate([x, np.ones((2, 2)), y], a) ** 2, normal(2, 2), normal(2, 2), covers=(np.concatenate,))
        for a in (0, -1, None)
    ],
    case(lambda x: np.concatenate([x, x, np.sin(x)]), normal(2, 2), covers=(np.concatenate,)),
    *[case(lambda x, y, a=a: np.stack([x, y], a) ** 2, normal(2, 3), normal(2, 3), covers=(np.stack,)) for a in (0, 1, -1)],
    case(lambda x, y: np.hstack([x, y]) ** 2, normal(2, 3), normal(2, 1), covers=(np.hstack,)),
    case(lambda x, y: np.hstack([x, y]) ** 2, normal(2), normal(), covers=(np.hstack,)),
    case(lambda x, y: np.vstack([x, y]) ** 2, normal(3), normal(2, 3), covers=(np.vstack,)),
    case(lambda x: [part**2 for part in np.split(x, 3, axis=1)], normal(2, 6), covers=(np.split,)),
    case(lambda x: np.split(x, [1, 3])[1] ** 2, normal(4, 2), covers=(np.split,)),
    case(lambda x: np.array_split(x, [1, 3], axis=-1)[2] ** 2, normal(2, 4), covers=(np.array_split,)),
    *[case(lambda x, a=a: np.take(x, IDS, axis=a) ** 2, normal(4, 3), covers=(np.take,)) for a in (None, 0, 1, -1)],
    case(lambda x: np.take_along_axis(x, np.array([[2, 2, 0]]), axis=1) ** 2, normal(4, 3), covers=(np.take_along_axis,)),
    case(lambda x: np.repeat(x, [1, 0, 3], axis=1) ** 2, normal(2, 3), covers=(np.repeat,)),
    case(lambda x: np.repeat(x, 2) ** 2, normal(2, 3), covers=(np.repeat,)),
    case(lambda x: np.copy(x) ** 2, normal(2, 3), covers=(np.copy,)),
    case(lambda x: np.atleast_1d(x) ** 2, normal(), covers=(np.atleast_1d,)),
    case(lambda x: np.atleast_2d(x) ** 2, normal(3), covers=(np.atleast_2d,)),
    case(lambda x: dense.gather(x, np.abs(IDS)) ** 2, normal(4, 3)),
    case(lambda x: dense.scatter_add(x, np.abs(IDS), 5) ** 2, normal(6, 3)),
    case(lambda x: dense.scatter_add(x, np.abs(IDS), 5) ** 2, normal(6)),
]

A = sp.random_array((3, 4), density=0.6, rng=np.random.default_rng(1))
PRODUCT_SHAPES = [
    ((2, 3), (3, 4)),
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((3,), (5, 3, 4)),
    ((5, 2, 3), (3,)),
]
PRODUCT_SHAPES += [
    ((5, 2, 3), (5, 3, 4)),
    ((2, 1, 2, 3), (5, 3, 4)),
    ((1, 2, 3), (5, 3, 4)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
    ((2, 0, 3), (3, 2)),
]
PRODUCTS = [
    *[case(np.matmul, normal(*a), normal(*b)) for a, b in PRODUCT_SHAPES],
    *[case(np.dot, normal(*a), normal(*b)) for a, b in [((2, 3), (3, 4)), ((3,), (3,)), ((), (3, 2)), ((2, 3), (3,))]],
    case(lambda x: x @ x, normal(3, 3), covers=(np.matmul,)),
    *[case(lambda w, a=a: a @ w, normal(4, 2), covers=(np.matmul,)) for a in (A.tocsr(), A.tocsc(), A.tocoo(), sp.csr_matrix(A))],
    case(lambda w: A.tocsr() @ w, normal(4), covers=(np.matmul,)),
    case(lambda w: dense.matmul(A.tocsr(), w * w), normal(4, 2), covers=(np.matmul,)),
    case(lambda w: w @ A.tocsr(), normal(2, 3), covers=(np.matmul,)),
    case(lambda w: w @ A.tocsr(), normal(3), covers=(np.matmul,)),
    case(lambda a, b: np.einsum("nhf,hf->nh", a, b), normal(2, 3, 2), normal(3, 2), covers=(np.einsum,)),
    case(lambda a, b, c: np.einsum("ij,jk,kl->il", a, b, c), normal(2, 3), normal(3, 2), normal(2, 2), covers=(np.einsum,)),
    case(lambda a: np.einsum("ijk->j", a) ** 2, normal(2, 3, 2), covers=(np.einsum,)),
    case(lambda a, b: np.einsum("ij,k->k", a, b) ** 2, normal(2, 3), normal(2), covers=(np.einsum,)),
]

LABELS, MASK = np.array([2, 0, 1, 2, -1]), np.array([True, False, True, True, False])
WEIGHT, BIAS = normal(3), normal(3)
TRAINING = [
    *[case(lambda x, a=a: dense.softmax(x, a), normal(4, 3)) for a in (0, -1)],
    *[case(lambda x, a=a: dense.log_softmax(x, a), normal(4, 3)) for a in (0, -1)],
    case(lambda x: dense.cross_entropy(x, np.array([0, 1, 2, 2])), normal(4, 3)),
    case(lambda x: dense.cross_entropy(x, LABELS, MASK) ** 2, normal(5, 3)),
    case(lambda x: dense.cross_entropy(x, LABELS, [3, 0, 3]), normal(5, 3)),
    case(lambda x: dense.binary_cross_entropy_with_logits(x, np.array([[1, 0, 1], [0, 0, 1]])), normal(2, 3)),
    case(lambda x, t: dense.binary_cross_entropy_with_logits(x, t), normal(2, 3), RNG.uniform(size=(2, 3))),
    case(lambda x, t: dense.mse(x, t), normal(2, 3), normal(2, 3)),
    case(lambda x: dense.dropout(x, 0.4, np.random.default_rng(3)) ** 2, normal(4, 3)),
    case(lambda x: dense.dropout(x, 0.4, np.random.default_rng(3), training=False) ** 2, normal(4, 3)),
    case(lambda x, w, b: dense.layer_norm(x, w, b), normal(4, 3), WEIGHT, BIAS),
    case(lambda x: dense.layer_norm(x), normal(2, 2, 3)),
    case(lambda x, w, b: dense.layer_norm(x, w, b), np.zeros((0, 3)), WEIGHT, BIAS),
    case(lambda x, w, b: dense.batch_norm(x, w, b), normal(4, 3), WEIGHT, BIAS),
    case(lambda x, w: dense.batch_norm(x, w), normal(2, 2, 3), WEIGHT),
    case(lambda x, w, b: dense.batch_norm(x, w, b, np.ones(3), np.full(3, 2.0), training=False), normal(4, 3), WEIGHT, BIAS),
]

CASES = ELEMENTWISE + BROADCASTING + REDUCTIONS + MOVES + PRODUCTS + TRAINING


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_value_is_that_of_plain_arrays(case):
    want = case.function(*case.arrays)
    got = case.function(*map(Tensor, case.arrays))
    for g, w in zip(*[y if isinstance(y, list) else [y] for y in (got, want)], strict=True):
        assert type(g) is Tensor
        assert g.dtype == w.dtype
        assert g.shape == np.shape(w)
        if any(f in elementary.COMPOSED for f in case.covers):  # np.hypot and the like are combinations there
            np.testing.assert_allclose(g, w, rtol=1e-14)
        else:
            np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_first_and_second_derivatives_are_central_differences(case):
    check_gradient(case.function, case.arrays, order=2)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_float32_gradients_are_near_those_of_float64(case):
    if any(f is np.float_power for f in case.covers):
        with Tape() as tape:
            assert np.float_power(tape.watch(np.ones(2, np.float32)), 2).dtype == np.float64
    check_float32(case.function, case.arrays)


def test_every_rule_is_in_the_tables():
    detached = set(_DETACHED)
    comparisons = {np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal, np.isnan, np.isinf, np.isfinite}
    logic = {np.logical_and, np.logical_or, np.logical_not, np.logical_xor, np.bitwise_and, np.bitwise_or, np.bitwise_not, np.bitwise_xor}
    aside = {"elementary", "astype", getattr(np, "astype", "astype")}  # tested below
    covered = {f for case in CASES for f in case.covers}
    assert not set(_RULES) - covered - detached - comparisons - logic - aside


def test_derivatives_by_operand_are_those_of_the_table():
    c, a, b, g = away(4) > 0, positive(4), positive(4) + 0.02, normal(4)
    a[0] = b[0]
    for name, single in BY_OPERAND.items():
        row = elementary.TABLE[name]
        operands = (c, a, b) if name == "where" else (a, b)
        y = row.evaluate(*operands)
        for f, want in zip(single, row.vjp(g, y, *operands), strict=True):
            if want is None:
                assert f is None
            else:
                np.testing.assert_array_equal(f(g, y, *operands), want)


# Comparisons, dtypes, detached functions.


def test_comparisons_and_detached_functions_give_plain_results():
    a = away(2, 3)
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
        np.rint,
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
    pairs += [(a, b.astype(np.float64)), (a, np.float32(3)), (a, 1j), ([1.0] * 40, a), (np.broadcast_to(a[0], a.shape), b)]
    for condition in (full, column, full[:, 0][:, None], full.T.copy().T, full.astype(int), full[0], True, np.asfortranarray(full)):
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
    np.testing.assert_array_equal(np.abs(gradients(lambda x: x**1, [np.zeros(1)])[0]), np.abs(gradients(lambda x: x + 0, [np.zeros(1)])[0]))
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
    np.testing.assert_allclose(dense.binary_cross_entropy_with_logits(np.array([1e4, -1e4]), np.array([1, 1])), 5e3)
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
    np.testing.assert_allclose(dense.binary_cross_entropy_with_logits(x, t), -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(), rtol=1e-13)


def test_normalisations_by_their_formulas():
    x = normal(6, 3).astype(np.float32)
    y = dense.layer_norm(x, WEIGHT, BIAS)
    want = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * WEIGHT + BIAS
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-6)
    mean, variance = np.full(3, 0.5, np.float32), np.full(3, 2.0, np.float32)
    y = dense.batch_norm(x, WEIGHT, BIAS, mean, variance, momentum=0.2)
    np.testing.assert_allclose(y, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * WEIGHT + BIAS, rtol=1e-4, atol=1e-6)
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
    assert set(np.unique((dropped.toarray() / np.where(A.toarray() == 0, 1, A.toarray())).round(12))) == {0.0, 2.0}


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
    with bad("einsum: 'ij,jk'"):
        np.einsum("ij,jk", x, x)
    with bad("sum: the option where= is not possible", TypeError):
        np.sum(x, where=np.ones(3, bool))
    with bad("add: the option dtype= is not possible", TypeError):
        np.add(x, 1, dtype=np.float32)
    with bad("split: axis 0 of shape"):
        np.split(x, 3)
    with pytest.raises(IndexError):
        x[7]
