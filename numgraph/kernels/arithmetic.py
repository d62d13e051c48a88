"""The arithmetic of generated kernels: one primitive per row of the elementary table that has no ``lower``, on scalars and lanes alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import intrinsic

from numgraph.kernels import vectormath
from numgraph.kernels.lanes import CONTRACT, fill, floating, larger, like, total


def _unary(build: Callable[[Any, Any, bool], Any]) -> Any:
    @intrinsic
    def primitive(typingctx: Any, x: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return build(builder, values[0], floating(sig.args[0]))

        return x(x), codegen

    return primitive


def _binary(build: Callable[..., Any], result: Any = None) -> Any:
    @intrinsic
    def primitive(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return build(builder, *values, floating(sig.args[0]))

        return (like(a, result) if result is not None else a)(a, b), codegen

    return primitive


def _comparison(symbol: str) -> Any:
    def build(builder: Any, a: Any, b: Any, real: bool) -> Any:
        if not real:
            narrow = getattr(a.type, "element", a.type).width == 1
            return builder.icmp_unsigned(symbol, a, b) if narrow else builder.icmp_signed(symbol, a, b)
        return builder.fcmp_unordered("!=", a, b) if symbol == "!=" else builder.fcmp_ordered(symbol, a, b)

    return _binary(build, types.boolean)


def _sign(builder: Any, x: Any, real: bool) -> Any:
    zero, one, minus = fill(x.type, 0), fill(x.type, 1), fill(x.type, -1)
    more = builder.fcmp_ordered(">", x, zero) if real else builder.icmp_signed(">", x, zero)
    less = builder.fcmp_ordered("<", x, zero) if real else builder.icmp_signed("<", x, zero)
    return builder.select(more, one, builder.select(less, minus, x if real else zero))


def _absolute(builder: Any, x: Any, real: bool) -> Any:
    if real:
        return vectormath.call_intrinsic(builder, "fabs", x)
    return builder.select(builder.icmp_signed("<", x, fill(x.type, 0)), builder.neg(x), x)


def _divide(builder: Any, a: Any, b: Any, real: bool) -> Any:
    return builder.fdiv(a, b)


def _smaller(builder: Any, a: Any, b: Any, real: bool) -> Any:
    if not real:
        narrow = getattr(a.type, "element", a.type).width == 1
        return builder.and_(a, b) if narrow else builder.select(builder.icmp_signed("<", a, b), a, b)
    return builder.select(builder.or_(builder.fcmp_ordered("<", a, b), builder.fcmp_unordered("uno", a, a)), a, b)


def _power(builder: Any, a: Any, b: Any, real: bool) -> Any:
    return vectormath.power(builder, a, b)


@intrinsic
def where(typingctx: Any, condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b, lane by lane."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.select(*values)

    return a(condition, a, b), codegen


add = _binary(lambda builder, a, b, real: total(builder, a, b))
subtract = _binary(lambda builder, a, b, real: builder.fsub(a, b, flags=CONTRACT) if real else builder.sub(a, b))
multiply = _binary(lambda builder, a, b, real: builder.fmul(a, b, flags=CONTRACT) if real else builder.mul(a, b))
divide = _binary(_divide)
power = _binary(_power)
maximum = _binary(lambda builder, a, b, real: larger(builder, a, b))
minimum = _binary(_smaller)
negative = _unary(lambda builder, x, real: builder.fneg(x) if real else builder.neg(x))
absolute = _unary(_absolute)
sign = _unary(_sign)
equal, not_equal = _comparison("=="), _comparison("!=")
less, less_equal, greater, greater_equal = _comparison("<"), _comparison("<="), _comparison(">"), _comparison(">=")
logical_and = _binary(lambda builder, a, b, real: builder.and_(a, b))
logical_or = _binary(lambda builder, a, b, real: builder.or_(a, b))
logical_not = _unary(lambda builder, x, real: builder.not_(x))


def _transcendental(name: str) -> Any:
    return _unary(lambda builder, x, real: vectormath.FUNCTIONS[name](builder, x))


floor, sqrt = _transcendental("floor"), _transcendental("sqrt")
exp, expm1, log, log1p = _transcendental("exp"), _transcendental("expm1"), _transcendental("log"), _transcendental("log1p")
sin, cos, tanh = _transcendental("sin"), _transcendental("cos"), _transcendental("tanh")
arctan, erf = _transcendental("arctan"), _transcendental("erf")
