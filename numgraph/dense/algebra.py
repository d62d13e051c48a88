"""Matrix products: np.matmul in all its shapes, SciPy's sparse matrices as constant operands, and einsum."""

from __future__ import annotations

import functools
import math
import string
from collections.abc import Callable, Iterable
from typing import Any, overload

import numpy as np

from numgraph.arrays.devices import computed, same_device
from numgraph.arrays.inputs import given, is_sparse, kind_of
from numgraph.arrays.typed import Array, F, Plain
from numgraph.autodiff.rules import rule
from numgraph.autodiff.sums import unbroadcast
from numgraph.autodiff.tape import record, unwrap
from numgraph.autodiff.tensor import Tensor
from numgraph.autodiff.typed import of_two
from numgraph.dense.blas import product
from numgraph.dense.sparse import times
from numgraph.errors import bad_type, bad_value
from numgraph.expressions import features
from numgraph.expressions.expr import Expr
from numgraph.expressions.precision import is_half


@of_two
def matmul(a: Any, b: Any) -> Any:
    """The matrix product a @ b with NumPy's rules.

    Parameters
    ----------
    a, b : arrays or Tensors, [.., n, k] and [.., k, m], whose leading axes broadcast;
        a vector is a row on the left and a column on the right, and its axis disappears. Either may be a
        constant SciPy sparse matrix, which stays sparse in the gradient too; the other is then a vector or a
        matrix

    Returns
    -------
    [.., n, m]

    Examples
    --------
    >>> import numpy as np, scipy.sparse, numgraph as ng
    >>> ng.matmul(scipy.sparse.csr_array([[0.0, 2.0], [1.0, 0.0]]), np.array([1.0, 5.0])).tolist()
    [10.0, 1.0]
    """
    return _matmul(a, b, times)


@rule(np.matmul)
def _operator(a: Any, b: Any) -> Any:
    """a @ b. On arrays a sparse matrix's operator is SciPy's, so its numbers are taken here too."""
    return _matmul(a, b, _scipy_times)


def _operand(name: str, x: Any) -> Any:
    return (
        x
        if isinstance(x, Tensor) or (type(x) is not np.ndarray and is_sparse(x))
        else given("matmul", name, x, real=False)
    )


def _scipy_times(a: Any, x: Any, transposed: bool) -> Any:
    return (a.T if transposed else a) @ x


def _matmul(a: Any, b: Any, sparse_times: Callable[[Any, Any, bool], Any]) -> Any:
    if isinstance(a, Expr) or isinstance(b, Expr):
        return features.matmul(a, b)
    a, b = _operand("a", a), _operand("b", b)
    shapes = tuple(a.shape), tuple(b.shape)
    if not shapes[0] or not shapes[1] or shapes[0][-1] != shapes[1][-2 if len(shapes[1]) > 1 else 0]:
        raise bad_value(
            "matmul",
            f"shapes {shapes[0]} and {shapes[1]} do not fit",
            "the last axis of a is as long as the second to last of b",
        )
    left, right = unwrap(a), unwrap(b)
    if type(left) is type(right) is np.ndarray:
        return record("matmul", (a, b), computed("matmul", product, left, right), _matmul_vjp)
    sparse = is_sparse(a), is_sparse(b)
    if all(sparse):
        return a @ b
    if any(sparse):
        dense = b if sparse[0] else a
        if dense.ndim > 2:
            problem = f"a sparse matrix times an array of shape {dense.shape}"
            raise bad_value("matmul", problem, "the dense operand is a vector or a matrix")
        same_device("matmul", a=left, b=right)
        return _sparse_left(a, b, sparse_times) if sparse[0] else _sparse_right(a, b)
    return record("matmul", (a, b), computed("matmul", product, left, right), _matmul_vjp)


def _matmul_vjp(g: Any, operands: Any, y: Any, needs: Any) -> tuple[Any, Any]:
    a, b = operands
    shape_a, shape_b = a.shape, b.shape
    if len(shape_a) == len(shape_b) == 2:
        return product(g, b.T) if needs[0] else None, product(a.T, g) if needs[1] else None
    if a.ndim == 1:
        a, g = np.reshape(a, (1, -1)), np.expand_dims(g, -1 if b.ndim == 1 else -2)
    if len(shape_b) == 1:
        b, g = np.reshape(b, (-1, 1)), np.expand_dims(g, -1)
    if b.ndim == 2 and a.ndim > 2:  # one matrix for every batch: a single product
        a, g = (
            np.reshape(a, (math.prod(a.shape[:-1]), a.shape[-1])),
            np.reshape(g, (math.prod(g.shape[:-1]), g.shape[-1])),
        )
    into_a = (
        np.reshape(unbroadcast(product(g, np.swapaxes(b, -1, -2)), a.shape), shape_a) if needs[0] else None
    )
    into_b = (
        np.reshape(unbroadcast(product(np.swapaxes(a, -1, -2), g), b.shape), shape_b) if needs[1] else None
    )
    return into_a, into_b


