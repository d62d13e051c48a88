"""A proof, for every kernel before it is compiled, that it stays inside its arrays, whatever made its text.

The text is read as it stands. Sizes are known when a walk is planned, so every loop over features has known bounds; columns grow with every
loop variable, so their ends are reached in the last steps of the loops. Rows are the walk's own, or come from the graph's index arrays,
whose ids were checked when the graph was made.
"""

from __future__ import annotations

import ast
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numgraph import errors
from numgraph.expressions.expr import leaves_of
from numgraph.kernels.layout import Target

READS = ("load", "load_masked", "load_repeated")
WRITES = ("store", "store_masked", "atomic_add", "atomic_add_masked")
FOUND_IN = {"far": "indices", "source": "src", "destination": "dst", "edge": "edge_ids"}
"""The index arrays that rows are looked up in."""


@dataclass(frozen=True)
class _Array:
    """What a name of memory stands for: what errors call it, the length of its rows, and the names that its rows go by."""

    what: str
    columns: int
    rows: tuple[str, ...]


def verify(
    text: str, slots: Sequence[tuple[Any, ...]], offsets: Sequence[int], sizes: Mapping[int, int], targets: Sequence[Target], rows: str
) -> None:
    """Raise RuntimeError if a kernel could read or write outside of an array. rows: "u", "v" or "e", whose rows the walk is over."""
    reader = _Reader(dict(zip(offsets, slots, strict=True)), sizes, targets, rows)
    for line in text.splitlines():
        reader.read(line)


