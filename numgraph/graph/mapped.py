"""Edges whose arrays are mapped files. What a file holds is not known before it is read: ids are checked when
they are first asked for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from numgraph.errors import bad_index, bad_value
from numgraph.graph.edges import SRC, Edges
from numgraph.graph.graph import Graph
from numgraph.graph.sorting import Adjacency, Ids, frozen, ids_dtype
from numgraph.runtime.compiling import njit
from numgraph.runtime.mapping import advise

NAMES = (("src", "out"), ("dst", "in"))
"""Of a side: its column, and the beginning of the names of its grouped arrays."""
_CHUNK = 1 << 16


class MappedEdges(Edges):
    """Edges of a folder, see ``graph_of``.

    Row starts are in memory and checked from the start. Whole columns and groupings are checked once, when
    somebody asks for them. ``as_read`` is a grouping for who checks each id itself.
    """

    def __init__(self, folder: Path, num_nodes: int, num_edges: int, arrays: dict[str, Ids]) -> None:
        super().__init__((num_nodes, num_nodes), [None, None], [None, None])
        self.num_edges, self._folder = num_edges, folder
        positions = ids_dtype(num_nodes, num_edges)
        rows = []
        for side, (_, name) in enumerate(NAMES):
            starts = self._row_starts(f"{name}_indptr", arrays[f"{name}_indptr"], positions)
            if f"{name}_indices" in arrays:
                rows.append(
                    Adjacency(
                        starts, arrays[f"{name}_indices"], ordered=False, _edge_ids=arrays[f"{name}_edge_ids"]
                    )
                )
            else:
                rows.append(Adjacency(starts, arrays[NAMES[1 - side][0]], ordered=True))
        self._known: set[int] = set()  # sides about whose files the system was told how they are read
        self._read, self._given = rows, [arrays[column] for column, _ in NAMES]

    def row_starts(self, side: int) -> Ids:
        return self._read[side].indptr

    def as_read(self, side: int) -> Adjacency:
        rows = self._read[side]
        if side not in self._known:
            self._known.add(side)
            for array in (rows.indices, *(() if rows.ordered else (rows.edge_ids,))):
                advise(array, "RANDOM")
        return rows

    def degrees(self, side: int) -> NDArray[np.int64]:
        return np.diff(self._read[side].indptr).astype(np.int64)

    def edge_ids_at(self, side: int, positions: Ids) -> Ids:
        rows = self._read[side]
        if rows.ordered:
            return positions
        ids = frozen(rows.edge_ids[positions])
        bad = first_outside(ids, self.num_edges)
        if bad >= 0:
            raise self._outside(
                f"{NAMES[side][1]}_edge_ids", int(positions[bad]), int(ids[bad]), "num_edges", self.num_edges
            )
        return ids

    def _column(self, side: int) -> Ids:
        ids = self._given[side]
        self._check(NAMES[side][0], ids, "num_nodes", self.counts[side])
        return ids

    def _adjacency(self, side: int) -> Adjacency:
        self._known.add(side)
        rows, name = self._read[side], NAMES[side][1]
        if rows.ordered:
            self.column(1 - side)
        else:
            self._check(f"{name}_indices", rows.indices, "num_nodes", self.counts[1 - side])
            self._check(f"{name}_edge_ids", rows.edge_ids, "num_edges", self.num_edges)
        return rows

    def check_all(self) -> None:
        """That every id is in its range, and both groupings are of the edges that the columns have, in the
        order of edge ids in each row.

        Raises
        ------
        IndexError, ValueError : the file, the position, and what stands there
        """
        for side, (column, name) in enumerate(NAMES):
            keys, values, rows = self.column(side), self.column(1 - side), self.adjacency(side)
            position = first_foreign(
                rows.indptr,
                rows.indices,
                rows.edge_ids if not rows.ordered else keys[:0],
                keys,
                values,
                rows.ordered,
            )
            if position >= 0:
                what = f"position {position} of {name}_indptr, {name}_indices and {name}_edge_ids"
                raise bad_value(
                    "open_dataset",
                    f"{self._folder}: {what} does not agree with {column} there",
                    "the files are of other graphs",
                )

    def _row_starts(self, name: str, starts: Ids, dtype: np.dtype[np.signedinteger]) -> Ids:
        """A copy in memory, which nobody can change."""
        copy = np.array(starts, np.int64)
        problem = ""
        if copy[0] != 0 or copy[-1] != self.num_edges:
            problem = (
                f"begins with {copy[0]} and ends with {copy[-1]}, with {self.num_edges} edges these are 0 "
                f"and {self.num_edges}"
            )
        elif len(descents := np.flatnonzero(copy[1:] < copy[:-1])):
            i = int(descents[0])
            problem = f"falls from {copy[i]} to {copy[i + 1]} after entry {i}, row starts do not decrease"
        if problem:
            raise bad_value(
                "open_dataset",
                f"{self._folder / name}.npy {problem}",
                "the file is damaged: take another copy of the folder",
            )
        return frozen(copy.astype(dtype, copy=False))

    def _check(self, name: str, ids: Ids, count_name: str, count: int) -> None:
        advise(ids, "NORMAL")  # from here on all of it is read
        position = first_outside(ids, count)
        if position >= 0:
            raise self._outside(name, position, int(ids[position]), count_name, count)

    def _outside(self, name: str, position: int, value: int, count_name: str, count: int) -> IndexError:
        """The error for an id that is none."""
        problem = f"{self._folder / name}.npy has {value} at position {position}, {count_name} is {count}"
        return bad_index("open_dataset", problem, "the file is damaged: take another copy of the folder")


def graph_of(folder: Path, num_nodes: int, num_edges: int, arrays: dict[str, Ids]) -> Graph:
    """The graph of the arrays of a folder; nothing of them is copied but the row starts.

    arrays: "src" and "dst" [num_edges] in the order of edge ids; "in_indptr", "out_indptr" [num_nodes + 1] of
    int64; "in_indices", "in_edge_ids" [num_edges], left out where the edges are sorted by destination
    already, and "out_indices", "out_edge_ids". Shapes and dtypes are known to be right, what they contain is
    not."""
    return Graph._sharing(MappedEdges(folder, num_nodes, num_edges, arrays), SRC)


def check_graph_files(g: Graph) -> None:
    """All of ``MappedEdges.check_all`` for a graph of ``graph_of``."""
    edges = g._edges
    assert isinstance(edges, MappedEdges)
    edges.check_all()


@njit()
def first_outside(ids, count):
    """The position of the first id outside of 0 … count - 1, or -1."""
    for first in range(0, len(ids), _CHUNK):
        last = min(first + _CHUNK, len(ids))
        bad = False
        for i in range(first, last):
            bad |= (ids[i] < 0) | (ids[i] >= count)
        if bad:
            for i in range(first, last):
                if ids[i] < 0 or ids[i] >= count:
                    return i
    return -1


@njit()
def first_foreign(indptr, indices, edge_ids, keys, values, ordered):
    """The first position whose edge is not the row's own, or comes before an edge of the row with a smaller
    id; -1 if there is none.

    With as many positions as edges each edge then has just one.
    """
    for row in range(len(indptr) - 1):
        before = np.int64(-1)
        for position in range(indptr[row], indptr[row + 1]):
            edge = np.int64(position if ordered else edge_ids[position])
            if edge <= before or keys[edge] != row or indices[position] != values[edge]:
                return position
            before = edge
    return -1
