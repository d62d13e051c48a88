"""SIMD lanes inside Numba kernels: vectors of one dtype that live in registers, and the primitives of
generated kernels on them.

``Lanes(dtype, width)`` is a Numba type over an LLVM vector. A width above the machine's (64 float32 are four
AVX-512 registers) is legal: LLVM splits it, so a kernel's text does not grow with the tile. Every arithmetic
primitive takes scalars or lanes, all operands alike; ``expand`` and ``cast`` convert. Masked loads and stores
leave memory beyond the mask alone, so any number of features works."""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import register_model

from numgraph.compiler.llvm.primitives import primitive

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
LLVM = {
    types.float32: ir.FloatType(),
    types.float64: ir.DoubleType(),
    types.int8: I8,
    types.int16: I16,
    types.int32: I32,
    types.int64: I64,
    types.uint8: I8,
    types.uint16: I16,
    types.uint32: I32,
    types.boolean: I1,
}
DTYPES = {
    "float32": types.float32,
    "float64": types.float64,
    "int8": types.int8,
    "int16": types.int16,
    "int32": types.int32,
    "int64": types.int64,
    "uint8": types.uint8,
    "uint16": types.uint16,
    "uint32": types.uint32,
    "bool": types.boolean,
}
CONTRACT = ("contract",)


class Lanes(types.Type):
    """``width`` values of a Numba scalar type in registers."""

    def __init__(self, dtype: Any, width: int) -> None:
        self.dtype, self.width = dtype, width
        super().__init__(name=f"Lanes({dtype}, {width})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Lanes) -> None:
        super().__init__(manager, fe_type, ir.VectorType(LLVM[fe_type.dtype], fe_type.width))


def _scalar(kind: Any) -> Any:
    return kind.dtype if isinstance(kind, Lanes) else kind


def like(kind: Any, dtype: Any) -> Any:
    return Lanes(dtype, kind.width) if isinstance(kind, Lanes) else dtype


def floating(kind: Any) -> bool:
    return _scalar(kind) in (types.float32, types.float64)


def fill(llvm_type: Any, value: Any) -> ir.Constant:
    if isinstance(llvm_type, ir.VectorType):
        return ir.Constant(llvm_type, [value] * llvm_type.count)
    return ir.Constant(llvm_type, value)


def repeated(builder: Any, value: Any, width: int) -> Any:
    vector = ir.VectorType(value.type, width)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(I32, 0))
    mask = ir.Constant(ir.VectorType(I32, width), [0] * width)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)


