"""softmax, log_softmax and the losses, computed as precision.py says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgraph.arrays.devices import device_of, moved, namespace_of, same_device
from numgraph.arrays.inputs import given
from numgraph.autodiff.tape import record, unwrap
from numgraph.dense.activations import softplus
from numgraph.dense.reductions import mean
from numgraph.dense.shapes import as_ids, getitem, scattered
from numgraph.errors import bad_index, bad_type, bad_value, shown
from numgraph.expressions.precision import floating, narrowed, widened
from numgraph.message.rowwise import apply


def _along(name: str, function: Callable[..., Any], arrays: Sequence[Any], axis: int) -> Any:
    """function(*arrays, axis), as a function of rows where the axis is the last one."""
    with np.errstate(invalid="ignore"):  # inf − inf is NaN
        if axis % arrays[0].ndim == arrays[0].ndim - 1:
            return apply(name, function, arrays, constants=(-1,))
        return function(*arrays, axis)


def _softmax(x: Any, axis: int) -> Any:
    y = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return y / np.sum(y, axis=axis, keepdims=True)


def _softmax_gradient(g: Any, y: Any, axis: int) -> Any:
    scaled = g * y
    return scaled - y * np.sum(scaled, axis=axis, keepdims=True)


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) / Σ exp(x) along ``axis``, without overflow. x: array or Tensor of any shape; returns the same shape and dtype."""
    return _of_rows("softmax", _softmax, _softmax_gradient, x, axis)


def _log_softmax(x: Any, axis: int) -> Any:
    y = x - np.max(x, axis=axis, keepdims=True)
    return y - np.log(np.sum(np.exp(y), axis=axis, keepdims=True))


def _log_softmax_gradient(g: Any, y: Any, axis: int) -> Any:
    return g - np.exp(y) * np.sum(g, axis=axis, keepdims=True)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """x − log Σ exp(x) along ``axis``, without overflow. x: array or Tensor of any shape; returns the same shape and dtype."""
    return _of_rows("log_softmax", _log_softmax, _log_softmax_gradient, x, axis)


def _of_rows(name: str, function: Callable[..., Any], gradient: Callable[..., Any], x: Any, axis: int) -> Any:
    """A function along an axis whose gradient is one of the arriving gradient and the result."""
    x = given(name, "x", x)
    if x.ndim == 0:
        raise bad_value(name, "x has shape []", "it needs an axis; the softmax over a node's in-edges is attend's, or ops.edge_softmax")
    if not isinstance(axis, int | np.integer) or not -x.ndim <= axis < x.ndim:
        raise bad_value(
            name, f"axis is {shown(axis)} and x has shape {list(x.shape)}", f"an axis is a whole number from {-x.ndim} to {x.ndim - 1}"
        )
    if not x.size:
        return floating(x)
    dtype, x = floating(x).dtype, widened(x)
    y = _along(name, function, (unwrap(x),), axis)
    y = record(name, (x,), y, lambda g, xs, y, needs: (_along(f"∇ {name}", gradient, (g, y), axis),))
    return narrowed(y, dtype)


def _select(op: str, rows: Any, num: int, like: Any) -> Any:
    """The chosen row ids: of a boolean mask, of ids, or all (None)."""
    if rows is None:
        return None
    rows = as_ids(rows, like, op, "rows")
    if rows.dtype == np.bool_:
        if rows.shape != (num,):
            raise bad_value(op, f"the row mask has shape {rows.shape}, there are {num} rows", "one True or False for each row")
        return np.flatnonzero(rows)
    if rows.dtype.kind not in "iu" or rows.ndim != 1:
        raise bad_type(op, f"rows have dtype {rows.dtype} and shape {rows.shape}", "pass a boolean mask [rows] or integer ids [n]")
    if rows.size and (rows.min() < 0 or rows.max() >= num):
        k = int(np.argmax((rows < 0) | (rows >= num)))
        raise bad_index(op, f"rows[{k}] is {rows[k]}, there are {num} rows", f"row ids run from 0 to {num - 1}")
    if rows.size == num > 2 and rows.max() <= 1:
        raise bad_value(op, f"rows are {num} numbers 0 and 1, as many as there are rows", "pass a mask as booleans, rows.astype(bool)")
    return rows


