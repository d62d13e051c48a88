"""What follows from the outputs of a walk alone: the fields that it reads, its derivative, what that reads.
Found once for all graphs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from numgraph.expressions import expr
from numgraph.expressions.batching import batched
from numgraph.expressions.derivatives import Key, derive
from numgraph.expressions.reduces import NEEDS, NeedOf, needed
from numgraph.expressions.traversal import leaves_of
from numgraph.expressions.walk import Output

T = TypeVar("T")

FOUND = 256
"""What is kept of one walk, at most."""


@dataclass(frozen=True)
class Backward:
    """The walk of a backward, the gradients that are another field as it is (of ``e.x + w``, ∂e.x is the
    gradient of the result), and the node arrays that are bound to fields: (number of the output, name in
    NEEDS, field, dtype)."""

    walk: dict[Key, Output]
    outputs: tuple[Output, ...]
    same: dict[Key, Key]
    bound: tuple[tuple[int, str, Key, Any], ...]


class Algebra:
    """The outputs of a walk, and what was found out about them.

    leaves: the fields that they read, in first-use order; read: their keys. starts: where the arrays of each
    output begin among all of them, and where the last ends.
    """

    def __init__(self, outputs: tuple[Output, ...]) -> None:
        self.outputs = outputs
        self.leaves = {
            leaf.attrs: leaf
            for leaf in leaves_of(expression for output in outputs for expression in output.expressions)
        }
        self.read: frozenset[Key] = frozenset(self.leaves)
        starts = [0]
        for output in outputs:
            starts.append(starts[-1] + len(output.results()))
        self.starts = tuple(starts)
        self._found: dict[Hashable, Any] = {}

    def backward(
        self, arrived: tuple[bool, ...], fields: tuple[Key, ...], wanted: tuple[Key, ...], ids: np.dtype[Any]
    ) -> Backward:
        """The derivative. arrived: which arrays of the outputs got a gradient. ids: dtype of edge ids."""
        return self._once(
            (arrived, fields, wanted, ids), lambda: _derived(self, arrived, fields, wanted, ids)
        )

    def reads(
        self,
        keys: tuple[Key, ...],
        wanted: tuple[Key, ...],
        arrived: tuple[bool, ...] | None,
        ids: np.dtype[Any],
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The positions among the fields, and among the results, of what the gradients of the wanted fields
        read.
        """
        return self._once(
            ("reads", keys, wanted, arrived, ids), lambda: _read(self, keys, wanted, arrived, ids)
        )

    def batched(self, size: int, which: frozenset[Key]) -> tuple[Output, ...]:
        """The outputs for a batch: these fields have one more feature axis of that size, the first, and so
        has every result.
        """
        return self._once(("batched", size, which), lambda: batched(self.outputs, size, which))

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= FOUND:
                self._found.clear()
            found = self._found[key] = make()
        return found


algebra_of = functools.lru_cache(maxsize=1024)(Algebra)
"""The one Algebra of some outputs."""


def _derived(
    known: Algebra, arrived: tuple[bool, ...], fields: tuple[Key, ...], wanted: tuple[Key, ...], ids: Any
) -> Backward:
    taken = set(fields)
    bound: list[tuple[int, str, Key, Any]] = []
    symbols: list[NeedOf | None] = []
    outputs, starts = known.outputs, known.starts

    def binder(number: int, output: Output, got: tuple[bool, ...]) -> NeedOf:
        def bind(name: str) -> Any:
            gradient = NEEDS[name].gradient
            if gradient is not None and not got[gradient]:
                return None
            key = output.to, f"{name}′"
            while key in taken:
                key = output.to, f"{key[1]}′"
            taken.add(key)
            shape, dtype = needed(output.expressions, output.reduce, name)
            bound.append((number, name, key, ids if name == "winner" else dtype))
            return expr.field(*key, shape, bound[-1][3])

        return bind

    for number, output in enumerate(outputs):
        got = arrived[starts[number] : starts[number + 1]]
        symbols.append(binder(number, output, got) if any(got) else None)
    walk = derive(outputs, symbols, wanted)
    roots = {key: output.expressions[0] for key, output in walk.items() if output.reduce == "edge"}
    same = {key: root.attrs for key, root in roots.items() if root.op == "field" and root.attrs[0] == "e"}
    walk = {key: output for key, output in walk.items() if key not in same}
    made = tuple(walk.values())
    read = algebra_of(made).read | frozenset(same.values())
    return Backward(walk, made, same, tuple(b for b in bound if b[2] in read))


def _read(
    known: Algebra, keys: tuple[Key, ...], wanted: tuple[Key, ...], arrived: tuple[bool, ...] | None, ids: Any
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    starts = known.starts
    backward = known.backward((True,) * starts[-1] if arrived is None else arrived, keys, wanted, ids)
    fields = set(algebra_of(backward.outputs).read) | set(backward.same.values())
    results: set[int] = set()
    for number, need, _, _ in backward.bound:
        if NEEDS[need].factor is not None:
            fields |= algebra_of((known.outputs[number],)).read
        if (place := NEEDS[need].result) is not None:
            results.add(range(starts[number], starts[number + 1])[place])
    return tuple([i for i, key in enumerate(keys) if key in fields]), tuple(sorted(results))
