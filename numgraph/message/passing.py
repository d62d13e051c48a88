"""Message passing: update_all, apply_edges and attend. A message is traced to an expression, which
``propagate`` runs as a walk.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import numpy as np

from numgraph import errors
from numgraph.arrays import NATIVE, Library, foreign, library_of
from numgraph.arrays.devices import MOVE, adopted, device_of
from numgraph.arrays.inputs import as_array, kind_of
from numgraph.arrays.traced import MODULES, TRACED, is_traced
from numgraph.arrays.typed import Array, F, Plain
from numgraph.autodiff.tape import Tensor, unwrap
from numgraph.compiler import execute
from numgraph.expressions import expr
from numgraph.expressions.pieces import Key, Pieces, pieces_of
from numgraph.expressions.reduces import NAMES, REDUCES, message_of
from numgraph.expressions.tracing import trace
from numgraph.expressions.traversal import leaves_of, topological
from numgraph.expressions.walk import Output, rows_of
from numgraph.graph import Graph, Shard, can_have_ends, check_graph, with_ends
from numgraph.message.propagate import Values, propagate
from numgraph.message.results import result

FieldArrays = Mapping[str, Any] | None
Message = Callable[..., Any]
Arrays = Mapping[str, Plain] | None
Tensors = Mapping[str, Plain | Tensor] | None
Others = Mapping[str, F | Plain] | None
Reduces = tuple[str, ...] | list[str]


@overload
def update_all(
    g: Graph,
    message: Message,
    reduce: str,
    *,
    u: Arrays = ...,
    v: Arrays = ...,
    e: Arrays = ...,
    initial: Any = ...,
) -> Array: ...
@overload
def update_all(
    g: Graph,
    message: Message,
    reduce: str,
    *,
    u: Tensors = ...,
    v: Tensors = ...,
    e: Tensors = ...,
    initial: Any = ...,
) -> Tensor: ...
@overload
def update_all(
    g: Graph,
    message: Message,
    reduce: str,
    *,
    u: Others[F] = ...,
    v: Others[F] = ...,
    e: Others[F] = ...,
    initial: Any = ...,
) -> F: ...
@overload
def update_all(
    g: Graph,
    message: Message,
    reduce: Reduces,
    *,
    u: Arrays = ...,
    v: Arrays = ...,
    e: Arrays = ...,
    initial: Any = ...,
) -> tuple[Array, ...]: ...
@overload
def update_all(
    g: Graph,
    message: Message,
    reduce: Reduces,
    *,
    u: Tensors = ...,
    v: Tensors = ...,
    e: Tensors = ...,
    initial: Any = ...,
) -> tuple[Tensor, ...]: ...
@overload
def update_all(
    g: Graph,
    message: Message,
    reduce: Reduces,
    *,
    u: Others[F] = ...,
    v: Others[F] = ...,
    e: Others[F] = ...,
    initial: Any = ...,
) -> tuple[F, ...]: ...
def update_all(
    g: Graph,
    message: Message,
    reduce: str | Sequence[str],
    *,
    u: FieldArrays = None,
    v: FieldArrays = None,
    e: FieldArrays = None,
    initial: Any = None,
) -> Any:
    """z_v = ⊕ φ(x_u, y_v, w_e) over the in-edges e = (u → v) of every destination node v.

    Parameters
    ----------
    message : φ, a function of any of u, v, e (by parameter name) whose fields are attributes:
        ``lambda u, e: u.x * e.w``.
    reduce : ⊕, a name; or a tuple of names, of which one walk makes a tuple of results.
    u, v, e : fields by name, arrays or Tensors [num_src, …], [num_dst, …], [num_edges, …].
        Feature axes broadcast as in NumPy.
    initial : what the reduce starts with, as NumPy's: a number,
        an array or a Tensor that broadcasts against the result. Of mean, var, std and softmax, which do not
        start with anything, rows without in-edges give it. Beside a tuple of names one for all, or a tuple.

    Returns
    -------
    [num_dst, …] with the message's feature shape and dtype; sums and products of integers are int64; means,
    var, std, logsumexp and softmax of integers float64. No array over edges × features is made, forward or
    backward.

    Notes
    -----
    "sum", "mean", "prod"; "max", "min": the first winning edge in in-edge order takes the whole gradient, and
    none does where initial wins. "var", "std": of the population, Σ (φ − mean)² / n, in one pass (Welford,
    1962; Chan, Golub and LeVeque, 1983); the gradient of std is 0 where it is 0. "logsumexp": log Σ exp(φ).
    "softmax": Σ softmax(φ) · φ, each feature for itself (GENConv: Li et al., 2020); for other scores and
    values, attend. Rows without in-edges give 0, 1 for prod, −inf for logsumexp. NaN reaches the result.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [2, 2, 1])
    >>> ng.update_all(g, lambda u: u.x, ("mean", "std"), u={"x": np.array([1.0, 3.0, 5.0])})
    (array([0., 5., 2.]), array([0., 0., 1.]))
    >>> ng.update_all(g, lambda u: u.x, "min", u={"x": np.array([1.0, 3.0, 5.0])}, initial=np.inf)
    array([inf,  5.,  1.])
    """
    if "torch" in MODULES and is_traced():
        options = (
            {"u": u, "v": v, "e": e} if initial is None else {"u": u, "v": v, "e": e, "initial": initial}
        )
        return TRACED["torch"](update_all, (g, message, reduce), options, (message,))
    several = not isinstance(reduce, str) and isinstance(reduce, Sequence)
    names: tuple[Any, ...] = tuple(reduce) if several else (reduce,)
    if not names:
        raise errors.bad_value("update_all", "reduce is an empty tuple", f"name some of {', '.join(NAMES)}")
    for name in names:
        errors.check_name("update_all", "reduce", name, NAMES)
    roots, fields = _trace("update_all", g, (message,), u, v, e)
    g, pieces = _pieces("update_all", g, roots, fields)
    outputs = _reductions(pieces.parts, names)
    made = propagate(f"update_all({', '.join(names)})", g, outputs, fields)
    if not several and initial is None and len(pieces.parts) == 1 and REDUCES[names[0]].value is None:
        return made[0]
    count, results = len(pieces.parts), []
    for name, start in zip(names, _initials(initial, len(names)) if several else (initial,), strict=True):
        width = len(outputs[0].results())
        arrays = [_joined(pieces, made[place : width * count : width]) for place in range(width)]
        results.append(
            result(f"update_all({name})", g, name, outputs[0].expressions[-1].dtype, arrays, start)
        )
        made, outputs = made[width * count :], outputs[count:]
    return tuple(results) if several else results[0]


@functools.lru_cache(maxsize=1024)
def _reductions(parts: tuple[tuple[expr.Expr, ...], ...], names: tuple[str, ...]) -> tuple[Output, ...]:
    """The outputs of each name, one for each part."""
    return tuple([Output(message_of(name, root), "v", name) for name in names for (root,) in parts])


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


def _joined(pieces: Pieces, made: Sequence[Any]) -> Any:
    return made[0] if len(pieces.parts) == 1 else pieces.joined(made, library_of(made[0]))


def _initials(initial: Any, count: int) -> tuple[Any, ...]:
    """One for each of several reduces."""
    if not isinstance(initial, tuple):
        return (initial,) * count
    if len(initial) != count:
        raise errors.bad_value(
            "update_all",
            f"initial has {len(initial)} values for {count} reduces",
            "give one each, None for nothing",
        )
    return initial


@overload
def apply_edges(
    g: Graph, message: Message, *, u: Arrays = ..., v: Arrays = ..., e: Arrays = ...
) -> Array: ...
@overload
def apply_edges(
    g: Graph, message: Message, *, u: Tensors = ..., v: Tensors = ..., e: Tensors = ...
) -> Tensor: ...
@overload
def apply_edges(
    g: Graph, message: Message, *, u: Others[F] = ..., v: Others[F] = ..., e: Others[F] = ...
) -> F: ...
def apply_edges(
    g: Graph, message: Message, *, u: FieldArrays = None, v: FieldArrays = None, e: FieldArrays = None
) -> Any:
    """m_e = φ(x_u, y_v, w_e) for every edge e = (u → v), [num_edges, …] in edge-id order. Fields and φ as in
    update_all.
    """
    if "torch" in MODULES and is_traced():
        return TRACED["torch"](apply_edges, (g, message), {"u": u, "v": v, "e": e}, (message,))
    roots, fields = _trace("apply_edges", g, (message,), u, v, e)
    g, pieces = _pieces("apply_edges", g, roots, fields)
    return _joined(
        pieces,
        propagate("apply_edges", g, tuple([Output(part, "e", "edge") for part in pieces.parts]), fields),
    )


@overload
def attend(
    g: Graph, score: Message, value: Message, *, u: Arrays = ..., v: Arrays = ..., e: Arrays = ...
) -> Array: ...
@overload
def attend(
    g: Graph, score: Message, value: Message, *, u: Tensors = ..., v: Tensors = ..., e: Tensors = ...
) -> Tensor: ...
@overload
def attend(
    g: Graph, score: Message, value: Message, *, u: Others[F] = ..., v: Others[F] = ..., e: Others[F] = ...
) -> F: ...
def attend(
    g: Graph,
    score: Message,
    value: Message,
    *,
    u: FieldArrays = None,
    v: FieldArrays = None,
    e: FieldArrays = None,
) -> Any:
    """z_v = Σ_e softmax_v(s_e) · φ_e over the in-edges e of v: attention in one online pass (Milakov and
    Gimelshein, 2018).

    score, value: message functions as in update_all; s has the softmax's shape and broadcasts against φ: s
    [heads, 1] and φ [heads, D]. Returns [num_dst, …] with the broadcast feature shape; rows without in-edges
    give 0. The softmax is recomputed in the backward. A score of −inf weighs nothing; a row of nothing else,
    or with a score of +inf or NaN, has no softmax and gives NaN."""
    if "torch" in MODULES and is_traced():
        return TRACED["torch"](attend, (g, score, value), {"u": u, "v": v, "e": e}, (score, value))
    roots, fields = _trace("attend", g, (score, value), u, v, e)
    s, phi = roots
    dtype = np.result_type(s.dtype, phi.dtype)
    dtype = dtype if expr.is_float(dtype) else np.dtype(np.float64)
    expr.broadcast_shapes("attend (score · value)", (s, phi))
    g, pieces = _pieces("attend", g, (s.astype(dtype), phi.astype(dtype)), fields)
    return _joined(
        pieces,
        propagate("attend", g, tuple([Output(part, "v", "softmax") for part in pieces.parts]), fields)[::3],
    )


def log_sum_exp(g: Graph, score: Callable[..., Any], *, e: FieldArrays) -> tuple[Any, Any]:
    """Shift and scale of every v with log Σ exp(s_e) = shift − log(scale) over its in-edges, and softmax(s)_e
    = exp(s_e − shift) · scale.

    The shift is a constant: neither of what is computed so from both depends on it.
    """
    (s,), fields = _trace("edge_softmax", g, (score,), None, None, e)
    output = Output((s if expr.is_float(s.dtype) else s.astype(np.float64),), "v", "logsumexp")
    shift, scale = propagate("logsumexp", g, (output,), fields)
    return library_of(shift).detached(unwrap(shift)), scale


def _trace(
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
    roots, captured = _traced(op, g, functions, values, library)
    if captured:
        other = foreign(captured.values())
        if other is not None and other is not library:
            if library is not NATIVE:
                name = next(name for name, x in captured.items() if library_of(x) is other)
                raise mixed(op, library, other, f"the captured array of shape {list(captured[name].shape)}")
            library = other  # whose dtypes the fields take on
            roots, captured = _traced(op, g, functions, values, library)
        for name, value in captured.items():
            values["shared", name] = _placed(op, g, "shared", name, value, library)
    return roots, values


def _pieces(op: str, g: Graph, roots: tuple[expr.Expr, ...], values: Values) -> tuple[Graph, Pieces]:
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


def _traced(
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
