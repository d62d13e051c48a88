"""Rows of fields that many edges gather begin where cache lines do, and are the same rows."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

import numgraph as ng
from numgraph.compiler.cpu import layout, running
from numgraph.compiler.cpu.layout import by_lines, enough_for, room_of
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
        mock.patch.object(running, "by_lines", wraps=by_lines) as asked,
    ):
        g = other
        laid = sums()
    assert asked.call_count == 2
    assert all(np.array_equal(a, b) for a, b in zip(plain, laid, strict=True))
