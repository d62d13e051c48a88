"""Products through the library's BLAS: the numbers of NumPy, and its number of threads as it was."""

from __future__ import annotations

import os
import threading
import warnings

import numba
import numpy as np
import pytest

from numgraph.dense import blas
from numgraph.runtime.threads import share

SHAPES = [
    (0, 3, 2),
    (3, 0, 2),
    (1, 1, 1),
    (7, 5, 3),
    (400, 300, 200),
    (20_003, 64, 64),
    (64, 64, 20_003),
    (9, 400_000, 16),
    (3, 100_003, 1),
    (1, 100_003, 5),
    (400, 400, 400),
]
"""Also such as are cut along the rows, the columns, the inner axis, and not at all though they are large."""


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_products(shape, dtype):
    rng = np.random.default_rng(0)
    rows, inner, columns = shape
    a, b = (rng.integers(-4, 5, size).astype(dtype) for size in ((rows, inner), (inner, columns)))
    for left in (a, np.asfortranarray(a), np.repeat(a, 2, 0)[::2]):
        made = blas.product(left, b)
        assert made.dtype == dtype
        np.testing.assert_array_equal(made, np.einsum("ik,kj->ij", a, b))


@pytest.mark.parametrize("shape", SHAPES[5:])
def test_bits_do_not_depend_on_the_number_of_threads(shape):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(shape[:2], np.float32), rng.standard_normal(shape[1:], np.float32)
    most = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = blas.product(a, b)
    finally:
        numba.set_num_threads(most)
    for _ in range(3):
        np.testing.assert_array_equal(blas.product(a, b), alone)


def test_a_piece_that_fails_is_heard_after_the_others_have_ended():
    begun, done = threading.Event(), []

    def goes_on():
        begun.set()
        for _ in range(50):
            np.ones((100, 100)) @ np.ones((100, 100))
        done.append(1)

    def fails():
        begun.wait()
        raise MemoryError("planted")

    for _ in range(5):  # with the threads of the time before
        begun.clear()
        with pytest.raises(MemoryError, match="planted"):
            share([goes_on, fails, *[lambda: done.append(2)] * 5])
        assert 1 in done
        done.clear()


def test_a_piece_may_share_and_so_may_a_child_of_a_fork():
    done = []
    share([lambda: share([lambda: done.append(1)] * 3)] * 4)
    assert len(done) == 12
    if not hasattr(os, "fork"):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        child = os.fork()
    if child == 0:
        share([lambda: done.append(1)] * 4)
        os._exit(len(done))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 16


def test_the_number_of_threads_is_restored():
    found = blas._threads()
    if found is None:
        pytest.skip("NumPy's BLAS is not the OpenBLAS of its wheels")
    get, put = found
    first = get()
    try:
        put(2)
        seen = []

        def work():
            for _ in range(200):
                blas.product(np.ones((30, 30)), np.ones((30, 30)))
                seen.append(get())

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert get() == 2
        assert set(seen) <= {1, 2}
        with pytest.raises(ValueError, match="mismatch"):
            blas.product(np.ones((3, 4)), np.ones((3, 4)))
        assert get() == 2
    finally:
        put(first)
