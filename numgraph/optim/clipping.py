"""Gradients kept small: by the norm of all together, or each entry by itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from numgraph.arrays.inputs import kind_of, number
from numgraph.autodiff.tensor import unwrap
from numgraph.errors import bad_type, bad_value

_SLACK = 1e-6
"""Added to the norm that is divided by, as PyTorch does."""


def clip_gradients(
    grads: list[Any], max_norm: float | None = None, *, max_value: float | None = None, order: float = 2.0
) -> float:
    """Clip gradients before an optimiser's step; returns their norm before that.

    Parameters
    ----------
    grads : the list that ``tape.gradient`` gave: its entries are replaced by clipped ones,
        the arrays stay as they were
    max_norm : where the norm of all entries of all gradients is larger,
        all are multiplied by max_norm / (norm + 1e-6)
    max_value : each entry is clipped to -max_value … max_value, before the norm is taken if both are given
    order : of the norm; ``math.inf`` for the largest absolute entry

    Returns
    -------
    the norm of the gradients as they were given

    Raises
    ------
    ValueError : neither limit, or a norm that is no finite number where gradients would be scaled by it

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> grads = [np.array([3.0]), np.array([4.0, 0.0])]
    >>> ng.optim.clip_gradients(grads, max_norm=1.0)
    5.0
    >>> [g.round(3).tolist() for g in grads]
    [[0.6], [0.8, 0.0]]
    """
    op = "clip_gradients"
    if type(grads) is not list:
        raise bad_type(
            op,
            f"grads is {kind_of(grads)}",
            "pass the list that tape.gradient(loss, optimizer.parameters) gave: it is changed",
        )
    if max_norm is None and max_value is None:
        raise bad_value(op, "neither max_norm nor max_value is given", "give one of them")
    if order != math.inf and number(op, "order", order) == 0:
        raise bad_value(op, "order is 0", "give a positive number, or math.inf")
    for i, g in enumerate(grads):
        if g is None:
            raise bad_type(op, f"grads[{i}] is None", "leave parameters without a gradient out")
        if not hasattr(g, "dtype"):
            raise bad_type(op, f"grads[{i}] is {kind_of(g)}", "gradients are arrays")
    arrays = [unwrap(g) for g in grads]
    before = _norm(arrays, order)
    if max_value is not None:
        limit = number(op, "max_value", max_value)
        arrays = [np.clip(g, -limit, limit) for g in arrays]
    if max_norm is not None:
        norm, limit = (
            _norm(arrays, order) if max_value is not None else before,
            number(op, "max_norm", max_norm),
        )
        if not math.isfinite(norm):
            bad = next((i for i, g in enumerate(arrays) if not np.isfinite(g).all()), None)
            where = "too large" if bad is None else f"gradient {bad} is not finite"
            raise bad_value(
                op, f"the norm is {norm}: {where}", "lower the learning rate, or leave this step out"
            )
        factor = limit / (norm + _SLACK)
        if factor < 1:
            arrays = [g * g.dtype.type(factor) for g in arrays]
    grads[:] = arrays
    return before


def _norm(arrays: list[Any], order: float) -> float:
    """Of all entries together, in float64."""
    if order == math.inf:
        return max((float(np.max(np.abs(g), initial=0)) for g in arrays), default=0.0)
    powers = (np.abs(g).astype(np.float64) ** order for g in arrays)
    found: float = sum(float(np.sum(one)) for one in powers) ** (1 / order)
    return found
