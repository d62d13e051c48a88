"""How each reduce is written into a kernel: what it keeps in registers, its step for an edge, and what it stores for a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.compiler.reduces import SLACK
from numgraph.kernels.codegen import Generator
from numgraph.kernels.layout import Scope, Target, Value, compute_name


def _message(generator: Generator, target: Target, scope: Scope) -> Value:
    """The value of the target for an edge, in lanes if the kernel's lane axis is among its axes."""
    value = generator.as_dtype(scope, target.value, compute_name(target.output.expressions[-1].dtype))
    return _fit(generator, scope, value, (*target.kept, *target.summed))


def _fit(generator: Generator, scope: Scope, value: Value, axes: tuple[int, ...]) -> Value:
    return generator.in_lanes(scope, value, generator.width_of(axes, scope))


def _fold(generator: Generator, target: Target, scope: Scope, value: Value, into: list[str]) -> Value:
    """The sum over lanes where the target is summed over the lane axis, as lines appended to ``into``."""
    if scope.lane is None or scope.lane not in target.summed:
        return value
    total = generator.fresh()
    text, width = generator.folded(scope, "sum", value)
    into.append(f"{total} = {text}")
    return Value(total, width, value.level, value.dtype)


def _edge(generator: Generator, number: int, target: Target, scope: Scope) -> None:
    value = _fold(generator, target, scope, _message(generator, target, scope), generator.update)
    generator.write(scope, (number, 0), target.kept, value, generator.position("e"), target.accumulate, generator.update)


def _sum(generator: Generator, number: int, target: Target, scope: Scope) -> None:
    value = _message(generator, target, scope)
    total = f"sum{number}"
    generator.init.append(f"{total} = {generator.literal(value.dtype, 0, value.width)}()")
    generator.update.append(f"{total} = {generator.use('add')}({total}, {value.name})")
    result = _fold(generator, target, scope, Value(total, value.width, value.level, value.dtype), generator.final)
    if target.output.reduce == "mean":
        caster = generator.define(f"as_{value.dtype}", f'lanes.cast("{value.dtype}")')
        degree = f"{caster}(max({generator.degree(target)}, 1))"
        degree = generator.widened(degree, 0, result.width)
        generator.final.append(f"mean{number} = {generator.use('divide')}({result.name}, {degree})")
        result = Value(f"mean{number}", result.width, result.level, result.dtype)
    generator.write(scope, (number, 0), target.kept, result, "row", target.accumulate, generator.final)


def _prod(generator: Generator, number: int, target: Target, scope: Scope) -> None:
    value = _message(generator, target, scope)
    total = f"product{number}"
    generator.init.append(f"{total} = {generator.literal(value.dtype, 1, value.width)}()")
    generator.update.append(f"{total} = {generator.use('multiply')}({total}, {value.name})")
    generator.write(scope, (number, 0), target.kept, Value(total, value.width, 0, value.dtype), "row", False, generator.final)


def _extreme(generator: Generator, number: int, target: Target, scope: Scope) -> None:
    """A message replaces the best if it is the first, is better, or is the first NaN; so NaN stays and the first of equals wins."""
    value = _message(generator, target, scope)
    use, width, ids = generator.use, value.width, generator.layout.ids
    best, winner, take = f"best{number}", f"winner{number}", f"take{number}"
    edge = generator.position("e")
    caster = generator.define(f"as_{ids}", f'lanes.cast("{ids}")')
    this = generator.widened(f"{caster}({edge})", 0, width)
    generator.init.append(f"{best} = {generator.literal(value.dtype, 0, width)}()")
    generator.init.append(f"{winner} = {generator.literal(ids, -1, width)}()")
    better = use("greater" if target.output.reduce == "max" else "less")
    first = f"{use('less')}({winner}, {generator.literal(ids, 0, width)}())"
    generator.update.append(f"{take} = {use('logical_or')}({first}, {better}({value.name}, {best}))")
    if value.dtype.startswith("float"):
        nan = f"{use('logical_and')}({use('not_equal')}({value.name}, {value.name}), {use('equal')}({best}, {best}))"
        generator.update.append(f"{take} = {use('logical_or')}({take}, {nan})")
    generator.update.append(f"{best} = {use('where')}({take}, {value.name}, {best})")
    generator.update.append(f"{winner} = {use('where')}({take}, {this}, {winner})")
    generator.write(scope, (number, 0), target.kept, Value(best, width, 0, value.dtype), "row", False, generator.final)
    generator.write(scope, (number, 1), target.kept, Value(winner, width, 0, ids), "row", False, generator.final)


