"""In which dtype numbers are computed: half precision is storage, and integers and booleans are floats.

One rule for dense functions, losses and layers. float16 and bfloat16 are computed in float32, and a result is
rounded to them once. Where a function of real numbers meets integers or booleans, they take the dtype of the
floats that they meet (a layer's parameters, the other operand), float32 at least, and float64 where there are
none."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph.expressions.expr import is_float

_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)


def is_half(dtype: Any) -> bool:
    """Whether a dtype is float16 or bfloat16."""
    return dtype.itemsize == 2 and is_float(dtype)


def wide(dtype: Any) -> Any:
    """The dtype in which numbers of a floating dtype are computed."""
    return _FLOAT32 if is_half(dtype) else dtype


def floating(x: Any, like: Any = None) -> Any:
    """x with integers and booleans as floats; ``like``: the dtype that they meet. x: array, Tensor or sparse
    matrix with a ``dtype``.
    """
    if x.dtype.kind not in "biu":
        return x
    dtype = wide(like) if like is not None and is_float(like) else _FLOAT64
    if hasattr(x, "indptr"):  # of one structure with x, whose graph is known
        return type(x)((x.data.astype(dtype), x.indices, x.indptr), shape=x.shape)
    return x.astype(dtype)


def widened(x: Any, like: Any = None) -> Any:
    """x in the dtype in which it is computed: ``floating``, and float16 and bfloat16 as float32."""
    x = floating(x, like)
    return x.astype(_FLOAT32) if is_half(x.dtype) else x


def narrowed(y: Any, dtype: Any) -> Any:
    """What was computed from numbers of ``dtype``: rounded to it where that is float16 or bfloat16."""
    return y.astype(dtype) if is_half(dtype) and y.dtype != dtype else y
