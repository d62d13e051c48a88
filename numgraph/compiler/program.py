"""The loop program of a kernel, as records: loops, loads, operations, reductions, stores, each with its type;
and passes over them.

A program says everything that a printer writes and everything that ``verify`` needs; a pass is a function
from records to records. Every name is defined once; only an accumulator changes, by ``Accumulate``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from numgraph.compiler.index import Column, Variable
from numgraph.compiler.schedule import Lanes
from numgraph.compiler.storage import HALVES, compute_name

Records = tuple[Any, ...]


@dataclass(frozen=True)
class Type:
    """dtype: what it is computed in, or the kind of a row number: "row u", "row v", "row e", "row k" (a
    position in the adjacency), or "bound", which ends a row's positions and finds nothing. lanes: the
    variables that are in its lanes; none: a scalar."""

    dtype: str
    lanes: tuple[Variable, ...] = ()


@dataclass(frozen=True)
class Array:
    """What a program reads or writes.

    rows: the kind of number that finds a row of it, "" where it has one row. stored: the dtype in memory, or
    the kind of row number that it holds. slot: what the target binds to it: ("field", key), ("ids", name) or
    ("out", (number, place))."""

    rows: str
    features: int
    stored: str
    slot: tuple[str, Any]

    @property
    def written(self) -> bool:
        return self.slot[0] == "out"


@dataclass(frozen=True)
class Loop:
    """For variable in begin … end by a tile's step. Its name is bound to the variable's value; in lanes, to
    one a lane.

    together: how many values a step takes, the last one maybe fewer, one after the other; apart: the
    accumulators of which each has its own, which are added up after the loop. turns: the same, but the loop
    takes single values, and these accumulators take turns."""

    variable: Variable
    begin: str | int
    end: str | int
    step: int
    body: Records
    together: int = 1
    apart: tuple[str, ...] = ()
    turns: bool = False


@dataclass(frozen=True)
class When:
    """The body is done where the condition holds in any lane."""

    condition: str
    body: Records


@dataclass(frozen=True)
class Load:
    """array[row, column] in the lanes of its type; masked: only in lanes in use, and zero in the others."""

    name: str
    type: Type
    array: str
    row: str
    column: Column
    masked: bool


@dataclass(frozen=True)
class Prefetch:
    """Ask for what a load or store of the same array and column will read or write so many edges later.
    index: the array that says in which row.
    """

    array: str
    index: str
    column: Column
    lanes: tuple[Variable, ...]
    ahead: int


@dataclass(frozen=True)
class Constant:
    """A number in every lane: a literal, or what an accumulator starts with."""

    name: str
    type: Type
    number: Any


@dataclass(frozen=True)
class Op:
    """An elementary function of values of equal lanes; "cast" to its own dtype, "wrap" to the range of the
    dtype ``detail``.
    """

    name: str
    type: Type
    op: str
    args: tuple[str, ...]
    detail: str = ""


@dataclass(frozen=True)
class Spread:
    """A value in more lanes: a scalar in all of them, a head's value in the lanes of its features."""

    name: str
    type: Type
    value: str


@dataclass(frozen=True)
class Fold:
    """Lanes summed ("add"), multiplied, or their maximum taken, along the variables that the value has and
    the type has not.
    """

    name: str
    type: Type
    op: str
    value: str


@dataclass(frozen=True)
class Accumulate:
    """An accumulator, the name of a Constant, becomes value; masked: in lanes in use only."""

    name: str
    value: str
    masked: bool


@dataclass(frozen=True)
class Store:
    """array[row, column] = value. first: done only where these loops are at their first value, because the
    column is the same in all.
    """

    array: str
    row: str
    column: Column
    value: str
    masked: bool
    first: tuple[Variable, ...] = ()


_AROUND = (Loop, When)
_CHANGING = (Loop, When, Accumulate)


@dataclass(frozen=True)
class Program:
    """A kernel over the rows of one end. walked: "u" or "v"; arrays by name."""

    walked: str
    arrays: dict[str, Array]
    lanes: Lanes
    body: Records


def computed(stored: str) -> str:
    """What values of a dtype in memory are computed in; a kind of row number is itself."""
    if stored in HALVES:
        return "float32"
    return stored if stored.startswith("row ") or stored == "bound" else compute_name(np.dtype(stored))


# --- reading records ----------------------------------------------------------------------------------------


def inner(record: Any) -> Records:
    return record.body if type(record) in _AROUND else ()


def all_of(records: Records) -> list[Any]:
    """The records and those in them."""
    return [one for record in records for one in (record, *all_of(inner(record)))]


def every(records: Records) -> list[Any]:
    """The records, each followed by those of its body."""
    return [one for record in records for one in (record, *every(inner(record)))]


def reads(record: Any) -> tuple[str, ...]:
    """The values that a record reads, and those that its body does."""
    match record:
        case Loop():
            own = tuple([end for end in (record.begin, record.end) if isinstance(end, str)])
        case When():
            own = (record.condition,)
        case Op():
            own = record.args
        case Load():
            own = (record.row,) if record.row else ()
        case Store():
            own = (record.row, record.value)
        case Spread() | Fold():
            own = (record.value,)
        case Accumulate():
            own = (record.name, record.value)
        case _:
            own = ()
    return (*own, *[name for one in record.body for name in reads(one)]) if type(record) in _AROUND else own


