"""Elementwise functions that Tensors have and messages have not: NumPy's other ufuncs, and SciPy's of
scipy.special.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from numgraph.autodiff.rules import rule
from numgraph.autodiff.tape import record, unwrap
from numgraph.dense.elementwise import dense_row, elementwise, where
from numgraph.expressions.elementary import TABLE, as_float

_LOG_2, _LOG_10 = math.log(2.0), math.log(10.0)
_SQRT_PI, _SQRT_2PI = math.sqrt(math.pi), math.sqrt(2 * math.pi)


def _sigmoid(x: Any) -> Any:
    return elementwise(TABLE["sigmoid"], x)


# --- NumPy's ------------------------------------------------------------------------------------------------

dense_row("ldexp", (np.ldexp,), lambda g, y, x, n: (np.ldexp(g, unwrap(n)), None))


@rule(np.conjugate, np.real, np.real_if_close)
def real(x: Any, tol: float = 100) -> Any:
    """Of real numbers these are the numbers themselves."""
    return x


@rule(np.imag)
def imag(val: Any) -> Any:
    return np.imag(unwrap(val))


@rule(np.angle)
def angle(z: Any, deg: bool = False) -> Any:
    """0 or π: the derivative is 0."""
    return np.angle(unwrap(z), deg)


@rule(np.modf)
def modf(x: Any) -> tuple[Any, Any]:
    fraction, whole = np.modf(unwrap(x))
    return record("modf", (x,), fraction, lambda g, *_: (g,)), whole


@rule(np.nan_to_num)
def nan_to_num(
    x: Any, copy: bool = True, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Any:
    """The gradient passes where the numbers are finite."""
    y = np.nan_to_num(unwrap(x), nan=nan, posinf=posinf, neginf=neginf)
    return record("nan_to_num", (x,), y, lambda g, xs, y, needs: (where(np.isfinite(unwrap(xs[0])), g, 0),))


_SERIES = [(-1) ** n * 2 * n * math.pi ** (2 * n) / math.factorial(2 * n + 1) for n in range(1, 6)]
"""Coefficients of x, x³, … in the derivative of sinc."""


def _sinc_vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
    """(cos πx − sinc x) / x, near 0 by its series."""
    (x,) = xs
    small = np.abs(unwrap(x)) < 0.05
    near, far = where(small, x, 0), where(small, 1, x)
    series: Any = 0
    for coefficient in reversed(_SERIES):
        series = series * (near * near) + coefficient
    return (g * where(small, series * near, (np.cos(far * math.pi) - np.sinc(far)) / far),)


@rule(np.sinc)
def sinc(x: Any) -> Any:
    return record("sinc", (x,), np.sinc(unwrap(x)), _sinc_vjp)


@rule(np.unwrap)
def unwrapped(p: Any, discont: Any = None, axis: int = -1, *, period: float = 2 * math.pi) -> Any:
    """What is added to the phases is constant nearly everywhere."""
    return record("unwrap", (p,), np.unwrap(unwrap(p), discont, axis, period=period), lambda g, *_: (g,))


# --- SciPy's ------------------------------------------------------------------------------------------------


def _evaluated(name: str) -> Callable[..., Any]:
    def evaluate(*operands: Any) -> Any:
        return getattr(importlib.import_module("scipy.special"), name)(*operands)

    return evaluate


def _special(name: str, vjp: Callable[..., tuple[Any, ...]]) -> Any:
    """A row under the name that scipy.special has for it; the key of its rule is a text, for SciPy is not
    imported here.
    """
    row = dense_row(f"scipy.special.{name}", (), vjp, _evaluated(name))
    return rule(row.name)(partial(elementwise, row))


def _times_log_vjp(g: Any, a: Any, b: Any, logarithm: Any, argument: Any) -> tuple[Any, Any]:
    """Of a · log(argument): 0 by both where a = 0 and the logarithm is infinite or none, as in messages."""
    plain = unwrap(argument)
    nothing = (unwrap(a) == 0) & ((plain <= 0) | (plain == np.inf))
    return (
        where(nothing, 0, g * logarithm(where(nothing, 1, b))),
        where(nothing, 0, g * (a / where(nothing, 1, argument))),
    )


_iv: Any = _special(
    "iv", lambda g, y, n, x: (None, g * (0.5 * (_iv(unwrap(n) - 1, x) + _iv(unwrap(n) + 1, x))))
)
_jv: Any = _special(
    "jv", lambda g, y, n, x: (None, g * (0.5 * (_jv(unwrap(n) - 1, x) - _jv(unwrap(n) + 1, x))))
)
_zeta: Any = _special("zeta", lambda g, y, s, x: (None, g * (-unwrap(s) * _zeta(unwrap(s) + 1, x))))
"""Hurwitz's ζ(s, x) = Σ (n + x)⁻ˢ, of which the polygamma functions are multiples; s is a constant, as are
the orders above.
"""

_psi = _special("psi", lambda g, y, x: (g * _zeta(2.0, x),))
_special("gammaln", lambda g, y, x: (g * _psi(x),))
_special("gamma", lambda g, y, x: (g * (y * _psi(x)),))
_special("i0", lambda g, y, x: (g * _iv(1.0, x),))
_special("i1", lambda g, y, x: (g * (0.5 * (_iv(0.0, x) + _iv(2.0, x))),))
_special("j0", lambda g, y, x: (-g * _jv(1.0, x),))
_special("j1", lambda g, y, x: (g * (0.5 * (_jv(0.0, x) - _jv(2.0, x))),))
dense_row("i0", (np.i0,), lambda g, y, x: (g * _iv(1.0, as_float(x)),))

_special("expit", lambda g, y, x: (g * (y * (1 - y)),))
_special("log_expit", lambda g, y, x: (g * _sigmoid(-x),))
_special("logit", lambda g, y, x: (g / (x * (1 - x)),))
_special("softplus", lambda g, y, x: (g * _sigmoid(x),))
_special("exp2", lambda g, y, x: (g * (y * _LOG_2),))
_special("exp10", lambda g, y, x: (g * (y * _LOG_10),))
_special("expm1", lambda g, y, x: (g * (y + 1),))
_special("log1p", lambda g, y, x: (g / (1 + x),))
_special("cbrt", lambda g, y, x: (g / (3 * (y * y)),))
_special("erf", lambda g, y, x: (g * (2 / _SQRT_PI * np.exp(-x * x)),))
_special("erfc", lambda g, y, x: (g * (-2 / _SQRT_PI * np.exp(-x * x)),))
_special("erfcx", lambda g, y, x: (g * (2 * x * y - 2 / _SQRT_PI),))
_special("erfinv", lambda g, y, x: (g * (_SQRT_PI / 2 * np.exp(y * y)),))
_special("ndtr", lambda g, y, x: (g * (np.exp(-0.5 * (x * x)) / _SQRT_2PI),))
_special("log_ndtr", lambda g, y, x: (g * (np.exp(-0.5 * (x * x) - y) / _SQRT_2PI),))
_special("ndtri", lambda g, y, x: (g * (_SQRT_2PI * np.exp(0.5 * (y * y))),))
_special("xlogy", lambda g, y, a, b: _times_log_vjp(g, a, b, np.log, b))
_special("xlog1py", lambda g, y, a, b: _times_log_vjp(g, a, b, np.log1p, 1 + b))
_special("entr", lambda g, y, x: (-g * (np.log(x) + 1),))
_special("rel_entr", lambda g, y, a, b: (g * (np.log(a / b) + 1), -g * (a / b)))
_special("kl_div", lambda g, y, a, b: (g * np.log(a / b), g * (1 - a / b)))
