"""What a CUDA kernel is before there is a device: its text, and the layout of its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgraph.compiler import program as ir
from numgraph.compiler.cuda.printing import Printer
from numgraph.compiler.cuda.threads import Layout, Shape
from numgraph.compiler.storage import CACHE_LINE, memory_name
from numgraph.compiler.target import Made, Request

_WORDS = {"ids": 2, "field": 3, "out": 3}
"""Words of a slot in the argument block; other slots are one."""


@dataclass
class Kernel:
    """A kernel's text with the layout of its arguments.

    rows: whose edges are walked, "e" where edges are tasks in the order of their ids. slots: ("count", None),
    ("size", number), ("float" or "int", number), ("ids", name), ("field", key), ("out", (which of the
    outputs, place)). shape: its tiles. aligned: slots of arrays that are read by whole vectors. per_edge: an
    edge is a task, not a row."""

    rows: str
    text: str
    slots: list[tuple[Any, ...]]
    outputs: list[Made]
    shape: Shape
    aligned: set[int]
    per_edge: bool

    @property
    def offsets(self) -> list[int]:
        """Where each slot stands in the argument block, in words."""
        return [sum(_WORDS.get(kind, 1) for kind, _ in self.slots[:i]) for i in range(len(self.slots))]

    @property
    def words(self) -> int:
        """The length of the argument block."""
        return sum(_WORDS.get(kind, 1) for kind, _ in self.slots)


def printed(program: ir.Program, outputs: Sequence[Made], request: Request) -> Kernel:
    """The kernel of a program."""
    per_edge = all(made.output.reduce == "edge" for made in outputs)
    by_ids = per_edge and (request.ordered or by_edge_ids(program))
    layout = Layout(program)
    printer = Printer(
        program, layout, request.ids, per_edge, by_ids, [i for i, made in enumerate(outputs) if made.atomic]
    )
    text = printer.text()
    rows = "e" if by_ids else request.rows
    return Kernel(rows, text, printer.slots, list(outputs), layout.shape, printer.aligned, per_edge)


def by_edge_ids(program: ir.Program) -> bool:
    """Whether outputs per edge alone are better made in the order of edge ids: edge data in sequence, and
    both ends out of order.

    Counted in bytes, an access out of order as a cache line more, a result as a read and a write.
    """
    by_rows = by_edges = 0
    for array in program.arrays.values():
        size, weight = (
            array.features * np.dtype(memory_name(array.stored)).itemsize if array.slot[0] != "ids" else 0,
            1 + array.written,
        )
        if array.rows == "row e" and array.slot[0] != "ids":
            by_rows += weight * (size + CACHE_LINE)
            by_edges += weight * size
        elif array.rows == f"row {program.walked}" and array.slot[0] != "ids":
            by_edges += size + CACHE_LINE
    return by_edges <= by_rows
