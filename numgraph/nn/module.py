"""Module: what layers and models share. Parameters and inner modules are found in attributes, in the order in
which these were set.
"""

from __future__ import annotations

import copy
import functools
import gc
import random
import reprlib
from collections import UserList, deque
from collections.abc import Iterator, Mapping, MappingView, Set
from dataclasses import is_dataclass
from types import FunctionType, GeneratorType, MethodType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from numgraph.arrays.devices import host_copy, known, moved
from numgraph.arrays.inputs import given, is_sparse, kind_of
from numgraph.autodiff.tensor import Parameter, Tensor, unwrap
from numgraph.errors import bad_type, bad_value, no_attribute, shown
from numgraph.expressions.expr import check_dtype
from numgraph.graph import Shard, Spread
from numgraph.nn.typed import Called
from numgraph.serialize import Mismatch, fill, fill_what_fits, set_generators

_SHARED = (Spread, Shard)
"""Graphs of which a process has a part."""


class Module:
    """A function with parameters. A subclass sets Parameters and Modules as attributes and defines
    ``forward``.

    They may also be in lists, tuples, dicts and data classes, in any depth, and be added later. Names follow
    the attributes, the positions and the keys: ``layers.0.weight``. What is there twice counts once, under
    its first name. Where Parameters would not be found (in a set, an iterator, an object that is no Module,
    bound to a partial or a method, or set on the class) and are nowhere else either, asking for them is an
    error.

    Arrays that are part of the state but not trained, such as running statistics, are named by the class:
    ``buffers = ("count",)``. Random numbers come from ``np.random.Generator`` attributes, whose states
    ``numgraph.save`` keeps.

    ``training`` is True at first, as dropout and batch normalisation want it for a training step; ``eval()``
    makes the module a deterministic function, ``train()`` takes that back.

    Notes
    -----
    Called as ``module(…)``, which returns what ``forward`` does.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> class Scale(ng.nn.Module):
    ...     def __init__(self):
    ...         self.factor = ng.Parameter(np.array(2.0))
    ...
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> Scale()(np.array([1.0, 3.0])).tolist(), [name for name, _ in Scale().named_parameters()]
    ([2.0, 6.0], ['factor'])
    """

    training: bool = True
    buffers: tuple[str, ...] = ()
    """Names of attributes that are arrays of the state, but not trained."""
    _spread: Spread | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise no_attribute(
            kind_of(self), name, [one for one in (*vars(self), *dir(type(self))) if one[0] != "_"]
        )

    if TYPE_CHECKING:
        __call__: Called
    else:

        def __call__(self, *args, **options):
            if args and isinstance(args[0], _SHARED):
                return self.replicated(args[0]).forward(*args, **options)
            return self.forward(*args, **options)

    def __init_subclass__(cls, **options: Any) -> None:
        """A class with a ``forward`` of its own has a ``__call__`` that shows its arguments and what it
        says.
        """
        super().__init_subclass__(**options)
        forward: Any = vars(cls).get("forward")
        if isinstance(forward, FunctionType) and "__call__" not in vars(cls):
            inherited: Any = cls.__call__
            call = FunctionType(
                inherited.__code__, inherited.__globals__, "__call__", None, inherited.__closure__
            )
            functools.update_wrapper(call, forward, assigned=("__doc__", "__annotations__"), updated=())
            cls.__call__ = call  # type: ignore[method-assign]  # the type is forward's already

    def replicated(self, g: Spread | Shard) -> Any:
        """The module for one process's rows of a graph that several share: the sums of parameters' gradients
        and of statistics go over all.

        A copy that has Tensors for Parameters and the same buffers and generators; of such a copy itself.
        """
        if self._spread is not None:
            return self
        spread = g.spread if isinstance(g, Shard) else g
        own = [parameter for _, parameter in self.named_parameters()]
        return _copied(self, dict(zip(map(id, own), spread.replicate(own))), spread, {})

    def forward(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside, by name."""
        return ((name, value) for name, value in self._held() if isinstance(value, Module))

    def modules(self) -> Iterator[Module]:
        """This module and all inside it, each once."""
        return (module for _, module in self._named_modules(""))

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its name: own ones first, then those of the modules inside."""
        return ((name, value) for name, value in self._walk() if isinstance(value, Parameter))

    def parameters(self) -> list[Parameter]:
        """Every parameter once, for an optimiser. Each one's ``name`` becomes its name in the outermost
        module that was asked.
        """
        found = []
        for name, parameter in self.named_parameters():
            if parameter.name is None or name.endswith("." + parameter.name):
                parameter.name = name
            found.append(parameter)
        return found

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

    def _named_modules(self, prefix: str) -> list[tuple[str, Module]]:
        """This module and all inside it, each once, and what the names of its parameters begin with."""
        modules: list[tuple[str, Module]] = []
        others: list[tuple[str, str, Any]] = []
        seen: set[int] = set()
        self._collect(prefix, modules, others, seen)
        for op, name, value in others:
            _check_found(op, name, value, seen, self)
        return modules

    def _collect(
        self,
        prefix: str,
        modules: list[tuple[str, Module]],
        others: list[tuple[str, str, Any]],
        seen: set[int],
    ) -> None:
        """seen: ids of all modules and parameters that are found; others: what may hide more of them."""
        seen.add(id(self))
        modules.append((prefix, self))
        for name, value in self._held():
            if isinstance(value, Parameter):
                seen.add(id(value))
            elif isinstance(value, Module):
                if id(value) not in seen:
                    value._collect(f"{prefix}{name}.", modules, others, seen)
            elif type(value) not in _SINGLE:
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

    def _generators(self) -> dict[str, np.random.Generator]:
        """The random generators of this module and all inside it, each once, by name."""
        found: dict[int, tuple[str, np.random.Generator]] = {}
        for prefix, module in self._named_modules(""):
            for name, value in module._held():
                if isinstance(value, np.random.Generator):
                    found.setdefault(id(value), (prefix + name, value))
                elif isinstance(value, np.random.RandomState | random.Random):
                    problem = f"{prefix}{name} is {kind_of(value)}, whose state is not kept"
                    raise bad_type(type(self).__name__, problem, "make it np.random.default_rng(seed)")
        return dict(found.values())

    def random_state(self) -> dict[str, Any]:
        """The states of all random generators inside, such as dropout's, by name; what ``state_dict`` is for
        parameters.
        """
        return {name: generator.bit_generator.state for name, generator in self._generators().items()}

    def load_random_state(self, state: Mapping[str, Any]) -> None:
        """Set the random generators, in place, to what ``random_state`` gave. Names and kinds must agree,
        else nothing changes.
        """
        set_generators("load_random_state", self._generators(), state, "the state")

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers on the host, by name, ready for np.savez; ``numgraph.save``
        writes them with more.
        """
        return {name: host_copy(unwrap(value)) for name, value in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> Mismatch:
        """Fill parameters and buffers, in place, from what ``state_dict`` gave.

        Parameters
        ----------
        state : names and arrays
        strict : names must agree, else nothing changes;
            with False, what has a name that only one side has is left as it is

        Returns
        -------
        (missing_keys, unexpected_keys): names that only the model has, and only the state; none if strict

        Raises
        ------
        ValueError : a name that only one side has, if strict; another shape or kind of dtype in any case.
            Nothing has changed then
        """
        if not isinstance(state, Mapping):
            raise bad_type(
                "load_state_dict",
                f"the state is {kind_of(state)}",
                "pass what state_dict() gave, names and arrays",
            )
        own = self._state()
        if not strict:
            return fill_what_fits("load_state_dict", own, state, "the state", "the state")
        fill("load_state_dict", own, state, "the state", "the state")
        return Mismatch([], [])

    def _state(self) -> dict[str, Any]:
        return {name: value for name, value in self._walk() if value is not None}

    def to(self, device: str) -> Module:
        """Moves all parameters and buffers to a device, "cpu" or "cuda", in place; returns the module. Their
        optimiser follows.
        """
        known(f"{type(self).__name__}.to", device)
        for module in self.modules():
            for name, value in list(module._held()):
                if isinstance(value, Parameter):
                    value.data = moved(value.data, device)
                elif name in module.buffers and value is not None:
                    setattr(module, name, moved(value, device))
        return self

    def train(self, mode: bool = True) -> Module:
        """Training mode for this module and all inside it; returns the module."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Module:
        """The mode without dropout and with running statistics; returns the module."""
        return self.train(False)

    @reprlib.recursive_repr()
    def __repr__(self) -> str:
        shapes = [
            f"{name}: {list(value.shape)}" for name, value in self._held() if isinstance(value, Parameter)
        ]
        inner = [f"{name}: {child!r}".replace("\n", "\n  ") for name, child in self.children()]
        body = ", ".join(shapes) if not inner else "\n  " + "\n  ".join(shapes + inner) + "\n"
        return f"{type(self).__name__}({body})"


def _copied(value: Any, parameters: dict[int, Any], spread: Spread, made: dict[int, Any]) -> Any:
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
        isinstance(value, Module)
        or (is_dataclass(value) and not isinstance(value, type))
        or isinstance(value, SimpleNamespace)
    ):
        again = made[id(value)] = copy.copy(value)
        held = (
            value._attributes()
            if isinstance(value, Module)
            else [(key, getattr(value, key)) for key in vars(value)]
        )
        for name, one in list(held):
            object.__setattr__(again, name, _copied(one, parameters, spread, made))
        if isinstance(value, Module):
            again._spread = spread
    elif isinstance(value, Mapping):
        items = {key: _copied(one, parameters, spread, made) for key, one in value.items()}
        again = items if any(items[key] is not value[key] for key in items) else value
    elif isinstance(value, list | tuple | deque | UserList):
        ones = [_copied(one, parameters, spread, made) for one in value]
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
        misplaced += [name for name, value in vars(base).items() if isinstance(value, Parameter | Module)]
    return tuple([name for name in slots if name not in ("__dict__", "__weakref__")]), tuple(misplaced)


