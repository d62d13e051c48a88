"""Batch: many graphs as one whose parts have no edges between them. Groupings are the graphs' own, packed: nothing is sorted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays import static_in_jax
from numgraph.arrays.devices import same_device
from numgraph.arrays.inputs import kind_of
from numgraph.errors import bad_type, bad_value
from numgraph.graph.edges import DST, SRC, Edges
from numgraph.graph.graph import Graph, check_graph
from numgraph.graph.sorting import Adjacency, Ids, frozen, ids_dtype
from numgraph.runtime.compiling import njit


class GraphBatch:
    """Graphs as one: a message passing step over ``graph`` is one over each of them.

    Nodes and edges stand in the order of the graphs, those of one graph in its own order, so data of the batch are the graphs' data one
    after the other, ``np.concatenate``, and rows ``node_offsets[i]:node_offsets[i + 1]`` of a result are those of graph i.

    Attributes
    ----------
    graph : all of them as one Graph
    node_offsets : int64 [graphs + 1], the first node of each; of bipartite graphs the first destination
    src_offsets : int64 [graphs + 1], the first source of each; node_offsets itself where the graphs have one set of nodes
    edge_offsets : int64 [graphs + 1], the first edge of each
    """

    _graph_ids: NDArray[Any] | None = None
    _pool: Graph | None = None

    def __init__(self, graphs: Sequence[Graph]) -> None:
        static_in_jax(type(self))
        graphs = tuple(graphs)
        for i, g in enumerate(graphs):
            check_graph("batch", f"graphs[{i}]", g)
        first = graphs[0] if graphs else None
        bipartite, device = (False, "cpu") if first is None else (first.is_bipartite, first.device)
        for i, g in enumerate(graphs):
            if g.is_bipartite != bipartite:
                kinds = ("has one set of nodes", "is bipartite")
                problem = f"graphs[0] {kinds[bipartite]} and graphs[{i}] {kinds[not bipartite]}"
                raise bad_value("batch", problem, "batch graphs of one kind; Graph(src, dst, num_src=, num_dst=) has two sets of nodes")
            if g.device != device:
                same_device("batch", **{"graphs[0]": first, f"graphs[{i}]": g})
        self.graphs = graphs
        self.edge_offsets = _offsets([g.num_edges for g in graphs])
        self.node_offsets = _offsets([g.num_dst for g in graphs])
        self.src_offsets = _offsets([g.num_src for g in graphs]) if bipartite else self.node_offsets
        packed = _Packed([g.to("cpu") for g in graphs], (self.src_offsets, self.node_offsets), self.edge_offsets, bipartite)
        self.graph = Graph._sharing(packed, SRC).to(device)

    def __len__(self) -> int:
        return len(self.graphs)

    @property
    def graph_ids(self) -> NDArray[np.int64]:
        """[nodes] the graph of each node, of bipartite graphs of each destination: ``y[b.graph_ids]`` gives nodes their graph's row."""
        if self._graph_ids is None:
            self._graph_ids = frozen(np.repeat(np.arange(len(self)), np.diff(self.node_offsets)))
        return self._graph_ids

    @property
    def pool(self) -> Graph:
        """A bipartite graph with an edge from each node to its graph; edge i is of node i.

        Whatever ``update_all``, ``apply_edges`` and ``attend`` do over it is done for each graph: node data are e's, graph data v's.
        """
        if self._pool is None:
            nodes, dtype = int(self.node_offsets[-1]), ids_dtype(int(self.node_offsets[-1]), len(self))
            rows = Adjacency(frozen(self.node_offsets.astype(dtype)), frozen(np.arange(nodes, dtype=dtype)), ordered=True)
            edges = Edges((nodes, len(self)), [rows.indices, None], [None, rows], True)
            self._pool = Graph._sharing(edges, SRC).to(self.graph.device)
        return self._pool

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} graphs, {self.graph!r})"


def batch(graphs: Sequence[Graph]) -> GraphBatch:
    """Graphs as one whose parts have no edges between them, so that one call computes what as many calls would.

    Parameters
    ----------
    graphs : any number of graphs of one kind, all with one set of nodes or all bipartite; also without nodes or edges, and none at all

    Returns
    -------
    GraphBatch : ``graph``, ``node_offsets``, ``edge_offsets``. Nodes and edges are numbered graph after graph, so data are concatenated.

    Raises
    ------
    TypeError : something else than a Graph
    ValueError : bipartite graphs beside others, or graphs of two devices

    Notes
    -----
    The groupings by destination and by source are the graphs' own one after the other, made when first asked for, in O(nodes + edges).

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

    Data of the batch come apart by ``np.split(x, b.node_offsets[1:-1])``, those of edges by ``b.edge_offsets``.
    """
    check_batch("unbatch", b)
    return list(b.graphs)


def check_batch(op: str, b: Any) -> None:
    """A TypeError where the first argument is no GraphBatch."""
    if not isinstance(b, GraphBatch):
        fix = "; of one graph, numgraph.batch([g])" if isinstance(b, Graph) else ""
        raise bad_type(op, f"the first argument is {kind_of(b)}", f"give what numgraph.batch(graphs) or a GraphLoader returns{fix}")


class _Packed(Edges):
    """The edges of many graphs, graph after graph."""

    def __init__(self, graphs: list[Graph], nodes: tuple[NDArray[np.int64], ...], edges: NDArray[np.int64], bipartite: bool) -> None:
        super().__init__((int(nodes[SRC][-1]), int(nodes[DST][-1])), [None, None], [None, None], bipartite)
        self.num_edges = int(edges[-1])
        self._graphs, self._nodes, self._first_edges = graphs, nodes, edges

    def _column(self, side: int) -> Ids:
        nodes = ids_dtype(*self.counts)
        return self._joined([g.src if side == SRC else g.dst for g in self._graphs], self._first_edges, self._nodes[side], nodes)

    def _adjacency(self, side: int) -> Adjacency:
        parts = [g.out_edges if side == SRC else g.in_edges for g in self._graphs]
        edges, rows = self._first_edges, self._nodes[side]
        indptr = self._joined([*[part.indptr[:-1] for part in parts], edges[-1:]], rows, edges, self.positions)
        indices = self._joined([part.indices for part in parts], edges, self._nodes[1 - side], ids_dtype(*self.counts))
        if all(part.ordered for part in parts):
            return Adjacency(indptr, indices, ordered=True)
        edge_ids = self._joined([part.edge_ids for part in parts], edges, edges, self.positions)
        return Adjacency(indptr, indices, ordered=False, _edge_ids=edge_ids)

    def _joined(self, arrays: list[Ids], offsets: NDArray[np.int64], shifts: NDArray[np.int64], dtype: np.dtype[Any]) -> Ids:
        """The arrays one after the other, rows offsets[i]:offsets[i + 1] shifted by shifts[i]."""
        joined = np.concatenate(arrays, dtype=dtype, casting="same_kind") if arrays else np.empty(0, dtype)
        _shift(joined, offsets, shifts)
        return frozen(joined)


def _offsets(lengths: list[int]) -> NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return frozen(offsets)


@njit()
def _shift(joined, offsets, shifts):
    for part in range(len(offsets) - 1):
        by = shifts[part]
        for i in range(offsets[part], offsets[part + 1]):
            joined[i] += by
