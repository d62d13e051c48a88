"""Segments: consecutive rows that belong together, as offsets say; reduced, normalised, or multiplied by a
matrix each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, overload

import numpy as np

from numgraph import errors
from numgraph.arrays import foreign
from numgraph.arrays.devices import device_of, moved, same_device
from numgraph.arrays.traced import MODULES, TRACED, is_traced
from numgraph.arrays.typed import Array, F, Plain
from numgraph.autodiff.tape import record, unwrap
from numgraph.autodiff.tensor import Tensor
from numgraph.autodiff.typed import of_two
from numgraph.expressions.reduces import NAMES
from numgraph.graph import Graph
from numgraph.graph.sorting import checked_ids, given_ids, group, ids_dtype
from numgraph.message import update_all
from numgraph.ops.operands import as_array, checked_offsets, host_offsets, of_library
from numgraph.ops.sddmm import softmax_over


def _traced(ids: Any, function: Callable[..., Any], *args: Any) -> Any:
    """The call as torch.compile has it: a node, or between its parts where ids are arrays, whose numbers it
    does not know.
    """
    if isinstance(ids, list | tuple | range):
        return TRACED["torch"](function, args, {})
    return TRACED["torch, between its parts"](function, *args)


@overload
def segment_reduce(offsets: Any, x: Tensor, reduce: str = ...) -> Tensor: ...
@overload
def segment_reduce(offsets: Any, x: Plain, reduce: str = ...) -> Array: ...
@overload
def segment_reduce(offsets: Any, x: F, reduce: str = ...) -> F: ...
def segment_reduce(offsets: Any, x: Any, reduce: str = "sum") -> Any:
    """z_s = ⊕ x_i over the rows i of segment s, offsets[s] ≤ i < offsets[s + 1].

    Parameters
    ----------
    offsets : integers [segments + 1], from 0 to N
    x : array or Tensor [N, …]
    reduce : ⊕, "sum" or another one of update_all

    Returns
    -------
    [segments, …]; empty segments give 0, and 1 for prod

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.ops.segment_reduce([0, 1, 1, 3], np.array([5.0, 2.0, 4.0]), "mean")
    array([5., 0., 3.])
    """
    if "torch" in MODULES and is_traced():
        return _traced(offsets, segment_reduce, offsets, x, reduce)
    errors.check_name("segment_reduce", "reduce", reduce, NAMES)
    g, x = _segments("segment_reduce", offsets, x)
    return update_all(g, lambda e: e.x, reduce, e={"x": x})


@overload
def segment_softmax(offsets: Any, x: Tensor) -> Tensor: ...
@overload
def segment_softmax(offsets: Any, x: Plain) -> Array: ...
@overload
def segment_softmax(offsets: Any, x: F) -> F: ...
def segment_softmax(offsets: Any, x: Any) -> Any:
    """exp(x_i) / Σ exp(x_k) over the rows k of i's segment, each feature for itself.

    Parameters
    ----------
    offsets : integers [segments + 1], from 0 to N
    x : array or Tensor [N, …]; what is not finite is treated as in edge_softmax

    Returns
    -------
    [N, …]

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.ops.segment_softmax([0, 1, 3], np.log([5.0, 1.0, 3.0])).round(2).tolist()
    [1.0, 0.25, 0.75]
    """
    if "torch" in MODULES and is_traced():
        return _traced(offsets, segment_softmax, offsets, x)
    g, x = _segments("segment_softmax", offsets, x)
    return softmax_over(g, x, "dst")


def _segments(op: str, offsets: Any, x: Any) -> tuple[Graph, Any]:
    """Segments as destinations whose in-edges are the rows: x is edge data in in-edge order, read without a
    permutation.
    """
    x = as_array(op, "x", x)
    if len(x.shape) == 0:
        raise errors.bad_value(op, "x has shape []", "give rows, [N, …]")
    rows = x.shape[0]
    starts = checked_offsets(op, offsets, rows)
    return Graph.from_csc(starts, np.zeros(rows, np.int32), num_src=1).to(device_of(unwrap(x))), x


@of_two
def segment_mm(a: Any, b: Any, offsets: Any) -> Any:
    """y_i = a_i @ b_r for the rows i of segment r: one matrix product a segment.

    Parameters
    ----------
    a : array or Tensor [N, in]
    b : array or Tensor [R, in, out]
    offsets : integers [R + 1] from 0 to N, or, as in DGL, the R segments' lengths, which sum to N

    Returns
    -------
    [N, out]

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> x, w = np.array([[1.0], [2.0], [3.0]]), np.array([[[1.0]], [[10.0]]])
    >>> ng.ops.segment_mm(x, w, [1, 2]).ravel().tolist()
    [1.0, 20.0, 30.0]
    """
    if "torch" in MODULES and is_traced():
        return _traced(offsets, segment_mm, a, b, offsets)
    a, b = _matrices("segment_mm", a, b)
    given = host_offsets("segment_mm", offsets)
    if given.shape == (b.shape[0],) and given.dtype.kind in "iu" and (not len(given) or given.min() >= 0):
        given = np.concatenate([[0], np.cumsum(given.astype(np.int64))])
    elif given.shape != (b.shape[0] + 1,):
        problem = f"offsets has shape {list(given.shape)}, b has shape {list(b.shape)}"
        raise errors.bad_value(
            "segment_mm", problem, f"give offsets [{b.shape[0] + 1}], a segment for each matrix of b"
        )
    return _segment_mm(a, b, checked_offsets("segment_mm", given, a.shape[0]).tolist())


@of_two
def gather_mm(a: Any, b: Any, idx_b: Any) -> Any:
    """y_i = a_i @ b[idx_b[i]]: each row has its own matrix. The rows are sorted by matrix (stably), so no [N,
    in, out] is made.

    Parameters
    ----------
    a : array or Tensor [N, in]
    b : array or Tensor [R, in, out]
    idx_b : integers [N], 0 ≤ id < R

    Returns
    -------
    [N, out]

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> x, w = np.array([[1.0], [2.0], [3.0]]), np.array([[[1.0]], [[10.0]]])
    >>> ng.ops.gather_mm(x, w, [1, 0, 1]).ravel().tolist()
    [10.0, 2.0, 30.0]
    """
    if "torch" in MODULES and is_traced():
        return _traced(idx_b, gather_mm, a, b, idx_b)
    a, b = _matrices("gather_mm", a, b)
    rows, relations = a.shape[0], b.shape[0]
    given = given_ids("gather_mm", "idx_b", idx_b)
    if len(given) != rows:
        raise errors.bad_value(
            "gather_mm",
            f"idx_b has {len(given)} entries, a has shape {list(a.shape)}",
            "give one matrix number a row of a",
        )
    ids = checked_ids(
        "gather_mm", "idx_b", given, "the number of matrices", relations, ids_dtype(rows, relations)
    )
    sorted_rows = group(ids, ids, relations)
    offsets = sorted_rows.indptr.tolist()
    if sorted_rows.ordered:
        return _segment_mm(a, b, offsets)
    order = sorted_rows.edge_ids
    back = np.empty_like(order)
    back[order] = np.arange(rows, dtype=order.dtype)
    library = foreign((a,))
    if library is not None:
        return library.take(_segment_mm(library.take(a, order), b, offsets), back)
    order, back = (moved(ids, device_of(unwrap(a))) for ids in (order, back))
    return _permuted(_segment_mm(_permuted(a, order, back), b, offsets), back, order)


def _matrices(op: str, a: Any, b: Any) -> tuple[Any, Any]:
    a, b = as_array(op, "a", a), as_array(op, "b", b)
    if len(a.shape) != 2 or len(b.shape) != 3 or a.shape[1] != b.shape[1]:
        raise errors.bad_value(
            op, f"a has shape {list(a.shape)} and b {list(b.shape)}", "they must be [N, in] and [R, in, out]"
        )
    same_device(op, a=unwrap(a), b=unwrap(b))
    return a, b


def _segment_mm(a: Any, b: Any, offsets: Sequence[int]) -> Any:
    """Row products; with ``_segment_outer`` it is closed under differentiation: each one's gradients are the
    two of them again.
    """
    library = foreign((a, b))
    if library is not None:
        a, b = (of_library("segment_mm", name, library, x) for name, x in (("a", a), ("b", b)))
        parts = [a[start:end] @ b[r] for r, (start, end) in enumerate(pairwise(offsets))]
        return library.concatenated(parts or [a @ library.sum(b, (0,))])
    rows, matrices = unwrap(a), unwrap(b)
    y = np.empty_like(
        rows, shape=(rows.shape[0], matrices.shape[2]), dtype=np.result_type(rows.dtype, matrices.dtype)
    )
    for r in range(matrices.shape[0]):
        if offsets[r] < offsets[r + 1]:
            y[offsets[r] : offsets[r + 1]] = rows[offsets[r] : offsets[r + 1]] @ matrices[r]

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any, Any]:
        into_a = _segment_mm(g, np.swapaxes(xs[1], 1, 2), offsets) if needs[0] else None
        return into_a, _segment_outer(xs[0], g, offsets) if needs[1] else None

    return record("segment_mm", (a, b), y, vjp)


def _segment_outer(a: Any, g: Any, offsets: Sequence[int]) -> Any:
    """w_r = Σ a_iᵀ g_i over the rows of segment r: [R, in, out] of [N, in] and [N, out]."""
    left, right = unwrap(a), unwrap(g)
    shape = (len(offsets) - 1, left.shape[1], right.shape[1])
    w = np.zeros_like(left, shape=shape, dtype=np.result_type(left.dtype, right.dtype))
    for r in range(shape[0]):
        if offsets[r] < offsets[r + 1]:
            w[r] = left[offsets[r] : offsets[r + 1]].T @ right[offsets[r] : offsets[r + 1]]

    def vjp(h: Any, xs: Any, w: Any, needs: Any) -> tuple[Any, Any]:
        into_a = _segment_mm(xs[1], np.swapaxes(h, 1, 2), offsets) if needs[0] else None
        return into_a, _segment_mm(xs[0], h, offsets) if needs[1] else None

    return record("segment_outer", (a, g), w, vjp)


def _permuted(x: Any, order: Any, back: Any) -> Any:
    """x[order], where `back` is the inverse permutation: the gradient is gathered, not scattered."""
    return record("permute", (x,), unwrap(x)[order], lambda g, xs, y, needs: (_permuted(g, back, order),))
