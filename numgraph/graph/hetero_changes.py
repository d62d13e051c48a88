"""Other HeteroGraphs from one: relations turned round or added, some of its types, some of its nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from numgraph.errors import bad_type, bad_value, shown
from numgraph.graph.graph import Graph
from numgraph.graph.relations import Relation, distinct

if TYPE_CHECKING:
    from numgraph.graph.hetero import HeteroGraph


class HeteroChanges:
    """The methods of a HeteroGraph that make another one. Edges keep their order everywhere."""

    __slots__ = ()

    if TYPE_CHECKING:  # what HeteroGraph has
        _graphs: dict[Relation, Graph]
        _counts: dict[str, int]
        edge_types: Any
        device: Any

        @classmethod
        def _of(cls, graphs: Mapping[Relation, Graph], counts: Mapping[str, int]) -> HeteroGraph: ...
        def items(self) -> Any: ...
        def canonical(self, relation: Any) -> Relation: ...
        def checked_type(self, op: str, node_type: Any) -> str: ...
        def by_type(self, op: str, what: str, values: Any) -> dict[str, Any]: ...

    def reverse(self) -> HeteroGraph:
        """Every relation turned round, (a, name, b) → (b, name, a), and its edges; edge ids are kept, nothing
        is copied.
        """
        return self._of(
            {(b, name, a): graph.reverse() for (a, name, b), graph in self._graphs.items()}, self._counts
        )

    def add_reverse_relations(self, prefix: str = "rev_") -> HeteroGraph:
        """With each relation (a, name, b) the relation (b, prefix + name, a) of its edges turned round, with
        their ids; nothing is copied.

        Parameters
        ----------
        prefix : text

        Returns
        -------
        HeteroGraph

        Raises
        ------
        TypeError : a prefix that is no text
        ValueError : such a relation is there already

        Examples
        --------
        >>> import numgraph as ng
        >>> h = ng.HeteroGraph({("author", "writes", "paper"): ([0, 0, 1], [0, 1, 1])})
        >>> h.add_reverse_relations().edge_types
        [('author', 'writes', 'paper'), ('paper', 'rev_writes', 'author')]
        """
        if not isinstance(prefix, str):
            raise bad_type(
                "HeteroGraph.add_reverse_relations", f"prefix is {shown(prefix)}", "give text, as 'rev_'"
            )
        return self._with(
            "add_reverse_relations",
            {(b, prefix + name, a): graph.reverse() for (a, name, b), graph in self._graphs.items()},
        )

    def add_self_loops(self, relation: str | None = None) -> HeteroGraph:
        """The relations within one type of nodes with an edge v → v more for each node, which come after the
        other edges.

        Parameters
        ----------
        relation : a name; then for each type of nodes a relation (type, name, type) of such edges is added,
            and the others stay as they are

        Returns
        -------
        HeteroGraph

        Raises
        ------
        ValueError : a relation of that name between such nodes is there already

        Examples
        --------
        >>> import numgraph as ng
        >>> h = ng.HeteroGraph({("author", "writes", "paper"): ([0, 0, 1], [0, 1, 1])})
        >>> h.add_self_loops("itself").num_edges  # doctest: +NORMALIZE_WHITESPACE
        {('author', 'itself', 'author'): 2, ('author', 'writes', 'paper'): 3,
         ('paper', 'itself', 'paper'): 2}
        """
        if relation is None:
            graphs = {
                key: graph.add_self_loops() if key[0] == key[2] else graph
                for key, graph in self._graphs.items()
            }
            return self._of(graphs, self._counts)
        loops = {
            (one, relation, one): Graph(np.arange(n), np.arange(n), n).to(self.device)
            for one, n in self._counts.items()
        }
        return self._with("add_self_loops", loops)

    def _with(self, name: str, more: Mapping[Relation, Graph]) -> HeteroGraph:
        twice = [relation for relation in more if relation in self._graphs]
        if twice:
            raise bad_value(
                f"HeteroGraph.{name}", f"there is a relation {twice[0]} already", "choose another name"
            )
        return self._of(self._graphs | dict(more), self._counts)

    def node_type_subgraph(self, node_types: Iterable[str]) -> HeteroGraph:
        """The nodes of some types, and the relations between these.

        Parameters
        ----------
        node_types : names of types, or one

        Returns
        -------
        HeteroGraph

        Raises
        ------
        ValueError : an unknown type

        Examples
        --------
        >>> import numgraph as ng
        >>> writes, cites = ("author", "writes", "paper"), ("paper", "cites", "paper")
        >>> h = ng.HeteroGraph({writes: ([0], [1]), cites: ([1], [0])})
        >>> h.node_type_subgraph("paper")
        HeteroGraph(paper: 2 nodes; paper -cites-> paper: 1 edge)
        """
        op = "HeteroGraph.node_type_subgraph"
        kept = {
            self.checked_type(op, one): self._counts[one]
            for one in ([node_types] if isinstance(node_types, str) else node_types)
        }
        return self._of(
            {key: graph for key, graph in self._graphs.items() if key[0] in kept and key[2] in kept}, kept
        )

    def edge_type_subgraph(self, relations: Iterable[Any]) -> HeteroGraph:
        """Some relations, and the types of nodes that they join.

        Parameters
        ----------
        relations : names or triples, or one

        Returns
        -------
        HeteroGraph

        Raises
        ------
        ValueError : an unknown relation

        Examples
        --------
        >>> import numgraph as ng
        >>> writes, cites = ("author", "writes", "paper"), ("paper", "cites", "paper")
        >>> h = ng.HeteroGraph({writes: ([0], [1]), cites: ([1], [0])})
        >>> h.edge_type_subgraph("cites")
        HeteroGraph(paper: 2 nodes; paper -cites-> paper: 1 edge)
        """
        given = [relations] if isinstance(relations, str) or relations in self.edge_types else relations
        graphs = {relation: self._graphs[relation] for relation in map(self.canonical, given)}
        return self._of(graphs, {one: self._counts[one] for key in graphs for one in (key[0], key[2])})

    def subgraph(self, nodes: Mapping[str, ArrayLike]) -> HeteroGraph:
        """The edges between some nodes, in their old order.

        Parameters
        ----------
        nodes : {type: distinct ids}: node i of that type is ``nodes[type][i]`` of this one;
            types that are left out keep all their nodes

        Returns
        -------
        HeteroGraph

        Raises
        ------
        TypeError : no dict, ids that are not integers
        ValueError : an unknown type, a node given twice
        IndexError : an id of no node

        Examples
        --------
        >>> import numgraph as ng
        >>> h = ng.HeteroGraph({("author", "writes", "paper"): ([0, 0, 1], [0, 1, 1])})
        >>> h.subgraph({"paper": [1]})["writes"].src
        array([0, 1], dtype=int32)
        """
        op = "HeteroGraph.subgraph"
        ids = {one: np.arange(count) for one, count in self._counts.items()}
        for one, given in self.by_type(op, "nodes", nodes).items():
            ids[one] = distinct(op, f"nodes[{one!r}]", given, f"num_nodes[{one!r}]", self._counts[one])
        graphs = {
            key: graph.subgraph(ids[key[0]] if key[0] == key[2] else (ids[key[0]], ids[key[2]]))
            for key, graph in self.items()
        }
        return self._of(graphs, {one: len(kept) for one, kept in ids.items()})
