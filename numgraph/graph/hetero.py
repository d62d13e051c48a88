"""HeteroGraph: nodes and edges of several types, a Graph for each relation between two types of nodes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from numgraph.arrays import devices, static_in_jax
from numgraph.arrays.inputs import kind_of
from numgraph.errors import bad_type, bad_value, did_you_mean, no_attribute, shown, unknown
from numgraph.graph.graph import Graph, check_graph
from numgraph.graph.hetero_formats import HeteroLibraries
from numgraph.graph.homogeneous import Homogeneous, Into, as_one, into_one, separated
from numgraph.graph.relations import (
    Relation,
    counted,
    counting,
    distinct,
    ends_of,
    listed,
    relation_of,
)

T = TypeVar("T")


class HeteroGraph(HeteroLibraries):
    """Nodes of several types, and relations between them: for each a Graph from its sources' nodes to its
    destinations'.

    Parameters
    ----------
    edges : {(source type, relation, destination type): (src, dst)}: two arrays of ids [edges], or a Graph,
        which is not copied
    num_nodes : {type: number of nodes}; of a type that is left out it is one more than its largest id;
        types without edges may be there

    Raises
    ------
    TypeError, ValueError : what is no mapping, no triple of names, a Graph whose counts contradict others
    IndexError : an id outside its range; names the relation, the array and the position

    Notes
    -----
    ``h["writes"]`` is the Graph of a relation, bipartite between two types, of one set of nodes within one.
    The name alone will do where no other relation has it; ``h["author", "writes", "paper"]`` always does.
    Types and relations are sorted by name whatever the order given, so that their numbers depend on the names
    alone. A HeteroGraph does not change, keeps no fields, can be pickled and shared by threads.

    Examples
    --------
    >>> import numgraph as ng
    >>> writes, cites = ("author", "writes", "paper"), ("paper", "cites", "paper")
    >>> h = ng.HeteroGraph({writes: ([0, 0, 1], [0, 1, 1]), cites: ([1], [0])})
    >>> h  # doctest: +NORMALIZE_WHITESPACE
    HeteroGraph(author: 2 nodes, paper: 2 nodes;
                author -writes-> paper: 3 edges, paper -cites-> paper: 1 edge)
    >>> h["writes"]
    Graph(num_src=2, num_dst=2, num_edges=3)
    """

    __slots__ = ("__weakref__", "_counts", "_derived", "_graphs")

    _graphs: dict[Relation, Graph]
    _counts: dict[str, int]
    _derived: dict[Any, Any]

    def __new__(cls, *args: Any, **options: Any) -> HeteroGraph:
        static_in_jax(cls)
        return super().__new__(cls)

    def __init__(self, edges: Mapping[Any, Any], num_nodes: Mapping[str, int] | None = None) -> None:
        op = "HeteroGraph"
        if not isinstance(edges, Mapping):
            fix = "give a dict, {('author', 'writes', 'paper'): (src, dst)}"
            raise bad_type(
                op, f"edges is {kind_of(edges)}", f"{fix}; of one type of nodes and edges, Graph(src, dst)"
            )
        given = {relation_of(op, key): ends_of(op, key, value) for key, value in edges.items()}
        self._counts = dict(sorted(counted(op, given, num_nodes).items()))
        self._graphs = {key: self._made(op, key, given[key]) for key in sorted(given)}
        self._derived = {}
        places = {graph.device for graph in self._graphs.values()}
        if len(places) > 1:
            raise bad_type(
                op,
                "some of the graphs are on the device, some are not",
                "move them all by .to('cuda'), or none",
            )

    def _made(self, op: str, relation: Relation, ends: Any) -> Graph:
        source, _, target = relation
        if isinstance(ends, Graph):
            return ends
        counts = {"num_src": self._counts[source], "num_dst": self._counts[target]}
        try:
            return Graph(*ends, **({"num_nodes": counts["num_src"]} if source == target else counts))
        except (TypeError, ValueError, IndexError) as error:
            raise type(error)(f"{op}: of {relation}: {error}") from None

    @classmethod
    def _of(cls, graphs: Mapping[Relation, Graph], counts: Mapping[str, int]) -> HeteroGraph:
        """Of parts that fit."""
        h = cls.__new__(cls)
        h._graphs, h._counts, h._derived = dict(sorted(graphs.items())), dict(sorted(counts.items())), {}
        return h

    functools.update_wrapper(__new__, __init__, (), ())  # whose arguments help() shows

    @property
    def node_types(self) -> list[str]:
        """The types of nodes, sorted."""
        return list(self._counts)

    @property
    def edge_types(self) -> list[Relation]:
        """The relations, (source type, name, destination type), sorted."""
        return list(self._graphs)

    @property
    def num_nodes(self) -> dict[str, int]:
        """The number of nodes of each type."""
        return dict(self._counts)

    @property
    def num_dst(self) -> dict[str, int]:
        """The number of nodes of each type that edges lead to; all but of a block, where they are the
        first.
        """
        return dict(self._counts)

    @property
    def num_edges(self) -> dict[Relation, int]:
        """The number of edges of each relation."""
        return {relation: graph.num_edges for relation, graph in self._graphs.items()}

    @property
    def device(self) -> str:
        """Where the graphs' arrays are: "cpu" or "cuda"."""
        return next((graph.device for graph in self._graphs.values()), "cpu")

    def to(self, device: str) -> HeteroGraph:
        """The same for arrays on a device, "cpu" or "cuda"; itself if it is there."""
        devices.known("HeteroGraph.to", device)
        if device == self.device:
            return self
        return self._of(
            {relation: graph.to(device) for relation, graph in self._graphs.items()}, self._counts
        )

    def canonical(self, relation: Any) -> Relation:
        """The triple of a relation that is named by it, or by its name where no other has that; a ValueError
        that says which there are.
        """
        op, known = "HeteroGraph", self._graphs
        if isinstance(relation, list):
            relation = tuple(relation)
        if isinstance(relation, tuple) and relation in known:
            return relation
        if isinstance(relation, str):
            named = [one for one in known if one[1] == relation]
            if len(named) == 1:
                return named[0]
            if named:
                raise bad_value(
                    op,
                    f"{len(named)} relations are called {relation!r}",
                    f"name one by its triple: {listed(named)}",
                )
        near = (
            did_you_mean(relation, [one[1] for one in known])
            if isinstance(relation, str)
            else did_you_mean(relation, known)
        )
        raise bad_value(op, f"there is no relation {shown(relation)}", f"choose from {listed(known)}{near}")

    def checked_type(self, op: str, node_type: Any) -> str:
        """The type of nodes, or an error that says which there are."""
        if not isinstance(node_type, str) or node_type not in self._counts:
            raise unknown(op, "node type", node_type, self._counts)
        return node_type

    def by_type(self, op: str, what: str, values: Any) -> dict[str, Any]:
        """A mapping by node type, its keys checked."""
        if not isinstance(values, Mapping):
            raise bad_type(
                op,
                f"{what} is {kind_of(values)}",
                f"give a dict by node type, {what}={{{shown(next(iter(self._counts), ''))}: …}}",
            )
        return {self.checked_type(op, key): value for key, value in values.items()}

    def by_relation(self, op: str, what: str, values: Any) -> dict[Relation, Any]:
        """A mapping by relation, its keys made triples."""
        if not isinstance(values, Mapping):
            raise bad_type(
                op,
                f"{what} is {kind_of(values)}",
                f"give a dict by relation, {what}={{{shown(next(iter(self._graphs), ''))}: …}}",
            )
        found: dict[Relation, Any] = {}
        for key, value in values.items():
            relation = self.canonical(key)
            if relation in found:
                raise bad_value(op, f"{what} has the relation {relation} twice", "give it once")
            found[relation] = value
        return found

    def __getitem__(self, relation: Any) -> Graph:
        return self._graphs[self.canonical(relation)]

    def __contains__(self, relation: Any) -> bool:
        return relation in self._graphs or sum(one[1] == relation for one in self._graphs) == 1

    def __iter__(self) -> Iterator[Relation]:
        return iter(self._graphs)

    def __len__(self) -> int:
        """The number of relations."""
        return len(self._graphs)

    def __bool__(self) -> bool:
        return True

    def items(self) -> list[tuple[Relation, Graph]]:
        """Each relation with its Graph."""
        return list(self._graphs.items())

    @property
    def metagraph(self) -> Graph:
        """The types as a Graph: node i is ``node_types[i]``, edge i is ``edge_types[i]``."""
        place = {one: i for i, one in enumerate(self._counts)}
        return Graph(
            [place[a] for a, _, _ in self._graphs], [place[b] for _, _, b in self._graphs], len(place)
        )

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

        Raises
        ------
        ValueError : such a relation is there already
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

        relation : a name;
            then for each type of nodes a relation (type, name, type) of such edges is added, and the others
            stay as they are
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
        """The nodes of some types, and the relations between these."""
        op = "HeteroGraph.node_type_subgraph"
        kept = {
            self.checked_type(op, one): self._counts[one]
            for one in ([node_types] if isinstance(node_types, str) else node_types)
        }
        return self._of(
            {key: graph for key, graph in self._graphs.items() if key[0] in kept and key[2] in kept}, kept
        )

    def edge_type_subgraph(self, relations: Iterable[Any]) -> HeteroGraph:
        """Some relations, and the types of nodes that they join."""
        given = [relations] if isinstance(relations, str) or relations in self.edge_types else relations
        graphs = {relation: self._graphs[relation] for relation in map(self.canonical, given)}
        return self._of(graphs, {one: self._counts[one] for key in graphs for one in (key[0], key[2])})

    def subgraph(self, nodes: Mapping[str, ArrayLike]) -> HeteroGraph:
        """The edges between `nodes`, in their old order.

        nodes : {type: distinct ids}: node i of that type is ``nodes[type][i]`` of this one;
            types that are left out keep all their nodes
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

    def into(self, node_type: str) -> Into:
        """All relations that lead to a type of nodes as one graph; made once. None may lead there: then it
        has no sources.
        """
        self.checked_type("HeteroGraph.into", node_type)
        return self._once(
            ("into", node_type),
            lambda: into_one(self._graphs, self._counts, node_type, self.num_dst[node_type], self.device),
        )

    def to_homogeneous(self) -> Homogeneous:
        """All nodes and edges as one Graph: nodes are numbered type after type, edges relation after
        relation, in the order of both lists.

        ``np.concatenate([x[one] for one in h.node_types])`` is its node data. Made once; the arrays are
        read-only. ``from_homogeneous`` is the way back.

        Examples
        --------
        >>> import numgraph as ng
        >>> h = ng.HeteroGraph({("author", "writes", "paper"): ([0, 0, 1], [0, 1, 1])})
        >>> graph, node_type, _, node_offsets, _ = h.to_homogeneous()
        >>> graph.dst, node_type, node_offsets
        (array([2, 3, 3], dtype=int32), array([0, 0, 1, 1]), array([0, 2, 4]))
        """
        return self._once("homogeneous", lambda: as_one(self._graphs, self._counts, self.device))

    @classmethod
    def from_homogeneous(
        cls,
        graph: Graph,
        node_type: ArrayLike,
        edge_type: ArrayLike,
        node_types: Iterable[str],
        edge_types: Iterable[Relation],
    ) -> HeteroGraph:
        """A Graph whose nodes and edges have types, taken apart.

        Parameters
        ----------
        graph : of one set of nodes
        node_type : [num_nodes] k for a node of type ``node_types[k]``
        edge_type : [num_edges] k for an edge of ``edge_types[k]``
        node_types, edge_types : the names; triples

        Notes
        -----
        The nodes of each type keep their order, so ``x[node_type == k]`` is the data of type
        ``node_types[k]``; edges alike.

        Raises
        ------
        IndexError : a number that names no type
        ValueError : an edge whose ends are of other types than its relation's
        """
        check_graph("HeteroGraph.from_homogeneous", "graph", graph)
        return cls(*separated(graph, node_type, edge_type, list(node_types), list(edge_types))).to(
            graph.device
        )

    def _once(self, key: Any, make: Callable[[], T]) -> T:
        found: T | None = self._derived.get(key)
        return self._derived.setdefault(key, make()) if found is None else found

    def __copy__(self) -> HeteroGraph:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> HeteroGraph:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self._graphs, self._counts)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise no_attribute("a HeteroGraph", name, [one for one in dir(HeteroGraph) if one[0] != "_"])

    def __repr__(self) -> str:
        nodes = ", ".join(f"{one}: {counting(count, 'node')}" for one, count in self._counts.items())
        edges = ", ".join(
            f"{a} -{name}-> {b}: {counting(graph.num_edges, 'edge')}"
            for (a, name, b), graph in self._graphs.items()
        )
        return f"HeteroGraph({nodes}; {edges}{'' if self.device == 'cpu' else f'; on {self.device}'})"


def _unpickled(graphs: dict[Relation, Graph], counts: dict[str, int]) -> HeteroGraph:
    return HeteroGraph._of(graphs, counts)


def check_hetero(op: str, h: Any) -> None:
    """A TypeError where the first argument is no HeteroGraph."""
    if not isinstance(h, HeteroGraph):
        fix = "give numgraph.HeteroGraph({('author', 'writes', 'paper'): (src, dst)})"
        raise bad_type(op, f"the first argument is {kind_of(h)}", fix)
