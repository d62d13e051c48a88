"""Dense rules: each against NumPy's own result and against central differences, first and second order, in
float64 and float32.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import scipy.sparse as sp
from checks import check_float32, check_gradient
from test_numpy_coverage import LINALG, NUMPY

from numgraph import dense
from numgraph.autodiff.rules import RULES
from numgraph.autodiff.tape import Tape, Tensor
from numgraph.dense.elementwise import _DETACHED, BY_OPERAND
from numgraph.expressions import elementary

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape)


def away(*shape):
    """No value within 0.3 of 0, no two within 0.05 of each other: kinks and ties are out of the stencil's
    reach.
    """
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
    return Case(function, list(arrays), covers or ((function,) if function in RULES else ()))


ELEMENTWISE = [
    *[
        case(f, away(2, 3))
        for f in (
            np.negative,
            np.absolute,
            np.fabs,
            np.square,
            np.exp,
            np.expm1,
            np.exp2,
            np.sin,
            np.cos,
            np.tan,
        )
    ],
    *[case(f, away(2, 3)) for f in (np.arctan, np.tanh, np.sinh, np.cosh, np.positive, np.reciprocal)],
    *[case(f, positive(2, 3)) for f in (np.sqrt, np.log, np.log1p, np.log2, np.log10)],
    *[
        case(f, away(2, 3))
        for f in (elementary.sigmoid, elementary.erf, elementary.relu, elementary.leaky_relu, elementary.elu)
    ],
    *[case(f, away(2, 3)) for f in (elementary.gelu, elementary.silu, elementary.softplus)],
    *[
        case(f, away(2, 3), away(2, 3)[::-1] + 0.02)
        for f in (np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum)
    ],
    *[case(f, away(2, 3), away(2, 3)[::-1] + 0.02) for f in (np.logaddexp, np.hypot)],
    case(np.power, positive(2, 3), normal(2, 3)),
    case(np.float_power, positive(2, 3), normal(2, 3)),
    *[case(lambda x, p=p: x**p, positive(2, 3), covers=(np.power,)) for p in (0, 1, 2, 3, -1, 0.5, 2.0)],
    case(lambda x: 2.0**x, normal(2, 3), covers=(np.power,)),
    *[case(f, normal(2, 5)) for f in (np.sort, np.median, np.ptp)],
    case(np.outer, normal(2), normal(3)),
    case(lambda x: 1 - x, normal(2, 3), covers=(np.subtract,)),
    case(lambda x: 1 / x, away(2, 3), covers=(np.divide,)),
    case(
        lambda x, y: np.where(np.array([True, False, True]), x, y),
        normal(2, 3),
        normal(2, 3),
        covers=(np.where,),
    ),
    case(lambda x: np.where(x > 0, x, 0), away(2, 3), covers=(np.where, np.greater)),
    case(lambda x: np.clip(x, -0.4, 0.5) * x, away(2, 3), covers=(np.clip,)),
    case(lambda x: np.maximum(x, 0) * x, away(2, 3), covers=(np.maximum,)),
    case(
        lambda x: np.sign(x) * x * x + np.floor(x) * x + np.ceil(x),
        away(2, 3),
        covers=(np.sign, np.floor, np.ceil),
    ),
    case(lambda x: x * (x // 0.7) + x % 0.7, positive(2, 3), covers=(np.floor_divide, np.remainder)),
    case(lambda x, y: np.remainder(x, y) * x, away(2, 3), away(2, 3)[::-1] + 0.02),
    case(lambda x, y: np.fmod(x, y) * x, away(2, 3), away(2, 3)[::-1] + 0.02, covers=(np.fmod,)),
    case(lambda x: list(np.divmod(x, 0.7)), away(2, 3), covers=(np.divmod,)),
    case(np.arctan2, away(2, 3), away(2, 3)[::-1] + 0.02),
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
] + [
    case(
        lambda x, y: np.where(np.array([[True], [False]]), x, y), normal(3), normal(1, 1), covers=(np.where,)
    )
]

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
    *[
        case(lambda x, f=f, o=o: f(x, **o), away(2, 3, 2), covers=(f,))
        for f in (np.amax, np.amin)
        for o in AXES[:2]
    ],
    *[case(lambda x, o=o: dense.logsumexp(x, **o), normal(2, 3, 2)) for o in AXES],
    case(
        lambda x: np.prod(np.where(np.arange(12).reshape(4, 3) % 5 == 0, 0, x), axis=0),
        normal(4, 3),
        covers=(np.prod,),
    ),
    case(lambda x: np.prod(x * np.array([0.0, 0, 1, 1, 1])), normal(5), covers=(np.prod,)),
    *[case(lambda x, d=d: np.var(x, axis=0, ddof=d), normal(4, 3), covers=(np.var,)) for d in (0, 1)],
    *[
        case(lambda x, a=a: np.cumsum(x, axis=a) ** 2, normal(2, 3), covers=(np.cumsum,))
        for a in (None, 0, 1, -1)
    ],
    case(lambda x: np.add.reduce(x) ** 2, normal(2, 3), covers=((np.add, "reduce"),)),
    case(lambda x: np.multiply.reduce(x, axis=1), normal(2, 3), covers=((np.multiply, "reduce"),)),
    case(lambda x: np.maximum.reduce(x, axis=None) ** 2, away(2, 3), covers=((np.maximum, "reduce"),)),
    case(lambda x: np.minimum.reduce(x, keepdims=True) ** 2, away(2, 3), covers=((np.minimum, "reduce"),)),
    *[case(f, normal(), covers=(f,)) for f in (np.sum, np.mean, np.max, np.prod)],
    *[
        case(lambda x, f=f: f(x, axis=0), np.zeros((3, 0)), covers=(f,))
        for f in (np.sum, np.mean, np.max, np.min, np.prod)
    ],
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
    *[
        case(lambda x, a=a: np.square(np.flip(x, a)), normal(2, 3), covers=(np.flip,))
        for a in (None, 0, (0, 1))
    ],
    *[
        case(lambda x, s=s: np.broadcast_to(x, s) ** 2, normal(3, 1), covers=(np.broadcast_to,))
        for s in ((3, 4), (2, 3, 1), (2, 3, 0))
    ],
    *[
        case(
            lambda x, y, a=a: np.concatenate([x, np.ones((2, 2)), y], a) ** 2,
            normal(2, 2),
            normal(2, 2),
            covers=(np.concatenate,),
        )
        for a in (0, -1, None)
    ],
    case(lambda x: np.concatenate([x, x, np.sin(x)]), normal(2, 2), covers=(np.concatenate,)),
    *[
        case(lambda x, y, a=a: np.stack([x, y], a) ** 2, normal(2, 3), normal(2, 3), covers=(np.stack,))
        for a in (0, 1, -1)
    ],
    case(lambda x, y: np.hstack([x, y]) ** 2, normal(2, 3), normal(2, 1), covers=(np.hstack,)),
    case(lambda x, y: np.hstack([x, y]) ** 2, normal(2), normal(), covers=(np.hstack,)),
    case(lambda x, y: np.vstack([x, y]) ** 2, normal(3), normal(2, 3), covers=(np.vstack,)),
    case(lambda x: [part**2 for part in np.split(x, 3, axis=1)], normal(2, 6), covers=(np.split,)),
    case(lambda x: np.split(x, [1, 3])[1] ** 2, normal(4, 2), covers=(np.split,)),
    case(lambda x: np.array_split(x, [1, 3], axis=-1)[2] ** 2, normal(2, 4), covers=(np.array_split,)),
    *[
        case(lambda x, a=a: np.take(x, IDS, axis=a) ** 2, normal(4, 3), covers=(np.take,))
        for a in (None, 0, 1, -1)
    ],
    case(
        lambda x: np.take_along_axis(x, np.array([[2, 2, 0]]), axis=1) ** 2,
        normal(4, 3),
        covers=(np.take_along_axis,),
    ),
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
    *[
        case(np.dot, normal(*a), normal(*b))
        for a, b in [((2, 3), (3, 4)), ((3,), (3,)), ((), (3, 2)), ((2, 3), (3,))]
    ],
    case(lambda x: x @ x, normal(3, 3), covers=(np.matmul,)),
    *[
        case(lambda w, a=a: a @ w, normal(4, 2), covers=(np.matmul,))
        for a in (A.tocsr(), A.tocsc(), A.tocoo(), sp.csr_matrix(A))
    ],
    case(lambda w: A.tocsr() @ w, normal(4), covers=(np.matmul,)),
    case(lambda w: dense.matmul(A.tocsr(), w * w), normal(4, 2), covers=(np.matmul,)),
    case(lambda w: w @ A.tocsr(), normal(2, 3), covers=(np.matmul,)),
    case(lambda w: w @ A.tocsr(), normal(3), covers=(np.matmul,)),
    case(lambda a, b: np.einsum("nhf,hf->nh", a, b), normal(2, 3, 2), normal(3, 2), covers=(np.einsum,)),
    case(
        lambda a, b, c: np.einsum("ij,jk,kl->il", a, b, c),
        normal(2, 3),
        normal(3, 2),
        normal(2, 2),
        covers=(np.einsum,),
    ),
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
    case(
        lambda x, w, b: dense.batch_norm(x, w, b, np.ones(3), np.full(3, 2.0), training=False),
        normal(4, 3),
        WEIGHT,
        BIAS,
    ),
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
        if any(f in elementary.COMPOSED for f in case.covers):  # combinations there
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
    comparisons = {
        np.equal,
        np.not_equal,
        np.less,
        np.less_equal,
        np.greater,
        np.greater_equal,
        np.isnan,
        np.isinf,
        np.isfinite,
    }
    logic = {
        np.logical_and,
        np.logical_or,
        np.logical_not,
        np.logical_xor,
        np.bitwise_and,
        np.bitwise_or,
        np.bitwise_not,
        np.bitwise_xor,
    }
    logic |= {np.left_shift, np.right_shift}
    aside = {"elementary", "astype", "sparse", getattr(np, "astype", "astype")}  # tested below
    aside |= {"EdgeMap.gather"}  # in graph/test_transforms.py
    # NumPy's and SciPy's functions are enumerated in test_numpy_coverage.py; what stands here are the tables
    # of this file beside them
    aside |= {
        f
        for f in RULES
        if f in set(NUMPY.values()) | set(LINALG.values()) or str(f).startswith("scipy.special.")
    }
    covered = {f for case in CASES for f in case.covers}
    assert not set(RULES) - covered - detached - comparisons - logic - aside


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
