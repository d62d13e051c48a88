"""A walk as a program of numbers, which runs on addresses without Python: for callers that have memory instead of arrays.

A program is words of int64: how many kernels it has; then for each the address of its body, the address and length of its argument block,
the address and number of its ranges of rows, and how many operands it has; then for each operand its place in the block, its number among
the addresses that the caller gives (fields, then results), and how many bytes of it are zeroed before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numgraph.expressions.walk import Key, Output, rows_of
from numgraph.graph import Graph
from numgraph.kernels import cpu, shells
from numgraph.runtime import threads
from numgraph.runtime.compiling import njit

_I64 = ir.IntType(64)


class Program(NamedTuple):
    """Where a program is, and what must stay as long as it runs. The graph need not."""

    address: int
    kept: tuple[Any, ...]


def program(graph: Graph, outputs: tuple[Output, ...], keys: Sequence[Key], given: Sequence[Any], made: Sequence[Any]) -> Program | None:
    """The program of a walk on contiguous memory, of these dtypes of fields and results; None if it is more than kernels on one thread."""
    if numba.config.DISABLE_JIT or numba.config.BOUNDSCHECK:
        return None
    route = cpu.route(graph, outputs)
    plan, places = route.plan, sorted(place for place, *_ in route.buffers)
    wanted = {key: dtype for key, _, dtype in plan.reads}
    direct = all(cpu.stores_as(route, buffer, dtype) for buffer, dtype in zip(sorted(route.buffers), made))
    if plan.empty or plan.hoisted or not direct or any(wanted[key] != dtype for key, dtype in zip(keys, given)):
        return None
    if any(launch.parts.hubs or launch.work >= threads.SMALL for launch in route.launches):
        return None
    buffers = {place: (shape, dtype, added) for place, shape, dtype, added in route.buffers}
    shapes = {key: (shape, dtype) for key, shape, dtype in plan.reads}
    words, kept = [len(route.launches)], []
    for launch in route.launches:
        block, operands = np.array(launch.words, np.int64), []
        for offset, place in launch.outs:
            shape, dtype, added = buffers[place]
            row = math.prod(shape[1:]) * dtype.itemsize
            block[offset + 1 : offset + 3] = shape[0], row
            operands += [offset, len(keys) + places.index(place), shape[0] * row if added else 0]
        for offset, key, shared in launch.fields:
            shape, dtype = shapes[key]
            block[offset + 1 : offset + 3] = (1, 0) if shared else (rows_of(graph, key[0]), math.prod(shape) * dtype.itemsize)
            operands += [offset, list(keys).index(key), 0]
        ranges = np.ascontiguousarray(launch.parts.ranges, np.int64)
        words += [launch.kernel.address, block.ctypes.data, len(block), ranges.ctypes.data, len(ranges), len(operands) // 3, *operands]
        kept += [launch.kernel, block, ranges, *cpu.index_arrays(launch.kernel, graph)]
    made_of = np.array(words, np.int64)
    return Program(made_of.ctypes.data, (made_of, *kept))


@intrinsic
def word(typingctx: Any, address: Any) -> Any:
    """The int64 at an address."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.load(builder.inttoptr(values[0], _I64.as_pointer()))

    return types.int64(types.int64), codegen


@intrinsic
def _zero(typingctx: Any, address: Any, size: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], ir.IntType(8).as_pointer())
        cgutils.memset(builder, pointer, values[1], 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@njit()
def play(program, addresses):
    """Run a program on the addresses of its fields and results."""
    at = program + 8
    for _ in range(word(program)):
        body, start, length = word(at), word(at + 8), word(at + 16)
        ranges, parts, operands = word(at + 24), word(at + 32), word(at + 40)
        at += 48
        block = np.empty(length, np.int64)
        for i in range(length):
            block[i] = word(start + 8 * i)
        for _ in range(operands):
            address, zeroed = addresses[word(at + 8)], word(at + 16)
            block[word(at)] = address
            if zeroed:
                _zero(address, zeroed)
            at += 24
        for part in range(parts):
            shells.call(body, block, word(ranges + 16 * part), word(ranges + 16 * part + 8))
