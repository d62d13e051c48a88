"""Tensors behave as their arrays do: formats, methods, functions; and without a tape arrays come in and
arrays come out.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from checks import check_gradient

import numgraph as ng

X = np.array([[0.123456, 2.0, -1.5], [2.5, 7.5, 0.25]])

SAME = {  # of an array and of its Tensor alike
    **{
        name: lambda x, name=name: getattr(x, name)()
        for name in ("sum", "mean", "max", "min", "prod", "std", "var", "cumsum", "ravel")
    },
    **{
        name: lambda x, name=name: getattr(x, name)()
        for name in ("flatten", "squeeze", "transpose", "copy", "argmax", "argmin")
    },
    **{
        name: lambda x, name=name: getattr(x, name)()
        for name in ("argsort", "any", "all", "nonzero", "tolist", "round")
    },
    **{
        f"{name} over an axis": lambda x, name=name: getattr(x, name)(1)
        for name in ("sum", "mean", "max", "min", "prod", "std", "var")
    },
    **{
        f"{name} over an axis": lambda x, name=name: getattr(x, name)(axis=0)
        for name in ("cumsum", "argsort", "argmax", "any", "all")
    },
    **{
        f"{name} kept": lambda x, name=name: getattr(x, name)(axis=1, keepdims=True)
        for name in ("sum", "std", "var", "argmin", "any")
    },
    "var with ddof": lambda x: x.var(ddof=1),
    "std with ddof": lambda x: x.std(0, ddof=1),
    "clip": lambda x: x.clip(0, 2.2),
    "clip below": lambda x: x.clip(0),
    "dot": lambda x: x.dot(np.ones((3, 2))),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "reshape": lambda x: x.reshape(3, -1),
    "take": lambda x: x.take([0, 2], axis=1),
    "repeat": lambda x: x.repeat(2, 0),
    "round to digits": lambda x: x.round(2),
    "searchsorted": lambda x: x.ravel().searchsorted(1.0),
    "item": lambda x: x[0, 0].item(),
    "item of an index": lambda x: x.item(1, 2),
    "astype": lambda x: x.astype(np.float32),
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "shape and sizes": lambda x: (x.shape, x.ndim, x.size, x.nbytes, x.itemsize, len(x)),
    "a format": lambda x: f"{x[0, 0]:.4f} {x[0, 1]:10.3e} {x[1, 1]:>8}",
    "round": lambda x: round(x[0, 0], 2),
    "round to whole numbers": lambda x: round(x[1, 1]),
    **{
        f"np.{f.__name__}": lambda x, f=f: f(x)
        for f in (
            np.sum,
            np.std,
            np.var,
            np.argsort,
            np.isnan,
            np.isfinite,
            np.isinf,
            np.any,
            np.all,
            np.count_nonzero,
            np.sort,
            np.median,
        )
        + (
            np.ptp,
            np.ravel,
            np.squeeze,
            np.signbit,
            np.rint,
            np.round,
            np.trunc,
            np.floor,
            np.shape,
            np.ndim,
            np.size,
            np.zeros_like,
        )
    },
    "an index": lambda x: "abc"[x.astype(np.int64)[0, 1]],
    "math.trunc": lambda x: math.trunc(x[1, 1]),
    "np.median over an axis": lambda x: np.median(x, axis=1),
    "np.median kept": lambda x: np.median(x, axis=0, keepdims=True),
    "np.sort over an axis": lambda x: np.sort(x, axis=0),
    "np.sort of all": lambda x: np.sort(x, axis=None),
    "np.allclose": lambda x: np.allclose(x, X),
    "np.array_equal": lambda x: np.array_equal(x, X),
    "np.outer": lambda x: np.outer(x[0], x[1]),
    "in a condition": lambda x: [bool(x[0, 0] > 0), 2.0 in x],
}


@pytest.mark.parametrize("name", SAME)
def test_a_tensor_gives_what_its_array_gives(name):
    want = SAME[name](X)
    got = SAME[name](ng.Tensor(X))
    got, want = (got, want) if isinstance(want, tuple | list) else ((got,), (want,))
    for a, b in zip(got, want, strict=True):
        if isinstance(b, str):
            assert a == b
        else:
            np.testing.assert_allclose(np.asarray(a), b)
            assert np.asarray(a).dtype == np.asarray(b).dtype


SMOOTH = [
    "std",
    "var",
    "cumsum",
    "ravel",
    "flatten",
    "squeeze",
    "copy",
    "clip",
    "dot",
    "swapaxes",
    "take",
    "repeat",
    "T",
    "mT",
    "np.sort",
]
SMOOTH += [
    "np.median",
    "np.ptp",
    "np.median over an axis",
    "np.median kept",
    "np.sort over an axis",
    "np.sort of all",
    "std with ddof",
]
SMOOTH += ["np.outer", "sum over an axis", "astype to float64"]
SAME["astype to float64"] = lambda x: x.astype(np.float64)


@pytest.mark.parametrize("name", SMOOTH)
def test_and_its_gradient(name):
    check_gradient(SAME[name], [X], order=2)
    check_gradient(SAME[name], [np.random.default_rng(0).normal(size=(4, 3)) if name != "dot" else X])


@pytest.mark.parametrize("name", sorted(name for name in dir(np.ndarray) if not name.startswith("_")))
def test_every_method_of_arrays_is_there_or_says_what_to_do(name):
    t = ng.Tensor(X)
    try:
        getattr(t, name)
    except AttributeError as error:
        assert f"tensor.data.{name}" in str(error)  # noqa: PT017
    assert not hasattr(t, "no_such_method")


@pytest.mark.parametrize("function", [np.histogram, np.roots, np.linalg.eigvals, np.fft.fft])
def test_functions_without_a_rule_say_so(function):
    with pytest.raises(TypeError, match=r"tensor\.data"):
        function(ng.Tensor(X[:, :2]))


# Arrays in, arrays out.

GRAPH = ng.Graph([0, 1, 2, 0], [1, 2, 0, 2], 3)
FEATURES = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
LAYERS = {
    "Linear": lambda: ng.nn.Linear(4, 2, rng=0),
    "MLP": lambda: ng.nn.MLP([4, 3, 2], norm=True, rng=0),
    "LayerNorm": lambda: ng.nn.LayerNorm(4),
    "BatchNorm": lambda: ng.nn.BatchNorm(4),
    "GCNConv": lambda: ng.nn.GCNConv(4, 2, rng=0),
    "GATConv": lambda: ng.nn.GATConv(4, 2, heads=2, rng=0),
    "GATv2Conv": lambda: ng.nn.GATv2Conv(4, 2, heads=2, rng=0),
    "SAGEConv": lambda: ng.nn.SAGEConv(4, 2, rng=0),
    "TransformerConv": lambda: ng.nn.TransformerConv(4, 2, heads=2, rng=0),
    "PNAConv": lambda: ng.nn.PNAConv(4, 2, rng=0),
    "GCN": lambda: ng.nn.GCN(4, 3, 2, rng=0),
    "GAT": lambda: ng.nn.GAT(4, 3, 2, rng=0),
    "GIN": lambda: ng.nn.GIN(4, 3, 2, norm=True, rng=0),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_without_a_tape_a_model_gives_arrays_with_the_same_bits(name, training):
    one, two = LAYERS[name](), LAYERS[name]()
    inputs = (FEATURES,) if name in ("Linear", "MLP", "LayerNorm", "BatchNorm") else (GRAPH, FEATURES)
    without = one.train(training)(*inputs)
    with ng.Tape():
        recorded = two.train(training)(*inputs)
    assert type(without) is np.ndarray
    assert type(recorded) is ng.Tensor
    np.testing.assert_array_equal(without, recorded.data)


def test_what_is_boxed():
    p, t, a = ng.Parameter(np.ones(2)), ng.Tensor(np.ones(2)), np.ones(2)
    for y in (
        p * 2,
        p * p,
        p * a,
        np.exp(p),
        p[0] * a,
        np.stack([p, p]),
        p.reshape(2, 1),
        ng.relu(p),
        ng.matmul(p, p) * a,
    ):
        assert type(y) is np.ndarray
    assert type(t * 2) is type(t * p) is type(p * t) is ng.Tensor
    with ng.Tape():
        assert type(p * 2) is type(t * a) is ng.Tensor
        assert type(a * 2) is np.ndarray
