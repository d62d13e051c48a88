"""SIMD lanes inside Numba kernels: vectors of one dtype that live in registers, and the primitives of generated kernels on them.

``Lanes(dtype, width)`` is a Numba type over an LLVM vector. A width above the machine's (64 float32 are four AVX-512 registers) is legal:
LLVM splits it, so a kernel's text does not grow with the tile. Every arithmetic primitive takes scalars or lanes, all operands alike;
``expand`` and ``cast`` convert. Masked loads and stores leave memory beyond the mask alone, so any number of features works.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

from numgraph.kernels import vectormath

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
_LLVM = {
    types.float32: ir.FloatType(),
    types.float64: ir.DoubleType(),
    types.int32: I32,
    types.int64: I64,
    types.uint8: I8,
    types.boolean: I1,
}
DTYPES = {
    "float32": types.float32,
    "float64": types.float64,
    "int32": types.int32,
    "int64": types.int64,
    "uint8": types.uint8,
    "bool": types.boolean,
}
_CONTRACT = ("contract",)


class Lanes(types.Type):
    """``width`` values of a Numba scalar type in registers."""

    def __init__(self, dtype: Any, width: int) -> None:
        self.dtype, self.width = dtype, width
        super().__init__(name=f"Lanes({dtype}, {width})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Lanes) -> None:
        super().__init__(manager, fe_type, ir.VectorType(_LLVM[fe_type.dtype], fe_type.width))


def _scalar(kind: Any) -> Any:
    return kind.dtype if isinstance(kind, Lanes) else kind


def _like(kind: Any, dtype: Any) -> Any:
    return Lanes(dtype, kind.width) if isinstance(kind, Lanes) else dtype


def _floating(kind: Any) -> bool:
    return _scalar(kind) in (types.float32, types.float64)


def _fill(llvm_type: Any, value: Any) -> ir.Constant:
    if isinstance(llvm_type, ir.VectorType):
        return ir.Constant(llvm_type, [value] * llvm_type.count)
    return ir.Constant(llvm_type, value)


def _splat(builder: Any, value: Any, width: int) -> Any:
    vector = ir.VectorType(value.type, width)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(I32, 0))
    mask = ir.Constant(ir.VectorType(I32, width), [0] * width)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)


# --- the argument block: addresses, sizes and constants as int64 -------------------------------------------------------------------------


def _slot(context: Any, builder: Any, kind: Any, args: Any, slot: Any, offset: int) -> Any:
    block = context.make_array(kind)(context, builder, args)
    return builder.load(builder.gep(block.data, [builder.add(slot, ir.Constant(I64, offset))]))


@functools.cache
def operand(dtype: str) -> Any:
    """operand(dtype)(args, slot): the 2-D array [rows, features] whose address, number of rows and row stride (bytes) stand at slot."""
    element = DTYPES[dtype]
    kind = types.Array(element, 2, "A")

    @intrinsic
    def view(typingctx: Any, args: Any, slot: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            get = functools.partial(_slot, context, builder, sig.args[0], values[0], values[1])
            array = context.make_array(kind)(context, builder)
            size = ir.Constant(I64, max(element.bitwidth // 8, 1) if element is not types.boolean else 1)
            context.populate_array(
                array,
                data=builder.inttoptr(get(0), array.data.type),
                shape=(get(1), ir.Constant(I64, 1 << 40)),
                strides=(get(2), size),
                itemsize=size,
                meminfo=None,
            )
            return array._getvalue()

        return kind(args, types.int64), codegen

    return view


@functools.cache
def ids(dtype: str) -> Any:
    """ids(dtype)(args, slot): the 1-D index array whose address and length stand at slot."""
    element = DTYPES[dtype]
    kind = types.Array(element, 1, "C")

    @intrinsic
    def view(typingctx: Any, args: Any, slot: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            get = functools.partial(_slot, context, builder, sig.args[0], values[0], values[1])
            array = context.make_array(kind)(context, builder)
            size = ir.Constant(I64, element.bitwidth // 8)
            context.populate_array(
                array, data=builder.inttoptr(get(0), array.data.type), shape=(get(1),), strides=(size,), itemsize=size, meminfo=None
            )
            return array._getvalue()

        return kind(args, types.int64), codegen

    return view


@intrinsic
def number(typingctx: Any, args: Any, slot: Any) -> Any:
    """number(args, slot): the float64 whose bits stand at slot."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.bitcast(_slot(context, builder, sig.args[0], values[0], values[1], 0), ir.DoubleType())

    return types.float64(args, types.int64), codegen


