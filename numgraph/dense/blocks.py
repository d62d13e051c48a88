"""Elementwise functions of large arrays: NumPy's own loops on all threads, into memory that is used again.

NumPy computes on one thread into memory fresh from the system, and every operation of a formula is a pass
over memory. Here each thread takes pieces of the rows, and goes through a formula block by block, so that
what it holds on the way stays in the cache. An element's value does not depend on what is computed beside it:
the bits are those of one call."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from numgraph.arrays import recycling
from numgraph.runtime.threads import share

LARGE = 1 << 22
"""Elements of an operand from which it pays. Below, the C library reuses memory by itself, and to start
threads takes 0.1 ms: a loss of 2 million products took 2.1 ms, and 3.7 in blocks."""
PIECE = 1 << 19
"""Elements that a thread takes at once; pieces depend on the shape alone."""
BLOCK = 1 << 16
"""Elements of a block of a formula: fewer, and Python's part of every call counts, more, and they leave the
cache.
"""

_SCALARS = frozenset((int, float, bool))


class _Split(NamedTuple):
    """Operands as they are cut: the axes along which they are broadcast have length 1, or there is one axis
    in all.
    """

    operands: list[Any]
    by_row: list[bool]
    rows: int
    width: int  # elements of a row of the value
    shape: tuple[int, ...]  # of the value, with its own axes
    flat: bool

    def part(self, start: int, stop: int) -> list[Any]:
        return [x[start:stop] if row else x for x, row in zip(self.operands, self.by_row, strict=True)]


def is_large(operands: Sequence[Any], share: int = 1) -> bool:
    """Whether an elementwise function of them is computed by ``in_blocks``: one is a large array of the host.

    share: 4 for whether one is a quarter as large.
    """
    return True in [type(x) is np.ndarray and x.size * share >= LARGE for x in operands]


def in_blocks(function: Callable[..., Any], *operands: Any) -> Any:
    """function(*operands), an elementwise function of NumPy whose value is an array, or a list or tuple of
    arrays and of None.

    Warnings, and what np.errstate makes of them, are those of one call. What does not depend on some axes (as
    the derivative that arrives at a sum's argument) is computed once and broadcast: it cannot be written. A
    value that is one of the operands is that array itself."""
    split = _split(operands)
    if split is None:
        return function(*operands)
    modes: dict[str, Any] = {
        kind: "ignore" if mode == "ignore" else "raise" for kind, mode in np.geterr().items()
    }
    try:
        return _computed(function, operands, split, modes)
    except FloatingPointError:  # once more, for the caller's np.errstate to say what becomes of it
        return function(*operands)


def _split(operands: Sequence[Any]) -> _Split | None:
    """None where there are no rows to cut, or where the value's memory would lie in another order than its
    axes.
    """
    for x in operands:
        if (
            x.dtype.kind not in "biuf"
            if isinstance(x, np.generic) or type(x) is np.ndarray
            else type(x) not in _SCALARS
        ):
            return None
    shape = np.broadcast_shapes(*[x.shape for x in operands if type(x) is np.ndarray])
    cut = [_once(x) if type(x) is np.ndarray and x.ndim else x for x in operands]
    arrays = [x for x in cut if type(x) is np.ndarray and x.ndim]
    size = math.prod(shape)
    if not size or not all(x.flags.c_contiguous for x in arrays):
        return None
    flat = all(x.size == 1 or x.shape == shape for x in arrays)
    if flat:
        cut = [x.reshape(-1) if type(x) is np.ndarray and x.ndim else x for x in cut]
    else:
        cut = [
            x.reshape((1,) * (len(shape) - x.ndim) + x.shape) if type(x) is np.ndarray and x.ndim else x
            for x in cut
        ]
    rows, axes = (size, 1) if flat else (shape[0], len(shape))
    by_row = [type(x) is np.ndarray and x.ndim == axes and x.shape[0] == rows for x in cut]
    if rows < 4 or not any(by_row):
        return None
    return _Split(cut, by_row, rows, size // rows, shape, flat)


def _once(x: Any) -> Any:
    """Axes along which an array is broadcast with length 1."""
    return (
        x
        if x.flags.c_contiguous
        else x[tuple([slice(0, 1) if stride == 0 else slice(None) for stride in x.strides])]
    )


def _computed(
    function: Callable[..., Any], operands: Sequence[Any], split: _Split, modes: dict[str, Any]
) -> Any:
    rows, shape = split.rows, split.shape
    block = max(
        2, min(rows // 2, BLOCK // split.width)
    )  # one row could not be told from what is the same for all
    part = split.part(0, block)
    with np.errstate(**modes):
        first = function(*part)  # tells dtypes, and what depends on the rows
    many = not isinstance(first, np.ndarray)
    results: list[Any] = []
    stores: list[Any] = []  # by rows, the memory of results that are computed block by block
    for value in first if many else (first,):
        given = [x for x, own in zip(operands, part, strict=True) if value is own]
        store = None
        if value is None or given:
            result = given[0] if given else None
        elif len(value) != block:
            result = value.reshape((1,) * len(shape)) if split.flat else value
        else:
            result = recycling.empty(shape if split.flat else (rows, *value.shape[1:]), value.dtype)
            store = result.reshape(-1) if split.flat else result
            store[:block] = value
        results.append(result if result is None or result.shape == shape else np.broadcast_to(result, shape))
        stores.append(store)

    def fill(start: int, stop: int) -> None:
        with np.errstate(**modes):
            if isinstance(function, np.ufunc):
                function(*split.part(start, stop), out=stores[0][start:stop])
                return
            for i in range(start, stop, block):
                j = min(i + block, stop)
                values = function(*split.part(i, j))
                for store, value in zip(stores, values if many else (values,), strict=True):
                    if store is not None:
                        store[i:j] = value

    if any(store is not None for store in stores):
        cuts = [*range(block, rows, max(1, PIECE // split.width)), rows]
        share([functools.partial(fill, i, j) for i, j in itertools.pairwise(cuts)])
    return results if many else results[0]
