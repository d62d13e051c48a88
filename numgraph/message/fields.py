"""What messages read: fields that are checked and placed, and traced with the messages to expressions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from numgraph import errors
from numgraph.arrays import NATIVE, Library, foreign, library_of
from numgraph.arrays.devices import MOVE, adopted, device_of
from numgraph.arrays.inputs import as_array, kind_of
from numgraph.autodiff.tape import Tensor, unwrap
from numgraph.compiler import execute
from numgraph.expressions import expr
from numgraph.expressions.pieces import Key, Pieces, pieces_of
from numgraph.expressions.tracing import trace
from numgraph.expressions.traversal import leaves_of, topological
from numgraph.expressions.walk import Output, rows_of
from numgraph.graph import Graph, Shard, can_have_ends, check_graph, with_ends
from numgraph.message.propagate import Values

FieldArrays = Mapping[str, Any] | None
Message = Callable[..., Any]


def traced(
    op: str,
    g: Graph,
    functions: tuple[Callable[..., Any], ...],
    u: FieldArrays,
    v: FieldArrays,
    e: FieldArrays,
) -> tuple[tuple[expr.Expr, ...], Values]:
    """Expressions of the message functions, and the arrays that they read."""
    check_graph(op, "the first argument", g)
    values: Values = {}
    for target, given in (("u", u), ("v", v), ("e", e)):
        if given is None:
            continue
        if type(given) is not dict and not isinstance(given, Mapping):
            raise errors.bad_type(
                op, f"{target} is {kind_of(given)}", f'pass the fields by name: {target}={{"x": array}}'
            )
        for name, value in given.items():
            if not isinstance(name, str):
                raise errors.bad_type(
                    op,
                    f"a field of {target} has the name {name!r}",
                    f'names are strings: {target}={{"x": array}}',
                )
            values[target, name] = value
    library = foreign(values.values()) or NATIVE
    roots, captured = _expressions(op, g, functions, values, library)
    if captured:
        other = foreign(captured.values())
        if other is not None and other is not library:
            if library is not NATIVE:
                name = next(name for name, x in captured.items() if library_of(x) is other)
                raise mixed(op, library, other, f"the captured array of shape {list(captured[name].shape)}")
            library = other  # whose dtypes the fields take on
            roots, captured = _expressions(op, g, functions, values, library)
        for name, value in captured.items():
            values["shared", name] = _placed(op, g, "shared", name, value, library)
    return roots, values


def _expressions(
    op: str, g: Graph, functions: tuple[Callable[..., Any], ...], values: Values, library: Library
) -> tuple[tuple[expr.Expr, ...], dict[str, Any]]:
    """Expressions of the message functions, and the arrays that they captured; checks the fields, which are
    then the library's.
    """
    leaves: list[expr.Expr] = []
    plain = library is NATIVE and g.device == "cpu"
    for key, value in values.items():
        target, name = key
        if not (plain and type(value) is np.ndarray) and not library.fits(value, g.device):
            value = values[key] = _placed(op, g, target, name, value, library)
        shape, rows = tuple(value.shape), rows_of(g, target)
        if not shape or shape[0] != rows:
            what = {"u": "num_src", "v": "num_dst", "e": "num_edges"}[target]
            problem = f"field {target}.{name} has shape {shape}, the graph's {what} is {rows}"
            raise errors.bad_value(op, problem, f"the first axis must be {rows}")
        dtype = value.dtype if library is NATIVE else library.dtype(value)
        expr.check_dtype(op, f"field {target}.{name}", dtype)
        leaves.append(expr.field(target, name, shape[1:], dtype))
    return trace(op, functions, tuple(leaves), functools.partial(rows_of, g), library)


def _placed(op: str, g: Graph, target: str, name: str, value: Any, library: Library) -> Any:
    """An array or Tensor that is where the graph is, and the library's."""
    if library is NATIVE and type(unwrap(value)) is np.ndarray and g.device == "cpu":
        return value
    what = f"array {name}" if target == "shared" else f"field {target}.{name}"
    owner = library_of(value)
    if library is not NATIVE:
        if owner.has_autodiff and owner is not library:
            raise mixed(op, library, owner, what)
        if isinstance(value, Tensor):
            fix = f"give its array, {name}.data, or take the gradient by {library.name}"
            raise errors.bad_type(op, f"{what} is a Tensor of a tape beside arrays of {library.name}", fix)
        value = library.taken(op, what, value if owner is library else as_array(op, what, value))
        owner = library_of(value)
    else:
        value = adopted(value) if isinstance(value, Tensor) else as_array(op, what, value)
    place = owner.device(value) if owner.has_autodiff else device_of(unwrap(value))
    if place != g.device:
        raise errors.bad_type(op, f"{what} is on {place}, the graph is on {g.device}", owner.moving or MOVE)
    return value


