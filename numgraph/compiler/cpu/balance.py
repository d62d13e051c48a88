"""Who computes which rows: groups of whole rows with equal work, and hubs, rows so long that they are cut
into chunks.

A hub's chunks are the rows of a small adjacency of their own, each with the hub's fields; their results are
then combined in chunk order. Chunks depend on the graph alone, never on the number of threads, so neither do
the result's bits."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

PARTS = 64
"""Groups that the rows are cut into: several a thread, so that uneven rows even out."""
HUB_EDGES = 16384
"""A row with more edges is cut into chunks."""
CHUNK_EDGES = 2048
"""Edges of a chunk, or a 1024th of all edges, if that is more. In chunks of 16,384, sums of 100,000
exponentials of two numbers in float32 were off by 5e-5, in these by 5e-6."""

EVEN_FROM = 1 << 15
"""Edges from which on it is asked whether rows are even: kernels for rows side by side are others."""
_SHORT, _BESIDE, _IDLE = 12, 8, 1.25
"""Rows that may go side by side: their mean length, how many are looked at together, and steps that these
take for each that they need."""

_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class Hub:
    """A row with its edge positions cut into chunks: bounds [chunks + 1]."""

    row: int
    bounds: Any

    @property
    def counts(self) -> Any:
        """Edges in each chunk."""
        return np.diff(self.bounds)


@dataclass(frozen=True)
class Parts:
    """ranges [groups, 2]: first and last + 1 row of each group, hubs left out."""

    ranges: Any
    hubs: tuple[Hub, ...]


def divided(rows: Any, small: bool) -> Parts:
    """The division of an adjacency's rows, or of a number of edges, each a row of its own. small: one thread
    computes them anyway.
    """
    if isinstance(rows, int):
        return Parts(np.array([[0, rows]], np.int64), ()) if small else _parts_of_edges(rows)
    if small and not len(_hubs(rows)):
        return Parts(np.array([[0, rows.num_rows]], np.int64), ())
    found: Parts = rows.derived("parts", parts_of)
    return found


def rows_are_even(adjacency: Any) -> bool:
    """Whether rows are short, and neighbours about as long as each other. Asked for through ``derived``."""
    rows = adjacency.num_rows // _BESIDE * _BESIDE
    if not rows or adjacency.num_edges >= _SHORT * adjacency.num_rows:
        return False
    degrees = np.diff(adjacency.indptr[: rows + 1]).reshape(-1, _BESIDE)
    return bool(_BESIDE * int(degrees.max(1).sum()) <= _IDLE * max(int(degrees.sum()), 1))


def _longest(num_edges: int) -> int:
    """Edges of the longest row that is not cut."""
    return max(HUB_EDGES, num_edges // 1024)


def _hubs(adjacency: Any) -> Any:
    """The rows that are cut."""
    most = _longest(adjacency.num_edges)
    return np.flatnonzero(np.diff(adjacency.indptr) > most) if adjacency.num_edges > most else _NONE


def parts_of(adjacency: Any) -> Parts:
    """The division of an adjacency's rows. Asked for through ``adjacency.derived``, so made once."""
    indptr, rows = adjacency.indptr, adjacency.num_rows
    chunk = min(_longest(adjacency.num_edges), max(CHUNK_EDGES, adjacency.num_edges // 1024))
    reached = indptr + np.arange(rows + 1)  # a row costs its edges and one
    long = _hubs(adjacency)
    if not len(long):
        return Parts(_ranges(np.searchsorted(reached, int(reached[-1]) * np.arange(PARTS + 1) // PARTS)), ())
    weights = np.diff(reached)
    weights[long] = 1
    reached = np.concatenate([[0], np.cumsum(weights)])
    bounds = np.searchsorted(reached, np.linspace(0, reached[-1], PARTS + 1)[1:-1])
    ranges = _ranges(np.sort(np.concatenate([[0], bounds, long, long + 1, [rows]])))
    hubs = tuple(
        Hub(
            int(row),
            np.append(np.arange(indptr[row], indptr[row + 1], chunk), indptr[row + 1]).astype(indptr.dtype),
        )
        for row in long
    )
    return Parts(np.ascontiguousarray(ranges[~np.isin(ranges[:, 0], long)]), hubs)


@functools.lru_cache(maxsize=64)
def _parts_of_edges(count: int) -> Parts:
    """The division of a graph's edges, each a row of its own."""
    return Parts(_ranges(count * np.arange(PARTS + 1) // PARTS), ())


def _ranges(cuts: Any) -> Any:
    """The ranges between cuts in order, without those that are empty."""
    ranges = np.empty((len(cuts) - 1, 2), np.int64)
    ranges[:, 0], ranges[:, 1] = cuts[:-1], cuts[1:]
    return ranges[ranges[:, 0] < ranges[:, 1]]


def each_alone(count: int) -> Any:
    """Ranges that give every one of ``count`` rows to a part of its own."""
    return np.stack([np.arange(count), np.arange(1, count + 1)], axis=1)
