"""LLVM scalars and vectors with Python's operators: what vectormath's formulas are written in.

A ``Value`` is a float, double or integer, or a vector of them of any width, and the builder that its
operations are appended to. The same operations are emitted for a scalar and for a vector, and none of them
may be reassociated or fused by its neighbours' fast-math flags, so a lane's bits depend neither on the width
nor on the code around it. Multiply-adds are ``llvm.fmuladd``: one rounding where the target has an
instruction for it, two where it has none."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

I32, I64 = ir.IntType(32), ir.IntType(64)


def element_of(value: Any) -> Any:
    return value.type.element if isinstance(value.type, ir.VectorType) else value.type


def like(kind: Any, element: Any) -> Any:
    """The LLVM type with as many lanes as kind and this element."""
    return ir.VectorType(element, kind.count) if isinstance(kind, ir.VectorType) else element


def call_intrinsic(builder: Any, name: str, *operands: Any) -> Any:
    """LLVM's own ``llvm.NAME`` for the operands' type."""
    kind = operands[0].type
    suffix = {ir.FloatType(): "f32", ir.DoubleType(): "f64"}[element_of(operands[0])]
    suffix = f"v{kind.count}{suffix}" if isinstance(kind, ir.VectorType) else suffix
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * len(operands)), f"llvm.{name}.{suffix}"
    )
    return builder.call(function, operands)


def float_bits(number: float, width: int) -> int:
    """The IEEE bits of a number in 32 or 64 bits."""
    return int.from_bytes(struct.pack("<f" if width == 32 else "<d", number), "little")


class Value:
    """One operand of a formula. Comparisons are ordered (false for NaN) and give masks; Python numbers become
    constants of the type.
    """

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    @property
    def width(self) -> int:
        """Bits of an element: 32 or 64."""
        element = element_of(self.value)
        return (
            32
            if isinstance(element, ir.FloatType)
            else 64
            if isinstance(element, ir.DoubleType)
            else element.width
        )

    def constant(self, number: float) -> Value:
        """The number in every lane; spelled as a splat, for a list of 64 literals is slow to print and to
        parse.
        """
        kind = self.value.type
        literal = ir.Constant(element_of(self.value), number)
        if not isinstance(kind, ir.VectorType):
            return Value(self.builder, literal)
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, literal, ir.Constant(I32, 0))
        return Value(
            self.builder,
            self.builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, kind.count), None)),
        )

    def _apply(self, operation: str, *others: Value | float) -> Value:
        operands = [self, *[x if isinstance(x, Value) else self.constant(x) for x in others]]
        return Value(self.builder, getattr(self.builder, operation)(*[x.value for x in operands]))

    def _arithmetic(self, operation: str, other: Value | float) -> Value:
        integer = isinstance(element_of(self.value), ir.IntType)
        return self._apply(operation if integer else f"f{operation}", other)

    def __add__(self, other: Value | float) -> Value:
        return self._arithmetic("add", other)

    __radd__ = __add__

    def __sub__(self, other: Value | float) -> Value:
        return self._arithmetic("sub", other)

    def __rsub__(self, other: float) -> Value:
        return self.constant(other)._arithmetic("sub", self)

    def __mul__(self, other: Value | float) -> Value:
        return self._arithmetic("mul", other)

    def __truediv__(self, other: Value | float) -> Value:
        return self._apply("fdiv", other)

    def __rtruediv__(self, other: float) -> Value:
        return self.constant(other)._apply("fdiv", self)

    def __and__(self, other: Value | int) -> Value:
        return self._apply("and_", other)

    def __or__(self, other: Value | int) -> Value:
        return self._apply("or_", other)

    def __xor__(self, other: Value | int) -> Value:
        return self._apply("xor", other)

    def __lshift__(self, count: int) -> Value:
        return self._apply("shl", count)

    def __rshift__(self, count: int) -> Value:
        """Logical: zeros come in."""
        return self._apply("lshr", count)

    def _compare(self, symbol: str, other: Value | float) -> Value:
        other = other if isinstance(other, Value) else self.constant(other)
        return Value(self.builder, self.builder.fcmp_ordered(symbol, self.value, other.value))

    def __lt__(self, other: Value | float) -> Value:
        return self._compare("<", other)

    def __gt__(self, other: Value | float) -> Value:
        return self._compare(">", other)

    def equals(self, other: Value | float) -> Value:
        return self._compare("==", other)

    def is_set(self, bit: int) -> Value:
        """Mask of the integers that have this bit."""
        masked = self & (1 << bit)
        return Value(self.builder, self.builder.icmp_unsigned("!=", masked.value, self.constant(0).value))

    def where(self, then: Value | float, otherwise: Value) -> Value:
        """self, a mask: its lanes of ``then``, the others of ``otherwise``."""
        then = then if isinstance(then, Value) else otherwise.constant(then)
        return Value(self.builder, self.builder.select(self.value, then.value, otherwise.value))

    def __invert__(self) -> Value:
        return Value(self.builder, self.builder.not_(self.value))

    def any(self) -> Any:
        """self, a mask: an i1, true if any lane is."""
        kind = self.value.type
        if not isinstance(kind, ir.VectorType):
            return self.value
        bits = self.builder.bitcast(self.value, ir.IntType(kind.count))
        return self.builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    def fma(self, factor: Value | float, addend: Value | float) -> Value:
        """self · factor + addend."""
        operands = [self, *[x if isinstance(x, Value) else self.constant(x) for x in (factor, addend)]]
        return Value(self.builder, call_intrinsic(self.builder, "fmuladd", *[x.value for x in operands]))

    def intrinsic(self, name: str, *others: Value) -> Value:
        return Value(self.builder, call_intrinsic(self.builder, name, self.value, *[x.value for x in others]))

    def clamp(self, low: float, high: float) -> Value:
        """Between low and high; NaN stays."""
        x = (self > high).where(high, self)
        return (x < low).where(low, x)

    def bits(self) -> Value:
        """A float's bits as an integer."""
        return Value(
            self.builder, self.builder.bitcast(self.value, like(self.value.type, ir.IntType(self.width)))
        )

    def floats(self) -> Value:
        """The float with these bits."""
        element = ir.FloatType() if self.width == 32 else ir.DoubleType()
        return Value(self.builder, self.builder.bitcast(self.value, like(self.value.type, element)))

    def doubled(self) -> Value:
        """float → double, exact."""
        return Value(self.builder, self.builder.fpext(self.value, like(self.value.type, ir.DoubleType())))

    def halved(self) -> Value:
        """double → float, or 64-bit integer → its low 32 bits."""
        if isinstance(element_of(self.value), ir.IntType):
            return Value(self.builder, self.builder.trunc(self.value, like(self.value.type, I32)))
        return Value(self.builder, self.builder.fptrunc(self.value, like(self.value.type, ir.FloatType())))

    def polynomial(self, coefficients: tuple[float, ...], square: Value | None = None) -> Value:
        """c₀ + c₁x + c₂x² + …, Horner's way; given x², Estrin's: half as many steps that wait for another."""
        if square is not None:
            pairs = [
                self.fma(odd, even) for even, odd in zip(coefficients[::2], coefficients[1::2], strict=True)
            ]
            return functools.reduce(lambda high, low: high.fma(square, low), reversed(pairs))
        result: Value = self.constant(coefficients[-1])
        for c in coefficients[-2::-1]:
            result = result.fma(self, c)
        return result


