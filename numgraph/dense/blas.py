"""Matrix products: in pieces, each on one thread of NumPy's BLAS, and as many at once as there are threads.

OpenBLAS would take all threads by itself, but its idle ones spin for a while after a product, on the cores
that the next kernel needs: beside them an attention of 21 ms took 50, an epoch of a GAT 460 ms and not 290.
Where another program holds a core, each of its products also waits for the scheduler: 4 ms, where one thread
takes 0.05. Pieces depend on the shapes alone, and so do the result's bits."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from numgraph.arrays import recycling
from numgraph.expressions.precision import is_half
from numgraph.runtime import spans
from numgraph.runtime.threads import share

PIECE = 32e6
"""Floating-point operations of a piece: about 0.3 ms, a few times what it costs to start a thread."""
PIECES = 64
"""Of a product, at most."""
ALONE = 4096
"""Products of two numbers below which OpenBLAS takes one thread by itself, in every routine: 9,216 are its
least number for two.
"""
SHORTEST = 96
"""Rows or columns of a piece at least: every piece copies the other operand into cache order once."""

STRETCH = 1024
"""Numbers of the inner axis that a product with a vector adds in float32 ..."""
LONG = 16 * STRETCH
"""... where the axis is at least so long."""

_gate = threading.Lock()


def product(a: Any, b: Any) -> Any:
    """np.matmul of matrices and stacks of them; of float16 and bfloat16 in float32."""
    if spans.OPEN:
        return spans.timed(
            lambda: "matrix product",
            lambda y: a.nbytes + b.nbytes + y.nbytes,
            functools.partial(_product, a, b),
        )
    return _product(a, b)


def _product(a: Any, b: Any) -> Any:
    if not type(a) is type(b) is np.ndarray:
        return a @ b
    if not a.ndim == b.ndim == 2 or a.dtype != b.dtype or a.dtype.char not in "fd":
        return _general(a, b)
    if 0 in a.strides or 0 in b.strides:  # BLAS takes no broadcast, and NumPy's own loop is slow
        a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    threads = None if a.size * b.shape[1] < ALONE else _threads()
    if threads is None:
        return a @ b
    if _gate.locked():  # another thread's product has set the number and will restore it
        return _in_pieces(a, b)
    get, put = threads
    with _gate:
        before = get()
        try:
            put(1)
            return _in_pieces(a, b)
        finally:
            put(before)


def _general(a: Any, b: Any) -> Any:
    """Of arrays that are no two matrices in one of BLAS's dtypes."""
    if is_half(a.dtype) and a.dtype == b.dtype:
        with np.errstate(over="ignore"):
            return _product(a.astype(np.float32), b.astype(np.float32)).astype(a.dtype)
    if a.dtype == np.float32 and 1 in (a.ndim, b.ndim) and a.ndim + b.ndim < 4 and len(b) >= LONG:
        made = _product(
            a if a.ndim == 2 else a[None], b if b.ndim == 2 else b[:, None]
        )  # vectors as matrices
        return made.reshape(a.shape[:-1] + b.shape[1:])[()]
    return a @ b


def _in_pieces(a: Any, b: Any) -> Any:
    """Rows, columns or, where it is by far the longest, the inner axis in pieces; those of the inner axis are
    added up in their order.
    """
    (rows, inner), columns = a.shape, b.shape[1]
    count = min(PIECES, math.ceil(2.0 * rows * inner * columns / PIECE))
    along = inner // (
        4 * max(rows, columns, 1)
    )  # pieces of it at most, so that partial sums take less memory than the operands
    if min(rows, columns) == 1 and inner >= LONG and inner == b.shape[0] and a.dtype == np.float32:
        return _in_stretches(a, b, count)
    out = recycling.empty((rows, columns), a.dtype)
    if count <= 1 or inner != b.shape[0]:
        return np.matmul(a, b, out=out)
    if along > 1:
        cuts = _cuts(inner, min(count, along))
        partial = np.empty((len(cuts), rows, columns), a.dtype)
        share(
            [functools.partial(np.matmul, a[:, i:j], b[i:j], out=partial[p]) for p, (i, j) in enumerate(cuts)]
        )
        return np.sum(partial, axis=0, dtype=np.float64).astype(a.dtype)
    cuts = _cuts(max(rows, columns), max(1, min(count, max(rows, columns) // SHORTEST)))
    if rows >= columns:
        share([functools.partial(np.matmul, a[i:j], b, out=out[i:j]) for i, j in cuts])
    else:
        share([functools.partial(np.matmul, a, b[:, i:j], out=out[:, i:j]) for i, j in cuts])
    return out


def _in_stretches(a: Any, b: Any, count: int) -> Any:
    """A product with a vector along a long inner axis, of which BLAS adds one row after the other: a million
    came out 1 % off.
    """
    (rows, inner), columns = a.shape, b.shape[1]
    whole = inner // STRETCH
    stop = whole * STRETCH
    left = np.swapaxes(a[:, :stop].reshape(rows, whole, STRETCH), 0, 1)
    right = b[:stop].reshape(whole, STRETCH, columns)
    partial = np.empty((whole, rows, columns), a.dtype)
    share(
        [
            functools.partial(np.matmul, left[i:j], right[i:j], out=partial[i:j])
            for i, j in _cuts(whole, max(1, min(count, whole)))
        ]
    )
    return (np.sum(partial, axis=0, dtype=np.float64) + a[:, stop:] @ b[stop:]).astype(a.dtype)


def _cuts(length: int, count: int) -> list[tuple[int, int]]:
    bounds = [length * i // count for i in range(count + 1)]
    return list(itertools.pairwise(bounds))


def limit_threads(count: int) -> None:
    """The number of threads that NumPy's BLAS takes for what is no ``product``; nothing where it is another
    than OpenBLAS.
    """
    threads = _threads()
    if threads is not None:
        threads[1](count)


@functools.cache
def _threads() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """The functions that get and set the number of threads of the OpenBLAS that comes with NumPy's wheels;
    None where it is another.
    """
    for path in Path(np.__file__).parent.parent.glob("numpy.libs/*openblas*"):
        library = ctypes.CDLL(str(path))
        get, put = (
            getattr(library, f"scipy_openblas_{name}_num_threads64_", None) for name in ("get", "set")
        )
        if get is not None and put is not None:
            return get, put
    return None
