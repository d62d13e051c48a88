"""Rewriting expressions before code is generated: rows in terms of primitives, and what depends on one node only computed per node."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from numgraph import elementary, expr
from numgraph.expr import READS_U, READS_V, Expr, topological
from numgraph.kernels.walk import Output

_CHEAP = {
    "add",
    "subtract",
    "multiply",
    "negative",
    "absolute",
    "maximum",
    "minimum",
    "where",
    "sign",
    "cast",
    "axes",
    "broadcast",
    "field",
}
_CHEAP |= {
    "field",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "logical_and",
    "logical_or",
    "logical_not",
    "constant",
}


def rebuilt(roots: Sequence[Expr], change: Callable[[Expr, tuple[Expr, ...]], Expr | None]) -> list[Expr]:
    """The expressions with nodes replaced: ``change(node, new operands)`` returns the new node, or None to keep it."""
    made: dict[int, Expr] = {}
    for node in topological(roots):
        args = tuple(made[id(arg)] for arg in node.args)
        new = change(node, args)
        if new is None:
            new = node if args == () or all(a is b for a, b in zip(args, node.args, strict=True)) else _with_args(node, args)
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
        made = row.lower(*[arg if arg.weak else expr.cast(arg, node.dtype) if expr.is_float(node.dtype) else arg for arg in args])
        return expr.broadcast_to(expr.cast(lowered([made])[0], node.dtype), node.shape)

    return rebuilt(roots, change)


def hoist(outputs: Sequence[Output], far: str, start: int) -> tuple[list[Output], list[tuple[tuple[str, str], Expr]]]:
    """Costly subexpressions of the far node's fields alone become fields of their own: computed once a node instead of once an edge."""
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
        if id(node) not in tops and all(user.reads == only and user.op not in ("broadcast",) for user in users.get(id(node), [])):
            return None
        key = (far, f"\0per_node{start + len(found)}")  # no field of a caller has this name
        found[id(node)] = (key, node)
        return expr.field(far, key[1], node.shape, node.dtype)

    new = rebuilt(roots, change)
    made, place = [], 0
    for output in outputs:
        count = len(output.expressions)
        made.append(Output(tuple(new[place : place + count]), output.to, output.reduce))
        place += count
    return made, list(found.values())


def retarget(root: Expr, target: str) -> Expr:
    """The expression with every node field read from another target."""

    def change(node: Expr, args: tuple[Expr, ...]) -> Expr | None:
        if node.op == "field" and node.attrs[0] != "shared":
            return expr.field(target, node.attrs[1], node.shape, node.dtype)
        return None

    return rebuilt([root], change)[0]
