"""Lanes that move: permutations and folds whose places are constants, and loads and stores of lanes that are
no neighbours in memory.

A value wider than a power of two registers is several vectors (see printing.py); these primitives take all of
them, and give one."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from numgraph.compiler.cpu.memory import alignment_of, mangled_name, member, pointer_of, under_mask
from numgraph.compiler.llvm.lanes import I1, I32, I64, Lanes, larger
from numgraph.compiler.llvm.primitives import primitive

Places = tuple[int, ...]


def shuffled(builder: Any, a: Any, b: Any, places: Any) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(places)), list(places)))


def _undefined(kind: Any) -> Any:
    return ir.Constant(kind, ir.Undefined)


def joined(builder: Any, parts: list[Any]) -> Any:
    """Vectors one after the other as one vector, filled up to a power of two."""
    if len(parts) == 1:
        return parts[0]
    width = 1 << (sum(part.type.count for part in parts) - 1).bit_length()
    made, start = None, 0
    for part in parts:
        count = part.type.count
        placed = shuffled(
            builder, part, _undefined(part.type), [min(max(i - start, 0), count - 1) for i in range(width)]
        )
        order = [width + i if start <= i < start + count else i for i in range(width)]
        made = placed if made is None else shuffled(builder, made, placed, order)
        start += count
    return made


def _taken(builder: Any, parts: list[Any], places: Places) -> Any:
    """Lanes by their places in the parts, of which only those that are asked for are joined."""
    ends = [sum(part.type.count for part in parts[: i + 1]) for i in range(len(parts))]
    used = [
        i for i, end in enumerate(ends) if any(end - parts[i].type.count <= place < end for place in places)
    ]
    start = ends[used[0]] - parts[used[0]].type.count
    whole = joined(builder, parts[used[0] : used[-1] + 1])
    return shuffled(builder, whole, _undefined(whole.type), [place - start for place in places])


def _of_parts(count: int, result: Callable[[Any], Any], build: Callable[[Any, list[Any]], Any]) -> Any:
    """An intrinsic of ``count`` vectors of one dtype."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return build(builder, list(values))

    if count == 1:

        @primitive
        def of_one(typingctx: Any, a: Any) -> Any:
            return result(a)(a), codegen

        return of_one
    if count == 2:

        @primitive
        def of_two(typingctx: Any, a: Any, b: Any) -> Any:
            return result(a)(a, b), codegen

        return of_two
    if count == 3:

        @primitive
        def of_three(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
            return result(a)(a, b, c), codegen

        return of_three

    @primitive
    def of_four(typingctx: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        return result(a)(a, b, c, d), codegen

    return of_four


@functools.cache
def take(places: Places, parts: int) -> Any:
    """take(places, parts)(vector, …): one vector whose lane i is lane places[i] of all parts."""
    return _of_parts(
        parts,
        lambda kind: Lanes(kind.dtype, len(places)),
        lambda builder, given: _taken(builder, given, places),
    )


@functools.cache
def indices(width: int, bits: int) -> Any:
    """indices(width, bits)(args, slot): so many integers, one after the other from a slot of the argument
    block on.
    """

    @primitive
    def read(typingctx: Any, args: Any, slot: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            block = member(context, builder, sig.args[0], values[0], "data")
            kind = ir.VectorType(ir.IntType(bits), width)
            place = builder.bitcast(builder.gep(block, [values[1]]), kind.as_pointer())
            return builder.load(place, align=8, typ=kind)

        return Lanes(types.int32 if bits == 32 else types.int64, width)(args, types.int64), codegen

    return read


_PERMUTES = {ir.FloatType(): "sf", ir.DoubleType(): "df", I32: "si", I64: "di"}


@primitive
def take_by(typingctx: Any, indices: Any, value: Any) -> Any:
    """take_by(indices, vector): lane i is lane indices[i] of a vector that is one register of 64 bytes at
    most. For AVX-512.
    """

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        by, x = values
        width = 512 // by.type.element.width
        kind = ir.VectorType(x.type.element, width)
        whole = shuffled(builder, x, _undefined(x.type), [min(i, x.type.count - 1) for i in range(width)])
        name = f"llvm.x86.avx512.permvar.{_PERMUTES[x.type.element]}.512"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind, ir.VectorType(by.type.element, width)]), name
        )
        made = []
        for start in range(0, by.type.count, width):
            own = shuffled(
                builder, by, _undefined(by.type), [min(start + i, by.type.count - 1) for i in range(width)]
            )
            made.append(builder.call(function, [whole, own]))
        lanes = joined(builder, made)
        return shuffled(builder, lanes, _undefined(lanes.type), list(range(by.type.count)))

    return Lanes(value.dtype, indices.width)(indices, value), codegen