_SINGLE = frozenset((int, float, bool, str, type(None), FunctionType, np.random.Generator))


def _contents(name: str, value: Any, around: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    """What a value holds, by name: itself, or the contents of a container; around: ids of the containers that
    it is in.
    """
    items: Any
    if type(value) in _SINGLE or isinstance(value, Module | Tensor):
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
_BOUND = (functools.partial, MethodType)
_LISTS: Any = (list, tuple, deque, UserList, Set, MappingView)
_DEEP, _MANY = 4, 1000
"""How far, and at how many objects, is looked for what is hidden."""


def _check_found(op: str, name: str, value: Any, found: set[int], root: Module) -> None:
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


def _is_around(item: Any, root: Module) -> bool:
    """Whether it is a module that the asked one is a part of."""
    modules: list[tuple[str, Module]] = []
    if isinstance(item, Module):
        item._collect("", modules, [], set())
    return any(module is root for _, module in modules)


def _hidden(value: Any) -> Iterator[Parameter | Module]:
    """Parameters and Modules in what a value holds, if it is no Module itself."""
    todo: list[tuple[Any, int]] = [(value, 0)]
    seen: set[int] = set()
    for item, depth in todo:  # which grows meanwhile
        if isinstance(item, Parameter | Module):
            yield item
        elif depth < _DEEP and len(seen) < _MANY and id(item) not in seen:
            seen.add(id(item))
            todo += [(inner, depth + 1) for inner in _within(item) if type(inner) not in _SINGLE]


def _within(item: Any) -> Any:
    """What an object holds, of a kind that may be Parameters or lead to some."""
    if isinstance(item, np.ndarray):
        return item.flat if item.dtype == object else ()
    if isinstance(item, type | ModuleType | str | bytes | FunctionType | Tensor):
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


def check_features(
    op: str, x: Any, rows: int | None, features: int | None, name: str = "x", deep: bool = False
) -> Any:
    """x, as an array if it is none (a Tensor or a sparse matrix stays), [rows, features], or an error that
    shows both shapes.

    rows, features: None for any number. deep: axes may stand between, [rows, …, features].
    """
    x = x if is_sparse(x) else given(op, name, x)
    shape = tuple(x.shape)
    deep = deep and len(shape) > 2
    if (
        not (len(shape) == 2 or deep)
        or (rows is not None and shape[0] != rows)
        or (features is not None and shape[-1] != features)
    ):
        who = "the graph needs" if features is None else "layer and graph need"
        needed = (
            f"{who} [{'nodes' if rows is None else rows}, {'features' if features is None else features}]"
        )
        turned = "; x.T has it" if len(shape) == 2 and shape[::-1] == (rows, features) else ""
        raise bad_value(
            op, f"{name} has shape {list(shape)}", f"{needed}: a row a node, a column a feature{turned}"
        )
    check_dtype(op, name, x.dtype)
    return x


def check_activation(op: str, activation: Any) -> Any:
    """A function of arrays, or None."""
    if activation is not None and (not callable(activation) or isinstance(activation, type)):
        name = activation if isinstance(activation, str) else getattr(activation, "__name__", "relu").lower()
        raise bad_type(op, f"activation is {shown(activation)}", f"pass a function, such as numgraph.{name}")
    return activation


def check_size(op: str, **sizes: Any) -> None:
    """Each of the named numbers is a whole one, at least 1."""
    for name, value in sizes.items():
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            fix = (
                f"; a layer is made first, layer = {op}(…), and then called, layer(g, x)"
                if hasattr(value, "num_edges")
                else ""
            )
            raise bad_value(op, f"{name} is {shown(value)}", f"{name} is a whole number, at least 1{fix}")


def pair_of(op: str, in_features: Any) -> tuple[Any, Any]:
    """The widths of sources and destinations: a pair, or one number for both."""
    if not isinstance(in_features, tuple):
        return in_features, in_features
    if len(in_features) != 2:
        raise bad_value(
            op,
            f"in_features is {in_features}",
            "a pair has the widths of the sources and of the destinations",
        )
    return in_features