def mixed(op: str, library: Library, other: Library, what: str) -> TypeError:
    """The error of arrays of two libraries that have an autodiff each, of which one would lose its
    gradient.
    """
    problem = f"{what} is an array of {other.name}, others are of {library.name}"
    return errors.bad_type(
        op, problem, "give arrays of one library; arrays of NumPy may stand beside them as constants"
    )


def in_pieces(op: str, g: Graph, roots: tuple[expr.Expr, ...], values: Values) -> tuple[Graph, Pieces]:
    """What walks compute of traced expressions, and the graph that they walk, with the ends that they read;
    the values get the views.
    """
    pieces = pieces_of(roots)
    if pieces.ends:
        ended = _with_ends(op, g, pieces.ends, values)
        if ended is None:
            pieces = pieces_of(roots, by_ends=False)
        g = ended or g
    for view in pieces.views:
        x = values[view.base]
        library = library_of(x)
        rows = (
            ()
            if view.base[0] == "shared" and view.ids is None and view.key[0] == "shared"
            else (slice(None),)
        )
        if any(item != slice(None) for item in view.index):
            x = library.entries(x, (*rows, *view.index))
        values[view.key] = (
            x
            if view.ids is None
            else library.take(x, _checked_ids(op, view.ids, values[view.ids], x.shape[0]))
        )
    for exponent in _signed_exponents(tuple([node for part in pieces.parts for node in part])):
        _check_exponent(op, g, exponent, values)
    return g, pieces


def _with_ends(op: str, g: Graph, ends: Sequence[tuple[str, Key, int]], values: Values) -> Graph | None:
    """The graph with ends for the rows of tables that its edges read. None where there are no numbers to look
    at, and where edges cannot have ends: there the rows become a field."""
    if isinstance(g, Shard) or not all(can_have_ends(g, rows) for _, _, rows in ends):
        return None
    given = {name: (library_of(values[key]).plain(unwrap(values[key])), rows) for name, key, rows in ends}
    if any(ids is None for ids, _ in given.values()):
        return None
    found = with_ends(g, given)
    if isinstance(found, Graph):
        return found
    name, place = found
    raise _no_row(op, next(key for one, key, _ in ends if one == name), *given[name], place)


def _checked_ids(op: str, key: Key, ids: Any, rows: int) -> Any:
    """The rows of a table that a field names, or an error that says which edge or node names one that is not
    there. A compiler traces them without numbers."""
    plain = library_of(ids).plain(unwrap(ids))
    if plain is None:
        return ids
    wrong = (plain < 0) | (plain >= rows)
    if wrong.any():
        raise _no_row(op, key, plain, rows, int(wrong.argmax()))
    return plain.astype(np.int64)


def _no_row(op: str, key: Key, ids: Any, rows: int, place: int) -> IndexError:
    target, field = key
    what = {"u": "source", "v": "destination", "e": "edge"}[target]
    problem = f"{target}.{field} is {int(ids[place])} at {what} {place}, the table has {rows} rows"
    return errors.bad_index(op, problem, f"ids are from 0 to {rows - 1}")


@functools.lru_cache(maxsize=1024)
def _signed_exponents(roots: tuple[expr.Expr, ...]) -> tuple[expr.Expr, ...]:
    """The exponents of integers' powers that may be negative."""
    powers = [node for node in topological(roots) if node.op == "power" and node.dtype.kind == "i"]
    return tuple(
        dict.fromkeys(
            node.args[1] for node in powers if node.args[1].dtype.kind == "i" and node.args[1].number is None
        )
    )


def _check_exponent(op: str, g: Graph, exponent: Any, values: Values) -> None:
    """NumPy's error, which a kernel cannot raise, by a walk of its own."""
    fields = {leaf.attrs: values[leaf.attrs] for leaf in leaves_of((exponent,))}
    fields = {key: library_of(value).plain(unwrap(value)) for key, value in fields.items()}
    if any(value is None for value in fields.values()):  # a compiler traces: there are no numbers to look at
        return
    if execute(g, (Output((exponent < 0,), "v", "max"),), fields)[0].any():
        problem = f"the exponent {expr.text(exponent)} of an integer is negative on an edge"
        raise errors.bad_value(op, problem, "cast the base to a float")
