"""The kernel compiler: index notation against NumPy under every schedule, tables of schedules, and the
kernels that the CPU target runs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import programs
import pytest
from programs import notation_of, places_of

import numgraph as ng
from numgraph.compiler import driver, reference
from numgraph.compiler import program as ir
from numgraph.compiler.cost import choose
from numgraph.compiler.cpu import balance
from numgraph.compiler.cpu import running as cpu
from numgraph.compiler.index import EDGE, Column, Notation, Variable, row_major, terms_of
from numgraph.compiler.schedule import Lanes, Machine, at_once, candidates, side_by_side
from numgraph.expressions import expr
from numgraph.expressions.walk import Output
from numgraph.runtime import threads

H, F = Variable("h", 5), Variable("f", 11)


def field(target: str, *shape: int, name: str = "x", dtype: Any = np.float32) -> Any:
    return expr.field(target, name, shape, np.dtype(dtype))


# --- index notation -----------------------------------------------------------------------------------------


def test_a_column_is_where_numpy_puts_an_element():
    column = row_major((3, 5, 1, 11), (Variable("a", 3), H, None, F))
    strides = np.zeros((3, 5, 1, 11)).strides
    assert [stride * 8 for _, stride in column.strides] == [strides[0], strides[1], strides[3]]
    assert str(row_major((5, 11), (H, F))) == "11 * h + f"
    assert row_major((), ()) == Column()


def test_one_field_at_two_indices_is_two_loads_and_equal_ones_are_one():
    x: Any = field("u", 6)
    outer = notation_of([Output((x[:, None] * x[None, :],), "v", "sum")])
    (product,) = outer.results[0].terms
    first, second = product.args
    assert first is not second
    assert first.detail[0] == second.detail[0] == ("u", "x")
    assert product.free == first.free | second.free
    square = notation_of([Output(((x + 1) * (x + 1),), "v", "sum")])
    (term,) = square.results[0].terms
    assert term.args[0] is term.args[1]


def test_results_share_loads_whatever_their_axes_are_called():
    """x [5, 11] summed as it is, and over its heads beside a field: one load of x."""
    x: Any = field("u", 5, 11)
    walk = notation_of([Output((x,), "v", "sum"), Output((x.sum(0) + field("v", 11, name="y"),), "v", "sum")])
    loads = {
        id(term) for term in terms_of(walk.results) if term.op == "load" and term.detail[0] == ("u", "x")
    }
    assert len(loads) == 1


# --- schedules ----------------------------------------------------------------------------------------------


def test_places_of_a_value_per_head_in_lanes_per_feature():
    lanes = Lanes(((H, 5), (F, 11)), 16)
    assert lanes.width((H, F)) == 64
    assert lanes.width((H,)) == 8
    want = np.repeat(np.arange(5), 11)
    assert lanes.places((H,), (H, F))[:55] == tuple(want)
    assert lanes.places((F,), (H, F))[:55] == tuple(np.tile(np.arange(11), 5))


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("length", [1, 5, 16, 17, 20, 33, 48, 100, 111, 200])
def test_vectors_of_a_value_hold_its_lanes(length, overlap):
    """Each lane in some vector; none beyond the row's end where the last one overlaps."""
    features = Variable("f", length)
    lanes = Lanes(((features, length),), 16, overlap=overlap and length > 16)
    vectors = lanes.vectors((features,))
    assert all(width & (width - 1) == 0 for _, width in vectors)
    held = [lane for start, width in vectors for lane in range(start, start + width)]
    assert set(held) == set(range(length if lanes.overlap else lanes.width((features,))))
    assert sum(held[: vectors[-1][0]]) == sum(range(vectors[-1][0]))
    assert lanes.vectors(()) == [(0, 0)]


def attention(heads: int, width: int, dtype: Any = np.float32) -> Notation:
    x, s = field("u", heads, width, dtype=dtype), field("u", heads, 1, name="s", dtype=dtype)
    return notation_of([Output((s + field("v", heads, 1, name="r", dtype=dtype), x), "v", "softmax")])


