"""What a Module holds: parameters, modules and buffers in its attributes and containers, found by name."""

from __future__ import annotations

import copy
import functools
import gc
from collections import UserList, deque
from collections.abc import Iterator, Mapping, MappingView, Set
from dataclasses import is_dataclass
from types import FunctionType, GeneratorType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from numgraph.arrays.inputs import kind_of
from numgraph.autodiff.tensor import Parameter, Tensor
from numgraph.errors import bad_type, bad_value
from numgraph.graph import Spread


class Holder:
    """What Module is made on: the part that finds and names what is in attributes."""

    buffers: tuple[str, ...]

    def _attributes(self) -> Iterator[tuple[str, Any]]:
        kind: Any = type(self)
        slots, misplaced = _of_class(kind)
        own = vars(self)
        for name in misplaced:
            if name not in own:
                problem = f"{name} is a Parameter or Module of the class, which all its objects share"
                raise bad_type(type(self).__name__, problem, f"set self.{name} in __init__")
        yield from own.items()
        yield from ((name, getattr(self, name)) for name in slots if hasattr(self, name))

    def _held(self) -> Iterator[tuple[str, Any]]:
        """What attributes are, and what their containers hold, by name; buffers as they are."""
        for name, value in self._attributes():
            if name in self.buffers:
                yield name, value
            else:
                yield from _contents(name, value, ())

    def _named_modules(self, prefix: str) -> list[tuple[str, Any]]:
        """This module and all inside it, each once, and what the names of its parameters begin with."""
        modules: list[tuple[str, Any]] = []
        others: list[tuple[str, str, Any]] = []
        seen: set[int] = set()
        self._collect(prefix, modules, others, seen)
        for op, name, value in others:
            _check_found(op, name, value, seen, self)
        return modules

    def _collect(
        self,
        prefix: str,
        modules: list[tuple[str, Any]],
        others: list[tuple[str, str, Any]],
        seen: set[int],
    ) -> None:
        """seen: ids of all modules and parameters that are found; others: what may hide more of them."""
        seen.add(id(self))
        modules.append((prefix, self))
        for name, value in self._held():
            if isinstance(value, Parameter):
                seen.add(id(value))
            elif isinstance(value, Holder):
                if id(value) not in seen:
                    value._collect(f"{prefix}{name}.", modules, others, seen)
            elif type(value) not in _SINGLE or (type(value) is FunctionType and value.__closure__):
                others.append((type(self).__name__, name, value))

    def _walk(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Parameters, and arrays of buffers, each once."""
        seen: set[int] = set()
        names: set[str] = set()
        for path, module in self._named_modules(prefix):
            for name, value in module._held():
                if not (isinstance(value, Parameter) or name in module.buffers) or (
                    value is not None and id(value) in seen
                ):
                    continue
                if path + name in names:
                    problem = f"two parameters have the name {path + name!r}"
                    raise bad_value(
                        type(self).__name__, problem, "give keys that differ as text, without dots"
                    )
                seen.add(id(value))
                names.add(path + name)
                yield path + name, value


def copied(value: Any, parameters: dict[int, Any], spread: Spread, made: dict[int, Any]) -> Any:
    """A module, or a container of some, with other values for its parameters, by id; what holds none is taken
    as it is.
    """
    if isinstance(value, Parameter):
        return parameters.get(id(value), value)
    if type(value) in _SINGLE or isinstance(value, np.ndarray | Tensor):
        return value
    if id(value) in made:
        return made[id(value)]
    again: Any = value
    if (
        isinstance(value, Holder)
        or (is_dataclass(value) and not isinstance(value, type))
        or isinstance(value, SimpleNamespace)
    ):
        again = made[id(value)] = copy.copy(value)
        held = (
            value._attributes()
            if isinstance(value, Holder)
            else [(key, getattr(value, key)) for key in vars(value)]
        )
        for name, one in list(held):
            object.__setattr__(again, name, copied(one, parameters, spread, made))
        if isinstance(value, Holder):
            again._spread = spread
    elif isinstance(value, Mapping):
        items = {key: copied(one, parameters, spread, made) for key, one in value.items()}
        again = items if any(items[key] is not value[key] for key in items) else value
    elif isinstance(value, list | tuple | deque | UserList):
        ones = [copied(one, parameters, spread, made) for one in value]
        if any(one is not before for one, before in zip(ones, value)):
            again = type(value)(*ones) if hasattr(value, "_fields") else type(value)(ones)
    return again


@functools.lru_cache(maxsize=1024)
def _of_class(kind: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of a class's slots, and of its own attributes that should be its objects'."""
    slots: list[str] = []
    misplaced: list[str] = []
    for base in kind.__mro__:
        given = vars(base).get("__slots__", ())
        slots += [given] if isinstance(given, str) else list(given)
        misplaced += [name for name, value in vars(base).items() if isinstance(value, Parameter | Holder)]
    return tuple([name for name in slots if name not in ("__dict__", "__weakref__")]), tuple(misplaced)


_SINGLE = frozenset((int, float, bool, str, type(None), FunctionType, np.random.Generator))


def _contents(name: str, value: Any, around: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    """What a value holds, by name: itself, or the contents of a container; around: ids of the containers that
    it is in.
    """
    items: Any
    if type(value) in _SINGLE or isinstance(value, Holder | Tensor):
        yield name, value
        return
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        items = zip(value._fields, value)
    elif isinstance(value, list | tuple | deque | UserList):
        items = enumerate(value)
    elif (is_dataclass(value) or isinstance(value, SimpleNamespace)) and not isinstance(value, type):
        items = [
            (key, getattr(value, key))
            for key in (vars(value) if hasattr(value, "__dict__") else value.__dataclass_fields__)
        ]
    else:
        yield name, value
        return
    if id(value) not in around:
        for key, item in items:
            yield from _contents(f"{name}.{key}", item, (*around, id(value)))


_LAZY = (GeneratorType, map, filter, zip)
_HIDING = (Set, MappingView, Iterator)
"""What parameters may not be in: it has no order and no names, or is empty once it was looked at."""
_BOUND = (functools.partial, MethodType, FunctionType)
_LISTS: Any = (list, tuple, deque, UserList, Set, MappingView)
_DEEP, _MANY = 4, 1000
"""How far, and at how many objects, is looked for what is hidden."""


def _check_found(op: str, name: str, value: Any, found: set[int], root: Holder) -> None:
    """An error if a value that is no container hides Parameters or Modules which are not found elsewhere."""
    if isinstance(value, _LAZY) or any(
        id(item) not in found and not _is_around(item, root) for item in _hidden(value)
    ):
        if isinstance(value, _HIDING):
            problem, fix = (
                f"{name} is {kind_of(value)}, whose parameters cannot be found and named",
                "make it a list or a dict",
            )
        elif isinstance(value, np.ndarray):
            problem, fix = (
                f"{name} is an array of objects, whose parameters cannot be named",
                "make it a list",
            )
        elif isinstance(value, _BOUND):
            problem = f"{name} is {kind_of(value)} bound to Parameters or Modules that are found nowhere else"
            fix = "set them as attributes of their own, too"
        else:
            problem = (
                f"{name} is {kind_of(value)} that holds Parameters or Modules and is no Module: they would "
                "not be found"
            )
            fix = f"derive {type(value).__name__} from numgraph.nn.Module, or use a dict"
        raise bad_type(op, problem, fix)


def _is_around(item: Any, root: Holder) -> bool:
    """Whether it is a module that the asked one is a part of."""
    modules: list[tuple[str, Any]] = []
    if isinstance(item, Holder):
        item._collect("", modules, [], set())
    return any(module is root for _, module in modules)


def _hidden(value: Any) -> Iterator[Parameter | Holder]:
    """Parameters and Modules in what a value holds, if it is no Module itself."""
    todo: list[tuple[Any, int]] = [(value, 0)]
    seen: set[int] = set()
    for item, depth in todo:  # which grows meanwhile
        if isinstance(item, Parameter | Holder):
            yield item
        elif depth < _DEEP and len(seen) < _MANY and id(item) not in seen:
            seen.add(id(item))
            todo += [(inner, depth + 1) for inner in _within(item) if type(inner) not in _SINGLE]


def _within(item: Any) -> Any:
    """What an object holds, of a kind that may be Parameters or lead to some."""
    if isinstance(item, np.ndarray):
        return item.flat if item.dtype == object else ()
    if isinstance(item, FunctionType):
        return _enclosed(item)
    if isinstance(item, type | ModuleType | str | bytes | Tensor):
        return ()
    if isinstance(item, Mapping):
        return [*item.keys(), *item.values()]
    if isinstance(item, _LISTS):
        return list(item)
    if isinstance(item, functools.partial):
        return item.func, *item.args, *item.keywords.values()
    if isinstance(item, MethodType):
        return (item.__self__,)
    if isinstance(item, Iterator) and type(item).__module__ in ("builtins", "itertools"):
        return gc.get_referents(item)  # its next items would be gone
    kind: Any = type(item)
    slots, _ = _of_class(kind)
    return [
        *getattr(item, "__dict__", {}).values(),
        *[getattr(item, name) for name in slots if hasattr(item, name)],
    ]


def _enclosed(function: FunctionType) -> list[Any]:
    """Parameters, Modules and containers that a function keeps of where it was made; no other objects, which
    it may have for anything.
    """
    held = []
    for cell in function.__closure__ or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # not set yet
            continue
    return [one for one in held if isinstance(one, (Parameter, Holder, list, tuple, dict))]
