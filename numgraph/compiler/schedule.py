"""How a walk's variables become loops and lanes: data, and every candidate that is worth building. ``cost``
takes the cheapest.

v: lanes a:5 × b:11, 5 a tile of 64                 heads × width fused, whatever their lengths
v: loop a:3 | lanes b:100, 64 a tile of 64          rows of one head after the other
v: lanes k × a:3, 10 a tile of 32                   narrow features: ten edges of a row side by side
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from numgraph.compiler.index import EDGE, ROW, Notation, Variable, terms_of
from numgraph.expressions.expr import READS_U, READS_V
from numgraph.expressions.reduces import REDUCES
from numgraph.expressions.traversal import topological

FEW = 8
"""Features up to which edges can go side by side."""
LONG, LONGER = 12, 96
"""Edges a row from which on they go side by side: where functions of many instructions are computed for each,
and where not.
"""
BRIEF = 6
"""Values up to which the last vector of a row may overlap. It takes masks and half of the time off sums of 20
features, and a fifth off those of 33 and 100; each value is a vector more to compile."""

_ABREAST = 4
"""Registers that a value takes of rows that are side by side; with eight, there are none for others."""

COSTLY = 20.0
"""Instructions of a function that is worth lanes of its own."""
PRICES = (
    *[
        (name, COSTLY)
        for name in ("exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "arctan", "erf")
    ],
    *[(name, 30.0) for name in ("tanh", "power", "arctan2", "fmod", "remainder", "floor_divide")],
    ("divide", 8.0),
    ("sqrt", 8.0),
)
"""Instructions of functions that are more than one."""


@dataclass(frozen=True)
class Machine:
    """What a schedule needs to know of a target.

    registers: how many of them one value may take; held: how many can be kept while edges go by; edges:
    whether edges may go side by side; together: edges that a step of plain sums takes; shared: whether all
    lengths of several variables run the same code; gather: the price of a gathered lane; loop: instructions
    an edge of a kernel that does nothing; slack: how much more, as a part of what outputs cost apart, they
    may cost in one kernel, which is compiled and launched once; wide: registers of a row that is one tile;
    overlaps: whether its last vector may end where the row does; abreast: whether
    rows may go side by side; prices: instructions of functions that are
    more than one."""

    register_bytes: int = 64
    registers: int = 8
    held: int = 24
    edges: bool = True
    together: int = 1
    shared: bool = False
    gather: float = 0.5
    loop: float = 2.0
    slack: float = 0.0
    wide: int = 8
    overlaps: bool = False
    abreast: bool = False
    prices: tuple[tuple[str, float], ...] = PRICES


@dataclass(frozen=True)
class Lanes:
    """Which variables are in lanes. tiles: each with how many of its values a tile takes; all but the first
    take all of theirs.

    A value's lanes are any of the variables, in this order, so a value per head is a narrower vector beside
    one per head and feature, and the map between two such vectors is a constant:
    ``Lanes(((h, 5), (f, 11)), 16).places((h,), (h, f))`` is 0 0 0 0 0 0 0 0 0 0 0 1 1 …. vector: lanes of a
    register. general: the tiles are always in a loop and masked, though there may be one that is full: so all
    lengths of several variables that take as many registers run the same code. overlap: the last vector of a
    row ends where the row does, and computes again what the one before it has; nothing is masked.
    """

    tiles: tuple[tuple[Variable, int], ...]
    vector: int
    general: bool = False
    overlap: bool = False

    def __contains__(self, variable: Variable) -> bool:
        return any(v == variable for v, _ in self.tiles)

    def size(self, variable: Variable) -> int:
        return next(size for v, size in self.tiles if v == variable)

    def of(self, variables: Iterable[Variable]) -> tuple[Variable, ...]:
        wanted = frozenset(variables)
        return tuple([v for v, _ in self.tiles if v in wanted])

    def whole(self, variable: Variable) -> bool:
        """Whether every tile has all values of the variable."""
        return variable.extent is not None and self.size(variable) >= variable.extent

    def partial(self, lanes: Iterable[Variable]) -> bool:
        """Whether some tile has lanes beyond the end of a variable."""
        return any(v.extent is None or v.extent % self.size(v) for v in lanes)

    def varies(self, lanes: tuple[Variable, ...]) -> bool:
        """Whether how many lanes are in use depends on the tile."""
        return bool(lanes) and (self.partial(lanes[:1]) or (self.general and lanes[0] == self.tiles[0][0]))

    def count(self, lanes: tuple[Variable, ...]) -> int:
        """Lanes in use of a value along these variables."""
        return math.prod([self.size(v) for v in lanes])

    def width(self, lanes: tuple[Variable, ...]) -> int:
        """Lanes of a value, with those that fill its last register up. 0: a scalar."""
        if not lanes:
            return 0
        count = self.count(lanes)
        return (
            1 << (count - 1).bit_length() if count < self.vector else -(-count // self.vector) * self.vector
        )

    def overlaps(self, lanes: tuple[Variable, ...]) -> bool:
        """Whether the last vector of a value along these variables has lanes of the one before it."""
        return self.overlap and self.width(lanes) > self.count(lanes)

    def vectors(self, lanes: tuple[Variable, ...]) -> list[tuple[int, int]]:
        """Where each vector of a value starts, and its width, a power of two, the largest first; a scalar's
        is 0.
        """
        width, count = self.width(lanes), self.count(lanes)
        whole = count // self.vector * self.vector if self.overlaps(lanes) else width
        made, start = [], 0
        for bit in reversed(range(whole.bit_length())):
            if whole >> bit & 1:
                made.append((start, 1 << bit))
                start += 1 << bit
        if whole < width:
            tail = max(1 << (count - whole - 1).bit_length(), self.vector // 4)
            made.append((count - tail, tail))
        return made or [(0, 0)]

    def digits(self, lanes: tuple[Variable, ...]) -> dict[Variable, np.ndarray]:
        """Which value of each variable a lane stands for, counted from the tile's first."""
        lane, found = np.arange(self.width(lanes)), {}
        for v in reversed(lanes[1:]):
            found[v] = lane % self.size(v)
            lane = lane // self.size(v)
        return {**found, lanes[0]: lane} if lanes else {}

    def places(self, have: tuple[Variable, ...], want: tuple[Variable, ...]) -> tuple[int, ...]:
        """Which lane of a value along ``have`` each lane of one along ``want`` takes; lanes not in use take
        any.
        """
        digits, place = self.digits(want), np.zeros(self.width(want), np.int64)
        for v in have:
            place = place * self.size(v) + digits[v]
        return tuple(np.minimum(place, max(self.width(have) - 1, 0)).tolist())


