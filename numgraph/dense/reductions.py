"""Reductions over axes: sum, mean, max, min, prod, var, std, cumsum, logsumexp."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.arrays.inputs import given
from numgraph.autodiff.rules import rule
from numgraph.autodiff.sums import accumulated, broadcast, rounded, total
from numgraph.autodiff.tape import record, unwrap
from numgraph.autodiff.typed import of_array
from numgraph.dense.elementwise import where
from numgraph.errors import bad_type, bad_value, shown
from numgraph.expressions import features
from numgraph.expressions.expr import Expr
from numgraph.expressions.precision import floating, is_half, narrowed, wide, widened


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The reduced axes as non-negative numbers; their range was checked when the value was computed."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple | list) else (axis,)))


def spread(g: Any, axis: Any, shape: tuple[int, ...]) -> Any:
    """Put axes of length 1 where ``axis`` of an array of ``shape`` was reduced away; for kept ones it changes
    nothing.
    """
    if axis is None:
        return g.reshape((1,) * len(shape))
    reduced = _axes(axis, len(shape))
    return g.reshape(tuple([1 if i in reduced else n for i, n in enumerate(shape)]))


def _count(axis: Any, shape: tuple[int, ...]) -> int:
    return math.prod([shape[a] for a in _axes(axis, len(shape))])


def _refuse(op: str, out: Any, options: dict[str, Any]) -> None:
    given = ["out"] if out is not None else [name for name in options if options[name] is not None]
    if given:
        raise bad_type(
            op,
            f"the option {given[0]}= is not possible where an argument is a Tensor",
            "axis and keepdims are",
        )


@rule(np.sum)
def sum(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False, **options: Any
) -> Any:
    _refuse("sum", out, options)
    data = unwrap(x) if dtype is None else unwrap(x).astype(dtype)
    y = total(data, axis, keepdims)
    return record(
        "sum", (x,), y, lambda g, xs, y, needs: (broadcast(spread(g, axis, xs[0].shape), xs[0].shape),)
    )


@rule(np.mean)
def mean(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False, **options: Any
) -> Any:
    _refuse("mean", out, options)
    data = floating(unwrap(x)) if dtype is None else unwrap(x).astype(dtype)
    count = _count(axis, data.shape)
    y = rounded(accumulated(data, axis) / (count or np.nan), data.dtype, axis, keepdims)

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
        shape = xs[0].shape
        each = widened(spread(g, axis, shape)) / max(_count(axis, shape), 1)  # a count may be beyond float16
        return (broadcast(narrowed(each, g.dtype), shape),)

    return record("mean", (x,), y, vjp)


def _extremum(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def reduce(x: Any, axis: Any = None, out: Any = None, keepdims: bool = False, **options: Any) -> Any:
        """Ties share the gradient in equal parts."""
        _refuse(name, out, options)

        def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
            shape = xs[0].shape
            data, best = unwrap(xs[0]), unwrap(spread(y, axis, shape))
            winners = data == best
            if type(best) is not np.ndarray or (best != best).any():
                winners = winners | ((data != data) & (best != best))  # NaN wins
            ties = np.maximum(np.sum(winners, axis=_axes(axis, len(shape)), keepdims=True), 1).astype(
                wide(g.dtype)
            )
            return (where(winners, narrowed(widened(spread(g, axis, shape)) / ties, g.dtype), 0),)

        return record(name, (x,), function(unwrap(x), axis=axis, keepdims=keepdims), vjp)

    return reduce


max_over = rule(np.max, np.amax)(_extremum("max", np.max))
min_over = rule(np.min, np.amin)(_extremum("min", np.min))


def _others(g: Any, x: Any) -> Any:
    """Gradient of the product over the first axis, g times the product of the other factors, by a tree of
    products: exact at zeros, for every order, where a division by x is not."""
    n = x.shape[0]
    if n == 1:
        return np.reshape(g, x.shape)
    half = n // 2
    left, right, odd = x[:half], x[half : 2 * half], x[2 * half :]
    d = _others(g, np.concatenate([left * right, odd]))
    return np.concatenate([d[:half] * right, d[:half] * left, d[half:]])


@rule(np.prod)
def prod(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False, **options: Any
) -> Any:
    _refuse("prod", out, options)

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
        shape = xs[0].shape
        if 0 in shape:
            return (np.zeros_like(g, shape=shape),)
        reduced = _axes(axis, len(shape))
        order = (*reduced, *[i for i in range(len(shape)) if i not in reduced])
        g, front = widened(g), np.transpose(widened(xs[0]), order)
        flat = np.reshape(front, (_count(axis, shape), *front.shape[len(reduced) :]))
        d = _others(np.reshape(g, flat.shape[1:]), flat)
        return (np.transpose(np.reshape(d, front.shape), sorted(range(len(order)), key=order.__getitem__)),)

    data = unwrap(x) if dtype is None else unwrap(x).astype(dtype)
    return record("prod", (x,), _in_wide(np.prod, data, axis=axis, keepdims=keepdims), vjp)


def _in_wide(function: Callable[..., Any], x: Any, **options: Any) -> Any:
    """function(x), of float16 and bfloat16 in float32 with one rounding at the end."""
    if not is_half(x.dtype):
        return function(x, **options)
    with np.errstate(over="ignore"):
        return function(widened(x), **options).astype(x.dtype)


def _variance(x: Any, axis: Any, ddof: float) -> Any:
    """Σ (x − mean)² / (n − ddof), axes kept and not yet rounded; NaN or infinite without degrees of freedom.
    The mean that is subtracted is rounded to x's dtype; what is left of it is taken off the sum."""
    n = _count(axis, x.shape)
    x = widened(x)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mean = accumulated(x, axis) / n
        near = mean.astype(x.dtype)
        centred = x - near
        left = mean - near if mean.dtype == np.float64 else accumulated(centred, axis) / n
        squares = accumulated(centred * centred, axis) - n * np.square(left)
        return np.maximum(squares, 0) / np.float64(max(n - ddof, 0))


