"""Every function of numpy and numpy.linalg that asks its arguments (a ufunc, or one of NEP 18): with a
gradient, plain, or refused with a reason, and nothing else. Those with a gradient are held against NumPy's
values and against central differences, first and second order."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
import scipy.special
from checks import check_float32, check_gradient

import numgraph as ng
from numgraph.autodiff.rules import RULES
from numgraph.dense.elementwise import _DETACHED
from numgraph.dense.refused import REFUSED

RNG = np.random.default_rng(0)


def public(module):
    """The functions of a module that a Tensor can answer for, by name."""
    found = {}
    for name in dir(module):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that NumPy is about to drop
            function = getattr(module, name)
        if not name.startswith("_") and (
            isinstance(function, np.ufunc) or type(function).__name__ == "_ArrayFunctionDispatcher"
        ):
            found[name] = function
    return found


NUMPY, LINALG = public(np), public(np.linalg)
for _gone in ("in1d", "trapz"):  # deprecated in 2.0 for isin and trapezoid, and no longer there
    NUMPY.pop(_gone, None)


def away(*shape):
    """No value within 0.3 of 0, no two within 0.05 of each other, nor at a distance at which a sum or
    difference of two has a kink.
    """
    n = int(np.prod(shape))
    return RNG.permutation((0.3 + 0.0613 * np.arange(n)) * RNG.choice([-1.0, 1.0], n)).reshape(shape)


def positive(*shape):
    return np.abs(away(*shape))


def inside(*shape):
    return RNG.uniform(0.1, 0.9, shape) * RNG.choice([-1.0, 1.0], shape)


def square(*shape):
    """Well-conditioned matrices."""
    return RNG.normal(size=shape) + 3 * np.eye(shape[-1])


def symmetric(*shape):
    """Symmetric positive matrices with eigenvalues apart, as A Aᵀ + a diagonal."""
    a = RNG.normal(size=shape) * 0.3
    return a @ np.swapaxes(a, -1, -2) + np.diag(np.arange(1.0, shape[-1] + 1) * 2)


def call(*args, **options):
    """The function with arrays (shapes of ``away``, or arrays) first and options after."""
    arrays = [away(*x) if isinstance(x, tuple) else x for x in args]
    return lambda f, *xs: f(*xs, **options), arrays


def by(make, *args):
    """``make(f, *arrays)``, where the arrays are not the first arguments."""
    return make, [away(*x) if isinstance(x, tuple) else x for x in args]


def unary(make, names, *shapes):
    return {name: [call(make(*shape)) for shape in shapes or ((2, 3),)] for name in names.split()}


def with_axes(names, *more, **options):
    axes = ({}, {"axis": 0}, {"axis": -1}, *more)
    return {name: [call((2, 3), **o, **options) for o in axes] for name in names.split()}


def pairs(names):
    return {
        name: [call((2, 3), away(2, 3)[::-1] + 0.02), call((2, 1), away(3) + 0.02)] for name in names.split()
    }


NAN = np.array([[1.0, np.nan, 0.4], [-0.7, 2.0, np.nan], [0.2, 0.9, 1.7]])
"""Where a value is not a number; checked on values, its gradients below."""

KEEP = {"axis": 1, "keepdims": True}

SUPPORTED = {
    **unary(
        away,
        "negative absolute abs fabs square exp expm1 exp2 sin cos tan arctan atan tanh sinh cosh positive "
        "reciprocal arcsinh asinh",
    ),
    **unary(
        away,
        "cbrt deg2rad radians rad2deg degrees conj conjugate real real_if_close nan_to_num sinc unwrap i0 "
        "sign floor ceil",
    ),
    **unary(positive, "sqrt log log1p log2 log10"),
    **unary(inside, "arcsin asin arccos acos arctanh atanh"),
    **unary(lambda *s: 1 + positive(*s), "arccosh acosh"),
    **pairs(
        "add subtract multiply divide true_divide maximum minimum fmax fmin logaddexp logaddexp2 hypot "
        "arctan2 atan2 copysign"
    ),
    **{name: [call(positive(2, 3), away(3))] for name in ("power", "pow", "float_power")},
    **{
        name: [call(positive(2, 3), positive(2, 3)[::-1] + 0.02)]
        for name in ("remainder", "mod", "fmod", "floor_divide")
    },
    "divmod": [by(lambda f, x: f(x, 0.7)[1], positive(2, 3))],
    "ldexp": [by(lambda f, x: f(x, np.array([1, -2, 3])), (2, 3))],
    "heaviside": [by(lambda f, h: f(np.array([-1.0, 0.0, 2.0]), h), (2, 3))],
    "modf": [by(lambda f, x: f(x)[0], (2, 3))],
    "where": [by(lambda f, x, y: f(np.array([True, False, True]), x, y), (2, 3), (3,))],
    "clip": [call((2, 3), a_min=-0.41, a_max=0.53)],
    # reductions
    **with_axes("sum mean max amax min amin prod var std ptp", KEEP, {"axis": (0, 1)}),
    **with_axes("nansum nanmean nanmax nanmin nanprod nanvar nanstd", KEEP, {"axis": (0, 1)}),
    **with_axes("median nanmedian", KEEP),
    **with_axes("quantile nanquantile", KEEP, {"axis": (0, 1)}, q=[0.1, 0.55, 1.0]),
    **with_axes("percentile nanpercentile", KEEP, q=42.0),
    **with_axes("cumsum cumprod nancumsum nancumprod sort"),
    **{
        name: [call((2, 3), axis=1), call((4,)), call((2, 3), axis=0, include_initial=True)]
        for name in ("cumulative_sum", "cumulative_prod")
    },
    "partition": [call((2, 5), kth=2), call((2, 3), kth=1, axis=None)],
    "average": [
        call((2, 3)),
        by(lambda f, x, w: f(x, 0, w), (2, 3), positive(2, 3)),
        by(lambda f, x, w: f(x, axis=1, weights=w, returned=True)[0], (2, 3), positive(3)),
    ],
    "cov": [
        call((3, 4)),
        call((3, 4), rowvar=False, ddof=0),
        by(lambda f, x, y: f(x, y, bias=True), (5,), (5,)),
        call((4,)),
    ],
    "corrcoef": [call((3, 4)), by(lambda f, x, y: f(x, y), (5,), (5,))],
    "bincount": [by(lambda f, w: f(np.array([1, 0, 3, 1]), w, 6), (4,))],
    "trapezoid": [
        call((2, 4)),
        call((2, 4), dx=0.5, axis=0),
        by(lambda f, y, x: f(y, x), (2, 4), np.array([0.0, 0.4, 1.1, 2.0])),
    ],
    # where elements go
    "reshape": [call((2, 3), shape=(3, 2))],
    "ravel": [call((2, 3))],
    "expand_dims": [call((2, 3), axis=(0, 2))],
    "squeeze": [call((2, 1, 3), axis=1)],
    **{name: [call((2, 3, 2)), call((2, 3, 2), axes=(1, 2, 0))] for name in ("transpose", "permute_dims")},
    "swapaxes": [call((2, 3, 2), axis1=0, axis2=2)],
    "matrix_transpose": [call((2, 3))],
    "moveaxis": [call((2, 3, 2), source=(0, 1), destination=(-1, 0))],
    "rollaxis": [call((2, 3, 2), axis=2), call((2, 3, 2), axis=0, start=2), call((2, 3, 2), axis=1, start=3)],
    "flip": [call((2, 3)), call((2, 3), axis=1)],
    **unary(away, "fliplr flipud"),
    "rot90": [call((2, 3)), call((2, 3), k=2), call((2, 3, 2), k=3, axes=(1, 2))],
    "roll": [call((2, 3), shift=2), call((2, 3), shift=(1, -1), axis=(0, 1)), call((2, 3), shift=1, axis=1)],
    "tile": [call((2, 3), reps=2), call((2, 3), reps=(2, 1, 3)), call((3,), reps=(2, 2)), call((), reps=3)],
    "resize": [call((2, 3), new_shape=(3, 3))],
    "pad": [
        call((2, 3), pad_width=1),
        call((3,), pad_width=(2, 1), constant_values=(5, 7)),
        *[
            call((3, 4), pad_width=((1, 2), (0, 2)), mode=mode)
            for mode in ("edge", "reflect", "symmetric", "wrap")
        ],
    ],
    "diag": [call((3,), k=1), call((3, 4)), call((3, 3), k=-1)],
    "diagflat": [call((2, 2), k=1)],
    "diagonal": [call((3, 4), offset=1), call((2, 3, 3), axis1=1, axis2=2)],
    "tril": [call((3, 4), k=1), call((2, 3, 3))],
    "triu": [call((3, 4)), call((3, 3), k=-1)],
    "trace": [call((3, 4)), call((2, 3, 3), offset=1, axis1=1, axis2=2)],
    "delete": [call((2, 4), obj=[0, 2], axis=1), call((2, 3), obj=1), call((5,), obj=slice(None, None, 2))],
    "insert": [
        by(lambda f, x, y: f(x, 1, y, axis=0), (2, 3), (3,)),
        by(lambda f, x, y: f(x, [0, 2], y, axis=1), (2, 3), (2, 2)),
        by(lambda f, x: f(x, 2, 7.0), (2, 3)),
    ],
    "append": [
        by(lambda f, x, y: f(x, y, axis=1), (2, 3), (2, 2)),
        by(lambda f, x, y: f(x, y), (2, 3), (4,)),
    ],
    "compress": [
        by(lambda f, x: f([True, False, True], x, axis=1), (2, 3)),
        by(lambda f, x: f([False, True, True], x), (2, 3)),
    ],
    "extract": [by(lambda f, x: f(np.arange(6).reshape(2, 3) % 2 == 0, x), (2, 3))],
    "trim_zeros": [
        by(lambda f, x: f(np.concatenate([np.zeros(2), x, np.zeros(1)])), (3,)),
        by(lambda f, x: f(x, "b"), (3,)),
    ],
    "take": [call((4, 3), indices=[2, 0, 2], axis=0), call((2, 3), indices=[[4, 1]])],
    "take_along_axis": [call((4, 3), indices=np.array([[2, 2, 0]]), axis=1)],
    "repeat": [call((2, 3), repeats=2), call((2, 3), repeats=[1, 0, 3], axis=1)],
    "broadcast_to": [call((3, 1), shape=(2, 3, 2))],
    "copy": [call((2, 3))],
    "astype": [by(lambda f, x: f(x, x.dtype), (2, 3))],
    "atleast_1d": [call(())],
    "atleast_2d": [call((3,))],
    "atleast_3d": [call((3,)), call((2, 3))],
    "unique": [call((6,)), by(lambda f, x: f(x, return_counts=True, axis=0)[0], (3, 2))],
    "unique_values": [by(lambda f, x: np.sort(f(x)), (2, 3))],
    **{
        name: [by(lambda f, x: f(x).values, (5,))]
        for name in ("unique_all", "unique_counts", "unique_inverse")
    },
    # several arrays
    **{
        name: [
            by(lambda f, x, y: f([x, y], 1), (2, 2), (2, 3)),
            by(lambda f, x, y: f([x, y], None), (2,), (3,)),
        ]
        for name in ("concatenate", "concat")
    },
    "stack": [by(lambda f, x, y: f([x, y], 1), (2, 3), (2, 3))],
    **{
        name: [by(lambda f, x, y: f([x, y]), (2, 3), (2, 3)), by(lambda f, x, y: f([x, y]), (3,), (3,))]
        for name in ("hstack", "vstack")
    },
    "column_stack": [by(lambda f, x, y: f([x, y]), (3,), (3, 2))],
    "dstack": [by(lambda f, x, y: f([x, y]), (2, 3), (2, 3)), by(lambda f, x, y: f([x, y]), (3,), (3,))],
    "block": [
        by(lambda f, x, y, z: f([[x, y], [z]]), (2, 2), (2, 1), (1, 3)),
        by(lambda f, x, y: f([x, y]), (2, 2), (2, 1)),
        by(lambda f, x: f(x), (2,)),
    ],
    "split": [call((2, 6), indices_or_sections=3, axis=1)],
    "array_split": [call((5, 2), indices_or_sections=2)],
    "hsplit": [call((2, 4), indices_or_sections=2), call((4,), indices_or_sections=[1])],
    "vsplit": [call((4, 2), indices_or_sections=[1, 3])],
    "dsplit": [call((1, 2, 4), indices_or_sections=2)],
    "unstack": [call((2, 3)), call((2, 3), axis=1)],
    "broadcast_arrays": [call((2, 1), (3,))],
    "meshgrid": [call((2,), (3,)), call((2,), (3,), (2,), indexing="ij"), call((2,), (3,), sparse=True)],
    "select": [
        by(
            lambda f, x, y: f([np.array([True, False, False]), np.array([True, True, False])], [x, y], 0.5),
            (3,),
            (3,),
        )
    ],
    "choose": [
        by(lambda f, x, y: f(np.array([1, 0, 1]), [x, y]), (2, 3), (3,)),
        by(lambda f, x, y: f(np.array([4, 0]), [x, y], mode="clip"), (2,), (2,)),
    ],
    "piecewise": [
        by(lambda f, x: f(x, [x < -0.35, x > 0.45], [np.negative, lambda z: z * z, 3.0]), (2, 4)),
        by(
            lambda f, x: f(
                x, [np.asarray(ng.detach(x).data if isinstance(x, ng.Tensor) else x) < 0], [np.exp, np.sqrt]
            ),
            (2, 4),
        ),
    ],
    # along an axis
    "diff": [
        call((2, 4)),
        call((4, 2), n=2, axis=0),
        by(lambda f, x, p: f(x, prepend=p, append=0.0), (2, 3), (2, 1)),
    ],
    "ediff1d": [call((2, 3)), by(lambda f, x, e: f(x, to_end=e, to_begin=[1.0]), (4,), (2,))],
    "gradient": [
        call((5,)),
        call((3, 4)),
        by(lambda f, x: f(x, 0.5, axis=1, edge_order=2), (2, 5)),
        by(lambda f, x: f(x, np.array([0.0, 0.3, 1.0, 1.2, 2.0]), axis=1, edge_order=2), (2, 5)),
        by(lambda f, x: f(x, np.array([0.0, 0.3, 1.0, 1.2, 2.0])), (5,)),
    ],
    "interp": [
        by(
            lambda f, x, xp, fp: f(x, xp, fp),
            np.array([0.2, 1.6, 0.7, -3.0, 9.0]),
            np.array([0.0, 0.5, 1.1, 2.0]),
            (4,),
        )
    ],
    **{
        name: [call((5,), (3,), mode=mode) for mode in ("full", "same", "valid")]
        + [call((3,), (4,), mode="same")]
        for name in ("convolve", "correlate")
    },
    "linspace": [call((2,), (2,), num=4), call((), (3,), num=5, endpoint=False, axis=1), call((), (), num=1)],
    "logspace": [call((2,), (2,), num=4)],
    "geomspace": [call(positive(2), positive(2) + 1, num=4)],
    "vander": [call((3,)), call((3,), N=2, increasing=True)],
    "polyval": [call((4,), (2, 3))],
    # products
    "matmul": [call((2, 3), (3, 2)), call((2, 2, 3), (3,))],
    "dot": [call((2, 3), (3, 2)), call((3,), (3,))],
    "outer": [call((2,), (3,))],
    "inner": [call((2, 3), (4, 3)), call((3,), (3,)), call((), (3,))],
    "vdot": [call((2, 3), (2, 3))],
    "vecdot": [call((2, 3), (3,)), call((3, 2), (3, 2), axis=0)],
    "matvec": [call((2, 3), (3,)), call((2, 2, 3), (2, 3))],
    "vecmat": [call((2,), (2, 3)), call((2, 2), (2, 2, 3))],
    "tensordot": [
        call((2, 3), (3, 2), axes=1),
        call((2, 3, 2), (3, 2, 2), axes=2),
        call((2, 3), (2, 3), axes=([0, 1], [0, 1])),
        call((2, 3), (4, 2), axes=(0, 1)),
        call((2,), (3,), axes=0),
    ],
    "kron": [call((2, 3), (2, 2)), call((2,), (2, 3)), call((2,), (3,))],
    "cross": [call((2, 3), (3,)), call((3, 2), (3, 2), axis=0)],
    "einsum": [
        by(lambda f, a, b: f("nhf,hf->nh", a, b), (2, 3, 2), (3, 2)),
        by(lambda f, a, b: f("...ij,...jk->...ik", a, b), (2, 1, 2, 3), (3, 3, 2)),
        by(lambda f, a, b: f("...i,i->...", a, b), (2, 2, 3), (3,)),
        by(lambda f, a, b: f("ij,jk", a, b), (2, 3), (3, 2)),
        by(lambda f, a: f("...ji", a), (2, 2, 3)),
        by(lambda f, a: f("ii", a), (3, 3)),
        by(lambda f, a: f("iji->j", a), (3, 2, 3)),
        by(lambda f, a, b: f("ii...,i->i...", a, b), (2, 2, 3), (2,)),
        by(lambda f, a, b: f("ij,ij->i", a, b), (2, 1), (2, 3)),
        by(lambda f, a, b: f("...,...->...", a, b), (3,), (2, 1)),
    ],
}

LINALG_SUPPORTED = {
    "inv": [call(square(3, 3)), call(square(2, 2, 2))],
    "solve": [call(square(3, 3), (3,)), call(square(2, 2, 2), (2, 2, 3)), call(square(2, 2), (3, 2, 1))],
    "det": [
        call(square(3, 3)),
        call(square(2, 2, 2)),
        call(np.array([[1.0, 2.0, 0.5], [2.0, 4.0, 1.0], [0.3, -1.0, 2.0]])),
        call(np.zeros((1, 1))),
    ],
    "slogdet": [by(lambda f, x: f(x).logabsdet, square(2, 3, 3))],
    "cholesky": [
        by(lambda f, x: f(x), symmetric(3, 3)),
        by(lambda f, x: f(x, upper=True), symmetric(2, 2, 2)),
    ],
    "eigh": [
        by(lambda f, x: [f(x)[0], f(x)[1] ** 2], symmetric(3, 3)),
        by(lambda f, x: [f(x, "U")[0], f(x, "U")[1] ** 2], symmetric(2, 2, 2)),
    ],
    "eigvalsh": [call(symmetric(3, 3)), call(symmetric(2, 3, 3), UPLO="U")],
    "svd": [
        *[
            by(lambda f, x: [f(x, False)[1], f(x, False)[0] ** 2, f(x, False)[2] ** 2], square(*s)[..., :n])
            for s, n in (((3, 3), 3), ((4, 4), 2))
        ],
        by(lambda f, x: [f(x, full_matrices=False)[1], f(x, full_matrices=False)[0] ** 2], square(4, 4)[:2]),
        call(square(3, 3), compute_uv=False),
    ],
    "svdvals": [call(square(3, 3)[:, :2])],
    "qr": [
        by(lambda f, x: list(f(x)), square(3, 3)),
        by(lambda f, x: list(f(x)), square(4, 4)[:, :2]),
        call(square(3, 3), mode="r"),
    ],
    "pinv": [
        call(square(3, 3)[:, :2]),
        call(square(3, 3)[:2]),
        call(np.outer([1.0, 2.0, -1.0], [0.5, 1.0]) + np.eye(3)[:, :2]),
    ],
    "lstsq": [
        by(lambda f, a, b: list(f(a, b)[:2]), square(4, 4)[:, :2], (4,)),
        by(lambda f, a, b: f(a, b)[0], square(3, 3), (3, 2)),
    ],
    "matrix_power": [call(square(3, 3), n=n) for n in (0, 1, 3, -2)],
    "multi_dot": [by(lambda f, a, b, c: f([a, b, c]), (2, 3), (3, 2), (2,))],
    "tensorinv": [call(square(4, 4).reshape(2, 2, 4), ind=2)],
    "tensorsolve": [
        call(square(4, 4).reshape(2, 2, 4), (2, 2)),
        call(square(4, 4).reshape(2, 2, 4).transpose(2, 0, 1), (2, 2), axes=(0,)),
    ],
    "norm": [
        call((2, 3)),
        call((4,)),
        *[call((2, 3), ord=o) for o in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)],
        *[call((2, 3), ord=o, axis=1) for o in (None, 1, 2, 3, 2.5, np.inf, -np.inf)],
        call((2, 3, 2), axis=(0, 2), keepdims=True),
        call((2, 3, 2), ord=1, axis=(2, 0), keepdims=True),
    ],
    "vector_norm": [
        call((2, 3)),
        call((2, 3), axis=(0, 1), ord=3),
        call((2, 3, 2), axis=(0, 1, 2)),
        call((2, 3), ord=1, axis=0, keepdims=True),
    ],
    "matrix_norm": [call((2, 2, 3)), call((2, 2, 3), ord="nuc", keepdims=True)],
    "cond": [
        call(square(3, 3)),
        call(square(2, 2, 2), p=-2),
        call(square(2, 2), p="fro"),
        call(square(3, 3), p=1),
    ],
    "diagonal": [call((2, 3, 3), offset=1)],
    "trace": [call((2, 3, 3))],
    "matmul": [call((2, 3), (3, 2))],
    "outer": [call((2,), (3,))],
    "cross": [call((2, 3), (2, 3))],
    "vecdot": [call((2, 3), (2, 3)), call((3, 2), (3, 2), axis=0)],
    "tensordot": [call((2, 3), (3, 2), axes=1)],
    "matrix_transpose": [call((2, 2, 3))],
}

SPECIAL = {
    **unary(away, "expit log_expit erf erfc erfcx ndtr log_ndtr i0 i1 j0 j1 exp2 exp10 expm1 cbrt"),
    **unary(positive, "log1p gammaln gamma psi entr"),
    **unary(inside, "erfinv"),
    **unary(lambda *s: np.abs(inside(*s)), "logit ndtri"),
    **{name: [call(positive(2, 3), positive(3))] for name in ("xlogy", "xlog1py", "rel_entr", "kl_div")},
    "iv": [by(lambda f, x: f(2, x), positive(2, 3))],
    "jv": [by(lambda f, x: f(2, x), positive(2, 3))],
}
SUPPORTED |= unary(away, "rint trunc")  # here, for what is drawn above stays what it is

PLAIN = {f for f in _DETACHED if isinstance(f, np.ufunc) or type(f).__name__ == "_ArrayFunctionDispatcher"}
PLAIN |= {np.isnan, np.isinf, np.isfinite, np.imag, np.angle}
COMPARED = {
    *(
        np.equal,
        np.not_equal,
        np.less,
        np.less_equal,
        np.greater,
        np.greater_equal,
        np.logical_and,
        np.logical_or,
        np.logical_not,
    ),
    *(
        np.logical_xor,
        np.bitwise_and,
        np.bitwise_or,
        np.bitwise_xor,
        np.bitwise_not,
        np.left_shift,
        np.right_shift,
    ),
}

CASES = [
    pytest.param(known[name], make, arrays, id=f"{prefix}{name}")
    for prefix, known, table in (
        ("", NUMPY, SUPPORTED),
        ("linalg.", LINALG, LINALG_SUPPORTED),
        ("special.", vars(scipy.special), SPECIAL),
    )
    for name, cases in table.items()
    if name in known  # NumPy 2.1 lacks matvec and vecmat
    for make, arrays in cases
]


def listed(y):
    return list(y) if isinstance(y, list | tuple) else [y]


def test_every_function_is_supported_or_refused_and_nothing_else():
    for table, known in ((SUPPORTED, NUMPY), (LINALG_SUPPORTED, LINALG)):
        missing = set(table) - set(known)
        assert missing <= {"matvec", "vecmat"}, missing
        for name, function in known.items():
            kinds = [name in table, function in PLAIN or function in COMPARED, function in REFUSED]
            assert sum(kinds) == 1, f"{name}: in SUPPORTED, plain, refused: {kinds}"
            assert function in RULES, name


@pytest.mark.parametrize(("function", "make", "arrays"), CASES)
def test_values_are_numpys(function, make, arrays):
    for dtype in (np.float64, np.float32):
        given, info = [np.asarray(x, dtype) for x in arrays], np.finfo(dtype)
        with np.errstate(all="ignore"):
            want = listed(make(function, *given))
            got = listed(make(function, *map(ng.Tensor, given)))
        for g, w in zip(got, want, strict=True):
            assert type(g) is ng.Tensor
            assert (g.shape, g.dtype) == (np.shape(w), w.dtype)
            np.testing.assert_allclose(
                g.data, w, rtol=300 * info.eps, atol=100 * info.eps * max(1, np.abs(w).max(initial=0))
            )


@pytest.mark.parametrize(("function", "make", "arrays"), CASES)
def test_first_and_second_derivatives_are_central_differences(function, make, arrays):
    def f(*xs):
        y = make(function, *xs)
        return tuple(y) if isinstance(y, list) else y

    check_gradient(f, arrays, rtol=3e-6, step=3e-4)
    along = [
        np.random.default_rng(1).uniform(0.5, 1.5, np.shape(x)) for x in arrays
    ]  # the second by one number: along a direction
    check_gradient(
        lambda t: f(*[x + t * d for x, d in zip(arrays, along, strict=True)]),
        [np.zeros(())],
        order=2,
        rtol=3e-6,
        step=3e-4,
    )


@pytest.mark.parametrize("function", sorted(REFUSED, key=lambda f: f.__name__), ids=lambda f: f.__name__)
def test_a_refusal_says_what_to_do(function):
    x = ng.Tensor(np.ones((3, 3)))
    if isinstance(function, np.ufunc):  # which NumPy 2.1 gives no signature
        count = function.nin
    else:
        try:
            parameters = inspect.signature(function).parameters.values()
        except ValueError:
            pytest.skip("this NumPy does not tell the function's parameters")
        places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        count = len([p for p in parameters if p.default is p.empty and p.kind in places])
    problem, fix = REFUSED[function]
    with pytest.raises(TypeError, match=rf"{function.__name__}\b") as told:
        function(*[x] * count)
    assert problem in str(told.value)
    assert fix in str(told.value)


@pytest.mark.parametrize("function", sorted(PLAIN, key=lambda f: f.__name__), ids=lambda f: f.__name__)
def test_what_has_no_derivative_is_plain(function, tmp_path):
    """Numbers, flags, ids and shapes, as of the array."""
    x, ids = away(3, 3), np.array([[0, 2, 1], [1, 1, 0]])
    arguments = {
        **dict.fromkeys((np.bitwise_count, np.packbits), (ids,)),
        **dict.fromkeys((np.gcd, np.lcm), (ids, ids)),
        **dict.fromkeys(
            (
                np.array_equal,
                np.allclose,
                np.isclose,
                np.array_equiv,
                np.isin,
                np.shares_memory,
                np.may_share_memory,
            ),
            (x, x),
        ),
        np.searchsorted: (np.sort(x.ravel()), x.ravel()),
        np.digitize: (x.ravel(), np.sort(x.ravel())),
        np.unpackbits: (np.array([3, 7], np.uint8),),
        np.argpartition: (x, 1),
        np.full_like: (x, 2.0),
        np.can_cast: (np.float32, np.float64),
        np.ravel_multi_index: (ids, (3, 3)),
        np.unravel_index: (ids, (3, 3)),
        np.einsum_path: ("ij,jk", x, x),
        np.ix_: (ids[0], ids[1]),
    }
    if function in (np.save, np.savez, np.savez_compressed, np.savetxt):
        function(tmp_path / "x", ng.Tensor(x))
        assert len(list(tmp_path.iterdir())) == 1
        return
    args = arguments.get(function, (x,))
    boxed = [ng.Tensor(y) if isinstance(y, np.ndarray) else y for y in args]
    got, want = function(*boxed), function(*args)
    assert not isinstance(got, ng.Tensor)
    if function is not np.empty_like:
        np.testing.assert_equal(got, want)


NAN_FUNCTIONS = [
    name
    for name in NUMPY
    if name.startswith("nan") and not name.startswith("nanarg") and name != "nan_to_num"
]


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("name", NAN_FUNCTIONS)
def test_what_passes_nan_over(name, axis):
    """Values as NumPy's; the gradient is that of the numbers alone."""
    q = {"q": 0.4} if name.endswith("quantile") else {"q": 40.0} if name.endswith("percentile") else {}

    def f(x):
        return NUMPY[name](x, axis=axis, **q)

    np.testing.assert_allclose(f(ng.Tensor(NAN)).data, f(NAN), rtol=1e-13)
    places = ~np.isnan(NAN)

    def of_numbers(numbers):
        return f(
            ng.scatter_add(numbers, np.flatnonzero(places), NAN.size).reshape(NAN.shape)
            + np.where(places, 0, np.nan)
        )

    check_gradient(of_numbers, [NAN[places]], order=2)


