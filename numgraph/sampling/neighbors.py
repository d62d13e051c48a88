"""Neighbours of seeds, hop by hop, as blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numgraph.arrays.inputs import as_array
from numgraph.arrays.typed import Array
from numgraph.errors import bad_type, bad_value, no_attribute, shown, unsound
from numgraph.graph import Block, EdgeMap, Graph, Origin, check_graph
from numgraph.graph.sorting import Adjacency, Ids, checked_ids, frozen, given_ids, ids_dtype
from numgraph.runtime.mapping import mapping_of
from numgraph.sampling import drawing
from numgraph.sampling.cold import in_steps
from numgraph.sampling.random import checked_seed, key_of

_NO_IDS, _NO_WEIGHTS = np.zeros(0, np.int64), frozen(np.zeros(0))
Banned = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Destinations and the source that each does not draw, sorted by both."""
_NOTHING: Any = None
"""A field that a loader has nothing for; its type is that of the field."""


@dataclass(eq=False, repr=False)
class Batch:
    """What samplers and loaders give; fields that a loader has nothing for are None.

    Attributes
    ----------
    blocks : list of Block, or of a ClusterLoader a Graph
        One for each layer, the outermost hop first; ``model(batch.blocks, batch.x)`` gives a row for each
        seed.
    seeds : the nodes whose results are wanted
    nodes : [num_src of blocks[0]] the nodes whose features are read; the seeds are the first
    x : [len(nodes), …] their features
    labels : the seeds' labels; of a LinkLoader [pairs] 1 for its targets and 0 for pairs that are no edges
    edges : of a LinkLoader the ids of its targets
    pairs : of a LinkLoader [pairs, 2] rows of the model's result: the ends of the targets,
        then of pairs that are no edges
    train_mask, val_mask, test_mask : of a ClusterLoader [len(nodes)] those of the data

    Examples
    --------
    >>> import numgraph as ng
    >>> batch = ng.sampling.NeighborSampler([-1]).sample(ng.Graph([0, 1, 2, 3], [1, 2, 3, 0]), [0, 1])
    >>> batch.seeds.tolist(), batch.nodes.tolist(), batch.blocks[0].num_edges
    ([0, 1], [0, 1, 3], 2)
    """

    blocks: list[Block]
    seeds: Ids
    nodes: Ids
    x: Array = _NOTHING
    labels: Array = _NOTHING
    edges: Array = _NOTHING
    pairs: Array = _NOTHING
    train_mask: Array = _NOTHING
    val_mask: Array = _NOTHING
    test_mask: Array = _NOTHING
    _edge_ids: Any = None

    if not TYPE_CHECKING:  # a checker knows the names

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            if name == "graph":  # the property has none to give
                problem = "a batch of a NeighborLoader or LinkLoader has no 'graph'; its blocks are .blocks"
                raise AttributeError(problem)
            raise no_attribute("a Batch", name, [one for one in dir(self) if one[0] != "_"])

    @property
    def graph(self) -> Graph:
        """Of a ClusterLoader the subgraph, which ``blocks`` is too."""
        graph: Any = self.blocks
        if isinstance(graph, list):
            raise AttributeError  # whose text is __getattr__'s
        found: Graph = graph
        return found

    @property
    def negatives(self) -> Array:
        """Of a LinkLoader [pairs, 2] the last of its pairs, those that are no edges."""
        return None if self.pairs is None else self.pairs[len(self.edges) :]

    @property
    def edge_ids(self) -> list[Ids]:
        """For each block, the ids of its edges in the whole graph; of a ClusterLoader those of the graph."""
        return [block.edge_ids for block in self.blocks] if self._edge_ids is None else self._edge_ids

    def __repr__(self) -> str:
        blocks: Any = self.blocks
        edges = [block.num_edges for block in blocks] if isinstance(blocks, list) else blocks.num_edges
        return f"Batch(seeds={len(self.seeds)}, nodes={len(self.nodes)}, edges={edges})"


