"""Every dense rule on the device (support/device.py): values, gradients and gradients of gradients equal
those on the host.
"""

from __future__ import annotations

import checks
import numpy as np
import pytest
import scipy.sparse as sp
from device import DeviceArray, asarray, back, device, double_only, synchronised, there
from test_dense import CASES

import numgraph as ng
from numgraph import dense
from numgraph.autodiff.tape import Parameter, Tape, Tensor
from numgraph.expressions import elementary
from numgraph.optim import SGD, Adam

__all__ = ["device"]


def elsewhere(case):
    names = getattr(getattr(case.function, "__code__", None), "co_names", ())
    return bool({"A", "default_rng"} & set(names)) or any(
        map(sp.issparse, getattr(case.function, "__defaults__", None) or ())
    )


ELSEWHERE = [case for case in CASES if elsewhere(case)]
"""SciPy's sparse matrices, which are on the host, and random numbers, which are others on the device: tested
apart.
"""
PLAIN = [case for case in CASES if case not in ELSEWHERE]


def weights_there(shape, seed=7):
    return asarray(_weights(shape, seed))


_weights = checks.weights_like


@pytest.mark.parametrize("case", PLAIN, ids=repr)
def test_dense_rules_on_the_device(device, monkeypatch, case):
    """Value, first and second derivative; nothing on the way is converted to the host, for that raises
    there.
    """
    want = [checks.gradients(case.function, case.arrays), checks.products(case.function, case.arrays)]
    value = case.function(*map(Tensor, case.arrays))
    monkeypatch.setattr(checks, "weights_like", weights_there)
    function = there(case.function)
    got = [run(function, there(list(map(np.asarray, case.arrays)))) for run in (gradients, products)]
    made = function(*map(Tensor, there(list(map(np.asarray, case.arrays)))))
    for a, b in zip(
        made if isinstance(made, list) else [made], value if isinstance(value, list) else [value], strict=True
    ):
        np.testing.assert_allclose(back(a.data), b.data, rtol=1e-12, atol=1e-13)
    for a, b in zip(got, want, strict=True):
        checks.assert_close(back(a), b, 1e-12)


def gradients(f, arrays):
    """checks.gradients without its copies, which np.array makes on the host."""
    with Tape() as tape:
        watched = [tape.watch(a.copy()) for a in arrays]
        loss = checks.scalar(f(*watched))
    return tape.gradient(loss, watched)


def products(f, arrays):
    with Tape() as outer:
        watched = [outer.watch(a.copy()) for a in arrays]
        with Tape() as inner:
            for x in watched:
                inner.watch(x)
            loss = checks.scalar(f(*watched))
        combined = checks.scalar(inner.gradient(loss, watched))
    return outer.gradient(combined, watched)


@pytest.mark.parametrize("case", PLAIN, ids=repr)
def test_gradients_may_be_written_into(device, case):
    """They share memory with nothing: no view of another array, although CuPy's arrays are never
    read-only. By where memory begins and ends: CuPy's shares_memory says yes of any two arrays without axes.
    """
    inputs = there([np.asarray(a, np.float32) for a in case.arrays])
    with Tape() as tape:
        watched = [tape.watch(a) for a in inputs]
        y = there(case.function)(*watched)
        loss = sum((part.sum() for part in y[1:]), y[0].sum()) if isinstance(y, list) else y.sum()
    got = tape.gradient(loss, watched)
    for i, g in enumerate(got):
        assert g.base is None
        assert g.dtype == np.float32
        assert not any(np.may_share_memory(g, x) for x in [*inputs, *got[:i]])


