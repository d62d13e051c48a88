"""Sums over axes, to the accuracy of their dtype however many numbers there are.

NumPy adds pairwise along the last axis, and row after row along the others: a million equal numbers of
float32 come out 1 % off. Here rows are added in float64, in blocks that depend on the shape alone, so the
bits do not depend on the number of threads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from numgraph.autodiff.tape import Tensor, record
from numgraph.expressions.precision import is_half
from numgraph.runtime import threads
from numgraph.runtime.compiling import njit

FEW = 64
"""Rows up to which NumPy's order is as good: an error of 32 roundings at most."""
WIDTH = 64
"""Numbers that are added side by side at least, so that the additions of one do not wait for each other."""
BLOCK = 16384
"""Numbers of a block at least."""

_COMPUTED = (np.dtype(np.float32), np.dtype(np.float64))
_added: Any = np.add.reduce  # of an array in half of np.sum's time


def _fill(x, partial, block):
    """partial[o, b] = Σ of the rows of block b of x[o], where a row is as long as partial's last axis, and
    the last one may be shorter.

    Four rows are added in x's dtype first: of equal numbers exactly, and with a fourth of the traffic.
    """
    blocks, width = partial.shape[1:]
    for p in prange(partial.shape[0] * blocks):
        o, b = p // blocks, p % blocks
        total, part = partial[o, b], x[o, b * block : min(x.shape[1], (b + 1) * block)]
        total[:] = 0
        start = 0
        while start + 4 * width <= len(part):
            first, second = part[start : start + width], part[start + width : start + 2 * width]
            third, fourth = (
                part[start + 2 * width : start + 3 * width],
                part[start + 3 * width : start + 4 * width],
            )
            for i in range(width):
                total[i] += (first[i] + second[i]) + (third[i] + fourth[i])
            start += 4 * width
        while start < len(part):
            row = part[start : start + width]
            for i in range(len(row)):
                total[i] += row[i]
            start += width


_serial, _parallel = njit()(_fill), njit(parallel=True)(_fill)


def _over_rows(x: Any, outer: int, inner: int) -> Any:
    """Σ over the rows of [outer, rows, inner], in float64: [outer, inner]."""
    x = x.reshape(outer, -1)
    side = max(1, WIDTH // inner)  # rows side by side
    width = side * inner
    block = width * max(256, BLOCK // width)
    partial = np.empty((outer, -(-x.shape[1] // block), width))
    threads.run(_parallel, _serial, x, partial, block, work=x.size // 8)
    return partial.reshape(outer, -1, inner).sum(1)


def accumulated(x: Any, axis: Any = None) -> Any:
    """Σ x over ``axis`` (an int, a tuple or None), its axes kept with length 1, before it is rounded to x's
    dtype: float16 and bfloat16 are added in float32 at least, float32 in float64 where NumPy would not add
    pairwise."""
    axes = (
        tuple(range(x.ndim))
        if axis is None
        else tuple([a % x.ndim for a in (axis if isinstance(axis, tuple | list) else (axis,))])
    )
    if type(x) is np.ndarray and x.size and not x.flags.c_contiguous:
        repeats = [a for a in axes if x.strides[a] == 0 and x.shape[a] > 1]  # a broadcast: n equal numbers
        if repeats:
            once = x[tuple([slice(0, 1) if a in repeats else slice(None) for a in range(x.ndim)])]
            return accumulated(once, axes) * np.float64(math.prod([x.shape[a] for a in repeats]))
    if is_half(x.dtype):
        x = x.astype(np.float32)
    if type(x) is not np.ndarray or x.dtype not in _COMPUTED or not x.size:
        return np.sum(x, axis=axes, keepdims=True)
    if x.flags.c_contiguous:
        return _contiguous(x, axes)
    order = sorted(range(x.ndim), key=lambda a: -x.strides[a])
    turned = np.transpose(x, order)
    if turned.flags.c_contiguous:
        back = sorted(range(x.ndim), key=order.__getitem__)
        return np.transpose(_contiguous(turned, tuple([back[a] for a in axes])), back)
    return np.sum(x, axis=axes, keepdims=True, dtype=np.float64)


def _contiguous(x: Any, axes: tuple[int, ...]) -> Any:
    """Axes that lie together at once, the last ones first."""
    left = sorted(axes)
    while left:
        last = left.pop()
        first = last
        while left and left[-1] == first - 1:
            first = left.pop()
        rows, inner = math.prod(x.shape[first : last + 1]), math.prod(x.shape[last + 1 :])
        if inner == 1 or rows <= FEW:
            x = np.add.reduce(x, axis=tuple(range(first, last + 1)), keepdims=True)
        else:
            outer = x.shape[:first]
            x = _over_rows(x, math.prod(outer), inner).reshape(
                outer + (1,) * (last + 1 - first) + x.shape[last + 1 :]
            )
    return x


def total(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """np.sum of an array, in x's dtype where that is floating, else in NumPy's."""
    if axis is None and type(x) is np.ndarray and x.dtype in _COMPUTED and x.flags.c_contiguous:
        return _added(x, axis=None, keepdims=keepdims)
    if x.dtype.kind in "biu":
        return np.sum(x, axis=axis, keepdims=keepdims)
    return rounded(accumulated(x, axis), x.dtype, axis, keepdims)


def rounded(y: Any, dtype: Any, axis: Any, keepdims: bool) -> Any:
    """What ``accumulated`` gave, in its dtype, without the axes of length 1 unless they are kept."""
    if y.dtype != dtype:
        with np.errstate(over="ignore"):
            y = y.astype(dtype)
    y = y if keepdims else y.squeeze(axis)
    return y if y.ndim else y[()]


def broadcast(x: Any, shape: tuple[int, ...]) -> Any:
    """np.broadcast_to, to a shape that fits; of a scalar and of an array without gaps in a third of its
    time.
    """
    if type(x) is np.ndarray and x.dtype in _COMPUTED and x.flags.c_contiguous:
        strides = [0 if n == 1 else stride for n, stride in zip(x.shape, x.strides)]
        y = np.ndarray(shape, x.dtype, x, 0, [0] * (len(shape) - x.ndim) + strides)
        y.flags.writeable = False
        return y
    return np.broadcast_to(x, shape)


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum ``g`` over the axes along which an array of ``shape`` was broadcast."""
    if g.shape == shape:
        return g
    if not isinstance(g, Tensor):
        return _summed(g, shape)
    return record(
        "sum", (g,), _summed(g.data, shape), lambda back, xs, y, needs: (broadcast(back, xs[0].shape),)
    )


def _summed(g: Any, shape: tuple[int, ...]) -> Any:
    extra = g.ndim - len(shape)
    axes = (*range(extra), *[extra + i for i, n in enumerate(shape) if n == 1 and g.shape[extra + i] != 1])
    plain = type(g) is np.ndarray and g.dtype in _COMPUTED
    if plain and math.prod([g.shape[a] for a in axes]) <= FEW:
        return _added(g, axis=axes).reshape(shape)
    if plain and g.flags.c_contiguous and axes and axes[-1] == len(axes) - 1:
        inner = math.prod(g.shape[len(axes) :])
        if inner > 1 and g.size > FEW * inner:  # rows, as a bias is added to
            return _over_rows(g, 1, inner).reshape(shape).astype(g.dtype)
    return rounded(accumulated(g, axes), g.dtype, axes, True).reshape(shape)
