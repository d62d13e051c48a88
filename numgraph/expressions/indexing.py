"""Constant indices of feature axes: ``x[..., 0]``, ``x[1:3]``, ``x[:, [2, 0]]``, ``x[..., None]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numgraph import errors

Positions = range | tuple[int, ...]
"""Which entries of an axis, in which order."""


def arranged(positions: Sequence[int]) -> Positions:
    """Positions, as a range where they are equally far apart."""
    if isinstance(positions, range):
        return positions
    found = tuple(positions)
    if len(found) < 2:
        return range(found[0], found[0] + 1) if found else range(0)
    step = found[1] - found[0]
    if step and found == tuple(range(found[0], found[0] + step * len(found), step)):
        return range(found[0], found[0] + step * len(found), step)
    return found


def parsed(
    index: Any, shape: tuple[int, ...], what: str
) -> tuple[list[tuple[int, Positions]], tuple[int | None, ...]]:
    """The entries that an index takes of some axes, and which of the axes stay, in which order, None for new
    ones.
    """
    items = index if isinstance(index, tuple) else (index,)
    known = sum(1 for item in items if item is not None and item is not Ellipsis)
    if known > len(shape) or sum(1 for item in items if item is Ellipsis) > 1:
        raise _bad(what, shape, index, f"it has {len(shape)} feature axes")
    if Ellipsis not in [item for item in items if item is None or item is Ellipsis]:
        items = (*items, Ellipsis)
    taken: list[tuple[int, Positions]] = []
    axes: list[int | None] = []
    axis, lists = 0, 0
    for item in items:
        if item is None:
            axes.append(None)
        elif item is Ellipsis:
            axes += range(axis, axis + len(shape) - known)
            axis += len(shape) - known
        else:
            positions, stays = _positions(item, axis, shape, index, what)
            lists += not isinstance(item, slice | int | np.integer)
            if positions != range(shape[axis]):
                taken.append((axis, positions))
            axes += [axis] if stays else []
            axis += 1
    if lists > 1 or (lists and any(isinstance(item, int | np.integer) for item in items)):
        raise _bad(what, shape, index, "index one axis after the other where one of the indices is a list")
    return taken, tuple(axes)


def _positions(item: Any, axis: int, shape: tuple[int, ...], index: Any, what: str) -> tuple[Positions, bool]:
    """The entries of an axis, and whether the axis stays."""
    length = shape[axis]
    if isinstance(item, slice):
        return range(length)[item], True
    if isinstance(item, int | np.integer) and not isinstance(item, bool):
        return range(
            _checked(int(item), axis, length, what), _checked(int(item), axis, length, what) + 1
        ), False
    if isinstance(item, list | np.ndarray | range):
        numbers = np.asarray(item)
        if numbers.ndim == 1 and (numbers.dtype.kind in "iu" or not numbers.size):
            return arranged([_checked(int(number), axis, length, what) for number in numbers]), True
    raise _bad(
        what,
        shape,
        index,
        "indices are numbers, slices, lists of numbers, None and ...; of a table's rows, ng.take(table, ids)",
    )


def _checked(number: int, axis: int, length: int, what: str) -> int:
    if not -length <= number < length:
        raise errors.bad_index(
            "message",
            f"{number} is out of range for axis {axis} of {what}, which has {length} entries",
            "count from 0",
        )
    return number % length


def _bad(what: str, shape: tuple[int, ...], index: Any, fix: str) -> TypeError:
    return errors.bad_type("message", f"{what} {list(shape)} indexed by {errors.shown(index)}", fix)
