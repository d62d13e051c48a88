"""Tracing: a message function of any of u, v, e is called once with symbols, and what it returns is the message's expression."""

from __future__ import annotations

import dis
import functools
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from numgraph import errors
from numgraph.expr import Expr, capturing, lift

Traced = tuple[tuple[Expr, ...], dict[str, Any]]


class Fields:
    """The fields of u, v or e as a message sees them: attributes (or items) that are symbols."""

    def __init__(self, op: str, target: str, leaves: dict[str, Expr]):
        self._op, self._target, self._leaves = op, target, leaves

    def __getattr__(self, name: str) -> Expr:
        leaf = self.__dict__["_leaves"].get(name)
        if leaf is None:
            if name.startswith("__"):
                raise AttributeError(name)
            known = ", ".join(self._leaves) or "none was passed"
            field_name, given = f"{self._target}.{name}", f"{self._target}={{'{name}': array}}"
            raise AttributeError(f"{self._op}: field {field_name} is unknown; pass {given} (known: {known})")
        return leaf

    __getitem__ = __getattr__


def trace(op: str, functions: tuple[Callable[..., Any], ...], leaves: tuple[Expr, ...]) -> Traced:
    """Call each message function once with symbols; returns the expressions and the captured arrays by shared field name.

    Functions that read nothing but their arguments are not called again for the same symbols.
    """
    if all(map(_is_closed, functions)):
        return _remembered(op, tuple([function.__code__ for function in functions]), leaves)
    return _trace(op, functions, leaves)


def _is_closed(function: Any) -> bool:
    plain = type(function) is FunctionType and not function.__defaults__ and not function.__kwdefaults__
    return plain and _is_closed_code(function.__code__)


@functools.lru_cache(maxsize=1024)
def _is_closed_code(code: CodeType) -> bool:
    """Whether it reads no globals, no variables of functions around it and no code of its own: its names are those of attributes."""
    if code.co_freevars or any(isinstance(constant, CodeType) for constant in code.co_consts):
        return False
    named = [one.opname for one in dis.get_instructions(code) if one.opcode in dis.hasname]
    return all(name in ("LOAD_ATTR", "LOAD_METHOD") for name in named)


@functools.lru_cache(maxsize=1024)
def _remembered(op: str, codes: tuple[CodeType, ...], leaves: tuple[Expr, ...]) -> Traced:
    return _trace(op, tuple([FunctionType(code, {}) for code in codes]), leaves)


def _trace(op: str, functions: tuple[Callable[..., Any], ...], leaves: tuple[Expr, ...]) -> Traced:
    known: dict[str, dict[str, Expr]] = {"u": {}, "v": {}, "e": {}}
    for leaf in leaves:
        known[leaf.attrs[0]][leaf.attrs[1]] = leaf
    symbols = {target: Fields(op, target, known[target]) for target in known}
    with capturing() as captured:
        roots = [lift(function(**{name: symbols[name] for name in parameters(op, function)})) for function in functions]
    return tuple(roots), captured


def parameters(op: str, function: Callable[..., Any]) -> tuple[str, ...]:
    """The names among u, v, e that a message function takes."""
    if not callable(function):
        raise errors.bad_type(op, f"the message is a {type(function).__name__}", "pass a function of any of u, v, e, or use numgraph.ops")
    code = getattr(function, "__code__", None)
    if code is not None and code.co_kwonlyargcount == 0 and not code.co_flags & 0x0C:
        names = code.co_varnames[: code.co_argcount - len(getattr(function, "__defaults__", None) or ())]
    else:
        import inspect

        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        found = inspect.signature(function).parameters.values()
        names = tuple(p.name for p in found if p.default is p.empty and p.kind not in kinds)
    for name in names:
        if name not in ("u", "v", "e"):
            raise errors.bad_type(op, f"the message takes a parameter {name!r}", "its parameters are any of u, v, e, by name")
    return names
