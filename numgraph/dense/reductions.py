"""Reductions over axes: sum, mean, max, min, prod, var, std, cumsum, logsumexp."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.dense.elementwise import where
from numgraph.errors import bad_type
from numgraph.tape import record, unwrap
from numgraph.tensor import rule


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The reduced axes as non-negative numbers; their range was checked when the value was computed."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple | list) else (axis,)))


def spread(g: Any, axis: Any, shape: tuple[int, ...]) -> Any:
    """Put axes of length 1 where ``axis`` of an array of ``shape`` was reduced away; for kept ones it changes nothing."""
    reduced = _axes(axis, len(shape))
    return np.reshape(g, tuple([1 if i in reduced else n for i, n in enumerate(shape)]))


def _count(axis: Any, shape: tuple[int, ...]) -> int:
    return math.prod([shape[a] for a in _axes(axis, len(shape))])


def _refuse(op: str, out: Any, options: dict[str, Any]) -> None:
    given = ["out"] if out is not None else [name for name in options if options[name] is not None]
    if given:
        raise bad_type(op, f"the option {given[0]}= is not possible where an argument is a Tensor", "axis and keepdims are")


@rule(np.sum)
def sum(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False, **options: Any) -> Any:
    _refuse("sum", out, options)
    y = np.sum(unwrap(x), axis=axis, dtype=dtype, keepdims=keepdims)
    return record("sum", (x,), y, lambda g, xs, y, needs: (np.broadcast_to(spread(g, axis, xs[0].shape), xs[0].shape),))


@rule(np.mean)
def mean(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False, **options: Any) -> Any:
    _refuse("mean", out, options)
    y = np.mean(unwrap(x), axis=axis, dtype=dtype, keepdims=keepdims)

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
        shape = xs[0].shape
        return (np.broadcast_to(spread(g, axis, shape) / max(_count(axis, shape), 1), shape),)

    return record("mean", (x,), y, vjp)


def _extremum(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def reduce(x: Any, axis: Any = None, out: Any = None, keepdims: bool = False, **options: Any) -> Any:
        """Ties share the gradient in equal parts."""
        _refuse(name, out, options)

        def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
            shape = xs[0].shape
            winners = unwrap(xs[0]) == unwrap(spread(y, axis, shape))
            ties = np.maximum(np.sum(winners, axis=_axes(axis, len(shape)), keepdims=True), 1).astype(g.dtype)
            return (where(winners, spread(g, axis, shape) / ties, 0),)

        return record(name, (x,), function(unwrap(x), axis=axis, keepdims=keepdims), vjp)

    return reduce


max_over = rule(np.max, np.amax)(_extremum("max", np.max))
min_over = rule(np.min, np.amin)(_extremum("min", np.min))


def _others(g: Any, x: Any) -> Any:
    """Gradient of the product over the first axis, g times the product of the other factors, by a tree of products: exact at zeros, for
    every order, where a division by x is not."""
    n = x.shape[0]
    if n == 1:
        return np.reshape(g, x.shape)
    half = n // 2
    left, right, odd = x[:half], x[half : 2 * half], x[2 * half :]
    d = _others(g, np.concatenate([left * right, odd]))
    return np.concatenate([d[:half] * right, d[:half] * left, d[half:]])


@rule(np.prod)
def prod(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False, **options: Any) -> Any:
    _refuse("prod", out, options)

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
        shape = xs[0].shape
        if 0 in shape:
            return (np.zeros_like(g, shape=shape),)
        reduced = _axes(axis, len(shape))
        order = (*reduced, *[i for i in range(len(shape)) if i not in reduced])
        front = np.transpose(xs[0], order)
        flat = np.reshape(front, (_count(axis, shape), *front.shape[len(reduced) :]))
        d = _others(np.reshape(g, flat.shape[1:]), flat)
        return (np.transpose(np.reshape(d, front.shape), sorted(range(len(order)), key=order.__getitem__)),)

    return record("prod", (x,), np.prod(unwrap(x), axis=axis, dtype=dtype, keepdims=keepdims), vjp)


@rule(np.var)
def var(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: int = 0, keepdims: bool = False, **options: Any) -> Any:
    _refuse("var", out, options)

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
        shape = xs[0].shape
        centred = xs[0] - np.mean(xs[0], axis=axis, keepdims=True)
        return (spread(g, axis, shape) * (2 / (_count(axis, shape) - ddof)) * centred,)

    return record("var", (x,), np.var(unwrap(x), axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims), vjp)


@rule(np.std)
def std(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: int = 0, keepdims: bool = False, **options: Any) -> Any:
    return np.sqrt(var(x, axis, dtype, out, ddof, keepdims, **options))


@rule(np.cumsum)
def cumsum(x: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Any:
    _refuse("cumsum", out, {})

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
        along = 0 if axis is None else axis
        return (np.reshape(np.flip(np.cumsum(np.flip(g, along), axis=along), along), xs[0].shape),)

    return record("cumsum", (x,), np.cumsum(unwrap(x), axis=axis, dtype=dtype), vjp)


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """A ufunc's ``reduce``: the same sum, with its own default axis."""

    def reduce(x: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False, **options: Any) -> Any:
        _refuse("reduce", out, {**options, "dtype": dtype})
        return function(x, axis=axis, keepdims=keepdims)

    return reduce


rule((np.add, "reduce"))(_method(sum))
rule((np.multiply, "reduce"))(_method(prod))
rule((np.maximum, "reduce"))(_method(max_over))
rule((np.minimum, "reduce"))(_method(min_over))


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """log Σ exp(x) over ``axis``, without overflow; −inf where every entry is −inf.

    x: array or Tensor of any shape; axis: int, tuple or None (all). Returns x's shape without ``axis`` (1 there with keepdims).
    """
    data = unwrap(x)
    top = np.max(data, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):
        y = np.log(np.sum(np.exp(data - top), axis=axis, keepdims=True)) + top
    y = y if keepdims else np.squeeze(y, axis=axis)
    return record("logsumexp", (x,), y, lambda g, xs, y, needs: (_logsumexp_vjp(g, xs[0], y, axis),))


def _logsumexp_vjp(g: Any, x: Any, y: Any, axis: Any) -> Any:
    y = spread(y, axis, x.shape)
    return spread(g, axis, x.shape) * np.exp(x - np.where(np.isfinite(unwrap(y)), y, 0))