# --- memory -----------------------------------------------------------------------------------------------------------------------------


@intrinsic
def at(typingctx: Any, array: Any, position: Any) -> Any:
    """array[position] of an index array, as int64."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        struct = context.make_array(sig.args[0])(context, builder, values[0])
        if config.BOUNDSCHECK:
            cgutils.do_boundscheck(context, builder, values[1], cgutils.unpack_tuple(builder, struct.shape)[0], 0)
        value = builder.load(builder.gep(struct.data, [values[1]]))
        return builder.sext(value, I64) if value.type != I64 else value

    return types.int64(array, types.int64), codegen


def _pointer(context: Any, builder: Any, kind: Any, array: Any, row: Any, offset: Any, width: int) -> tuple[Any, Any]:
    struct = context.make_array(kind)(context, builder, array)
    if config.BOUNDSCHECK:
        cgutils.do_boundscheck(context, builder, row, cgutils.unpack_tuple(builder, struct.shape)[0], 0)
    stride, size = cgutils.unpack_tuple(builder, struct.strides)
    base = builder.bitcast(struct.data, I8.as_pointer())
    position = builder.add(builder.mul(row, stride), builder.mul(offset, size))
    element = I8 if kind.dtype is types.boolean else _LLVM[kind.dtype]
    value_type = ir.VectorType(element, width) if width else element
    return builder.bitcast(builder.gep(base, [position]), value_type.as_pointer()), value_type


def _align(kind: Any) -> int:
    return max(kind.dtype.bitwidth // 8, 1)


def _mangled(vector: Any) -> str:
    element = {ir.FloatType(): "f32", ir.DoubleType(): "f64"}.get(vector.element) or f"i{vector.element.width}"
    return f"v{vector.count}{element}.p0"


@functools.cache
def load(width: int) -> Any:
    """load(width)(array, row, offset): lanes from array[row, offset:]; width 0: one scalar."""

    @intrinsic
    def read(typingctx: Any, array: Any, row: Any, offset: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            pointer, value_type = _pointer(context, builder, sig.args[0], *values, width)
            return builder.load(pointer, align=_align(sig.args[0]), typ=value_type)

        return (Lanes(array.dtype, width) if width else array.dtype)(array, types.int64, types.int64), codegen

    return read


@functools.cache
def load_masked(width: int) -> Any:
    """load_masked(width)(array, row, offset, mask): as load, zero where the mask is off; memory there is not touched."""

    @intrinsic
    def read(typingctx: Any, array: Any, row: Any, offset: Any, mask: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            pointer, vector = _pointer(context, builder, sig.args[0], *values[:3], width)
            name = f"llvm.masked.load.{_mangled(vector)}"
            kind = ir.FunctionType(vector, [vector.as_pointer(), I32, values[3].type, vector])
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            zero = ir.Constant(vector, None)
            return builder.call(function, [pointer, ir.Constant(I32, _align(sig.args[0])), values[3], zero])

        return Lanes(array.dtype, width)(array, types.int64, types.int64, mask), codegen

    return read


@intrinsic
def store(typingctx: Any, array: Any, row: Any, offset: Any, value: Any) -> Any:
    """array[row, offset:] = value (lanes or a scalar)."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        width = sig.args[3].width if isinstance(sig.args[3], Lanes) else 0
        pointer, _ = _pointer(context, builder, sig.args[0], *values[:3], width)
        builder.store(values[3], pointer, align=_align(sig.args[0]))
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, value), codegen


