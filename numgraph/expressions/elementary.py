"""The elementary functions: one row each, read by message expressions (expr.py) and by the tape's dense rules
(dense.py).

A row holds a name, the NumPy functions that build it, its evaluation and its derivative. ``vjp(g, y, *x)``
returns one gradient per operand (None where there is none), *before* it is summed back over broadcast axes;
it is written with NumPy functions, so one line differentiates arrays, tape Tensors and message symbols, to
any order. ``lower`` rewrites a row in terms of other rows for the kernels, its operands being in the dtype of
the result; one without it, or whose lower returns None for these operands, is a primitive that every kernel
target provides under the row's name.

Functions that are combinations of rows (relu, gelu, clip, …) are plain Python functions below the table:
their derivative follows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgraph.arrays.inputs import given
from numgraph.errors import bad_value

_SQRT_HALF = math.sqrt(0.5)
_TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)
_LOG_2 = math.log(2.0)
_LOG_10 = math.log(10.0)
_DEGREE = math.pi / 180


TABLE: dict[str, Row] = {}
"""The rows by name."""
BY_FUNCTION: dict[Any, Row] = {}
"""The row that a NumPy function builds."""


@dataclass(frozen=True, eq=False)
class Elementwise:
    """A function of numbers, of arrays and Tensors. Calling it asks ``__elementary__`` of its operands, else
    evaluates arrays.
    """

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


@dataclass(frozen=True, eq=False, repr=False)
class Row(Elementwise):
    """An elementary function, which messages have too; making one puts it in the table.

    Parameters
    ----------
    name : what errors, ``explain()`` and the compiler call it.
    functions : NumPy's functions that stand for it in messages; ``()`` where the row itself is called.
    evaluate : its values of arrays.
    vjp : ``vjp(g, y, *operands)`` gives a gradient for each operand, None where there is none,
        before it is summed over broadcast axes. Written with NumPy's functions and those of numgraph; None:
        the derivative is 0 everywhere.
    lower : the row in terms of others, for kernels.
        Only what every target has as an instruction goes without.

    Raises
    ------
    ValueError
        Another row has the name, or one of the functions.
    """

    def __post_init__(self) -> None:
        taken = [f"np.{function.__name__}" for function in self.functions if function in BY_FUNCTION]
        if self.name in TABLE or taken:
            raise bad_value(
                "Row",
                f"there is a row of {taken[0] if taken else repr(self.name)} already",
                "take another name",
            )
        TABLE[self.name] = self
        BY_FUNCTION.update(dict.fromkeys(self.functions, self))


def _row(
    name: str,
    functions: tuple[Any, ...],
    vjp: Callable[..., tuple[Any, ...]] | None,
    lower: Callable[..., Any] | None = None,
    evaluate: Callable[..., Any] | None = None,
) -> Row:
    return Row(name, functions, evaluate or functions[0], vjp, lower)


def as_float(x: Any) -> Any:
    """Bools and integers as the floats that NumPy's functions of floats take them for; floats as they are."""
    dtype = getattr(x, "dtype", None)
    if dtype is None:
        return float(x) if isinstance(x, int) else x
    return (
        x
        if dtype.kind not in "biu"
        else x.astype({1: np.float16, 2: np.float32}.get(dtype.itemsize, np.float64))
    )


def _sigmoid_evaluate(x: Any) -> Any:
    x = as_float(x)
    decayed = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, decayed) / (1 + decayed)


def _erf_evaluate(x: Any) -> Any:
    from scipy.special import erf as scipy_erf

    return scipy_erf(
        x.astype(np.float32) if getattr(x, "dtype", None) == np.float16 else x
    )  # else CuPy's gives float64


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


def _power_lower(x: Any, p: Any) -> Any:
    """Of integers by a constant: a few products."""
    exponent, result = p.number, None
    if x.dtype.kind not in "iu" or exponent is None:
        return None
    while exponent:
        if exponent & 1:
            result = x if result is None else result * x
        x = x * x
        exponent >>= 1
    return 1 if result is None else result


