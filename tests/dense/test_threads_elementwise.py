"""Elementwise functions on all threads: the numbers, memory order, warnings and errors of one call of
NumPy.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
import warnings

import numba
import numpy as np
import pytest

import numgraph as ng
from numgraph.dense import blocks
from numgraph.dense.blocks import in_blocks
from numgraph.expressions.elementary import TABLE

rng = np.random.default_rng(5)
SHAPE = (1031, 7)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Sizes at which test arrays have many pieces, and each of them several blocks."""
    for name, size in (("LARGE", 1000), ("PIECE", 1500), ("BLOCK", 400)):
        monkeypatch.setattr(blocks, name, size)


def drawn(*shape: int, dtype: str = "f4") -> np.ndarray:
    return (rng.standard_normal(shape) * 3).astype(dtype)


def same(a: np.ndarray, b: np.ndarray) -> None:
    assert (a.dtype, a.shape, a.strides) == (b.dtype, b.shape, b.strides)
    assert a.tobytes() == b.tobytes()


OPERANDS = {
    "full": lambda d: (drawn(*SHAPE, dtype=d), drawn(*SHAPE, dtype=d)),
    "number": lambda d: (drawn(*SHAPE, dtype=d), 2),
    "0-d": lambda d: (drawn(*SHAPE, dtype=d), np.array(3, d)),
    "row": lambda d: (drawn(*SHAPE, dtype=d), drawn(7, dtype=d)),
    "column": lambda d: (drawn(1031, 1, dtype=d), drawn(*SHAPE, dtype=d)),
    "spread": lambda d: (np.broadcast_to(drawn(1031, 1, dtype=d), SHAPE), drawn(*SHAPE, dtype=d)),
    "long row": lambda d: (drawn(5, 2000, dtype=d), drawn(2000, dtype=d)),
    "one axis": lambda d: (drawn(7001, dtype=d), drawn(7001, dtype=d)),
    "three axes": lambda d: (drawn(90, 5, 7, dtype=d), drawn(5, 1, dtype=d)),
    "two rows": lambda d: (drawn(2, 5000, dtype=d), drawn(5000, dtype=d)),
    "strided": lambda d: (drawn(1031, 14, dtype=d)[:, ::2], drawn(*SHAPE, dtype=d)),
    "reversed": lambda d: (drawn(*SHAPE, dtype=d)[::-1], drawn(*SHAPE, dtype=d)),
    "Fortran": lambda d: (
        np.asfortranarray(drawn(*SHAPE, dtype=d)),
        np.asfortranarray(drawn(*SHAPE, dtype=d)),
    ),
    "two dtypes": lambda d: (drawn(*SHAPE, dtype=d), drawn(*SHAPE, dtype="f8")),
    "integers": lambda d: (drawn(*SHAPE, dtype=d), np.arange(7, dtype=np.int32)),
    "empty": lambda d: (drawn(0, 7, dtype=d), drawn(7, dtype=d)),
    "empty rows": lambda d: (drawn(1031, 0, dtype=d), drawn(1031, 1, dtype=d)),
}


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("operands", OPERANDS)
@pytest.mark.parametrize(
    "function", [np.multiply, np.maximum, np.subtract, lambda a, b: np.tanh(a) * (b - a * a)]
)
def test_bits_and_memory_order_are_those_of_one_call(function, operands, dtype):
    a, b = OPERANDS[operands](dtype)
    same(in_blocks(function, a, b), function(a, b))


@pytest.mark.parametrize(
    "name", ["exp", "sin", "tanh", "sqrt", "log1p", "sigmoid", "arctan", "absolute", "negative", "square"]
)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_functions_of_one_operand(name, dtype):
    x = np.abs(drawn(*SHAPE, dtype=dtype))
    same(in_blocks(TABLE[name].evaluate, x), TABLE[name].evaluate(x))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_bits_do_not_depend_on_the_number_of_threads(threads, monkeypatch):
    x, y = drawn(*SHAPE), drawn(*SHAPE)
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    same(in_blocks(lambda a, b: np.exp(a) * b, x, y), np.exp(x) * y)


