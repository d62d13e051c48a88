"""What a message reads from outside, as torch.compile traces its call: what torch guards from then on, and
what it cannot.

A compiled graph holds messages as constants. So what they read is read here too, in traced Python, by which
torch compiles again where that has changed: modules, functions, and numbers by value. Anything else (arrays,
tensors, attributes, elements of lists) has no guard."""

from __future__ import annotations

import builtins
import dis
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch._dynamo.comptime import comptime

from numgraph.arrays.inputs import kind_of

_LIBRARIES = ("numgraph", "numpy", "torch", "math", "operator", "builtins", "_operator")
_VALUES = (bool, int, float, str, type(None))
_DEPTH = 8
_HIDDEN = "hidden"
Read = tuple[str, Any, str, str, str]
"""Where it stands ("global", "cell", "default", "option"), its name or number there, its name, and what it
is: a value's type and text, "named" and the name of a library's function or module, or "function". All is
text, which torch takes as constants."""

_is_constant: list[bool] = []


def varying(function: Any, depth: int = 0) -> str | None:
    """What a function reads that may change unseen; None where there is nothing. This is itself traced."""
    if type(function) is not FunctionType:
        return "attributes of an object"
    comptime(_look)
    if not _looked():
        return "a tensor, an array or a changing number of the functions around it"
    problem = _problem(function, depth)
    if problem is not None:
        return problem
    try:
        cells: Any = function.__closure__
    except AttributeError:
        # of functions made within what is compiled torch knows the cells and defaults, guards them, and
        # shows them not
        cells = _HIDDEN
    for where, key, name, kind, wanted in _reads(function):
        if where != "global" and cells is _HIDDEN:
            if kind == "function":
                return f"the function {name}"
            continue
        if where == "global":
            found: Any = getattr(sys.modules[function.__module__], name)
        elif where == "cell":
            found = cells[key].cell_contents
        elif where == "default":
            found = function.__defaults__[key]  # type: ignore[index]
        else:
            found = function.__kwdefaults__[key]  # type: ignore[index]
        if kind == "function":
            problem = varying(found, depth + 1)
            if problem is not None:
                return problem
        elif kind == "named":
            if found.__name__ != wanted:
                return name
        elif not _is(found, kind, wanted):
            return name
    return None


def _is(found: Any, kind: str, wanted: str) -> bool:
    """Traced: whether a value is the one written as text. Comparing fixes numbers that torch would let
    vary.
    """
    if kind == "float":
        return isinstance(found, float) and found == float(wanted)
    if kind == "int":
        return isinstance(found, int) and not isinstance(found, bool) and found == int(wanted)
    return str(found) == wanted and (kind == "str") == isinstance(found, str)


def _look(ctx: Any) -> None:
    """Note, of the frame of ``varying``, whether torch can make the function itself."""
    _is_constant[:] = [ctx.get_local("function").is_python_constant()]


@torch.compiler.assume_constant_result
def _looked() -> bool:
    return _is_constant[0]


@torch.compiler.assume_constant_result
def _problem(function: FunctionType, depth: int) -> str | None:
    if depth > _DEPTH:
        return "functions that call each other"
    for _, _, name, value in _outside(function):
        if value is _UNKNOWN:
            return name
        if _kind(value) is None:
            return f"{name}, {kind_of(value)}"
    return None


@torch.compiler.assume_constant_result
def _reads(function: FunctionType) -> tuple[Read, ...]:
    return tuple([(where, key, name, *_kind(value)) for where, key, name, value in _outside(function)])  # type: ignore[misc]


_UNKNOWN = object()


def _outside(function: FunctionType) -> Iterator[tuple[str, Any, str, Any]]:
    """Where, under which name, and what it reads."""
    code = function.__code__
    for i, (name, cell) in enumerate(zip(code.co_freevars, function.__closure__ or (), strict=True)):
        try:
            yield "cell", i, name, cell.cell_contents
        except ValueError:
            yield "cell", i, name, _UNKNOWN
    for i, value in enumerate(function.__defaults__ or ()):
        yield "default", i, code.co_varnames[code.co_argcount - len(function.__defaults__ or ()) + i], value
    for name, value in (function.__kwdefaults__ or {}).items():
        yield "option", name, name, value
    if function.__dict__:
        yield "global", function.__name__, "attributes of a function", _UNKNOWN
    names = tuple(dict.fromkeys(_globals(code)))
    module = sys.modules.get(function.__module__)
    is_found = module is not None and vars(module) is function.__globals__
    for name in names:
        if is_found and name in function.__globals__:
            yield "global", name, name, function.__globals__[name]
        elif name in function.__globals__ or not hasattr(builtins, name):
            yield "global", name, name, _UNKNOWN


def _globals(code: CodeType) -> Iterator[str]:
    """The globals that it and the functions within it read; what it imports or writes is none of them."""
    for one in dis.get_instructions(code):
        if one.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield one.argval
        elif one.opname in ("IMPORT_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"):
            yield f"{one.argval} by import or global"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals(constant)


def _kind(value: Any) -> tuple[str, str] | None:
    """How a value is guarded, and by what; None where it is not."""
    if type(value) in _VALUES and value == value:
        return type(value).__name__, str(value)
    if isinstance(value, ModuleType) and value.__name__.split(".")[0] in _LIBRARIES:
        return "named", value.__name__
    if isinstance(value, np.ufunc):
        return "named", value.__name__
    if (
        callable(value)
        and str(getattr(value, "__module__", "")).split(".")[0] in _LIBRARIES
        and isinstance(value, _NAMED)
    ):
        return "named", value.__name__
    return ("function", "") if type(value) is FunctionType else None


_NAMED = (FunctionType, type, type(len), type(np.where), type(torch.Tensor.sum))