_LARGE, _SMALL = (
    {4: (2.0**62, 2.0**-66, 2.0**100), 8: (2.0**510, 2.0**-520, 2.0**700)},
    {4: 2.0**-62, 8: 2.0**-510},
)
"""By the bytes of a float: above what numbers are scaled by what power of two for their squares, and by which
below _SMALL.
"""


def _hypot_lower(a: Any, b: Any) -> Any:
    """√(a² + b²) of numbers scaled by a power of two where a square would be infinite, or lose digits."""
    a, b = np.absolute(a), np.absolute(b)
    top = np.maximum(a, b)
    size = 8 if top.dtype.itemsize == 8 else 4
    (large, down, up), small = _LARGE[size], _SMALL[size]
    over, under = top > large, top < small

    def scaled(x: Any, down: float, up: float) -> Any:
        return np.where(over, x * down, np.where(under, x * up, x))

    a, b = scaled(a, down, up), scaled(b, down, up)
    return np.where((a == np.inf) | (b == np.inf), np.inf, scaled(np.sqrt(a * a + b * b), 1 / down, 1 / up))


def _half(x: Any) -> Any:
    """Mask of where eˣ or e⁻ˣ is near the end of the range, and x, halved there."""
    large = np.absolute(x) > (709.0 if x.dtype.itemsize == 8 else 88.0)
    return large, np.where(large, x * 0.5, x)


def _cosh_lower(x: Any) -> Any:
    large, half = _half(np.absolute(x))
    grown = np.exp(half)
    return np.where(large, (0.5 * grown) * grown, 0.5 * grown + 0.5 / grown)


def _sinh_lower(x: Any) -> Any:
    large, half = _half(x)
    up, down = np.expm1(half), np.expm1(-half)
    ends = (0.5 * (up + 1)) * (up + 1) - (0.5 * (down + 1)) * (down + 1)
    return np.where(large, ends, (up - down) * 0.5)


def _arctan2_vjp(g: Any, y: Any, a: Any, b: Any) -> tuple[Any, Any]:
    length = np.hypot(a, b)
    return g * (b / length / length), -g * (a / length / length)


def _reciprocal_lower(x: Any) -> Any:
    """Of integers rounded towards zero, and 0 for 0."""
    return np.where(np.absolute(x) == 1, x, 0) if x.dtype.kind in "iu" else 1 / x


def _towards_zero(a: Any, b: Any) -> Any:
    """a / b rounded towards zero."""
    return np.sign(a) * np.sign(b) * np.floor_divide(np.absolute(a), np.absolute(b))


def _logaddexp_lower(a: Any, b: Any) -> Any:
    """The case a = b apart, because inf − inf is NaN."""
    return np.where(a == b, a + _LOG_2, np.maximum(a, b) + np.log1p(np.exp(-np.abs(a - b))))


def _logaddexp2_lower(a: Any, b: Any) -> Any:
    return np.where(a == b, a + 1, np.maximum(a, b) + np.log1p(np.exp2(-np.abs(a - b))) / _LOG_2)


def _fmax_vjp(g: Any, y: Any, a: Any, b: Any) -> tuple[Any, Any]:
    first, half = (a > b) | (b != b), g * 0.5
    return np.where(a == b, half, np.where(first, g, 0)), np.where(a == b, half, np.where(first, 0, g))


def _fmin_vjp(g: Any, y: Any, a: Any, b: Any) -> tuple[Any, Any]:
    first, half = (a < b) | (b != b), g * 0.5
    return np.where(a == b, half, np.where(first, g, 0)), np.where(a == b, half, np.where(first, 0, g))


def _trunc_lower(x: Any) -> Any:
    return x if x.dtype.kind in "biu" else np.where(x < 0, -np.floor(-x), np.floor(x))


def _rint_lower(x: Any) -> Any:
    """The nearest whole number, of two as near the even one."""
    down = np.floor(x)
    even = np.where(down == 2 * np.floor(down * 0.5), down, down + 1)
    near = np.where(x - down < 0.5, down, np.where(x - down > 0.5, down + 1, even))
    return np.where(near == 0, x * 0, near)  # with the sign of x


