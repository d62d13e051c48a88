"""The words of ``tape.explain()`` for graph operations: which kernel replays a record, on which graph, and why."""

from __future__ import annotations

from collections.abc import Sequence

from numgraph.kernels.walk import Output


def explain_gradients(outputs: Sequence[Output], wanted: Sequence[tuple[str, str]]) -> list[str]:
    """One line a gradient."""
    return [f"∂{target}.{name}" for target, name in wanted]
