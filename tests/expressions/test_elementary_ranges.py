"""Elementary functions near the ends of their ranges, and exact where NumPy's are: no overflow or underflow
inside of a formula.
"""

from __future__ import annotations

import numpy as np
import pytest

import numgraph as ng
from numgraph.expressions import expr
from numgraph.expressions.walk import Output
from numgraph.message.propagate import propagate

RTOL = {np.float16: 2e-3, np.float32: 2e-6, np.float64: 2e-15}


def values(functions, *fields):
    """The functions of fields [rows] of edges, by one walk."""
    count = len(fields[0])
    symbols = [expr.field("e", f"x{i}", (), x.dtype) for i, x in enumerate(fields)]
    outputs = tuple(Output((function(*symbols),), "e", "edge") for function in functions)
    g = ng.Graph(np.arange(count), np.arange(count), count)
    return propagate("values", g, outputs, {("e", f"x{i}"): x for i, x in enumerate(fields)})


@pytest.mark.parametrize("dtype", RTOL)
def test_pairs_of_every_magnitude(dtype):
    """hypot, logaddexp, arctan2 and the division's rests, against NumPy in a wider type."""
    info = np.finfo(dtype)
    rng = np.random.default_rng(0)
    ends = [info.max, info.max / 2, info.tiny, info.smallest_subnormal, 0, 1, np.inf, np.nan]
    a, b = (side.ravel() for side in np.meshgrid([*ends, *np.negative(ends)], [*ends, *np.negative(ends)]))
    exponents = rng.uniform(info.minexp, info.maxexp - 1, 500)
    near = 2.0 ** (exponents + rng.uniform(-3, 3, 500)).clip(-1000, info.maxexp - 1)
    a, b = np.append(a, 2.0**exponents).astype(dtype), np.append(b, near).astype(dtype)
    functions = (np.hypot, np.logaddexp, np.arctan2, np.fmod, np.remainder, np.floor_divide)
    wide = np.longdouble if dtype is np.float64 else np.float64
    for function, got in zip(functions, values(functions, a, b), strict=True):
        with np.errstate(all="ignore"):
            exact = function in (np.fmod, np.remainder, np.floor_divide)
            want = (
                function(a, b)
                if exact or dtype is not np.float64
                else function(a.astype(wide), b.astype(wide)).astype(dtype)
            )
        assert got.dtype == dtype
        atol = 0 if exact else float(info.smallest_subnormal)
        np.testing.assert_allclose(
            got, want, rtol=0 if exact else RTOL[dtype], atol=atol, err_msg=function.__name__
        )
        if exact:
            np.testing.assert_array_equal(
                np.signbit(got[want == 0]), np.signbit(want[want == 0]), err_msg=function.__name__
            )


@pytest.mark.parametrize("dtype", RTOL)
def test_infinities_and_the_signs_of_zeros(dtype):
    """Of functions that are odd, and of roundings."""
    info = np.finfo(dtype)
    x = np.array(
        [0, 0.1, 0.5, 0.75, 1, 1.5, 2.5, 3.5, info.smallest_subnormal, info.max, np.inf, np.nan], dtype
    )
    x = np.append(x, -x)
    functions = (np.arcsinh, np.arctanh, np.cbrt, np.trunc, np.rint)
    for function, got in zip(functions, values(functions, x), strict=True):
        with np.errstate(all="ignore"):
            want = function(x)
        rtol, atol = 2 * RTOL[dtype], float(info.smallest_subnormal)
        np.testing.assert_allclose(got, want, rtol=rtol, atol=atol, err_msg=function.__name__)
        some = ~np.isnan(want)
        np.testing.assert_array_equal(
            np.signbit(got[some]), np.signbit(want[some]), err_msg=function.__name__
        )


