"""Which dtypes have arithmetic here, and what dtype NumPy gives a function of them; Python ints that a dtype
cannot hold are errors.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from numgraph import errors
from numgraph.expressions.elementary import Row

COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
_WIDER = "cast the field to a wider dtype first"


@functools.cache
def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether values of a dtype have derivatives: float16, float32, float64, and bfloat16 (a NumPy void
    kind).
    """
    return dtype.kind == "f" or dtype.name == "bfloat16"


@functools.cache
def _has_arithmetic(dtype: np.dtype[Any]) -> bool:
    return dtype.name == "bfloat16" or (
        dtype.kind in "biuf" and dtype.itemsize <= 8 and dtype.name != "uint64"
    )


def check_dtype(op: str, name: str, dtype: np.dtype[Any]) -> None:
    """Refuse what has no message arithmetic: object, complex, strings, dates, long double."""
    if not _has_arithmetic(dtype):
        raise errors.bad_type(
            op,
            f"{name} has dtype {dtype}",
            "use bool, an integer (uint64 as int64), float16, bfloat16, float32 or float64",
        )


def check_fits(op: str, what: str, number: Any, dtype: np.dtype[Any]) -> None:
    """An error if a Python int is not among the numbers of a dtype of integers. NumPy's own where cuts it."""
    if type(number) is int and dtype.kind in "iu" and not _fits(number, dtype):
        raise errors.out_of_range(op, f"{what}: {dtype} cannot hold {number}", _WIDER)


def _fits(number: int, dtype: np.dtype[Any]) -> bool:
    info = np.iinfo(dtype)
    return bool(info.min <= number <= info.max)


@functools.lru_cache(maxsize=4096)
def result_dtype(row: Row, operands: tuple[Any, ...]) -> np.dtype[Any]:
    """The dtype of NumPy's row(*operands).

    operands: dtypes, and (kind, number) of numbers: kind "int" or "float" of Python's, else the name of a
    NumPy scalar's dtype. NumPy refuses ints that a dtype cannot hold, and negative powers of integers.
    """
    samples: list[Any] = []
    for x in operands:
        plain = isinstance(x, np.dtype)
        samples.append(
            np.ones(1, x) if plain else x[1] if x[0] in ("int", "float") else np.array([x[1]], x[0])
        )
    named = f"{row.name} of " + " and ".join(str(x if isinstance(x, np.dtype) else x[1]) for x in operands)
    with np.errstate(all="ignore"):
        try:
            result = np.asarray(row.evaluate(*samples)).dtype
        except TypeError as error:
            raise errors.bad_type("message", f"{named} is not defined ({error})", "cast a field") from None
        except OverflowError as error:
            raise errors.out_of_range("message", f"{named}: {error}", _WIDER) from None
        except ValueError as error:
            raise errors.bad_value("message", f"{named}: {error}", "cast a field to a float") from None
    check_dtype("message", f"the result of {row.name}", result)
    for number in samples:
        check_fits("message", named, number, result)
    return result


def comparison_beyond(name: str, dtype: np.dtype[Any], number: Any, number_first: bool) -> bool | None:
    """The answer, the same for all of them, to a comparison of integers with a Python int that their dtype
    cannot hold; None for others.
    """
    if (
        type(number) is not int
        or dtype.kind not in "biu"
        or _fits(number, dtype if dtype.kind != "b" else np.dtype(np.int64))
    ):
        return None
    less = (number > 0) != number_first  # whether the first operand is
    return {"equal": False, "not_equal": True}.get(name, less if name.startswith("less") else not less)
