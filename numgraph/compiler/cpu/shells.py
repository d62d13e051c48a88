"""The two shells around generated row bodies: serial and parallel over parts of the rows, compiled once for
all kernels.

A body is given by the address of its compiled code, so a shell never specialises and calling one costs about
a microsecond."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import get_num_threads, prange, types
from numba.extending import intrinsic

from numgraph.runtime.compiling import njit, undisturbed

_BODY = types.void(types.int64[::1], types.int64, types.int64)
_APART = 8
"""Numbers from one thread's counter to the next: each has a cache line."""


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


@intrinsic
def _taken(typingctx: Any, counters: Any, place: Any) -> Any:
    """counters[place], which grows by one, whatever other threads do."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        array = context.make_array(sig.args[0])(context, builder, values[0])
        return builder.atomic_rmw("add", builder.gep(array.data, [values[1]]), values[1].type(1), "monotonic")

    return types.int64(counters, types.int64), codegen


@njit(parallel=True)
def parallel(address, args, ranges):
    """The same by all threads: each its own stretch of the ranges, then what is left of the others'. A row is
    in one range, so the result does not depend on who computes it. Rows of as many edges take more or less
    time, where theirs are in cache or not: over an R-MAT graph of 16 M edges, on two threads, forward and
    backward took 1.05 to 1.2 times as long with the own stretches alone.
    """
    count, threads = len(ranges), get_num_threads()
    following = np.empty(threads * _APART, np.int64)
    for own in range(threads):
        following[own * _APART] = count * own // threads
    for own in prange(threads):
        for step in range(threads):
            whose = (own + step) % threads
            end = count * (whose + 1) // threads
            while following[whose * _APART] < end:
                part = _taken(following, whose * _APART)
                if part < end:
                    call(address, args, ranges[part, 0], ranges[part, 1])
