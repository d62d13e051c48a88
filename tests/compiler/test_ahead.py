"""Rows that a kernel asks for before it reads or writes them: which, how many edges ahead, and that no bit
depends on it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from programs import notation_of, places_of

import numgraph as ng
from numgraph.compiler.build import build
from numgraph.compiler.cost import choose
from numgraph.compiler.cpu import running as cpu
from numgraph.compiler.program import Prefetch, all_of
from numgraph.compiler.schedule import Machine
from numgraph.compiler.verify import verify
from numgraph.expressions import expr
from numgraph.expressions.walk import Output


def field(target: str, *shape: int, name: str = "x") -> Any:
    return expr.field(target, name, shape, np.dtype(np.float32))


LINES = {
    "one line": ([Output((field("u", 16),), "v", "sum")], {}, {"far": 64}),
    "two lines": ([Output((field("u", 32),), "v", "sum")], {"far": 16}, {"far": 16}),
    "rows of two fields": (
        [Output((field("u", 64) * field("u", 64, name="y"),), "v", "sum")],
        {"far": 16},
        {"far": 16},
    ),
    "numbers of nodes": ([Output((field("u"),), "v", "sum")], {}, {}),
    "numbers of edges": (
        [Output((field("u", 16) * field("e", 1, name="w"),), "v", "sum")],
        {"edge": 48},
        {"far": 64, "edge": 48},
    ),
    "numbers of edges beside much work, read and written": (
        [
            Output((field("u", 16) * np.exp(field("v", 16)) * field("e", 1, name="w"),), "v", "sum"),
            Output(((np.tanh(field("u", 16)) * field("v", 16)).sum(-1),), "e", "edge"),
        ],
        {"far": 16, "edge": 48},
        {"far": 16, "edge": 48},
    ),
    "an exponential of rows of edges": (
        [Output((np.exp(field("e", 16) - field("v", 16)),), "v", "sum")],
        {"edge": 16},
        {"edge": 16},
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_which_rows_are_asked_for_ahead(name):
    outputs, few, many = LINES[name]
    walk = notation_of(outputs)
    places = places_of(walk)
    schedule = choose(walk, Machine(), places).schedule
    for want, given in ((few, places), (many, replace(places, many=True))):
        program = build(walk, schedule, given)
        verify(program)
        found = [one for one in all_of(program.body) if isinstance(one, Prefetch)]
        assert {one.index: one.ahead for one in found} == want
        written = {one.array for one in found if program.arrays[one.array].written}
        assert written == ({"out1.0"} if "written" in name else set())


def test_numbers_of_edges_in_order_are_not_asked_for():
    outputs, _, _ = LINES["numbers of edges"]
    walk = notation_of(outputs)
    places = replace(places_of(walk), strewn=False)
    program = build(walk, choose(walk, Machine(), places).schedule, places)
    assert not any(isinstance(one, Prefetch) for one in all_of(program.body))


def test_what_is_in_order():
    """Of a grid's edges, direction by direction, four ids follow each other at once; shuffled ones do not."""
    rows = np.arange(300 * 300).reshape(300, 300)
    ends = [(rows[:, :-1], rows[:, 1:]), (rows[:-1], rows[1:])]
    src = np.concatenate([side.ravel() for a, b in ends for side in (a, b)])
    dst = np.concatenate([side.ravel() for a, b in ends for side in (b, a)])
    rng = np.random.default_rng(0)
    order, names = rng.permutation(len(src)), rng.permutation(rows.size)
    cases = {
        "a grid": (src, dst, False, False),
        "its edges shuffled": (src[order], dst[order], False, True),
        "its nodes shuffled": (names[src], names[dst], True, True),
        "fewer nodes than a cache holds": (src[order] // 2, dst[order] // 2, False, True),
        "edges by rows": (src[np.argsort(dst, kind="stable")], np.sort(dst), False, False),
    }
    for name, (u, v, many, strewn) in cases.items():
        graph = ng.Graph(u, v, rows.size // 2 if "fewer" in name else rows.size)
        (request,) = cpu.TARGET.requests(graph, (Output((field("u", 16),), "v", "sum"),))
        assert (request.many, request.strewn) == (many, strewn), name


def test_rows_are_the_same_bits_where_others_are_many():
    rng = np.random.default_rng(3)
    src, dst = rng.integers(0, 50, (2, 700))
    x, w = rng.standard_normal((50, 16), np.float32), rng.standard_normal((700, 1), np.float32)
    found = []
    for nodes in (50, cpu.MANY):
        rows = np.zeros((nodes, 16), np.float32)
        rows[:50] = x
        graph = ng.Graph(src, dst, nodes)
        with ng.Tape() as tape:
            a, b, c = tape.watch(rows), tape.watch(rows), tape.watch(w)
            z = ng.update_all(
                graph,
                lambda u, v, e: np.maximum(u.x - v.y, 0) * e.w,
                "sum",
                u={"x": a},
                v={"y": b},
                e={"w": c},
            )
            loss = (z * z).sum()
        dx, dy, dw = tape.gradient(loss, [a, b, c])
        found.append((z.data[:50], dx[:50], dy[:50], dw))
    for few, many in zip(*found, strict=True):
        np.testing.assert_array_equal(few, many)
    messages = np.maximum(x[src].astype(float) - x[dst], 0) * w
    want = np.zeros((50, 16))
    np.add.at(want, dst, messages)
    np.testing.assert_allclose(found[1][0], want, rtol=1e-4, atol=1e-4)
