"""How generated kernels reach memory: the argument block of addresses, sizes and constants, and loads and
stores of lanes or scalars.

Masked loads and stores leave memory beyond the mask alone. With NUMBA_BOUNDSCHECK every row and position is
checked."""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.datamodel import models
from numba.extending import register_model

from numgraph.compiler.llvm.lanes import DTYPES, I8, I32, I64, LLVM, Lanes
from numgraph.compiler.llvm.primitives import primitive
from numgraph.compiler.storage import CACHE_LINE

# --- arrays -------------------------------------------------------------------------------------------------


class View(types.Type):
    """An array of somebody else's: what Numba's arrays have for those that own their memory takes a quarter
    of a kernel's compilation.
    """

    def __init__(self, dtype: Any, ndim: int) -> None:
        self.dtype, self.ndim = dtype, ndim
        super().__init__(name=f"View({dtype}, {ndim})")


@register_model(View)
class _ViewModel(models.StructModel):
    """The parts that Numba's arrays have too, under the same names."""

    def __init__(self, manager: Any, fe_type: View) -> None:
        sizes = types.UniTuple(types.int64, fe_type.ndim)
        parts = [("data", types.CPointer(fe_type.dtype)), ("shape", sizes), ("strides", sizes)]
        super().__init__(manager, fe_type, parts)


def member(context: Any, builder: Any, kind: Any, array: Any, name: str) -> Any:
    """The data (a pointer), shape or strides of an array, this module's or Numba's."""
    return context.data_model_manager[kind].get(builder, array, name)


def _checked(context: Any, builder: Any, kind: Any, array: Any, position: Any) -> None:
    """Raise an error where a position is outside of the first axis, if that is wanted."""
    if config.BOUNDSCHECK:
        length = builder.extract_value(member(context, builder, kind, array, "shape"), 0)
        cgutils.do_boundscheck(context, builder, position, length, 0)


# --- the argument block: addresses, sizes and constants as int64 --------------------------------------------


def _slot(context: Any, builder: Any, kind: Any, args: Any, slot: Any, offset: int) -> Any:
    block = member(context, builder, kind, args, "data")
    return builder.load(builder.gep(block, [builder.add(slot, ir.Constant(I64, offset))]))


