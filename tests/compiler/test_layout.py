"""Rows of fields that many edges gather begin where cache lines do, and are the same rows."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

import numgraph as ng
from numgraph.compiler.cpu import layout
from numgraph.compiler.cpu.layout import by_lines, enough_for, gathered, room_of
from numgraph.runtime import threads

ROOMS = {
    4: 4,
    12: 16,
    20: 32,
    32: 32,
    36: 64,
    64: 64,
    68: 68,
    96: 128,
    132: 192,
    200: 256,
    260: 320,
    800: 832,
}


@pytest.mark.parametrize("size", ROOMS)
def test_room_of_a_row(size):
    assert room_of(size) == ROOMS[size]


def test_longer_rows_and_rows_with_gaps_take_more_edges():
    assert enough_for(64) < enough_for(128) < enough_for(96) < enough_for(192) * 3 == enough_for(132)


def beside_a_line(*shape: int, dtype: str = "float32", gap: int = 0) -> np.ndarray:
    """Numbers that begin 16 bytes into a line, in rows with a gap between them."""
    count, wide = np.dtype(dtype).itemsize, int(np.prod(shape[1:])) + gap
    memory = np.zeros(shape[0] * wide * count + 128, np.uint8)
    start = -memory.ctypes.data % 64 + 16
    array = memory[start : start + shape[0] * wide * count].view(dtype).reshape(shape[0], wide)
    array[...] = np.random.default_rng(0).integers(0, 99, array.shape)
    return array[:, : wide - gap].reshape(shape)


@pytest.mark.parametrize(
    ("array", "unit"),
    [
        (beside_a_line(50, 16), 64),
        (beside_a_line(50, 33), 64),
        (beside_a_line(50, 3, 5), 64),
        (beside_a_line(50, 5), 32),
        (beside_a_line(50, 16, gap=3), 64),
        (beside_a_line(50, 48, dtype="uint16"), 64),
        (beside_a_line(5000, 256), 64),  # in pieces, on threads
    ],
)
def test_rows_begin_where_lines_do_where_edges_are_many(array, unit):
    enough = len(array) * enough_for(array.nbytes // len(array))
    made = by_lines(array, enough)
    assert made.ctypes.data % unit == made.strides[0] % unit == 0
    assert np.array_equal(made.reshape(array.shape), array)
    assert by_lines(made, enough) is made
    assert by_lines(array, enough - 1) is array


@pytest.mark.parametrize(
    "array", [np.empty((0, 16), np.float32), np.empty(9, np.float32), beside_a_line(50, 17), np.empty((9, 0))]
)
def test_arrays_that_stay_as_they_are(array):
    assert by_lines(array, 1 << 40) is array


def fields(rows: int) -> list[np.ndarray]:
    """Of 17, 3, 1, 100 and 2 numbers a row, one of them the same for all rows."""
    rng = np.random.default_rng(0)
    made = [rng.random((rows, 17)).astype(np.float32), rng.random((rows, 3, 1)), rng.random(rows) < 0.5]
    return [*made, rng.random((rows, 100)), np.broadcast_to(rng.random((1, 2)), (rows, 2))]


@pytest.mark.parametrize("edges", [199, 200])
def test_rows_of_a_node_lie_beside_each_other_where_edges_are_many(edges):
    given = fields(50)
    with mock.patch.object(layout, "BEYOND", 0), mock.patch.object(layout, "EDGES_A_ROW", 4):
        made = gathered(given, edges)
    assert all(np.array_equal(a.reshape(b.shape), b) for a, b in zip(made, given, strict=True))
    starts = [array.ctypes.data for array in made]
    if edges < 200:
        assert [a is b for a, b in zip(made, given, strict=True)] == [True] * 5
    else:
        assert [start - starts[0] for start in starts[:3]] == [0, 96, 120]
        assert starts[0] % 64 == 0
        assert [array.strides[0] for array in made] == [128, 128, 128, 800, 0]
        assert made[3] is given[3]


@pytest.mark.parametrize(
    ("width", "dtype", "narrow", "other"),
    [
        (17, "f4", 1, "?"),
        (17, "f4", 3, "i1"),
        (9, "f8", 1, "?"),
        (11, "f8", 3, "f2"),
        (35, "f2", 1, "i1"),
        (1, "f8", 1, "?"),
    ],
)
def test_numbers_that_lie_beside_others_are_aligned(width, dtype, narrow, other):
    given = [np.ones((50, width), dtype), np.ones((50, narrow), other)]
    with mock.patch.object(layout, "BEYOND", 0), mock.patch.object(layout, "EDGES_A_ROW", 4):
        made = gathered(given, 200)
    assert [array is old for array, old in zip(made, given, strict=True)] == [False, False]
    assert all(array.flags.aligned and (array == 1).all() for array in made)


def test_fields_that_a_cache_holds_stay_as_they_are():
    given = fields(50)
    assert all(a is b for a, b in zip(gathered(given, 1 << 9), given, strict=True))


@pytest.mark.parametrize(("heads", "width"), [(5, 3), (1, 2)])
def test_attention_and_its_gradients_have_the_same_bits(heads, width):
    """Of one head too: numbers that edges side by side gather have no gaps between them."""
    rng = np.random.default_rng(0)
    src, dst = rng.integers(0, 20, 2000), rng.integers(0, 20, 2000)
    given = [rng.standard_normal((20, heads, k)).astype(np.float32) for k in (width, 1, 1)]

    def attention() -> list[np.ndarray]:
        g = ng.Graph(src, dst, 20)
        with ng.Tape() as tape:
            h, a, b = map(tape.watch, given)
            z = ng.attend(g, lambda u, v: u.a + v.b, lambda u: u.h, u={"h": h, "a": a}, v={"b": b})
            loss = (z * z).sum()
        return [np.asarray(z), *map(np.asarray, tape.gradient(loss, [h, a, b]))]

    plain = attention()
    with (
        mock.patch.object(threads, "SMALL", 0),
        mock.patch.object(layout, "BEYOND", 0),
        mock.patch.object(layout, "_beside", wraps=layout._beside) as asked,
    ):
        laid = attention()
    assert asked.call_count >= 2
    assert all(np.array_equal(a, b) for a, b in zip(plain, laid, strict=True))


def test_sums_and_gradients_have_the_same_bits():
    rng = np.random.default_rng(0)
    g = ng.Graph(rng.integers(0, 20, 2000), rng.integers(0, 20, 2000), 20)
    x = beside_a_line(20, 33)

    def sums() -> list[np.ndarray]:
        with ng.Tape() as tape:
            watched = tape.watch(x)
            z = ng.update_all(g, lambda u: u.x, "sum", u={"x": watched})
            loss = (z * z).sum()
        return [np.asarray(z), np.asarray(tape.gradient(loss, watched))]

    plain = sums()
    a = np.zeros((20, 20))
    np.add.at(a, (np.asarray(g.dst), np.asarray(g.src)), 1)
    np.testing.assert_allclose(plain[1], 2 * a.T @ (a @ x.astype(np.float64)), 1e-5)
    other = ng.Graph(np.asarray(g.src), np.asarray(g.dst), 20)
    with (
        mock.patch.object(threads, "SMALL", 0),
        mock.patch.object(layout, "EDGES_A_LINE", 1),
        mock.patch.object(layout, "by_lines", wraps=by_lines) as asked,
    ):
        g = other
        laid = sums()
    assert asked.call_count == 2
    assert all(np.array_equal(a, b) for a, b in zip(plain, laid, strict=True))
