"""Graph: directed edges with ids, and their two groupings, in-edges (CSC) and out-edges (CSR).

A graph is immutable: its arrays are private read-only copies, every id in them was range-checked once, when it was made.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numgraph.compiling import njit
from numgraph.errors import bad_index, bad_type, bad_value
from numgraph.sorting import Adjacency, Ids, frozen, group

INT32_LIMIT = 2**31 - 1
"""Graphs with as many nodes or edges as this, or more, have int64 ids; smaller ones int32."""

SRC, DST = 0, 1


class _Edges:
    """What a graph and its reverse share: two columns of ids, and the edges grouped by either column, each made when first asked for.

    Column SRC grouped gives the out-edges, column DST the in-edges. `columns` or one `ordered` adjacency is there from the start.
    """

    def __init__(self, counts: tuple[int, int], columns: list[Ids | None], adjacencies: list[Adjacency | None]) -> None:
        self.counts, self.columns, self.adjacencies = counts, columns, adjacencies
        self.num_edges = len(next(c for c in columns if c is not None))
        self._lock, self._process = threading.RLock(), os.getpid()

    def _locked(self) -> Any:
        if self._process != os.getpid():  # after a fork: a thread that was building in the parent does not exist here
            self._lock, self._process = threading.RLock(), os.getpid()
        return self._lock

    def column(self, side: int) -> Ids:
        ids = self.columns[side]
        if ids is None:
            with self._locked():
                ids = self.columns[side]
                if ids is None:
                    rows = self.adjacencies[side]
                    assert rows is not None and rows.ordered
                    ids = frozen(np.repeat(np.arange(rows.num_rows, dtype=rows.indptr.dtype), np.diff(rows.indptr)))
                    self.columns[side] = ids
        return ids

    def adjacency(self, side: int) -> Adjacency:
        rows = self.adjacencies[side]
        if rows is None:
            with self._locked():
                rows = self.adjacencies[side]
                if rows is None:
                    rows = self.adjacencies[side] = group(self.column(side), self.column(1 - side), self.counts[side])
        return rows


class Graph:
    """Directed graph with edges ``src[e] → dst[e]``; the edge ids are the positions e in the input.

    Shapes and dtypes: `src` and `dst` are [num_edges] of any integer dtype, in any memory layout; they are copied.

    Parameters
    ----------
    src, dst : source and destination node of each edge
    num_nodes : number of nodes, if sources and destinations are the same nodes; by default one more than the largest id
    num_src, num_dst : numbers of sources and of destinations, if those are two sets of nodes (a bipartite graph);
        one that is left out is one more than the largest id of its side

    Raises
    ------
    TypeError : ids that are not integers
    ValueError : arrays of different lengths or not of one axis, counts that contradict each other
    IndexError : an id outside its range; names the array, the position and the range

    Two graphs are equal only if they are the same object. Graphs can be pickled, and shared by threads.
    """

    __slots__ = ("__weakref__", "_edges", "_out")

    _edges: _Edges
    _out: int  # the column of _edges that holds this graph's sources

    def __init__(
        self,
        src: ArrayLike,
        dst: ArrayLike,
        num_nodes: int | None = None,
        *,
        num_src: int | None = None,
        num_dst: int | None = None,
    ) -> None:
        sources, destinations = _given_ids("Graph", "src", src), _given_ids("Graph", "dst", dst)
        if len(sources) != len(destinations):
            raise bad_value(
                "Graph",
                f"src has {len(sources)} entries and dst has {len(destinations)}",
                "edge e runs from src[e] to dst[e], so give as many of each",
            )
        if num_nodes is not None and (num_src is not None or num_dst is not None):
            raise bad_value(
                "Graph",
                f"num_nodes={num_nodes} was given beside num_src={num_src}, num_dst={num_dst}",
                "give num_nodes alone, or num_src and num_dst for a bipartite graph",
            )
        if num_src is None and num_dst is None:
            names = ("num_nodes", "num_nodes")
            if num_nodes is None:
                num_nodes = max(_one_past("Graph", "src", sources), _one_past("Graph", "dst", destinations))
            count_src = count_dst = _count("Graph", "num_nodes", num_nodes)
        else:
            names = ("num_src", "num_dst")
            count_src = _one_past("Graph", "src", sources) if num_src is None else _count("Graph", "num_src", num_src)
            count_dst = _one_past("Graph", "dst", destinations) if num_dst is None else _count("Graph", "num_dst", num_dst)
        dtype = _ids_dtype(count_src, count_dst, len(sources))
        columns: list[Ids | None] = [
            _checked("Graph", "src", sources, names[0], count_src, dtype),
            _checked("Graph", "dst", destinations, names[1], count_dst, dtype),
        ]
        self._edges, self._out = _Edges((count_src, count_dst), columns, [None, None]), SRC

    @classmethod
    def from_csr(cls, indptr: ArrayLike, indices: ArrayLike, *, num_dst: int) -> Graph:
        """Graph from its out-edges: row u is a source, ``indices[indptr[u]:indptr[u + 1]]`` its destinations.

        indptr: [num_src + 1], indices: [num_edges]. Edge ids are the positions in `indices`.
        """
        return cls._from_rows("Graph.from_csr", SRC, indptr, indices, "num_dst", num_dst)

    @classmethod
    def from_csc(cls, indptr: ArrayLike, indices: ArrayLike, *, num_src: int) -> Graph:
        """Graph from its in-edges: row v is a destination, ``indices[indptr[v]:indptr[v + 1]]`` its sources.

        indptr: [num_dst + 1], indices: [num_edges]. Edge ids are the positions in `indices`.
        """
        return cls._from_rows("Graph.from_csc", DST, indptr, indices, "num_src", num_src)

    @classmethod
    def _from_rows(cls, op: str, side: int, indptr: ArrayLike, indices: ArrayLike, count_name: str, count: int) -> Graph:
        others = _given_ids(op, "indices", indices)
        starts = _given_ids(op, "indptr", indptr).astype(np.int64)
        if len(starts) == 0:
            raise bad_value(op, "indptr is empty", "it has one entry more than there are rows; [0] for a graph without nodes")
        if starts[0] != 0:
            raise bad_value(op, f"indptr[0] is {starts[0]}", "it must be 0, the start of the first row")
        if starts[-1] != len(others):
            raise bad_value(
                op,
                f"indptr[{len(starts) - 1}], the last, is {starts[-1]} and indices has {len(others)} entries",
                "the last entry of indptr must be the number of edges",
            )
        descents = np.flatnonzero(starts[1:] < starts[:-1])
        if len(descents):
            i = int(descents[0])
            raise bad_value(op, f"indptr[{i + 1}] is {starts[i + 1]}, less than indptr[{i}], {starts[i]}", "row starts must not decrease")
        counts = [0, 0]
        counts[side], counts[1 - side] = len(starts) - 1, _count(op, count_name, count)
        dtype = _ids_dtype(*counts, len(others))
        columns: list[Ids | None] = [None, None]
        columns[1 - side] = ids = _checked(op, "indices", others, count_name, counts[1 - side], dtype)
        adjacencies: list[Adjacency | None] = [None, None]
        adjacencies[side] = Adjacency(frozen(starts.astype(dtype)), ids, ordered=True)
        return cls._sharing(_Edges((counts[SRC], counts[DST]), columns, adjacencies), SRC)

    @classmethod
    def _sharing(cls, edges: _Edges, out: int) -> Graph:
        graph = cls.__new__(cls)
        graph._edges, graph._out = edges, out
        return graph

    @property
    def num_src(self) -> int:
        """Number of source nodes."""
        return self._edges.counts[self._out]

    @property
    def num_dst(self) -> int:
        """Number of destination nodes."""
        return self._edges.counts[1 - self._out]

    @property
    def num_edges(self) -> int:
        """Number of edges, parallel ones counted each."""
        return self._edges.num_edges

    @property
    def num_nodes(self) -> int:
        """Number of nodes; a ValueError if there are two sets of them, of different sizes."""
        return self._square("num_nodes")

    def _square(self, name: str) -> int:
        if self.num_src != self.num_dst:
            raise bad_value(
                f"Graph.{name}",
                f"the graph is bipartite, with {self.num_src} sources and {self.num_dst} destinations",
                "this needs one set of nodes; see num_src and num_dst",
            )
        return self.num_src

    @property
    def src(self) -> Ids:
        """[num_edges] source of each edge, in the order of edge ids; read-only."""
        return self._edges.column(self._out)

    @property
    def dst(self) -> Ids:
        """[num_edges] destination of each edge, in the order of edge ids; read-only."""
        return self._edges.column(1 - self._out)

    @property
    def out_edges(self) -> Adjacency:
        """CSR: rows are sources, `indices` are destinations. Built on the first access."""
        return self._edges.adjacency(self._out)

    @property
    def in_edges(self) -> Adjacency:
        """CSC: rows are destinations, `indices` are sources. Built on the first access."""
        return self._edges.adjacency(1 - self._out)

    def reverse(self) -> Graph:
        """The graph with every edge turned round, edge ids kept: in-edges and out-edges swap, nothing is copied or built."""
        return self._sharing(self._edges, 1 - self._out)

    def in_degrees(self) -> NDArray[np.int64]:
        """[num_dst] number of in-edges of each destination."""
        return np.diff(self.in_edges.indptr).astype(np.int64)

    def out_degrees(self) -> NDArray[np.int64]:
        """[num_src] number of out-edges of each source."""
        return np.diff(self.out_edges.indptr).astype(np.int64)

    def __repr__(self) -> str:
        nodes = f"num_nodes={self.num_src}" if self.num_src == self.num_dst else f"num_src={self.num_src}, num_dst={self.num_dst}"
        return f"Graph({nodes}, num_edges={self.num_edges})"


def _given_ids(op: str, name: str, values: ArrayLike) -> NDArray[Any]:
    """`values` as an array of one axis with an integer dtype."""
    try:
        ids = np.asarray(values)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise bad_type(op, f"{name} cannot be read as an array of integers ({error})", f"give {name} as one array of node ids") from error
    if ids.ndim != 1:
        raise bad_value(op, f"{name} has shape {list(ids.shape)}", "ids have one axis, an entry for each edge or row")
    if ids.size == 0 and ids.dtype.kind == "f":  # np.asarray([]) is a float array
        return ids.astype(np.int64)
    if ids.dtype.kind not in "iu":
        fix = "for a mask use np.flatnonzero(mask)" if ids.dtype.kind == "b" else f"cast it, as in {name}.astype(np.int64)"
        raise bad_type(op, f"{name} is {ids.dtype}, ids must be integers", fix)
    return ids


def _count(op: str, name: str, value: object) -> int:
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise bad_type(op, f"{name} is {value!r}, of type {type(value).__name__}", "give a whole number")
    count = int(value.__index__())
    if not 0 <= count < 2**63 - 1:
        raise bad_value(op, f"{name} is {count}", "a number of nodes is between 0 and 2**63 - 2")
    return count


def _one_past(op: str, name: str, ids: NDArray[Any]) -> int:
    """One more than the largest id; at least 0, so that a negative id is found by the check that follows."""
    largest = int(ids.max()) if len(ids) else -1
    if largest >= 2**63 - 2:
        raise bad_index(op, f"{name}[{int(ids.argmax())}] is {largest}", "ids must be below 2**63 - 2")
    return max(largest + 1, 0)


def _ids_dtype(*counts: int) -> np.dtype[Any]:
    return np.dtype(np.int32 if max(counts) < INT32_LIMIT else np.int64)


def _checked(op: str, name: str, ids: NDArray[Any], count_name: str, count: int, dtype: np.dtype[Any]) -> Ids:
    """A read-only copy of `ids` in `dtype`, all of them within ``0 … count - 1``."""
    plain = ids if ids.dtype in (np.int32, np.int64) else ids.astype(np.int64)  # uint64 from 2**63 on turns negative, and is found
    plain = np.require(plain, requirements="CA").view()
    plain.flags.writeable = False  # one compiled version for read-only and writeable arrays
    copy = np.empty(len(ids), dtype)
    position = _copy_until_bad(plain, count, copy)
    if position < len(ids):
        given = f"{count_name} is {count}"
        fix = f"ids run from 0 to {count - 1}" if count else f"so there can be no edges; give a larger {count_name}"
        raise bad_index(op, f"{name}[{position}] is {ids[position]}, {given}", fix)
    return frozen(copy)


@njit()
def _copy_until_bad(ids, count, copy):
    """Copy ids, each read once so that nobody can change it in between; the position of the first outside 0 … count - 1, or len(ids)."""
    for i in range(len(ids)):
        value = np.int64(ids[i])
        if value < 0 or value >= count:
            return i
        copy[i] = value
    return len(ids)
