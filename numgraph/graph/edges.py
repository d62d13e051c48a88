"""The edges that a graph and its reverse share: two columns of ids, grouped by either when first asked for;
on the host or on a device.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays import devices
from numgraph.graph.sorting import Adjacency, Ids, expanded, frozen, group, ids_dtype, tally

SRC, DST = 0, 1


class Edges:
    """What a graph and its reverse share: two columns of ids, and the edges grouped by either column, each
    made when first asked for.

    Column SRC grouped gives the out-edges, column DST the in-edges. `columns` or one `ordered` adjacency is
    there from the start, but for a subclass that makes them in another way.
    bipartite: the columns are of two sets of nodes, as they always are where their counts differ.
    """

    device = "cpu"

    def __init__(
        self,
        counts: tuple[int, int],
        columns: list[Ids | None],
        adjacencies: list[Adjacency | None],
        bipartite: bool = False,
    ) -> None:
        self.counts, self.columns, self.adjacencies = counts, columns, adjacencies
        self.bipartite = bipartite or counts[SRC] != counts[DST]
        self.num_edges = next((len(c) for c in columns if c is not None), 0)
        self._lock, self._process = threading.RLock(), os.getpid()
        self._copy: weakref.ref[DeviceEdges] | None = None
        self.remembered: dict[Hashable, Any] = {}

    @property
    def positions(self) -> np.dtype[Any]:
        """The dtype of edge ids and of positions among the edges."""
        return ids_dtype(*self.counts, self.num_edges)

    @property
    def host(self) -> Edges:
        return self

    def on(self, device: str) -> Edges | DeviceEdges:
        """The same edges on a device: one copy of them, as long as a graph uses it."""
        if device == "cpu":
            return self
        with self.locked():
            copy = None if self._copy is None else self._copy()
            if copy is None:
                copy = DeviceEdges(self, device)
                self._copy = weakref.ref(copy)
        return copy

    def locked(self) -> Any:
        if (
            self._process != os.getpid()
        ):  # after a fork: a thread that was building in the parent does not exist here
            self._lock, self._process = threading.RLock(), os.getpid()
        return self._lock

    def column(self, side: int) -> Ids:
        ids = self.columns[side]
        if ids is None:
            with self.locked():
                ids = self.columns[side]
                if ids is None:
                    ids = self.columns[side] = self._column(side)
        return ids

    def _column(self, side: int) -> Ids:
        rows = self.adjacencies[side]
        assert rows is not None
        return expanded(rows.indptr, rows.indices.dtype)

    def adjacency(self, side: int) -> Adjacency:
        rows = self.adjacencies[side]
        if rows is None:
            with self.locked():
                rows = self.adjacencies[side]
                if rows is None:
                    rows = self.adjacencies[side] = self._adjacency(side)
        return rows

    def row_starts(self, side: int) -> Ids:
        """``adjacency(side).indptr``, for who reads nothing else."""
        return self.adjacency(side).indptr

    def as_read(self, side: int) -> Adjacency:
        """The grouping for who checks every id that is not a row start itself, and reads them one by one: of
        files nothing else may be known yet."""
        return self.adjacency(side)

    def degrees(self, side: int) -> NDArray[np.int64]:
        """[rows] edges of each row, without grouping them for that."""
        if self.adjacencies[side] is not None:
            return np.diff(self.adjacency(side).indptr).astype(np.int64)
        counts = np.zeros(self.counts[side], np.int64)
        tally(self.column(side), counts, -2)
        return counts

    def edge_ids_at(self, side: int, positions: Ids) -> Ids:
        """The ids of the edges at positions of a grouping."""
        rows = self.adjacency(side)
        return positions if rows.ordered else frozen(rows.edge_ids[positions])

    def _adjacency(self, side: int) -> Adjacency:
        return group(self.column(side), self.column(1 - side), self.counts[side], self.positions)


class DeviceEdges:
    """Edges of the host, copied to a device piece by piece when first asked for. Two threads that ask at once
    get the same arrays.
    """

    def __init__(self, host: Edges, device: str) -> None:
        self.host, self.device, self.counts, self.num_edges = host, device, host.counts, host.num_edges
        self.bipartite = host.bipartite
        self._copies: dict[tuple[str, int], Any] = {}
        self.remembered: dict[Hashable, Any] = {}

    def column(self, side: int) -> Ids:
        found = self._copies.get(("column", side))
        if found is None:  # of one dtype with the other arrays there
            ids = self.host.column(side).astype(self.host.positions, copy=False)
            found = self._copies.setdefault(("column", side), devices.moved(ids, self.device))
        made: Ids = found
        return made

    def adjacency(self, side: int) -> Adjacency:
        found = self._copies.get(("rows", side))
        made: Adjacency = (
            self._copies.setdefault(("rows", side), self.host.adjacency(side).to(self.device))
            if found is None
            else found
        )
        return made

    def row_starts(self, side: int) -> Ids:
        return self.adjacency(side).indptr

    def as_read(self, side: int) -> Adjacency:
        return self.adjacency(side)
