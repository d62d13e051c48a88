"""Which walks the compiler serves on the CPU, beside the generator of kernels/: the one place that decides, and says why.

The generator puts heads side by side in lanes only where their width is a power of two. Numbers per head of any other width it computes
head by head: scalars, whose exponentials cost as much as those of a whole register. Here heads × width are one run of lanes, whatever
their lengths, and numbers per head a vector of their own. Measured old and new alternating on one thread, on a grid and on 50 edges a row,
for 5 × 11, 7 × 7 and 6 × 13 in float32: attention by additive scores 2.4 to 3.4 times as fast forward, 1.8 to 3.3 with gradients; by
products 1.7 to 2.9 and 1.3 to 2.4; products with a number per head, maxima of them, and outer products 1.1 to 2.2 and 1.0 to 1.9.

At powers of two both are equal. A head of more than 24 features fills registers by itself, and sums over its features cost more than they
save (with gradients by products, on a grid: 2 × 29 0.87, 3 × 50 0.74). Nor is anything gained where all heads together are more than one
tile and what is per head costs little (8 × 50 weighted by the edge: 0.6).

And a lane of the generator is always a feature, so where an edge has one number, it computes scalars. Here as many edges of a row as a
register has lanes go side by side. On one thread: sums of exponentials 1.8 times as fast with 12 edges a row, 2.6 with 50 and 3.2 in a
graph of 1 M edges; softmax over edges 1.1, 1.5 and 1.8, attention with one head 1.1, 1.9 and 2.0; plain sums 1.3 to 1.6 with 150 edges a
row, but 0.9 with 50 in a graph that the cache holds, and 1.0 where edge data are gathered by ids too. With two features and more, gathering
costs more than the idle lanes (plain sums 0.2 to 0.5).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from numgraph.compiler.index import EDGE, Notation, Term, Variable, terms_of
from numgraph.compiler.schedule import Machine, Schedule, candidates
from numgraph.kernels.reducing import REDUCERS

COSTLY = 20.0
"""Instructions of a function that is worth lanes of its own."""
WIDEST = 24
"""Features of a head at most."""

LONG, LONGER = 12, 96
"""Edges a row from which on they go side by side: where functions of many instructions are computed for each, and where not."""


def chosen(notation: Notation, machine: Machine, length: int, ordered: bool, cheapest: Callable[[Machine], Schedule]) -> Schedule | None:
    """The schedule of a walk that the compiler serves, None for others. length: edges of a row, roughly. ordered: ids are positions."""
    if any(result.reduce not in REDUCERS and result.reduce != "edge" for result in notation.results):
        return cheapest(machine)
    if side_by_side(notation, machine, length, ordered):
        return next(schedule for schedule in candidates(notation, machine) if EDGE in schedule.lanes)
    if not worth(notation, machine):
        return None
    schedule = cheapest(replace(machine, edges=False))
    return schedule if fuses(schedule) else None


def side_by_side(notation: Notation, machine: Machine, length: int, ordered: bool) -> bool:
    """Whether edges go side by side: one number an edge, which are gathered as the processor can, in sums whose order is free."""
    terms, prices = terms_of(notation.results), dict(machine.prices)
    arrays = [term.detail[1].strides for term in terms if term.op == "load"]
    single = not any(arrays) and all(term.op not in ("sum", "max") for term in terms)
    stored = [leaf.dtype for leaf in notation.fields.values()] + [dtype for result in notation.results for _, _, dtype in result.arrays]
    reduces = {result.reduce for result in notation.results}
    if not single or any(dtype.itemsize < 4 for dtype in stored) or reduces & {"max", "min"} or reduces == {"edge"}:
        return False
    costly = bool(reduces & {"softmax", "logsumexp"}) or any(prices.get(term.op, 1.0) >= COSTLY for term in terms if EDGE in term.free)
    apart = not ordered and any(target == "e" for target, _ in notation.fields)
    return length >= LONG if costly else length >= LONGER and not apart


def worth(notation: Notation, machine: Machine) -> bool:
    """Whether numbers per head stand beside some per head and feature, whose number of features is no power of two."""
    terms = terms_of(notation.results)
    columns = [column for result in notation.results for column, _, _ in result.arrays]
    columns += [term.detail[1] for term in terms if term.op == "load"]
    runs = [tuple(v for v, _ in column.strides) for column in columns]
    features = frozenset(v for run in runs for v in run)
    fused = [run for run in runs if len(run) > 1 and _odd(run[-1])]
    numbers = {frozenset(run) for run in runs} | {term.free & features for term in terms}
    if not any(number and number < frozenset(run) and run[-1] not in number for run in fused for number in numbers):
        return False
    wide = max(_bytes(run, terms) for run in runs)
    return wide <= machine.registers * machine.register_bytes or _costly(notation, terms, machine, fused)


def fuses(schedule: Schedule) -> bool:
    """Whether several variables of features are in lanes."""
    return len([v for v, _ in schedule.lanes.tiles if v != EDGE]) > 1


def _odd(variable: Variable) -> bool:
    width = variable.extent or 0
    return 1 < width <= WIDEST and width & (width - 1) != 0


def _bytes(run: tuple[Variable, ...], terms: list[Term]) -> int:
    item = max(8 if term.dtype.endswith("64") else 4 for term in terms)
    return item * math.prod([v.extent or 1 for v in run])


def _costly(notation: Notation, terms: list[Term], machine: Machine, fused: list[tuple[Variable, ...]]) -> bool:
    """Whether a function of many instructions is computed per head."""
    prices, inner = dict(machine.prices), {run[-1] for run in fused}
    softmax = [result.terms[0] for result in notation.results if result.reduce in ("softmax", "logsumexp")]
    return any(not inner & term.free for term in (*softmax, *[term for term in terms if prices.get(term.op, 1.0) >= COSTLY]))
