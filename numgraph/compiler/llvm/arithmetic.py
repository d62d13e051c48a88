"""The arithmetic of generated kernels: one primitive per row of the elementary table that has no ``lower``,
on scalars and lanes alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from numgraph.compiler.llvm import vectormath
from numgraph.compiler.llvm.lanes import CONTRACT, I32, fill, floating, larger, like, total
from numgraph.compiler.llvm.primitives import primitive


def _unary(build: Callable[[Any, Any, bool], Any]) -> Any:
    @primitive
    def function(typingctx: Any, x: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return build(builder, values[0], floating(sig.args[0]))

        return x(x), codegen

    return function


def _binary(build: Callable[..., Any], result: Any = None) -> Any:
    @primitive
    def function(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return build(builder, *values, floating(sig.args[0]))

        return (like(a, result) if result is not None else a)(a, b), codegen

    return function


def _comparison(symbol: str) -> Any:
    def build(builder: Any, a: Any, b: Any, real: bool) -> Any:
        if not real:
            narrow = getattr(a.type, "element", a.type).width == 1
            return builder.icmp_unsigned(symbol, a, b) if narrow else builder.icmp_signed(symbol, a, b)
        return builder.fcmp_unordered("!=", a, b) if symbol == "!=" else builder.fcmp_ordered(symbol, a, b)

    return _binary(build, types.boolean)


def _sign(builder: Any, x: Any, real: bool) -> Any:
    """NaN stays, and both zeros become 0."""
    zero, one, minus = fill(x.type, 0), fill(x.type, 1), fill(x.type, -1)
    more = builder.fcmp_ordered(">", x, zero) if real else builder.icmp_signed(">", x, zero)
    less = builder.fcmp_ordered("<", x, zero) if real else builder.icmp_signed("<", x, zero)
    return builder.select(
        more,
        one,
        builder.select(
            less, minus, builder.select(builder.fcmp_unordered("uno", x, x), x, zero) if real else zero
        ),
    )


def _absolute(builder: Any, x: Any, real: bool) -> Any:
    return vectormath.call_intrinsic(builder, "fabs", x) if real else _integer_absolute(builder, x)


def _integer_absolute(builder: Any, x: Any) -> Any:
    return builder.select(builder.icmp_signed("<", x, fill(x.type, 0)), builder.neg(x), x)


def _divide(builder: Any, a: Any, b: Any, real: bool) -> Any:
    return builder.fdiv(a, b)


def _smaller(builder: Any, a: Any, b: Any, real: bool) -> Any:
    if not real:
        narrow = getattr(a.type, "element", a.type).width == 1
        return builder.and_(a, b) if narrow else builder.select(builder.icmp_signed("<", a, b), a, b)
    return builder.select(
        builder.or_(builder.fcmp_ordered("<", a, b), builder.fcmp_unordered("uno", a, a)), a, b
    )


def _power(builder: Any, a: Any, b: Any, real: bool) -> Any:
    return vectormath.power(builder, a, b) if real else _integer_power(builder, a, b)


def _integer_power(builder: Any, base: Any, exponent: Any) -> Any:
    """By squaring, for exponents ≥ 0; overflow wraps."""
    kind = base.type
    one, zero = fill(kind, 1), fill(kind, 0)
    before, loop, after = (
        builder.block,
        builder.append_basic_block("power"),
        builder.append_basic_block("power.end"),
    )
    builder.branch(loop)
    builder.position_at_end(loop)
    step, made, factor, left = builder.phi(I32), builder.phi(kind), builder.phi(kind), builder.phi(kind)
    odd = builder.icmp_signed("!=", builder.and_(left, one), zero)
    following = (
        builder.add(step, ir.Constant(I32, 1)),
        builder.select(odd, builder.mul(made, factor), made),
        builder.mul(factor, factor),
        builder.lshr(left, one),
    )
    for phi, start, value in zip(
        (step, made, factor, left), (ir.Constant(I32, 0), one, base, exponent), following, strict=True
    ):
        phi.add_incoming(start, before)
        phi.add_incoming(value, loop)
    bits = getattr(kind, "element", kind).width - 1  # that of the sign is not there
    builder.cbranch(builder.icmp_signed("<", following[0], ir.Constant(I32, bits)), loop, after)
    builder.position_at_end(after)
    return following[1]


def _divisor(builder: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """An integer divisor that no processor stops at: 1 for 0, and for −1 where the quotient overflows; and
    the mask of zeros.
    """
    element = getattr(a.type, "element", a.type)
    zero = builder.icmp_signed("==", b, fill(b.type, 0))
    least = builder.icmp_signed("==", a, fill(a.type, -(1 << element.width - 1)))
    overflow = builder.and_(least, builder.icmp_signed("==", b, fill(b.type, -1)))
    return builder.select(builder.or_(zero, overflow), fill(b.type, 1), b), zero


def _apart(builder: Any, rest: Any, b: Any) -> Any:
    """Mask of the integers whose rest of a division has another sign than the divisor."""
    return builder.and_(
        builder.icmp_signed("!=", rest, fill(b.type, 0)),
        builder.icmp_signed("<", builder.xor(rest, b), fill(b.type, 0)),
    )


def _fmod(builder: Any, a: Any, b: Any, real: bool) -> Any:
    return vectormath.fmod(builder, a, b) if real else _integer_fmod(builder, a, b)


def _integer_fmod(builder: Any, a: Any, b: Any) -> Any:
    return builder.srem(a, _divisor(builder, a, b)[0])


OF_INTEGERS: dict[str, Callable[..., Any]] = {
    "absolute": _integer_absolute,
    "fmod": _integer_fmod,
    "power": _integer_power,
}
"""(builder, *operands) of the functions that are apart for integers on every target."""


def remainder_by(fmod: Callable[[Any, Any, Any], Any]) -> Any:
    """NumPy's remainder, which has the divisor's sign; that of integers by 0 is 0. fmod: the target's, of
    floats.
    """

    def build(builder: Any, a: Any, b: Any, real: bool) -> Any:
        if real:
            return vectormath.remainder(builder, a, b, fmod)
        rest = _integer_fmod(builder, a, b)
        return builder.select(_apart(builder, rest, b), builder.add(rest, b), rest)

    return _binary(build)


def floor_divide_by(fmod: Callable[[Any, Any, Any], Any], floor: Callable[[Any, Any], Any]) -> Any:
    """NumPy's quotient rounded down; that of integers by 0 is 0. fmod, floor: the target's, of floats."""

    def build(builder: Any, a: Any, b: Any, real: bool) -> Any:
        if real:
            return vectormath.floor_divide(builder, a, b, fmod, floor)
        divisor, by_zero = _divisor(builder, a, b)
        quotient = builder.sdiv(a, divisor)
        rest = builder.sub(a, builder.mul(quotient, divisor))
        down = builder.sub(quotient, builder.zext(_apart(builder, rest, divisor), a.type))
        return builder.select(by_zero, fill(a.type, 0), down)

    return _binary(build)


def _shift(left: bool) -> Callable[..., Any]:
    """By counts outside of the dtype's width everything is shifted out."""

    def build(builder: Any, a: Any, b: Any, real: bool) -> Any:
        width = getattr(a.type, "element", a.type).width
        inside = builder.icmp_unsigned("<", b, fill(b.type, width))
        if left:
            return builder.select(
                inside, builder.shl(a, builder.select(inside, b, fill(b.type, 0))), fill(a.type, 0)
            )
        return builder.ashr(a, builder.select(inside, b, fill(b.type, width - 1)))

    return build


