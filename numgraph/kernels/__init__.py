"""Kernels: what a walk over a graph's edges computes (walk.py), and the targets that compute it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numgraph.expressions.walk import Arrays, Output
from numgraph.graph import Graph
from numgraph.kernels import cpu

__all__ = ["execute"]


def execute(graph: Graph, outputs: Sequence[Output], fields: Arrays, out: Sequence[Any] | None = None) -> list[Any]:
    """All arrays of all outputs of a walk, in order (see Output.results), computed where the graph's arrays are.

    out: on the host, contiguous arrays that take the results, in whatever dtypes they have.
    """
    if getattr(graph, "device", "cpu") == "cpu":
        return cpu.execute(graph, outputs, fields, out)
    from numgraph.compiler import cuda

    return cuda.execute(graph, outputs, fields)
