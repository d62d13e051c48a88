"""What a CUDA kernel is before there is a device: its text, and the layout of its arguments."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from numgraph.compiler import program as ir
from numgraph.compiler.cuda.printing import Printer
from numgraph.compiler.cuda.threads import Layout, Shape
from numgraph.compiler.storage import CACHE_LINE, memory_dtype, memory_name
from numgraph.compiler.target import Made, Request

_WORDS = {"ids": 2, "field": 3, "out": 3}
"""Words of a slot in the argument block: address and length, or address, rows, and bytes from row to row;
other slots are one.
"""


class Operand(NamedTuple):
    """A field or a result in the argument block: where its words begin, and which one it is. stride: bytes
    from row to row where there are no gaps; vector: those at whose multiples every row must begin, for what
    is read by whole vectors."""

    at: int
    key: Any
    dtype: np.dtype[Any]
    stride: int
    vector: int


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel's text with the layout of its arguments.

    rows: whose edges are walked, "e" where edges are tasks in the order of their ids. slots: ("count", None),
    ("size", number), ("float" or "int", number), ("ids", name), ("field", key), ("out", (which of the
    outputs, place)). offsets: where each stands in the argument block. block: its words, numbers in
    place. fields, outs: the arrays in it. ids: the dtype of index arrays. shape: its tiles. per_edge: an edge
    is a task, not a row."""

    rows: str
    text: str
    slots: list[tuple[Any, ...]]
    offsets: list[int]
    block: list[int]
    fields: list[Operand]
    outs: list[Operand]
    outputs: list[Made]
    ids: np.dtype[Any]
    shape: Shape
    per_edge: bool

    @property
    def words(self) -> int:
        """The length of the argument block."""
        return len(self.block)


def printed(program: ir.Program, outputs: Sequence[Made], request: Request) -> Kernel:
    """The kernel of a program."""
    per_edge = all(made.output.reduce == "edge" for made in outputs)
    by_ids = per_edge and (request.ordered or by_edge_ids(program))
    layout = Layout(program)
    printer = Printer(
        program, layout, request.ids, per_edge, by_ids, [i for i, made in enumerate(outputs) if made.atomic]
    )
    text, slots, aligned = printer.text(), printer.slots, printer.aligned
    *offsets, length = itertools.accumulate([_WORDS.get(kind, 1) for kind, _ in slots], initial=0)
    block = [0] * length
    fields: list[Operand] = []
    outs: list[Operand] = []
    arrays = {array.slot: array for array in program.arrays.values()}
    for number, (slot, at) in enumerate(zip(slots, offsets, strict=True)):
        kind, what = slot
        if kind in ("field", "out"):
            dtype = memory_dtype(arrays[slot].stored)
            vector = layout.shape.vector * dtype.itemsize if number in aligned else 1
            key = what if kind == "field" else (outputs[what[0]].number, what[1])
            operand = Operand(at, key, dtype, arrays[slot].features * dtype.itemsize, vector)
            (fields if kind == "field" else outs).append(operand)
            block[at + 2] = operand.stride
        elif kind in ("size", "float", "int"):
            block[at] = int(np.float64(what).view(np.int64)) if kind == "float" else int(what)
    return Kernel(
        "e" if by_ids else request.rows,
        text,
        slots,
        offsets,
        block,
        fields,
        outs,
        list(outputs),
        np.dtype(request.ids),
        layout.shape,
        per_edge,
    )


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