def changes(record: Any) -> set[str]:
    """The accumulators that a record changes."""
    if type(record) is Accumulate:
        return {record.name}
    return {name for one in inner(record) if type(one) in _CHANGING for name in changes(one)}


def defines(record: Any) -> set[str]:
    """The names that stand in a record's scope after it."""
    return {record.name} if hasattr(record, "name") and not isinstance(record, Accumulate) else set()


def renamed(record: Any, names: dict[str, str]) -> Any:
    """A record that reads other names."""

    def new(name: Any) -> Any:
        return names.get(name, name) if isinstance(name, str) else name

    match record:
        case Loop():
            return replace(
                record,
                begin=new(record.begin),
                end=new(record.end),
                body=tuple([renamed(one, names) for one in record.body]),
            )
        case When():
            return replace(
                record,
                condition=new(record.condition),
                body=tuple([renamed(one, names) for one in record.body]),
            )
        case Op():
            return replace(record, args=tuple(map(new, record.args)))
        case Load():
            return replace(record, row=new(record.row))
        case Store():
            return replace(record, row=new(record.row), value=new(record.value))
        case Spread() | Fold() | Accumulate():
            return replace(record, value=new(record.value))
        case _:
            return record


def copied(record: Any, names: dict[str, str]) -> Any:
    """A record under names of its own, and so are those in it."""
    made = renamed(replace(record, body=()) if inner(record) else record, names)
    if inner(record):
        return replace(made, body=tuple([copied(one, names) for one in record.body]))
    return replace(made, name=names[made.name]) if hasattr(made, "name") and made.name in names else made


def named_in(records: Records) -> set[str]:
    """The names that records and those in them define."""
    return set().union(*[defines(one) for one in all_of(records)])


# --- passes -------------------------------------------------------------------------------------------------


def hoisted(records: Records) -> Records:
    """Literals, spreads and operations whose operands no loop around them makes stand before it; operations
    on a condition stay there.
    """
    found: list[Any] = []
    for record in records:
        if inner(record):
            body = hoisted(record.body)
            changed = changes(record)
            made = changed.union(
                {record.variable.name} if isinstance(record, Loop) else (), *[defines(one) for one in body]
            )
            moved, kinds = [], (Constant, Op, Spread) if isinstance(record, Loop) else (Constant, Spread)
            for one in body:
                if isinstance(one, kinds) and one.name not in changed and not made.intersection(reads(one)):
                    moved.append(one)
                    made.discard(one.name)
            found += moved
            record = replace(record, body=tuple([one for one in body if one not in moved]))
        found.append(record)
    return tuple(found)


def merged(records: Records) -> Records:
    """Equal literals, spreads and operations in scope are one, apart from those that accumulators change."""
    changed = set().union(*[changes(record) for record in records])
    return _merged(records, {}, {}, changed)


def _merged(records: Records, known: dict[Any, str], names: dict[str, str], changed: set[str]) -> Records:
    known, names, kept = dict(known), dict(names), []
    for record in records:
        record = renamed(record, names) if not inner(record) else _within(record, known, names, changed)
        if (
            isinstance(record, Constant | Op | Spread)
            and record.name not in changed
            and not changed.intersection(reads(record))
        ):
            key = _key(record)
            if key in known:
                names[record.name] = known[key]
                continue
            known[key] = record.name
        kept.append(record)
    return tuple(kept)


def _key(record: Any) -> tuple[Any, ...]:
    """Equal for records that compute the same; of numbers the text, as −0.0 equals 0."""
    if isinstance(record, Op):
        return record.type, record.op, record.args, record.detail
    return record.type, repr(record.number) if isinstance(record, Constant) else record.value


def _within(record: Any, known: dict[Any, str], names: dict[str, str], changed: set[str]) -> Any:
    body = _merged(record.body, known, names, changed)
    return replace(renamed(replace(record, body=()), names), body=body)


def live(records: Records, used: frozenset[str] = frozenset()) -> Records:
    """Without the values that nothing reads."""
    kept: list[Any] = []
    for record in reversed(records):
        if inner(record):
            record = replace(record, body=live(record.body, used | changes(record)))
        if isinstance(record, Loop | When | Store | Accumulate | Prefetch) or record.name in used:
            kept.append(record)
            used = used | set(reads(record))
    return tuple(reversed(kept))


def prefetched(
    records: Records, wanted: Callable[[Load | Store], tuple[str, int] | None], lanes: Lanes
) -> Records:
    """With a Prefetch before every load and store for which ``wanted`` names an index array, and how many
    edges ahead. lanes: of the program."""
    found: list[Any] = []
    for record in records:
        if inner(record):
            record = replace(record, body=prefetched(record.body, wanted, lanes))
        asked = wanted(record) if isinstance(record, Load | Store) else None
        if asked is not None:
            along = lanes.of(record.column.variables)
            found.append(Prefetch(record.array, asked[0], record.column, along, asked[1]))
        found.append(record)
    return tuple(found)
