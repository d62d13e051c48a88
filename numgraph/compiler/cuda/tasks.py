"""What a group of threads does: a row, or a chunk of a long row. Long ones come first, and neighbours are
about equally long.

A chunk's result goes to a row of its own behind the rows of the output. How those become the long row's is a
walk too, over rows whose edges are chunks; where there are many chunks it has chunks itself. Tasks depend on
the graph alone, and so do the bits of results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

CHUNK = 128
"""Edges of a chunk: what one group of threads walks while others wait for it at the kernel's end. Rows of up
to twice as many are whole.
"""


@dataclass(frozen=True)
class Level:
    """One launch: tasks, four numbers each: row, begin, end, place.

    Above level 0 edge k is a chunk, whose result is at place ``first + k``; the row is the place. shares
    [num_edges]: the part that a chunk's edges have of those of its task, for means.
    """

    tasks: Any
    first: int = 0
    shares: Any = None
    _cast: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def count(self) -> int:
        """The tasks."""
        return len(self.tasks) // 4

    @property
    def num_edges(self) -> int:
        """The chunks that it combines."""
        return 0 if self.shares is None else len(self.shares)

    def on(self, move: Callable[[Any], Any]) -> Level:
        """The same with arrays elsewhere."""
        return Level(move(self.tasks), self.first, None if self.shares is None else move(self.shares))

    def shares_as(self, dtype: Any) -> Any:
        """The shares in the dtype of what is averaged."""
        if dtype not in self._cast:
            self._cast[dtype] = self.shares.astype(dtype)
        return self._cast[dtype]


def levels_of(indptr: Any, chunk: int = 0) -> tuple[list[Level], int]:
    """The launches that a walk over rows takes, and the rows that its outputs need. chunk: edges of a chunk;
    0: CHUNK.
    """
    indptr, chunk = np.asarray(indptr), chunk or CHUNK
    begins, ends = indptr[:-1].astype(np.int64), indptr[1:].astype(np.int64)
    row = place = np.arange(len(begins))
    first, free = 0, len(begins)
    weights: Any = None  # of a level's edges: how many edges of the graph each stands for
    levels: list[Level] = []
    while True:
        lengths = ends - begins
        cut = lengths > 2 * chunk
        counts = np.where(cut, -(-lengths // chunk), 0)
        chunks = int(counts.sum())
        owner = np.repeat(np.arange(len(begins)), counts)
        after = np.cumsum(counts)
        starts = begins[owner] + (np.arange(chunks) - (after - counts)[owner]) * chunk
        stops = np.minimum(starts + chunk, ends[owner])
        places = free + np.arange(chunks)
        whole = np.stack([row, begins, ends, place], axis=1)[~cut]
        tasks = np.concatenate([whole, np.stack([row[owner], starts, stops, places], axis=1)])
        levels.append(_level(tasks, first, weights, indptr.dtype))
        if not chunks:
            return levels, free
        weights = stops - starts if weights is None else _sums(weights, starts, stops)
        begins, ends, place = (after - counts)[cut], after[cut], place[cut]
        row, first, free = place, free, free + chunks


def _sums(weights: Any, starts: Any, stops: Any) -> Any:
    reached = np.concatenate([[0], np.cumsum(weights)])
    return reached[stops] - reached[starts]


def _level(tasks: Any, first: int, weights: Any, dtype: Any) -> Level:
    """The launch of some tasks, those of about equal length beside each other, the longest first."""
    shares = None
    if weights is not None:
        order = tasks[np.argsort(tasks[:, 1])]
        shares = weights / np.repeat(_sums(weights, order[:, 1], order[:, 2]), order[:, 2] - order[:, 1])
        tasks[:, 0] = tasks[:, 3]
    size = np.ceil(np.log2(np.maximum(tasks[:, 2] - tasks[:, 1], 1))).astype(np.int8)
    return Level(
        np.ascontiguousarray(tasks[np.argsort(-size, kind="stable")], dtype).reshape(-1), first, shares
    )
