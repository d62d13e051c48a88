"""The primitives of device.py in Numba's CUDA simulator (NUMBA_ENABLE_CUDASIM=1), in NumPy.

The simulator has no warps, and a Python thread for every CUDA thread. So a block is one group of threads here, which one Python thread
runs in step: a value of a tile's width is [threads, held], a value per head [threads], anything else a scalar. That proves the loops, the
indexing, the masks and the chunks of the generated text; types and instructions are proven by the PTX. Every access is checked: a row or
column outside of its array is an IndexError.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.expressions import elementary


def _quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """Without NumPy's warnings of NaN, infinity and overflow: kernels give none."""

    @functools.wraps(function)
    def silent(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args)

    return silent


def _maximum(a: Any, b: Any) -> Any:
    return np.where((a > b) | (a != a), a, b)


def _primitive(name: str) -> Callable[..., Any]:
    """A row of the elementary table on values of one dtype, which the result keeps (comparisons give bool)."""
    evaluate = elementary.TABLE[name].evaluate

    def computed(*operands: Any) -> Any:
        result = np.asarray(evaluate(*operands))
        kept = operands[-1] if name == "where" else operands[0]
        return (result if result.dtype == bool else result.astype(np.asarray(kept).dtype))[()]

    return _quiet(computed)


PRIMITIVES = {name: _primitive(name) for name in elementary.TABLE}


