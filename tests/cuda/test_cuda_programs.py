"""The CUDA target of the compiler on the host: how lanes lie in threads, and every kernel's text under every
schedule, with the simulator's primitives and without its threads, against plain NumPy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from programs import comparable, notation_of

import numgraph as ng
from numgraph.compiler import driver, reference
from numgraph.compiler import program as ir
from numgraph.compiler.build import build
from numgraph.compiler.cost import Choice
from numgraph.compiler.cuda import choosing, lanes, planning, running, simulated, tasks
from numgraph.compiler.cuda.threads import Layout, Shape, bits_of
from numgraph.compiler.index import EDGE, Notation
from numgraph.compiler.storage import memory_name
from numgraph.compiler.target import Made, Request
from numgraph.compiler.verify import verify
from numgraph.expressions import expr
from numgraph.expressions.walk import Output

GRAPHS = {
    "ids": ng.Graph([0, 2, 1, 0, 3, 2, 0, 0, 4], [1, 0, 1, 3, 1, 1, 1, 0, 1], num_src=5, num_dst=4),
    "positions": ng.Graph([2, 0, 0, 1, 3, 2, 0, 4, 0], [0, 0, 1, 1, 1, 1, 1, 1, 3], num_src=5, num_dst=4),
}
"""Edge ids in no order, and as positions of in-edges; a row without edges."""
ROWS = {"u": 5, "v": 4, "e": 9}


def field(target: str, *shape: int, name: str = "x", dtype: Any = np.float32) -> Any:
    return expr.field(target, name, shape, np.dtype(dtype))


# --- how lanes lie in threads -------------------------------------------------------------------------------


def chosen(outputs: list[Output], length: int = 0) -> tuple[ir.Program, Layout]:
    notation = notation_of(outputs)
    program = choosing.choose(notation, Request("v", "int32", False).places(notation.outputs), length).program
    return program, Layout(program)


def attention(heads: int, width: int) -> list[Output]:
    score = field("u", heads, 1, name="a") + field("v", heads, 1, name="b")
    return [Output((score, field("u", heads, width)), "v", "softmax")]


LAYOUTS = {
    "one number": ([Output((field("u"),), "v", "sum")], Shape(1, 1, 1)),
    "four in one load": ([Output((field("u", 4),), "v", "sum")], Shape(1, 4, 1)),
    "several rows a warp": ([Output((field("u", 12),), "v", "sum")], Shape(4, 4, 1)),
    "a warp": ([Output((field("u", 128),), "v", "sum")], Shape(32, 4, 1)),
    "two vectors": ([Output((field("u", 256),), "v", "sum")], Shape(32, 4, 2)),
    "odd": ([Output((field("u", 33),), "v", "sum")], Shape(32, 1, 2)),
    "pairs of float64": ([Output((field("u", 64, dtype=np.float64),), "v", "sum")], Shape(32, 2, 1)),
    "heads whose features are one run": ([Output((field("u", 5, 11) * 2,), "v", "sum")], Shape(32, 1, 2)),
    "numbers per head beside features": (attention(8, 16), Shape(32, 4, 1)),
    "heads of three": (attention(3, 4), Shape(4, 4, 1)),
    "heads of any width": (attention(5, 11), Shape(32, 1, 2)),
    "a fold": (
        [Output(((field("u", 100) * field("v", 100, name="y")).sum(-1),), "e", "edge")],
        Shape(32, 4, 1),
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_shapes(name):
    outputs, want = LAYOUTS[name]
    assert chosen(outputs)[1].shape == want


def test_edges_go_side_by_side_where_features_are_few():
    many = [Output((field("u", 64),), "v", "sum")]
    few, order = [Output((field("u", 2),), "v", "sum")], [Output((field("u", 2),), "v", "max")]
    assert EDGE in chosen(few, 200)[1].digit
    assert EDGE not in chosen(many, 200)[1].digit
    assert EDGE not in chosen(few)[1].digit  # how long rows are is not known
    assert EDGE not in chosen(order, 200)[1].digit  # the first of equals wins


@pytest.mark.parametrize("shape", [Shape(1, 1, 1), Shape(4, 2, 1), Shape(32, 4, 2), Shape(8, 1, 4)])
def test_every_lane_of_a_form_is_held_by_threads_that_differ_in_other_bits_alone(shape):
    lanes_there = shape.threads * shape.vector * shape.vectors
    for form in {0, lanes_there - 1, *bits_of(lanes_there - 1), (lanes_there - 1) & 0b101010}:
        own = [
            {thread * shape.vector & form | lane & form for lane in shape.held(form)}
            for thread in range(shape.threads)
        ]
        assert set().union(*own) == {lane & form for lane in range(lanes_there)}
        for thread, there in enumerate(own):
            same = [other for other in range(shape.threads) if (thread ^ other) * shape.vector & form == 0]
            assert all(own[other] == there for other in same)


# --- every schedule, as text --------------------------------------------------------------------------------

X, Y, W = field("u", 3, 5), field("v", 3, 5, name="y"), field("e", name="w")
HEADS, NUMBERS, ROW = field("u", 5, 8, name="h"), field("v", 5, 1, name="s"), field("v", 8, name="r")
WALKS: dict[str, list[Output]] = {
    "attention by products": [Output(((X * Y).sum(-1, keepdims=True), X), "v", "softmax")],
    "attention by numbers": attention(3, 4),
    "heads of several vectors": attention(3, 12),
    "results per head, per feature and per both": [
        Output((X * field("v", 3, 1, name="s") + field("v", 5, name="b"),), "v", "sum"),
        Output((field("u", 3, 1, name="p"),), "v", "sum"),
        Output((field("u", 5, name="z"),), "v", "max"),
    ],
    "three axes": [
        Output(
            (field("u", 2, 3, 5, name="g") * field("v", 2, 1, 1, name="f") + field("e", 3, 1, name="q"),),
            "v",
            "sum",
        ),
        Output((field("u", 2, 3, 1, name="p") * field("e", 3, 1, name="q"),), "v", "sum"),
        Output((field("u", 2, 1, 5, name="w") + field("e", 5, name="c"),), "v", "sum"),
    ],
    "attention of one number": [Output((W, field("u", name="o")), "v", "softmax")],
    "keys narrower than values": [
        Output(
            ((field("u", 3, 2, name="k") * field("v", 3, 2, name="q")).sum(-1, keepdims=True), X),
            "v",
            "softmax",
        )
    ],
    "winners": [
        Output((X * field("v", 3, 1, name="s"),), "v", "max"),
        Output((field("v", 3, 1, name="s"),), "v", "sum"),
    ],
    "an outer product": [
        Output((field("u", 5, name="z")[:, None] * field("u", 5, name="z")[None, :],), "v", "mean")
    ],
    "per head and per feature": [Output((HEADS * NUMBERS + ROW,), "v", "sum")],
    "tiles": [Output((field("u", 300, name="l") * field("e", 300, name="m"),), "v", "sum")],
    "a fold of tiles": [
        Output(((field("u", 300, name="l") * field("e", 300, name="m")).sum(-1),), "v", "mean")
    ],
    "a fold inside": [Output((X * np.maximum((X * Y).sum(-1, keepdims=True), 0),), "v", "sum")],
    "over the first axis": [Output(((X * Y).sum(0),), "v", "sum"), Output((X.max(-1),), "v", "min")],
    "numbers": [Output((W * field("u", name="o"),), "v", "sum"), Output((W + 1,), "e", "edge")],
    "narrow": [Output((field("u", 2, name="n") * W,), "v", "sum")],
    "per edge": [Output(((X * Y).sum(-1),), "e", "edge")],
    "small integers": [
        Output((field("u", 3, name="i", dtype=np.int8) * field("v", 3, name="j", dtype=np.int8),), "v", "min")
    ],
    "log-sum-exp of shared scores": [
        Output((field("u", 3, name="c") + field("shared", 3, name="d"),), "v", "logsumexp")
    ],
    "products": [Output((field("u", 3, name="c"),), "v", "prod")],
}


class Alone(simulated.Tile):
    """The primitives of one group, whose number is set."""

    number_of = 0

    def group(self) -> Any:
        return lambda: Alone.number_of


def fields_of(notation: Notation) -> dict[Any, Any]:
    rng = np.random.default_rng(0)
    shapes = {
        key: (*([ROWS[key[0]]] if key[0] in ROWS else []), *leaf.shape)
        for key, leaf in notation.fields.items()
    }
    return {
        key: rng.integers(-8, 9, shape).astype(notation.fields[key].dtype) for key, shape in shapes.items()
    }


def run(kernel: planning.Kernel, graph: ng.Graph, fields: dict[Any, Any]) -> list[list[Any]]:
    """The arrays of each output, by a kernel's text. Every result is unset before."""
    levels, _ = tasks.levels_of(graph.in_edges.indptr)
    owners = np.repeat(np.arange(ROWS["v"]), np.diff(graph.in_edges.indptr))
    made = []
    for output in kernel.outputs:
        arrays = zip(output.output.results(), output.stored, strict=True)
        made.append(
            [
                np.full((ROWS[output.output.to], math.prod(shape)), 77, memory_name(stored))
                for (shape, _), stored in arrays
            ]
        )
    count = graph.num_edges if kernel.per_edge else len(levels[0].tasks) // 4
    args: list[Any] = [0] * kernel.words
    for (kind, what), offset in zip(kernel.slots, kernel.offsets, strict=True):
        if kind == "ids":
            where = graph if what in ("src", "dst") else graph.in_edges
            args[offset] = (
                levels[0].tasks if what == "tasks" else owners if what == "owners" else getattr(where, what)
            )
        elif kind == "field":
            args[offset] = np.ascontiguousarray(fields[what]).reshape(
                1 if what[0] == "shared" else ROWS[what[0]], -1
            )
        elif kind == "out":
            args[offset] = made[what[0]][what[1]]
        else:
            args[offset] = (
                count
                if kind == "count"
                else int(np.float64(what).view(np.int64))
                if kind == "float"
                else what
            )
    scope: dict[str, Any] = {}
    with mock.patch.object(lanes, "tile", Alone):
        exec(kernel.text, scope)
    for Alone.number_of in range(count):
        scope["body"](tuple(args))
    return [
        [
            array.reshape(len(array), *shape)
            for array, (shape, _) in zip(arrays, output.output.results(), strict=True)
        ]
        for arrays, output in zip(made, kernel.outputs, strict=True)
    ]