def _in_dtype(op: str, x: Any, dtype: Any) -> Any:
    """In the dtype that a variance is computed in."""
    if dtype is None:
        return floating(x)
    if np.dtype(dtype).kind in "biu":
        raise bad_type(
            op,
            f"dtype is {np.dtype(dtype)}, and squares of differences are no integers",
            "name a floating-point one",
        )
    return x.astype(dtype)


def _centred(x: Any, axis: Any) -> Any:
    """x − mean: a rounded mean is subtracted first, so that the rest is exact where the mean is far larger
    than the differences.
    """
    near = x - mean(unwrap(x), axis=axis, keepdims=True)
    return near - mean(near, axis=axis, keepdims=True)


@rule(np.var)
def var(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: float = 0,
    keepdims: bool = False,
    **options: Any,
) -> Any:
    _refuse("var", out, options)
    data = _in_dtype("var", unwrap(x), dtype)

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
        shape = xs[0].shape
        factor = 2 / np.float64(max(_count(axis, shape) - ddof, 0))
        return (widened(spread(g, axis, shape)) * float(factor) * _centred(widened(xs[0]), axis),)

    return record("var", (x,), rounded(_variance(data, axis, ddof), data.dtype, axis, keepdims), vjp)


@rule(np.std)
def std(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: float = 0,
    keepdims: bool = False,
    **options: Any,
) -> Any:
    """Of equal numbers the derivative is 0, where the square root has none."""
    _refuse("std", out, options)
    data = _in_dtype("std", unwrap(x), dtype)

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
        shape = xs[0].shape
        y = std(widened(xs[0]), axis, ddof=ddof, keepdims=True)
        equal = unwrap(y) == 0
        factor = 1 / np.float64(max(_count(axis, shape) - ddof, 0))
        scaled = where(equal, 0, widened(spread(g, axis, shape)) / where(equal, 1, y))
        return (scaled * float(factor) * _centred(widened(xs[0]), axis),)

    return record("std", (x,), rounded(np.sqrt(_variance(data, axis, ddof)), data.dtype, axis, keepdims), vjp)


