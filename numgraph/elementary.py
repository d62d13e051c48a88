"""The elementary functions: one row each, read by message expressions (expr.py) and by the tape's dense rules (dense.py).

A row holds a name, the NumPy functions that build it, its evaluation and its derivative. ``vjp(g, y, *x)`` returns one gradient per
operand (None where there is none), *before* it is summed back over broadcast axes; it is written with NumPy functions, so one line
differentiates arrays, tape Tensors and message symbols, to any order. ``lower`` rewrites a row in terms of other rows for the kernels; one
without it is a primitive that every kernel target provides under the row's name.

Functions that are combinations of rows (relu, gelu, clip, …) are plain Python functions below the table: their derivative follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgraph.inputs import given

_SQRT_HALF = math.sqrt(0.5)
_TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)
_LOG_2 = math.log(2.0)
_LOG_10 = math.log(10.0)


@dataclass(frozen=True, eq=False)
class Row:
    """An elementary function. Calling it asks ``__elementary__`` of its operands (Tensors, message symbols), else evaluates arrays."""

    name: str
    functions: tuple[Any, ...]
    evaluate: Callable[..., Any]
    vjp: Callable[..., tuple[Any, ...]] | None
    lower: Callable[..., Any] | None = None

    def __call__(self, *operands: Any) -> Any:
        for operand in operands:
            special = getattr(type(operand), "__elementary__", None)
            if special is not None:
                return special(self, operands)
        if not self.functions:  # NumPy's own read what they are given
            operands = tuple([given(self.name, "x", x) for x in operands])
        return self.evaluate(*operands)

    def __repr__(self) -> str:
        return f"<elementary function {self.name}>"


TABLE: dict[str, Row] = {}


def _row(
    name: str,
    functions: tuple[Any, ...],
    vjp: Callable[..., tuple[Any, ...]] | None,
    lower: Callable[..., Any] | None = None,
    evaluate: Callable[..., Any] | None = None,
) -> Row:
    row = TABLE[name] = Row(name, functions, evaluate or functions[0], vjp, lower)
    return row


def _sigmoid_evaluate(x: Any) -> Any:
    decayed = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, decayed) / (1 + decayed)


def _erf_evaluate(x: Any) -> Any:
    from scipy.special import erf as scipy_erf

    return scipy_erf(x.astype(np.float32) if getattr(x, "dtype", None) == np.float16 else x)  # else CuPy's gives float64


def _maximum_vjp(g: Any, y: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """A tie gives half to each side: the value a central difference has."""
    half = g * 0.5
    return np.where(a == b, half, np.where(a > b, g, 0)), np.where(a == b, half, np.where(a > b, 0, g))


def _minimum_vjp(g: Any, y: Any, a: Any, b: Any) -> tuple[Any, Any]:
    half = g * 0.5
    return np.where(a == b, half, np.where(a < b, g, 0)), np.where(a == b, half, np.where(a < b, 0, g))


def _power_vjp(g: Any, y: Any, x: Any, p: Any) -> tuple[Any, Any]:
    base = np.where(p == 0, 0, g * p * np.power(x, np.where(p == 0, 1, p - 1)))
    return base, g * np.where(x > 0, y * np.log(np.where(x > 0, x, 1)), 0)


def _logaddexp_lower(a: Any, b: Any) -> Any:
    """The case a = b apart, because inf − inf is NaN."""
    return np.where(a == b, a + _LOG_2, np.maximum(a, b) + np.log1p(np.exp(-np.abs(a - b))))


# Arithmetic.
add = _row("add", (np.add,), lambda g, y, a, b: (g, g))
subtract = _row("subtract", (np.subtract,), lambda g, y, a, b: (g, -g))
multiply = _row("multiply", (np.multiply,), lambda g, y, a, b: (g * b, g * a))
divide = _row("divide", (np.divide,), lambda g, y, a, b: (g / b, -g * (y / b)))
negative = _row("negative", (np.negative,), lambda g, y, a: (-g,))
power = _row("power", (np.power, np.float_power, np.pow), _power_vjp)
absolute = _row("absolute", (np.absolute, np.fabs), lambda g, y, x: (g * np.sign(x),))
sign = _row("sign", (np.sign,), None)
floor = _row("floor", (np.floor,), None)
ceil = _row("ceil", (np.ceil,), None, lambda x: -np.floor(-x))
square = _row("square", (np.square,), lambda g, y, x: (g * (2 * x),), lambda x: x * x)
sqrt = _row("sqrt", (np.sqrt,), lambda g, y, x: (g * 0.5 / y,))
maximum = _row("maximum", (np.maximum,), _maximum_vjp)
minimum = _row("minimum", (np.minimum,), _minimum_vjp)
where = _row("where", (np.where,), lambda g, y, c, a, b: (None, np.where(c, g, 0), np.where(c, 0, g)))

# Exponentials and logarithms.
exp = _row("exp", (np.exp,), lambda g, y, x: (g * y,))
expm1 = _row("expm1", (np.expm1,), lambda g, y, x: (g * (y + 1),))
exp2 = _row("exp2", (np.exp2,), lambda g, y, x: (g * (y * _LOG_2),), lambda x: np.power(2.0, x))
log = _row("log", (np.log,), lambda g, y, x: (g / x,))
log1p = _row("log1p", (np.log1p,), lambda g, y, x: (g / (1 + x),))
log2 = _row("log2", (np.log2,), lambda g, y, x: (g / (x * _LOG_2),), lambda x: np.log(x) * (1 / _LOG_2))
log10 = _row("log10", (np.log10,), lambda g, y, x: (g / (x * _LOG_10),), lambda x: np.log(x) * (1 / _LOG_10))
logaddexp = _row("logaddexp", (np.logaddexp,), lambda g, y, a, b: (g * sigmoid(a - b), g * sigmoid(b - a)), _logaddexp_lower)
sigmoid: Row = _row("sigmoid", (), lambda g, y, x: (g * (y * (1 - y)),), _sigmoid_evaluate, _sigmoid_evaluate)

# Trigonometric and hyperbolic functions.
sin = _row("sin", (np.sin,), lambda g, y, x: (g * np.cos(x),))
cos = _row("cos", (np.cos,), lambda g, y, x: (-g * np.sin(x),))
tan = _row("tan", (np.tan,), lambda g, y, x: (g * (1 + y * y),), lambda x: np.sin(x) / np.cos(x))
arctan = _row("arctan", (np.arctan,), lambda g, y, x: (g / (1 + x * x),))
tanh = _row("tanh", (np.tanh,), lambda g, y, x: (g * (1 - y * y),))
sinh = _row("sinh", (np.sinh,), lambda g, y, x: (g * np.cosh(x),), lambda x: (np.expm1(x) - np.expm1(-x)) * 0.5)
cosh = _row("cosh", (np.cosh,), lambda g, y, x: (g * np.sinh(x),), lambda x: (np.exp(x) + np.exp(-x)) * 0.5)
erf = _row("erf", (), lambda g, y, x: (g * (_TWO_OVER_SQRT_PI * np.exp(-x * x)),), None, _erf_evaluate)

# Comparisons and logic: no derivative.
equal = _row("equal", (np.equal,), None)
not_equal = _row("not_equal", (np.not_equal,), None)
less = _row("less", (np.less,), None)
less_equal = _row("less_equal", (np.less_equal,), None)
greater = _row("greater", (np.greater,), None)
greater_equal = _row("greater_equal", (np.greater_equal,), None)
logical_and = _row("logical_and", (np.logical_and, np.bitwise_and), None)
logical_or = _row("logical_or", (np.logical_or, np.bitwise_or), None)
logical_not = _row("logical_not", (np.logical_not, np.bitwise_not), None)
logical_xor = _row("logical_xor", (np.logical_xor, np.bitwise_xor), None, lambda a, b: np.not_equal(a, b))


def relu(x: Any) -> Any:
    """max(x, 0) elementwise; NaN stays NaN, the derivative at 0 is 0."""
    return np.where(x <= 0, 0, x)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """x where x > 0, else negative_slope · x, elementwise."""
    return np.where(x > 0, x, x * negative_slope)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha · (eˣ − 1), elementwise (Clevert et al., ICLR 2016)."""
    return np.where(x > 0, x, np.expm1(np.where(x > 0, 0, x)) * alpha)


