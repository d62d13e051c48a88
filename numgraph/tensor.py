"""Tensor, the array that tapes track, and ``rule``, the door through which NumPy functions learn to act on it (dense fills the table)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from numgraph.devices import adopted
from numgraph.errors import bad_type, bad_value
from numgraph.expr import is_float

_RULES: dict[Any, Callable[..., Any]] = {}


def rule(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: where an argument is a Tensor, the function acts in place of these; ``(ufunc, "reduce")`` names a ufunc's method."""

    def register(implementation: Callable[..., Any]) -> Callable[..., Any]:
        for function in dict.fromkeys(functions):  # NumPy has several names for one function
            if function in _RULES:
                raise bad_value("rule", f"{_name(function)} has a rule already")
            _RULES[function] = implementation
        return implementation

    return register


def _name(function: Any) -> str:
    return f"np.{function.__name__}" if hasattr(function, "__name__") else str(function)


def _no_rule(function: Any) -> TypeError:
    known = ", ".join(sorted({f.__name__ for f in _RULES if hasattr(f, "__name__")}))
    name = f"np.{function[0].__name__}.{function[1]}" if isinstance(function, tuple) else _name(function)
    return bad_type(name, "has no derivative rule, and an argument is a Tensor", f"pass tensor.data (detached), or build it from {known}")


class Tensor(NDArrayOperatorsMixin):
    """An array that tapes can track. ``data`` is the array; NumPy operators and functions work on it and are recorded.

    Comparisons compare elementwise and give plain boolean arrays; Tensors hash by identity. ``np.asarray(tensor)`` is the detached array.
    """

    __slots__ = ("__weakref__", "data")

    def __init__(self, data: Any) -> None:
        if type(data) is not np.ndarray:
            data = np.asarray(data) if isinstance(data, np.generic) or not hasattr(data, "dtype") else adopted(data)
        self.data = data

    __hash__ = object.__hash__

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def T(self) -> Any:
        return np.transpose(self)

    def __len__(self) -> int:
        return len(self.data)

    def __bool__(self) -> bool:
        return bool(self.data)

    def __float__(self) -> float:
        return float(self.data)

    def __int__(self) -> int:
        return int(self.data)

    def item(self) -> Any:
        return self.data.item()

    def tolist(self) -> Any:
        return self.data.tolist()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({np.array2string(self.data, separator=', ')}, dtype={self.dtype})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if sys._getframe(1).f_code.co_name == "_matmul_dispatch":
            # scipy.sparse asks here in ``sparse @ tensor``; an object scalar makes it step back, so that __rmatmul__ runs and records.
            boxed = np.empty((), object)
            boxed[()] = self
            return boxed
        return np.array(self.data, dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        for x in inputs:
            if not isinstance(x, Tensor) and hasattr(type(x), "__elementary__"):
                return NotImplemented  # a message symbol, which takes Tensors as constants
        key = ufunc if method == "__call__" else (ufunc, method)
        implementation = _RULES.get(key)
        if implementation is None:
            raise _no_rule(key)
        if options.get("out") is not None:
            raise bad_type(_name(ufunc), "out= is not possible where an argument is a Tensor", "use the returned value")
        return implementation(*inputs, **options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if any(hasattr(kind, "__elementary__") and not issubclass(kind, Tensor) for kind in types):
            return NotImplemented
        implementation = _RULES.get(function)
        if implementation is None:
            raise _no_rule(function)
        return implementation(*args, **options)

    @staticmethod
    def __elementary__(row: Any, operands: Sequence[Any]) -> Any:
        return _RULES["elementary"](row, *operands)

    def __getitem__(self, index: Any) -> Any:
        return _RULES["getitem"](self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise bad_type("Tensor", "x[...] = value would change what the tape recorded", "build a new one, e.g. with np.where")

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    # ``x += y`` rebinds x to a new Tensor: the recorded one stays as it was.
    __iadd__ = NDArrayOperatorsMixin.__add__
    __isub__ = NDArrayOperatorsMixin.__sub__
    __imul__ = NDArrayOperatorsMixin.__mul__
    __itruediv__ = NDArrayOperatorsMixin.__truediv__
    __ipow__ = NDArrayOperatorsMixin.__pow__
    __imatmul__ = NDArrayOperatorsMixin.__matmul__

    def astype(self, dtype: Any) -> Any:
        return _RULES["astype"](self, dtype)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        return np.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        return np.mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Any:
        return np.max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Any:
        return np.min(self, axis=axis, keepdims=keepdims)

    def prod(self, axis: Any = None, keepdims: bool = False) -> Any:
        return np.prod(self, axis=axis, keepdims=keepdims)

    def reshape(self, *shape: Any) -> Any:
        return np.reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Any:
        return np.transpose(self, (axes[0] if len(axes) == 1 else axes) or None)

    def argmax(self, axis: Any = None) -> Any:
        return self.data.argmax(axis)

    def argmin(self, axis: Any = None) -> Any:
        return self.data.argmin(axis)


class Parameter(Tensor):
    """A Tensor that every active tape tracks without ``watch``. Optimisers update ``data`` in place."""

    __slots__ = ("name",)

    def __init__(self, data: Any, name: str | None = None) -> None:
        super().__init__(data)
        check_float("Parameter", self)
        self.name = name


def unwrap(x: Any) -> Any:
    """A Tensor's array; anything else as it is."""
    return x.data if isinstance(x, Tensor) else x


def check_float(op: str, x: Tensor) -> None:
    if not is_float(x.dtype):
        raise bad_type(op, f"an array of dtype {x.dtype} and shape {x.shape} has no gradient", "convert it with .astype(np.float32)")
