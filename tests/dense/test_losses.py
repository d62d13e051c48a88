"""The losses' options against PyTorch: values and gradients in float64, for every combination, and the edges
where a mean has nothing.
"""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from checks import check_gradient
from device import DeviceArray, asarray, device

import numgraph as ng

__all__ = ["device"]

rng = np.random.default_rng(0)
ROWS, CLASSES = 12, 5
X = rng.normal(size=(ROWS, CLASSES)) * 3
LABELS = rng.integers(0, CLASSES, ROWS)
IGNORING = np.where(np.arange(ROWS) % 3 == 1, -100, LABELS)
WEIGHT = np.array([0.2, 1.0, 0.0, 3.0, 0.7])
SEED = rng.normal(size=ROWS)
"""What the losses of rows are weighted by, so that their gradients differ."""


def ours(function, x, *args, **options):
    with ng.Tape() as tape:
        x = tape.watch(x)
        loss = function(x, *args, **options)
        total = (loss * SEED.reshape(-1, *[1] * (loss.ndim - 1))[: len(loss)]).sum() if loss.ndim else loss
    return loss.data, tape.gradient(total, [x])[0]


def theirs(function, x, *args, **options):
    import torch

    x = torch.tensor(x, requires_grad=True)
    loss = function(x, *args, **options)
    total = (
        (loss * torch.tensor(SEED.reshape(-1, *[1] * (loss.ndim - 1))[: len(loss)])).sum()
        if loss.ndim
        else loss
    )
    total.backward()
    return loss.detach().numpy(), x.grad.numpy()


def assert_same(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


OPTIONS = list(itertools.product([None, WEIGHT], [None, -100], [0.0, 0.1, 1.0], ["mean", "sum", "none"]))


@pytest.mark.parametrize(("weight", "ignore_index", "label_smoothing", "reduction"), OPTIONS)
def test_cross_entropy_is_torchs(weight, ignore_index, label_smoothing, reduction):
    torch = pytest.importorskip(
        "torch", reason="torch is not installed; test_cross_entropy_by_its_formula needs none"
    )
    labels = LABELS if ignore_index is None else IGNORING
    options = {"label_smoothing": label_smoothing, "reduction": reduction}
    got = ours(ng.cross_entropy, X, labels, weight=weight, ignore_index=ignore_index, **options)
    weight = None if weight is None else torch.tensor(weight)
    ignoring = {} if ignore_index is None else {"ignore_index": ignore_index}
    want = theirs(
        torch.nn.functional.cross_entropy, X, torch.tensor(labels), weight=weight, **ignoring, **options
    )
    assert_same(got, want)


@pytest.mark.parametrize(("weight", "ignore_index", "label_smoothing", "reduction"), OPTIONS)
def test_cross_entropy_by_its_formula(weight, ignore_index, label_smoothing, reduction):
    """Of chosen rows, too: a plain loop over them."""
    labels, w = (LABELS if ignore_index is None else IGNORING), np.ones(CLASSES) if weight is None else weight
    chosen = np.array([3, 1, 1, 8, 0, 11])
    losses, counts = np.zeros(len(chosen)), np.zeros(len(chosen))
    for i, row in enumerate(chosen):
        if labels[row] != ignore_index:
            log_p = X[row] - np.log(np.exp(X[row]).sum())
            counts[i] = w[labels[row]]
            losses[i] = (
                -(1 - label_smoothing) * w[labels[row]] * log_p[labels[row]]
                - label_smoothing / CLASSES * (w * log_p).sum()
            )
    want = {"mean": losses.sum() / counts.sum(), "sum": losses.sum(), "none": losses}[reduction]
    options = {
        "weight": weight,
        "ignore_index": ignore_index,
        "label_smoothing": label_smoothing,
        "reduction": reduction,
    }
    got = ng.cross_entropy(X, labels, chosen, **options)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)
    mask = np.isin(np.arange(ROWS), chosen)
    everything = ng.cross_entropy(X, labels, **{**options, "reduction": "none"})
    np.testing.assert_allclose(
        ng.cross_entropy(X, labels, mask, **{**options, "reduction": "none"}), everything[mask], rtol=1e-12
    )


@pytest.mark.parametrize(
    "options", [{"weight": WEIGHT}, {"label_smoothing": 0.2}, {"weight": WEIGHT, "label_smoothing": 0.2}]
)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradients_of_gradients(options, reduction):
    options = {"ignore_index": -100, "reduction": reduction, **options}
    check_gradient(lambda x: (ng.cross_entropy(x, IGNORING, **options) ** 2).sum(), [X * 0.3], order=2)


