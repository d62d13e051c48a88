"""Rules that move values: reshape, transpose, join, split, index, gather and scatter. Each one's derivative
is its opposite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from numgraph.arrays.devices import computed, device_of, moved, namespace_of, same_device
from numgraph.arrays.inputs import as_array, given
from numgraph.autodiff.rules import rule
from numgraph.autodiff.sums import unbroadcast
from numgraph.autodiff.tape import record, unwrap
from numgraph.autodiff.tensor import is_float
from numgraph.autodiff.typed import of_array
from numgraph.errors import bad_index, bad_type, bad_value
from numgraph.expressions.precision import widened
from numgraph.graph.sorting import node_count


@rule(np.reshape)
def reshape(x: Any, /, shape: Any, order: str = "C", **options: Any) -> Any:
    if order != "C" or options.get("copy") is not None:
        raise bad_type(
            "reshape", "order= and copy= are not possible where an argument is a Tensor", "leave them out"
        )
    return record(
        "reshape", (x,), np.reshape(unwrap(x), shape), lambda g, xs, y, needs: (np.reshape(g, xs[0].shape),)
    )


@rule(np.ravel)
def ravel(x: Any, order: str = "C") -> Any:
    return reshape(x, -1, order)


@rule(np.expand_dims)
def expand_dims(x: Any, axis: Any) -> Any:
    return reshape(x, np.expand_dims(unwrap(x), axis).shape)


@rule(np.squeeze)
def squeeze(x: Any, axis: Any = None) -> Any:
    return reshape(x, np.squeeze(unwrap(x), axis).shape)


@rule(np.transpose, np.permute_dims)
def transpose(x: Any, axes: Any = None) -> Any:
    back = None if axes is None else tuple(int(i) for i in np.argsort([a % x.ndim for a in axes]))
    return record(
        "transpose", (x,), np.transpose(unwrap(x), axes), lambda g, xs, y, needs: (np.transpose(g, back),)
    )


@rule(np.swapaxes)
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    return record(
        "swapaxes",
        (x,),
        np.swapaxes(unwrap(x), axis1, axis2),
        lambda g, xs, y, needs: (np.swapaxes(g, axis1, axis2),),
    )


@rule(np.matrix_transpose)
def matrix_transpose(x: Any, /) -> Any:
    return swapaxes(x, -1, -2)


@rule(np.moveaxis)
def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    return record(
        "moveaxis",
        (x,),
        np.moveaxis(unwrap(x), source, destination),
        lambda g, *_: (np.moveaxis(g, destination, source),),
    )


@rule(np.flip)
def flip(x: Any, axis: Any = None) -> Any:
    return record("flip", (x,), np.flip(unwrap(x), axis), lambda g, *_: (np.flip(g, axis),))


@rule(np.broadcast_to)
def broadcast_to(x: Any, shape: Any) -> Any:
    return record(
        "broadcast_to",
        (x,),
        np.broadcast_to(unwrap(x), shape),
        lambda g, xs, y, needs: (unbroadcast(g, xs[0].shape),),
    )


@rule("astype")
def astype(x: Any, dtype: Any, **options: Any) -> Any:
    """x in another dtype; its gradient comes back in x's. Integers and booleans are plain arrays."""
    dtype = np.dtype(dtype)
    if dtype == x.dtype:
        return x
    return record(
        "astype",
        (x,),
        unwrap(x).astype(dtype),
        lambda g, xs, y, needs: (g.astype(xs[0].dtype),) if is_float(dtype) else (None,),
    )


if hasattr(np, "astype"):  # NumPy 2.1 and later
    rule(np.astype)(astype)


@rule(np.copy)
def copy(x: Any, order: Any = "K", subok: bool = False) -> Any:
    return record("copy", (x,), np.copy(unwrap(x), order), lambda g, *_: (g,))


def _pieces(g: Any, sizes: Sequence[int], axis: int) -> list[Any]:
    """g cut along ``axis`` into consecutive pieces of these sizes."""
    before = (slice(None),) * (axis % g.ndim)
    ends = np.cumsum(sizes).tolist()
    return [g[(*before, slice(end - size, end))] for size, end in zip(sizes, ends)]


@rule(np.concatenate, np.concat)
def concatenate(arrays: Sequence[Any], /, axis: int | None = 0, **options: Any) -> Any:
    if options:
        raise bad_type(
            "concatenate",
            f"{next(iter(options))}= is not possible where an argument is a Tensor",
            "leave it out",
        )
    if axis is None:
        arrays, axis = [np.ravel(x) for x in arrays], 0
    y = computed("concatenate", lambda *pieces: np.concatenate(pieces, axis), *map(unwrap, arrays))

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> list[Any]:
        pieces = _pieces(g, [x.shape[axis] for x in xs], axis)
        return [piece if need else None for piece, need in zip(pieces, needs)]

    return record("concatenate", arrays, y, vjp)


@rule(np.stack)
def stack(arrays: Sequence[Any], axis: int = 0, **options: Any) -> Any:
    return concatenate([np.expand_dims(x, axis) for x in arrays], axis=axis, **options)


