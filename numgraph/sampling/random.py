"""Random numbers by counting: number i of a stream is a hash of its key and i, so nobody's draws depend on
who drew before.

Keys are hashed from (seed, epoch, batch, hop) here and from a node in the kernels. The hash is SplitMix64's
(Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph.errors import bad_type, bad_value, shown
from numgraph.runtime.compiling import njit

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
GOLDEN = np.uint64(_GOLDEN)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_LOW = np.uint64(0xFFFFFFFF)
_S27, _S30, _S31, _S32, _S11 = (np.uint64(n) for n in (27, 30, 31, 32, 11))
_TO_UNIT = 2.0**-53


def checked_seed(op: str, seed: Any) -> int:
    """A seed as a whole number of at least 0."""
    if isinstance(seed, bool | np.bool_) or not isinstance(seed, int | np.integer):
        raise bad_type(
            op, f"seed is {shown(seed)}", "give a whole number: the same one gives the same sample"
        )
    if seed < 0:
        raise bad_value(op, f"seed is {seed}", "it is at least 0")
    return int(seed)


def key_of(*numbers: int) -> np.uint64:
    """The key of some whole numbers in their order."""
    key = 0
    for number in numbers:
        key = _mixed(((key + _GOLDEN) ^ _mixed(number + _GOLDEN & _MASK) ^ number >> 64) & _MASK)
    return np.uint64(key)


def _mixed(z: int) -> int:
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
    return z ^ z >> 31


@njit(inline="always")
def mixed(z):
    """The hash of 64 bits."""
    z = (z ^ (z >> _S30)) * _FIRST
    z = (z ^ (z >> _S27)) * _SECOND
    return z ^ (z >> _S31)


@njit(inline="always")
def state_of(key, number):
    """The state of the stream of a node, or of a walk."""
    return mixed(key + GOLDEN * (np.uint64(number) + np.uint64(1)))


@njit(inline="always")
def below(state, i, n):
    """Number i of a stream as an integer 0 … n - 1: the high half of a product, off by a probability of n /
    2**64 at most.
    """
    n = np.uint64(n)
    if n > _LOW:
        return np.int64(mixed(state + GOLDEN * np.uint64(i)) % n)
    return np.int64(below_short(state, i, n))


@njit(inline="always")
def below_short(state, i, n):
    """``below`` for a uint64 n of less than 2**32, as such: without a question, so that a loop makes many at
    once.
    """
    r = mixed(state + GOLDEN * np.uint64(i))
    return ((r >> _S32) * n + ((r & _LOW) * n >> _S32)) >> _S32


@njit(inline="always")
def unit(state, i):
    """Number i of a stream as a float in (0, 1)."""
    return (np.float64(mixed(state + GOLDEN * np.uint64(i)) >> _S11) + 0.5) * _TO_UNIT
