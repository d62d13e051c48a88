"""NumPy's functions that a Tensor is refused by, and what to write instead.

What stands here has no derivative that a caller could mean, writes into its argument, or has a form that
keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from numgraph.arrays.inputs import named
from numgraph.autodiff.rules import rule
from numgraph.errors import bad_type

_WRITES = (
    "it writes into its argument, and the tape would not know",
    "build a new array, as with np.where, np.insert or ng.scatter_add",
)
_SETS = (
    "it compares values to find a set, which has no derivative",
    "pass tensor.data; np.unique and indices by np.isin keep the gradient",
)
_DATES = ("it is about dates", "pass tensor.data")
_COMPLEX = (
    "its result is complex",
    "np.linalg.eigh and eigvalsh of a symmetric matrix have a gradient; else pass tensor.data",
)
_BINS = (
    "counts have no derivative, and the edges of bins move with the values",
    (
        "np.bincount(np.digitize(tensor.data, edges), weights=w) sums weights with a gradient; else pass "
        "tensor.data"
    ),
)
_COEFFICIENTS = (
    "it is about coefficients, of which leading zeros are cut off",
    "np.polyval, np.convolve and np.vander have a gradient: write it with these, or pass tensor.data",
)
_CALLS = (
    "it calls a Python function for every row",
    "write the function with whole axes, or np.stack of its results",
)
_ROUNDING = ("it is about the digits of a float, which have no derivative", "pass tensor.data")

REFUSED: dict[Any, tuple[str, str]] = {
    **dict.fromkeys((np.copyto, np.fill_diagonal, np.place, np.put, np.put_along_axis, np.putmask), _WRITES),
    **dict.fromkeys((np.intersect1d, np.union1d, np.setdiff1d, np.setxor1d), _SETS),
    **dict.fromkeys(
        (np.busday_count, np.busday_offset, np.is_busday, np.datetime_as_string, np.isnat), _DATES
    ),
    **dict.fromkeys((np.linalg.eig, np.linalg.eigvals, np.roots, np.sort_complex), _COMPLEX),
    **dict.fromkeys((np.histogram, np.histogram2d, np.histogramdd, np.histogram_bin_edges), _BINS),
    **dict.fromkeys(
        (np.poly, np.polyadd, np.polyder, np.polydiv, np.polyint, np.polymul, np.polysub), _COEFFICIENTS
    ),
    np.polyfit: (
        "it has no derivative rule",
        "np.linalg.lstsq(np.vander(x, degree + 1), y) has one, and the same result",
    ),
    **dict.fromkeys((np.apply_along_axis, np.apply_over_axes), _CALLS),
    **dict.fromkeys((np.frexp, np.nextafter, np.spacing), _ROUNDING),
}
"""By function the problem, and what to do about it."""


def _refusal(function: Any) -> Callable[..., NoReturn]:
    def refuse(*args: Any, **options: Any) -> NoReturn:
        problem, fix = REFUSED[function]
        raise bad_type(named(function), f"an argument is a Tensor, and {problem}", fix)

    return refuse


for _function in REFUSED:
    rule(_function)(_refusal(_function))
