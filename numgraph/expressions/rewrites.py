"""What a message need not compute: neutral elements, small constant powers, numbers only.

Only rewrites that change neither dtype nor value, also of NaN and infinity; where two choices become one, a
zero may have another sign."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph.expressions.dtypes import is_float
from numgraph.expressions.elementary import TABLE


def simplified(name: str, nodes: tuple[Any, ...]) -> Any:
    """The row ``name`` of symbols, as a symbol or a Python number, without its arithmetic; None where it
    needs it.
    """
    if all(node.weak for node in nodes):
        with np.errstate(all="ignore"):
            return np.asarray(TABLE[name].evaluate(*[node.number for node in nodes])).item()
    if len(nodes) != 2:
        return None
    a, b = nodes
    value = b.number if b.weak else None
    first = a.number if a.weak else None
    if not is_float((a if b.weak else b).dtype):
        return None
    if (name in ("multiply", "divide") and value == 1) or (
        name == "subtract" and repr(value) in ("0", "0.0")
    ):
        return a
    if name == "multiply" and first == 1:
        return b
    if (
        name == "multiply"
        and a.op == "where"
        and value is not None
        and np.isfinite(value)
        and any(map(_is_zero, a.args[1:]))
    ):
        branches = [float(x.number) * value if _is_zero(x) else x * b for x in a.args[1:]]
        if all(
            _is_zero(x) or branch.weak or branch.dtype == a.dtype
            for x, branch in zip(a.args[1:], branches, strict=True)
        ):
            return np.where(a.args[0], *branches)
    if name == "add" and a.op == b.op == "where" and a.args[0] is b.args[0]:
        for one, other in ((a, b), (b, a)):
            same = one.args[1].dtype == other.args[2].dtype == a.dtype == b.dtype
            if same and _is_zero(one.args[2]) and _is_zero(other.args[1]):
                return np.where(a.args[0], one.args[1], other.args[2])
    if name == "power" and value in (1, 2, 3, -1, 0.5):
        return {
            1: lambda: a,
            2: lambda: np.square(a),
            3: lambda: a * a * a,
            -1: lambda: 1 / a,
            0.5: lambda: np.sqrt(a),
        }[value]()
    return None


def _is_zero(node: Any) -> bool:
    found: bool = node.weak and node.number == 0
    return found
