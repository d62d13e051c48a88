"""Graphs of other libraries, read: their two columns, how many nodes there are, and what belongs to nodes and
edges. Tables are read by edge_tables.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.inputs import as_array, is_sparse, kind_of
from numgraph.errors import bad_type, bad_value, shown, unknown
from numgraph.graph.naming import as_column, columns
from numgraph.graph.sorting import checked_ids, expanded, frozen, given_ids, ids_dtype

CONSTRUCTORS = (
    "from_edge_index for an array [2, num_edges], from_edge_list for a table, "
    "from_scipy, from_networkx, from_igraph, from_pyg or from_dgl for their graphs"
)

READERS = {
    "scipy": "from_scipy",
    "networkx": "from_networkx",
    "igraph": "from_igraph",
    "torch_geometric": "from_pyg",
    "dgl": "from_dgl",
}
READERS |= dict.fromkeys(("pandas", "polars", "pyarrow"), "from_edge_list")


class Parts(NamedTuple):
    """What a reader found; `nodes` and `names` are pairs, of sources and destinations, where `counts` are
    num_src and num_dst.
    """

    src: Any
    dst: Any
    counts: dict[str, int]
    nodes: Any
    edges: dict[Any, NDArray[Any]]
    names: Any


def numbers(counts: Sequence[int]) -> Any:
    """The names of nodes without names: of one set a range, of two sets a pair of them."""
    return range(counts[0]) if len(counts) == 1 else tuple(map(range, counts))


def constructor_for(value: Any) -> str:
    """The constructor that takes a value, if its type is of a known library, else a list of them."""
    libraries = [kind.__module__.split(".")[0] for kind in type(value).__mro__]
    reader = next((READERS[library] for library in libraries if library in READERS), None)
    return f"for this write Graph.{reader}(…)" if reader else f"Graph has {CONSTRUCTORS}"


def wrong_kind(op: str, name: str, value: Any, wanted: str) -> TypeError:
    """Of what is no graph of the wanted library."""
    return bad_type(op, f"{name} is {kind_of(value)}", f"give {wanted}; {constructor_for(value)}")


def both_ways(
    ends: NDArray[Any], edges: Mapping[Any, NDArray[Any]]
) -> tuple[NDArray[Any], NDArray[Any], dict[Any, NDArray[Any]]]:
    """Undirected edges [num_edges, 2] and behind them their reverses, without those of self loops; attributes
    go along.
    """
    turned = ends[:, 0] != ends[:, 1]
    ends = np.concatenate([ends, ends[turned, ::-1]])
    return (
        ends[:, 0],
        ends[:, 1],
        {name: np.concatenate([values, values[turned]]) for name, values in edges.items()},
    )


def filling(op: str, fill: Any) -> Mapping[Any, Any]:
    """`fill` as a mapping from attribute names."""
    if fill is not None and not isinstance(fill, Mapping):
        raise bad_type(
            op,
            f"fill is {kind_of(fill)}",
            "give a value for each attribute by name, as in fill={'weight': 1}",
        )
    return fill or {}


def scipy_rows(op: str, A: Any) -> Any:
    """A sparse array as CSR without duplicates and explicit zeros."""
    if not is_sparse(A):
        if isinstance(A, np.ndarray | list):
            raise bad_type(op, f"A is {kind_of(A)}", "give a SciPy sparse array, as csr_array(A)")
        raise wrong_kind(op, "A", A, "a SciPy sparse array")
    if A.ndim != 2:
        raise bad_value(op, f"A has shape {list(A.shape)}", "A needs two axes, [num_src, num_dst]")
    try:  # SciPy's compiled conversions trust the index arrays
        if A.format == "coo":
            for name, ids, count in (("src", A.row, A.shape[0]), ("dst", A.col, A.shape[1])):
                checked_ids(
                    "Graph", name, given_ids("Graph", name, ids), f"num_{name}", count, ids_dtype(count)
                )
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


def networkx(op: str, G: Any, bipartite: bool, data: bool, fill: Mapping[Any, Any]) -> Parts:
    """Nodes in the order of ``G.nodes``, edges in that of ``G.edges``; the keys of a multigraph are the
    attribute "key".
    """
    if not all(hasattr(G, name) for name in ("nodes", "edges", "is_directed")):
        raise wrong_kind(op, "G", G, "a networkx graph")
    number = {name: i for i, name in enumerate(G.nodes)}
    ends = np.array([(number[u], number[v]) for u, v in G.edges()], np.int64).reshape(-1, 2)
    nodes = [record for _, record in G.nodes(data=True)] if data or bipartite else []
    edges = [record for *_, record in G.edges(data=True)] if data else []
    if data and G.is_multigraph():
        edges = [{**record, "key": key} for record, (*_, key) in zip(edges, G.edges(keys=True))]
    return _assembled(
        op, G.is_directed(), list(number), ends, nodes, edges, "bipartite" if bipartite else None, data, fill
    )


def igraph(op: str, G: Any, bipartite: bool, data: bool, fill: Mapping[Any, Any]) -> Parts:
    """Ids are igraph's; the vertices' attribute "name" is their name. igraph has None where a vertex or edge
    has no value.
    """
    if not all(hasattr(G, name) for name in ("vs", "es", "get_edgelist")):
        raise wrong_kind(op, "G", G, "an igraph.Graph")
    ends = np.array(G.get_edgelist(), np.int64).reshape(-1, 2)

    def read(items: Any) -> list[dict[str, Any]]:
        return [
            {name: value for name, value in item.attributes().items() if value is not None} for item in items
        ]

    nodes, edges = read(G.vs) if data or bipartite else [], read(G.es) if data else []
    parts = _assembled(
        op, G.is_directed(), range(G.vcount()), ends, nodes, edges, "type" if bipartite else None, data, fill
    )
    named = (
        [values.pop("name", names) for values, names in zip(parts.nodes, parts.names)]
        if bipartite
        else parts.nodes.pop("name", parts.names)
    )
    return parts._replace(names=tuple(named) if bipartite else named)


def _assembled(
    op: str,
    directed: bool,
    names: Sequence[Any],
    ends: NDArray[Any],
    nodes: list[dict[Any, Any]],
    edges: list[dict[Any, Any]],
    side: str | None,
    data: bool,
    fill: Mapping[Any, Any],
) -> Parts:
    """A graph with a dict of attributes for each node and edge; of two sets of nodes `side` is the attribute
    that is 1 for destinations.
    """
    fields = columns(op, "edge", lambda e: tuple(names[i] for i in ends[e]), edges, fill)
    if side is None:
        src, dst, fields = (ends[:, 0], ends[:, 1], fields) if directed else both_ways(ends, fields)
        return Parts(
            src,
            dst,
            {"num_nodes": len(names)},
            columns(op, "node", names.__getitem__, nodes, fill),
            fields,
            names,
        )
    sides = np.zeros(len(names), np.int64)
    for i, record in enumerate(nodes):
        if record.get(side) not in (0, 1):
            problem = f"node {shown(names[i])} has {side}={shown(record.get(side))}"
            raise bad_value(op, problem, "it is 0 for sources and 1 for destinations")
        sides[i] = record[side]
    if not directed:
        ends = np.where((sides[ends[:, :1]] == 1), ends[:, ::-1], ends)
    wrong = np.flatnonzero((sides[ends] != [0, 1]).any(1))
    if len(wrong):
        edge = shown(tuple(names[i] for i in ends[wrong[0]]))
        raise bad_value(
            op,
            f"edge {edge} does not lead from a source to a destination",
            f"sources have {side}=0, destinations {side}=1",
        )
    sets = [np.flatnonzero(sides == which).tolist() for which in (0, 1)]
    numbered = np.empty(len(names), np.int64)
    for ids in sets:
        numbered[ids] = range(len(ids))
    listed = [[names[i] for i in ids] for ids in sets]
    records = [
        [{key: value for key, value in nodes[i].items() if key != side} for i in ids] if data else []
        for ids in sets
    ]
    found = tuple(columns(op, "node", own.__getitem__, one, fill) for own, one in zip(listed, records))
    counts = {"num_src": len(sets[0]), "num_dst": len(sets[1])}
    return Parts(numbered[ends[:, 0]], numbered[ends[:, 1]], counts, found, fields, tuple(listed))


def pyg(op: str, G: Any, edge_type: Any, data: bool) -> Parts:
    """A Data, or one edge type of a HeteroData; what PyG tells to have a row for each node or edge are their
    attributes.
    """
    if hasattr(G, "edge_types") and hasattr(G, "node_types"):
        kinds = list(G.edge_types)
        if edge_type is None and len(kinds) != 1:
            raise bad_value(
                op,
                f"G has {len(kinds)} edge types",
                f"choose one, as in edge_type={shown(kinds[0]) if kinds else None}",
            )
        edge_type = kinds[0] if edge_type is None else tuple(edge_type)
        if edge_type not in kinds:
            raise unknown(op, "edge_type", str(edge_type), map(str, kinds))
        store, (source, _, destination) = G[edge_type], edge_type
        ends: tuple[Any, ...] = (G[source],) if source == destination else (G[source], G[destination])
    elif not hasattr(G, "edge_index"):
        raise wrong_kind(op, "G", G, "a torch_geometric Data or HeteroData")
    else:
        store, ends = G, (G,)
    if "edge_index" not in store or store["edge_index"] is None:
        raise bad_value(
            op, "G has no edge_index", "give its edges, as in G.edge_index = torch.tensor([[0, 1], [1, 2]])"
        )
    src, dst = given_ids(op, "edge_index", store["edge_index"], axes=2)
    counts = [end.num_nodes for end in ends]
    if None in counts:
        raise bad_value(
            op,
            "G does not tell how many nodes it has",
            "set it, as in G.num_nodes = 5, or G['user'].num_nodes = 5",
        )

    nodes = [pyg_fields(op, end, end.is_node_attr) if data else {} for end in ends]
    edges = pyg_fields(op, store, store.is_edge_attr) if data else {}
    named = {"num_nodes": counts[0]} if len(ends) == 1 else {"num_src": counts[0], "num_dst": counts[1]}
    return Parts(src, dst, named, nodes[0] if len(ends) == 1 else tuple(nodes), edges, numbers(counts))


def pyg_fields(op: str, store: Any, chosen: Any) -> dict[str, NDArray[Any]]:
    """Those attributes of a Data, or of one type of a HeteroData, for which PyG's function says so."""
    found = {
        key: store[key]
        for key in list(store.keys())
        if chosen(key) and key not in ("edge_index", "num_nodes")
    }
    return {key: _of_tensor(op, key, value) for key, value in found.items()}


