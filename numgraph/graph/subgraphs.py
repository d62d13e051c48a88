"""Parts of a graph: the methods of Graph that choose nodes or edges."""

from __future__ import annotations

from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike

from numgraph.errors import bad_value, check_name
from numgraph.graph import transforms
from numgraph.graph.changes import Changes
from numgraph.graph.edge_map import EdgeMap, kept
from numgraph.graph.part import made_on_host
from numgraph.graph.sorting import Ids, frozen, node_count

DIRECTIONS = {"in": ("in_edges",), "out": ("out_edges",), "both": ("in_edges", "out_edges")}
"""Direction → the groupings whose rows are a node's neighbours."""


class Subgraphs(Changes):
    """Those of ``Changes`` that leave some of the graph out. Edges keep their order everywhere."""

    __slots__ = ()

    @overload
    def subgraph(self, nodes: Any, *, return_edges: Literal[False] = ...) -> Self: ...
    @overload
    def subgraph(self, nodes: Any, *, return_edges: Literal[True]) -> tuple[Self, EdgeMap]: ...
    @made_on_host
    def subgraph(self, nodes: Any, *, return_edges: bool = False) -> Any:
        """The edges between `nodes`, in their old order; node i of the new graph is ``nodes[i]`` of this one.

        Parameters
        ----------
        nodes : [num_nodes of the new graph] distinct node ids;
            of a bipartite graph a pair of such, of sources and of destinations
        return_edges : return (graph, EdgeMap)

        Returns
        -------
        Graph, or (Graph, EdgeMap)

        Raises
        ------
        TypeError : ids that are not integers
        ValueError : a node given twice
        IndexError : an id of no node

        Examples
        --------
        >>> import numgraph as ng
        >>> g, edges = ng.Graph([0, 1, 2], [1, 2, 0]).subgraph([2, 1], return_edges=True)
        >>> g.src, g.dst, edges.ids
        (array([1], dtype=int32), array([0], dtype=int32), array([1], dtype=int32))
        """
        op = "Graph.subgraph"
        chosen = [self._distinct(op, *side) for side in self._sides("subgraph", nodes)]
        chosen = chosen if self.is_bipartite else chosen * 2
        src, dst = (numbers[ends] for (_, numbers), ends in zip(chosen, (self.src, self.dst)))
        ids = np.flatnonzero((src >= 0) & (dst >= 0))
        made = self._with(src[ids], dst[ids], *[len(one) for one, _ in chosen])
        return (made, kept(self, made, ids)) if return_edges else made

    def _distinct(self, op: str, name: str, nodes: Any, count_name: str, count: int) -> tuple[Ids, Ids]:
        """Distinct node ids, and the place of each of `count` nodes among them, -1 for the others."""
        chosen = self._nodes_given(op, name, nodes, count_name, count)
        numbers = transforms.numbering(chosen, count)
        repeats = np.flatnonzero(numbers[chosen] != np.arange(len(chosen)))
        if len(repeats):
            first, node = int(repeats[0]), chosen[repeats[0]]
            raise bad_value(
                op, f"{name}[{first}] and {name}[{numbers[node]}] are both {node}", "give each node once"
            )
        return chosen, numbers

    @overload
    def in_subgraph(self, nodes: ArrayLike, *, return_edges: Literal[False] = ...) -> Self: ...
    @overload
    def in_subgraph(self, nodes: ArrayLike, *, return_edges: Literal[True]) -> tuple[Self, EdgeMap]: ...
    @made_on_host
    def in_subgraph(self, nodes: ArrayLike, *, return_edges: bool = False) -> Any:
        """The edges into some nodes; all nodes stay, with their numbers.

        Parameters
        ----------
        nodes : integers [n], of a bipartite graph destinations; an id may be given more than once
        return_edges : return (graph, EdgeMap)

        Returns
        -------
        Graph, or (Graph, EdgeMap)

        Raises
        ------
        TypeError : ids that are not integers
        IndexError : an id of no node

        Examples
        --------
        >>> import numgraph as ng
        >>> ng.Graph([0, 1, 2], [1, 2, 0]).in_subgraph([2]).src
        array([1], dtype=int32)
        """
        name = "num_dst" if self.is_bipartite else "num_nodes"
        return self._at("Graph.in_subgraph", nodes, self.dst, name, self.num_dst, return_edges)

    @overload
    def out_subgraph(self, nodes: ArrayLike, *, return_edges: Literal[False] = ...) -> Self: ...
    @overload
    def out_subgraph(self, nodes: ArrayLike, *, return_edges: Literal[True]) -> tuple[Self, EdgeMap]: ...
    @made_on_host
    def out_subgraph(self, nodes: ArrayLike, *, return_edges: bool = False) -> Any:
        """The edges from some nodes; all nodes stay, with their numbers.

        Parameters
        ----------
        nodes : integers [n], of a bipartite graph sources; an id may be given more than once
        return_edges : return (graph, EdgeMap)

        Returns
        -------
        Graph, or (Graph, EdgeMap)

        Raises
        ------
        TypeError : ids that are not integers
        IndexError : an id of no node

        Examples
        --------
        >>> import numgraph as ng
        >>> ng.Graph([0, 1, 2], [1, 2, 0]).out_subgraph([2]).dst
        array([0], dtype=int32)
        """
        name = "num_src" if self.is_bipartite else "num_nodes"
        return self._at("Graph.out_subgraph", nodes, self.src, name, self.num_src, return_edges)

    def _at(
        self, op: str, nodes: ArrayLike, ends: Ids, count_name: str, count: int, return_edges: bool
    ) -> Any:
        """The graph with the edges whose ends on one side are among nodes."""
        chosen = np.zeros(count, bool)
        chosen[self._nodes_given(op, "nodes", nodes, count_name, count)] = True
        return self._only(np.flatnonzero(chosen[ends]), return_edges)

    @overload
    def edge_subgraph(self, edge_ids: ArrayLike, *, return_edges: Literal[False] = ...) -> Self: ...
    @overload
    def edge_subgraph(self, edge_ids: ArrayLike, *, return_edges: Literal[True]) -> tuple[Self, EdgeMap]: ...
    @made_on_host
    def edge_subgraph(self, edge_ids: ArrayLike, *, return_edges: bool = False) -> Any:
        """The edges of these ids: edge i of the new graph is edge ``edge_ids[i]`` of this one, and all nodes
        stay, with their numbers.

        ``remove_isolated_nodes`` of the result leaves the nodes of these edges.

        Parameters
        ----------
        edge_ids : integers [edges of the new graph]
        return_edges : return (graph, EdgeMap)

        Returns
        -------
        Graph, or (Graph, EdgeMap)

        Raises
        ------
        TypeError : ids that are not integers
        IndexError : an id of no edge

        Examples
        --------
        >>> import numgraph as ng
        >>> ng.Graph([0, 1, 2], [1, 2, 0]).edge_subgraph([2, 0]).src
        array([2, 0], dtype=int32)
        """
        return self._only(self._edges_given("Graph.edge_subgraph", "edge_ids", edge_ids), return_edges)

    @overload
    def khop_subgraph(
        self, nodes: ArrayLike, hops: int, *, direction: str = ..., return_edges: Literal[False] = ...
    ) -> tuple[Self, Ids]: ...
    @overload
    def khop_subgraph(
        self, nodes: ArrayLike, hops: int, *, direction: str = ..., return_edges: Literal[True]
    ) -> tuple[Self, Ids, EdgeMap]: ...
    @made_on_host
    def khop_subgraph(
        self, nodes: ArrayLike, hops: int, *, direction: str = "in", return_edges: bool = False
    ) -> Any:
        """The subgraph of `nodes` and all nodes within so many steps of them, and which nodes these are.

        Parameters
        ----------
        nodes : distinct node ids, which become 0, 1, … in the new graph;
            each step's nodes follow, in the order of their ids
        hops : a network of so many layers gives `nodes` the same results on the new graph as on this one
            (direction "in")
        direction : "in", along edges backwards, to what a node's result is made of; "out", along edges;
            "both"
        return_edges : return (graph, nodes, EdgeMap)

        Returns
        -------
        graph : all edges between these nodes, in their old order
        nodes : [num_nodes of the new graph] their numbers here, so that ``x[nodes]`` is their data

        Raises
        ------
        TypeError : ids that are not integers
        ValueError : a bipartite graph, a node given twice, a negative number of hops, an unknown direction
        IndexError : an id of no node

        Examples
        --------
        >>> import numgraph as ng
        >>> g, nodes = ng.Graph([0, 1, 2], [1, 2, 3]).khop_subgraph([3], 2)
        >>> nodes, g.src
        (array([3, 2, 1], dtype=int32), array([2, 1], dtype=int32))
        """
        op = "Graph.khop_subgraph"
        num_nodes, hops = self._square("khop_subgraph"), node_count(op, "hops", hops, "a number of hops")
        check_name(op, "direction", direction, DIRECTIONS)
        chosen, numbers = self._distinct(op, "nodes", nodes, "num_nodes", num_nodes)
        seen, steps = numbers >= 0, [chosen]
        for _ in range(hops):
            if len(steps[-1]) == 0:
                break
            found = [
                transforms.neighbours(getattr(self, rows), steps[-1], seen) for rows in DIRECTIONS[direction]
            ]
            steps.append(np.sort(np.concatenate(found)))
        reached = frozen(np.concatenate(steps))
        made = self.subgraph(reached, return_edges=True)
        return (made[0], reached, made[1]) if return_edges else (made[0], reached)

    @overload
    def remove_nodes(self, nodes: Any, *, return_edges: Literal[False] = ...) -> tuple[Self, Ids]: ...
    @overload
    def remove_nodes(self, nodes: Any, *, return_edges: Literal[True]) -> tuple[Self, Ids, EdgeMap]: ...
    @made_on_host
    def remove_nodes(self, nodes: Any, *, return_edges: bool = False) -> Any:
        """The graph without `nodes` and their edges, and which nodes are left, in their old order.

        Parameters
        ----------
        nodes : node ids, which may be given more than once;
            of a bipartite graph a pair of such, of sources and of destinations
        return_edges : return (graph, nodes, EdgeMap)

        Returns
        -------
        graph : Graph
        nodes : [num_nodes of the new graph] their numbers here; of a bipartite graph a pair of such

        Raises
        ------
        TypeError : ids that are not integers
        IndexError : an id of no node

        Examples
        --------
        >>> import numgraph as ng
        >>> ng.Graph([0, 1, 2], [1, 2, 0]).remove_nodes([0])
        (Graph(num_nodes=2, num_edges=1), array([1, 2], dtype=int32))
        """
        op = "Graph.remove_nodes"
        given = self._sides("remove_nodes", nodes)
        left = [np.ones(count, bool) for _, _, _, count in given]
        for mask, (name, ids, count_name, count) in zip(left, given):
            mask[self._nodes_given(op, name, ids, count_name, count)] = False
        return self._without(left, return_edges)

    @overload
    def remove_isolated_nodes(self, *, return_edges: Literal[False] = ...) -> tuple[Self, Ids]: ...
    @overload
    def remove_isolated_nodes(self, *, return_edges: Literal[True]) -> tuple[Self, Ids, EdgeMap]: ...
    @made_on_host
    def remove_isolated_nodes(self, *, return_edges: bool = False) -> Any:
        """The graph without the nodes that no edge starts from or ends in, and which nodes are left, in their
        old order.

        Parameters
        ----------
        return_edges : return (graph, nodes, EdgeMap)

        Returns
        -------
        graph : Graph
        nodes : [num_nodes of the new graph] their numbers here;
            of a bipartite graph a pair of such, of sources and of destinations

        Examples
        --------
        >>> import numgraph as ng
        >>> ng.Graph([0], [2], 4).remove_isolated_nodes()
        (Graph(num_nodes=2, num_edges=1), array([0, 2], dtype=int32))
        """
        masks = [
            np.zeros(count, bool)
            for count in ((self.num_src, self.num_dst) if self.is_bipartite else (self.num_src,))
        ]
        masks[0][self.src] = True
        masks[-1][self.dst] = True
        return self._without(masks, return_edges)

    def _sides(self, name: str, nodes: Any) -> list[tuple[str, Any, str, int]]:
        """The nodes given of each side, with the names of both and their count: one side, or two of a
        bipartite graph.
        """
        pair = isinstance(nodes, tuple | list) and len(nodes) == 2 and all(map(np.ndim, nodes))
        if not (self.is_bipartite and pair):
            return [
                (
                    "nodes",
                    nodes,
                    "num_nodes",
                    self._square(name, ", or ids as a pair (of sources, of destinations)"),
                )
            ]
        return [
            ("nodes[0]", nodes[0], "num_src", self.num_src),
            ("nodes[1]", nodes[1], "num_dst", self.num_dst),
        ]

    def _without(self, left: list[Any], return_edges: bool) -> Any:
        """The graph with the nodes that are left, of each side."""
        sides = tuple([frozen(np.flatnonzero(mask).astype(self.src.dtype)) for mask in left])
        nodes = sides if self.is_bipartite else sides[0]
        made, edges = self.subgraph(nodes, return_edges=True)
        return (made, nodes, edges) if return_edges else (made, nodes)
