"""Elementary functions on LLVM scalars and vectors, built with the IR builder.

A function takes (builder, x), x of type float, double or a vector of them, and returns the same type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils


def element_of(value: Any) -> Any:
    return value.type.element if isinstance(value.type, ir.VectorType) else value.type


def call_intrinsic(builder: Any, name: str, *operands: Any) -> Any:
    """LLVM's own ``llvm.NAME`` for the operands' type."""
    kind = operands[0].type
    suffix = {ir.FloatType(): "f32", ir.DoubleType(): "f64"}[element_of(operands[0])]
    suffix = f"v{kind.count}{suffix}" if isinstance(kind, ir.VectorType) else suffix
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * len(operands)), f"llvm.{name}.{suffix}")
    return builder.call(function, operands)


def call_libm(builder: Any, name: str, *operands: Any) -> Any:
    """The C library's function, lane by lane."""
    kind = operands[0].type
    element = element_of(operands[0])
    symbol = name + ("f" if element == ir.FloatType() else "")
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(element, [element] * len(operands)), symbol)
    if not isinstance(kind, ir.VectorType):
        return builder.call(function, operands)
    result = ir.Constant(kind, ir.Undefined)
    for lane in range(kind.count):
        index = ir.Constant(ir.IntType(32), lane)
        value = builder.call(function, [builder.extract_element(x, index) for x in operands])
        result = builder.insert_element(result, value, index)
    return result


def _intrinsic(name: str) -> Callable[[Any, Any], Any]:
    return lambda builder, x: call_intrinsic(builder, name, x)


def _libm(name: str) -> Callable[[Any, Any], Any]:
    return lambda builder, x: call_libm(builder, name, x)


def power(builder: Any, x: Any, p: Any) -> Any:
    return call_libm(builder, "pow", x, p)


FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "floor": _intrinsic("floor"),
    "sqrt": _intrinsic("sqrt"),
    "exp": _libm("exp"),
    "expm1": _libm("expm1"),
    "log": _libm("log"),
    "log1p": _libm("log1p"),
    "sin": _libm("sin"),
    "cos": _libm("cos"),
    "tanh": _libm("tanh"),
    "arctan": _libm("atan"),
    "erf": _libm("erf"),
}
