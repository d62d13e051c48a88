"""The primitives of generated kernels on a CUDA device, where a row has a group of neighbouring threads that hold lanes of its tile.

What is arithmetic on values in registers is shared with the CPU (lanes.py, arithmetic.py): there a tile is one LLVM vector, here a thread's
``held`` lanes are one, or a scalar if it holds a single lane. Only what knows of threads differs: loads, stores, masks and folds.

Thread t of a group of ``threads`` holds ``vectors`` vectors of ``vector`` neighbouring lanes; vector j starts at lane (j · threads + t) ·
vector, so that a group's loads are coalesced and each is one instruction of up to 128 bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

from numgraph.kernels import lanes as vectors_of
from numgraph.kernels.cuda.registers import FUNCTIONS, fold_of, member_of
from numgraph.kernels.lanes import DTYPES, I1, I32, I64, LLVM, Lanes, larger, total

GLOBAL = 1
"""LLVM's number of the address space of device memory."""
LARGEST_LOAD = 16
"""Bytes that one instruction loads or stores."""


class Memory(types.Type):
    """Device memory of a dtype: where it starts, and the bytes from row to row."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Memory({dtype})")


@register_model(Memory)
class _MemoryModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Memory) -> None:
        super().__init__(manager, fe_type, ir.LiteralStructType([I64, I64]))


def _register(builder: Any, name: str) -> Any:
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(I32, []), f"llvm.nvvm.read.ptx.sreg.{name}")
    return builder.call(function, [])


def _align(dtype: Any, count: int) -> int:
    return min(count * max(dtype.bitwidth // 8, 1) if dtype is not types.boolean else 1, LARGEST_LOAD)


def _pointer(builder: Any, dtype: Any, memory: Any, row: Any, offset: Any, count: int) -> Any:
    """Pointer to memory[row, offset], to ``count`` elements (0: to one scalar)."""
    size = max(dtype.bitwidth // 8, 1)
    base, stride = builder.extract_value(memory, 0), builder.extract_value(memory, 1)
    address = builder.add(builder.add(base, builder.mul(row, stride)), builder.mul(offset, ir.Constant(I64, size)))
    kind = ir.VectorType(LLVM[dtype], count) if count > 1 else LLVM[dtype]
    return builder.inttoptr(address, ir.PointerType(kind, addrspace=GLOBAL))


def _load(builder: Any, dtype: Any, pointer: Any, count: int) -> Any:
    """The element at a pointer, or so many as one vector. 16-bit ones in pairs: LLVM loads vectors of halves pair by pair."""
    if dtype.bitwidth != 16 or count == 1:
        return builder.load(pointer, align=_align(dtype, count))
    pairs = ir.VectorType(I32, count // 2) if count > 2 else I32
    words = builder.load(builder.bitcast(pointer, ir.PointerType(pairs, addrspace=GLOBAL)), align=_align(dtype, count))
    result = ir.Constant(ir.VectorType(LLVM[dtype], count), ir.Undefined)
    for i in range(count):
        word = builder.extract_element(words, ir.Constant(I32, i // 2)) if count > 2 else words
        word = builder.lshr(word, ir.Constant(I32, 16)) if i % 2 else word
        result = builder.insert_element(result, builder.trunc(word, LLVM[dtype]), ir.Constant(I32, i))
    return result


def _store(builder: Any, dtype: Any, value: Any, pointer: Any, count: int) -> None:
    builder.store(value, pointer, align=_align(dtype, count))


def _atomic_add(builder: Any, dtype: Any, value: Any, pointer: Any, count: int) -> None:
    """Every element on its own, by NVVM's intrinsic: its dialect of LLVM for devices before sm_100 has no atomicrmw of floats."""
    kind = LLVM[dtype]
    to = ir.PointerType(kind, addrspace=GLOBAL)
    name = f"llvm.nvvm.atomic.load.add.f{dtype.bitwidth}.p1f{dtype.bitwidth}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [to, kind]), name)
    first = builder.bitcast(pointer, to)
    for i in range(count):
        element = builder.extract_element(value, ir.Constant(I32, i)) if count > 1 else value
        builder.call(function, [builder.gep(first, [ir.Constant(I32, i)]), element])


def _argument(builder: Any, args: Any, slot: int) -> Any:
    return builder.extract_value(args, slot)


