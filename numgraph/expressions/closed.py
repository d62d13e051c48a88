"""What decides the expression that a message function returns for given symbols: its code, and what this
reads from outside.
"""

from __future__ import annotations

import dis
import functools
from collections.abc import Hashable
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from numgraph.expressions.elementary import BY_FUNCTION, COMPOSED, Elementwise

_NUMBERS = (int, float, bool, str, type(None))
_REDUCTIONS = (np.sum, np.max, np.min, np.mean)
_OF_NUMPY = (np.ufunc, type(np.where))
_OF_FORMULAS = ("numgraph.expressions.elementary", "numgraph.dense.activations")
"""Modules of functions that compute with their arguments alone."""
_LAZY = ("numpy", "numgraph")
"""Modules that import parts of themselves when they are asked for them, and have them from then on."""
_DEEP = 4
"""Functions that call each other, at most."""


class _Names(NamedTuple):
    """The globals that a code reads, and the attributes, of whatever."""

    globals: tuple[str, ...]
    attributes: tuple[str, ...]


def key_of(function: Any, depth: int = 0) -> Hashable:
    """A key under which the function's expression may be kept: equal ones trace alike. None where it reads
    what may change, as an array, an object or a random number."""
    if (
        type(function) is not FunctionType
        or function.__defaults__
        or function.__kwdefaults__
        or "__wrapped__" in function.__dict__
    ):
        return None
    code = function.__code__
    names = _names(code)
    if names is None or depth > _DEEP:
        return None
    if not names.globals and not code.co_freevars:
        return code
    key: list[Hashable] = [code]
    try:
        read = [function.__globals__[name] for name in names.globals] + [
            cell.cell_contents for cell in function.__closure__ or ()
        ]
    except (KeyError, ValueError):  # a builtin, or nothing yet
        return None
    for value in read:
        part = _key_of_value(value, names.attributes, depth)
        if part is None:
            return None
        key.append(part)
    return tuple(key)


def _key_of_value(value: Any, attributes: tuple[str, ...], depth: int) -> Hashable:
    """Of something that a code reads; attributes: what may be read of it."""
    kind = type(value)
    if kind in _NUMBERS:
        return kind, value or repr(value)  # 0.0 equals −0.0
    if kind is ModuleType:
        return _key_of_module(value, attributes, depth)
    if isinstance(value, Elementwise):
        return value
    if kind in _OF_NUMPY:
        return value if value in BY_FUNCTION or value in COMPOSED or value in _REDUCTIONS else None
    if kind is not FunctionType or not value.__dict__.keys().isdisjoint(attributes):
        return None
    own = value.__globals__.get("__name__")  # functools.wraps copies __module__
    return value if own in _OF_FORMULAS else key_of(value, depth + 1)


def _key_of_module(module: ModuleType, attributes: tuple[str, ...], depth: int) -> Hashable:
    held = vars(module)
    if "__getattr__" in held and module.__name__ not in _LAZY:  # it may have any attribute
        return None
    parts: list[Hashable] = [module.__name__]
    for name in attributes:
        if name in held:
            value = held[name]
            part = None if type(value) is ModuleType else _key_of_value(value, attributes, depth)
            if part is None:
                return None
            parts.append(part)
    return tuple(parts)


@functools.lru_cache(maxsize=1024)
def _names(code: CodeType) -> _Names | None:
    """None where it does more than read: it sets names from outside, imports, has code of its own, or asks
    for what everything has, as __dict__ and __name__.
    """
    if any(isinstance(constant, CodeType) for constant in code.co_consts):
        return None
    found: dict[str, list[str]] = {"LOAD_GLOBAL": [], "LOAD_ATTR": []}
    for one in dis.get_instructions(code):
        name = one.opname.replace("METHOD", "ATTR")
        if one.opcode in dis.hasname:
            if name not in found or one.argval.startswith("__"):
                return None
            found[name].append(one.argval)
        elif one.opcode in dis.hasfree and not name.startswith(("LOAD", "COPY")):
            return None
    return _Names(*[tuple(dict.fromkeys(names)) for names in found.values()])