@intrinsic
def store_masked(typingctx: Any, array: Any, row: Any, offset: Any, value: Any, mask: Any) -> Any:
    """As store, where the mask is on."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        pointer, vector = _pointer(context, builder, sig.args[0], *values[:3], sig.args[3].width)
        kind = ir.FunctionType(ir.VoidType(), [vector, vector.as_pointer(), I32, values[4].type])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.{_mangled(vector)}")
        builder.call(function, [values[3], pointer, ir.Constant(I32, _align(sig.args[0])), values[4]])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, value, mask), codegen


@functools.cache
def first_lanes(width: int) -> Any:
    """first_lanes(width)(n): a mask whose first n lanes are on."""

    @intrinsic
    def mask(typingctx: Any, count: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            iota = ir.Constant(ir.VectorType(I32, width), list(range(width)))
            limit = builder.select(
                builder.icmp_signed(">", values[0], ir.Constant(I64, width)), ir.Constant(I32, width), builder.trunc(values[0], I32)
            )
            return builder.icmp_signed("<", iota, _splat(builder, limit, width))

        return Lanes(types.boolean, width)(types.int64), codegen

    return mask


# --- conversions ------------------------------------------------------------------------------------------------------------------------


@functools.cache
def expand(width: int) -> Any:
    """expand(width)(scalar): the scalar in every lane."""

    @intrinsic
    def splat(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return _splat(builder, values[0], width)

        return Lanes(value, width)(value), codegen

    return splat


def _shuffle(builder: Any, x: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(x, ir.Constant(x.type, ir.Undefined), ir.Constant(ir.VectorType(I32, len(order)), order))


def _shuffling(width_of: Callable[[int], int], order_of: Callable[[int], list[int]]) -> Any:
    @intrinsic
    def shuffle(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return _shuffle(builder, values[0], order_of(value.width))

        return Lanes(value.dtype, width_of(value.width))(value), codegen

    return shuffle


@functools.cache
def spread(times: int) -> Any:
    """spread(times)(lanes): every lane ``times`` times in a row."""
    return _shuffling(lambda width: width * times, lambda width: [lane for lane in range(width) for _ in range(times)])


@functools.cache
def pattern(times: int) -> Any:
    """pattern(times)(lanes): the whole vector ``times`` times."""
    return _shuffling(lambda width: width * times, lambda width: list(range(width)) * times)


@functools.cache
def constant(dtype: str, value: Any, width: int) -> Any:
    """constant(dtype, value, width)(): a literal; width 0: a scalar."""
    element = DTYPES[dtype]
    kind = Lanes(element, width) if width else element

    @intrinsic
    def literal(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return _fill(context.get_value_type(kind), value)

        return kind(), codegen

    return literal


@functools.cache
def cast(dtype: str) -> Any:
    """cast(dtype)(value): the value converted as NumPy's astype does."""
    target = DTYPES[dtype]

    @intrinsic
    def convert(typingctx: Any, value: Any) -> Any:
        source = _scalar(value)

        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            (x,) = values
            result = context.get_value_type(sig.return_type)
            if source == target:
                return x
            if target == types.boolean:
                zero = _fill(x.type, 0)
                return builder.fcmp_unordered("!=", x, zero) if _floating(source) else builder.icmp_signed("!=", x, zero)
            if source == types.boolean or source == types.uint8:
                return builder.uitofp(x, result) if _floating(target) else (builder.zext(x, result) if target != source else x)
            if _floating(source):
                if not _floating(target):
                    return builder.fptosi(x, result)
                return builder.fpext(x, result) if target == types.float64 else builder.fptrunc(x, result)
            if _floating(target):
                return builder.sitofp(x, result)
            return builder.sext(x, result) if target.bitwidth > source.bitwidth else builder.trunc(x, result)

        return _like(value, target)(value), codegen

    return convert


# --- folds over lanes, in a fixed order ---------------------------------------------------------------------------------------------------