def _view(dtype: str, ndim: int) -> Any:
    """view(args, slot): an array whose address, length and, of two axes, row stride stand at slot."""
    element = DTYPES[dtype]
    kind = View(element, ndim)
    size = ir.Constant(I64, max(element.bitwidth // 8, 1) if element is not types.boolean else 1)

    @primitive
    def view(typingctx: Any, args: Any, slot: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            get = functools.partial(_slot, context, builder, sig.args[0], values[0], values[1])
            data = builder.inttoptr(get(0), context.get_value_type(types.CPointer(element)))
            shape, strides = [get(1)], [size]
            if ndim == 2:
                shape, strides = [*shape, ir.Constant(I64, 1 << 40)], [get(2), size]
            sizes = [cgutils.pack_array(builder, one) for one in (shape, strides)]
            return cgutils.pack_struct(builder, [data, *sizes])

        return kind(args, types.int64), codegen

    return view


@functools.cache
def operand(dtype: str) -> Any:
    """operand(dtype)(args, slot): the 2-D array [rows, features] whose address, number of rows and row stride
    (bytes) stand at slot.
    """
    return _view(dtype, 2)


@functools.cache
def ids(dtype: str) -> Any:
    """ids(dtype)(args, slot): the 1-D index array whose address and length stand at slot."""
    return _view(dtype, 1)


@primitive
def number(typingctx: Any, args: Any, slot: Any) -> Any:
    """number(args, slot): the float64 whose bits stand at slot."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.bitcast(_slot(context, builder, sig.args[0], values[0], values[1], 0), ir.DoubleType())

    return types.float64(args, types.int64), codegen


# --- memory -------------------------------------------------------------------------------------------------


@primitive
def at(typingctx: Any, array: Any, position: Any) -> Any:
    """array[position] of an index array, or of the argument block, as int64."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        array, position = values
        _checked(context, builder, sig.args[0], array, position)
        value = builder.load(builder.gep(member(context, builder, sig.args[0], array, "data"), [position]))
        return builder.sext(value, I64) if value.type != I64 else value

    return types.int64(array, types.int64), codegen


@primitive
def length(typingctx: Any, array: Any) -> Any:
    """How many entries an index array has."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.extract_value(member(context, builder, sig.args[0], values[0], "shape"), 0)

    return types.int64(array), codegen


def pointer_of(context: Any, builder: Any, kind: Any, values: Any, width: int) -> tuple[Any, Any]:
    """Pointer to array[row, offset] of values = (array, row, offset, …), and the LLVM type of what is
    there.
    """
    array, row, offset = values[:3]
    _checked(context, builder, kind, array, row)
    stride, size = cgutils.unpack_tuple(builder, member(context, builder, kind, array, "strides"))
    base = builder.bitcast(member(context, builder, kind, array, "data"), I8.as_pointer())
    position = builder.add(builder.mul(row, stride), builder.mul(offset, size))
    element = I8 if kind.dtype is types.boolean else LLVM[kind.dtype]
    value_type = ir.VectorType(element, width) if width else element
    return builder.bitcast(builder.gep(base, [position]), value_type.as_pointer()), value_type


def alignment_of(kind: Any) -> int:
    found: int = max(kind.dtype.bitwidth // 8, 1)
    return found


def mangled_name(vector: Any) -> str:
    element = {ir.FloatType(): "f32", ir.DoubleType(): "f64"}.get(
        vector.element
    ) or f"i{vector.element.width}"
    return f"v{vector.count}{element}.p0"


def under_mask(builder: Any, pointer: Any, vector: Any, alignment: int, mask: Any, others: Any = None) -> Any:
    """A vector from a pointer on; where the mask is off no memory is touched, and ``others`` stand, or 0."""
    kind = ir.FunctionType(vector, [vector.as_pointer(), I32, mask.type, vector])
    function = cgutils.get_or_insert_function(
        builder.module, kind, f"llvm.masked.load.{mangled_name(vector)}"
    )
    there = builder.bitcast(pointer, vector.as_pointer())
    others = ir.Constant(vector, None) if others is None else others
    return builder.call(function, [there, ir.Constant(I32, alignment), mask, others])


@functools.cache
def load(width: int) -> Any:
    """load(width)(array, row, offset): lanes from array[row, offset:]; width 0: one scalar."""

    @primitive
    def read(typingctx: Any, array: Any, row: Any, offset: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            pointer, value_type = pointer_of(context, builder, sig.args[0], values, width)
            return builder.load(pointer, align=alignment_of(sig.args[0]), typ=value_type)

        return (Lanes(array.dtype, width) if width else array.dtype)(array, types.int64, types.int64), codegen

    return read


@functools.cache
def load_masked(width: int) -> Any:
    """load_masked(width)(array, row, offset, mask): as load, zero where the mask is off; memory there is not
    touched.
    """

    @primitive
    def read(typingctx: Any, array: Any, row: Any, offset: Any, mask: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            pointer, vector = pointer_of(context, builder, sig.args[0], values, width)
            return under_mask(builder, pointer, vector, alignment_of(sig.args[0]), values[3])

        return Lanes(array.dtype, width)(array, types.int64, types.int64, mask), codegen

    return read


@functools.cache
def prefetch(size: int, write: bool = False) -> Any:
    """prefetch(size)(array, row, offset): ask for the cache lines of ``size`` bytes from array[row, offset],
    to read or to write them.
    """

    @primitive
    def ask(typingctx: Any, array: Any, row: Any, offset: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            pointer, _ = pointer_of(context, builder, sig.args[0], values, 0)
            base = builder.bitcast(pointer, I8.as_pointer())
            kind = ir.FunctionType(ir.VoidType(), [base.type, I32, I32, I32])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            for line in range(0, size, CACHE_LINE):
                place = builder.gep(base, [ir.Constant(I64, line)])
                builder.call(
                    function, [place, ir.Constant(I32, int(write)), ir.Constant(I32, 3), ir.Constant(I32, 1)]
                )
            return context.get_dummy_value()

        return types.void(array, types.int64, types.int64), codegen

    return ask


@functools.cache
def store(width: int) -> Any:
    """store(width)(array, row, offset, value): array[row, offset:] = value, so many lanes or, width 0, a
    scalar.
    """

    @primitive
    def write(typingctx: Any, array: Any, row: Any, offset: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            pointer, _ = pointer_of(context, builder, sig.args[0], values, width)
            builder.store(values[3], pointer, align=alignment_of(sig.args[0]))
            return context.get_dummy_value()

        return types.void(array, types.int64, types.int64, _of_width(value, width)), codegen

    return write


@functools.cache
def store_masked(width: int) -> Any:
    """As store, where the mask is on."""

    @primitive
    def write(typingctx: Any, array: Any, row: Any, offset: Any, value: Any, mask: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            pointer, vector = pointer_of(context, builder, sig.args[0], values, width)
            kind = ir.FunctionType(ir.VoidType(), [vector, vector.as_pointer(), I32, values[4].type])
            function = cgutils.get_or_insert_function(
                builder.module, kind, f"llvm.masked.store.{mangled_name(vector)}"
            )
            builder.call(
                function, [values[3], pointer, ir.Constant(I32, alignment_of(sig.args[0])), values[4]]
            )
            return context.get_dummy_value()

        return types.void(array, types.int64, types.int64, _of_width(value, width), mask), codegen

    return write


def _of_width(value: Any, width: int) -> Any:
    """The type of a value that is stored, which must have as many lanes as the store was checked for."""
    if getattr(value, "width", 0) != width:
        raise TypeError(f"{value} stored as {width} lanes")
    return value
