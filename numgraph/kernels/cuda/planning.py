"""Planning for CUDA: how the lanes of a kernel lie in threads, and the kernel's text. Nothing here needs a device."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from numgraph.kernels.axes import Axes
from numgraph.kernels.codegen import expression_size
from numgraph.kernels.cuda.generating import CudaGenerator, Shape
from numgraph.kernels.layout import Layout, Target, compute_name
from numgraph.kernels.planning import block_of, by_edge_ids, head_of, loops_of, settled
from numgraph.kernels.verify import verify

WARP = 32
LARGEST_LOAD = 16
"""Bytes that a thread loads at once."""


@dataclass
class Kernel:
    """A kernel's text with the layout of its arguments, as planning.Kernel's.

    shape: its tiles. aligned: slots of arrays that are read by whole vectors. per_edge: an edge is a task, not a row.
    """

    rows: str
    text: str
    slots: list[tuple[Any, ...]]
    offsets: list[int]
    words: int
    sizes: dict[int, int]
    targets: list[tuple[int, Target]]
    shape: Shape
    aligned: set[int]
    per_edge: bool


def build(group: list[tuple[int, Target]], axes: Axes, rows: str, ids: str, ordered: bool, wide: bool, atomic: bool = False) -> Kernel:
    """One CUDA kernel for some outputs of a walk (see planning.make_plan). atomic: chunks of long rows add to sums and means of floats."""
    targets = [target for _, target in group]
    per_edge = all(target.output.reduce == "edge" for target in targets)
    if per_edge and (ordered or by_edge_ids(targets, rows)):
        rows, ordered = "e", True
    loops = loops_of(targets)
    lane, head, length, width, shape = tile_of(targets, axes, loops)
    packed = axes.size[lane] if lane is not None and head is not None else 0
    tiled, masked = length > width, length % max(width, 1) != 0
    outer = [axis for axis in sorted(loops) if axis not in (lane, head)]
    final = settled(group, {*outer, *([lane] if tiled and not packed else [])}, ids, wide)
    if atomic:
        final = [(number, replace(target, atomic=_addable(target))) for number, target in final]
    layout = Layout(rows, ids, ordered, width, masked, tiled, packed)
    generator = CudaGenerator(axes, layout, [target for _, target in final], outer, lane, head, shape)
    source = generator.generate()
    offsets, words = block_of(source.slots)
    verify(source.text, source.slots, offsets, axes.size, targets, rows)
    return Kernel(rows, source.text, source.slots, offsets, words, axes.size, final, shape, generator.aligned, per_edge)


build_atomic = functools.partial(build, atomic=True)
"""For walks within devices.atomics()."""


def _addable(target: Target) -> bool:
    """Whether parts of a row's result can be added to it in memory. 16-bit floats are float32 there until all is added."""
    return target.output.reduce in ("sum", "mean") and target.stored[0] in ("float32", "float64")


def tile_of(targets: Sequence[Target], axes: Axes, loops: set[int]) -> tuple[int | None, int | None, int, int, Shape]:
    """The axis in lanes, the head axis packed with it, their length together, the lanes a tile, and how they lie in threads.

    A thread's vector is as long as one load can be and divides every axis that runs in lanes, so that no vector is cut by an end of a row.
    """
    roots = [expression for target in targets for expression in target.output.expressions]
    item = max(4, *[np.dtype(compute_name(root.dtype)).itemsize for root in roots])
    folded = {axis for reduced in axes.reduced.values() for axis in reduced} & axes.lanes
    lane = next(iter(loops & axes.lanes), None)
    if lane is None and len(folded) == 1:
        (lane,) = folded
    vector = LARGEST_LOAD // item
    while any(axes.size[axis] % vector for axis in ({lane} if lane is not None else set()) | folded):
        vector //= 2
    size = expression_size(targets, axes, lane)
    head = head_of(targets, axes, loops, lane, WARP * vector)
    length = 0 if lane is None else axes.size[lane] * (1 if head is None else axes.size[head])
    longest = max([length, *[axes.size[axis] for axis in folded]])
    unroll = 4 if size <= 6 else 2 if size <= 24 else 1
    if longest == 0:
        return None, None, 0, 0, Shape(1, 1, 1, unroll)
    threads = min(WARP, _power(longest / vector))
    most = max((8 if size <= 16 else 4) // vector, 1)
    vectors = 1 if head is not None else min(most, _power(longest / (threads * vector)))
    width = threads * vector * vectors
    if lane not in loops and head is None and length > width:
        lane, length = None, 0
    return lane, head, length, width, Shape(threads, vector, vectors, unroll)


def _power(number: float) -> int:
    """The smallest power of two that is not below a number."""
    power = 1
    while power < number:
        power *= 2
    return power