@pytest.mark.parametrize(
    "options", [{}, {"weight": WEIGHT}, {"label_smoothing": 0.1}, {"weight": WEIGHT, "label_smoothing": 0.1}]
)
def test_large_inputs_take_one_kernel_with_the_same_numbers(options):
    x = np.random.default_rng(3).normal(size=(20_000, CLASSES))
    labels = np.random.default_rng(4).integers(-1, CLASSES, len(x))
    got = ours(lambda x: ng.cross_entropy(x, labels, ignore_index=-1, **options), x)
    parts = list(zip(np.split(x, 20), np.split(labels, 20)))
    pieces = [ng.cross_entropy(part, own, ignore_index=-1, reduction="sum", **options) for part, own in parts]
    share = (labels >= 0).sum() if "weight" not in options else WEIGHT[labels[labels >= 0]].sum()
    np.testing.assert_allclose(got[0], np.sum(pieces) / share, rtol=1e-12)
    for (part, own), g in zip(parts[:2], np.split(got[1], 20)):
        want = ours(
            lambda x, own=own: ng.cross_entropy(x, own, ignore_index=-1, reduction="sum", **options), part
        )[1]
        np.testing.assert_allclose(g, want / share, rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("reduction", "value"), [("mean", np.nan), ("sum", 0.0), ("none", np.zeros(3))])
def test_where_all_rows_are_ignored(reduction, value, label_smoothing):
    """As torch: a mean of nothing is NaN, its gradient zeros."""
    got, gradient = ours(
        ng.cross_entropy,
        X[:3],
        [-1] * 3,
        ignore_index=-1,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )
    np.testing.assert_array_equal(got, value)
    np.testing.assert_array_equal(gradient, np.zeros_like(X[:3]))


@pytest.mark.parametrize("options", [{}, {"weight": WEIGHT}, {"weight": WEIGHT, "label_smoothing": 0.1}])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_dtypes_stay(dtype, options):
    for reduction in ("mean", "none"):
        got, gradient = ours(ng.cross_entropy, X.astype(dtype), LABELS, reduction=reduction, **options)
        assert got.dtype == gradient.dtype == dtype
        want = ng.cross_entropy(X.astype(dtype).astype(np.float64), LABELS, reduction=reduction, **options)
        np.testing.assert_allclose(got, want, rtol=10 * np.finfo(dtype).eps, atol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize("weight", [WEIGHT, asarray(WEIGHT)], ids=["host", "device"])
def test_options_on_a_device(device, weight):
    options = {"ignore_index": -100, "label_smoothing": 0.1}
    got, gradient = ours(ng.cross_entropy, asarray(X), asarray(IGNORING), weight=weight, **options)
    assert type(got) is type(gradient) is DeviceArray
    for a, b in zip((got, gradient), ours(ng.cross_entropy, X, IGNORING, weight=WEIGHT, **options)):
        np.testing.assert_allclose(a.get(), b, rtol=1e-14)
    rows = ng.cross_entropy(asarray(X), asarray(IGNORING), weight=weight, reduction="none", **options)
    np.testing.assert_allclose(
        rows.get(), ng.cross_entropy(X, IGNORING, weight=WEIGHT, reduction="none", **options), rtol=1e-14
    )


T = rng.random((ROWS, CLASSES))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("pos_weight", [None, WEIGHT, np.array(2.5)])
@pytest.mark.parametrize("weight", [None, SEED[:, None] ** 2])
def test_binary_cross_entropy_is_torchs(weight, pos_weight, reduction):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = X * 30  # without overflow
    got = ours(
        ng.binary_cross_entropy_with_logits, x, T, weight=weight, pos_weight=pos_weight, reduction=reduction
    )
    factors = {
        name: None if f is None else torch.tensor(f)
        for name, f in (("weight", weight), ("pos_weight", pos_weight))
    }
    want = theirs(
        torch.nn.functional.binary_cross_entropy_with_logits,
        x,
        torch.tensor(T),
        reduction=reduction,
        **factors,
    )
    assert_same(got, want)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("name", "torchs", "options"),
    [("mse", "mse_loss", {}), ("mae", "l1_loss", {}), ("huber", "huber_loss", {"delta": 1.5})],
)
def test_regressions_are_torchs(name, torchs, options, reduction):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    targets = T.copy()
    targets[0] = X[0]  # equal: a corner of mae
    targets[1] = X[1] - 1.5  # at huber's corner
    got = ours(getattr(ng, name), X, targets, reduction=reduction, **options)
    assert_same(
        got,
        theirs(
            getattr(torch.nn.functional, torchs), X, torch.tensor(targets), reduction=reduction, **options
        ),
    )


def test_sums_of_no_elements_are_zero():
    empty = np.zeros((0, CLASSES))
    assert ng.cross_entropy(empty, np.zeros(0, int), reduction="sum") == 0
    assert ng.cross_entropy(X, LABELS, [], reduction="none").shape == (0,)
    for loss in (ng.mse, ng.mae, ng.huber, ng.binary_cross_entropy_with_logits):
        assert loss(empty, empty, reduction="sum") == 0
        assert loss(empty, empty, reduction="none").shape == empty.shape


