"""What a thread of a generated CUDA kernel does with values in its registers: elementary functions, and folds
with its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numgraph.compiler.llvm import arithmetic
from numgraph.compiler.llvm import lanes as vectors_of
from numgraph.compiler.llvm.lanes import I1, I32, I64, larger, total
from numgraph.expressions import elementary

WARP = 32
_LIBDEVICE = {
    "absolute": "fabs",
    "arctan": "atan",
    "arctan2": "atan2",
    "power": "pow",
    **{name: name for name in ("floor", "sqrt", "fmod", "sin", "cos", "tanh", "erf")},
    **{name: name for name in ("exp", "expm1", "exp2", "log", "log1p", "log2", "log10")},
}
"""Elementary functions by their name in libdevice; those of float32 end in f. CUDA's programming guide has
their errors, a few ulp.
"""


def thread_of(builder: Any) -> Any:
    """threadIdx.x as i32."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(I32, []), "llvm.nvvm.read.ptx.sreg.tid.x"
    )
    return builder.call(function, [])


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


def _called(name: str) -> Callable[..., Any]:
    """(builder, *operands): the function of libdevice on scalars or vectors of floats."""

    def call(builder: Any, *operands: Any) -> Any:
        def scalar(*xs: Any) -> Any:
            kind = ir.FunctionType(xs[0].type, [x.type for x in xs])
            suffix = "f" if isinstance(xs[0].type, ir.FloatType) else ""
            function = cgutils.get_or_insert_function(
                builder.module, kind, f"__nv_{_LIBDEVICE[name]}{suffix}"
            )
            return builder.call(function, xs)

        return _each(builder, operands[0], scalar, *operands[1:])

    return call


def _libdevice(name: str) -> Any:
    """The primitive that is a function of libdevice on floats, and that of the host on integers."""
    call = _called(name)
    of_integers: Any = arithmetic.OF_INTEGERS.get(name)
    if name in ("power", "fmod", "arctan2"):
        return arithmetic._binary(
            lambda builder, a, b, real: call(builder, a, b) if real else of_integers(builder, a, b)
        )
    return arithmetic._unary(lambda builder, x, real: call(builder, x) if real else of_integers(builder, x))


def _subtract(builder: Any, a: Any, b: Any, real: bool) -> Any:
    """NVVM's compiler would put a product and a difference together, of which arithmetic.py has them
    apart.
    """
    if not real:
        return builder.sub(a, b)

    def scalar(x: Any, y: Any) -> Any:
        name = f"__nv_{'f' if isinstance(x.type, ir.FloatType) else 'd'}sub_rn"
        return builder.call(
            cgutils.get_or_insert_function(builder.module, ir.FunctionType(x.type, [x.type, y.type]), name),
            [x, y],
        )

    return _each(builder, a, scalar, b)


def _combined(builder: Any, x: Any, combine: Callable[[Any, Any, Any], Any]) -> Any:
    """One value from a thread's lanes, neighbours first halved: a fixed order."""
    while isinstance(x.type, ir.VectorType):
        half = x.type.count // 2
        if half == 1:
            return combine(builder, *[builder.extract_element(x, ir.Constant(I32, i)) for i in (0, 1)])
        x = combine(
            builder,
            *[vectors_of.shuffled(builder, x, list(range(start, start + half))) for start in (0, half)],
        )
    return x


@intrinsic
def _any_lane(typingctx: Any, mask: Any) -> Any:
    """Whether a condition holds in any of this thread's lanes."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return _combined(builder, values[0], lambda builder, a, b: builder.or_(a, b))

    return types.boolean(mask), codegen


FUNCTIONS: dict[str, Any] = {
    **{name: getattr(arithmetic, name) for name in elementary.TABLE if hasattr(arithmetic, name)},
    **{name: _libdevice(name) for name in _LIBDEVICE},
    "remainder": arithmetic.remainder_by(_called("fmod")),
    "floor_divide": arithmetic.floor_divide_by(_called("fmod"), _called("floor")),
    "any_lane": _any_lane,
    "subtract": arithmetic._binary(_subtract),
    # NVVM's dialect of LLVM has no fneg
    "negative": arithmetic._unary(
        lambda builder, x, real: builder.fsub(vectors_of.fill(x.type, -0.0), x) if real else builder.neg(x)
    ),
}
"""Arithmetic by the names that generated kernels use."""


def _product(builder: Any, a: Any, b: Any) -> Any:
    return (
        builder.mul(a, b)
        if isinstance(getattr(a.type, "element", a.type), ir.IntType)
        else builder.fmul(a, b)
    )


def _of_partner(builder: Any, x: Any, distance: int, members: Any) -> Any:
    """The value of the thread whose number differs in the bit ``distance``. members: mask of the threads that
    take part.
    """
    if isinstance(x.type, ir.VectorType):
        made = ir.Constant(x.type, ir.Undefined)
        for place in [ir.Constant(I32, i) for i in range(x.type.count)]:
            made = builder.insert_element(
                made, _of_partner(builder, builder.extract_element(x, place), distance, members), place
            )
        return made
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
    shuffle = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(result, [I32] * 5), "llvm.nvvm.shfl.sync.i32"
    )
    butterfly, clamp = ir.Constant(I32, 3), ir.Constant(I32, WARP - 1)
    return builder.extract_value(
        builder.call(shuffle, [members, butterfly, x, ir.Constant(I32, distance), clamp]), 0
    )


COMBINE: dict[str, Callable[[Any, Any, Any], Any]] = {"add": total, "multiply": _product, "maximum": larger}
"""(builder, a, b) of what folds."""


def _halved(builder: Any, x: Any, place: int, combine: Callable[[Any, Any, Any], Any]) -> Any:
    """The lanes of a thread in pairs that differ in one bit of their place."""
    low = [lane for lane in range(x.type.count) if not lane >> place & 1]
    parts = [[lane + shift for lane in low] for shift in (0, 1 << place)]
    if len(low) == 1:
        return combine(builder, *[builder.extract_element(x, ir.Constant(I32, lane)) for (lane,) in parts])
    return combine(builder, *[vectors_of.shuffled(builder, x, lanes) for lanes in parts])


def fold_of(
    combine: Callable[[Any, Any, Any], Any], threads: int, own: list[int], distances: list[int]
) -> Any:
    """A value folded over the bits ``own`` of the place among the lanes that a thread holds, then with the
    threads at ``distances``: a butterfly, whose result is the same in all of them. A fixed order."""

    @intrinsic
    def fold(typingctx: Any, value: Any) -> Any:
        count = getattr(value, "width", 1) >> len(own)
        dtype = getattr(value, "dtype", value)

        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            (x,) = values
            for place in reversed(own):
                x = _halved(builder, x, place, combine)
            if not distances:
                return x
            members: Any = ir.Constant(I32, -1)
            if threads < WARP:
                first = builder.and_(thread_of(builder), ir.Constant(I32, WARP - threads))
                members = builder.shl(ir.Constant(I32, (1 << threads) - 1), first)
            for distance in distances:
                x = combine(builder, x, _of_partner(builder, x, distance, members))
            return x

        return (vectors_of.Lanes(dtype, count) if count > 1 else dtype)(value), codegen

    return fold
