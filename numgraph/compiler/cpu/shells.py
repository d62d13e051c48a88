"""The two shells around generated row bodies: serial and parallel over parts of the rows, compiled once for
all kernels.

A body is given by the address of its compiled code, so a shell never specialises and calling one costs about
a microsecond."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from numgraph.runtime.compiling import njit, undisturbed

_BODY = types.void(types.int64[::1], types.int64, types.int64)


def address_of(body: Any) -> int:
    """Where the compiled code of a row body starts."""
    compiled = body.overloads[_BODY.args]
    with undisturbed():
        return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


@intrinsic
def call(typingctx: Any, address: Any, args: Any, start: Any, stop: Any) -> Any:
    """body(args, start, stop) of the body at an address; an exception in it is raised here."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        convention = context.call_conv
        kind = convention.get_function_type(_BODY.return_type, _BODY.args)
        function = builder.inttoptr(values[0], kind.as_pointer())
        status, result = convention.call_function(
            builder, function, _BODY.return_type, _BODY.args, values[1:]
        )
        with builder.if_then(status.is_error, likely=False):
            convention.return_status_propagate(builder, status)
        return result if isinstance(result.type, ir.Type) else context.get_dummy_value()

    return types.void(types.int64, _BODY.args[0], types.int64, types.int64), codegen


@njit()
def serial(address, args, ranges):
    """Every range of rows, ranges[p, 0] … ranges[p, 1]."""
    for part in range(len(ranges)):
        call(address, args, ranges[part, 0], ranges[part, 1])


@njit(parallel=True)
def parallel(address, args, ranges):
    """The same, each range by some thread; a row is in one range, so the result does not depend on which."""
    for part in prange(len(ranges)):
        call(address, args, ranges[part, 0], ranges[part, 1])
