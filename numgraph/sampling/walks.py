"""Random walks along edges."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from numgraph.errors import bad_type, bad_value, shown
from numgraph.graph import Graph
from numgraph.graph.sorting import Ids
from numgraph.runtime import threads
from numgraph.runtime.compiling import njit
from numgraph.sampling.memory import ask
from numgraph.sampling.negatives import has_edge
from numgraph.sampling.neighbors import checked_host, seeds_of
from numgraph.sampling.random import below, checked_seed, key_of, state_of, unit

_AHEAD = 8
"""Walks whose next row is asked for before it is read."""
_TOGETHER = 4096
"""Walks of one thread's piece."""
_TRIES = 16
"""Draws of an edge, before all edges of the node are weighed."""


def random_walk(
    g: Graph, nodes: ArrayLike, length: int, *, p: float = 1.0, q: float = 1.0, seed: int = 0
) -> Ids:
    """Walks from each of some nodes along edges, each step to one of the out-edges.

    Parameters
    ----------
    g : Graph
    nodes : [n] where walks begin; one that is there twice has two walks
    length : steps of a walk
    p, q : beside a step to a node that the node before has an edge to,
        one back to that node is 1 / p as likely, and one to any other node 1 / q as likely; 1 and 1: all
        out-edges are as likely
    seed : the same one gives the same walks, on any number of threads

    Returns
    -------
    [n, length + 1] the nodes of each walk, its beginning first; -1 for all that would follow a node without
    out-edges

    Notes
    -----
    node2vec's walks (Grover and Leskovec, node2vec: Scalable Feature Learning for Networks, KDD 2016), drawn
    by rejection.

    Examples
    --------
    >>> import numgraph as ng
    >>> ng.sampling.random_walk(ng.Graph([0, 1, 2], [1, 2, 3]), [0, 2], 3)
    array([[ 0,  1,  2,  3],
           [ 2,  3, -1, -1]], dtype=int32)
    """
    op = "random_walk"
    g = checked_host(op, g)
    starts = seeds_of(op, g, nodes, "nodes")
    if isinstance(length, bool | np.bool_) or not isinstance(length, int | np.integer) or length < 0:
        raise bad_value(op, f"length is {shown(length)}", "give a whole number of steps, at least 0")
    back, far = (1 / _positive(op, name, value) for name, value in (("p", p), ("q", q)))
    rows = g.out_edges if back == far == 1 else g._sorted()[0]
    key = key_of(checked_seed(op, seed), 0, 0)
    walks = np.empty((len(starts), int(length) + 1), starts.dtype)
    walks[:, 0] = starts
    threads.share(
        partial(_walk, rows.indptr, rows.indices, back, far, key, first, walks[first : first + _TOGETHER])
        for first in range(0, len(walks), _TOGETHER)
    )
    return walks


def _positive(op: str, name: str, value: Any) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise bad_type(op, f"{name} is {shown(value)}", "give a number above 0")
    if not 0 < value < np.inf:
        raise bad_value(op, f"{name} is {value}", "give a finite number above 0")
    return float(value)


@njit()
def _walk(indptr, indices, back, far, key, first, walks):
    """All walks step by step together, so that the memory of many is on its way at once."""
    plain = back == 1 and far == 1
    for step in range(1, walks.shape[1]):
        for i in range(len(walks)):
            if i + _AHEAD < len(walks) and walks[i + _AHEAD, step - 1] >= 0:
                ask(indptr, np.int64(walks[i + _AHEAD, step - 1]))
            here = walks[i, step - 1]
            degree = np.int64(0) if here < 0 else np.int64(indptr[here + 1] - indptr[here])
            if degree == 0:
                walks[i, step] = -1
                continue
            state, start = state_of(state_of(key, first + i), step), np.int64(indptr[here])
            if plain or step == 1:
                walks[i, step] = indices[start + below(state, 0, degree)]
            else:
                walks[i, step] = _biased(indptr, indices, back, far, state, start, degree, walks[i, step - 2])


@njit(inline="always")
def _weight(indptr, indices, back, far, before, node):
    if node == before:
        return back
    return 1.0 if has_edge(indptr, indices, before, node) else far


@njit()
def _biased(indptr, indices, back, far, state, start, degree, before):
    """The next node: an edge that is drawn evenly is taken in proportion to its weight; after many that were
    not, all are weighed.
    """
    most = max(back, 1.0, far)
    for attempt in range(_TRIES):
        node = indices[start + below(state, 2 * attempt, degree)]
        if unit(state, 2 * attempt + 1) * most < _weight(indptr, indices, back, far, before, node):
            return node
    total = 0.0
    for k in range(start, start + degree):
        total += _weight(indptr, indices, back, far, before, indices[k])
    target = unit(state, 2 * _TRIES) * total
    node = indices[start]
    for k in range(start, start + degree):
        node = indices[k]
        target -= _weight(indptr, indices, back, far, before, node)
        if target < 0:
            break
    return node