def _cbrt_lower(x: Any) -> Any:
    """A power, and a step of Newton's for the last digits."""
    size = np.absolute(x)
    root = np.power(size, 1 / 3)
    better = root + (size / (root * root) - root) / 3
    return np.where((size == 0) | (size == np.inf), x, np.sign(x) * better)


_FAR = 1e8
"""From here on √(x² ± 1) is x in every dtype, and x² may be infinite; float16 has it as infinity."""


def _arcsinh_lower(x: Any) -> Any:
    size = np.absolute(x)
    square = size * size
    value = np.where(size >= _FAR, np.log(size) + _LOG_2, np.log1p(size + square / (1 + np.sqrt(square + 1))))
    return np.where(x == 0, x, np.where(x < 0, -value, value))


def _arccosh_lower(x: Any) -> Any:
    over = x - 1  # under the roots NaN where x < 1
    return np.where(x > _FAR, np.log(x) + _LOG_2, np.log1p(over + np.sqrt(over) * np.sqrt(over + 2)))


def _arctanh_lower(x: Any) -> Any:
    size = np.absolute(x)
    value = 0.5 * np.log1p(2 * size / (1 - size))
    return np.where(x == 0, x, np.where(x < 0, -value, value))


def _copysign_lower(a: Any, b: Any) -> Any:
    """1 / b tells the sign of a zero."""
    size = np.absolute(a)
    return np.where((b < 0) | (1 / b < 0), -size, size)


# Arithmetic.
add = _row("add", (np.add,), lambda g, y, a, b: (g, g))
subtract = _row("subtract", (np.subtract,), lambda g, y, a, b: (g, -g))
multiply = _row("multiply", (np.multiply,), lambda g, y, a, b: (g * b, g * a))
divide = _row("divide", (np.divide,), lambda g, y, a, b: (g / b, -g * (y / b)))
positive = _row("positive", (np.positive,), lambda g, y, a: (g,), lambda a: a)
negative = _row("negative", (np.negative,), lambda g, y, a: (-g,))
power = _row("power", (np.power, np.pow), _power_vjp, _power_lower)
reciprocal = _row("reciprocal", (np.reciprocal,), lambda g, y, x: (-g * (y * y),), _reciprocal_lower)
floor_divide = _row("floor_divide", (np.floor_divide,), None)
remainder = _row("remainder", (np.remainder,), lambda g, y, a, b: (g, -g * np.floor_divide(a, b)))
fmod = _row("fmod", (np.fmod,), lambda g, y, a, b: (g, -g * _towards_zero(a, b)))
hypot = _row("hypot", (np.hypot,), lambda g, y, a, b: (g * (a / y), g * (b / y)), _hypot_lower)
absolute = _row("absolute", (np.absolute,), lambda g, y, x: (g * np.sign(x),))
sign = _row("sign", (np.sign,), None)
floor = _row("floor", (np.floor,), None)
ceil = _row("ceil", (np.ceil,), None, lambda x: x if x.dtype.kind in "biu" else -np.floor(-x))
square = _row("square", (np.square,), lambda g, y, x: (g * (2 * x),), lambda x: x * x)
sqrt = _row("sqrt", (np.sqrt,), lambda g, y, x: (g * 0.5 / y,))
maximum = _row("maximum", (np.maximum,), _maximum_vjp)
minimum = _row("minimum", (np.minimum,), _minimum_vjp)
fmax = _row(
    "fmax", (np.fmax,), _fmax_vjp, lambda a, b: np.where(a != a, b, np.where(b != b, a, np.maximum(a, b)))
)
fmin = _row(
    "fmin", (np.fmin,), _fmin_vjp, lambda a, b: np.where(a != a, b, np.where(b != b, a, np.minimum(a, b)))
)
copysign = _row(
    "copysign",
    (np.copysign,),
    lambda g, y, a, b: (np.where(a < 0, -g, g) * np.copysign(1.0, b), None),
    _copysign_lower,
)
trunc = _row("trunc", (np.trunc,), None, _trunc_lower)
rint = _row("rint", (np.rint,), None, _rint_lower)
cbrt = _row("cbrt", (np.cbrt,), lambda g, y, x: (g / (3 * (y * y)),), _cbrt_lower)
heaviside = _row(
    "heaviside",
    (np.heaviside,),
    lambda g, y, x, h: (None, np.where(x == 0, g, 0)),
    lambda x, h: np.where(x == 0, h, np.where(x > 0, 1, np.where(x < 0, 0, x))),
)
detached = _row("detached", (), None, lambda x: x, lambda x: x)  # x, as a constant to derivatives
where = _row("where", (np.where,), lambda g, y, c, a, b: (None, np.where(c, g, 0), np.where(c, 0, g)))

