"""Rules of functions that put elements elsewhere: diagonals, triangles, padding, tiles, rotations, deletion
and insertion.

Most of them are told what NumPy's function does to the elements' numbers: that is the index by which the
gradient goes back, so that each is one line, and its derivatives of every order are gather and scatter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from numgraph.arrays.devices import namespace_of
from numgraph.autodiff.rules import rule
from numgraph.autodiff.tape import record, unwrap
from numgraph.dense.shapes import scattered
from numgraph.errors import bad_type


def moved_by(name: str, x: Any, value: Any, move: Callable[[Any], Any]) -> Any:
    """``value``, made of x's elements, on the tape. move: the same function of an array; an element that is
    filled in, where there are any, is the 0 among the numbers 1, 2, … of the others."""

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
        shape = xs[0].shape
        size = math.prod(shape)
        numbers = namespace_of(unwrap(g)).arange(1, size + 1).reshape(shape)
        back = scattered(np.reshape(g, (-1,)), move(numbers).reshape(-1), (size + 1,))
        return (np.reshape(back[1:], shape),)

    return record(name, (x,), value, vjp)


def _mover(function: Any) -> Callable[..., Any]:
    def call(x: Any, *args: Any, **options: Any) -> Any:
        args, options = tuple(map(unwrap, args)), {name: unwrap(value) for name, value in options.items()}

        def move(array: Any) -> Any:
            return function(array, *args, **options)

        return moved_by(function.__name__, x, move(unwrap(x)), move)

    return call


for _function in (
    np.diag,
    np.diagflat,
    np.diagonal,
    np.linalg.diagonal,
    np.tril,
    np.triu,
    np.delete,
    np.resize,
    np.rot90,
    np.tile,
):
    rule(_function)(_mover(_function))

_PADS = ("constant", "edge", "reflect", "symmetric", "wrap")


@rule(np.pad)
def pad(array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Any:
    if mode not in _PADS or options.get("reflect_type", "even") != "even":
        raise bad_type(
            "pad",
            f"the mode {mode!r} computes new values, and an argument is a Tensor",
            f"modes are {', '.join(_PADS)}",
        )
    value = np.pad(unwrap(array), pad_width, mode, **options)
    return moved_by("pad", array, value, lambda numbers: np.pad(numbers, pad_width, mode))


@rule(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    return record(
        "roll", (a,), np.roll(unwrap(a), shift, axis), lambda g, *_: (np.roll(g, np.negative(shift), axis),)
    )


@rule(np.fliplr)
def fliplr(m: Any) -> Any:
    return np.flip(m, 1)


@rule(np.flipud)
def flipud(m: Any) -> Any:
    return np.flip(m, 0)


@rule(np.rollaxis)
def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    numbers = np.rollaxis(np.empty(tuple(range(1, a.ndim + 1))), axis, start).shape
    return np.transpose(a, [n - 1 for n in numbers])


@rule(np.atleast_3d)
def atleast_3d(*arrays: Any) -> Any:
    found = tuple([np.reshape(x, np.atleast_3d(unwrap(x)).shape) for x in arrays])
    return found[0] if len(found) == 1 else found


@rule(np.trace)
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Any:
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


@rule(np.linalg.trace)
def matrix_trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    return trace(x, offset, -2, -1, dtype)


@rule(np.compress)
def compress(condition: Any, a: Any, axis: int | None = None) -> Any:
    return np.take(a, np.flatnonzero(unwrap(condition)), axis=axis)


@rule(np.extract)
def extract(condition: Any, arr: Any) -> Any:
    return np.take(arr, np.flatnonzero(unwrap(condition)))


@rule(np.trim_zeros)
def trim_zeros(filt: Any, trim: str = "fb", axis: Any = None) -> Any:
    axes = range(filt.ndim) if axis is None else normalize_axis_tuple(axis, filt.ndim)
    places = np.argwhere(unwrap(filt) != 0)
    cut = [slice(None)] * filt.ndim
    for a in axes:
        first, last = (int(places[:, a].min()), int(places[:, a].max()) + 1) if len(places) else (0, 0)
        cut[a] = slice(
            first if "f" in trim.lower() or not last else 0, last if "b" in trim.lower() or not last else None
        )
    return filt[tuple(cut)]


@rule(np.insert)
def insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Any:
    obj = unwrap(obj)
    shape, size = np.shape(values), math.prod(np.shape(arr))
    numbers = np.arange(size).reshape(np.shape(arr))
    index = np.insert(numbers, obj, size + np.arange(math.prod(shape)).reshape(shape), axis)
    dtype = unwrap(arr).dtype
    both = np.concatenate(
        [
            np.ravel(arr),
            np.ravel(values).astype(dtype)
            if hasattr(values, "dtype")
            else np.ravel(np.asarray(values, dtype)),
        ]
    )
    return both[index]


@rule(np.append)
def append(arr: Any, values: Any, axis: int | None = None) -> Any:
    return (
        np.concatenate([arr, values], axis)
        if axis is not None
        else np.concatenate([np.ravel(arr), np.ravel(values)])
    )


# --- several arrays -----------------------------------------------------------------------------------------


@rule(np.column_stack)
def column_stack(tup: Sequence[Any]) -> Any:
    return np.concatenate([np.reshape(x, (-1, 1)) if np.ndim(x) < 2 else x for x in tup], 1)


@rule(np.dstack)
def dstack(tup: Sequence[Any]) -> Any:
    return np.concatenate([np.reshape(x, np.atleast_3d(unwrap(x)).shape) for x in tup], 2)


@rule(np.unstack)
def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    return tuple(np.moveaxis(x, axis, 0))


@rule(np.hsplit)
def hsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    return np.split(ary, indices_or_sections, 1 if np.ndim(ary) > 1 else 0)


@rule(np.vsplit)
def vsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    return np.split(ary, indices_or_sections, 0)


@rule(np.dsplit)
def dsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    return np.split(ary, indices_or_sections, 2)


@rule(np.broadcast_arrays)
def broadcast_arrays(*args: Any, subok: bool = False) -> tuple[Any, ...]:
    shape = np.broadcast_shapes(*map(np.shape, args))
    return tuple([np.broadcast_to(x, shape) for x in args])


@rule(np.meshgrid)
def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Any, ...]:
    ndim = len(xi)
    turned = indexing == "xy" and ndim > 1
    axes = [1, 0, *range(2, ndim)] if turned else range(ndim)
    grids = [np.reshape(x, [-1 if i == axis else 1 for i in range(ndim)]) for x, axis in zip(xi, axes)]
    return tuple(grids) if sparse else broadcast_arrays(*grids)


@rule(np.block)
def block(arrays: Any) -> Any:
    depth, ndim = 0, 0
    first, level = arrays, [arrays]
    while isinstance(first, list):
        depth, first = depth + 1, first[0]
    while level:
        ndim = max([ndim, *[np.ndim(x) for x in level if not isinstance(x, list)]])
        level = [x for item in level if isinstance(item, list) for x in item]
    ndim = max(ndim, depth)

    def join(item: Any, axis: int) -> Any:
        if isinstance(item, list):
            return np.concatenate([join(part, axis + 1) for part in item], axis)
        return np.reshape(item, (1,) * (ndim - np.ndim(item)) + np.shape(item))

    return join(arrays, -depth)


# --- choices ------------------------------------------------------------------------------------------------


@rule(np.select)
def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    y = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        y = np.where(condition, choice, y)
    return y


@rule(np.choose)
def choose(a: Any, choices: Any, mode: Any = "raise") -> Any:
    ids, count = unwrap(a), len(choices)
    shape = np.choose(ids, [unwrap(x) for x in choices], mode=mode).shape  # or NumPy's error
    ids = np.clip(ids, 0, count - 1) if mode == "clip" else np.remainder(ids, count)
    ids = np.broadcast_to(ids, shape)
    stacked = np.stack([np.broadcast_to(x, shape) for x in choices])
    return np.take_along_axis(stacked, ids[None], axis=0)[0]


@rule(np.piecewise)
def piecewise(x: Any, condlist: Any, funclist: Sequence[Any], *args: Any, **options: Any) -> Any:
    """Each function sees the elements that are its own: what it does to others is in neither the value nor
    the derivative.
    """
    conditions = unwrap(condlist)
    nested = (
        isinstance(conditions, list | tuple)
        and len(conditions) > 0
        and (isinstance(conditions[0], list) or np.ndim(conditions[0]) > 0)
    )
    conditions = [
        np.asarray(unwrap(c), bool)
        for c in (conditions if nested or (np.ndim(conditions) > np.ndim(x)) else [conditions])
    ]
    if len(funclist) == len(conditions) + 1:
        conditions.append(~np.logical_or.reduce(conditions))
    shape, dtype = np.shape(x), unwrap(x).dtype
    y: Any = np.zeros(shape, dtype)
    for i, (condition, function) in enumerate(zip(conditions, funclist, strict=True)):
        own = condition & ~np.logical_or.reduce([np.zeros(shape, bool), *conditions[i + 1 :]])
        if callable(function):
            part = function(x[own], *args, **options)
        else:
            part = function
        y = y + scattered(np.broadcast_to(part, (int(own.sum()),)).astype(dtype), own, shape)
    return y
