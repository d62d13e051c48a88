"""What kernels ask of the memory: lines that come before they are read, bytes that are copied."""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LINE = 64
"""Bytes of a cache line."""

if numba.config.DISABLE_JIT:

    def ask(array: Any, i: Any) -> None:
        """Nothing to hide the latency of."""

    ask_near = ask

    def move(source: Any, start: Any, target: Any, place: Any, size: Any) -> None:
        """Copy `size` bytes."""
        target[place : place + size] = source[start : start + size]

else:

    def _asking(locality: int) -> Any:
        @intrinsic
        def ask(typingctx: Any, array: Any, i: Any) -> Any:
            """ask(array, i): have the cache line of array[i], of a contiguous array of one axis, on its
            way.
            """

            def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                made = context.make_array(sig.args[0])(context, builder, args[0])
                place = builder.bitcast(builder.gep(made.data, [args[1]]), ir.IntType(8).as_pointer())
                number = ir.IntType(32)
                kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
                function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
                builder.call(
                    function,
                    [place, ir.Constant(number, 0), ir.Constant(number, locality), ir.Constant(number, 1)],
                )
                return context.get_dummy_value()

            return types.void(array, types.int64), codegen

        return ask

    ask, ask_near = _asking(3), _asking(2)
    """Into the first cache, for a few words; into the second, which waits for more lines at once, for rows: a
    fifth faster.
    """

    @intrinsic
    def move(typingctx: Any, source: Any, start: Any, target: Any, place: Any, size: Any) -> Any:
        """move(source, start, target, place, size): copy `size` bytes from one contiguous array of bytes to
        another, unchecked.

        A loop over words took twice as long: numba asks of each place whether it counts from the end.
        """

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            arrays = [context.make_array(sig.args[k])(context, builder, args[k]) for k in (0, 2)]
            origin, goal = (builder.gep(array.data, [args[k]]) for array, k in zip(arrays, (1, 3)))
            cgutils.raw_memcpy(builder, goal, origin, args[4], 1)
            return context.get_dummy_value()

        return types.void(source, types.int64, target, types.int64, types.int64), codegen
