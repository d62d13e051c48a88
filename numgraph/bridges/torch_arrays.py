"""Tensors and arrays of NumPy or CuPy that are the same memory, and the names of their dtypes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from numgraph.arrays.devices import cupy
from numgraph.message.propagate import Walk

DTYPES = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)
"""By one name in NumPy and torch; bfloat16, which NumPy has not by itself, is added when it is met."""

NUMPY_DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    getattr(torch, name): np.dtype(name) for name in DTYPES if hasattr(torch, name)
}
"""NumPy's dtypes by torch's, as far as they were met."""

_TO_TORCH: dict[np.dtype[Any], torch.dtype] = {theirs: ours for ours, theirs in NUMPY_DTYPES.items()}


def numpy_dtype(dtype: torch.dtype) -> np.dtype[Any] | None:
    """NumPy's dtype of the same numbers; None for those that it has none for, as quantised ones."""
    found = NUMPY_DTYPES.get(dtype)
    if found is None and dtype in (torch.bfloat16, torch.complex64, torch.complex128):
        name = str(dtype).removeprefix("torch.")
        if name == "bfloat16":
            import ml_dtypes

            found = np.dtype(ml_dtypes.bfloat16)
        else:
            found = np.dtype(name)
        NUMPY_DTYPES[dtype], _TO_TORCH[found] = found, dtype
    return found


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """torch's dtype of the same numbers."""
    found = _TO_TORCH.get(dtype)
    return getattr(torch, dtype.name) if found is None else found


def plain(x: Any) -> Any:
    """NumPy's or CuPy's array of a tensor's memory, detached; arrays as they are. Negated views and the like
    are copied.
    """
    if not isinstance(x, torch.Tensor):
        return x
    if x.dtype is torch.bfloat16:
        return plain(x.detach().resolve_neg().view(torch.int16)).view(numpy_dtype(x.dtype))
    if x.is_cpu:
        return x.numpy(force=True)
    return cupy().from_dlpack(x.detach().resolve_neg())


def on_stream() -> Any:
    """Within it, CuPy works on torch's current stream, in order with what torch does before and after."""
    return cupy().cuda.ExternalStream(torch.cuda.current_stream().cuda_stream)


def tensor(array: Any) -> torch.Tensor:
    """A tensor of the memory of an array of NumPy or CuPy."""
    if array.dtype.kind == "V":  # bfloat16, to NumPy
        return tensor(array.view(np.int16)).view(torch.bfloat16)
    if type(array) is not np.ndarray:
        return torch.from_dlpack(array)
    if not array.flags.writeable:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numgraph does not write to it either
            return torch.from_numpy(array)
    return torch.from_numpy(array)


def run(walk: Walk, values: Sequence[Any]) -> tuple[torch.Tensor, ...]:
    """The results of a walk, without a derivative."""
    if walk.graph.device != "cpu":
        with on_stream():
            return tuple([tensor(array) for array in walk.run([plain(x) for x in values])])
    return tuple([tensor(array) for array in walk.run([plain(x) for x in values])])
