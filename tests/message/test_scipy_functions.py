"""Functions of scipy.special in messages: SciPy's values, at the ends of their ranges too, and derivatives of
both orders.
"""

from __future__ import annotations

import numpy as np
import pytest
from checks import check_gradient
from scipy import special

import numgraph as ng
from numgraph.expressions import elementary

UNARY = ("expit", "log_expit", "softplus", "erf", "exp2", "expm1", "cbrt")
SHARES = ("logit", "log1p")
"""Of numbers between 0 and 1."""


def message(u, v):
    of_all = [getattr(special, name)(u.x) for name in UNARY]
    of_shares = [getattr(special, name)(v.p) for name in SHARES]
    return np.stack([*of_all, *of_shares, special.xlogy(v.p, v.q), special.xlog1py(v.p, v.q)])


def both(x, p, q):
    n = np.arange(len(x))
    return ng.apply_edges(ng.Graph(n, n), message, u={"x": x}, v={"p": p, "q": q})


def test_the_table_is_what_is_tested() -> None:
    assert elementary.SCIPY.keys() == {*UNARY, *SHARES, "xlogy", "xlog1py"}


def test_values() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [[0.0, 1e-300, 30.0, -30.0, 700.0, -700.0, np.inf, -np.inf, np.nan], rng.uniform(-8, 8, 91)]
    )
    p = np.concatenate([[0.0, 1.0, 1e-300, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5], rng.uniform(0, 1, 91)])
    q = np.concatenate([[0.0, 0.0, 3.0, np.inf, 2.0, np.nan, -1.0, -2.0, np.nan], rng.uniform(0, 9, 91)])
    with np.errstate(all="ignore"):
        want = [getattr(special, name)(x) for name in UNARY] + [getattr(special, name)(p) for name in SHARES]
        want += [special.xlogy(p, q), special.xlog1py(p, q)]
    for name, got, wanted in zip((*UNARY, *SHARES, "xlogy", "xlog1py"), both(x, p, q).T, want, strict=True):
        np.testing.assert_allclose(
            got, wanted, rtol=2e-15, atol=5e-16 if name == "logit" else 1e-320, err_msg=name
        )


def test_derivatives() -> None:
    rng = np.random.default_rng(1)
    check_gradient(
        both, [rng.uniform(0.4, 2, 3), rng.uniform(0.2, 0.8, 3), rng.uniform(0.5, 2, 3)], order=2, rtol=1e-5
    )


def test_derivatives_by_a_factor_of_zero() -> None:
    """As of p · log q by p, which is log q wherever p is."""

    def logarithms(p, q):
        n = np.arange(len(p))
        fields = {"p": p, "q": q}
        values = ng.apply_edges(
            ng.Graph(n, n), lambda v: np.stack([special.xlogy(v.p, v.q), special.xlog1py(v.p, v.q)]), v=fields
        )
        return values.sum()

    p, q = np.array([0.0, 0.3, 0.0]), np.array([2.0, 0.4, 0.5])
    check_gradient(logarithms, [p, q])
    none = ng.grad(logarithms)(np.zeros(2), np.array([-1.0, np.inf]))
    np.testing.assert_array_equal(none, 0)


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.bool_])
def test_dtypes_are_those_of_scipy(dtype) -> None:
    x = np.ones((4, 3), dtype)
    names = [name for name in elementary.SCIPY if name != "softplus"]  # which is no ufunc there
    with np.errstate(all="ignore"):
        want = [getattr(special, name)(*[x] * getattr(special, name).nin).dtype for name in names]

    def found(name):
        function = getattr(special, name)
        kept = []

        def message(u):
            kept.append(function(*[u.x] * function.nin))
            return u.x

        ng.apply_edges(ng.Graph([0], [1]), message, u={"x": x[:2]})
        return kept[0].dtype

    assert [found(name) for name in names] == want


@pytest.mark.parametrize("name", ["xlogy", "xlog1py"])
def test_gradients_of_tensors_are_those_of_messages(name) -> None:
    """Where the factor is 0, and the logarithm is infinite or none, too."""
    function, n = getattr(special, name), np.arange(6)
    a, b = np.array([0.0, 0.0, 0.0, 0.0, 2.0, 0.5]), np.array([0.0, -1.0, 1.5, np.inf, 1.0, 3.0])

    def by_message(a, b):
        return ng.apply_edges(ng.Graph(n, n), lambda u: function(u.a, u.b), u={"a": a, "b": b}).sum()

    want = ng.grad(by_message, (0, 1))(a, b)
    for got, wanted in zip(ng.grad(lambda a, b: function(a, b).sum(), (0, 1))(a, b), want, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-15)
    check_gradient(lambda a, b: function(a, b).sum(), [a[4:], b[4:]], order=2, rtol=1e-5)


def test_others_are_refused_by_name() -> None:
    said = (
        r"gammaln cannot be part of a message; of scipy.special it has expit.*y = gammaln\(x\).* u=\{'y': y\}"
    )
    with pytest.raises(TypeError, match=said):
        ng.update_all(ng.Graph([0], [0]), lambda u: special.gammaln(u.x), "sum", u={"x": np.ones((1, 3))})
