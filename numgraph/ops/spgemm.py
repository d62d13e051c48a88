"""Sparse times sparse: weighted graphs as matrices, A[u, v] the weight of the edge u → v; their product, sum
and restriction.

Parallel edges add up. New graphs have no parallel edges, and edges ordered by source, then destination. An
entry that comes out 0 stays an edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, overload

import numba
import numpy as np

from numgraph import dense, errors
from numgraph.arrays import Library, foreign, library_of
from numgraph.arrays.inputs import kind_of
from numgraph.arrays.traced import MODULES, TRACED, is_traced
from numgraph.arrays.typed import Array, F, Plain
from numgraph.autodiff.tape import record, unwrap
from numgraph.autodiff.tensor import Tensor
from numgraph.graph import Adjacency, Graph, check_graph
from numgraph.message import update_all
from numgraph.ops import gustavson
from numgraph.ops.operands import check_host, edge_weights, of_library
from numgraph.runtime import threads


@overload
def csrmm(
    A_graph: Graph, A_weights: Tensor, B_graph: Graph, B_weights: Tensor | Plain
) -> tuple[Graph, Tensor]: ...
@overload
def csrmm(A_graph: Graph, A_weights: Plain, B_graph: Graph, B_weights: Tensor) -> tuple[Graph, Tensor]: ...
@overload
def csrmm(A_graph: Graph, A_weights: Plain, B_graph: Graph, B_weights: Plain) -> tuple[Graph, Array]: ...
@overload
def csrmm(A_graph: Graph, A_weights: F, B_graph: Graph, B_weights: F | Plain) -> tuple[Graph, F]: ...
def csrmm(A_graph: Graph, A_weights: Any, B_graph: Graph, B_weights: Any) -> tuple[Graph, Any]:
    """C[u, w] = Σ_v A[u, v] · B[v, w]: the graph of paths of an edge of A and an edge of B, and its weights.

    Parameters
    ----------
    A_graph, B_graph : Graphs; A's destinations are B's sources
    A_weights, B_weights : arrays or Tensors [num_edges] of each

    Returns
    -------
    the graph C, from A's sources to B's destinations, and its weights [num_edges of C]

    Notes
    -----
    ∂L/∂A = (∂L/∂C · Bᵀ) on A's edges, and ∂L/∂B = (Aᵀ · ∂L/∂C) on B's. Nothing of the size of the number of
    paths is stored; but with arrays of torch and JAX, whose derivatives are walks over the paths, ids and a
    weight of each path are.

    Source: Gustavson, "Two fast algorithms for sparse matrices", ACM TOMS 4 (1978).

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> a, b = ng.Graph([0, 1], [1, 2], 3), ng.Graph([1, 2], [2, 0], 3)
    >>> c, w = ng.ops.csrmm(a, np.array([2.0, 3.0]), b, np.array([5.0, 7.0]))
    >>> c.src.tolist(), c.dst.tolist(), w.tolist()
    ([0, 1], [2, 0], [10.0, 21.0])
    """
    if "torch" in MODULES and is_traced():
        found: tuple[Graph, Any] = TRACED["torch, between its parts"](
            csrmm, A_graph, A_weights, B_graph, B_weights
        )
        return found
    check_graph("csrmm", "A_graph", A_graph)
    check_graph("csrmm", "B_graph", B_graph)
    check_host("csrmm", A_graph=A_graph, A_weights=A_weights, B_graph=B_graph, B_weights=B_weights)
    if A_graph.num_dst != B_graph.num_src:
        raise errors.bad_value(
            "csrmm",
            f"A_graph has {A_graph.num_dst} destinations and B_graph {B_graph.num_src} sources",
            "A's columns are B's rows",
        )
    a = edge_weights("csrmm", "A_weights", A_graph, A_weights)
    b = edge_weights("csrmm", "B_weights", B_graph, B_weights)
    product = _product(A_graph, B_graph)
    library = foreign((a, b))
    if library is not None:
        return product.graph, _over_paths(library, product, a, b)
    a, b = _summable(a), _summable(b)
    dtype = np.result_type(a.dtype, b.dtype)
    weights = _contract(product, "C", {"A": _cast(a, _computed(dtype)), "B": _cast(b, _computed(dtype))})
    return product.graph, _cast(weights, dtype)


@overload
# none is a Tensor
def csrsum(graphs: Sequence[Graph], weights: Sequence[Plain]) -> tuple[Graph, Array]: ...  # type: ignore[overload-overlap]
@overload
def csrsum(graphs: Sequence[Graph], weights: Sequence[Plain | Tensor]) -> tuple[Graph, Tensor]: ...  # type: ignore[overload-overlap]
@overload
def csrsum(graphs: Sequence[Graph], weights: Sequence[Plain | F]) -> tuple[Graph, F]: ...
def csrsum(graphs: Sequence[Graph], weights: Sequence[Any]) -> tuple[Graph, Any]:
    """C[u, v] = Σ_k A_k[u, v]: the union of the graphs' edges and its weights.

    Parameters
    ----------
    graphs : at least one, all with the same numbers of sources and destinations
    weights : for each graph an array or Tensor [its num_edges]

    Returns
    -------
    the graph C and its weights [num_edges of C]

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> a, b = ng.Graph([0, 1], [1, 2], 3), ng.Graph([1, 2], [2, 0], 3)
    >>> c, w = ng.ops.csrsum([a, b], [np.array([2.0, 3.0]), np.array([5.0, 7.0])])
    >>> c.src.tolist(), c.dst.tolist(), w.tolist()
    ([0, 1, 2], [1, 2, 0], [2.0, 8.0, 7.0])
    """
    if "torch" in MODULES and is_traced():
        found: tuple[Graph, Any] = TRACED["torch, between its parts"](csrsum, graphs, weights)
        return found
    for name, value in (("graphs", graphs), ("weights", weights)):
        if not isinstance(value, list | tuple):
            raise errors.bad_type(
                "csrsum", f"{name} is {kind_of(value)}", "give a list of graphs and a list of their weights"
            )
    graphs, weights = list(graphs), list(weights)
    if not graphs or len(graphs) != len(weights):
        raise errors.bad_value(
            "csrsum",
            f"{len(graphs)} graphs and {len(weights)} arrays of weights",
            "give as many of each, at least one",
        )
    for k, g in enumerate(graphs):
        check_graph("csrsum", f"graphs[{k}]", g)
        check_host("csrsum", **{f"graphs[{k}]": g, f"weights[{k}]": weights[k]})
        if (g.num_src, g.num_dst) != (graphs[0].num_src, graphs[0].num_dst):
            raise errors.bad_value(
                "csrsum",
                f"graphs[0] is {graphs[0]!r}, graphs[{k}] is {g!r}",
                "they must have the same numbers of nodes",
            )
    values = [edge_weights("csrsum", f"weights[{k}]", g, w) for k, (g, w) in enumerate(zip(graphs, weights))]
    src, dst = (np.concatenate([getattr(g, end) for g in graphs]) for end in ("src", "dst"))
    union = _simple(_graph(src, dst, graphs))
    library = foreign(values)
    if library is not None:
        values = [of_library("csrsum", f"weights[{k}]", library, value) for k, value in enumerate(values)]
        dtype = np.result_type(*map(library.dtype, values))
        together = library.concatenated([library.cast(value, dtype) for value in values])
        return union, _gathered(together, np.arange(len(src)), _positions(union, src, dst), union.num_edges)
    values = list(map(_summable, values))
    dtype = np.result_type(*[v.dtype for v in values])
    summands = np.concatenate([_cast(v, _computed(dtype)) for v in values])
    return union, _cast(dense.scatter_add(summands, _positions(union, src, dst), union.num_edges), dtype)


@overload
def csrmask(A_graph: Graph, A_weights: Tensor, B_graph: Graph) -> Tensor: ...
@overload
def csrmask(A_graph: Graph, A_weights: Plain, B_graph: Graph) -> Array: ...
@overload
def csrmask(A_graph: Graph, A_weights: F, B_graph: Graph) -> F: ...
def csrmask(A_graph: Graph, A_weights: Any, B_graph: Graph) -> Any:
    """w_e = A[u, v] for every edge e = (u → v) of B, 0 where A has no such edge: A[B ≠ 0].

    Parameters
    ----------
    A_graph, B_graph : Graphs with the same numbers of sources and destinations
    A_weights : array or Tensor [num_edges of A]

    Returns
    -------
    [num_edges of B]

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> a, b = ng.Graph([0, 1], [1, 2], 3), ng.Graph([1, 2], [2, 0], 3)
    >>> ng.ops.csrmask(a, np.array([2.0, 3.0]), b).tolist()
    [3.0, 0.0]
    """
    if "torch" in MODULES and is_traced():
        return TRACED["torch"](csrmask, (A_graph, A_weights, B_graph), {})
    check_graph("csrmask", "A_graph", A_graph)
    check_graph("csrmask", "B_graph", B_graph)
    check_host("csrmask", A_graph=A_graph, A_weights=A_weights, B_graph=B_graph)
    if (A_graph.num_src, A_graph.num_dst) != (B_graph.num_src, B_graph.num_dst):
        raise errors.bad_value(
            "csrmask",
            f"A_graph is {A_graph!r}, B_graph is {B_graph!r}",
            "they must have the same numbers of nodes",
        )
    weights = edge_weights("csrmask", "A_weights", A_graph, A_weights)
    simple = _simple(A_graph)
    if library_of(weights).has_autodiff:
        merged = _gathered(
            weights,
            np.arange(A_graph.num_edges),
            _positions(simple, A_graph.src, A_graph.dst),
            simple.num_edges,
        )
        found = _positions(simple, B_graph.src, B_graph.dst)
        return _gathered(merged, found[found >= 0], np.flatnonzero(found >= 0), B_graph.num_edges)
    weights = _summable(weights)
    dtype = weights.dtype
    merged = dense.scatter_add(
        _cast(weights, _computed(dtype)), _positions(simple, A_graph.src, A_graph.dst), simple.num_edges
    )
    padded = np.concatenate(
        [merged, np.zeros(1, merged.dtype)]
    )  # a last entry for the edges that A does not have: position −1
    found = _positions(simple, B_graph.src, B_graph.dst)
    return _cast(dense.gather(padded, np.where(found < 0, simple.num_edges, found)), dtype)


def _gathered(x: Any, ids: Any, into: Any, count: int) -> Any:
    """y[into[i]] = Σ x[ids[i]] for a library with an autodiff of its own, as a message."""
    return update_all(Graph(ids, into, num_src=x.shape[0], num_dst=count), lambda u: u.x, "sum", u={"x": x})


def _over_paths(library: Library, product: _Product, a: Any, b: Any) -> Any:
    """The weights of C for such a library: messages from edges of A to edges of C, one a path, each with its
    weight of B.
    """
    A, B = product.A, product.B
    lengths = np.diff(B.indptr).astype(np.int64)[A.indices]
    first = np.cumsum(lengths) - lengths
    places = np.arange(product.paths) + np.repeat(B.indptr.astype(np.int64)[A.indices] - first, lengths)
    rows = np.repeat(np.repeat(np.arange(A.num_rows), np.diff(A.indptr)), lengths)
    into = _positions(product.graph, rows, B.indices[places])
    paths = Graph(np.repeat(A.edge_ids, lengths), into, num_src=A.num_edges, num_dst=product.graph.num_edges)
    along = library.take(b, B.edge_ids[places]) if library_of(b) is library else b[B.edge_ids[places]]
    return update_all(paths, lambda u, e: u.a * e.b, "sum", u={"a": a}, e={"b": along})


def _summable(weights: Any) -> Any:
    """bool and small integers add up in int64, as in update_all."""
    return weights.astype(np.int64) if weights.dtype.kind in "biu" else weights


def _computed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """float16 and bfloat16 are storage: they add up in float32."""
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype


def _cast(x: Any, dtype: np.dtype[Any]) -> Any:
    return x if x.dtype == dtype else x.astype(dtype)


def _graph(src: Any, dst: Any, like: Sequence[Graph]) -> Graph:
    """Edges between the nodes of graphs that have them in common: two sets of nodes if one of the graphs says
    so.
    """
    if any(g.is_bipartite for g in like):
        return Graph(src, dst, num_src=like[0].num_src, num_dst=like[0].num_dst)
    return Graph(src, dst, like[0].num_nodes)


def _simple(g: Graph) -> Graph:
    """g without parallel edges, ordered by source, then destination."""
    return g.reverse().coalesce().reverse()


def _positions(simple: Graph, src: Any, dst: Any) -> Any:
    """The edge id in `simple` of each src → dst, −1 where there is none."""
    rows = simple.out_edges
    dtype = rows.indptr.dtype
    found = np.empty(len(src), np.int64)
    return gustavson.locate_all(rows.indptr, rows.indices, _ids(src, dtype), _ids(dst, dtype), found)


def _ids(ids: Any, dtype: Any) -> Any:
    """Read-only, in the dtype of the rows searched: one compiled version for every caller."""
    view = np.ascontiguousarray(ids).astype(dtype, copy=False).view()
    view.flags.writeable = False
    return view


class _Product(NamedTuple):
    """C = A·B: who multiplies whom. Every triple (edge of A, edge of B, edge of C) is one path u → v → w."""

    graph: Graph
    A: Adjacency  # A's out-edges, rows u
    A_in: Adjacency  # A's in-edges, rows v
    B: Adjacency  # B's out-edges, rows v
    C: Adjacency  # C's out-edges, rows u, destinations ascending
    columns: int
    paths: int


def _product(A_graph: Graph, B_graph: Graph) -> _Product:
    A, B, columns = A_graph.out_edges, B_graph.out_edges, B_graph.num_dst
    dtype = np.result_type(A.indptr.dtype, B.indptr.dtype)
    fixed = [_ids(ids, dtype) for ids in (A.indptr, A.indices, B.indptr, B.indices)]
    paths = int(np.diff(B.indptr).astype(np.int64)[A.indices].sum())
    counts = np.zeros(A.num_rows + 1, np.int64)
    _over_rows(gustavson.count_parallel, gustavson.count, A, paths, *fixed, columns, counts)
    indptr = np.cumsum(counts)
    indices = np.empty(indptr[-1], dtype)
    _over_rows(gustavson.fill_parallel, gustavson.fill, A, paths, *fixed, columns, indptr, indices)
    graph = Graph.from_csr(
        indptr, indices, num_dst=columns, num_src=None if _ends_meet(A_graph, B_graph) else A.num_rows
    )
    return _Product(graph, A, A_graph.in_edges, B, graph.out_edges, columns, paths)


def _ends_meet(A_graph: Graph, B_graph: Graph) -> bool:
    """Whether A's sources and B's destinations are one set of nodes: as in A·A of one set, and A·Aᵀ of any
    two.
    """
    return B_graph.is_reverse_of(A_graph) or not (A_graph.is_bipartite or B_graph.is_bipartite)


def _over_rows(parallel: Any, serial: Any, rows: Adjacency, work: int, *args: Any) -> None:
    """Run a kernel over row ranges ``bounds[i] … bounds[i + 1]`` with as many edges each."""

    def in_parts(*args: Any) -> None:
        parts = 4 * numba.get_num_threads()
        targets = np.arange(parts + 1, dtype=np.int64) * rows.num_edges // parts
        bounds = np.searchsorted(rows.indptr, targets).astype(np.int64)
        bounds[0], bounds[-1] = 0, rows.num_rows
        parallel(bounds, *args)

    threads.run(in_parts, lambda *args: serial(0, rows.num_rows, *args), *args, work=work + rows.num_rows)


def _contract(product: _Product, target: str, operands: Mapping[str, Any]) -> Any:
    """Σ over the paths of the product of the other two's weights, into each edge of ``target``, one of "A",
    "B", "C".

    The three are one trilinear form Σ A·B·C over the paths, differentiated by ``target``, so the gradients
    are contractions again."""
    names = tuple(operands)
    arrays = {name: np.ascontiguousarray(unwrap(operands[name])) for name in names}

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> list[Any]:
        given = dict(zip(names, xs))
        others = {name: next(other for other in names if other != name) for name in names}
        return [
            _contract(product, name, {target: g, others[name]: given[others[name]]}) if need else None
            for name, need in zip(names, needs)
        ]

    return record(f"csrmm ({target})", [operands[name] for name in names], _run(product, target, arrays), vjp)


def _run(product: _Product, target: str, weights: Mapping[str, Any]) -> Any:
    A, B, C = product.A, product.B, product.C
    dtype = np.result_type(A.indptr.dtype, B.indptr.dtype, C.indptr.dtype)
    weights = {name: _frozen_view(array) for name, array in weights.items()}
    out = np.zeros(
        {"A": A.num_edges, "B": B.num_edges, "C": C.num_edges}[target], next(iter(weights.values())).dtype
    )
    right = *_rows(B, dtype), *_rows(C, dtype)[:2]
    args: tuple[Any, ...]
    if target == "C":
        kernels, over, args = (
            (gustavson.into_c_parallel, gustavson.into_c),
            A,
            (product.columns, weights["A"], weights["B"]),
        )
    elif target == "A":
        kernels, over, args = (
            (gustavson.into_a_parallel, gustavson.into_a),
            A,
            (product.columns, weights["C"], weights["B"]),
        )
    else:
        kernels, over, args = (gustavson.into_b_parallel, gustavson.into_b), B, (weights["A"], weights["C"])
    left = product.A_in if target == "B" else A
    _over_rows(*kernels, over, product.paths, *_rows(left, dtype), *right, *args, out)
    return out


def _rows(adjacency: Adjacency, dtype: Any) -> tuple[Any, Any, Any]:
    return _ids(adjacency.indptr, dtype), _ids(adjacency.indices, dtype), _ids(adjacency.edge_ids, dtype)


def _frozen_view(array: Any) -> Any:
    view = array.view()
    view.flags.writeable = False
    return view
