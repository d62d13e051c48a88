"""The losses, computed as precision.py says."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph.arrays.devices import device_of, moved, namespace_of, same_device
from numgraph.arrays.inputs import given, number
from numgraph.autodiff.tape import record, unwrap
from numgraph.autodiff.typed import of_array, of_two
from numgraph.dense.activations import softplus
from numgraph.dense.reductions import mean
from numgraph.dense.shapes import as_ids, getitem, has_outside, scatter_add, scattered
from numgraph.errors import bad_index, bad_type, bad_value, check_name, shown
from numgraph.expressions.precision import floating, narrowed, widened
from numgraph.message.rowwise import apply


def _select(op: str, rows: Any, num: int, like: Any) -> Any:
    """The chosen row ids: of a boolean mask, of ids, or all (None)."""
    if rows is None:
        return None
    rows = as_ids(rows, like, op, "rows")
    if rows.dtype == np.bool_:
        if rows.shape != (num,):
            raise bad_value(
                op,
                f"the row mask has shape {rows.shape}, there are {num} rows",
                "one True or False for each row",
            )
        return np.flatnonzero(rows)
    if rows.dtype.kind not in "iu" or rows.ndim != 1:
        raise bad_type(
            op,
            f"rows have dtype {rows.dtype} and shape {rows.shape}",
            "pass a boolean mask [rows] or integer ids [n]",
        )
    if has_outside(rows, num):
        k = int(np.argmax((rows < 0) | (rows >= num)))
        raise bad_index(
            op, f"rows[{k}] is {rows[k]}, there are {num} rows", f"row ids run from 0 to {num - 1}"
        )
    if rows.size == num > 2 and rows.max() <= 1:
        raise bad_value(
            op,
            f"rows are {num} numbers 0 and 1, as many as there are rows",
            "pass a mask as booleans, rows.astype(bool)",
        )
    return rows


REDUCTIONS = ("mean", "sum", "none")


@of_array
def cross_entropy(
    logits: Any,
    labels: Any,
    rows: Any = None,
    *,
    weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Any:
    """Mean of −log softmax(logits)[labels], over all rows or the chosen ones: a scalar. Only the chosen rows
    are computed.

    Parameters
    ----------
    logits : array or Tensor [num, classes]
    labels : integers or booleans [num], 0 ≤ label < classes in the chosen rows
    rows : None for all, a boolean mask [num], or row ids [n]
    weight : [classes] how much a row of each class counts; the mean is over the sum of these weights.
        A constant
    ignore_index : rows with this label count as if they were not chosen
    label_smoothing : ε, from 0 to 1: the row's class has the target 1 − ε + ε / classes,
        the others ε / classes (Szegedy et al., CVPR 2016)
    reduction : "mean", "sum", or "none": [n] the loss of each chosen row, 0 of ignored ones

    Returns
    -------
    a scalar, or [n]; where all chosen rows are ignored NaN, 0 for "sum", with a gradient of zeros

    Notes
    -----
    Row i has (1 − ε) w[y_i] · −log p[y_i] + ε / classes · Σ_c w[c] · −log p[c], with p = softmax(logits_i),
    as in PyTorch.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> logits = np.log([[0.5, 0.5], [0.2, 0.8]])
    >>> ng.cross_entropy(logits, [0, -1], ignore_index=-1, reduction="none").round(3)
    array([0.693, 0.   ])
    """
    op = "cross_entropy"
    check_name(op, "reduction", reduction, REDUCTIONS)
    logits = given(op, "logits", logits)
    labels, dtype, logits = as_ids(labels, logits, op, "labels"), floating(logits).dtype, widened(logits)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise bad_value(
            op,
            f"logits have shape {logits.shape}, labels {labels.shape}",
            "logits are [rows, classes], labels [rows]",
        )
    if labels.dtype.kind not in "biu":
        raise bad_type(
            op,
            f"labels have dtype {labels.dtype}",
            "labels are integer class numbers, e.g. labels.astype(np.int64)",
        )
    same_device(op, logits=unwrap(logits), labels=labels, rows=unwrap(rows))
    ids = _select(op, rows, logits.shape[0], logits)
    chosen = labels if ids is None else labels[ids]
    if ignore_index is not None and (
        isinstance(ignore_index, bool) or not isinstance(ignore_index, int | np.integer)
    ):
        raise bad_type(
            op,
            f"ignore_index is {shown(ignore_index)}",
            "give the label of the rows that are left out, a whole number",
        )
    places, total = None, chosen.size
    if ignore_index is not None and (ignored := chosen == ignore_index).any():
        places = np.flatnonzero(~ignored)
        ids, chosen = places if ids is None else ids[places], chosen[places]
    num, classes = chosen.size, logits.shape[1]
    if total == 0 and reduction == "mean":
        raise bad_value(op, "no rows are chosen", "a mean needs at least one row")
    if has_outside(chosen, classes):
        k = int(np.argmax((chosen < 0) | (chosen >= classes)))
        row, fix = k if ids is None else ids[k], ""
        if chosen[k] >= classes:
            fix += ", a model has an output for each class"
        if ignore_index is None:
            fix += ", pass ignore_index= for rows that have none"
        raise bad_index(
            op,
            f"labels[{row}] is {chosen[k]}, logits have {classes} class{'' if classes == 1 else 'es'}",
            f"labels run from 0 to {classes - 1}{fix}",
        )
    data = unwrap(logits)
    of_class = None if weight is None else _class_weights(op, weight, data)
    column, classes_row = chosen.astype(np.int32)[:, None], namespace_of(data).arange(classes, dtype=np.int32)
    target = None if of_class is None else of_class[column]
    share = num if target is None else target.sum()
    per_row: dict[str, Any] = {}
    shared: dict[str, Any] = {"classes": classes_row}
    smoothing = 0.0 if label_smoothing == 0.0 else _smoothing(op, label_smoothing)
    if smoothing:
        smooth = data.dtype.type(smoothing / classes) * (
            np.ones_like(data, shape=classes) if of_class is None else of_class
        )
        ones = np.ones_like(data, shape=(num, 1)) if target is None else target
        per_row, target = {"target": data.dtype.type(1 - smoothing) * ones}, None
        shared |= {"smooth": smooth, "total": smooth.sum()}
    with np.errstate(invalid="ignore"):  # inf − inf is NaN
        operands = data if ids is None else data[ids], column, *per_row.values()
        losses, log_sums, tops = apply(
            op, _smoothed_losses if smoothing else _row_losses, operands, tuple(shared.values())
        )
        losses = losses if target is None else losses * target
        if reduction == "none":
            value = losses[:, 0]
        else:
            value = losses.sum() / share if reduction == "mean" else losses.sum()

    def vjp(grads: Any, xs: Any, ys: Any, needs: Any) -> tuple[Any]:
        """softmax minus the targets in the chosen rows; the others are 0. Only gradients of gradients reach
        the sums.
        """
        x = xs[0] if ids is None else getitem(xs[0], ids)
        g, into_sums = grads
        if g is None:
            g = namespace_of(data).zeros((), data.dtype)
        elif reduction == "mean":
            g = g / share if num else np.zeros_like(g)
        elif reduction == "none":
            g = np.reshape(g, (-1, 1))
        g = g if target is None else g * target
        more = per_row if into_sums is None else {**per_row, "into_sums": into_sums}
        more, alike = ({**more, "g": g}, shared) if g.ndim else (more, {**shared, "g": g})
        d = apply(
            f"∇ {op}",
            _row_gradients,
            (x, column, ys[1], tops, *more.values()),
            tuple(alike.values()),
            ((*more, *alike),),
        )
        return (d if ids is None else scattered(d, ids, xs[0].shape, distinct),)

    held = (ids,) if ids is unwrap(rows) else ()  # ids of the caller; those of a mask were made here
    distinct = getattr(rows, "dtype", None) == np.bool_
    value = record(op, (logits,), (value, log_sums), vjp, held=held)[0]
    if reduction == "none" and places is not None:
        value = scatter_add(value, places, total)
    return narrowed(value, dtype)


def _class_weights(op: str, weight: Any, like: Any) -> Any:
    """[classes] in the dtype and at the place of the logits."""
    weight = unwrap(given(op, "weight", weight))
    if tuple(weight.shape) != like.shape[1:]:
        raise bad_value(
            op,
            f"weight has shape {list(weight.shape)}, logits {list(like.shape)}",
            "give a weight for each class",
        )
    if not bool((weight >= 0).all()):
        raise bad_value(
            op, f"weight is {shown(weight)}, with a number below 0 or NaN", "a class counts 0 or more"
        )
    return moved(weight, device_of(like)).astype(like.dtype)


def _smoothing(op: str, value: Any) -> float:
    smoothing = number(op, "label_smoothing", value)
    if smoothing > 1:
        raise bad_value(op, f"label_smoothing is {shown(value)}", "it is a share, from 0 to 1")
    return smoothing


def _row_losses(x: Any, label: Any, classes: Any) -> tuple[Any, Any, Any]:
    """−log softmax(x)[label] of every row, and what the gradient needs again: log Σ exp(x − top) and top =
    max x. All are [rows, 1].
    """
    top = x.max(axis=-1, keepdims=True)
    shifted = x - top
    log_sum = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    if type(x) is np.ndarray:
        picked = shifted[np.arange(len(x))[:, None], label]
    else:
        picked = np.where(classes == label, shifted, 0).sum(axis=-1, keepdims=True)
    return log_sum - picked, log_sum, top


def _smoothed_losses(
    x: Any, label: Any, target: Any, classes: Any, smooth: Any, total: Any
) -> tuple[Any, Any, Any]:
    """−Σ_c q_c log softmax(x)_c of every row with q = smooth, and target more at the label; total: Σ
    smooth.
    """
    top = x.max(axis=-1, keepdims=True)
    shifted = x - top
    log_sum = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    q = np.where(classes == label, smooth + target, smooth)
    return (target + total) * log_sum - (q * shifted).sum(axis=-1, keepdims=True), log_sum, top


def _row_gradients(x: Any, label: Any, log_sum: Any, top: Any, *rest: Any) -> Any:
    """The derivative of both: of the losses by g, and of log Σ exp where a gradient arrives there. rest:
    operands, and their names.
    """
    named = dict(zip(rest[-1], rest))
    y = np.exp((x - top) - log_sum)
    hit = named["classes"] == label
    if "smooth" in named:
        d = y * (named["target"] + named["total"]) - np.where(
            hit, named["smooth"] + named["target"], named["smooth"]
        )
    else:
        d = y - hit if type(y) is np.ndarray else np.where(hit, y - 1, y)
    d = d * named["g"]
    return d + y * named["into_sums"] if "into_sums" in named else d


@of_two
def binary_cross_entropy_with_logits(
    logits: Any, targets: Any, *, weight: Any = None, pos_weight: Any = None, reduction: str = "mean"
) -> Any:
    """Mean of −p t log σ(x) − (1 − t) log(1 − σ(x)) over all elements, without overflow: a scalar.

    Parameters
    ----------
    logits : x, array or Tensor of any shape
    targets : t in [0, 1], the same shape, floats or booleans
    weight : what each element's loss is multiplied by; broadcast to the shape of x.
        The mean is over the number of elements. A constant
    pos_weight : p, how much more a positive target counts, as the number of negatives to a positive;
        broadcast. A constant
    reduction : "mean", "sum", or "none": the loss of each element

    Returns
    -------
    a scalar, or with reduction="none" an array of x's shape

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> round(float(ng.binary_cross_entropy_with_logits(np.array([0.0, 2.0]), np.array([1.0, 1.0]))), 4)
    0.41
    """
    op = "binary_cross_entropy_with_logits"
    x, targets, dtype = _compared(op, logits, targets, reduction)
    with np.errstate(invalid="ignore"):  # inf − inf is NaN
        if pos_weight is None:
            losses = softplus(x) - x * targets
        else:
            positive = targets * _factor(op, "pos_weight", pos_weight, x)
            losses = (1 - targets) * x + (positive + (1 - targets)) * softplus(-x)
        if weight is not None:
            losses = losses * _factor(op, "weight", weight, x)
        return narrowed(_reduced(losses, reduction), dtype)


def _factor(op: str, name: str, value: Any, x: Any) -> Any:
    """A constant array that broadcasts to x's shape, in its dtype and at its place."""
    value = unwrap(given(op, name, value))
    try:
        fits = np.broadcast_shapes(value.shape, x.shape) == tuple(x.shape)
    except ValueError:
        fits = False
    if not fits:
        raise bad_value(
            op,
            f"{name} has shape {list(value.shape)}, predictions {list(x.shape)}",
            "it broadcasts to the predictions' shape",
        )
    return moved(value, device_of(unwrap(x))).astype(x.dtype)


