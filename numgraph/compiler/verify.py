"""What a program must be before it is compiled: names known, types equal, each access inside its array, each
result stored once.

Nothing is run and the builder is not trusted: ranges follow from the extents of loops and lanes, by interval
arithmetic on columns. It does not prove that an element inside of an array is the right one, nor that index
arrays hold valid ids, which the graph checks when it is made."""

from __future__ import annotations

import math
from typing import Any

from numgraph import errors
from numgraph.compiler import program as ir
from numgraph.compiler.index import EDGE, ROW, Column, Variable
from numgraph.expressions import elementary
from numgraph.expressions.dtypes import COMPARISONS

_Loops = tuple[ir.Loop, ...]


def require(condition: Any, record: Any, problem: str) -> None:
    if not condition:
        name = getattr(record, "name", getattr(record, "array", ""))
        raise errors.unsound("kernel", f"{type(record).__name__} {name}: {problem}")


def verify(program: ir.Program) -> None:
    """Raise RuntimeError if a program could touch memory outside of its arrays, use lanes that hold nothing,
    or leave an element of a result unwritten or written twice."""
    check = _Check(program)
    check.body(program.body, ())
    for name, array in program.arrays.items():
        require(not array.written or name in check.stored, program, f"{name} is never stored")


class _Check:
    """names: each value in scope with its type. dirty: those whose lanes beyond the end of these variables
    hold what must not count.
    """

    def __init__(self, program: ir.Program) -> None:
        self.program, self.lanes = program, program.lanes
        self.stored: set[str] = set()
        self.names: dict[str, ir.Type] = {"rows": ir.Type("int64")}
        self.dirty: dict[str, frozenset[Variable]] = {}
        self.accumulators: set[str] = set()
        seen = [v for v, _ in program.lanes.tiles]
        require(
            len(set(seen)) == len(seen) and all(size >= 1 for _, size in program.lanes.tiles),
            program,
            "lanes without order",
        )
        rows_first = ROW not in seen or (seen[0] == ROW and EDGE not in seen and program.walked != "e")
        require(rows_first, program, "rows in lanes behind others")
        if self.lanes.overlap:
            self.covers(tuple(seen))

    def covers(self, lanes: tuple[Variable, ...]) -> None:
        """Vectors that overlap leave no lane out: they are those of one variable, whole, that is only stored
        and summed over edges (see fold).
        """
        single = len(lanes) == 1 and EDGE not in lanes and not self.lanes.general
        require(single and self.lanes.whole(lanes[0]), self.program, "tiles that overlap")
        end = 0
        for start, width in self.lanes.vectors(lanes):
            require(0 <= start <= end, self.program, f"no vector has lane {end}")
            end = start + width
        require(end >= self.lanes.count(lanes), self.program, f"no vector has lane {end}")

    def body(self, records: ir.Records, loops: _Loops) -> None:
        outside = dict(self.names)
        for record in records:
            getattr(self, type(record).__name__.lower())(record, loops)
        self.names = outside

    # --- names ---

    def value(self, record: Any, name: str) -> ir.Type:
        require(name in self.names, record, f"{name} is not in scope")
        return self.names[name]

    def define(self, record: Any, dirty: frozenset[Variable]) -> None:
        require(record.name not in self.names, record, "is defined twice")
        lanes = record.type.lanes
        require(lanes == self.lanes.of(lanes), record, f"lanes {lanes} are not in order")
        self.names[record.name], self.dirty[record.name] = record.type, dirty

    def beyond(self, lanes: tuple[Variable, ...]) -> frozenset[Variable]:
        return frozenset([v for v in lanes if self.lanes.partial((v,))])

    # --- loops ---

    def loop(self, record: ir.Loop, loops: _Loops) -> None:
        v = record.variable
        require(all(v != outer.variable for outer in loops), record, f"{v.name} is bound twice")
        require(
            record.step == (self.lanes.size(v) if v in self.lanes else 1), record, "its step is not its tile"
        )
        ends = {ROW: (0, "rows"), EDGE: ("begin", "end")}.get(v, (0, v.extent))
        require((record.begin, record.end) == ends, record, "its range is not its variable's")
        kind = f"row {self.program.walked}" if v == ROW else "row k" if v == EDGE else "int64"
        if v == EDGE:
            for name in ends:
                bound = ir.Type("bound", self.lanes.of({ROW}))
                require(self.value(record, str(name)) == bound, record, f"{name} is no bound")
            self.abreast(record)
        if record.together != 1 or record.apart:
            self.together(record)
        own = self.lanes.of({v, ROW} if v == EDGE else {v})
        outside, known = dict(self.names), dict(self.dirty)
        for name in _unmasked(record.body) & self.names.keys():
            known[name] = self.dirty[name] = self.beyond(self.names[name].lanes)
        require(v.name not in self.names, record, f"{v.name} is a name already")
        self.names[v.name], self.dirty[v.name] = ir.Type(kind, own), self.beyond(own)
        self.body(record.body, (*loops, record))
        self.names, self.dirty = outside, {**self.dirty, **known}

    def abreast(self, record: ir.Loop) -> None:
        """Rows side by side have their own numbers of edges: what changes has lanes for them, and a row that
        is through is left alone.
        """
        for one in ir.all_of(record.body):
            if ROW in self.lanes and isinstance(one, ir.Accumulate):
                lanes = self.value(record, one.name).lanes
                require(one.masked and ROW in lanes, one, "changes rows that have no edge left")

    def together(self, record: ir.Loop) -> None:
        """The edges of a step are computed one after the other under names of their own, and so are the sums
        that stand apart, which start at 0 and are added up: right if they are added to and not read.
        """
        require(
            record.variable == EDGE and EDGE not in self.lanes and record.together > 1 and record.apart,
            record,
            "takes no edges together",
        )
        require(record.turns or ROW not in self.lanes, record, "takes edges of several rows together")
        inside = ir.all_of(record.body)
        own = {*ir.named_in(record.body), EDGE.name}
        for one in inside:
            if isinstance(one, ir.Store):
                require(one.row in own, one, "all edges of a step store here")
        sums = {one.name: one.value for one in record.body if isinstance(one, ir.Accumulate)}
        for name in record.apart:
            users = [one for one in inside if name in ir.reads(one) and not ir.inner(one)]
            made = [
                one
                for one in users
                if isinstance(one, ir.Op) and one.op == "add" and one.args.count(name) == 1
            ]
            require(name not in own and name in ir.changes(record), record, f"{name} is no sum over edges")
            require(len(users) == 2 and len(made) == 1, record, f"{name} is no plain sum")
            require(sums.get(name) == made[0].name, record, f"{name} is no plain sum")

    def when(self, record: ir.When, loops: _Loops) -> None:
        require(self.value(record, record.condition).dtype == "bool", record, "is no condition")
        for one in record.body:
            require(
                not isinstance(one, ir.Store | ir.Loop | ir.When), record, "stores or loops on a condition"
            )
        self.body(record.body, loops)

    # --- memory ---

    def columns(
        self,
        record: Any,
        column: Column,
        lanes: tuple[Variable, ...],
        masked: bool,
        loops: _Loops,
        features: int,
    ) -> None:
        """Every column that the record can reach lies inside of its array."""
        bound = [loop.variable for loop in loops]
        require(masked or not {ROW, EDGE} & set(lanes), record, "lanes beyond the row's edges are in use")
        if masked:
            require(
                not self.lanes.partial(lanes[1:]),
                record,
                "a mask is of the first lanes, and inner variables are not whole",
            )
        last = 0
        for v in lanes:
            require(
                self.lanes.whole(v) or v in bound,
                record,
                f"{v.name} is in lanes, but in no loop over its tiles",
            )
        for v, stride in column.strides:
            require(
                v in lanes or (v in bound and v not in self.lanes),
                record,
                f"{v.name} is bound by no loop and no lane",
            )
            require(v.extent is not None and stride > 0, record, f"{v.name} is no column")
            most = (v.extent or 1) - 1
            if v in lanes and not masked:
                size = self.lanes.size(v)
                unit = math.prod([self.lanes.size(w) for w in lanes[1:]])
                reached = max([start + width for start, width in self.lanes.vectors(lanes)])
                inside = -(-reached // unit) if v == lanes[0] else size
                most = most // size * size + inside - 1
            last += stride * most
        require(last < features, record, f"reaches column {last} of {features}")

    def rows(self, record: Any, row: str, array: ir.Array) -> tuple[Variable, ...]:
        """The lanes of the number that finds a row of the array."""
        if array.rows == "":
            require(row == "", record, "looks for a row in an array of one")
            return ()
        found = self.value(record, row)
        known = array.rows in (found.dtype, "row e" if found.dtype == "row k" and self.ordered(row) else "")
        require(known, record, f"{row} is a {found.dtype}, its rows are by {array.rows}")
        return found.lanes

    def ordered(self, row: str) -> bool:
        """Whether positions are edge ids: where the program has no array that says which edge is where."""
        return row == EDGE.name and "edge" not in self.program.arrays

    def array(self, record: Any, name: str, written: bool | None) -> ir.Array:
        require(name in self.program.arrays, record, f"{name} is no array")
        array = self.program.arrays[name]
        require(written in (None, array.written), record, "a result is read, or what is read written")
        return array

    def load(self, record: ir.Load, loops: _Loops) -> None:
        array = self.array(record, record.array, False)
        require(
            record.type.dtype == ir.computed(array.stored),
            record,
            f"{record.type.dtype} from an array of {array.stored}",
        )
        lanes = self.lanes.of(record.column.variables.union(self.rows(record, record.row, array)))
        require(record.type.lanes == lanes, record, "its lanes are not its column's and row's")
        self.columns(record, record.column, lanes, record.masked, loops, array.features)
        self.define(record, self.beyond(lanes))

    def prefetch(self, record: ir.Prefetch, loops: _Loops) -> None:
        array, index = self.array(record, record.array, None), self.array(record, record.index, False)
        edges, numbers = (ROW, "row e") if self.program.walked == "e" else (EDGE, "row k")
        require(
            index.rows == numbers and index.stored == array.rows and record.ahead >= 0,
            record,
            f"{record.index} does not find its rows",
        )
        require(
            any(loop.variable == edges for loop in loops)
            and not {edges, ROW} & {v for v, _ in self.lanes.tiles},
            record,
            "looks ahead outside of the edges",
        )
        self.columns(record, record.column, record.lanes, True, loops, array.features)

    def store(self, record: ir.Store, loops: _Loops) -> None:
        array = self.array(record, record.array, True)
        require(record.array not in self.stored, record, "is stored twice")
        self.stored.add(record.array)
        lanes = self.lanes.of(record.column.variables.union(self.rows(record, record.row, array)))
        given = self.value(record, record.value)
        require(
            given == ir.Type(ir.computed(array.stored), lanes),
            record,
            f"{given} into {array.stored} along {lanes}",
        )
        self.columns(record, record.column, lanes, record.masked, loops, array.features)
        if ROW in self.lanes:
            whole = record.row == ROW.name and record.column.variables == set(lanes) - {ROW}
            require(whole, record, "stores parts of rows that are side by side")
        around = [loop.variable for loop in loops]
        rows = {ROW, EDGE} if array.rows == "row e" and self.program.walked != "e" else {ROW}
        again = set(around) - record.column.variables - set(record.first) - rows
        require(not again and rows <= set(around), record, f"is stored again for every {again or rows}")
        require(
            set(record.first) <= set(around) - record.column.variables - rows,
            record,
            "is not stored in every iteration",
        )
        expected = 1
        for v, stride in reversed(record.column.strides):
            require(
                stride == expected,
                record,
                f"column {record.column} is no numbering of {array.features} elements",
            )
            expected *= v.extent or 0
        require(expected == array.features, record, f"stores {expected} of {array.features} elements")

    # --- values ---

    def constant(self, record: ir.Constant, loops: _Loops) -> None:
        require("row" not in record.type.dtype and record.type.dtype != "bound", record, "a number is no row")
        self.define(record, frozenset())

    def op(self, record: ir.Op, loops: _Loops) -> None:
        types = [self.value(record, name) for name in record.args]
        require(
            types and (record.op in ("cast", "wrap") or record.op in elementary.TABLE),
            record,
            f"{record.op} is no function",
        )
        require(all(kind.lanes == record.type.lanes for kind in types), record, "lanes differ")
        dtypes, made = [kind.dtype for kind in types], record.type.dtype
        require("row" not in made and made != "bound", record, "arithmetic makes no row number")
        if record.op == "subtract" and dtypes == ["bound", "bound"]:
            require(made == "int64", record, "a degree is an int64")
        elif record.op == "cast":
            numbers = len(dtypes) == 1 and dtypes[0] not in ("bound", "row k")
            require(numbers or self.ordered(record.args[0]), record, "casts what is no number")
        else:
            require(
                not any("row" in dtype or dtype == "bound" for dtype in dtypes), record, "is of row numbers"
            )
            if record.op == "where":
                require(len(dtypes) == 3 and dtypes[0] == "bool", record, "has no condition")
                dtypes = dtypes[1:]
            same = len(set(dtypes)) == 1
            wanted = "bool" if record.op in COMPARISONS else dtypes[0]
            require(same and made == wanted, record, f"{record.op} of {', '.join(dtypes)} is no {made}")
        self.define(record, frozenset().union(*[self.dirty[name] for name in record.args]))

    def spread(self, record: ir.Spread, loops: _Loops) -> None:
        given = self.value(record, record.value)
        require(
            given.dtype == record.type.dtype and set(given.lanes) < set(record.type.lanes),
            record,
            f"spreads {given}",
        )
        self.define(record, self.dirty[record.value])

    def fold(self, record: ir.Fold, loops: _Loops) -> None:
        over = frozenset(self.value(record, record.value).lanes) - set(record.type.lanes)
        require(record.op in ("add", "multiply", "maximum") and over, record, "folds nothing")
        require(not self.lanes.overlap, record, "lanes that overlap would count twice")
        require(ROW not in over, record, "rows side by side are no sum")
        self.narrowed(record, over)

    def narrowed(self, record: Any, over: frozenset[Variable]) -> None:
        given = self.value(record, record.value)
        left = tuple(v for v in given.lanes if v not in over)
        require(record.type == ir.Type(given.dtype, left), record, f"narrows {given}")
        dirty = self.dirty[record.value]
        require(not dirty & over, record, "lanes that are not in use would count")
        self.define(record, dirty - over)

    def accumulate(self, record: ir.Accumulate, loops: _Loops) -> None:
        have, new = self.value(record, record.name), self.value(record, record.value)
        require(have == new, record, f"{new} into {have}")
        if record.masked:
            require(not self.lanes.partial(have.lanes[1:]), record, "a mask is of the first lanes")


def _unmasked(records: ir.Records) -> set[str]:
    """The accumulators that change in lanes not in use too."""
    own = {record.name for record in records if isinstance(record, ir.Accumulate) and not record.masked}
    return own.union(*[_unmasked(ir.inner(record)) for record in records])
