"""Functions of rows in one pass over memory: a walk over the rows of large arrays, as if each row were an
edge.

``apply`` takes what a message may be made of: elementary functions of a row's own entries, and sums and
maxima over its feature axes. Such a function of a million numbers is memory traffic; in NumPy every operation
of it is a pass on one thread. As a message it is one kernel on all threads, and so are its derivatives, the
sums over all rows that are the gradients of shared operands among them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from numgraph.arrays.devices import device_of, moved
from numgraph.arrays.inputs import given
from numgraph.autodiff.tape import unwrap
from numgraph.compiler.rows import blocks, is_large
from numgraph.expressions import expr
from numgraph.expressions.walk import Output
from numgraph.message.propagate import propagate

_COMPUTED = "fbiu"
_KNOWN = (np.generic, int, float, expr.Expr)
"""What a function of rows takes besides arrays."""


def apply(
    name: str,
    function: Callable[..., Any],
    rows: Sequence[Any],
    shared: Sequence[Any] = (),
    constants: tuple[Hashable, ...] = (),
) -> Any:
    """function(*rows, *shared, *constants), whose value for row i depends on rows[k][i], shared and constants
    alone: an array, or a tuple of them.

    rows: arrays or Tensors [num, …]; shared: arrays or Tensors that broadcast against a row's feature axes,
    or numbers. ``function`` is written with NumPy functions for arrays, Tensors and message symbols alike; it
    counts axes from the last, reads nothing but its arguments, and has no side effects: it is traced once for
    rows of the same shapes and dtypes and the same constants, which become part of the kernel.

    Large arrays in float32 or float64, all on the host or all on a device, go through one kernel; everything
    else through the function."""
    data = unwrap(rows[0])
    if (
        data.dtype.kind not in _COMPUTED if type(data) is np.ndarray else not isinstance(data, _KNOWN)
    ):  # lists, tables, names, …
        rows = [given(name, "x", x) for x in rows]
        data = unwrap(rows[0])
    if not is_large(data):
        return function(*rows, *shared, *constants)
    device = device_of(data)
    fields: dict[tuple[str, str], Any] = {("e", f"x{i}"): x for i, x in enumerate(rows)}
    fields |= {
        ("shared", f"s{i}"): x if hasattr(x, "shape") else moved(np.asarray(x), device)
        for i, x in enumerate(shared)
    }
    if any(device_of(unwrap(x)) != device for x in fields.values()):
        return function(*rows, *shared, *constants)  # whose error names both
    symbols = tuple(
        [expr.field(*key, x.shape[1:] if key[0] == "e" else x.shape, x.dtype) for key, x in fields.items()]
    )
    outputs, many = _traced(function, symbols, *constants)
    results = propagate(name, blocks(len(data), device), outputs, fields, told=False)
    return results if many else results[0]


@functools.lru_cache(maxsize=256, typed=True)
def _traced(
    function: Callable[..., Any], symbols: tuple[expr.Expr, ...], *constants: Hashable
) -> tuple[tuple[Output, ...], bool]:
    """The walk, and whether the function returned a tuple."""
    made = function(*symbols, *constants)
    roots = made if isinstance(made, tuple) else (made,)
    return tuple([Output((expr.lift(root),), "e", "edge") for root in roots]), isinstance(made, tuple)
