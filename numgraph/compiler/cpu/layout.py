"""Fields of nodes laid out for gathering: rows that begin where cache lines do, in a copy, where enough edges
read each row.

NumPy's arrays begin 16 bytes into a line, so a row of 64 bytes lies in two, and every vector of a longer one
crosses from line to line."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from numgraph.arrays import recycling
from numgraph.arrays.recycling import LINE
from numgraph.runtime import threads

EDGES_A_LINE = 12
"""Edges a row, for each line of it, from which on the copy pays: copying a line costs as much as twelve edges
gain. With 150 edges a row sums of 8, 16, 33 and 64 features take 0.75, 0.65, 0.85 and 0.8 of the time, copy
and all, with 15 those of 16 features 0.8."""
PADDED, NARROW = 3, 8
"""As how many lines one counts in rows that get gaps, slow to copy, and fewer in the cache; and what a row of
less than one counts as.
"""
JOINED, EDGES_A_ROW, BEYOND = 4 * LINE, 12, 1 << 26
"""Bytes of the rows that may lie beside narrow ones, those of less than a line; edges a row and bytes of all
from which on that pays, as a node's rows in several arrays are in as many pages. Over 16 M edges of 1 M nodes
attention with 8 heads, of 16 and 64 features, forward and backward, takes 0.76 of the time, copies and all.
Where a cache holds the rows, gaps cost more: 1.1 times the time with 3 M edges of 20,000 nodes.
"""
_ALIGNED = 8
"""Every row's numbers lie at multiples of their size, of which this is the largest."""
_PIECE = 1 << 20
"""Bytes that a thread copies at a time."""
_WINDOWS, _WINDOW, _NEAR = 16, 256, 16
"""Entries of an index array that are looked at, and how many neighbouring rows count as one place."""


def scattered(adjacency: Any, name: str) -> bool:
    """Whether edges that follow each other find rows ("indices") or edges ("edge_ids") in no order: a
    processor loads of a grid's what comes next by itself, and asking for it made sums of two features take
    1.8 times as long, with a number an edge 1.9; in random order they took 0.8 and 0.5.
    """
    found: bool = adjacency.derived(("scattered", name), lambda given: _scattered(getattr(given, name)))
    return found


def _scattered(ids: Any) -> bool:
    """Whether more than a fourth of the entries that stand close together lead to places of their own."""
    starts = np.linspace(0, max(len(ids) - _WINDOW, 0), _WINDOWS).astype(np.int64)
    places = np.sort([ids[start : start + _WINDOW] // _NEAR for start in starts], axis=1)
    return bool(np.count_nonzero(np.diff(places, axis=1)) > places.size / 4)


def room_of(size: int) -> int:
    """Bytes for a row of so many: a part of a line, or whole lines; as many as it has where these would be
    half as many again.
    """
    room = 1 << (size - 1).bit_length() if size < LINE else -(-size // LINE) * LINE
    return room if size < LINE or 2 * room <= 3 * size else size


def enough_for(size: int) -> int:
    """Edges a row of so many bytes from which on the copy pays."""
    room = room_of(size)
    return EDGES_A_LINE * (NARROW if room < LINE else room // LINE * (PADDED if room > size else 1))


def gathered(arrays: list[Any], edges: int) -> list[Any]:
    """Fields of one end's nodes, which edges gather: beside each other where one of them is narrow, enough
    edges read each row and no cache holds them, else each by lines.
    """
    sizes = [array.nbytes // max(len(array), 1) for array in arrays]
    joined = [i for i, size in enumerate(sizes) if 0 < size <= JOINED and arrays[i].strides[0]]
    narrow = len(joined) > 1 and min([sizes[i] for i in joined]) < LINE
    if not narrow or edges < EDGES_A_ROW * len(arrays[0]) or sum([arrays[i].nbytes for i in joined]) < BEYOND:
        return [by_lines(array, edges) for array in arrays]
    made = dict(zip(joined, _beside([arrays[i] for i in joined]), strict=True))
    return [made[i] if i in made else by_lines(array, edges) for i, array in enumerate(arrays)]


def _beside(arrays: list[Any]) -> list[Any]:
    """Copies of fields whose rows of one node lie in one row of memory, the widest first."""
    rows = len(arrays[0])
    sizes = [array.nbytes // rows for array in arrays]
    starts, room = [0] * len(arrays), 0
    for i in sorted(range(len(arrays)), key=lambda i: -sizes[i]):
        unit = min(room_of(sizes[i]), LINE)
        starts[i] = -(-room // unit) * unit
        room = starts[i] + sizes[i]
    room = room_of(-(-room // _ALIGNED) * _ALIGNED)
    memory = recycling.empty((rows * room + LINE,), np.uint8)
    whole = memory[-memory.ctypes.data % LINE :][: rows * room].reshape(rows, room)
    made, step = [], max(_PIECE // room, 1)
    for start, size, array in zip(starts, sizes, arrays, strict=True):
        made.append(whole[:, start : start + size].view(array.dtype))
    threads.share(
        [
            functools.partial(np.copyto, new[i : i + step], array.reshape(rows, -1)[i : i + step])
            for i in range(0, rows, step)
            for new, array in zip(made, arrays, strict=True)
        ]
    )
    return made


def by_lines(array: Any, edges: int) -> Any:
    """A field's rows at multiples of the room that they take; the array itself where it is so, or where the
    copy would not pay.
    """
    rows = len(array)
    size = array.nbytes // max(rows, 1)
    room = room_of(size) if size else 0
    if room < 2 * array.itemsize or edges < enough_for(size) * rows:
        return array
    unit = min(room, LINE)
    if room % unit or (array.ctypes.data % unit == 0 and array.strides[0] % unit == 0):
        return array
    memory = recycling.empty((rows * room + LINE,), np.uint8)
    start = -memory.ctypes.data % LINE
    made = (
        memory[start : start + rows * room]
        .view(array.dtype)
        .reshape(rows, room // array.itemsize)[:, : size // array.itemsize]
    )
    given, step = array.reshape(rows, -1), max(_PIECE // room, 1)
    if rows <= 2 * step:
        made[...] = given
    else:
        threads.share(
            [
                functools.partial(np.copyto, made[i : i + step], given[i : i + step])
                for i in range(0, rows, step)
            ]
        )
    return made
