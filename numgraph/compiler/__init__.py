"""The kernel compiler: index notation → schedule → program → verify → target.

``index`` says what every output of a walk is at index variables, ``schedule`` how its variables become loops
and lanes, ``program`` holds the records that ``build`` makes of both, ``ahead`` says which rows are asked for
before their use, ``verify`` proves of every program that it stays inside its arrays and stores each result
once, and a target (a class as ``target`` has it; ``cpu/``, ``cuda/``) prints it. Nothing but a target knows
of text, and targets do not know of each other; ``llvm/`` is what both print with. ``driver`` is the loop
above them, ``reference`` the definition in plain NumPy.

From outside, ``execute`` is called, and ``schedules`` to tell what it does; ``rows``, for functions of the
rows of arrays; and ``cpu.programs``, for callers without Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numgraph.compiler import cuda, driver
from numgraph.compiler.cpu import running
from numgraph.compiler.schedule import Schedule
from numgraph.expressions.walk import Arrays, Output
from numgraph.graph import Graph

__all__ = ["execute", "schedules"]


def execute(
    graph: Graph, outputs: Sequence[Output], fields: Arrays, out: Sequence[Any] | None = None
) -> list[Any]:
    """All arrays of all outputs of a walk, in order (see Output.results), computed where the graph's arrays
    are.

    out: on the host, contiguous arrays that take the results, in whatever dtypes they have.
    """
    if getattr(graph, "device", "cpu") == "cpu":
        return running.execute(graph, outputs, fields, out)
    return cuda.execute(graph, outputs, fields)


def schedules(graph: Graph, outputs: tuple[Output, ...]) -> list[tuple[list[int], Schedule]]:
    """How the kernels of a walk run: for each the numbers of its outputs, and its schedule. Nothing is
    compiled.
    """
    return driver.schedules(running.TARGET if graph.device == "cpu" else cuda.target(), graph, outputs)