@rule(np.cumsum)
def cumsum(x: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Any:
    _refuse("cumsum", out, {})

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
        along = 0 if axis is None else axis
        return (np.reshape(np.flip(cumsum(np.flip(g, along), axis=along), along), xs[0].shape),)

    data = unwrap(x) if dtype is None else unwrap(x).astype(dtype)
    many = type(data) is np.ndarray and data.dtype == np.float32  # each number is the sum of all before it
    y = (
        np.cumsum(data, axis=axis, dtype=np.float64).astype(np.float32)
        if many
        else _in_wide(np.cumsum, data, axis=axis)
    )
    return record("cumsum", (x,), y, vjp)


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """A ufunc's ``reduce``: the same sum, with its own default axis."""

    def reduce(
        x: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False, **options: Any
    ) -> Any:
        _refuse("reduce", out, {**options, "dtype": dtype})
        return function(x, axis=axis, keepdims=keepdims)

    return reduce


rule((np.add, "reduce"))(_method(sum))
rule((np.multiply, "reduce"))(_method(prod))
rule((np.maximum, "reduce"))(_method(max_over))
rule((np.minimum, "reduce"))(_method(min_over))


def _check_axis(op: str, axis: Any, ndim: int) -> None:
    axes = axis if isinstance(axis, tuple) else () if axis is None else (axis,)
    for one in axes:
        if not isinstance(one, int | np.integer) or isinstance(one, bool) or not -ndim <= one < ndim:
            fix = (
                f"an axis is a whole number from {-ndim} to {ndim - 1}, or a tuple of some"
                if ndim
                else "it has no axes; leave it out"
            )
            raise bad_value(op, f"axis is {shown(axis)} and x has {ndim} axes", fix)
    if len({int(one) % ndim for one in axes}) < len(axes):
        raise bad_value(op, f"axis is {shown(axis)}", "name each axis once")


@of_array
def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """log Σ exp(x) over ``axis``, without overflow; −inf where every entry is −inf.

    Parameters
    ----------
    x : array, Tensor or a message's symbol, of any shape
    axis : int, tuple or None (all)
    keepdims : the axes stay, with length 1

    Returns
    -------
    x's shape without ``axis``

    Notes
    -----
    The derivative is the softmax: 0 where the sum is −inf, and in equal parts for the entries that are inf
    where there are some.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> float(ng.logsumexp(np.array([800.0, 800.0])).round(3))
    800.693
    """
    if isinstance(x, Expr):
        return features.logsumexp(x, axis, keepdims)
    x = given("logsumexp", "x", x)
    _check_axis("logsumexp", axis, x.ndim)
    data = widened(unwrap(x))
    with np.errstate(divide="ignore", invalid="ignore"):
        top = (np.max if data.size else np.sum)(data, axis=axis, keepdims=True)
        top = np.where(np.isfinite(top), top, 0)
        y = (np.log(accumulated(np.exp(data - top), axis)) + top).astype(data.dtype)
    dtype = floating(unwrap(x)).dtype
    y = rounded(y, dtype, axis, keepdims)
    return record("logsumexp", (x,), y, lambda g, xs, y, needs: (_logsumexp_vjp(g, xs[0], y, axis),))


def _logsumexp_vjp(g: Any, x: Any, y: Any, axis: Any) -> Any:
    x = widened(x)
    y = logsumexp(x, axis, keepdims=True) if is_half(y.dtype) else spread(y, axis, x.shape)
    weights = np.exp(where(~np.isinf(unwrap(y)), x - y, -np.inf))
    infinite = (unwrap(x) == np.inf) & (unwrap(y) == np.inf)
    if infinite.any():
        ties = np.maximum(np.sum(infinite, axis=_axes(axis, x.ndim), keepdims=True), 1)
        weights = where(infinite, (1 / ties).astype(x.dtype), weights)
    return widened(spread(g, axis, x.shape)) * weights
