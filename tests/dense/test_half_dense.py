"""Dense functions of float16 and bfloat16: computed in float32 and rounded once, forward and backward; of
integers as of floats.
"""

from __future__ import annotations

import numpy as np
import pytest

import numgraph as ng
from numgraph.autodiff.tape import unwrap

try:
    from ml_dtypes import bfloat16
except ModuleNotFoundError:
    bfloat16 = None
missing = pytest.mark.skipif(bfloat16 is None, reason="ml_dtypes is not installed")
DTYPES = [pytest.param(np.float16, id="float16"), pytest.param(bfloat16, id="bfloat16", marks=missing)]
LABELS = np.arange(300) % 7

# Functions of [rows, features], whose gradient is rounded once too.
ONCE = {
    "softmax": ng.softmax,
    "softmax over rows": lambda x: ng.softmax(x, axis=0),
    "log_softmax": ng.log_softmax,
    "logsumexp": ng.logsumexp,
    "logsumexp of rows": lambda x: ng.logsumexp(x, axis=1),
    "cross_entropy": lambda x: ng.cross_entropy(x, LABELS[: len(x)]),
    "cross_entropy of rows": lambda x: ng.cross_entropy(x, LABELS[: len(x)], [0, 2, 2, 5]),
    "mse": lambda x: ng.mse(x, np.ones(x.shape, x.dtype)),
    "mse of whole numbers": lambda x: ng.mse(x, np.ones(x.shape, np.uint8)),
    "binary_cross_entropy": lambda x: ng.binary_cross_entropy_with_logits(
        x, LABELS[: len(x), None] > np.arange(x.shape[1])
    ),
    "layer_norm": ng.layer_norm,
    "batch_norm": ng.batch_norm,
    "sum": lambda x: np.sum(x, axis=1),
    "sum over rows": lambda x: np.sum(x, axis=0),
    "mean": np.mean,
    "mean over rows": lambda x: np.mean(x, axis=0),
    "var": lambda x: np.var(x, axis=1),
    "var over rows": lambda x: np.var(x, axis=0, ddof=1),
    "std": lambda x: np.std(x, axis=0),
    "cumsum": lambda x: np.cumsum(x, axis=0),
    "prod": lambda x: np.prod(x, axis=1),
    "max": lambda x: np.max(x, axis=1),
    "norm": np.linalg.norm,
    "norm of rows": lambda x: np.linalg.norm(x, axis=1),
    "norm of third powers": lambda x: np.linalg.norm(x, 3, axis=1),
    "norm of matrices": lambda x: np.linalg.norm(x.reshape(6, 4, 7), 1, axis=(1, 2)),
    "average": lambda x: np.average(x, axis=0, weights=np.arange(len(x)).astype(x.dtype)),
    "matmul": lambda x: x @ (np.arange(x.shape[1] * 2) % 3 - 1).reshape(-1, 2).astype(x.dtype),
    "stack": lambda x: np.matmul(x.reshape(4, -1, x.shape[1]), np.ones((x.shape[1], 2), x.dtype)),
    "einsum": lambda x: ng.dense.einsum("nf,f->n", x, np.ones(x.shape[1], x.dtype)),
    "gather": lambda x: ng.gather(x, np.zeros(3000, np.int8)),
    "scatter_add": lambda x: ng.scatter_add(x, LABELS[: len(x)].astype(np.uint16) % 2, 2),
}


def near(got, want, dtype, units=2):
    """Within a few spacings of the dtype at the largest number, and of float16's smallest one."""
    got, want = np.asarray(unwrap(got)).astype(np.float64), np.asarray(want, np.float64)
    spacing = 2.0**-7 if dtype is bfloat16 else 2.0**-10
    np.testing.assert_allclose(
        got, want, atol=units * spacing * np.abs(want).max(initial=0) + 2.0**-24, rtol=0
    )


def value_and_gradient(f, x):
    with ng.Tape() as tape:
        t = tape.watch(x)
        y = f(t)
        loss = np.sum(y.astype(np.float64 if x.dtype == np.float64 else np.float32) * weights(y.shape))
    return y.data, tape.gradient(loss, t)


def weights(shape):
    """Signs, which every dtype has exactly."""
    return np.where(np.arange(int(np.prod(shape))) % 3 == 1, -1, 1).reshape(shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ONCE)
def test_values_and_gradients(name, dtype):
    f, rng = ONCE[name], np.random.default_rng(0)
    x = rng.uniform(0.5, 1.5, (24, 7)).astype(dtype)
    x[rng.permutation(24)[:5]] *= np.array(-1, dtype)
    wide = x.astype(np.float64)
    want, slope = value_and_gradient(f, wide)
    got, d = value_and_gradient(f, x)
    assert got.dtype == np.dtype(dtype)
    assert d.dtype == np.dtype(dtype)
    near(got, want, dtype)
    near(d, slope, dtype)
    plain = f(x)
    if isinstance(plain, np.ndarray) and name not in NUMPYS:
        np.testing.assert_array_equal(plain, got)


NUMPYS = {
    name
    for name in ONCE
    if name.startswith(
        ("sum", "mean", "var", "std", "cumsum", "prod", "max", "norm", "average", "matmul", "stack", "einsum")
    )
}
"""Of plain arrays these are NumPy's."""