@pytest.mark.parametrize("dtype", ["i1", "<i2", ">i2", ">i8", "u1", ">u4"])
def test_labels_and_rows_of_any_integers(dtype):
    """300 are more than a byte's negative numbers would be, were they read as positive ones."""
    many = np.random.default_rng(1).normal(size=(300, 300))
    labels, want = np.arange(300) % 120, -many[np.arange(300), np.arange(300) % 120]
    want += np.log(np.exp(many).sum(1))
    got = ng.cross_entropy(many, labels.astype(dtype), reduction="none")
    np.testing.assert_allclose(got, want, rtol=1e-13)
    rows = np.array([5, 3, 127], dtype)
    np.testing.assert_allclose(ng.cross_entropy(many, labels, rows), want[[5, 3, 127]].mean(), rtol=1e-13)
    np.testing.assert_array_equal(ng.take(many, rows), many[[5, 3, 127]])
    if "i" in dtype:
        with pytest.raises(IndexError, match=r"labels\[299\] is -1, logits have 300"):
            ng.cross_entropy(many, np.append(labels[:-1], -1).astype(dtype))
        with pytest.raises(IndexError, match=r"rows\[3\] is -2, there are 300"):
            ng.cross_entropy(many, labels, np.append(rows, -2).astype(dtype))
        with pytest.raises(IndexError, match=r"ids\[3\] is -2, there are 300"):
            ng.take(many, np.append(rows, -2).astype(dtype))


@pytest.mark.parametrize("options", [{}, {"reduction": "none"}, {"label_smoothing": 0.1}])
def test_boolean_labels_choose_weights_by_number(options):
    x, labels, weight = X[:2, :2], np.array([True, False]), np.array([0.25, 4.0])
    got = ours(ng.cross_entropy, x, labels, weight=weight, **options)
    assert_same(got, ours(ng.cross_entropy, x, [1, 0], weight=weight, **options))


BAD = [
    (
        lambda: ng.cross_entropy(X, LABELS, ignore_index="a"),
        TypeError,
        "cross_entropy: ignore_index is 'a'; give the label",
    ),
    (
        lambda: ng.cross_entropy(X, LABELS, reduction="avg"),
        ValueError,
        "cross_entropy: unknown reduction 'avg'; choose from 'mean', 'sum'",
    ),
    (lambda: ng.mse(X, T, reduction=None), ValueError, "mse: unknown reduction None"),
    (
        lambda: ng.cross_entropy(X, LABELS, weight=np.ones(4)),
        ValueError,
        "cross_entropy: weight has shape [4], logits [12, 5]; give a wei",
    ),
    (lambda: ng.cross_entropy(X, LABELS, weight=["a"] * 5), TypeError, "cross_entropy: weight has dtype <U1"),
    (
        lambda: ng.cross_entropy(X, LABELS, weight=[1, 1, -1, 1, 1]),
        ValueError,
        "weight is array([ 1,  1, -1,  1,  1]), with a number below 0",
    ),
    (
        lambda: ng.cross_entropy(X, LABELS, weight=[1, np.nan, 1, 1, 1]),
        ValueError,
        "weight is array([ 1., nan,  1.,  1.,  1.]), with a",
    ),
    (
        lambda: ng.cross_entropy(X, LABELS, label_smoothing=-0.1),
        ValueError,
        "cross_entropy: label_smoothing is -0.1",
    ),
    (
        lambda: ng.cross_entropy(X, LABELS, label_smoothing=1.5),
        ValueError,
        "cross_entropy: label_smoothing is 1.5; it is a share, from 0",
    ),
    (
        lambda: ng.cross_entropy(X, IGNORING),
        IndexError,
        "labels[1] is -100, logits have 5 classes; labels run from 0 to 4, pass ignore_in",
    ),
    (
        lambda: ng.cross_entropy(X, IGNORING, ignore_index=-1),
        IndexError,
        "labels[1] is -100, logits have 5 classes",
    ),
    (
        lambda: ng.binary_cross_entropy_with_logits(X, T, pos_weight=np.ones(3)),
        ValueError,
        "binary_cross_entropy_with_logits: pos_weight has shape [3], predictions [12, 5]; it broadcasts",
    ),
    (
        lambda: ng.binary_cross_entropy_with_logits(X[0], T[0], weight=np.ones((2, 5))),
        ValueError,
        "weight has shape [2, 5], predictions [",
    ),
    (lambda: ng.huber(X, T, delta=0), ValueError, "huber: delta is 0; give a positive number, or use mae"),
    (lambda: ng.huber(X, T, delta=-1), ValueError, "huber: delta is -1"),
    (
        lambda: ng.mae(X[:0], T[:0]),
        ValueError,
        "mae: the shape (0, 5) has no elements; a mean needs at least one",
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), BAD, ids=[text[:60] for *_, text in BAD])
def test_bad_input(call, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        call()