class Tile:
    """The primitives for kernels whose tiles are ``threads × vector × vectors`` lanes wide, as in device.py."""

    def __init__(self, threads: int, vector: int, vectors: int, packed: int) -> None:
        self.threads, self.vector, self.vectors, self.packed = threads, vector, vectors, packed
        self.held = vector * vectors
        self.width = threads * self.held
        vars(self).update(PRIMITIVES)
        self.fold_sum, self.fold_max = self._fold(threads, np.add), self._fold(threads, _maximum)

    # --- arguments: the arrays themselves stand in the argument tuple ---

    def operand(self, dtype: str) -> Any:
        return lambda args, slot: args[slot]

    ids = operand

    @staticmethod
    def number(args: Any, slot: int) -> Any:
        return np.int64(args[slot]).view(np.float64)

    @staticmethod
    def at(array: Any, position: int) -> int:
        if not 0 <= position < len(array):
            raise IndexError(f"position {position} of an index array of {len(array)}")
        return int(array[position])

    def group(self) -> Any:
        return lambda: int(threading.current_thread().blockIdx.x)  # type: ignore[attr-defined]

    # --- conversions ---

    def constant(self, dtype: str, value: Any, width: int) -> Any:
        scalar = np.dtype(dtype).type(value)
        return lambda: self.expand(width)(scalar)

    def expand(self, width: int) -> Any:
        """A scalar in every lane, or for every head."""
        shape = () if width == 0 else (self.threads, self.held) if width == self.width else (self.threads,)
        return lambda value: np.broadcast_to(value, shape)[()]

    def spread(self, times: int) -> Any:
        """A value per head in the lanes of its features."""
        return lambda value: np.broadcast_to(value[:, None], (self.threads, self.held))

    @staticmethod
    def any_lane(mask: Any) -> bool:
        return bool(np.any(mask))

    def cast(self, dtype: str) -> Any:
        return _quiet(lambda value: np.asarray(value).astype(dtype)[()])

    def widen(self, storage: str) -> Any:
        def widened(bits: Any) -> Any:
            bits = np.asarray(bits, np.uint16)
            wide = bits.view(np.float16) if storage == "float16" else (bits.astype(np.uint32) << 16).view(np.float32)
            return wide.astype(np.float32)[()]

        return widened

    def narrow(self, storage: str) -> Any:
        @_quiet
        def narrowed(value: Any) -> Any:
            value = np.ascontiguousarray(value, np.float32).reshape(np.shape(value))
            if storage == "float16":
                return value.astype(np.float16).view(np.uint16)[()]
            bits = value.view(np.uint32)
            rounded = np.where(np.isnan(value), bits | 0x400000, bits + 0x7FFF + ((bits >> 16) & 1))
            return (rounded >> 16).astype(np.uint16)[()]

        return narrowed

    def wrap(self, bits: int, signed: bool) -> Any:
        return _quiet(lambda value: np.asarray(value).astype(f"{'i' if signed else 'u'}{bits // 8}").astype(np.int64)[()])

    # --- folds, in the device's order ---

    def _fold(self, group: int, combine: Callable[[Any, Any], Any]) -> Any:
        @_quiet
        def folded(value: Any) -> Any:
            while value.shape[1] > 1:
                value = combine(*np.split(value, 2, axis=1))
            value = value[:, 0]
            distance = 1
            while distance < group:
                value = combine(value, value[np.arange(self.threads) ^ distance])
                distance *= 2
            return value[0] if group == self.threads else value

        return folded

    def _fold_groups(self, group: int, combine: Callable[[Any, Any], Any]) -> Any:
        fold = self._fold(group // self.vector, combine)
        return lambda value: np.broadcast_to(fold(value), (self.threads,))

    def fold_sum_groups(self, group: int) -> Any:
        return self._fold_groups(group, np.add)

    def fold_max_groups(self, group: int) -> Any:
        return self._fold_groups(group, _maximum)

    # --- lanes in memory ---

    def _columns(self, width: int, wrapped: bool = False) -> Any:
        """The columns of the lanes, or heads, from where the tile starts."""
        if width == 0:
            return np.int64(0)
        first = (np.arange(self.vectors) * self.threads + np.arange(self.threads)[:, None]) * self.vector
        if wrapped:
            first = first % self.packed
        elif width != self.width:
            return first[:, 0] // self.packed
        return (first[:, :, None] + np.arange(self.vector)).reshape(self.threads, self.held)

    def first_lanes(self, width: int) -> Any:
        return lambda limit: self._columns(width) < limit

    @staticmethod
    def _checked(array: Any, row: int, columns: Any) -> Any:
        if not 0 <= row < array.shape[0] or np.min(columns, initial=0) < 0 or np.max(columns, initial=0) >= array.shape[1]:
            raise IndexError(f"row {row}, columns {columns} of an array {array.shape}")
        return columns

    def _read(self, array: Any, row: int, columns: Any) -> Any:
        return array[row, self._checked(array, row, columns)]

    def load(self, width: int) -> Any:
        return lambda array, row, offset: self._read(array, row, offset + self._columns(width))

    def load_masked(self, width: int) -> Any:
        """Lanes that are off repeat the tile's first vector, as on the device."""

        def read(array: Any, row: int, offset: int, mask: Any) -> Any:
            columns = self._columns(width)
            return self._read(array, row, offset + np.where(mask, columns, columns % self.vector if width == self.width else 0))

        return read

    def load_repeated(self) -> Any:
        return lambda array, row, offset: self._read(array, row, offset + self._columns(self.width, wrapped=True))

    def store(self, width: int) -> Any:
        return lambda array, row, offset, value: self._write(array, row, offset, value, width, True)

    def store_masked(self, width: int) -> Any:
        return lambda array, row, offset, value, mask: self._write(array, row, offset, value, width, mask)

    def atomic_add(self, width: int) -> Any:
        return lambda array, row, offset, value: self._write(array, row, offset, value, width, True, add=True)

    def atomic_add_masked(self, width: int) -> Any:
        return lambda array, row, offset, value, mask: self._write(array, row, offset, value, width, mask, add=True)

    def _write(self, array: Any, row: int, offset: int, value: Any, width: int, mask: Any, add: bool = False) -> None:
        """The device's threads that hold a lane or a head first store it, or add it: the simulator runs block after block."""
        columns = offset + self._columns(width)
        assert np.shape(value) == np.shape(columns)
        on = np.broadcast_to(mask, np.shape(columns))
        if width not in (0, self.width):
            on = on & (np.arange(self.threads) * self.vector % self.packed == 0)
        place = row, self._checked(array, row, np.asarray(columns)[on])
        value = np.asarray(value)[on]
        array[place] = PRIMITIVES["add"](array[place], value) if add else value
