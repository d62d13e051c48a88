"""Where a gradient would be lost without a word: complex numbers, other threads, values that are no numbers;
axes that are not there.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from scipy.sparse import csr_array

import numgraph as ng
from numgraph.autodiff.tensor import RECORDING, TAPES

X = np.array([0.5, -1.2, 2.0])
C = np.array([1j, 2, 3])
M = np.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x * 1j,
        lambda x: C + x,
        lambda x: x**1j,
        lambda x: C @ x,
        lambda x: csr_array(np.eye(3) * 1j) @ x,
        lambda x: np.where(X > 0, x, 1j),
        lambda x: np.concatenate([x, C]),
        lambda x: np.stack([x, C]),
        lambda x: np.tensordot(x, C, 1),
        lambda x: np.linalg.solve(np.eye(3) * 1j, x),
        lambda x: np.sum(x, dtype=complex),
        lambda x: np.var(x, dtype=complex),
        lambda x: x.astype(complex),
        lambda x: x.astype(object),
        lambda x: x * Fraction(1, 2),
        lambda x: np.average(x, weights=C),
    ],
)
def test_complex_numbers_and_objects_are_refused_while_a_tape_records(call):
    with pytest.raises(TypeError, match=r"gradient of an argument of shape .* would be lost"):
        ng.grad(lambda x: np.sum(np.abs(call(x))))(X)
    assert not isinstance(call(ng.Tensor(X)), ng.Tensor)  # nothing records: nothing is lost
    assert TAPES.get() == ()
    assert not RECORDING


def test_integers_have_no_gradient_to_lose():
    np.testing.assert_array_equal(ng.grad(lambda x: np.sum(x * x.astype(int)))(X), X.astype(int))


async def coroutine(x):
    return np.sum(x)


def generator(x):
    yield np.sum(x)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (lambda x: None, "value is None"),
        (lambda x: "loss", "value is a str"),
        (lambda x: (np.sum(x),), "value is a tuple.*has_aux=True"),
        (lambda x: [np.sum(x)], "value is a list"),
        (lambda x: {"loss": np.sum(x)}, "value is a dict"),
        (lambda x: 1j, "value has dtype complex128"),
        (generator, "value is a generator"),
        pytest.param(coroutine, "value is a coroutine", marks=pytest.mark.filterwarnings("ignore:coroutine")),
    ],
)
@pytest.mark.parametrize("of", [ng.grad, ng.value_and_grad, ng.jacobian])
def test_a_value_that_is_no_number_is_not_a_constant(of, value, told):
    with pytest.raises(TypeError, match=told):
        of(value)(X)
    assert TAPES.get() == ()


@pytest.mark.parametrize("argnums", [1.0, True, (0, 0), (0, -2), "x", {0}])
def test_argnums_are_positions_each_once(argnums):
    with pytest.raises(ValueError, match="argnums is"):
        ng.grad(lambda x, y: np.sum(x * y), argnums=argnums)(X, X)


@pytest.mark.parametrize(
    "part",
    [lambda x, i: np.sum(x * i), lambda x, i: (x**2)[i], lambda x, i: i * ng.nn.Linear(3, 1, rng=0)(x).sum()],
)
def test_threads_that_do_not_know_the_tape(part):
    def with_pool(run):
        with ThreadPoolExecutor(2) as pool:
            return ng.grad(lambda x: sum(pool.map(run(x), [0, 1, 2])) + np.sum(x))(X)

    with pytest.raises(ValueError, match="tape of another thread"):
        with_pool(lambda x: lambda i: part(x, i))
    assert not RECORDING

    def knowing(x):
        contexts = [contextvars.copy_context() for _ in range(3)]
        return lambda i: contexts[i].run(part, x, i)

    alone = ng.grad(lambda x: sum(part(x, i) for i in range(3)) + np.sum(x))(X)
    np.testing.assert_allclose(with_pool(knowing), alone)


def test_threads_may_use_what_needs_no_gradient():
    found = []

    def look(x):
        with ng.no_grad():
            found.append(np.sum(x * 2))
        found.append(np.sum(ng.detach(x)))
        found.append(ng.grad(lambda y: np.sum(y**2))(x.data))

    def loss(x):
        thread = threading.Thread(target=look, args=(x,))
        thread.start()
        thread.join()
        return np.sum(x**3)

    np.testing.assert_allclose(ng.grad(loss)(X), 3 * X**2)
    np.testing.assert_allclose([float(one) for one in found[:2]], [2 * X.sum(), X.sum()])
    np.testing.assert_allclose(found[2], 2 * X)


def test_no_grad_around_a_coroutine_and_within_itself():
    off = ng.no_grad()
    with ng.Tape() as tape:
        x = tape.watch(X)
        with off, off:
            assert not tape.records(x * 2)

        @ng.no_grad()
        async def scale():
            await asyncio.sleep(0)
            return np.max(x)

        loss = np.sum(x * asyncio.run(scale()))
    np.testing.assert_allclose(tape.gradient(loss, x), [2.0, 2.0, 2.0])
    with pytest.raises(TypeError, match="generator is a generator, whose body runs"):
        ng.no_grad()(generator)


@pytest.mark.parametrize("axis", [2, -3])
@pytest.mark.parametrize(
    "call",
    [
        lambda x, a: np.diff(x, axis=a),
        lambda x, a: np.gradient(x, axis=a),
        lambda x, a: np.take(x, [0], axis=a),
        lambda x, a: np.take_along_axis(x, np.zeros((1, 1), int), axis=a),
        lambda x, a: np.quantile(x, 0.5, axis=a),
        lambda x, a: np.nanpercentile(x, 50, axis=(0, a)),
        lambda x, a: np.nanmedian(x, axis=a),
        lambda x, a: np.linalg.norm(x, axis=a),
        lambda x, a: np.linalg.norm(x, axis=(0, a)),
        pytest.param(
            lambda x, a: np.trim_zeros(x, axis=a),
            marks=pytest.mark.skipif(
                "axis" not in inspect.signature(np.trim_zeros).parameters,
                reason="this NumPy's trim_zeros has no axis",
            ),
        ),
        lambda x, a: np.tensordot(x, x, ([a], [0])),
        lambda x, a: np.cumulative_sum(x, axis=a, include_initial=True),
    ],
)
def test_an_axis_that_is_not_there(call, axis):
    for x in (M, ng.Tensor(M)):
        with pytest.raises((np.exceptions.AxisError, IndexError)):
            call(x, axis)


@pytest.mark.parametrize("function", [np.nanmean, np.nanvar, np.nanstd, np.var, np.std])
def test_dtype_is_the_dtype_that_is_computed_in(function):
    x = M.astype(np.float32) + np.float32(1e4)
    y = function(ng.Tensor(x), axis=0, dtype=np.float64)
    np.testing.assert_allclose(y.data, function(x, axis=0, dtype=np.float64), rtol=1e-13)
    assert y.dtype == np.float64
    assert function(ng.Tensor(M), axis=0, dtype=np.float32).dtype == np.float32
    with pytest.raises(TypeError, match="name a floating-point one"):
        function(ng.Tensor(M), axis=0, dtype=int)
    slope = ng.grad(lambda x: np.sum(function(x, axis=0, dtype=np.float64)))(x)
    np.testing.assert_allclose(
        slope, ng.grad(lambda x: np.sum(function(x, axis=0)))(x.astype(np.float64)), rtol=1e-6
    )


def test_differences_and_sums_of_weights_as_numpy_has_them():
    with pytest.raises(ValueError, match="n is -1"):
        np.diff(ng.Tensor(X), -1)
    assert np.average(ng.Tensor(M), axis=0, weights=[1, 2, 3], returned=True)[1].dtype == np.float64
