"""Messages of random shapes: every access inside of its array, every value and gradient that of NumPy.

Most programs are interpreted in Python, which checks every access against its array, and that every result is
stored once. Some are compiled and write into guarded memory.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import programs
import pytest
import shapes

import numgraph as ng

INTERPRETED = int(os.environ.get("NUMGRAPH_TEST_SHAPES", "2000"))
COMPILED = 42
GROUP = 100


@contextlib.contextmanager
def interpreted() -> Iterator[list[Any]]:
    """Walks are interpreted in the block; the schedules that were taken."""
    taken: list[Any] = []

    def widest(found: Any) -> Any:
        """The schedule with most in lanes; of the others test_compiler_random takes some."""
        taken.append(max(found, key=lambda s: s.lanes.count(tuple([v for v, _ in s.lanes.tiles]))))
        return taken[-1:]

    with programs.interpreting(widest):
        yield taken


@pytest.mark.parametrize("first", range(0, INTERPRETED, GROUP))
def test_interpreted(first):
    with interpreted() as taken:
        for seed in range(first, first + GROUP):
            shapes.check(shapes.graph(), shapes.random_case(seed))
    assert len(taken) > GROUP  # the walks did run here, and their gradients


@pytest.mark.parametrize("first", range(0, COMPILED, 14))
def test_compiled(first):
    for seed in range(INTERPRETED + first, INTERPRETED + first + 14):
        shapes.check(shapes.graph(), shapes.random_case(seed))


def test_the_cases_differ():
    texts = {shapes.random_case(seed).text.partition(":")[2] for seed in range(INTERPRETED)}
    assert len(texts) > 0.95 * INTERPRETED


# Shapes that a kernel once got wrong, or could: (message, score, shapes of u's fields x, y and s).
CHOSEN = {
    "score without the head axis": ("u.x", "u.s", {"x": (8, 4), "s": (4,)}),
    "score with the head axis first": ("u.x", "u.s", {"x": (8, 4), "s": (8, 1)}),
    "score longer than the value": ("u.x", "u.s", {"x": (4,), "s": (8, 4)}),
    "score of a row, value of a column": ("u.x[..., None]", "np.sin(u.x[None])", {"x": (3,)}),
    "score of a row, value of a column, in a tile": ("u.x[..., None]", "np.sin(u.x[None])", {"x": (8,)}),
    "the value's axis between the score's": ("u.x", "u.s", {"x": (3, 1), "s": (2, 1, 5)}),
    "the value's axis between the score's, in a tile": ("u.x", "u.s", {"x": (4, 1), "s": (2, 1, 8)}),
    "score summed over features of its own": ("u.x", "u.s.sum(-1, keepdims=True)", {"x": (4, 2), "s": (2,)}),
    "score summed over one of two axes": ("u.x", "u.s.sum(0)", {"x": (4, 2), "s": (4, 2)}),
    "score a dot product of heads": ("u.x", "(u.x * u.s).sum(-1, keepdims=True)", {"x": (8, 4), "s": (4,)}),
    "score a maximum over heads": ("u.x", "u.x.max(0, keepdims=True)", {"x": (8, 4)}),
    "sum over heads and a field": ("u.x.sum(0) + u.s", None, {"x": (8, 4), "s": (4,)}),
    "sum over features and a field of heads": ("u.x.sum(-1) + u.s", None, {"x": (8, 4), "s": (8,)}),
    "both sums at once": ("u.x.sum(0) * u.s + u.x.sum(-1, keepdims=True)", None, {"x": (8, 4), "s": (4,)}),
    "outer product": ("u.x[:, None] * u.x[None, :]", None, {"x": (6,)}),
    "outer product with a matrix": ("u.x[:, None] * u.x[None, :] + u.s", None, {"x": (8,), "s": (8, 8)}),
    "outer product of three": ("u.x[:, None, None] * u.x[None, :, None] * u.x", None, {"x": (4,)}),
    "a matrix by itself transposed in sums": ("u.x.sum(0)[:, None] * u.x + u.x.sum(1)", None, {"x": (4, 4)}),
    "matrix and vector": ("(u.x * u.s).sum(-1)", None, {"x": (5, 7), "s": (7,)}),
    "matrix and matrix": ("(u.x[:, :, None] * u.s[None, :, :]).sum(1)", None, {"x": (3, 4), "s": (4, 5)}),
    "matrix times itself": ("(u.x[:, :, None] * u.x[None, :, :]).sum(1)", None, {"x": (4, 4)}),
    "centred": ("u.x - u.x.mean(-1, keepdims=True)", None, {"x": (3, 8)}),
    "centred twice": ("u.x - u.x.mean(-1, keepdims=True) - u.x.mean(-2, keepdims=True)", None, {"x": (4, 8)}),
    "softmax over features": ("np.exp(u.x) / np.exp(u.x).sum(-1, keepdims=True)", None, {"x": (2, 70)}),
    "longer than a tile, by heads": ("u.x * u.s", None, {"x": (5, 70), "s": (5, 1)}),
    "axes of one": ("u.x + u.s", None, {"x": (1, 3, 1), "s": (1, 1, 4)}),
    "nothing but ones": ("u.x * u.s", None, {"x": (1, 1), "s": (1,)}),
    "no features": ("u.x * u.s", None, {"x": (), "s": ()}),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_chosen_interpreted(name):
    """All of them wherever tests run; those that are compiled are sampled by `make test` (see conftest.py)."""
    with interpreted() as taken:
        for reduce in ["sum", "max", "edge"] if CHOSEN[name][1] is None else ["attend"]:
            _check_chosen(name, reduce)
    assert taken


@pytest.mark.parametrize("reduce", ["sum", "max", "edge"])
@pytest.mark.parametrize("name", [name for name in CHOSEN if CHOSEN[name][1] is None])
def test_chosen_messages(name, reduce):
    _check_chosen(name, reduce)


@pytest.mark.parametrize("name", [name for name in CHOSEN if CHOSEN[name][1] is not None])
def test_chosen_scores(name):
    _check_chosen(name, "attend")


def _check_chosen(name, reduce):
    message, score, given = CHOSEN[name]
    rng = np.random.default_rng(3)
    functions = [text and eval(f"lambda u: {text}", {"np": np}) for text in (message, score)]
    fields = {
        "u": {key: shapes.inside_of_nan(rng, 5, *shape) for key, shape in given.items()},
        "v": {},
        "e": {},
    }
    case = shapes.Case(
        name, reduce, lambda u, v, e: functions[0](u), score and (lambda u, v, e: functions[1](u)), fields
    )
    shapes.check(shapes.graph(), case)


def check_second_order_of_an_outer_product():
    """The Hessian of Σ (x_u xᵀ_u) · c for one edge is c + cᵀ."""
    g, rng = ng.Graph([0], [0], 1), np.random.default_rng(0)
    x, c = rng.normal(size=(1, 3)), rng.normal(size=(3, 3))
    hessian = []
    for i in range(3):
        with ng.Tape() as outer:
            tx = outer.watch(x)
            with ng.Tape() as inner:
                inner.watch(tx)
                z = ng.update_all(g, lambda u: u.x[:, None] * u.x[None, :], "sum", u={"x": tx})
                loss = np.sum(z * c)
            first = inner.gradient(loss, tx)
            entry = first[0, i]
        hessian.append(outer.gradient(entry, tx)[0])
    np.testing.assert_allclose(np.array(hessian), c + c.T, rtol=1e-12, atol=1e-12)


def test_second_order_of_an_outer_product():
    check_second_order_of_an_outer_product()