@of_two
def mse(predictions: Any, targets: Any, *, reduction: str = "mean") -> Any:
    """Mean of (predictions − targets)² over all elements.

    Parameters
    ----------
    predictions, targets : arrays or Tensors of one shape
    reduction : "mean", "sum", or "none": the loss of each element

    Returns
    -------
    a scalar, or with reduction="none" an array of their shape

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> float(ng.mse(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
    2.0
    """
    predictions, targets, dtype = _compared("mse", predictions, targets, reduction)
    with np.errstate(invalid="ignore"):  # inf − inf is NaN
        return narrowed(_reduced(np.square(predictions - targets), reduction), dtype)


@of_two
def mae(predictions: Any, targets: Any, *, reduction: str = "mean") -> Any:
    """Mean of |predictions − targets| over all elements. PyTorch calls it l1_loss.

    Parameters
    ----------
    predictions, targets : arrays or Tensors of one shape
    reduction : "mean", "sum", or "none": the loss of each element

    Returns
    -------
    a scalar, or with reduction="none" an array of their shape

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> float(ng.mae(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
    1.0
    """
    predictions, targets, dtype = _compared("mae", predictions, targets, reduction)
    with np.errstate(invalid="ignore"):  # inf − inf is NaN
        return narrowed(_reduced(np.abs(predictions - targets), reduction), dtype)


