"""Where generated CUDA kernels get their primitives from: the device's, or the simulator's."""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def tile(threads: int, vector: int, vectors: int, packed: int) -> Any:
    """The primitives for tiles of ``threads`` threads a row, each with so many vectors of so many lanes; packed: lanes of a head, or 0."""
    from numba.core import config

    if config.ENABLE_CUDASIM:
        from numgraph.kernels.cuda import simulated

        return simulated.Tile(threads, vector, vectors, packed)
    from numgraph.kernels.cuda import device

    return device.Tile(threads, vector, vectors, packed)
