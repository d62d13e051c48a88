"""Arrays of ids: checked once, and grouped to an `Adjacency` by a counting sort in O(edges + rows).

The sort is stable, so its result is unique: within a row edges stay in edge-id order, whatever the number of
threads. The parallel sort first deals the edges out to a few hundred buckets of neighbouring rows, then sorts
each bucket in cache."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from numgraph.arrays import devices, library_of
from numgraph.arrays.inputs import INTEGERS, as_array
from numgraph.errors import bad_index, bad_type, bad_value, shown
from numgraph.runtime import threads
from numgraph.runtime.compiling import njit

Ids = NDArray[np.signedinteger[Any]]
T = TypeVar("T")

INT32_LIMIT = 2**31 - 1
"""Ids of as many nodes as this, or more, are int64; of fewer int32. Ids of edges and positions are int64 also
of as many edges.
"""

BUCKETS = 256
"""Buckets of the parallel sort, at most. Three write streams each fit a 48 KiB L1 cache; with 512 dealing
takes 2.7 times as long.
"""


@dataclass(frozen=True, eq=False)
class Adjacency:
    """The edges grouped by one end: compressed sparse rows of out-edges (CSR, rows are sources) or in-edges
    (CSC, rows are destinations).

    Row r holds the positions ``indptr[r]:indptr[r + 1]``, in the order of edge ids if it was sorted from
    (src, dst), or as given. All arrays are read-only, int32 or int64: `indptr` and `edge_ids` of one dtype,
    which is `indices`' unless there are 2**31 - 1 edges and fewer nodes. Those of a graph on a device are
    CuPy arrays, and of one dtype.

    Attributes
    ----------
    indptr : [num_rows + 1] first position of each row; the last entry is the number of edges
    indices : [num_edges] the node at the other end of the edge at each position
    ordered : edge ids are the positions themselves, so edge data need no permutation

    Examples
    --------
    >>> import numgraph as ng
    >>> rows = ng.Graph([0, 1, 2], [1, 2, 2]).in_edges
    >>> rows.indptr.tolist(), rows.indices.tolist(), rows.edge_ids.tolist()
    ([0, 0, 1, 3], [0, 1, 2], [0, 1, 2])
    """

    indptr: Ids
    indices: Ids
    ordered: bool
    _edge_ids: Ids | None = field(default=None, repr=False)
    _derived: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    _host: Adjacency | None = field(default=None, repr=False)

    @property
    def host(self) -> Adjacency:
        """The same rows with their arrays on the host, where work is planned; itself if they are there."""
        return self if self._host is None else self._host

    def to(self, device: str) -> Adjacency:
        """The same rows with copies of their arrays on a device.

        Parameters
        ----------
        device : "cpu" or "cuda"

        Returns
        -------
        Adjacency
        """
        host = self.host
        if device == "cpu":
            return host
        indptr = devices.moved(host.indptr, device)
        indices = devices.moved(host.indices.astype(host.indptr.dtype, copy=False), device)
        return Adjacency(indptr, indices, host.ordered, _host=host)

    @property
    def edge_ids(self) -> Ids:
        """[num_edges] the edge at each position; ``0, 1, …`` if `ordered` (made on the first access)."""
        if self._host is not None:
            return self.derived(
                "edge_ids", lambda a: devices.moved(a.host.edge_ids, devices.device_of(a.indices))
            )
        if self._edge_ids is None:
            return self.derived("edge_ids", lambda a: frozen(np.arange(a.num_edges, dtype=a.indptr.dtype)))
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
        """What ``build(self)`` returned the first time `key` was asked for: the place for a kernel's row
        partition and the like.

        Safe from many threads: two that ask at once may both build, and both get the same object.
        """
        try:
            found: T = self._derived[key]
            return found
        except KeyError:
            found = self._derived.setdefault(key, build(self))
            return found


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """`array` itself, made read-only. For arrays that nobody else holds."""
    array.flags.writeable = False
    return array


def given_ids(op: str, name: str, values: ArrayLike, axes: int = 1) -> NDArray[Any]:
    """`values` as an array of so many axes with an integer dtype."""
    if devices.device_of(values) != "cpu":
        fix = f"ids are checked and sorted on the host: give {name}.{library_of(values).fetching}"
        raise bad_type(op, f"{name} is on {devices.device_of(values)}", fix)
    ids = as_array(op, name, values, INTEGERS)
    if ids.ndim != axes:
        fix = (
            f"give {name}[0] and {name}[1] apart, or Graph.from_edge_index"
            if (ids.ndim, axes) == (2, 1) and ids.shape[0] == 2
            else f"it must have 1 axis, as [{ids}]"
            if (ids.ndim, axes) == (0, 1) and ids.dtype.kind in "iu"
            else ""
        )
        raise bad_value(
            op,
            f"{name} has shape {list(ids.shape)}",
            fix or f"it must have {axes} {'axis' if axes == 1 else 'axes'}",
        )
    if ids.size == 0 and ids.dtype.kind == "f":  # np.asarray([]) is a float array
        found: NDArray[Any] = ids.astype(np.int64)
        return found
    if ids.dtype.kind not in "iu":
        raise bad_type(op, f"{name} is {ids.dtype}, ids must be integers", _cast(name, ids))
    found = ids
    return found


def _cast(name: str, ids: NDArray[Any]) -> str:
    """How ids of another dtype become integers."""
    cast = f"cast it, as in {name}.astype(np.int64)"
    if ids.dtype.kind == "b":
        return "for a mask use np.flatnonzero(mask)"
    if ids.dtype.kind == "O" and ids.size and all(isinstance(i, int) for i in ids.ravel()):
        return f"{cast}, which needs ids below 2**63"
    if ids.dtype.kind in "USO":
        return f"{cast}, or number names by np.unique({name}, return_inverse=True)"
    if (
        ids.dtype.kind == "f" and (broken := np.flatnonzero(ids.ravel() != np.floor(ids.ravel()))).size
    ):  # NaN is one
        return f"{cast}, but first see {name}[{broken[0]}], which is {ids.ravel()[broken[0]]}"
    return cast


def node_count(op: str, name: str, value: Any, what: str = "a number of nodes") -> int:
    """`value` as a number of nodes, or of what is named."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__") or np.ndim(value) > 0:
        raise bad_type(op, f"{name} is {shown(value)}, of type {type(value).__name__}", "give a whole number")
    count = int(value.__index__())
    if not 0 <= count < 2**63 - 1:
        raise bad_value(op, f"{name} is {count}", f"{what} is between 0 and 2**63 - 2")
    return count


