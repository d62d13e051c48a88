"""Functions over the feature axes of symbols that are made of others: joins, norms, products, softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgraph import errors
from numgraph.expressions import elementary
from numgraph.expressions.formulas import text


def _symbol(operands: Sequence[Any]) -> Any:
    return next(x for x in operands if hasattr(type(x), "_joined"))


def concatenate(arrays: Sequence[Any], axis: int = 0, **options: Any) -> Any:
    parts = _lifted("concatenate", arrays, options)
    rank = parts[0].ndim
    place = _axis("concatenate", axis, rank, parts[0])
    rest = [part.shape[:place] + part.shape[place + 1 :] for part in parts]
    if any(part.ndim != rank for part in parts) or any(one != rest[0] for one in rest):
        listed = ", ".join(f"{text(part)} {list(part.shape)}" for part in parts)
        raise errors.bad_value(
            "message",
            f"shapes of concatenate differ in other axes than {axis}: {listed}",
            "make them equal there",
        )
    return parts[0]._joined(parts, place)


def stack(arrays: Sequence[Any], axis: int = 0, **options: Any) -> Any:
    parts = _lifted("stack", arrays, options)
    if any(part.shape != parts[0].shape for part in parts):
        listed = ", ".join(f"{text(part)} {list(part.shape)}" for part in parts)
        raise errors.bad_value(
            "message", f"shapes of stack differ: {listed}", "make them equal, by np.broadcast_to for example"
        )
    place = _axis("stack", axis, parts[0].ndim + 1, parts[0])
    return parts[0]._joined([np.expand_dims(part, place) for part in parts], place)


def _lifted(name: str, arrays: Sequence[Any], options: dict[str, Any]) -> list[Any]:
    if options or not isinstance(arrays, list | tuple):
        raise errors.bad_type(
            "message",
            f"{name} of {errors.shown(arrays)} with {sorted(options)}",
            "give a list of symbols and arrays, and axis",
        )
    symbol = _symbol(arrays)
    return [symbol._lifted(x) for x in arrays]


def _axis(name: str, axis: Any, rank: int, node: Any) -> int:
    if not isinstance(axis, int | np.integer) or not -rank <= axis < rank:
        problem = f"{name} along axis {errors.shown(axis)} of {text(node)} {list(node.shape)}"
        raise errors.bad_value("message", problem, "axes are feature axes: count from -1")
    return int(axis) % rank


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Vector norms; of order 2 with the derivative 0 at 0."""
    two = axis is None or isinstance(axis, tuple)
    if ord in (None, 2) or (ord == "fro" and two):
        if ord == 2 and two and (isinstance(axis, tuple) or x.ndim > 1):
            raise errors.bad_type(
                "message",
                "the spectral norm of matrices cannot be part of a message",
                "give axis=-1 for norms of vectors",
            )
        total = np.square(elementary.as_float(x)).sum(axis, keepdims=keepdims)
        return np.where(total == 0, 0, np.sqrt(np.where(total == 0, 1, total)))
    if ord in (1, np.inf, -np.inf) and (not two or x.ndim == 1):
        size = np.abs(elementary.as_float(x))
        return (
            size.sum(axis, keepdims=keepdims)
            if ord == 1
            else (size.max if ord > 0 else size.min)(axis, keepdims=keepdims)
        )
    raise errors.bad_type(
        "message",
        f"the norm of order {ord!r} cannot be part of a message",
        "orders are 2, 1, np.inf and -np.inf, along an axis",
    )


def var(x: Any, axis: Any = None, *, keepdims: bool = False, ddof: int = 0) -> Any:
    distance = x - x.mean(axis, keepdims=True)
    total = np.square(distance).sum(axis, keepdims=keepdims)
    count = distance.size // max(total.size, 1)
    return total / (count - ddof)


def std(x: Any, axis: Any = None, *, keepdims: bool = False, ddof: int = 0) -> Any:
    variance = var(x, axis, keepdims=keepdims, ddof=ddof)
    return np.where(variance == 0, 0, np.sqrt(np.where(variance == 0, 1, variance)))


# --- products -----------------------------------------------------------------------------------------------