LONG = {
    "softmax": lambda x: ng.softmax(x[:, :1].T)[0, :5],
    "logsumexp": lambda x: ng.logsumexp(x, axis=0),
    "cross_entropy": lambda x: ng.cross_entropy(x, np.zeros(len(x), np.uint8)),
    "mse": lambda x: ng.mse(x, np.zeros(x.shape, x.dtype)),
    "binary_cross_entropy": lambda x: ng.binary_cross_entropy_with_logits(x, np.zeros(x.shape, bool)),
    "mean": np.mean,
    "mean over rows": lambda x: np.mean(x, axis=0),
    "var": np.var,
    "std": lambda x: np.std(x, axis=0),
    "batch_norm": lambda x: ng.batch_norm(x)[:5],
    "max": lambda x: np.max(x * 0, axis=0),
    "bias": lambda x: np.mean(x * 0 + x[0], axis=0),
    "matmul": lambda x: x.T @ np.full((len(x), 1), 1e-3).astype(x.dtype),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LONG)
def test_more_elements_than_float16_counts(name, dtype):
    x = np.random.default_rng(1).choice([0.5, 1.0, 1.5], (70_000, 2)).astype(dtype)
    want, slope = value_and_gradient(LONG[name], x.astype(np.float64))
    got, d = value_and_gradient(LONG[name], x)
    near(got, want, dtype)
    near(d, slope, dtype, units=4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_numbers(dtype):
    """Squares beyond float16's range: standard deviations of 400 and of 30,000."""
    rng = np.random.default_rng(2)
    for scale in (400, 25_000):
        x = np.clip(rng.normal(size=(64, 6)) * scale, -60_000, 60_000).astype(dtype)
        wide, norm = x.astype(np.float64), ng.nn.BatchNorm(6, dtype=dtype, momentum=1.0)
        assert norm.running_var.dtype == np.float32
        near(norm(x), (wide - wide.mean(0)) / wide.std(0), dtype)
        np.testing.assert_allclose(norm.running_var, wide.var(0, ddof=1), rtol=1e-5)
        near(ng.layer_norm(x), (wide - wide.mean(1, keepdims=True)) / wide.std(1, keepdims=True), dtype)
        t = ng.Tensor(x)
        near(np.mean(t, axis=0), wide.mean(0), dtype)
        near(np.std(t, axis=0), wide.std(0), dtype)
        near(ng.logsumexp(t, axis=1), wide.max(1), dtype)


# Whole numbers.

WHOLE = [np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
OF_WHOLE = {
    **{
        name: ONCE[name]
        for name in (
            "softmax",
            "log_softmax",
            "logsumexp",
            "logsumexp of rows",
            "cross_entropy",
            "layer_norm",
            "batch_norm",
        )
    },
    "softmax over rows": lambda x: ng.softmax(x, axis=0),
    "mse": lambda x: ng.mse(x, x[::-1]),
    "mse of floats": lambda x: ng.mse(x, np.full(x.shape, 0.5)),
    "mse against": lambda x: ng.mse(np.full(x.shape, 0.5), x),
    "mse of one dtype": lambda x: ng.mse(x[:3], np.full((3, x.shape[1]), 2, np.uint8)),
    "binary_cross_entropy": lambda x: ng.binary_cross_entropy_with_logits(x, np.ones(x.shape, bool)),
    "batch_norm, trained": lambda x: ng.batch_norm(
        x, None, None, np.full(7, 2.0), np.full(7, 3.0), training=False
    ),
    "dropout": lambda x: ng.dropout(x, 0.5, np.random.default_rng(0)),
    "softplus": ng.softplus,
    "elu": ng.elu,
    "gelu": ng.gelu,
    "leaky_relu": ng.leaky_relu,
}


@pytest.mark.parametrize("dtype", WHOLE, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("name", OF_WHOLE)
@pytest.mark.parametrize("rows", [9, 6000], ids=["few", "many"])
def test_whole_numbers_are_floats(name, dtype, rows):
    low, high = (0, 2) if dtype is np.bool_ else (0 if np.dtype(dtype).kind == "u" else -9, 10)
    x = np.random.default_rng(0).integers(low, high, (rows, 7)).astype(dtype)
    f = (
        OF_WHOLE[name]
        if rows == 9 or name != "cross_entropy"
        else (lambda x: ng.cross_entropy(x, np.resize(LABELS, len(x))))
    )
    got, want = f(x), f(x.astype(np.float64))
    np.testing.assert_allclose(
        got, want, rtol=5e-3 if np.asarray(got).dtype == np.float16 else 1e-6, atol=1e-6
    )


@pytest.mark.parametrize("dtype", WHOLE, ids=lambda d: np.dtype(d).name)
def test_labels_and_rows_of_every_dtype(dtype):
    x = np.random.default_rng(0).normal(size=(4, 3))
    labels = np.array([0, 1, 1, 0])
    want = ng.cross_entropy(x, labels)
    np.testing.assert_allclose(ng.cross_entropy(x, labels.astype(dtype)), want)
    if dtype is not np.bool_:
        np.testing.assert_allclose(
            ng.cross_entropy(x, labels, np.array([3, 1], dtype)), ng.cross_entropy(x[[3, 1]], labels[[3, 1]])
        )
        with pytest.raises(ValueError, match="mask as booleans"):
            ng.cross_entropy(x, labels, np.array([0, 1, 1, 0], dtype))
    else:
        np.testing.assert_allclose(
            ng.cross_entropy(x, labels, labels.astype(bool)), ng.cross_entropy(x[1:3], labels[1:3])
        )
    with pytest.raises(ValueError, match="no rows are chosen"):
        ng.cross_entropy(x, labels, [])
