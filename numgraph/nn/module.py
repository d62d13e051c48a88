"""Module: what layers and models share. Parameters and inner modules are plain attributes, found in the order in which they were set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from numgraph.devices import host_copy, known, moved
from numgraph.errors import bad_type, bad_value
from numgraph.expr import check_dtype
from numgraph.inputs import given, is_sparse
from numgraph.serialize import fill
from numgraph.tensor import Parameter, unwrap


class Module:
    """A function with parameters. A subclass sets Parameters and Modules (also lists of Modules) as attributes and defines ``forward``.

    Names follow the attributes: ``layers.0.weight``. ``training`` is True at first, as dropout and batch normalisation want it for a
    training step; ``eval()`` makes the module a deterministic function, ``train()`` takes that back.
    """

    training: bool = True
    buffers: tuple[str, ...] = ()
    """Names of attributes that are arrays of the state, but not trained."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.forward(*args, **options)

    def forward(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside, by name."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, list | tuple):
                yield from ((f"{name}.{i}", item) for i, item in enumerate(value) if isinstance(item, Module))

    def modules(self) -> Iterator[Module]:
        """This module and all inside it."""
        yield self
        for _, child in self.children():
            yield from child.modules()

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its name: own ones first, then those of the modules inside."""
        seen: set[int] = set()
        for name, value in self._walk(""):
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self) -> list[Parameter]:
        """Every parameter once, for an optimiser. Each one's ``name`` becomes its name in the outermost module that was asked."""
        found = []
        for name, parameter in self.named_parameters():
            if parameter.name is None or name.endswith("." + parameter.name):
                parameter.name = name
            found.append(parameter)
        return found

    def _walk(self, prefix: str) -> Iterator[tuple[str, Any]]:
        """Parameters, and arrays of buffers."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter) or name in self.buffers:
                yield prefix + name, value
        for name, child in self.children():
            yield from child._walk(f"{prefix}{name}.")

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers on the host, by name, ready for ``save_parameters`` or np.savez."""
        return {name: host_copy(unwrap(value)) for name, value in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Fill parameters and buffers, in place, from what ``state_dict`` gave. Names and shapes must agree, else nothing changes."""
        fill("load_state_dict", self._state(), state, "the state", "the state")

    def _state(self) -> dict[str, Any]:
        return {name: value for name, value in self._walk("") if value is not None}

    def to(self, device: str) -> Module:
        """Moves all parameters and buffers to a device, "cpu" or "cuda", in place; returns the module. Their optimiser follows."""
        known(f"{type(self).__name__}.to", device)
        for module in self.modules():
            for name, value in list(vars(module).items()):
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

    def __repr__(self) -> str:
        shapes = [f"{name}: {list(value.shape)}" for name, value in vars(self).items() if isinstance(value, Parameter)]
        inner = [f"{name}: {child!r}".replace("\n", "\n  ") for name, child in self.children()]
        body = ", ".join(shapes) if not inner else "\n  " + "\n  ".join(shapes + inner) + "\n"
        return f"{type(self).__name__}({body})"


def check_features(op: str, x: Any, rows: int | None, features: int | None, name: str = "x") -> Any:
    """x, as an array if it is none (a Tensor or a sparse matrix stays), [rows, features], or an error that shows both shapes.

    rows, features: None for any number.
    """
    x = x if is_sparse(x) else given(op, name, x)
    shape = tuple(x.shape)
    if len(shape) != 2 or shape[0] != (shape[0] if rows is None else rows) or shape[1] != (shape[1] if features is None else features):
        who = "the graph needs" if features is None else "layer and graph need"
        needed = f"{who} [{'nodes' if rows is None else rows}, {'features' if features is None else features}]"
        turned = "; x.T has it" if len(shape) == 2 and shape[::-1] == (rows, features) else ""
        raise bad_value(op, f"{name} has shape {list(shape)}", f"{needed}: a row a node, a column a feature{turned}")
    check_dtype(op, name, x.dtype)
    return x


def check_activation(op: str, activation: Any) -> Any:
    """A function of arrays, or None."""
    if activation is not None and (not callable(activation) or isinstance(activation, type)):
        name = activation if isinstance(activation, str) else getattr(activation, "__name__", "relu").lower()
        raise bad_type(op, f"activation is {activation!r}", f"pass a function, such as numgraph.{name}")
    return activation


def check_size(op: str, **sizes: Any) -> None:
    """Each of the named numbers is a whole one, at least 1."""
    for name, value in sizes.items():
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            raise bad_value(op, f"{name} is {value!r}", f"{name} is a whole number, at least 1")
