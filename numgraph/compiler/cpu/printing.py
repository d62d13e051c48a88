"""A program as the source that Numba compiles, one line a record, and the slots of its argument block.

A value of many lanes is a few vectors, each a power of two registers: 78 lanes of float32 are 64 and 16. So
no lane is computed that a register does not hold anyway. ``t5`` is then ``t5_0`` and ``t5_1``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from numgraph.compiler import program as ir
from numgraph.compiler.cost import contiguous
from numgraph.compiler.cpu.abreast import Abreast
from numgraph.compiler.index import EDGE, ROW, Column, Variable
from numgraph.compiler.llvm import arithmetic
from numgraph.compiler.reduces import SLACK
from numgraph.compiler.storage import LITERALS, identity_of, memory_name

_IDS_AHEAD = 1024
"""How many entries before their use an index array is asked for where edges go side by side."""
_NUMBERS_AHEAD = 256
"""The same of numbers of edges in order: with 25 to 150 edges a row sums of up to 12 features take 0.85 to
0.97 of the time.
"""


class Printer(Abreast):
    """Prints one program, a line or a few for each record."""

    # --- records ---

    def body(self, records: ir.Records) -> list[str]:
        return [line for record in records for line in getattr(self, type(record).__name__.lower())(record)]

    def loop(self, record: ir.Loop) -> list[str]:
        v = record.variable
        if not record.body:
            return []
        if v == EDGE and v in self.lanes:
            return self.edges(record)
        if v in (ROW, EDGE) and ROW in self.lanes:
            inside = self.body(record.body)
            before, after = self.turns(record, inside) if record.turns else ([], [])
            return [*before, *(self.rows(record, inside) if v == ROW else self.edges_of_rows(inside)), *after]
        if v in self.lanes and len(self.lanes.tiles) > 1:
            tiles = self.number("tiles", v, -(-(v.extent or 0) // record.step))
            inside = [f"{v.name} = tile * {self.step(v)}", *self.masks(record), *self.body(record.body)]
            return [f"for tile in range({tiles}):", *["    " + line for line in inside]]
        if record.together > 1 and not record.turns:
            return self.several(record)
        inside = [
            *self.masks(record),
            *(self.ahead(record, v.name) if v == self.edge else []),
            *self.body(record.body),
        ]
        if record.turns:
            before, after = self.turns(record, inside)
            return [*before, *self.stepped(record, inside, 1), *after]
        step = f", {record.step}" if record.step > 1 else ""
        end = record.end if isinstance(record.end, str) else self.number("extent", v, record.end)
        bounds = "start, stop" if v == ROW else f"{record.begin}, {end}"
        return [f"for {v.name} in range({bounds}{step}):", *["    " + line for line in inside]]

    def stepped(self, record: ir.Loop, inside: list[str], step: int) -> list[str]:
        """The loop over the edges of plain sums, by a step that LLVM does not know: it would unroll eight
        edges and a loop for the rest, whose jumps made sums of one feature take 1.4 times as long with 4
        edges a row, and 1.3 with 25. Maxima of 16 features, and much work, gain a tenth from it.
        """
        k, asked = EDGE.name, {far for _, far in self.wanted(record)}
        return [
            *[f"ahead{far} = {far} if end + {far} <= last else 0" for far in sorted(asked)],
            f"{k} = begin",
            f"while {k} < end:",
            *["    " + line for line in inside],
            f"    {k} += {self.number('edges', step, step)}",
        ]

    def turns(self, record: ir.Loop, inside: list[str]) -> tuple[list[str], list[str]]:
        """Lines before and after a loop whose sums take turns: at its end names change places."""
        before, after = [], []
        for name in record.apart:
            kind = self.types[name]
            for part, (_, width) in zip(self.parts(name), self.widths(kind.lanes), strict=True):
                names = [part, *[f"{part}_turn{i}" for i in range(1, record.together)]]
                before += [f"{own} = {self.literal(kind.dtype, 0, width)}()" for own in names[1:]]
                inside.append(f"{', '.join(names)} = {', '.join([*names[1:], part])}")
                after += [f"{part} = {self.use('add')}({part}, {own})" for own in names[1:]]
        return before, after

    def edges(self, record: ir.Loop) -> list[str]:
        """The edges side by side: whole steps without masks, then what is left."""
        k, step = EDGE.name, record.step
        numbers = []
        if any(
            k in ir.reads(replace(one, body=()) if ir.inner(one) else one)
            for one in ir.all_of(record.body)
            if not self.finds(one)
        ):
            for name, (start, width) in zip(self.parts(k), self.widths(self.types[k].lanes), strict=True):
                count = self.define(f"from{width}", f"vectors.count_from({width})")
                numbers.append(f"{name} = {count}({k}{f' + {start}' if start else ''})")
        lines = [f"full = begin + (end - begin) // {step} * {step}"]
        for self.whole, bounds in ((True, "begin, full"), (False, "full, end")):
            inside = [
                *self.asked(record),
                *(self.masks(record) if not self.whole else []),
                *numbers,
                *self.body(record.body),
            ]
            lines += [f"for {k} in range({bounds}, {step}):", *["    " + line for line in inside]]
        return lines

    def several(self, record: ir.Loop) -> list[str]:
        """Several edges a step, so that loads of one are under way while another is added; the last step has
        fewer.
        """
        k, count, sums = EDGE.name, record.together, record.apart
        lines: list[str] = []
        after: list[str] = []
        inside = [*self.asked(record), *self.ahead(record, k), *self.body(record.body)]
        for i in range(1, count):
            names = {name: f"{name}_{i}" for name in (k, *ir.named_in(record.body), *sums)}
            self.types |= {new: self.types[old] for old, new in names.items() if old in self.types}
            for name in sums:
                kind = self.types[name]
                for part, own, (_, width) in zip(
                    self.parts(name), self.parts(names[name]), self.widths(kind.lanes), strict=True
                ):
                    lines.append(f"{own} = {self.literal(kind.dtype, 0, width)}()")
                    after.append(f"{part} = {self.use('add')}({part}, {own})")
            body = self.body(tuple([ir.copied(one, names) for one in record.body]))
            body = [*self.ahead(record, names[k]), *body]
            inside += [f"{names[k]} = {k} + {i}", f"if {names[k]} < end:", *["    " + line for line in body]]
        return [*lines, *self.stepped(record, inside, count), *after]

    def asked(self, record: ir.Loop) -> list[str]:
        """Lines that ask for entries of the index arrays which later edges find their rows by, and for
        numbers of later edges: between gathers the processor does not see that they are read in order.
        """
        ask = self.define("ask_ids", "vectors.prefetch_ids")
        found = [one.array for one in record.body if self.finds(one)]
        lines = [f"{ask}({self.id_array(array)}, {EDGE.name} + {_IDS_AHEAD})" for array in found]
        for one in record.body:
            if (
                isinstance(one, ir.Load)
                and one.row == EDGE.name
                and not (self.finds(one) or one.type.lanes)
                and found
            ):
                place = f"{self.use('minimum')}({EDGE.name} + {_NUMBERS_AHEAD}, {self.last(found[0])})"
                size = np.dtype(memory_name(self.program.arrays[one.array].stored)).itemsize
                of_array = f"{self.array(one.array)}, {place}, {self.column(one.array, one.column)}"
                lines.append(f"{self.define(f'prefetch{size}', f'memory.prefetch({size})')}({of_array})")
        return lines

    def last(self, array: str) -> str:
        """The name of the last position of the edges, all of which an index array has."""
        if "last" not in self.names:
            self.names["last"] = "last"
            self.prologue.append(f"last = {self.use('length')}({self.id_array(array)}) - 1")
        return "last"

    def finds(self, record: Any) -> bool:
        """Whether a record reads an index array at the edges' positions."""
        return isinstance(record, ir.Load) and record.type.dtype.startswith("row ")

    def wanted(self, record: ir.Loop) -> list[tuple[str, int]]:
        """The index arrays of the rows that are asked for, and how many edges ahead."""
        found = [(one.index, one.ahead) for one in ir.all_of(record.body) if isinstance(one, ir.Prefetch)]
        if found:
            self.last(found[0][0])
        return list(dict.fromkeys(found))

    def ahead(self, record: ir.Loop, edge: str) -> list[str]:
        """Where the rows are that are asked for at an edge. In plain sums, where every instruction counts, it
        is decided once a row whether there are as many edges ahead.
        """
        lines = []
        for index, far in self.wanted(record):
            place = f"{edge} + ahead{far}"
            if record.together == 1:
                place = f"{self.use('minimum')}({edge} + {far}, last)"
            lines.append(f"next_{index} = {self.use('at')}({self.id_array(index)}, {place})")
        return lines

    def when(self, record: ir.When) -> list[str]:
        condition = " or ".join(f"{self.use('any_lane')}({part})" for part in self.parts(record.condition))
        return [f"if {condition}:", *["    " + line for line in self.body(record.body)]]

    def neighbours(self, column: Column, lanes: tuple[Variable, ...]) -> bool:
        return EDGE not in lanes and contiguous(column, lanes)

    def spread_by(self, places: tuple[int, ...], record: ir.Spread, start: int) -> str:
        """Lanes taken by places; those of one register by an index in the argument block, so other lengths
        run the same code.
        """
        have, want, dtype = self.types[record.value].lanes, record.type.lanes, record.type.dtype
        if (
            not self.permutes
            or dtype == "bool"
            or {ROW, EDGE} & {*want}
            or self.lanes.width(have) > self.lanes.vector
        ):
            return self.taken(places, record.value)
        bits = 64 if dtype.endswith("64") else 32
        if self.lanes.width(have) * bits > 512:
            return self.taken(places, record.value)
        key = "places", (have, want, start, bits)
        if key not in self.names:
            self.names[key] = f"by_{len(self.names)}"
            packed = np.array(places, f"int{bits}")
            packed = np.concatenate([packed, np.zeros(len(packed) * bits // 32 % 2, packed.dtype)]).view(
                np.int64
            )
            first = self.words
            for word in packed.tolist():
                self.slot(("int", word), 1)
            maker = self.define(f"indices{len(places)}_{bits}", f"vectors.indices({len(places)}, {bits})")
            self.prologue.append(f"{self.names[key]} = {maker}(args, {first})")
        return f"{self.define('take_by', 'vectors.take_by')}({self.names[key]}, {record.value})"

    def load(self, record: ir.Load) -> list[str]:
        if record.type.dtype == "bound" or record.type.dtype.startswith("row "):
            return self.load_id(record)
        array, lanes = self.array(record.array), record.type.lanes
        stored = self.program.arrays[record.array].stored
        if lanes[:1] == (ROW,):
            return self.load_rows(record, array, stored)
        lines = []
        for name, (start, width) in zip(self.parts(record.name), self.widths(lanes), strict=True):
            mask = self.mask(lanes, start, width, record.masked)
            place = f"{array}, {self.rows_of(record.row, lanes, start, width)}, "
            following = record.row == EDGE.name and self.single(record.array)
            if following:
                place = f"{array}, {EDGE.name}, "
            if not lanes or following or self.neighbours(record.column, lanes):
                place += self.column(record.array, record.column, self.begin(lanes, start, width))
                by = f"load{width or ''}" if mask is None else f"load_masked{width}"
                maker = f"memory.load({width})" if mask is None else f"memory.load_masked({width})"
                text = f"{self.define(by, maker)}({place}{f', {mask}' if mask else ''})"
            else:
                offsets = tuple(self.offsets(record.column, lanes)[start : start + width].tolist())
                single = ", True" if self.single(record.array) else ""
                gather = self.made(f"gather{width}", f"vectors.gather({offsets}{single})")
                text = (
                    f"{gather}({place}{self.column(record.array, record.column)}, "
                    f"{mask or self.all_lanes(width)})"
                )
            lines.append(f"{name} = {self.widened(text, stored, record.type.dtype)}")
        return lines

    def load_id(self, record: ir.Load) -> list[str]:
        if record.type.lanes == (ROW,):
            return self.ids_of_rows(record)
        if record.array in ("begin", "end"):
            position = ROW.name if record.array == "begin" else f"{ROW.name} + 1"
            return [f"{record.name} = {self.use('at')}({self.id_array(record.array)}, {position})"]
        array = self.id_array(record.array)
        if not record.type.lanes:
            return [f"{record.name} = {self.use('at')}({array}, {record.row})"]
        lines = []
        for name, (start, width) in zip(self.parts(record.name), self.widths(record.type.lanes), strict=True):
            read = self.define(f"load_ids{width}", f"vectors.load_ids({width})")
            position = f"{EDGE.name} + {start}" if start else EDGE.name
            mask = self.mask(record.type.lanes, start, width, True) or self.all_lanes(width)
            lines.append(f"{name} = {read}({array}, {position}, {mask})")
        return lines

    def prefetch(self, record: ir.Prefetch) -> list[str]:
        array = self.program.arrays[record.array]
        size = max(self.lanes.width(record.lanes), 1) * np.dtype(memory_name(array.stored)).itemsize
        name, write = f"prefetch{'_write' if array.written else ''}{size}", ", True" if array.written else ""
        ask = self.define(name, f"memory.prefetch({size}{write})")
        return [
            (
                f"{ask}({self.array(record.array)}, next_{record.index}, "
                f"{self.column(record.array, record.column)})"
            )
        ]

    def store(self, record: ir.Store) -> list[str]:
        array, lanes = self.array(record.array), self.types[record.value].lanes
        stored, lines = self.program.arrays[record.array].stored, []
        if lanes[:1] == (ROW,):
            return self.store_rows(record, array, stored, lanes)
        for name, (start, width) in zip(self.parts(record.value), self.widths(lanes), strict=True):
            value, mask = (
                self.narrowed(name, stored, self.types[record.value].dtype),
                self.mask(lanes, start, width, record.masked),
            )
            place = f"{array}, {self.rows_of(record.row, lanes, start, width)}, "
            if not lanes or self.neighbours(record.column, lanes):
                by = f"store{width or ''}" if mask is None else f"store_masked{width}"
                maker = f"memory.store({width})" if mask is None else f"memory.store_masked({width})"
                place += self.column(record.array, record.column, self.begin(lanes, start, width))
                lines.append(f"{self.define(by, maker)}({place}, {value}{f', {mask}' if mask else ''})")
            else:
                offsets = tuple(self.offsets(record.column, lanes)[start : start + width].tolist())
                scatter = self.made(f"scatter{width}", f"vectors.scatter({offsets})")
                lines.append(
                    f"{scatter}({place}{self.column(record.array, record.column)}, {value}, "
                    f"{mask or self.all_lanes(width)})"
                )
        if not record.first:
            return lines
        return [f"if {' == '.join(v.name for v in record.first)} == 0:", *["    " + line for line in lines]]

    def constant(self, record: ir.Constant) -> list[str]:
        number, dtype, lanes = record.number, record.type.dtype, record.type.lanes
        if (not lanes and number not in _LITERALS) or repr(
            number
        ) == "-0.0":  # numbers that kernels do not depend on
            caster = self.define(f"as_{dtype}", f'lanes.cast("{dtype}")')
            if dtype.startswith("float"):
                return [
                    f"{record.name} = {caster}({self.use('number')}(args, {self.slot(('float', number), 1)}))"
                ]
            return [f"{record.name} = {caster}({self.use('at')}(args, {self.slot(('int', number), 1)}))"]
        parts = zip(self.parts(record.name), self.widths(lanes), strict=True)
        return [f"{name} = {self.literal(dtype, number, width)}()" for name, (_, width) in parts]

    def op(self, record: ir.Op) -> list[str]:
        if record.op == "subtract" and not {"begin", "end"} - set(record.args):
            if record.type.lanes:
                return [f"{record.name} = {self.define('degrees', 'row_lanes.degrees')}(begins, ends)"]
            return [f"{record.name} = end - begin"]
        match record.op:
            case "cast":
                name = self.define(f"as_{record.type.dtype}", f'lanes.cast("{record.type.dtype}")')
            case "wrap":
                kind = np.dtype(record.detail)
                name = self.define(
                    f"wrap_{record.detail}", f"lanes.wrap({8 * kind.itemsize}, {kind.kind == 'i'})"
                )
            case _:
                name = self.use(record.op)
        args = [self.parts(arg) if arg in self.types else [arg] for arg in record.args]
        return [
            f"{part} = {name}({', '.join(given)})"
            for part, *given in zip(self.parts(record.name), *args, strict=True)
        ]

    def spread(self, record: ir.Spread) -> list[str]:
        have, want = self.types[record.value].lanes, record.type.lanes
        lines = []
        for name, (start, width) in zip(self.parts(record.name), self.widths(want), strict=True):
            if have:
                text = self.spread_by(self.lanes.places(have, want)[start : start + width], record, start)
            else:
                text = self.called(f"expand{width}", f"lanes.expand({width})", record.value)
            lines.append(f"{name} = {text}")
        return lines

    def fold(self, record: ir.Fold) -> list[str]:
        have, left = self.types[record.value].lanes, record.type.lanes
        sizes = tuple(self.lanes.size(v) for v in have)
        over = tuple(i for i, v in enumerate(have) if v not in left)
        given, last = self.parts(record.value), self.lanes.count(left) - 1
        lines: list[str] = []
        if not left and len(have) == 1:
            given, sizes = self.filled(record, lines), (self.lanes.width(have),)
        for name, (start, width) in zip(self.parts(record.name), self.widths(left), strict=True):
            places = tuple(min(place, last) for place in range(start, start + width))
            fold = self.made("fold", f'vectors.fold("{record.op}", {sizes}, {over}, {places}, {len(given)})')
            lines.append(f"{name} = {fold}({', '.join(given)})")
        return lines

    def filled(self, record: ir.Fold, lines: list[str]) -> list[str]:
        """The vectors of a value that is folded to one number, where lanes that are not in use change
        nothing.
        """
        kind, parts = self.types[record.value], []
        for name, (start, width) in zip(self.parts(record.value), self.widths(kind.lanes), strict=True):
            mask = self.mask(
                kind.lanes, start, width, kind.lanes[0] != EDGE and self.lanes.whole(kind.lanes[0])
            )
            if mask is not None:
                middle = (
                    1
                    if record.op == "multiply"
                    else identity_of("sum" if record.op == "add" else "max", kind.dtype)
                )
                full = self.literal(kind.dtype, middle, width)
                lines.append(f"{record.name}_{name} = {self.use('where')}({mask}, {name}, {full}())")
                name = f"{record.name}_{name}"
            parts.append(name)
        return parts

    def literal(self, dtype: str, number: Any, width: int) -> str:
        number = (
            bool(number) if dtype == "bool" else float(number) if dtype.startswith("float") else int(number)
        )
        text = f'float("{number}")' if isinstance(number, float) and math.isinf(number) else repr(number)
        return self.made(f"literal{width or ''}", f'lanes.constant("{dtype}", {text}, {width})')

    def accumulate(self, record: ir.Accumulate) -> list[str]:
        lanes, lines = self.types[record.name].lanes, []
        for name, value, (start, width) in zip(
            self.parts(record.name), self.parts(record.value), self.widths(lanes), strict=True
        ):
            mask = self.mask(lanes, start, width, record.masked)
            lines.append(
                f"{name} = {value}"
                if mask is None
                else f"{name} = {self.use('where')}({mask}, {value}, {name})"
            )
        return lines

    # --- the whole text ---

    def text(self) -> str:
        """The module around the lines of the body."""
        lines = self.body(self.program.body)
        header = ["from numgraph.compiler.cpu import vectors", "from numgraph.runtime.compiling import njit"]
        header += ["from numgraph.compiler.cpu import memory", "from numgraph.compiler.llvm import lanes"]
        if ROW in self.lanes:
            header.append("from numgraph.compiler.cpu import row_lanes")
        for module, names in (
            ("llvm.arithmetic", vars(arithmetic)),
            ("llvm.lanes", ("any_lane",)),
            ("cpu.memory", ("at", "length", "number")),
        ):
            used = [
                name
                for name in sorted(self.used)
                if name in names and (names is vars(arithmetic)) == (name not in _OTHERS)
            ]
            header += [f"from numgraph.compiler.{module} import {', '.join(used)}"] if used else []
        header += ["", *[f"{name} = {text}" for name, text in sorted(self.defined.items())], "", ""]
        header += ['@njit("void(int64[::1], int64, int64)")', "def body(args, start, stop):"]
        return "\n".join([*header, *["    " + line for line in (*self.prologue, *lines)]]) + "\n"


_LITERALS = (*LITERALS, SLACK, math.inf, -math.inf)
_OTHERS = ("any_lane", "at", "length", "number")
