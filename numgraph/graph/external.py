"""Grouping of edges that are larger than memory: the parallel sort of ``sorting`` over mapped files, one
bucket in memory at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numgraph.graph.sorting import Ids, sort_bucket
from numgraph.runtime.compiling import njit


def group_into(
    keys: Ids,
    values: Ids,
    indptr: NDArray[np.int64],
    indices: Ids,
    edge_ids: Ids,
    bucket_keys: Ids,
    bucket_edges: int,
) -> None:
    """Fill indices and edge_ids with the edges grouped by key, in the order of edge ids in each row.

    First every edge is dealt to its bucket, a range of rows, so that files are written front to back in as
    many places as buckets; then the edges of each are sorted in memory. A row with more edges than a bucket
    is one by itself, and in order already.

    Parameters
    ----------
    keys, values : [num_edges] the ends of each edge; keys within 0 … num_rows - 1
    indptr : [num_rows + 1] the first position of each row
    bucket_keys : [num_edges] memory of the dtype of keys
    bucket_edges : edges of a bucket, at most; RAM is 16 bytes for each, and 4 bytes a row
    """
    firsts = bucket_rows(indptr, bucket_edges)
    bucket_of = np.repeat(np.arange(len(firsts) - 1, dtype=np.int32), np.diff(firsts))
    deal(keys, values, bucket_of, indptr[firsts[:-1]], bucket_keys, indices, edge_ids)
    widths = np.diff(firsts)
    sizes = np.diff(indptr[firsts])
    shared = widths > 1
    kept_values, kept_ids = (
        np.empty(sizes[shared].max(initial=0), array.dtype) for array in (indices, edge_ids)
    )
    cursors = np.empty(widths[shared].max(initial=0), np.int64)
    for bucket in np.flatnonzero(shared & (sizes > 0)):
        row, stop = int(firsts[bucket]), int(firsts[bucket + 1])
        start, end = int(indptr[row]), int(indptr[stop])
        sort_bucket(
            start,
            end,
            row,
            stop - row,
            bucket_keys,
            cursors,
            kept_values,
            kept_ids,
            indptr,
            indices,
            edge_ids,
        )


def bucket_rows(indptr: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """[buckets + 1] first row of each bucket: as many rows as have `most` edges together, and at least
    one.
    """
    firsts, rows = [0], len(indptr) - 1
    while firsts[-1] < rows:
        fitting = int(np.searchsorted(indptr, indptr[firsts[-1]] + most, "right")) - 1
        firsts.append(min(max(fitting, firsts[-1] + 1), rows))
    return np.array(firsts, np.int64)


@njit()
def deal(keys, values, bucket_of, cursors, bucket_keys, indices, edge_ids):
    """Place every edge behind its bucket's cursor, in order."""
    for i in range(len(keys)):
        bucket = bucket_of[keys[i]]
        place = cursors[bucket]
        cursors[bucket] = place + 1
        bucket_keys[place] = keys[i]
        indices[place] = values[i]
        edge_ids[place] = i
