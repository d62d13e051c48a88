"""The table that finds a library of arrays by an array's type."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from numgraph.arrays.cupy import CuPy
from numgraph.arrays.library import Library

FRAMEWORKS = {"torch": "numgraph.bridges.torch", "jax": "numgraph.bridges.jax"}
"""Libraries with an autodiff of their own: the module that the caller has imported, and the one whose
``LIBRARY`` carries its arrays.
"""

NATIVE, CUPY = Library(), CuPy()
"""Whose derivatives are the tape's. NATIVE is NumPy, and stands for both where their arrays are treated
alike; so it does for Tensors.
"""

_BY_TYPE: dict[type, Library] = {np.ndarray: NATIVE}


def library_of(x: Any) -> Library:
    """The library that an object is an array of; NATIVE for whatever else NumPy may read."""
    return _BY_TYPE.get(type(x)) or _met(type(x))


def _met(kind: type) -> Library:
    """The library of a type that was not met yet."""
    found = CUPY if CUPY.owns(kind) else NATIVE
    for module in FRAMEWORKS:
        if module in sys.modules and any(
            base.__module__.split(".")[0] in (module, f"{module}lib") for base in kind.__mro__
        ):
            library = framework(module)
            if library.owns(kind):
                found = library
                break
    if len(_BY_TYPE) < 4096:  # types that a program makes over and over are not kept for ever
        _BY_TYPE[kind] = found
    return found


def framework(name: str) -> Library:
    """The library of a name in FRAMEWORKS, which the caller has imported."""
    library: Library = importlib.import_module(FRAMEWORKS[name]).LIBRARY
    return library


_static: set[type] = set()


def static_in_jax(kind: type) -> None:
    """Where JAX is imported: objects of a type are static arguments of its functions, each equal to itself
    alone.
    """
    register = getattr(sys.modules.get("jax.tree_util"), "register_static", None)
    if register is not None and kind not in _static:
        _static.add(kind)
        register(kind)


def foreign(values: Iterable[Any]) -> Library | None:
    """The library with an autodiff of its own that one of the values is an array of; None if there is
    none.
    """
    for x in values:
        kind = type(x)
        if kind is not np.ndarray:  # what nearly all are
            library = _BY_TYPE.get(kind) or _met(kind)
            if library.has_autodiff:
                return library
    return None
