"""Graphs from other libraries: the constructors ``Graph.from_…``.

A Graph keeps no fields: what belongs to its nodes and edges comes beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Self, TypeVar, overload

from numpy.typing import ArrayLike

from numgraph.errors import bad_value
from numgraph.graph import edge_tables, formats
from numgraph.graph.edges import SRC
from numgraph.graph.sorting import given_ids

G_co = TypeVar("G_co", covariant=True)
Fields = Mapping[Any, Any]
"""Values by attribute name."""


class Converted(NamedTuple, Generic[G_co]):
    """A graph of another library with what belongs to its nodes and edges.

    Attributes
    ----------
    graph : the Graph
    nodes : array [num_nodes, …] of each node attribute, by its name; row i is node i's
    edges : array [num_edges, …] of each edge attribute, by its name; row e is edge e's
    names : the name of each node: node i is names[i];
        a range where the nodes of the library are numbers themselves

    Of a bipartite graph `nodes` and `names` are pairs, the sources' and the destinations'; of a HeteroGraph
    all three are dicts by type.

    Numbers, dates and vectors of one length are arrays of their dtype; text and everything else are arrays of
    objects."""

    graph: G_co
    nodes: Any
    edges: dict[Any, Any]
    names: Any


class FromLibraries:
    """The constructors that a Graph has for graphs of other libraries."""

    __slots__ = ()

    if TYPE_CHECKING:  # what Graph has

        def __init__(
            self,
            src: Any,
            dst: Any = None,
            num_nodes: int | None = None,
            *,
            num_src: int | None = None,
            num_dst: int | None = None,
        ) -> None: ...

        @classmethod
        def _from_rows(
            cls, op: str, side: int, indptr: Any, indices: Any, num_rows: int | None, num_columns: int
        ) -> Self: ...

    @classmethod
    def _of_parts(cls, parts: formats.Parts, data: bool) -> Self | Converted[Self]:
        graph = cls(parts.src, parts.dst, **parts.counts)
        return Converted(graph, parts.nodes, parts.edges, parts.names) if data else graph

    @overload
    @classmethod
    def from_scipy(
        cls, A: Any, *, num_src: int | None = ..., num_dst: int | None = ..., data: Literal[False] = ...
    ) -> Self: ...

    @overload
    @classmethod
    def from_scipy(
        cls, A: Any, *, num_src: int | None = ..., num_dst: int | None = ..., data: Literal[True]
    ) -> Converted[Self]: ...

    @classmethod
    def from_scipy(
        cls, A: Any, *, num_src: int | None = None, num_dst: int | None = None, data: bool = False
    ) -> Self | Converted[Self]:
        """Graph of a SciPy sparse array or matrix of any format: the entry ``A[u, v] != 0`` is the edge u →
        v.

        Duplicate entries are summed and explicit zeros are no edges, as everywhere in SciPy. Edge ids follow
        the rows, then the columns: they are the order of ``A.data`` for a CSR array after
        ``A.sum_duplicates()`` and ``A.eliminate_zeros()``.

        A square array is of one set of nodes, unless its numbers of rows and columns are given as `num_src`
        and `num_dst`.

        Parameters
        ----------
        A : sparse array [num_src, num_dst]
        num_src, num_dst : the numbers of rows and columns, where a square array is of two sets of nodes
        data : return a `Converted`, with the entries as ``edges["weight"]``

        Examples
        --------
        >>> import numgraph as ng, scipy.sparse
        >>> g, _, edges, _ = ng.Graph.from_scipy(scipy.sparse.csr_array([[0, 2.5], [1.0, 0]]), data=True)
        >>> edges["weight"]
        array([2.5, 1. ])
        """
        rows = formats.scipy_rows("Graph.from_scipy", A)
        if num_src is not None or num_dst is not None:
            num_src, num_dst = (
                n if given is None else given for n, given in zip(A.shape, (num_src, num_dst), strict=True)
            )
            if num_dst != A.shape[1]:
                raise bad_value(
                    "Graph.from_scipy",
                    f"num_dst is {num_dst}, A has shape {list(A.shape)}",
                    "A is [num_src, num_dst]",
                )
        graph = cls._from_rows("Graph.from_scipy", SRC, rows.indptr, rows.indices, num_src, A.shape[1])
        if not data:
            return graph
        weights, one_set = {"weight": rows.data.copy()}, num_src is None and A.shape[0] == A.shape[1]
        return Converted(
            graph, {} if one_set else ({}, {}), weights, formats.numbers(A.shape[:1] if one_set else A.shape)
        )

    @classmethod
    def from_edge_index(
        cls,
        edge_index: ArrayLike,
        num_nodes: int | None = None,
        *,
        num_src: int | None = None,
        num_dst: int | None = None,
    ) -> Self:
        """Graph of an integer array [2, num_edges], sources above destinations, as PyTorch Geometric has it;
        also a CPU tensor.

        The counts are those of ``Graph``. Edge data need no conversion: edge e is column e.
        """
        if hasattr(edge_index, "edge_index"):
            raise formats.wrong_kind("Graph.from_edge_index", "edge_index", edge_index, "its edge_index")
        ids = given_ids("Graph.from_edge_index", "edge_index", edge_index, axes=2)
        if ids.shape[0] != 2:
            fix = (
                "transpose it, as edge_index.T"
                if ids.shape[1] == 2
                else "its rows are the sources and the destinations"
            )
            raise bad_value(
                "Graph.from_edge_index",
                f"edge_index has shape {list(ids.shape)}, it must be [2, num_edges]",
                fix,
            )
        return cls(ids[0], ids[1], num_nodes, num_src=num_src, num_dst=num_dst)

    @overload
    @classmethod
    def from_networkx(
        cls, G: Any, *, bipartite: bool = ..., data: Literal[False] = ..., fill: Fields | None = ...
    ) -> Self: ...

    @overload
    @classmethod
    def from_networkx(
        cls, G: Any, *, bipartite: bool = ..., data: Literal[True], fill: Fields | None = ...
    ) -> Converted[Self]: ...

    @classmethod
    def from_networkx(
        cls,
        G: Any,
        *,
        bipartite: bool = False,
        data: bool = False,
        fill: Fields | None = None,
    ) -> Self | Converted[Self]:
        """Graph of a NetworkX graph: node i is the i-th of ``G.nodes``, edge e the e-th of ``G.edges``;
        parallel edges are kept.

        Undirected edges go both ways: after all of ``G.edges`` come their reverses, in the same order,
        without those of self loops.

        Parameters
        ----------
        G : Graph, DiGraph, MultiGraph or MultiDiGraph of NetworkX
        bipartite : the nodes say by NetworkX's attribute ``bipartite=0`` or ``1`` whether they are sources
            or destinations, two sets; undirected edges go from sources to destinations only
        data : return a `Converted`, with attributes and names;
            an undirected edge's attributes go along both ways, and the keys of a multigraph's edges are
            ``edges["key"]``
        fill : what an attribute is for nodes and edges without it, by its name

        Raises
        ------
        ValueError : an attribute that some have and some have not, and that is not in `fill`;
            names the first without it

        Examples
        --------
        >>> import networkx as nx, numgraph as ng
        >>> G = nx.Graph()
        >>> G.add_edge("a", "b", weight=0.5)
        >>> graph, nodes, edges, names = ng.Graph.from_networkx(G, data=True)
        >>> names, edges["weight"]
        (['a', 'b'], array([0.5, 0.5]))
        """
        op = "Graph.from_networkx"
        return cls._of_parts(formats.networkx(op, G, bipartite, data, formats.filling(op, fill)), data)

    @overload
    @classmethod
    def from_igraph(
        cls, G: Any, *, bipartite: bool = ..., data: Literal[False] = ..., fill: Fields | None = ...
    ) -> Self: ...

    @overload
    @classmethod
    def from_igraph(
        cls, G: Any, *, bipartite: bool = ..., data: Literal[True], fill: Fields | None = ...
    ) -> Converted[Self]: ...

    @classmethod
    def from_igraph(
        cls, G: Any, *, bipartite: bool = False, data: bool = False, fill: Fields | None = None
    ) -> Self | Converted[Self]:
        """Graph of an igraph.Graph, ids kept; undirected edges go both ways, the reverses behind all others,
        as in ``from_networkx``.

        Parameters
        ----------
        G : igraph.Graph
        bipartite : the vertices say by igraph's attribute "type", False or True,
            whether they are sources or destinations, two sets
        data : return a `Converted`; the vertices' attribute "name" gives the names
        fill : what an attribute is where igraph has None, by its name; without it that is an error
        """
        op = "Graph.from_igraph"
        return cls._of_parts(formats.igraph(op, G, bipartite, data, formats.filling(op, fill)), data)

    @overload
    @classmethod
    def from_pyg(cls, G: Any, edge_type: Any = ..., *, data: Literal[False] = ...) -> Self: ...

    @overload
    @classmethod
    def from_pyg(cls, G: Any, edge_type: Any = ..., *, data: Literal[True]) -> Converted[Self]: ...

    @classmethod
    def from_pyg(cls, G: Any, edge_type: Any = None, *, data: bool = False) -> Self | Converted[Self]:
        """Graph of a torch_geometric Data, or of one edge type of a HeteroData, which is bipartite between
        two node types.

        Parameters
        ----------
        G : Data or HeteroData on the CPU, with its edge_index
        edge_type : (source, relation, destination) of a HeteroData that has several
        data : return a `Converted`,
            with what PyG tells to have a row for each node (x, y, masks) or edge (edge_attr)
        """
        return cls._of_parts(formats.pyg("Graph.from_pyg", G, edge_type, data), data)

    @overload
    @classmethod
    def from_dgl(cls, G: Any, *, data: Literal[False] = ...) -> Self: ...

    @overload
    @classmethod
    def from_dgl(cls, G: Any, *, data: Literal[True]) -> Converted[Self]: ...

    @classmethod
    def from_dgl(cls, G: Any, *, data: bool = False) -> Self | Converted[Self]:
        """Graph of a DGL graph on the CPU with one edge type, also a bipartite one, or a block, in any
        format; edge ids are kept.

        With `data` it returns a `Converted`, with ndata (or srcdata and dstdata) and edata.
        """
        return cls._of_parts(formats.dgl("Graph.from_dgl", G, data), data)

    @overload
    @classmethod
    def from_edge_list(
        cls,
        table: Any,
        source: Any = ...,
        target: Any = ...,
        edge_attr: Any = ...,
        *,
        names: Any = ...,
        directed: bool = ...,
        bipartite: bool = ...,
        data: Literal[True] = ...,
    ) -> Converted[Self]: ...

    @overload
    @classmethod
    def from_edge_list(
        cls,
        table: Any,
        source: Any = ...,
        target: Any = ...,
        edge_attr: Any = ...,
        *,
        names: Any = ...,
        directed: bool = ...,
        bipartite: bool = ...,
        data: Literal[False],
    ) -> Self: ...

    @classmethod
    def from_edge_list(
        cls,
        table: Any,
        source: Any = None,
        target: Any = None,
        edge_attr: Any = True,
        *,
        names: Any = None,
        directed: bool = True,
        bipartite: bool = False,
        data: bool = True,
    ) -> Self | Converted[Self]:
        """Graph of a table whose rows are edges: pandas, Polars, Arrow, a dict of columns, a structured
        array. Edge e is row e.

        Nodes are numbered as their names first appear, row by row, the source before the target.

        Parameters
        ----------
        table : the edges
        source, target : the columns with the names of the ends, text or numbers;
            by default two that are called as usual (source and target, src and dst, from and to, u and v,
            source_id and target_id, … in letters of either case), else the first two
        edge_attr : columns that become edge data: True for all others, one name, a list of names, or None
        names : all nodes' names, by id, so that nodes without edges are there too;
            of a bipartite graph a pair of them
        directed : False for edges that go both ways: behind all others come the reverses,
            without those of self loops
        bipartite : sources and targets are two sets of nodes; `names` is a pair then
        data : False for the Graph alone

        Raises
        ------
        ValueError : a column that is not there, a row without a name, a name that is not in `names`;
            floats in the first two columns where nobody named these

        Notes
        -----
        Missing numbers in edge data are NaN. Ids instead of names need no numbering:
        ``Graph(table["source"], table["target"])``.

        Examples
        --------
        >>> import numgraph as ng
        >>> table = {"from": ["ann", "ben", "ann"], "to": ["ben", "cid", "cid"], "weight": [1.0, 2.0, 0.5]}
        >>> graph, _, edges, names = ng.Graph.from_edge_list(table)
        >>> graph, list(names)
        (Graph(num_nodes=3, num_edges=3), ['ann', 'ben', 'cid'])
        """
        parts = edge_tables.table(
            "Graph.from_edge_list", table, source, target, edge_attr, names, directed, bipartite
        )
        return cls._of_parts(parts, data)

    @classmethod
    def from_pairs(cls, pairs: Any, *, directed: bool = True) -> tuple[Self, list[Any]]:
        """Graph of pairs of names: a list of tuples, or an array [num_edges, 2]. Edge e is pair e.

        Nodes are numbered as their names first appear, pair by pair, the source before the target.

        Parameters
        ----------
        pairs : the edges, (source, target); names are text, numbers or whatever else can be the key of a dict
        directed : False for edges that go both ways: behind all others come the reverses,
            without those of self loops

        Returns
        -------
        graph : the Graph
        names : the name of each node: node i is names[i]

        Raises
        ------
        ValueError : an entry that is no pair, a missing name

        Examples
        --------
        >>> import numgraph as ng
        >>> graph, names = ng.Graph.from_pairs([("ann", "ben"), ("ben", "cid"), ("ann", "cid")])
        >>> names, graph.dst
        (['ann', 'ben', 'cid'], array([1, 2, 2], dtype=int32))
        """
        op = "Graph.from_pairs"
        parts = edge_tables.table(
            op, edge_tables.ends_of_pairs(op, pairs), "source", "target", None, None, directed, False
        )
        return cls(parts.src, parts.dst, **parts.counts), list(parts.names.tolist())