def _sparse_left(
    a: Any, x: Any, sparse_times: Callable[[Any, Any, bool], Any], transposed: bool = False
) -> Any:
    """a @ x, or aᵀ @ x; SciPy's own transpose takes 30 µs."""
    y = sparse_times(a, unwrap(x), transposed)
    return record(
        "matmul", (a, x), y, lambda g, xs, y, needs: (None, _sparse_left(xs[0], g, times, not transposed))
    )


def _sparse_right(x: Any, a: Any) -> Any:
    """x @ a."""
    return record("matmul", (x, a), unwrap(x) @ a, lambda g, xs, y, needs: (_sparse_right(g, xs[1].T), None))


@rule("sparse")
def _sparse_operator(op: str, *operands: Any) -> Any:
    """What an operator other than @ does between a sparse array and a Tensor: ``*`` of SciPy's matrices is
    the product.
    """
    from scipy.sparse import spmatrix

    sparse = next(x for x in operands if is_sparse(x))
    if op == "np.multiply" and isinstance(sparse, spmatrix) and all(x.ndim for x in operands):
        return _operator(*operands)
    problem = f"a SciPy sparse {sparse.format} array meets a Tensor"
    raise bad_type(op, problem, "A @ tensor is the matrix product; anything elementwise takes A.toarray()")


@rule(np.dot)
def dot(a: Any, b: Any, out: Any = None) -> Any:
    if out is not None or np.ndim(b) > 2:
        raise bad_type(
            "dot",
            f"shapes {np.shape(a)} and {np.shape(b)}, out={out}",
            "use np.matmul for more than two axes",
        )
    return a * b if np.ndim(a) == 0 or np.ndim(b) == 0 else matmul(a, b)


@rule(np.outer)
def outer(a: Any, b: Any, out: Any = None) -> Any:
    if out is not None:
        raise bad_type(
            "outer", "out= is not possible where an argument is a Tensor", "use the returned value"
        )
    return np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1))


@overload
def einsum(subscripts: str, /, *operands: Plain, **options: Any) -> Array: ...
@overload
def einsum(subscripts: str, /, *operands: Plain | Tensor, **options: Any) -> Tensor: ...
@overload
def einsum(subscripts: str, /, *operands: Plain | F, **options: Any) -> F: ...
@rule(np.einsum)
def einsum(subscripts: str, /, *operands: Any, **options: Any) -> Any:
    """np.einsum, also with an ellipsis for axes that broadcast, letters that occur twice in an operand (its
    diagonal), and without an arrow.

    Parameters
    ----------
    subscripts : such as ``"nhf,hf->nh"``
    operands : arrays or Tensors, with an axis for each letter
    options : ``optimize``, which is taken and says nothing here

    Returns
    -------
    the axes after the arrow, in their order

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.einsum("ij,ij->i", np.array([[1.0, 2.0], [3.0, 4.0]]), np.ones((2, 2))).tolist()
    [3.0, 7.0]
    """
    if not isinstance(subscripts, str):
        raise bad_type(
            "einsum",
            f"the first argument is {kind_of(subscripts)}",
            "the subscripts come first, einsum('nhf,hf->nh', x, y)",
        )
    if any(isinstance(x, Expr) for x in operands):
        return features.einsum(subscripts, *operands, **options)
    operands = tuple([given("einsum", f"operand {number}", x) for number, x in enumerate(operands)])
    terms, output = _explicit(subscripts, tuple([np.ndim(x) for x in operands]))
    same_device(
        "einsum", **{f"operand {number}": unwrap(x) for number, x in enumerate(operands)}
    )  # CuPy's takes those of the host
    sizes: dict[str, int] = {}
    for number, (term, x) in enumerate(zip(terms, operands)):
        shape = np.shape(x)
        for letter, n in zip(term, shape):
            if sizes.get(letter, 1) not in (n, 1) and n != 1:
                problem = f"operand {number} has shape {list(shape)} for {term!r} of {subscripts!r}"
                raise bad_value("einsum", problem, "a letter has one length")
            sizes[letter] = n if sizes.get(letter, 1) == 1 else sizes[letter]
    for number, term in enumerate(terms):
        if len(set(term)) < len(term):
            for letter in [letter for letter in dict.fromkeys(term) if term.count(letter) > 1]:
                operands, terms = _with_diagonal(operands, terms, number, letter)

    def vjp(g: Any, xs: Any, y: Any, needs: Any) -> list[Any]:
        grads: list[Any] = []
        for i, term in enumerate(terms):
            if not needs[i]:
                grads.append(None)
                continue
            others = [(t, x) for k, (t, x) in enumerate(zip(terms, xs)) if k != i]
            known = "".join(
                letter for letter in term if letter in output or any(letter in t for t, _ in others)
            )
            back = f"{','.join([output, *[t for t, _ in others]])}->{known}"
            d = einsum(back, g, *[x for _, x in others], **options)
            lengths = dict(zip(known, d.shape))  # 1 where all others broadcast
            wide = np.reshape(d, [lengths.get(letter, 1) for letter in term])
            narrow = tuple([n if xs[i].shape[place] != 1 else 1 for place, n in enumerate(wide.shape)])
            grads.append(np.broadcast_to(unbroadcast(wide, narrow), xs[i].shape))
        return grads

    return record(
        "einsum", operands, _einsum(f"{','.join(terms)}->{output}", map(unwrap, operands), **options), vjp
    )


