"""Elementary functions on lanes: at most 2 ulp from higher precision, NumPy's special values, the same bits
at every width.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.extending import intrinsic

from numgraph.compiler.cpu import memory
from numgraph.compiler.llvm import vectormath

WIDTHS = (0, 1, 4, 16, 64)  # 0: the scalar
NAMES = ("exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "arctan", "erf")
DTYPES = (np.float32, np.float64)
EACH = [(name, dtype) for name in NAMES for dtype in DTYPES]
# Intervals that get samples of their own: where results are ordinary numbers, and both sides of where a
# formula changes.
INTERVALS = {
    "exp": [(-1, 1), (-104, 89), (-746, 710), (-746, -708), (-104, -87)],
    "expm1": [(-0.4, 0.4), (0.2, 2), (-40, 5), (-1e-6, 1e-6)],
    "log": [(0.6, 1.5), (0, 3), (0, 1e-38), (0, 1e-307)],
    "log1p": [(-1, 3), (-0.4, 0.5), (-1e-3, 1e-3), (1e6, 1e9)],
    "sin": [(-10, 10), (-1e3, 1e3), (-2e5, 2e5), (-2e7, 2e7)],
    "cos": [(-10, 10), (-1e3, 1e3), (-2e5, 2e5), (-2e7, 2e7)],
    "tanh": [(-1, 1), (-10, 10), (-20, 20)],
    "arctan": [(0, 1), (-3, 3), (-1e2, 1e2)],
    "erf": [(-1.2, 1.2), (0.8, 2), (-6.5, 6.5)],
}
PIECES = {  # the formula changes at the multiples of these, or at these powers of two's multiples
    "exp": np.log(2.0),
    "expm1": np.log(2.0) / 2,
    "tanh": np.log(2.0) / 2,
    "sin": np.pi / 4,
    "cos": np.pi / 4,
    "arctan": 0.5,
    "erf": 0.5,
}
# A long double without more digits than a double (Windows, arm64 macOS) has an error of its own.
SLACK = 0.0 if np.finfo(np.longdouble).nmant > 60 else 1.0


def _primitive(build, operands):
    if operands == 1:

        @intrinsic
        def primitive(typingctx, x):
            return x(x), lambda context, builder, sig, args: build(builder, *args)
    else:

        @intrinsic
        def primitive(typingctx, x, p):
            return x(x, p), lambda context, builder, sig, args: build(builder, *args)

    return primitive


@functools.cache
def compiled(name):
    """f(y, x): y[k] = name(x), computed WIDTHS[k] lanes at a time; one function, for compiling is most of
    this file's time.
    """
    function = _primitive(vectormath.FUNCTIONS[name], 1)
    load_scalar, load_1, load_4, load_16, load_64 = [memory.load(width) for width in WIDTHS]
    store_scalar, store_1, store_4, store_16, store_64 = [memory.store(width) for width in WIDTHS]

    @numba.njit
    def run(y, x):
        for i in range(x.shape[1]):
            store_scalar(y, 0, i, function(load_scalar(x, 0, i)))
            store_1(y, 1, i, function(load_1(x, 0, i)))
        for i in range(0, x.shape[1], 4):
            store_4(y, 2, i, function(load_4(x, 0, i)))
        for i in range(0, x.shape[1], 16):
            store_16(y, 3, i, function(load_16(x, 0, i)))
        for i in range(0, x.shape[1], 64):
            store_64(y, 4, i, function(load_64(x, 0, i)))

    return run


def evaluate(name, x):
    """[widths, len(x)]"""
    y = np.empty((len(WIDTHS), x.size), x.dtype)
    compiled(name)(y, x.reshape(1, -1))
    return y


def samples(name, dtype, count):
    """Random bit patterns, the intervals above, and 7 neighbours at every boundary between two pieces."""
    rng = np.random.default_rng(NAMES.index(name))
    parts = [np.frombuffer(rng.bytes(count * dtype().itemsize), dtype)]
    parts += [rng.uniform(low, high, count // 4).astype(dtype) for low, high in INTERVALS[name]]
    if name in PIECES:
        middle = (rng.integers(-1000, 1000, count // 32) * np.longdouble(PIECES[name])).astype(dtype)
    else:
        middle = (2.0 ** rng.integers(-20, 20, count // 32) * np.sqrt(np.longdouble(0.5))).astype(dtype)
        middle = middle if name == "log" else middle - dtype(1)
    for _ in range(3):
        parts.append(middle)
        middle = np.nextafter(middle, dtype(np.inf))
    middle = parts[-3]
    for _ in range(4):
        middle = np.nextafter(middle, dtype(-np.inf))
        parts.append(middle)
    x = np.concatenate(parts)
    return np.resize(x, -(-x.size // 64) * 64)


def erf(x):
    """2/√π · exp(−x²) · Σ 2ᵏ x²ᵏ⁺¹/(2k + 1)!!: only positive terms, so every digit of x's type is good."""
    a = np.minimum(np.abs(x), 7)
    term = total = a
    for k in range(1, 220):
        term = term * (2 * a * a) / (2 * k + 1)
        total = total + term
    root = np.sqrt(x.dtype.type("3.14159265358979323846264338327950288"))
    return np.copysign(np.where(a >= 6.9, 1, 2 / root * np.exp(-a * a) * total), x)


