"""Batch: many graphs as one whose parts have no edges between them. Groupings are the graphs' own, packed:
nothing is sorted.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays import static_in_jax
from numgraph.arrays.devices import same_device
from numgraph.arrays.inputs import kind_of
from numgraph.errors import bad_type, bad_value, no_attribute, unsound
from numgraph.graph.edges import DST, SRC, Edges
from numgraph.graph.graph import Graph, check_graph
from numgraph.graph.sorting import Adjacency, Ids, frozen, ids_dtype
from numgraph.runtime.compiling import njit


class GraphBatch:
    """Graphs as one: a message passing step over ``graph`` is one over each of them.

    Nodes and edges stand in the order of the graphs, those of one graph in its own order, so data of the
    batch are the graphs' data one after the other, ``np.concatenate``, and rows
    ``node_offsets[i]:node_offsets[i + 1]`` of a result are those of graph i.

    Parameters
    ----------
    graphs : as of ``batch``, which makes one

    Attributes
    ----------
    graphs : tuple of Graph, those that were given
    graph : all of them as one Graph
    node_offsets : int64 [graphs + 1], the first node of each; of bipartite graphs the first destination
    src_offsets : int64 [graphs + 1], the first source of each;
        node_offsets itself where the graphs have one set of nodes
    edge_offsets : int64 [graphs + 1], the first edge of each

    Examples
    --------
    >>> import numgraph as ng
    >>> b = ng.batch([ng.Graph([0, 1], [1, 0]), ng.Graph([0], [0])])
    >>> b, b.edge_offsets, b.graph_ids
    (GraphBatch(2 graphs, Graph(num_nodes=3, num_edges=3)), array([0, 2, 3]), array([0, 0, 1]))
    """

    _graph_ids: NDArray[Any] | None = None
    _pool: Graph | None = None

    def __init__(self, graphs: Sequence[Graph]) -> None:
        static_in_jax(type(self))
        self.graphs = graphs = tuple(graphs)
        bipartite, device = _kind(graphs)
        edges: Any = [g._edges for g in graphs]
        parts, turned = edges if device == "cpu" else [one.host for one in edges], [g._out for g in graphs]
        self.edge_offsets = _offsets([part.num_edges for part in parts])
        self.node_offsets = _offsets([part.counts[DST ^ out] for part, out in zip(parts, turned)])
        self.src_offsets = (
            _offsets([part.counts[out] for part, out in zip(parts, turned)])
            if bipartite
            else self.node_offsets
        )
        packed = _Packed(parts, turned, (self.src_offsets, self.node_offsets), self.edge_offsets, bipartite)
        self.graph = Graph._sharing(packed, SRC).to(device)

    def __len__(self) -> int:
        return len(self.graphs)

    if not TYPE_CHECKING:  # a checker knows the names

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            raise no_attribute("a GraphBatch", name, [one for one in dir(self) if one[0] != "_"])

    @property
    def graph_ids(self) -> NDArray[np.int64]:
        """[nodes] the graph of each node, of bipartite graphs of each destination: ``y[b.graph_ids]`` gives
        nodes their graph's row.
        """
        if self._graph_ids is None:
            self._graph_ids = frozen(np.repeat(np.arange(len(self)), np.diff(self.node_offsets)))
        return self._graph_ids

    @property
    def pool(self) -> Graph:
        """A bipartite graph with an edge from each node to its graph; edge i is of node i.

        Whatever ``update_all``, ``apply_edges`` and ``attend`` do over it is done for each graph: node data
        are e's, graph data v's."""
        if self._pool is None:
            nodes, dtype = int(self.node_offsets[-1]), ids_dtype(int(self.node_offsets[-1]), len(self))
            rows = Adjacency(
                frozen(self.node_offsets.astype(dtype)), frozen(np.arange(nodes, dtype=dtype)), ordered=True
            )
            edges = Edges((nodes, len(self)), [rows.indices, None], [None, rows], True)
            self._pool = Graph._sharing(edges, SRC).to(self.graph.device)
        return self._pool

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} graphs, {self.graph!r})"


def batch(graphs: Sequence[Graph]) -> GraphBatch:
    """Graphs as one whose parts have no edges between them, so that one call computes what as many calls
    would.

    Parameters
    ----------
    graphs : any number of graphs of one kind, all with one set of nodes or all bipartite;
        also without nodes or edges, and none at all

    Returns
    -------
    GraphBatch : ``graph``, ``node_offsets``, ``edge_offsets``.
        Nodes and edges are numbered graph after graph, so data are concatenated.

    Raises
    ------
    TypeError : something else than a Graph
    ValueError : bipartite graphs beside others, or graphs of two devices

    Notes
    -----
    The groupings by destination and by source are the graphs' own one after the other, made when first asked
    for, in O(nodes + edges).

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> b = ng.batch([ng.Graph([0, 1], [1, 0]), ng.Graph([0, 1, 2], [1, 2, 0])])
    >>> b.graph, b.node_offsets, b.graph.src
    (Graph(num_nodes=5, num_edges=5), array([0, 2, 5]), array([0, 1, 2, 3, 4], dtype=int32))
    >>> ng.readout(b, np.array([1.0, 2.0, 3.0, 4.0, 5.0]), "mean")
    array([1.5, 4. ])
    """
    if isinstance(graphs, Graph | GraphBatch):
        raise bad_type("batch", f"graphs is {kind_of(graphs)}", "give a list of graphs, [g] for one")
    try:
        return GraphBatch(graphs)
    except TypeError:
        if hasattr(graphs, "__iter__"):
            raise
        raise bad_type("batch", f"graphs is {kind_of(graphs)}", "give a list of graphs") from None


def unbatch(b: GraphBatch) -> list[Graph]:
    """The graphs that a batch was made of, in its order; they do not change, so they are the same objects.

    Data of the batch come apart by ``np.split(x, b.node_offsets[1:-1])``, those of edges by
    ``b.edge_offsets``.

    Parameters
    ----------
    b : GraphBatch

    Returns
    -------
    list of Graph

    Raises
    ------
    TypeError : something else than a GraphBatch

    Examples
    --------
    >>> import numgraph as ng
    >>> g = ng.Graph([0, 1], [1, 0])
    >>> ng.unbatch(ng.batch([g, g]))[1] is g
    True
    """
    check_batch("unbatch", b)
    return list(b.graphs)


def check_batch(op: str, b: Any) -> None:
    """A TypeError where the first argument is no GraphBatch."""
    if not isinstance(b, GraphBatch):
        fix = "; of one graph, numgraph.batch([g])" if isinstance(b, Graph) else ""
        raise bad_type(
            op,
            f"the first argument is {kind_of(b)}",
            f"give what numgraph.batch(graphs) or a GraphLoader returns{fix}",
        )


def _kind(graphs: tuple[Graph, ...]) -> tuple[bool, str]:
    """Whether the graphs are bipartite, and their device; an error where they are not of one kind."""
    if all(issubclass(kind, Graph) for kind in set(map(type, graphs))):
        edges = [g._edges for g in graphs]
        kinds, devices = {one.bipartite for one in edges}, {one.device for one in edges}
        if len(kinds) <= 1 and len(devices) <= 1:
            return (kinds or {False}).pop(), (devices or {"cpu"}).pop()
    for i, g in enumerate(graphs):
        check_graph("batch", f"graphs[{i}]", g)
        if g.is_bipartite != graphs[0].is_bipartite:
            names = ("has one set of nodes", "is bipartite")
            problem = f"graphs[0] {names[not g.is_bipartite]} and graphs[{i}] {names[g.is_bipartite]}"
            raise bad_value(
                "batch",
                problem,
                "batch graphs of one kind; Graph(src, dst, num_src=, num_dst=) has two sets of nodes",
            )
        if g.device != graphs[0].device:
            same_device("batch", **{"graphs[0]": graphs[0], f"graphs[{i}]": g})
    raise unsound("batch", "graphs of several kinds were taken for graphs of one")


class _Packed(Edges):
    """The edges of many graphs, graph after graph. turned: of each the column that holds its sources."""

    def __init__(
        self,
        parts: list[Edges],
        turned: list[int],
        nodes: tuple[NDArray[np.int64], ...],
        edges: NDArray[np.int64],
        bipartite: bool,
    ) -> None:
        super().__init__((int(nodes[SRC][-1]), int(nodes[DST][-1])), [None, None], [None, None], bipartite)
        self.num_edges = int(edges[-1])
        self._parts, self._turned, self._nodes, self._first_edges = parts, turned, nodes, edges

    def _column(self, side: int) -> Ids:
        columns = [part.column(side ^ out) for part, out in zip(self._parts, self._turned)]
        joined = _joined(columns, ids_dtype(*self.counts))
        _shift(joined, self._first_edges, self._nodes[side])
        return frozen(joined)

    def _adjacency(self, side: int) -> Adjacency:
        sides = [side ^ out for out in self._turned]
        parts = [edges.adjacencies[one] or edges.adjacency(one) for edges, one in zip(self._parts, sides)]
        ordered = all(part.ordered for part in parts)
        starts = _joined([part.indptr for part in parts], self.positions)
        indices = _joined([part.indices for part in parts], ids_dtype(*self.counts))
        edge_ids = _joined([] if ordered else [part.edge_ids for part in parts], self.positions)
        indptr = np.empty(self.counts[side] + 1, self.positions)
        _pack(self._nodes[side], self._nodes[1 - side], self._first_edges, starts, indptr, indices, edge_ids)
        if ordered:
            return Adjacency(frozen(indptr), frozen(indices), ordered=True)
        return Adjacency(frozen(indptr), frozen(indices), ordered=False, _edge_ids=frozen(edge_ids))


def _joined(arrays: list[Ids], dtype: np.dtype[Any]) -> Ids:
    """The arrays one after the other."""
    return np.concatenate(arrays, dtype=dtype, casting="same_kind") if arrays else np.empty(0, dtype)


def _offsets(lengths: list[int]) -> NDArray[np.int64]:
    return frozen(np.array([0, *accumulate(lengths)], np.int64))


@njit()
def _shift(joined, offsets, shifts):
    """Rows offsets[i]:offsets[i + 1] by shifts[i]."""
    for part in range(len(offsets) - 1):
        by = shifts[part]
        for i in range(offsets[part], offsets[part + 1]):
            joined[i] += by


@njit()
def _pack(rows, others, edges, starts, indptr, indices, edge_ids):
    """One grouping of many, whose arrays stand one after the other: row starts without the last of each, ids
    after those before them.

    rows, others, edges: the first row, node of the other side, and edge of each graph.
    """
    for part in range(len(rows) - 1):
        edge, other = edges[part], others[part]
        for i in range(rows[part], rows[part + 1]):
            indptr[i] = starts[i + part] + edge
        for i in range(edge, edges[part + 1]):
            indices[i] += other
        if len(edge_ids) > 0:
            for i in range(edge, edges[part + 1]):
                edge_ids[i] += edge
    indptr[rows[-1]] = edges[-1]