class NeighborSampler:
    """Draws in-edges of seeds, of their sources, and so on (Hamilton, Ying and Leskovec, NeurIPS 2017).

    Parameters
    ----------
    fanouts : for each layer, how many in-edges of a node are drawn; the last is the seeds' hop, -1 takes all
    weight : [num_edges] of the graph's edges, at least 0: an edge is drawn in proportion to it,
        and never with 0. None: all alike
    replace : an edge may be drawn more than once;
        then each node with in-edges has exactly as many as its fanout

    Notes
    -----
    Each hop draws anew. What is drawn for a node depends on the seed, the hop and the node alone: not on the
    other seeds, on threads, or on how seeds are split over batches of one number. Without replacement and
    with weights, edges are drawn one after the other, each in proportion to the weights left.

    Examples
    --------
    >>> import numgraph as ng
    >>> g = ng.Graph([0, 1, 2, 3], [1, 2, 0, 0])
    >>> batch = ng.sampling.NeighborSampler([-1, 1]).sample(g, [1], seed=3)
    >>> batch.nodes.tolist(), [block.num_edges for block in batch.blocks]
    ([1, 0, 2, 3], [3, 1])
    """

    def __init__(
        self, fanouts: Sequence[int], *, weight: ArrayLike | None = None, replace: bool = False
    ) -> None:
        op = "NeighborSampler"
        if not isinstance(fanouts, list | tuple | np.ndarray):
            raise bad_type(
                op, f"fanouts is {shown(fanouts)}", "give a list, a number for each layer, as [10, 10]"
            )
        if len(fanouts) == 0:
            raise bad_value(op, "there are no fanouts", "give a number for each layer, as [10, 10]")
        self.fanouts = tuple(_fanout(op, f"fanouts[{i}]", fanout) for i, fanout in enumerate(fanouts))
        self.replace = bool(replace)
        self.weight = None if weight is None else checked_weight(op, weight)
        self._weights: WeakKeyDictionary[Graph, NDArray[np.float64]] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_weights": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _weights=WeakKeyDictionary())

    def sample(self, g: Graph, seeds: ArrayLike, *, seed: int = 0) -> Batch:
        """The blocks of some nodes.

        Parameters
        ----------
        g : Graph of one set of nodes
        seeds : integers [n], distinct ids of nodes
        seed : of the draws, a whole number

        Returns
        -------
        Batch with ``blocks``, ``nodes``, ``seeds`` and ``edge_ids``

        Raises
        ------
        ValueError : a bipartite graph, a seed that is there twice
        IndexError : a seed outside of 0 … num_nodes - 1
        """
        op = "NeighborSampler.sample"
        g = checked_host(op, g)
        return self.drawn(op, Origin(g), seeds_of(op, g, seeds), key_of(checked_seed(op, seed), 0, 0))

    def drawn(
        self, op: str, origin: Origin, seeds: Ids, key: np.uint64, banned: Banned = (_NO_IDS, _NO_IDS)
    ) -> Batch:
        """The blocks of checked seeds, without the banned edges."""
        g = origin.graph
        rows, weights = g.in_edges_as_read(), self._weights_of(op, g)
        idle, table = table_of(g)
        stamp = table.next()
        mapped = mapping_of(rows.indices) is not None
        nodes = np.empty(len(seeds), rows.indices.dtype)
        again = drawing.begin(table.entries, stamp, seeds, nodes)
        if again >= 0:
            idle.append(table)
            first = int(np.flatnonzero(seeds == seeds[again])[0])
            problem = f"seeds[{first}] and seeds[{again}] are both {seeds[again]}"
            raise bad_value(
                op,
                problem,
                "give each node once: np.unique(seeds, return_inverse=True) has the rows of repeated ones",
            )
        hops: list[tuple[int, Any, Any, Any]] = []
        plan = np.empty(2, np.int64)
        for hop, fanout in enumerate(reversed(self.fanouts)):
            known = len(nodes)
            drawing.measure(rows.indptr, nodes, fanout, self.replace, plan)
            most, largest = int(plan[0]), int(plan[1])
            local = ids_dtype(known + most, most)
            starts, numbers = np.empty(known + 1, local), np.empty(most, local)
            sources, positions = np.empty(most, nodes.dtype), np.empty(most, rows.indptr.dtype)
            hop_key = key_of(int(key), hop)
            if mapped:
                _bring(rows, nodes)
            count = drawing.draw(
                rows.indptr,
                rows.indices,
                weights,
                *banned,
                largest,
                fanout,
                self.replace,
                hop_key,
                nodes,
                starts,
                sources,
                positions,
            )
            sources, positions, numbers = sources[:count], positions[:count], numbers[:count]
            wider = np.empty(known + count, nodes.dtype)
            wider[:known] = nodes
            known = drawing.relabel(table.entries, stamp, sources, wider, known, numbers)
            if known < 0:
                raise _damage(op, g)
            nodes = wider[:known]
            hops.append((known, starts, numbers, positions))
        idle.append(table)
        nodes = frozen(nodes)
        blocks = [Block.from_rows(origin, nodes[:known], *arrays) for known, *arrays in reversed(hops)]
        return Batch(blocks, seeds, nodes)

    def _weights_of(self, op: str, g: Graph) -> NDArray[np.float64]:
        """The weights by position among the in-edges, the largest 1; none if there are none."""
        if self.weight is None:
            return _NO_WEIGHTS
        found = self._weights.get(g)
        if found is None:
            if len(self.weight) != g.num_edges:
                raise bad_value(
                    op,
                    f"weight has {len(self.weight)} entries, the graph {g.num_edges} edges",
                    "give one an edge",
                )
            rows = g.in_edges
            by_position = self.weight if rows.ordered else self.weight[rows.edge_ids]
            most = by_position.max(initial=0)
            found = self._weights[g] = frozen(by_position / most if most else by_position.copy())
        return found if len(found) else frozen(np.zeros(1))  # a graph without edges: nothing reads it


class Table:
    """The numbers of nodes in a batch, see ``drawing.relabel``; whoever samples has one alone."""

    def __init__(self, num_nodes: int) -> None:
        self.entries, self._stamp = np.zeros(num_nodes, np.int64), 0

    def next(self) -> int:
        self._stamp += 1
        if self._stamp >= 2**31:
            self.entries.fill(0)
            self._stamp = 1
        return self._stamp


