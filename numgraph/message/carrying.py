"""Edge data that follow a graph through a transform: what ``EdgeMap.gather`` does."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph.arrays import NATIVE, Library, foreign, library_of
from numgraph.arrays.devices import device_of, moved
from numgraph.arrays.inputs import as_array
from numgraph.autodiff.rules import rule
from numgraph.autodiff.tensor import Tensor, unwrap
from numgraph.errors import bad_type, bad_value, check_name
from numgraph.expressions.reduces import NAMES
from numgraph.graph.edge_map import EdgeMap
from numgraph.message.passing import update_all

OP = "EdgeMap.gather"


@rule(OP)
def gather(edges: EdgeMap, values: Any, reduce: str, fill: Any) -> Any:
    """Merged edges are the destinations of a walk over the map as a graph; what was one edge is a row of its
    own.
    """
    check_name(OP, "reduce", reduce, (*NAMES, "first"))
    library = foreign((values,)) or NATIVE
    values = _taken(library, "values", values)
    if len(values.shape) == 0 or values.shape[0] != edges.old.num_edges:
        problem = f"values have shape {list(values.shape)}, the old graph has {edges.old.num_edges} edges"
        raise bad_value(OP, problem, "give a row for each of them, in the order of its edge ids")
    known = len(edges) - edges.num_new
    merges = edges.groups is not None and reduce != "first"
    if library is NATIVE and values.dtype.kind in "OSUTMm" and (merges or isinstance(fill, str)):
        fix = 'pass reduce="first"' if merges else "give fill as a value"
        raise bad_type(
            OP, f"values have dtype {values.dtype}, of which there is no {reduce if merges else fill}", fix
        )
    if edges.groups is None or reduce == "first":
        rows = _rows(library, values, edges.ids[:known])
    else:
        rows = update_all(edges.graph, lambda u: u.x, reduce, u={"x": values})
    return (
        rows
        if known == len(edges)
        else library.concatenated([rows, _of_new(edges, library, values, fill, known)])
    )


def _taken(library: Library, name: str, values: Any) -> Any:
    if library is NATIVE:
        return values if isinstance(values, Tensor) else as_array(OP, name, values)
    return library.taken(OP, name, values if library_of(values) is library else as_array(OP, name, values))


def _rows(library: Library, values: Any, ids: Any) -> Any:
    return library.take(values, moved(ids, device_of(unwrap(values))) if library is NATIVE else ids)


def _of_new(edges: EdgeMap, library: Library, values: Any, fill: Any, known: int) -> Any:
    """The rows of new edges, which are the last ones."""
    count = len(edges) - known
    if fill is None:
        problem = f"{count} edges are new, from edge {known} on, and fill is None"
        raise bad_value(
            OP,
            problem,
            "give their data: a number, an array, or a reduce over their destination's edges, such as 'mean'",
        )
    if isinstance(fill, str):
        check_name(OP, "fill", fill, NAMES)
        found = update_all(edges.old, lambda e: e.x, fill, e={"x": values})
        return _rows(library, found, edges.new.to("cpu").dst[known:])
    shape = (count, *values.shape[1:])
    if not isinstance(fill, int | float):
        fill = _taken(library, "fill", fill)
        if tuple(fill.shape) == shape:
            return fill
    elif library is NATIVE:  # a Python number keeps the values' dtype, as in NumPy's arithmetic
        fill = moved(np.asarray(fill, np.result_type(values.dtype, fill)), device_of(unwrap(values)))
    else:
        fill = np.asarray(fill, library.dtype(values))
    if library is NATIVE:
        try:
            return np.broadcast_to(fill, shape)
        except ValueError:
            raise _bad_fill(fill, shape) from None
    if not isinstance(fill, np.ndarray):
        raise _bad_fill(fill, shape)
    made = np.broadcast_to(fill, shape)
    return library.constant(moved(np.ascontiguousarray(made), library.device(values)))


def _bad_fill(fill: Any, shape: tuple[int, ...]) -> Exception:
    return bad_value(
        OP, f"fill has shape {list(fill.shape)}", f"it is a number, or has the new edges' shape {list(shape)}"
    )
