"""grad, value_and_grad, jacobian, no_grad, detach: what people know from other libraries, in every
nesting.
"""

from __future__ import annotations

import doctest
import importlib
from collections import namedtuple

import numpy as np
import pytest

import numgraph as ng

X, Y = np.array([0.5, -1.2, 2.0]), np.array([1.5, 0.3, -0.7])
G = ng.Graph([0, 1, 2, 0], [1, 2, 0, 2], 3)
Pair = namedtuple("Pair", "a b")


def cubic(x, y):
    return np.sum(x**3 * y)


@pytest.mark.parametrize("module", ["autodiff.functional", "autodiff.watching", "profiling"])
def test_examples_in_docstrings(module):
    found = doctest.testmod(importlib.import_module(f"numgraph.{module}"))
    assert found.attempted
    assert not found.failed


def test_grad_by_position():
    np.testing.assert_allclose(ng.grad(cubic)(X, Y), 3 * X**2 * Y)
    np.testing.assert_allclose(ng.grad(cubic, argnums=1)(X, Y), X**3)
    np.testing.assert_allclose(ng.grad(cubic, argnums=-1)(X, Y), X**3)
    first, second = ng.grad(cubic, argnums=(0, 1))(X, Y)
    np.testing.assert_allclose(first, 3 * X**2 * Y)
    np.testing.assert_allclose(second, X**3)
    assert type(ng.grad(cubic)(X, y=Y)) is np.ndarray
    assert ng.grad(cubic)(X.astype(np.float32), Y).dtype == np.float32


def test_the_same_array_twice_is_two_arguments():
    first, second = ng.grad(cubic, (0, 1))(X, X)
    np.testing.assert_allclose(first, 3 * X**3)
    np.testing.assert_allclose(second, X**3)


def test_value_and_aux():
    value, gradient = ng.value_and_grad(cubic)(X, Y)
    np.testing.assert_allclose(value, cubic(X, Y))
    (value, aux), gradient = ng.value_and_grad(
        lambda x: (np.sum(x**2), {"double": x * 2, "n": 3}), has_aux=True
    )(X)
    assert type(value) is type(aux["double"]) is np.ndarray
    assert aux["n"] == 3
    np.testing.assert_allclose(aux["double"], 2 * X)
    gradient, aux = ng.grad(lambda x: (np.sum(x**2), x), has_aux=True)(X)
    np.testing.assert_allclose(gradient, 2 * X)
    np.testing.assert_array_equal(aux, X)


def test_containers_keep_their_form():
    tree = {"w": X, "rest": [Y, (2.0, Pair(X, 3.0))]}

    def loss(t):
        return np.sum(t["w"] * t["rest"][0]) * t["rest"][1][0] + np.sum(t["rest"][1][1].a) * t["rest"][1][1].b

    g = ng.grad(loss)(tree)
    assert type(g["rest"][1][1]) is Pair
    np.testing.assert_allclose(g["w"], Y * 2)
    np.testing.assert_allclose(g["rest"][0], X * 2)
    np.testing.assert_allclose(g["rest"][1][0], np.sum(X * Y))
    np.testing.assert_allclose(g["rest"][1][1].a, [3.0, 3.0, 3.0])
    np.testing.assert_allclose(g["rest"][1][1].b, np.sum(X))


def test_a_model_is_an_argument():
    model = ng.nn.GCN(2, 4, 2, rng=0)
    features = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)

    def loss(model, x):
        return np.sum(model(G, x) ** 2)

    model.eval()
    by_model, by_x = ng.grad(loss, (0, 1))(model, features)
    with ng.Tape() as tape:
        x = tape.watch(features)
        value = loss(model, x)
    want = tape.gradient(value, [x, *model.parameters()])
    np.testing.assert_array_equal(by_x, want[0])
    assert list(by_model) == [name for name, _ in model.named_parameters()]
    for got, one in zip(by_model.values(), want[1:], strict=True):
        np.testing.assert_array_equal(got, one)


def test_nested_to_the_third_order():
    f = ng.grad(ng.grad(ng.grad(lambda x: x**4)))
    np.testing.assert_allclose(f(1.5), 24 * 1.5)
    hessian = ng.jacobian(ng.grad(lambda x: np.sum(x**3) + x[0] * x[1]))(X)
    want = np.diag(6 * X)
    want[0, 1] = want[1, 0] = 1
    np.testing.assert_allclose(hessian, want)
    mixed = ng.grad(lambda x: np.sum(ng.grad(lambda y: np.sum(x**2 * y**2))(Y)))(X)
    np.testing.assert_allclose(mixed, 4 * X * Y)


