"""Messages whose feature axes are joined of parts, or of which some entries are taken, as messages without
either.

    np.concatenate([u.x, v.y]) * e.w    is    u.x * e.w[:3]    beside    v.y * e.w[3:]
    np.exp(u.x * v.y)[..., 0]           is    np.exp(u.x[..., 0] * v.y[..., 0])

An entry of an elementwise function is the function of entries, so indices move down to the fields, of which
they take views; and a joined axis is cut where its parts meet, a sum over it into sums over the parts. A
result with cuts is several results, joined at the end. So kernels, derivatives and targets know of neither.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgraph.expressions import elementary, expr
from numgraph.expressions.expr import Expr
from numgraph.expressions.indexing import Positions, arranged
from numgraph.expressions.traversal import topological

Key = tuple[str, str]
Box = tuple[Positions, ...]
"""The entries of each axis of a node."""
Cuts = tuple[frozenset[int], ...]
"""Where the axes of a node are cut."""


@dataclass(frozen=True)
class View:
    """A field that is entries of another one. index: of its feature axes, slices and tuples of numbers. ids:
    of a table, which field says which row: of a node, for edges' rows are further ends, by which kernels read
    the table."""

    key: Key
    base: Key
    index: tuple[Any, ...]
    ids: Key | None = None


@dataclass(frozen=True)
class Pieces:
    """What several expressions, that broadcast against each other, consist of.

    parts: the expressions of each piece, the last axis running fastest; counts: into how many pieces each
    axis of the result is cut. views: the fields that are entries of others. ends: the targets of tables that
    edges read by row, the field of ids and the number of rows of each.
    """

    parts: tuple[tuple[Expr, ...], ...]
    counts: tuple[int, ...]
    views: tuple[View, ...]
    ends: tuple[tuple[str, Key, int], ...] = ()

    def joined(self, made: Sequence[Any], library: Any) -> Any:
        """The whole of results [rows, …] of the pieces."""
        arrays = list(made)
        for axis, count in reversed(list(enumerate(self.counts))):
            if count > 1:
                arrays = [
                    library.concatenated(arrays[i : i + count], axis + 1)
                    for i in range(0, len(arrays), count)
                ]
        return arrays[0]


@functools.lru_cache(maxsize=1024)
def pieces_of(roots: tuple[Expr, ...], by_ends: bool = True) -> Pieces:
    """The pieces of expressions. by_ends: whether the rows of tables that edges read are further ends, and
    not a field of edges.
    """
    if all(node.op not in ("join", "part", "take") for node in topological(roots)):
        return Pieces((roots,), (), ())
    splitter = _Splitter(by_ends)
    shape = np.broadcast_shapes(*[root.shape for root in roots])
    cuts = _together([splitter.cuts(root) for root in roots], [root.shape for root in roots], shape)
    intervals = [list(_intervals(length, cut)) for length, cut in zip(shape, cuts, strict=True)]
    parts = [
        tuple([splitter.at(root, _aligned(root.shape, box)) for root in roots])
        for box in itertools.product(*intervals)
    ]
    return Pieces(
        tuple(parts),
        tuple(map(len, intervals)),
        tuple(splitter.views.values()),
        tuple(splitter.ends.values()),
    )


def _intervals(length: int, cuts: frozenset[int]) -> Iterator[range]:
    bounds = [0, *sorted(cuts), length]
    return itertools.starmap(range, itertools.pairwise(bounds))


def _aligned(shape: tuple[int, ...], box: Box) -> Box:
    """The entries of an operand that broadcasts against others."""
    own = box[len(box) - len(shape) :]
    return tuple(
        [range(1) if length == 1 else positions for length, positions in zip(shape, own, strict=True)]
    )


def _together(cuts: Sequence[Cuts], shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> Cuts:
    """The cuts of what operands make together."""
    found: list[set[int]] = [set() for _ in shape]
    for own, one in zip(cuts, shapes, strict=True):
        for axis, (cut, length) in enumerate(zip(own, one, strict=True)):
            if length != 1:
                found[axis + len(shape) - len(one)] |= cut
    return tuple(map(frozenset, found))


class _Splitter:
    """cuts(node): where its axes are cut. at(node, box): its entries in a box that no cut goes through,
    without "join" and "part".
    """

    def __init__(self, by_ends: bool) -> None:
        self.by_ends = by_ends
        self.views: dict[Key, View] = {}
        self.ends: dict[str, tuple[str, Key, int]] = {}
        self._cuts: dict[int, Cuts] = {}
        self._at: dict[tuple[int, Box], Expr] = {}

    def cuts(self, node: Expr) -> Cuts:
        for one in topological((node,)):
            if id(one) not in self._cuts:
                self._cuts[id(one)] = self._cut(one, [self._cuts[id(arg)] for arg in one.args])
        return self._cuts[id(node)]

    def _cut(self, node: Expr, args: list[Cuts]) -> Cuts:
        if node.op == "take":
            return (frozenset(),) * node.ndim
        if node.op == "axes":
            return tuple([frozenset() if axis is None else args[0][axis] for axis in node.attrs])
        if node.op in ("sum", "max"):
            return tuple([frozenset() if axis in node.attrs else cut for axis, cut in enumerate(args[0])])
        if node.op == "join":
            (axis,) = node.attrs
            found = list(_together(args, [arg.shape for arg in node.args], node.shape))
            start, own = 0, set()
            for arg, cut in zip(node.args, args, strict=True):
                own |= {start, *[start + place for place in cut[axis]]}
                start += arg.shape[axis]
            found[axis] = frozenset(own - {0, start})
            return tuple(found)
        if node.op == "part":
            axis, positions = node.attrs
            place = np.searchsorted(sorted(args[0][axis]), list(positions), side="right")
            moved = frozenset((np.flatnonzero(np.diff(place)) + 1).tolist())
            return tuple([moved if i == axis else cut for i, cut in enumerate(args[0])])
        return _together(args, [arg.shape for arg in node.args], node.shape)

    def at(self, node: Expr, box: Box) -> Expr:
        key = id(node), box
        if key not in self._at:
            self._at[key] = self._entries(node, box)
        return self._at[key]

    def _entries(self, node: Expr, box: Box) -> Expr:
        shape = tuple(map(len, box))
        if node.op in ("field", "constant", "edge_id"):
            return node if box == tuple(map(range, node.shape)) else self._view(node, box)
        if node.op == "take":
            return self._view(node.args[0], box, node.args[1].attrs)
        if node.op == "join":
            (axis,) = node.attrs
            start = 0
            for arg in node.args:
                if all(start <= position < start + arg.shape[axis] for position in box[axis]) and (
                    len(box[axis]) or not arg.shape[axis]
                ):
                    own = arranged([position - start for position in box[axis]])
                    return self.at(arg, _aligned(arg.shape, (*box[:axis], own, *box[axis + 1 :])))
                start += arg.shape[axis]
            raise AssertionError("a cut goes through a box")
        if node.op == "part":
            axis, positions = node.attrs
            own = arranged([positions[place] for place in box[axis]])
            return self.at(node.args[0], (*box[:axis], own, *box[axis + 1 :]))
        if node.op == "axes":
            (arg,) = node.args
            inner = [
                box[node.attrs.index(axis)] if axis in node.attrs else range(1) for axis in range(arg.ndim)
            ]
            return expr.view_axes(self.at(arg, tuple(inner)), node.attrs)
        if node.op in ("sum", "max"):
            return self._reduced(node, box)
        args = tuple([self.at(arg, _aligned(arg.shape, box)) for arg in node.args])
        if node.op == "broadcast":
            return expr.broadcast_to(args[0], shape)
        return expr.node(node.op, args, node.attrs, shape, node.dtype)

    def _reduced(self, node: Expr, box: Box) -> Expr:
        """Over the pieces of the axes, one after the other."""
        (arg,) = node.args
        cuts = self.cuts(arg)
        ways = [
            list(_intervals(arg.shape[axis], cuts[axis])) if axis in node.attrs else [box[axis]]
            for axis in range(arg.ndim)
        ]
        found = [
            expr.reduce_axes(node.op, self.at(arg, piece), node.attrs, True)
            for piece in itertools.product(*ways)
        ]
        join = elementary.TABLE["add" if node.op == "sum" else "maximum"]
        return functools.reduce(lambda a, b: expr.apply(join, (a, b)), found)

    def _view(self, leaf: Expr, box: Box, ids: Key | None = None) -> Expr:
        """The field of a leaf's entries; ids: which field says in which row of a table they are."""
        index: list[Any] = []
        said = []
        for positions, length in zip(box, leaf.shape[len(leaf.shape) - len(box) :], strict=True):
            if positions == range(length):
                index.append(slice(None))
                said.append(":")
            elif isinstance(positions, range) and positions.step > 0:
                index.append(slice(positions.start, positions.stop, positions.step))
                said.append(
                    f"{positions.start}:{positions.stop}"
                    + (f":{positions.step}" if positions.step > 1 else "")
                )
            else:
                index.append(tuple(positions))
                said.append(str(list(positions)))
        target, name = leaf.attrs
        if ids is not None:
            target, said = ids[0], [".".join(ids), *said]
        if ids is not None and target == "e" and self.by_ends:
            target = f"{'.'.join(ids)} of {leaf.shape[0]}"
            self.ends[target] = target, ids, leaf.shape[0]
            ids = None
        key = target, f"{name}[{', '.join(said)}]"
        self.views[key] = View(key, leaf.attrs, tuple(index), ids)
        return expr.field(*key, tuple(map(len, box)), leaf.dtype)