def one_past(op: str, name: str, ids: NDArray[Any]) -> int:
    """One more than the largest id; at least 0, so that a negative id is found by the check that follows."""
    largest = int(ids.max()) if len(ids) else -1
    if largest >= 2**63 - 2:
        raise bad_index(op, f"{name}[{int(ids.argmax())}] is {largest}", "ids must be below 2**63 - 2")
    return max(largest + 1, 0)


def ids_dtype(*counts: int) -> np.dtype[Any]:
    """dtype of ids below these numbers: of nodes by the numbers of nodes, of edges and positions by those and
    the number of edges.
    """
    return np.dtype(np.int32 if max(counts) < INT32_LIMIT else np.int64)


def checked_ids(
    op: str, name: str, ids: NDArray[Any], count_name: str, count: int, dtype: np.dtype[Any]
) -> Ids:
    """A read-only copy of `ids` in `dtype`, all of them within ``0 … count - 1``."""
    plain = (
        ids if ids.dtype in (np.int32, np.int64) else ids.astype(np.int64)
    )  # uint64 from 2**63 on turns negative, and is found
    plain = np.require(plain, requirements=["C", "A"]).view()
    plain.flags.writeable = False  # one compiled version for read-only and writeable arrays
    copy = np.empty(len(ids), dtype)
    position = _copy_until_bad(plain, count, copy)
    if position < len(ids):
        valid = f"ids run from 0 to {count - 1}" if count else "so there are no ids"
        fix = (
            f"correct {name} or enlarge {count_name}"
            if ids[position] >= 0
            else f"correct {name}, ids do not count from the end"
        )
        raise bad_index(op, f"{name}[{position}] is {ids[position]}, {count_name} is {count}, {valid}", fix)
    return frozen(copy)


@njit()
def _copy_until_bad(ids, count, copy):
    """Copy ids, each read once so that nobody can change it in between; the position of the first outside 0 …
    count - 1, or len(ids).
    """
    for i in range(len(ids)):
        value = np.int64(ids[i])
        if value < 0 or value >= count:
            return i
        copy[i] = value
    return len(ids)


def expanded(indptr: Ids, dtype: np.dtype[Any] | None = None) -> Ids:
    """[num_edges] the row of each position; in the dtype of indptr, or the one given."""
    return frozen(np.repeat(np.arange(len(indptr) - 1, dtype=dtype or indptr.dtype), np.diff(indptr)))


def group(keys: Ids, values: Ids, num_rows: int, positions: np.dtype[Any] | None = None) -> Adjacency:
    """Adjacency whose row r holds the edges with ``keys[edge] == r``, and `values` as the other ends.

    keys, values: [num_edges], read-only, C-contiguous, of one dtype; keys within ``0 … num_rows - 1``
    (checked by the caller). positions: dtype of row starts and edge ids, by default that of keys.
    """
    positions = positions or keys.dtype
    indptr = np.empty(num_rows + 1, positions)
    if row_starts_if_sorted(keys, indptr):
        return Adjacency(frozen(indptr), values, ordered=True)
    indices, edge_ids = np.empty_like(keys, subok=False), np.empty(len(keys), positions)
    threads.run(sort_parallel, sort_serial, keys, values, indptr, indices, edge_ids, work=len(keys))
    return Adjacency(frozen(indptr), frozen(indices), ordered=False, _edge_ids=frozen(edge_ids))


