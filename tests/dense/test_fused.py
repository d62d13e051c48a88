"""Sums and means of elementwise expressions in one pass: what they are, and where operators compute at once
as ever.
"""

from __future__ import annotations

import tracemalloc
from unittest import mock

import numpy as np
import pytest
import scipy.sparse as sp
from checks import check_gradient

import numgraph as ng
from numgraph.dense import blocks

RNG = np.random.default_rng(5)
A, B, C = (RNG.uniform(0.5, 1.5, (40, 3, 16)) for _ in range(3))


@pytest.fixture(autouse=True)
def _all_arrays_are_large(monkeypatch):
    monkeypatch.setattr(blocks, "LARGE", 1)


FUSED = {
    "product": (lambda a, b, c: (a * b).sum(), lambda a, b, c: np.sum(a * b)),
    "squares": (lambda a, b, c: ((a - b) ** 2).mean(), lambda a, b, c: np.mean((a - b) ** 2)),
    "chain": (lambda a, b, c: (np.tanh(a) * b - c * 2).sum(), lambda a, b, c: np.sum(np.tanh(a) * b - c * 2)),
    "from the right": (lambda a, b, c: (1.5 / (c + a * b)).sum(), lambda a, b, c: np.sum(1.5 / (c + a * b))),
    "passed on": (lambda a, b, c: (a + b).sum(), lambda a, b, c: np.sum(a + b)),
    "function": (lambda a, b, c: np.exp(a).sum(), lambda a, b, c: np.sum(np.exp(a))),
    "one twice": (lambda a, b, c: (a * a + a).mean(), lambda a, b, c: np.mean(a * a + a)),
}


def recorded(function, *arrays):
    """The names of the records, the value, and the gradients."""
    with ng.Tape() as tape:
        tensors = [tape.watch(x) for x in arrays]
        loss = function(*tensors)
    names = [line.split()[1] for line in tape.explain().splitlines()]
    return names, loss.data, tape.gradient(loss, tensors)


@pytest.mark.parametrize("name", FUSED)
def test_one_record(name):
    fused, plain = FUSED[name]
    names, value, grads = recorded(fused, A, B, C)
    assert names == ["mean" if "mean" in fused.__code__.co_names else "sum"]
    np.testing.assert_allclose(value, plain(A, B, C), rtol=1e-13)
    with mock.patch("numgraph.dense.fused.is_summed", return_value=False):
        others, _, want = recorded(fused, A, B, C)
    assert len(others) > 1
    for got, one in zip(grads, want, strict=True):
        np.testing.assert_allclose(got, one, rtol=1e-12, atol=1e-12)
        assert got.flags.writeable
    names, value, grads = recorded(fused, *(x.astype(np.float32) for x in (A, B, C)))
    assert len(names) == 1
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, plain(A, B, C), rtol=1e-6)
    for got, one in zip(grads, want, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, one, rtol=2e-5, atol=1e-6)


