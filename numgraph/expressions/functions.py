"""NumPy's functions of symbols: elementary rows, combinations of them, and what reduces or arranges feature
axes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgraph import errors
from numgraph.arrays.inputs import named
from numgraph.expressions import elementary
from numgraph.expressions.advice import instead, instead_of_scipy
from numgraph.expressions.features import FUNCTIONS
from numgraph.expressions.formulas import text


def apply_function(
    apply: Callable[..., Any], function: Any, operands: Sequence[Any], options: dict[str, Any]
) -> Any:
    """What a function of NumPy gives for operands of which one is a symbol; apply: makes the node of a
    row.
    """
    row = elementary.BY_FUNCTION.get(function)
    if row is not None and not options:
        if row.name == "where" and len(operands) != 3:
            raise errors.bad_type(
                "message",
                "np.where without values cannot be part of a message",
                "give all three: np.where(c, a, b)",
            )
        return apply(row, operands)
    build = _FUNCTIONS.get(function) or _of_scipy(function)
    if build is None:
        name = getattr(function, "__name__", str(function))
        called, fix = named(function), instead(name)
        if _is_scipy(function):
            called, fix = f"scipy.special.{name}", instead_of_scipy(name)
        raise errors.bad_type("message", f"{called} cannot be part of a message{fix}")
    return built(named(function), build, operands, options)


def _is_scipy(function: Any) -> bool:
    name = getattr(function, "__name__", "")
    return getattr(sys.modules.get("scipy.special"), name, None) is function


def _of_scipy(function: Any) -> Callable[..., Any] | None:
    """A function of scipy.special, of operands in the dtype that SciPy takes them in."""
    build = elementary.SCIPY.get(function.__name__) if _is_scipy(function) else None
    if build is None or not isinstance(function, np.ufunc):
        return build

    def cast(*operands: Any) -> Any:
        kinds = [getattr(x, "dtype", type(x)) for x in operands]
        try:
            dtypes = function.resolve_dtypes((*kinds, *[None] * function.nout))
        except TypeError:  # of bfloat16, which SciPy does not know, and wrong numbers of operands
            return build(*operands)
        return build(*[x.astype(dtype) if hasattr(x, "dtype") else x for x, dtype in zip(operands, dtypes)])

    return cast


def built(name: str, build: Callable[..., Any], operands: Sequence[Any], options: dict[str, Any]) -> Any:
    """What ``build`` makes of a function's operands and options; an error that names the function where it
    takes no such.
    """
    try:
        return build(*operands, **options)
    except TypeError as error:
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise
        given = ", ".join([f"{len(operands)} operands", *[f"{option}=" for option in options]])
        raise errors.bad_type(
            "message", f"{name} with {given} cannot be part of a message", "leave the options out"
        ) from None


def _reduction(op: str) -> Callable[..., Any]:
    def build(node: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
        return getattr(node, op)(axis, keepdims=bool(keepdims))

    return build


def _expand_dims(node: Any, axis: Any) -> Any:
    items = axis if isinstance(axis, tuple) else (axis,)
    rank = node.ndim + len(items)
    new = {int(item) % rank for item in items}
    return node[tuple([None if i in new else slice(None) for i in range(rank)])]


def _broadcast_to(node: Any, shape: Any) -> Any:
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    try:
        fits = np.broadcast_shapes(node.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        problem = f"{text(node)} {list(node.shape)} does not broadcast to {list(shape)}"
        raise errors.bad_value(
            "message", problem, "align the shapes from the last axis; length-1 axes broadcast"
        )
    return node._broadcast_to(shape)


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **elementary.COMPOSED,
    np.sum: _reduction("sum"),
    np.max: _reduction("max"),
    np.amax: _reduction("max"),
    np.min: _reduction("min"),
    np.amin: _reduction("min"),
    np.mean: _reduction("mean"),
    np.expand_dims: _expand_dims,
    np.broadcast_to: _broadcast_to,
    **FUNCTIONS,
}
