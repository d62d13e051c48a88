"""What a caller passed, as an array: whatever NumPy reads as one, or an error that says what to pass
instead.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Iterator, Mapping, Set
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from numgraph.arrays import library_of
from numgraph.arrays.devices import adopted, device_of
from numgraph.errors import bad_type, bad_value, shown

INTEGERS = "an array of integers"
"""What structure is made of: ids, offsets, types."""

_NO_ARRAYS = (str, bytes, Mapping, Set, Iterator, type, FunctionType, MethodType, ModuleType)
"""Kinds that NumPy would make a 0-d array of objects or letters of."""


def is_sparse(x: Any) -> bool:
    """A SciPy sparse matrix or array; does not import scipy.sparse, whoever made one has."""
    kind: Any = type(x)
    return _is_sparse_kind(kind)


@functools.lru_cache(maxsize=256)
def _is_sparse_kind(kind: type) -> bool:
    module = sys.modules.get("scipy.sparse")
    return module is not None and issubclass(kind, module.sparray | module.spmatrix)


def kind_of(value: Any) -> str:
    """A value's type in words: "None", "a list", "an int", "a torch.Tensor"."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    kind = type(value)
    library = kind.__module__.split(".")[0]
    name = (
        kind.__name__
        if library in ("builtins", "numpy", "scipy", "numgraph", "__main__")
        else f"{library}.{kind.__name__}"
    )
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def named(function: Any) -> str:
    """A function's name as one writes it: np.sum, np.linalg.norm, operator.add; of an object its type."""
    name = getattr(function, "__name__", None)
    if name is None:
        return kind_of(function)
    module = (
        "numpy" if isinstance(function, np.ufunc) else getattr(function, "__module__", None) or "builtins"
    )
    if module.split(".")[0] == "numpy":
        return f"np{module[5:]}.{name}"
    return f"operator.{name}" if module == "_operator" else name


def as_array(op: str, name: str, value: Any, what: str = "an array") -> Any:
    """`value` as a NumPy array without a subclass, or as CuPy's if it is on a device.

    Lists, tables with ``__array__``, tensors of other libraries on the host and whatever else NumPy reads are
    taken."""
    if type(value) is np.ndarray:
        return value
    called = name.rsplit(".", 1)[-1]  # field u.x was given as x
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        fix = f"give {called}.filled(0), or its mask as an array of its own"
        raise bad_type(op, f"{name} is a masked array, and its mask would be lost", fix)
    if isinstance(value, np.ndarray):
        return value.view(np.ndarray)
    if is_sparse(value):
        raise bad_type(
            op,
            f"{name} is a SciPy sparse {type(value).__name__} of shape {list(value.shape)}",
            f"give {called}.toarray()",
        )
    if value is None or isinstance(value, _NO_ARRAYS):
        fix = (
            f"read it first, as in np.array(list({called}))"
            if isinstance(value, Iterator)
            else f"give one of its arrays at a time, as {called}[{next(iter(value), 'name')!r}]"
            if isinstance(value, Mapping)
            else "give a NumPy array"
        )
        raise bad_type(op, f"{name} is {kind_of(value)}, not an array", fix)
    if getattr(value, "requires_grad", False) is True:  # a tensor of torch
        fix = (
            "use torch's function of that kind, numgraph.torch.Module(layer) for a layer, or give "
            f"{called}.detach()"
        )
        raise bad_type(op, f"{name} is {kind_of(value)} that requires a gradient, which would be lost", fix)
    if device_of(value) != "cpu":
        return adopted(value)
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever another library's conversion raises
        library = library_of(value)
        if library.has_autodiff and library.plain(value) is None:
            fix = library.structure if what == INTEGERS else library.dense
            raise bad_type(
                op, f"{name} is {kind_of(value)}, which {library.name} traces: it has no numbers yet", fix
            ) from None
        fix = "its rows need one length" if isinstance(value, list | tuple) else "give a NumPy array"
        fix = f"give {called}.detach().numpy()" if hasattr(value, "detach") else fix
        raise bad_type(op, f"{name} cannot be read as {what} ({_first_line(error)})", fix) from error
    if array.ndim == 0 and array.dtype == object:
        raise bad_type(op, f"{name} is {kind_of(value)}, not an array", "give a NumPy array")
    return array


def given(op: str, name: str, value: Any, real: bool = True) -> Any:
    """`value` itself if it is an array, a Tensor or a symbol of a message, else as an array; of numbers, real
    ones or any.
    """
    if type(value) is not np.ndarray:
        if hasattr(type(value), "__elementary__"):
            return value
        value = as_array(op, name, value)
    if value.dtype.kind in ("OSUMmc" if real else "OSUMm") or (
        value.dtype.kind == "V" and value.dtype.names is not None
    ):
        fix = (
            "use real numbers"
            if value.dtype.kind == "c"
            else f"give numbers, as np.asarray({name}, np.float32)"
        )
        raise bad_type(op, f"{name} has dtype {value.dtype}", fix)
    return value


def number(op: str, name: str, value: Any, below: float = math.inf) -> float:
    """An option that is a real number, at least 0 and finite, or below a bound."""
    if (
        not isinstance(value, int | float | np.number | np.ndarray)
        or np.ndim(value)
        or np.iscomplexobj(value)
        or not 0 <= value < below
    ):
        fix = f"{name} is a number, 0 ≤ {name}" + (f" < {below:g}" if below < math.inf else ", finite")
        raise bad_value(op, f"{name} is {shown(value)}", fix)
    return float(value)


def generator(op: str, rng: Any, name: str = "rng") -> np.random.Generator:
    """The random numbers of a seed, or a Generator as it is: ``np.random.default_rng``."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        fix = "give a seed, a whole number of at least 0, or numpy.random.default_rng(seed)"
        raise bad_type(op, f"{name} is {shown(rng)}", fix) from error


def listed(op: str, name: str, value: Any) -> list[Any]:
    """The entries of a list of parameters or the like; a model is none, nor is an array."""
    if type(value) is list:
        return value.copy()
    if callable(getattr(value, "parameters", None)) and not isinstance(value, type):
        raise bad_type(op, f"{name} is {kind_of(value)}", "pass its parameters, model.parameters()")
    if isinstance(value, MethodType):
        raise bad_type(
            op, f"{name} is the method {value.__name__}", f"call it, as in model.{value.__name__}()"
        )
    if isinstance(value, np.ndarray) and name == "inputs":
        fix = "pass what tape.watch(array) returned and the loss was computed from, or Parameters"
        raise bad_type(op, f"{name} is {kind_of(value)}, which no tape watches", fix)
    if (
        value is None
        or isinstance(value, str | np.ndarray | type | Mapping)
        or not hasattr(value, "__iter__")
    ):
        raise bad_type(
            op, f"{name} is {kind_of(value)}", "pass a list of Parameters, as model.parameters() gives it"
        )
    return list(value)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
