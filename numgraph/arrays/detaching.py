"""Which line of Python turns a Tensor into a plain number: ``float(t)`` means to, ``math.exp(t)`` and
``out[0] = t`` do not say so.
"""

from __future__ import annotations

import dis
import functools
from types import CodeType, FrameType
from typing import Any

import numpy as np

_CONVERSIONS = ("float", "int", "complex")


def is_conversion(frame: FrameType) -> bool:
    """Whether what the frame runs is a call of float, int or complex by its name, or the formatting of a text
    by %.
    """
    return _is_conversion(frame.f_code, frame.f_lasti)


@functools.lru_cache(maxsize=256)
def _is_conversion(code: CodeType, offset: int) -> bool:
    instructions = list(dis.get_instructions(code))
    at = next((one for one in instructions if one.offset == offset), None)
    if at is None:
        return False
    if at.opname == "BINARY_OP":  # numbers and arrays leave their % to the Tensor; a text asks for its number
        return at.argrepr.startswith("%")
    place = at.positions
    if not at.opname.startswith(("CALL", "PRECALL")) or place is None:
        return False
    for one in instructions:  # the name that the call's text begins with
        start = one.positions
        if (
            start is not None
            and (start.lineno, start.col_offset) == (place.lineno, place.col_offset)
            and one.argval in _CONVERSIONS
        ):
            return one.opname.startswith("LOAD_")
    return False


def is_product(frame: FrameType) -> bool:
    """Whether scipy.sparse asks for an array, in ``sparse @ tensor``."""
    return frame.f_code.co_name == "_matmul_dispatch"


def boxed(x: Any) -> Any:
    """x as an object scalar, which makes scipy.sparse step back, so that __rmatmul__ runs and records."""
    box = np.empty((), object)
    box[()] = x
    return box
