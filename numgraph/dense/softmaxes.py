"""softmax and log_softmax along an axis, computed as precision.py says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgraph.arrays.inputs import given
from numgraph.autodiff.tape import record, unwrap
from numgraph.autodiff.typed import of_array
from numgraph.errors import bad_value, shown
from numgraph.expressions import features
from numgraph.expressions.expr import Expr
from numgraph.expressions.precision import floating, narrowed, widened
from numgraph.message.rowwise import apply


def _along(name: str, function: Callable[..., Any], arrays: Sequence[Any], axis: int) -> Any:
    """function(*arrays, axis), as a function of rows where the axis is the last one."""
    with np.errstate(invalid="ignore"):  # inf − inf is NaN
        if axis % arrays[0].ndim == arrays[0].ndim - 1:
            return apply(name, function, arrays, constants=(-1,))
        return function(*arrays, axis)


def _softmax(x: Any, axis: int) -> Any:
    y = np.exp(x - x.max(axis=axis, keepdims=True))
    return y / y.sum(axis=axis, keepdims=True)


def _softmax_gradient(g: Any, y: Any, axis: int) -> Any:
    scaled = g * y
    return scaled - y * scaled.sum(axis=axis, keepdims=True)


@of_array
def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) / Σ exp(x) along ``axis``, without overflow.

    Parameters
    ----------
    x : array, Tensor or a message's symbol, of any shape
    axis : along which the results are normalised; in a message a feature axis

    Returns
    -------
    x's shape and dtype

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.softmax(np.log([[1.0, 3.0]])).round(2).tolist()
    [[0.25, 0.75]]
    """
    if isinstance(x, Expr):
        return features.softmax(x, axis)
    return _of_rows("softmax", _softmax, _softmax_gradient, x, axis)


def _log_softmax(x: Any, axis: int) -> Any:
    y = x - x.max(axis=axis, keepdims=True)
    return y - np.log(np.exp(y).sum(axis=axis, keepdims=True))


def _log_softmax_gradient(g: Any, y: Any, axis: int) -> Any:
    return g - np.exp(y) * g.sum(axis=axis, keepdims=True)


@of_array
def log_softmax(x: Any, axis: int = -1) -> Any:
    """x − log Σ exp(x) along ``axis``, without overflow.

    Parameters
    ----------
    x : array, Tensor or a message's symbol, of any shape
    axis : along which the results are normalised; in a message a feature axis

    Returns
    -------
    x's shape and dtype

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> np.exp(ng.log_softmax(np.log([[1.0, 3.0]]))).round(2).tolist()
    [[0.25, 0.75]]
    """
    if isinstance(x, Expr):
        return features.log_softmax(x, axis)
    return _of_rows("log_softmax", _log_softmax, _log_softmax_gradient, x, axis)


def _of_rows(name: str, function: Callable[..., Any], gradient: Callable[..., Any], x: Any, axis: int) -> Any:
    """A function along an axis whose gradient is one of the arriving gradient and the result."""
    x = given(name, "x", x)
    if x.ndim == 0:
        raise bad_value(
            name,
            "x has shape []",
            "it needs an axis; the softmax over a node's in-edges is attend's, or ops.edge_softmax",
        )
    if not isinstance(axis, int | np.integer) or not -x.ndim <= axis < x.ndim:
        raise bad_value(
            name,
            f"axis is {shown(axis)} and x has shape {list(x.shape)}",
            f"an axis is a whole number from {-x.ndim} to {x.ndim - 1}",
        )
    if not x.size:
        return floating(x)
    dtype, x = floating(x).dtype, widened(x)
    y = _along(name, function, (unwrap(x),), axis)
    y = record(name, (x,), y, lambda g, xs, y, needs: (_along(f"∇ {name}", gradient, (g, y), axis),))
    return narrowed(y, dtype)
