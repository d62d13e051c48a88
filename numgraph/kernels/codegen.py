"""The code generator: from the expressions of a walk to the Python source of a kernel.

A kernel processes the rows start … stop of an adjacency (or edges start … stop as rows of one edge each):

    for row:                                  values of the row's own node are loaded here, once
        for every outer feature axis:
            for every tile of the lane axis:  accumulators live in registers
                for k in the row's edges:     far end, edge id, values that differ per edge
            store

Every value is computed in the outermost loop that it depends on. The source speaks in the primitives of lanes.py, memory.py and
arithmetic.py only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numgraph.expressions.expr import topological
from numgraph.kernels import arithmetic, lanes, memory
from numgraph.kernels.axes import Axes
from numgraph.kernels.emitting import Emitter
from numgraph.kernels.layout import (
    HALVES,
    Scope,
    Source,
    Target,
    Value,
    memory_name,
)

AHEAD = 16
"""How many edges before its use a far row is asked for: 7 % faster than 8 where nothing is reused, and 64 is slower again."""

FOUND_IN = {"far": "indices", "source": "src", "destination": "dst"}
"""The index array that says where the other end, or an end, of the k-th edge is."""


class Generator(Emitter):
    """Generates one kernel: the values of its expressions, what its outputs keep and store, and the loops around them."""

    # --- outputs ---

    def target(self, number: int, target: Target, scope: Scope) -> None:
        from numgraph.kernels.reducing import REDUCERS

        REDUCERS[target.output.reduce](self, number, target, scope)

    def write(self, scope: Scope, number: Any, kept: Sequence[int], value: Value, row: str, accumulate: bool, into: list[str]) -> None:
        """Lines that store (or add to) a value at (row, kept axes)."""
        width = self.width_of(kept, scope)
        stored = self.targets[number[0]].stored[number[1]]
        array, columns = self.array(("out", number), memory_name(stored), "out"), self.flat(scope, kept)
        name = self.widened(value.name, value.width, width)
        if stored in HALVES:
            name = self.converted(f"narrow_{stored}", f'lanes.narrow("{stored}")', name)
        elif (memory := memory_name(stored)) != value.dtype:
            name = self.converted(f"as_{memory}", f'lanes.cast("{memory}")', name)
        mask = self.mask(scope, width) if width else None

        def line(row: str, by: str = "store") -> str:
            place = f"{array}, {row}, {columns}"
            added = f"{self.use('add')}({self.loaded(place, width, scope)}, {name})" if accumulate and by == "store" else name
            return self.stored(by, place, added, width, mask)

        into += self.written(self.targets[number[0]], row, line)

    def written(self, target: Target, row: str, line: Callable[..., str]) -> list[str]:
        """The lines that write a result. line(row, by): the one that writes it in a row, by a primitive."""
        return [line(row)]

    def stored(self, by: str, place: str, name: str, width: int, mask: str | None) -> str:
        """The line that writes a value of so many lanes."""
        if mask is None:
            return f"{self.define(f'{by}{width or str()}', f'memory.{by}({width})')}({place}, {name})"
        return f"{self.define(f'{by}_masked{width}', f'memory.{by}_masked({width})')}({place}, {name}, {mask})"

    def degree(self, target: Target) -> str:
        """The number of edges that a mean of the target is over."""
        return "end - begin"

    # --- the whole text ---

    def generate(self) -> Source:
        layout = self.layout
        scope = Scope(
            {axis: f"i{axis}" for axis in self.outer},
            self.lane,
            "c",
            "mask" if layout.masked else None,
            partial=layout.tiled and not layout.packed,
        )
        lines = self.row_loop()
        pad = "    "
        for number, target in enumerate(self.targets):
            self.target(number, target, scope)
        lines += [pad + line for line in self.blocks[0]]
        for level, axis in enumerate(self.outer, 1):
            lines.append(f"{pad}for i{axis} in range({self.size(axis)}):")
            pad += "    "
            lines += [pad + line for line in self.blocks[level]]
        length = "" if self.lane is None else self.size(self.lane) if self.head is None else f"({self.size(self.head)} * {layout.packed})"
        if layout.tiled and length:
            lines.append(f"{pad}for c in range(0, {length}, {self.width}):")
            pad += "    "
        elif length:
            self.prologue.append("c = 0")
        if layout.masked and length:
            lines.append(f"{pad}mask = {self.define('first_lanes', f'lanes.first_lanes({self.width})')}({length} - c)")
            if self.head is not None:
                narrow = self.define("first_heads", f"lanes.first_lanes({self.width // layout.packed})")
                lines.append(f"{pad}head_mask = {narrow}({self.size(self.head)} - c // {layout.packed})")
        lines += [pad + line for line in [*self.blocks[self.tile_level], *self.init]]
        lines += [pad + line for line in self.edge_loop([*self.blocks[self.edge_level], *self.update])]
        lines += [pad + line for line in self.final]
        return Source(self.text([*self.prologue, *lines]), self.slots)

    # --- what a target does its own way ---

    def row_loop(self) -> list[str]:
        """The lines that begin the loop over rows and give each row's begin and end."""
        begin, end = "row", "row + 1"
        if self.layout.rows != "e":
            begin, end = (f"{self.use('at')}({self.id_array('indptr')}, {position})" for position in (begin, end))
        return ["for row in range(start, stop):", f"    begin = {begin}", f"    end = {end}"]

    def found(self) -> list[str]:
        """Lines that look up where the other end, or the ends, of the k-th edge are."""
        return [f"{position} = {self.use('at')}({self.id_array(ids)}, k)" for position, ids in FOUND_IN.items() if position in self.names]

    def edge_loop(self, edge: list[str]) -> list[str]:
        """The loop over a row's edges, each doing the lines ``edge``."""
        opening = self.found()
        if self.ahead:
            positions = [position for position in ("edge", *FOUND_IN) if any(where == position for _, where, _, _ in self.ahead)]
            found = [self.id_array(FOUND_IN.get(position, "edge_ids")) for position in positions]
            self.prologue.append(f"last = len({found[0]}) - 1")
            opening.append(f"next_k = min(k + {AHEAD}, last)")
            opening += [f"next_{position} = {self.use('at')}({ids}, next_k)" for position, ids in zip(positions, found, strict=True)]
            for array, position, offset, size in self.ahead:
                opening.append(f"{self.define(f'prefetch{size}', f'memory.prefetch({size})')}({array}, next_{position}, {offset})")
        if "edge" in self.names:
            opening.append("edge = k" if self.layout.ordered else f"edge = {self.use('at')}({self.id_array('edge_ids')}, k)")
        return ["for k in range(begin, end):", *[f"    {line}" for line in [*opening, *edge]]] if edge else []

    def text(self, lines: list[str]) -> str:
        """The module around the lines of the body."""
        header = ["from numgraph.runtime.compiling import njit", "from numgraph.kernels import lanes, memory"]
        for module in (arithmetic, lanes, memory):
            names = [name for name in sorted(self.used) if name in vars(module)]
            header += [f"from {module.__name__} import {', '.join(names)}"] if names else []
        header += ["", *[f"{name} = {text}" for name, text in sorted(self.defined.items())], "", ""]
        header += ['@njit("void(int64[::1], int64, int64)")', "def body(args, start, stop):"]
        return "\n".join([*header, *["    " + line for line in lines]]) + "\n"


def expression_size(targets: Sequence[Target], axes: Axes, lane: int | None) -> int:
    """How many lane-wide values an edge computes: what decides how wide a tile may be before registers run out."""
    nodes = topological([expression for target in targets for expression in target.output.expressions])
    return sum(1 for node in nodes if lane in axes.of[id(node)] and node.op not in ("field", "axes", "broadcast", "cast"))
