"""The primitives of kernels on a CUDA device, where a row has a group of neighbouring threads that hold lanes
of its tile (see threads.py).

What is arithmetic on values in registers is the same on every target that has LLVM: the lanes that a thread
holds of a value are one vector, or a scalar if it holds a single one. Only what knows of threads is here:
loads, stores, masks and folds.

A group's loads are coalesced, and neighbouring lanes of a thread are one instruction of up to 128 bits.
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

from numgraph.compiler.cuda.registers import COMBINE, FUNCTIONS, fold_of, thread_of
from numgraph.compiler.cuda.threads import LARGEST_LOAD, Part, Shape, Terms, bits_of
from numgraph.compiler.llvm import lanes as vectors_of
from numgraph.compiler.llvm.lanes import DTYPES, I32, I64, LLVM, Lanes

GLOBAL = 1
"""LLVM's number of the address space of device memory."""


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
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(I32, []), f"llvm.nvvm.read.ptx.sreg.{name}"
    )
    return builder.call(function, [])


def _align(dtype: Any, count: int) -> int:
    return min(count * max(dtype.bitwidth // 8, 1) if dtype is not types.boolean else 1, LARGEST_LOAD)


def _pointer(builder: Any, dtype: Any, memory: Any, row: Any, offset: Any, count: int) -> Any:
    """Pointer to memory[row, offset], to ``count`` elements (0: to one scalar)."""
    size = max(dtype.bitwidth // 8, 1)
    base, stride = builder.extract_value(memory, 0), builder.extract_value(memory, 1)
    address = builder.add(
        builder.add(base, builder.mul(row, stride)), builder.mul(offset, ir.Constant(I64, size))
    )
    kind = ir.VectorType(LLVM[dtype], count) if count > 1 else LLVM[dtype]
    return builder.inttoptr(address, ir.PointerType(kind, addrspace=GLOBAL))


def _load(builder: Any, dtype: Any, pointer: Any, count: int) -> Any:
    """The element at a pointer, or so many as one vector. 16-bit ones in pairs: LLVM loads vectors of halves
    pair by pair.
    """
    if dtype.bitwidth != 16 or count == 1:
        return builder.load(pointer, align=_align(dtype, count))
    pairs = ir.VectorType(I32, count // 2) if count > 2 else I32
    words = builder.load(
        builder.bitcast(pointer, ir.PointerType(pairs, addrspace=GLOBAL)), align=_align(dtype, count)
    )
    result = ir.Constant(ir.VectorType(LLVM[dtype], count), ir.Undefined)
    for i in range(count):
        word = builder.extract_element(words, ir.Constant(I32, i // 2)) if count > 2 else words
        word = builder.lshr(word, ir.Constant(I32, 16)) if i % 2 else word
        result = builder.insert_element(result, builder.trunc(word, LLVM[dtype]), ir.Constant(I32, i))
    return result


def _store(builder: Any, dtype: Any, value: Any, pointer: Any, count: int) -> None:
    builder.store(value, pointer, align=_align(dtype, count))


def _atomic_add(builder: Any, dtype: Any, value: Any, pointer: Any, count: int) -> None:
    """Every element on its own, by NVVM's intrinsic: its dialect of LLVM for devices before sm_100 has no
    atomicrmw of floats.
    """
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
    """operand(dtype)(args, slot): the memory whose address, number of rows and row stride (bytes) are the
    arguments from slot on.
    """
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
    """array[position] of an index array, as int64; of every position, if a thread holds several."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        def one(place: Any) -> Any:
            pointer = _pointer(builder, array.dtype, values[0], ir.Constant(I64, 0), place, 0)
            value = builder.load(pointer, align=_align(array.dtype, 1))
            return builder.sext(value, I64) if value.type != I64 else value

        return _vector(builder, [one(place) for place in _elements(builder, values[1])])

    kind = position if isinstance(position, Lanes) else types.int64
    return kind(array, kind), codegen


def _elements(builder: Any, value: Any) -> list[Any]:
    """The lanes of a value that a thread holds."""
    if not isinstance(value.type, ir.VectorType):
        return [value]
    return [builder.extract_element(value, ir.Constant(I32, i)) for i in range(value.type.count)]


def _vector(builder: Any, elements: list[Any]) -> Any:
    """A value of these lanes."""
    if len(elements) == 1:
        return elements[0]
    made = ir.Constant(ir.VectorType(elements[0].type, len(elements)), ir.Undefined)
    for i, element in enumerate(elements):
        made = builder.insert_element(made, element, ir.Constant(I32, i))
    return made


def _part(builder: Any, value: Any, first: int, count: int) -> Any:
    """``count`` lanes of a value, from the first."""
    if not isinstance(value.type, ir.VectorType) or value.type.count == count:
        return value
    if count > 1:
        return vectors_of.shuffled(builder, value, list(range(first, first + count)))
    return builder.extract_element(value, ir.Constant(I32, first))


class Tile:
    """The primitives for tiles of a shape. Values are what a thread holds of a form: 0 is a scalar, the same
    in every thread.
    """

    def __init__(self, threads: int, vector: int, vectors: int) -> None:
        self.shape = Shape(threads, vector, vectors)
        self.operand, self.ids, self.number, self.at = operand, ids, number, at
        self.cast, self.widen, self.narrow, self.wrap = (
            vectors_of.cast,
            vectors_of.widen,
            vectors_of.narrow,
            vectors_of.wrap,
        )
        vars(self).update(FUNCTIONS)

    def _kind(self, dtype: Any, form: int) -> Any:
        """The type of a value."""
        count = len(self.shape.held(form))
        return Lanes(dtype, count) if count > 1 else dtype

    def _lane(self, builder: Any) -> Any:
        """The first lane that this thread holds, as i32."""
        member = builder.and_(thread_of(builder), ir.Constant(I32, self.shape.threads - 1))
        return builder.mul(member, ir.Constant(I32, self.shape.vector))

    def _digit(self, builder: Any, first: int, bits: int) -> Any:
        """What the bits of a thread's first lane from ``first`` on say, as i32."""
        shape = self.shape
        lane = self._lane(builder)
        lane = builder.lshr(lane, ir.Constant(I32, first)) if first else lane
        top = (shape.threads * shape.vector - 1) >> first
        return builder.and_(lane, ir.Constant(I32, (1 << bits) - 1)) if top >> bits else lane

    def _numbers(self, builder: Any, form: int, terms: Terms) -> list[Any]:
        """Σ stride · digit of every lane that a thread holds, as i64."""
        held = self.shape.held(form)
        numbers: list[Any] = [ir.Constant(I32, 0)] * len(held)
        for first, bits, divide, modulo, stride in terms:
            own = (
                self._digit(builder, first, bits)
                if (self.shape.of_threads >> first) & ((1 << bits) - 1)
                else ir.Constant(I32, 0)
            )
            for i, lane in enumerate(held):
                digit = builder.add(own, ir.Constant(I32, lane >> first & (1 << bits) - 1))
                digit = builder.udiv(digit, ir.Constant(I32, divide)) if divide > 1 else digit
                digit = builder.urem(digit, ir.Constant(I32, modulo)) if modulo else digit
                numbers[i] = builder.add(numbers[i], builder.mul(digit, ir.Constant(I32, stride)))
        return [builder.zext(number, I64) for number in numbers]

    def group(self) -> Any:
        """group()(): the number of this thread's group in the grid."""
        return _group(self.shape.threads)

    # --- values ---

    def constant(self, dtype: str, value: Any, form: int) -> Any:
        count = len(self.shape.held(form))
        return vectors_of.constant(dtype, value, count if count > 1 else 0)

    def spread(self, have: int, want: int) -> Any:
        """spread(have, want)(value): a value of a form in the lanes of one with more bits; no thread asks
        another one.
        """
        taken = self.shape.taken(have, want)

        @intrinsic
        def spreads(typingctx: Any, value: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                (x,) = values
                if len(taken) == 1:
                    return x
                if not isinstance(x.type, ir.VectorType):
                    return vectors_of.repeated(builder, x, len(taken))
                return (
                    x if taken == tuple(range(x.type.count)) else vectors_of.shuffled(builder, x, list(taken))
                )

            return self._kind(getattr(value, "dtype", value), want)(value), codegen

        return spreads

    def fold(self, op: str, form: int, over: int) -> Any:
        """fold(op, form, over)(value): a value of a form summed, multiplied, or its maximum taken, along the
        bits ``over`` of it.
        """
        shape = self.shape
        held = bits_of(form & ~shape.of_threads)
        own = [held.index(bit) for bit in bits_of(over & ~shape.of_threads & form)]
        distances = [bit // shape.vector for bit in bits_of(over & form & shape.of_threads)]
        return fold_of(COMBINE[op], shape.threads, own, distances)

    def counted(self, form: int, terms: Terms) -> Any:
        """counted(form, terms)(start): start + Σ stride · digit in every lane, as int64."""

        @intrinsic
        def numbers(typingctx: Any, start: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                return _vector(
                    builder,
                    [builder.add(values[0], number) for number in self._numbers(builder, form, terms)],
                )

            return self._kind(types.int64, form)(types.int64), codegen

        return numbers

    def below(self, form: int, first: int, bits: int) -> Any:
        """below(form, first, bits)(n): whether what these bits of a lane say is below n. n is a multiple of
        ``vector`` where they are the lowest."""

        @intrinsic
        def mask(typingctx: Any, limit: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                numbers = self._numbers(builder, form, ((first, bits, 1, 0, 1),))
                whole = [
                    numbers[self.shape.held(form).index(lane & ~(self.shape.vector - 1))]
                    for lane in self.shape.held(form)
                ]
                known = {id(number): builder.icmp_signed("<", number, values[0]) for number in whole}
                return _vector(builder, [known[id(number)] for number in whole])

            return self._kind(types.boolean, form)(types.int64), codegen

        return mask

    def zero(self, form: int, part: Part) -> Any:
        """zero(form, part)(): whether a part of a lane's number is 0."""

        @intrinsic
        def mask(typingctx: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                numbers = self._numbers(builder, form, ((*part, 1),))
                return _vector(
                    builder, [builder.icmp_signed("==", number, ir.Constant(I64, 0)) for number in numbers]
                )

            return self._kind(types.boolean, form)(), codegen

        return mask

    # --- memory ---

    def load(self, form: int, terms: Terms, count: int) -> Any:
        """load(form, terms, count)(memory, row, column): memory[row, column + Σ stride · digit] in every
        lane, ``count`` neighbours at once. row: a number, or one for every lane that a thread holds."""

        @intrinsic
        def read(typingctx: Any, memory: Any, row: Any, column: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                return self._read(builder, memory.dtype, values, form, terms, count, None)

            return self._kind(memory.dtype, form)(memory, row, types.int64), codegen

        return read

    def load_masked(self, form: int, terms: Terms, count: int) -> Any:
        """load_masked(form, terms, count)(memory, row, column, mask): as load where the mask is on. Other
        lanes hold something that nothing may use: what stands in the tile's first column, so that no load
        waits for a branch."""

        @intrinsic
        def read(typingctx: Any, memory: Any, row: Any, column: Any, mask: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                return self._read(builder, memory.dtype, values, form, terms, count, values[3])

            return self._kind(memory.dtype, form)(memory, row, types.int64, mask), codegen

        return read

    def _places(
        self, builder: Any, values: Any, form: int, terms: Terms, count: int
    ) -> list[tuple[int, Any, Any]]:
        """Of every access of ``count`` lanes: its first lane among those held, its row, and its offset from
        the tile's first column.
        """
        numbers, rows = self._numbers(builder, form, terms), _elements(builder, values[1])
        return [(i, rows[i if len(rows) > 1 else 0], numbers[i]) for i in range(0, len(numbers), count)]

    def _read(
        self, builder: Any, dtype: Any, values: Any, form: int, terms: Terms, count: int, mask: Any
    ) -> Any:
        elements: list[Any] = []
        on = None if mask is None else _elements(builder, mask)
        places = self._places(builder, values, form, terms, count)
        for i, row, number in places:
            if on is not None:
                number = builder.select(on[i], number, ir.Constant(I64, 0))
            pointer = _pointer(builder, dtype, values[0], row, builder.add(values[2], number), count)
            part = _load(builder, dtype, pointer, count)
            if len(places) == 1:
                return part
            elements += _elements(builder, part)
        return _vector(builder, elements)

    def store(self, form: int, terms: Terms, count: int, put: Callable[..., None] = _store) -> Any:
        """store(form, terms, count)(memory, row, column, value): memory[row, column + Σ stride · digit] =
        value, ``count`` neighbours at once; of the threads that hold the same lanes one stores them."""

        @intrinsic
        def write(typingctx: Any, memory: Any, row: Any, column: Any, value: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                return self._write(context, builder, memory.dtype, values, form, terms, count, None, put)

            return types.void(memory, row, types.int64, value), codegen

        return write

    def store_masked(self, form: int, terms: Terms, count: int, put: Callable[..., None] = _store) -> Any:
        """As store, where the mask is on."""

        @intrinsic
        def write(typingctx: Any, memory: Any, row: Any, column: Any, value: Any, mask: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                return self._write(context, builder, memory.dtype, values, form, terms, count, values[4], put)

            return types.void(memory, row, types.int64, value, mask), codegen

        return write

    def atomic_add(self, form: int, terms: Terms, count: int) -> Any:
        """As store, memory[…] += value, whatever other threads add there."""
        return self.store(form, terms, count, _atomic_add)

    def atomic_add_masked(self, form: int, terms: Terms, count: int) -> Any:
        """As atomic_add, where the mask is on."""
        return self.store_masked(form, terms, count, _atomic_add)

    def _write(
        self,
        context: Any,
        builder: Any,
        dtype: Any,
        values: Any,
        form: int,
        terms: Terms,
        count: int,
        mask: Any,
        put: Callable[..., None],
    ) -> Any:
        others = self.shape.of_threads & ~form
        first = None
        if others:
            lane = builder.and_(self._lane(builder), ir.Constant(I32, others))
            first = builder.icmp_signed("==", lane, ir.Constant(I32, 0))
        on = None if mask is None else _elements(builder, mask)
        for i, row, number in self._places(builder, values, form, terms, count):
            part = _part(builder, values[3], i, count)
            condition = first if on is None else on[i] if first is None else builder.and_(first, on[i])
            pointer = _pointer(builder, dtype, values[0], row, builder.add(values[2], number), count)
            if condition is None:
                put(builder, dtype, part, pointer, count)
            else:
                with builder.if_then(condition):
                    put(builder, dtype, part, pointer, count)
        return context.get_dummy_value()


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
