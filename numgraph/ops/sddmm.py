"""Generalised SDDMM: a value for each edge from features of its source, its destination or itself; and the
softmax over edges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import numpy as np

from numgraph import errors
from numgraph.arrays import library_of
from numgraph.arrays.traced import MODULES, TRACED, is_traced
from numgraph.arrays.typed import Array, F, Plain
from numgraph.autodiff.tape import record, unwrap
from numgraph.autodiff.tensor import Tensor
from numgraph.autodiff.typed import OfGraphAndTwo, of_graph, of_graph_and_two
from numgraph.graph import Graph, check_graph
from numgraph.message import apply_edges, log_sum_exp, update_all
from numgraph.ops.examples import example
from numgraph.ops.operands import check_feature_shapes, rows_operand, sections

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "dot": lambda a, b: np.sum(a * b, axis=-1, keepdims=True) if a.ndim or b.ndim else a * b,
    "copy_lhs": lambda a, b: a,
    "copy_rhs": lambda a, b: b,
}
_TARGETS = ("u", "v", "e")


@overload
def gsddmm(
    g: Graph, op: str, lhs: Tensor, rhs: Tensor | Plain | None, lhs_target: str = ..., rhs_target: str = ...
) -> Tensor: ...
@overload
def gsddmm(
    g: Graph, op: str, lhs: Plain | None, rhs: Tensor, lhs_target: str = ..., rhs_target: str = ...
) -> Tensor: ...
@overload
def gsddmm(
    g: Graph, op: str, lhs: Plain | None, rhs: Plain | None, lhs_target: str = ..., rhs_target: str = ...
) -> Array: ...
@overload
def gsddmm(
    g: Graph,
    op: str,
    lhs: F | Plain | None,
    rhs: F | Plain | None,
    lhs_target: str = ...,
    rhs_target: str = ...,
) -> F: ...
def gsddmm(g: Graph, op: str, lhs: Any, rhs: Any, lhs_target: str = "u", rhs_target: str = "v") -> Any:
    """m_e = lhs ∘ rhs for every edge e = (u → v), each operand read at u, at v or at e itself.

    Parameters
    ----------
    g : Graph
    op : ∘, one of "add", "sub", "mul", "div", "dot", "copy_lhs", "copy_rhs";
        dot sums the products over the last axis, which stays with length 1
    lhs, rhs : arrays or Tensors [num_src, …], [num_dst, …] or [num_edges, …], as their targets say.
        Feature axes broadcast as in NumPy; dot wants last axes of one length. The operand that a copy does
        not read may be None
    lhs_target, rhs_target : "u", "v" or "e"

    Returns
    -------
    [num_edges, …] in edge-id order

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 2])
    >>> x = np.array([[1.0, 0.0], [2.0, 1.0], [3.0, 4.0]])
    >>> ng.ops.gsddmm(g, "dot", x, x).tolist()
    [[2.0], [10.0], [25.0]]
    """
    return _sddmm("gsddmm", g, op, lhs, rhs, lhs_target, rhs_target)


def _sddmm(name: str, g: Graph, op: str, lhs: Any, rhs: Any, lhs_target: str, rhs_target: str) -> Any:
    if "torch" in MODULES and is_traced():
        return TRACED["torch"](_sddmm, (name, g, op, lhs, rhs, lhs_target, rhs_target), {})
    check_graph(name, "g", g)
    errors.check_name(name, "op", op, _OPERATORS)
    for what, target in (("lhs_target", lhs_target), ("rhs_target", rhs_target)):
        errors.check_name(name, what, target, _TARGETS)
    fields: dict[str, dict[str, Any]] = {"u": {}, "v": {}, "e": {}}
    if op != "copy_rhs":
        fields[lhs_target]["lhs"] = lhs = rows_operand(name, "lhs", g, lhs_target, lhs)
    if op != "copy_lhs":
        fields[rhs_target]["rhs"] = rhs = rows_operand(name, "rhs", g, rhs_target, rhs)
    if not op.startswith("copy"):
        check_feature_shapes(name, op, lhs, rhs)
    combine = _OPERATORS[op]

    def message(u: Any, v: Any, e: Any) -> Any:
        at = {"u": u, "v": v, "e": e}
        return combine(
            at[lhs_target].lhs if "lhs" in fields[lhs_target] else None,
            at[rhs_target].rhs if "rhs" in fields[rhs_target] else None,
        )

    return apply_edges(g, message, **fields)


@of_graph
def edge_softmax(g: Graph, scores: Any, norm_by: str = "dst") -> Any:
    """α_e = exp(s_e) / Σ exp(s_k) over the in-edges k of e's destination (norm_by="dst"), or the out-edges of
    its source ("src").

    Parameters
    ----------
    g : Graph
    scores : array or Tensor [num_edges, …], each feature for itself; float16 is computed in float32
    norm_by : "dst" or "src"

    Returns
    -------
    scores' shape. A score of −inf gives 0; where all scores of a node are −inf, or one is +inf or NaN, there
    is no softmax, and the result is NaN

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 2])
    >>> ng.ops.edge_softmax(g, np.log([5.0, 1.0, 3.0])).round(2).tolist()
    [1.0, 0.25, 0.75]
    """
    if "torch" in MODULES and is_traced():
        return TRACED["torch"](edge_softmax, (g, scores, norm_by), {})
    check_graph("edge_softmax", "g", g)
    errors.check_name("edge_softmax", "norm_by", norm_by, ("dst", "src"))
    return softmax_over(g, rows_operand("edge_softmax", "scores", g, "e", scores), norm_by)


def softmax_over(g: Graph, scores: Any, norm_by: str) -> Any:
    """The softmax of scores [num_edges, …] over in-edges ("dst") or out-edges ("src", which are the reversed
    graph's in-edges).

    The backward needs the result only: ∂L/∂s_e = α_e · (g_e − c_v) with c_v = Σ α_e · g_e over the same
    edges.
    """
    if norm_by == "src":
        g = g.reverse()
    library = library_of(scores)
    stored = library.dtype(scores)
    wide = (
        np.dtype(np.float64)
        if stored.kind in "biu"
        else np.dtype(np.float32)
        if stored.itemsize == 2
        else stored
    )
    result = wide if stored.kind in "biu" else stored
    e = {"s": unwrap(scores)}
    shift, scale = log_sum_exp(g, lambda e: e.s.astype(wide), e=e)
    v = {"shift": shift, "scale": scale}
    alpha = apply_edges(
        g, lambda v, e: (np.exp(e.s.astype(wide) - v.shift) * v.scale).astype(result), v=v, e=e
    )
    if library.has_autodiff:
        return alpha

    def vjp(grad: Any, inputs: Any, made: Any, needs: Any) -> list[Any]:
        c = update_all(g, lambda e: e.a.astype(wide) * e.g, "sum", e={"a": made, "g": grad})
        return [apply_edges(g, lambda v, e: e.a * (e.g - v.c), v={"c": c}, e={"a": made, "g": grad})]

    side = "in-edges (CSC)" if norm_by == "dst" else "out-edges (CSR)"
    lines = [
        (
            f"∂e.s = α · (g_e − c)   SDDMM, after c = Σ α · g_e by one SpMM-shaped walk over the same {side}:"
            " nothing is reversed"
        )
    ]
    return record("edge_softmax", [scores], alpha, vjp, lambda needs: lines)


_ROWS = {"u": "num_src", "v": "num_dst", "e": "num_edges"}
_FORMULA = {
    "add": "x_{} + y_{}",
    "sub": "x_{} − y_{}",
    "mul": "x_{} · y_{}",
    "div": "x_{} / y_{}",
    "dot": "⟨x_{}, y_{}⟩",
}


def _binary(lhs_target: str, op: str, rhs_target: str) -> OfGraphAndTwo[Graph, []]:
    name = f"{lhs_target}_{op}_{rhs_target}"

    def sddmm(g: Graph, x: Any, y: Any) -> Any:
        return _sddmm(name, g, op, x, y, lhs_target, rhs_target)

    sddmm.__name__ = sddmm.__qualname__ = name
    formula = _FORMULA[op].format(lhs_target, rhs_target)
    sddmm.__doc__ = f"m_e = {formula} for every edge e = (u → v).\n\n" + sections(
        x=_ROWS[lhs_target],
        y=_ROWS[rhs_target],
        returns=f"[num_edges, {'…, 1' if op == 'dot' else '…'}] in edge-id order",
    )
    sddmm.__doc__ += example(name, lhs_target + rhs_target, op)
    return of_graph_and_two(sddmm)


@of_graph
def copy_u(g: Graph, x: Any) -> Any:
    """m_e = x_u for every edge e = (u → v).

    Parameters
    ----------
    g : Graph
    x : [num_src, …] an array or Tensor

    Returns
    -------
    [num_edges, …] in edge-id order

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 2])
    >>> ng.ops.copy_u(g, np.array([1.0, 2.0, 4.0])).tolist()
    [1.0, 2.0, 4.0]
    """
    return _sddmm("copy_u", g, "copy_lhs", x, None, "u", "v")


@of_graph
def copy_v(g: Graph, x: Any) -> Any:
    """m_e = x_v for every edge e = (u → v).

    Parameters
    ----------
    g : Graph
    x : [num_dst, …] an array or Tensor

    Returns
    -------
    [num_edges, …] in edge-id order

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 2])
    >>> ng.ops.copy_v(g, np.array([1.0, 2.0, 4.0])).tolist()
    [2.0, 4.0, 4.0]
    """
    return _sddmm("copy_v", g, "copy_rhs", None, x, "u", "v")


@of_graph
def copy_e(g: Graph, x: Any) -> Any:
    """m_e = x_e for every edge e.

    Parameters
    ----------
    g : Graph
    x : [num_edges, …] an array or Tensor

    Returns
    -------
    [num_edges, …] in edge-id order

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 2])
    >>> ng.ops.copy_e(g, np.array([1.0, 2.0, 4.0])).tolist()
    [1.0, 2.0, 4.0]
    """
    return _sddmm("copy_e", g, "copy_lhs", x, None, "e", "v")


u_add_v = _binary("u", "add", "v")
u_sub_v = _binary("u", "sub", "v")
u_mul_v = _binary("u", "mul", "v")
u_div_v = _binary("u", "div", "v")
u_dot_v = _binary("u", "dot", "v")
u_add_e = _binary("u", "add", "e")
u_sub_e = _binary("u", "sub", "e")
u_mul_e = _binary("u", "mul", "e")
u_div_e = _binary("u", "div", "e")
u_dot_e = _binary("u", "dot", "e")
v_add_u = _binary("v", "add", "u")
v_sub_u = _binary("v", "sub", "u")
v_mul_u = _binary("v", "mul", "u")
v_div_u = _binary("v", "div", "u")
v_dot_u = _binary("v", "dot", "u")
v_add_e = _binary("v", "add", "e")
v_sub_e = _binary("v", "sub", "e")
v_mul_e = _binary("v", "mul", "e")
v_div_e = _binary("v", "div", "e")
v_dot_e = _binary("v", "dot", "e")
e_add_u = _binary("e", "add", "u")
e_sub_u = _binary("e", "sub", "u")
e_mul_u = _binary("e", "mul", "u")
e_div_u = _binary("e", "div", "u")
e_dot_u = _binary("e", "dot", "u")
e_add_v = _binary("e", "add", "v")
e_sub_v = _binary("e", "sub", "v")
e_mul_v = _binary("e", "mul", "v")
e_div_v = _binary("e", "div", "v")
e_dot_v = _binary("e", "dot", "v")