def dgl_fields(op: str, fields: Any) -> dict[str, NDArray[Any]]:
    """Tensors by name as arrays."""
    return {name: _of_tensor(op, name, fields[name]) for name in fields}


def _of_tensor(op: str, name: str, value: Any) -> NDArray[Any]:
    if hasattr(value, "detach"):
        value = value.detach()
    return as_column(value if isinstance(value, list) else as_array(op, name, value))


def dgl(op: str, G: Any, data: bool) -> Parts:
    """Sources and destinations in the order of edge ids, the counts as `Graph` takes them, and the fields of
    nodes and edges.
    """
    if not all(hasattr(G, name) for name in ("edges", "canonical_etypes", "num_nodes")):
        raise wrong_kind(op, "G", G, "a dgl.DGLGraph")
    if len(G.canonical_etypes) != 1:
        raise bad_value(
            op, f"G has {len(G.canonical_etypes)} edge types", "give one, G[source, edge, destination]"
        )
    source, _, destination = G.canonical_etypes[0]
    src, dst = _by_id(op, G)

    edges = dgl_fields(op, G.edata) if data else {}
    block = getattr(G, "is_block", False)  # a block's two sets of nodes may share a type name
    if source == destination and not block:
        count = G.num_nodes(source)
        return Parts(
            src, dst, {"num_nodes": count}, dgl_fields(op, G.ndata) if data else {}, edges, numbers([count])
        )
    num_src, num_dst = (
        (G.num_src_nodes(), G.num_dst_nodes()) if block else (G.num_nodes(source), G.num_nodes(destination))
    )
    nodes = (dgl_fields(op, G.srcdata), dgl_fields(op, G.dstdata)) if data else ({}, {})
    return Parts(
        src, dst, {"num_src": num_src, "num_dst": num_dst}, nodes, edges, numbers([num_src, num_dst])
    )


def _by_id(op: str, G: Any) -> tuple[Any, Any]:
    """Both columns by edge id; from the rows that there are where the graph is restricted to formats without
    the columns.
    """
    formats = G.formats() if hasattr(G, "formats") else {}
    there = {*formats.get("created", ()), *formats.get("not created", ())}
    if not there or "coo" in there:
        found: tuple[Any, Any] = G.edges(order="eid")
        return found
    by_source = "csr" in there
    read = getattr(G, "adj_tensors", None) or G.adj_sparse  # its name before DGL 1.1
    indptr, indices, ids = (given_ids(op, "G", part) for part in read("csr" if by_source else "csc"))
    rows = expanded(frozen(indptr.astype(np.int64)))
    order = (
        np.argsort(ids, kind="stable") if len(ids) else np.arange(len(rows))
    )  # no ids: they are the positions
    rows, others = rows[order], indices[order]
    return (rows, others) if by_source else (others, rows)
