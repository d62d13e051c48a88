"""Generalised SpMM: a message of a source feature and an edge feature, reduced over the in-edges of each
destination.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, overload

from numgraph import errors
from numgraph.arrays.traced import MODULES, TRACED, is_traced
from numgraph.arrays.typed import Array, F, Plain
from numgraph.autodiff.tensor import Tensor
from numgraph.autodiff.typed import OfGraph, OfGraphAndTwo, of_graph, of_graph_and_two
from numgraph.expressions.reduces import NAMES
from numgraph.graph import Graph, check_graph
from numgraph.message import update_all
from numgraph.ops.examples import example
from numgraph.ops.operands import check_feature_shapes, rows_operand, sections

P = ParamSpec("P")

_MESSAGES: dict[str, Callable[..., Any]] = {
    "add": lambda u, e: u.lhs + e.rhs,
    "sub": lambda u, e: u.lhs - e.rhs,
    "mul": lambda u, e: u.lhs * e.rhs,
    "div": lambda u, e: u.lhs / e.rhs,
    "copy_lhs": lambda u: u.lhs,
    "copy_rhs": lambda e: e.rhs,
}


@overload
def gspmm(g: Graph, op: str, reduce: str, lhs: Tensor, rhs: Tensor | Plain | None) -> Tensor: ...
@overload
def gspmm(g: Graph, op: str, reduce: str, lhs: Plain | None, rhs: Tensor) -> Tensor: ...
@overload
def gspmm(g: Graph, op: str, reduce: str, lhs: Plain | None, rhs: Plain | None) -> Array: ...
@overload
def gspmm(g: Graph, op: str, reduce: str, lhs: F | Plain | None, rhs: F | Plain | None) -> F: ...
def gspmm(g: Graph, op: str, reduce: str, lhs: Any, rhs: Any) -> Any:
    """z_v = ⊕ lhs_u ∘ rhs_e over the in-edges e = (u → v) of every destination v.

    Parameters
    ----------
    g : Graph
    op : ∘, one of "add", "sub", "mul", "div", "copy_lhs", "copy_rhs"
    reduce : ⊕, "sum" or another one of update_all
    lhs, rhs : arrays or Tensors [num_src, …] and [num_edges, …].
        Feature axes broadcast as in NumPy, so [num_edges] weights scale every feature. The operand that a
        copy does not read may be None

    Returns
    -------
    [num_dst, …]; destinations without in-edges get 0, and 1 for prod

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 2])
    >>> ng.ops.gspmm(g, "mul", "sum", np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0, 100.0]))
    array([  0.,   1., 320.])
    """
    return _spmm("gspmm", g, op, reduce, lhs, rhs)


def _spmm(name: str, g: Graph, op: str, reduce: str, lhs: Any, rhs: Any) -> Any:
    if "torch" in MODULES and is_traced():
        return TRACED["torch"](_spmm, (name, g, op, reduce, lhs, rhs), {})
    check_graph(name, "g", g)
    errors.check_name(name, "op", op, _MESSAGES)
    errors.check_name(name, "reduce", reduce, NAMES)
    u = {} if op == "copy_rhs" else {"lhs": rows_operand(name, "lhs", g, "u", lhs)}
    e = {} if op == "copy_lhs" else {"rhs": rows_operand(name, "rhs", g, "e", rhs)}
    if u and e:
        check_feature_shapes(name, op, u["lhs"], e["rhs"])
    return update_all(g, _MESSAGES[op], reduce, u=u, e=e)


_REDUCED = {"sum": "Σ", "max": "max of", "min": "min of", "mean": "mean of"}
_REDUCES_TO = "[num_dst, …]; 0 for destinations without in-edges"
_SIGN = {"add": "+", "sub": "−", "mul": "·", "div": "/"}


def _named(function: Callable[P, Any], name: str, doc: str) -> Callable[P, Any]:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _copy(target: str, reduce: str) -> OfGraph[Graph, []]:
    name = f"copy_{target}_{reduce}"

    def of_sources(g: Graph, x: Any) -> Any:
        return _spmm(name, g, "copy_lhs", reduce, x, None)

    def of_edges(g: Graph, x: Any) -> Any:
        return _spmm(name, g, "copy_rhs", reduce, None, x)

    rows = "num_src" if target == "u" else "num_edges"
    doc = f"z_v = {_REDUCED[reduce]} x_{target} over the in-edges e = (u → v) of v.\n\n" + sections(
        x=rows, returns=_REDUCES_TO
    )
    doc += example(name, target, reduce=reduce)
    return of_graph(_named(of_sources if target == "u" else of_edges, name, doc))


def _binary(op: str, reduce: str) -> OfGraphAndTwo[Graph, []]:
    name = f"u_{op}_e_{reduce}"

    def spmm(g: Graph, x: Any, w: Any) -> Any:
        return _spmm(name, g, op, reduce, x, w)

    formula = f"z_v = {_REDUCED[reduce]} (x_u {_SIGN[op]} w_e) over the in-edges e = (u → v) of v."
    told = sections(x="num_src", w="num_edges", returns=_REDUCES_TO) + example(name, "ue", op, reduce)
    return of_graph_and_two(_named(spmm, name, f"{formula}\n\n{told}"))


copy_u_sum = _copy("u", "sum")
copy_u_max = _copy("u", "max")
copy_u_min = _copy("u", "min")
copy_u_mean = _copy("u", "mean")
copy_e_sum = _copy("e", "sum")
copy_e_max = _copy("e", "max")
copy_e_min = _copy("e", "min")
copy_e_mean = _copy("e", "mean")
u_add_e_sum = _binary("add", "sum")
u_add_e_max = _binary("add", "max")
u_add_e_min = _binary("add", "min")
u_add_e_mean = _binary("add", "mean")
u_sub_e_sum = _binary("sub", "sum")
u_sub_e_max = _binary("sub", "max")
u_sub_e_min = _binary("sub", "min")
u_sub_e_mean = _binary("sub", "mean")
u_mul_e_sum = _binary("mul", "sum")
u_mul_e_max = _binary("mul", "max")
u_mul_e_min = _binary("mul", "min")
u_mul_e_mean = _binary("mul", "mean")
u_div_e_sum = _binary("div", "sum")
u_div_e_max = _binary("div", "max")
u_div_e_min = _binary("div", "min")
u_div_e_mean = _binary("div", "mean")
