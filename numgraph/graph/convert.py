"""Graphs from other libraries: the constructors ``Graph.from_…``.

A Graph keeps no fields: what belongs to its nodes and edges comes beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Self, TypeVar, overload

from numpy.typing import ArrayLike

from numgraph.errors import bad_value
from numgraph.graph import formats
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

        Returns
        -------
        Graph or Converted

        Raises
        ------
        TypeError : something that is not sparse
        ValueError : counts that are not those of `A`

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
        """Graph of an array of edges, sources above destinations, as PyTorch Geometric has it.

        Edge data need no conversion: edge e is column e.

        Parameters
        ----------
        edge_index : integers [2, num_edges], an array or a CPU tensor
        num_nodes, num_src, num_dst : as of ``Graph``

        Returns
        -------
        Graph

        Raises
        ------
        TypeError : ids that are not integers
        ValueError : another shape
        IndexError : an id outside its range

        Examples
        --------
        >>> import numgraph as ng
        >>> ng.Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=4)
        Graph(num_nodes=4, num_edges=2)
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

        Returns
        -------
        Graph or Converted

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

        Returns
        -------
        Graph or Converted

        Raises
        ------
        ValueError : an attribute that is None somewhere and is not in `fill`; names the first without it

        Examples
        --------
        >>> import igraph, numgraph as ng
        >>> ng.Graph.from_igraph(igraph.Graph([(0, 1), (1, 2)], directed=True))
        Graph(num_nodes=3, num_edges=2)
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

        Returns
        -------
        Graph or Converted

        Raises
        ------
        TypeError : something that is neither
        ValueError : an edge type that `G` lacks, or none of several

        Examples
        --------
        >>> import numgraph as ng, torch, torch_geometric
        >>> G = torch_geometric.data.Data(edge_index=torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
        >>> ng.Graph.from_pyg(G)
        Graph(num_nodes=3, num_edges=2)
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

        Parameters
        ----------
        G : dgl.DGLGraph
        data : return a `Converted`, with ndata (or srcdata and dstdata) and edata

        Returns
        -------
        Graph or Converted

        Raises
        ------
        TypeError : something that is no DGL graph
        ValueError : several edge types

        Examples
        --------
        >>> import dgl, numgraph as ng
        >>> ng.Graph.from_dgl(dgl.graph(([0, 1], [1, 2])))
        Graph(num_nodes=3, num_edges=2)
        """
        return cls._of_parts(formats.dgl("Graph.from_dgl", G, data), data)
