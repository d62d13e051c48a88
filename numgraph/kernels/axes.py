"""Loop axes: which feature axes of a walk's expressions are one loop, which of them runs in SIMD lanes, which can be one longer axis.

Every result gets a loop for each of its feature axes, and its expressions are evaluated at these loops' indices: views rename them,
broadcast axes have none, a reduction over features brings its own. An expression that is read at two different indices becomes two nodes.
That alone makes a kernel right; which loops share a name is a choice. Loops are named so that as many loads as possible are shared: by the
classes of axes that elementwise nodes align, and by length and position where nothing aligns them.

Loops are numbered outer first; one that no node has another inside of is contiguous in memory and can run in lanes. Neighbours that always
appear together are collapsed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgraph.expressions.expr import Expr, topological
from numgraph.expressions.walk import Output

Loop = tuple[Any, int]
"""A loop's name: the class of axes that it is for, and its number among the loops for that class."""


@dataclass
class Axes:
    """of[id(node)]: the node's loops as its axes are stored; reduced: those that a sum or max runs over; results: those of each output's
    value; size: lengths; lanes: those that can run in lanes."""

    of: dict[int, tuple[int, ...]]
    reduced: dict[int, tuple[int, ...]]
    results: list[tuple[int, ...]]
    size: dict[int, int]
    lanes: frozenset[int]


class _Union:
    def __init__(self) -> None:
        self.parent: dict[Any, Any] = {}

    def find(self, item: Any) -> Any:
        self.parent.setdefault(item, item)
        while self.parent[item] != item:
            self.parent[item] = item = self.parent[self.parent[item]]
        return item

    def join(self, a: Any, b: Any) -> None:
        self.parent[self.find(a)] = self.find(b)


def _aligned(node: Expr, arg: Expr) -> list[tuple[int, int]]:
    """(axis of arg, axis of node) pairs that one step of the loop shares."""
    if node.op == "axes":
        return [(source, axis) for axis, source in enumerate(node.attrs) if source is not None]
    if node.op in ("sum", "max"):
        return [(axis, axis) for axis in range(arg.ndim) if axis not in node.attrs]
    return [(axis, axis + node.ndim - arg.ndim) for axis in range(arg.ndim)]


class _Classes:
    """Which axes of which nodes should be one loop."""

    def __init__(self, roots: Sequence[Expr], together: Sequence[tuple[Expr, Expr]]) -> None:
        nodes = topological(roots)
        union = self.union = _Union()
        for node in nodes:
            for axis in range(node.ndim):
                union.find((id(node), axis))
            for arg in node.args:
                for source, axis in _aligned(node, arg):
                    if arg.shape[source] != 1 and node.shape[axis] == arg.shape[source]:
                        union.join((id(arg), source), (id(node), axis))
        for a, b in together:
            for i in range(1, min(a.ndim, b.ndim) + 1):
                if a.shape[-i] == b.shape[-i] != 1:
                    union.join((id(a), a.ndim - i), (id(b), b.ndim - i))
        size: dict[Any, int] = {}
        self.position: dict[Any, int] = {}
        members: dict[Any, set[int]] = {}
        for node in nodes:
            for axis, length in enumerate(node.shape):
                if length != 1:
                    root = union.find((id(node), axis))
                    size[root] = length
                    self.position[root] = max(self.position.get(root, 0), node.ndim - 1 - axis)
                    members.setdefault(root, set()).add(id(node))
        # Axes of equal length and position that meet in no node share a loop, so that a reduction's terms and its users share their loads.
        for a in list(size):
            for b in list(size):
                ra, rb = union.find(a), union.find(b)
                if ra != rb and size[ra] == size[rb] and self.position[ra] == self.position[rb] and not members[ra] & members[rb]:
                    union.join(ra, rb)
                    kept = union.find(ra)
                    members[kept] = members[ra] | members[rb]

    def of(self, node: Expr, axis: int) -> Any:
        return self.union.find((id(node), axis))

    def free(self, node: Expr, axis: int, taken: Sequence[Loop | None]) -> Loop:
        """A loop for an axis, none of those taken."""
        found = self.of(node, axis)
        return next((found, i) for i in itertools.count() if (found, i) not in taken)


class _Evaluation:
    """Expressions at loops: nodes with one loop (or None, where the length is one) for each axis."""

    def __init__(self, classes: _Classes) -> None:
        self.classes = classes
        self.made: dict[tuple[int, tuple[Loop | None, ...]], Expr] = {}
        self.used: set[int] = set()
        self.of: dict[int, tuple[Loop | None, ...]] = {}
        self.reduced: dict[int, tuple[Loop | None, ...]] = {}
        self.size: dict[Loop, int] = {}

    def loops(self, node: Expr, taken: Sequence[Loop | None] = ()) -> list[Loop | None]:
        """Loops for the axes of a node."""
        found: list[Loop | None] = []
        for axis, length in enumerate(node.shape):
            found.append(None if length == 1 else self.classes.free(node, axis, [*taken, *found]))
        return found

    def at(self, node: Expr, loops: tuple[Loop | None, ...]) -> Expr:
        """The node at these loops: itself, or another one like it where it is read at other loops too."""
        key = (id(node), loops)
        known = self.made.get(key)
        if known is not None:
            return known
        args, reduced = [], []
        for arg in node.args:
            inner: list[Loop | None] = [None] * arg.ndim
            for source, axis in _aligned(node, arg):
                if arg.shape[source] != 1:
                    inner[source] = loops[axis]
            if node.op in ("sum", "max"):
                for axis in node.attrs:
                    if arg.shape[axis] != 1:
                        inner[axis] = self.classes.free(arg, axis, inner)
                        self.size[inner[axis]] = arg.shape[axis]
                        reduced.append(inner[axis])
            args.append(self.at(arg, tuple(inner)))
        new = node
        if id(node) in self.used or any(a is not b for a, b in zip(args, node.args, strict=True)):
            new = object.__new__(Expr)
            new.op, new.args, new.attrs = node.op, tuple(args), node.attrs
            new.shape, new.dtype, new.reads = node.shape, node.dtype, node.reads
        self.used.add(id(node))
        self.made[key] = new
        self.of[id(new)] = loops
        if node.op in ("sum", "max"):
            self.reduced[id(new)] = tuple(reduced)
        for axis, loop in enumerate(loops):
            if loop is not None:
                self.size[loop] = node.shape[axis]
        return new


