"""Tracing: a message function of any of u, v, e is called once with symbols, and what it returns is the
message's expression.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import numpy as np

from numgraph import errors
from numgraph.arrays import NATIVE, Library
from numgraph.arrays.inputs import kind_of, named
from numgraph.expressions.captured import check_captured
from numgraph.expressions.closed import key_of
from numgraph.expressions.expr import Expr, capturing, lift

Traced = tuple[tuple[Expr, ...], dict[str, Any]]


class Fields(np.lib.mixins.NDArrayOperatorsMixin):
    """The fields of u, v or e as a message sees them: attributes (or items) that are symbols."""

    __slots__ = ("__leaves", "__op", "__target")
    __op: str
    __target: str
    __leaves: dict[str, Expr]

    def __init__(self, op: str, target: str, leaves: dict[str, Expr]):
        put = super().__setattr__
        put("_Fields__op", op)
        put("_Fields__target", target)
        put("_Fields__leaves", leaves)

    def __getattr__(self, name: str) -> Expr:
        if not isinstance(name, str):
            target = self.__target
            raise errors.bad_type(
                self.__op, f"{target}[{name!r}]", f"fields have names, as {target}['x'] or {target}.x"
            )
        leaf = self.__leaves.get(name)
        if leaf is None:
            if name.startswith("__"):
                raise AttributeError(name)
            known = ", ".join(self.__leaves) or "none was passed"
            field_name, given = f"{self.__target}.{name}", f"{self.__target}={{'{name}': array}}"
            near = errors.did_you_mean(name, self.__leaves)
            raise AttributeError(
                f"{self.__op}: field {field_name} is unknown{near}; pass {given} (known: {known})"
            )
        return leaf

    __getitem__ = __getattr__

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"{self.__op}: a message cannot set {self.__target}.{name}; return the value, or give it a name "
            "of its own"
        )

    __setitem__ = __setattr__

    def __contains__(self, name: object) -> bool:
        return name in self.__leaves

    def __iter__(self) -> Iterator[str]:
        return iter(self.__leaves)

    def __repr__(self) -> str:
        fields = [f"{name} {leaf.dtype.name}{list(leaf.shape)}" for name, leaf in self.__leaves.items()]
        return f"<fields of {self.__target}: {', '.join(fields) or 'none'}>"

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise errors.bad_type(
            self.__op,
            f"{self.__target} is no array, but has the fields {', '.join(self.__leaves)}",
            self._fix(),
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *operands: Any, **options: Any) -> Any:
        self.__array__()

    def __array_function__(self, function: Any, types: Any, operands: Any, options: Any) -> Any:
        self.__array__()

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, operands: Any = (), options: Any = None) -> Any:
        for x in operands:
            if isinstance(x, cls):
                x.__array__()
        raise errors.bad_type(
            "message", "all fields of u, v or e at once cannot be an operand", "name one of them, as u.x"
        )

    def _fix(self) -> str:
        return f"name one of them, as {self.__target}.{next(iter(self.__leaves), 'x')}"

    __hash__ = object.__hash__


def trace(
    op: str,
    functions: tuple[Callable[..., Any], ...],
    leaves: tuple[Expr, ...],
    rows: Callable[[str], int],
    library: Library = NATIVE,
) -> Traced:
    """Call each message function once with symbols; returns the expressions and the captured arrays by shared
    field name.

    rows: gives the number of rows of u, v or e, which tell a captured array of rows (see captured.py).
    library: whose arrays the fields are. Functions that read nothing but their arguments, numbers and
    functions of numbers are not called again for the same symbols."""
    keys = tuple([key_of(function) for function in functions])
    known = None if None in keys else (op, keys, leaves, library)
    if known is not None and (found := _known.get(known)) is not None:
        return found
    roots, captured = _trace(op, functions, leaves, library)
    if captured:
        check_captured(op, functions, roots, captured, {target: rows(target) for target in TARGETS})
    elif known is not None:
        if len(_known) >= REMEMBERED:
            _known.clear()
        _known[known] = roots, captured
    return roots, captured


REMEMBERED = 1024
"""Traces that are kept."""
_known: dict[Any, Traced] = {}  # changed by single operations only, so that no lock is needed


def _trace(
    op: str, functions: tuple[Callable[..., Any], ...], leaves: tuple[Expr, ...], library: Library
) -> Traced:
    known: dict[str, dict[str, Expr]] = {"u": {}, "v": {}, "e": {}}
    for leaf in leaves:
        known[leaf.attrs[0]][leaf.attrs[1]] = leaf
    symbols = {target: Fields(op, target, known[target]) for target in known}
    roles = ("the message",) if len(functions) == 1 else ("score", "value")
    with capturing(library, [leaf.dtype for leaf in leaves]) as captured:
        roots = [
            _called(op, role, function, symbols) for role, function in zip(roles, functions, strict=True)
        ]
    return tuple(roots), captured


def _called(op: str, role: str, function: Any, symbols: dict[str, Fields]) -> Expr:
    """What a message function returns for the symbols."""
    function, places, names = calling(op, role, function)
    try:
        returned = function(*[symbols[name] for name in places], **{name: symbols[name] for name in names})
    except TypeError as error:
        if "'int' object is not callable" in str(error):
            fix = "shapes and sizes are as NumPy has them, without the axis of rows: write u.x.shape[-1]"
            raise errors.bad_type(op, f"{role} calls a number, as in u.x.size(-1)", fix) from error
        if not _SYMBOL.search(str(error)):
            raise
        problem = (
            f"in {role} a function got a symbol that is no array of its library "
            f"({str(error).splitlines()[0]})"
        )
        raise errors.bad_type(
            op, problem, "use NumPy's functions of the fields, such as np.exp(u.x)"
        ) from error
    if isinstance(returned, _NODES):
        return lift(returned)
    if not isinstance(returned, Fields) and hasattr(returned, "shape") and hasattr(returned, "dtype"):
        return lift(returned)
    raise errors.bad_type(op, *_no_expression(role, returned))


def _no_expression(role: str, returned: Any) -> tuple[str, str]:
    """What is wrong with something that a message returned, and what to do."""
    problem = f"{role} returned {kind_of(returned)}"
    if returned is None:
        return problem, "end it with return and one expression of the fields"
    if isinstance(returned, Fields):
        return f"{role} returned all fields, {errors.shown(returned)}", returned._fix()
    if isinstance(returned, tuple | list | dict):
        return (
            f"{problem} of {len(returned)}",
            "return one expression; for several results call the function once for each",
        )
    if inspect.isawaitable(returned) or inspect.isgenerator(returned) or inspect.isasyncgen(returned):
        if hasattr(returned, "close"):
            returned.close()  # else Python warns that it was never awaited
        return problem, "a message is a plain function, without async, await and yield"
    if callable(returned):
        return problem, "return what it gives: call it"
    return f"{problem}, {errors.shown(returned)}", "return one expression of the fields"


_SYMBOL = re.compile(r"\bExpr\b")
"""In an error of a library that got a symbol."""
TARGETS = ("u", "v", "e")
_NODES = (Expr, bool, int, float, np.generic)
"""What a message may return besides arrays."""
Calling = tuple[Any, tuple[str, ...], tuple[str, ...]]


def calling(op: str, role: str, function: Any) -> Calling:
    """What to call, and which of u, v, e it takes by position and which by name. Parameters with a default
    keep it.
    """
    if type(function) is FunctionType:
        code = function.__code__
        if (
            code.co_kwonlyargcount == code.co_posonlyargcount == 0
            and not code.co_flags & 0x0C
            and "__wrapped__" not in function.__dict__
        ):
            names = code.co_varnames[: code.co_argcount - len(function.__defaults__ or ())]
            return function, (), _checked(op, role, function, names)
    if not callable(function) or isinstance(function, type):
        fix = "pass an object of it, or" if isinstance(function, type) else "pass"
        raise errors.bad_type(
            op, f"{role} is {kind_of(function)}", f"{fix} a function of any of u, v, e, or use numgraph.ops"
        )
    function = getattr(
        function, "py_func", function
    )  # of Numba's compiled functions: symbols have no type that it knows
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # NumPy's and some built-in functions have none
        fix = f"write lambda u: {named(function)}(u.x), or the like"
        raise errors.bad_type(
            op, f"{role} is {named(function)}, whose parameters have no names", fix
        ) from None
    starred = [p for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    by_place = _passes_places(function)
    places: list[str] = []
    names_of: list[str] = []
    for p in parameters:
        if p.default is p.empty and p not in starred:
            (
                places
                if p.kind is p.POSITIONAL_ONLY or (by_place and p.kind is p.POSITIONAL_OR_KEYWORD)
                else names_of
            ).append(p.name)
    if starred and not places and not names_of:
        fix = "name the ones of u, v, e that it takes; a decorator keeps them with functools.wraps"
        stars = " and ".join(("*" if p.kind is p.VAR_POSITIONAL else "**") + p.name for p in starred)
        raise errors.bad_type(op, f"{role} is {named(function)}, which takes {stars}", fix)
    return (
        function,
        _checked(op, role, function, tuple(places)),
        _checked(op, role, function, tuple(names_of)),
    )


def _passes_places(function: Any) -> bool:
    """Whether a decorated function passes on arguments by position: its wrapper takes ``*args``."""
    try:
        own = inspect.signature(function, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.kind is p.VAR_POSITIONAL for p in own)


_FOREIGN = ("edges", "nodes", "edge", "node", "src", "dst", "x_i", "x_j")
"""What messages of other libraries take."""


def _checked(op: str, role: str, function: Any, names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in TARGETS:
            fix = "its parameters are any of u, v, e, by name"
            if name in _FOREIGN:
                fix += ": sources are u, destinations v, edges e, and their fields attributes, "
                fix += "as in lambda u, e: u.x * e.w"
            elif name in ("self", "cls"):
                fix += ": pass the method of an object, as layer.message"
            elif not hasattr(function, "__name__"):  # an object, as a layer
                raise errors.bad_type(
                    op,
                    f"{role} is {named(function)}, which takes {name!r}",
                    "write lambda u: layer(u.x), or the like",
                )
            elif type(function) is not FunctionType:
                fix += f": as in lambda u, e: {named(function)}(u.x, e.w)"
            raise errors.bad_type(op, f"{role} takes a parameter {name!r}", fix)
    return names
