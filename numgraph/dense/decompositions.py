"""np.linalg: inverse, solutions, determinants, eigenvalues and decompositions. A stack of matrices is [.., n,
n].

Derivatives follow Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation" (2008), and are written in operations of the tape. Where NumPy reads one triangle of a matrix
only, the other one has no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from numgraph.arrays.devices import namespace_of
from numgraph.autodiff.rules import rule
from numgraph.autodiff.sums import accumulated, rounded, unbroadcast
from numgraph.autodiff.tape import record, unwrap
from numgraph.dense.algebra import matmul
from numgraph.errors import bad_type, bad_value
from numgraph.expressions.precision import floating, is_half, widened


def _t(x: Any) -> Any:
    return np.matrix_transpose(x)


def _eye(like: Any, n: int) -> Any:
    return namespace_of(unwrap(like)).eye(n, dtype=unwrap(like).dtype)


def _diagonal(x: Any) -> Any:
    """[.., n] as diagonal matrices [.., n, n]."""
    return x[..., None] * _eye(x, x.shape[-1])


def _one_over_differences(values: Any) -> Any:
    """1 / (x_j − x_i) at [i, j], and 0 on the diagonal; two equal values have no derivative of their own, and
    give 0 too.
    """
    apart = values[..., None, :] - values[..., :, None]
    same = unwrap(apart) == 0
    return np.where(same, 0, 1 / np.where(same, 1, apart))


# --- inverse, solutions, determinants -----------------------------------------------------------------------


@rule(np.linalg.inv)
def inv(a: Any) -> Any:
    return record(
        "inv", (a,), np.linalg.inv(unwrap(a)), lambda g, xs, y, needs: (-matmul(matmul(_t(y), g), _t(y)),)
    )


@rule(np.linalg.solve)
def solve(a: Any, b: Any) -> Any:
    column = np.ndim(b) == 1

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any, Any]:
        a, b = xs
        g, y = (g[..., None], y[..., None]) if column else (g, y)
        into_b = np.linalg.solve(_t(a), g)
        into_a = unbroadcast(-matmul(into_b, _t(y)), a.shape) if needs[0] else None
        return into_a, unbroadcast(into_b[..., 0] if column else into_b, b.shape) if needs[1] else None

    return record("solve", (a, b), np.linalg.solve(unwrap(a), unwrap(b)), vjp)


@rule(np.linalg.det)
def det(a: Any) -> Any:
    return record(
        "det",
        (a,),
        np.linalg.det(unwrap(a)),
        lambda g, xs, y, needs: (g[..., None, None] * _cofactors(xs[0], y),),
    )


def _cofactors(a: Any, determinant: Any) -> Any:
    """det(A) A⁻ᵀ; of matrices of which one is singular, the determinants of what is left without a row and a
    column.
    """
    if (unwrap(determinant) != 0).all():
        return determinant[..., None, None] * _t(np.linalg.inv(a))
    n = a.shape[-1]
    others = np.array([[k for k in range(n) if k != i] for i in range(n)], np.intp).reshape(n, n - 1)
    minors = np.linalg.det(a[..., others[:, None, :, None], others[None, :, None, :]])
    return minors * (-1.0) ** np.add.outer(np.arange(n), np.arange(n))


@rule(np.linalg.slogdet)
def slogdet(a: Any) -> Any:
    sign, logarithm = result = np.linalg.slogdet(unwrap(a))
    logarithm = record(
        "slogdet", (a,), logarithm, lambda g, xs, y, needs: (g[..., None, None] * _t(np.linalg.inv(xs[0])),)
    )
    return type(result)(sign, logarithm)


@rule(np.linalg.matrix_power)
def matrix_power(a: Any, n: int) -> Any:
    if n < 0:
        a, n = inv(a), -n
    if n == 0:
        return np.broadcast_to(_eye(a, a.shape[-1]), a.shape) + 0 * a
    y = None
    while n:
        if n & 1:
            y = a if y is None else matmul(y, a)
        n >>= 1
        a = matmul(a, a) if n else a
    return y


@rule(np.linalg.multi_dot)
def multi_dot(arrays: Sequence[Any]) -> Any:
    y = arrays[0]
    for x in arrays[1:]:
        y = matmul(y, x)
    return y


@rule(np.linalg.tensorinv)
def tensorinv(a: Any, ind: int = 2) -> Any:
    shape = a.shape[ind:] + a.shape[:ind]
    count = int(np.prod(a.shape[ind:]))
    return np.reshape(inv(np.reshape(a, (count, -1))), shape)


@rule(np.linalg.tensorsolve)
def tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    if axes is not None:
        front = list(normalize_axis_tuple(axes, np.ndim(a)))
        a = np.transpose(a, [i for i in range(np.ndim(a)) if i not in front] + front)
    shape = np.shape(a)[np.ndim(b) :]
    return np.reshape(solve(np.reshape(a, (int(np.prod(shape)), -1)), np.ravel(b)), shape)


@rule(np.linalg.pinv)
def pinv(a: Any, rcond: Any = None, hermitian: bool = False, **options: Any) -> Any:
    """Golub and Pereyra (1973): the derivative where the rank does not change."""

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
        (a,) = xs
        left, right = _eye(a, a.shape[-2]) - matmul(a, y), _eye(a, a.shape[-1]) - matmul(y, a)
        one = matmul(matmul(left, _t(g)), matmul(y, _t(y)))
        two = matmul(matmul(_t(y), y), matmul(_t(g), right))
        return (one + two - matmul(matmul(_t(y), g), _t(y)),)

    return record("pinv", (a,), np.linalg.pinv(unwrap(a), rcond, hermitian, **options), vjp)


@rule(np.linalg.lstsq)
def lstsq(a: Any, b: Any, rcond: Any = None) -> Any:
    a, b = (floating(x) if hasattr(x, "dtype") else np.asarray(x, np.float64) for x in (a, b))
    _, residuals, rank, _ = np.linalg.lstsq(unwrap(a), unwrap(b), rcond)
    x = matmul(
        pinv(a, np.finfo(unwrap(a).dtype).eps * max(np.shape(a)) if rcond is None or rcond == -1 else rcond),
        b,
    )
    left = np.sum((b - matmul(a, x)) ** 2, axis=0)
    return x, (np.reshape(left, residuals.shape) if residuals.size else residuals), rank, svdvals(a)


# --- decompositions -----------------------------------------------------------------------------------------


@rule(np.linalg.cholesky)
def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    """Of the lower triangle, or the upper one."""

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
        lower, g = (_t(y), _t(g)) if upper else (y, g)
        inside = np.tril(matmul(_t(lower), np.tril(g)))
        inside = inside - 0.5 * _diagonal(np.diagonal(inside, axis1=-2, axis2=-1))
        back = np.linalg.solve(_t(lower), _t(np.linalg.solve(_t(lower), _t(inside))))
        back = _folded(back)
        return (_t(back) if upper else back,)

    return record("cholesky", (a,), np.linalg.cholesky(unwrap(a), upper=upper), vjp)


def _folded(g: Any) -> Any:
    """The gradient of a symmetric matrix of which only the lower triangle is read."""
    return np.tril(g + _t(g)) - _diagonal(np.diagonal(g, axis1=-2, axis2=-1))


@rule(np.linalg.eigh)
def eigh(a: Any, UPLO: Any = "L") -> Any:
    """Eigenvectors of equal eigenvalues are any of their space: what depends on which has no derivative."""
    result = np.linalg.eigh(unwrap(a), UPLO)

    def vjp(g: Any, xs: Any, ys: Any, needs: Any) -> tuple[Any]:
        values, vectors = ys
        inside: Any = 0
        if g[0] is not None:
            inside = _diagonal(g[0])
        if g[1] is not None:
            inside = inside + _one_over_differences(values) * matmul(_t(vectors), g[1])
        back = matmul(matmul(vectors, inside), _t(vectors))
        return (_folded(back) if UPLO.upper() == "L" else _t(_folded(back)),)

    return type(result)(*record("eigh", (a,), tuple(result), vjp))


@rule(np.linalg.eigvalsh)
def eigvalsh(a: Any, UPLO: Any = "L") -> Any:
    return eigh(a, UPLO)[0]


@rule(np.linalg.svd)
def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    rows, columns = np.shape(a)[-2:]
    if compute_uv and full_matrices and rows != columns:
        problem = f"a matrix of shape {np.shape(a)} with full_matrices=True"
        raise bad_type(
            "svd", problem, "the columns without a singular value have no derivative: full_matrices=False"
        )
    result = np.linalg.svd(unwrap(a), False)

    def vjp(g: Any, xs: Any, ys: Any, needs: Any) -> tuple[Any]:
        u, s, vh = ys
        v = _t(vh)
        into_u, into_s, into_vh = g
        apart = _one_over_differences(s * s)
        inside: Any = 0
        if into_s is not None:
            inside = _diagonal(into_s)
        if into_u is not None:
            turn = matmul(_t(u), into_u)
            inside = inside + apart * (turn - _t(turn)) * s[..., None, :]
        if into_vh is not None:
            turn = matmul(vh, _t(into_vh))
            inside = inside + s[..., :, None] * (apart * (turn - _t(turn)))
        back = matmul(matmul(u, inside), vh)
        if into_u is not None and rows > columns:
            back = back + matmul((into_u - matmul(u, matmul(_t(u), into_u))) / s[..., None, :], vh)
        if into_vh is not None and columns > rows:
            back = back + matmul(u / s[..., None, :], into_vh - matmul(matmul(into_vh, v), vh))
        return (back,)

    u, s, vh = record("svd", (a,), tuple(result), vjp)
    return type(result)(u, s, vh) if compute_uv else s


@rule(np.linalg.svdvals)
def svdvals(x: Any, /) -> Any:
    return svd(x, compute_uv=False)


@rule(np.linalg.qr)
def qr(a: Any, mode: str = "reduced") -> Any:
    rows, columns = np.shape(a)[-2:]
    if mode not in ("reduced", "r") or rows < columns:
        problem = f"mode {mode!r} of a matrix of shape {np.shape(a)}"
        raise bad_type(
            "qr", problem, "a Tensor has mode='reduced' or 'r', and as many rows as columns at least"
        )
    result = np.linalg.qr(unwrap(a))

    def vjp(g: Any, xs: Any, ys: Any, needs: Any) -> tuple[Any]:
        (q, r), (into_q, into_r) = ys, g
        inside: Any = 0
        if into_r is not None:
            inside = matmul(r, _t(np.triu(into_r)))
        if into_q is not None:
            inside = inside - matmul(_t(into_q), q)
        lower = np.tril(inside)
        symmetric = lower + _t(lower) - _diagonal(np.diagonal(inside, axis1=-2, axis2=-1))
        back = matmul(q, symmetric) if into_q is None else into_q + matmul(q, symmetric)
        return (_t(np.linalg.solve(r, _t(back))),)

    q, r = record("qr", (a,), tuple(result), vjp)
    return r if mode == "r" else type(result)(q, r)


# --- norms --------------------------------------------------------------------------------------------------


def _length(x: Any, axis: Any, keepdims: bool) -> Any:
    """√Σ x², whose gradient is 0 where it is 0."""
    data = unwrap(x)
    size = np.abs(data) if data.dtype.kind == "c" else data
    y = rounded(np.sqrt(accumulated(size * size, axis)), size.dtype, axis, keepdims)

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> tuple[Any]:
        (x,) = xs
        y = _length(x, axis, True)
        zero = unwrap(y) == 0
        return (np.reshape(g, y.shape) * np.where(zero, 0, x / np.where(zero, 1, y)),)

    return record("norm", (x,), y, vjp)


@rule(np.linalg.vector_norm)
def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    x = floating(x)
    if is_half(x.dtype):
        return vector_norm(widened(x), axis=axis, keepdims=keepdims, ord=ord).astype(x.dtype)
    if ord is None or ord == 2:
        return _length(x, axis, keepdims)
    size = np.abs(x)
    if ord in (np.inf, -np.inf):
        return (np.max if ord > 0 else np.min)(size, axis=axis, keepdims=keepdims)
    if ord == 0:
        return np.sum((unwrap(x) != 0).astype(unwrap(x).dtype), axis=axis, keepdims=keepdims)
    total = np.sum(size if ord == 1 else size**ord, axis=axis, keepdims=keepdims)
    return total if ord == 1 else total ** (1 / ord)


@rule(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    x, ndim = floating(x), np.ndim(x)
    if is_half(x.dtype):
        return norm(widened(x), ord, axis, keepdims).astype(x.dtype)
    if axis is None and (ord is None or (ord == "fro" and ndim == 2) or (ord == 2 and ndim == 1)):
        return _length(x, None, keepdims)
    axes = tuple(range(ndim)) if axis is None else normalize_axis_tuple(axis, ndim)
    if len(axes) == 1 and not isinstance(ord, str):
        return vector_norm(x, axis=axes[0], keepdims=keepdims, ord=ord)
    if len(axes) != 2:
        raise bad_value(
            "norm",
            f"ord={ord!r} over axes {axes} of shape {np.shape(x)}",
            "a norm is of vectors (one axis) or matrices (two)",
        )
    if ord is None or ord == "fro":
        return _length(x, axes, keepdims)
    if ord in (1, -1, np.inf, -np.inf):
        along, other = axes if abs(ord) == 1 else axes[::-1]
        sums = np.sum(np.abs(x), axis=along, keepdims=True)
        y = (np.max if ord > 0 else np.min)(sums, axis=other, keepdims=True)
    elif ord in (2, -2, "nuc"):
        values = svdvals(np.moveaxis(x, axes, (-2, -1)))
        reduces: dict[Any, Any] = {2: np.max, -2: np.min, "nuc": np.sum}
        y = reduces[ord](values, axis=-1)
        y = np.expand_dims(y, axes)
    else:
        raise bad_value(
            "norm", f"ord={ord!r} of matrices", "it is None, 'fro', 'nuc', 1, -1, 2, -2, inf or -inf"
        )
    return y if keepdims else np.squeeze(y, axes)


@rule(np.linalg.matrix_norm)
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    return norm(x, ord, (-2, -1), keepdims)


@rule(np.linalg.cond)
def cond(x: Any, p: Any = None) -> Any:
    if p is None or p in (2, -2):
        values = svdvals(x)
        return values[..., 0] / values[..., -1] if p != -2 else values[..., -1] / values[..., 0]
    return norm(x, p, (-2, -1)) * norm(inv(x), p, (-2, -1))
