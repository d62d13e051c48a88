"""Row-wise kernels of sparse products (Gustavson, 1978). A call owns the rows first … last - 1 of its
output, so any split gives the same bits.

Row arguments come as (indptr, indices, edge_ids). ``place[w]`` is the position of destination w in the
current row of C."""

from __future__ import annotations

import numba
import numpy as np

from numgraph.runtime.compiling import njit


@njit()
def count(first, last, a_indptr, a_indices, b_indptr, b_indices, columns, counts):
    """counts[u + 1] = the number of distinct ends w of paths u → v → w."""
    seen = np.full(columns, -1, a_indices.dtype)
    for u in range(first, last):
        found = 0
        for i in range(a_indptr[u], a_indptr[u + 1]):
            v = a_indices[i]
            for j in range(b_indptr[v], b_indptr[v + 1]):
                if seen[b_indices[j]] != u:
                    seen[b_indices[j]] = u
                    found += 1
        counts[u + 1] = found


@njit()
def fill(first, last, a_indptr, a_indices, b_indptr, b_indices, columns, c_indptr, c_indices):
    """The distinct ends of each row, ascending."""
    seen = np.full(columns, -1, a_indices.dtype)
    for u in range(first, last):
        at = c_indptr[u]
        for i in range(a_indptr[u], a_indptr[u + 1]):
            v = a_indices[i]
            for j in range(b_indptr[v], b_indptr[v + 1]):
                if seen[b_indices[j]] != u:
                    seen[b_indices[j]] = u
                    c_indices[at] = b_indices[j]
                    at += 1
        c_indices[c_indptr[u] : at].sort()


@njit()
def into_c(
    first, last, a_indptr, a_indices, a_ids, b_indptr, b_indices, b_ids, c_indptr, c_indices, columns, a, b, c
):
    """c[u → w] = Σ_v a[u → v] · b[v → w]."""
    place = np.empty(columns, c_indices.dtype)
    for u in range(first, last):
        for k in range(c_indptr[u], c_indptr[u + 1]):
            place[c_indices[k]] = k
        for i in range(a_indptr[u], a_indptr[u + 1]):
            v, factor = a_indices[i], a[a_ids[i]]
            for j in range(b_indptr[v], b_indptr[v + 1]):
                c[place[b_indices[j]]] += factor * b[b_ids[j]]


@njit()
def into_a(
    first, last, a_indptr, a_indices, a_ids, b_indptr, b_indices, b_ids, c_indptr, c_indices, columns, c, b, a
):
    """a[u → v] = Σ_w c[u → w] · b[v → w]."""
    place = np.empty(columns, c_indices.dtype)
    for u in range(first, last):
        for k in range(c_indptr[u], c_indptr[u + 1]):
            place[c_indices[k]] = k
        for i in range(a_indptr[u], a_indptr[u + 1]):
            v = a_indices[i]
            for j in range(b_indptr[v], b_indptr[v + 1]):
                a[a_ids[i]] += c[place[b_indices[j]]] * b[b_ids[j]]


@njit()
def into_b(
    first, last, in_indptr, in_indices, in_ids, b_indptr, b_indices, b_ids, c_indptr, c_indices, a, c, b
):
    """b[v → w] = Σ_u a[u → v] · c[u → w]; by B's rows.

    So w is searched for in C's row u: a place table would have to be filled once per edge of A.
    """
    for v in range(first, last):
        for i in range(in_indptr[v], in_indptr[v + 1]):
            u, factor = in_indices[i], a[in_ids[i]]
            for j in range(b_indptr[v], b_indptr[v + 1]):
                b[b_ids[j]] += factor * c[locate(c_indptr[u], c_indptr[u + 1], c_indices, b_indices[j])]


@njit()
def locate(start, stop, indices, wanted):
    """The position of `wanted` in the ascending indices[start:stop], −1 if it is not there."""
    low, high = start, stop
    while low < high:
        middle = (low + high) >> 1
        if indices[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low if low < stop and indices[low] == wanted else -1


@njit()
def locate_all(indptr, indices, rows, wanted, found):
    """found[i] = the position of wanted[i] in row rows[i], −1 if it is not there."""
    for i in range(len(rows)):
        found[i] = locate(indptr[rows[i]], indptr[rows[i] + 1], indices, wanted[i])
    return found


@njit(parallel=True)
def count_parallel(bounds, a_indptr, a_indices, b_indptr, b_indices, columns, counts):
    for part in numba.prange(len(bounds) - 1):
        count(bounds[part], bounds[part + 1], a_indptr, a_indices, b_indptr, b_indices, columns, counts)


@njit(parallel=True)
def fill_parallel(bounds, a_indptr, a_indices, b_indptr, b_indices, columns, c_indptr, c_indices):
    for part in numba.prange(len(bounds) - 1):
        fill(
            bounds[part],
            bounds[part + 1],
            a_indptr,
            a_indices,
            b_indptr,
            b_indices,
            columns,
            c_indptr,
            c_indices,
        )


@njit(parallel=True)
def into_c_parallel(
    bounds, a_indptr, a_indices, a_ids, b_indptr, b_indices, b_ids, c_indptr, c_indices, columns, a, b, c
):
    for part in numba.prange(len(bounds) - 1):
        rows = bounds[part], bounds[part + 1]
        into_c(
            rows[0],
            rows[1],
            a_indptr,
            a_indices,
            a_ids,
            b_indptr,
            b_indices,
            b_ids,
            c_indptr,
            c_indices,
            columns,
            a,
            b,
            c,
        )


@njit(parallel=True)
def into_a_parallel(
    bounds, a_indptr, a_indices, a_ids, b_indptr, b_indices, b_ids, c_indptr, c_indices, columns, c, b, a
):
    for part in numba.prange(len(bounds) - 1):
        rows = bounds[part], bounds[part + 1]
        into_a(
            rows[0],
            rows[1],
            a_indptr,
            a_indices,
            a_ids,
            b_indptr,
            b_indices,
            b_ids,
            c_indptr,
            c_indices,
            columns,
            c,
            b,
            a,
        )


@njit(parallel=True)
def into_b_parallel(
    bounds, in_indptr, in_indices, in_ids, b_indptr, b_indices, b_ids, c_indptr, c_indices, a, c, b
):
    for part in numba.prange(len(bounds) - 1):
        rows = bounds[part], bounds[part + 1]
        into_b(
            rows[0],
            rows[1],
            in_indptr,
            in_indices,
            in_ids,
            b_indptr,
            b_indices,
            b_ids,
            c_indptr,
            c_indices,
            a,
            c,
            b,
        )
