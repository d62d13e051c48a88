"""The names in a kernel's text: what stands in its argument block, the primitives it uses, its arrays,
vectors and masks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph.compiler import program as ir
from numgraph.compiler.index import EDGE, ROW, Column, Variable
from numgraph.compiler.naming import Text
from numgraph.compiler.storage import HALVES, memory_name


class Names(Text):
    """What the text of a program speaks of. ``slots``: ("ids", name), ("field", key) or, without gaps,
    ("whole", key), ("out", (output, place)), ("float" or "int", number). permutes: whether the processor
    takes the lanes of a register by an index (AVX-512)."""

    def __init__(self, program: ir.Program, ids: str, nodes: str, permutes: bool = False) -> None:
        super().__init__()
        self.permutes = permutes
        self.program, self.lanes, self.ids, self.nodes = program, program.lanes, ids, nodes
        self.edge = ROW if program.walked == "e" else EDGE
        self.prologue: list[str] = []
        self.used: set[str] = set()
        self.on: dict[str, tuple[int, ...]] = {}  # masks of rows that have an edge left, as lanes of rows
        self.whole = False  # whether every step over the edges has as many as it has lanes
        self.types: dict[str, ir.Type] = {
            record.name: record.type for record in ir.all_of(program.body) if hasattr(record, "type")
        }
        for record in ir.all_of(program.body):
            if isinstance(record, ir.Loop):
                v = record.variable
                self.types[v.name] = ir.Type("int64", self.lanes.of({v, ROW} if v == EDGE else {v}))

    # --- names ---

    def use(self, primitive: str) -> str:
        self.used.add(primitive)
        return primitive

    def array(self, name: str) -> str:
        array = self.program.arrays[name]
        if name not in self.names:
            self.names[name] = f"{'out' if array.written else 'x'}_{len(self.names)}"
            stored = memory_name(array.stored)
            maker = self.define(f"operand_{stored}", f'memory.operand("{stored}")')
            kind, what = array.slot
            slot = ("whole" if self.single(name) else kind, what)
            self.prologue.append(f"{self.names[name]} = {maker}(args, {self.slot(slot, 3)})")
        return self.names[name]

    def single(self, name: str) -> bool:
        """Whether an array's rows are found by lanes and have one entry: its memory must then be without
        gaps.
        """
        array = self.program.arrays[name]
        near = ("",) if ROW in self.lanes else ("", f"row {self.program.walked}")
        return (
            bool(self.lanes.of({ROW, EDGE}))
            and array.features == 1
            and array.rows not in near
            and not array.written
        )

    def id_array(self, name: str) -> str:
        array = self.program.arrays[name].slot[1]
        if array not in self.names:
            self.names[array] = array if array.isidentifier() else f"ids_{len(self.names)}"
            dtype = self.ids if array in ("indptr", "edge_ids") else self.nodes
            maker = self.define(f"ids_{dtype}", f'memory.ids("{dtype}")')
            self.prologue.append(f"{self.names[array]} = {maker}(args, {self.slot(('ids', array), 2)})")
        return self.names[array]

    def parts(self, name: str) -> list[str]:
        """The names of a value's vectors."""
        lanes = self.types[name].lanes
        stem = f"{name}s" if name in (ROW.name, EDGE.name) and lanes else name
        count = len(self.widths(lanes))
        return [stem] if count == 1 else [f"{stem}_{i}" for i in range(count)]

    def widths(self, lanes: tuple[Variable, ...]) -> list[tuple[int, int]]:
        """Where each vector of a value along these variables starts, and its width."""
        return self.lanes.vectors(lanes)

    def begin(self, lanes: tuple[Variable, ...], start: int, width: int) -> str:
        """Where a vector starts, "" for 0; where it overlaps the one before it, by the length, so that other
        lengths run the same code.
        """
        count = self.lanes.count(lanes)
        if start and self.lanes.overlaps(lanes) and start + width == count:
            return f"{self.number('count', lanes, count)} - {width}"
        return str(start) if start else ""

    # --- masks ---

    def mask(self, lanes: tuple[Variable, ...], start: int, width: int, masked: bool) -> str | None:
        """The name of the mask of a vector's lanes in use; None where all are."""
        if lanes[:1] == (ROW,):
            return self.unfinished(lanes, start, width)
        count = self.lanes.count(lanes)
        varies = self.lanes.varies(lanes) and not (self.whole and lanes[:1] == (EDGE,))
        if not masked or (start + width <= count and not varies):
            return None
        first = self.define(f"first{width}", f"lanes.first_lanes({width})")
        if not varies:
            name = f"use{width}_{''.join(v.name for v in lanes)}_{start}"
            limit = self.number("count", lanes, count)
            line = f"{name} = {first}({limit}{f' - {start}' if start else ''})"
            if line not in self.prologue:
                self.prologue.append(line)
            return name
        return f"in_{''.join(v.name for v in lanes)}_{start}_{width}"

    def unfinished(self, lanes: tuple[Variable, ...], start: int, width: int) -> str:
        """The name of the mask of a vector's lanes whose rows have an edge left; see Abreast."""
        name = f"on_{''.join(v.name for v in lanes)}_{start}_{width}"
        self.on[name] = self.lanes.places((ROW,), lanes)[start : start + width]
        return name

    def masks(self, record: ir.Loop) -> list[str]:
        """The lines of a loop over tiles that make the masks of what is in it."""
        v, lines = record.variable, dict[str, None]()
        if v not in self.lanes or not self.lanes.varies((v,)):
            return []
        for lanes in [self.accessed(one) for one in ir.all_of(record.body) if getattr(one, "masked", False)]:
            if lanes[:1] == (v,):
                unit = self.lanes.count(lanes[1:])
                end = "end" if v == EDGE else self.number("extent", v, v.extent)
                for start, width in self.widths(lanes):
                    by = unit if v == EDGE else self.number("unit", lanes, unit)
                    limit = f"({end} - {v.name}) * {by}" if unit > 1 else f"{end} - {v.name}"
                    if v != EDGE and len(lanes) > 1:
                        count = self.number("count", lanes, self.lanes.count(lanes))
                        limit = f"{self.use('minimum')}({limit}, {count})"
                    elif (
                        v != EDGE or self.lanes.count(lanes) < start + width
                    ):  # lanes that fill up belong to no value
                        size = self.step(v) if v != EDGE else self.lanes.count(lanes)
                        limit = f"{self.use('minimum')}({limit}, {size})"
                    name = self.mask(lanes, start, width, True)
                    first = self.define(f"first{width}", f"lanes.first_lanes({width})")
                    lines[f"{name} = {first}({limit}{f' - {start}' if start else ''})"] = None
        return list(lines)

    def accessed(self, record: Any) -> tuple[Variable, ...]:
        if isinstance(record, ir.Load):
            return record.type.lanes
        name = record.name if isinstance(record, ir.Accumulate) else record.value
        return self.types[name].lanes

    # --- lengths ---

    def number(self, kind: str, what: Any, number: int | None) -> str:
        """The name of a length or stride, which stands in the argument block: so other lengths run the same
        code.
        """
        key = kind, what
        if key not in self.names:
            self.names[key] = f"n_{len(self.names)}"
            self.prologue.append(
                f"{self.names[key]} = {self.use('at')}(args, {self.slot(('int', number), 1)})"
            )
        return self.names[key]

    def step(self, v: Variable) -> str:
        """How many values of a variable a tile takes: where several variables are in lanes, a length like
        others.
        """
        return (
            self.number("step", v, self.lanes.size(v))
            if len(self.lanes.tiles) > 1
            else str(self.lanes.size(v))
        )

    def column(self, array: str, column: Column, more: str = "") -> str:
        """A column of an array at the first lane; variables that are whole in lanes start at 0."""
        terms = []
        for v, stride in column.strides:
            if (
                v not in self.lanes
                or not self.lanes.whole(v)
                or (self.lanes.general and v == self.lanes.tiles[0][0])
            ):
                terms.append(
                    v.name if stride == 1 else f"{v.name} * {self.number('stride', (array, v), stride)}"
                )
        return " + ".join([*terms, *([more or "0"] if more or not terms else [])])

    # --- lanes ---

    def offsets(self, column: Column, lanes: tuple[Variable, ...]) -> np.ndarray:
        """How far each lane's column is from the first's; of a lane that is not in use, nowhere."""
        digits, strides = self.lanes.digits(lanes), dict(column.strides)
        found = np.zeros(self.lanes.width(lanes), np.int64)
        for v in lanes:
            found += digits[v] * strides.get(v, 0)
        return found

    def rows_of(self, row: str, lanes: tuple[Variable, ...], start: int, width: int) -> str:
        """The row, or the rows of a vector's lanes."""
        if not row:
            return "0"
        own = self.types[row].lanes
        if not own:
            return row
        places = self.lanes.places(own, lanes)[start : start + width]
        return self.taken(places, row)

    def taken(self, places: tuple[int, ...], name: str) -> str:
        parts = self.parts(name)
        take = self.made(f"take{len(places)}", f"vectors.take({tuple(places)}, {len(parts)})")
        return f"{take}({', '.join(parts)})"

    def all_lanes(self, width: int) -> str:
        name = f"all{width}"
        line = f"{name} = {self.called(f'first{width}', f'lanes.first_lanes({width})', str(width))}"
        if line not in self.prologue:
            self.prologue.append(line)
        return name

    def widened(self, text: str, stored: str, computed: str) -> str:
        if stored in HALVES:
            return self.called(f"widen_{stored}", f'lanes.widen("{stored}")', text)
        return (
            text
            if memory_name(stored) == computed
            else self.called(f"as_{computed}", f'lanes.cast("{computed}")', text)
        )

    def narrowed(self, name: str, stored: str, computed: str) -> str:
        if stored in HALVES:
            return self.called(f"narrow_{stored}", f'lanes.narrow("{stored}")', name)
        memory = memory_name(stored)
        return name if memory == computed else self.called(f"as_{memory}", f'lanes.cast("{memory}")', name)
