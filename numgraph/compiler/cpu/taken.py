"""Which walks the compiler serves on the CPU, beside the generator of kernels/: the one place that decides, and says why.

The generator puts heads side by side in lanes only where their width is a power of two. Numbers per head of any other width it computes
head by head: scalars, whose exponentials cost as much as those of a whole register. Here heads × width are one run of lanes, whatever their
lengths, and numbers per head a vector of their own. Measured old and new alternating on one thread, on a grid and on 50 edges a row:
attention by additive scores 2.4 to 3.4 times as fast forward and 1.8 to 3.3 forward and backward, by products 1.7 to 2.9 and 1.3 to 2.4
(heads × width 5 × 11, 7 × 7, 6 × 13). At powers of two both are equal.
"""

from __future__ import annotations

from numgraph.compiler.index import EDGE, Notation, Variable, terms_of
from numgraph.compiler.schedule import Schedule

WIDEST = 64
"""Features of a head from which on one head fills a tile by itself."""


def worth(notation: Notation) -> bool:
    """Whether something is computed per head beside something per head and feature, and a head's features are no power of two."""
    terms = terms_of(notation.results)
    columns = [column for result in notation.results for column, _, _ in result.arrays]
    columns += [term.detail[1] for term in terms if term.op == "load"]
    runs = [tuple(v for v, _ in column.strides) for column in columns]
    fused = [run for run in runs if len(run) > 1 and _odd(run[-1])]
    numbers = [frozenset(run) for run in runs] + [term.free & _features(notation) for term in terms]
    return any(number and number < frozenset(run) and run[-1] not in number for run in fused for number in numbers)


def fuses(schedule: Schedule) -> bool:
    """Whether several variables of features are in lanes."""
    return len([v for v, _ in schedule.lanes.tiles if v != EDGE]) > 1


def _odd(variable: Variable) -> bool:
    width = variable.extent or 0
    return 1 < width < WIDEST and width & (width - 1) != 0


def _features(notation: Notation) -> frozenset[Variable]:
    columns = [column for result in notation.results for column, _, _ in result.arrays]
    columns += [term.detail[1] for term in terms_of(notation.results) if term.op == "load"]
    return frozenset(v for column in columns for v, _ in column.strides)
