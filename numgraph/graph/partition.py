"""Who owns which node."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.inputs import as_array, generator
from numgraph.errors import bad_type, bad_value, check_name, missing, shown
from numgraph.graph.graph import Graph, check_graph

METHODS = ("metis", "random")
OBJECTIVES = ("cut", "volume")


def partition(
    g: Graph, parts: int, *, method: Any = "metis", objective: str = "cut", seed: int = 0
) -> NDArray[np.int32]:
    """The part that owns each node, [num_nodes] numbers from 0 to parts − 1.

    Parameters
    ----------
    g : Graph of one set of nodes
    parts : how many; some may stay empty
    method : "metis" (Karypis and Kumar, SIAM J. Sci. Comput. 1998), "random",
        or an array of the numbers themselves, which is checked
    objective : what METIS makes small: "cut", edges between parts, or "volume", rows that are exchanged.
        "cut" is faster, and on graphs without hubs as good
    seed : of what is random

    Returns
    -------
    [num_nodes] int32

    Notes
    -----
    METIS balances w_v = d_v + mean(d) with the in-degrees d: nodes and edges count half each. What an
    exchange costs are the ghosts, the nodes of other parts with an edge into a part, not the edges cut: see
    ``ghosts``. METIS takes about 250 bytes an edge.

    Raises
    ------
    ModuleNotFoundError : METIS without the package pymetis
    ValueError : a bipartite graph, numbers that are no parts

    Examples
    --------
    >>> import numgraph as ng
    >>> g = ng.Graph([0, 1, 2, 3], [1, 0, 3, 2])
    >>> ng.distributed.partition(g, 2, method=[1, 1, 0, 0])
    array([1, 1, 0, 0], dtype=int32)
    """
    op = "partition"
    check_graph(op, "g", g)
    count = g.num_nodes
    if isinstance(parts, bool) or not isinstance(parts, int | np.integer) or not 1 <= parts < 2**31:
        raise bad_value(op, f"parts is {shown(parts)}", "give a whole number of at least 1")
    check_name(op, "objective", objective, OBJECTIVES)
    if not isinstance(method, str):
        return _given(op, method, count, int(parts))
    check_name(op, "method", method, METHODS)
    if method == "random":
        dealt = np.arange(count, dtype=np.int64) * parts // max(count, 1)
        return generator(op, seed, "seed").permutation(dealt).astype(np.int32)
    if parts == 1 or count <= parts:
        return np.arange(count, dtype=np.int32) % np.int32(parts)
    return _by_metis(op, g.to("cpu"), int(parts), objective, seed)


def _given(op: str, method: Any, count: int, parts: int) -> NDArray[np.int32]:
    array = as_array(op, "method", method)
    if array.dtype.kind not in "iu":
        raise bad_type(
            op,
            f"method is {shown(method)}",
            f"choose from {', '.join(map(repr, METHODS))}, or give the part of each node",
        )
    if array.shape != (count,):
        raise bad_value(
            op, f"method has shape {list(array.shape)}, the graph {count} nodes", "give the part of each node"
        )
    bad = np.flatnonzero((array < 0) | (array >= parts))
    if len(bad):
        raise bad_value(
            op, f"method[{bad[0]}] is {array[bad[0]]}", f"parts are numbered from 0 to {parts - 1}"
        )
    found: NDArray[np.int32] = array.astype(np.int32)
    return found


def _by_metis(op: str, g: Graph, parts: int, objective: str, seed: int) -> NDArray[np.int32]:
    try:
        import pymetis
    except ModuleNotFoundError as error:
        fix = (
            "pip install 'numgraph[mpi]', or choose method=\"random\" (numgraph partition --method random, "
            "numgraph train --partition random), or give the part of each node"
        )
        raise missing(op, f"METIS needs pymetis ({error})", fix) from error
    both = g.remove_self_loops().to_bidirected()
    if both.num_edges >= 2**31:
        raise bad_value(
            op,
            f"the graph has {both.num_edges} edges both ways",
            "METIS numbers them by 32 bits: give the part of each node",
        )
    indptr, indices = (
        ids.astype(np.int32, copy=False) for ids in (both.out_edges.indptr, both.out_edges.indices)
    )
    del both  # METIS needs several times as much
    weights = g.in_degrees() + int(np.ceil(g.num_edges / g.num_nodes)) + 1
    weights = weights // (int(weights.sum()) // 2**30 + 1) + 1  # METIS adds them up in 32 bits
    options = pymetis.Options(
        seed=seed, objtype=pymetis.ObjType.VOL if objective == "volume" else pymetis.ObjType.CUT
    )
    found = pymetis.part_graph(
        parts,
        pymetis.CSRAdjacency(indptr, indices),
        vweights=weights.astype(np.int32),
        recursive=False,
        options=options,
    )
    return np.asarray(found.vertex_part, np.int32)


def ghosts(g: Graph, part: Any, parts: int) -> NDArray[np.int64]:
    """[parts] how many ghosts each part has: nodes of other parts with an edge into it. Their sum is the rows
    of one exchange.
    """
    part = _given("ghosts", part, g.num_nodes, parts).astype(np.int64)
    into = part[g.dst]
    crossing = into != part[g.src]
    pairs = np.unique(into[crossing] * g.num_nodes + g.src[crossing])
    return np.bincount(pairs // max(g.num_nodes, 1), minlength=parts)
