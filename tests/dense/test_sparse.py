"""Products with SciPy's sparse matrices: the numbers of dense matrices, whatever has happened to the matrix
since the last product.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

import numgraph as ng
from numgraph.dense import matmul, sparse

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}


def made(rows, columns, dtype, form="csr", kind=scipy.sparse.csr_array, seed=0):
    rng = np.random.default_rng(seed)
    dense = np.where(rng.random((rows, columns)) < 0.3, rng.standard_normal((rows, columns)), 0).astype(dtype)
    return kind(dense).asformat(form), dense


@pytest.mark.parametrize("kind", [scipy.sparse.csr_array, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_and_their_gradients(kind, form, dtype):
    a, dense = made(30, 20, dtype, form, kind)
    x = np.random.default_rng(1).standard_normal((20, 7)).astype(dtype)
    for _ in range(2):
        with ng.Tape() as tape:
            w = tape.watch(x)
            y = matmul(a, w)
            loss = (y * y).sum()
        got = tape.gradient(loss, w)
        np.testing.assert_allclose(y.data, dense @ x, rtol=0, atol=TOLERANCE[dtype] * 10)
        np.testing.assert_allclose(got, 2 * dense.T @ (dense @ x), rtol=0, atol=TOLERANCE[dtype] * 100)
        assert y.dtype == got.dtype == dtype
        np.testing.assert_array_equal(matmul(a, x), y.data)


def test_a_matrix_that_changed_in_place():
    a, dense = made(40, 25, np.float64)
    x = np.random.default_rng(1).standard_normal((25, 3))
    np.testing.assert_allclose(matmul(a, x), dense @ x, atol=1e-12)
    a.data *= 2
    np.testing.assert_allclose(matmul(a, x), 2 * dense @ x, atol=1e-12)
    a.indices[:] = 24 - a.indices
    np.testing.assert_allclose(matmul(a, x), 2 * dense[:, ::-1] @ x, atol=1e-12)
    a.sort_indices()
    np.testing.assert_allclose(matmul(a, x), 2 * dense[:, ::-1] @ x, atol=1e-12)
    a.data[::2] = 0
    expected = a.toarray() @ x
    a.eliminate_zeros()
    np.testing.assert_allclose(matmul(a, x), expected, atol=1e-12)


def test_duplicates_count_each_and_long_arrays_are_cut():
    a = scipy.sparse.csr_array(
        (np.array([1.0, 2, 4, 9]), np.array([0, 0, 1, 1]), np.array([0, 2, 3])), shape=(2, 2)
    )
    np.testing.assert_array_equal(matmul(a, np.eye(2)), [[3, 0], [0, 4]])


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (3, 5)])
def test_matrices_without_elements(shape):
    a = scipy.sparse.csr_array(shape, dtype=np.float32)
    np.testing.assert_array_equal(matmul(a, np.ones((shape[1], 2), np.float32)), np.zeros((shape[0], 2)))
    assert matmul(a, np.ones((shape[1], 0), np.float32)).shape == (shape[0], 0)


def test_only_a_few_structures_are_kept():
    for size in range(3, 12):
        a, dense = made(size, size, np.float32, seed=size)
        np.testing.assert_allclose(matmul(a, np.eye(size, dtype=np.float32)), dense, atol=1e-6)
    assert len(sparse._known) <= sparse.REMEMBERED


def test_dropped_features_share_their_structure():
    a, dense = made(50, 40, np.float32)
    dropped = ng.dense.dropout(a, 0.5, np.random.default_rng(0))
    assert np.shares_memory(dropped.indices, a.indices)
    found = dropped.toarray()
    assert set(np.unique(found[found != 0] / dense[found != 0])) == {2.0}
    x = np.ones((40, 2), np.float32)
    np.testing.assert_allclose(matmul(dropped, x), found @ x, atol=1e-5)
