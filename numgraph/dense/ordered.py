"""Rules that go by the order of values: sort, median, ptp. Each picks elements, so its derivative goes to what was picked."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph.autodiff.tape import unwrap
from numgraph.autodiff.tensor import rule
from numgraph.errors import bad_type


@rule(np.sort)
def sort(a: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: bool | None = None) -> Any:
    if order is not None:
        raise bad_type("sort", "order= is not possible where an argument is a Tensor", "leave it out")
    if axis is None:
        a, axis = np.ravel(a), 0
    options = {"kind": kind} if stable is None else {"stable": stable}
    return np.take_along_axis(a, np.argsort(unwrap(a), axis=axis, **options), axis=axis)


@rule(np.median)
def median(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False) -> Any:
    """The mean of the two in the middle, or the one there; NaN if there is one (it sorts to the end)."""
    if out is not None or isinstance(axis, tuple | list):
        raise bad_type(
            "median", "out= and several axes are not possible where an argument is a Tensor", "axis is one of them, or None for all"
        )
    y = sort(a, axis)
    along = 0 if axis is None else axis % a.ndim
    count, whole = y.shape[along], (slice(None),) * along
    middle = np.mean(y[(*whole, slice((count - 1) // 2, count // 2 + 1))], axis=along, keepdims=keepdims)
    middle = np.reshape(middle, (1,) * a.ndim) if keepdims and axis is None else middle
    last = unwrap(y)[(*whole, slice(count - 1, None))]
    return middle + np.reshape(np.where(np.isnan(last), np.nan, 0).astype(last.dtype), middle.shape)


@rule(np.ptp)
def ptp(a: Any, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
    if out is not None:
        raise bad_type("ptp", "out= is not possible where an argument is a Tensor", "use the returned value")
    return np.max(a, axis=axis, keepdims=keepdims) - np.min(a, axis=axis, keepdims=keepdims)
