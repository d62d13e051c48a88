"""Transforms of checked id arrays: merging repeats, renumbering nodes, and the orders that `Graph.reorder`
offers.

They take and give plain arrays or adjacencies; `Graph` wraps them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.graph.sorting import Adjacency, Ids, expanded, frozen, group
from numgraph.runtime.compiling import njit


def by_both(rows: Adjacency, num_columns: int) -> Adjacency:
    """The edges grouped by the other end, the ends that were rows ascending within each of these groups.

    rows: the edges grouped by one end, in any order within a row. Grouping them again, stably, by the other
    end sorts by both. The result's edge ids are positions in `rows`, see ``composed``.
    """
    return group(rows.indices, expanded(rows.indptr, rows.indices.dtype), num_columns, rows.indptr.dtype)


def composed(rows: Adjacency, columns: Adjacency) -> Ids:
    """[num_edges] the edge at each position of ``by_both(rows)``; parallel edges stand in the order that they
    have in `rows`.
    """
    return columns.edge_ids if rows.ordered else frozen(rows.edge_ids[columns.edge_ids])


def without_repeats(columns: Adjacency) -> tuple[Adjacency, Ids]:
    """Sorted rows without the entries that equal the one before, and [their number + 1] where the entries
    equal to each begin.
    """
    indptr, kept, starts = (
        np.empty_like(columns.indptr),
        np.empty_like(columns.indices),
        np.empty(columns.num_edges + 1, columns.indptr.dtype),
    )
    count = _keep_first_of_equals(columns.indptr, columns.indices, indptr, kept, starts)
    return Adjacency(frozen(indptr), frozen(kept[:count].copy()), ordered=True), frozen(
        starts[: count + 1].copy()
    )


@njit()
def _keep_first_of_equals(indptr, indices, kept_indptr, kept, starts):
    """Copy each row without the entries that equal the one before; the number of entries copied."""
    count = 0
    kept_indptr[0] = 0
    for r in range(len(indptr) - 1):
        for i in range(indptr[r], indptr[r + 1]):
            if i == indptr[r] or indices[i] != indices[i - 1]:
                kept[count] = indices[i]
                starts[count] = i
                count += 1
        kept_indptr[r + 1] = count
    starts[count] = len(indices)
    return count


def grouped(keys: Ids, values: Ids, num_rows: int) -> tuple[Ids, Ids]:
    """Offsets and members of the groups with equal keys; values keep their order inside each."""
    rows = group(frozen(keys), frozen(values), num_rows)
    return rows.indptr, rows.indices


def numbering(nodes: Ids, num_nodes: int) -> Ids:
    """[num_nodes] position in `nodes` of each node, the last one if it occurs more than once; -1 for nodes
    that are not in it.
    """
    numbers = np.full(num_nodes, -1, nodes.dtype)
    numbers[nodes] = np.arange(len(nodes), dtype=nodes.dtype)
    return numbers


def neighbours(rows: Adjacency, nodes: Ids, seen: NDArray[np.bool_]) -> Ids:
    """The nodes in the rows of `nodes` that were not seen yet, each once; they are seen then."""
    found = np.empty(len(seen), rows.indices.dtype)
    return found[: _neighbours(rows.indptr, rows.indices, frozen(nodes), seen, found)].copy()


@njit()
def _neighbours(indptr, indices, nodes, seen, found):
    count = 0
    for node in nodes:
        for i in range(indptr[node], indptr[node + 1]):
            other = indices[i]
            if not seen[other]:
                seen[other] = True
                found[count] = other
                count += 1
    return count


def search(rows: Adjacency, sources: Ids, targets: Ids) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first position of each pair's edges in sorted rows, and one past the last."""
    first, last = np.empty(len(sources), np.int64), np.empty(len(sources), np.int64)
    _search(rows.indptr, rows.indices, frozen(sources), frozen(targets), first, last)
    return first, last


@njit()
def _search(indptr, indices, sources, targets, first, last):
    """Two binary searches a pair: for its target, and for one more than it."""
    for k in range(len(sources)):
        stop = np.int64(indptr[sources[k] + 1])
        low, high = np.int64(indptr[sources[k]]), stop
        while low < high:
            middle = (low + high) >> 1
            if indices[middle] < targets[k]:
                low = middle + 1
            else:
                high = middle
        first[k] = low
        high = stop
        while low < high:
            middle = (low + high) >> 1
            if indices[middle] <= targets[k]:
                low = middle + 1
            else:
                high = middle
        last[k] = low


def by_cuthill_mckee(neighbours: Adjacency) -> NDArray[Any]:
    """Reverse Cuthill-McKee order of a symmetric graph: neighbours get numbers close to each other (Cuthill
    and McKee, 1969).
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    if neighbours.num_rows == 0:  # SciPy looks for the largest degree there
        return np.zeros(0, np.int32)
    shape = (neighbours.num_rows, neighbours.num_rows)
    ones = np.ones(neighbours.num_edges, bool)
    found: NDArray[Any] = reverse_cuthill_mckee(
        csr_array((ones, neighbours.indices, neighbours.indptr), shape=shape), symmetric_mode=True
    )
    return found


def by_degree(neighbours: Adjacency) -> NDArray[Any]:
    """Nodes of many neighbours first, equals in their old order."""
    return np.argsort(-np.diff(neighbours.indptr), kind="stable")


ORDERS: dict[str, Callable[[Adjacency], NDArray[Any]]] = {"rcm": by_cuthill_mckee, "degree": by_degree}
"""Name → function of a simple symmetric graph's neighbours, giving the old node at each new place."""