class _Reader:
    """Reads a kernel line by line. made: primitives of a fixed width, by name: what makes them, and from which numbers. loops: those that
    a line is in, as (indentation, variable, the values with which columns can end; none if the loop has no step)."""

    def __init__(self, slots: Mapping[int, tuple[Any, ...]], sizes: Mapping[int, int], targets: Sequence[Target], rows: str) -> None:
        self.slots, self.sizes, self.targets, self.walked = slots, sizes, targets, rows
        self.shapes = {leaf.attrs: leaf.shape for leaf in leaves_of(root for target in targets for root in target.output.expressions)}
        self.made: dict[str, tuple[str, tuple[Any, ...]]] = {}
        self.arrays: dict[str, _Array] = {}
        self.ids: dict[str, str] = {}
        self.numbers: dict[str, int] = {}
        self.masks: dict[str, tuple[int, ast.expr]] = {}
        self.loops: list[tuple[int, str, tuple[int, ...]]] = []

    def read(self, line: str) -> None:
        stripped = line.lstrip()
        indent = len(line) - len(stripped)
        while self.loops and stripped and indent <= self.loops[-1][0]:
            self.loops.pop()
        if stripped.startswith("for "):
            variable, bounds = _loop(stripped)
            self.loops.append((indent, variable, self.steps(bounds)))
            return
        name, equals, value = stripped.partition(" = ")
        if not equals:
            name, value = "", stripped
        if indent == 0:
            self.define(name, value)
        elif value.startswith("args[") or value.isdigit():
            self.number(name, value)
        elif _base(name) in FOUND_IN:
            if not self.found(_base(name), value):
                raise self.fault(stripped, f"is not where {name} is found")
        elif self.made.get(function := value.partition("(")[0], ("",))[0] in ("operand", "ids"):
            self.named(name, self.made[function][0], self.slots[int(value[:-1].rpartition(", ")[2])])
        elif any(primitive in value for primitive in self.made):
            for call in _calls(value):
                self.call(name, call, stripped)

    def define(self, name: str, value: str) -> None:
        value = value.removeprefix("memory = ")  # of lanes = memory = tile(threads, vector, vectors, packed)
        for call in _calls(value) if value.startswith(("memory.", "lanes.first_lanes(", "tile(")) else ():
            maker = call.func.attr if isinstance(call.func, ast.Attribute) else _name(call.func)
            if maker not in ("operand", "ids", "first_lanes", "prefetch", "tile", *READS, *WRITES):
                raise self.fault(f"{name} = {value}", "is no access to memory that is known")
            if maker != "prefetch":  # which asks, and reads nothing
                self.made[name] = maker, tuple([arg.value for arg in call.args if isinstance(arg, ast.Constant)])

    def number(self, name: str, value: str) -> None:
        if value.isdigit():
            self.numbers[name] = int(value)
            return
        slot = self.slots[int(value[len("args[") : -1])]
        if slot[0] == "size":
            self.numbers[name] = self.sizes[slot[1]]

    def found(self, base: str, value: str) -> bool:
        """Whether a row of the other end, or of the edge, is looked up in the graph's index array at an edge's position."""
        if base == "edge" and _base(value) == "k":
            return True
        function, _, rest = value.partition("(")
        array, _, position = rest.partition(", ")
        return function == "at" and self.ids.get(array) == FOUND_IN[base] and _base(position.rstrip(")")) == "k"

    def steps(self, bounds: Sequence[ast.expr]) -> tuple[int, ...]:
        """The last values of a loop's variable; -1 for loops over rows and edges, which no column may depend on."""
        known = [self.growing(bound, {}) for bound in bounds]
        first, end, step = (0, *known, 1) if len(known) == 1 else (*known, 1)[:3]
        if first is None or end is None or step is None:
            return (-1,)
        last = first + (end - 1 - first) // step * step
        return tuple({max(last - step, first), last}) if end > first else ()

    def call(self, name: str, call: ast.Call, line: str) -> None:
        function = _name(call.func)
        maker, made = self.made.get(function, (function, ()))
        if maker == "first_lanes":
            self.masks[name] = made[0], call.args[0]
        elif maker in READS or maker in WRITES:
            self.access(call, maker, made, line)

    def named(self, name: str, maker: str, slot: tuple[Any, ...]) -> None:
        """A name for the array at a slot of the arguments."""
        kind, what = slot
        if maker == "ids":
            self.ids[name] = what
        else:
            self.arrays[name] = self.array(kind, what)

    def array(self, kind: str, what: Any) -> _Array:
        if kind == "field":
            target = what[0]
            far = {"u": "source", "v": "destination"} if self.walked == "e" else dict.fromkeys("uv", "far")
            row = "row" if target == self.walked else {"shared": "0", "e": "edge", **far}[target]
            return _Array(".".join(what), math.prod(self.shapes[what]), (row,))
        number, place = what
        output = self.targets[number].output
        found = ("row" if self.walked == "e" else "edge",) if output.reduce == "edge" else ("row", "place")
        return _Array(f"array {place} of the result ({output.reduce})", math.prod(output.results()[place][0]), found)

    def access(self, call: ast.Call, maker: str, made: tuple[Any, ...], line: str) -> None:
        array, row, offset, *rest = call.args
        memory = self.arrays.get(_name(array))
        if memory is None:
            raise self.fault(line, "has no array")
        position = str(row.value) if isinstance(row, ast.Constant) else _base(_name(row))
        if position not in memory.rows:
            raise self.fault(line, f"takes row {position!r} of {memory.what}, whose rows are {memory.rows}")
        width, limit = self.made["lanes"][1][3] if maker == "load_repeated" else made[0], None
        if maker.endswith("_masked"):
            known, limit = self.masks.get(_name(rest[-1]), (None, None))
            if limit is None or known != width:
                raise self.fault(line, f"has no mask of {width} lanes")
        used = _names(offset) | (_names(limit) if limit is not None else frozenset())
        varying = [(variable, values) for _, variable, values in self.loops if variable in used or not values]
        for values in itertools.product(*[values for _, values in varying]):
            at = dict(zip([variable for variable, _ in varying], values, strict=True))
            start = None if -1 in values else self.growing(offset, at)
            if start is None:
                raise self.fault(line, f"has a column of {memory.what} that nothing bounds")
            lanes = max(width, 1) if limit is None else min(width, self.value(limit, at))
            if start + lanes > memory.columns:
                raise self.fault(line, f"reaches columns {start} … {start + lanes - 1} of {memory.what}, whose rows have {memory.columns}")

    def growing(self, node: ast.expr, at: Mapping[str, int]) -> int | None:
        """The value of a column, if it is known and grows with each of its names: sums, products and quotients of numbers from 0 on."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, int) and node.value >= 0 else None
        if isinstance(node, ast.Name):
            return at.get(node.id, self.numbers.get(node.id))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult | ast.FloorDiv):
            a, b = self.growing(node.left, at), self.growing(node.right, at)
            if a is None or b is None or (isinstance(node.op, ast.FloorDiv) and not (isinstance(node.right, ast.Constant) and b)):
                return None
            return a + b if isinstance(node.op, ast.Add) else a * b if isinstance(node.op, ast.Mult) else a // b
        return None

    def value(self, node: ast.expr, at: Mapping[str, int]) -> int:
        """The lanes that a mask leaves: length − column."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
            length, column = self.growing(node.left, at), self.growing(node.right, at)
            if length is not None and column is not None:
                return length - column
        raise self.fault(ast.unparse(node), "is no length less a column")

    def fault(self, line: str, problem: str) -> RuntimeError:
        return errors.unsound("kernel", f"`{line}` {problem}")


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _base(name: str) -> str:
    """A name without the number of the edge within a step."""
    stem, _, number = name.rpartition("_")
    return stem if stem and number.isdigit() else name


@functools.lru_cache(maxsize=4096)
def _calls(text: str) -> tuple[ast.Call, ...]:
    return tuple([node for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Call)])


@functools.lru_cache(maxsize=1024)
def _loop(line: str) -> tuple[str, tuple[ast.expr, ...]]:
    """The variable of a for, and what its range is of."""
    loop = ast.parse(f"{line} pass").body[0]
    assert isinstance(loop, ast.For)
    assert isinstance(loop.iter, ast.Call)
    return _name(loop.target), tuple(loop.iter.args)


def _names(node: ast.expr) -> frozenset[str]:
    return frozenset([part.id for part in ast.walk(node) if isinstance(part, ast.Name)])