WHOLE = [
    "quantile",
    "percentile",
    "median",
    "gradient",
    "cumprod",
    "diff",
    "tile",
    "tensordot",
    "trace",
    "cov",
    "average",
    "unique",
    "interp",
]
WHOLE += [
    *NAN_FUNCTIONS,
    "linalg.norm",
    "linalg.vector_norm",
    "linalg.lstsq",
    "linalg.det",
    "linalg.cond",
    "einsum",
    "insert",
    "trapezoid",
]


@pytest.mark.parametrize("name", WHOLE)
def test_of_integers(name):
    """Values and dtypes are NumPy's."""
    table, known = (LINALG_SUPPORTED, LINALG) if name.startswith("linalg.") else (SUPPORTED, NUMPY)
    name = name.removeprefix("linalg.")
    for make, arrays in table[name]:
        whole = [np.round(np.asarray(x) * 3).astype(np.int64) for x in arrays]
        got, want = listed(make(known[name], *map(ng.Tensor, whole))), listed(make(known[name], *whole))
        for g, w in zip(got, want, strict=True):
            data = g.data if isinstance(g, ng.Tensor) else np.asarray(g)
            assert (data.shape, data.dtype) == (np.shape(w), w.dtype)
            np.testing.assert_allclose(data, w, rtol=1e-12, atol=1e-12)


