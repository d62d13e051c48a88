"""Adjacency, a compressed half of a graph, and the counting sort that builds it from pairs of ids in O(edges + rows).

The sort is stable, so its result is unique: within a row edges stay in edge-id order, whatever the number of threads.
The parallel sort first deals the edges out to a few hundred buckets of neighbouring rows, then sorts each bucket in cache.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from numgraph import threads
from numgraph.compiling import njit

Ids = NDArray[np.signedinteger[Any]]
T = TypeVar("T")

BUCKETS = 512
"""Buckets of the parallel sort, at most: three write streams each must stay within the 768 lines of a 48 KiB L1 cache, roughly."""


@dataclass(frozen=True, eq=False)
class Adjacency:
    """The edges grouped by one end: compressed sparse rows of out-edges (CSR, rows are sources) or in-edges (CSC, rows are destinations).

    Row r holds the positions ``indptr[r]:indptr[r + 1]``, in the order of edge ids if it was sorted from (src, dst), or as given.
    All arrays are read-only and of one dtype, int32 or int64.

    Attributes
    ----------
    indptr : [num_rows + 1] first position of each row; the last entry is the number of edges
    indices : [num_edges] the node at the other end of the edge at each position
    ordered : edge ids are the positions themselves, so edge data need no permutation
    """

    indptr: Ids
    indices: Ids
    ordered: bool
    _edge_ids: Ids | None = field(default=None, repr=False)
    _derived: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @property
    def edge_ids(self) -> Ids:
        """[num_edges] the edge at each position; ``0, 1, …`` if `ordered` (made on the first access)."""
        if self._edge_ids is None:
            return self.derived("edge_ids", lambda a: frozen(np.arange(a.num_edges, dtype=a.indices.dtype)))
        return self._edge_ids

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    @property
    def num_edges(self) -> int:
        """Number of edges."""
        return len(self.indices)

    def derived(self, key: Hashable, build: Callable[[Adjacency], T]) -> T:
        """What ``build(self)`` returned the first time `key` was asked for: the place for a kernel's row partition and the like.

        Safe from many threads: two that ask at once may both build, and both get the same object.
        """
        try:
            return self._derived[key]
        except KeyError:
            return self._derived.setdefault(key, build(self))


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """`array` itself, made read-only. For arrays that nobody else holds."""
    array.flags.writeable = False
    return array


def group(keys: Ids, values: Ids, num_rows: int) -> Adjacency:
    """Adjacency whose row r holds the edges with ``keys[edge] == r``, and `values` as the other ends.

    keys, values: [num_edges], read-only, C-contiguous, of one dtype; keys within ``0 … num_rows - 1`` (checked by the caller).
    """
    indptr = np.empty(num_rows + 1, keys.dtype)
    if row_starts_if_sorted(keys, indptr):
        return Adjacency(frozen(indptr), values, ordered=True)
    indices, edge_ids = np.empty_like(keys, subok=False), np.empty_like(keys, subok=False)
    threads.run(sort_parallel, sort_serial, keys, values, indptr, indices, edge_ids, work=len(keys))
    return Adjacency(frozen(indptr), frozen(indices), ordered=False, _edge_ids=frozen(edge_ids))


@njit()
def row_starts_if_sorted(keys, indptr):
    """Fill `indptr` in one pass over sorted keys; False, at the first descent, if they are not sorted."""
    row = 0
    for i in range(len(keys)):
        key = keys[i]
        if key < row - 1:
            return False
        while row <= key:
            indptr[row] = i
            row += 1
    for r in range(row, len(indptr)):
        indptr[r] = len(keys)
    return True


@njit()
def sort_serial(keys, values, indptr, indices, edge_ids):
    """Counting sort by rows: count, sum up, place."""
    indptr[:] = 0
    for i in range(len(keys)):
        indptr[keys[i] + 1] += 1
    for r in range(1, len(indptr)):
        indptr[r] += indptr[r - 1]
    for i in range(len(keys)):
        place = indptr[keys[i]]
        indptr[keys[i]] += 1
        indices[place] = values[i]
        edge_ids[place] = i
    for r in range(len(indptr) - 1, 0, -1):  # every entry has moved to the end of its row, which is the start of the next
        indptr[r] = indptr[r - 1]
    indptr[0] = 0


@njit()
def _deal(keys, values, first, last, shift, cursors, bucket_keys, indices, edge_ids):
    """Place edges first … last - 1 behind their bucket's cursor, in order."""
    for i in range(first, last):
        bucket = keys[i] >> shift
        place = cursors[bucket]
        cursors[bucket] = place + 1
        bucket_keys[place] = keys[i]
        indices[place] = values[i]
        edge_ids[place] = i


