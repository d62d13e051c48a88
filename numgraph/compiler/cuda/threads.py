"""How the lanes of a program lie in the threads of a group.

A lane has a number, whose bits are, from the lowest: which of a thread's neighbouring lanes, which thread,
which of a thread's registers.

    | register | thread | vector |

Every variable in lanes has a run of these bits. A value that varies with some variables is the same in all
lanes that differ in other bits only: what is per head is held by every thread of the head, without a copy,
and a fold is a butterfly over the bits of what is folded. A variable whose number of values is no power of
two leaves lanes idle; variables that no value varies with at once share their bits.

Where nothing is folded over some variables and not over others, all of them may lie in one run of bits, one
value of heads × features after the other, and no lane but the last ones is idle: what is per head is then
found by a division, made once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgraph.compiler import program as ir
from numgraph.compiler.index import EDGE, Column, Variable

WARP_BITS = 5
"""log2 of the threads of a warp."""
LARGEST_LOAD = 16
"""Bytes that a thread loads at once."""

Part = tuple[int, int, int, int]
"""What a lane's number says of a variable: (first bit, bits, divide, modulo), the number in these bits
divided, and its rest; modulo 0: all of it."""
Terms = tuple[tuple[int, int, int, int, int], ...]
"""What of a column a lane adds: a part and its stride, for each."""


@dataclass(frozen=True)
class Shape:
    """A tile: ``threads`` of a group, each with ``vectors`` times ``vector`` neighbouring lanes, all powers
    of two.

    A form is the set of bits that a value varies with, as a number. A thread holds as many lanes of it as its
    bits of vector and register can tell apart.
    """

    threads: int
    vector: int
    vectors: int

    @property
    def of_threads(self) -> int:
        """The bits that tell threads apart."""
        return (self.threads - 1) * self.vector

    def held(self, form: int) -> tuple[int, ...]:
        """The lanes of a value that the first thread holds, in order."""
        lanes = [0]
        for bit in bits_of(form & ~self.of_threads & (self.threads * self.vector * self.vectors - 1)):
            lanes += [lane + bit for lane in lanes]
        return tuple(lanes)

    def taken(self, have: int, want: int) -> tuple[int, ...]:
        """Which of the lanes of a form that it holds a thread takes for each lane of another form."""
        known = self.held(have)
        return tuple(known.index(lane & have) for lane in self.held(want))


def bits_of(form: int) -> list[int]:
    """The single bits of a number, the lowest first."""
    return [1 << place for place in range(form.bit_length()) if form >> place & 1]


@dataclass(frozen=True)
class Digit:
    """Variables that lie in one run of bits, the last one's values next to each other.

    size: lanes of a tile that are in use, of the 2 ** bits that there are; length: those of all tiles, or
    None.
    """

    variables: tuple[Variable, ...]
    first: int
    bits: int
    size: int
    length: int | None

    @property
    def form(self) -> int:
        return (1 << self.bits) - 1 << self.first

    def part(self, v: Variable) -> Part:
        """What a lane's number says of one of the variables."""
        place = self.variables.index(v)
        divide = math.prod([w.extent or 1 for w in self.variables[place + 1 :]])
        return self.first, self.bits, divide, (v.extent or 0) if place else 0

    @property
    def padded(self) -> bool:
        """Whether a full tile has idle lanes."""
        return self.size < 1 << self.bits

    @property
    def whole(self) -> bool:
        """Whether one tile has all values."""
        return self.length == self.size

    @property
    def cut(self) -> bool:
        """Whether the last tile has fewer values than others, or any tile may."""
        return self.length is None or self.length % self.size != 0