def analyse(outputs: Sequence[Output]) -> tuple[list[Output], Axes]:
    """The outputs of a walk with a node for every expression at every index that it is read at, and the loops of these nodes."""
    roots = [expression for output in outputs for expression in output.expressions]
    together = [(output.expressions[0], other) for output in outputs if output.reduce == "softmax" for other in output.expressions[1:]]
    classes = _Classes(roots, together)
    evaluation = _Evaluation(classes)
    indexed, results = [], []
    for output in outputs:
        loops = _result_loops(evaluation, output.expressions)
        results.append(tuple(loops))
        made = []
        for root in output.expressions:
            lead = len(loops) - root.ndim
            made.append(evaluation.at(root, tuple([loops[axis + lead] if length != 1 else None for axis, length in enumerate(root.shape)])))
        indexed.append(Output(tuple(made), output.to, output.reduce))
    return indexed, _numbered(evaluation, results)


def _result_loops(evaluation: _Evaluation, expressions: Sequence[Expr]) -> list[Loop | None]:
    """Loops for the axes of what an output's expressions make together."""
    shape = np.broadcast_shapes(*[root.shape for root in expressions])
    loops: list[Loop | None] = []
    for place, length in enumerate(shape):
        loop = None
        for root in sorted(expressions, key=lambda root: -root.ndim):
            axis = place - len(shape) + root.ndim
            if loop is None and length != 1 and axis >= 0 and root.shape[axis] != 1:
                loop = evaluation.classes.free(root, axis, loops)
        loops.append(loop)
    return loops


def _numbered(evaluation: _Evaluation, results: Sequence[Sequence[Loop | None]]) -> Axes:
    """Loops as numbers, outer first."""
    of = {key: tuple([loop for loop in loops if loop is not None]) for key, loops in evaluation.of.items()}
    stored = [tuple([loop for loop in loops if loop is not None]) for loops in results]
    chains = [*of.values(), *stored]
    position = {loop: (evaluation.classes.position[loop[0]], -loop[1]) for loop in evaluation.size}
    number = {loop: i for i, loop in enumerate(_ordered(position, chains))}
    outside = {number[loop] for chain in chains for loop in chain[:-1]}
    axes = Axes(
        of={key: tuple([number[loop] for loop in loops]) for key, loops in of.items()},
        reduced={key: tuple([number[loop] for loop in loops if loop is not None]) for key, loops in evaluation.reduced.items()},
        results=[tuple([number[loop] for loop in loops]) for loops in stored],
        size={number[loop]: length for loop, length in evaluation.size.items()},
        lanes=frozenset(i for loop, i in number.items() if i not in outside and evaluation.size[loop] > 0),
    )
    return _collapse(axes)


def _ordered(position: dict[Any, Any], chains: Sequence[Sequence[Any]]) -> list[Any]:
    """The loops outer first, as every chain (a node's axes) has them; by position where the chains leave it open or contradict."""
    outside: dict[Any, set[Any]] = {c: set() for c in position}
    for chain in chains:
        for a, b in itertools.pairwise(chain):
            outside[b].add(a)
    order: list[Any] = []
    while len(order) < len(position):
        left = [c for c in position if c not in order]
        free = [c for c in left if not outside[c].difference(order)] or left
        order.append(max(free, key=lambda c: position[c]))
    return order


def _collapse(axes: Axes) -> Axes:
    """Join neighbours (a, b) where every node, reduction and result has both or neither, a right before b in each."""
    merged = True
    while merged:
        merged = False
        for a in sorted(axes.size):
            values = [*axes.of.values(), *axes.reduced.values(), *axes.results]
            followers = {_next(value, a) for value in values if a in value}
            if len(followers) != 1 or None in followers:
                continue
            (b,) = followers
            assert b is not None
            if all((a in value) == (b in value) for value in values):
                axes.of = {key: tuple(c for c in value if c != a) for key, value in axes.of.items()}
                axes.reduced = {key: tuple(c for c in value if c != a) for key, value in axes.reduced.items()}
                axes.results = [tuple(c for c in value if c != a) for value in axes.results]
                axes.size[b] *= axes.size.pop(a)
                axes.lanes = axes.lanes - {a}
                merged = True
                break
    return axes


def _next(value: tuple[int, ...], a: int) -> int | None:
    place = value.index(a) + 1
    return value[place] if place < len(value) else None
