"""Elementwise rules: every row of the table of elementary functions."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from numgraph.arrays.devices import computed
from numgraph.autodiff.rules import rule
from numgraph.autodiff.sums import unbroadcast
from numgraph.autodiff.tape import record, unwrap
from numgraph.autodiff.tensor import Tensor
from numgraph.dense.blocks import in_blocks, is_large
from numgraph.dense.fused import FEWER, pending
from numgraph.errors import bad_type
from numgraph.expressions.dtypes import check_fits
from numgraph.expressions.elementary import BY_FUNCTION, COMPOSED, TABLE, Elementwise

_BITS = {2: np.int16, 4: np.int32, 8: np.int64}


def select(condition: Any, a: Any, b: Any) -> Any:
    """np.where, bit for bit. On a mask without a pattern np.where branches, 3 ns an element; masking the bits
    takes 0.2 ns.
    """
    floats = [x for x in (a, b) if not isinstance(x, int | float)]
    if (
        type(condition) is not np.ndarray
        or condition.dtype != np.bool_
        or not floats
        or any(type(x) is not np.ndarray or x.dtype.kind != "f" or x.dtype != floats[0].dtype for x in floats)
        or floats[0].itemsize not in _BITS
        or condition.size + floats[0].size < 2048
    ):
        for number, other in ((a, b), (b, a)):
            if type(number) is int and hasattr(other, "dtype"):
                check_fits("where", f"{number} beside {other.dtype}", number, other.dtype)
        return np.where(condition, a, b)
    dtype, bits = floats[0].dtype, _BITS[floats[0].itemsize]
    a, b = ((x if type(x) is np.ndarray else np.asarray(x, dtype)).view(bits) for x in (a, b))
    if not b.ndim and b == 0:
        return (a & np.negative(condition, dtype=bits)).view(dtype)
    if not a.ndim and a == 0:
        return (b & np.subtract(condition, 1, dtype=bits)).view(dtype)
    return (b ^ ((a ^ b) & np.negative(condition, dtype=bits))).view(dtype)


def where(condition: Any, a: Any, b: Any) -> Any:
    """np.where on arrays and Tensors, by ``select``."""
    return elementwise(TABLE["where"], condition, a, b)


def _power_base(g: Any, y: Any, x: Any, p: Any) -> Any:
    """The exponents that people write, without logarithms and without a power where a product will do."""
    if not isinstance(p, int | float):
        return TABLE["power"].vjp(g, y, x, p)[0]  # type: ignore[misc]
    if p == 2:
        return g * (2 * x)
    return np.zeros_like(g) if p == 0 else g * (p * x ** (p - 1))


def _power_exponent(g: Any, y: Any, x: Any, p: Any) -> Any:
    if not isinstance(x, int | float):
        return TABLE["power"].vjp(g, y, x, p)[1]  # type: ignore[misc]
    return g * (y * math.log(x)) if x > 0 else g * 0


# Derivatives by operand, for the rows whose operands are often constants: the table's function gives all of
# them at once.
BY_OPERAND: dict[str, tuple[Callable[..., Any] | None, ...]] = {
    "subtract": (lambda g, y, a, b: g, lambda g, y, a, b: -g),
    "multiply": (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    "divide": (lambda g, y, a, b: g / b, lambda g, y, a, b: -g * (y / b)),
    "power": (_power_base, _power_exponent),
    "maximum": (
        lambda g, y, a, b: where(a == b, g * 0.5, where(a > b, g, 0)),
        lambda g, y, a, b: where(a == b, g * 0.5, where(a > b, 0, g)),
    ),
    "minimum": (
        lambda g, y, a, b: where(a == b, g * 0.5, where(a < b, g, 0)),
        lambda g, y, a, b: where(a == b, g * 0.5, where(a < b, 0, g)),
    ),
    "where": (None, lambda g, y, c, a, b: where(c, g, 0), lambda g, y, c, a, b: where(c, 0, g)),
    "logaddexp": (
        lambda g, y, a, b: g * TABLE["sigmoid"](a - b),
        lambda g, y, a, b: g * TABLE["sigmoid"](b - a),
    ),
}


@cache
def _replay(row: Elementwise) -> Callable[..., Sequence[Any]] | None:
    every, single = row.vjp, BY_OPERAND.get(row.name)
    if every is None:
        return None

    def vjp(g: Any, operands: Sequence[Any], y: Any, needs: Sequence[bool]) -> list[Any]:
        if is_large((g, y, *operands)):
            grads: Sequence[Any] = in_blocks(partial(derivatives, needs), g, y, *operands)
        else:
            grads = derivatives(needs, g, y, *operands)
        return [
            unbroadcast(d, x.shape) if need and d is not None else None
            for d, x, need in zip(grads, operands, needs)
        ]

    def derivatives(needs: Sequence[bool], g: Any, y: Any, *operands: Any) -> Sequence[Any]:
        if single is not None:
            return [f(g, y, *operands) if f is not None and need else None for f, need in zip(single, needs)]
        return every(g, y, *operands)

    return vjp


@rule("elementary")
def elementwise(row: Elementwise, *operands: Any, **options: Any) -> Any:
    """Evaluate a row of the table on arrays and Tensors that broadcast."""
    if options:
        raise bad_type(
            row.name,
            f"the option {next(iter(options))}= is not possible where an operand is a Tensor",
            "leave it out",
        )
    name, evaluate = row.name, row.evaluate
    arrays = [x.data if isinstance(x, Tensor) else x for x in operands]
    if name == "where":
        if len(arrays) == 1:
            return np.where(*arrays)
        evaluate = select
    if is_large(arrays, FEWER):
        if (made := pending(row, operands, sys._getframe(1), elementwise)) is not None:
            return made
        if is_large(arrays):
            evaluate = partial(in_blocks, evaluate)
    return record(name, operands, computed(name, evaluate, *arrays), _replay(row))


def dense_row(
    name: str,
    functions: tuple[Any, ...],
    vjp: Callable[..., tuple[Any, ...]] | None,
    evaluate: Callable[..., Any] | None = None,
) -> Elementwise:
    """Register a function that Tensors have beside the table's; ``elementwise`` evaluates it."""
    row = Elementwise(name, functions, evaluate or functions[0], vjp)
    for function in functions:
        rule(function)(partial(elementwise, row))
    return row