SCHEDULES = {
    "heads of any width": (attention(5, 11), "v: lanes a:5 × b:11, 5 a tile of 64"),
    "as many registers as it takes": (attention(6, 13), "v: lanes a:6 × b:13, 6 a tile of 80"),
    "float64 in half as many lanes": (attention(3, 5, np.float64), "v: lanes a:3 × b:5, 3 a tile of 16"),
    "more heads than a value has registers for": (attention(16, 13), "v: lanes a:16 × b:13, 8 a tile of 112"),
    "features of one head": (
        notation_of([Output((field("u", 128),), "v", "sum")]),
        "v: lanes a:128, 128 a tile of 128",
    ),
    "no features": (notation_of([Output((field("u"),), "v", "max")]), "v: scalars"),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_cheapest_schedule(name):
    walk, want = SCHEDULES[name]
    assert str(choose(walk, Machine(), places_of(walk))[0]) == want


def test_narrow_features_leave_room_for_edges():
    found = candidates(notation_of([Output((field("u", 3),), "v", "sum")]), Machine())
    assert any(EDGE in schedule.lanes for schedule in found)
    ordered = candidates(notation_of([Output((field("u", 3),), "v", "max")]), Machine())
    assert not any(
        EDGE in schedule.lanes for schedule in ordered
    )  # the first of equals wins, and lanes have no order of edges


# --- where edges go side by side ----------------------------------------------------------------------------

ONE: Any = field("u")
SIDE_BY_SIDE = {
    "an exponential": (
        notation_of([Output((np.exp(ONE - field("v", name="y")),), "v", "sum")]),
        12,
        True,
        True,
    ),
    "an exponential, in short rows": (
        notation_of([Output((np.exp(ONE - field("v", name="y")),), "v", "sum")]),
        0,
        True,
        False,
    ),
    "an exponential of the row's node alone": (
        notation_of([Output((ONE * np.exp(field("v", name="y")),), "v", "sum")]),
        12,
        True,
        False,
    ),
    "a plain sum": (notation_of([Output((ONE,), "v", "sum")]), 96, True, True),
    "a plain sum, in shorter rows": (notation_of([Output((ONE,), "v", "sum")]), 12, True, False),
    "a plain sum of edge data out of order": (
        notation_of([Output((ONE * field("e", name="w"),), "v", "sum")]),
        96,
        False,
        False,
    ),
    "features": (notation_of([Output((field("u", 3),), "v", "sum")]), 96, True, False),
    "winners, whose order counts": (notation_of([Output((np.exp(ONE),), "v", "max")]), 96, True, False),
    "16-bit storage": (notation_of([Output((field("u", dtype=np.float16),), "v", "sum")]), 96, True, False),
}


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_where_edges_go_side_by_side(name):
    walk, length, ordered, want = SIDE_BY_SIDE[name]
    assert side_by_side(walk, Machine(), length, ordered) == want


TOGETHER = {
    "a sum": ([Output((field("u", 33) * field("e", 1, name="w"),), "v", "sum")], (0,)),
    "a mean and a sum": (
        [Output((field("u", 5),), "v", "mean"), Output((field("e", 5),), "v", "sum")],
        (0, 1),
    ),
    "a sum beside winners": (
        [Output((field("u", 5),), "v", "max"), Output((field("u", 5),), "v", "sum")],
        (1,),
    ),
    "values of edges beside a sum": (
        [Output((field("u", 5),), "e", "edge"), Output((field("u", 5),), "v", "sum")],
        (1,),
    ),
    "products": ([Output((field("u", 5),), "v", "prod")], ()),
    "an exponential for every edge": (
        [Output((np.exp(field("u", 5) - field("v", 5, name="y")),), "v", "sum")],
        (),
    ),
    "an exponential for every row": (
        [Output((field("u", 5) * np.exp(field("v", 5, name="y")),), "v", "sum")],
        (0,),
    ),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_where_a_step_takes_several_edges(name):
    outputs, want = TOGETHER[name]
    walk, target = notation_of(outputs), Machine(together=2)
    for schedule in candidates(walk, target):
        chosen = at_once(schedule, walk, target, 100)
        assert chosen.apart == (want if EDGE not in schedule.lanes else ())
        assert (" | 2 edges at once" in str(chosen)) == (chosen.together == 2) == bool(chosen.apart)
        assert at_once(schedule, walk, Machine(), 100) == schedule
        short = at_once(schedule, walk, target, 0)
        assert replace(short, turns=False) == chosen
        assert short.turns == (" | 2 edges in turn" in str(short)) == bool(chosen.apart)


@pytest.mark.parametrize("length", [17, 24, 33, 40, 100, 128, 160, 200])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_features_that_fit_one_tile_are_one(length, reduce):
    """A second tile would walk the edges again, however few of its lanes are in use."""
    walk = notation_of([Output((field("u", length),), "v", reduce)])
    schedule, program, _ = choose(walk, Machine(wide=14, overlaps=True), places_of(walk))
    assert schedule.tiled is None
    assert schedule.lanes.overlaps(schedule.lanes.of([v for v, _ in schedule.lanes.tiles])) == (
        length % 16 > 0
    )
    assert not any(getattr(record, "masked", False) for record in ir.all_of(program.body))
    assert [v.extent for v, _ in schedule.lanes.tiles] == [length]


# --- compiled kernels ---------------------------------------------------------------------------------------

GRAPH = ng.Graph([0, 2, 1, 0, 3, 2, 0, 0], [1, 0, 1, 3, 1, 1, 1, 0], num_src=5, num_dst=4)


@pytest.mark.parametrize("features", [1, 20])
def test_short_rows_have_the_bits_that_they_have_beside_long_ones(features):
    rng = np.random.default_rng(0)
    degrees = np.arange(10)  # of the first rows
    dst = np.repeat(degrees, degrees)
    beside = np.concatenate([dst, np.repeat(np.arange(10, 14), 80)])
    src = rng.integers(0, 14, len(beside))
    x = rng.normal(size=(14, features)).astype(np.float32)
    w = rng.normal(size=(len(beside), 1)).astype(np.float32)

    def sums(dst):
        g, part = ng.Graph(src[: len(dst)], dst, 14), w[: len(dst)]
        return ng.update_all(g, lambda u, e: u.x * e.w, "sum", u={"x": x}, e={"w": part})

    alone = sums(dst)
    np.testing.assert_array_equal(alone[:10], sums(beside)[:10])
    exact = np.zeros((14, features))
    np.add.at(exact, dst, x[src[: len(dst)]].astype(np.float64) * w[: len(dst)])
    np.testing.assert_allclose(alone, exact, rtol=1e-5, atol=1e-6)


ROWS = {"u": 5, "v": 4, "e": 8}


def fused(found: Any) -> Any:
    """The schedules with heads and features in lanes, the widest tile first."""
    return sorted(
        [s for s in found if len(s.lanes.tiles) > 1 and EDGE not in s.lanes],
        key=lambda s: -s.lanes.count(tuple(v for v, _ in s.lanes.tiles)),
    )


REDUCED = ["sum", "mean", "prod", "max", "min", "softmax", "logsumexp", "edge"]
STORED = [np.float32, np.float64, np.float16, np.int8, np.uint16, np.int64]


def walk_of(reduce: str, dtype: Any) -> Output:
    """A value [3, 5] beside a number per head, in a dtype."""
    message: Any = field("u", 3, 5, dtype=dtype) * field("v", 3, 1, name="r", dtype=dtype) + field(
        "e", 5, name="w", dtype=dtype
    )
    score: Any = field("u", 3, 1, name="s", dtype=dtype) - field("v", 3, 1, name="r", dtype=dtype)
    if reduce in ("sum", "prod") and np.dtype(dtype).kind in "iu":
        message = message.astype(np.int64)
    if reduce == "mean" and np.dtype(dtype).kind in "iu":
        message = message.astype(np.float64)
    expressions = {
        "softmax": (score, message),
        "logsumexp": (score + 0 * message.sum(-1, keepdims=True),),
    }.get(reduce, (message,))
    return Output(expressions, "e" if reduce == "edge" else "v", reduce)


@pytest.mark.parametrize("dtype", STORED, ids=lambda dtype: np.dtype(dtype).name)
def test_every_reduce_in_a_dtype(dtype):
    """All at once, each as its own kernel too where its results would hide behind another's loops."""
    real = np.dtype(dtype).kind == "f"
    outputs = tuple(
        walk_of(reduce, dtype) for reduce in REDUCED if real or reduce not in ("softmax", "logsumexp")
    )
    rng = np.random.default_rng(0)

    def array(target: str, *shape: int) -> Any:
        return (3 * rng.normal(size=(ROWS[target], *shape))).astype(dtype)

    fields = {
        ("u", "x"): array("u", 3, 5),
        ("u", "s"): array("u", 3, 1),
        ("v", "r"): array("v", 3, 1),
        ("e", "w"): array("e", 5),
    }
    if real:
        fields["u", "x"][0, 0, 0], fields["u", "s"][2] = np.nan, -np.inf
    with programs.compiling(fused) as used:
        found = cpu.execute(GRAPH, outputs, fields)
    assert used
    with np.errstate(all="ignore"):  # products of float16 overflow
        want = reference.execute(GRAPH, outputs, fields)
    tolerance = {2: 2e-3, 4: 1e-5, 8: 1e-12}[np.dtype(dtype).itemsize] if real else 0
    for output in outputs:
        own, right = ([made.pop(0) for _ in output.results()] for made in (found, want))
        for x, y in zip(programs.comparable(output, own), programs.comparable(output, right), strict=True):
            np.testing.assert_allclose(
                x.astype(np.float64), y.astype(np.float64), tolerance, tolerance, err_msg=output.reduce
            )


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float16, 2e-3)])
def test_rows_in_chunks_give_the_same_bits_on_any_threads(dtype, tolerance):
    """A hub in chunks, against float64; the bits of serial and parallel runs are the same."""
    rng = np.random.default_rng(0)
    g = ng.Graph(
        rng.integers(0, 5, 400),
        np.where(rng.random(400) < 0.6, 2, rng.integers(0, 4, 400)),
        num_src=5,
        num_dst=4,
    )
    x, s, r = rng.normal(size=(5, 3, 5)), rng.normal(size=(5, 3, 1)), rng.normal(size=(4, 3, 1))
    fields = {
        ("u", "x"): x.astype(dtype),
        ("u", "s"): s.astype(dtype),
        ("v", "r"): r.astype(dtype),
        ("e", "w"): np.ones((400, 5), dtype),
    }
    outputs = (walk_of("softmax", dtype), walk_of("max", dtype))
    with (
        mock.patch.object(balance, "HUB_EDGES", 64),
        mock.patch.object(balance, "CHUNK_EDGES", 16),
        programs.compiling(fused),
    ):
        assert balance.parts_of(g.in_edges).hubs
        with mock.patch.object(threads, "SMALL", 0):
            found = cpu.execute(g, outputs, fields)
        serial = cpu.execute(g, outputs, fields)
    assert all(np.array_equal(a, b) for a, b in zip(found, serial, strict=True))
    wide = {key: value.astype(np.float64) for key, value in fields.items()}
    want = reference.execute(g, (walk_of("softmax", np.float64), walk_of("max", np.float64)), wide)
    for place in (0, 3):
        np.testing.assert_allclose(found[place], want[place], tolerance, tolerance)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_edges_side_by_side(dtype, ordered):
    """Rows of any number of edges, a hub in chunks among them, fields with gaps in memory; the same bits on
    any threads.
    """
    rng = np.random.default_rng(0)
    dst = np.concatenate([np.repeat(np.arange(40), np.arange(40)), np.full(300, 45)])
    if not ordered:
        dst = rng.permutation(dst)
    num = len(dst)
    g = ng.Graph(rng.integers(0, 50, num), dst, num_src=50, num_dst=50)
    assert g.in_edges.ordered == ordered
    x, y, w = (
        rng.integers(-3, 4, size=(rows, 2)).astype(dtype)[:, 0] for rows in (50, 50, num)
    )  # every other number
    fields = {("u", "x"): x, ("v", "y"): y, ("e", "w"): w}
    u, v, e = field("u", dtype=dtype), field("v", name="y", dtype=dtype), field("e", name="w", dtype=dtype)
    outputs = [
        Output((u * e + v,), "v", "sum"),
        Output((np.where(e > 0, u, 1),), "v", "prod"),
        Output((u - e,), "e", "edge"),
    ]
    if np.dtype(dtype).kind == "f":
        outputs += [
            Output((u + v, e), "v", "softmax"),
            Output((u * e,), "v", "logsumexp"),
            Output((np.exp(u),), "v", "mean"),
        ]
    with (
        mock.patch.object(balance, "HUB_EDGES", 64),
        mock.patch.object(balance, "CHUNK_EDGES", 40),
        programs.compiling(edges) as used,
    ):
        assert balance.parts_of(g.in_edges).hubs
        with mock.patch.object(threads, "SMALL", 0):
            found = cpu.execute(g, tuple(outputs), fields)
        serial = cpu.execute(g, tuple(outputs), fields)
    assert all(EDGE in schedule.lanes for schedule in used)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found, serial, strict=True))
    wide = {
        key: array.astype(np.float64) if np.dtype(dtype).kind == "f" else array
        for key, array in fields.items()
    }
    with np.errstate(all="ignore"):
        want = reference.execute(g, tuple(outputs), wide)
    tolerance = {np.float32: 2e-5, np.float64: 1e-12, np.int64: 0}[dtype]
    for output in outputs:
        own, right = ([made.pop(0) for _ in output.results()] for made in (found, want))
        for a, b in zip(programs.comparable(output, own), programs.comparable(output, right), strict=True):
            np.testing.assert_allclose(a, b, tolerance, tolerance, err_msg=output.reduce)