@dataclass(frozen=True)
class Schedule:
    """rows: whose edges are walked. loops: variables outside of the edges, outermost first. lanes: the
    others. together: edges a step. apart: the results, by number, whose sums each of these has for itself.
    turns: edges go one by one, and these sums take turns, which gives the same bits.

    A sum's variable that is in neither gets a loop of its own where the sum stands.
    """

    rows: str
    loops: tuple[Variable, ...]
    lanes: Lanes
    together: int = 1
    apart: tuple[int, ...] = ()
    turns: bool = False

    @property
    def tiled(self) -> Variable | None:
        """The variable whose values do not fit one tile, or may not."""
        return (
            self.lanes.tiles[0][0]
            if self.lanes.general
            else next((v for v, _ in self.lanes.tiles if not self.lanes.whole(v)), None)
        )

    def __str__(self) -> str:
        run = tuple(v for v, _ in self.lanes.tiles)
        parts = [f"loop {' '.join(map(repr, self.loops))}"] if self.loops else []
        if run:
            parts.append(
                f"lanes {' × '.join(map(repr, run))}, {self.lanes.size(run[0])} a tile of "
                f"{self.lanes.width(run)}"
            )
        if self.together > 1:
            parts.append(f"{self.together} edges {'in turn' if self.turns else 'at once'}")
        return f"{self.rows}: {' | '.join(parts) or 'scalars'}"