def gelu(x: Any) -> Any:
    """x · Φ(x) with the normal distribution function Φ, elementwise, exact (Hendrycks and Gimpel, 2016)."""
    return x * (0.5 * (1 + erf(x * _SQRT_HALF)))


def silu(x: Any) -> Any:
    """x · sigmoid(x), elementwise."""
    return x * sigmoid(x)


def softplus(x: Any) -> Any:
    """log(1 + eˣ) elementwise, without overflow."""
    return np.logaddexp(x, 0)


def clip(x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    """x limited to [a_min, a_max]; the gradient passes inside and on the bounds, NaN stays NaN."""
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    if low is not None:
        x = np.where(x < low, low, x)
    if high is not None:
        x = np.where(x > high, high, x)
    return x


COMPOSED: dict[Any, Callable[..., Any]] = {
    np.clip: clip,
    np.positive: lambda x: x,
    np.reciprocal: lambda x: 1 / x,
    np.isnan: lambda x: x != x,
    np.isinf: lambda x: np.abs(x) == np.inf,
    np.isfinite: lambda x: np.abs(x) < np.inf,
    np.hypot: lambda a, b: np.sqrt(a * a + b * b),
    np.floor_divide: lambda a, b: np.floor(a / b),
    np.remainder: lambda a, b: a - b * np.floor(a / b),
}
"""NumPy functions that are combinations of rows, as they act on Tensors and message symbols."""

BY_FUNCTION: dict[Any, Row] = {function: row for row in TABLE.values() for function in row.functions}
"""The row that a NumPy function builds."""
