"""Products of vectors and tensors beside the matrix product: tensordot, inner, vecdot, kron, cross; and what
is made of them, as cov.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from numgraph.autodiff.rules import rule
from numgraph.autodiff.tape import unwrap
from numgraph.dense.algebra import matmul, outer
from numgraph.dense.reductions import sum as summed
from numgraph.dense.shapes import scatter_add
from numgraph.errors import bad_type, bad_value
from numgraph.expressions.precision import floating, narrowed, wide, widened


@rule(np.tensordot, np.linalg.tensordot)
def tensordot(a: Any, b: Any, /, axes: Any = 2) -> Any:
    ndims = np.ndim(a), np.ndim(b)
    if isinstance(axes, int | np.integer):
        sides = [list(range(ndims[0] - int(axes), ndims[0])), list(range(int(axes)))]
    else:
        sides = [list(np.atleast_1d(side)) for side in axes]
    left, right = (list(normalize_axis_tuple(side, ndim)) for side, ndim in zip(sides, ndims, strict=True))
    shapes = np.shape(a), np.shape(b)
    if [shapes[0][i] for i in left] != [shapes[1][i] for i in right]:
        problem = f"axes {left} of shape {shapes[0]} and {right} of {shapes[1]} do not fit"
        raise bad_value("tensordot", problem, "the axes that are summed have equal lengths")
    free = [[i for i in range(ndim) if i not in side] for side, ndim in zip((left, right), ndims)]
    count = math.prod([shapes[0][i] for i in left])
    one = np.reshape(
        np.transpose(a, free[0] + left), (-1 if count else math.prod([shapes[0][i] for i in free[0]]), count)
    )
    two = np.reshape(
        np.transpose(b, right + free[1]), (count, -1 if count else math.prod([shapes[1][i] for i in free[1]]))
    )
    return np.reshape(matmul(one, two), [shapes[0][i] for i in free[0]] + [shapes[1][i] for i in free[1]])


@rule(np.inner)
def inner(a: Any, b: Any, /) -> Any:
    return a * b if np.ndim(a) == 0 or np.ndim(b) == 0 else tensordot(a, b, axes=(-1, -1))


@rule(np.vdot)
def vdot(a: Any, b: Any, /) -> Any:
    return matmul(np.ravel(a), np.ravel(b))


@rule(np.vecdot)
def vecdot(x1: Any, x2: Any, /, axis: int = -1, **options: Any) -> Any:
    if axis != -1:
        x1, x2 = np.moveaxis(x1, axis, -1), np.moveaxis(x2, axis, -1)
    return matmul(np.expand_dims(x1, -2), np.expand_dims(x2, -1))[..., 0, 0]


@rule(np.linalg.vecdot)
def linalg_vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    return vecdot(x1, x2, axis)


if hasattr(np, "matvec"):  # NumPy 2.2 and later

    @rule(np.matvec)
    def matvec(x1: Any, x2: Any, /, **options: Any) -> Any:
        return matmul(x1, np.expand_dims(x2, -1))[..., 0]

    @rule(np.vecmat)
    def vecmat(x1: Any, x2: Any, /, **options: Any) -> Any:
        return matmul(np.expand_dims(x1, -2), x2)[..., 0, :]


@rule(np.linalg.matmul)
def linalg_matmul(x1: Any, x2: Any, /) -> Any:
    return matmul(x1, x2)


@rule(np.linalg.outer)
def linalg_outer(x1: Any, x2: Any, /) -> Any:
    if np.ndim(x1) != 1 or np.ndim(x2) != 1:
        raise bad_value(
            "outer",
            f"shapes {np.shape(x1)} and {np.shape(x2)}",
            "np.linalg.outer takes two vectors, np.outer anything",
        )
    return outer(x1, x2)


@rule(np.linalg.matrix_transpose)
def linalg_matrix_transpose(x: Any, /) -> Any:
    return np.matrix_transpose(x)


@rule(np.kron)
def kron(a: Any, b: Any) -> Any:
    ndim = max(np.ndim(a), np.ndim(b))
    one, two = ((1,) * (ndim - np.ndim(x)) + np.shape(x) for x in (a, b))
    wide = np.reshape(a, [n for k in one for n in (k, 1)]) * np.reshape(b, [n for k in two for n in (1, k)])
    return np.reshape(wide, [k * n for k, n in zip(one, two)])


@rule(np.cross)
def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis, axis, axis)
    a, b = np.moveaxis(a, axisa, -1), np.moveaxis(b, axisb, -1)
    if np.shape(a)[-1] != 3 or np.shape(b)[-1] != 3:
        raise bad_value(
            "cross",
            f"vectors of length {np.shape(a)[-1]} and {np.shape(b)[-1]}",
            "give vectors of three numbers",
        )
    one, two = [1, 2, 0], [2, 0, 1]
    y = a[..., one] * b[..., two] - a[..., two] * b[..., one]
    return np.moveaxis(y, -1, axisc)


@rule(np.linalg.cross)
def linalg_cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    return cross(x1, x2, axis=axis)


# --- statistics ---------------------------------------------------------------------------------------------


@rule(np.average)
def average(
    a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False
) -> Any:
    keepdims = keepdims is True
    if weights is None:
        y = np.mean(a, axis=axis, keepdims=keepdims)
        total: Any = np.full(np.shape(y), np.size(a) / max(np.size(y), 1), unwrap(y).dtype)
    else:
        if np.shape(weights) != np.shape(a):
            if not isinstance(axis, int | np.integer) or np.ndim(weights) != 1:
                problem = f"weights have shape {np.shape(weights)}, a {np.shape(a)}"
                raise bad_value(
                    "average", problem, "give a weight for each element, or a vector along one axis"
                )
            weights = np.reshape(weights, [-1 if i == axis % np.ndim(a) else 1 for i in range(np.ndim(a))])
        weights = np.broadcast_to(weights, np.shape(a))
        a = floating(a if hasattr(a, "dtype") else np.asarray(a))
        dtype = np.result_type(a.dtype, weights.dtype)
        a, weights = widened(a), widened(weights)
        total = summed(weights, axis=axis, keepdims=keepdims).astype(wide(dtype))
        y = narrowed(summed(a * weights, axis=axis, keepdims=keepdims) / total, dtype)
        total = narrowed(total, dtype)
    return (y, total) if returned else y


@rule(np.cov)
def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    **o: Any,
) -> Any:
    if fweights is not None or aweights is not None or any(value is not None for value in o.values()):
        problem = "weights and dtype= are not possible where an argument is a Tensor"
        raise bad_type("cov", problem, "centre by np.average and multiply, as in (x * w) @ x.T")
    x = _variables(m, rowvar)
    if y is not None:
        x = np.concatenate([x, _variables(y, rowvar)])
    count = np.shape(x)[1] - ((0 if bias else 1) if ddof is None else ddof)
    centred = x - np.mean(x, axis=1, keepdims=True)
    return np.squeeze(matmul(centred, np.transpose(centred)) / count)


def _variables(m: Any, rowvar: bool) -> Any:
    m = m if hasattr(m, "astype") else np.asarray(m)
    x = np.reshape(m, (1, -1)) if np.ndim(m) < 2 else m
    x = np.transpose(x) if not rowvar and np.shape(x)[0] != 1 else x  # as NumPy, in float64
    return x.astype(np.float64)


@rule(np.corrcoef)
def corrcoef(x: Any, y: Any = None, rowvar: bool = True) -> Any:
    c = cov(x, y, rowvar)
    if np.ndim(c) == 0:
        return c / c
    length = np.sqrt(np.diagonal(c))
    return c / length[:, None] / length[None, :]


@rule(np.bincount)
def bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    """Of weights sums, with a gradient; the ids are integers and have none."""
    ids = unwrap(x)
    if weights is None:
        return np.bincount(ids, minlength=minlength)
    return scatter_add(
        weights.astype(np.float64) if hasattr(weights, "astype") else weights,
        ids,
        max(minlength, int(ids.max(initial=-1)) + 1),
    )