for _function, _row in BY_FUNCTION.items():
    rule(_function)(partial(elementwise, _row))
for _function, _composed in COMPOSED.items():
    rule(_function)(_composed)


# Functions whose value does not depend smoothly on their argument: plain arrays (or numbers) of the detached
# data.
_DETACHED: tuple[Any, ...] = (
    *(np.shape, np.ndim, np.size, np.result_type, np.zeros_like, np.ones_like, np.empty_like, np.full_like),
    *(
        np.argmax,
        np.argmin,
        np.argsort,
        np.nonzero,
        np.flatnonzero,
        np.count_nonzero,
        np.any,
        np.all,
        np.searchsorted,
    ),
    *(np.array_equal, np.allclose, np.isclose, np.shares_memory, np.may_share_memory, np.iscomplexobj),
    *(np.array_repr, np.array_str, np.array2string, np.save, np.savez, np.savez_compressed, np.savetxt),
    *(np.round, np.around, np.fix, np.signbit, np.bitwise_count, np.gcd, np.lcm, np.packbits, np.unpackbits),
    *(
        np.nanargmax,
        np.nanargmin,
        np.argpartition,
        np.argwhere,
        np.lexsort,
        np.digitize,
        np.isin,
        np.ix_,
        np.array_equiv,
    ),
    *(
        np.iscomplex,
        np.isreal,
        np.isrealobj,
        np.isneginf,
        np.isposinf,
        np.can_cast,
        np.common_type,
        np.min_scalar_type,
    ),
    *(
        np.ravel_multi_index,
        np.unravel_index,
        np.diag_indices_from,
        np.tril_indices_from,
        np.triu_indices_from,
    ),
    *(np.einsum_path, np.linalg.matrix_rank),
)


def _plain(x: Any) -> Any:
    return type(x)(map(unwrap, x)) if type(x) in (list, tuple) else unwrap(x)


def _detached(function: Any) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        return function(*map(_plain, args), **{name: _plain(x) for name, x in options.items()})

    return call


for _function in _DETACHED:
    rule(_function)(_detached(_function))
