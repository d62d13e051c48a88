"""From the arrays of a walk to what update_all returns: what a reduce is computed of at the nodes, and values
that it starts with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgraph import errors
from numgraph.arrays import NATIVE, foreign, library_of
from numgraph.arrays.devices import adopted, device_of, moved
from numgraph.arrays.inputs import as_array
from numgraph.autodiff.tape import Tensor, unwrap
from numgraph.compiler.rows import blocks
from numgraph.expressions import expr
from numgraph.expressions.dtypes import is_float
from numgraph.expressions.precision import wide
from numgraph.expressions.reduces import REDUCES
from numgraph.expressions.walk import Output
from numgraph.graph import Graph
from numgraph.message.propagate import propagate
from numgraph.message.rowwise import apply


def result(name: str, g: Graph, reduce: str, dtype: Any, made: Sequence[Any], initial: Any) -> Any:
    """What a reduce of messages of a dtype gives, of the arrays that a walk made. initial: what it starts
    with; None: nothing.
    """
    row = REDUCES[reduce]
    if row.value is None and initial is None:
        return made[0]
    if initial is None:
        return _at_nodes(name, _value, made, (), reduce, dtype)
    rank = len(made[0].shape)
    if row.started is None:
        degrees = g.in_degrees().reshape((-1,) + (1,) * (rank - 1))
        arrays: tuple[Any, ...] = made[0], _constant(made[0], degrees)
    else:
        arrays = tuple(made) if row.winner or row.value else (made[0],)
    return _at_nodes(name, _started, arrays, (_checked(name, made[0], initial, dtype),), reduce, dtype)


def _value(*arguments: Any) -> Any:
    *arrays, reduce, dtype = arguments
    value = REDUCES[reduce].value
    assert value is not None
    return value(*arrays).astype(dtype)


def _started(*arguments: Any) -> Any:
    """A reduce that started with its initial value; of those that do not start with one, nodes without edges
    have it.
    """
    *arrays, initial, reduce, dtype = arguments
    row = REDUCES[reduce]
    if row.started is None:
        z, degree = arrays
        return np.where(degree > 0, z, initial).astype(dtype)
    z, *others = [row.value(*arrays)] if row.value else arrays
    return row.started(z, initial, *others).astype(dtype)


def _constant(like: Any, array: Any) -> Any:
    """An array of NumPy where another is, and of its library."""
    return library_of(like).constant(moved(array, device_of(unwrap(like))))


def _checked(name: str, z: Any, initial: Any, dtype: Any) -> Any:
    """``initial`` as an array that broadcasts against the result [num_dst, …], in the dtype that this is
    computed in.
    """
    library = foreign((z, initial)) or NATIVE
    if isinstance(initial, Tensor):
        initial = adopted(initial)
    elif not library.has_autodiff or library_of(initial) is not library:
        initial = as_array(name, "initial", initial)
    given = library_of(initial).dtype(initial)
    if not is_float(dtype) and is_float(given):
        fix = "give integers, or cast the message to a float"
        raise errors.bad_type(name, f"initial is {given}, the result is {dtype}", fix)
    shape, rows = tuple(initial.shape), tuple(z.shape)
    try:
        fits = np.broadcast_shapes(shape, rows) == rows
    except ValueError:
        fits = False
    if not fits:
        fix = (
            "give a number, or an array that broadcasts against the result; one number a node is [num_dst, "
            "1] beside features"
        )
        raise errors.bad_value(name, f"initial has shape {list(shape)}, the result is {list(rows)}", fix)
    if library.has_autodiff and library_of(initial) is not library:
        initial = library.constant(initial)
    elif library is NATIVE:
        initial = moved(initial, device_of(unwrap(z)))
    return library.cast(initial, wide(dtype))


def _at_nodes(
    name: str,
    function: Callable[..., Any],
    rows: Sequence[Any],
    shared: Sequence[Any],
    reduce: str,
    dtype: Any,
) -> Any:
    """function(*rows, *shared, reduce, dtype) of arrays [num, …], and of what broadcasts against them: of
    each node's own entries.
    """
    rank = max(len(x.shape) for x in rows)
    per_node = [x for x in shared if len(x.shape) == rank and x.shape[0] == rows[0].shape[0]]
    shared = [
        x.reshape(x.shape[1:]) if len(x.shape) == rank else x
        for x in shared
        if not any(x is y for y in per_node)
    ]
    rows = [*rows, *per_node]
    library = foreign((*rows, *shared))
    if library is None:
        return apply(name, function, rows, shared, (reduce, dtype))
    fields = {("e", f"x{i}"): x for i, x in enumerate(rows)} | {
        ("shared", f"s{i}"): x for i, x in enumerate(shared)
    }
    symbols = [
        expr.field(*key, tuple(x.shape[key[0] == "e" :]), library.dtype(x)) for key, x in fields.items()
    ]
    outputs = (Output((expr.lift(function(*symbols, reduce, dtype)),), "e", "edge"),)
    return propagate(name, blocks(rows[0].shape[0], library.device(rows[0])), outputs, fields, told=False)[0]
