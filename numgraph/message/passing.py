"""Message passing: update_all, apply_edges and attend. A message is traced to an expression, which
``propagate`` runs as a walk.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import numpy as np

from numgraph import errors
from numgraph.arrays import library_of
from numgraph.arrays.traced import MODULES, TRACED, is_traced
from numgraph.arrays.typed import Array, F, Plain
from numgraph.autodiff.tape import Tensor, unwrap
from numgraph.expressions import expr
from numgraph.expressions.pieces import Pieces
from numgraph.expressions.reduces import NAMES, REDUCES, message_of
from numgraph.expressions.walk import Output
from numgraph.graph import Graph
from numgraph.message.fields import FieldArrays, Message, in_pieces, traced
from numgraph.message.propagate import propagate
from numgraph.message.results import result

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
    g : Graph, on one device with the fields
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
    roots, fields = traced("update_all", g, (message,), u, v, e)
    g, pieces = in_pieces("update_all", g, roots, fields)
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
    """m_e = φ(x_u, y_v, w_e) for every edge e = (u → v).

    Parameters
    ----------
    g, message, u, v, e : as of ``update_all``

    Returns
    -------
    [num_edges, …] in the order of edge ids, with the message's feature shape and dtype

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> x = {"x": np.array([1.0, 3.0])}
    >>> ng.apply_edges(ng.Graph([0, 1], [1, 1]), lambda u, v: u.x - v.x, u=x, v=x)
    array([-2.,  0.])
    """
    if "torch" in MODULES and is_traced():
        return TRACED["torch"](apply_edges, (g, message), {"u": u, "v": v, "e": e}, (message,))
    roots, fields = traced("apply_edges", g, (message,), u, v, e)
    g, pieces = in_pieces("apply_edges", g, roots, fields)
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

    Parameters
    ----------
    g, u, v, e : as of ``update_all``
    score, value : message functions as there, s and φ; s has the softmax's shape and broadcasts against φ:
        s [heads, 1] and φ [heads, D]

    Returns
    -------
    [num_dst, …] with the broadcast feature shape; rows without in-edges give 0. The softmax is recomputed in
    the backward. A score of −inf weighs nothing; a row of nothing else, or with a score of +inf or NaN, has
    no softmax and gives NaN.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g, x = ng.Graph([0, 1], [1, 1]), {"x": np.array([1.0, 3.0])}
    >>> ng.attend(g, lambda v: 0 * v.x, lambda u: u.x, u=x, v=x)
    array([0., 2.])
    """
    if "torch" in MODULES and is_traced():
        return TRACED["torch"](attend, (g, score, value), {"u": u, "v": v, "e": e}, (score, value))
    roots, fields = traced("attend", g, (score, value), u, v, e)
    s, phi = roots
    dtype = np.result_type(s.dtype, phi.dtype)
    dtype = dtype if expr.is_float(dtype) else np.dtype(np.float64)
    expr.broadcast_shapes("attend (score · value)", (s, phi))
    g, pieces = in_pieces("attend", g, (s.astype(dtype), phi.astype(dtype)), fields)
    return _joined(
        pieces,
        propagate("attend", g, tuple([Output(part, "v", "softmax") for part in pieces.parts]), fields)[::3],
    )


def log_sum_exp(g: Graph, score: Callable[..., Any], *, e: FieldArrays) -> tuple[Any, Any]:
    """Shift and scale of every v with log Σ exp(s_e) = shift − log(scale) over its in-edges, and softmax(s)_e
    = exp(s_e − shift) · scale.

    The shift is a constant: neither of what is computed so from both depends on it.
    """
    (s,), fields = traced("edge_softmax", g, (score,), None, None, e)
    output = Output((s if expr.is_float(s.dtype) else s.astype(np.float64),), "v", "logsumexp")
    shift, scale = propagate("logsumexp", g, (output,), fields)
    return library_of(shift).detached(unwrap(shift)), scale