@rule(np.hstack)
def hstack(arrays: Sequence[Any]) -> Any:
    arrays = [x if np.ndim(x) else np.reshape(x, (1,)) for x in arrays]
    return concatenate(arrays, axis=0 if np.ndim(arrays[0]) == 1 else 1)


@rule(np.vstack)
def vstack(arrays: Sequence[Any]) -> Any:
    return concatenate([x if np.ndim(x) > 1 else np.reshape(x, (1, -1)) for x in arrays], axis=0)


@rule(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    parts = tuple(np.array_split(unwrap(ary), indices_or_sections, axis))

    def vjp(grads: Any, xs: Any, ys: Any, needs: Any) -> tuple[Any]:
        return (np.concatenate([np.zeros_like(y) if g is None else g for g, y in zip(grads, ys)], axis),)

    return list(record("split", (ary,), parts, vjp))


@rule(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    if isinstance(indices_or_sections, int) and ary.shape[axis] % max(indices_or_sections, 1):
        problem = f"axis {axis} of shape {ary.shape} has no {indices_or_sections} equal parts"
        raise bad_value("split", problem, "give the indices at which to cut, or take np.array_split")
    found: list[Any] = array_split(ary, indices_or_sections, axis)
    return found


@rule("getitem")
def getitem(x: Any, index: Any) -> Any:
    """x[index] for every index that NumPy knows; repeated ids add up in the gradient."""
    data = unwrap(x)
    parts = tuple(
        [
            as_ids(part, data) if isinstance(part, list) else unwrap(part)
            for part in (index if isinstance(index, tuple) else (index,))
        ]
    )
    index = parts if isinstance(index, tuple) else parts[0]
    if namespace_of(data, *parts) is not np:
        same_device("getitem", x=data, **{f"index {number}": part for number, part in enumerate(parts)})
    return record(
        "getitem", (x,), data[index], lambda g, xs, y, needs: (scattered(g, index, xs[0].shape),), held=parts
    )


def scattered(g: Any, index: Any, shape: tuple[int, ...], distinct: bool = False) -> Any:
    """Zeros of ``shape`` with g added at ``index``: the transpose of getitem, whose transpose is getitem.

    distinct: no element is named twice.
    """
    y = _add_at(unwrap(g), index, shape, distinct)
    held = index if isinstance(index, tuple) else (index,)
    return record("scatter_add", (g,), y, lambda back, *_: (back[index],), held=held)


def _add_at(g: Any, index: Any, shape: tuple[int, ...], distinct: bool = False) -> Any:
    """Added up in float32 at least; signed integers have the bits of unsigned ones."""
    library, dtype = namespace_of(g), g.dtype
    parts = index if isinstance(index, tuple) else (index,)
    if distinct or all(
        p is None or p is Ellipsis or isinstance(p, int | slice) or getattr(p, "dtype", None) == np.bool_
        for p in parts
    ):
        y = library.zeros(shape, dtype)
        y[index] = g
        return y
    g = widened(g) if is_float(dtype) else g
    kind = getattr(getattr(index, "dtype", None), "kind", "")
    if (
        kind in "iu"
        and kind
        and index.ndim
        and isinstance(g, np.ndarray)
        and (len(shape) > 1 or is_float(dtype))
    ):
        y = _add_rows(g.reshape(index.size, math.prod(shape[1:])), index.reshape(-1), shape)
    else:
        many = isinstance(g, np.ndarray) and g.dtype == np.float32 and g.size > MANY
        y = library.zeros(shape, np.float64 if many else g.dtype)
        library.add.at(y if y.dtype.kind != "i" else y.view(f"u{y.itemsize}"), index, g)
    return y.astype(dtype, copy=False)


MANY = 1024
"""Numbers in one sum from which on float32 is added in float64."""


def _add_rows(g: Any, ids: Any, shape: tuple[int, ...]) -> Any:
    """y[ids[k]] += g[k] in the order of k, as a product with SciPy's CSC matrix of ones: 10 times faster than
    np.add.at on rows.
    """
    num = ids.size
    ids = ids.astype(np.intp, copy=False)
    ids = np.where(ids < 0, ids + shape[0], ids)
    if (ids[1:] > ids[:-1]).all():  # no row is named twice
        y = np.zeros((shape[0], g.shape[1]), g.dtype)
        y[ids] = g
        return y.reshape(shape)
    if len(shape) == 1:
        return np.bincount(ids, g[:, 0], shape[0]).astype(g.dtype, copy=False)
    from scipy.sparse import csc_array

    many = num > MANY and g.dtype == np.float32 and np.bincount(ids).max() > MANY
    rows = csc_array(
        (np.ones(num, np.float64 if many else g.dtype), ids, np.arange(num + 1)), shape=(shape[0], num)
    )
    return (rows @ g).astype(g.dtype, copy=False).reshape(shape)


@rule(np.take)
def take(x: Any, indices: Any, axis: int | None = None, out: Any = None, mode: str = "raise") -> Any:
    if out is not None or mode != "raise":
        raise bad_type(
            "take", "out= and mode= are not possible where an argument is a Tensor", "leave them out"
        )
    if axis is None:
        return np.ravel(x)[as_ids(indices, x)]
    along = normalize_axis_index(axis, x.ndim)
    return x[(slice(None),) * along + (as_ids(indices, x),)] if along else x[as_ids(indices, x)]


@rule(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    if axis is None:
        return np.ravel(arr)[indices]
    axis = normalize_axis_index(axis, arr.ndim)
    arange = namespace_of(unwrap(arr)).arange
    grids = [
        arange(n).reshape([-1 if i == k else 1 for k in range(arr.ndim)]) for i, n in enumerate(arr.shape)
    ]
    return arr[tuple([indices if i == axis else grid for i, grid in enumerate(grids)])]


@rule(np.repeat)
def repeat(a: Any, repeats: Any, axis: int | None = None) -> Any:
    a, axis = (np.ravel(a), 0) if axis is None else (a, axis)
    return np.take(a, moved(np.repeat(np.arange(a.shape[axis]), repeats), device_of(unwrap(a))), axis=axis)


@of_array
def gather(x: Any, ids: Any) -> Any:
    """Rows of x by number: y[k] = x[ids[k]]. Its derivative is ``scatter_add``.

    Parameters
    ----------
    x : array or Tensor [rows, …]
    ids : integers [n], 0 ≤ id < rows

    Returns
    -------
    [n, …]

    Raises
    ------
    IndexError
        where an id is no row

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.gather(np.array([5.0, 6.0]), [1, 1, 0]).tolist()
    [6.0, 6.0, 5.0]
    """
    x = given("gather", "x", x)
    if x.ndim == 0:
        raise bad_value("gather", "x has shape []", "give rows, [rows, …]")
    ids = _check_ids("gather", ids, x.shape[0], x)
    return getitem(x, ids)


@of_array
def scatter_add(values: Any, ids: Any, num_rows: int) -> Any:
    """Sums of rows by number: y[i] = Σ values[k] over the k with ids[k] = i, added in the order of k; 0 where
    there is none. Its derivative is ``gather``.

    Parameters
    ----------
    values : array or Tensor [n, …]
    ids : integers [n], 0 ≤ id < num_rows
    num_rows : how many sums

    Returns
    -------
    [num_rows, …]

    Raises
    ------
    IndexError
        where an id is no row

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.scatter_add(np.array([1.0, 2.0, 3.0]), [1, 1, 0], 3).tolist()
    [3.0, 3.0, 0.0]
    """
    values, num_rows = given("scatter_add", "values", values), node_count("scatter_add", "num_rows", num_rows)
    ids = _check_ids("scatter_add", ids, num_rows, values)
    same_device("scatter_add", values=unwrap(values), ids=ids)
    if ids.shape != values.shape[:1]:
        raise bad_value(
            "scatter_add",
            f"ids have shape {ids.shape}, values {values.shape}",
            "one id for each row of values",
        )
    return scattered(values, ids, (num_rows, *values.shape[1:]))


def as_ids(ids: Any, like: Any, op: str = "getitem", name: str = "ids") -> Any:
    """Arrays as they are; a list, a number or a table as an array where ``like`` is, an empty list as one of
    ids.
    """
    ids = unwrap(ids)
    if type(ids) is np.ndarray:
        return ids
    array = as_array(op, name, ids)
    if hasattr(ids, "dtype"):
        return array
    return moved(array if array.size else array.astype(np.intp), device_of(unwrap(like)))


def has_outside(ids: Any, num: int) -> bool:
    """Whether an id is below 0 or not below num. As unsigned integers negative ones have the highest bit, and
    so are larger than all others: it is one pass.
    """
    if (unsigned := _UNSIGNED.get(ids.dtype)) is not None:
        ids, num = ids.view(unsigned), min(num, 1 << 8 * ids.itemsize - 1)
    return bool(ids.size and ids.max() >= num)


_UNSIGNED = {
    np.dtype(f"{order}i{size}"): np.dtype(f"{order}u{size}") for order in "<>" for size in (1, 2, 4, 8)
}


def _check_ids(op: str, ids: Any, num_rows: int, like: Any) -> Any:
    ids = as_ids(ids, like, op)
    if ids.dtype.kind not in "iu":
        raise bad_type(op, f"ids have dtype {ids.dtype}", "row ids are integers")
    if ids.ndim != 1:
        raise bad_value(op, f"ids have shape {ids.shape}", "row ids are one-dimensional")
    if has_outside(ids, num_rows):
        k = int(np.argmax((ids < 0) | (ids >= num_rows)))
        raise bad_index(
            op, f"ids[{k}] is {ids[k]}, there are {num_rows} rows", f"ids run from 0 to {num_rows - 1}"
        )
    return ids


for _name in ("atleast_1d", "atleast_2d"):
    _dims = int(_name[-2])
    rule(getattr(np, _name))(
        partial(
            lambda x, dims: x if x.ndim >= dims else np.reshape(x, (1,) * (dims - x.ndim) + x.shape),
            dims=_dims,
        )
    )
