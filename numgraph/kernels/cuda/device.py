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

from numgraph import elementary
from numgraph.kernels import arithmetic
from numgraph.kernels import lanes as vectors_of
from numgraph.kernels.lanes import DTYPES, I1, I32, I64, LLVM, Lanes, larger, total

GLOBAL = 1
"""LLVM's number of the address space of device memory."""
LARGEST_LOAD = 16
"""Bytes that one instruction loads or stores."""
WARP = 32

LIBDEVICE = {
    "absolute": "fabs",
    "arctan": "atan",
    "power": "pow",
    **{name: name for name in ("floor", "sqrt", "exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "erf")},
}
"""Elementary functions by their name in libdevice; those of float32 end in f. Their errors are at most 2 ulp (CUDA's tables), pow's 4."""


class Memory(types.Type):
    """Device memory of a dtype: where it starts, and the bytes from row to row."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Memory({dtype})")


@register_model(Memory)
class _MemoryModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Memory) -> None:
        super().__init__(manager, fe_type, ir.LiteralStructType([I64, I64]))


def _thread(builder: Any) -> Any:
    """threadIdx.x as i32."""
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(I32, []), "llvm.nvvm.read.ptx.sreg.tid.x")
    return builder.call(function, [])


def _register(builder: Any, name: str) -> Any:
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(I32, []), f"llvm.nvvm.read.ptx.sreg.{name}")
    return builder.call(function, [])


def _member(builder: Any, threads: int) -> Any:
    """The thread's number in its group, as i32."""
    return builder.and_(_thread(builder), ir.Constant(I32, threads - 1))


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


def _argument(builder: Any, args: Any, slot: int) -> Any:
    return builder.extract_value(args, slot)


@functools.cache
def operand(dtype: str) -> Any:
    """operand(dtype)(args, slot): the memory whose address, number of rows and row stride (bytes) are the arguments from slot on."""
    kind = Memory(DTYPES[dtype])

    @intrinsic(prefer_literal=True)
    def view(typingctx: Any, args: Any, slot: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            made = ir.Constant(context.get_value_type(kind), ir.Undefined)
            made = builder.insert_value(made, _argument(builder, values[0], slot.literal_value), 0)
            return builder.insert_value(made, _argument(builder, values[0], slot.literal_value + 2), 1)

        return kind(args, slot), codegen

    return view


@functools.cache
def ids(dtype: str) -> Any:
    """ids(dtype)(args, slot): the index array whose address and length are the arguments from slot on."""
    kind = Memory(DTYPES[dtype])

    @intrinsic(prefer_literal=True)
    def view(typingctx: Any, args: Any, slot: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            made = ir.Constant(context.get_value_type(kind), ir.Undefined)
            made = builder.insert_value(made, _argument(builder, values[0], slot.literal_value), 0)
            return builder.insert_value(made, ir.Constant(I64, 0), 1)

        return kind(args, slot), codegen

    return view


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


def _each(builder: Any, x: Any, function: Callable[..., Any], *others: Any) -> Any:
    """A scalar function on a scalar, or on every element of vectors."""
    if not isinstance(x.type, ir.VectorType):
        return function(x, *others)
    result = ir.Constant(x.type, ir.Undefined)
    for i in range(x.type.count):
        place = ir.Constant(I32, i)
        value = function(*[builder.extract_element(operand, place) for operand in (x, *others)])
        result = builder.insert_element(result, value, place)
    return result


def _libdevice(name: str) -> Any:
    def call(builder: Any, *operands: Any) -> Any:
        def scalar(*xs: Any) -> Any:
            kind = ir.FunctionType(xs[0].type, [x.type for x in xs])
            suffix = "f" if isinstance(xs[0].type, ir.FloatType) else ""
            function = cgutils.get_or_insert_function(builder.module, kind, f"__nv_{LIBDEVICE[name]}{suffix}")
            return builder.call(function, xs)

        return _each(builder, operands[0], scalar, *operands[1:])

    if name == "power":
        return arithmetic._binary(lambda builder, a, b, real: call(builder, a, b))
    if name == "absolute":
        return arithmetic._unary(lambda builder, x, real: call(builder, x) if real else arithmetic._absolute(builder, x, real))
    return arithmetic._unary(lambda builder, x, real: call(builder, x))


def _combined(builder: Any, x: Any, combine: Callable[[Any, Any, Any], Any]) -> Any:
    """One value from a thread's lanes, neighbours first halved: a fixed order."""
    while isinstance(x.type, ir.VectorType):
        half = x.type.count // 2
        if half == 1:
            return combine(builder, *[builder.extract_element(x, ir.Constant(I32, i)) for i in (0, 1)])
        x = combine(builder, *[vectors_of._shuffle(builder, x, list(range(start, start + half))) for start in (0, half)])
    return x


@intrinsic
def _any_lane(typingctx: Any, mask: Any) -> Any:
    """Whether a condition holds in any of this thread's lanes."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return _combined(builder, values[0], lambda builder, a, b: builder.or_(a, b))

    return types.boolean(mask), codegen


FUNCTIONS: dict[str, Any] = {
    **{name: getattr(arithmetic, name) for name, row in elementary.TABLE.items() if row.lower is None},
    **{name: _libdevice(name) for name in LIBDEVICE},
    "any_lane": _any_lane,
    # NVVM's dialect of LLVM has no fneg
    "negative": arithmetic._unary(lambda builder, x, real: builder.fsub(vectors_of.fill(x.type, -0.0), x) if real else builder.neg(x)),
}
"""Arithmetic by the names that generated kernels use."""


def _of_partner(builder: Any, x: Any, distance: int, members: Any) -> Any:
    """The value of the thread whose number differs in the bit ``distance``. members: mask of the threads that take part."""
    if isinstance(x.type, ir.IntType) and x.type.width == 1:
        return builder.trunc(_of_partner(builder, builder.zext(x, I32), distance, members), I1)
    if isinstance(x.type, ir.FloatType | ir.DoubleType):
        bits = I32 if isinstance(x.type, ir.FloatType) else I64
        return builder.bitcast(_of_partner(builder, builder.bitcast(x, bits), distance, members), x.type)
    if x.type.width == 64:
        low, high = builder.trunc(x, I32), builder.trunc(builder.lshr(x, ir.Constant(I64, 32)), I32)
        low, high = (builder.zext(_of_partner(builder, part, distance, members), I64) for part in (low, high))
        return builder.or_(builder.shl(high, ir.Constant(I64, 32)), low)
    result = ir.LiteralStructType((I32, I1))
    shuffle = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [I32] * 5), "llvm.nvvm.shfl.sync.i32")
    butterfly, clamp = ir.Constant(I32, 3), ir.Constant(I32, WARP - 1)
    return builder.extract_value(builder.call(shuffle, [members, butterfly, x, ir.Constant(I32, distance), clamp]), 0)


@functools.cache
def _fold(combine: Callable[[Any, Any, Any], Any], threads: int, group: int) -> Any:
    """The lanes of ``group`` neighbouring threads of a group of ``threads`` as one value, the same in all of them: a butterfly."""

    @intrinsic
    def fold(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            x = _combined(builder, values[0], combine)
            if group == 1:
                return x
            members: Any = ir.Constant(I32, -1)
            if threads < WARP:
                first = builder.and_(_thread(builder), ir.Constant(I32, WARP - threads))
                members = builder.shl(ir.Constant(I32, (1 << threads) - 1), first)
            distance = 1
            while distance < group:
                x = combine(builder, x, _of_partner(builder, x, distance, members))
                distance *= 2
            return x

        return getattr(value, "dtype", value)(value), codegen

    return fold


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
        self.fold_sum, self.fold_max = _fold(total, threads, threads), _fold(larger, threads, threads)
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
        return _fold(total, self.threads, group // self.vector)

    def fold_max_groups(self, group: int) -> Any:
        return _fold(larger, self.threads, group // self.vector)

    def group(self) -> Any:
        """group()(): the number of this thread's group in the grid."""
        return _group(self.threads)

    def _first(self, builder: Any, width: int, j: int = 0, wrapped: bool = False) -> Any:
        """The first column, from where the tile starts, of a thread's vector j of a value of a width, as i64."""
        if width == 0:
            return ir.Constant(I64, 0)
        lane = builder.mul(builder.add(_member(builder, self.threads), ir.Constant(I32, j * self.threads)), ir.Constant(I32, self.vector))
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

    def store(self, width: int) -> Any:
        """store(width)(memory, row, offset, value): memory[row, offset:] = value; one thread stores what several hold."""

        @intrinsic
        def write(typingctx: Any, memory: Any, row: Any, offset: Any, value: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                return self._write(context, builder, memory.dtype, values, width, None)

            return types.void(memory, types.int64, types.int64, value), codegen

        return write

    def store_masked(self, width: int) -> Any:
        """As store, where the mask is on."""

        @intrinsic
        def write(typingctx: Any, memory: Any, row: Any, offset: Any, value: Any, mask: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                return self._write(context, builder, memory.dtype, values, width, values[4])

            return types.void(memory, types.int64, types.int64, value, mask), codegen

        return write

    def _write(self, context: Any, builder: Any, dtype: Any, values: Any, width: int, mask: Any) -> Any:
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
                lane = builder.mul(_member(builder, self.threads), ir.Constant(I32, self.vector))
                lane = lane if width == 0 else builder.and_(lane, ir.Constant(I32, self.packed - 1))
                condition = builder.icmp_signed("==", lane, ir.Constant(I32, 0))
                condition = condition if mask is None else builder.and_(condition, mask)
            column = self._first(builder, width, j)
            pointer = _pointer(builder, dtype, memory, row, builder.add(offset, column), count)
            if condition is None:
                builder.store(part, pointer, align=_align(dtype, count))
            else:
                with builder.if_then(condition):
                    builder.store(part, pointer, align=_align(dtype, count))
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
