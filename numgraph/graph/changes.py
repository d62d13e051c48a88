"""A graph with edges or nodes added, removed, merged or renumbered: the methods of Graph that make another
graph of all of it.
"""

from __future__ import annotations

from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike

from numgraph.errors import bad_value, check_name
from numgraph.graph import transforms
from numgraph.graph.edge_map import EdgeMap, kept, merged
from numgraph.graph.edges import SRC, Edges
from numgraph.graph.part import Part, made_on_host
from numgraph.graph.sorting import Ids, frozen, node_count


class Changes(Part):
    """Each returns a new graph; with ``return_edges=True`` an ``EdgeMap`` comes last, which carries edge data
    along: ``edges.gather(w)``.

    A method that decides on the nodes' new numbers returns these beside the graph: node i of the new graph is
    node ``nodes[i]`` of this one, so that ``x[nodes]`` is its data.
    """

    __slots__ = ()

    @overload
    def add_self_loops(self, *, only_missing: bool = ..., return_edges: Literal[False] = ...) -> Self: ...
    @overload
    def add_self_loops(
        self, *, only_missing: bool = ..., return_edges: Literal[True]
    ) -> tuple[Self, EdgeMap]: ...
    @made_on_host
    def add_self_loops(self, *, only_missing: bool = False, return_edges: bool = False) -> Any:
        """The graph with one more edge v → v for every node v; the new edges come last, by node.

        Parameters
        ----------
        only_missing : nodes that have such an edge get no other
        return_edges : return (graph, EdgeMap);
            ``edges.gather(w, fill=1.0)``, or ``fill="mean"`` for the mean over each node's in-edges

        Returns
        -------
        Graph, or (Graph, EdgeMap)

        Raises
        ------
        ValueError : a bipartite graph

        Examples
        --------
        >>> import numpy as np, numgraph as ng
        >>> g = ng.Graph([0, 1], [1, 1], 3)
        >>> looped, edges = g.add_self_loops(return_edges=True)
        >>> edges.gather(np.array([2.0, 4.0]), fill="mean")
        array([2., 4., 0., 3., 0.])
        """
        loops = np.arange(self._square("add_self_loops"), dtype=self.src.dtype)
        if only_missing:
            there = np.zeros(self.num_src, bool)
            there[self.src[self.src == self.dst]] = True
            loops = loops[~there]
        made = self._with(np.concatenate([self.src, loops]), np.concatenate([self.dst, loops]))
        return (made, kept(self, made, np.arange(self.num_edges))) if return_edges else made

    @overload
    def remove_self_loops(self, *, return_edges: Literal[False] = ...) -> Self: ...
    @overload
    def remove_self_loops(self, *, return_edges: Literal[True]) -> tuple[Self, EdgeMap]: ...
    @made_on_host
    def remove_self_loops(self, *, return_edges: bool = False) -> Any:
        """The graph without edges v → v; the other edges keep their order.

        Parameters
        ----------
        return_edges : return (graph, EdgeMap)

        Returns
        -------
        Graph, or (Graph, EdgeMap)

        Raises
        ------
        ValueError : a bipartite graph

        Examples
        --------
        >>> import numgraph as ng
        >>> ng.Graph([0, 1], [1, 1]).remove_self_loops()
        Graph(num_nodes=2, num_edges=1)
        """
        self._square("remove_self_loops")
        return self._only(np.flatnonzero(self.src != self.dst), return_edges)

    def _only(self, ids: Any, return_edges: bool) -> Any:
        """The graph with these of its edges, in the order given, and all nodes."""
        made = self._with(self.src[ids], self.dst[ids])
        return (made, kept(self, made, ids)) if return_edges else made

    @overload
    def add_edges(self, src: ArrayLike, dst: ArrayLike, *, return_edges: Literal[False] = ...) -> Self: ...
    @overload
    def add_edges(
        self, src: ArrayLike, dst: ArrayLike, *, return_edges: Literal[True]
    ) -> tuple[Self, EdgeMap]: ...
    @made_on_host
    def add_edges(self, src: ArrayLike, dst: ArrayLike, *, return_edges: bool = False) -> Any:
        """The graph with the edges src[i] → dst[i] between its nodes added; their ids come after all others'.
        ``add_nodes`` adds nodes.

        Parameters
        ----------
        src, dst : integers [new edges], ids of nodes that are there
        return_edges : return (graph, EdgeMap); ``edges.gather(w, fill=new_w)``

        Returns
        -------
        Graph, or (Graph, EdgeMap)

        Raises
        ------
        TypeError : ids that are not integers
        ValueError : arrays of different lengths
        IndexError : an id of no node

        Examples
        --------
        >>> import numpy as np, numgraph as ng
        >>> g, edges = ng.Graph([0], [1], 3).add_edges([1, 2], [2, 0], return_edges=True)
        >>> edges.gather(np.array([0.5]), fill=np.array([2.0, 3.0]))
        array([0.5, 2. , 3. ])
        """
        op = "Graph.add_edges"
        names = ("num_src", "num_dst") if self.is_bipartite else ("num_nodes", "num_nodes")
        more = (
            self._nodes_given(op, "src", src, names[0], self.num_src),
            self._nodes_given(op, "dst", dst, names[1], self.num_dst),
        )
        if len(more[0]) != len(more[1]):
            raise bad_value(
                op,
                f"src has {len(more[0])} entries and dst has {len(more[1])}",
                "edge i runs from src[i] to dst[i]",
            )
        made = self._with(np.concatenate([self.src, more[0]]), np.concatenate([self.dst, more[1]]))
        return (made, kept(self, made, np.arange(self.num_edges))) if return_edges else made

    @overload
    def remove_edges(self, edge_ids: ArrayLike, *, return_edges: Literal[False] = ...) -> Self: ...
    @overload
    def remove_edges(self, edge_ids: ArrayLike, *, return_edges: Literal[True]) -> tuple[Self, EdgeMap]: ...
    @made_on_host
    def remove_edges(self, edge_ids: ArrayLike, *, return_edges: bool = False) -> Any:
        """The graph without the edges of these ids; the others keep their order.

        Parameters
        ----------
        edge_ids : integers [n]; an id may be given more than once
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
        >>> ng.Graph([0, 1, 2], [1, 2, 0]).remove_edges([1]).src
        array([0, 2], dtype=int32)
        """
        left = np.ones(self.num_edges, bool)
        left[self._edges_given("Graph.remove_edges", "edge_ids", edge_ids)] = False
        return self._only(np.flatnonzero(left), return_edges)

    @made_on_host
    def add_nodes(self, count: int = 0, *, num_src: int = 0, num_dst: int = 0) -> Self:
        """The graph with more nodes, without edges, whose ids come after all others'; edges keep their ids.

        Parameters
        ----------
        count : of a graph of one set of nodes
        num_src, num_dst : of a bipartite graph, how many more of each

        Returns
        -------
        Graph

        Raises
        ------
        ValueError : a negative count; `count` of a bipartite graph, or `num_src` and `num_dst` of another

        Examples
        --------
        >>> import numgraph as ng
        >>> ng.Graph([0], [1]).add_nodes(3)
        Graph(num_nodes=5, num_edges=1)
        """
        op = "Graph.add_nodes"
        more = [
            node_count(op, name, value)
            for name, value in (("count", count), ("num_src", num_src), ("num_dst", num_dst))
        ]
        if any(more[1:]) if not self.is_bipartite else more[0]:
            given, fix = (
                ("num_src and num_dst", "give count")
                if not self.is_bipartite
                else ("count", "give num_src= and num_dst=")
            )
            raise bad_value(
                op, f"{given} {'are' if ' ' in given else 'is'} given, the graph is {self!r}", fix
            )
        return self._with(
            self.src.copy(),
            self.dst.copy(),
            self.num_src + more[0] + more[1],
            self.num_dst + more[0] + more[2],
        )

    @overload
    def coalesce(self, *, return_edges: Literal[False] = ...) -> Self: ...
    @overload
    def coalesce(self, *, return_edges: Literal[True]) -> tuple[Self, EdgeMap]: ...
    @made_on_host
    def coalesce(self, *, return_edges: bool = False) -> Any:
        """The graph with parallel edges merged into one; edges are ordered by destination, then source.

        Parameters
        ----------
        return_edges : return (graph, EdgeMap): ``edges.gather(w)`` adds the merged edges' weights,
            ``reduce=`` is another reduction, and ``edges.counts()`` says how many there were

        Returns
        -------
        Graph, or (Graph, EdgeMap)

        Examples
        --------
        >>> import numpy as np, numgraph as ng
        >>> g, edges = ng.Graph([1, 0, 1], [1, 1, 1]).coalesce(return_edges=True)
        >>> g.src, edges.counts()
        (array([0, 1], dtype=int32), array([1, 2]))
        """
        columns = transforms.by_both(self.out_edges, self.num_dst)
        rows, starts = transforms.without_repeats(columns)
        made = self._sharing(
            Edges((self.num_src, self.num_dst), [rows.indices, None], [None, rows], self.is_bipartite), SRC
        )
        if not return_edges:
            return made
        members = transforms.composed(self.out_edges, columns)
        return made, merged(self, made, frozen(members[starts[:-1]]), (starts, members))

    @overload
    def to_simple(self, *, self_loops: bool = ..., return_edges: Literal[False] = ...) -> Self: ...
    @overload
    def to_simple(self, *, self_loops: bool = ..., return_edges: Literal[True]) -> tuple[Self, EdgeMap]: ...
    @made_on_host
    def to_simple(self, *, self_loops: bool = True, return_edges: bool = False) -> Any:
        """The graph with parallel edges merged into the first one of them, which keep their order;
        ``coalesce`` sorts them.

        Parameters
        ----------
        self_loops : whether edges v → v stay
        return_edges : return (graph, EdgeMap), as of ``coalesce``

        Returns
        -------
        Graph, or (Graph, EdgeMap)

        Raises
        ------
        ValueError : a bipartite graph, with ``self_loops=False``

        Examples
        --------
        >>> import numgraph as ng
        >>> ng.Graph([1, 0, 1], [1, 1, 1]).to_simple().src
        array([1, 0], dtype=int32)
        """
        if not self_loops:
            self._square("to_simple(self_loops=False)")
        columns = transforms.by_both(self.out_edges, self.num_dst)
        _, starts = transforms.without_repeats(columns)
        members = transforms.composed(self.out_edges, columns)
        leader = np.empty(
            self.num_edges, self._edge_dtype
        )  # of each edge the first one that is parallel to it
        leader[members] = np.repeat(members[starts[:-1]], np.diff(starts))
        first = leader == np.arange(self.num_edges)
        if not self_loops:
            first &= self.src != self.dst
        ids = np.flatnonzero(first)
        made = self._with(self.src[ids], self.dst[ids])
        if not return_edges:
            return made
        numbers = transforms.numbering(ids.astype(self._edge_dtype), self.num_edges)[leader]
        old = np.flatnonzero(numbers >= 0).astype(self._edge_dtype)
        offsets, members = transforms.grouped(numbers[old], old, len(ids))
        return made, merged(self, made, frozen(ids.astype(self._edge_dtype)), (offsets, members))

    @overload
    def to_bidirected(self, *, return_edges: Literal[False] = ...) -> Self: ...
    @overload
    def to_bidirected(self, *, return_edges: Literal[True]) -> tuple[Self, EdgeMap]: ...
    @made_on_host
    def to_bidirected(self, *, return_edges: bool = False) -> Any:
        """The graph with the reverse of every edge, without parallel edges; edges are ordered by destination,
        then source.

        Parameters
        ----------
        return_edges : return (graph, EdgeMap): u → v was all edges u → v and v → u,
            and a self loop v → v each of its edges twice, as itself and as its reverse. So
            ``edges.gather(w)`` gives the weights of A + Aᵀ, and ``reduce="mean"`` their mean

        Returns
        -------
        Graph, or (Graph, EdgeMap)

        Raises
        ------
        ValueError : a bipartite graph

        Examples
        --------
        >>> import numgraph as ng
        >>> g = ng.Graph([0, 1], [1, 2]).to_bidirected()
        >>> g.src, g.dst
        (array([1, 0, 2, 1], dtype=int32), array([0, 1, 1, 2], dtype=int32))
        """
        self._square("to_bidirected")
        both = self._with(np.concatenate([self.src, self.dst]), np.concatenate([self.dst, self.src]))
        if not return_edges:
            return both.coalesce()
        made, edges = both.coalesce(return_edges=True)
        assert edges.groups is not None
        count = self.num_edges
        offsets, members = edges.groups
        members = np.where(members < count, members, members - count).astype(members.dtype)
        return made, merged(self, made, frozen(members[offsets[:-1]]), (offsets, frozen(members)))

    @overload
    def reorder(self, method: str, *, return_edges: Literal[False] = ...) -> tuple[Self, Ids]: ...
    @overload
    def reorder(self, method: str, *, return_edges: Literal[True]) -> tuple[Self, Ids, EdgeMap]: ...
    @made_on_host
    def reorder(self, method: str, *, return_edges: bool = False) -> Any:
        """The graph with its nodes renumbered, so that kernels find more of what they read in cache, and the
        permutation used.

        Node i of the new graph is node ``permutation[i]`` of this one: take node data along as
        ``x[permutation]``. Edges keep their ids.

        Parameters
        ----------
        method : "rcm" (reverse Cuthill-McKee: neighbours get close numbers) or "degree"
            (many neighbours first); edge directions, parallel edges and multiplicities play no part in either
        return_edges : return (graph, permutation, EdgeMap)

        Returns
        -------
        graph : Graph
        permutation : [num_nodes] of the dtype of `src`, read-only

        Raises
        ------
        ValueError : a bipartite graph, an unknown method

        Examples
        --------
        >>> import numgraph as ng
        >>> g, permutation = ng.Graph([0, 1, 3], [2, 2, 2]).reorder("degree")
        >>> permutation, g.dst
        (array([2, 0, 1, 3], dtype=int32), array([0, 0, 0], dtype=int32))
        """
        num_nodes = self._square("reorder")
        check_name("Graph.reorder", "method", method, transforms.ORDERS)
        order = transforms.ORDERS[method](self.to_bidirected().in_edges)
        permutation = frozen(order.astype(self.src.dtype))
        numbers = transforms.numbering(permutation, num_nodes)
        made = self._with(numbers[self.src], numbers[self.dst])
        return (
            (made, permutation, kept(self, made, np.arange(self.num_edges)))
            if return_edges
            else (made, permutation)
        )

    @made_on_host
    def line_graph(self, *, backtracking: bool = True) -> Self:
        """The graph whose nodes are this one's edges, with an edge e → f where e ends in the node that f
        starts from.

        Its nodes have the edge ids as numbers, so that edge data are its node data as they are. The node that
        edge k passes is ``g.dst[line.src[k]]``. Edges are ordered by e, then f; there are Σ in-degree ·
        out-degree of them.

        Parameters
        ----------
        backtracking : whether f may go back to the node that e came from

        Returns
        -------
        Graph of ``num_edges`` nodes

        Raises
        ------
        ValueError : a bipartite graph

        Examples
        --------
        >>> import numgraph as ng
        >>> g = ng.Graph([0, 1, 1], [1, 2, 0])
        >>> line = g.line_graph(backtracking=False)
        >>> line.src, line.dst
        (array([0], dtype=int32), array([1], dtype=int32))
        """
        self._square("line_graph")
        out = self.out_edges
        follow = np.diff(out.indptr)[self.dst].astype(np.int64)
        before = np.repeat(np.arange(self.num_edges), follow)
        first = np.cumsum(follow) - follow
        positions = np.arange(len(before)) - np.repeat(first - out.indptr[self.dst], follow)
        after = out.edge_ids[positions]
        if not backtracking:
            onward = self.dst[after] != self.src[before]
            before, after = before[onward], after[onward]
        return self._with(before, after, self.num_edges, self.num_edges)