@pytest.mark.parametrize("dtype", RTOL)
def test_the_last_exponentials(dtype):
    """sinh and cosh are finite as long as their values are; silu, softplus, gelu, elu and sigmoid are finite
    everywhere.
    """
    end = float(np.log(np.float64(np.finfo(dtype).max)))
    x = np.concatenate([np.linspace(end - 2, end + 0.69, 200), np.linspace(-3, 3, 41)]).astype(dtype)
    x = np.append(x, -x)
    for function, got in zip((np.sinh, np.cosh), values((np.sinh, np.cosh), x), strict=True):
        want = function(x.astype(np.longdouble)).astype(dtype)
        np.testing.assert_allclose(got, want, rtol=4 * RTOL[dtype])
    large = np.array([np.finfo(dtype).max, -np.finfo(dtype).max, 1e4, -1e4, 0], dtype)
    functions = (ng.sigmoid, ng.silu, ng.softplus, ng.gelu, ng.elu)
    for function, got in zip(functions, values(functions, large), strict=True):
        want = {
            "silu": [large[0], 0, 1e4, 0, 0],
            "softplus": [large[0], 0, 1e4, 0, np.log(2)],
            "gelu": [large[0], 0, 1e4, 0, 0],
        }
        want |= {"sigmoid": [1, 0, 1, 0, 0.5], "elu": [large[0], -1, 1e4, -1, 0]}
        name = getattr(function, "__name__", "sigmoid")
        np.testing.assert_allclose(
            got.astype(float), np.array(want[name], float), rtol=1e-3, atol=1e-7, err_msg=name
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_powers_are_exact(dtype):
    """log2 of every power of two, exp2 of every integer, log10 of every power of ten."""
    info = np.finfo(dtype)
    n = np.arange(info.minexp - info.nmant, info.maxexp)
    powers = np.ldexp(dtype(1), n)
    got, back = values((np.log2, lambda x: np.exp2(np.log2(x))), powers)
    np.testing.assert_array_equal(got, n)
    np.testing.assert_array_equal(back, powers)
    k = np.arange(int(np.ceil(np.log10(info.tiny))), int(np.log10(info.max)) + 1)
    tens = np.array([f"1e{i}" for i in k]).astype(dtype)
    (got,) = values((np.log10,), tens)
    np.testing.assert_array_equal(got, k)


def test_log_and_exp_in_other_bases_are_accurate():
    """Within 2 units in the last place, also near 1 and among subnormal numbers."""
    rng = np.random.default_rng(2)
    for dtype, wide in ((np.float32, np.float64), (np.float64, np.longdouble)):
        info = np.finfo(dtype)
        x = np.concatenate(
            [
                np.exp(rng.uniform(np.log(info.tiny), np.log(info.max), 20_000)),
                rng.uniform(0.5, 2, 20_000),
                [info.smallest_subnormal],
            ]
        )
        x = x.astype(dtype)
        for function, got in zip((np.log2, np.log10), values((np.log2, np.log10), x), strict=True):
            exact = function(x.astype(wide))
            assert np.max(np.abs(got - exact) / np.spacing(np.abs(exact).astype(dtype))) <= 2.0
        p = rng.uniform(info.minexp - 20, info.maxexp, 40_000).astype(dtype)
        (got,) = values((np.exp2,), p)
        exact = np.exp2(p.astype(wide))
        assert np.max(np.abs(got - exact) / np.spacing(exact.astype(dtype))) <= 2.0


def test_gradients_of_hypot_and_arctan2_at_the_ends():
    for scale in (1e200, 1e-200):
        a, b = np.array([3.0, -5.0]) * scale, np.array([4.0, 12.0]) * scale
        with ng.Tape() as tape:
            x, y = tape.watch(a), tape.watch(b)
            loss = ng.apply_edges(
                ng.Graph([0, 1], [0, 1], 2), lambda u: np.hypot(u.x, u.y), u={"x": x, "y": y}
            ).sum()
        for got, want in zip(tape.gradient(loss, [x, y]), ([0.6, -5 / 13], [0.8, 12 / 13]), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-14)
        with ng.Tape() as tape:
            x, y = tape.watch(a), tape.watch(b)
            loss = ng.apply_edges(
                ng.Graph([0, 1], [0, 1], 2), lambda u: np.arctan2(u.x, u.y), u={"x": x, "y": y}
            ).sum()
        for got, want in zip(tape.gradient(loss, [x, y]), ([0.16, 12 / 169], [-0.12, 5 / 169]), strict=True):
            np.testing.assert_allclose(got * scale, want, rtol=1e-14)