def _softmax(generator: Generator, number: int, target: Target, scope: Scope) -> None:
    """One online pass over shift m, total l = Σ exp(s − m) and weighted sum z. What is kept is z / l, m and 1 / l.

    A score that exceeds m by more than SLACK becomes the new m, and l and z are rescaled by exp(m − s). That happens once or a few times a
    row, so it is a branch; the exponentials of a row's edges then do not wait for each other, as they would for a running maximum.
    There s − m is taken anew and not set to 0, because it is NaN for a score of +inf.
    """
    score_node, *mass_nodes = target.output.expressions[: -1 if target.output.reduce == "softmax" else None]
    use = generator.use
    dtype = compute_name(score_node.dtype)
    score_axes = generator.axes.of[id(score_node)]
    score = _fit(generator, scope, generator.as_dtype(scope, score_node, dtype), score_axes)
    masses = [_fit(generator, scope, generator.as_dtype(scope, node, dtype), score_axes) for node in mass_nodes]
    value = _message(generator, target, scope) if target.output.reduce == "softmax" else None
    width = score.width
    top, total, part, step, up, scale, z = (f"{name}{number}" for name in ("top", "total", "part", "step", "up", "scale", "z"))
    zero, one = f"{generator.literal(dtype, 0, width)}()", f"{generator.literal(dtype, 1, width)}()"
    low = f"{generator.literal(dtype, -np.inf, width)}()"
    generator.init += [f"{top} = {low}", f"{total} = {zero}"]
    generator.update += [
        f"{step} = {use('subtract')}({score.name}, {top})",
        f"{up} = {use('greater')}({step}, {generator.literal(dtype, SLACK, width)}())",
        f"if {use('any_lane')}({up}):",
        f"    {scale} = {use('where')}({up}, {use('exp')}({use('negative')}({step})), {one})",
        f"    {top} = {use('where')}({up}, {score.name}, {top})",
        f"    {step} = {use('subtract')}({score.name}, {top})",
        f"    {total} = {use('multiply')}({total}, {scale})",
    ]
    if value is not None:
        generator.init.append(f"{z} = {generator.literal(value.dtype, 0, value.width)}()")
        generator.update.append(f"    {z} = {use('multiply')}({z}, {generator.widened(scale, width, value.width)})")
    generator.update += [
        f"{part} = {use('where')}({use('equal')}({score.name}, {low}), {zero}, {use('exp')}({step}))",
        *[f"{part} = {use('multiply')}({part}, {mass.name})" for mass in masses],
        f"{total} = {use('add')}({total}, {part})",
    ]
    if value is not None:
        term = f"{use('multiply')}({generator.widened(part, width, value.width)}, {value.name})"
        generator.update.append(f"{z} = {use('add')}({z}, {term})")
        generator.final.append(f"{z} = {use('divide')}({z}, {generator.widened(total, width, value.width)})")
        generator.final += ["if begin == end:", f"    {z} = {generator.literal(value.dtype, 0, value.width)}()"]
        generator.write(scope, (number, 0), target.kept, Value(z, value.width, 0, value.dtype), "row", False, generator.final)
    generator.final.append(f"{total} = {use('divide')}({one}, {total})")
    for place, name in enumerate((top, total), 1 if value is not None else 0):
        generator.write(scope, (number, place), score_axes, Value(name, width, 0, dtype), "row", False, generator.final)


REDUCERS: dict[str, Callable[..., Any]] = {
    "edge": _edge,
    "sum": _sum,
    "mean": _sum,
    "prod": _prod,
    "max": _extreme,
    "min": _extreme,
    "softmax": _softmax,
    "logsumexp": _softmax,
}
