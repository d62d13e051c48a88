"""Where generated CUDA kernels get their primitives from: the device's, or the simulator's."""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def tile(threads: int, vector: int, vectors: int) -> Any:
    """The primitives for tiles of a shape (see threads.py)."""
    from numba.core import config

    if config.ENABLE_CUDASIM:
        from numgraph.compiler.cuda import simulated

        return simulated.Tile(threads, vector, vectors)
    from numgraph.compiler.cuda import device

    return device.Tile(threads, vector, vectors)
