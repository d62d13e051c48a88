"""HeteroGraph: nodes and edges of several types, a Graph for each relation between two types of nodes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import ArrayLike

from numgraph.arrays import devices, static_in_jax
from numgraph.arrays.inputs import kind_of
from numgraph.errors import bad_type, bad_value, did_you_mean, no_attribute, shown, unknown
from numgraph.graph.graph import Graph, check_graph
from numgraph.graph.hetero_changes import HeteroChanges
from numgraph.graph.hetero_formats import HeteroLibraries
from numgraph.graph.homogeneous import Homogeneous, Into, as_one, into_one, separated
from numgraph.graph.relations import (
    Relation,
    counted,
    counting,
    ends_of,
    listed,
    relation_of,
)

T = TypeVar("T")


class HeteroGraph(HeteroChanges, HeteroLibraries):
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
        """The same for arrays on a device; itself if it is there.

        Parameters
        ----------
        device : "cpu" or "cuda"

        Returns
        -------
        HeteroGraph

        Raises
        ------
        ValueError, ModuleNotFoundError, OSError : as of ``Graph.to``

        Examples
        --------
        >>> import numgraph as ng
        >>> h = ng.HeteroGraph({("author", "writes", "paper"): ([0], [0])})
        >>> h.to("cpu") is h
        True
        """
        devices.known("HeteroGraph.to", device)
        if device == self.device:
            return self
        return self._of(
            {relation: graph.to(device) for relation, graph in self._graphs.items()}, self._counts
        )

    def canonical(self, relation: Any) -> Relation:
        """The triple of a relation.

        Parameters
        ----------
        relation : the triple, or its name where no other relation has that

        Returns
        -------
        (source type, name, destination type)

        Raises
        ------
        ValueError : no such relation, or a name of several; says which there are

        Examples
        --------
        >>> import numgraph as ng
        >>> ng.HeteroGraph({("author", "writes", "paper"): ([0], [0])}).canonical("writes")
        ('author', 'writes', 'paper')
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

        Returns
        -------
        HeteroGraph

        Raises
        ------
        IndexError : a number that names no type
        ValueError : an edge whose ends are of other types than its relation's

        Notes
        -----
        The nodes of each type keep their order, so ``x[node_type == k]`` is the data of type
        ``node_types[k]``; edges alike.

        Examples
        --------
        >>> import numgraph as ng
        >>> g, triple = ng.Graph([0, 0], [1, 2]), ("author", "writes", "paper")
        >>> ng.HeteroGraph.from_homogeneous(g, [0, 1, 1], [0, 0], ["author", "paper"], [triple])
        HeteroGraph(author: 1 node, paper: 2 nodes; author -writes-> paper: 2 edges)
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

    if not TYPE_CHECKING:  # a checker knows the names

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