@functools.lru_cache(maxsize=256)
def _explicit(subscripts: str, ndims: tuple[int, ...]) -> tuple[tuple[str, ...], str]:
    """The letters of each operand and of the result. The axes of an ellipsis get letters that are not used,
    the last ones the same.
    """
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    free = [letter for letter in string.ascii_letters if letter not in subscripts]
    widths = [ndim - len(term.replace("...", "")) if "..." in term else 0 for term, ndim in zip(terms, ndims)]
    rest = "".join(free[: max([0, *widths])])
    written = [term.replace("...", rest[len(rest) - width :]) for term, width in zip(terms, widths)]
    if not arrow:
        letters = "".join(term.replace("...", "") for term in terms)
        output = ("..." if "..." in inputs else "") + "".join(
            sorted(letter for letter in set(letters) if letters.count(letter) == 1)
        )
    output = output.replace("...", rest)
    known = set("".join(written))
    fits = (
        len(terms) == len(ndims)
        and all(len(term) == ndim for term, ndim in zip(written, ndims))
        and min([0, *widths]) == 0
    )
    plain = all(set(term) <= set(string.ascii_letters) for term in (*written, output))
    if not fits or not plain or len(set(output)) < len(output) or not set(output) <= known:
        problem = f"{subscripts!r} for {len(ndims)} operands with {', '.join(map(str, ndims))} axes"
        raise bad_value(
            "einsum",
            problem,
            "a letter for each axis, or ... for some, as in 'nhf,hf->nh'; the result has each once",
        )
    return tuple(written), output


def _with_diagonal(
    operands: tuple[Any, ...], terms: tuple[str, ...], number: int, letter: str
) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """The operand's diagonal along the first two axes of a letter, again until the letter is there once."""
    x, term = operands[number], terms[number]
    while term.count(letter) > 1:
        first = term.index(letter)
        second = term.index(letter, first + 1)
        x = np.diagonal(x, axis1=first, axis2=second)
        term = term[:first] + term[first + 1 : second] + term[second + 1 :] + letter
    return (*operands[:number], x, *operands[number + 1 :]), (*terms[:number], term, *terms[number + 1 :])


def _einsum(subscripts: str, given: Iterable[Any], **options: Any) -> Any:
    """np.einsum of arrays, which adds one term after another: of float16 and bfloat16 in float32, of float32
    in blocks of many terms.
    """
    given = [x if hasattr(x, "dtype") else np.asarray(x) for x in given]
    arrays = [x.astype(np.float32) if is_half(x.dtype) else x for x in given]
    if options or not all(type(x) is np.ndarray and x.dtype == np.float32 for x in arrays):
        return np.einsum(subscripts, *arrays, **options)
    inputs, _, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    sizes = {letter: n for term, x in zip(terms, arrays) for letter, n in zip(term, x.shape)}
    longest = max((letter for letter in sizes if letter not in output), key=sizes.__getitem__, default="")
    if sizes.get(longest, 0) <= 2 * BLOCK:
        return np.einsum(subscripts, *arrays).astype(np.result_type(*[x.dtype for x in given]), copy=False)
    whole = sizes[longest] - sizes[longest] % BLOCK
    y: Any = 0
    if math.prod([sizes[letter] for letter in output]) * whole > max(
        x.size for x in arrays
    ):  # much is made of each block
        for start in range(0, whole, BLOCK):
            y = y + np.einsum(subscripts, *_cut(terms, arrays, longest, slice(start, start + BLOCK))).astype(
                np.float64
            )
    else:
        number = next(letter for letter in string.ascii_letters if letter not in sizes)
        split = ",".join([term.replace(longest, number + longest) for term in terms])
        blocks = [
            x.reshape(*x.shape[: term.index(longest)], -1, BLOCK, *x.shape[term.index(longest) + 1 :])
            if longest in term
            else x
            for term, x in zip(terms, _cut(terms, arrays, longest, slice(whole)))
        ]
        y = np.sum(np.einsum(f"{split}->{number}{output}", *blocks), axis=0, dtype=np.float64)
    y = y + np.einsum(subscripts, *_cut(terms, arrays, longest, slice(whole, None)))
    return y.astype(np.result_type(*[x.dtype for x in given]))


def _cut(terms: list[str], arrays: list[Any], letter: str, part: slice) -> list[Any]:
    """The part of every array that has the letter, along its axis."""
    return [
        x[(slice(None),) * term.index(letter) + (part,)] if letter in term else x
        for term, x in zip(terms, arrays)
    ]


BLOCK = 512
"""Terms along an axis that np.einsum adds in float32."""
