"""Random messages through the compiler: every program verified and interpreted under several schedules, some
compiled; values and gradients are NumPy's (support/shapes.py), and nothing is written outside of a result."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import programs
import pytest
import shapes
from test_random_shapes import CHOSEN, check_second_order_of_an_outer_product

import numgraph as ng
from numgraph.compiler.index import EDGE

INTERPRETED = int(os.environ.get("NUMGRAPH_TEST_PROGRAMS", "42"))
GROUP = 7
GRAPHS = (shapes.graph(), ng.Graph([2, 0, 0, 1, 3, 2, 0, 0], [0, 0, 1, 1, 1, 1, 1, 3], num_src=5, num_dst=4))
"""Edge ids in no order, and as positions of in-edges."""
COMPILED = 10


def some(seed: int) -> Any:
    """Two schedules of each walk."""
    rng = random.Random(seed)
    return lambda found: rng.sample(found, min(2, len(found)))


def in_lanes(seed: int) -> Any:
    """One schedule with something in lanes; edges where they fit, for every other seed."""
    rng = random.Random(seed)

    def choice(found: Any) -> Any:
        edges = [s for s in found if EDGE in s.lanes and seed % 2]
        return [rng.choice(edges or [s for s in found if s.lanes.tiles and EDGE not in s.lanes] or found)]

    return choice


@pytest.mark.parametrize("first", range(0, INTERPRETED, GROUP))
def test_interpreted(first):
    for seed in range(first, first + GROUP):
        with programs.interpreting(some(seed)):
            shapes.check(GRAPHS[seed % 2], shapes.random_case(seed + 10_000))


@pytest.mark.parametrize("seed", range(COMPILED))
def test_compiled(seed):
    with programs.compiling(in_lanes(seed)):
        shapes.check(GRAPHS[seed % 4 // 2], shapes.random_case(seed + 20_000))


def every(found: Any) -> Any:
    """Every schedule of a small walk; of a large one those with most in lanes, as scalars take the
    interpreter long.
    """
    lanes = sorted(found, key=lambda s: s.lanes.count(tuple([v for v, _ in s.lanes.tiles])))
    features = max(
        int(np.prod([v.extent or 1 for v in (*s.loops, *[v for v, _ in s.lanes.tiles])])) for s in found
    )
    return found if features <= 30 else lanes[-2:]


@pytest.mark.parametrize("name", CHOSEN)
def test_chosen_under_every_schedule(name):
    """The shapes that a kernel once got wrong: value and gradient."""
    message, score, given = CHOSEN[name]
    rng = np.random.default_rng(3)
    functions = [text and eval(f"lambda u: {text}", {"np": np}) for text in (message, score)]
    fields = {
        "u": {key: shapes.inside_of_nan(rng, 5, *shape) for key, shape in given.items()},
        "v": {},
        "e": {},
    }
    score = score and (lambda u, v, e: functions[1](u))
    case = shapes.Case(name, "attend" if score else "sum", lambda u, v, e: functions[0](u), score, fields)
    with programs.interpreting(every):
        shapes.check(shapes.graph(), case)


def test_second_order_of_an_outer_product():
    with programs.interpreting(lambda found: found):
        check_second_order_of_an_outer_product()
