"""Gradients of a shard's sources that are computed when they are read: ghosts before the others, whatever
reads them.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import numgraph as ng
from numgraph.autodiff.deferred import Deferred
from numgraph.autodiff.tape import record, unwrap
from numgraph.graph import Shard, shard
from numgraph.graph.sorting import frozen

OWNED, GHOSTS, E = 30, 9, 200
RNG = np.random.default_rng(0)
SRC, DST = RNG.integers(0, OWNED + GHOSTS, E), RNG.integers(0, OWNED, E)
X, W, SEED = (RNG.standard_normal((rows, 3)) for rows in (OWNED + GHOSTS, E, OWNED))
MESSAGES = {
    "sum": lambda g, h: ng.update_all(g, lambda u: u.h * u.h, "sum", u={"h": h}),
    "of edges": lambda g, h: ng.update_all(g, lambda u, e: u.h * e.w, "mean", u={"h": h}, e={"w": W}),
    "winners": lambda g, h: ng.update_all(g, lambda u, e: u.h * e.w, "max", u={"h": h}, e={"w": W}),
    "two readers": lambda g, h: (
        ng.update_all(g, lambda u: u.h, "sum", u={"h": h})
        * ng.update_all(g, lambda u: u.h, "max", u={"h": h})
    ),
    "a walk of two": lambda g, h: ng.update_all(g, lambda u: u.h * u.k, "sum", u={"h": h, "k": h + 1.0}),
    "rows besides": lambda g, h: ng.update_all(g, lambda u: u.h, "sum", u={"h": h}) + h[:OWNED],
}


@pytest.fixture
def part(monkeypatch):
    """A process's part, whose rows come in several pieces."""
    monkeypatch.setattr(shard, "PIECE_EDGES", 16)
    whole = ng.Graph(SRC, DST, num_src=OWNED + GHOSTS, num_dst=OWNED)
    interior = SimpleNamespace(in_flight={}, interior=0)
    return whole, Shard.whole_rows(
        interior, frozen(np.arange(OWNED + GHOSTS)), whole._edges, frozen(np.arange(E))
    )


def passed(x, seen):
    """x itself; its gradient is taken as an exchange takes it: the rows of ghosts are read before the others
    are computed.
    """

    def vjp(g, *_):
        if isinstance(g, Deferred):
            array, steps = g.work.of_ghosts()[g.place], []
            ghosts = array[OWNED:].copy()
            g.work.rest(lambda: steps.append(1))
            seen.append((ghosts, len(steps)))
            return (array,)
        return (g,)

    return record("passed", (x,), unwrap(x).copy(), vjp, takes_deferred=True)


@pytest.mark.parametrize("name", MESSAGES)
def test_whatever_reads_the_gradients_of_sources_they_are_those_of_a_graph(name, part):
    whole, mine = part
    seen, found = [], []
    for g in (whole, mine):
        with ng.Tape(persistent=True) as tape:
            x = tape.watch(X)
            h = passed(x, seen)
            z = MESSAGES[name](g, h)
        found.append([tape.gradient(z, wanted, seed=SEED) for wanted in ([x], [h, x])])
    for wanted, made in zip(np.concatenate(found[0]).ravel(), np.concatenate(found[1]).ravel(), strict=True):
        assert made == pytest.approx(wanted, rel=1e-12, abs=1e-12)
    alone = name in ("sum", "of edges", "winners")
    assert len(seen) == 2 * alone
    for ghosts, steps in seen:
        assert np.abs(ghosts - found[0][0][0][OWNED:]).max() < 1e-12
        assert steps > 3


def test_a_tape_that_checks_or_is_recorded_computes_them_at_once(part):
    _, mine = part
    seen = []
    with ng.Tape() as outer:
        x = outer.watch(X)
        with ng.Tape(check=True) as tape:
            tape.watch(x)
            z = MESSAGES["sum"](mine, passed(x, seen))
        dx = tape.gradient(z, x, seed=SEED)
        assert not seen
        total = (dx * dx).sum()
    second = outer.gradient(total, x)
    terms = np.zeros_like(X)
    np.add.at(terms, SRC, 2 * SEED[DST])
    assert np.abs(dx.data - terms * X).max() < 1e-12
    assert np.abs(second - 2 * terms**2 * X).max() < 1e-11
