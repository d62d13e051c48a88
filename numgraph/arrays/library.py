"""What numgraph asks of a library of arrays, NumPy's and CuPy's answers, and the table that finds a library by an array's type."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

FRAMEWORKS = {"torch": "numgraph.bridges.torch", "jax": "numgraph.bridges.jax"}
"""Libraries with an autodiff of their own: the module that the caller has imported, and the one whose ``LIBRARY`` carries its arrays."""


class Library:
    """A library of arrays. What stands here is NumPy's and CuPy's answer, whose derivatives are the tape's.

    A library with an autodiff of its own gives every answer itself, and carries a walk by ``propagate``.
    """

    name = "NumPy"
    has_autodiff = False
    """Whether derivatives are the library's own; else numgraph's tape records."""

    moving = ""
    """What to do about arrays that are on another device than the graph, if it is said otherwise than for NumPy and CuPy."""

    def owns(self, kind: type) -> bool:
        """Whether arrays of a type are this library's."""
        return True

    def device(self, x: Any) -> str:
        """ "cpu" or "cuda": where an array is."""
        raise NotImplementedError

    def dtype(self, x: Any) -> np.dtype[Any]:
        """The dtype of an array as NumPy names it."""
        return x.dtype

    def fits(self, x: Any, device: str) -> bool:
        """Whether an array is of the commonest kind, and on a device: ``taken`` would return it as it is."""
        return False

    def taken(self, op: str, what: str, x: Any) -> Any:
        """The array as a walk may read it, an array of NumPy too where others are the library's; or an error in the library's terms."""
        return x

    def settled(self, x: Any, dtypes: Sequence[np.dtype[Any]]) -> Any:
        """A captured array; where its dtype is one that gives way to others, in the dtype that it takes beside fields of these."""
        return x

    def plain(self, x: Any) -> Any:
        """NumPy's or CuPy's array of the same memory, detached; None where there are no numbers yet, as while a compiler traces."""
        return x

    def constant(self, array: Any) -> Any:
        """An array of NumPy or CuPy as one of the library, of the same memory where that is possible."""
        return array

    def detached(self, x: Any) -> Any:
        """The array without its derivative."""
        return x

    def cast(self, x: Any, dtype: Any) -> Any:
        """The array in a dtype that NumPy names; itself if it has it."""
        return x if x.dtype == dtype else x.astype(dtype)

    def sum(self, x: Any, axes: tuple[int, ...], keepdims: bool = False) -> Any:
        """Σ over axes."""
        return x.sum(axis=axes, keepdims=keepdims)

    def take(self, x: Any, ids: np.ndarray) -> Any:
        """Rows of an array by ids that are in range."""
        return x[ids]

    def concatenated(self, parts: Sequence[Any]) -> Any:
        """Arrays one after the other, along the first axis."""
        return np.concatenate(list(parts))

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """x where the condition holds, else y."""
        return np.where(condition, x, y)

    def in_message(self, function: Any, operands: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """What a function of the library is in a message, where one of its operands is a symbol."""
        raise NotImplementedError

    def method(self, symbol: Any, name: str) -> Any:
        """A method that arrays of the library have, of a message's symbol among them; None if it has no such."""
        return None

    def kept(self, op: str, rng: Any, shape: tuple[int, ...], p: float, like: Any, fill: Callable[..., Any]) -> Any:
        """A boolean array, True with probability 1 − p. ``fill(key, shape, p)`` makes NumPy's from a key of 64 random bits."""
        raise NotImplementedError

    def propagate(self, walk: Any, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Run a walk (propagate.Walk) so that the library differentiates it by ``walk.gradients``."""
        raise NotImplementedError


NATIVE = Library()
"""NumPy's and CuPy's arrays, and the tape's Tensors."""

_BY_TYPE: dict[type, Library] = {np.ndarray: NATIVE}


def library_of(x: Any) -> Library:
    """The library that an object is an array of; NATIVE for whatever else NumPy may read."""
    return _BY_TYPE.get(type(x)) or _met(type(x))


def _met(kind: type) -> Library:
    """The library of a type that was not met yet."""
    found = NATIVE
    for module in FRAMEWORKS:
        if module in sys.modules and any(base.__module__.split(".")[0] in (module, f"{module}lib") for base in kind.__mro__):
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
    """Where JAX is imported: objects of a type are static arguments of its functions, each equal to itself alone."""
    register = getattr(sys.modules.get("jax.tree_util"), "register_static", None)
    if register is not None and kind not in _static:
        _static.add(kind)
        register(kind)


def foreign(values: Iterable[Any]) -> Library | None:
    """The library with an autodiff of its own that one of the values is an array of; None if there is none."""
    for x in values:
        kind = type(x)
        if kind is not np.ndarray:  # what nearly all are
            library = _BY_TYPE.get(kind) or _met(kind)
            if library.has_autodiff:
                return library
    return None
