"""From the outputs of a walk to a kernel that running.py runs: schedule, program, proof, text, compiled code."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from numgraph.compiler import sources
from numgraph.compiler.build import Places, build
from numgraph.compiler.cost import DEGREE, choose
from numgraph.compiler.cpu import shells
from numgraph.compiler.cpu.printing import Printer
from numgraph.compiler.index import EDGE, Notation
from numgraph.compiler.schedule import Machine, Schedule, candidates, side_by_side
from numgraph.compiler.storage import CACHE_LINE, HALVES, compute_name
from numgraph.compiler.verify import verify
from numgraph.expressions.expr import Expr, leaves_of
from numgraph.expressions.walk import Output


@functools.cache
def machine() -> Machine:
    """The host, by the width of its vector registers."""
    features = llvm.get_host_cpu_features()
    return Machine(64 if features.get("avx512f") else 32 if features.get("avx2") else 16, shared=True)


@dataclass(frozen=True)
class Target:
    """One output as the generator sees it: the value to reduce, the axes it is stored along, the axes it is summed over.

    accumulate: its array is added to, not written once. stored: storage of each of its arrays.
    """

    output: Output
    value: Expr
    kept: tuple[int, ...]
    summed: tuple[int, ...]
    accumulate: bool = False
    stored: tuple[str, ...] = ()


@dataclass
class Kernel:
    """A compiled body with its argument block: words, with the sizes and constants in place, and what stands at the offsets of arrays."""

    rows: str
    address: int
    text: str
    words: list[int]
    arrays: list[
        tuple[int, str, Any]
    ]  # offset, and a slot: ("ids", name), ("field" or, without gaps, "whole", key), ("out", (target, place))
    targets: list[tuple[int, Target]]
    features: int
    for_chunks: Kernel | None = None  # the same without rounding to 16 bits, for what is put together later


def kernels(
    outputs: Sequence[Output], numbers: Sequence[int], rows: str, ids: str, ordered: bool, chunked: bool, length: int
) -> list[Kernel]:
    """The kernels of a walk: outputs are made by one where that costs less than by two."""
    groups: list[_Group] = []
    for number in range(len(outputs)):
        alone = _group(outputs, [number], rows, ids, ordered, length)
        for i, group in enumerate(groups):
            together = _group(outputs, [*group.numbers, number], rows, ids, ordered, length)
            if together.price <= group.price + alone.price + EDGE_LOOP:
                groups[i] = together
                break
        else:
            groups.append(alone)
    made = []
    for group in groups:
        own = [numbers[i] for i in group.numbers]
        made.append(compiled(group.notation, own, ids, ordered or group.notation.rows == "e", chunked, group.schedule))
    return made


EDGE_LOOP = 2.0
"""Instructions an edge of a kernel that does nothing."""


@dataclass(frozen=True)
class _Group:
    """Outputs of a walk, by their places in it, as one kernel, and what it costs for an edge."""

    numbers: list[int]
    notation: Notation
    schedule: Schedule
    price: float


def _group(outputs: Sequence[Output], numbers: list[int], rows: str, ids: str, ordered: bool, length: int) -> _Group:
    own = [outputs[i] for i in numbers]
    if not ordered and all(o.reduce == "edge" for o in own) and by_edge_ids([_target(o, ()) for o in own], rows):
        rows, ordered = "e", True
    notation = Notation(own, rows)
    described, degree = replace(machine(), edges=False), float(length or DEGREE)
    schedule, _, price = choose(notation, described, _places(notation, ids, ordered, False), degree)
    if side_by_side(notation, machine(), length, ordered):
        schedule = next(schedule for schedule in candidates(notation, machine()) if EDGE in schedule.lanes)
    return _Group(numbers, notation, schedule, price)


def compiled(notation: Notation, numbers: Sequence[int], ids: str, ordered: bool, chunked: bool, schedule: Schedule) -> Kernel:
    """The kernel of a walk under a schedule."""
    halves = any(dtype.name in HALVES for result in notation.results for _, _, dtype in result.arrays)
    made = _made(notation, schedule, numbers, _places(notation, ids, ordered, False))
    if chunked and halves:
        made.for_chunks = _made(notation, schedule, numbers, _places(notation, ids, ordered, True))
    return made


def _places(notation: Notation, ids: str, ordered: bool, wide: bool) -> Places:
    return Places(ids, ordered, tuple([stored_as(output, ids, wide and output.reduce != "edge") for output in notation.outputs]))


def _target(output: Output, stored: tuple[str, ...]) -> Target:
    return Target(output, output.expressions[-1], (), (), False, stored)


def _made(notation: Notation, schedule: Schedule, numbers: Sequence[int], places: Places) -> Kernel:
    program = build(notation, schedule, places)
    verify(program)
    printer = Printer(program, places.ids, machine().register_bytes == 64)
    text = printer.text()
    offsets, length = block_of(printer.slots)
    words, arrays = [0] * length, []
    for offset, (kind, what) in zip(offsets, printer.slots, strict=True):
        if kind in ("ids", "field", "whole", "out"):
            arrays.append((offset, kind, what))
        else:
            words[offset] = word_of(kind, what, {})
    outputs = notation.outputs
    targets = [(number, _target(output, stored)) for number, output, stored in zip(numbers, outputs, places.stored, strict=True)]
    features = max(math.prod(np.broadcast_shapes(*[node.shape for node in output.expressions])) for output in outputs)
    return Kernel(notation.rows, shells.address_of(sources.load(text).body), text, words, arrays, targets, features)


def by_edge_ids(targets: Sequence[Target], rows: str) -> bool:
    """Whether outputs per edge alone are better walked in the order of edge ids: edge data in sequence, and both ends out of order.

    Counted in bytes, an access out of order as a cache line more, a result as a read and a write.
    """
    if any(target.output.reduce != "edge" for target in targets):
        return False
    fields = {leaf.attrs: leaf for leaf in leaves_of(expression for target in targets for expression in target.output.expressions)}
    sizes = [(key[0], math.prod(leaf.shape) * leaf.dtype.itemsize) for key, leaf in fields.items()]
    sizes += [("out", math.prod(shape) * dtype.itemsize) for target in targets for shape, dtype in target.output.results()]
    weight = {"e": 1, "out": 2}
    by_rows = sum(weight[where] * (size + CACHE_LINE) for where, size in sizes if where in weight)
    by_edges = sum(weight[where] * size if where in weight else size + CACHE_LINE for where, size in sizes if where in (rows, *weight))
    return by_edges <= by_rows


def block_of(slots: Sequence[tuple[Any, ...]]) -> tuple[list[int], int]:
    """Where each slot stands in the argument block, in words, and the block's length."""
    ends = list(itertools.accumulate({"ids": 2, "field": 3, "whole": 3, "out": 3}.get(slot[0], 1) for slot in slots))
    return [0, *ends[:-1]][: len(ends)], ends[-1] if ends else 0


def word_of(kind: str, what: Any, sizes: dict[int, int]) -> int:
    """What stands at the slot of a size or a constant."""
    return sizes[what] if kind == "size" else int(np.float64(what).view(np.int64)) if kind == "float" else int(what)


def stored_as(output: Output, ids: str, wide: bool) -> tuple[str, ...]:
    """The storage of an output's arrays: winners are edge ids; where parts are added up later, 16-bit floats are not rounded before."""
    names = [compute_name(dtype) if wide and dtype.name in HALVES else dtype.name for _, dtype in output.results()]
    return tuple([ids if output.is_winner(place) else name for place, name in enumerate(names)])
