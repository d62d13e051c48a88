"""Module: what layers and models share. Parameters and inner modules are found in attributes, in the order in
which these were set.
"""

from __future__ import annotations

import functools
import inspect
import random
import re
import reprlib
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from numgraph.arrays.devices import host_copy, known, moved
from numgraph.arrays.inputs import given, is_sparse, kind_of
from numgraph.autodiff.tensor import Parameter, unwrap
from numgraph.errors import bad_type, bad_value, no_attribute, shown
from numgraph.expressions.expr import check_dtype
from numgraph.graph import Shard, Spread
from numgraph.nn.holder import Holder, copied
from numgraph.nn.typed import Called
from numgraph.serialize import Mismatch, fill, fill_what_fits, set_generators

_SHARED = (Spread, Shard)
"""Graphs of which a process has a part."""


class Module(Holder):
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
            try:
                return self.forward(*args, **options)
            except TypeError as error:
                if error.__traceback__.tb_next is not None:  # raised in it
                    raise
                raise miscalled(self, error) from None

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
        return copied(self, dict(zip(map(id, own), spread.replicate(own))), spread, {})

    def forward(self, *args: Any, **options: Any) -> Any:
        """What a call computes; a subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside, by name.

        Returns
        -------
        iterator of pairs
        """
        return ((name, value) for name, value in self._held() if isinstance(value, Module))

    def modules(self) -> Iterator[Module]:
        """This module and all inside it, each once.

        Returns
        -------
        iterator
        """
        return (module for _, module in self._named_modules(""))

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its name: own ones first, then those of the modules inside.

        Returns
        -------
        iterator of pairs
        """
        return ((name, value) for name, value in self._walk() if isinstance(value, Parameter))

    def parameters(self) -> list[Parameter]:
        """Every parameter once, for an optimiser. Each one's ``name`` becomes its name in the outermost
        module that was asked.

        Returns
        -------
        list of Parameter
        """
        found = []
        for name, parameter in self.named_parameters():
            if parameter.name is None or name.endswith("." + parameter.name):
                parameter.name = name
            found.append(parameter)
        return found

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
        """The states of all random generators inside, such as dropout's; what ``state_dict`` is for
        parameters.

        Returns
        -------
        dict of states by name
        """
        return {name: generator.bit_generator.state for name, generator in self._generators().items()}

    def load_random_state(self, state: Mapping[str, Any]) -> None:
        """Set the random generators, in place.

        Parameters
        ----------
        state : what ``random_state`` gave; names and kinds must agree, else nothing changes
        """
        set_generators("load_random_state", self._generators(), state, "the state")

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers on the host, ready for np.savez; ``numgraph.save`` writes them
        with more.

        Returns
        -------
        dict of arrays by name
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

    def to(self, device: str) -> Self:
        """Moves all parameters and buffers to a device, in place. Their optimiser follows.

        Parameters
        ----------
        device : "cpu" or "cuda"

        Returns
        -------
        the module
        """
        known(f"{type(self).__name__}.to", device)
        for module in self.modules():
            for name, value in list(module._held()):
                if isinstance(value, Parameter):
                    value.data = moved(value.data, device)
                elif name in module.buffers and value is not None:
                    setattr(module, name, moved(value, device))
        return self

    def train(self, mode: bool = True) -> Self:
        """Training mode for this module and all inside it; returns the module.

        Parameters
        ----------
        mode : False for evaluation

        Returns
        -------
        the module
        """
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Self:
        """The mode without dropout and with running statistics; returns the module.

        Returns
        -------
        the module
        """
        return self.train(False)

    @reprlib.recursive_repr()
    def __repr__(self) -> str:
        shapes = [
            f"{name}: {list(value.shape)}" for name, value in self._held() if isinstance(value, Parameter)
        ]
        inner = [f"{name}: {child!r}".replace("\n", "\n  ") for name, child in self.children()]
        body = ", ".join(shapes) if not inner else "\n  " + "\n  ".join(shapes + inner) + "\n"
        return f"{type(self).__name__}({body})"


def miscalled(module: Module, error: TypeError) -> TypeError:
    """What Python says of a call whose arguments do not fit, by the module's name and with all of them."""
    name = type(module).__name__
    shown = ", ".join(
        [
            str(p).partition(":")[0] if p.default is p.empty else f"{p.name}={p.default!r}"
            for p in inspect.signature(module.forward).parameters.values()
        ]
    )
    problem = re.sub(
        r"^[\w.<>]+\(\) (missing)?", lambda found: f"the call {'is missing' if found[1] else ''}", str(error)
    )
    return bad_type(name, problem, f"it takes ({shown})")


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


_MOST = 2**48
"""No memory has as many addresses."""


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
        if value >= _MOST:
            raise bad_value(op, f"{name} is {shown(value)}", "no array is that long")


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
