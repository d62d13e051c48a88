"""What every group of a Graph's methods may use of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numgraph.arrays import devices
from numgraph.graph.edges import Edges
from numgraph.graph.sorting import Adjacency, Ids, checked_ids, frozen, given_ids, ids_dtype

F = TypeVar("F", bound=Callable[..., Any])


def made_on_host(transform: F) -> F:
    """Of a graph on a device: the transform of its host graph, taken to the device."""

    @functools.wraps(transform)
    def run(g: Any, *args: Any, **options: Any) -> Any:
        if g.device == "cpu":
            return transform(g, *args, **options)
        return _moved(transform(g.to("cpu"), *args, **options), g.device)

    return cast(F, run)


def _moved(made: Any, device: str) -> Any:
    if isinstance(made, tuple):
        return tuple([_moved(one, device) for one in made])
    return devices.moved(made, device) if isinstance(made, np.ndarray) else made.to(device)


class Part:
    """What the classes that Graph's methods stand in have in common."""

    __slots__ = ()

    if TYPE_CHECKING:  # what Graph has

        @property
        def device(self) -> str: ...

        def to(self, device: str) -> Self: ...

        @property
        def num_src(self) -> int: ...

        @property
        def num_dst(self) -> int: ...

        @property
        def num_edges(self) -> int: ...

        @property
        def is_bipartite(self) -> bool: ...

        @property
        def src(self) -> Ids: ...

        @property
        def dst(self) -> Ids: ...

        @property
        def out_edges(self) -> Adjacency: ...

        @property
        def in_edges(self) -> Adjacency: ...

        def _square(self, name: str, instead: str = "") -> int: ...

        @classmethod
        def _sharing(cls, edges: Any, out: int) -> Self: ...

    def _with(
        self, src: NDArray[Any], dst: NDArray[Any], num_src: int | None = None, num_dst: int | None = None
    ) -> Self:
        """Graph of these edges, whose arrays nobody else holds, between as many nodes as here or so many; ids
        are known to be in range.
        """
        counts = self.num_src if num_src is None else num_src, self.num_dst if num_dst is None else num_dst
        dtype = ids_dtype(*counts)
        columns: list[Ids | None] = [
            frozen(src.astype(dtype, copy=False)),
            frozen(dst.astype(dtype, copy=False)),
        ]
        return self._sharing(Edges(counts, columns, [None, None], self.is_bipartite), 0)

    @property
    def _edge_dtype(self) -> np.dtype[Any]:
        """The dtype of edge ids."""
        return ids_dtype(self.num_src, self.num_dst, self.num_edges)

    def _edges_given(self, op: str, name: str, edge_ids: ArrayLike) -> Ids:
        """Ids of this graph's edges."""
        return checked_ids(
            op, name, given_ids(op, name, edge_ids), "num_edges", self.num_edges, self._edge_dtype
        )

    def _nodes_given(self, op: str, name: str, nodes: ArrayLike, count_name: str, count: int) -> Ids:
        """Ids of nodes of one side."""
        return checked_ids(op, name, given_ids(op, name, nodes), count_name, count, self.src.dtype)
