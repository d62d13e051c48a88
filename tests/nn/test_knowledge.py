"""Scorers of triples against their formulas in NumPy, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
from checks import check_gradient

import numgraph as ng
from numgraph import nn

H, R, T = np.array([0, 3, 2, 0, 4]), np.array([1, 0, 1, 1, 2]), np.array([2, 3, 0, 2, 1])


def complex_rows(x):
    return x[:, 0] + 1j * x[:, 1]


FORMULAS = {
    "DistMult": lambda a, w, b: (a * w * b).sum(-1),
    "ComplEx": lambda a, w, b: (complex_rows(a) * complex_rows(w) * complex_rows(b).conj()).sum(-1).real,
    "TransE": lambda a, w, b: -np.abs(a + w - b).sum(-1),
    "TransE, 2": lambda a, w, b: -np.sqrt(((a + w - b) ** 2).sum(-1)),
}


def made(name, reciprocal=False):
    kind, *norm = name.split(", ")
    return getattr(nn, kind)(
        5, 3, 4, reciprocal=reciprocal, rng=1, dtype=np.float64, **({"norm": 2} if norm else {})
    )


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_scores_are_their_formulas(name, reciprocal):
    model, formula = made(name, reciprocal), FORMULAS[name]
    rows, relations = model.entities.data, model.relations.data
    assert np.allclose(model(H, R, T), formula(rows[H], relations[R], rows[T]), atol=1e-12)
    assert np.array_equal(model.score(H, R, T), model(H, R, T))
    tails = np.stack([formula(rows[H], relations[R], rows[[e] * 5]) for e in range(5)], 1)
    assert np.allclose(model.score_tails(H, R), tails, atol=1e-12)
    if reciprocal:
        heads = np.stack([formula(rows[T], relations[R + 3], rows[[e] * 5]) for e in range(5)], 1)
    else:
        heads = np.stack([formula(rows[[e] * 5], relations[R], rows[T]) for e in range(5)], 1)
    assert np.allclose(model.score_heads(R, T), heads, atol=1e-12)
    assert np.allclose(model.score_both(H, R, T), np.concatenate([tails, heads]), atol=1e-12)


@pytest.mark.parametrize("name", FORMULAS)
def test_gradients(name):
    model = made(name)

    def scores(entities, relations):
        model.entities, model.relations = entities, relations
        return model.score(H, R, T), model.score_both(H, R, T)

    check_gradient(scores, [model.entities.data.copy() * 5, model.relations.data.copy() * 5])


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("name", ["DistMult", "ComplEx"])
def test_penalty_is_n3(name, reciprocal):
    model = made(name, reciprocal)
    rows, relations = model.entities.data, model.relations.data
    if name == "ComplEx":
        rows, relations = complex_rows(rows), complex_rows(relations)
    of = lambda x: (np.abs(x) ** 3).sum(1).mean()
    ways = (of(relations[R]) + of(relations[R + 3])) / 2 if reciprocal else of(relations[R])
    assert np.allclose(model.penalty(H, R, T), of(rows[H]) + of(rows[T]) + ways, rtol=1e-12)


ERRORS = [
    (
        lambda m: m.score([0, 5], [0, 0], [1, 1]),
        IndexError,
        r"ComplEx: h\[1\] is 5; entities run from 0 to 4",
    ),
    (lambda m: m.score_tails([0], [-1]), IndexError, r"r\[0\] is -1; relations run from 0 to 2"),
    (lambda m: m.score([0, 1], [0], [1, 1]), ValueError, "r has 1 ids, others have 2"),
    (lambda m: m.score_heads([0.5], [1]), TypeError, "r has dtype float64"),
    (lambda m: nn.TransE(3, 2, norm=3), ValueError, "norm is 3; choose 1 or 2"),
    (lambda m: nn.DistMult(0, 2), ValueError, "num_entities is 0"),
]


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS)
def test_errors_say_what_to_do(call, kind, text):
    with pytest.raises(kind, match=text):
        call(made("ComplEx"))


def test_state_is_two_tables():
    state = made("ComplEx", reciprocal=True).state_dict()
    assert {name: one.shape for name, one in state.items()} == {"entities": (5, 2, 4), "relations": (6, 2, 4)}
    other = nn.ComplEx(5, 3, 4, reciprocal=True, rng=9, dtype=np.float64)
    other.load_state_dict(state)
    assert np.array_equal(other.score_tails(H, R), made("ComplEx", reciprocal=True).score_tails(H, R))
    assert isinstance(other.entities, ng.Parameter)
