"""Graph: directed edges with ids, and their two groupings, in-edges (CSC) and out-edges (CSR).

A graph is immutable: its arrays are private read-only copies, every id in them was range-checked once, when
it was made."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numgraph.arrays import devices, static_in_jax
from numgraph.arrays.inputs import kind_of
from numgraph.errors import bad_type, bad_value, no_attribute
from numgraph.graph import formats
from numgraph.graph.convert_tables import FromTables
from numgraph.graph.edges import DST, SRC, DeviceEdges, Edges
from numgraph.graph.export import ToLibraries
from numgraph.graph.lookups import Lookups
from numgraph.graph.sorting import (
    Adjacency,
    Ids,
    checked_ids,
    frozen,
    given_ids,
    ids_dtype,
    node_count,
    one_past,
)
from numgraph.graph.subgraphs import Subgraphs

REMEMBERED = 256
"""What a graph remembers by ``remembered``, at most."""

T = TypeVar("T")


class Graph(FromTables, ToLibraries, Subgraphs, Lookups):
    """Directed graph with edges ``src[e] → dst[e]``; the edge ids are the positions e in the input.

    Shapes and dtypes: `src` and `dst` are [num_edges] of any integer dtype, in any memory layout; they are
    copied.

    Parameters
    ----------
    src, dst : source and destination node of each edge
    num_nodes : number of nodes, if sources and destinations are the same nodes;
        by default one more than the largest id
    num_src, num_dst : numbers of sources and of destinations,
        if those are two sets of nodes (a bipartite graph, also where they are as many); one that is left out
        is one more than the largest id of its side

    Raises
    ------
    TypeError : ids that are not integers
    ValueError : arrays of different lengths or not of one axis, counts that contradict each other
    IndexError : an id outside its range; names the array, the position and the range

    Two graphs are equal only if they are the same object. Graphs can be pickled, and shared by threads.

    A graph is made on the host; ``to("cuda")`` is the same graph for arrays on a CUDA device, its own arrays
    being CuPy's.

    Examples
    --------
    >>> import numgraph as ng
    >>> g = ng.Graph([0, 1, 1], [1, 2, 0], 3)
    >>> g, g.in_degrees()
    (Graph(num_nodes=3, num_edges=3), array([1, 1, 1]))
    >>> ng.Graph([0, 1], [0, 0], num_src=2, num_dst=5)
    Graph(num_src=2, num_dst=5, num_edges=2)
    """

    __slots__ = ("__weakref__", "_edges", "_out", "_twin")

    _edges: Edges | DeviceEdges
    _out: int  # the column of _edges that holds this graph's sources
    # of a graph on a device its host graph, of a host graph a weak reference to the one on the device; None
    # until asked for
    _twin: Any

    def __new__(cls, *args: Any, **options: Any) -> Graph:
        static_in_jax(cls)
        return super().__new__(cls)

    def __init__(
        self,
        src: ArrayLike,
        dst: ArrayLike | None = None,
        num_nodes: int | None = None,
        *,
        num_src: int | None = None,
        num_dst: int | None = None,
    ) -> None:
        if dst is None:
            fix = f"give sources and destinations, Graph(src, dst); {formats.constructor_for(src)}"
            raise bad_type("Graph", f"there is no dst, and src is {kind_of(src)}", fix)
        sources, destinations = given_ids("Graph", "src", src), given_ids("Graph", "dst", dst)
        if len(sources) != len(destinations):
            raise bad_value(
                "Graph",
                f"src has {len(sources)} entries and dst has {len(destinations)}",
                "edge e runs from src[e] to dst[e], so give as many of each",
            )
        if num_nodes is not None and (num_src is not None or num_dst is not None):
            raise bad_value(
                "Graph",
                f"num_nodes={num_nodes} was given beside num_src={num_src}, num_dst={num_dst}",
                "give num_nodes alone, or num_src and num_dst for a bipartite graph",
            )
        if num_src is None and num_dst is None:
            names = ("num_nodes", "num_nodes")
            if num_nodes is None:
                num_nodes = max(one_past("Graph", "src", sources), one_past("Graph", "dst", destinations))
            count_src = count_dst = node_count("Graph", "num_nodes", num_nodes)
        else:
            names = ("num_src", "num_dst")
            count_src = (
                one_past("Graph", "src", sources)
                if num_src is None
                else node_count("Graph", "num_src", num_src)
            )
            count_dst = (
                one_past("Graph", "dst", destinations)
                if num_dst is None
                else node_count("Graph", "num_dst", num_dst)
            )
        dtype = ids_dtype(count_src, count_dst)
        columns: list[Ids | None] = [
            checked_ids("Graph", "src", sources, names[0], count_src, dtype),
            checked_ids("Graph", "dst", destinations, names[1], count_dst, dtype),
        ]
        bipartite = names[0] == "num_src"
        self._edges, self._out, self._twin = (
            Edges((count_src, count_dst), columns, [None, None], bipartite),
            SRC,
            None,
        )

    functools.update_wrapper(__new__, __init__, (), ())  # whose arguments help() shows

    @classmethod
    def from_csr(
        cls, indptr: ArrayLike, indices: ArrayLike, *, num_dst: int, num_src: int | None = None
    ) -> Graph:
        """Graph from its out-edges: row u is a source, ``indices[indptr[u]:indptr[u + 1]]`` its destinations.

        Parameters
        ----------
        indptr : integers [num_src + 1], from 0 to num_edges, not decreasing
        indices : integers [num_edges]; edge ids are the positions in it
        num_dst : as many as rows are the same nodes, as in a square matrix
        num_src : the number of rows; given too, the two are two sets of nodes (a bipartite graph)

        Returns
        -------
        Graph

        Raises
        ------
        ValueError, IndexError : row starts that contradict `indices` or the counts; an id outside its range

        Examples
        --------
        >>> import numgraph as ng
        >>> ng.Graph.from_csr([0, 2, 2], [1, 0], num_dst=2).src
        array([0, 0], dtype=int32)
        """
        return cls._from_rows("Graph.from_csr", SRC, indptr, indices, num_src, num_dst)

    @classmethod
    def from_csc(
        cls, indptr: ArrayLike, indices: ArrayLike, *, num_src: int, num_dst: int | None = None
    ) -> Graph:
        """Graph from its in-edges: row v is a destination, ``indices[indptr[v]:indptr[v + 1]]`` its sources.

        Parameters
        ----------
        indptr : integers [num_dst + 1], from 0 to num_edges, not decreasing
        indices : integers [num_edges]; edge ids are the positions in it
        num_src : as many as rows are the same nodes, as in a square matrix
        num_dst : the number of rows; given too, the two are two sets of nodes (a bipartite graph)

        Returns
        -------
        Graph

        Raises
        ------
        ValueError, IndexError : row starts that contradict `indices` or the counts; an id outside its range

        Examples
        --------
        >>> import numgraph as ng
        >>> ng.Graph.from_csc([0, 2, 2], [1, 0], num_src=2).dst
        array([0, 0], dtype=int32)
        """
        return cls._from_rows("Graph.from_csc", DST, indptr, indices, num_dst, num_src)

    @classmethod
    def _from_rows(
        cls, op: str, side: int, indptr: ArrayLike, indices: ArrayLike, num_rows: int | None, num_columns: int
    ) -> Graph:
        """num_rows: None where one count alone was given, so that equal numbers of rows and columns are the
        same nodes.
        """
        row_count, count_name = ("num_src", "num_dst") if side == SRC else ("num_dst", "num_src")
        others = given_ids(op, "indices", indices)
        starts = given_ids(op, "indptr", indptr).astype(np.int64)
        if len(starts) == 0:
            raise bad_value(
                op,
                "indptr is empty",
                "it has one entry more than there are rows; [0] for a graph without nodes",
            )
        if starts[0] != 0:
            raise bad_value(op, f"indptr[0] is {starts[0]}", "it must be 0, the start of the first row")
        if starts[-1] != len(others):
            raise bad_value(
                op,
                f"indptr[{len(starts) - 1}], the last, is {starts[-1]} and indices has {len(others)} entries",
                "the last entry of indptr must be the number of edges",
            )
        descents = np.flatnonzero(starts[1:] < starts[:-1])
        if len(descents):
            i = int(descents[0])
            raise bad_value(
                op,
                f"indptr[{i + 1}] is {starts[i + 1]}, less than indptr[{i}], {starts[i]}",
                "row starts must not decrease",
            )
        counts = [0, 0]
        counts[side], counts[1 - side] = len(starts) - 1, node_count(op, count_name, num_columns)
        if num_rows is not None and node_count(op, row_count, num_rows) != counts[side]:
            raise bad_value(
                op,
                f"{row_count} is {num_rows} and there are {counts[side]} rows",
                f"{row_count} is the number of rows",
            )
        dtype = ids_dtype(*counts)
        columns: list[Ids | None] = [None, None]
        columns[1 - side] = ids = checked_ids(op, "indices", others, count_name, counts[1 - side], dtype)
        adjacencies: list[Adjacency | None] = [None, None]
        adjacencies[side] = Adjacency(
            frozen(starts.astype(ids_dtype(*counts, len(others)))), ids, ordered=True
        )
        return cls._sharing(
            Edges((counts[SRC], counts[DST]), columns, adjacencies, num_rows is not None), SRC
        )

    @classmethod
    def _sharing(cls, edges: Edges | DeviceEdges, out: int) -> Graph:
        graph = cls.__new__(cls)
        graph._edges, graph._out, graph._twin = edges, out, None
        return graph

    @property
    def device(self) -> str:
        """Where the graph's arrays are: "cpu" or "cuda"."""
        return self._edges.device

    def to(self, device: str) -> Graph:
        """The same graph for arrays on a device, "cpu" or "cuda"; itself if it is there.

        Both are remembered: ``g.to("cuda").to("cpu")`` is g. What is planned on the host (row partitions,
        transforms) stays with it; src, dst, degrees and the arrays of in- and out-edges are copied to the
        device when they are first read there.

        Parameters
        ----------
        device : "cpu" or "cuda"

        Returns
        -------
        Graph

        Raises
        ------
        ValueError : an unknown device
        ModuleNotFoundError : CuPy or numba-cuda is not installed
        OSError : there is no driver or no device

        Examples
        --------
        >>> import numgraph as ng
        >>> g = ng.Graph([0], [1])
        >>> g.to("cpu") is g
        True
        """
        if device == self.device:
            return self
        devices.known("Graph.to", device)
        host = self._edges.host
        with host.locked():
            twin = self._twin() if isinstance(self._twin, weakref.ref) else self._twin
            if twin is None:
                twin = self._sharing(host.on(device), self._out)
                here, there = (self, twin) if self.device == "cpu" else (twin, self)
                here._twin, there._twin = weakref.ref(there), here
        return twin

    @property
    def num_src(self) -> int:
        """Number of source nodes."""
        return self._edges.counts[self._out]

    @property
    def num_dst(self) -> int:
        """Number of destination nodes."""
        return self._edges.counts[1 - self._out]

    @property
    def num_edges(self) -> int:
        """Number of edges, parallel ones counted each."""
        return self._edges.num_edges

    @property
    def is_bipartite(self) -> bool:
        """Whether sources and destinations are two sets of nodes, be they as many or not: source i and
        destination i are two nodes then.
        """
        return self._edges.bipartite

    @property
    def num_nodes(self) -> int:
        """Number of nodes; a ValueError if there are two sets of them."""
        return self._square("num_nodes")

    def _square(self, name: str, instead: str = "") -> int:
        """The number of nodes, for a method that needs one set of them; instead: what it takes of a bipartite
        graph.
        """
        if self.is_bipartite:
            fix = "see num_src and num_dst"
            if self.num_src == self.num_dst:
                fix += f"; if they are the same nodes, make it as Graph(src, dst, num_nodes={self.num_src})"
            raise bad_value(
                f"Graph.{name}",
                f"the graph is bipartite, with {self.num_src} sources and {self.num_dst} destinations",
                f"this needs one set of nodes{instead}; {fix}",
            )
        return self.num_src

    @property
    def src(self) -> Ids:
        """[num_edges] source of each edge, in the order of edge ids; read-only."""
        return self._edges.column(self._out)

    @property
    def dst(self) -> Ids:
        """[num_edges] destination of each edge, in the order of edge ids; read-only."""
        return self._edges.column(1 - self._out)

    @property
    def out_edges(self) -> Adjacency:
        """CSR: rows are sources, `indices` are destinations. Built on the first access."""
        return self._edges.adjacency(self._out)

    @property
    def in_edges(self) -> Adjacency:
        """CSC: rows are destinations, `indices` are sources. Built on the first access."""
        return self._edges.adjacency(1 - self._out)

    def in_edges_as_read(self) -> Adjacency:
        """``in_edges`` for who checks every id that it reads: those of a graph on disk may be anything, and
        are not read through before.
        """
        return self._edges.as_read(1 - self._out)

    def degrees_of_sources(self) -> NDArray[np.int64]:
        """``out_degrees()`` on the host, for who needs no other grouping of the edges."""
        return self._edges.host.degrees(self._out)

    def edge_ids_at(self, positions: Ids) -> Ids:
        """``in_edges.edge_ids[positions]``; of a graph on disk no other ids are looked at."""
        return self._edges.host.edge_ids_at(1 - self._out, positions)

    def remembered(self, key: Hashable, make: Callable[[Graph, Any], T]) -> T:
        """What ``make(self, key)`` returned the first time that `key` was asked for: the place for routes of
        walks. A graph on a device has its own.
        """
        known, place = self._edges.remembered, (key, self._out)
        found = known.get(place)
        if found is None:
            if len(known) >= REMEMBERED:
                known.clear()
            found = known[place] = make(self, key)
        return found

    def reverse(self) -> Graph:
        """The graph with every edge turned round, edge ids kept: in-edges and out-edges swap, nothing is
        copied or built.
        """
        return self._sharing(self._edges, 1 - self._out)

    def is_reverse_of(self, other: Graph) -> bool:
        """Whether one of the two is the other's ``reverse()``."""
        return self._edges is other._edges and self._out != other._out

    def in_degrees(self) -> NDArray[np.int64]:
        """[num_dst] number of in-edges of each destination; on the graph's device."""
        return np.diff(self._edges.row_starts(1 - self._out)).astype(np.int64)

    def out_degrees(self) -> NDArray[np.int64]:
        """[num_src] number of out-edges of each source; on the graph's device."""
        return np.diff(self._edges.row_starts(self._out)).astype(np.int64)

    def __copy__(self) -> Graph:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if not isinstance(self._edges, Edges):
            return Graph.to, (self.to("cpu"), self.device)
        counts = {"num_src": self.num_src, "num_dst": self.num_dst} if self.is_bipartite else {}
        out, into = (self._edges.adjacencies[side] for side in (self._out, 1 - self._out))
        if out is not None and out.ordered:
            return _unpickled, ("from_csr", out.indptr, out.indices, {"num_dst": self.num_dst, **counts})
        if into is not None and into.ordered:
            return _unpickled, ("from_csc", into.indptr, into.indices, {"num_src": self.num_src, **counts})
        return _unpickled, (None, self.src, self.dst, counts or {"num_nodes": self.num_src})

    if not TYPE_CHECKING:  # a checker knows the names

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            raise no_attribute("a Graph", name, [one for one in dir(Graph) if one[0] != "_"])

    def __repr__(self) -> str:
        nodes = (
            f"num_src={self.num_src}, num_dst={self.num_dst}"
            if self.is_bipartite
            else f"num_nodes={self.num_src}"
        )
        return (
            f"Graph({nodes}, "
            f"num_edges={self.num_edges}{'' if self.device == 'cpu' else f', device={self.device!r}'})"
        )


