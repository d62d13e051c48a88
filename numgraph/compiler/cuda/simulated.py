"""The primitives of device.py in Numba's CUDA simulator (NUMBA_ENABLE_CUDASIM=1), in NumPy.

The simulator has no warps, and a Python thread for every CUDA thread. So a block is one group of threads
here, which one Python thread runs in step: a value in lanes is [threads, held], anything else a scalar. That
proves the loops, the indexing, the masks and the chunks of the generated text; types and instructions are
proven by the PTX. Every access is checked: a row or column outside of its array is an IndexError.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.compiler.cuda.threads import Part, Shape, Terms, bits_of
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
    """A row of the elementary table on values of one dtype, which the result keeps (comparisons give
    bool).
    """
    evaluate = elementary.TABLE[name].evaluate

    def computed(*operands: Any) -> Any:
        result = np.asarray(evaluate(*operands))
        kept = operands[-1] if name == "where" else operands[0]
        return (result if result.dtype == bool else result.astype(np.asarray(kept).dtype))[()]

    return _quiet(computed)


_PRIMITIVES = {name: _primitive(name) for name in elementary.TABLE}


COMBINE: dict[str, Callable[..., Any]] = {"add": np.add, "multiply": np.multiply, "maximum": _maximum}


class Tile:
    """The primitives for tiles of a shape, as in device.py. Values of form 0 are scalars, others [threads,
    lanes that a thread holds].
    """

    def __init__(self, threads: int, vector: int, vectors: int) -> None:
        self.shape = Shape(threads, vector, vectors)
        vars(self).update(_PRIMITIVES)

    # --- arguments: the arrays themselves stand in the argument tuple ---

    def operand(self, dtype: str) -> Any:
        return lambda args, slot: args[slot]

    ids = operand

    @staticmethod
    def number(args: Any, slot: int) -> Any:
        return np.int64(args[slot]).view(np.float64)

    @staticmethod
    def at(array: Any, position: Any) -> Any:
        if np.min(position) < 0 or np.max(position) >= len(array):
            raise IndexError(f"positions {position} of an index array of {len(array)}")
        return np.asarray(array)[position].astype(np.int64)[()]

    def group(self) -> Any:
        return lambda: int(threading.current_thread().blockIdx.x)  # type: ignore[attr-defined]

    # --- conversions ---

    def _expanded(self, value: Any, form: int) -> Any:
        return np.broadcast_to(value, (self.shape.threads, len(self.shape.held(form))) if form else ())[()]

    def constant(self, dtype: str, value: Any, form: int) -> Any:
        scalar = np.dtype(dtype).type(value)
        return lambda: self._expanded(scalar, form)

    def spread(self, have: int, want: int) -> Any:
        taken = list(self.shape.taken(have, want))
        return lambda value: value[:, taken] if have else self._expanded(value, want)

    @staticmethod
    def any_lane(mask: Any) -> bool:
        return bool(np.any(mask))

    def cast(self, dtype: str) -> Any:
        return _quiet(lambda value: np.asarray(value).astype(dtype)[()])

    def widen(self, storage: str) -> Any:
        def widened(bits: Any) -> Any:
            bits = np.asarray(bits, np.uint16)
            wide = (
                bits.view(np.float16)
                if storage == "float16"
                else (bits.astype(np.uint32) << 16).view(np.float32)
            )
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
        return _quiet(
            lambda value: (
                np.asarray(value).astype(f"{'i' if signed else 'u'}{bits // 8}").astype(np.int64)[()]
            )
        )

    # --- folds, in the device's order ---

    def fold(self, op: str, form: int, over: int) -> Any:
        shape, combine = self.shape, COMBINE[op]
        held = bits_of(form & ~shape.of_threads)
        own = [held.index(bit) for bit in bits_of(over & form & ~shape.of_threads)]
        distances = [bit // shape.vector for bit in bits_of(over & form & shape.of_threads)]

        @_quiet
        def folded(value: Any) -> Any:
            for place in reversed(own):
                low = [lane for lane in range(value.shape[1]) if not lane >> place & 1]
                value = combine(value[:, low], value[:, [lane + (1 << place) for lane in low]])
            for distance in distances:
                value = combine(value, value[np.arange(shape.threads) ^ distance])
            return value if form & ~over else value[0, 0]

        return folded

    # --- lanes in memory ---

    def _numbers(self, form: int, terms: Terms) -> Any:
        """Σ stride · digit of every lane of every thread."""
        lane = np.arange(self.shape.threads)[:, None] * self.shape.vector + np.array(self.shape.held(form))
        total = np.zeros_like(lane)
        for first, bits, divide, modulo, stride in terms:
            digit = (lane >> first & (1 << bits) - 1) // divide
            total += (digit % modulo if modulo else digit) * stride
        return total if form else total[0, 0]

    def counted(self, form: int, terms: Terms) -> Any:
        return lambda start: start + self._numbers(form, terms)

    def below(self, form: int, first: int, bits: int) -> Any:
        return lambda limit: self._numbers(form, ((first, bits, 1, 0, 1),)) < limit

    def zero(self, form: int, part: Part) -> Any:
        return lambda: self._numbers(form, ((*part, 1),)) == 0

    @staticmethod
    def _checked(array: Any, row: Any, columns: Any) -> tuple[Any, Any]:
        outside = np.min(row, initial=0) < 0 or np.max(row, initial=0) >= array.shape[0]
        if outside or np.min(columns, initial=0) < 0 or np.max(columns, initial=0) >= array.shape[1]:
            raise IndexError(f"row {row}, columns {columns} of an array {array.shape}")
        return row, columns

    def load(self, form: int, terms: Terms, count: int) -> Any:
        return lambda array, row, column: array[
            self._checked(array, row, column + self._numbers(form, terms))
        ]

    def load_masked(self, form: int, terms: Terms, count: int) -> Any:
        """Lanes that are off repeat those of the tile's first column, as on the device."""

        def read(array: Any, row: Any, column: int, mask: Any) -> Any:
            columns = self._numbers(form, terms)
            first = np.broadcast_to(np.arange(columns.shape[1]) % count, columns.shape)
            return array[self._checked(array, row, column + np.where(mask, columns, first))]

        return read

    def store(self, form: int, terms: Terms, count: int) -> Any:
        return lambda array, row, column, value: self._write(array, row, column, value, form, terms, True)

    def store_masked(self, form: int, terms: Terms, count: int) -> Any:
        return lambda array, row, column, value, mask: self._write(
            array, row, column, value, form, terms, mask
        )

    def atomic_add(self, form: int, terms: Terms, count: int) -> Any:
        return lambda array, row, column, value: self._write(
            array, row, column, value, form, terms, True, add=True
        )

    def atomic_add_masked(self, form: int, terms: Terms, count: int) -> Any:
        return lambda array, row, column, value, mask: self._write(
            array, row, column, value, form, terms, mask, add=True
        )

    def _write(
        self,
        array: Any,
        row: Any,
        column: int,
        value: Any,
        form: int,
        terms: Terms,
        mask: Any,
        add: bool = False,
    ) -> None:
        """Of the device's threads that hold the same lanes the first stores them, or adds them: the simulator
        runs block after block.
        """
        columns = column + self._numbers(form, terms)
        assert np.shape(value) == np.shape(columns)
        on = np.broadcast_to(mask, np.shape(columns))
        if form:
            first = np.arange(self.shape.threads) * self.shape.vector & self.shape.of_threads & ~form == 0
            on = on & first[:, None]
        rows = np.broadcast_to(row, np.shape(columns))[on]
        place = self._checked(array, rows, np.asarray(columns)[on])
        value = np.asarray(value)[on]
        array[place] = _PRIMITIVES["add"](array[place], value) if add else value
