"""Numba's decorator as this package uses it: nogil, cached on disk wherever a writable folder exists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def njit(*signature: Any, **options: Any) -> Callable[..., Any]:
    """``numba.njit`` with ``nogil`` and a disk cache; without the cache where no folder can be written (Numba raises there)."""
    options = {"nogil": True, **options}

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(*signature, cache=True, **options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            return numba.njit(*signature, **options)(function)

    return decorate
