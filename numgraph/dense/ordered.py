"""Rules that go by the order of values: sort, quantiles, unique. Each picks elements, so its derivative goes
to what was picked.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from numgraph.autodiff.rules import rule
from numgraph.autodiff.tape import unwrap
from numgraph.errors import bad_type, bad_value
from numgraph.expressions.expr import is_float
from numgraph.expressions.precision import floating


@rule(np.sort)
def sort(
    a: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: bool | None = None
) -> Any:
    if order is not None:
        raise bad_type("sort", "order= is not possible where an argument is a Tensor", "leave it out")
    if axis is None:
        a, axis = np.ravel(a), 0
    options = {"kind": kind} if stable is None else {"stable": stable}
    return np.take_along_axis(a, np.argsort(unwrap(a), axis=axis, **options), axis=axis)


@rule(np.median)
def median(
    a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False
) -> Any:
    """The mean of the two in the middle, or the one there; NaN if there is one (it sorts to the end)."""
    if out is not None or isinstance(axis, tuple | list):
        raise bad_type(
            "median",
            "out= and several axes are not possible where an argument is a Tensor",
            "axis is one of them, or None for all",
        )
    y = sort(a, axis)
    along = 0 if axis is None else axis % a.ndim
    count, whole = y.shape[along], (slice(None),) * along
    if not count:
        return np.median(unwrap(a), axis=axis, keepdims=keepdims)  # NaN, and NumPy's warning
    middle = np.mean(y[(*whole, slice((count - 1) // 2, count // 2 + 1))], axis=along, keepdims=keepdims)
    middle = np.reshape(middle, (1,) * a.ndim) if keepdims and axis is None else middle
    last = unwrap(y)[(*whole, slice(count - 1, None))]
    return middle + np.reshape(np.where(np.isnan(last), np.nan, 0).astype(last.dtype), middle.shape)


@rule(np.ptp)
def ptp(a: Any, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
    if out is not None:
        raise bad_type("ptp", "out= is not possible where an argument is a Tensor", "use the returned value")
    return np.max(a, axis=axis, keepdims=keepdims) - np.min(a, axis=axis, keepdims=keepdims)


@rule(np.partition)
def partition(a: Any, kth: Any, axis: int | None = -1, kind: Any = "introselect", order: Any = None) -> Any:
    if axis is None:
        a, axis = np.ravel(a), 0
    return np.take_along_axis(a, np.argpartition(unwrap(a), kth, axis, kind, order), axis=axis)


_METHODS: dict[str, Any] = {
    "linear": np.asarray,
    "lower": np.floor,
    "higher": np.ceil,
    "nearest": np.rint,
    "midpoint": np.asarray,
}
"""What becomes of the position of a quantile."""


def quantiles(
    name: str,
    a: Any,
    q: Any,
    scale: float,
    axis: Any,
    method: str,
    keepdims: bool,
    skip: bool,
    **options: Any,
) -> Any:
    """The quantiles q / scale of what is sorted along axes, between the two values at position q (n − 1).

    skip: of the numbers that are not NaN; else one NaN is enough for NaN. The axes of q come first."""
    if method not in _METHODS or any(value is not None for value in options.values()):
        problem = f"method={method!r} with {sorted(options)}"
        raise bad_type(
            name,
            problem,
            f"where an argument is a Tensor, methods are {', '.join(_METHODS)}, without weights",
        )
    a = floating(a) if method in ("linear", "midpoint") else a
    dtype = (
        unwrap(a).dtype
        if isinstance(q, int | float)
        else np.result_type(unwrap(a), np.asarray(unwrap(q)), 0.0)
    )
    q, ndim, shape = np.asarray(unwrap(q), np.float64) / scale, a.ndim, a.shape
    if not ((q >= 0) & (q <= 1)).all():
        raise bad_value(name, f"q is {q * scale}", f"it is from 0 to {scale:g}")
    axes = tuple(range(ndim)) if axis is None else normalize_axis_tuple(axis, ndim)
    rest = [i for i in range(ndim) if i not in axes]
    kept = [1 if i in axes else shape[i] for i in range(ndim)] if keepdims else [shape[i] for i in rest]
    length = math.prod([shape[i] for i in axes])
    if not length:
        return np.full((*q.shape, *kept), np.nan, dtype)
    rows = sort(
        np.reshape(np.transpose(a, [*rest, *axes]), (*[shape[i] for i in rest], length))
    )  # NaN comes last
    data = unwrap(rows)
    count = np.sum(~np.isnan(data), axis=-1) if skip else np.full(data.shape[:-1], data.shape[-1])
    at = np.moveaxis(
        _METHODS[method](q.reshape((-1,) + (1,) * count.ndim) * np.maximum(count - 1, 0)), 0, -1
    )  # [rows, quantiles]
    low, high = np.floor(at).astype(np.intp), np.ceil(at).astype(np.intp)
    y = below = np.take_along_axis(rows, low, axis=-1)
    if method in ("linear", "midpoint"):
        part = (np.where(low == high, 0, 0.5) if method == "midpoint" else at - low).astype(dtype)
        above = np.take_along_axis(rows, high, axis=-1)
        y = np.where(part < 0.5, below + (above - below) * part, above - (above - below) * (1 - part))
    void = (count == 0) if skip else np.isnan(data[..., -1])
    y = np.moveaxis(np.where(void[..., None], np.nan, y) if is_float(data.dtype) else y, -1, 0)
    return np.reshape(y, (*q.shape, *kept))


def _quantile_rule(name: str, scale: float, skip: bool) -> None:
    def rule_of_axis(
        a: Any,
        q: Any,
        axis: Any = None,
        out: Any = None,
        overwrite_input: bool = False,
        method: str = "linear",
        keepdims: bool = False,
        **o: Any,
    ) -> Any:
        return quantiles(name, a, q, scale, axis, method, keepdims is True, skip, out=out, **o)

    rule(getattr(np, name))(rule_of_axis)


for _name in ("quantile", "percentile", "nanquantile", "nanpercentile"):
    _quantile_rule(_name, 100.0 if "percentile" in _name else 1.0, _name.startswith("nan"))


@rule(np.nanmedian)
def nanmedian(
    a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False
) -> Any:
    return quantiles("nanmedian", a, 0.5, 1.0, axis, "linear", keepdims is True, skip=True, out=out)


@rule(np.unique)
def unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    **options: Any,
) -> Any:
    """Of equal values the first takes the gradient."""
    asked = {"return_inverse": return_inverse, "return_counts": return_counts, "axis": axis, **options}
    _, index, *others = np.unique(unwrap(ar), return_index=True, **asked)
    y = np.take(ar, index, axis=axis)
    found = (y, *([index] if return_index else []), *others)
    return found if len(found) > 1 else y


@rule(np.unique_values)
def unique_values(x: Any, /) -> Any:
    return np.take(x, _firsts(x))


def _firsts(x: Any) -> Any:
    """Where the values that np.unique_values gives are first, in its order."""
    data = np.ravel(unwrap(x))
    return [
        int(np.argmax((data == value) | ((data != data) & (value != value))))
        for value in np.unique_values(data)
    ]


def _unique_result(function: Any) -> Any:
    def call(x: Any, /) -> Any:
        result = function(unwrap(x))
        _, index = np.unique(unwrap(x), return_index=True, equal_nan=False)
        return type(result)(np.take(x, index), *result[1:])

    return call


for _function in (np.unique_all, np.unique_counts, np.unique_inverse):
    rule(_function)(_unique_result(_function))
