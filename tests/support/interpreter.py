"""Runs the text of kernels in Python: lanes are NumPy arrays, every access is checked against its array. Nothing is compiled."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from numgraph import Graph
from numgraph.expressions import elementary
from numgraph.kernels import cpu, planning


class Memory:
    """An array's rows of features; ``touched`` counts the accesses of all."""

    touched = 0

    def __init__(self, array: Any, shared: bool = False) -> None:
        self.rows = array.reshape(1, -1) if shared else array.reshape(len(array), -1)

    def place(self, row: int, column: int, lanes: int) -> Any:
        Memory.touched += 1
        rows, columns = self.rows.shape
        if lanes and not (0 <= row < rows and column >= 0 and column + lanes <= columns):
            raise IndexError(f"row {row} of {rows}, columns {column} to {column + lanes - 1} of {columns}")
        return self.rows[row, column : column + lanes]


class Arguments:
    """The argument block: words, and arrays where their addresses would stand."""

    def __init__(self, words: list[int], arrays: dict[int, Any]) -> None:
        self.words, self.arrays = words, arrays

    def __getitem__(self, slot: int) -> int:
        return self.words[slot]


def _load(width: int) -> Any:
    def load(memory: Memory, row: int, column: int) -> Any:
        found = memory.place(row, column, max(width, 1)).copy()
        return found if width else found[0]

    return load


def _on(mask: Any) -> int:
    count = int(mask.sum())
    assert mask[:count].all()
    return count


def _load_masked(width: int) -> Any:
    def load(memory: Memory, row: int, column: int, mask: Any) -> Any:
        made = np.zeros(width, memory.rows.dtype)
        made[: _on(mask)] = memory.place(row, column, _on(mask))
        return made

    return load


def _store(width: int) -> Any:
    def store(memory: Memory, row: int, column: int, value: Any) -> None:
        assert np.shape(value) == ((width,) if width else ())
        memory.place(row, column, max(width, 1))[:] = value

    return store


def _store_masked(width: int) -> Any:
    def store(memory: Memory, row: int, column: int, value: Any, mask: Any) -> None:
        assert value.shape == mask.shape == (width,)
        memory.place(row, column, _on(mask))[:] = value[: _on(mask)]

    return store


def _at(array: Any, position: int) -> Any:
    assert 0 <= position < len(array)
    return np.int64(array[position])


def _alike(function: Any) -> Any:
    """Values that meet have equally many lanes, as compiled ones must."""

    def checked(*values: Any) -> Any:
        shape = values[0].shape
        for value in values:
            assert value.shape == shape
        return function(*values)[()]

    return checked


MEMORY = SimpleNamespace(
    operand=lambda dtype: lambda args, slot: args.arrays[slot],
    ids=lambda dtype: lambda args, slot: args.arrays[slot],
    load=_load,
    load_masked=_load_masked,
    store=_store,
    store_masked=_store_masked,
    prefetch=lambda size: lambda memory, row, column: None,
)


def _fold(op: str, sizes: tuple[int, ...], over: tuple[int, ...], places: tuple[int, ...], parts: int) -> Any:
    def fold(*vectors: Any) -> Any:
        lanes = np.concatenate(vectors)[: np.prod(sizes)].reshape(sizes)
        made = {"add": np.sum, "multiply": np.prod, "maximum": np.max}[op](lanes, axis=over).astype(lanes.dtype).ravel()
        return made[list(places)] if places else made[0]

    return fold


def _gather(offsets: tuple[int, ...]) -> Any:
    def gather(memory: Memory, row: Any, column: int, mask: Any) -> Any:
        made = np.zeros(len(offsets), memory.rows.dtype)
        for lane in np.flatnonzero(mask):
            made[lane] = memory.place(row if np.ndim(row) == 0 else row[lane], column + offsets[lane], 1)[0]
        return made

    return gather


