"""Sums over a million rows of float32 and of half precision: as accurate as their dtype, whatever is summed
and along which axes.
"""

from __future__ import annotations

import numpy as np
import pytest
from checks import differences

import numgraph as ng
from numgraph.autodiff.sums import accumulated, unbroadcast
from numgraph.compiler.rows import blocks
from numgraph.dense.activations import biased
from numgraph.runtime import threads

ROWS = 1_000_000
RNG = np.random.default_rng(0)
NARROW = RNG.uniform(0.5, 1.5, (ROWS, 3)).astype(np.float32)
EQUAL = np.full((ROWS, 3), 1 / 3, np.float32)
ARRAYS = {
    "rows": NARROW,
    "equal rows": EQUAL,
    "one column": NARROW[:, :1].copy(),
    "wide rows": RNG.uniform(0.5, 1.5, (20_000, 150)).astype(np.float32),
    "three axes": NARROW.reshape(2, ROWS // 4, 6),
    "rows of no multiple": NARROW[:999_983],
    "transposed": NARROW.T,
    "every other column": NARROW[:, ::2],
    "turned": NARROW[::-1],
    "broadcast rows": np.broadcast_to(NARROW[0], (ROWS, 3)),
    "broadcast columns": np.broadcast_to(NARROW[:, :1], (ROWS, 3)),
    "large mean": (1e4 + RNG.normal(size=(ROWS, 3)) / 10).astype(np.float32),
}


def axes_of(x):
    return [None, *range(x.ndim), *([(0, 1), (0, 2), (1, 2)] if x.ndim == 3 else [])]


CASES = [pytest.param(name, axis, id=f"{name}, {axis}") for name, x in ARRAYS.items() for axis in axes_of(x)]


@pytest.mark.parametrize(("name", "axis"), CASES)
def test_reductions(name, axis):
    x = ARRAYS[name]
    wide, t = x.astype(np.float64), ng.Tensor(x)
    np.testing.assert_allclose(np.sum(t, axis=axis).data, wide.sum(axis), rtol=1e-6)
    np.testing.assert_allclose(np.mean(t, axis=axis).data, wide.mean(axis), rtol=1e-6)
    weights = np.ones_like(x) / 3
    np.testing.assert_allclose(np.average(t, axis, weights).data, wide.mean(axis), rtol=1e-6)
    np.testing.assert_allclose(
        np.linalg.vector_norm(t, axis=axis).data, np.linalg.vector_norm(wide, axis=axis), rtol=1e-6
    )
    assert np.sum(t, axis=axis, keepdims=True).shape == np.sum(x, axis=axis, keepdims=True).shape
    if name in ("rows", "large mean", "transposed", "three axes"):
        np.testing.assert_allclose(np.var(t, axis=axis).data, wide.var(axis), rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(np.std(t, axis=axis).data, wide.std(axis), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["rows", "equal rows", "three axes", "broadcast rows", "every other column"])
def test_the_bits_do_not_depend_on_the_threads(name, monkeypatch):
    x = ARRAYS[name]
    many = accumulated(x, 0)
    monkeypatch.setattr(threads, "run", lambda parallel, serial, *args, work: serial(*args))
    np.testing.assert_array_equal(accumulated(x, 0), many)


# Functions of rows x and an array b that all rows share; where all rows are equal, a mean over 12 of them is
# that over a million.
SHARED = {
    "bias": lambda x, b: x + b,
    "difference": lambda x, b: b - x,
    "factor": lambda x, b: x * b,
    "quotient": lambda x, b: x / (1 + b),
    "maximum": lambda x, b: np.maximum(x, b),
    "where": lambda x, b: np.where(x > 1, x, b),
    "power": lambda x, b: x**b,
    "broadcast_to": lambda x, b: np.broadcast_to(b, x.shape) * x,
    "column": lambda x, b: x.T * b[:, None],
    "stack": lambda x, b: x.reshape(4, -1, 3) + b,
    "inner axis": lambda x, b: x.reshape(-1, 2, 3) * b[:, None][1:],
    "square": lambda x, b: np.square(x + b),
    "layer_norm's bias": lambda x, b: ng.layer_norm(x, None, b),
    "layer_norm's weight": lambda x, b: ng.layer_norm(x + np.arange(3, dtype=x.dtype), b, None),
    "batch_norm's bias": lambda x, b: ng.batch_norm(x, None, b),
    "one id": lambda x, b: b[np.zeros(len(x), np.int8)] * x[:, 0],
    "one row": lambda x, b: b[None][np.zeros(len(x), np.uint8)] * x,
    "gather": lambda x, b: ng.gather(b[None], np.zeros(len(x), int)) * x,
    "matmul": lambda x, b: x @ b,
    "matrix": lambda x, b: x @ (b[:, None] * b),
    "einsum": lambda x, b: np.einsum("nf,f->n", x, b),
    "einsum of columns": lambda x, b: np.einsum("nf,f->f", x, b) / len(x),
    "vector times matrix": lambda x, b: (x[:, 0] @ (x * b)) / len(x),
    "dot": lambda x, b: (x[:, 0] @ (x * b)[:, 1]) / len(x),
    "cumsum": lambda x, b: np.cumsum(x * b, axis=0)[-1] / len(x),
    "bias and relu": lambda x, b: biased(x, b, ng.relu),
    "bias and elu": lambda x, b: biased(x, b, ng.elu),
    "bias and gelu": lambda x, b: biased(x, b, ng.gelu),
    "bias and softplus": lambda x, b: biased(x, b, ng.softplus),
    "captured in a message": lambda x, b: ng.apply_edges(blocks(len(x)), lambda e: e.x * b, e={"x": x}),
}


@pytest.mark.parametrize("name", SHARED)
def test_gradients_of_what_every_row_shares(name):
    b = np.array([0.1, 0.2, 0.4], np.float32)
    with ng.Tape() as tape:
        t = tape.watch(b)
        loss = np.mean(SHARED[name](EQUAL, t))
    few = EQUAL[:12].astype(np.float64)
    (want,) = differences(lambda b: np.mean(SHARED[name](few, b)), [b])
    rtol = (
        2e-5 if name in ("matmul", "matrix", "vector times matrix", "dot", "einsum") else 2e-6
    )  # of BLAS's own order
    np.testing.assert_allclose(tape.gradient(loss, t), want, rtol=rtol, atol=1e-7)


def test_batch_norm_of_many_rows():
    rng = np.random.default_rng(1)
    x = (np.array([100, 1e4, 0, -3]) + rng.normal(size=(ROWS, 4)) * [0, 0.1, 400, 1]).astype(np.float32)
    wide, norm = x.astype(np.float64), ng.nn.BatchNorm(4, momentum=1.0)
    y = np.asarray(norm(x))
    np.testing.assert_allclose(norm.running_mean, wide.mean(0), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(norm.running_var, wide.var(0, ddof=1), rtol=1e-5)
    assert norm.running_var[0] == 0
    np.testing.assert_allclose(y, (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-5), rtol=1e-4, atol=1e-5)


def test_normalised_rows_with_a_large_mean():
    x = (1e4 + np.random.default_rng(2).normal(size=(5000, 64)) / 10).astype(np.float32)
    wide = x.astype(np.float64)
    want = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    for rows in (x, x[:50]):  # with a kernel and without
        np.testing.assert_allclose(ng.layer_norm(rows), want[: len(rows)], rtol=1e-4, atol=1e-4)


def test_unbroadcast_keeps_the_axes_of_length_one():
    x = RNG.normal(size=(300, 5, 7)).astype(np.float32)
    for shape in ((300, 5, 7), (5, 7), (7,), (), (1, 5, 1), (300, 1, 7), (1, 1, 1), (1, 7)):
        made = unbroadcast(x, shape)
        axes = tuple(i for i in range(3) if i < 3 - len(shape) or (shape[i - 3 + len(shape)] == 1))
        np.testing.assert_allclose(made, x.astype(np.float64).sum(axes).reshape(shape), rtol=1e-5, atol=1e-5)
        assert made.dtype == np.float32
    for shape in ((3,), (1, 3), (0, 3)):
        np.testing.assert_array_equal(unbroadcast(np.zeros((0, 3), np.float32), shape), np.zeros(shape))