def candidates(notation: Notation, machine: Machine) -> list[Schedule]:
    """Every schedule that is worth a look: each run of variables in lanes, with edges before it or without,
    in tiles of 1 … registers.
    """
    terms = terms_of(notation.results)
    kept, chain = _kept(notation), _chain(notation)
    folded = [v for v in chain if v not in kept]
    chains = [chain, kept]
    chains += [tuple(v for v, _ in term.detail[1].strides) for term in terms if term.op == "load"]
    runs = sorted(
        {chain[i:] for chain in chains for i in range(len(chain) + 1)}, key=lambda run: [v.name for v in run]
    )
    vector = machine.register_bytes // max(_itemsize(term.dtype) for term in terms)
    summed = {v for term in terms if term.op in ("sum", "max") for v in term.detail}
    overlap = machine.overlaps and not summed and len(terms) <= BRIEF
    found: list[Schedule] = []
    for run in runs:
        loops = tuple(v for v in kept if v not in run)
        for lanes in (run, (EDGE, *run)) if machine.edges and _edges_fit(notation, loops, run) else (run,):
            tiles = (
                [(step, *[v.extent or 1 for v in lanes[1:]]) for step in _steps(lanes, vector, machine)]
                if lanes
                else [()]
            )
            for sizes in tiles:
                if sizes and lanes[0] in folded and sizes[0] < (lanes[0].extent or 0):
                    continue  # a sum's variable is in lanes as a whole
                uneven = len(lanes) > 1 and any(size & (size - 1) for size in sizes)
                general = machine.shared and uneven and lanes[0] not in summed and lanes[0] != EDGE
                single = len(lanes) == 1 and vector < (lanes[0].extent or 0) <= sizes[0]
                tiled = tuple(zip(lanes, sizes, strict=True))
                found.append(
                    Schedule(notation.rows, loops, Lanes(tiled, vector, general, overlap and single))
                )
    return found


def _kept(notation: Notation) -> tuple[Variable, ...]:
    """The variables of results, those of the widest first."""
    widest = sorted(notation.results, key=lambda result: -max(size for _, size, _ in result.arrays))
    return tuple(
        dict.fromkeys(v for result in widest for column, _, _ in result.arrays for v, _ in column.strides)
    )


def _chain(notation: Notation) -> tuple[Variable, ...]:
    """The variables of results, and those of sums after them."""
    terms = terms_of(notation.results)
    folded = [v for term in terms if term.op in ("sum", "max") for v in term.detail]
    return tuple(dict.fromkeys([*_kept(notation), *folded]))


def _itemsize(dtype: str) -> int:
    return 1 if dtype == "bool" else np.dtype(dtype).itemsize


def _edges_fit(notation: Notation, loops: tuple[Variable, ...], run: tuple[Variable, ...]) -> bool:
    """Whether edges may go before these variables: few features, all of them in lanes, and no winner, whose
    order is that of edges.
    """
    few = math.prod([v.extent or 1 for v in run]) <= FEW and notation.rows != "e"
    return few and not loops and not any(REDUCES[result.reduce].winner for result in notation.results)