def einsum(subscripts: Any, *operands: Any, **options: Any) -> Any:
    """The product of the operands, each with its axes in the order of all letters, summed over what the
    result has not.
    """
    if not isinstance(subscripts, str) or options:
        raise errors.bad_type(
            "message",
            "einsum takes its subscripts as text, and no options",
            "write np.einsum('hd,hd->h', u.q, v.k)",
        )
    symbol = _symbol(operands)
    nodes = [symbol._lifted(x) for x in operands]
    given, _, output = subscripts.replace(" ", "").partition("->")
    terms = given.split(",")
    problem = f"einsum {subscripts!r} of {', '.join(f'{text(node)} {list(node.shape)}' for node in nodes)}"
    fix = "the letters are feature axes, each once in an operand"
    if len(terms) != len(nodes):
        raise errors.bad_value("message", problem, f"it has {len(terms)} terms for {len(nodes)} operands")
    if "->" not in subscripts:
        output = "".join(sorted(letter for letter in set(given) - set(",.") if given.count(letter) == 1))
        output = "..." + output if "..." in given else output
    dots = max(
        [
            node.ndim - len(term.replace("...", ""))
            for term, node in zip(terms, nodes, strict=True)
            if "..." in term
        ],
        default=0,
    )
    free = "".join(map(str, range(dots)))  # the axes of the dots, the last ones aligned
    spelt = []
    for term, node in zip(terms, nodes, strict=True):
        own = node.ndim - len(term.replace("...", ""))
        if own < 0 or ("..." not in term and own):
            raise errors.bad_value("message", problem, fix)
        spelt.append(term.replace("...", free[len(free) - own :]))
    output = output.replace("...", free)
    letters = output + "".join(
        dict.fromkeys(letter for term in spelt for letter in term if letter not in output)
    )
    if any(len(set(term)) < len(term) for term in (*spelt, output)) or set(output) - set("".join(spelt)):
        raise errors.bad_value("message", problem, fix)
    sizes: dict[str, int] = {}
    product: Any = None
    for term, node in zip(spelt, nodes, strict=True):
        for letter, length in zip(term, node.shape, strict=True):
            if sizes.setdefault(letter, length) != length and 1 not in (sizes[letter], length):
                raise errors.bad_value("message", problem, f"{letter} is {sizes[letter]} and {length}")
        factor = node._viewed(tuple([term.index(letter) if letter in term else None for letter in letters]))
        product = factor if product is None else product * factor
    inner = tuple(range(len(output), len(letters)))
    return product.sum(inner) if inner else product


def matmul(a: Any, b: Any) -> Any:
    symbol = _symbol((a, b))
    a, b = symbol._lifted(a), symbol._lifted(b)
    if 0 in (a.ndim, b.ndim) or a.shape[-1] != b.shape[max(b.ndim - 2, 0)]:
        problem = f"matmul of {text(a)} {list(a.shape)} and {text(b)} {list(b.shape)}"
        raise errors.bad_value(
            "message",
            problem,
            "shapes are feature shapes; the last axis of the first is the last but one of the second",
        )
    first = "...ik" if a.ndim > 1 else "k"
    second = "...kj" if b.ndim > 1 else "k"
    dots = "..." if max(a.ndim, b.ndim) > 1 else ""
    return einsum(f"{first},{second}->{dots}{'i' if a.ndim > 1 else ''}{'j' if b.ndim > 1 else ''}", a, b)


def dot(a: Any, b: Any) -> Any:
    symbol = _symbol((a, b))
    a, b = symbol._lifted(a), symbol._lifted(b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    if a.ndim > 1 and b.ndim > 2:
        raise errors.bad_type(
            "message", "dot of arrays of more than two axes cannot be part of a message", "write np.einsum"
        )
    return matmul(a, b)


def vecdot(a: Any, b: Any, axis: int = -1) -> Any:
    return (a * b).sum(axis)


def inner(a: Any, b: Any) -> Any:
    """Over the last axes of both."""
    return dot(a, b if len(b.shape) < 2 else np.swapaxes(b, -1, -2))


def outer(a: Any, b: Any) -> Any:
    return einsum("i,j->ij", a, b)


# --- softmax ------------------------------------------------------------------------------------------------


def _shift(x: Any, axis: Any) -> Any:
    """The maximum, of which no softmax depends."""
    top = elementary.detached(x.max(axis, keepdims=True))
    return np.where(np.abs(top) == np.inf, 0, top)


def softmax(x: Any, axis: int = -1) -> Any:
    x = elementary.as_float(x)
    y = np.exp(x - elementary.detached(x.max(axis, keepdims=True)))
    return y / y.sum(axis, keepdims=True)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    x = elementary.as_float(x)
    top = _shift(x, axis)
    total = np.log(np.exp(x - top).sum(axis, keepdims=True)) + top
    return total if keepdims else total.max(axis)


def log_softmax(x: Any, axis: int = -1) -> Any:
    return x - logsumexp(x, axis, keepdims=True)


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.concatenate: concatenate,
    np.stack: stack,
    np.linalg.norm: norm,
    np.linalg.vector_norm: lambda x, *, axis=None, keepdims=False, ord=2: norm(x, ord, axis, keepdims),
    np.var: var,
    np.std: std,
    np.einsum: einsum,
    np.matmul: matmul,
    np.dot: dot,
    np.inner: inner,
    np.vecdot: vecdot,
    np.linalg.vecdot: vecdot,
    np.outer: outer,
    np.squeeze: lambda x, axis=None: x._viewed(
        tuple(i for i in range(x.ndim) if i not in _squeezed(x, axis))
    ),
    np.transpose: lambda x, axes=None: x._viewed(
        tuple(_axis("transpose", i, x.ndim, x) for i in (axes or range(x.ndim)[::-1]))
    ),
    np.swapaxes: lambda x, a, b: x._viewed(_swapped(x, a, b)),
}
"""NumPy's functions by what they are of symbols."""


def _squeezed(x: Any, axis: Any) -> set[int]:
    if axis is None:
        return {i for i, length in enumerate(x.shape) if length == 1}
    return {_axis("squeeze", one, x.ndim, x) for one in (axis if isinstance(axis, tuple) else (axis,))}


def _swapped(x: Any, a: int, b: int) -> tuple[int, ...]:
    order = list(range(x.ndim))
    a, b = _axis("swapaxes", a, x.ndim, x), _axis("swapaxes", b, x.ndim, x)
    order[a], order[b] = b, a
    return tuple(order)
