"""Rows side by side, a lane for each: where their edges are, and loads of what these find."""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from llvmlite.ir.instructions import Instruction
from numba import types

from numgraph.compiler.cpu.memory import alignment_of, member, pointer_of, under_mask
from numgraph.compiler.cpu.vectors import as_int64, as_one, gathered, indexed, joined, shuffled, splat
from numgraph.compiler.llvm.lanes import I1, I32, I64, Lanes, larger
from numgraph.compiler.llvm.primitives import primitive


@functools.cache
def rows_from(width: int) -> Any:
    """rows_from(width)(row, stop): row, row + 1, … as int64, but none behind the last one before stop."""

    @primitive
    def count(typingctx: Any, row: Any, stop: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            wide = ir.VectorType(I64, width)
            rows = builder.add(splat(builder, values[0], wide), ir.Constant(wide, list(range(width))))
            last = splat(builder, builder.sub(values[1], ir.Constant(I64, 1)), wide)
            return builder.select(builder.icmp_signed("<", rows, last), rows, last)

        return Lanes(types.int64, width)(types.int64, types.int64), codegen

    return count


@functools.cache
def bounds(width: int) -> Any:
    """bounds(width)(indptr, position, mask): as many entries from a position; 0 where the mask is off."""

    @primitive
    def read(typingctx: Any, array: Any, position: Any, mask: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            pointer = builder.gep(member(context, builder, sig.args[0], values[0], "data"), [values[1]])
            vector = ir.VectorType(pointer.type.pointee, width)
            return under_mask(builder, pointer, vector, alignment_of(sig.args[0]), values[2])

        return Lanes(array.dtype, width)(array, types.int64, mask), codegen

    return read


@primitive
def degrees(typingctx: Any, begins: Any, ends: Any) -> Any:
    """How many edges each row has, as int64."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return as_int64(builder, builder.sub(values[1], values[0]))

    return Lanes(types.int64, begins.width)(begins, ends), codegen


@primitive
def longest(typingctx: Any, begins: Any, ends: Any) -> Any:
    """The most edges that a row has."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        most = as_one(builder, [builder.sub(values[1], values[0])], values[0].type.count, larger, None)
        return builder.sext(most, I64) if most.type != I64 else most

    return types.int64(begins, ends), codegen


@primitive
def before(typingctx: Any, turn: Any, begins: Any, ends: Any) -> Any:
    """before(turn, begins, ends): the mask of rows that have an edge of this number."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        turn, begins, ends = values
        degree = builder.sub(ends, begins)
        return builder.icmp_signed("<", _number(builder, turn, degree.type), degree)

    return Lanes(types.boolean, begins.width)(types.int64, begins, ends), codegen


@primitive
def position(typingctx: Any, turn: Any, begins: Any, mask: Any) -> Any:
    """position(turn, begins, mask): each row's edge of this number; the first where the mask is off."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        turn, begins, mask = values
        there = builder.add(begins, _number(builder, turn, begins.type))
        return builder.select(mask, there, ir.Constant(begins.type, None))

    return begins(types.int64, begins, mask), codegen


@primitive
def find_ids(typingctx: Any, array: Any, positions: Any) -> Any:
    """find_ids(array, positions): entries of an index array, in its dtype, which gathers take as it is."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        data = member(context, builder, sig.args[0], values[0], "data")
        vector = ir.VectorType(data.type.pointee, values[1].type.count)
        pointers = indexed(builder, data, values[1])
        return gathered(builder, pointers, vector, alignment_of(sig.args[0]), None)

    return Lanes(array.dtype, positions.width)(array, positions), codegen


def _number(builder: Any, value: Any, wide: Any) -> Any:
    """An int64 in all lanes of a vector of integers."""
    return splat(builder, value if wide.element == I64 else builder.trunc(value, wide.element), wide)


def _paired(builder: Any, parts: list[Any]) -> Any:
    """A power of two vectors of one width, one after the other, as one."""
    while len(parts) > 1:
        order = list(range(2 * parts[0].type.count))
        parts = [shuffled(builder, low, high, order) for low, high in zip(parts[::2], parts[1::2])]
    return parts[0]


def _frozen(builder: Any, value: Any) -> Any:
    """The value, which LLVM takes as a whole: a product of two vectors that are put together alike would
    become the products of their parts, and a sum would not be fused with it as it is elsewhere."""
    made = Instruction(builder.block, value.type, "freeze", [value])
    builder._insert(made)
    return made


_PIECE = 16
"""Lanes that rows are put together in: a register of AVX-512, for four bytes a number."""


@functools.cache
def load_rows(count: int, unit: int, start: int, width: int) -> Any:
    """load_rows(count, unit, start, width)(array, rows, column): of ``unit`` entries of each of ``count``
    rows, one after the other, so many from ``start`` on. Rows that fill no power of two are each read at
    their place in a register, under a mask that is a constant."""

    @primitive
    def read(typingctx: Any, array: Any, rows: Any, column: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            align = alignment_of(sig.args[0])
            known: dict[int, Any] = {}

            def begin(row: int) -> Any:
                if row not in known:
                    own = builder.extract_element(values[1], ir.Constant(I32, row))
                    own = own if own.type == I64 else builder.sext(own, I64)
                    operands = values[0], own, values[2]
                    known[row], _ = pointer_of(context, builder, sig.args[0], operands, 0)
                return known[row]

            if unit < _PIECE and unit & (unit - 1) == 0:
                vector = ir.VectorType(begin(start // unit).type.pointee, unit)
                parts = [
                    builder.load(builder.bitcast(begin(row), vector.as_pointer()), align=align, typ=vector)
                    for row in range(start // unit, min((start + width) // unit, count))
                ]
                return _frozen(builder, _paired(builder, parts))
            pieces = []
            for first in range(start, start + width, min(_PIECE, width)):
                lanes = range(first, min(first + _PIECE, start + width))
                made = None
                for row in range(lanes[0] // unit, min(lanes[-1] // unit, count - 1) + 1):
                    there = builder.gep(begin(row), [ir.Constant(I64, first - row * unit)])
                    on = ir.Constant(ir.VectorType(I1, len(lanes)), [int(n // unit == row) for n in lanes])
                    vector = ir.VectorType(there.type.pointee, len(lanes))
                    made = under_mask(builder, there, vector, align, on, made)
                pieces.append(made)
            return joined(builder, pieces)

        return Lanes(array.dtype, width)(array, rows, types.int64), codegen

    return read
