"""A kernel of the CPU: what is compiled of a program, and what its argument block holds."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from numgraph.compiler import program as ir
from numgraph.compiler import sources
from numgraph.compiler.build import Places, build
from numgraph.compiler.cost import DEGREE, Choice, choose
from numgraph.compiler.cpu import shells
from numgraph.compiler.cpu.printing import Printer
from numgraph.compiler.index import EDGE, Notation
from numgraph.compiler.schedule import Machine, abreast, at_once, candidates, side_by_side
from numgraph.compiler.storage import CACHE_LINE, HALVES
from numgraph.compiler.target import Made, Place, Request
from numgraph.expressions.traversal import leaves_of
from numgraph.expressions.walk import Key, Output


@dataclass
class Kernel:
    """A compiled body with its argument block: words, with the constants in place, and what else stands at
    which offset.

    rows: whose edges are walked, "e" for edges by their ids. ids: index arrays by name. fields: keys, and
    whether memory must be without gaps. features: of an edge, to judge whether threads are worth it.
    for_chunks: the same without rounding to 16 bits, for what is put together later, once it was needed.
    """

    request: Request
    outputs: list[Made]
    text: str
    address: int
    words: list[int]
    ids: list[tuple[int, str]] = field(default_factory=list)
    fields: list[tuple[int, Key, bool]] = field(default_factory=list)
    outs: list[tuple[int, Place]] = field(default_factory=list)
    features: int = 1
    for_chunks: Kernel | None = None

    @property
    def rows(self) -> str:
        return self.request.rows

    @property
    def halves(self) -> bool:
        """Whether some result is rounded to 16 bits."""
        return any(
            name in HALVES for made in self.outputs if made.output.reduce != "edge" for name in made.stored
        )


@functools.cache
def machine() -> Machine:
    """The host, by the width of its vector registers."""
    features = llvm.get_host_cpu_features()
    return Machine(
        64 if features.get("avx512f") else 32 if features.get("avx2") else 16,
        together=2,
        shared=True,
        overlaps=True,
        wide=14 if features.get("avx512f") else 8,
        abreast=features.get("avx512f", False),
        gather=1.0,
    )


@functools.cache
def _by_rows() -> Machine:
    """The host where edges go one by one."""
    return replace(machine(), edges=False)


def chosen(notation: Notation, places: Places, length: int) -> Choice:
    """The cheapest schedule of a walk, with edges side by side where that is known to be worth it. It does
    not depend on whether 16-bit results are rounded yet, so a row's chunks are computed as rows are, nor on
    how many rows there are, and where."""
    stored = Request(notation.rows, places.ids, places.ordered).places(notation.outputs).stored
    plain = replace(places, stored=stored, many=False, strewn=True, even=False)
    choice = choose(notation, _by_rows(), plain, float(length or DEGREE))
    schedule = choice.schedule
    if side_by_side(notation, machine(), length, places.ordered):
        schedule = next(schedule for schedule in candidates(notation, machine()) if EDGE in schedule.lanes)
    elif places.even:
        schedule = abreast(schedule, notation, machine())
    schedule = at_once(schedule, notation, machine(), length)
    if schedule is choice.schedule and places == plain:
        return choice
    return Choice(schedule, build(notation, schedule, places), choice.price)


@dataclass(frozen=True)
class Printed:
    """A kernel's text, and what stands in its argument block (see Names.slots)."""

    text: str
    slots: list[tuple[Any, ...]]


def printed(program: ir.Program, request: Request) -> Printed:
    """The text of a program."""
    printer = Printer(program, request.ids, request.nodes or request.ids, machine().register_bytes == 64)
    return Printed(printer.text(), printer.slots)


def compiled(text: Printed, outputs: Sequence[Made], request: Request) -> Kernel:
    """The kernel of a text."""
    features = max(
        math.prod(np.broadcast_shapes(*[node.shape for node in made.output.expressions])) for made in outputs
    )
    kernel = Kernel(
        request,
        list(outputs),
        text.text,
        shells.address_of(sources.load(text.text).body),
        [],
        features=features,
    )
    for kind, what in text.slots:
        offset, words = len(kernel.words), 1
        if kind == "ids":
            kernel.ids.append((offset, what))
            words = 2
        elif kind in ("field", "whole"):
            kernel.fields.append((offset, what, kind == "whole" or what[0] == "shared"))
            words = 3
        elif kind == "out":
            kernel.outs.append((offset, (outputs[what[0]].number, what[1])))
            words = 3
        kernel.words += [0] * words
        if words == 1:
            kernel.words[offset] = int(np.float64(what).view(np.int64)) if kind == "float" else int(what)
    return kernel


def by_edge_ids(outputs: Sequence[Output], rows: str) -> bool:
    """Whether outputs per edge alone are better walked in the order of edge ids: edge data in sequence, and
    both ends out of order.

    Counted in bytes, an access out of order as a cache line more, a result as a read and a write.
    """
    if any(output.reduce != "edge" for output in outputs):
        return False
    fields = {
        leaf.attrs: leaf
        for leaf in leaves_of(expression for output in outputs for expression in output.expressions)
    }
    sizes = [(key[0], math.prod(leaf.shape) * leaf.dtype.itemsize) for key, leaf in fields.items()]
    sizes += [
        ("out", math.prod(shape) * dtype.itemsize) for output in outputs for shape, dtype in output.results()
    ]
    weight = {"e": 1, "out": 2}
    by_rows = sum(weight[where] * (size + CACHE_LINE) for where, size in sizes if where in weight)
    by_edges = sum(
        weight[where] * size if where in weight else size + CACHE_LINE
        for where, size in sizes
        if where in (rows, *weight)
    )
    return by_edges <= by_rows
