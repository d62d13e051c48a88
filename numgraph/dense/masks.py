"""Random masks by a counter: element i's bits are a hash of i and a key, so that any thread can make any of
them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from numgraph.arrays import recycling
from numgraph.arrays.devices import namespace_of, uniform
from numgraph.runtime import threads
from numgraph.runtime.compiling import njit

_STEP, _FIRST, _SECOND = (
    np.uint64(0x9E3779B97F4A7C15),
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
)
_LOW = np.uint64(0xFFFFFFFF)


def _fill(pairs, key, threshold):
    """Two elements from each 64 bits that SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) draws from the seed
    ``key``, low half first.
    """
    for i in prange(len(pairs)):
        z = key + (np.uint64(i) + np.uint64(1)) * _STEP
        z = (z ^ (z >> np.uint64(30))) * _FIRST
        z = (z ^ (z >> np.uint64(27))) * _SECOND
        z = z ^ (z >> np.uint64(31))
        low, high = np.uint16((z & _LOW) >= threshold), np.uint16((z >> np.uint64(32)) >= threshold)
        pairs[i] = low | (high << np.uint16(8))


_serial, _parallel = njit()(_fill), njit(parallel=True)(_fill)


def kept(rng: np.random.Generator, shape: tuple[int, ...], p: float, like: Any) -> Any:
    """A boolean array where ``like`` is, each element True with probability 1 − p, to 2⁻³²: what dropout
    keeps.

    It takes one number from ``rng``: the counter's key, 10 times faster on one thread than
    ``rng.random(shape) >= p``, which draws its numbers one after the other; on a device the seed of CuPy's
    Philox."""
    if namespace_of(like) is not np:
        return uniform(rng, shape, like) >= p
    return fill(rng.bit_generator.random_raw(), shape, p)


def fill(key: int, shape: tuple[int, ...], p: float) -> np.ndarray:
    """The mask of a key, 64 bits."""
    size = math.prod(shape)
    mask = recycling.empty((size + size % 2,), np.uint8)
    threads.run(
        _parallel, _serial, mask.view(np.uint16), np.uint64(key), np.uint64(round(p * 2**32)), work=size // 8
    )
    found: np.ndarray = mask[:size].view(np.bool_).reshape(shape)
    return found
