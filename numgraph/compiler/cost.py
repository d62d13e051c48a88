"""What a program costs for an edge: its records counted, each as often as the loops around it run. There is
no second model of what is built, so none can drift from it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numgraph.compiler import program as ir
from numgraph.compiler.build import Places, build
from numgraph.compiler.index import EDGE, ROW, Column, Notation, Variable
from numgraph.compiler.schedule import Lanes, Machine, Schedule, candidates

DEGREE = 16
"""Edges a row where nothing is known."""


class Choice(NamedTuple):
    """A schedule, its program, and what that costs."""

    schedule: Schedule
    program: ir.Program
    price: float


def contiguous(column: Column, lanes: tuple[Variable, ...]) -> bool:
    """Whether neighbouring lanes are neighbours in memory: 11·h + f is along (h, f) and along (f), not along
    (h).
    """
    strides, stride = dict(column.strides), 1
    for v in reversed(lanes):
        if strides.get(v) != stride:
            return False
        stride *= v.extent or 0
    return True


def cost(program: ir.Program, machine: Machine, degree: float = DEGREE) -> float:
    """Register instructions an edge, where a row has ``degree`` edges."""
    counter = _Counter(program.lanes, machine, degree)
    return sum(map(counter.price, program.body)) / degree


class _Counter:
    """types: of the values that are known so far."""

    def __init__(self, lanes: Lanes, machine: Machine, degree: float) -> None:
        self.lanes, self.machine, self.degree, self.prices = lanes, machine, degree, dict(machine.prices)
        self.types: dict[str, ir.Type] = {}

    def registers(self, own: tuple[Variable, ...]) -> int:
        return max(1, -(-self.lanes.width(own) // self.lanes.vector))

    def spilled(self, loop: ir.Loop) -> float:
        """Registers that values from outside of the edges need beyond those that there are: each is read from
        memory for every edge.
        """
        names = {name for name in ir.reads(loop) if name in self.types and self.types[name].lanes}
        held = sum(self.registers(self.types[name].lanes) for name in names)
        return float(max(held - self.machine.held, 0))

    def price(self, record: Any) -> float:
        if hasattr(record, "type"):
            self.types[record.name] = record.type
        match record:
            case ir.Loop(variable=variable) if variable == EDGE:
                trips = -(-self.degree // record.step)
                return trips * (1 + self.spilled(record) + sum(map(self.price, record.body)))
            case ir.Loop():
                trips = 1.0 if record.variable == ROW else self.trips(record)
                return trips * (1 + sum(map(self.price, record.body)))
            case ir.When():
                return 2.0 + sum(map(self.price, record.body)) / 8
            case ir.Load():
                return self.access(record.column, record.type.lanes, record.row)
            case ir.Store():
                return self.access(record.column, self.lanes.of(record.column.variables), record.row)
            case ir.Prefetch() | ir.Accumulate():
                return 0.5
            case ir.Constant():
                return self.registers(record.type.lanes) / 8
            case ir.Fold():
                return 8.0 * self.registers(record.type.lanes) + 4
            case _:
                return self.registers(record.type.lanes) * self.prices.get(getattr(record, "op", ""), 1.0)

    def trips(self, loop: ir.Loop) -> float:
        """Steps of a loop. Where a single variable is too long for any tile, no matter how full its last tile
        is: so the tile does not depend on the length, and all such lengths share a kernel."""
        extent = loop.variable.extent or 0
        trips = extent / loop.step
        long = (
            loop.variable in self.lanes
            and len(self.lanes.tiles) == 1
            and extent > self.machine.registers * self.lanes.vector
        )
        return trips if long else float(math.ceil(trips))

    def access(self, column: Column, own: tuple[Variable, ...], row: str) -> float:
        gathered = EDGE in own and row not in ("", ROW.name, EDGE.name)
        if own and (gathered or not contiguous(column, tuple(v for v in own if v != EDGE))):
            return self.machine.gather * self.lanes.count(own)
        return self.registers(own)


def choose(notation: Notation, machine: Machine, places: Places, degree: float = DEGREE) -> Choice:
    """The schedule whose program is the cheapest."""
    made = [(schedule, build(notation, schedule, places)) for schedule in candidates(notation, machine)]
    priced = [
        (cost(program, machine, degree), str(schedule), i) for i, (schedule, program) in enumerate(made)
    ]
    least, _, number = min(priced)
    return Choice(*made[number], least)
