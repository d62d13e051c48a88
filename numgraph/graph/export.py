"""Graphs for other libraries: the methods ``Graph.to_…``. Fields and names are given beside the graph, by
node and edge id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numgraph.arrays.devices import moved
from numgraph.arrays.inputs import as_array, kind_of
from numgraph.errors import bad_type, bad_value, check_name, missing
from numgraph.graph.changes import Changes
from numgraph.graph.naming import as_column, as_names, check_distinct

Fields = Mapping[Any, Any]
"""Arrays or lists by attribute name."""

SPARSE_FORMATS = ("csr", "csc", "coo", "bsr", "dia", "dok", "lil")


class ToLibraries(Changes):
    """The methods that a Graph has for other libraries."""

    __slots__ = ()

    def _fields(
        self, op: str, nodes: Any, edges: Fields | None
    ) -> tuple[list[dict[Any, NDArray[Any]]], dict[Any, NDArray[Any]]]:
        """Checked fields of each set of nodes, and of the edges."""
        nodes = (({}, {}) if self.is_bipartite else {}) if nodes is None else nodes
        sets: Any = nodes if self.is_bipartite else (nodes,)
        counts = (self.num_src, self.num_dst)[: len(sets)]
        if self.is_bipartite and not (isinstance(sets, tuple | list) and len(sets) == 2):
            raise bad_type(
                op,
                f"nodes is {kind_of(nodes)} and the graph is bipartite",
                "give a pair, (fields of sources, fields of destinations)",
            )
        checked = [rows_by_name(op, "nodes", fields, count, "nodes") for fields, count in zip(sets, counts)]
        return checked, rows_by_name(op, "edges", {} if edges is None else edges, self.num_edges, "edges")

    def _names(self, op: str, names: Any) -> list[list[Any]]:
        """The names of each set of nodes, all of them different; by default numbers, of destinations after
        those of sources.
        """
        counts = (self.num_src, self.num_dst) if self.is_bipartite else (self.num_src,)
        if names is None or (self.is_bipartite and names == (range(counts[0]), range(counts[-1]))):
            return [list(range(start, start + count)) for start, count in zip((0, counts[0]), counts)]
        given = list(names) if self.is_bipartite else [names]
        if len(given) != len(counts):
            raise bad_value(
                op,
                f"names has {len(given)} entries and the graph is bipartite",
                "give a pair, (sources' names, destinations')",
            )
        for one in given:
            if isinstance(one, str | Mapping) or not hasattr(one, "__iter__"):
                raise bad_type(
                    op,
                    f"names is {kind_of(one)}",
                    "give a list or an array with the name of each node, by its id",
                )
        listed = [
            as_names(op, "names", one if isinstance(one, np.ndarray) else list(one)).tolist() for one in given
        ]
        for one, count in zip(listed, counts):
            if len(one) != count:
                raise bad_value(
                    op, f"names has {len(one)} entries for {count} nodes", "give one for each node, by its id"
                )
        every = as_names(op, "names", [name for one in listed for name in one])
        check_distinct(op, "names", every)
        return listed

    def to_networkx(
        self,
        nodes: Any = None,
        edges: Fields | None = None,
        names: Any = None,
        *,
        multigraph: bool | None = None,
    ) -> Any:
        """The graph as a networkx.DiGraph, or a MultiDiGraph if it has parallel edges.

        Parameters
        ----------
        nodes, edges : arrays by attribute name, a row for each node and each edge;
            their rows become Python's numbers and lists
        names : [num_nodes] the nodes of the NetworkX graph; by default the ids
        multigraph : True for a MultiDiGraph in any case, False for an error if there are parallel edges;
            the keys of its edges are ``edges["key"]``, or NetworkX's own

        Returns
        -------
        networkx.DiGraph or networkx.MultiDiGraph

        Raises
        ------
        ValueError : parallel edges with ``multigraph=False``, rows that do not fit, a name or key given twice

        Notes
        -----
        Of a bipartite graph `nodes` and `names` are pairs, and NetworkX's attribute ``bipartite`` is 0 for
        sources and 1 for destinations; the ids of destinations follow those of sources.
        ``Graph.from_networkx(…, data=True)`` gives all of it back, except for the order of edges: NetworkX
        keeps them by their sources. Undirected: ``g.to_networkx(…).to_undirected()``.

        Examples
        --------
        >>> import numgraph as ng
        >>> G = ng.Graph([0, 1], [1, 2], 3).to_networkx(edges={"weight": [0.5, 2.0]}, names=["a", "b", "c"])
        >>> G["a"]["b"]
        {'weight': 0.5}
        """
        import networkx

        op, g = "Graph.to_networkx", self.to("cpu")
        sets, fields = g._fields(op, nodes, edges)
        listed = g._names(op, names)
        parallel = g.coalesce().num_edges < g.num_edges
        if parallel and multigraph is False:
            raise bad_value(
                op,
                "the graph has parallel edges, which a DiGraph cannot hold",
                "leave multigraph out, or merge them by coalesce()",
            )
        multi = parallel if multigraph is None else multigraph
        G = networkx.MultiDiGraph() if multi else networkx.DiGraph()
        for side, (known, values) in enumerate(zip(listed, sets)):
            if g.is_bipartite:
                values = {**values, "bipartite": np.full(len(known), side)}
            G.add_nodes_from(zip(known, _records(values, len(known))))
        ends = [[names[i] for i in ids.tolist()] for names, ids in ((listed[0], g.src), (listed[-1], g.dst))]
        keys = [fields.pop("key").tolist()] if multi and "key" in fields else []
        G.add_edges_from(zip(*ends, *keys, _records(fields, g.num_edges)))
        if G.number_of_edges() != g.num_edges:
            raise bad_value(
                op,
                "edges['key'] repeats a key between the same two nodes",
                "parallel edges need keys of their own; leave it out",
            )
        return G

    def to_scipy(self, weights: ArrayLike | None = None, format: str = "csr") -> Any:
        """The adjacency matrix as a SciPy sparse array [num_src, num_dst]: A[u, v] is the sum of the weights
        of the edges u → v.

        Parameters
        ----------
        weights : [num_edges] (or [num_edges, 1]) a number for each edge, whose dtype is kept;
            by default 1.0, so that A counts edges
        format : "csr", "csc", "coo", "bsr", "dia", "dok" or "lil"

        Returns
        -------
        scipy.sparse array [num_src, num_dst] of that format

        Raises
        ------
        TypeError : weights of a dtype that SciPy's sparse arrays do not have
        ValueError : another number of weights, an unknown format

        Notes
        -----
        Entries are stored for every edge, also where the weights are or add up to 0; ``from_scipy`` leaves
        such edges out.

        Examples
        --------
        >>> import numgraph as ng
        >>> ng.Graph([0, 0, 1], [1, 1, 0], 2).to_scipy().toarray()
        array([[0., 2.],
               [1., 0.]])
        """
        from scipy.sparse import csr_array

        op, g = "Graph.to_scipy", self.to("cpu")
        check_name(op, "format", format, SPARSE_FORMATS)
        values = np.ones(g.num_edges) if weights is None else moved(as_array(op, "weights", weights), "cpu")
        if values.shape not in ((g.num_edges,), (g.num_edges, 1)):
            raise bad_value(
                op,
                f"weights has shape {list(values.shape)}, the graph has {g.num_edges} edges",
                "give a number for each edge",
            )
        if values.dtype.kind not in "biufc" or values.dtype == np.float16:
            raise bad_type(
                op,
                f"weights is {values.dtype}, which SciPy's sparse arrays do not have",
                "cast it, as in weights.astype(np.float32)",
            )
        rows = g.out_edges
        data = values.reshape(-1)[rows.edge_ids]
        A = csr_array((data, rows.indices.copy(), rows.indptr.copy()), shape=(g.num_src, g.num_dst))
        A.sum_duplicates()
        return A.asformat(format)

    def to_edge_list(
        self, edges: Fields | None = None, names: Any = None, source: str = "source", target: str = "target"
    ) -> dict[Any, NDArray[Any] | list[Any]]:
        """The edges as columns of a table: for ``pandas.DataFrame(…)``, ``polars.DataFrame(…)`` or
        ``pyarrow.table(…)``.

        Parameters
        ----------
        edges : arrays by attribute name, a row for each edge; vectors become lists of them
        names : [num_nodes] the nodes' names, of a bipartite graph a pair; by default the ids
        source, target : names of the columns of the edges' ends

        Returns
        -------
        dict of columns [num_edges], by name

        Raises
        ------
        ValueError : rows that do not fit, a column of `edges` that is called as the ends are

        Examples
        --------
        >>> import numgraph as ng
        >>> ng.Graph([0, 1], [1, 0]).to_edge_list({"weight": [0.5, 2.0]}, ["ann", "ben"])["source"].tolist()
        ['ann', 'ben']
        """
        op, g = "Graph.to_edge_list", self.to("cpu")
        _, fields = g._fields(op, None, edges)
        taken = {source, target} & set(fields)
        if taken:
            raise bad_value(
                op,
                f"edges has {min(taken)!r}, the column of the edges' ends",
                "name that otherwise, as in source='from'",
            )
        ends: list[NDArray[Any]] = [g.src, g.dst]
        if names is not None:
            listed = [as_names(op, "names", one) for one in g._names(op, names)]
            ends = [listed[0][g.src], listed[-1][g.dst]]
        return {
            source: ends[0],
            target: ends[1],
            **{n: values if values.ndim == 1 else list(values) for n, values in fields.items()},
        }

    @overload
    def to_edge_index(self, library: Literal["numpy"] = ...) -> NDArray[np.int64]: ...

    @overload
    def to_edge_index(self, library: str) -> Any: ...

    def to_edge_index(self, library: str = "numpy") -> Any:
        """Sources above destinations, in the order of edge ids: PyTorch Geometric's edge_index.

        Parameters
        ----------
        library : "numpy" for an array, "torch" for a CPU tensor

        Returns
        -------
        int64 array or tensor [2, num_edges]

        Raises
        ------
        ValueError : an unknown library

        Examples
        --------
        >>> import numgraph as ng
        >>> ng.Graph([0, 1], [1, 2], 3).to_edge_index()
        array([[0, 1],
               [1, 2]])
        """
        check_name("Graph.to_edge_index", "library", library, ("numpy", "torch"))
        g = self.to("cpu")
        ids = np.stack([g.src, g.dst]).astype(np.int64)
        return ids if library == "numpy" else _tensor("Graph.to_edge_index", "edge_index", ids)

    def to_igraph(self, nodes: Fields | None = None, edges: Fields | None = None, names: Any = None) -> Any:
        """The graph as a directed igraph.Graph, edge ids kept.

        Of a bipartite graph the destinations' ids follow the sources'; igraph's attribute "type" is False for
        the sources and True for the destinations.

        Parameters
        ----------
        nodes, edges : arrays by attribute name, a row for each node and each edge;
            of a bipartite graph `nodes` is a pair of such
        names : [num_nodes] the vertices' attribute "name"; of a bipartite graph a pair

        Returns
        -------
        igraph.Graph

        Raises
        ------
        ValueError : rows that do not fit, a name given twice

        Examples
        --------
        >>> import igraph, numgraph as ng
        >>> ng.Graph([0, 1], [1, 2]).to_igraph(names=["a", "b", "c"]).vs["name"]
        ['a', 'b', 'c']
        """
        import igraph

        op, g = "Graph.to_igraph", self.to("cpu")
        sets, fields = g._fields(op, nodes, edges)
        listed = g._names(op, names)
        G = igraph.Graph(sum(map(len, listed)), directed=True)
        G.add_edges(np.stack([g.src, g.dst + (g.num_src if g.is_bipartite else 0)], 1).tolist())
        if names is not None:
            G.vs["name"] = [name for one in listed for name in one]
        if g.is_bipartite:
            G.vs["type"] = [side == 1 for side, one in enumerate(listed) for _ in one]
        start = 0
        for known, values in zip(listed, sets):
            for name, column in values.items():
                G.vs[start : start + len(known)][name] = column.tolist()
            start += len(known)
        for name, column in fields.items():
            G.es[name] = column.tolist()
        return G

    def to_pyg(
        self,
        nodes: Any = None,
        edges: Fields | None = None,
        edge_type: tuple[str, str, str] = ("source", "to", "target"),
    ) -> Any:
        """The graph as a torch_geometric Data with its fields as tensors; a bipartite one as a HeteroData
        with that one edge type.

        Parameters
        ----------
        nodes, edges : arrays by attribute name, a row for each node and each edge;
            of a bipartite graph `nodes` is a pair of such
        edge_type : (source, relation, destination) of the HeteroData

        Returns
        -------
        torch_geometric.data.Data or HeteroData

        Raises
        ------
        ValueError : rows that do not fit, a name in both `nodes` and `edges`

        Examples
        --------
        >>> import torch_geometric, numgraph as ng
        >>> ng.Graph([0, 1], [1, 2]).to_pyg(edges={"edge_attr": [[0.5], [2.0]]})
        Data(edge_index=[2, 2], num_nodes=3, edge_attr=[2, 1])
        """
        from torch_geometric.data import Data, HeteroData

        op, g = "Graph.to_pyg", self.to("cpu")
        sets, fields = g._fields(op, nodes, edges)
        both = set(sets[0]) & set(fields)
        if both and not g.is_bipartite:
            raise bad_value(
                op,
                f"nodes and edges both have {min(both)!r}",
                "a Data has one attribute of a name: rename one",
            )
        G = HeteroData() if g.is_bipartite else Data()
        ends = [G[edge_type[0]], G[edge_type[2]]] if g.is_bipartite else [G]
        store = G[edge_type] if g.is_bipartite else G
        store.edge_index = g.to_edge_index("torch")
        for end, values, count in zip(ends, sets, (g.num_src, g.num_dst)):
            end.num_nodes = count
            fill(op, end, values)
        fill(op, store, fields)
        return G

    def to_dgl(self, nodes: Any = None, edges: Fields | None = None) -> Any:
        """The graph as a DGL graph on the CPU, edge ids kept, its fields as tensors of ndata (or srcdata and
        dstdata) and edata.

        Parameters
        ----------
        nodes, edges : arrays by attribute name, a row for each node and each edge;
            of a bipartite graph `nodes` is a pair of such

        Returns
        -------
        dgl.DGLGraph

        Raises
        ------
        ValueError : rows that do not fit
        ModuleNotFoundError : DGL is not installed

        Examples
        --------
        >>> import dgl, numgraph as ng
        >>> ng.Graph([0, 1], [1, 2]).to_dgl().num_nodes()
        3
        """
        op, g = "Graph.to_dgl", self.to("cpu")
        sets, fields = g._fields(op, nodes, edges)
        try:
            import dgl
        except ModuleNotFoundError as error:
            raise missing(op, "DGL is not installed", "pip install dgl") from error
        ends = tuple(g.to_edge_index("torch"))
        if g.is_bipartite:
            counts = {"source": g.num_src, "target": g.num_dst}
            G = dgl.heterograph({("source", "to", "target"): ends}, num_nodes_dict=counts)
            stores = [G.srcdata, G.dstdata, G.edata]
        else:
            G = dgl.graph(ends, num_nodes=g.num_src)
            stores = [G.ndata, G.edata]
        for store, values in zip(stores, (*sets, fields)):
            fill(op, store, values)
        return G


def rows_by_name(op: str, what: str, fields: Any, count: int, of: str) -> dict[Any, NDArray[Any]]:
    """Fields by name as arrays with so many rows."""
    if not isinstance(fields, Mapping):
        raise bad_type(op, f"{what} is {kind_of(fields)}", f"give arrays by name, as in {what}={{'x': x}}")
    made = {}
    for name, given in fields.items():
        made[name] = as_column(
            given if isinstance(given, list) else moved(as_array(op, f"{what}[{name!r}]", given), "cpu")
        )
    for name, values in made.items():
        if values.ndim == 0 or len(values) != count:
            raise bad_value(
                op,
                f"{what}[{name!r}] has shape {list(values.shape)}, there are {count} {of}",
                "give a row for each",
            )
    return made


def _records(fields: Mapping[Any, NDArray[Any]], count: int) -> list[dict[Any, Any]]:
    """A dict for each row."""
    listed = {name: values.tolist() for name, values in fields.items()}
    return [{name: values[i] for name, values in listed.items()} for i in range(count)]


def _tensor(op: str, name: Any, values: NDArray[Any]) -> Any:
    import torch

    try:
        return torch.from_numpy(np.array(values))  # a copy: the graph's own arrays are read-only
    except TypeError as error:
        fix = "leave it out, or give numbers"
        raise bad_type(op, f"{name!r} has dtype {values.dtype}, which tensors do not have", fix) from error


def fill(op: str, store: Any, fields: Mapping[Any, NDArray[Any]]) -> None:
    """Tensors of fields, by name, into what holds such."""
    for name, values in fields.items():
        store[name] = _tensor(op, name, values)