@njit()
def tally(ids, counts, last):
    """Count ids. last: the id before them; returns the last one, or -2 if any is less than the one before it,
    and for good.
    """
    for i in range(len(ids)):
        counts[ids[i]] += 1
        if last != -2:
            last = np.int64(ids[i]) if ids[i] >= last else np.int64(-2)
    return last


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
    for r in range(
        len(indptr) - 1, 0, -1
    ):  # every entry has moved to the end of its row, which is the start of the next
        indptr[r] = indptr[r - 1]
    indptr[0] = 0


@njit()
def _count_buckets(keys, first, last, shift, counts):
    """Add to counts[bucket] the number of edges first … last - 1 in each bucket."""
    for i in range(first, last):
        counts[np.uintp(keys[i]) >> shift] += 1


@njit()
def _deal(keys, values, first, last, shift, cursors, bucket_keys, indices, edge_ids):
    """Place edges first … last - 1 behind their bucket's cursor, in order."""
    for i in range(first, last):
        bucket = np.uintp(keys[i]) >> shift
        place = np.uintp(cursors[bucket])  # unsigned, for Numba spares the test for negative positions then
        cursors[bucket] = place + np.uintp(1)
        bucket_keys[place] = keys[i]
        indices[place] = values[i]
        edge_ids[place] = i


@njit()
def sort_bucket(
    start, stop, first_row, rows, bucket_keys, cursors, kept_values, kept_ids, indptr, indices, edge_ids
):
    """Counting sort of positions start … stop - 1, whose keys are first_row … first_row + rows - 1; writes
    those rows' starts.
    """
    cursors[:rows] = 0
    for i in range(start, stop):
        cursors[np.uintp(bucket_keys[i] - first_row)] += 1
        kept_values[i - start] = indices[i]
        kept_ids[i - start] = edge_ids[i]
    place = start
    for r in range(rows):
        count = cursors[r]
        cursors[r] = place
        indptr[first_row + r] = place
        place += count
    for i in range(start, stop):
        row = np.uintp(bucket_keys[i] - first_row)
        target = np.uintp(cursors[row])
        cursors[row] = target + np.uintp(1)
        indices[target] = kept_values[i - start]
        edge_ids[target] = kept_ids[i - start]


def sort_parallel(keys: Ids, values: Ids, indptr: Ids, indices: Ids, edge_ids: Ids) -> None:
    """The same result as `sort_serial`. Needs one array of the edges' size on top of its outputs."""
    parts = numba.get_num_threads()  # inside the kernel it would forbid caching
    _sort_in_parts(keys, values, indptr, indices, edge_ids, np.empty_like(indices), parts)


@njit(parallel=True)
def _sort_in_parts(keys, values, indptr, indices, edge_ids, bucket_keys, parts):
    num_edges, num_rows = len(keys), len(indptr) - 1
    bits = 0
    while ((num_rows - 1) >> bits) >= BUCKETS:
        bits += 1
    shift = np.uintp(bits)
    buckets, width = ((num_rows - 1) >> bits) + 1, 1 << bits

    cursors = np.zeros((parts, buckets), np.int64)
    for part in numba.prange(parts):
        _count_buckets(keys, num_edges * part // parts, num_edges * (part + 1) // parts, shift, cursors[part])
    starts = np.empty(buckets + 1, np.int64)
    place = 0
    for bucket in range(buckets):
        starts[bucket] = place
        for part in range(parts):
            count = cursors[part, bucket]
            cursors[part, bucket] = place
            place += count
    starts[buckets] = place

    for part in numba.prange(parts):
        first, last = num_edges * part // parts, num_edges * (part + 1) // parts
        _deal(keys, values, first, last, shift, cursors[part], bucket_keys, indices, edge_ids)

    for part in numba.prange(parts):
        first_bucket = np.searchsorted(starts, num_edges * part // parts) if part > 0 else 0
        last_bucket = (
            np.searchsorted(starts, num_edges * (part + 1) // parts) if part < parts - 1 else buckets
        )
        largest = 0
        for bucket in range(first_bucket, last_bucket):
            largest = max(largest, starts[bucket + 1] - starts[bucket])
        kept_values, kept_ids = np.empty(largest, indices.dtype), np.empty(largest, edge_ids.dtype)
        row_cursors = np.empty(width, indptr.dtype)
        for bucket in range(first_bucket, last_bucket):
            first_row = bucket << bits
            rows = min(width, num_rows - first_row)
            start, stop = starts[bucket], starts[bucket + 1]
            sort_bucket(
                start,
                stop,
                first_row,
                rows,
                bucket_keys,
                row_cursors,
                kept_values,
                kept_ids,
                indptr,
                indices,
                edge_ids,
            )
    indptr[num_rows] = num_edges
