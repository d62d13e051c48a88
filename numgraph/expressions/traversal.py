"""The nodes of expressions in order, and the fields that they read."""

from __future__ import annotations

from collections.abc import Iterable

from numgraph.expressions.expr import Expr


def topological(roots: Iterable[Expr]) -> list[Expr]:
    """Every node below the roots, operands first."""
    order: list[Expr] = []
    seen: set[int] = set()
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((arg, False) for arg in reversed(node.args))
    return order


def leaves_of(roots: Iterable[Expr]) -> list[Expr]:
    """The fields that the roots read, in first-use order."""
    return [node for node in topological(roots) if node.op == "field"]
