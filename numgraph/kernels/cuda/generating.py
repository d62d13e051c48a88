"""The code generator's CUDA target: the text of codegen.py, in which a group of neighbouring threads does what a vector's lanes do.

    task = group()                           every group of threads takes one task: a row, or a chunk of a long row
    if task < count:
        row, begin, end, place               whose fields are read, which edges, where its results go
        …                                    as on the CPU

Where chunks add atomically, a task that is a whole row (``place == row``) stores its results, and a chunk adds them to its row.

In a kernel that only stores values per edge every edge is a task of its own.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numba

from numgraph.expressions.expr import leaves_of
from numgraph.kernels.axes import Axes
from numgraph.kernels.codegen import Generator
from numgraph.kernels.layout import Layout, Scope, Target

LONG = 40
"""Edges whose values take more lines than this are handled one by one: their arithmetic hides the loads' latency."""


@dataclass(frozen=True)
class Shape:
    """How a tile lies in threads: ``threads`` a group, ``vectors`` of ``vector`` lanes in each. unroll: edges that a step handles."""

    threads: int
    vector: int
    vectors: int
    unroll: int


class CudaGenerator(Generator):
    """Generates one CUDA kernel. aligned: slots of the arrays that are read or written by whole vectors."""

    def __init__(
        self,
        axes: Axes,
        layout: Layout,
        targets: Sequence[Target],
        outer: Sequence[int],
        lane: int | None,
        head: int | None,
        shape: Shape,
    ) -> None:
        super().__init__(axes, layout, targets, outer, lane, head)
        self.shape = shape
        self.per_edge = all(target.output.reduce == "edge" for target in targets)
        self.in_vectors: set[str] = set()

    @property
    def aligned(self) -> set[int]:
        return {self.slots.index(key) for key, name in self.names.items() if name in self.in_vectors and key in self.slots}

    # --- loads and stores ---

    def ask_ahead(self, array: str, position: str, offset: str, width: int, storage: str) -> None:
        """Other groups run while one waits."""

    def repeated(self, place: str) -> str:
        self.in_vectors.add(place.partition(",")[0])
        return f"{self.define('load_repeated', 'memory.load_repeated()')}({place})"

    def loaded(self, place: str, width: int, scope: Scope) -> str:
        if width == self.width:
            self.in_vectors.add(place.partition(",")[0])
        return super().loaded(place, width, scope)

    def stored(self, by: str, place: str, name: str, width: int, mask: str | None) -> str:
        if width == self.width:
            self.in_vectors.add(place.partition(",")[0])
        return super().stored(by, place, name, width, mask)

    def written(self, target: Target, row: str, line: Callable[..., str]) -> list[str]:
        if row != "row" or self.per_edge:
            return [line(row)]
        if not target.atomic:
            return [line("place")]
        return ["if place == row:", f"    {line('row')}", "else:", f"    {line('row', 'atomic_add')}"]

    def degree(self, target: Target) -> str:
        if not target.atomic:
            return super().degree(target)  # a chunk's mean is of its own edges
        at, indptr = self.use("at"), self.id_array("indptr")
        return f"{at}({indptr}, row + 1) - {at}({indptr}, row)"

    # --- loops ---

    def row_loop(self) -> list[str]:
        count = f"args[{self.slot(('count', None), 1)}]"
        lines = [f"task = {self.define('group', 'lanes.group()')}()", f"if task < {count}:"]
        if self.layout.rows == "e":
            return [*lines, "    row = task"]
        at = self.use("at")
        if not self.per_edge:
            tasks = self.id_array("tasks")
            return [*lines, *[f"    {name} = {at}({tasks}, task * 4 + {i})" for i, name in enumerate(("row", "begin", "end", "place"))]]
        read = {leaf.attrs[0] for target in self.targets for leaf in leaves_of(target.output.expressions)}
        return [*lines, f"    row = {at}({self.id_array('owners')}, task)"] if self.layout.rows in read else lines

    def edge_loop(self, edge: list[str]) -> list[str]:
        if not edge:
            return []
        found = self.found()
        if "edge" in self.names:
            found.append("edge = k" if self.layout.ordered else f"edge = {self.use('at')}({self.id_array('edge_ids')}, k)")
        if self.per_edge:
            return ["k = task", *found, *edge]
        rest = ["for k in range({}, end):", *[f"    {line}" for line in (*found, *edge)]]
        count = 1 if len(edge) > LONG or any(line.startswith("for ") for line in edge) else self.shape.unroll
        if count == 1:
            return [rest[0].format("begin"), *rest[1:]]
        values = edge[: len(self.blocks[self.edge_level])]
        parts = (found, values, edge[len(values) :])
        steps = [f"k_{i} = k0 + {i}" for i in range(count)]
        steps += [line for part in parts for i in range(count) for line in _renamed(part, [*found, *values], i)]
        lines = [f"rest = end - (end - begin) % {count}", f"for k0 in range(begin, rest, {count}):"]
        return [*lines, *[f"    {line}" for line in steps], rest[0].format("rest"), *rest[1:]]

    def text(self, lines: list[str]) -> str:
        shape = self.shape
        header = [f"# with primitives {fingerprint()}", "from numgraph.kernels.cuda.lanes import tile", ""]
        header += [f"lanes = memory = tile({shape.threads}, {shape.vector}, {shape.vectors}, {self.layout.packed})"]
        header += [f"{name} = lanes.{name}" for name in sorted(self.used)]
        header += [*[f"{name} = {text}" for name, text in sorted(self.defined.items())], "", "", "def body(args):"]
        return "\n".join([*header, *["    " + line for line in lines]]) + "\n"


@functools.cache
def fingerprint() -> str:
    """A hash of what gives the text its meaning."""
    digest = hashlib.sha256(f"{version('numba-cuda')} {numba.__version__}".encode())
    here = Path(__file__).parent
    for path in (here / "device.py", here / "registers.py", here / "lanes.py", here.parent / "lanes.py", here.parent / "arithmetic.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _renamed(lines: Sequence[str], assigned: Sequence[str], i: int) -> list[str]:
    """Lines for edge i of a step: what ``assigned`` lines make, and k, under names of its own."""
    names = {"k", *(match[1] for line in assigned if (match := re.match(r" *(\w+) = ", line)))}
    pattern = re.compile(rf"\b({'|'.join(sorted(names))})\b")
    return [pattern.sub(rf"\1_{i}", line) for line in lines]