BESIDE = {
    "in a tuple": lambda a, b: (a * b, b.sum())[0],
    "in a list": lambda a, b: [a * b, (a - b).sum()][0],
    "in a dict": lambda a, b: {"product": a * b, "sum": b.sum()}["product"],
    "an argument": lambda a, b: (lambda x, y: x)(a * b, b.sum()),
    "plus a sum": lambda a, b: a * b + b.sum(),
    "two sums": lambda a, b: ((a * b).sum(), a * b, (a * b).mean())[1],
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_stands_beside_a_sum_is_computed(name):
    """The sum that follows is another value's."""
    with ng.Tape() as tape:
        found = BESIDE[name](tape.watch(A), tape.watch(B))
    assert type(found) is ng.Tensor
    np.testing.assert_array_equal(found.data, A * B + (B.sum() if name == "plus a sum" else 0))


def test_what_reads_it_as_an_array_gets_its_values():
    class Foreign:
        def __add__(self, other):
            return np.asarray(other) + len(other) + sum(1 for _ in other)

    with ng.Tape() as tape:
        a, b, other = tape.watch(A), B, Foreign()
        found = (other + a.detach() * b).sum()
    np.testing.assert_allclose(found, (A * B + 80).sum(), rtol=1e-12)


class Foreign:
    """Adds what it is given itself, and keeps its type."""

    __array_ufunc__ = None

    def __radd__(self, other):
        self.given = type(other)
        return other + 1.0


def with_rows(function, a, b):
    """Of two Tensors of 40 rows."""
    return function(a.reshape(40, 48)[:, :16].copy(), b.reshape(40, 48)[:, :16].copy())


MATRIX, SPARSE = np.ones((2, 3)), sp.eye_array(40, format="csr") * 2.0
OPERANDS = {
    "fewer axes to the left": lambda a, b: (b[0] + a * b).sum(),
    "an array to the left": lambda a, b: (B[0] - a * b).mean(),
    "a matrix to the left": lambda a, b: (MATRIX @ (a * b)).sum(),
    "a Tensor's product": lambda a, b: with_rows(lambda x, y: (x.T @ (x * y)).sum(), a, b),
    "a sparse product": lambda a, b: with_rows(lambda x, y: (SPARSE @ (x * y)).sum(), a, b),
    "an object": lambda a, b: (a * b + Foreign()).sum(),
    "a list": lambda a, b: (a * b + B.tolist()).sum(),
}


@pytest.mark.parametrize("name", OPERANDS)
def test_what_is_no_row_beside_it_meets_its_value(name):
    _, value, grads = recorded(OPERANDS[name], A, B)
    with mock.patch("numgraph.dense.fused.is_summed", return_value=False):
        _, want, want_grads = recorded(OPERANDS[name], A, B)
    np.testing.assert_allclose(value, want, rtol=1e-13)
    for got, one in zip(grads, want_grads, strict=True):
        np.testing.assert_allclose(got, one, rtol=1e-12, atol=1e-12)


def test_an_object_gets_a_tensor():
    foreign = Foreign()
    with ng.Tape() as tape:
        a = tape.watch(A)
        (a * B + foreign).sum()
    assert foreign.given is ng.Tensor


def test_an_object_to_the_left_gets_a_tensor():
    """Wherever it comes from; beside it numbers, arrays and attributes are still summed in one pass."""

    class Left:
        __array_ufunc__ = None

        def __add__(self, other):
            given.append(type(other))
            return other + 1.0

    given, one = [], Left()
    one.inner = {"left": one}
    one.weight = B
    with ng.Tape() as tape:
        a = tape.watch(A)
        found = [
            (one + a * B).sum(),
            (one.inner["left"] + a * B).sum(),
            (2.0 - (Left() + a * B)).sum(),
            (one.weight * (a * B)).sum(),
        ]
    assert given == [ng.Tensor] * 3
    assert tape.explain().splitlines()[-1].split()[1] == "sum"
    assert tape.explain().count("multiply") == 3
    want = [(A * B + 1).sum()] * 2 + [(1 - A * B).sum(), (A * B * B).sum()]
    np.testing.assert_allclose(np.stack(found), want, rtol=1e-12)


def test_elements_of_an_array_of_objects_are_tensors():
    class Holder:
        pass

    with ng.Tape() as tape:
        many, holder = np.empty(1, object), Holder()
        many[0] = holder.many = tape.watch(A)
        holder.many = many
        found = [(many * 2.0).sum(), (holder.many * 2.0).sum(), (1.0 + many).sum()]
    assert {type(one) for one in found} == {ng.Tensor}


@pytest.mark.parametrize("name", ["chain", "from the right"])
def test_second_order(name):
    check_gradient(FUSED[name][0], [x[:4, :1].copy() for x in (A, B, C)], order=2, rtol=1e-5)


def kept(a, b):
    y = a * b
    return y.sum()


def changed(a, b):
    y = a * b
    y.data[0] = 0
    return y.sum()


AT_ONCE = {
    "a name": kept,
    "written in between": changed,
    "axes": lambda a, b: (a * b).sum(0).sum(),
    "keepdims": lambda a, b: (a * b).sum(keepdims=True).sum(),
    "np.sum": lambda a, b: np.sum(a * b),
    "a function in between": lambda a, b: np.abs(a * b).sum(),
    "broadcast": lambda a, b: (a * b[:, :1]).sum(),
    "dtypes": lambda a, b: (a * b.astype(np.float32)).sum(),
}


@pytest.mark.parametrize("name", AT_ONCE)
def test_at_once(name):
    names, value, _ = recorded(AT_ONCE[name], A, B)
    assert "multiply" in names
    with mock.patch("numgraph.dense.fused.is_summed", return_value=False):
        assert value == recorded(AT_ONCE[name], A, B)[1]


def test_where_numbers_are_looked_at():
    with ng.Tape(check=True) as tape:
        a = tape.watch(A)
        (a * B).sum()
    assert "multiply" in tape.explain()
    a, zeros = ng.Parameter(A), np.zeros_like(A)
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        (a / zeros).sum()
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        (a / zeros).sum()
    told = []
    with np.errstate(divide="call", call=lambda *what: told.append(what)):
        (1 / (a / zeros)).sum()
    assert told


def test_no_product_is_written():
    a, b = np.ones((4096, 64)), np.full((4096, 64), 2.0)
    with ng.Tape() as tape:
        x = tape.watch(a)
        (x * b).sum()  # compiled now
        tracemalloc.start()
        loss = (x * b).sum()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert loss.item() == 2.0 * a.size
    assert peak < a.nbytes / 4


def test_parameters_without_a_tape():
    assert (ng.Parameter(A) * B).sum() == pytest.approx(np.sum(A * B), rel=1e-13)
    with ng.no_grad():
        assert (ng.Parameter(A) * B).mean() == pytest.approx(np.mean(A * B), rel=1e-13)
