"""From the outputs of a walk to a kernel that planning.py runs: schedule, program, proof, text, compiled code."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from numgraph.compiler.build import Places, build
from numgraph.compiler.cost import choose
from numgraph.compiler.cpu import taken
from numgraph.compiler.cpu.printing import Printer
from numgraph.compiler.index import Notation
from numgraph.compiler.schedule import Machine, Schedule
from numgraph.compiler.verify import verify
from numgraph.expressions.walk import Output
from numgraph.kernels import planning, shells, sources
from numgraph.kernels.layout import HALVES, Target


@functools.cache
def machine() -> Machine:
    """The host."""
    return Machine(planning.register_bytes())


def kernel(
    outputs: Sequence[Output], numbers: Sequence[int], rows: str, ids: str, ordered: bool, chunked: bool, length: int
) -> planning.Kernel | None:
    """One kernel for outputs of a walk over in-edges ("v") or out-edges ("u"), by their numbers in the walk; None where the generator of
    kernels/ is to make it (see taken.py). ids: dtype of the graph's indices. ordered: edge ids are positions. chunked: some rows are put
    together from chunks, whose 16-bit floats must not be rounded before. length: edges of a row, roughly."""
    if not ordered and planning.by_edge_ids([_target(output, ()) for output in outputs], rows):
        return None
    notation = Notation(outputs, rows)
    places = _places(notation, ids, ordered, False)
    schedule = taken.chosen(notation, machine(), length, ordered, lambda described: choose(notation, described, places)[0])
    return None if schedule is None else compiled(notation, numbers, ids, ordered, chunked, schedule)


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
    printer = Printer(program, places.ids)
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