def _steps(lanes: tuple[Variable, ...], vector: int, machine: Machine) -> Iterator[int]:
    """How many values of the first variable a tile may take."""
    unit = math.prod([v.extent or 1 for v in lanes[1:]])
    known: set[int] = set()
    for registers in (1, 2, 4, 8):
        extent = lanes[0].extent
        step = min(registers * vector // unit, extent or vector)
        if registers > machine.registers or step < (1 if extent else 2):
            continue
        if extent and unit > 1:  # as few tiles, of equal numbers of heads, each one register at most
            step = -(-extent // -(-extent // min(step, vector)))
        if step not in known:
            known.add(step)
            yield step
    if len(lanes) == 1 and machine.registers * vector < (lanes[0].extent or 0) <= machine.wide * vector:
        yield lanes[0].extent or 0


def side_by_side(notation: Notation, machine: Machine, length: int, ordered: bool) -> bool:
    """Whether edges go side by side: one number an edge, which are gathered as the processor can, in sums
    whose order is free.

    length: edges of a row, roughly. ordered: ids are positions. On one thread: sums of exponentials 1.8 times
    as fast with 12 edges a row, 2.6 with 50 and 3.2 in a graph of 1 M edges; softmax over edges 1.1, 1.5 and
    1.8, attention with one head 1.1, 1.9 and 2.0; plain sums 1.3 to 1.6 with 150 edges a row, but 0.9 with 50
    in a graph that the cache holds, and 1.0 where edge data are gathered by ids too. With two features and
    more, gathering costs more than the idle lanes (plain sums 0.2 to 0.5)."""
    terms, prices = terms_of(notation.results), dict(machine.prices)
    arrays = [term.detail[1].strides for term in terms if term.op == "load"]
    single = not any(arrays) and all(term.op not in ("sum", "max") for term in terms)
    stored = [leaf.dtype for leaf in notation.fields.values()] + [
        dtype for result in notation.results for _, _, dtype in result.arrays
    ]
    reduces = {result.reduce for result in notation.results}
    if notation.rows == "e" or not single or any(dtype.itemsize < 4 for dtype in stored):
        return False
    if any(REDUCES[name].winner for name in reduces) or reduces == {"edge"}:
        return False
    costly = bool(reduces & {"softmax", "logsumexp"}) or any(
        prices.get(term.op, 1.0) >= COSTLY for term in terms if EDGE in term.free
    )
    apart = not ordered and any(target == "e" for target, _ in notation.fields)
    return length >= LONG if costly else length >= LONGER and not apart


def abreast(schedule: Schedule, notation: Notation, machine: Machine) -> Schedule:
    """The schedule with short rows side by side, where the features of a row fill a register at most.

    Every row takes its own edges one after the other, so its bits are those that it has by itself. What is
    computed for an edge, an exponential per head, then fills registers, and so does what is computed once a
    row. On two threads, in a grid, attention forward and backward takes 0.4 of the time with one feature,
    0.57 with eight of one head, 0.91 with 4 × 4; with 4 × 8, more than a register, it would take 1.05."""
    run, chain = tuple(v for v, _ in schedule.lanes.tiles), _chain(notation)
    dtypes = [leaf.dtype for leaf in notation.fields.values()]
    dtypes += [dtype for result in notation.results for _, _, dtype in result.arrays]
    per_edge = any(result.reduce == "edge" for result in notation.results)
    if notation.rows == "e" or not machine.abreast or per_edge or any(d.itemsize < 4 for d in dtypes):
        return schedule
    vector = machine.register_bytes // max(_itemsize(term.dtype) for term in terms_of(notation.results))
    unit = math.prod([v.extent or 1 for v in chain])
    if set(run) != set(chain) or not all(map(schedule.lanes.whole, run)) or unit > vector:
        return schedule
    rows = 1 << (min(_ABREAST * vector // unit, vector).bit_length() - 1)
    return replace(schedule, lanes=Lanes(((ROW, rows), *[(v, v.extent or 1) for v in run]), vector))


def at_once(schedule: Schedule, notation: Notation, machine: Machine, length: int) -> Schedule:
    """The schedule with several edges a step where there are plain sums of messages that take few
    instructions, which have accumulators for each.

    An addition waits for the one before it, and a jump for every edge costs as much as a narrow row. On one
    thread 1.15 to 1.35 times as fast with 150 edges a row, 1.0 to 1.2 with 15 to 25; four at once are no
    faster than two. Each result is decided by what it computes for an edge, whatever the graph and what else
    is in the kernel, so that a row's bits depend on neither. Rows of few edges (length: roughly) get these
    bits edge by edge: with 5 a second edge that half of the rows lack made sums take 1.05 to 1.15 of the
    time, and compiling up to 1.7.
    """
    if notation.rows == "e" or EDGE in schedule.lanes or machine.together == 1:
        return schedule
    prices = dict(machine.prices)
    apart = tuple(
        [
            number
            for number, output in enumerate(notation.outputs)
            if notation.results[number].reduce in ("sum", "mean")
            and not any(
                prices.get(node.op, 1.0) >= COSTLY and node.reads not in (READS_U, READS_V)
                for node in topological(output.expressions)
            )
        ]
    )
    if not apart:
        return schedule
    return replace(
        schedule,
        together=machine.together,
        apart=apart,
        turns=length < LONG or ROW in schedule.lanes,
    )