def oracle(name, x):
    """In a wider type: double for float, long double for double."""
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)
        return erf(wide) if name == "erf" else getattr(np, name)(wide)


def ulps(got, exact):
    """|got − exact| in units of got's last place at the exact result; one smallest subnormal below the normal
    range.
    """
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        exponent = np.maximum(np.frexp(exact)[1] - 1, info.minexp)
        error = np.abs(got.astype(exact.dtype) - exact) / np.ldexp(exact.dtype.type(1), exponent - info.nmant)
        # Next to the largest number both it and infinity are within an ulp.
        overflow = ~np.isfinite(rounded) & np.isfinite(exact) & (np.abs(got) >= info.max)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded)) | overflow
    return np.where(np.isfinite(rounded) & np.isfinite(got), error, np.where(same, 0.0, np.inf))


def check_accuracy(name, dtype, count):
    x = samples(name, dtype, count)
    y = evaluate(name, x)[-1]
    exact = oracle(name, x)
    error = ulps(y, exact)
    worst = np.argmax(error)
    limit = 2.0 + (SLACK if dtype is np.float64 else 0.0)
    assert error[worst] <= limit, (
        f"{name}({x[worst]!r}) = {y[worst]!r}, exactly {exact[worst]!r}: {error[worst]:.2f} ulp"
    )


def assert_same_bits(got, want, x):
    integer = np.uint32 if got.dtype == np.float32 else np.uint64
    differs = (got.view(integer) != want.view(integer)) & ~(np.isnan(got) & np.isnan(want))
    assert not differs.any(), f"at {x[differs][:5]}: {got[differs][:5]}, not {want[differs][:5]}"


@pytest.mark.parametrize(("name", "dtype"), EACH)
def test_within_two_ulp(name, dtype):
    few = dtype is np.float64 or name == "erf"
    check_accuracy(name, dtype, (1 << 14 if name == "erf" else 1 << 17) if few else 1 << 19)


@pytest.mark.parametrize(("name", "dtype"), EACH)
def test_bits_do_not_depend_on_the_width(name, dtype):
    x = samples(name, dtype, 1 << 13)
    results = evaluate(name, x)
    for other in results[1:]:
        assert_same_bits(other, results[0], x)


def test_without_fused_multiply_add():
    """A processor of the plain architecture (on x86-64: SSE2, no FMA) meets the same bound."""
    code = (
        "from test_vectormath import *\n"
        "for name in ('exp', 'log1p', 'sin', 'tanh'):\n"
        "    for dtype in DTYPES: check_accuracy(name, dtype, 1 << 12)\n"
    )
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, check=True, timeout=120)


