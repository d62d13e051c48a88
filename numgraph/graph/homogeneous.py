"""A HeteroGraph's relations as one Graph, and such a Graph taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numgraph.errors import bad_value, unknown
from numgraph.graph.graph import Graph
from numgraph.graph.relations import Relation, joined, numbers_of_types, offsets_of, relation_of
from numgraph.graph.sorting import frozen


class Homogeneous(NamedTuple):
    """A HeteroGraph as one Graph, whose nodes and edges are those of all types, type after type.

    Attributes
    ----------
    graph : the Graph
    node_type : [num_nodes] k for a node of type ``h.node_types[k]``
    edge_type : [num_edges] k for an edge of relation ``h.edge_types[k]``
    node_offsets, edge_offsets : those of type k are ``offsets[k]`` … ``offsets[k + 1] - 1``
    """

    graph: Graph
    node_type: NDArray[np.int64]
    edge_type: NDArray[np.int64]
    node_offsets: NDArray[np.int64]
    edge_offsets: NDArray[np.int64]


class Into(NamedTuple):
    """All relations that lead to one type of nodes as one bipartite graph.

    Its sources are those of the first relation, then those of the second, …: a node that is a source of
    several is there as often. Sources and edges of relation k are ``src_offsets[k]`` …
    ``src_offsets[k + 1] - 1`` and likewise of ``edge_offsets``."""

    graph: Graph
    relations: tuple[Relation, ...]
    src_offsets: NDArray[np.int64]
    edge_offsets: NDArray[np.int64]


def into_one(
    graphs: Mapping[Relation, Graph], counts: Mapping[str, int], node_type: str, num_dst: int, device: str
) -> Into:
    """All relations that lead to a type of nodes, of which there are ``num_dst``, as one bipartite graph."""
    chosen = {key: graph.to("cpu") for key, graph in graphs.items() if key[2] == node_type}
    starts = offsets_of([counts[key[0]] for key in chosen])
    src = [graph.src.astype(np.int64) + start for graph, start in zip(chosen.values(), starts)]
    edges = offsets_of([graph.num_edges for graph in chosen.values()])
    dst = [graph.dst for graph in chosen.values()]
    graph = Graph(joined(src), joined(dst), num_src=int(starts[-1]), num_dst=num_dst)
    return Into(graph.to(device), tuple(chosen), starts, edges)


def as_one(graphs: Mapping[Relation, Graph], counts: Mapping[str, int], device: str) -> Homogeneous:
    """All types of nodes and all relations as one Graph."""
    nodes = offsets_of(list(counts.values()))
    start = dict(zip(counts, nodes.tolist()))
    host = {key: graph.to("cpu") for key, graph in graphs.items()}
    src = [graph.src.astype(np.int64) + start[key[0]] for key, graph in host.items()]
    dst = [graph.dst.astype(np.int64) + start[key[2]] for key, graph in host.items()]
    edges = offsets_of([graph.num_edges for graph in host.values()])
    graph = Graph(joined(src), joined(dst), int(nodes[-1])).to(device)
    kinds = [frozen(np.repeat(np.arange(len(ends) - 1), np.diff(ends))) for ends in (nodes, edges)]
    return Homogeneous(graph, kinds[0], kinds[1], nodes, edges)


def separated(
    graph: Graph,
    node_type: ArrayLike,
    edge_type: ArrayLike,
    node_types: Sequence[str],
    edge_types: Iterable[Relation],
) -> tuple[dict[Relation, Any], dict[str, int]]:
    """What HeteroGraph takes of a Graph whose nodes and edges have types: the ends of each relation's edges,
    and the numbers of nodes.
    """
    op = "HeteroGraph.from_homogeneous"
    count, host = graph.num_nodes, graph.to("cpu")
    names, relations = node_types, [relation_of(op, key) for key in edge_types]
    of_node = numbers_of_types(op, "node_type", node_type, count, len(names))
    of_edge = numbers_of_types(op, "edge_type", edge_type, host.num_edges, len(relations))
    place = np.zeros(count, np.int64)
    for k in range(len(names)):
        place[of_node == k] = np.arange(np.count_nonzero(of_node == k))
    graphs: dict[Any, Any] = {}
    for k, relation in enumerate(relations):
        ids = np.flatnonzero(of_edge == k)
        for column, name in ((host.src, relation[0]), (host.dst, relation[2])):
            if name not in names:
                raise unknown(op, f"node type of {relation}", name, names)
            wrong = np.flatnonzero(of_node[column[ids]] != names.index(name))
            if len(wrong):
                edge = int(ids[wrong[0]])
                what = names[of_node[column[edge]]]
                raise bad_value(
                    op,
                    f"edge {edge} is of {relation}, and node {column[edge]} is of type {what!r}",
                    f"it must be {name!r}",
                )
        graphs[relation] = (place[host.src[ids]], place[host.dst[ids]])
    return graphs, {name: int(np.count_nonzero(of_node == k)) for k, name in enumerate(names)}