class Layout:
    """The digits of a program, and the shape of its tiles."""

    def __init__(self, program: ir.Program) -> None:
        accesses = list(_accesses(program))
        self.digits = _placed(program, accesses)
        self.digit = {v: digit for digit in self.digits for v in digit.variables}
        used = [digit for digit in self.digits if digit.bits]
        total = max([digit.first + digit.bits for digit in used], default=0)
        vector = LARGEST_LOAD // max([4, *_sizes(program)])
        lowest = [digit for digit in used if digit.first == 0]
        while vector > 1 and any(
            digit.length is None or digit.size % vector or digit.length % vector for digit in lowest
        ):
            vector //= 2
        if not any(self.neighbours(column, lanes, vector) for column, lanes in accesses):
            vector = 1
        left = total - (vector.bit_length() - 1)
        threads = min(left, WARP_BITS)
        self.shape = Shape(1 << threads, vector, 1 << left - threads)

    def form(self, lanes: tuple[Variable, ...]) -> int:
        form = 0
        for digit in self.along(lanes):
            missing = next((i for i, v in enumerate(reversed(digit.variables)) if v in lanes), 0)
            inner = math.prod([v.extent or 1 for v in digit.variables[len(digit.variables) - missing :]])
            same = (
                self.shape.vector - 1
                if missing and digit.first == 0 and inner % self.shape.vector == 0
                else 0
            )
            form |= digit.form & ~same
        return form

    def along(self, lanes: tuple[Variable, ...]) -> list[Digit]:
        """The digits of a value."""
        return list(dict.fromkeys(self.digit[v] for v in lanes))

    def terms(self, column: Column, lanes: tuple[Variable, ...]) -> Terms:
        """What each lane adds to a column."""
        strides = dict(column.strides)
        found: list[tuple[int, int, int, int, int]] = []
        for digit in self.along(lanes):
            runs: list[
                tuple[int, int, int]
            ] = []  # divide, values, stride: of variables that are one after the other in memory
            for v in reversed(digit.variables):
                stride, size = strides.get(v, 0), v.extent or 0
                if runs and stride == runs[-1][1] * runs[-1][2]:
                    runs[-1] = (runs[-1][0], runs[-1][1] * size, runs[-1][2])
                else:
                    runs.append((digit.part(v)[2], size, stride))
            runs[-1] = (runs[-1][0], 0, runs[-1][2])
            found += [(digit.first, digit.bits, *run) for run in runs if digit.bits and run[2]]
        return tuple(found)

    def absent(self, lanes: tuple[Variable, ...]) -> list[Part]:
        """What tells lanes of equal values apart, of which one stores: the variables of its digits that a
        value does not vary with.
        """
        return [
            digit.part(v)
            for digit in self.along(lanes)
            for v in digit.variables
            if v not in lanes and digit.bits
        ]

    def neighbours(self, column: Column, lanes: tuple[Variable, ...], vector: int) -> bool:
        """Whether so many lanes are neighbours in memory, and start at a multiple of their number."""
        terms = self.terms(column, lanes)
        inner = [
            (divide, modulo % vector, stride)
            for first, _, divide, modulo, stride in terms
            if first == 0 and divide % vector
        ]
        outer = [stride for first, _, divide, _, stride in terms if first or divide % vector == 0]
        loops = [stride for v, stride in column.strides if v not in self.digit]
        return (
            vector > 1 and inner == [(1, 0, 1)] and all(stride % vector == 0 for stride in (*outer, *loops))
        )


def _sizes(program: ir.Program) -> Iterator[int]:
    """Bytes of what is computed with: the values of arrays, winners apart."""
    for array in program.arrays.values():
        if array.slot[0] == "field" or (array.written and array.slot[1][1] == 0):
            yield np.dtype(ir.computed(array.stored)).itemsize


def _accesses(program: ir.Program) -> Iterator[tuple[Column, tuple[Variable, ...]]]:
    """The columns that are loaded and stored, with the lanes that they are along."""
    for record in ir.every(program.body):
        if isinstance(record, ir.Load):
            yield record.column, record.type.lanes
        elif isinstance(record, ir.Store):
            yield record.column, program.lanes.of(record.column.variables)


def _placed(program: ir.Program, accesses: list[tuple[Column, tuple[Variable, ...]]]) -> tuple[Digit, ...]:
    """The variables in lanes as digits, the outermost first, each above those inside of it that some value
    varies with too.
    """
    lanes = program.lanes
    types = {frozenset(record.type.lanes) for record in ir.every(program.body) if hasattr(record, "type")}
    types |= {frozenset(own) for _, own in accesses}
    if EDGE in lanes:
        types.add(frozenset({EDGE}))
    columns = [column for column, _ in accesses]
    run = [v for v, _ in lanes.tiles if any(v in used for used in types)]
    if _flat(program, run):
        length = None if run[0].extent is None else math.prod([v.extent or 0 for v in run])
        size = lanes.count(tuple(run))
        return (Digit(tuple(run), 0, (size - 1).bit_length(), size, length),)
    groups: list[list[Variable]] = []
    for v in run:
        joined = (
            groups
            and EDGE not in (v, groups[-1][-1])
            and lanes.whole(v)
            and _together(groups[-1][-1], v, types, columns)
        )
        if joined:
            groups[-1].append(v)
        else:
            groups.append([v])
    digits: list[Digit] = []
    for group in reversed(groups):
        inner = [
            digit
            for digit in digits
            if any(group[0] in used and digit.variables[0] in used for used in types)
        ]
        first = max([digit.first + digit.bits for digit in inner], default=0)
        size = lanes.count(tuple(group))
        length = None if group[0].extent is None else math.prod([v.extent or 0 for v in group])
        digits.insert(0, Digit(tuple(group), first, (size - 1).bit_length(), size, length))
    return tuple(digits)


def _flat(program: ir.Program, run: list[Variable]) -> bool:
    """Whether all variables may lie in one run of bits, and are better off there: some inner one would leave
    lanes idle.
    """
    lanes, types = program.lanes, {}
    if len(run) < 2 or EDGE in run or not all(map(lanes.whole, run[1:])):
        return False
    for record in ir.every(program.body):
        if hasattr(record, "type"):
            types[record.name] = record.type.lanes
        if isinstance(record, ir.Fold) and (set(types[record.value]) != set(run) or record.type.lanes):
            return False
    return any(lanes.size(v) & (lanes.size(v) - 1) for v in run[1:])


def _together(a: Variable, b: Variable, types: set[frozenset[Variable]], columns: list[Column]) -> bool:
    """Whether all values vary with both or neither, and b's values are neighbours in memory where a's are one
    after the other.
    """

    def flat(column: Column) -> bool:
        strides: dict[Variable, Any] = dict(column.strides)
        found: bool = strides.get(a, 0) == strides.get(b, 0) * (b.extent or 0)
        return found

    return all((a in used) == (b in used) for used in types) and all(map(flat, columns))
