"""What the ops accept: operands with a row for each node or edge, offsets of segments, weights of edges."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph import errors
from numgraph.arrays import Library, inputs, library_of
from numgraph.arrays.devices import adopted, device_of
from numgraph.autodiff.tape import Tensor, unwrap
from numgraph.expressions import expr
from numgraph.expressions.walk import rows_of
from numgraph.graph import Graph
from numgraph.message.fields import mixed

COUNTS = {"u": "num_src", "v": "num_dst", "e": "num_edges"}


def rows_operand(op: str, name: str, g: Graph, target: str, value: Any) -> Any:
    """`value` as an array or Tensor with a row for each u, v or e."""
    count = rows_of(g, target)
    if value is None:
        raise errors.bad_type(
            op, f"{name} is None", f"this op reads {name}: pass an array [{COUNTS[target]}, …]"
        )
    array = as_array(op, name, value)
    if len(array.shape) == 0 or array.shape[0] != count:
        raise errors.bad_value(
            op,
            f"{name} has shape {list(array.shape)}, the graph's {COUNTS[target]} is {count}",
            f"the first axis of {name} must be {count}",
        )
    return array


def as_array(op: str, name: str, value: Any) -> Any:
    """`value` itself if it is a Tensor or a framework's array, else as a NumPy (or CuPy) array; of a dtype
    that messages compute with.
    """
    library = library_of(value)
    if library.has_autodiff:
        value = library.taken(op, name, value)
    else:
        value = adopted(value) if isinstance(value, Tensor) else inputs.as_array(op, name, value)
    expr.check_dtype(op, name, library.dtype(value))
    return value


def of_library(op: str, name: str, library: Library, x: Any) -> Any:
    """An operand beside the library's arrays as one of them: itself, or a constant."""
    other = library_of(x)
    if other.has_autodiff and other is not library:
        raise mixed(op, library, other, name)
    return x if other is library else library.constant(x)


def check_feature_shapes(op: str, operator: str, lhs: Any, rhs: Any) -> None:
    """Feature axes broadcast as in NumPy; dot wants last axes of one length."""
    a, b = tuple(lhs.shape[1:]), tuple(rhs.shape[1:])
    shapes = f"lhs {list(lhs.shape)} and rhs {list(rhs.shape)}"
    if operator == "dot" and (a[-1] if a else 1) != (b[-1] if b else 1):
        raise errors.bad_value(
            op,
            f"dot of {shapes}: the last axes differ",
            "dot sums over the last axis, which both have in one length",
        )
    try:
        np.broadcast_shapes(a, b)
    except ValueError:
        raise errors.bad_value(
            op,
            f"the feature axes of {shapes} do not broadcast",
            "align them from the last axis; length-1 axes broadcast",
        ) from None


def host_offsets(op: str, offsets: Any, name: str = "offsets") -> Any:
    """Offsets as NumPy array; they are read on the host, wherever the rows are."""
    if device_of(offsets) != "cpu":
        fix = f"segments are planned on the host: give {name}.{library_of(offsets).fetching}"
        raise errors.bad_type(op, f"{name} is on {device_of(offsets)}", fix)
    return inputs.as_array(op, name, offsets, inputs.INTEGERS)


def check_host(op: str, **operands: Any) -> None:
    """Graphs and arrays of an op that has no kernels for a device."""
    for name, x in operands.items():
        device = x.device if isinstance(x, Graph) else device_of(unwrap(x))
        if device != "cpu":
            there = "to('cpu')" if isinstance(x, Graph) else library_of(x).fetching
            fix = f"take {name} to the host, {name}.{there}"
            raise errors.bad_type(op, f"{name} is on {device}, and this op runs on the host alone", fix)


def checked_offsets(op: str, offsets: Any, rows: int, name: str = "offsets") -> Any:
    """Offsets [segments + 1] as int64: from 0, never decreasing, to `rows`."""
    given = host_offsets(op, offsets, name)
    lengths = "lengths become offsets by np.concatenate([[0], np.cumsum(lengths)])"
    if given.ndim != 1 or len(given) == 0:
        raise errors.bad_value(
            op, f"{name} has shape {list(given.shape)}", "give one axis [segments + 1]; [0] for no segments"
        )
    if given.dtype.kind not in "iu":
        raise errors.bad_type(
            op,
            f"{name} is {given.dtype}, offsets must be integers",
            f"cast it, as in {name}.astype(np.int64)",
        )
    starts = given.astype(np.int64)
    if starts[0] != 0:
        raise errors.bad_value(
            op, f"{name}[0] is {given[0]}", f"it must be 0, the start of the first segment; {lengths}"
        )
    descents = np.flatnonzero(starts[1:] < starts[:-1])
    if len(descents):
        i = int(descents[0])
        fix = f"the start of a segment is at or after that of the one before; {lengths}"
        raise errors.bad_value(
            op, f"{name}[{i + 1}] is {given[i + 1]}, less than {name}[{i}], {given[i]}", fix
        )
    if starts[-1] != rows:
        raise errors.bad_value(
            op,
            f"{name}[{len(given) - 1}], the last, is {given[-1]} and there are {rows} rows",
            "the last entry must be the number of rows",
        )
    return starts


def edge_weights(op: str, name: str, g: Graph, weights: Any) -> Any:
    """`weights` as an array or Tensor [num_edges]."""
    array = as_array(op, name, weights)
    if tuple(array.shape) != (g.num_edges,):
        raise errors.bad_value(
            op,
            f"{name} has shape {list(array.shape)}, the graph's num_edges is {g.num_edges}",
            f"give one number an edge, [{g.num_edges}]",
        )
    return array


def sections(returns: str, **rows: str) -> str:
    """The sections of an operation's docstring: its graph, its operands with the number of their rows, what
    it returns.
    """
    operands = "\n".join(f"{name} : [{count}, …] an array or Tensor" for name, count in rows.items())
    return f"Parameters\n----------\ng : Graph\n{operands}\n\nReturns\n-------\n{returns}"