@functools.cache
def first_lanes(width: int) -> Any:
    """first_lanes(width)(n): a mask whose first n lanes are on."""

    @primitive
    def mask(typingctx: Any, count: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            iota = ir.Constant(ir.VectorType(I32, width), list(range(width)))
            limit = builder.select(
                builder.icmp_signed(">", values[0], ir.Constant(I64, width)),
                ir.Constant(I32, width),
                builder.trunc(values[0], I32),
            )
            return builder.icmp_signed("<", iota, repeated(builder, limit, width))

        return Lanes(types.boolean, width)(types.int64), codegen

    return mask


# --- conversions --------------------------------------------------------------------------------------------


@functools.cache
def expand(width: int) -> Any:
    """expand(width)(scalar): the scalar in every lane."""

    @primitive
    def splat(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return repeated(builder, values[0], width)

        return Lanes(value, width)(value), codegen

    return splat


def shuffled(builder: Any, x: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(
        x, ir.Constant(x.type, ir.Undefined), ir.Constant(ir.VectorType(I32, len(order)), order)
    )


@functools.cache
def constant(dtype: str, value: Any, width: int) -> Any:
    """constant(dtype, value, width)(): a literal; width 0: a scalar."""
    element = DTYPES[dtype]
    kind = Lanes(element, width) if width else element

    @primitive
    def literal(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return fill(context.get_value_type(kind), value)

        return kind(), codegen

    return literal


@functools.cache
def cast(dtype: str) -> Any:
    """cast(dtype)(value): the value converted as NumPy's astype does."""
    target = DTYPES[dtype]

    @primitive
    def convert(typingctx: Any, value: Any) -> Any:
        source = _scalar(value)

        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            (x,) = values
            result = context.get_value_type(sig.return_type)
            if source == target:
                return x
            if target == types.boolean:
                zero = fill(x.type, 0)
                return (
                    builder.fcmp_unordered("!=", x, zero)
                    if floating(source)
                    else builder.icmp_signed("!=", x, zero)
                )
            if floating(source):
                if not floating(target):
                    return builder.fptosi(x, result)
                return builder.fpext(x, result) if target == types.float64 else builder.fptrunc(x, result)
            signed = source != types.boolean and source.signed
            if floating(target):
                return builder.sitofp(x, result) if signed else builder.uitofp(x, result)
            if LLVM[target].width > LLVM[source].width:
                return builder.sext(x, result) if signed else builder.zext(x, result)
            return x if LLVM[target].width == LLVM[source].width else builder.trunc(x, result)

        return like(value, target)(value), codegen

    return convert


def _shaped(x: Any, element: Any) -> Any:
    """The type of x with another element."""
    return ir.VectorType(element, x.type.count) if isinstance(x.type, ir.VectorType) else element


@functools.cache
def widen(storage: str) -> Any:
    """widen("float16" or "bfloat16")(bits): the float32 of 16 stored bits, exactly."""

    @primitive
    def widened(typingctx: Any, bits: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            (x,) = values
            if storage == "float16":
                return builder.fpext(
                    builder.bitcast(x, _shaped(x, ir.HalfType())), _shaped(x, ir.FloatType())
                )
            high = builder.shl(builder.zext(x, _shaped(x, I32)), fill(_shaped(x, I32), 16))
            return builder.bitcast(high, _shaped(x, ir.FloatType()))

        return like(bits, types.float32)(bits), codegen

    return widened


@functools.cache
def narrow(storage: str) -> Any:
    """narrow("float16" or "bfloat16")(value): the 16 bits of a float32, rounded to nearest even; NaN stays
    NaN.
    """

    @primitive
    def narrowed(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            (x,) = values
            if storage == "float16":
                return builder.bitcast(builder.fptrunc(x, _shaped(x, ir.HalfType())), _shaped(x, I16))
            wide = _shaped(x, I32)
            bits = builder.bitcast(x, wide)
            odd = builder.and_(builder.lshr(bits, fill(wide, 16)), fill(wide, 1))
            rounded = builder.add(bits, builder.add(odd, fill(wide, 0x7FFF)))
            kept = builder.select(
                builder.fcmp_unordered("uno", x, x), builder.or_(bits, fill(wide, 0x400000)), rounded
            )
            return builder.trunc(builder.lshr(kept, fill(wide, 16)), _shaped(x, I16))

        return like(value, types.uint16)(value), codegen

    return narrowed


@functools.cache
def wrap(bits: int, signed: bool) -> Any:
    """wrap(bits, signed)(value): an integer as it comes back from storage of so many bits: NumPy's small
    integers overflow.
    """

    @primitive
    def wrapped(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            (x,) = values
            small = ir.IntType(bits)
            low = builder.trunc(
                x, ir.VectorType(small, x.type.count) if isinstance(x.type, ir.VectorType) else small
            )
            return builder.sext(low, x.type) if signed else builder.zext(low, x.type)

        return value(value), codegen

    return wrapped


# --- what folds combine by ----------------------------------------------------------------------------------


def total(builder: Any, a: Any, b: Any) -> Any:
    element = getattr(a.type, "element", a.type)
    return builder.add(a, b) if isinstance(element, ir.IntType) else builder.fadd(a, b, flags=CONTRACT)


def larger(builder: Any, a: Any, b: Any) -> Any:
    element = getattr(a.type, "element", a.type)
    if isinstance(element, ir.IntType):
        return (
            builder.or_(a, b) if element.width == 1 else builder.select(builder.icmp_signed(">", a, b), a, b)
        )
    return builder.select(
        builder.or_(builder.fcmp_ordered(">", a, b), builder.fcmp_unordered("uno", a, a)), a, b
    )


@primitive
def any_lane(typingctx: Any, mask: Any) -> Any:
    """Whether a condition holds in any lane."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        (x,) = values
        if not isinstance(sig.args[0], Lanes):
            return x
        bits = builder.bitcast(x, ir.IntType(x.type.count))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(mask), codegen
