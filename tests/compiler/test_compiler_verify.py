"""The proof that the compiler's programs pass, and what it must refuse: programs in which one record is
wrong, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import programs as support
import pytest
from programs import notation_of, places_of

from numgraph.compiler import driver, sources
from numgraph.compiler import program as ir
from numgraph.compiler.build import build
from numgraph.compiler.cost import Choice
from numgraph.compiler.cpu.running import TARGET
from numgraph.compiler.index import EDGE, Notation
from numgraph.compiler.schedule import Lanes, abreast, candidates
from numgraph.compiler.target import Request
from numgraph.compiler.verify import verify
from numgraph.expressions import expr
from numgraph.expressions.walk import Output


def field(target: str, *shape: int, name: str = "x", dtype: Any = np.float64) -> Any:
    return expr.field(target, name, shape, np.dtype(dtype))


def walks() -> dict[str, Notation]:
    """Walks with every kind of record."""
    x, q, s, w = (
        field("u", 3, 5),
        field("v", 3, 5, name="q"),
        field("v", 3, 1, name="s"),
        field("e", name="w"),
    )
    return {
        "attention": notation_of([Output(((x * q).sum(-1, keepdims=True) * s, x), "v", "softmax")]),
        "winners": notation_of([Output((x * s,), "v", "max"), Output((s,), "v", "sum")]),
        "outer product": notation_of(
            [Output((field("u", 5)[:, None] * field("u", 5)[None, :],), "v", "mean")]
        ),
        "scalars": notation_of(
            [Output((w * field("u", name="y"),), "v", "sum"), Output((w + 1,), "e", "edge")]
        ),
        "narrow integers": notation_of(
            [
                Output(
                    (field("u", 3, name="n", dtype=np.int8) + field("v", 3, name="m", dtype=np.int8),),
                    "v",
                    "min",
                )
            ]
        ),
        "a rest": notation_of([Output((field("u", 11) * field("e", 1, name="w"),), "v", "sum")]),
        "rows side by side": notation_of(
            [
                Output(((field("u", 2) * field("v", 2, name="p")).sum(-1), field("u", 2)), "v", "softmax"),
                Output((field("u", 2) * field("e", name="w"),), "v", "max"),
            ]
        ),
        "long axis": notation_of([Output((field("u", 70) * field("v", 70, name="z"),), "v", "prod")]),
    }


def programs() -> list[tuple[str, ir.Program]]:
    """Each walk under every schedule."""
    made = []
    for name, notation in walks().items():
        found = candidates(notation, MACHINE)
        beside = [abreast(schedule, notation, MACHINE) for schedule in found]
        for schedule in dict.fromkeys([*found, *beside]):
            made.append((f"{name} under {schedule}", build(notation, schedule, places_of(notation))))
    return made


MACHINE = replace(support.MACHINE, overlaps=True, abreast=True)
PROGRAMS = programs()
ACCESS = (ir.Load, ir.Store)
Change = Callable[[Any], list[Any] | None]


def widened(column: Any) -> Any:
    return replace(column, strides=tuple((v, stride + 1) for v, stride in column.strides))


MUTATIONS: dict[str, Change] = {
    "a stride more": lambda r: (
        [replace(r, column=widened(r.column))] if isinstance(r, ACCESS) and r.column.strides else None
    ),
    "a variable fewer": lambda r: (
        [replace(r, column=replace(r.column, strides=r.column.strides[1:]))]
        if isinstance(r, ir.Store) and r.column.strides
        else None
    ),
    "no mask": lambda r: (
        [replace(r, masked=False)] if isinstance(r, (*ACCESS, ir.Accumulate)) and r.masked else None
    ),
    "stored twice": lambda r: [r, r] if isinstance(r, ir.Store) else None,
    "never stored": lambda r: [] if isinstance(r, ir.Store) else None,
    "stored in every iteration": lambda r: (
        [replace(r, first=())] if isinstance(r, ir.Store) and r.first else None
    ),
    "not defined": lambda r: (
        [] if isinstance(r, ir.Load | ir.Op | ir.Spread | ir.Fold | ir.Constant) else None
    ),
    "defined twice": lambda r: [r, r] if isinstance(r, ir.Load | ir.Op | ir.Fold) else None,
    "a row of another kind": lambda r: (
        [replace(r, row="k" if r.row == "row" else "row")] if isinstance(r, ACCESS) and r.row else None
    ),
    "the end of a row for a row": lambda r: (
        [replace(r, row="end")] if isinstance(r, ACCESS) and r.row == "k" else None
    ),
    "a column for a row": lambda r: [replace(r, row="degree")] if isinstance(r, ACCESS) and r.row else None,
    "a step too long": lambda r: [replace(r, step=r.step + 1)] if isinstance(r, ir.Loop) else None,
    "an end too far": lambda r: (
        [replace(r, end=r.end + 1)] if isinstance(r, ir.Loop) and isinstance(r.end, int) else None
    ),
    "a row too far": lambda r: (
        [replace(r, end="rows")] if isinstance(r, ir.Loop) and r.end == "end" else None
    ),
    "too few lanes": lambda r: (
        [replace(r, type=replace(r.type, lanes=r.type.lanes[1:]))]
        if getattr(r, "type", None) is not None and r.type.lanes
        else None
    ),
    "another dtype": lambda r: (
        [replace(r, type=replace(r.type, dtype="float32"))]
        if isinstance(r, ir.Load | ir.Constant | ir.Fold)
        else None
    ),
    "an unknown fold": lambda r: [replace(r, op="first")] if isinstance(r, ir.Fold) else None,
    "an unknown function": lambda r: [replace(r, op="system")] if isinstance(r, ir.Op) else None,
    "a result that is read": lambda r: [replace(r, array="out0.0")] if isinstance(r, ir.Load) else None,
    "an input that is written": lambda r: [replace(r, array="begin")] if isinstance(r, ir.Store) else None,
}


def refused(program: ir.Program) -> bool:
    try:
        verify(program)
    except RuntimeError as error:
        return str(error).startswith("kernel: ")
    return False


def changed(records: ir.Records, change: Change) -> list[ir.Records]:
    """Every body with one record changed."""
    found = []
    for i, record in enumerate(records):
        new = change(record)
        if new is not None:
            found.append((*records[:i], *new, *records[i + 1 :]))
        found += [
            (*records[:i], replace(record, body=body), *records[i + 1 :])
            for body in changed(ir.inner(record), change)
        ]
    return found


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutations_are_refused(mutation):
    planted = 0
    for name, program in PROGRAMS:
        verify(program)
        for body in changed(program.body, MUTATIONS[mutation]):
            planted += 1
            assert refused(replace(program, body=body)), name
    assert planted >= 2


def pairs(r: Any) -> Any:
    """A loop whose steps take two values, with all accumulators apart."""
    if not isinstance(r, ir.Loop):
        return None
    return [replace(r, together=2, apart=tuple(sorted(ir.changes(r) - ir.named_in(r.body))))]


NO_SUMS: dict[str, Change] = {
    "another function": lambda r: (
        [replace(r, op="subtract")] if isinstance(r, ir.Op) and r.op == "add" else None
    ),
    "the message twice": lambda r: (
        [replace(r, args=r.args[1:] * 2)] if isinstance(r, ir.Op) and r.op == "add" else None
    ),
    "no edges at all": lambda r: (
        [replace(r, together=0)] if isinstance(r, ir.Loop) and r.together == 2 else None
    ),
    "nothing apart": lambda r: [replace(r, apart=())] if isinstance(r, ir.Loop) and r.apart else None,
    "a value of each edge apart": lambda r: (
        [replace(r, apart=(*r.apart, min(ir.named_in(r.body))))]
        if isinstance(r, ir.Loop) and r.apart
        else None
    ),
}


def test_only_plain_sums_may_take_edges_together():
    """Each in accumulators of its own: no loop but that over edges, no other reduce, and no accumulator that
    is used otherwise.
    """
    for name, program in PROGRAMS:
        sums = name.startswith(("outer product", "scalars", "a rest")) and EDGE not in program.lanes
        right = [body for body in changed(program.body, pairs) if not refused(replace(program, body=body))]
        assert len(right) == sums, name
        for what, change in NO_SUMS.items():
            if name.startswith("scalars") and what in ("another function", "the message twice"):
                continue  # that walk adds for its edges too
            assert all(
                refused(replace(program, body=wrong)) for body in right for wrong in changed(body, change)
            ), name


def test_vectors_that_overlap_leave_no_lane_out_and_are_not_folded():
    overlapping = [program for _, program in PROGRAMS if program.lanes.overlap]
    folds = [(name, program) for name, program in PROGRAMS if name.startswith("attention")]
    assert overlapping
    assert folds
    for program in overlapping:
        ((features, size),) = program.lanes.tiles
        for wrong in ([(0, 8)], [(0, 4), (5, 4)], [(0, 8), (8, 8)]):
            with mock.patch.object(
                Lanes, "vectors", lambda lanes, of, wrong=wrong: wrong if of else [(0, 0)]
            ):
                assert refused(program)
        assert refused(replace(program, lanes=replace(program.lanes, tiles=((features, size - 1),))))
    for name, program in folds:
        assert refused(replace(program, lanes=replace(program.lanes, overlap=True))), name


@pytest.mark.parametrize("name", [name for name, _ in PROGRAMS][:6])
def test_an_array_one_shorter_is_refused(name):
    program = dict(PROGRAMS)[name]
    for key, array in program.arrays.items():
        if array.slot[0] != "ids":
            shorter = {**program.arrays, key: replace(array, features=array.features - 1)}
            with pytest.raises(RuntimeError, match="kernel: "):
                verify(replace(program, arrays=shorter))


def test_nothing_is_compiled_when_the_proof_fails():
    notation = walks()["attention"]
    schedule = candidates(notation, MACHINE)[-1]
    right = build(notation, schedule, places_of(notation))
    wrong = Choice(schedule, replace(right, body=changed(right.body, MUTATIONS["a stride more"])[0]), 0.0)
    loaded: list[Any] = []
    with mock.patch.object(sources, "load", loaded.append), pytest.raises(RuntimeError, match="kernel: "):
        driver.kernel(TARGET, notation.outputs, [0], Request(notation.rows, "int32", False), wrong)
    assert not loaded
