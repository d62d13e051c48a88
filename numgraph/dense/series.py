"""Rules along an axis: running products, differences, integrals, interpolation, convolution, ranges between
Tensors, polynomials.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from numgraph.autodiff.rules import rule
from numgraph.autodiff.tape import record, unwrap
from numgraph.dense.reductions import cumsum
from numgraph.errors import bad_type, bad_value
from numgraph.expressions.precision import floating, widened


def _cut(x: Any, axis: int, *limits: int | None) -> Any:
    """x[start:stop] along an axis."""
    return x[(*(slice(None),) * normalize_axis_index(axis, x.ndim), slice(*limits))]


@rule(np.cumprod)
def cumprod(a: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Any:
    if out is not None:
        raise bad_type(
            "cumprod", "out= is not possible where an argument is a Tensor", "use the returned value"
        )
    if axis is None:
        a, axis = np.ravel(a), 0
    data = unwrap(a) if dtype is None else unwrap(a).astype(dtype)
    y = (
        np.cumprod(widened(data), axis=axis).astype(data.dtype, copy=False)
        if data.dtype.kind not in "biu"
        else np.cumprod(data, axis=axis)
    )
    return record("cumprod", (a,), y, lambda g, xs, y, needs: (_cumprod_vjp(g, xs[0], axis),))


def _cumprod_vjp(g: Any, x: Any, axis: int) -> Any:
    """What comes before times Σ_{k≥j} g_k · (product from j + 1 to k): exact at zeros, where y / x is not.

    The sums follow r_j = g_j + x_{j+1} r_{j+1}, a recurrence that doubling its steps solves in log n
    passes."""
    n = x.shape[axis]
    if n < 2:
        return g
    sums, factors = (
        g,
        np.concatenate([_cut(x, axis, 1, None), np.zeros_like(_cut(unwrap(x), axis, 0, 1))], axis),
    )
    step = 1
    while step < n:
        rest = np.zeros_like(_cut(unwrap(x), axis, 0, step))
        sums = sums + factors * np.concatenate([_cut(sums, axis, step, None), rest], axis)
        factors = factors * np.concatenate([_cut(factors, axis, step, None), rest], axis)
        step *= 2
    ones = np.ones_like(_cut(unwrap(x), axis, 0, 1))
    return sums * np.concatenate([ones, cumprod(_cut(x, axis, 0, -1), axis)], axis)


def _with_initial(x: Any, axis: int | None, running: Any, start: float, include: bool, dtype: Any) -> Any:
    if axis is None and x.ndim != 1:
        raise bad_value("cumulative_sum", f"x has {x.ndim} axes and axis is None", "name the axis")
    along = 0 if axis is None else axis
    y = running(x, axis=along, dtype=dtype)
    return (
        np.concatenate([np.full_like(_cut(unwrap(y), along, 0, 1), start, shape=_first(y, along)), y], along)
        if include
        else y
    )


def _first(y: Any, axis: int) -> tuple[int, ...]:
    along = normalize_axis_index(axis, y.ndim)
    return tuple([1 if i == along else n for i, n in enumerate(y.shape)])


@rule(np.cumulative_sum)
def cumulative_sum(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Any:
    return _with_initial(x, axis, cumsum, 0, include_initial, dtype)


@rule(np.cumulative_prod)
def cumulative_prod(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Any:
    return _with_initial(x, axis, cumprod, 1, include_initial, dtype)


# --- differences and integrals ------------------------------------------------------------------------------


@rule(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    if n < 0:
        raise bad_value("diff", f"n is {n}", "it counts the differences, from 0")
    ends = []
    for end in (prepend, append):
        if end is not None and type(end) is not type(np._NoValue):
            end = np.broadcast_to(end, _first(a, axis)) if np.ndim(end) == 0 else end
            ends.append([end])
        else:
            ends.append([])
    a = np.concatenate([*ends[0], a, *ends[1]], axis) if ends[0] or ends[1] else a
    for _ in range(n):
        a = _cut(a, axis, 1, None) - _cut(a, axis, None, -1)
    return a


@rule(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    dtype = unwrap(ary).dtype
    ends = [
        None if end is None else np.ravel(end if hasattr(end, "dtype") else np.asarray(end, dtype))
        for end in (to_begin, to_end)
    ]
    return np.concatenate([part for part in (ends[0], diff(np.ravel(ary)), ends[1]) if part is not None])


@rule(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    widths = dx
    if x is not None:
        widths = np.diff(x, axis=axis if np.ndim(x) > 1 else -1)
        if np.ndim(x) == 1:
            widths = np.reshape(widths, [-1 if i == axis % np.ndim(y) else 1 for i in range(np.ndim(y))])
    return np.sum(widths * (_cut(y, axis, 1, None) + _cut(y, axis, None, -1)) / 2, axis=axis)


@rule(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    axes = tuple(range(f.ndim)) if axis is None else normalize_axis_tuple(axis, f.ndim)
    steps = varargs * len(axes) if len(varargs) == 1 else varargs or (1.0,) * len(axes)
    if len(steps) != len(axes) or edge_order not in (1, 2):
        problem = f"{len(varargs)} spacings for {len(axes)} axes, edge_order {edge_order}"
        raise bad_value(
            "gradient", problem, "give one spacing for all axes, or one for each; edge_order is 1 or 2"
        )
    f = floating(f)
    found = tuple([_slope(f, step, a, edge_order).astype(f.dtype) for step, a in zip(steps, axes)])
    return found[0] if len(found) == 1 else found


def _slope(f: Any, step: Any, axis: int, order: int) -> Any:
    n = f.shape[axis]
    if n <= order:
        raise bad_value(
            "gradient", f"axis {axis} has {n} values", f"edge_order={order} needs {order + 1} at least"
        )
    if np.ndim(step):
        step = np.diff(step)
        same = bool((unwrap(step) == unwrap(step)[0]).all())
        step = step[0] if same else np.reshape(step, [-1 if i == axis else 1 for i in range(f.ndim)])
    if np.ndim(step):  # distances that differ
        one, two = _cut(step, axis, None, -1), _cut(step, axis, 1, None)
        before, here, after = -two / (one * (one + two)), (two - one) / (one * two), one / (two * (one + two))
        inner = (
            before * _cut(f, axis, None, -2) + here * _cut(f, axis, 1, -1) + after * _cut(f, axis, 2, None)
        )
        first, last = _cut(step, axis, 0, 1), _cut(step, axis, n - 2, None)
    else:
        inner = (_cut(f, axis, 2, None) - _cut(f, axis, None, -2)) / (2 * step)
        first = last = step
    ends = [
        (_cut(f, axis, 1, 2) - _cut(f, axis, 0, 1)) / first,
        (_cut(f, axis, n - 1, None) - _cut(f, axis, n - 2, n - 1)) / last,
    ]
    if order == 2:
        second = _cut(step, axis, 1, 2) if np.ndim(step) else step
        third = _cut(step, axis, n - 3, n - 2) if np.ndim(step) else step
        ends = [_parabola([_cut(f, axis, i, i + 1) for i in (0, 1, 2)], first, second)]
        ends.append(-_parabola([_cut(f, axis, i, i + 1) for i in (n - 1, n - 2, n - 3)], last, third))
    return np.concatenate([ends[0], inner, ends[1]], axis)


def _parabola(f: list[Any], one: Any, two: Any) -> Any:
    """The slope at the first of three values, at distances one and two."""
    slope = -(2 * one + two) / (one * (one + two)) * f[0]
    return slope + (one + two) / (one * two) * f[1] - one / (two * (one + two)) * f[2]


@rule(np.interp)
def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """Differentiable in x, in the points xp and in the values fp; at a point, the slope of the piece that
    begins there.
    """
    if period is not None:
        raise bad_type(
            "interp",
            "period= is not possible where an argument is a Tensor",
            "wrap x and repeat the points beforehand",
        )
    x, xp, fp = (
        value.astype(np.float64) if hasattr(value, "astype") else np.asarray(value, np.float64)
        for value in (x, xp, fp)
    )
    points, at = unwrap(xp), unwrap(x)
    if len(points) > 1:
        piece = np.clip(np.searchsorted(points, at, "right") - 1, 0, len(points) - 2)
        low, base = xp[piece], fp[piece]
        y = base + (fp[piece + 1] - base) / (xp[piece + 1] - low) * (x - low)
    else:
        y = np.broadcast_to(fp[0], np.shape(x))
    y = np.where(at < points[0], fp[0] if left is None else left, y)
    y = np.where(at > points[-1], fp[-1] if right is None else right, y)
    return np.where(np.isnan(at), np.nan, y)


# --- convolution --------------------------------------------------------------------------------------------


def _full(a: Any, v: Any) -> Any:
    """y_k = Σ a_i v_{k−i}, every k with a term."""

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any, Any]:
        one, two = xs
        return _valid(g, two) if needs[0] else None, _valid(g, one) if needs[1] else None

    return record("convolve", (a, v), np.convolve(unwrap(a), unwrap(v)), vjp)


def _valid(g: Any, v: Any) -> Any:
    """y_k = Σ g_{k+i} v_i, every k for which all terms are there."""

    def vjp(back: Any, xs: Any, y: Any, needs: Any) -> tuple[Any, Any]:
        one, two = xs
        return _full(back, two) if needs[0] else None, _valid(one, back) if needs[1] else None

    return record("correlate", (g, v), np.correlate(unwrap(g), unwrap(v), "valid"), vjp)


def _middle(y: Any, long: int, short: int, mode: Any) -> Any:
    if mode in ("full", 2):
        return y
    if mode in ("same", 1):
        start = short - 1 - short // 2
        return y[start : start + long]
    if mode in ("valid", 0):
        return y[short - 1 : long]
    raise bad_value("convolve", f"mode is {mode!r}", "it is 'full', 'same' or 'valid'")


@rule(np.convolve)
def convolve(a: Any, v: Any, mode: Any = "full") -> Any:
    a, v = (np.reshape(x, (1,)) if np.ndim(x) == 0 else x for x in (a, v))
    return _middle(_full(a, v), max(len(a), len(v)), min(len(a), len(v)), mode)


@rule(np.correlate)
def correlate(a: Any, v: Any, mode: Any = "valid") -> Any:
    a, v = (np.reshape(x, (1,)) if np.ndim(x) == 0 else x for x in (a, v))
    if len(a) < len(v):
        return np.flip(correlate(v, a, mode))
    return _middle(_full(a, np.flip(v)), len(a), len(v), mode)


# --- ranges and polynomials ---------------------------------------------------------------------------------


@rule(np.linspace)
def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    **options: Any,
) -> Any:
    if dtype is not None or any(value is not None for value in options.values()):
        raise bad_type(
            "linspace",
            "dtype= and device= are not possible where an argument is a Tensor",
            "use .astype on the result",
        )
    parts = num - 1 if endpoint else num
    step = (stop - start) / parts if parts else np.full(np.shape(stop - start), np.nan)
    kind = np.result_type(*[unwrap(x) if hasattr(x, "dtype") else float(x) for x in (start, stop)], 0.0)
    t = np.arange(num).reshape((-1,) + (1,) * np.ndim(step)).astype(kind)
    y = start + t * step if parts else start + 0 * stop + 0 * t
    if endpoint and num > 1:  # the end itself, not what rounding makes of it
        y = np.concatenate(
            [y[:-1], np.reshape(np.broadcast_to(stop, np.shape(step)), (1, *np.shape(step))).astype(y.dtype)]
        )
    y = np.moveaxis(y, 0, axis) if axis else y
    return (y, step) if retstep else y


@rule(np.logspace)
def logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    return np.power(base, linspace(start, stop, num, endpoint, False, dtype, axis))


@rule(np.geomspace)
def geomspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Any:
    start, stop = (x.astype(np.float64) if hasattr(x, "astype") else float(x) for x in (start, stop))
    sign = np.sign(unwrap(start))
    if (sign * np.sign(unwrap(stop)) <= 0).any():
        raise bad_value(
            "geomspace", "start and stop have different signs, or one is 0", "give two numbers of one sign"
        )
    return sign * np.exp(
        linspace(np.log(start * sign), np.log(stop * sign), num, endpoint, False, dtype, axis)
    )


@rule(np.vander)
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    count = len(x) if N is None else N
    x = x.astype(np.promote_types(x.dtype, int))
    powers = [np.ones_like(unwrap(x)) if k == 0 else x**k for k in range(count)]
    return np.stack(powers if increasing else powers[::-1], axis=1)


@rule(np.polyval)
def polyval(p: Any, x: Any) -> Any:
    y: Any = np.zeros_like(unwrap(x))
    for k in range(len(p)):
        y = y * x + p[k]
    return y
