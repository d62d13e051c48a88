"""Several edges a step: their loads are all under way before anything waits for one of them."""

from __future__ import annotations

from typing import Any

from numgraph.compiler import program as ir
from numgraph.compiler.index import EDGE

STEPS = ((6, 4), (24, 2))
"""(Operations in lanes up to which, edges a step): more of them hide the latency of loads by themselves."""
LONG = 40
"""Records of an edge from which on edges are handled one by one."""


def steps(loop: ir.Loop) -> int:
    """How many edges a step of a loop over edges should handle."""
    body = loop.body
    if EDGE in [v for record in ir.every(body) if hasattr(record, "type") for v in record.type.lanes]:
        return 1
    if len(ir.every(body)) > LONG or any(isinstance(record, ir.Loop) for record in ir.every(body)):
        return 1
    _, values, _ = _parts(body)
    computed = sum(1 for one in values if isinstance(one, ir.Op) and one.op != "cast" and one.type.lanes)
    return next((count for most, count in STEPS if computed <= most), 1)


def unrolled(loop: ir.Loop, count: int) -> ir.Records:
    """The records of edges k_0 … of one step: what is looked up of all of them, then their values, then what
    depends on accumulators.
    """
    found, values, rest = _parts(loop.body)
    names = {EDGE.name, *ir.named_in(loop.body)}
    own = [{name: f"{name}_{i}" for name in names} for i in range(count)]
    return tuple(
        [ir.copied(record, renamed) for part in (found, values, rest) for renamed in own for record in part]
    )


def _parts(body: ir.Records) -> tuple[list[Any], list[Any], list[Any]]:
    """The lookups of indices, the values that follow from loads, and the records that read or change what
    other edges change.
    """
    late = set().union(*[ir.changes(record) for record in body])
    found: list[Any] = []
    values: list[Any] = []
    rest: list[Any] = []
    for record in body:
        if isinstance(record, ir.Load) and record.type.dtype.startswith("row "):
            found.append(record)
        elif isinstance(record, ir.Store | ir.Accumulate | ir.When) or late.intersection(ir.reads(record)):
            rest.append(record)
            late |= ir.defines(record)
        else:
            values.append(record)
    return found, values, rest
