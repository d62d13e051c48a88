"""The rows of arrays as the edges of a graph: how a function of rows becomes a walk, and when that is worth
it.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from numgraph.arrays.devices import device_of
from numgraph.graph import Graph

LARGE = 1 << 15
"""Elements from which a kernel is worth its call (20 µs) and, once a machine, its compilation."""
BLOCK = 256
"""Rows whose sums are made together, one after the other. It does not depend on the threads, so neither do
the sums' bits.
"""

_COMPUTED = (np.dtype(np.float32), np.dtype(np.float64))


def is_large(x: Any) -> bool:
    """Whether a function of rows like x [num, …] runs as a kernel: large arrays of the host or a device in
    float32 or float64.
    """
    return (type(x) is np.ndarray or device_of(x) != "cpu") and pays(x.shape, x.dtype)


def pays(shape: tuple[int, ...], dtype: Any) -> bool:
    """Whether a kernel over rows of arrays of a shape and dtype is worth its call."""
    return len(shape) > 1 and math.prod(shape) >= LARGE and dtype in _COMPUTED


@functools.lru_cache(maxsize=16)
def blocks(num: int, device: str = "cpu") -> Graph:
    """The graph whose edges are the rows, and whose destinations are blocks of consecutive rows."""
    bounds = np.minimum(np.arange(-(-num // BLOCK) + 1) * BLOCK, num)
    return Graph.from_csc(bounds, np.zeros(num, np.int32), num_src=1).to(device)
