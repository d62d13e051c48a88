"""EdgeMap: which old edges each edge of a transformed graph was, and how their data come along."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.typed import Array, F, Plain
from numgraph.autodiff.rules import rule_of
from numgraph.autodiff.tensor import Tensor
from numgraph.graph.edges import SRC, Edges
from numgraph.graph.sorting import Adjacency, Ids, frozen

if TYPE_CHECKING:
    from numgraph.graph.graph import Graph

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, eq=False, repr=False)
class EdgeMap:
    """What the edges of a transformed graph were: every transform of a Graph gives it beside its result where
    ``return_edges=True``.

    New edges, which were none, come after all others.

    Attributes
    ----------
    ids : [num_edges] the old edge that each edge was, the first one of those that were merged,
        -1 for new edges; read-only. ``np.asarray(edge_map)`` is the same
    old, new : the graph before and after
    groups : None where every edge was one edge or none; else (offsets, members): edge e was the old edges
        ``members[offsets[e]:offsets[e + 1]]``, in the order of their ids, of ``to_bidirected`` those that
        were reversed after the others

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 0, 1], [1, 1, 1], 3)
    >>> simple, edges = g.coalesce(return_edges=True)
    >>> edges.gather(np.array([0.5, 1.0, 2.0]), reduce="mean")
    array([0.75, 2.  ])
    >>> looped, edges = g.add_self_loops(return_edges=True)
    >>> edges.gather(np.array([0.5, 1.0, 2.0]), fill=1.0)
    array([0.5, 1. , 2. , 1. , 1. , 1. ])
    """

    ids: Ids
    old: Graph
    new: Graph
    groups: tuple[Ids, Ids] | None = None

    @property
    def num_new(self) -> int:
        """How many edges were none of the old graph."""
        return int(np.count_nonzero(self.ids < 0))

    def counts(self) -> NDArray[np.int64]:
        """[num_edges] how many old edges each edge was: 0 for new ones, more than 1 for merged ones."""
        return (
            (self.ids >= 0).astype(np.int64)
            if self.groups is None
            else np.diff(self.groups[0]).astype(np.int64)
        )

    @functools.cached_property
    def graph(self) -> Graph:
        """The same as a bipartite graph from old edges to the edges that they became: ``update_all`` over it
        is any reduction of theirs.
        """
        if self.groups is None:
            known = frozen(self.ids[: len(self.ids) - self.num_new])
            offsets = frozen(np.minimum(np.arange(len(self.ids) + 1), len(known)).astype(known.dtype))
        else:
            offsets, known = self.groups
        rows = Adjacency(offsets, known, ordered=True)
        edges = Edges((self.old.num_edges, len(self.ids)), [known, None], [None, rows], bipartite=True)
        return self.old._sharing(edges, SRC).to(self.old.device)

    @overload
    def gather(self, values: Tensor, *, reduce: str = ..., fill: Any = ...) -> Tensor: ...
    @overload
    def gather(self, values: Mapping[K, V], *, reduce: str = ..., fill: Any = ...) -> dict[K, V]: ...
    @overload
    def gather(self, values: Plain, *, reduce: str = ..., fill: Any = ...) -> Array: ...
    @overload
    def gather(self, values: F, *, reduce: str = ..., fill: Any = ...) -> F: ...
    def gather(self, values: Any, *, reduce: str = "sum", fill: Any = None) -> Any:
        """Data of the new graph's edges, from data of the old one's.

        Parameters
        ----------
        values : array or Tensor [old num_edges, …] of any dtype, an array of torch or JAX,
            or a mapping from names to such
        reduce : what merged edges have: "sum", "mean", "max", "min" or "prod" of the old ones' data,
            or "first", the first one's
        fill : what new edges have, and they need it: a number;
            an array [new edges, …], or of their features alone; or "sum", "mean", "max", "min" or "prod" over
            the data of the old edges into a new edge's destination, as of a self loop's node (0 where there
            are none, 1 for "prod")

        Returns
        -------
        [num_edges, …], of the same kind, or a dict of such. Differentiable to every order.

        Raises
        ------
        ValueError : another number of rows, an unknown reduce, new edges without fill

        Examples
        --------
        >>> import numpy as np, numgraph as ng
        >>> _, edges = ng.Graph([0, 0, 1], [1, 1, 1]).coalesce(return_edges=True)
        >>> edges.gather(np.array([0.5, 1.0, 2.0]))
        array([1.5, 2. ])
        """
        if isinstance(values, Mapping):
            return {name: self.gather(array, reduce=reduce, fill=fill) for name, array in values.items()}
        return rule_of("EdgeMap.gather")(self, values, reduce, fill)

    def to(self, device: str) -> EdgeMap:
        """The map between the same graphs on a device; ids and groups are on the host.

        Parameters
        ----------
        device : "cpu" or "cuda"

        Returns
        -------
        EdgeMap

        Examples
        --------
        >>> import numgraph as ng
        >>> _, edges = ng.Graph([0, 0, 1], [1, 1, 1]).coalesce(return_edges=True)
        >>> edges.to("cpu")
        EdgeMap(3 edges → 2, new=0, 3 merged to 2)
        """
        return EdgeMap(self.ids, self.old.to(device), self.new.to(device), self.groups)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return (
            np.array(self.ids, dtype) if copy or (dtype is not None and dtype != self.ids.dtype) else self.ids
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        merged = "" if self.groups is None else f", {len(self.groups[1])} merged to {len(self.ids)}"
        return f"EdgeMap({self.old.num_edges} edges → {len(self.ids)}, new={self.num_new}{merged})"


def merged(old: Any, new: Any, ids: Ids, groups: tuple[Ids, Ids]) -> EdgeMap:
    """Of edges that were some of the old ones each."""
    return EdgeMap(ids, old, new, groups)


def kept(old: Any, new: Any, ids: NDArray[Any]) -> EdgeMap:
    """Of a graph whose first edges are old ones, by their ids, and whose others are new."""
    whole = np.full(new.num_edges, -1, new._edge_dtype)
    whole[: len(ids)] = ids
    return EdgeMap(frozen(whole), old, new)
