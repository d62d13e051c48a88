"""From the outputs of a walk to a kernel that planning.py runs: schedule, program, proof, text, compiled code."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import llvmlite.binding as llvm
import numpy as np

from numgraph.compiler.build import Places, build
from numgraph.compiler.cost import DEGREE, choose
from numgraph.compiler.cpu.printing import Printer
from numgraph.compiler.index import EDGE, Notation
from numgraph.compiler.schedule import Machine, Schedule, candidates, side_by_side
from numgraph.compiler.verify import verify
from numgraph.expressions.walk import Output
from numgraph.kernels import planning, shells, sources
from numgraph.kernels.layout import HALVES, Target


@functools.cache
def machine() -> Machine:
    """The host, by the width of its vector registers."""
    features = llvm.get_host_cpu_features()
    return Machine(64 if features.get("avx512f") else 32 if features.get("avx2") else 16, shared=True)


def kernels(
    outputs: Sequence[Output], numbers: Sequence[int], rows: str, ids: str, ordered: bool, chunked: bool, length: int
) -> list[planning.Kernel]:
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
    if not ordered and all(o.reduce == "edge" for o in own) and planning.by_edge_ids([_target(o, ()) for o in own], rows):
        rows, ordered = "e", True
    notation = Notation(own, rows)
    described, degree = replace(machine(), edges=False), float(length or DEGREE)
    schedule, _, price = choose(notation, described, _places(notation, ids, ordered, False), degree)
    if side_by_side(notation, machine(), length, ordered):
        schedule = next(schedule for schedule in candidates(notation, machine()) if EDGE in schedule.lanes)
    return _Group(numbers, notation, schedule, price)


def compiled(notation: Notation, numbers: Sequence[int], ids: str, ordered: bool, chunked: bool, schedule: Schedule) -> planning.Kernel:
    """The kernel of a walk under a schedule."""
    halves = any(dtype.name in HALVES for result in notation.results for _, _, dtype in result.arrays)
    made = _made(notation, schedule, numbers, _places(notation, ids, ordered, False))
    if chunked and halves:
        made.for_chunks = _made(notation, schedule, numbers, _places(notation, ids, ordered, True))
    return made


def _places(notation: Notation, ids: str, ordered: bool, wide: bool) -> Places:
    return Places(ids, ordered, tuple([planning.stored_as(output, ids, wide and output.reduce != "edge") for output in notation.outputs]))


def _target(output: Output, stored: tuple[str, ...]) -> Target:
    return Target(output, output.expressions[-1], (), (), False, stored)


def _made(notation: Notation, schedule: Schedule, numbers: Sequence[int], places: Places) -> planning.Kernel:
    program = build(notation, schedule, places)
    verify(program)
    printer = Printer(program, places.ids, machine().register_bytes == 64)
    text = printer.text()
    offsets, length = planning.block_of(printer.slots)
    words, arrays = [0] * length, []
    for offset, (kind, what) in zip(offsets, printer.slots, strict=True):
        if kind in ("ids", "field", "whole", "out"):
            arrays.append((offset, kind, what))
        else:
            words[offset] = planning.word_of(kind, what, {})
    outputs = notation.outputs
    targets = [(number, _target(output, stored)) for number, output, stored in zip(numbers, outputs, places.stored, strict=True)]
    features = max(math.prod(np.broadcast_shapes(*[node.shape for node in output.expressions])) for output in outputs)
    return planning.Kernel(notation.rows, shells.address_of(sources.load(text).body), text, words, arrays, targets, features)