@primitive
def where(typingctx: Any, condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b, lane by lane."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.select(*values)

    return a(condition, a, b), codegen


add = _binary(lambda builder, a, b, real: total(builder, a, b))
# A product is rounded before something is subtracted from it: a·b − a·b is 0, and s − m is the same number in
# every kernel, whatever s is.
subtract = _binary(lambda builder, a, b, real: builder.fsub(a, b) if real else builder.sub(a, b))
multiply = _binary(
    lambda builder, a, b, real: builder.fmul(a, b, flags=CONTRACT) if real else builder.mul(a, b)
)
divide = _binary(_divide)
power = _binary(_power)
maximum = _binary(lambda builder, a, b, real: larger(builder, a, b))
minimum = _binary(_smaller)
negative = _unary(lambda builder, x, real: builder.fneg(x) if real else builder.neg(x))
absolute = _unary(_absolute)
sign = _unary(_sign)
equal, not_equal = _comparison("=="), _comparison("!=")
less, less_equal, greater, greater_equal = (
    _comparison("<"),
    _comparison("<="),
    _comparison(">"),
    _comparison(">="),
)
logical_and = _binary(lambda builder, a, b, real: builder.and_(a, b))
logical_or = _binary(lambda builder, a, b, real: builder.or_(a, b))
logical_not = _unary(lambda builder, x, real: builder.not_(x))
bitwise_and, bitwise_or, bitwise_not = logical_and, logical_or, logical_not
bitwise_xor = _binary(lambda builder, a, b, real: builder.xor(a, b))
left_shift, right_shift = _binary(_shift(True)), _binary(_shift(False))
fmod, remainder, floor_divide = (
    _binary(_fmod),
    remainder_by(vectormath.fmod),
    floor_divide_by(vectormath.fmod, vectormath.FUNCTIONS["floor"]),
)


def _transcendental(name: str) -> Any:
    return _unary(lambda builder, x, real: vectormath.FUNCTIONS[name](builder, x))


floor, sqrt = _transcendental("floor"), _transcendental("sqrt")
exp, expm1, exp2 = _transcendental("exp"), _transcendental("expm1"), _transcendental("exp2")
log, log1p, log2, log10 = (
    _transcendental("log"),
    _transcendental("log1p"),
    _transcendental("log2"),
    _transcendental("log10"),
)
arctan2 = _binary(lambda builder, a, b, real: vectormath.arctan2(builder, a, b))
sin, cos, tanh = _transcendental("sin"), _transcendental("cos"), _transcendental("tanh")
arctan, erf = _transcendental("arctan"), _transcendental("erf")
