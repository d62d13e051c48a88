"""Which schedule a walk gets on a device: every candidate's program is built and counted, as each thread of a
group would run it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from numgraph.compiler import program as ir
from numgraph.compiler.build import Places, build
from numgraph.compiler.cost import Choice
from numgraph.compiler.cuda.threads import WARP_BITS, Layout
from numgraph.compiler.index import EDGE, ROW, Column, Notation, Variable
from numgraph.compiler.reduces import REDUCES
from numgraph.compiler.schedule import FEW, Lanes, Machine, Schedule, candidates

MACHINE = Machine(register_bytes=512, registers=4, held=64, edges=False, slack=0.02, loop=0.0)
"""A warp whose threads load 16 bytes each. held: 32-bit registers of a thread for what is kept while edges go
by.
"""
_MOST = 8
"""Lanes of one value that a thread holds at most."""
DEGREE = 16
"""Edges a row where nothing is known."""
SECTOR, TRAFFIC = 32, 8.0
"""Bytes that memory moves at once, and how many instructions of one thread that is worth."""
_LATENCY = 32.0
"""What a step over edges costs however few threads take it: they wait for memory, and other groups cannot
always fill the time.
"""


def choose(notation: Notation, places: Places, length: int) -> Choice:
    """The cheapest schedule of a walk, by what it costs a row. length: edges of a row, roughly; 0: not
    known.
    """
    found = []
    for number, schedule in enumerate(_candidates(notation, length)):
        program = build(notation, schedule, places)
        layout = Layout(program)
        held = max([len(layout.shape.held(digit.form)) for digit in layout.digits], default=1)
        if held <= _MOST and layout.shape.vectors * layout.shape.vector <= _MOST and not _between(layout):
            found.append((_Counter(layout, length or DEGREE).row(program), number, schedule, program))
    price, _, schedule, program = min(found, key=lambda one: one[:2])
    return Choice(schedule, program, price)


def _candidates(notation: Notation, length: int) -> Iterator[Schedule]:
    """Those of every target, and edges side by side, as many as a warp has threads for, or a part of them."""
    plain = candidates(notation, MACHINE)
    yield from plain
    if not length or any(
        result.reduce == "edge" or REDUCES[result.reduce].winner for result in notation.results
    ):
        return  # a winner is the first of equals, in the order of edges
    runs = {
        schedule.lanes.tiles
        for schedule in plain
        if not schedule.loops and all(map(schedule.lanes.whole, _variables(schedule.lanes)))
    }
    for run, bits in itertools.product(sorted(runs, key=str), range(2, WARP_BITS + 1)):
        if Lanes(run, 1).count(tuple(v for v, _ in run)) <= FEW:
            lanes = Lanes(((EDGE, 1 << bits), *run), plain[0].lanes.vector)
            yield replace(plain[0], loops=(), lanes=lanes)


def _variables(lanes: Lanes) -> list[Variable]:
    return [v for v, _ in lanes.tiles]


def _between(layout: Layout) -> bool:
    """Whether some of the edges that go side by side lie in one thread."""
    digit = layout.digit.get(EDGE)
    return digit is not None and digit.form & ~layout.shape.of_threads != 0


class _Counter:
    """Instructions of all threads of a group for a row, and sectors of memory."""

    def __init__(self, layout: Layout, degree: float) -> None:
        self.layout, self.degree, self.prices = layout, degree, dict(MACHINE.prices)
        self.types: dict[str, ir.Type] = {}

    def row(self, program: ir.Program) -> float:
        return sum(map(self.price, program.body))

    def held(self, lanes: tuple[Variable, ...]) -> int:
        return len(self.layout.shape.held(self.layout.form(lanes)))

    def price(self, record: Any) -> float:
        threads = self.layout.shape.threads
        if hasattr(record, "type"):
            self.types[record.name] = record.type
        match record:
            case ir.Loop(variable=variable) if variable == EDGE:
                trips = -(-self.degree // record.step)
                return trips * (
                    _LATENCY + threads * (2 + self.spilled(record)) + sum(map(self.price, record.body))
                )
            case ir.Loop():
                trips = (
                    1.0 if record.variable == ROW else -(-float(record.variable.extent or 0) // record.step)
                )
                return trips * (2 * threads + sum(map(self.price, record.body)))
            case ir.When():
                return 2.0 * threads + sum(map(self.price, record.body)) / 8
            case ir.Load():
                return self.access(record.column, record.type.lanes)
            case ir.Store():
                return self.access(record.column, self.types[record.value].lanes)
            case ir.Fold():
                form = self.layout.form(self.types[record.value].lanes) & ~self.layout.form(record.type.lanes)
                over = (form & self.layout.shape.of_threads).bit_count()
                return threads * (
                    3.0 * over * self.held(record.type.lanes) + self.held(self.types[record.value].lanes)
                )
            case ir.Op():
                return threads * self.held(record.type.lanes) * self.prices.get(record.op, 1.0)
            case _:
                return 0.0

    def spilled(self, loop: ir.Loop) -> float:
        """Registers that values from outside of the edges need beyond those that there are."""
        names = {name for name in ir.reads(loop) if name in self.types}
        return 2.0 * max(sum(self.held(self.types[name].lanes) for name in names) - MACHINE.held, 0)

    def access(self, column: Column, lanes: tuple[Variable, ...]) -> float:
        """Instructions of a load or store, and the sectors of its lanes, which are full where neighbours are
        neighbours in memory.
        """
        layout, shape = self.layout, self.layout.shape
        together = shape.vector if layout.neighbours(column, lanes, shape.vector) else 1
        along = layout.along(lanes)
        count, strides = 1, dict(column.strides)
        for digit in along:
            count *= digit.size
        near = any(strides.get(digit.variables[-1]) == 1 for digit in along)
        sectors = -(-count * 4 // SECTOR) if near else count
        return shape.threads * self.held(lanes) / together + TRAFFIC * sectors