def test_jacobians():
    a = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(ng.jacobian(lambda x: a @ x)(X), a)
    by_a = ng.jacobian(lambda a: a @ X)(a)
    assert by_a.shape == (2, 2, 3)
    np.testing.assert_allclose(by_a[1], [[0, 0, 0], X])
    both = ng.jacobian(lambda x, y: x * y, argnums=(0, 1))(X, Y)
    np.testing.assert_allclose(both, (np.diag(Y), np.diag(X)))
    assert ng.jacobian(lambda x: x[:0])(X).shape == (0, 3)
    np.testing.assert_array_equal(ng.jacobian(lambda x: np.ones((2, 2)))(X), np.zeros((2, 2, 3)))
    z, aux = ng.jacobian(lambda x: (x**2, x.sum()), has_aux=True)(X)
    np.testing.assert_allclose(z, np.diag(2 * X))
    np.testing.assert_allclose(aux, X.sum())


def test_a_jacobian_of_a_message_is_the_matrix():
    jacobian = ng.jacobian(lambda x: ng.update_all(G, lambda u: u.x, "sum", u={"x": x}))(X)
    want = np.zeros((3, 3))
    np.add.at(want, (G.dst, G.src), 1)
    np.testing.assert_array_equal(jacobian, want)


def test_inside_of_a_tape_the_gradient_is_recorded():
    with ng.Tape() as tape:
        x = tape.watch(X)
        g = ng.grad(lambda z: np.sum(z**3))(x)
        assert type(g) is ng.Tensor
        penalty = np.sum(g**2)
    np.testing.assert_allclose(tape.gradient(penalty, x), 36 * X**3)


def test_what_the_value_does_not_depend_on():
    np.testing.assert_array_equal(ng.grad(lambda x: 3.0)(X), np.zeros(3))
    np.testing.assert_array_equal(ng.grad(lambda x, y: np.sum(y))(X, Y), np.zeros(3))
    np.testing.assert_array_equal(ng.grad(lambda x: np.sum(np.sign(x)))(X), np.zeros(3))


def test_no_grad():
    with ng.Tape() as tape:
        x = tape.watch(X)
        with ng.no_grad():
            scale = np.max(x)
            assert float(scale) == float(np.asarray(scale)) == 2.0  # nothing records: nothing is lost
        loss = np.sum(x / scale)
    np.testing.assert_allclose(tape.gradient(loss, x), np.full(3, 0.5))

    @ng.no_grad()
    def evaluate(p):
        return p * 2

    parameter = ng.Parameter(X)
    with ng.Tape():
        assert type(evaluate(parameter)) is np.ndarray
        assert type(parameter * 2) is ng.Tensor
    with pytest.raises(ZeroDivisionError), ng.Tape(), ng.no_grad():
        1 / 0  # noqa: B018


def test_detach():
    np.testing.assert_allclose(ng.grad(lambda x: np.sum(x * ng.detach(x)))(X), X)
    np.testing.assert_allclose(ng.grad(lambda x: np.sum(x * x.detach()))(X), X)
    np.testing.assert_allclose(ng.grad(ng.grad(lambda x: x**2 * ng.detach(x)))(3.0), 6.0)  # on every tape
    t = ng.Tensor(X)
    assert t.detach().data is X
    assert type(ng.Parameter(X).detach()) is ng.Tensor
    assert ng.detach(X) is X
    tree = ng.detach({"a": [t, 3]})
    assert tree["a"][0].data is X
    assert tree["a"][1] == 3
    np.testing.assert_array_equal(ng.grad(lambda x: np.sum(ng.detach(x)))(X), np.zeros(3))
    message = ng.grad(lambda x: np.sum(ng.update_all(G, lambda u: u.x * ng.detach(u.x), "sum", u={"x": x})))
    np.testing.assert_allclose(message(X), X * G.out_degrees())


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: ng.grad(lambda x: x)(X), r"value has shape \[3\].*ng.jacobian"),
        (lambda: ng.grad(cubic)(3, Y), "^grad: argument 0 has dtype int64.*2.0"),
        (lambda: ng.value_and_grad(lambda x: x)(X), r"^value_and_grad: .*value has shape \[3\]"),
        (lambda: ng.grad(cubic, argnums=2)(X, Y), "argnums is 2, and 2 arguments"),
        (lambda: ng.grad(cubic)(x=X, y=Y), "argnums is 0, and 0 arguments"),
        (lambda: ng.grad(lambda t: t["a"])({"a": "text"}), r"argument 0\['a'\] is a str"),
        (lambda: ng.grad(lambda x: np.sum(x), has_aux=True)(X), "return a pair"),
        (lambda: ng.jacobian(lambda x: (x, x))(X), "return one array"),
    ],
)
def test_errors_say_what_to_do(call, told):
    with pytest.raises((TypeError, ValueError), match=told):
        call()
