"""Reductions that pass NaN over: what they leave out has no gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph.autodiff.rules import rule
from numgraph.autodiff.tape import unwrap
from numgraph.dense.series import cumprod
from numgraph.errors import bad_type
from numgraph.expressions.expr import is_float
from numgraph.expressions.precision import floating, wide, widened


def _filled(a: Any, value: Any) -> Any:
    """Integers and bools are what they are."""
    return np.where(np.isnan(unwrap(a)), value, a) if is_float(unwrap(a).dtype) else a


def _as(op: str, a: Any, dtype: Any) -> Any:
    """In the dtype that it is computed in; NumPy takes floating-point ones."""
    if dtype is None or np.dtype(dtype) == a.dtype:
        return a
    if not is_float(np.dtype(dtype)):
        raise bad_type(op, f"dtype is {np.dtype(dtype)}", "name a floating-point one")
    return a.astype(dtype)


def _count(a: Any, axis: Any) -> Any:
    """How many are numbers, axes kept."""
    data = unwrap(a)
    return np.sum(~np.isnan(data), axis=axis, keepdims=True).astype(wide(data.dtype))


def _shaped(y: Any, axis: Any, keepdims: bool) -> Any:
    """Without the axes of length 1 that were reduced, unless they are kept."""
    return y if keepdims is True else np.reshape(y, np.squeeze(unwrap(y), axis).shape)


@rule(np.nansum)
def nansum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
    return np.sum(_filled(a, 0), axis=axis, dtype=dtype, keepdims=keepdims is True)


@rule(np.nanprod)
def nanprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
    return np.prod(_filled(a, 1), axis=axis, dtype=dtype, keepdims=keepdims is True)


@rule(np.nancumsum)
def nancumsum(a: Any, axis: int | None = None, dtype: Any = None) -> Any:
    return np.cumsum(_filled(a, 0), axis=axis, dtype=dtype)


@rule(np.nancumprod)
def nancumprod(a: Any, axis: int | None = None, dtype: Any = None) -> Any:
    return cumprod(_filled(a, 1), axis, dtype)


@rule(np.nanmean)
def nanmean(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
    """NaN where nothing is left."""
    a = _as("nanmean", floating(a), dtype)
    with np.errstate(invalid="ignore", divide="ignore"):
        y = np.sum(_filled(a, 0), axis=axis, keepdims=True) / _count(a, axis)
    return _shaped(y, axis, keepdims).astype(unwrap(a).dtype)


def _extremum(name: str, function: Any, end: float) -> None:
    def reduce(a: Any, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        if not is_float(a.dtype):
            return function(a, axis=axis, keepdims=keepdims is True)
        y = function(_filled(a, end), axis=axis, keepdims=True)
        return _shaped(np.where(_count(a, axis) == 0, np.nan, y), axis, keepdims)

    rule(getattr(np, name))(reduce)


_extremum("nanmax", np.max, -np.inf)
_extremum("nanmin", np.min, np.inf)


@rule(np.nanvar)
def nanvar(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: bool = False
) -> Any:
    a = _as("nanvar", a, dtype)
    return _rounded(_shaped(_variance(a, axis, ddof), axis, keepdims), a)


def _variance(a: Any, axis: Any, ddof: float) -> Any:
    a = widened(a)
    count = _count(a, axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.sum(_filled(a, 0), axis=axis, keepdims=True) / count
        centred = np.where(np.isnan(unwrap(a)), 0, a - mean)
        return np.sum(centred * centred, axis=axis, keepdims=True) / np.where(
            count > ddof, count - ddof, np.nan
        )


@rule(np.nanstd)
def nanstd(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: bool = False
) -> Any:
    """Of equal numbers the derivative is 0, as std's."""
    a = _as("nanstd", a, dtype)
    variance = _variance(a, axis, ddof)
    equal = unwrap(variance) == 0
    return _rounded(_shaped(np.where(equal, 0, np.sqrt(np.where(equal, 1, variance))), axis, keepdims), a)


def _rounded(y: Any, a: Any) -> Any:
    """What was computed of a in its dtype, if that is floating."""
    return y.astype(a.dtype) if is_float(a.dtype) else y
