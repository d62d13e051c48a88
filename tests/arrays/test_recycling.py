"""Memory of large results: used again when nobody sees it any more, and only then."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import numpy as np
import pytest

import numgraph as ng
from numgraph.arrays import recycling

ROWS = recycling.LARGE // 4 + 3
SIZE = recycling.LARGE + recycling.LARGE // recycling.CLASSES
"""Of the block behind so many rows of four bytes."""


@pytest.fixture(autouse=True)
def nothing_idle():
    recycling.release()
    yield
    recycling.release()


def address(array):
    return array.__array_interface__["data"][0]


def test_the_next_result_of_a_size_takes_the_memory_of_one_that_is_gone():
    first = recycling.empty((ROWS,), np.float32)
    where = address(first)
    del first
    assert recycling.idle_bytes() == SIZE
    second = recycling.empty((1, ROWS), "int32")
    assert address(second) == where
    assert second.shape == (1, ROWS)
    assert second.dtype == np.int32
    assert recycling.idle_bytes() == 0


@pytest.mark.parametrize(
    "view",
    [lambda x: x[3:], lambda x: x.T, lambda x: x.reshape(-1, 1).view(np.int32), memoryview, lambda x: x.flat],
)
def test_memory_that_a_view_still_sees_is_nobody_elses(view):
    made = recycling.zeros((ROWS,), np.float32)
    seen = view(made)
    where = address(made)
    del made
    gc.collect()
    other = recycling.empty((ROWS,), np.float32)
    other.fill(1)
    assert address(other) != where
    assert not np.asarray(seen).any()
    del seen
    assert recycling.idle_bytes() == SIZE


def test_fresh_memory_replaces_idle_memory_of_other_sizes():
    """Together never more than was once in use at the same time, and an eighth."""
    kept = [recycling.empty((ROWS + i * ROWS // 6,), np.float32) for i in range(4)]
    asked = sum(array.nbytes for array in kept)
    del kept
    most = recycling.idle_bytes()
    assert asked <= most <= asked * 9 / 8
    assert len(recycling._idle) == 4, "sizes of their own"
    larger = [recycling.empty((2 * ROWS,), np.float32)]
    assert recycling.idle_bytes() + larger[0].nbytes <= most * 9 / 8
    larger += [recycling.empty((2 * ROWS,), np.float32) for _ in range(2)]
    assert recycling.idle_bytes() == 0, "more in use than ever before"


def test_a_loop_takes_fresh_memory_in_its_first_rounds_only(monkeypatch):
    """Large results together, and a small one when they are gone: it takes the place of none of them."""
    fresh, made = [], recycling._fresh
    monkeypatch.setattr(recycling, "_fresh", lambda size: fresh.append(size) or made(size))
    taken = []
    for _ in range(5):
        together = [recycling.empty((16 * ROWS,), np.float32) for _ in range(3)]
        del together
        recycling.empty((ROWS,), np.float32)
        taken.append(len(fresh))
    assert taken == [4] * 5


def test_sizes_that_change_a_little_share_memory():
    """Rows of mini-batches: about as many in each step."""
    seen = set()
    for step in range(20):
        made = recycling.empty((ROWS + 1000 * step, 1), np.float32)
        made[-1] = step
        assert made.nbytes == 4 * (ROWS + 1000 * step)
        seen.add(address(made))
        del made
    assert len(seen) == 1
    assert recycling.idle_bytes() == SIZE


def test_idle_memory_has_a_limit(monkeypatch):
    monkeypatch.setattr(recycling, "KEPT", SIZE)
    a, b = (recycling.empty((ROWS,), np.float32) for _ in range(2))
    del a, b
    assert recycling.idle_bytes() == SIZE


def test_idle_memory_can_be_released():
    recycling.empty((ROWS,), np.float32)
    assert recycling.idle_bytes() == SIZE
    recycling.release()
    assert recycling.idle_bytes() == 0


def test_small_results_are_plain_arrays():
    made = recycling.empty((5,), np.float32)
    assert made.base is None
    assert made.flags.owndata


def large_graph():
    nodes = np.arange(ROWS)
    return ng.Graph(nodes, nodes[::-1].copy(), ROWS)


def test_results_and_gradients_are_writeable_and_share_no_memory():
    g, x = large_graph(), np.ones((ROWS, 1), np.float32)
    with ng.Tape() as tape:
        a, b = tape.watch(x), tape.watch(x)
        z = ng.update_all(g, lambda u, v: u.a + v.b, "sum", u={"a": a}, v={"b": b})
        loss = (z * z).sum()
    grads = tape.gradient(loss, [a, b])
    arrays = [z.data, *grads]
    assert all(array.flags.writeable for array in arrays)
    assert not any(np.shares_memory(p, q) for i, p in enumerate(arrays) for q in arrays[:i])
    np.testing.assert_array_equal(grads[0], np.full((ROWS, 1), 4, np.float32))


def test_threads_never_get_the_same_memory():
    wrong = []

    def work(number):
        for _ in range(50):
            mine = [recycling.empty((ROWS,), np.int32) for _ in range(2)]
            for array in mine:
                array.fill(number)
            if not all((array == number).all() for array in mine):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_interpreter_ends_quietly_while_results_live():
    code = (
        "import builtins, numpy as np; from numgraph.arrays import recycling; builtins.kept = "
        f"recycling.empty(({ROWS},), np.float32)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_large_results_begin_at_cache_lines():
    """Fresh memory of several sizes, and such that comes back."""
    for rows in (ROWS, ROWS + 5, ROWS):
        made = recycling.empty((rows,), np.float32)
        assert made.ctypes.data % 64 == 0
        made.fill(1)
