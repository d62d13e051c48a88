"""What checkers of types are told of arrays: ``Array``, what functions return, and what other libraries'
arrays are known by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = np.ndarray[
    tuple[int, ...], np.dtype[np.float16 | np.float32 | np.float64 | np.int32 | np.int64]
]
"""A NumPy array of real numbers: the result of a function of arrays. Which of the dtypes it is depends on the
arguments' values.
"""

Plain: TypeAlias = NDArray[Any] | Sequence[Any] | np.number[Any] | float
"""What is given as an array and is one of NumPy's or becomes one."""


class Foreign(Protocol):
    """An array of PyTorch, JAX or CuPy. NumPy's fit too, so that overloads name those first."""

    @property
    def shape(self) -> Any: ...
    @property
    def dtype(self) -> Any: ...
    def __dlpack__(self, *, stream: Any = ...) -> Any: ...


F = TypeVar("F", bound=Foreign)
