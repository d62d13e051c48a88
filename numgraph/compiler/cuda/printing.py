"""A program as the source of a CUDA kernel, one line a record, and the slots of its argument block.

    task = group()                           every group of threads takes one task: a row, or a chunk of a
    long row
    if task < count:
        row, begin, end, place               whose fields are read, which edges, where its results go
        …                                    the records of the program

Where chunks add atomically, a task that is a whole row (``place == row``) stores its results, and a chunk
adds them to its row.

In a kernel that only stores values per edge every edge is a task of its own.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Collection, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numba
import numpy as np

from numgraph.compiler import program as ir
from numgraph.compiler.cuda.threads import Digit, Layout, Part
from numgraph.compiler.index import EDGE, ROW, Column, Variable
from numgraph.compiler.llvm import arithmetic
from numgraph.compiler.naming import Text
from numgraph.compiler.storage import HALVES, LITERALS, identity_of, memory_name

Mask = tuple[int, tuple[Digit, ...]]
"""The form of a mask, and the digits whose lanes in use it shows."""

_OWNERS = {"owners": "dst", "indices": "src"}, {"owners": "src", "indices": "dst"}
"""What says which rows an edge joins, by its id, where in-edges are walked, and where out-edges are."""


class Printer(Text):
    """Prints one program. ids: dtype of the graph's index arrays. per_edge: every edge is a task, by_ids: in
    the order of their ids. atomic: numbers of the results to which the chunks of long rows add.

    ``slots``: what stands in the argument block; ``aligned``: those of arrays that are read or written by
    whole vectors."""

    def __init__(
        self,
        program: ir.Program,
        layout: Layout,
        ids: str,
        per_edge: bool = False,
        by_ids: bool = False,
        atomic: Collection[int] = (),
    ) -> None:
        super().__init__()
        self.program, self.layout, self.ids, self.per_edge, self.by_ids = (
            program,
            layout,
            ids,
            per_edge,
            by_ids,
        )
        self.atomic = {f"out{number}.0" for number in atomic}
        self.prologue: list[str] = []
        self.used: set[str] = set()
        self.whole_vectors: set[str] = set()
        self.loops: list[Variable] = []
        self.masks: dict[Variable, dict[str, list[str]]] = {}
        self.types: dict[str, ir.Type] = {}
        self.learn(program.body)

    def learn(self, records: ir.Records) -> None:
        """The types of names."""
        for record in ir.every(records):
            if hasattr(record, "type"):
                self.types[record.name] = record.type
            if isinstance(record, ir.Loop):
                own = (record.variable,) if record.variable in self.layout.digit else ()
                self.types[record.variable.name] = ir.Type("int64", own)

    @property
    def aligned(self) -> set[int]:
        return {self.slots.index(self.program.arrays[name].slot) for name in self.whole_vectors}

    # --- names ---

    def use(self, primitive: str) -> str:
        self.used.add(primitive)
        return primitive

    def size(self, number: int) -> str:
        """A length, on which the text does not depend."""
        if ("size", number) not in self.names:
            name = self.names["size", number] = f"n{len(self.names)}"
            self.prologue.append(f"{name} = args[{self.slot(('size', number), 1)}]")
        return self.names["size", number]

    def array(self, name: str) -> str:
        if name not in self.names:
            array = self.program.arrays[name]
            self.names[name] = f"{'out' if array.written else 'x'}_{len(self.names)}"
            stored = memory_name(array.stored)
            maker = self.define(f"operand_{stored}", f'lanes.operand("{stored}")')
            self.prologue.append(f"{self.names[name]} = {maker}(args, {self.slot(array.slot, 3)})")
        return self.names[name]

    def id_array(self, name: str) -> str:
        if self.by_ids:
            name = _OWNERS[self.program.walked == "u"][name]
        if name not in self.names:
            self.names[name] = name
            maker = self.define(f"ids_{self.ids}", f'lanes.ids("{self.ids}")')
            self.prologue.append(f"{name} = {maker}(args, {self.slot(('ids', name), 2)})")
        return name

    def name(self, name: str) -> str:
        """How a value is called: one position of the adjacency, or that of every lane."""
        return f"{name}s" if name == EDGE.name and EDGE in self.layout.digit else name

    def form(self, name: str) -> int:
        return self.layout.form(self.types[name].lanes)

    # --- masks ---

    def mask(
        self,
        lanes: tuple[Variable, ...],
        digits: Sequence[Digit],
        tiles: bool = True,
        zeros: Sequence[Part] = (),
    ) -> str | None:
        """The name of the mask of lanes in use, by what these digits say; None where all are. tiles: also
        where tiles are cut. zeros: and where these parts are 0."""
        form = self.layout.form(lanes)
        needed = tuple(digit for digit in digits if digit.bits and (digit.padded or (tiles and digit.cut)))
        if not needed and not zeros:
            return None
        key = "mask", form, needed, tiles, tuple(zeros)
        if key not in self.names:
            name = self.names[key] = f"mask_{len(self.names)}"
            moving = [digit.variables[0] for digit in needed if tiles and digit.cut]
            parts = [f"{self.below(form, digit)}({self.limit(digit, tiles)})" for digit in needed]
            parts += [f"{self.made('zero', f'lanes.zero({form}, {part})')}()" for part in zeros]
            text = functools.reduce(lambda a, b: f"{self.use('logical_and')}({a}, {b})", parts)
            inner = [v for v in self.loops if v in moving]
            if inner:
                self.masks.setdefault(inner[-1], {})[name] = [f"{name} = {text}"]
            else:
                self.prologue.append(f"{name} = {text}")
        return self.names[key]

    def below(self, form: int, digit: Digit) -> str:
        return self.made("below", f"lanes.below({form}, {digit.first}, {digit.bits})")

    def limit(self, digit: Digit, tiles: bool) -> str:
        """How many lanes of the present tile are in use, by a digit."""
        if not (tiles and digit.cut):
            return self.size(digit.size)
        v = digit.variables[0]
        if v == EDGE:
            left = f"end - {EDGE.name}"
        else:
            unit = math.prod([w.extent or 1 for w in digit.variables[1:]])
            left = (
                f"{self.size(v.extent or 1)} - {v.name}"
                if unit == 1
                else f"({self.size(v.extent or 1)} - {v.name}) * {unit}"
            )
        return f"min({left}, {self.size(digit.size)})" if digit.padded else left

    # --- loops ---

    def body(self, records: ir.Records) -> list[str]:
        return [line for record in records for line in getattr(self, type(record).__name__.lower())(record)]

    def loop(self, record: ir.Loop) -> list[str]:
        v = record.variable
        if v == ROW:
            return self.tasks(record)
        if v == EDGE:
            return self.edges(record) if record.body else []
        self.loops.append(v)
        inside = self.body(record.body)
        self.loops.pop()
        if not inside:
            return []
        inside = [*self.masks_of(v), *inside]
        bounds = (
            self.size(v.extent or 0) if record.step == 1 else f"0, {self.size(v.extent or 0)}, {record.step}"
        )
        return [f"for {v.name} in range({bounds}):", *["    " + line for line in inside]]

    def masks_of(self, v: Variable) -> list[str]:
        """The masks that are asked for inside of a loop over tiles. They are made anew where another loop
        over them follows.
        """
        lines = self.masks.pop(v, {})
        self.names = {key: name for key, name in self.names.items() if name not in lines}
        return [line for made in lines.values() for line in made]

    def tasks(self, record: ir.Loop) -> list[str]:
        count = f"args[{self.slot(('count', None), 1)}]"
        lines = [f"task = {self.define('group', 'lanes.group()')}()", f"if task < {count}:"]
        inside = self.body(record.body)
        if self.per_edge:
            k = [f"{EDGE.name} = task"]
            reads_row = any(ROW.name in ir.reads(one) for one in record.body if not self.bounds(one))
            own = [f"{ROW.name} = {self.use('at')}({self.id_array('owners')}, task)"] if reads_row else []
            return [*lines, *["    " + line for line in (*k, *own, *inside)]]
        tasks = self.id_array("tasks")
        own = [
            f"{name} = {self.use('at')}({tasks}, task * 4 + {i})"
            for i, name in enumerate((ROW.name, "begin", "end", "place"))
        ]
        return [*lines, *["    " + line for line in (*own, *inside)]]

    def bounds(self, record: Any) -> bool:
        """Whether a record is of where a row's edges begin and end, which its task says."""
        return isinstance(record, ir.Load) and record.type.dtype == "bound"

    def edges(self, record: ir.Loop) -> list[str]:
        k = EDGE.name
        if self.per_edge:
            return self.body(record.body)
        if EDGE in self.layout.digit:
            return self.side_by_side(record)
        # one by one: the assembler unrolls these loops by itself, as fast as edges by fours were on an H100
        return [f"for {k} in range(begin, end):", *["    " + line for line in self.body(record.body)]]

    def side_by_side(self, record: ir.Loop) -> list[str]:
        """A loop in which every step has an edge for each lane; those beyond the row's end repeat the step's
        first.
        """
        k, digit = EDGE.name, self.layout.digit[EDGE]
        self.loops.append(EDGE)
        inside = self.body(record.body)
        mask = self.mask((EDGE,), [digit])
        self.loops.pop()
        counted = [
            self.made("counted", f"lanes.counted({digit.form}, {terms})")
            for terms in (((digit.first, digit.bits, 1, 0, 1),), ())
        ]
        numbers = f"{self.name(k)} = {self.use('where')}({mask}, {counted[0]}({k}), {counted[1]}({k}))"
        inside = [*self.masks_of(EDGE), numbers, *inside]
        return [f"for {k} in range(begin, end, {record.step}):", *["    " + line for line in inside]]

    def when(self, record: ir.When) -> list[str]:
        return [
            f"if {self.use('any_lane')}({self.name(record.condition)}):",
            *["    " + line for line in self.body(record.body)],
        ]

    # --- memory ---

    def column(self, column: Column) -> str:
        """A column at the first lane; variables that are whole in lanes start at 0."""
        terms = []
        for v, stride in column.strides:
            digit = self.layout.digit.get(v)
            if digit is None or (v == digit.variables[0] and not digit.whole):
                terms.append(v.name if stride == 1 else f"{v.name} * {stride}")
        return " + ".join(terms) or "0"

    def row(self, row: str, lanes: tuple[Variable, ...]) -> str:
        """The row, or that of every lane that a thread holds."""
        if not row:
            return "0"
        have, want = self.form(row) if row in self.types else 0, self.layout.form(lanes)
        if len(self.layout.shape.held(have)) == 1:
            return self.name(row)
        return f"{self.made('spread', f'lanes.spread({have}, {want})')}({self.name(row)})"

    def access(
        self, by: str, array: str, column: Column, lanes: tuple[Variable, ...]
    ) -> tuple[str, str | None]:
        """The primitive that loads or stores lanes, and its mask."""
        layout = self.layout
        count = layout.shape.vector if layout.neighbours(column, lanes, layout.shape.vector) else 1
        if count > 1:
            self.whole_vectors.add(array)
        mask = self.mask(lanes, layout.along(lanes), zeros=[] if by == "load" else layout.absent(lanes))
        by = by if mask is None else f"{by}_masked"
        return self.made(
            by, f"lanes.{by}({layout.form(lanes)}, {layout.terms(column, lanes)}, {count})"
        ), mask

    def load(self, record: ir.Load) -> list[str]:
        if self.bounds(record):
            return []
        if record.type.dtype.startswith("row "):
            if self.by_ids and self.program.arrays[record.array].stored == "row e":
                return [f"{record.name} = {record.row}"]
            array = self.id_array(self.program.arrays[record.array].slot[1])
            return [f"{record.name} = {self.use('at')}({array}, {self.name(record.row)})"]
        array, lanes = self.array(record.array), record.type.lanes
        stored = self.program.arrays[record.array].stored
        by, mask = self.access("load", record.array, record.column, lanes)
        text = (
            f"{by}({array}, {self.row(record.row, lanes)}, "
            f"{self.column(record.column)}{f', {mask}' if mask else ''})"
        )
        if stored in HALVES:
            text = self.called(f"widen_{stored}", f'lanes.widen("{stored}")', text)
        elif memory_name(stored) != record.type.dtype:
            text = f"{self.caster(record.type.dtype)}({text})"
        return [f"{record.name} = {text}"]

    def caster(self, dtype: str) -> str:
        return self.define(f"as_{dtype}", f'lanes.cast("{dtype}")')

    def prefetch(self, record: ir.Prefetch) -> list[str]:
        """Other groups run while one waits."""
        return []

    def store(self, record: ir.Store) -> list[str]:
        array, lanes = self.array(record.array), self.types[record.value].lanes
        described, value = self.program.arrays[record.array], self.name(record.value)
        stored = memory_name(described.stored)
        if described.stored in HALVES:
            value = self.called(f"narrow_{described.stored}", f'lanes.narrow("{described.stored}")', value)
        elif stored != self.types[record.value].dtype:
            value = f"{self.caster(stored)}({value})"

        def line(row: str, by: str = "store") -> str:
            primitive, mask = self.access(by, record.array, record.column, lanes)
            return (
                f"{primitive}({array}, {row}, {self.column(record.column)}, "
                f"{value}{f', {mask}' if mask else ''})"
            )

        if record.row != ROW.name or self.per_edge:
            lines = [line(self.row(record.row, lanes))]
        elif record.array not in self.atomic:
            lines = [line("place")]
        else:
            lines = ["if place == row:", f"    {line('row')}", "else:", f"    {line('row', 'atomic_add')}"]
        if not record.first:
            return lines
        return [f"if {' == '.join(v.name for v in record.first)} == 0:", *["    " + one for one in lines]]

    # --- values ---

    def constant(self, record: ir.Constant) -> list[str]:
        number, dtype, form = record.number, record.type.dtype, self.layout.form(record.type.lanes)
        if (not form and number not in LITERALS) or repr(
            number
        ) == "-0.0":  # numbers that kernels do not depend on
            if dtype.startswith("float"):
                return [
                    (
                        f"{record.name} = {self.caster(dtype)}({self.use('number')}(args, "
                        f"{self.slot(('float', number), 1)}))"
                    )
                ]
            return [f"{record.name} = {self.caster(dtype)}(args[{self.slot(('int', number), 1)}])"]
        return [f"{record.name} = {self.literal(dtype, number, form)}()"]

    def literal(self, dtype: str, number: Any, form: int) -> str:
        text = f'float("{number}")' if isinstance(number, float) and math.isinf(number) else repr(number)
        return self.made("literal", f'lanes.constant("{dtype}", {text}, {form})')

    def op(self, record: ir.Op) -> list[str]:
        if record.op == "subtract" and not {"begin", "end"} - set(record.args):
            return self.degree(record.name)
        match record.op:
            case "cast":
                name = self.caster(record.type.dtype)
            case "wrap":
                kind = np.dtype(record.detail)
                name = self.define(
                    f"wrap_{record.detail}", f"lanes.wrap({8 * kind.itemsize}, {kind.kind == 'i'})"
                )
            case _:
                name = self.use(record.op)
        return [f"{record.name} = {name}({', '.join(map(self.name, record.args))})"]

    def degree(self, name: str) -> list[str]:
        """The number of edges that a mean is over: those of the row where chunks add to it, else those of the
        task.
        """
        if self.per_edge:
            return []
        if not self.atomic:
            return [f"{name} = end - begin"]
        at, indptr = self.use("at"), self.id_array("indptr")
        return [f"{name} = {at}({indptr}, row + 1) - {at}({indptr}, row)"]

    def spread(self, record: ir.Spread) -> list[str]:
        have, want = self.form(record.value), self.layout.form(record.type.lanes)
        spread = self.made("spread", f"lanes.spread({have}, {want})")
        return [f"{record.name} = {spread}({self.name(record.value)})"]

    def fold(self, record: ir.Fold) -> list[str]:
        have, left, value = self.types[record.value], record.type.lanes, self.name(record.value)
        over = [digit for digit in self.layout.along(have.lanes) if not set(digit.variables) & set(left)]
        mask = self.mask(have.lanes, over, tiles=False)
        form = self.layout.form(have.lanes)
        if mask is not None:
            identity = (
                1
                if record.op == "multiply"
                else identity_of("sum" if record.op == "add" else "max", have.dtype)
            )
            identity = float(identity) if have.dtype.startswith("float") else identity
            value = f"{self.use('where')}({mask}, {value}, {self.literal(have.dtype, identity, form)}())"
        fold = self.made(
            f"fold_{record.op}", f'lanes.fold("{record.op}", {form}, {form & ~self.layout.form(left)})'
        )
        return [f"{record.name} = {fold}({value})"]

    def accumulate(self, record: ir.Accumulate) -> list[str]:
        lanes, value = self.types[record.name].lanes, self.name(record.value)
        cut = [digit for digit in self.layout.along(lanes) if digit.cut] if record.masked else []
        mask = self.mask(lanes, cut)
        return [
            f"{record.name} = {value}"
            if mask is None
            else f"{record.name} = {self.use('where')}({mask}, {value}, {record.name})"
        ]

    # --- the whole text ---

    def text(self) -> str:
        """The module around the lines of the body."""
        lines, shape = self.body(self.program.body), self.layout.shape
        header = [f"# with primitives {fingerprint()}", "from numgraph.compiler.cuda.lanes import tile", ""]
        header += [f"lanes = tile({shape.threads}, {shape.vector}, {shape.vectors})"]
        header += [f"{name} = lanes.{name}" for name in sorted(self.used)]
        header += [
            *[f"{name} = {text}" for name, text in sorted(self.defined.items())],
            "",
            "",
            "def body(args):",
        ]
        return "\n".join([*header, *["    " + line for line in (*self.prologue, *lines)]]) + "\n"


@functools.cache
def fingerprint() -> str:
    """A hash of what gives the text its meaning."""
    digest = hashlib.sha256(f"{version('numba-cuda')} {numba.__version__}".encode())
    here, shared = Path(__file__).parent, Path(arithmetic.__file__).parent
    own = [here / f"{name}.py" for name in ("device", "registers", "lanes", "threads")]
    for path in (*own, shared / "lanes.py", shared / "arithmetic.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
