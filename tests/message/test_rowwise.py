"""Functions of rows as one kernel: the same numbers as NumPy's, the same derivatives of every order, whatever
the rows look like.
"""

from __future__ import annotations

import numba
import numpy as np
import pytest
from checks import check_float32, check_gradient

import numgraph as ng
from numgraph.autodiff.tape import Tape, Tensor
from numgraph.compiler import rows
from numgraph.dense.activations import biased
from numgraph.expressions import elementary
from numgraph.message import rowwise

RNG = np.random.default_rng(0)
LABELS = np.array([2, 0, 1, 2, 1])


def away(*shape):
    """No value within 0.3 of 0."""
    values = RNG.uniform(0.3, 2.0, shape) * RNG.choice([-1.0, 1.0], shape)
    return values


@pytest.fixture
def always(monkeypatch):
    """Kernels for arrays of any size."""
    monkeypatch.setattr(rows, "LARGE", 1)


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


# The function, and its value by plain NumPy.
CASES = {
    "relu": (ng.relu, lambda x: np.maximum(x, 0)),
    "leaky_relu": (lambda x: ng.leaky_relu(x, 0.2), lambda x: np.maximum(x, 0.2 * x)),
    "elu": (lambda x: ng.elu(x, 1.5), lambda x: np.where(x > 0, x, 1.5 * np.expm1(np.minimum(x, 0)))),
    "gelu": (ng.gelu, lambda x: elementary.gelu(x)),
    "silu": (ng.silu, lambda x: x / (1 + np.exp(-x))),
    "softplus": (ng.softplus, lambda x: np.log1p(np.exp(x))),
    "softmax": (ng.softmax, lambda x: np.exp(log_softmax(x))),
    "log_softmax": (ng.log_softmax, log_softmax),
    "cross_entropy": (
        lambda x: ng.cross_entropy(x, LABELS),
        lambda x: -log_softmax(x)[np.arange(5), LABELS].mean(),
    ),
    "cross_entropy of rows": (
        lambda x: ng.cross_entropy(x, LABELS, [3, 0, 3]),
        lambda x: -log_softmax(x)[[3, 0, 3], [2, 2, 2]].mean(),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name, always):
    function, formula = CASES[name]
    x = away(5, 3)
    np.testing.assert_allclose(function(x), formula(x), rtol=1e-13)
    np.testing.assert_array_equal(function(Tensor(x)).data, function(x))
    check_gradient(function, [x], order=2)
    check_float32(function, [x])


@pytest.mark.parametrize("name", CASES)
def test_derivatives_of_the_function_without_a_kernel_agree(name, monkeypatch):
    x = away(5, 3)
    found = []
    for size in (1, rows.LARGE):
        monkeypatch.setattr(rows, "LARGE", size)
        with Tape() as tape:
            watched = tape.watch(x)
            loss = (CASES[name][0](watched) ** 2).sum()
        found.append(tape.gradient(loss, watched))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12, atol=1e-14)


ACTIVATIONS = [None, ng.relu, ng.leaky_relu, ng.elu, ng.gelu, ng.silu, ng.softplus, np.tanh, lambda x: x * x]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_bias_and_activation(activation, always):
    x, b = away(5, 3), RNG.normal(size=3) / 10
    want = x + b if activation is None else activation(x + b)
    np.testing.assert_allclose(biased(x, b, activation), want, rtol=1e-14)
    np.testing.assert_allclose(
        biased(x, None, activation), x if activation is None else activation(x), rtol=1e-14
    )
    check_gradient(lambda x, b: biased(x, b, activation), [x, b], order=2)


@pytest.mark.parametrize("activation", ACTIVATIONS[1:])
@pytest.mark.parametrize(
    "kind", [ng.nn.GCNConv, ng.nn.SAGEConv, ng.nn.GATConv, ng.nn.GATv2Conv, ng.nn.GINConv]
)
def test_layers_apply_their_activation_last(kind, activation):
    g, x = ng.Graph([0, 1, 2, 2], [1, 2, 0, 1]), away(3, 4).astype(np.float32)
    sizes = (ng.nn.MLP([4, 5, 3], rng=0),) if kind is ng.nn.GINConv else (4, 3)
    rng = {} if kind is ng.nn.GINConv else {"rng": 0}
    plain, active = kind(*sizes, **rng), kind(*sizes, **rng, activation=activation)
    np.testing.assert_allclose(active(g, x), activation(plain(g, x)), rtol=1e-6, atol=1e-7)


