"""Pairs of nodes that no edge joins."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numgraph.errors import bad_type, bad_value, shown
from numgraph.graph import Graph, check_graph
from numgraph.graph.sorting import Ids, checked_ids, given_ids
from numgraph.runtime.compiling import njit
from numgraph.sampling.drawing import is_among
from numgraph.sampling.random import below, checked_seed, key_of, state_of

_TRIES = 32
"""Draws for a destination, before those that are left are counted."""


def negative_edges(
    g: Graph,
    count: int,
    *,
    seed: int = 0,
    sources: ArrayLike | None = None,
    self_loops: bool = False,
    directed: bool = True,
    replace: bool = False,
) -> tuple[Ids, Ids]:
    """Pairs u, v of nodes without an edge u → v, each as likely as any other.

    Parameters
    ----------
    g : Graph; of a bipartite one u is a source and v a destination
    count : how many pairs; with `sources` for each of them
    seed : the same one gives the same pairs
    sources : [n] the u of the pairs, which may come more than once:
        pairs k · count … are those of ``sources[k]``; None: any pair
    self_loops : take pairs u, u too; of a bipartite graph those are two nodes, and always taken
    directed : False takes only pairs without an edge in either direction, u being the smaller id,
        and no `sources`
    replace : a pair may come twice; else pairs are distinct, those of an entry of `sources` each time anew

    Returns
    -------
    (src, dst) : [count] each, with `sources` [n · count]

    Raises
    ------
    ValueError : fewer pairs without an edge than are asked for; the message has both numbers

    Examples
    --------
    >>> import numgraph as ng
    >>> g = ng.Graph([0, 0, 1], [1, 2, 2], 3)
    >>> src, dst = ng.sampling.negative_edges(g, 3, seed=1)
    >>> sorted(zip(src.tolist(), dst.tolist()))
    [(1, 0), (2, 0), (2, 1)]
    """
    op = "negative_edges"
    check_graph(op, "g", g)
    if isinstance(count, bool | np.bool_) or not isinstance(count, int | np.integer) or count < 0:
        raise bad_value(op, f"count is {shown(count)}", "give a whole number of pairs, at least 0")
    key = key_of(checked_seed(op, seed), 0, 0)
    free = NonEdges(op, g.to("cpu"), bool(self_loops), bool(directed))
    if sources is None:
        return free.evenly(op, int(count), key, bool(replace))
    if not directed:
        raise bad_type(
            op,
            "sources are given beside directed=False",
            "of a source each destination is another pair: leave one of them out",
        )
    name = "num_src" if g.is_bipartite else "num_nodes"
    ids = checked_ids(
        op, "sources", given_ids(op, "sources", sources), name, g.num_src, free.rows.indices.dtype
    )
    return free.of_sources(op, ids, int(count), key, bool(replace))


class NonEdges:
    """The pairs of a graph's nodes that are no edges. Sorting the edges by both ends is done once for a
    graph.
    """

    def __init__(self, op: str, g: Graph, loops: bool, directed: bool) -> None:
        self.rows = g._sorted()[0]
        self.num_src, self.num_dst = g.num_src, g.num_dst
        if g.is_bipartite and not directed:
            raise bad_value(
                op,
                "directed is False, and the graph is bipartite",
                "its edges have one direction: leave directed out",
            )
        self.loops, self.directed = loops or g.is_bipartite, directed
        self.total = self.num_src * self.num_dst
        if not directed:
            self.total = self.num_src * (self.num_src + 1) // 2
        if not self.loops:
            self.total -= self.num_src
        self.joined = self.rows.derived(("joined pairs", self.loops, directed), self._joined)

    def _joined(self, rows: Any) -> int:
        return int(_count_joined(rows.indptr, rows.indices, self.loops, self.directed))

    def evenly(self, op: str, count: int, key: np.uint64, replace: bool) -> tuple[Ids, Ids]:
        """So many pairs."""
        left = self.total - self.joined
        if count > (left if not replace else count * left):
            problem = (
                f"{count:,} pairs are wanted, and of {self.total:,} pairs of nodes {self.joined:,} are "
                f"joined, {left:,} are not"
            )
            raise bad_value(
                op, problem, "ask for fewer" if replace or not left else "ask for fewer, or pass replace=True"
            )
        rows = self.rows
        if (
            2 * (self.joined + (0 if replace else count)) > self.total
        ):  # more draws would fail than not: there are few pairs, count them
            free = np.empty(left, np.int64)
            _list_free(rows.indptr, rows.indices, self.num_dst, self.loops, self.directed, free)
            chosen = free[
                _draws(key, count, left) if replace else np.argsort(_hashes(key, left), kind="stable")[:count]
            ]
            return self._ends(chosen)
        found, start = np.zeros(0, np.int64), 0
        while len(found) < count:
            more = np.empty(max(count - len(found), 16), np.int64)
            start = _draw_free(
                rows.indptr, rows.indices, key, start, self.num_dst, self.loops, self.directed, more
            )
            found = np.concatenate([found, more])
            if not replace:
                found = found[np.sort(np.unique(found, return_index=True)[1])]
        return self._ends(found[:count])

    def of_sources(self, op: str, sources: Ids, count: int, key: np.uint64, replace: bool) -> tuple[Ids, Ids]:
        """So many destinations for each source."""
        found = np.empty((len(sources), count), self.rows.indices.dtype)
        lacking = _draw_destinations(
            self.rows.indptr, self.rows.indices, sources, key, self.num_dst, self.loops, replace, found
        )
        if lacking >= 0:
            node = sources[lacking]
            row = self.rows.indices[self.rows.indptr[node] : self.rows.indptr[node + 1]]
            barred = np.union1d(row, row[:0] if self.loops else [node])
            problem = (
                f"sources[{lacking}], node {node}, has no edge to {self.num_dst - len(barred):,} nodes, and "
                f"{count:,} are wanted"
            )
            raise bad_value(op, problem, "ask for fewer, or leave the source out")
        return np.repeat(sources, count), found.reshape(-1)

    def _ends(self, keys: NDArray[np.int64]) -> tuple[Ids, Ids]:
        src, dst = np.divmod(keys, max(self.num_dst, 1))
        return src.astype(self.rows.indices.dtype), dst.astype(self.rows.indices.dtype)


@njit(inline="always")
def has_edge(indptr, indices, source, target):
    """Whether sorted rows have an edge."""
    return is_among(indices, np.int64(indptr[source]), np.int64(indptr[source + 1]), target)


@njit(inline="always")
def _is_free(indptr, indices, source, target, loops, directed):
    if source == target and not loops:
        return False
    if has_edge(indptr, indices, source, target):
        return False
    return directed or (source <= target and not has_edge(indptr, indices, target, source))


@njit()
def _count_joined(indptr, indices, loops, directed):
    """Distinct pairs that edges join."""
    count = 0
    for u in range(len(indptr) - 1):
        for k in range(indptr[u], indptr[u + 1]):
            v = indices[k]
            if (k > indptr[u] and indices[k - 1] == v) or (u == v and not loops):
                continue
            if directed or u <= v or not has_edge(indptr, indices, v, u):
                count += 1
    return count


@njit()
def _list_free(indptr, indices, num_dst, loops, directed, free):
    count = 0
    for u in range(len(indptr) - 1):
        for v in range(num_dst):
            if _is_free(indptr, indices, u, v, loops, directed):
                free[count] = u * num_dst + v
                count += 1


@njit()
def _draw_free(indptr, indices, state, start, num_dst, loops, directed, found):
    """Pairs by the numbers start, start + 1, … of a stream; the first number that is not used."""
    total, count = np.int64(len(indptr) - 1) * num_dst, 0
    while count < len(found):
        pair = below(state, start, total)
        start += 1
        if _is_free(indptr, indices, pair // num_dst, pair % num_dst, loops, directed):
            found[count] = pair
            count += 1
    return start


@njit()
def _draw_destinations(indptr, indices, sources, key, num_dst, loops, replace, found):
    """found [sources, count]; the place of a source that has not so many destinations, or -1."""
    for i in range(len(sources)):
        source, row = sources[i], found[i]
        state = state_of(key, i)
        number = 0
        for k in range(len(row)):
            known = 0 if replace else k
            for _ in range(_TRIES):
                target = below(state, number, num_dst)
                number += 1
                if _is_free(indptr, indices, source, target, loops, True) and not _among(row, known, target):
                    break
            else:
                left = 0
                for target in range(num_dst):
                    left += _is_free(indptr, indices, source, target, loops, True) and not _among(
                        row, known, target
                    )
                if left == 0:
                    return i
                left = below(state, number, left)
                number += 1
                target = -1
                while left >= 0:
                    target += 1
                    left -= _is_free(indptr, indices, source, target, loops, True) and not _among(
                        row, known, target
                    )
            row[k] = target
    return -1


@njit(inline="always")
def _among(row, stop, target):
    """Whether a row has it before a place."""
    k = 0
    while k < stop and row[k] != target:
        k += 1
    return k < stop


@njit()
def _draws(state, count, n):
    made = np.empty(count, np.int64)
    for i in range(count):
        made[i] = below(state, i, n)
    return made


@njit()
def _hashes(state, count):
    """A number for each of so many things, whose order is a random one."""
    made = np.empty(count, np.uint64)
    for i in range(count):
        made[i] = state_of(state, i)
    return made