@of_two
def huber(predictions: Any, targets: Any, *, delta: float = 1.0, reduction: str = "mean") -> Any:
    """Mean of d² / 2 where |d| ≤ delta, else delta (|d| − delta / 2), with d = predictions − targets (Huber,
    1964).

    Parameters
    ----------
    predictions, targets : arrays or Tensors of one shape
    delta : a positive number
    reduction : "mean", "sum", or "none": the loss of each element

    Returns
    -------
    a scalar, or with reduction="none" an array of their shape

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.huber(np.array([1.0, 2.0]), np.array([1.5, 4.0]), reduction="none").tolist()
    [0.125, 1.5]
    """
    predictions, targets, dtype = _compared("huber", predictions, targets, reduction)
    if number("huber", "delta", delta) == 0:
        raise bad_value("huber", "delta is 0", "give a positive number, or use mae")
    with np.errstate(invalid="ignore"):  # inf − inf is NaN
        size = np.abs(predictions - targets)
        near = np.minimum(size, delta)
        return narrowed(_reduced(near * (size - near / 2), reduction), dtype)


def _reduced(losses: Any, reduction: str) -> Any:
    return mean(losses) if reduction == "mean" else np.sum(losses) if reduction == "sum" else losses


def _same_shape(op: str, x: Any, target: Any, reduction: str) -> None:
    same_device(op, predictions=unwrap(x), targets=unwrap(target))
    if tuple(x.shape) != tuple(target.shape):
        raise bad_value(
            op,
            f"predictions have shape {tuple(x.shape)}, targets {tuple(target.shape)}",
            "both have the same shape",
        )
    if x.size == 0 and reduction == "mean":
        raise bad_value(op, f"the shape {tuple(x.shape)} has no elements", "a mean needs at least one")


def _compared(op: str, x: Any, targets: Any, reduction: str) -> tuple[Any, Any, Any]:
    """Predictions and targets as they are computed with, and the result's dtype. Integers and booleans take
    the dtype of the other's floats, so that float32 stays float32."""
    check_name(op, "reduction", reduction, REDUCTIONS)
    place = device_of(unwrap(x), unwrap(targets))
    pairs = (("predictions", x), ("targets", targets))
    x, targets = (
        given(op, name, y) if hasattr(y, "dtype") else moved(given(op, name, y), place) for name, y in pairs
    )
    _same_shape(op, x, targets, reduction)
    floats = [y.dtype for y in (x, targets) if y.dtype.kind not in "biu"]
    like = floats[0] if floats else None
    return widened(x, like), widened(targets, like), np.result_type(*floats or [np.float64])
