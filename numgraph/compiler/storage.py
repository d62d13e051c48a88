"""What values of a dtype are computed in, and stored as."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from numgraph.expressions.expr import is_float

CACHE_LINE = 64
"""Bytes."""
HALVES = ("float16", "bfloat16")
"""Dtypes of memory alone: they are computed in float32."""
LITERALS = (0, 1, -1, 2, 0.5)
"""Numbers that are written into a kernel's text; others stand in its argument block, so that kernels are
shared.
"""


@functools.cache
def compute_name(dtype: np.dtype[Any]) -> str:
    """The dtype that values are computed in: float16 in float32, integers in the signed one that holds all
    their values.
    """
    if is_float(dtype):
        return "float64" if dtype.itemsize == 8 else "float32"
    return (
        "bool" if dtype.kind == "b" else "int64" if dtype.itemsize == 8 or dtype.name == "uint32" else "int32"
    )


def memory_name(stored: str) -> str:
    """The dtype of memory that holds values of a dtype: bool is uint8, and the 16-bit floats the bits that
    lanes.widen and lanes.narrow convert. Everything else is itself."""
    return "uint16" if stored in HALVES else "uint8" if stored == "bool" else stored


@functools.cache
def memory_dtype(stored: str) -> np.dtype[Any]:
    return np.dtype(memory_name(stored))


@functools.cache
def memory_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which kernels see arrays of a dtype: a view of the same bits."""
    return memory_dtype(dtype.name)


def identity_of(op: str, dtype: str) -> Any:
    """What changes nothing in a sum or a maximum."""
    return (
        0
        if op == "sum" or dtype == "bool"
        else (-np.inf if dtype.startswith("float") else np.iinfo(dtype).min)
    )