def _unpickled(constructor: str | None, first: Ids, second: Ids, counts: dict[str, int]) -> Graph:
    return (getattr(Graph, constructor) if constructor else Graph)(first, second, **counts)


def check_graph(op: str, name: str, g: Any) -> None:
    """A TypeError where the argument `name` is no Graph."""
    if not isinstance(g, Graph):
        if hasattr(g, "exchange"):  # a DistGraph
            raise bad_type(
                op,
                f"{name} is {kind_of(g)}",
                "messages take d.graph, and d.exchange(x) for its sources; layers take d itself",
            )
        if hasattr(g, "from_homogeneous"):  # a HeteroGraph
            fix = (
                "give the Graph of a relation, h['cites'], or of all, h.to_homogeneous()[0]; "
                "numgraph.nn.HeteroConv has a layer for each relation, numgraph.multi_update_all a message"
            )
            raise bad_type(op, f"{name} is {kind_of(g)}", fix)
        if hasattr(g, "graph_ids"):  # a GraphBatch
            fix = (
                "messages and layers take b.graph; a model of nodes becomes one of graphs by "
                "nn.GraphModel(model, 'mean', nn.Linear(…))"
            )
            raise bad_type(op, f"{name} is {kind_of(g)}, a batch of graphs", fix)
        fix = ", before the arrays" if hasattr(g, "__array__") else f"; {formats.constructor_for(g)}"
        raise bad_type(op, f"{name} is {kind_of(g)}", f"pass a numgraph.Graph{fix}")