def _scatter(offsets: tuple[int, ...]) -> Any:
    def scatter(memory: Memory, row: Any, column: int, value: Any, mask: Any) -> None:
        for lane in np.flatnonzero(mask):
            memory.place(row if np.ndim(row) == 0 else row[lane], column + offsets[lane], 1)[0] = value[lane]

    return scatter


def _load_ids(width: int) -> Any:
    def load(array: Any, position: int, mask: Any) -> Any:
        made = np.zeros(width, np.int64)
        made[: _on(mask)] = [_at(array, position + lane) for lane in range(_on(mask))]
        return made

    return load


VECTORS = SimpleNamespace(
    take=lambda places, parts: lambda *vectors: np.concatenate(vectors)[list(places)],
    fold=_fold,
    gather=_gather,
    scatter=_scatter,
    load_ids=_load_ids,
    count_from=lambda width: lambda start: start + np.arange(width),
    prefetch_ids=lambda array, position: None,
)
LANES = SimpleNamespace(
    cast=lambda dtype: lambda x: np.asarray(x).astype(dtype)[()],
    constant=lambda dtype, value, width: lambda: np.full(width, value, dtype) if width else np.dtype(dtype).type(value),
    expand=lambda width: lambda x: np.full(width, x),
    spread=lambda times: lambda x: np.repeat(x, times),
    pattern=lambda times: lambda x: np.tile(x, times),
    first_lanes=lambda width: lambda count: np.arange(width) < count,
    fold_sum_groups=lambda size: lambda x: x.reshape(-1, size).sum(1),
    fold_max_groups=lambda size: lambda x: x.reshape(-1, size).max(1),
)
NAMES = {
    **{name: _alike(row.evaluate) for name, row in elementary.TABLE.items()},
    "fold_sum": lambda x: x.sum(),
    "fold_max": lambda x: x.max(),
    "any_lane": lambda x: bool(np.any(x)),
    "at": _at,
    "number": lambda args, slot: float(np.array(args[slot]).view(np.float64)),
    "lanes": LANES,
    "memory": MEMORY,
    "vectors": VECTORS,
    "njit": lambda signature: lambda function: function,
}


@functools.lru_cache(maxsize=256)
def body_of(text: str) -> Any:
    """The function in a kernel's text, with the primitives of this file."""
    lines = [line for line in text.splitlines() if not line.startswith(("from ", "import "))]
    names = dict(NAMES)
    exec("\n".join(lines), names)
    return names["body"]


def _launch(launch: Any, graph: Any, fields: Any, buffers: Any) -> None:
    kernel = launch.kernel
    walked: Any = graph if kernel.rows == "e" else graph.in_edges if kernel.rows == "v" else graph.out_edges
    arrays: dict[int, Any] = {}
    for offset, kind, what in kernel.arrays:
        if kind == "ids":
            arrays[offset] = getattr(walked, what)
        elif kind in ("field", "whole"):
            arrays[offset] = Memory(np.ascontiguousarray(fields[what]), shared=what[0] == "shared")
        else:
            arrays[offset] = Memory(buffers[kernel.targets[what[0]][0], what[1]])
    with np.errstate(all="ignore"):
        for start, stop in launch.parts.ranges:
            body_of(kernel.text)(Arguments(kernel.words, arrays), int(start), int(stop))


@contextlib.contextmanager
def interpreting() -> Iterator[None]:
    """Walks are interpreted. Their plans are not those of compiled walks."""
    make_plan = functools.lru_cache(maxsize=64)(planning.make_plan.__wrapped__)
    with (
        mock.patch.object(cpu, "make_plan", make_plan),
        mock.patch.object(Graph, "remembered", lambda self, key, make: make(self, key)),
        mock.patch.object(cpu, "_launch", _launch),
        mock.patch.object(planning.sources, "load", return_value=SimpleNamespace(body=None)),
        mock.patch.object(planning.shells, "address_of", return_value=0),
    ):
        yield