def test_dropout_draws_its_seed_from_the_generator(device):
    x = np.ones((200, 50), np.float32)
    one, two, other = (dense.dropout(asarray(x), 0.3, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(back(one), back(two))
    assert (back(one) != back(other)).any()
    kept = back(one) != 0
    assert abs(kept.mean() - 0.7) < 0.02
    np.testing.assert_allclose(back(one)[kept], 1 / 0.7, rtol=1e-6)
    rng = np.random.default_rng(1)
    first, second = (dense.dropout(asarray(x), 0.3, rng) for _ in range(2))
    assert (back(first) != back(second)).any()
    with Tape() as tape:
        t = tape.watch(asarray(x))
        loss = dense.dropout(t, 0.3, np.random.default_rng(1)).sum()
    np.testing.assert_array_equal(back(tape.gradient(loss, t)), back(one))


X, Y = np.arange(6.0).reshape(2, 3), np.ones((2, 3))
MIXED = [
    ("add", lambda x, h: Tensor(x) + h, "operand 0 is on cuda, operand 1 is on cpu"),
    ("multiply", lambda x, h: Tensor(h) * x, "operand 0 is on cpu, operand 1 is on cuda"),
    ("where", lambda x, h: np.where(Tensor(x) > 0, x, Tensor(h)), "is on cuda, operand 2 is on cpu"),
    ("matmul", lambda x, h: dense.matmul(x, h.T), "operand 0 is on cuda, operand 1 is on cpu"),
    ("matmul", lambda x, h: Tensor(h) @ x.T, "operand 0 is on cpu, operand 1 is on cuda"),
    ("matmul", lambda x, h: dense.matmul(sp.csr_matrix(h.T), x), "a is on cpu, b is on cuda"),
    ("einsum", lambda x, h: dense.einsum("ij,ij->i", x, h), "operand 0 is on cuda, operand 1 is on cpu"),
    (
        "concatenate",
        lambda x, h: np.concatenate([Tensor(x), Tensor(h)]),
        "operand 0 is on cuda, operand 1 is on cpu",
    ),
    ("getitem", lambda x, h: Tensor(x)[np.array([0, 1])], "x is on cuda, index 0 is on cpu"),
    ("getitem", lambda x, h: Tensor(h)[asarray([0, 1])], "x is on cpu, index 0 is on cuda"),
    ("getitem", lambda x, h: dense.gather(x, np.array([0, 1])), "x is on cuda, index 0 is on cpu"),
    (
        "scatter_add",
        lambda x, h: dense.scatter_add(x, np.array([0, 1]), 2),
        "values is on cuda, ids is on cpu",
    ),
    (
        "cross_entropy",
        lambda x, h: dense.cross_entropy(x, np.array([0, 1])),
        "logits is on cuda, labels is on cpu",
    ),
    (
        "cross_entropy",
        lambda x, h: dense.cross_entropy(h, asarray([0, 1])),
        "logits is on cpu, labels is on cuda",
    ),
    (
        "cross_entropy",
        lambda x, h: dense.cross_entropy(x, asarray([0, 1]), np.array([True, False])),
        "rows is on cpu",
    ),
    ("mse", lambda x, h: dense.mse(x, h), "predictions is on cuda, targets is on cpu"),
    ("layer_norm", lambda x, h: dense.layer_norm(x, h[0]), "x is on cuda, weight is on cpu"),
    ("batch_norm", lambda x, h: dense.batch_norm(x, None, None, h[0], h[0]), "running_mean is on cpu"),
    (
        "Adam.step",
        lambda x, h: Adam([Parameter(x)]).step([h]),
        "gradient 0 is on cpu, parameter 0 is on cuda",
    ),
    ("SGD.step", lambda x, h: SGD([Parameter(h)]).step([x]), "gradient 0 is on cuda, parameter 0 is on cpu"),
    ("gather_mm", lambda x, h: ng.ops.gather_mm(x, h[:, :, None], [0, 1]), "a is on cuda, b is on cpu"),
]


@pytest.mark.parametrize(
    ("op", "wrong", "places"), MIXED, ids=[f"{op}-{number}" for number, (op, _, _) in enumerate(MIXED)]
)
def test_host_and_device_arrays_do_not_mix(device, op, wrong, places):
    with pytest.raises(
        TypeError,
        match=rf"{op}: .*{places}.*; bring both to one device: graph.to\(device\), module.to\(device\)",
    ):
        wrong(asarray(X), X)


def test_numbers_and_lists_may_be_anywhere(device):
    x = Tensor(asarray(X))
    for y in (
        x + 2,
        np.float64(2) + x,
        x[[1, 0]],
        dense.gather(x, [1]),
        np.take(x, [0, 2], axis=1),
        dense.scatter_add(x, [1, 1], 3),
    ):
        back(y.data)
    assert isinstance(dense.cross_entropy(x, [0, 2], [1]).data, DeviceArray)
    assert isinstance(dense.mse(x, [[1, 2, 3], [4, 5, 6]]).data, DeviceArray)
    assert isinstance(elementary.erf(x).data, DeviceArray)


@double_only
def test_tensors_of_the_device_are_read_explicitly(device):
    x = Tensor(asarray(X))
    synchronised.clear()
    assert float(x.sum()) == 15
    assert x.sum().item() == 15
    assert x.tolist() == X.tolist()
    assert repr(x) == repr(Tensor(X))
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
        np.asarray(x)
    assert synchronised == ["__float__", "item", "tolist"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_are_those_of_the_host(device, dtype):
    """Of values, sums and gradients."""
    for name in ("gelu", "silu", "elu", "softplus", "softmax", "log_softmax", "logsumexp"):
        made = []
        for x in (np.ones((2, 3), dtype), asarray(np.ones((2, 3), dtype))):
            with Tape() as tape:
                tx = tape.watch(x)
                y = getattr(dense, name)(tx)
                loss = np.sum(y)
            made.append((y.dtype, loss.dtype, tape.gradient(loss, tx).dtype))
        assert made[0] == made[1], name
        assert all(found.itemsize <= max(4, np.dtype(dtype).itemsize) for found in made[0]), name


def test_integers_add_up_on_the_device(device):
    """CuPy adds at indices no signed 64-bit integers: their bits are added."""
    for dtype in (np.int32, np.int64):
        got = dense.scatter_add(asarray(np.array([[5], [-7], [3]], dtype)), asarray([1, 1, 0]), 3)
        assert got.dtype == dtype
        assert back(got).tolist() == [[3], [-2], [0]]
