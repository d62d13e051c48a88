"""The CUDA target: walks over graphs whose arrays are on a device. Nothing is imported from CUDA's packages
before the first walk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numgraph.compiler.target import Target
from numgraph.expressions.walk import Arrays, Output
from numgraph.graph import Graph


def execute(graph: Graph, outputs: Sequence[Output], fields: Arrays) -> list[Any]:
    """All arrays of all outputs, in order (see Output.results): those of cpu.execute, read and made on the
    graph's device.
    """
    from numgraph.compiler.cuda import running

    return running.execute(graph, outputs, fields)


def target() -> Target:
    """The target under the options that hold now."""
    from numgraph.compiler.cuda import running

    return running.chosen()