def losses(x, w, b):
    return (
        np.where(x > b, np.maximum(x, w), x * w) / (np.exp(-x) + 2) + (x - b) ** 2 - np.logaddexp(w, x)
    ).sum()


@pytest.mark.parametrize("shapes", [(SHAPE, SHAPE, (7,)), (SHAPE, (1031, 1), SHAPE), (SHAPE, (7,), ())])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_gradients_of_both_paths_are_the_same(shapes, dtype, monkeypatch):
    values = [drawn(*shape, dtype=dtype) for shape in shapes]

    def gradients():
        with ng.Tape() as tape:
            watched = [tape.watch(x) for x in values]
            loss = losses(*watched)
        return loss.data, *tape.gradient(loss, watched)

    large = gradients()
    monkeypatch.setattr(blocks, "LARGE", sys.maxsize)
    for one, other in zip(large, gradients(), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


def test_second_derivatives():
    x, w = drawn(*SHAPE, dtype="f8"), drawn(*SHAPE, dtype="f8")
    with ng.Tape() as outer:
        a = outer.watch(x)
        with ng.Tape() as inner:
            inner.watch(a)
            loss = (a**3 * w).sum()
        first = inner.gradient(loss, a)
        again = (first * first).sum()
    np.testing.assert_allclose(first.data, 3 * x**2 * w, rtol=1e-12)
    np.testing.assert_allclose(outer.gradient(again, a), 36 * x**3 * w**2, rtol=1e-12)


def test_a_value_that_no_row_changes_is_computed_once():
    g = np.broadcast_to(np.float32(2), SHAPE)
    back = in_blocks(lambda g, y, a, b: [-g, g, None, g * b], g, g, drawn(*SHAPE), np.float32(3))
    assert back[1] is g
    assert back[2] is None
    for made, number in ((back[0], -2), (back[3], 6)):
        assert made.strides == (0, 0)
        np.testing.assert_array_equal(made, np.full(SHAPE, number, np.float32))


def test_gradients_may_be_written_and_share_nothing():
    with ng.Tape() as tape:
        a, b = tape.watch(drawn(*SHAPE)), tape.watch(drawn(*SHAPE))
        loss = (a - b + 2 * a).sum()
    first, second = tape.gradient(loss, [a, b])
    first *= 2
    second *= 5
    assert (first == 6).all()
    assert (second == -5).all()


@pytest.mark.parametrize("place", [0, 555, 1030])
def test_warnings_are_those_of_one_call(place):
    x = np.ones(SHAPE, np.float32)
    x[place, 3] = -1
    with pytest.warns(RuntimeWarning, match="invalid value encountered in log") as told:
        made = in_blocks(np.log, x)
    assert len(told) == 1
    assert np.isnan(made).sum() == 1
    with (
        np.errstate(invalid="raise"),
        pytest.raises(FloatingPointError, match="invalid value encountered in log"),
    ):
        in_blocks(np.log, x)
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        same(in_blocks(np.log, x), made)
    calls = []
    with np.errstate(invalid="call", call=lambda kind, flag: calls.append(kind)):
        in_blocks(np.log, x)
    assert calls == ["invalid value"]


def test_errors_name_the_operands():
    with ng.Tape() as tape:
        x = tape.watch(drawn(*SHAPE))
        with pytest.raises(
            ValueError, match=r"multiply: the shapes of float32\[1031, 7\], float32\[1031, 6\] do not fit"
        ):
            x * drawn(1031, 6)
    with pytest.raises(ValueError, match="negative integer powers"):
        in_blocks(np.power, np.full(SHAPE, 3), np.full(SHAPE, -1))


def test_many_python_threads_at_once():
    x = drawn(*SHAPE)
    expected, found = np.exp(x) * x, []

    def work():
        found.extend(in_blocks(lambda a: np.exp(a) * a, x) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 120
    for made in found:
        same(made, expected)


def in_child(x, expected):
    sys.exit(0 if in_blocks(np.multiply, x, x).tobytes() == expected else 7)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_in_the_child_of_a_fork():
    x = drawn(*SHAPE)
    expected = in_blocks(np.multiply, x, x).tobytes()
    child = multiprocessing.get_context("fork").Process(target=in_child, args=(x, expected))
    child.start()
    child.join(60)
    assert child.exitcode == 0