@functools.cache
def fold(op: str, sizes: tuple[int, ...], over: tuple[int, ...], places: Places, parts: int) -> Any:
    """fold(op, sizes, over, places, parts)(vector, …): lanes in rows of ``sizes``, summed, multiplied, or
    their maximum taken along the axes ``over``, then taken by places; no places: a scalar. Halves are added
    to halves, so the order depends on the sizes alone."""
    combine, middle = {"add": (_sum, 0), "multiply": (_product, 1), "maximum": (larger, None)}[op]

    def build(builder: Any, given: list[Any]) -> Any:
        if not places:
            return as_one(builder, given, math.prod(sizes), combine, middle)
        x, shape = joined(builder, given), list(sizes)
        for axis in over:
            while shape[axis] > 1:
                x, shape = _halved(builder, x, shape, axis, combine, middle)
        return shuffled(builder, x, _undefined(x.type), places)

    return _of_parts(parts, lambda kind: Lanes(kind.dtype, len(places)) if places else kind.dtype, build)


def as_one(
    builder: Any, given: list[Any], count: int, combine: Callable[..., Any], middle: int | None
) -> Any:
    """All ``count`` lanes of vectors, the widest first: halves onto each other, and onto them the next vector
    when it is as wide.
    """
    start, left = 0, []
    for part in given:
        width = part.type.count
        if start + width > count:  # lanes not in use become the middle number, or one that is in use
            order = [i if start + i < count else width if middle is not None else 0 for i in range(width)]
            part = shuffled(builder, part, ir.Constant(part.type, [middle or 0] * width), order)
        left.append(part)
        start += width
    x, left = left[0], left[1:]
    while x.type.count > 1:
        half = x.type.count // 2
        x = combine(
            builder,
            *[
                shuffled(builder, x, _undefined(x.type), list(range(first, first + half)))
                for first in (0, half)
            ],
        )
        while left and left[0].type.count == x.type.count:
            x, left = combine(builder, x, left[0]), left[1:]
    return builder.extract_element(x, ir.Constant(I32, 0))


def _sum(builder: Any, a: Any, b: Any) -> Any:
    """Not contracted with products before it, so that its bits do not depend on how lanes are laid out."""
    return builder.add(a, b) if isinstance(a.type.element, ir.IntType) else builder.fadd(a, b)


def _product(builder: Any, a: Any, b: Any) -> Any:
    return builder.mul(a, b) if isinstance(a.type.element, ir.IntType) else builder.fmul(a, b)


def _halved(
    builder: Any, x: Any, shape: list[int], axis: int, combine: Callable[..., Any], middle: int | None
) -> tuple[Any, list[int]]:
    """What an axis has beyond a power of two onto its first values. Those without such a partner meet a
    number, 0 in a sum, and themselves in a maximum.
    """
    length, inner = shape[axis], math.prod(shape[axis + 1 :])
    half = 1 << ((length - 1).bit_length() - 1)
    low: list[int] = []
    high: list[int] = []
    width = x.type.count
    for lane in range(math.prod(shape[:axis]) * half * inner):
        outer, rest = divmod(lane, half * inner)
        here = outer * length * inner + rest
        there = here + half * inner if rest // inner + half < length else None
        low.append(here)
        high.append(there if there is not None else width if middle is not None else here)
    filling = (1 << (len(low) - 1).bit_length()) - len(low)
    low, high = low + [0] * filling, high + [0] * filling
    lower = shuffled(builder, x, _undefined(x.type), low)
    upper = shuffled(builder, x, ir.Constant(x.type, [middle or 0] * width), high)
    return combine(builder, lower, upper), [*shape[:axis], half, *shape[axis + 1 :]]


