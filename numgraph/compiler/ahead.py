"""Which rows a kernel asks for some edges before it reads or writes them, and how many."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from numgraph.compiler.index import EDGE, ROW
from numgraph.compiler.program import (
    Accumulate,
    Array,
    Fold,
    Load,
    Loop,
    Op,
    Program,
    Records,
    Store,
    When,
    all_of,
    prefetched,
)
from numgraph.compiler.schedule import COSTLY, PRICES
from numgraph.compiler.storage import CACHE_LINE, memory_name

_LIGHT = 4
"""Values that an edge computes at most in a kernel that is light, none of them by a polynomial. Attention's
gradients took 15 % longer without asking for single cache lines, which the numbers per head are."""

_AHEAD, _SINGLE_AHEAD, _BY_IDS_AHEAD = 16, 64, 48
"""How many edges before its use a row is asked for: one of several lines, or beside much work; one line,
where rows are many; that of an edge by its id. On one thread Σ x_u w_e of 16 features takes 11 ms instead of
16 with 3 M edges in random order, and 13 where it is asked for 16 edges before. On two, sums over 16 M edges
of 1 M nodes take 60 ms for 16 features without asking, 46 where it is asked for 16 edges before, 43 for 64,
50 for 200; for 64 features 150, 150 and 165 for 16, 64 and 200. Softmaxes of 8 numbers an edge take a quarter
longer for 48 than for 16."""


def asked(program: Program, many: bool, strewn: bool) -> Program:
    """The program with Prefetch records. many, strewn: see Places."""
    if EDGE in program.lanes or ROW in program.lanes:
        return program
    light = _is_light(program.body)
    finds = {array.stored: name for name, array in program.arrays.items() if array.slot[0] == "ids"}

    def found(record: Load | Store) -> str | None:
        """The index array through which a row is found that is asked for. Where an edge is little work and
        rows are not many, the processor itself is dozens of edges ahead of single cache lines; but not of
        edges' by their ids, where each of these is in a line of its own: single numbers too."""
        kind, lanes = program.arrays[record.array].rows, program.lanes.of(record.column.variables)
        index = finds.get(kind) if kind != f"row {program.walked}" else None
        if index is None or (isinstance(record, Store) and lanes):
            return None
        if index == "edge" and strewn:
            return index
        near = light and not (many and index != "edge") and _lines(program, record) == 1
        return None if not lanes or near else index

    rows: dict[str, list[Load | Store]] = {}
    for record in all_of(program.body):
        if isinstance(record, Load | Store) and (index := found(record)) is not None:
            rows.setdefault(index, []).append(record)
    ahead = {}
    for index, records in rows.items():
        wide = any(program.lanes.of(record.column.variables) for record in records)
        single = light and sum(_lines(program, record) for record in records) == 1
        by_ids = index == "edge" and (light or not wide)
        ahead[index] = _BY_IDS_AHEAD if by_ids else _SINGLE_AHEAD if single and many else _AHEAD

    def wanted(record: Load | Store) -> tuple[str, int] | None:
        index = found(record)
        return None if index is None else (index, ahead[index])

    return replace(program, body=prefetched(program.body, wanted, program.lanes))


def _lines(program: Program, record: Load | Store) -> int:
    """Cache lines of what a record reads or writes."""
    lanes = program.lanes.of(record.column.variables)
    return -(-program.lanes.count(lanes) * _size(program.arrays[record.array]) // CACHE_LINE)


def _size(array: Array) -> int:
    """Bytes of an element."""
    return np.dtype(memory_name(array.stored)).itemsize


def _is_light(records: Records) -> bool:
    """Whether an edge takes so few instructions that the processor itself is dozens of edges ahead."""
    inside = [
        one
        for record in all_of(records)
        if isinstance(record, Loop) and record.variable in (EDGE,)
        for one in all_of(record.body)
    ]
    if not inside:
        inside = all_of(records)
    computed = [one for one in inside if isinstance(one, Op | Fold) and one.op not in ("cast", "wrap")]
    sums = sum(isinstance(one, Accumulate) for one in inside)
    costly = any(dict(PRICES).get(one.op, 1.0) >= COSTLY for one in computed)
    return len(computed) - sums <= _LIGHT and not costly and not any(isinstance(one, When) for one in inside)
