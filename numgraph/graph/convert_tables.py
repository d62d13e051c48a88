"""Graphs from tables whose rows are edges: the constructors ``Graph.from_edge_list`` and ``from_pairs``."""

from __future__ import annotations

from typing import Any, Literal, Self, overload

from numgraph.graph import edge_tables
from numgraph.graph.convert import Converted, FromLibraries


class FromTables(FromLibraries):
    """The constructors that number nodes by their names."""

    __slots__ = ()

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

        Returns
        -------
        Converted or Graph

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