INF, NAN = np.inf, np.nan
SPECIAL = {
    "exp": [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (1e4, INF), (-1e4, 0.0)],
    "expm1": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -1.0), (1e4, INF), (-1e4, -1.0)],
    "log": [(0.0, -INF), (-0.0, -INF), (1.0, 0.0), (INF, INF), (-INF, NAN), (-1.0, NAN), (-1e-40, NAN)],
    "log1p": [(0.0, 0.0), (-0.0, -0.0), (-1.0, -INF), (INF, INF), (-INF, NAN), (-1.5, NAN)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN)],
    "cos": [(0.0, 1.0), (-0.0, 1.0), (INF, NAN), (-INF, NAN)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (1e30, 1.0), (-30.0, -1.0)],
    "arctan": [(0.0, 0.0), (-0.0, -0.0), (INF, np.pi / 2), (-INF, -np.pi / 2), (1e30, np.pi / 2)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (1e30, 1.0), (-30.0, -1.0)],
}


@pytest.mark.parametrize(("name", "dtype"), EACH)
def test_special_values(name, dtype):
    given, wanted = np.array([*SPECIAL[name], (NAN, NAN), (-NAN, NAN)], dtype).T
    x = np.resize(given, 64)
    for y in evaluate(name, x):
        assert_same_bits(y[: given.size], np.ascontiguousarray(wanted), given)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["expm1", "log1p", "sin", "tanh", "arctan"])
def test_the_smallest_arguments_come_back(name, dtype):
    smallest = np.finfo(dtype).smallest_subnormal
    x = np.resize(np.array([1, -1, 2, 3, -5, 1000], dtype) * smallest, 64)
    for y in evaluate(name, x):
        assert_same_bits(y, x, x)


@functools.cache
def compiled_power(width):
    function = _primitive(vectormath.power, 2)
    load, store, step = memory.load(width), memory.store(width), max(width, 1)

    @numba.njit
    def run(y, x, p):
        for i in range(0, x.shape[1], step):
            store(y, 0, i, function(load(x, 0, i), load(p, 0, i)))

    return run


@pytest.mark.parametrize("dtype", DTYPES)
def test_power(dtype):
    rng = np.random.default_rng(5)
    corners = np.array([0.0, -0.0, INF, -INF, NAN, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 1e-40, 1e30, -1e30], dtype)
    x, p = (grid.ravel() for grid in np.meshgrid(corners, corners))
    x = np.concatenate(
        [x, rng.uniform(0, 4, 1 << 14).astype(dtype), np.exp(rng.normal(0, 20, 1 << 14)).astype(dtype)]
    )
    p = np.concatenate(
        [p, rng.uniform(-60, 60, 1 << 14).astype(dtype), rng.normal(0, 1, 1 << 14).astype(dtype)]
    )
    wide = np.float64 if dtype is np.float32 else np.longdouble
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(wide), p.astype(wide))
    results = []
    for width in (0, 16):
        y = np.empty_like(x)
        compiled_power(width)(y.reshape(1, -1), x.reshape(1, -1), p.reshape(1, -1))
        results.append(y)
        assert_same_bits(y, results[0], x)
    error = ulps(results[0], exact)
    worst = np.argmax(error)
    assert error[worst] <= 2.0, (
        f"{x[worst]!r} ** {p[worst]!r} = {results[0][worst]!r}, exactly {exact[worst]!r}"
    )
    zero = exact[: corners.size**2] == 0
    assert (np.signbit(results[0][: zero.size]) == np.signbit(exact[: zero.size]))[zero].all()


def test_a_wrong_digit_is_found(monkeypatch):
    """The checker has teeth: one coefficient of tanh off by 2⁻¹⁰ is an error of more than 2 ulp."""
    spoiled = list(vectormath.TANH[32])
    spoiled[2] *= 1 + 2.0**-10
    monkeypatch.setitem(vectormath.TANH, 32, tuple(spoiled))
    compiled.cache_clear()
    with pytest.raises(AssertionError, match="ulp"):
        check_accuracy("tanh", np.float32, 1 << 12)
    compiled.cache_clear()