def test_nan_to_num_has_no_gradient_where_it_puts_a_number():
    x = np.array([1.0, np.nan, -np.inf, 3.0])
    np.testing.assert_array_equal(
        ng.grad(lambda x: np.nan_to_num(x, nan=5.0, neginf=-1.0).sum())(x), [1, 0, 0, 1]
    )


@pytest.mark.parametrize("name", ["cumprod", "cumulative_prod"])
def test_running_products_with_zeros(name):
    check_gradient(lambda x: NUMPY[name](x * np.array([1.0, 0, 1, 1, 0, 1])), [away(6)], order=2)


def test_norms_at_zero_have_gradient_zero():
    for f in (
        np.linalg.norm,
        lambda x: np.linalg.norm(x, axis=0).sum(),
        lambda x: np.linalg.vector_norm(x, axis=(0, 1)),
    ):
        np.testing.assert_array_equal(ng.grad(f)(np.zeros((2, 3))), 0)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda x: np.cumprod(x, out=np.empty(9)), "cumprod: out="),
        (lambda x: np.sum(x, where=np.ones((3, 3), bool)), "where="),
        (lambda x: np.pad(x, 1, mode="mean"), "modes are constant, edge"),
        (lambda x: np.quantile(x, 0.5, method="hazen"), "methods are linear"),
        (lambda x: np.linalg.svd(x[:2]), "full_matrices=False"),
        (lambda x: np.linalg.qr(x[:2]), "as many rows"),
        (lambda x: np.cov(x, aweights=np.ones(3)), "np.average"),
        (lambda x: np.interp(x, [0, 1], [0, 1], period=1.0), "period="),
        (lambda x: np.trace(x, out=np.empty(())), "trace: out= is not possible"),
    ],
)
def test_options_that_a_tensor_has_not_are_said(call, told):
    with pytest.raises((TypeError, ValueError), match=told):
        call(ng.Tensor(square(3, 3)))


@pytest.mark.parametrize("subscripts", ["ij,jk->ik", "i...,j->ij", "ij->k", "ij->ii", "i,j", "i*->i"])
def test_einsum_that_does_not_fit(subscripts):
    with pytest.raises(ValueError, match=r"einsum.*a letter for each axis"):
        np.einsum(subscripts, ng.Tensor(np.ones((2, 2))))


@pytest.mark.parametrize(
    "name",
    [f"special.{name}" for name in SPECIAL] + ["linalg.norm", "cumprod", "tile", "quantile", "tensordot"],
)
def test_float32_stays_float32(name):
    table, known = (
        (SPECIAL, vars(scipy.special))
        if name.startswith("special.")
        else (SUPPORTED | LINALG_SUPPORTED, NUMPY | LINALG)
    )
    name = name.split(".")[-1]
    make, arrays = table[name][0]
    check_float32(lambda *xs: make(known[name], *xs), arrays)