def table_of(g: Graph) -> tuple[list[Table], Table]:
    """A table of a graph that nobody uses, and the list that it goes back to."""
    idle: list[Table] = g.in_edges_as_read().derived("tables of samplers", lambda rows: [])
    try:
        return idle, idle.pop()
    except IndexError:
        return idle, Table(g.num_nodes)


@overload
def sample_neighbors(
    g: Graph,
    nodes: ArrayLike,
    fanout: int,
    *,
    seed: int = ...,
    weight: Any = ...,
    replace: bool = ...,
    return_edges: Literal[False] = ...,
) -> Graph: ...
@overload
def sample_neighbors(
    g: Graph,
    nodes: ArrayLike,
    fanout: int,
    *,
    seed: int = ...,
    weight: Any = ...,
    replace: bool = ...,
    return_edges: Literal[True],
) -> tuple[Graph, EdgeMap]: ...
def sample_neighbors(
    g: Graph,
    nodes: ArrayLike,
    fanout: int,
    *,
    seed: int = 0,
    weight: ArrayLike | None = None,
    replace: bool = False,
    return_edges: bool = False,
) -> Any:
    """The graph with up to `fanout` in-edges of each of some nodes and no others; all nodes stay, with their
    numbers.

    Parameters
    ----------
    g : Graph
    nodes : distinct ids
    fanout, weight, replace : as of NeighborSampler
    seed : the same one gives the same edges of a node, whatever the other nodes are
    return_edges : return (graph, EdgeMap), whose ``ids`` are those of the edges in g

    Returns
    -------
    Graph, or (Graph, EdgeMap)

    Examples
    --------
    >>> import numgraph as ng
    >>> g = ng.Graph([0, 1, 2, 3], [3, 3, 3, 0])
    >>> ng.sampling.sample_neighbors(g, [3], 2, seed=1)
    Graph(num_nodes=4, num_edges=2)
    """
    op = "sample_neighbors"
    g = checked_host(op, g)
    if weight is not None:
        weight = checked_weight(op, weight)
    sampler = NeighborSampler([_fanout(op, "fanout", fanout)], weight=weight, replace=replace)
    batch = sampler.drawn(
        op, Origin(g), seeds_of(op, g, nodes, "nodes"), key_of(checked_seed(op, seed), 0, 0)
    )
    if replace:  # the same edge more than once: edge_subgraph takes ids as they come
        made, edges = g.edge_subgraph(batch.blocks[0].edge_ids, return_edges=True)
    else:
        made, edges = g.edge_subgraph(np.sort(batch.blocks[0].edge_ids), return_edges=True)
    return (made, edges) if return_edges else made


def checked_host(op: str, g: Any) -> Graph:
    """A graph of one set of nodes, on the host."""
    check_graph(op, "g", g)
    if g.is_bipartite:
        problem = f"the graph is bipartite, with {g.num_src} sources and {g.num_dst} destinations"
        raise bad_value(
            op, problem, "neighbours of neighbours need one set of nodes: Graph(src, dst, num_nodes)"
        )
    found: Graph = g.to("cpu")
    return found


def seeds_of(op: str, g: Graph, seeds: Any, name: str = "seeds") -> Ids:
    """Node ids that are known to be there."""
    ids = given_ids(op, name, seeds)
    return checked_ids(op, name, ids, "num_nodes", g.num_nodes, g.in_edges_as_read().indices.dtype)


def checked_weight(op: str, weight: Any) -> NDArray[np.float64]:
    """A copy of weights of edges, finite and at least 0."""
    array = as_array(op, "weight", weight)
    if array.dtype.kind not in "biuf" or array.ndim != 1:
        raise bad_type(
            op,
            f"weight has dtype {array.dtype} and shape {list(array.shape)}",
            "give a number for each edge, [num_edges]",
        )
    array = array.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if len(bad):
        raise bad_value(
            op, f"weight[{bad[0]}] is {array[bad[0]]}", "weights are finite and at least 0; 0 is never drawn"
        )
    return frozen(array)


def _bring(rows: Adjacency, nodes: Ids) -> None:
    """Have the in-edges of these nodes read from their file, as far as they are not in memory."""
    in_steps(lambda first, last: drawing.touch(rows.indptr, rows.indices, nodes, first, last), len(nodes))


def _damage(op: str, g: Graph) -> Exception:
    """What is wrong with the ids of a graph, of whom one was none: checking them all finds it."""
    try:
        return unsound(op, f"an id of {g.in_edges} was out of range, and is not any more")
    except IndexError as error:
        return error


def _fanout(op: str, name: str, value: Any) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise bad_type(op, f"{name} is {shown(value)}", "give a whole number of edges a node, -1 for all")
    if not -1 <= value < 2**31:
        raise bad_value(op, f"{name} is {value}", "give a number from 0 to 2**31 - 1, or -1 for all in-edges")
    return int(value)
