"""Transforms of checked id arrays: merging repeats, renumbering nodes, and the orders that `Graph.reorder` offers.

They take and give plain arrays or adjacencies; `Graph` wraps them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.graph.sorting import Adjacency, Ids, expanded, frozen, group
from numgraph.runtime.compiling import njit


def merged(rows: Adjacency, num_columns: int) -> Adjacency:
    """The grouping by the other end in which every pair of ends occurs once, the other ends ascending within each row.

    rows: the edges grouped by one end, in any order within a row. Grouping them again, stably, by the other end sorts by both.
    """
    columns = group(rows.indices, expanded(rows.indptr), num_columns)
    indptr, kept = np.empty_like(columns.indptr), np.empty_like(columns.indices)
    count = _keep_first_of_equals(columns.indptr, columns.indices, indptr, kept)
    return Adjacency(frozen(indptr), frozen(kept[:count].copy()), ordered=True)


@njit()
def _keep_first_of_equals(indptr, indices, kept_indptr, kept):
    """Copy each row without the entries that equal the one before; the number of entries copied."""
    count = 0
    kept_indptr[0] = 0
    for r in range(len(indptr) - 1):
        for i in range(indptr[r], indptr[r + 1]):
            if i == indptr[r] or indices[i] != indices[i - 1]:
                kept[count] = indices[i]
                count += 1
        kept_indptr[r + 1] = count
    return count


def numbering(nodes: Ids, num_nodes: int) -> Ids:
    """[num_nodes] position in `nodes` of each node, the last one if it occurs more than once; -1 for nodes that are not in it."""
    numbers = np.full(num_nodes, -1, nodes.dtype)
    numbers[nodes] = np.arange(len(nodes), dtype=nodes.dtype)
    return numbers


def by_cuthill_mckee(neighbours: Adjacency) -> NDArray[Any]:
    """Reverse Cuthill-McKee order of a symmetric graph: neighbours get numbers close to each other (Cuthill and McKee, 1969)."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    if neighbours.num_rows == 0:  # SciPy looks for the largest degree there
        return np.zeros(0, np.int32)
    shape = (neighbours.num_rows, neighbours.num_rows)
    ones = np.ones(neighbours.num_edges, bool)
    return reverse_cuthill_mckee(csr_array((ones, neighbours.indices, neighbours.indptr), shape=shape), symmetric_mode=True)


def by_degree(neighbours: Adjacency) -> NDArray[Any]:
    """Nodes of many neighbours first, equals in their old order."""
    return np.argsort(-np.diff(neighbours.indptr), kind="stable")


ORDERS: dict[str, Callable[[Adjacency], NDArray[Any]]] = {"rcm": by_cuthill_mckee, "degree": by_degree}
"""Name → function of a simple symmetric graph's neighbours, giving the old node at each new place."""
