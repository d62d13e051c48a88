"""Which walks the compiler serves on the CPU, beside the generator of kernels/: the one place that decides, and says why.

The generator puts heads side by side in lanes only where their width is a power of two. Numbers per head of any other width it computes
head by head: scalars, whose exponentials cost as much as those of a whole register. Here heads × width are one run of lanes, whatever
their lengths, and numbers per head a vector of their own. Measured old and new alternating on one thread, on a grid and on 50 edges a row,
for 5 × 11, 7 × 7 and 6 × 13 in float32: attention by additive scores 2.4 to 3.4 times as fast forward, 1.8 to 3.3 with gradients; by
products 1.7 to 2.9 and 1.3 to 2.4; products with a number per head, maxima of them, and outer products 1.1 to 2.2 and 1.0 to 1.9.

At powers of two both are equal. A head of more than 24 features fills registers by itself, and sums over its features cost more than they
save (with gradients by products, on a grid: 2 × 29 0.87, 3 × 50 0.74). Nor is anything gained where all heads together are more than one
tile and what is per head costs little (8 × 50 weighted by the edge: 0.6).
"""

from __future__ import annotations

import math

from numgraph.compiler.index import EDGE, Notation, Term, Variable, terms_of
from numgraph.compiler.schedule import Machine, Schedule

WIDEST = 24
"""Features of a head at most."""


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
    return any(not inner & term.free for term in (*softmax, *[term for term in terms if prices.get(term.op, 1.0) >= 20.0]))