@pytest.mark.parametrize("order", GRAPHS)
@pytest.mark.parametrize("name", WALKS)
def test_every_schedule_gives_what_numpy_does(name, order):
    notation = notation_of(WALKS[name])
    fields, graph = fields_of(notation), GRAPHS[order]
    with np.errstate(all="ignore"):
        found = iter(reference.execute(graph, notation.outputs, fields))
    want = [[next(found) for _ in output.results()] for output in notation.outputs]
    request = Request("v", "int64", graph.in_edges.ordered)
    outputs = [Made(i, output, request.stored(output)) for i, output in enumerate(notation.outputs)]
    schedules = list(choosing._candidates(notation, 20))
    for schedule in schedules if len(schedules) < 9 else [*schedules[:4], *schedules[-4:]]:
        program = build(notation, schedule, request.places(notation.outputs))
        verify(program)
        got = run(planning.printed(program, outputs, request), graph, fields)
        for output, x, y in zip(notation.outputs, got, want, strict=True):
            for a, b in zip(comparable(output, x), comparable(output, y), strict=True):
                np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5, err_msg=f"{name} under {schedule}")


def test_a_program_is_proven_before_it_is_printed():
    """A store one column too far: refused, and never printed."""
    outputs = [Output((X,), "v", "sum")]
    target, printed = running.TARGET, []

    def wrong(notation: Notation, places: Any, length: int) -> Choice:
        choice = choosing.choose(notation, places, length)
        arrays = choice.program.arrays.items()
        shorter = {
            name: replace(array, features=array.features - 1) if array.written else array
            for name, array in arrays
        }
        return choice._replace(program=replace(choice.program, arrays=shorter))

    with (
        mock.patch.object(running.Cuda, "choose", staticmethod(wrong)),
        mock.patch.object(running.Cuda, "print", lambda *args: printed.append(args)),
        pytest.raises(RuntimeError, match="kernel: "),
    ):
        driver.kernel(target, outputs, [0], Request("v", "int32", False))
    assert not printed