# Exponentials and logarithms.
exp = _row("exp", (np.exp,), lambda g, y, x: (g * y,))
expm1 = _row("expm1", (np.expm1,), lambda g, y, x: (g * (y + 1),))
exp2 = _row("exp2", (np.exp2,), lambda g, y, x: (g * (y * _LOG_2),))
log = _row("log", (np.log,), lambda g, y, x: (g / x,))
log1p = _row("log1p", (np.log1p,), lambda g, y, x: (g / (1 + x),))
log2 = _row("log2", (np.log2,), lambda g, y, x: (g / (x * _LOG_2),))
log10 = _row("log10", (np.log10,), lambda g, y, x: (g / (x * _LOG_10),))
logaddexp = _row(
    "logaddexp",
    (np.logaddexp,),
    lambda g, y, a, b: (g * sigmoid(a - b), g * sigmoid(b - a)),
    _logaddexp_lower,
)
logaddexp2 = _row(
    "logaddexp2",
    (np.logaddexp2,),
    lambda g, y, a, b: (g * sigmoid((a - b) * _LOG_2), g * sigmoid((b - a) * _LOG_2)),
    _logaddexp2_lower,
)
sigmoid: Row = _row("sigmoid", (), lambda g, y, x: (g * (y * (1 - y)),), _sigmoid_evaluate, _sigmoid_evaluate)

# Trigonometric and hyperbolic functions.
sin = _row("sin", (np.sin,), lambda g, y, x: (g * np.cos(x),))
cos = _row("cos", (np.cos,), lambda g, y, x: (-g * np.sin(x),))
tan = _row("tan", (np.tan,), lambda g, y, x: (g * (1 + y * y),), lambda x: np.sin(x) / np.cos(x))
arctan = _row("arctan", (np.arctan,), lambda g, y, x: (g / (1 + x * x),))
arctan2 = _row("arctan2", (np.arctan2,), _arctan2_vjp)
arcsin = _row(
    "arcsin",
    (np.arcsin,),
    lambda g, y, x: (g / np.sqrt((1 - x) * (1 + x)),),
    lambda x: np.arctan2(x, np.sqrt((1 - x) * (1 + x))),
)
arccos = _row(
    "arccos",
    (np.arccos,),
    lambda g, y, x: (-g / np.sqrt((1 - x) * (1 + x)),),
    lambda x: np.arctan2(np.sqrt((1 - x) * (1 + x)), x),
)
deg2rad = _row("deg2rad", (np.deg2rad, np.radians), lambda g, y, x: (g * _DEGREE,), lambda x: x * _DEGREE)
rad2deg = _row(
    "rad2deg", (np.rad2deg, np.degrees), lambda g, y, x: (g / _DEGREE,), lambda x: x * (1 / _DEGREE)
)
tanh = _row("tanh", (np.tanh,), lambda g, y, x: (g * (1 - y * y),))
sinh = _row("sinh", (np.sinh,), lambda g, y, x: (g * np.cosh(x),), _sinh_lower)
cosh = _row("cosh", (np.cosh,), lambda g, y, x: (g * np.sinh(x),), _cosh_lower)
arcsinh = _row("arcsinh", (np.arcsinh,), lambda g, y, x: (g / np.hypot(x, 1),), _arcsinh_lower)
arccosh = _row(
    "arccosh", (np.arccosh,), lambda g, y, x: (g / (np.sqrt(x - 1) * np.sqrt(x + 1)),), _arccosh_lower
)
arctanh = _row("arctanh", (np.arctanh,), lambda g, y, x: (g / ((1 - x) * (1 + x)),), _arctanh_lower)
erf = _row("erf", (), lambda g, y, x: (g * (_TWO_OVER_SQRT_PI * np.exp(-x * x)),), None, _erf_evaluate)

