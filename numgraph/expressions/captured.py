"""Captured arrays that are data of edges or nodes.

Every edge reads an array from outside of a message whole. One that has a row for each edge or node was meant
to be read by row, as a field; broadcast against the fields instead it would make a message of [num_edges, …]
for each of the edges.

The rule: the array's first axis longer than one is as long as there are edges, sources or destinations, and
nothing that the array meets has that axis (it is absent or of length one there). Arrays whose axes the fields
have are features, whatever their length; so is an axis that the message itself makes by ``u.x[..., None]``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from numgraph import errors
from numgraph.expressions.expr import Expr
from numgraph.expressions.formulas import text
from numgraph.expressions.traversal import topological

_COUNTS = {"e": ("num_edges", "edge"), "u": ("num_src", "source"), "v": ("num_dst", "destination")}


def check_captured(
    op: str,
    functions: Sequence[Callable[..., Any]],
    roots: Sequence[Expr],
    captured: dict[str, Any],
    counts: dict[str, int],
) -> None:
    """A ValueError where a captured array is used as a feature though it has a row for each edge or node."""
    found = _rows(tuple(roots), tuple(counts.values()))
    if found is not None:
        raise _refusal(op, functions, *found, captured, counts)


@functools.lru_cache(maxsize=1024)
def _rows(roots: tuple[Expr, ...], counts: tuple[int, ...]) -> tuple[Expr, int, list[Expr]] | None:
    """The first captured array of rows, how many it has, and what it meets."""
    for leaf, met in _uses(roots):
        axis = next((i for i, n in enumerate(leaf.shape) if n > 1), None)
        if axis is None or leaf.shape[axis] not in counts:
            continue
        place = leaf.ndim - axis  # counted from the last axis, as broadcasting does
        if not any(_has(node, place) for node in met):
            return leaf, leaf.shape[axis], met
    return None


def _uses(roots: Sequence[Expr]) -> Iterator[tuple[Expr, list[Expr]]]:
    """Each captured array with the operands that it meets, those that differ from edge to edge."""
    for node in topological(roots):
        if node.op == "take":  # a table is read by rows
            continue
        met = [arg for arg in node.args if arg.reads]
        yield from ((arg, met) for arg in node.args if _is_captured(arg) and met)
    yield from ((root, []) for root in roots if _is_captured(root))


def _is_captured(node: Expr) -> bool:
    return node.op == "field" and node.attrs[0] == "shared"


def _has(node: Expr, place: int) -> bool:
    """Whether an axis, counted from the last, is there: longer than one, or made by the message itself with
    None.
    """
    if place > node.ndim:
        return False
    if node.shape[-place] != 1:
        return True
    if node.op == "axes":
        source = node.attrs[-place]
        return source is None or _has(node.args[0], node.args[0].ndim - source)
    return any(_has(arg, place) for arg in node.args if node.op not in ("sum", "max"))


def _refusal(
    op: str,
    functions: Sequence[Callable[..., Any]],
    leaf: Expr,
    rows: int,
    met: Sequence[Expr],
    captured: dict[str, Any],
    counts: dict[str, int],
) -> ValueError:
    array = captured[leaf.attrs[1]]
    name = next((name for function in functions for name, value in _outside(function) if value is array), "w")
    targets = [target for target in _COUNTS if counts[target] == rows]
    what = " or ".join(f"{_COUNTS[target][1]} ({_COUNTS[target][0]} is {rows})" for target in targets)
    beside = f", beside {', '.join(f'{text(node)} {list(node.shape)}' for node in met)}" if met else ""
    problem = (
        f"the captured array {name} of shape {list(leaf.shape)} has a row for each {what}, but is read whole "
        f"by every edge{beside}"
    )
    fix = " or ".join(
        f"pass it as {target}={{'{name}': {name}}} and write {target}.{name}" for target in targets[:2]
    )
    axis = (
        f"; if it is an axis of features, give the other side that axis, as {text(met[0])}[..., None]"
        if met
        else ""
    )
    return errors.bad_value(op, problem, fix + axis)


def _outside(function: Any) -> Iterator[tuple[str, Any]]:
    """Names and values that a function reads from outside, as far as they can be seen."""
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None:
        return
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not set yet
            continue
    yield from ((name, function.__globals__.get(name)) for name in code.co_names)
    yield from zip(
        code.co_varnames[: code.co_argcount][::-1], (function.__defaults__ or ())[::-1], strict=False
    )
