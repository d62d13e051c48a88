"""A walk as a program of numbers, which runs on addresses without Python: for callers that have memory
instead of arrays.

A program is words of int64: how many kernels it has; how long the table of addresses is, which the caller
makes: fields, results, and then memory of the program's own, for values of nodes; how many of these values
there are, and for each its number in the table, and the word of the table where its memory begins. Then for
each kernel the address of its body, the address and length of its argument block, the address and number of
its ranges of rows, whether these are worth threads, and how many operands it has; then for each operand its
place in the block, and its number in the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from numgraph.arrays import recycling
from numgraph.compiler import driver
from numgraph.compiler.cpu import running, shells
from numgraph.compiler.lowering import node_walk
from numgraph.compiler.target import Place
from numgraph.expressions.walk import Key, Output, rows_of
from numgraph.graph import Graph
from numgraph.runtime import threads
from numgraph.runtime.compiling import njit

_I64 = ir.IntType(64)


class Program(NamedTuple):
    """Where a program is, the work of its largest kernel (see threads.run), and what must stay as long as it
    runs. The graph need not.
    """

    address: int
    work: int
    kept: tuple[Any, ...]


class _Step(NamedTuple):
    """A route, and the numbers in the table of addresses of the fields that it reads and of the arrays that
    it makes.
    """

    graph: Graph | driver.Nodes
    route: driver.Route
    fields: dict[Key, int]
    made: dict[Place, int]


def program(
    graph: Graph, outputs: tuple[Output, ...], keys: Sequence[Key], given: Sequence[Any], made: Sequence[Any]
) -> Program | None:
    """The program of a walk on contiguous memory, of these dtypes of fields and results; None if it is more
    than kernels on whole rows.
    """
    if numba.config.DISABLE_JIT or numba.config.BOUNDSCHECK:
        return None
    route = driver.route(running.TARGET, graph, outputs)
    plan, places = route.plan, sorted(place for place, *_ in route.buffers)
    wanted = {key: dtype for key, _, dtype in plan.reads}
    direct = all(driver.stores_as(route, buffer, dtype) for buffer, dtype in zip(sorted(route.buffers), made))
    if plan.empty or not direct or any(wanted[key] != dtype for key, dtype in zip(keys, given)):
        return None
    fields = {key: number for number, key in enumerate(keys)}
    steps: list[_Step] = []
    own: list[int] = []
    for key, expression in plan.hoisted:
        nodes, (walk, names) = driver.nodes(graph, key[0]), node_walk(key[0], expression)
        number = len(keys) + len(places) + len(own)
        known = driver.route(running.TARGET, nodes, walk)
        steps.append(_Step(nodes, known, {name: fields[given] for given, name in names}, {(0, 0): number}))
        fields[key] = number
        own.append(-(-nodes.num_edges * math.prod(expression.shape) * expression.dtype.itemsize // 8))
    steps.append(
        _Step(graph, route, fields, {place: number for number, place in enumerate(places, len(keys))})
    )
    launches = [launch for step in steps for launch in step.route.launches]
    if any(launch.hubs for launch in launches) or 8 * sum(own) > recycling.LARGE:
        return None
    first = len(keys) + len(places)
    starts = [first + len(own) + sum(own[:i]) for i in range(len(own) + 1)]
    kept: list[Any] = []
    words = [
        len(launches),
        starts[-1],
        len(own),
        *[word for pair in enumerate(starts[:-1], first) for word in pair],
    ]
    for step in steps:
        for launch in step.route.launches:
            words += _kernel(launch, step, kept)
    made_of = np.array(words, np.int64)
    return Program(made_of.ctypes.data, max(launch.work for launch in launches), (made_of, *kept))


def _kernel(launch: running.Launch, step: _Step, kept: list[Any]) -> list[int]:
    """The words of a kernel. What they are the addresses of goes into ``kept``."""
    buffers = {buffer.place: buffer for buffer in step.route.buffers}
    sizes = {key: math.prod(shape) * dtype.itemsize for key, shape, dtype in step.route.plan.reads}
    sizes |= {key: math.prod(made.shape) * made.dtype.itemsize for key, made in step.route.plan.hoisted}
    block, operands = np.array(launch.words, np.int64), []
    for offset, place in launch.kernel.outs:
        rows, *features = buffers[place].shape
        block[offset + 1 : offset + 3] = rows, math.prod(features) * buffers[place].dtype.itemsize
        operands += [offset, step.made[place]]
    for offset, key, shared in launch.kernel.fields:
        block[offset + 1 : offset + 3] = (1, 0) if shared else (rows_of(step.graph, key[0]), sizes[key])
        operands += [offset, step.fields[key]]
    ranges = np.ascontiguousarray(launch.ranges, np.int64)
    kept += [launch.kernel, block, ranges, *running.index_arrays(launch.kernel, step.graph)]
    size = [block.ctypes.data, len(block), ranges.ctypes.data, len(ranges), launch.work >= threads.SMALL]
    return [launch.kernel.address, *size, len(operands) // 2, *operands]


@intrinsic
def word(typingctx: Any, address: Any) -> Any:
    """The int64 at an address."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.load(builder.inttoptr(values[0], _I64.as_pointer()))

    return types.int64(types.int64), codegen


@njit()
def _block(at, table):
    """The argument block of the kernel at a word of a program."""
    start, length = word(at + 8), word(at + 16)
    block = np.empty(length, np.int64)
    for i in range(length):
        block[i] = word(start + 8 * i)
    for operand in range(word(at + 48)):
        place = at + 56 + 16 * operand
        block[word(place)] = table[word(place + 8)]
    return block


@njit()
def _next(at):
    return at + 56 + 16 * word(at + 48)


@njit()
def _ranges(at):
    """The ranges of rows of the kernel at a word of a program."""
    start = word(at + 24)
    ranges = np.empty((word(at + 32), 2), np.int64)
    for part in range(len(ranges)):
        ranges[part, 0], ranges[part, 1] = word(start + 16 * part), word(start + 16 * part + 8)
    return ranges


@njit()
def length(program):
    """Of the table of addresses."""
    return word(program + 8)


@njit()
def _first(program, table):
    """The first kernel. The program's own memory is in the table."""
    own = word(program + 16)
    for i in range(own):
        table[word(program + 24 + 16 * i)] = table.ctypes.data + 8 * word(program + 32 + 16 * i)
    return program + 24 + 16 * own


@njit()
def play(program, table):
    """Run a program. table: the addresses of its fields and results, and what it needs beside (see
    ``length``).
    """
    at = _first(program, table)
    for _ in range(word(program)):
        shells.serial(word(at), _block(at, table), _ranges(at))
        at = _next(at)


@njit()
def play_on_threads(program, table):
    """The same on the pool of threads, to which threads.run is the gate."""
    at = _first(program, table)
    for _ in range(word(program)):
        block, ranges = _block(at, table), _ranges(at)
        if word(at + 40):
            shells.parallel(word(at), block, ranges)
        else:
            shells.serial(word(at), block, ranges)
        at = _next(at)
