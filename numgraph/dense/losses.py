"""softmax, log_softmax and the losses. float16 is computed in float32 and comes back as float16."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph.dense.shapes import getitem, scatter_add
from numgraph.elementary import softplus
from numgraph.errors import bad_index, bad_type, bad_value
from numgraph.tape import record, unwrap


def _shifted(x: Any, axis: int) -> Any:
    """x minus its maximum along ``axis``, float16 as float32."""
    if x.dtype == np.float16:
        x = x.astype(np.float32)
    return x - np.max(x, axis=axis, keepdims=True)


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) / Σ exp(x) along ``axis``, without overflow. x: array or Tensor of any shape; returns the same shape and dtype."""
    data = unwrap(x)
    y = np.exp(_shifted(data, axis))
    y /= np.sum(y, axis=axis, keepdims=True)

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
        scaled = g * y
        return (scaled - y * np.sum(scaled, axis=axis, keepdims=True),)

    return record("softmax", (x,), y.astype(data.dtype, copy=False), vjp)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """x − log Σ exp(x) along ``axis``, without overflow. x: array or Tensor of any shape; returns the same shape and dtype."""
    data = unwrap(x)
    y = _shifted(data, axis)
    y = y - np.log(np.sum(np.exp(y), axis=axis, keepdims=True))

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
        return (g - np.exp(y) * np.sum(g, axis=axis, keepdims=True),)

    return record("log_softmax", (x,), y.astype(data.dtype, copy=False), vjp)


def _select(op: str, rows: Any, num: int) -> Any:
    """The chosen row ids: of a boolean mask, of ids, or all (None)."""
    if rows is None:
        return None
    rows = np.asarray(rows) if isinstance(rows, list | tuple) else unwrap(rows)
    if rows.dtype == np.bool_:
        if rows.shape != (num,):
            raise bad_value(op, f"the row mask has shape {rows.shape}, there are {num} rows", "one True or False for each row")
        return np.flatnonzero(rows)
    if rows.dtype.kind not in "iu" or rows.ndim != 1:
        raise bad_type(op, f"rows have dtype {rows.dtype} and shape {rows.shape}", "pass a boolean mask [rows] or integer ids [n]")
    if rows.size and (rows.min() < 0 or rows.max() >= num):
        k = int(np.argmax((rows < 0) | (rows >= num)))
        raise bad_index(op, f"rows[{k}] is {rows[k]}, there are {num} rows", f"row ids run from 0 to {num - 1}")
    return rows


def cross_entropy(logits: Any, labels: Any, rows: Any = None) -> Any:
    """Mean of −log softmax(logits)[labels], over all rows or the chosen ones: a scalar.

    logits: array or Tensor [num, classes]; labels: integers [num], 0 ≤ label < classes in the chosen rows; rows: None for all, a boolean
    mask [num], or row ids [n]. Only the chosen rows are computed.
    """
    op = "cross_entropy"
    labels = np.asarray(labels) if isinstance(labels, list | tuple) else unwrap(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise bad_value(op, f"logits have shape {logits.shape}, labels {labels.shape}", "logits are [rows, classes], labels [rows]")
    if labels.dtype.kind not in "iu":
        raise bad_type(op, f"labels have dtype {labels.dtype}", "labels are integer class numbers, e.g. labels.astype(np.int64)")
    ids = _select(op, rows, logits.shape[0])
    chosen = labels if ids is None else labels[ids]
    num, classes = chosen.size, logits.shape[1]
    if num == 0:
        raise bad_value(op, "no rows are chosen", "a mean needs at least one row")
    if chosen.min() < 0 or chosen.max() >= classes:
        k = int(np.argmax((chosen < 0) | (chosen >= classes)))
        row = k if ids is None else ids[k]
        raise bad_index(op, f"labels[{row}] is {chosen[k]}, logits have {classes} classes", f"labels run from 0 to {classes - 1}")
    data = unwrap(logits)
    scores = _shifted(data if ids is None else data[ids], 1)
    losses = np.log(np.sum(np.exp(scores), axis=1)) - scores[np.arange(num), chosen]

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
        """softmax minus the one-hot labels: the chosen rows of the gradient, the others are 0."""
        (x,) = xs
        target = np.zeros((num, classes), x.dtype)
        target[np.arange(num), chosen] = 1
        d = (softmax(x if ids is None else getitem(x, ids), 1) - target) * (g / num)
        return (d if ids is None else scatter_add(d, ids, x.shape[0]),)

    return record(op, (logits,), np.mean(losses).astype(data.dtype), vjp)


def _same_shape(op: str, x: Any, target: Any) -> None:
    if np.shape(x) != np.shape(target):
        raise bad_value(op, f"predictions have shape {np.shape(x)}, targets {np.shape(target)}", "both have the same shape")
    if np.size(x) == 0:
        raise bad_value(op, f"the shape {np.shape(x)} has no elements", "a mean needs at least one")


def binary_cross_entropy_with_logits(logits: Any, targets: Any) -> Any:
    """Mean of −t log σ(x) − (1 − t) log(1 − σ(x)) over all elements, without overflow: a scalar.

    logits x: array or Tensor of any shape; targets t in [0, 1]: the same shape, floats or booleans.
    """
    targets = _as_floats(targets, logits)
    _same_shape("binary_cross_entropy_with_logits", logits, targets)
    return np.mean(softplus(logits) - logits * targets)


def mse(predictions: Any, targets: Any) -> Any:
    """Mean of (predictions − targets)² over all elements: a scalar. Both have the same shape."""
    targets = _as_floats(targets, predictions)
    _same_shape("mse", predictions, targets)
    return np.mean(np.square(predictions - targets))


def _as_floats(targets: Any, like: Any) -> Any:
    """Integer and boolean targets in the dtype of the predictions, so that float32 stays float32."""
    if not hasattr(targets, "dtype"):
        targets = np.asarray(targets, like.dtype)
    return targets.astype(like.dtype) if targets.dtype.kind in "biu" else targets