def _fold(combine: Callable[[Any, Any, Any], Any]) -> Any:
    @intrinsic
    def fold(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            (x,) = values
            width = sig.args[0].width
            while width > 1:
                width //= 2
                x = combine(builder, *[_shuffle(builder, x, list(range(start, start + width))) for start in (0, width)])
            return builder.extract_element(x, ir.Constant(I32, 0))

        return value.dtype(value), codegen

    return fold


def _add(builder: Any, a: Any, b: Any) -> Any:
    element = getattr(a.type, "element", a.type)
    return builder.add(a, b) if isinstance(element, ir.IntType) else builder.fadd(a, b, flags=_CONTRACT)


def _larger(builder: Any, a: Any, b: Any) -> Any:
    element = getattr(a.type, "element", a.type)
    if isinstance(element, ir.IntType):
        return builder.select(builder.icmp_signed(">", a, b), a, b)
    return builder.select(builder.or_(builder.fcmp_ordered(">", a, b), builder.fcmp_unordered("uno", a, a)), a, b)


def _fold_groups(combine: Callable[[Any, Any, Any], Any], group: int) -> Any:
    @intrinsic
    def fold(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            (x,) = values
            while x.type.count > value.width // group:
                x = combine(builder, *[_shuffle(builder, x, list(range(start, x.type.count, 2))) for start in (0, 1)])
            return x

        return Lanes(value.dtype, value.width // group)(value), codegen

    return fold


@functools.cache
def fold_sum_groups(group: int) -> Any:
    """fold_sum_groups(group)(lanes): the sum of every ``group`` (a power of two) neighbouring lanes."""
    return _fold_groups(_add, group)


@functools.cache
def fold_max_groups(group: int) -> Any:
    """fold_max_groups(group)(lanes): the maximum of every ``group`` (a power of two) neighbouring lanes."""
    return _fold_groups(_larger, group)


fold_sum = _fold(_add)
fold_max = _fold(_larger)


# --- arithmetic: one primitive per row of the elementary table ---------------------------------------------------------------------------


def _unary(build: Callable[[Any, Any, bool], Any]) -> Any:
    @intrinsic
    def primitive(typingctx: Any, x: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return build(builder, values[0], _floating(sig.args[0]))

        return x(x), codegen

    return primitive


def _binary(build: Callable[[Any, Any, Any, bool], Any], result: Any = None) -> Any:
    @intrinsic
    def primitive(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return build(builder, *values, _floating(sig.args[0]))

        return (_like(a, result) if result is not None else a)(a, b), codegen

    return primitive


def _comparison(symbol: str) -> Any:
    def build(builder: Any, a: Any, b: Any, floating: bool) -> Any:
        if not floating:
            narrow = getattr(a.type, "element", a.type).width == 1
            return builder.icmp_unsigned(symbol, a, b) if narrow else builder.icmp_signed(symbol, a, b)
        return builder.fcmp_unordered("!=", a, b) if symbol == "!=" else builder.fcmp_ordered(symbol, a, b)

    return _binary(build, types.boolean)


def _sign(builder: Any, x: Any, floating: bool) -> Any:
    zero, one, minus = _fill(x.type, 0), _fill(x.type, 1), _fill(x.type, -1)
    more = builder.fcmp_ordered(">", x, zero) if floating else builder.icmp_signed(">", x, zero)
    less = builder.fcmp_ordered("<", x, zero) if floating else builder.icmp_signed("<", x, zero)
    return builder.select(more, one, builder.select(less, minus, x if floating else zero))


def _absolute(builder: Any, x: Any, floating: bool) -> Any:
    if floating:
        return vectormath.call_intrinsic(builder, "fabs", x)
    return builder.select(builder.icmp_signed("<", x, _fill(x.type, 0)), builder.neg(x), x)


def _divide(builder: Any, a: Any, b: Any, floating: bool) -> Any:
    return builder.fdiv(a, b)


def _smaller(builder: Any, a: Any, b: Any, floating: bool) -> Any:
    if not floating:
        return builder.select(builder.icmp_signed("<", a, b), a, b)
    return builder.select(builder.or_(builder.fcmp_ordered("<", a, b), builder.fcmp_unordered("uno", a, a)), a, b)


def _power(builder: Any, a: Any, b: Any, floating: bool) -> Any:
    return vectormath.power(builder, a, b)


@intrinsic
def where(typingctx: Any, condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b, lane by lane."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.select(*values)

    return a(condition, a, b), codegen


add = _binary(lambda builder, a, b, floating: _add(builder, a, b))
subtract = _binary(lambda builder, a, b, floating: builder.fsub(a, b, flags=_CONTRACT) if floating else builder.sub(a, b))
multiply = _binary(lambda builder, a, b, floating: builder.fmul(a, b, flags=_CONTRACT) if floating else builder.mul(a, b))
divide = _binary(_divide)
power = _binary(_power)
maximum = _binary(lambda builder, a, b, floating: _larger(builder, a, b))
minimum = _binary(_smaller)
negative = _unary(lambda builder, x, floating: builder.fneg(x) if floating else builder.neg(x))
absolute = _unary(_absolute)
sign = _unary(_sign)
equal, not_equal = _comparison("=="), _comparison("!=")
less, less_equal, greater, greater_equal = _comparison("<"), _comparison("<="), _comparison(">"), _comparison(">=")
logical_and = _binary(lambda builder, a, b, floating: builder.and_(a, b))
logical_or = _binary(lambda builder, a, b, floating: builder.or_(a, b))
logical_not = _unary(lambda builder, x, floating: builder.not_(x))


def _transcendental(name: str) -> Any:
    return _unary(lambda builder, x, floating: vectormath.FUNCTIONS[name](builder, x))


floor, sqrt = _transcendental("floor"), _transcendental("sqrt")
exp, expm1, log, log1p = _transcendental("exp"), _transcendental("expm1"), _transcendental("log"), _transcendental("log1p")
sin, cos, tanh = _transcendental("sin"), _transcendental("cos"), _transcendental("tanh")
arctan, erf = _transcendental("arctan"), _transcendental("erf")
