"""Where numbers stop being finite: the first record, forward or backward, its row, its line, and what the
inputs are there.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import numgraph as ng

G = ng.Graph([0, 1, 2, 0, 3], [1, 2, 0, 2, 2], 4)
X = np.array([[1.0, 2.0], [0.5, 4.0], [3.0, 1.0], [2.0, -0.25]])
W = np.array([[1.0], [2.0], [0.5], [1.0], [3.0]])


def told(compute, array, *, check=True, backward=False):
    """The message of the error."""
    tape, losses = ng.Tape(check=check), []

    def forward():
        with tape:
            losses.append((tape.watch(array),))
            losses.append(np.sum(compute(*losses[0])))

    if backward:
        forward()
    with pytest.raises(FloatingPointError) as caught:
        tape.gradient(losses[1], *losses[0]) if backward else forward()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_first_record_forward():
    with pytest.warns(RuntimeWarning, match="invalid value"):
        text = told(lambda x: np.exp(x) + np.log(x * 2.0), X)
    assert text.startswith("log: record #2 gives nan at [3, 1] of float64[4, 2] (test_debug.py:")
    assert "np.exp(x) + np.log(x * 2.0)" in text  # the caller's line
    assert text.endswith("input 0 at [3, 1] is -0.5")


def test_inputs_that_broadcast():
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        text = told(lambda x: x / np.array([1.0, 0.0]), X)
    assert text.startswith("divide: record #0 gives inf at [0, 1]")
    assert text.endswith("input 0 at [0, 1] is 2.0; input 1 at [1] is 0.0")


def test_an_input_that_is_not_finite_itself_and_parameters_by_name():
    layer = ng.nn.Linear(2, 3, rng=0)
    layer.weight.data[1, 2] = np.nan
    text = told(lambda x: layer(x), X.astype(np.float32))
    assert "gives nan at [0, 2]" in text
    assert (
        "parameter 'weight' [2, 3] is nan at [1, 2] itself" in text
        or "input 1 [2, 3] is nan at [1, 2] itself" in text
    )


def test_a_message_names_the_edge_and_its_fields():
    def compute(x):
        return ng.update_all(G, lambda u, e: np.log(u.x) * e.w, "sum", u={"x": x}, e={"w": W})

    text = told(compute, X)
    assert text.startswith("update_all(sum): record #0 gives nan at [2, 1] of float64[4, 2]")
    assert "at destination 2, 1 of 3 messages are not finite" in text
    assert "edge 4, u = 3 to v = 2, gives [0.6931, nan]" not in text  # the message is log(x) · w
    assert re.search(
        r"edge 4, u = 3 to v = 2, gives \[2\.0794, +nan\]; u\.x\[3\] is \[ 2\. +, -0\.25\]; e\.w\[4\] is "
        r"\[3\.\]",
        text,
    )


def test_finite_messages_whose_sum_is_not():
    text = told(lambda x: ng.update_all(G, lambda u: u.x * 5e307, "sum", u={"x": x}), np.full((4, 2), 2.0))
    assert "all 3 messages are finite, the largest is 1e+308" in text


def test_a_value_of_an_edge():
    text = told(lambda x: ng.apply_edges(G, lambda u, v: np.sqrt(u.x - v.x), u={"x": x}, v={"x": X}), X)
    first = int(
        np.argmax(
            ~np.isfinite(
                np.sqrt(np.maximum(X[G.src] - X[G.dst], -1) * np.where(X[G.src] < X[G.dst], np.nan, 1))
            ).all(1)
        )
    )
    assert f"edge {first}, u = {G.src[first]} to v = {G.dst[first]}, gives" in text


def test_the_first_record_backward():
    zero = np.abs(X)
    zero[2, 0] = 0.0
    text = told(lambda x: np.sqrt(x) * 3.0, zero, backward=True)
    assert text.startswith(
        "∇ sqrt: the gradient of input 0 by record #0 is inf at [2, 0] of float64[4, 2] (test_debug.py:"
    )
    assert text.endswith(
        "input 0 at [2, 0] is 0.0; the gradient that arrived there is 3.0; the result there is 0.0"
    )


def test_a_message_backward_has_its_formula():
    zero = np.abs(X)
    zero[3, 1] = 0.0
    text = told(lambda x: ng.update_all(G, lambda u: np.sqrt(u.x), "sum", u={"x": x}), zero, backward=True)
    assert text.startswith("∇ update_all(sum): the gradient of u.x by record #0 is inf at [3, 1]")
    assert "u.x at [3, 1] is 0.0; the gradient that arrived is finite, from 1 to 1; ∂u.x" in text
    assert text.endswith("∂u.x = Σ g_v · 0.5 / sqrt(u.x)")


def test_nan_alone():
    def masked(x):
        return ng.softmax(np.where(x > 0, x, -np.inf), -1)

    assert "gives -inf" in told(masked, X)
    with ng.Tape(check="nan") as tape:
        x = tape.watch(X)
        loss = np.sum(masked(x) ** 2)
    assert np.isfinite(tape.gradient(loss, x)).all()
    with pytest.raises(ValueError, match="check is 'inf'; it is True, 'nan' or False"):
        ng.Tape(check="inf")


def test_debug_is_of_every_tape_inside():
    with ng.debug():
        assert np.isfinite(ng.grad(lambda x: np.sum(np.sqrt(x)))(np.ones(3))).all()
        with pytest.raises(FloatingPointError, match="∇ sqrt: the gradient of input 0"):
            ng.grad(lambda x: np.sum(np.sqrt(x)))(np.zeros(3))
    assert np.isinf(ng.grad(lambda x: np.sum(np.sqrt(x)))(np.zeros(3))).all()


def test_checked_numbers_are_the_same():
    def step(check):
        with ng.Tape(check=check) as tape:
            x = tape.watch(X)
            loss = np.sum(
                ng.update_all(G, lambda u, e: np.tanh(u.x) * e.w, "max", u={"x": x}, e={"w": W}) ** 2
            )
        return tape.gradient(loss, x)

    np.testing.assert_array_equal(step(True), step(False))


def test_what_things_say_they_are():
    seen = []

    def message(u, v, e):
        seen.extend([repr(u), repr(v), repr(e), repr(u.x * e.w)])
        return u.x * e.w

    ng.update_all(G, message, "sum", u={"x": X, "y": X[:, :, None]}, e={"w": W.astype(np.float32)})
    assert seen == [
        "<fields of u: x float64[2], y float64[2, 1]>",
        "<fields of v: none>",
        "<fields of e: w float32[1]>",
        "<message u.x · e.w: float64[2]>",
    ]
    assert repr(G) == "Graph(num_nodes=4, num_edges=5)"
    tape = ng.Tape(persistent=True)
    assert repr(tape) == "<Tape: 0 records, not entered yet, persistent>"
    with tape:
        loss = np.sum(tape.watch(X) * 2.0)
        assert repr(tape) == "<Tape: 2 records, recording, persistent>"
    assert repr(tape) == "<Tape: 2 records, closed, persistent>"
    with ng.Tape() as empty:
        pass
    assert repr(empty) == "<Tape: 0 records, closed>"
    with ng.Tape() as tape:
        loss = np.sum(tape.watch(X) * 2.0)
    tape.gradient(loss, [])
    assert repr(tape) == "<Tape: 2 records, replayed>"
