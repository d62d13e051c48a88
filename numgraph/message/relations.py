"""multi_update_all: message passing along several relations, whose results meet at the nodes that they lead
to.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from numgraph import errors
from numgraph.arrays import NATIVE, Library, foreign, library_of
from numgraph.arrays.devices import device_of, moved
from numgraph.arrays.inputs import kind_of
from numgraph.autodiff.tensor import unwrap
from numgraph.autodiff.typed import Result
from numgraph.expressions.dtypes import is_float
from numgraph.expressions.precision import wide
from numgraph.graph import HeteroBlock, HeteroGraph, check_hetero
from numgraph.message.passing import update_all


def multi_update_all(
    h: HeteroGraph,
    functions: Mapping[Any, tuple[Callable[..., Any], str]],
    cross_reduce: str = "sum",
    *,
    nodes: Mapping[str, Mapping[str, Any]] | None = None,
    edges: Mapping[Any, Mapping[str, Any]] | None = None,
) -> dict[str, Result]:
    """z_v = ⊗ over the relations r that lead to v's type of ⊕_r φ_r(x_u, y_v, w_e) over v's in-edges of r.

    Parameters
    ----------
    h : HeteroGraph
    functions : {relation: (φ, ⊕)}, a message and a reduce of ``update_all``;
        relations are named as in ``h[…]``
    cross_reduce : ⊗, "sum", "mean", "max", "min" or "stack"
    nodes : {type: {name: array [nodes of the type, …]}}, which are u's fields in relations from the type,
        v's in those to it
    edges : {relation: {name: array [edges of the relation, …]}}, e's fields

    Returns
    -------
    {type: array or Tensor [nodes of the type, …]} for every type of nodes; a type to which no relation of
    `functions` leads has zeros, with the features of the first other type. "stack" gives [nodes, relations,
    …] in the order of ``h.edge_types``.

    Raises
    ------
    TypeError : h is no HeteroGraph, functions or fields are no dicts
    ValueError : an unknown relation, type or reduce, or results for one type whose shapes differ

    Notes
    -----
    All nodes of a type take part in ⊗ for each relation to it, also those without in-edges of that relation:
    these have what ``update_all`` gives them, 0 for most reduces. So in a "max" such a 0 beats negative
    results, and in a "mean" it counts; as in DGL. Of equal results "max" and "min" give the whole gradient to
    the first in the order of `functions`. Means of integers are float64.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> writes, cites = ("author", "writes", "paper"), ("paper", "cites", "paper")
    >>> h = ng.HeteroGraph({writes: ([0, 1], [0, 0]), cites: ([0], [1])})
    >>> fields = {"author": {"x": np.array([1.0, 2.0])}, "paper": {"x": np.array([5.0, 7.0])}}
    >>> functions = {"writes": (lambda u: u.x, "sum"), "cites": (lambda u: u.x, "sum")}
    >>> ng.multi_update_all(h, functions, "sum", nodes=fields)
    {'author': array([0., 0.]), 'paper': array([3., 5.])}
    """
    op = "multi_update_all"
    check_hetero(op, h)
    errors.check_name(op, "cross_reduce", cross_reduce, CROSS_REDUCES)
    chosen = h.by_relation(op, "functions", functions)
    if not chosen:
        raise errors.bad_value(
            op,
            "functions is empty",
            "give a message and a reduce for one relation at least, {'writes': (message, 'sum')}",
        )
    of_nodes = h.by_type(op, "nodes", {} if nodes is None else nodes)
    of_edges = h.by_relation(op, "edges", {} if edges is None else edges)
    made: dict[str, dict[Any, Any]] = {}
    for relation, pair in chosen.items():
        message, reduce = _pair(op, relation, pair)
        source, _, target = relation
        fields = {
            "u": of_nodes.get(source),
            "v": _first(h, target, of_nodes.get(target)),
            "e": of_edges.get(relation),
        }
        try:
            made.setdefault(target, {})[relation] = update_all(h[relation], message, reduce, **fields)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            error.add_note(f"{op}: this was the relation {relation}")
            raise
    return with_all_types(
        h, {target: crossed(op, h, cross_reduce, results) for target, results in made.items()}, cross_reduce
    )


def _first(h: HeteroGraph, kind: str, fields: Any) -> Any:
    """The fields of the nodes that edges lead to; of a block they are the first rows."""
    if not isinstance(h, HeteroBlock) or not isinstance(fields, Mapping):
        return fields
    return {name: x[: h.num_dst[kind]] for name, x in fields.items()}


def _pair(op: str, relation: Any, pair: Any) -> tuple[Callable[..., Any], str]:
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not callable(pair[0]):
        raise errors.bad_type(
            op, f"of {relation} there is {errors.shown(pair)}", "give a pair, (message, reduce)"
        )
    if not isinstance(pair[1], str):
        raise errors.bad_type(
            op, f"of {relation} the reduce is {kind_of(pair[1])}", "give the name of one reduce"
        )
    return pair[0], pair[1]


def crossed(op: str, h: HeteroGraph, cross_reduce: str, results: Mapping[Any, Any]) -> Any:
    """One array of the results of several relations for one type of nodes, in their order; stacked in that of
    ``h.edge_types``.
    """
    if cross_reduce == "stack":
        results = {relation: results[relation] for relation in h.edge_types if relation in results}
    first, *others = results
    shape = tuple(results[first].shape)
    for relation in others:
        if tuple(results[relation].shape) != shape:
            problem = f"{relation} gives {list(results[relation].shape)}, {first} gives {list(shape)}"
            raise errors.bad_value(op, problem, f"results for {first[2]!r} need one shape: the same features")
    arrays = list(results.values())
    library = foreign(arrays) or NATIVE
    return CROSS_REDUCES[cross_reduce](library, arrays)


def with_all_types(h: HeteroGraph, results: Mapping[str, Any], cross_reduce: str = "sum") -> dict[str, Any]:
    """The results by type, with zeros for each type that has none: [nodes, features of the first other
    type].
    """
    like = next(iter(results.values()))
    features = tuple(like.shape[1:])
    features = (0, *features[1:]) if cross_reduce == "stack" else features
    return {
        one: results[one] if one in results else _zeros((count, *features), like)
        for one, count in h.num_dst.items()
    }


def _zeros(shape: tuple[int, ...], like: Any) -> Any:
    library = library_of(like)
    return library.cast(
        library.constant(moved(np.zeros(shape, np.float32), device_of(unwrap(like)))), library.dtype(like)
    )


def _sum(library: Library, arrays: Sequence[Any]) -> Any:
    """Halves are added in float32."""
    dtype = (
        np.result_type(*[library.dtype(x) for x in arrays]) if len(arrays) > 1 else library.dtype(arrays[0])
    )
    added = functools.reduce(lambda a, b: a + b, [library.cast(x, wide(dtype)) for x in arrays])
    return library.cast(added, dtype)


def _mean(library: Library, arrays: Sequence[Any]) -> Any:
    dtypes = [library.dtype(x) for x in arrays]
    dtype = np.result_type(*dtypes) if len(dtypes) > 1 else dtypes[0]
    dtype = dtype if is_float(dtype) else np.dtype(np.float64)
    added = functools.reduce(lambda a, b: a + b, [library.cast(x, wide(dtype)) for x in arrays])
    return library.cast(added / len(arrays), dtype)


def _extremum(beats: Callable[[Any, Any], Any]) -> Callable[[Library, Sequence[Any]], Any]:
    """The first of equal ones wins; NaN wins over all."""

    def reduce(library: Library, arrays: Sequence[Any]) -> Any:
        return functools.reduce(lambda a, b: library.where(_detached(library, a, b, beats), a, b), arrays)

    return reduce


def _detached(library: Library, a: Any, b: Any, beats: Callable[[Any, Any], Any]) -> Any:
    a, b = (unwrap(x) if library is NATIVE else library.detached(x) for x in (a, b))
    return beats(a, b) | (a != a)


def _stack(library: Library, arrays: Sequence[Any]) -> Any:
    rows = [x.reshape((x.shape[0], 1, *x.shape[1:])) for x in arrays]
    return library.concatenated(rows, 1)


CROSS_REDUCES: dict[str, Callable[[Library, Sequence[Any]], Any]] = {
    "sum": _sum,
    "mean": _mean,
    "max": _extremum(lambda a, b: a >= b),
    "min": _extremum(lambda a, b: a <= b),
    "stack": _stack,
}
