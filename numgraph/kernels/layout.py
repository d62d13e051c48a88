"""The code generator's records: what a kernel depends on, what it outputs, what its argument block holds, its values and scopes."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numgraph.expressions.expr import Expr, is_float
from numgraph.expressions.walk import Output

CACHE_LINE = 64
HALVES = ("float16", "bfloat16")
LITERALS = (0, 1, -1, 2, 0.5)


@dataclass(frozen=True)
class Layout:
    """What a kernel's source depends on besides its expressions. rows: "v" walks in-edges, "u" out-edges, "e" the edges in the order of
    their ids. width: lanes a tile (0: scalars).

    packed: the length D of the lane axis where several heads [heads, D] share a tile (0: one head a tile). A value per head is then a
    vector of width / D lanes, ``spread`` over its D features, and a sum over D folds groups of lanes. light: an edge takes so few
    instructions that the processor itself is dozens of edges ahead.
    """

    rows: str
    ids: str
    ordered: bool
    width: int
    masked: bool
    tiled: bool
    packed: int = 0
    light: bool = False


@dataclass(frozen=True)
class Target:
    """One output as the generator sees it: the value to reduce, the axes it is stored along, the axes it is summed over.

    accumulate: its array is added to, not written once. stored: storage of each of its arrays.
    """

    output: Output
    value: Expr
    kept: tuple[int, ...]
    summed: tuple[int, ...]
    accumulate: bool = False
    stored: tuple[str, ...] = ()


@dataclass
class Source:
    """A kernel's text and what its argument block holds, slot by slot: ("size", axis), ("field", key), ("out", i), ("ids", name), …"""

    text: str
    slots: list[tuple[Any, ...]]


@functools.cache
def compute_name(dtype: np.dtype[Any]) -> str:
    """The dtype that values are computed in: float16 in float32, integers in the signed one that holds all their values."""
    if is_float(dtype):
        return "float64" if dtype.itemsize == 8 else "float32"
    return "bool" if dtype.kind == "b" else "int64" if dtype.itemsize == 8 or dtype.name == "uint32" else "int32"


def memory_name(stored: str) -> str:
    """The dtype of memory that holds values of a dtype: bool is uint8, and the 16-bit floats the bits that lanes.widen and lanes.narrow
    convert. Everything else is itself."""
    return "uint16" if stored in HALVES else "uint8" if stored == "bool" else stored


@functools.cache
def memory_dtype(stored: str) -> np.dtype[Any]:
    return np.dtype(memory_name(stored))


@functools.cache
def memory_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which kernels see arrays of a dtype: a view of the same bits."""
    return memory_dtype(dtype.name)


@dataclass
class Value:
    """A name in the kernel; ``width`` lanes, 0 for a scalar."""

    name: str
    width: int
    level: int
    dtype: str


@dataclass
class Scope:
    """Where names are looked up: the kernel's loops, or a private loop of a reduction over features, which overrides some axes."""

    index: dict[int, str]
    lane: int | None
    column: str
    mask: str | None
    parent: Scope | None = None
    overridden: frozenset[int] = frozenset()
    partial: bool = False
    memo: dict[Any, Value] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    level: int = 0


def identity_of(op: str, dtype: str) -> Any:
    """What changes nothing in a sum or a maximum."""
    return 0 if op == "sum" or dtype == "bool" else (-np.inf if dtype.startswith("float") else np.iinfo(dtype).min)