def _view(dtype: str, strided: bool) -> Any:
    kind = Memory(DTYPES[dtype])

    @intrinsic(prefer_literal=True)
    def view(typingctx: Any, args: Any, slot: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            stride = _argument(builder, values[0], slot.literal_value + 2) if strided else ir.Constant(I64, 0)
            made = ir.Constant(context.get_value_type(kind), ir.Undefined)
            made = builder.insert_value(made, _argument(builder, values[0], slot.literal_value), 0)
            return builder.insert_value(made, stride, 1)

        return kind(args, slot), codegen

    return view


@functools.cache
def operand(dtype: str) -> Any:
    """operand(dtype)(args, slot): the memory whose address, number of rows and row stride (bytes) are the arguments from slot on."""
    return _view(dtype, True)


@functools.cache
def ids(dtype: str) -> Any:
    """ids(dtype)(args, slot): the index array whose address and length are the arguments from slot on."""
    return _view(dtype, False)


@intrinsic(prefer_literal=True)
def number(typingctx: Any, args: Any, slot: Any) -> Any:
    """number(args, slot): the float64 whose bits are the argument at slot."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.bitcast(_argument(builder, values[0], slot.literal_value), ir.DoubleType())

    return types.float64(args, slot), codegen


@intrinsic
def at(typingctx: Any, array: Any, position: Any) -> Any:
    """array[position] of an index array, as int64."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        zero = ir.Constant(I64, 0)
        pointer = _pointer(builder, array.dtype, values[0], zero, values[1], 0)
        value = builder.load(pointer, align=_align(array.dtype, 1))
        return builder.sext(value, I64) if value.type != I64 else value

    return types.int64(array, types.int64), codegen


class Tile:
    """The primitives for kernels whose tiles are ``threads × vector × vectors`` lanes wide.

    packed: the length D of the lane axis where several heads share a tile; a value per head is then a scalar in each thread, as a thread's
    lanes are of one head. Widths that the kernels' text gives are lanes of the tile: 0 is a scalar that all threads of the group hold.
    """

    def __init__(self, threads: int, vector: int, vectors: int, packed: int) -> None:
        self.threads, self.vector, self.vectors, self.packed = threads, vector, vectors, packed
        self.held = vector * vectors
        self.width = threads * self.held
        self.operand, self.ids, self.number, self.at = operand, ids, number, at
        self.cast, self.widen, self.narrow, self.wrap = vectors_of.cast, vectors_of.widen, vectors_of.narrow, vectors_of.wrap
        self.fold_sum, self.fold_max = fold_of(total, threads, threads), fold_of(larger, threads, threads)
        vars(self).update(FUNCTIONS)

    def _lanes(self, width: int) -> int:
        """Lanes that a thread holds of a value of a width; 0 for a scalar."""
        return self.held if width == self.width and self.held > 1 else 0

    def constant(self, dtype: str, value: Any, width: int) -> Any:
        return vectors_of.constant(dtype, value, self._lanes(width))

    def expand(self, width: int) -> Any:
        """expand(width)(scalar): the scalar in every lane."""
        count = self._lanes(width)
        return vectors_of.expand(count) if count else _same

    def spread(self, times: int) -> Any:
        """spread(times)(value per head): the value in the lanes of its features."""
        return self.expand(self.width)

    def fold_sum_groups(self, group: int) -> Any:
        return fold_of(total, self.threads, group // self.vector)

    def fold_max_groups(self, group: int) -> Any:
        return fold_of(larger, self.threads, group // self.vector)

    def group(self) -> Any:
        """group()(): the number of this thread's group in the grid."""
        return _group(self.threads)

    def _first(self, builder: Any, width: int, j: int = 0, wrapped: bool = False) -> Any:
        """The first column, from where the tile starts, of a thread's vector j of a value of a width, as i64."""
        if width == 0:
            return ir.Constant(I64, 0)
        lane = builder.mul(builder.add(member_of(builder, self.threads), ir.Constant(I32, j * self.threads)), ir.Constant(I32, self.vector))
        if wrapped:
            lane = builder.and_(lane, ir.Constant(I32, self.packed - 1))
        elif width != self.width:
            lane = builder.udiv(lane, ir.Constant(I32, self.packed))
        return builder.zext(lane, I64)

    def first_lanes(self, width: int) -> Any:
        """first_lanes(width)(n): a mask whose first n lanes are on. n is a multiple of ``vector``."""
        count = self._lanes(width)

        @intrinsic
        def mask(typingctx: Any, limit: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                on = [builder.icmp_signed("<", self._first(builder, width, j), values[0]) for j in range(self.vectors)]
                if not count:
                    return on[0]
                result = ir.Constant(ir.VectorType(I1, count), ir.Undefined)
                for i in range(count):
                    result = builder.insert_element(result, on[i // self.vector], ir.Constant(I32, i))
                return result

            return (Lanes(types.boolean, count) if count else types.boolean)(types.int64), codegen

        return mask

    def _on(self, builder: Any, mask: Any, j: int) -> Any:
        """Whether a thread's vector j is on."""
        return builder.extract_element(mask, ir.Constant(I32, j * self.vector)) if isinstance(mask.type, ir.VectorType) else mask

    def _read(self, builder: Any, dtype: Any, values: Any, width: int, mask: Any, wrapped: bool = False) -> Any:
        """The lanes from memory[row, offset]; those that are off repeat the tile's first, so that no load waits for a branch."""
        memory, row, offset = values[:3]
        count = self.vector if width == self.width or wrapped else 1
        many = self.vectors if width == self.width else 1
        parts = []
        for j in range(many):
            column = self._first(builder, width, j, wrapped)
            if mask is not None:
                column = builder.select(self._on(builder, mask, j), column, ir.Constant(I64, 0))
            pointer = _pointer(builder, dtype, memory, row, builder.add(offset, column), count)
            parts.append(_load(builder, dtype, pointer, count))
        if many == 1:
            return parts[0]
        result = ir.Constant(ir.VectorType(LLVM[dtype], self.held), ir.Undefined)
        for i in range(self.held):
            part = parts[i // self.vector]
            element = builder.extract_element(part, ir.Constant(I32, i % self.vector)) if count > 1 else part
            result = builder.insert_element(result, element, ir.Constant(I32, i))
        return result

    def load(self, width: int) -> Any:
        """load(width)(memory, row, offset): the lanes from memory[row, offset] on; width 0: the one element, in every thread."""

        @intrinsic
        def read(typingctx: Any, memory: Any, row: Any, offset: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                return self._read(builder, memory.dtype, values, width, None)

            return self._kind(memory.dtype, width)(memory, types.int64, types.int64), codegen

        return read

    def load_masked(self, width: int) -> Any:
        """load_masked(width)(memory, row, offset, mask): as load where the mask is on. Other lanes hold something that nothing may use."""

        @intrinsic
        def read(typingctx: Any, memory: Any, row: Any, offset: Any, mask: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                return self._read(builder, memory.dtype, values, width, values[3])

            return self._kind(memory.dtype, width)(memory, types.int64, types.int64, mask), codegen

        return read

    def load_repeated(self) -> Any:
        """load_repeated()(memory, row, offset): the ``packed`` elements from memory[row, offset] on, again for every head of the tile."""

        @intrinsic
        def read(typingctx: Any, memory: Any, row: Any, offset: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                return self._read(builder, memory.dtype, values, self.width, None, wrapped=True)

            return self._kind(memory.dtype, self.width)(memory, types.int64, types.int64), codegen

        return read

    def _kind(self, dtype: Any, width: int) -> Any:
        count = self._lanes(width)
        return Lanes(dtype, count) if count else dtype

    def store(self, width: int, put: Callable[..., None] = _store) -> Any:
        """store(width)(memory, row, offset, value): memory[row, offset:] = value; one thread stores what several hold."""

        @intrinsic
        def write(typingctx: Any, memory: Any, row: Any, offset: Any, value: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                return self._write(context, builder, memory.dtype, values, width, None, put)

            return types.void(memory, types.int64, types.int64, value), codegen

        return write

    def store_masked(self, width: int, put: Callable[..., None] = _store) -> Any:
        """As store, where the mask is on."""

        @intrinsic
        def write(typingctx: Any, memory: Any, row: Any, offset: Any, value: Any, mask: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                return self._write(context, builder, memory.dtype, values, width, values[4], put)

            return types.void(memory, types.int64, types.int64, value, mask), codegen

        return write

    def atomic_add(self, width: int) -> Any:
        """atomic_add(width)(memory, row, offset, value): memory[row, offset:] += value, whatever other threads add there."""
        return self.store(width, _atomic_add)

    def atomic_add_masked(self, width: int) -> Any:
        """As atomic_add, where the mask is on."""
        return self.store_masked(width, _atomic_add)

    def _write(self, context: Any, builder: Any, dtype: Any, values: Any, width: int, mask: Any, put: Callable[..., None]) -> Any:
        memory, row, offset, value = values[:4]
        lanewise = width == self.width
        for j in range(self.vectors if lanewise else 1):
            if lanewise:
                count = self.vector
                first = j * self.vector
                part = value
                if isinstance(value.type, ir.VectorType) and self.vectors > 1:
                    if count > 1:
                        part = vectors_of._shuffle(builder, value, list(range(first, first + count)))
                    else:
                        part = builder.extract_element(value, ir.Constant(I32, first))
                condition = None if mask is None else self._on(builder, mask, j)
            else:
                count, part = 1, value
                lane = builder.mul(member_of(builder, self.threads), ir.Constant(I32, self.vector))
                lane = lane if width == 0 else builder.and_(lane, ir.Constant(I32, self.packed - 1))
                condition = builder.icmp_signed("==", lane, ir.Constant(I32, 0))
                condition = condition if mask is None else builder.and_(condition, mask)
            column = self._first(builder, width, j)
            pointer = _pointer(builder, dtype, memory, row, builder.add(offset, column), count)
            if condition is None:
                put(builder, dtype, part, pointer, count)
            else:
                with builder.if_then(condition):
                    put(builder, dtype, part, pointer, count)
        return context.get_dummy_value()


@intrinsic
def _same(typingctx: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return values[0]

    return value(value), codegen


@functools.cache
def _group(threads: int) -> Any:
    @intrinsic
    def number_of(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            wide = [builder.zext(_register(builder, name), I64) for name in ("ctaid.x", "ntid.x", "tid.x")]
            thread = builder.add(builder.mul(wide[0], wide[1]), wide[2])
            return builder.udiv(thread, ir.Constant(I64, threads))

        return types.int64(), codegen

    return number_of
