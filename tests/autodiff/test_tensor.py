"""Tensors: array behaviour, in-place operators, errors."""

from __future__ import annotations

import numpy as np
import pytest

import numgraph.dense  # noqa: F401  (fills the table of rules)
from numgraph.autodiff.tape import Parameter, Tape, Tensor, record


def test_tensors_behave_like_arrays():
    a = np.random.default_rng(0).normal(size=(2, 3))
    x = Tensor(a)
    assert (x.shape, x.dtype, x.ndim, x.size, len(x)) == ((2, 3), np.float64, 2, 6, 2)
    assert np.asarray(x) is a
    assert np.array(x) is not a
    assert np.asarray(x, np.float32).dtype == np.float32
    assert type(x == x) is np.ndarray
    assert (x == a).all()
    assert hash(x) != hash(Tensor(a))
    assert {x: 1}[x] == 1
    np.testing.assert_array_equal(x > 0, a > 0)
    np.testing.assert_array_equal(x.T, a.T)
    np.testing.assert_array_equal([np.asarray(row) for row in x], a)
    np.testing.assert_array_equal(x.argmax(1), a.argmax(1))
    np.testing.assert_array_equal(x.reshape(3, 2), a.reshape(3, 2))
    np.testing.assert_array_equal(x.transpose(1, 0), a.T)
    np.testing.assert_array_equal(x.astype(np.int64), a.astype(np.int64))
    assert x.sum().item() == float(x.sum()) == a.sum()
    assert int(Tensor(2.0)) == 2
    assert bool(Tensor(0.0)) is False
    assert x.tolist() == a.tolist()
    assert repr(Tensor(np.float32([1, 2]))) == "Tensor([1., 2.], dtype=float32)"
    assert isinstance(Tensor(np.float32(1)).data, np.ndarray)
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)


def test_in_place_operators_rebind():
    with Tape() as tape:
        x = y = tape.watch(np.arange(3.0))
        y += 1
        y *= x
        y -= 2
        y /= 4
        y **= 2
        loss = y.sum()
    a = np.arange(3.0)
    np.testing.assert_array_equal(x.data, a)
    np.testing.assert_allclose(tape.gradient(loss, x), 2 * ((a + 1) * a - 2) / 4 * (2 * a + 1) / 4)


def test_errors_say_what_and_how():
    x = Tensor(np.ones(3))
    with pytest.raises(TypeError, match=r"np\.where"):
        x[0] = 1
    with pytest.raises(TypeError, match=r"out= is not possible"):
        np.add(x, 1, out=np.ones(3))
    with pytest.raises(TypeError, match=r"np.fft.fft: has no derivative rule.*tensor\.data"):
        np.fft.fft(x)
    with pytest.raises(TypeError, match=r"np.add.accumulate: has no derivative rule"):
        np.add.accumulate(x)
    for dtype in (np.int64, bool, np.complex128, object):
        with pytest.raises(TypeError, match=rf"watch: an array of dtype {np.dtype(dtype)}"):
            Tape().watch(np.ones(3, dtype))
        with pytest.raises(TypeError, match=r"Parameter: an array of dtype"):
            Parameter(np.ones(3, dtype))
    with Tape(persistent=True) as tape:
        w = tape.watch(np.ones(3))
        y = w * 2
        with pytest.raises(ValueError, match="recording already"), tape:
            pass
    with pytest.raises(ValueError, match=r"loss has shape \(3,\), a scalar is needed; reduce it"):
        tape.gradient(y, [w])
    with pytest.raises(TypeError, match="loss is a float"):
        tape.gradient(1.0, [w])
    with pytest.raises(
        ValueError, match=r"inputs\[1\] is a Tensor of shape \(3,\) that this tape does not track"
    ):
        tape.gradient(y.sum(), [w, x])
    with pytest.raises(ValueError, match=r"inputs\[0\] is a ndarray"):
        tape.gradient(y.sum(), [np.ones(3)])


def test_a_vjp_of_the_wrong_shape_is_named():
    with Tape() as tape:
        x = tape.watch(np.ones(3))
        loss = record("bad", (x,), np.ones(()), lambda g, xs, y, needs: (np.ones(2),))
    with pytest.raises(
        ValueError, match=r"bad: its vjp gave a gradient of shape \(2,\) for an input of shape \(3,\)"
    ):
        tape.gradient(loss, x)