def edges(found: Any) -> Any:
    return [schedule for schedule in found if EDGE in schedule.lanes]


def test_long_rows_of_single_numbers_are_taken_and_right():
    """A softmax over scores of edges through the public function, with its gradient by a central
    difference.
    """
    rng = np.random.default_rng(2)
    g = ng.Graph(rng.integers(0, 6, 90), rng.integers(0, 5, 90), num_src=6, num_dst=5)
    s, c, along = rng.normal(size=90), rng.normal(size=90), rng.normal(size=90)
    made, kernel = [], driver.kernel

    def remembered(*args: Any) -> Any:
        made.append(kernel(*args))
        return made[-1]

    driver.make_plan.cache_clear()
    with mock.patch.object(driver, "kernel", remembered):
        found = ng.ops.edge_softmax(g, s)
        with ng.Tape() as tape:
            watched = tape.watch(s)
            loss = np.sum(ng.ops.edge_softmax(g, watched) * c)
        (grad,) = tape.gradient(loss, [watched])
    assert made
    want = np.exp(s) / np.bincount(g.dst, np.exp(s))[g.dst]
    np.testing.assert_allclose(found, want, rtol=1e-12)

    def value(t: float) -> float:
        e = np.exp(s + t * along)
        return float(np.sum(e / np.bincount(g.dst, e)[g.dst] * c))

    np.testing.assert_allclose(np.sum(grad * along), (value(1e-5) - value(-1e-5)) / 2e-5, rtol=1e-7)