@functools.cache
def count_from(width: int) -> Any:
    """count_from(width)(start): start, start + 1, … as int64."""

    @primitive
    def count(typingctx: Any, start: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            wide = ir.VectorType(I64, width)
            return builder.add(splat(builder, values[0], wide), ir.Constant(wide, list(range(width))))

        return Lanes(types.int64, width)(types.int64), codegen

    return count


@primitive
def prefetch_ids(typingctx: Any, array: Any, position: Any) -> Any:
    """Ask for an entry of an index array; also one behind its end, which reads nothing."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        data = member(context, builder, sig.args[0], values[0], "data")
        place = builder.bitcast(builder.gep(data, [values[1]], inbounds=False), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [place.type, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [place, ir.Constant(I32, 0), ir.Constant(I32, 3), ir.Constant(I32, 1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


@functools.cache
def load_ids(width: int) -> Any:
    """load_ids(width)(array, position, mask): as many entries of an index array from a position, as int64; 0
    where the mask is off.
    """

    @primitive
    def read(typingctx: Any, array: Any, position: Any, mask: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            data = member(context, builder, sig.args[0], values[0], "data")
            vector = ir.VectorType(data.type.pointee, width)
            pointer = builder.gep(data, [values[1]])
            found = under_mask(builder, pointer, vector, alignment_of(sig.args[0]), values[2])
            return found if vector.element == I64 else builder.sext(found, ir.VectorType(I64, width))

        return Lanes(types.int64, width)(array, types.int64, mask), codegen

    return read


def _pointers(context: Any, builder: Any, kind: Any, values: Any, offsets: Places, single: bool) -> Any:
    """A pointer for each lane, to array[row, column + offset], of values = (array, row or rows, column, …).
    single: rows of one entry, one after the other, whose numbers the processor scales itself."""
    array, row, column = values[:3]
    rows = isinstance(row.type, ir.VectorType)
    base, _ = pointer_of(context, builder, kind, (array, ir.Constant(I64, 0) if rows else row, column), 0)
    stride, size = cgutils.unpack_tuple(builder, member(context, builder, kind, array, "strides"))
    if single:
        return indexed(builder, base, row)
    wide = ir.VectorType(I64, len(offsets))
    place = builder.mul(splat(builder, size, wide), ir.Constant(wide, list(offsets)))
    if rows:
        place = builder.add(place, builder.mul(as_int64(builder, row), splat(builder, stride, wide)))
    start = builder.ptrtoint(base, I64)
    return builder.inttoptr(
        builder.add(splat(builder, start, wide), place), ir.VectorType(base.type, len(offsets))
    )


def indexed(builder: Any, base: Any, indices: Any) -> Any:
    """A pointer for each index. llvmlite builds it when it is told its type."""
    pointers = ir.instructions.GEPInstr(
        builder.block, base, [indices], False, "", source_etype=base.type.pointee
    )
    pointers.type = ir.VectorType(base.type, indices.type.count)
    builder._insert(pointers)
    return pointers


def splat(builder: Any, value: Any, wide: Any) -> Any:
    one = builder.insert_element(_undefined(wide), value, ir.Constant(I32, 0))
    return shuffled(builder, one, _undefined(wide), [0] * wide.count)


@functools.cache
def gather(offsets: Places, single: bool = False) -> Any:
    """gather(offsets)(array, row or rows, column, mask): array[row, column + offset] of every lane; 0 where
    the mask is off. single: of an array whose rows have one entry and lie one after the other."""

    @primitive
    def read(typingctx: Any, array: Any, row: Any, column: Any, mask: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            pointers = _pointers(context, builder, sig.args[0], values, offsets, single)
            vector = ir.VectorType(pointers.type.element.pointee, len(offsets))
            return gathered(builder, pointers, vector, alignment_of(sig.args[0]), values[3])

        return Lanes(array.dtype, len(offsets))(array, row, types.int64, mask), codegen

    return read


@functools.cache
def scatter(offsets: Places) -> Any:
    """scatter(offsets)(array, row or rows, column, value, mask): array[row, column + offset] = value, where
    the mask is on.
    """

    @primitive
    def write(typingctx: Any, array: Any, row: Any, column: Any, value: Any, mask: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            pointers = _pointers(context, builder, sig.args[0], values, offsets, False)
            kind = ir.FunctionType(ir.VoidType(), [values[3].type, pointers.type, I32, values[4].type])
            name = f"llvm.masked.scatter.{mangled_name(values[3].type).removesuffix('.p0')}.v{len(offsets)}p0"
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(
                function, [values[3], pointers, ir.Constant(I32, alignment_of(sig.args[0])), values[4]]
            )
            return context.get_dummy_value()

        return types.void(array, row, types.int64, value, mask), codegen

    return write


def gathered(builder: Any, pointers: Any, vector: Any, alignment: int, mask: Any) -> Any:
    """What pointers point to; 0 where the mask is off."""
    on = ir.VectorType(I1, vector.count)
    kind = ir.FunctionType(vector, [pointers.type, I32, on, vector])
    name = f"llvm.masked.gather.{mangled_name(vector).removesuffix('.p0')}.v{vector.count}p0"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    mask = ir.Constant(on, [1] * vector.count) if mask is None else mask
    return builder.call(function, [pointers, ir.Constant(I32, alignment), mask, ir.Constant(vector, None)])


def as_int64(builder: Any, value: Any) -> Any:
    """Integers as int64."""
    wide = ir.VectorType(I64, value.type.count)
    return value if value.type == wide else builder.sext(value, wide)
