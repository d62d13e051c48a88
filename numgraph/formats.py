"""Edges of other libraries' graphs: the two columns, and how many nodes there are; `Graph` wraps them."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph.errors import bad_type, bad_value
from numgraph.inputs import is_sparse, kind_of
from numgraph.sorting import checked_ids, expanded, frozen, given_ids, ids_dtype

CONSTRUCTORS = "from_edge_index for an array [2, num_edges], from_scipy, from_networkx or from_dgl for their graphs"


def scipy_rows(op: str, A: Any) -> Any:
    """A sparse array as CSR without duplicates and explicit zeros."""
    if not is_sparse(A):
        dense = isinstance(A, np.ndarray | list)
        fix = "give a SciPy sparse array, as csr_array(A)" if dense else f"give a SciPy sparse array; else {CONSTRUCTORS}"
        raise bad_type(op, f"A is {kind_of(A)}", fix)
    if A.ndim != 2:
        raise bad_value(op, f"A has shape {list(A.shape)}", "A needs two axes, [num_src, num_dst]")
    try:  # SciPy's compiled conversions trust the index arrays
        if A.format == "coo":
            for name, ids, count in (("src", A.row, A.shape[0]), ("dst", A.col, A.shape[1])):
                checked_ids("Graph", name, given_ids("Graph", name, ids), f"num_{name}", count, ids_dtype(count))
        elif hasattr(A, "check_format"):
            A.check_format(full_check=True)
    except (ValueError, IndexError) as error:
        raise bad_value(op, f"A is damaged ({error})", "build A anew") from error
    rows = A.tocsr()
    if not rows.has_canonical_format or not np.all(rows.data != 0):
        rows = rows.copy()
        rows.sum_duplicates()
        rows.eliminate_zeros()
    return rows


def networkx_edges(op: str, G: Any) -> tuple[Any, Any, int]:
    """Sources, destinations and the number of nodes; undirected edges go both ways."""
    if not all(hasattr(G, name) for name in ("nodes", "edges", "is_directed")):
        raise bad_type(op, f"G is {kind_of(G)}", f"give a networkx graph; else {CONSTRUCTORS}")
    number = {node: i for i, node in enumerate(G.nodes())}
    ends = np.array([(number[u], number[v]) for u, v in G.edges()], np.int64).reshape(-1, 2)
    if not G.is_directed():
        ends = np.concatenate([ends, ends[ends[:, 0] != ends[:, 1], ::-1]])
    return ends[:, 0], ends[:, 1], len(number)


def dgl_edges(op: str, G: Any) -> tuple[Any, Any, dict[str, int]]:
    """Sources and destinations in the order of edge ids, and the counts as `Graph` takes them."""
    if not all(hasattr(G, name) for name in ("edges", "canonical_etypes", "num_nodes")):
        raise bad_type(op, f"G is {kind_of(G)}", f"give a dgl.DGLGraph; else {CONSTRUCTORS}")
    if len(G.canonical_etypes) != 1:
        raise bad_value(op, f"G has {len(G.canonical_etypes)} edge types", "give one, G[source, edge, destination]")
    source, _, destination = G.canonical_etypes[0]
    src, dst = _by_id(op, G)
    if getattr(G, "is_block", False):  # a block's two sets of nodes may share a type name
        return src, dst, {"num_src": G.num_src_nodes(), "num_dst": G.num_dst_nodes()}
    if source == destination:
        return src, dst, {"num_nodes": G.num_nodes(source)}
    return src, dst, {"num_src": G.num_nodes(source), "num_dst": G.num_nodes(destination)}


def _by_id(op: str, G: Any) -> tuple[Any, Any]:
    """Both columns by edge id; from the rows that there are where the graph is restricted to formats without the columns."""
    formats = G.formats() if hasattr(G, "formats") else {}
    there = {*formats.get("created", ()), *formats.get("not created", ())}
    if not there or "coo" in there:
        return G.edges(order="eid")
    by_source = "csr" in there
    read = getattr(G, "adj_tensors", None) or G.adj_sparse  # its name before DGL 1.1
    indptr, indices, ids = (given_ids(op, "G", part) for part in read("csr" if by_source else "csc"))
    rows = expanded(frozen(indptr.astype(np.int64)))
    order = np.argsort(ids, kind="stable") if len(ids) else np.arange(len(rows))  # no ids: they are the positions
    rows, others = rows[order], indices[order]
    return (rows, others) if by_source else (others, rows)
