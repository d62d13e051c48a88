"""Rows of tables that a message reads by the integers of a field."""

from __future__ import annotations

from typing import Any

from numgraph import errors
from numgraph.expressions import expr
from numgraph.expressions.expr import Expr
from numgraph.expressions.formulas import text


def take(table: Any, ids: Expr) -> Expr:
    """The row of a captured table that a field of integers names."""
    leaf = expr.lift(table)
    if leaf.op != "field" or leaf.attrs[0] != "shared" or not leaf.ndim:
        raise errors.bad_type(
            "take",
            f"the table is {text(leaf)}, {list(leaf.shape)}",
            "give an array [rows, …] from outside of the message",
        )
    if ids.op != "field" or ids.attrs[0] == "shared" or ids.ndim or ids.dtype.kind not in "iu":
        problem = f"the ids are {text(ids)}, {ids.dtype.name}{list(ids.shape)}"
        raise errors.bad_type(
            "take", problem, "give a field of integers, one for each edge or node, as e.rel"
        )
    return expr.node("take", (leaf, ids), (), leaf.shape[1:], leaf.dtype)