def cross_entropy(logits: Any, labels: Any, rows: Any = None) -> Any:
    """Mean of −log softmax(logits)[labels], over all rows or the chosen ones: a scalar.

    logits: array or Tensor [num, classes]; labels: integers or booleans [num], 0 ≤ label < classes in the chosen rows; rows: None for all,
    a boolean mask [num], or row ids [n]. Only the chosen rows are computed.
    """
    op = "cross_entropy"
    logits = given(op, "logits", logits)
    labels, dtype, logits = as_ids(labels, logits, op, "labels"), floating(logits).dtype, widened(logits)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise bad_value(op, f"logits have shape {logits.shape}, labels {labels.shape}", "logits are [rows, classes], labels [rows]")
    if labels.dtype.kind not in "biu":
        raise bad_type(op, f"labels have dtype {labels.dtype}", "labels are integer class numbers, e.g. labels.astype(np.int64)")
    same_device(op, logits=unwrap(logits), labels=labels, rows=unwrap(rows))
    ids = _select(op, rows, logits.shape[0], logits)
    chosen = labels if ids is None else labels[ids]
    num, classes = chosen.size, logits.shape[1]
    if num == 0:
        raise bad_value(op, "no rows are chosen", "a mean needs at least one row")
    if chosen.min() < 0 or chosen.max() >= classes:
        k = int(np.argmax((chosen < 0) | (chosen >= classes)))
        row = k if ids is None else ids[k]
        raise bad_index(op, f"labels[{row}] is {chosen[k]}, logits have {classes} classes", f"labels run from 0 to {classes - 1}")
    data = unwrap(logits)
    column, classes_row = chosen.astype(np.int32)[:, None], namespace_of(data).arange(classes, dtype=np.int32)
    with np.errstate(invalid="ignore"):  # inf − inf is NaN
        losses, log_sums, tops = apply(op, _row_losses, (data if ids is None else data[ids], column), (classes_row,))

    def vjp(grads: Any, xs: Any, ys: Any, needs: Any) -> tuple[Any]:
        """softmax minus the one-hot labels in the chosen rows; the others are 0. Only gradients of gradients reach the sums."""
        x = xs[0] if ids is None else getitem(xs[0], ids)
        g, into_sums = grads
        rows = [x, column, ys[1], tops]
        shared = [classes_row, namespace_of(data).zeros((), data.dtype) if g is None else g / num]
        d = apply(f"∇ {op}", _row_gradients, rows if into_sums is None else [*rows, into_sums], shared)
        return (d if ids is None else scattered(d, ids, xs[0].shape),)

    held = (ids,) if ids is unwrap(rows) else ()  # ids of the caller; those of a mask were made here
    return narrowed(record(op, (logits,), ((losses.sum() / num).astype(data.dtype), log_sums), vjp, held=held)[0], dtype)


def _row_losses(x: Any, label: Any, classes: Any) -> tuple[Any, Any, Any]:
    """−log softmax(x)[label] of every row, and what the gradient needs again: log Σ exp(x − top) and top = max x. All are [rows, 1]."""
    top = np.max(x, axis=-1, keepdims=True)
    shifted = x - top
    log_sum = np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
    return log_sum - np.sum(np.where(classes == label, shifted, 0), axis=-1, keepdims=True), log_sum, top


def _row_gradients(x: Any, label: Any, log_sum: Any, top: Any, *rest: Any) -> Any:
    """The derivative of both: of the losses by g, the same for every row, and of log Σ exp where a gradient arrives there."""
    *into_sums, classes, g = rest
    y = np.exp((x - top) - log_sum)
    d = np.where(classes == label, y - 1, y) * g
    return d + y * into_sums[0] if into_sums else d


def _same_shape(op: str, x: Any, target: Any) -> None:
    same_device(op, predictions=unwrap(x), targets=unwrap(target))
    if tuple(x.shape) != tuple(target.shape):
        raise bad_value(op, f"predictions have shape {tuple(x.shape)}, targets {tuple(target.shape)}", "both have the same shape")
    if x.size == 0:
        raise bad_value(op, f"the shape {tuple(x.shape)} has no elements", "a mean needs at least one")


def binary_cross_entropy_with_logits(logits: Any, targets: Any) -> Any:
    """Mean of −t log σ(x) − (1 − t) log(1 − σ(x)) over all elements, without overflow: a scalar.

    logits x: array or Tensor of any shape; targets t in [0, 1]: the same shape, floats or booleans.
    """
    logits, targets, dtype = _compared("binary_cross_entropy_with_logits", logits, targets)
    with np.errstate(invalid="ignore"):  # inf − inf is NaN
        return narrowed(mean(softplus(logits) - logits * targets), dtype)


def mse(predictions: Any, targets: Any) -> Any:
    """Mean of (predictions − targets)² over all elements: a scalar. Both have the same shape."""
    predictions, targets, dtype = _compared("mse", predictions, targets)
    with np.errstate(invalid="ignore"):  # inf − inf is NaN
        return narrowed(mean(np.square(predictions - targets)), dtype)


def _compared(op: str, x: Any, targets: Any) -> tuple[Any, Any, Any]:
    """Predictions and targets as they are computed with, and the result's dtype. Integers and booleans take the dtype of the other's
    floats, so that float32 stays float32."""
    place = device_of(unwrap(x), unwrap(targets))
    pairs = (("predictions", x), ("targets", targets))
    x, targets = (given(op, name, y) if hasattr(y, "dtype") else moved(given(op, name, y), place) for name, y in pairs)
    _same_shape(op, x, targets)
    floats = [y.dtype for y in (x, targets) if y.dtype.kind not in "biu"]
    like = floats[0] if floats else None
    return widened(x, like), widened(targets, like), np.result_type(*floats or [np.float64])
