"""numgraph.extend: what is added acts as what was there. docs/extending.md adds one of each; here is what
must hold beyond its examples.
"""

from __future__ import annotations

import numpy as np
import pytest
from added import taken_back

import numgraph as ng
from numgraph import extend

RNG = np.random.default_rng(0)


def _of_root(expressions, need):
    """z = (Σ φ⁴)^¼: ∂L/∂φ = g (φ / z)³."""
    (message,), z = expressions, need("z")
    return [np.where(z > 0, need("g") * (message / np.where(z > 0, z, 1)) ** 3, 0)]


@pytest.fixture(scope="module", autouse=True)
def fourth_norm():
    with taken_back():
        extend.reduce(
            "fourth_norm",
            extend.Reduce(
                extend.one_result, lambda m: [np.sum(m**4, axis=0) ** 0.25], (0,), _of_root, real=True
            ),
            extend.Steps(
                parts=(extend.Part(start=0, message=0),),
                step=lambda state, messages: (
                    state[0] + messages[0] * messages[0] * (messages[0] * messages[0]),
                ),
                folded=lambda state, fold: (fold("add", state[0]),),
                finish=lambda state, degree: (np.sqrt(np.sqrt(state[0])),),
                chunks=lambda made, counts: (np.sum(made[0] ** 4, axis=0) ** 0.25,),
            ),
        )
        yield


def dense(graph, messages):
    z = np.zeros((graph.num_dst, *messages.shape[1:]))
    np.add.at(z, graph.dst, messages**4)
    return z**0.25


@pytest.mark.parametrize("num_edges", [60, 5000], ids=["short rows", "rows in chunks"])
@pytest.mark.parametrize("features", [1, 3])
def test_a_reduce_and_its_derivatives(num_edges, features):
    dst = RNG.integers(0, 20, num_edges) if num_edges < 100 else np.zeros(num_edges, int)
    graph = ng.Graph(RNG.integers(0, 30, num_edges), dst, num_src=30, num_dst=20)
    x, seed, direction = (
        RNG.normal(size=(30, features)),
        RNG.normal(size=(20, features)),
        RNG.normal(size=(30, features)),
    )

    def gradient(x):
        with ng.Tape() as tape:
            tx = tape.watch(x)
            loss = np.sum(ng.update_all(graph, lambda u: u.x, "fourth_norm", u={"x": tx}) * seed)
        return tape.gradient(loss, tx)

    z = ng.update_all(graph, lambda u: u.x, "fourth_norm", u={"x": x})
    np.testing.assert_allclose(z, dense(graph, x[graph.src]), rtol=1e-12)
    scaled = np.where(z > 0, seed / np.where(z > 0, z, 1) ** 3, 0)
    expected = np.zeros_like(x)
    np.add.at(expected, graph.src, scaled[graph.dst])
    np.testing.assert_allclose(gradient(x), expected * x**3, rtol=1e-9, atol=1e-12)
    with ng.Tape() as outer:
        tx = outer.watch(x)
        along = np.sum(gradient(tx) * direction)
    eps = 1e-6
    differences = (gradient(x + eps * direction) - gradient(x - eps * direction)) / (2 * eps)
    np.testing.assert_allclose(outer.gradient(along, tx), differences, rtol=1e-4, atol=1e-6)


def test_a_reduce_stands_beside_others():
    graph, x = ng.Graph([0, 1, 2], [1, 1, 0], 4), np.array([1.0, -2.0, 3.0, 4.0])
    total, norm = ng.update_all(graph, lambda u: u.x, ("sum", "fourth_norm"), u={"x": x})
    assert total.tolist() == [3, -1, 0, 0]
    np.testing.assert_allclose(norm, [3, 17**0.25, 0, 0])
    np.testing.assert_allclose(
        ng.ops.segment_reduce([0, 2, 4], x, "fourth_norm"), [17**0.25, (81 + 256) ** 0.25]
    )


def test_a_row_acts_on_arrays_tensors_and_messages():
    cubed = extend.Row(
        "cubed", (np.spacing,), lambda x: x * x * x, lambda g, y, x: (g * (3 * x * x),), lambda x: x * x * x
    )
    graph, x = ng.Graph([0, 1, 2], [1, 1, 0], 3), np.array([1.0, -2.0, 3.0])
    assert cubed(x).tolist() == [1, -8, 27]
    for function in (cubed, np.spacing):  # the second is NumPy's name for it here
        z = ng.update_all(graph, lambda u, f=function: f(u.x), "sum", u={"x": x})
        assert z.tolist() == [27, -7, 0]
    with ng.Tape() as tape:
        tx = tape.watch(x)
        loss = np.sum(cubed(tx))
    assert tape.gradient(loss, tx).tolist() == [3, 12, 27]


def test_names_are_taken_once():
    with pytest.raises(ValueError, match="there is a row of 'exp' already"):
        extend.Row("exp", (), np.exp, None)
    with pytest.raises(ValueError, match=r"there is a row of np\.exp already"):
        extend.Row("exponential", (np.exp,), np.exp, None)
    with pytest.raises(ValueError, match="there is a reduce 'sum' already"):
        extend.reduce("sum", None, None)
    with pytest.raises(ValueError, match="has a rule already"):
        extend.rule(np.exp)(np.exp)