def test_attention_of_odd_heads_is_taken_and_right():
    """Forward, gradients and their derivative along a direction, through the public function: no choice is
    forced here.
    """
    rng = np.random.default_rng(1)
    g = ng.Graph(rng.integers(0, 5, 12), rng.integers(0, 4, 12), num_src=5, num_dst=4)
    x, s, r, c = (rng.normal(size=shape) for shape in ((5, 3, 7), (5, 3, 1), (4, 3, 1), (4, 3, 7)))
    made, kernel = [], driver.kernel

    def remembered(*args: Any) -> Any:
        made.append(kernel(*args))
        return made[-1]

    def loss(x: Any, s: Any, r: Any) -> Any:
        z = ng.attend(
            g, lambda u, v: ng.leaky_relu(u.s + v.r, 0.2), lambda u: u.x, u={"x": x, "s": s}, v={"r": r}
        )
        return np.sum(z * z * c)

    def gradient(x: Any, s: Any, r: Any) -> list[Any]:
        with ng.Tape() as tape:
            watched = [tape.watch(a) for a in (x, s, r)]
            value = loss(*watched)
        return tape.gradient(value, watched)

    along = [rng.normal(size=a.shape) for a in (x, s, r)]
    driver.make_plan.cache_clear()
    with mock.patch.object(driver, "kernel", remembered):
        first = gradient(x, s, r)
        with ng.Tape() as outer:
            watched = [outer.watch(a) for a in (x, s, r)]
            with ng.Tape() as inner:
                for a in watched:
                    inner.watch(a)
                value = loss(*watched)
            slope = sum(np.sum(a * d) for a, d in zip(inner.gradient(value, watched), along, strict=True))
        second = outer.gradient(slope, watched)
    assert len(made) >= 3
    step = 1e-5
    ends = [[a + sign * step * d for a, d in zip((x, s, r), along, strict=True)] for sign in (1, -1)]
    by_differences = (float(loss(*ends[0])) - float(loss(*ends[1]))) / (2 * step)
    np.testing.assert_allclose(
        sum(float(np.sum(a * d)) for a, d in zip(first, along, strict=True)), by_differences, rtol=1e-7
    )
    for got, ahead, behind in zip(second, gradient(*ends[0]), gradient(*ends[1]), strict=True):
        np.testing.assert_allclose(got, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("features", [20, 33, 200])
def test_a_row_that_ends_inside_of_a_register(features):
    """Its last vector overlaps the one before it: right in each column, and nothing beside the row is
    written.
    """
    rng = np.random.default_rng(features)
    x = rng.standard_normal((5, features), dtype=np.float32)
    w = rng.standard_normal((8, 1), dtype=np.float32)
    outputs = (Output((field("u", features) * field("e", 1, name="w"),), "v", "sum"),)
    memory = np.full((6, features), np.float32(7))
    (made,) = cpu.execute(GRAPH, outputs, {("u", "x"): x, ("e", "w"): w}, [memory[1:5]])
    want = np.zeros((4, features))
    np.add.at(want, GRAPH.dst, x[GRAPH.src].astype(np.float64) * w)
    np.testing.assert_allclose(made, want, 1e-5, 1e-5)
    assert np.shares_memory(made, memory)
    assert (memory[[0, 5]] == 7).all()
