"""Neighbours of seeds in a HeteroGraph, hop by hop and relation by relation, as blocks; a loader of such."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.inputs import kind_of
from numgraph.errors import bad_type, bad_value, shown, unsound
from numgraph.graph import Adjacency, Block, Graph, HeteroBlock, HeteroGraph, Origin, check_hetero
from numgraph.graph.edges import SRC, Edges
from numgraph.graph.sorting import checked_ids, frozen, given_ids, ids_dtype
from numgraph.sampling import drawing
from numgraph.sampling.loaders import (
    CACHE_BYTES,
    KINDS,
    NeighborLoader,
    check_distinct,
    check_rows,
    chosen,
    whole,
)
from numgraph.sampling.neighbors import Batch, NeighborSampler, Table
from numgraph.sampling.random import checked_seed, key_of
from numgraph.sampling.rows import Rows

_NO_IDS, _NO_WEIGHTS = np.zeros(0, np.int64), frozen(np.zeros(0))
FIELDS = ("x", "labels")


class HeteroSampler:
    """Draws in-edges of seeds of a HeteroGraph, of their sources, and so on, in each relation by itself.

    Parameters
    ----------
    fanouts : for each layer, how many in-edges of a node are drawn in each relation, the seeds' hop last,
        -1 for all; or {relation: such}, where relations that are not there are not followed
    replace : an edge may be drawn more than once

    Notes
    -----
    What is drawn for a node depends on the seed, the hop, the relation and the node alone.

    Examples
    --------
    >>> import numgraph as ng
    >>> writes, cites = ("author", "writes", "paper"), ("paper", "cites", "paper")
    >>> h = ng.HeteroGraph({writes: ([0, 1, 2], [0, 0, 1]), cites: ([1], [0])})
    >>> batch = ng.sampling.HeteroSampler([-1, -1]).sample(h, {"paper": [0]})
    >>> batch.nodes["author"]
    array([0, 1, 2], dtype=int32)
    >>> batch.blocks[0]
    HeteroBlock(author: 3 → 2, paper: 2 → 2; 4 edges)
    >>> batch.blocks[1]
    HeteroBlock(author: 2 → 0, paper: 2 → 1; 3 edges)
    """

    def __init__(
        self, fanouts: Sequence[int] | Mapping[Any, Sequence[int]], *, replace: bool = False
    ) -> None:
        if isinstance(fanouts, Mapping):
            self.fanouts: Any = {key: NeighborSampler(given).fanouts for key, given in fanouts.items()}
            lengths = {len(given) for given in self.fanouts.values()}
            if len(lengths) != 1:
                raise bad_value(
                    "HeteroSampler",
                    f"fanouts have lengths {sorted(lengths)}",
                    "give one number for each layer, of each relation",
                )
            (self.hops,) = lengths
        else:
            self.fanouts = NeighborSampler(fanouts).fanouts
            self.hops = len(self.fanouts)
        self.replace = bool(replace)

    def sample(self, h: HeteroGraph, seeds: Mapping[str, Any], *, seed: int = 0) -> Batch:
        """The blocks of some nodes.

        Parameters
        ----------
        h : HeteroGraph
        seeds : {type: integers [n], distinct ids of nodes}
        seed : of the draws, a whole number

        Returns
        -------
        Batch with ``blocks``, and ``nodes`` and ``seeds``, dicts by type

        Raises
        ------
        ValueError : an unknown type, a seed that is there twice
        IndexError : an id outside of 0 … num_nodes - 1
        """
        op = "HeteroSampler.sample"
        check_hetero(op, h)
        h = h.to("cpu")
        found = {kind: ids_of(op, h, kind, ids) for kind, ids in h.by_type(op, "seeds", seeds).items()}
        return self.drawn(op, Origins(h), found, key_of(checked_seed(op, seed), 0, 0))

    def drawn(self, op: str, origins: Origins, seeds: Mapping[str, NDArray[Any]], key: np.uint64) -> Batch:
        """The blocks of checked seeds."""
        h = origins.graph
        fanouts = (
            h.by_relation(op, "fanouts", self.fanouts)
            if isinstance(self.fanouts, Mapping)
            else dict.fromkeys(h, self.fanouts)
        )
        tables = origins.tables()
        nodes, stamps = {}, {}
        for kind, count in h.num_nodes.items():
            nodes[kind] = np.empty(len(seeds.get(kind, ())), _dtype(count))
            stamps[kind] = tables[kind].next()
            if kind in seeds:
                drawing.begin(tables[kind].entries, stamps[kind], seeds[kind], nodes[kind])
        hops = []
        for hop in range(self.hops):
            before = {kind: len(ids) for kind, ids in nodes.items()}
            rows = {}
            for place, relation in enumerate(h.edge_types):
                if relation in fanouts:
                    into, fanout = nodes[relation[2]][: before[relation[2]]], fanouts[relation][-1 - hop]
                    drawn = self._draw(op, h[relation], into, fanout, key_of(int(key), hop, place))
                    rows[relation], nodes[relation[0]] = _numbered(
                        tables[relation[0]], stamps[relation[0]], nodes[relation[0]], *drawn
                    )
            hops.append((before, {kind: len(ids) for kind, ids in nodes.items()}, rows))
        origins.idle.append(tables)
        nodes = {kind: frozen(ids) for kind, ids in nodes.items()}
        made = [
            ({kind: nodes[kind][:count] for kind, count in after.items()}, before, rows)
            for before, after, rows in reversed(hops)
        ]
        blocks = [origins.block(*hop) for hop in made]
        return Batch(blocks, dict(seeds), nodes)  # type: ignore[arg-type]

    def _draw(
        self, op: str, g: Graph, into: NDArray[Any], fanout: int, key: np.uint64
    ) -> tuple[Any, Any, Any]:
        """First edge of each node, sources and positions of the edges."""
        rows, plan = g.in_edges_as_read(), np.empty(2, np.int64)
        drawing.measure(rows.indptr, into, fanout, self.replace, plan)
        most, largest = int(plan[0]), int(plan[1])
        starts = np.empty(len(into) + 1, ids_dtype(g.num_src, most))
        sources, positions = np.empty(most, rows.indices.dtype), np.empty(most, rows.indptr.dtype)
        count = drawing.draw(
            rows.indptr,
            rows.indices,
            _NO_WEIGHTS,
            _NO_IDS,
            _NO_IDS,
            largest,
            fanout,
            self.replace,
            key,
            into,
            starts,
            sources,
            positions,
        )
        return starts, sources[:count], positions[:count]


def _numbered(
    table: Table, stamp: int, nodes: Any, starts: Any, sources: Any, positions: Any
) -> tuple[Any, Any]:
    """(starts, numbers of the sources in the batch, positions), and the nodes with new ones after the
    others.
    """
    numbers, wider = np.empty(len(sources), starts.dtype), np.empty(len(nodes) + len(sources), nodes.dtype)
    wider[: len(nodes)] = nodes
    known = drawing.relabel(table.entries, stamp, sources, wider, len(nodes), numbers)
    if known < 0:
        raise unsound("HeteroSampler", "an id of a relation's graph is out of range")
    return (starts, numbers, positions), wider[:known]


class Origins:
    """A HeteroGraph that is sampled: of each relation within a type what its blocks share, and tables that
    nobody uses.
    """

    def __init__(self, graph: HeteroGraph) -> None:
        self.graph = graph
        self.of = {relation: Origin(g) for relation, g in graph.items()}
        self.idle: list[dict[str, Table]] = []

    def tables(self) -> dict[str, Table]:
        """A table for each type."""
        try:
            return self.idle.pop()
        except IndexError:
            return {kind: Table(count) for kind, count in self.graph.num_nodes.items()}

    def block(self, nodes: dict[str, Any], before: dict[str, int], rows: dict[Any, Any]) -> HeteroBlock:
        """One hop: nodes that are known after it, how many were before, and the edges of each relation."""
        graphs: dict[Any, Graph] = {}
        ids: dict[Any, Any] = {}
        for relation, (starts, numbers, positions) in rows.items():
            source, _, target = relation
            if source == target:
                block = Block.from_rows(self.of[relation], nodes[source], starts, numbers, positions)
                graphs[relation], ids[relation] = block, functools.partial(getattr, block, "edge_ids")
            else:
                in_edges = Adjacency(frozen(starts), frozen(numbers), ordered=True)
                edges = Edges(
                    (len(nodes[source]), before[target]), [in_edges.indices, None], [None, in_edges], True
                )
                graphs[relation] = Graph._sharing(edges, SRC)
                ids[relation] = functools.partial(self.graph[relation].edge_ids_at, positions)
        return HeteroBlock.made(graphs, nodes, before, ids)


def _dtype(count: int) -> Any:
    return ids_dtype(count)


def ids_of(op: str, h: HeteroGraph, kind: str, ids: Any, name: str = "seeds") -> NDArray[Any]:
    """Distinct ids of nodes of a type."""
    count = h.num_nodes[kind]
    found = checked_ids(op, name, given_ids(op, name, ids), f"num_nodes[{kind!r}]", count, _dtype(count))
    check_distinct(op, name, found)
    return found


class HeteroNeighborLoader(NeighborLoader):
    """What a NeighborLoader of (HeteroGraph, {type: fields}) is."""

    def __init__(
        self,
        data: Any,
        num_neighbors: Any = (15, 10, 5),
        *,
        input_nodes: Any = None,
        batch_size: int = 1024,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        prefetch: int = 2,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        op = "NeighborLoader"
        if not (isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[1], Mapping)):
            raise bad_type(op, f"data is {kind_of(data)}", 'give (graph, {"paper": {"x": features}})')
        self.data, h = data, data[0].to("cpu")
        given, self.types, bytes_kept = (
            h.by_type(op, "data[1]", data[1]),
            {},
            whole(op, "cache_bytes", cache_bytes, 0),
        )
        self.origins, self.features = Origins(h), {}
        for kind, fields in given.items():
            self.types[kind] = _fields(op, kind, fields, h.num_nodes[kind])
            if "x" in self.types[kind]:
                self.features[kind] = Rows(self.types[kind]["x"], bytes_kept // max(len(given), 1), None)
        if isinstance(input_nodes, str):
            input_nodes = (input_nodes, None)
        if not isinstance(input_nodes, tuple | list) or len(input_nodes) != 2:
            raise bad_type(
                op,
                f"input_nodes is {shown(input_nodes)}",
                'give the type and the ids, a mask or None for all, ("paper", ids)',
            )
        kind, nodes = input_nodes
        self.kind, count = kind, h.num_nodes[h.checked_type(op, kind)]
        nodes = np.arange(count) if nodes is None else chosen(op, "input_nodes", nodes, count)
        self.ids = ids_of(op, h, kind, nodes, "input_nodes")
        if isinstance(num_neighbors, NeighborSampler):
            if num_neighbors.weight is not None:
                raise bad_value(
                    op,
                    "the sampler has weights",
                    "of a HeteroGraph all edges are alike: give fanouts, [10, 10]",
                )
            num_neighbors = HeteroSampler(num_neighbors.fanouts, replace=num_neighbors.replace)
        self.sampler: Any = (
            num_neighbors if isinstance(num_neighbors, HeteroSampler) else HeteroSampler(num_neighbors)
        )
        self.x: Any = {kind: fields["x"] for kind, fields in self.types.items() if "x" in fields}
        self._in_batches(op, batch_size, shuffle, drop_last, seed, prefetch)

    def _keep_rows(self) -> None:
        for rows in self.features.values():
            rows.keep()

    def _batch(self, ids: NDArray[Any], key: np.uint64) -> Batch:
        batch = self.sampler.drawn("NeighborLoader", self.origins, {self.kind: ids}, key)
        x: Any = {kind: rows(batch.nodes[kind]) for kind, rows in self.features.items()}
        batch.x = x
        labels = self.types.get(self.kind, {}).get("labels")
        if labels is not None:
            batch.labels = labels[ids]
        found: Batch = batch
        return found

    def over_all(self, x: Any) -> NeighborLoader:
        """Layer by layer there is no inference of a model whose layers are the user's."""
        raise bad_type(
            "inference", "the loader is of a HeteroGraph", "call the model with the whole graph, model(h, x)"
        )

    def __repr__(self) -> str:
        return (
            f"NeighborLoader({len(self)} batches of {self.batch_size} of {self.kind!r}, "
            f"{self.origins.graph!r})"
        )


def _fields(op: str, kind: str, fields: Any, count: int) -> dict[str, Any]:
    if not isinstance(fields, Mapping):
        raise bad_type(op, f"of {kind!r} there is {kind_of(fields)}", 'give fields by name, {"x": features}')
    for name, array in fields.items():
        if name not in FIELDS:
            raise bad_value(
                op,
                f"{kind!r} has {shown(name)}",
                'the fields are "x" and "labels"; others are rows by batch.nodes[type]',
            )
        check_rows(op, f"{name} of {kind!r}", array, count)
    return {name: array if name == "x" else np.asarray(array) for name, array in fields.items()}


KINDS[HeteroGraph] = HeteroNeighborLoader
