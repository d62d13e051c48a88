"""Rewriting expressions before code is generated: rows in terms of primitives, and what depends on one node
only computed per node.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from numgraph.expressions import elementary, expr
from numgraph.expressions.expr import READS_U, READS_V, Expr
from numgraph.expressions.precision import wide
from numgraph.expressions.traversal import leaves_of, topological
from numgraph.expressions.walk import Output

Key = tuple[str, str]

_CHEAP = {
    *("add", "subtract", "multiply", "negative", "absolute", "maximum", "minimum", "where", "sign"),
    *("cast", "axes", "broadcast", "field", "constant"),
    *(
        "equal",
        "not_equal",
        "less",
        "less_equal",
        "greater",
        "greater_equal",
        "logical_and",
        "logical_or",
        "logical_not",
    ),
    *("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "left_shift", "right_shift"),
}


def _rebuilt(roots: Sequence[Expr], change: Callable[[Expr, tuple[Expr, ...]], Expr | None]) -> list[Expr]:
    """The expressions with nodes replaced: ``change(node, new operands)`` returns the new node, or None to
    keep it.
    """
    made: dict[int, Expr] = {}
    for node in topological(roots):
        args = tuple(made[id(arg)] for arg in node.args)
        new = change(node, args)
        if new is None:
            new = (
                node
                if args == () or all(a is b for a, b in zip(args, node.args, strict=True))
                else _with_args(node, args)
            )
        made[id(node)] = new
    return [made[id(root)] for root in roots]


def _with_args(node: Expr, args: tuple[Expr, ...]) -> Expr:
    reads = 0
    for arg in args:
        reads |= arg.reads
    return expr._make(node.op, args, node.attrs, node.shape, node.dtype, reads)


def lowered(roots: Sequence[Expr]) -> list[Expr]:
    """Every row with a ``lower`` written in terms of other rows, until primitives are left."""

    def change(node: Expr, args: tuple[Expr, ...]) -> Expr | None:
        row = elementary.TABLE.get(node.op)
        if row is None or row.lower is None:
            return None
        made = row.lower(*[expr.cast(arg, node.dtype) for arg in args])
        if made is None:
            return None
        return expr.broadcast_to(expr.cast(lowered([expr.lift(made)])[0], node.dtype), node.shape)

    return _rebuilt(roots, change)


def hoist(
    outputs: Sequence[Output], far: str, start: int
) -> tuple[list[Output], list[tuple[tuple[str, str], Expr]]]:
    """Costly subexpressions of the far node's fields alone become fields of their own: computed once a node
    instead of once an edge.
    """
    only = READS_U if far == "u" else READS_V
    found: dict[int, tuple[tuple[str, str], Expr]] = {}

    def costly(node: Expr) -> bool:
        return any(below.op not in _CHEAP for below in topological((node,)))

    roots = [expression for output in outputs for expression in output.expressions]
    users: dict[int, list[Expr]] = {}
    for node in topological(roots):
        for arg in node.args:
            users.setdefault(id(arg), []).append(node)
    tops = {id(root) for root in roots}

    def change(node: Expr, args: tuple[Expr, ...]) -> Expr | None:
        if node.reads != only or not costly(node):
            return None
        if id(node) not in tops and all(
            user.reads == only and user.op not in ("broadcast",) for user in users.get(id(node), [])
        ):
            return None
        key = (far, f"\0per_node{start + len(found)}")  # no field of a caller has this name
        value = expr.cast(
            node, wide(node.dtype)
        )  # as it is computed: no edge may see it rounded to half precision
        found[id(node)] = (key, value)
        return expr.field(far, key[1], node.shape, value.dtype)

    new = _rebuilt(roots, change)
    made, place = [], 0
    for output in outputs:
        count = len(output.expressions)
        made.append(Output(tuple(new[place : place + count]), output.to, output.reduce))
        place += count
    return made, list(found.values())


@functools.lru_cache(maxsize=1024)
def node_walk(target: str, expression: Expr) -> tuple[tuple[Output, ...], tuple[tuple[Key, Key], ...]]:
    """The value of an expression of one node's fields for every node, as a walk over the nodes, each an edge
    of its own: its output, and the graph's fields that it reads, each with its name in the walk."""

    def change(node: Expr, args: tuple[Expr, ...]) -> Expr | None:
        if node.op == "field" and node.attrs[0] == target:
            return expr.field("e", node.attrs[1], node.shape, node.dtype)
        return None

    read = [leaf.attrs for leaf in leaves_of((expression,))]
    names = tuple([(key, ("e", key[1]) if key[0] == target else key) for key in read])
    return (Output((_rebuilt([expression], change)[0],), "e", "edge"),), names
