"""Fingerprints of arrays: a number that tells whether an array's bits are still what they were, in a few
microseconds.

The tape takes one of every array that a record reads and that is the caller's, and compares it before the
replay.
"""

from __future__ import annotations

import sys
from typing import Any

import numba
import numpy as np

from numgraph.runtime.compiling import njit

EXACT = 1 << 15
"""Bytes up to which every bit counts. Of a larger array ``SAMPLED`` lines of 64 bytes do, spread over all of
it, its first and last too: at every step of a training its parameters and constants are read once more, and
bits that are not in the cache take a step's time."""
SAMPLED = 256
OF_SPARSE = 32
"""Lines of each array of a sparse one: its graph is found again by all of its places anyway."""
COPIED = sys.maxsize if numba.config.DISABLE_JIT else EXACT
"""Bytes up to which the fingerprint is a copy, which takes half the time of a sum; any number where kernels
are interpreted, for debuggers.
"""

_STEP, _LOW = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def fingerprint(array: np.ndarray, samples: int = SAMPLED) -> Any:
    """A value that is equal for equal bits (NaN included), and for others with a probability of about 2⁻³²;
    None for a read-only array of its own memory, which nobody can write."""
    size = array.nbytes
    if size <= COPIED:
        return array.tobytes()
    flags = array.flags
    if flags.owndata and not flags.writeable:
        return None
    if not (flags.c_contiguous or flags.f_contiguous):
        array = array[:: -(-size // EXACT)]
    lines = array.ravel("K").view(np.uint8)
    return _mixed(lines) if len(lines) <= EXACT else _sampled(lines, samples)


_PLACES = {
    "csr": ("indices", "indptr"),
    "csc": ("indices", "indptr"),
    "bsr": ("indices", "indptr"),
    "coo": ("row", "col"),
    "dia": ("offsets",),
}


def sparse_fingerprint(array: Any) -> Any:
    """The same of a SciPy sparse array: of its elements, of where they are, and which arrays say so.

    lil and dok arrays are converted at every use.
    """
    if array.format not in _PLACES:
        array = array.tocoo()
        return array.row.tobytes(), array.col.tobytes(), array.data.tobytes()
    places = [getattr(array, name) for name in _PLACES[array.format]]
    return [(id(x), fingerprint(x, OF_SPARSE)) for x in places], fingerprint(array.data, OF_SPARSE)


@njit()
def _mixed(data):
    """Σ of the products of each word's halves, after the word was changed by a key of its place (as in NH:
    Black et al., CRYPTO 1999).
    """
    count = len(data) // 8
    words = data[: 8 * count].view(np.uint64)
    total, key = np.uint64(len(data)), np.uint64(0)
    for i in range(count):
        mixed = words[i] ^ (np.uint64(i + 1) * _STEP)
        total += (mixed & _LOW) * (mixed >> _HALF) + mixed
    for i in range(8 * count, len(data)):
        key = key << np.uint64(8) | np.uint64(data[i])
    return total ^ (key * _STEP)


@njit()
def _sampled(data, samples):
    lines = len(data) // 64
    samples = min(samples, lines)
    words = data[: 64 * lines].view(np.uint64)
    step = lines // samples
    total = _mixed(data[64 * (lines - 1) :])
    for k in range(samples):
        at = np.uint64(8 * (k * step + ((k * 40503 & 0xFFFF) * step >> 16)))
        for i in range(8):
            mixed = words[at + np.uint64(i)] ^ ((at + np.uint64(i + 1)) * _STEP)
            total += (mixed & _LOW) * (mixed >> _HALF) + mixed
    return total
