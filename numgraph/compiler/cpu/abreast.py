"""Rows side by side: lane r of a step over rows is row + r, and takes its own edges one after the other.

Lanes of rows behind the last one have no edges, and are not stored; those of rows that have no edge left read
what the first edge finds, and change nothing.
"""

from __future__ import annotations

from numgraph.compiler import program as ir
from numgraph.compiler.cost import contiguous
from numgraph.compiler.cpu.naming import Names
from numgraph.compiler.index import ROW, Variable


class Abreast(Names):
    """Prints loops, loads and stores of rows that are side by side."""

    def rows(self, record: ir.Loop, inside: list[str]) -> list[str]:
        size = record.step
        count = self.define(f"rows{size}", f"row_lanes.rows_from({size})")
        first = self.define(f"first{size}", f"lanes.first_lanes({size})")
        lines = [f"rows = {count}(row, stop)", f"there = {first}(stop - row)", *inside]
        return [f"for row in range(start, stop, {record.step}):", *["    " + line for line in lines]]

    def edges_of_rows(self, inside: list[str]) -> list[str]:
        """The turns that the longest of the rows takes; inside: the lines of a turn, which name the masks."""
        longest = self.define("longest", "row_lanes.longest")
        before = self.define("before", "row_lanes.before")
        position = self.define("position", "row_lanes.position")
        lines = [f"on = {before}(turn, begins, ends)", f"ks = {position}(turn, begins, on)"]
        for name, places in self.on.items():
            take = self.made(f"take{len(places)}", f"vectors.take({places}, 1)")
            lines.append(f"{name} = {take}(on)")
        lines += inside
        return [f"for turn in range({longest}(begins, ends)):", *["    " + line for line in lines]]

    def ids_of_rows(self, record: ir.Load) -> list[str]:
        size, array = self.lanes.size(ROW), self.id_array(record.array)
        if record.type.dtype == "bound":
            read = self.define(f"bounds{size}", f"row_lanes.bounds({size})")
            return [
                f"{record.name}s = {read}({array}, row{'' if record.array == 'begin' else ' + 1'}, there)"
            ]
        find = self.define("find_ids", "row_lanes.find_ids")
        return [f"{record.name} = {find}({array}, {self.parts(record.row)[0]})"]

    def load_rows(self, record: ir.Load, array: str, stored: str) -> list[str]:
        lanes = record.type.lanes
        rows, column = self.parts(record.row)[0], self.column(record.array, record.column)
        unit, lines = self.lanes.count(lanes[1:]), []
        for name, (start, width) in zip(self.parts(record.name), self.widths(lanes), strict=True):
            if record.row == ROW.name and self.single(record.array):
                load = self.define(f"load_masked{width}", f"memory.load_masked({width})")
                text = f"{load}({array}, row, 0, there)"
            elif len(lanes) > 1 and contiguous(record.column, lanes[1:]):
                made = f"row_lanes.load_rows({self.lanes.size(ROW)}, {unit}, {start}, {width})"
                text = f"{self.made(f'rows{width}', made)}({array}, {rows}, {column})"
            else:
                offsets = tuple(self.offsets(record.column, lanes)[start : start + width].tolist())
                single = ", True" if self.single(record.array) else ""
                gather = self.made(f"gather{width}", f"vectors.gather({offsets}{single})")
                own = rows if lanes == (ROW,) else self.rows_of(record.row, lanes, start, width)
                text = f"{gather}({array}, {own}, {column}, {self.all_lanes(width)})"
            lines.append(f"{name} = {self.widened(text, stored, record.type.dtype)}")
        return lines

    def store_rows(self, record: ir.Store, array: str, stored: str, lanes: tuple[Variable, ...]) -> list[str]:
        """Rows of a result lie one after the other, so they are stored as one."""
        size, unit, lines = self.lanes.size(ROW), self.lanes.count(lanes[1:]), []
        for name, (start, width) in zip(self.parts(record.value), self.widths(lanes), strict=True):
            first = self.define(f"first{width}", f"lanes.first_lanes({width})")
            store = self.define(f"store_masked{width}", f"memory.store_masked({width})")
            mask = f"{first}({self.use('minimum')}(stop - row, {size}) * {unit} - {start})"
            value = self.narrowed(name, stored, self.types[record.value].dtype)
            lines.append(f"{store}({array}, row, {start}, {value}, {mask})")
        return lines