def _libm_loop(module: Any, name: str, element: Any, operands: int) -> Any:
    """f(count, result, x, …): result[i] = libm's name(x[i], …). Out of line: only rare branches call it."""
    symbol = name + ("f" if isinstance(element, ir.FloatType) else "")
    title = f"numgraph.lanewise.{symbol}"
    if title in module.globals:
        return module.globals[title]
    pointer = element.as_pointer()
    loop = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] + [pointer] * (operands + 1)), title)
    loop.linkage = "internal"
    loop.attributes.add("noinline")
    builder = ir.IRBuilder(loop.append_basic_block("entry"))
    libm = cgutils.get_or_insert_function(module, ir.FunctionType(element, [element] * operands), symbol)
    with cgutils.for_range(builder, loop.args[0]) as step:
        values = [
            builder.load(builder.gep(x, [step.index], source_etype=element), typ=element)
            for x in loop.args[2:]
        ]
        builder.store(
            builder.call(libm, values), builder.gep(loop.args[1], [step.index], source_etype=element)
        )
    builder.ret_void()
    return loop


def libm(name: str, *operands: Value) -> Value:
    """The C library's function, lane by lane."""
    builder, kind = operands[0].builder, operands[0].value.type
    element = element_of(operands[0].value)
    count = kind.count if isinstance(kind, ir.VectorType) else 1
    align = 4 if isinstance(element, ir.FloatType) else 8
    slots = [cgutils.alloca_once(builder, kind) for _ in range(len(operands) + 1)]
    for slot, x in zip(slots[1:], operands, strict=True):
        builder.store(x.value, slot, align=align)
    loop = _libm_loop(builder.module, name, element, len(operands))
    builder.call(
        loop, [ir.Constant(I64, count), *[builder.bitcast(slot, element.as_pointer()) for slot in slots]]
    )
    return Value(builder, builder.load(slots[0], align=align, typ=kind))


def mend(result: Value, wrong: Value, exact: Callable[[], Value]) -> Value:
    """result, with the lanes of the mask ``wrong`` taken from ``exact()``, which is computed only if there
    are any.
    """
    builder, start = result.builder, result.builder.block
    with builder.if_then(wrong.any(), likely=False):
        mended = wrong.where(exact(), result)
        end = builder.block
    merged = builder.phi(result.value.type)
    merged.add_incoming(result.value, start)
    merged.add_incoming(mended.value, end)
    return Value(builder, merged)