def test_shared_operands_get_the_sum_over_all_rows(always):
    def function(x, y, w, b):
        return rowwise.apply("test", lambda x, y, w, b: np.exp(x * w) * y + b, (x, y), (w, b))

    arrays = [away(7, 3), away(7, 1), away(3), away()]
    np.testing.assert_allclose(
        function(*arrays), np.exp(arrays[0] * arrays[2]) * arrays[1] + arrays[3], rtol=1e-13
    )
    check_gradient(function, arrays, order=2)


def test_several_results(always):
    function = lambda x: rowwise.apply("test", lambda x: (x * x, np.sum(x, axis=-1, keepdims=True)), (x,))
    x = away(4, 3)
    square, total = function(x)
    np.testing.assert_array_equal(square, x * x)
    np.testing.assert_allclose(total, x.sum(-1, keepdims=True), rtol=1e-14)
    check_gradient(function, [x], order=2)


def test_constants_become_part_of_the_kernel(always):
    x = away(50, 4)
    for slope in (0.1, 0.3, 2, 0.1):
        np.testing.assert_allclose(ng.leaky_relu(x, slope), np.where(x > 0, x, x * slope), rtol=1e-15)
        np.testing.assert_allclose(
            ng.elu(x, slope), np.where(x > 0, x, slope * np.expm1(np.minimum(x, 0))), rtol=1e-14
        )


SPECIAL = np.array(
    [
        [np.nan, 1, -1],
        [np.inf, 1, 2],
        [-np.inf, 0.0, -0.0],
        [-np.inf, -np.inf, -np.inf],
        [1e30, -1e30, 1e-40],
    ],
    np.float32,
)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "silu", "softplus", "softmax", "log_softmax"])
def test_nan_and_infinity_are_those_of_numpy(name, monkeypatch):
    with np.errstate(all="ignore"):
        want = CASES[name][0](SPECIAL)
        monkeypatch.setattr(rows, "LARGE", 1)
        np.testing.assert_allclose(CASES[name][0](SPECIAL), want, rtol=1e-6, atol=1e-37)


LAYOUTS = {
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "every second column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "columns of a wider array": lambda x: np.concatenate([x, x], axis=1)[:, : x.shape[1]],
    "reversed": lambda x: x[::-1].copy()[::-1],
    "Fortran order": np.asfortranarray,
    "one row for all": lambda x: np.broadcast_to(x[:1], x.shape),
    "big endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_of_memory(layout):
    x = LAYOUTS[layout](RNG.standard_normal((1300, 60), np.float32))
    x.flags.writeable = False
    np.testing.assert_array_equal(ng.relu(x), np.maximum(x, 0))
    with Tape() as tape:
        watched = tape.watch(x)
        loss = (ng.relu(watched) * 2).sum()
    np.testing.assert_array_equal(tape.gradient(loss, watched), np.where(x > 0, 2, 0))


def test_what_runs_as_a_kernel():
    assert rows.is_large(np.zeros((1 << 10, 1 << 6), np.float32))
    for x in (
        np.zeros((1 << 8, 1 << 6), np.float32),  # small
        np.zeros(1 << 16, np.float32),  # rows without features
        np.zeros((1 << 10, 1 << 6), np.float16),  # NumPy rounds it after every operation
        np.zeros((1 << 10, 1 << 6), np.int64),
        np.zeros((0, 1 << 16)),
    ):
        assert not rows.is_large(x)
        np.testing.assert_array_equal(ng.relu(x), np.maximum(x, 0))
        assert ng.relu(x).dtype == x.dtype


def column_sums(x, b):
    with Tape() as tape:
        watched = tape.watch(b)
        loss = (rowwise.apply("test", lambda x, b: np.tanh(x) * b, (x,), (watched,)) * 3).sum()
    return tape.gradient(loss, watched)


def test_bits_do_not_depend_on_the_threads():
    x, b = RNG.standard_normal((40_000, 40), np.float32), np.ones(40, np.float32)
    several = column_sums(x, b)
    np.testing.assert_allclose(several, 3 * np.tanh(x.astype(np.float64)).sum(0), rtol=1e-4, atol=0.05)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        np.testing.assert_array_equal(column_sums(x, b), several)
    finally:
        numba.set_num_threads(threads)


def test_a_wrong_label_is_seen_before_the_kernel():
    with pytest.raises(IndexError, match=r"labels\[7\] is 64, logits have 64 classes"):
        ng.cross_entropy(np.zeros((1 << 10, 64), np.float32), np.where(np.arange(1 << 10) == 7, 64, 0))
