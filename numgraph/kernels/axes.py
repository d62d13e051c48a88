"""Loop axes: which feature axes of a walk's expressions are one loop, which of them runs in SIMD lanes, which can be one longer axis.

Every axis longer than one of every node belongs to a class; elementwise nodes join the axes that they align. Classes are numbered outer
first; one that no node has another inside of is contiguous in memory and can run in lanes. Neighbouring classes that always appear
together are collapsed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numgraph import errors
from numgraph.expr import Expr, text, topological


@dataclass
class Axes:
    """of[id(node)]: the node's loop axes, outer first; reduced: those that a sum or max runs over; size: lengths; lanes: those in lanes."""

    of: dict[int, tuple[int, ...]]
    reduced: dict[int, tuple[int, ...]]
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


def analyse(roots: Sequence[Expr], together: Sequence[tuple[Expr, Expr]] = ()) -> Axes:
    """The loop axes of all expressions of a walk. together: pairs of roots that one output combines (a score and its value)."""
    nodes = topological(roots)
    union = _Union()
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
    position: dict[Any, int] = {}
    members: dict[Any, set[int]] = {}
    for node in nodes:
        for axis, length in enumerate(node.shape):
            if length != 1:
                root = union.find((id(node), axis))
                size[root] = length
                position[root] = max(position.get(root, 0), node.ndim - 1 - axis)
                members.setdefault(root, set()).add(id(node))
    # Axes of equal length and position that meet in no node share a loop, so that a reduction's terms and its users share their loads.
    for a in list(size):
        for b in list(size):
            ra, rb = union.find(a), union.find(b)
            if ra != rb and size[ra] == size[rb] and position[ra] == position[rb] and not members[ra] & members[rb]:
                union.join(ra, rb)
                kept = union.find(ra)
                members[kept] = members[ra] | members[rb]

    chains = [[union.find((id(node), axis)) for axis, length in enumerate(node.shape) if length != 1] for node in nodes]
    for a, b in together:  # the order of the axes of what they make together
        longest, other = (a, b) if a.ndim >= b.ndim else (b, a)
        lead = longest.ndim - other.ndim
        pairs = [(longest, axis) if longest.shape[axis] != 1 else (other, axis - lead) for axis in range(longest.ndim)]
        chains.append([union.find((id(node), axis)) for node, axis in pairs if axis >= 0 and node.shape[axis] != 1])
    number = {c: i for i, c in enumerate(_ordered({union.find(c): position[c] for c in size}, chains))}
    shape: dict[int, tuple[int | None, ...]] = {}
    for node in nodes:
        shape[id(node)] = tuple(None if n == 1 else number[union.find((id(node), i))] for i, n in enumerate(node.shape))
        present = [c for c in shape[id(node)] if c is not None]
        if len(set(present)) != len(present) or present != sorted(present):
            raise errors.bad_value(
                "message", f"{text(node)} {list(node.shape)} uses one feature axis in two places", "keep reduced axes with keepdims=True"
            )
    reduced = {
        id(node): tuple(c for c in (shape[id(node.args[0])][axis] for axis in node.attrs) if c is not None)
        for node in nodes
        if node.op in ("sum", "max")
    }
    of = {key: tuple(c for c in value if c is not None) for key, value in shape.items()}
    outside = {number[c] for chain in chains for c in chain[:-1]}
    axes = Axes(
        of=of,
        reduced=reduced,
        size={i: size[c] for c, i in number.items()},
        lanes=frozenset(i for c, i in number.items() if i not in outside and size[c] > 0),
    )
    return _collapse(axes)


def _ordered(position: dict[Any, int], chains: Sequence[Sequence[Any]]) -> list[Any]:
    """The classes outer first, as every chain (a node's axes) has them; by position where the chains leave it open."""
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
    """Join neighbours (a, b) where every node and every reduction has both or neither, a right before b in every node."""
    merged = True
    while merged:
        merged = False
        for a in sorted(axes.size):
            followers = {_next(value, a) for value in [*axes.of.values(), *axes.reduced.values()] if a in value}
            if len(followers) != 1 or None in followers:
                continue
            (b,) = followers
            assert b is not None
            if all((a in value) == (b in value) for value in [*axes.of.values(), *axes.reduced.values()]):
                axes.of = {key: tuple(c for c in value if c != a) for key, value in axes.of.items()}
                axes.reduced = {key: tuple(c for c in value if c != a) for key, value in axes.reduced.items()}
                axes.size[b] *= axes.size.pop(a)
                axes.lanes = axes.lanes - {a}
                merged = True
                break
    return axes


def _next(value: tuple[int, ...], a: int) -> int | None:
    place = value.index(a) + 1
    return value[place] if place < len(value) else None
