"""How index notation under a schedule becomes a program.

    for row:  for a in 0 … 3:  for k in begin … end:  …

Every value stands in the outermost loop that one of its free variables is bound in. That is all that places
anything: what is per row is computed per row, what is per head once a head, a sum over features of a row once
a row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from numgraph.compiler.ahead import asked
from numgraph.compiler.index import EDGE, ROW, Column, Notation, Result, Term, Variable, variables_in
from numgraph.compiler.program import (
    Accumulate,
    Array,
    Constant,
    Fold,
    Load,
    Loop,
    Op,
    Program,
    Spread,
    Store,
    Type,
    When,
    computed,
    hoisted,
    live,
    merged,
)
from numgraph.compiler.reduces import REDUCES, Reduce
from numgraph.compiler.schedule import Lanes, Schedule
from numgraph.compiler.storage import identity_of
from numgraph.expressions import elementary
from numgraph.expressions.dtypes import COMPARISONS
from numgraph.expressions.reduces import REDUCES as WHAT

_PRIVATE = 64
"""Lanes that a sum's own loop adds up in, in four registers at most, for one would wait for itself; or as
many as a register has.
"""


@dataclass(frozen=True, eq=False)
class Value(np.lib.mixins.NDArrayOperatorsMixin):
    """A named value of the program being built. NumPy's operators and functions write records, so a reduce
    reads as its formula.
    """

    builder: _Builder
    name: str
    type: Type

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any) -> Value:
        return self.__elementary__(elementary.BY_FUNCTION[ufunc], args)

    @staticmethod
    def __elementary__(row: elementary.Row, operands: Sequence[Any]) -> Value:
        builder = next(value.builder for value in operands if isinstance(value, Value))
        return builder.op(row.name, *operands, dtype="bool" if row.name in COMPARISONS else None)

    def cast(self, dtype: str) -> Value:
        return self if self.type.dtype == dtype else self.builder.op("cast", self, dtype=dtype)


@dataclass(eq=False)
class _Scope:
    """A loop being built: its records before the loop inside of it, and after. memo: what stands in it
    already.
    """

    variable: Variable | None
    parent: _Scope | None
    before: list[Any] = field(default_factory=list)
    after: list[Any] = field(default_factory=list)
    memo: dict[Any, Value] = field(default_factory=dict)

    def binding(self, variables: Iterable[Variable]) -> _Scope:
        """The innermost scope around that binds one of these variables; else the outermost."""
        scope, wanted = self, frozenset(variables)
        while scope.parent is not None and scope.variable not in wanted:
            scope = scope.parent
        return scope

    def around(self) -> list[Variable]:
        above = self.parent.around() if self.parent is not None else []
        return above if self.variable is None else [*above, self.variable]


@dataclass(frozen=True)
class Places:
    """What a program depends on besides notation and schedule. ids: dtype of the graph's index arrays.
    ordered: the k-th edge is edge k. stored: the dtype in memory of each array of each result. many: the rows
    that edges find are more than a cache holds, and in no order. strewn: so are the edges, found by their
    ids. even: neighbouring rows have about as many edges."""

    ids: str
    ordered: bool
    stored: tuple[tuple[str, ...], ...]
    many: bool = False
    strewn: bool = True
    even: bool = False


def build(notation: Notation, schedule: Schedule, places: Places) -> Program:
    """The program of a walk under a schedule."""
    program = _Builder(notation, schedule, places).program()
    return asked(replace(program, body=live(merged(hoisted(program.body)))), places.many, places.strewn)


class _Builder:
    """Builds one program. Reduces write through ``op``."""

    def __init__(self, notation: Notation, schedule: Schedule, places: Places) -> None:
        self.notation, self.lanes, self.places, self.count = notation, schedule.lanes, places, 0
        self.schedule, self.apart = schedule, schedule.apart
        self.across = self.lanes.of({ROW, EDGE})  # the lanes of edges
        self.sums: list[str] = []  # accumulators that each edge of a step has for itself
        own = notation.rows
        at = "row e" if own == "e" else "row k"
        self.arrays: dict[str, Array] = {}
        if own != "e":
            self.arrays |= {
                name: Array(f"row {own}", 1, "bound", ("ids", "indptr")) for name in ("begin", "end")
            }
        if own in ("u", "v"):
            self.arrays["far"] = Array(at, 1, f"row {'v' if own == 'u' else 'u'}", ("ids", "indices"))
        else:
            self.arrays |= {
                name: Array(at, 1, f"row {end}", ("ids", name)) for name, end in (("src", "u"), ("dst", "v"))
            }
        others = dict.fromkeys(
            target for target, _ in notation.fields if target not in ("u", "v", "e", "shared", own)
        )
        self.arrays |= {f"end{i}": Array(at, 1, f"row {end}", ("ids", end)) for i, end in enumerate(others)}
        if own != "e" and not places.ordered:
            self.arrays["edge"] = Array(at, 1, "row e", ("ids", "edge_ids"))
        scope = self.root = _Scope(None, None)
        tiled = schedule.tiled
        inner = () if own == "e" else (EDGE,)
        for variable in (ROW, *schedule.loops, *([tiled] if tiled not in (None, EDGE, ROW) else []), *inner):
            scope = _Scope(variable, scope)
        self.edges = scope
        self.into = scope.before

    # --- records ---

    @contextmanager
    def writing(self, block: list[Any]) -> Iterator[None]:
        """Records go into this block meanwhile."""
        outer, self.into = self.into, block
        yield
        self.into = outer

    def write(self, record: Any) -> Value:
        self.into.append(record)
        return Value(self, record.name, record.type)

    def fresh(self, stem: str = "t") -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def constant(self, number: Any, dtype: str, lanes: tuple[Variable, ...] = ()) -> Value:
        number = (
            bool(number) if dtype == "bool" else float(number) if dtype.startswith("float") else int(number)
        )
        return self.write(Constant(self.fresh(), Type(dtype, lanes), number))

    def spread(self, value: Value, lanes: tuple[Variable, ...]) -> Value:
        if value.type.lanes == lanes:
            return value
        return self.write(Spread(self.fresh(), Type(value.type.dtype, lanes), value.name))

    def op(self, op: str, *args: Any, dtype: str | None = None, detail: str = "") -> Value:
        """A function of values and Python numbers, in all their lanes; numbers take the dtype of the last
        value.
        """
        kinds = [arg.type.dtype for arg in args if isinstance(arg, Value)]
        values = [arg if isinstance(arg, Value) else self.constant(arg, kinds[-1]) for arg in args]
        lanes = self.lanes.of({v for value in values for v in value.type.lanes})
        names = tuple([self.spread(value, lanes).name for value in values])
        return self.write(Op(self.fresh(), Type(dtype or kinds[-1], lanes), op, names, detail))

    # --- terms ---

    def emit(self, term: Term, scope: _Scope) -> Value:
        """A term's value, written into the outermost scope where it can stand."""
        scope = scope.binding(term.free)
        if term not in scope.memo:
            with self.writing(scope.before):
                scope.memo[term] = self.compute(term, scope)
        return scope.memo[term]

    def compute(self, term: Term, scope: _Scope) -> Value:
        if term.op == "load":
            (target, name), column = term.detail
            leaf, array = self.notation.fields[target, name], f"{target}.{name}"
            rows = "" if target == "shared" else f"row {target}"
            self.arrays[array] = Array(rows, math.prod(leaf.shape), leaf.dtype.name, ("field", leaf.attrs))
            return self.load(array, self.row(target, scope), column, term.dtype)
        if term.op == "constant":
            return self.constant(term.detail, term.dtype)
        if term.op == "edge_id":
            return self.edge(scope).cast(term.dtype)
        if term.op in ("sum", "max"):
            return self.folded(term, scope)
        return self.op(
            term.op, *[self.emit(arg, scope) for arg in term.args], dtype=term.dtype, detail=term.detail or ""
        )

    def load(self, array: str, row: Value | None, column: Column, dtype: str) -> Value:
        lanes = self.lanes.of(column.variables.union(row.type.lanes if row else ()))
        return self.write(
            Load(
                self.fresh("x"),
                Type(dtype, lanes),
                array,
                row.name if row else "",
                column,
                self.masked(lanes),
            )
        )

    def masked(self, lanes: tuple[Variable, ...]) -> bool:
        """Whether some lanes stand for nothing: beyond the end of a variable, or filling up a register."""
        return (
            self.lanes.varies(lanes)
            or self.lanes.partial(lanes)
            or (self.lanes.width(lanes) > self.lanes.count(lanes) > 0 and not self.lanes.overlap)
        )

    def row(self, target: str, scope: _Scope) -> Value | None:
        """The row number of a field: that of the walk, or what the adjacency says of the edge."""
        if target == "shared":
            return None
        if target == self.notation.rows:
            return Value(self, ROW.name, Type(f"row {target}", self.lanes.of({ROW})))
        return (
            self.edge(scope)
            if target == "e"
            else self.found(next(n for n, a in self.arrays.items() if a.stored == f"row {target}"), scope)
        )

    def edge(self, scope: _Scope) -> Value:
        """The id of the edge, as a row number."""
        if self.notation.rows == "e":
            return Value(self, ROW.name, Type("row e"))
        if self.places.ordered:
            return Value(self, EDGE.name, Type("row e", self.across))
        return self.found("edge", scope)

    def found(self, array: str, scope: _Scope) -> Value:
        """What an index array says of the edge."""
        at = self.notation.edge
        scope = scope.binding({at})
        if array not in scope.memo:
            k = Value(self, at.name, Type(self.arrays[array].rows, self.across))
            with self.writing(scope.before):
                scope.memo[array] = self.load(array, k, Column(), self.arrays[array].stored)
        return scope.memo[array]

    # --- sums and maxima over features ---

    def folded(self, term: Term, scope: _Scope) -> Value:
        """Variables that are whole in lanes fold; others get loops of their own, in lanes where lanes are
        free.
        """
        op, own, (body,) = {"sum": "add", "max": "maximum"}[term.op], term.detail, term.args
        inside = [v for v in own if v in self.lanes and self.lanes.whole(v)]
        private: list[Variable] = []
        for v in own:
            if v not in inside:
                private.append(Variable(f"{v.name}_{self.fresh('')}", v.extent))
                body = self.notation.renamed(body, v, private[-1])
        old = self.lanes
        if private and not inside and not old.of(variables_in(body) | {EDGE}):
            last = private[-1]
            size = min(last.extent or 1, max(old.vector, min(_PRIVATE, 4 * old.vector)))
            self.lanes = Lanes((*old.tiles, (last, size)), old.vector, old.general)
        value = self.looped(op, body, private, scope) if private else self.emit(body, scope)
        over = [*inside, *[v for v in private if v in self.lanes]]
        return self.fold(op, self.spread(value, self.lanes.of({*value.type.lanes, *over})), over)

    def looped(self, op: str, body: Term, private: list[Variable], scope: _Scope) -> Value:
        """An accumulator in scope, and loops over the variables that add a term to it."""
        innermost = scope
        for v in private:
            innermost = _Scope(v, innermost)
        value = self.emit(body, innermost)
        lanes = self.lanes.of({*value.type.lanes, *private})
        total = self.constant(identity_of("sum" if op == "add" else "max", body.dtype), body.dtype, lanes)
        with self.writing(innermost.before):
            new = self.op(op, total, self.spread(value, lanes))
            self.into.append(
                Accumulate(
                    total.name, new.name, self.lanes.partial([v for v in lanes if v in private or v == EDGE])
                )
            )
        while innermost is not scope:
            assert innermost.parent is not None
            innermost.parent.before.append(self.loop(innermost))
            innermost = innermost.parent
        return total

    def fold(self, op: str, value: Value, over: Sequence[Variable]) -> Value:
        lanes = tuple(v for v in value.type.lanes if v not in over)
        return (
            value
            if lanes == value.type.lanes
            else self.write(Fold(self.fresh(), Type(value.type.dtype, lanes), op, value.name))
        )

    # --- results ---

    def store(self, number: int, place: int, value: Value, scope: _Scope, into: list[Any]) -> None:
        """Write the place-th array of a result."""
        result, stored = self.notation.results[number], self.places.stored[number][place]
        column, features, _ = result.arrays[place]
        target = "e" if result.reduce == "edge" else self.notation.rows
        row, array = self.row(target, scope), f"out{number}.{place}"
        assert row is not None
        self.arrays[array] = Array(f"row {target}", features, stored, ("out", (number, place)))
        lanes = self.lanes.of(column.variables.union(row.type.lanes))
        first = tuple(v for v in scope.around() if v not in (ROW, EDGE) and v not in column.variables)
        with self.writing(into):
            value = self.spread(value.cast(computed(stored)), lanes)
            into.append(Store(array, row.name, column, value.name, self.masked(lanes), first))

    def late(self, result: Result) -> tuple[tuple[Term, ...], tuple[Variable, ...]]:
        """The terms to reduce over edges, and the variables folded after them: Σ_e Σ_f = Σ_f Σ_e is one fold
        a row.
        """
        term = result.terms[-1]
        exact = WHAT[result.reduce].linear and term.op == "sum" and term.dtype.startswith("float")
        if exact and all(v in self.lanes and self.lanes.whole(v) for v in term.detail):
            return term.args, term.detail
        return result.terms, ()

    def result(self, number: int, result: Result) -> None:
        """The state of a reduce before the edges, its step in them, what it stores after them."""
        edges, outside = self.edges, self.edges.parent
        assert outside is not None
        if result.reduce == "edge":
            self.store(number, 0, self.emit(result.terms[0], edges), edges, edges.after)
            return
        rule = REDUCES[result.reduce]
        terms, late = self.late(result)
        messages = [self.emit(term, edges) for term in terms]
        with self.writing(edges.after):
            messages[-1] = self.spread(messages[-1], self.lanes.of({*messages[-1].type.lanes, *late}))
            if rule.winner:
                messages.append(self.edge(edges).cast(self.places.ids))
        state = self.start(rule, messages, outside)
        self.sums += [value.name for value in state] if number in self.apart else []
        with self.writing(edges.after):
            if rule.raised is not None:
                for condition, raised in rule.raised(state, messages):
                    body: list[Any] = []
                    with self.writing(body):
                        self.accumulate(state, raised())
                    self.into.append(When(condition.name, tuple(body)))
            self.accumulate(state, rule.step(state, messages))
        with self.writing(outside.after):
            whole = [self.fold("add", value, late) for value in self.together(state, rule)]
            for place, value in enumerate(
                rule.finish(whole, Value(self, "degree", Type("int64", self.lanes.of({ROW}))))
            ):
                self.store(number, place, value, outside, outside.after)

    def start(self, rule: Reduce, messages: list[Value], outside: _Scope) -> list[Value]:
        """The accumulators: each along the lanes of its message, the last message's along all."""
        along = [self.lanes.of({*message.type.lanes, *self.across}) for message in messages]
        last = len(along) - 1 - rule.winner
        along[last] = self.lanes.of({v for lanes in along for v in lanes})
        with self.writing(outside.before):
            made = []
            for part in rule.parts:
                message = last if part.message is None or part.message < 0 else part.message
                dtype = self.places.ids if part.dtype == "ids" else messages[message].type.dtype
                made.append(
                    self.constant(part.start, dtype, self.across if part.message is None else along[message])
                )
            return made

    def accumulate(self, state: Sequence[Value], new: Sequence[Value]) -> None:
        spread = [self.spread(value, old.type.lanes) for old, value in zip(state, new, strict=True)]
        for old, value in zip(state, spread, strict=True):
            if value.name != old.name:
                self.into.append(Accumulate(old.name, value.name, bool(self.across)))

    def together(self, state: list[Value], rule: Reduce) -> list[Value]:
        """The state of edges that were side by side in lanes."""
        if EDGE not in state[0].type.lanes:
            return state
        assert rule.folded is not None
        return list(rule.folded(state, lambda op, value: self.fold(op, value, (EDGE,))))

    # --- the loops ---

    def loop(self, scope: _Scope, body: tuple[Any, ...] = ()) -> Loop:
        v = scope.variable
        assert v is not None
        begin, end = ("begin", "end") if v == EDGE else (0, "rows" if v == ROW else v.extent or 0)
        return Loop(
            v,
            begin,
            end,
            self.lanes.size(v) if v in self.lanes else 1,
            (*scope.before, *body, *scope.after),
            *((self.schedule.together, tuple(self.sums), self.schedule.turns) if v == EDGE else ()),
        )

    def program(self) -> Program:
        for number, result in enumerate(self.notation.results):
            self.result(number, result)
        scope = self.edges
        body: tuple[Any, ...] = ()
        while scope.parent is not None:
            if scope.variable == ROW and self.notation.rows != "e":
                own = self.lanes.of({ROW})
                ends = [
                    Load(name, Type("bound", own), name, ROW.name, Column(), bool(own))
                    for name in ("begin", "end")
                ]
                scope.before[:0] = [*ends, Op("degree", Type("int64", own), "subtract", ("end", "begin"))]
            body = (self.loop(scope, body),)
            scope = scope.parent
        return Program(self.notation.rows, self.arrays, self.lanes, (*scope.before, *body))
