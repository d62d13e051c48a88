"""HeteroGraphs from other libraries and for them: HeteroData of PyG, heterographs of DGL, NetworkX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from numgraph.errors import bad_value, missing, shown
from numgraph.graph import formats
from numgraph.graph.convert import Converted
from numgraph.graph.export import fill, rows_by_name


class HeteroLibraries:
    """The conversions that a HeteroGraph has. Fields come and go beside it: by type of nodes, and by
    relation.
    """

    __slots__ = ()

    if TYPE_CHECKING:  # what HeteroGraph has

        def __init__(self, edges: Mapping[Any, Any], num_nodes: Mapping[str, int] | None = None) -> None: ...
        def items(self) -> Any: ...
        def to(self, device: str) -> Self: ...
        def to_homogeneous(self) -> Any: ...
        def by_type(self, op: str, what: str, values: Any) -> dict[str, Any]: ...
        def by_relation(self, op: str, what: str, values: Any) -> dict[Any, Any]: ...

        num_nodes: Any
        edge_types: Any

    @classmethod
    def from_pyg(cls, G: Any, *, data: bool = False) -> Self | Converted[Self]:
        """The HeteroGraph of a torch_geometric HeteroData on the CPU; types and edges keep their names and
        ids.

        Parameters
        ----------
        G : torch_geometric.data.HeteroData
        data : return a ``Converted``: ``nodes[type]["x"]`` and ``edges[relation]["edge_attr"]`` are what PyG
            tells to have a row for each node and edge, names a range for each type

        Returns
        -------
        HeteroGraph or Converted

        Raises
        ------
        TypeError : something that is no HeteroData
        ValueError : a type that does not tell how many nodes it has

        Examples
        --------
        >>> import torch, torch_geometric, numgraph as ng
        >>> G = torch_geometric.data.HeteroData()
        >>> G["author"].num_nodes, G["paper"].num_nodes = 1, 2
        >>> G["author", "writes", "paper"].edge_index = torch.tensor([[0, 0], [0, 1]])
        >>> ng.HeteroGraph.from_pyg(G)
        HeteroGraph(author: 1 node, paper: 2 nodes; author -writes-> paper: 2 edges)
        """
        op = "HeteroGraph.from_pyg"
        if not (hasattr(G, "edge_types") and hasattr(G, "node_types")):
            raise formats.wrong_kind(op, "G", G, "a torch_geometric HeteroData; of a Data, Graph.from_pyg(G)")
        counts = {kind: G[kind].num_nodes for kind in G.node_types}
        for kind, count in counts.items():
            if count is None:
                raise bad_value(
                    op,
                    f"G does not tell how many nodes of type {kind!r} it has",
                    f"set it, as in G[{kind!r}].num_nodes = 5",
                )
        parts = {relation: formats.pyg(op, G, relation, data) for relation in G.edge_types}
        nodes = {
            kind: formats.pyg_fields(op, G[kind], G[kind].is_node_attr) if data else {}
            for kind in G.node_types
        }
        return cls._of_parts(parts, counts, nodes, data)

    @classmethod
    def from_dgl(cls, G: Any, *, data: bool = False) -> Self | Converted[Self]:
        """The HeteroGraph of a DGL graph on the CPU of any number of types, edge ids kept.

        Parameters
        ----------
        G : dgl.DGLGraph
        data : return a ``Converted`` whose nodes and edges are the fields by type, ``nodes["paper"]["x"]``

        Returns
        -------
        HeteroGraph or Converted

        Raises
        ------
        TypeError : something that is no DGL graph
        ValueError : a block

        Examples
        --------
        >>> import dgl, numgraph as ng
        >>> ng.HeteroGraph.from_dgl(dgl.heterograph({("author", "writes", "paper"): ([0, 0], [0, 1])}))
        HeteroGraph(author: 1 node, paper: 2 nodes; author -writes-> paper: 2 edges)
        """
        op = "HeteroGraph.from_dgl"
        if not all(hasattr(G, name) for name in ("canonical_etypes", "ntypes", "num_nodes")):
            raise formats.wrong_kind(op, "G", G, "a dgl.DGLGraph")
        if getattr(G, "is_block", False):
            raise bad_value(
                op,
                "G is a block, whose sources and destinations are two sets of one type",
                "give the graph that it is of",
            )
        counts = {kind: G.num_nodes(kind) for kind in G.ntypes}
        parts = {relation: formats.dgl(op, G[relation], data) for relation in G.canonical_etypes}
        nodes = {kind: formats.dgl_fields(op, G.nodes[kind].data) if data else {} for kind in G.ntypes}
        return cls._of_parts(parts, counts, nodes, data)

    @classmethod
    def from_networkx(
        cls, G: Any, *, node_type: str = "type", relation: str = "relation", data: bool = False
    ) -> Self | Converted[Self]:
        """The HeteroGraph of a NetworkX graph whose nodes and edges say their type; undirected edges go as
        they are listed, one way.

        Parameters
        ----------
        G : Graph, DiGraph, MultiGraph or MultiDiGraph
        node_type : the nodes' attribute that names their type
        relation : the edges' attribute that names their relation, by a name or a triple
        data : return a ``Converted`` whose ``names`` are the nodes by type:
            node i of a type is ``names[type][i]``, without attributes

        Returns
        -------
        HeteroGraph or Converted

        Raises
        ------
        TypeError : something that is no NetworkX graph
        ValueError : a node without type, an edge without relation or between other types than its triple says

        Examples
        --------
        >>> import networkx as nx, numgraph as ng
        >>> G = nx.DiGraph()
        >>> G.add_node("ann", type="author")
        >>> G.add_node("intro", type="paper")
        >>> G.add_edge("ann", "intro", relation="writes")
        >>> ng.HeteroGraph.from_networkx(G).edge_types
        [('author', 'writes', 'paper')]
        """
        op = "HeteroGraph.from_networkx"
        if not (hasattr(G, "nodes") and hasattr(G, "edges") and hasattr(G, "is_multigraph")):
            raise formats.wrong_kind(op, "G", G, "a networkx graph")
        names: dict[str, list[Any]] = {}
        place: dict[Any, tuple[str, int]] = {}
        for node, kind in G.nodes(data=node_type):
            if not isinstance(kind, str):
                raise bad_value(
                    op,
                    f"node {shown(node)} has no {node_type!r}",
                    f"name its type, G.nodes[{shown(node)}][{node_type!r}] = 'paper'",
                )
            place[node] = (kind, len(names.setdefault(kind, [])))
            names[kind].append(node)
        edges: dict[tuple[str, str, str], tuple[list[int], list[int]]] = {}
        for source, target, called in G.edges(data=relation):
            (a, u), (b, v) = place[source], place[target]
            key = (a, called, b) if isinstance(called, str) else tuple(called or ())
            if len(key) != 3 or (key[0], key[2]) != (a, b):
                problem = f"edge {shown((source, target))} from {a!r} to {b!r} has {relation} {shown(called)}"
                raise bad_value(op, problem, f"give the relation's name, or the triple ({a!r}, name, {b!r})")
            ends = edges.setdefault((a, str(key[1]), b), ([], []))
            ends[0].append(u)
            ends[1].append(v)
        h = cls(edges, {kind: len(listed) for kind, listed in names.items()})
        return Converted(h, {}, {}, names) if data else h

    @classmethod
    def _of_parts(
        cls, parts: Mapping[Any, formats.Parts], counts: Mapping[str, int], nodes: Any, data: bool
    ) -> Self | Converted[Self]:
        h = cls({relation: (one.src, one.dst) for relation, one in parts.items()}, counts)
        names = {kind: range(count) for kind, count in counts.items()}
        return (
            Converted(h, nodes, {relation: one.edges for relation, one in parts.items()}, names)
            if data
            else h
        )

    def _fields(self, op: str, nodes: Any, edges: Any) -> tuple[dict[str, Any], dict[Any, Any]]:
        """Fields of all types, a row for each node and each edge."""
        of_nodes = self.by_type(op, "nodes", {} if nodes is None else nodes)
        of_edges = self.by_relation(op, "edges", {} if edges is None else edges)
        rows = {
            kind: rows_by_name(op, f"nodes[{kind!r}]", given, self.num_nodes[kind], "nodes")
            for kind, given in of_nodes.items()
        }
        graphs = dict(self.items())
        return rows, {
            key: rows_by_name(op, f"edges[{key}]", given, graphs[key].num_edges, "edges")
            for key, given in of_edges.items()
        }

    def to_pyg(self, nodes: Any = None, edges: Any = None) -> Any:
        """A torch_geometric HeteroData with the fields as tensors.

        Parameters
        ----------
        nodes : {type: {name: array}}, a row for each node
        edges : {relation: {name: array}}, a row for each edge

        Returns
        -------
        torch_geometric.data.HeteroData

        Raises
        ------
        ValueError : an unknown type or relation, rows that do not fit

        Examples
        --------
        >>> import torch_geometric, numgraph as ng
        >>> h = ng.HeteroGraph({("author", "writes", "paper"): ([0, 0], [0, 1])})
        >>> h.to_pyg({"paper": {"year": [1997, 2016]}})["paper"].year
        tensor([1997, 2016])
        """
        from torch_geometric.data import HeteroData

        op, h = "HeteroGraph.to_pyg", self.to("cpu")
        of_nodes, of_edges = h._fields(op, nodes, edges)
        G = HeteroData()
        for kind, count in h.num_nodes.items():
            G[kind].num_nodes = count
            fill(op, G[kind], of_nodes.get(kind, {}))
        for relation, graph in h.items():
            G[relation].edge_index = graph.to_edge_index("torch")
            fill(op, G[relation], of_edges.get(relation, {}))
        return G

    def to_dgl(self, nodes: Any = None, edges: Any = None) -> Any:
        """A DGL heterograph on the CPU, edge ids kept.

        Parameters
        ----------
        nodes : {type: {name: array}}, a row for each node
        edges : {relation: {name: array}}, a row for each edge

        Returns
        -------
        dgl.DGLGraph

        Raises
        ------
        ValueError : an unknown type or relation, rows that do not fit
        ModuleNotFoundError : DGL is not installed

        Examples
        --------
        >>> import dgl, numgraph as ng
        >>> ng.HeteroGraph({("author", "writes", "paper"): ([0, 0], [0, 1])}).to_dgl().num_nodes("paper")
        2
        """
        op, h = "HeteroGraph.to_dgl", self.to("cpu")
        of_nodes, of_edges = h._fields(op, nodes, edges)
        try:
            import dgl
        except ModuleNotFoundError as error:
            raise missing(op, "DGL is not installed", "pip install dgl") from error
        G = dgl.heterograph(
            {key: tuple(graph.to_edge_index("torch")) for key, graph in h.items()}, num_nodes_dict=h.num_nodes
        )
        for kind, values in of_nodes.items():
            fill(op, G.nodes[kind].data, values)
        for relation, values in of_edges.items():
            fill(op, G.edges[relation].data, values)
        return G

    def to_networkx(self) -> Any:
        """A networkx.MultiDiGraph: its nodes are pairs (type, id), its edges have the attribute "relation",
        the triple.
        """
        import networkx

        G = networkx.MultiDiGraph()
        for kind, count in self.num_nodes.items():
            G.add_nodes_from(((kind, i) for i in range(count)), type=kind)
        for relation, graph in self.to("cpu").items():
            ends = zip(graph.src.tolist(), graph.dst.tolist())
            G.add_edges_from((((relation[0], u), (relation[2], v)) for u, v in ends), relation=relation)
        return G
