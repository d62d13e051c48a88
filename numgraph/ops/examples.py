"""The examples of the operations that tables make: each computes its own on a graph of three edges, by plain
loops.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

SRC, DST = (0, 1, 2), (1, 2, 2)
_ENDS = {"u": SRC, "v": DST, "e": range(3)}
_ROWS = ((1.0, 2.0, 4.0), (2.0, 8.0, 4.0))
"""Of the first operand and of the second, whatever they are rows of."""
_VECTORS = (((1.0, 2.0), (2.0, 0.0), (4.0, 1.0)), ((2.0, 1.0), (4.0, 3.0), (8.0, 5.0)))

_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "dot": lambda x, y: [sum(map(operator.mul, x, y))],
}
_REDUCED: dict[str, Callable[[list[float]], float]] = {
    "sum": sum,
    "max": max,
    "min": min,
    "mean": lambda values: sum(values) / len(values),
}


def example(name: str, targets: str, op: str | None = None, reduce: str | None = None) -> str:
    """The section of an operation: targets, a letter for each operand, of one that is copied if there is no
    op; reduce: of the edges into each node.
    """
    rows = _VECTORS if op == "dot" else _ROWS
    read = [[operand[i] for i in _ENDS[target]] for target, operand in zip(targets, rows, strict=False)]
    values: list[Any] = read[0] if op is None else list(map(_BINARY[op], *read))
    if reduce is not None:
        edges = [[value for value, v in zip(values, DST, strict=True) if v == node] for node in range(3)]
        values = [_REDUCED[reduce](into) if into else 0.0 for into in edges]
    given = ", ".join([f"np.array({_text(operand)})" for operand in rows[: len(targets)]])
    return (
        "\n\nExamples\n--------\n>>> import numpy as np, numgraph as ng\n"
        f">>> g = ng.Graph({list(SRC)}, {list(DST)})\n>>> ng.ops.{name}(g, {given}).tolist()\n{values}"
    )


def _text(operand: Any) -> str:
    return str([list(row) if isinstance(row, tuple) else row for row in operand])