# Comparisons and logic: no derivative.
equal = _row("equal", (np.equal,), None)
not_equal = _row("not_equal", (np.not_equal,), None)
less = _row("less", (np.less,), None)
less_equal = _row("less_equal", (np.less_equal,), None)
greater = _row("greater", (np.greater,), None)
greater_equal = _row("greater_equal", (np.greater_equal,), None)
logical_and = _row("logical_and", (np.logical_and,), None)
logical_or = _row("logical_or", (np.logical_or,), None)
logical_not = _row("logical_not", (np.logical_not,), None)
logical_xor = _row(
    "logical_xor", (np.logical_xor,), None, lambda a, b: np.not_equal(np.logical_not(a), np.logical_not(b))
)

# The bits of integers. Of bools they are logic.
bitwise_and = _row("bitwise_and", (np.bitwise_and,), None)
bitwise_or = _row("bitwise_or", (np.bitwise_or,), None)
bitwise_xor = _row("bitwise_xor", (np.bitwise_xor,), None)
bitwise_not = _row("bitwise_not", (np.bitwise_not,), None)
left_shift = _row("left_shift", (np.left_shift,), None)
right_shift = _row("right_shift", (np.right_shift,), None)


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
    with np.errstate(invalid="ignore"):  # NaN stays NaN, without a word
        return np.logaddexp(x, 0)


def clip(x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    """x limited to [a_min, a_max]; the gradient passes inside and on the bounds, NaN stays NaN."""
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    if low is not None and not _beyond(low, x, -1):
        x = np.where(x < low, low, x)
    if high is not None and not _beyond(high, x, 1):
        x = np.where(x > high, high, x)
    return x


def _beyond(bound: Any, x: Any, side: int) -> bool:
    """Whether a Python int is below (side −1) or above (1) all numbers of the dtype of integers x: it bounds
    nothing there.
    """
    dtype = getattr(x, "dtype", None)
    if type(bound) is not int or dtype is None or dtype.kind not in "iu":
        return False
    info = np.iinfo(dtype)
    return bound < info.min if side < 0 else bound > info.max


def float_power(x: Any, p: Any) -> Any:
    """xᵖ in float64."""
    base, exponent = (
        operand.astype(np.float64) if hasattr(operand, "dtype") else float(operand) for operand in (x, p)
    )
    return np.power(base, exponent)


def _times(a: Any, logarithm: Any, b: Any, lowest: int) -> Any:
    """a · log b, 0 where a = 0 and the logarithm is infinite or none; ∂a is log b at a = 0 too, NaN stays."""
    nothing = (a == 0) & ((b <= lowest) | (b == np.inf))
    return np.where(nothing, 0, a * logarithm(np.where(nothing, lowest + 1, b)))


COMPOSED: dict[Any, Callable[..., Any]] = {
    np.clip: clip,
    np.fabs: lambda x: np.absolute(as_float(x)),
    np.float_power: float_power,
    np.divmod: lambda a, b: (np.floor_divide(a, b), np.remainder(a, b)),
    np.isnan: lambda x: x != x,
    np.isinf: lambda x: np.abs(x) == np.inf,
    np.isfinite: lambda x: np.abs(x) < np.inf,
}
"""NumPy functions that are combinations of rows, as they act on Tensors and message symbols."""

SCIPY: dict[str, Callable[..., Any]] = {
    "expit": sigmoid,
    "log_expit": lambda x: -softplus(-x),
    "logit": lambda x: np.log(x) - np.log1p(-x),
    "softplus": softplus,
    "erf": erf,
    **{name: TABLE[name] for name in ("exp2", "expm1", "log1p", "cbrt")},
    "xlogy": lambda a, b: _times(a, np.log, b, 0),
    "xlog1py": lambda a, b: _times(a, np.log1p, b, -1),
}
"""Those of scipy.special by their names there, as they act on message symbols; SciPy is not imported for
them.
"""