@njit()
def _sort_bucket(start, stop, first_row, rows, bucket_keys, cursors, kept_values, kept_ids, indptr, indices, edge_ids):
    """Counting sort of positions start … stop - 1, whose keys are first_row … first_row + rows - 1; writes those rows' starts."""
    cursors[:rows] = 0
    for i in range(start, stop):
        cursors[bucket_keys[i] - first_row] += 1
        kept_values[i - start] = indices[i]
        kept_ids[i - start] = edge_ids[i]
    place = start
    for r in range(rows):
        count = cursors[r]
        cursors[r] = place
        indptr[first_row + r] = place
        place += count
    for i in range(start, stop):
        row = bucket_keys[i] - first_row
        place = cursors[row]
        cursors[row] = place + 1
        indices[place] = kept_values[i - start]
        edge_ids[place] = kept_ids[i - start]


def sort_parallel(keys: Ids, values: Ids, indptr: Ids, indices: Ids, edge_ids: Ids) -> None:
    """The same result as `sort_serial`. Needs one array of the edges' size on top of its outputs."""
    _sort_in_parts(keys, values, indptr, indices, edge_ids, numba.get_num_threads())  # inside the kernel it would forbid caching


@njit(parallel=True)
def _sort_in_parts(keys, values, indptr, indices, edge_ids, parts):
    num_edges, num_rows = len(keys), len(indptr) - 1
    shift = 0
    while ((num_rows - 1) >> shift) >= BUCKETS:
        shift += 1
    buckets = ((num_rows - 1) >> shift) + 1

    cursors = np.zeros((parts, buckets), np.int64)
    for part in numba.prange(parts):
        for i in range(num_edges * part // parts, num_edges * (part + 1) // parts):
            cursors[part, keys[i] >> shift] += 1
    starts = np.empty(buckets + 1, np.int64)
    place = 0
    for bucket in range(buckets):
        starts[bucket] = place
        for part in range(parts):
            count = cursors[part, bucket]
            cursors[part, bucket] = place
            place += count
    starts[buckets] = place

    bucket_keys = np.empty_like(indices)
    for part in numba.prange(parts):
        first, last = num_edges * part // parts, num_edges * (part + 1) // parts
        _deal(keys, values, first, last, shift, cursors[part], bucket_keys, indices, edge_ids)

    for part in numba.prange(parts):
        first_bucket = np.searchsorted(starts[:buckets], num_edges * part // parts)
        last_bucket = np.searchsorted(starts[:buckets], num_edges * (part + 1) // parts)
        if part == 0:
            first_bucket = 0
        if part == parts - 1:
            last_bucket = buckets
        largest = 0
        for bucket in range(first_bucket, last_bucket):
            largest = max(largest, starts[bucket + 1] - starts[bucket])
        kept_values, kept_ids = np.empty(largest, indices.dtype), np.empty(largest, indices.dtype)
        row_cursors = np.empty(1 << shift, np.int64)
        for bucket in range(first_bucket, last_bucket):
            first_row = bucket << shift
            rows = min(1 << shift, num_rows - first_row)
            start, stop = starts[bucket], starts[bucket + 1]
            _sort_bucket(start, stop, first_row, rows, bucket_keys, row_cursors, kept_values, kept_ids, indptr, indices, edge_ids)
    indptr[num_rows] = num_edges
