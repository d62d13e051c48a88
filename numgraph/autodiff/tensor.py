"""Tensor, the array that tapes track, and ``rule``, the door through which NumPy functions learn to act on it
(dense fills the table).
"""

from __future__ import annotations

import inspect
import operator
import re
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.detaching import boxed, is_conversion, is_product
from numgraph.arrays.devices import moved
from numgraph.arrays.inputs import as_array, is_sparse
from numgraph.arrays.typed import Array
from numgraph.autodiff.methods import PLAIN, describe, operate
from numgraph.autodiff.rules import RULES, direct, name_of, no_rule, of_scipy
from numgraph.errors import bad_type, no_attribute
from numgraph.expressions.elementary import detached as DETACHED
from numgraph.expressions.expr import is_float as is_float
from numgraph.expressions.operators import Operators

TAPES: ContextVar[tuple[Any, ...]] = ContextVar("TAPES", default=())
"""The tapes that were entered in this thread or asyncio task, outermost first."""

RECORDING: set[Any] = set()
"""The tapes that record now, in whatever thread."""


class Off(tuple[Any, ...]):
    """No tapes, because no_grad says so."""


class Tensor(Operators["Tensor"]):
    """An array that tapes can track. ``data`` is the array; NumPy operators, functions and methods work on it
    and are recorded.

    Comparisons compare elementwise and give plain boolean arrays; Tensors hash by identity. ``data``,
    ``numpy()``, ``item()``, ``tolist()`` and ``float(tensor)`` are detached: no gradient flows through them.
    What would detach a Tensor without saying so while a tape records it (``np.array([tensor])``,
    ``out[0] = tensor``, ``math.exp(tensor)``) is an error; elsewhere ``np.asarray(tensor)`` is its array.

    Parameters
    ----------
    data : the array

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.Tensor(np.array([1.0, 2.0])) * 2
    Tensor([2., 4.], dtype=float64)
    """

    __slots__ = ("__weakref__", "data")

    data: Array

    def __init__(self, data: Any) -> None:
        if type(data) is not np.ndarray:
            data = (
                np.asarray(data)
                if isinstance(data, np.number)
                else as_array(type(self).__name__, "data", data)
            )
        _set_data(self, data)

    __hash__ = object.__hash__

    if TYPE_CHECKING:

        def __eq__(self, other: object) -> NDArray[np.bool]: ...  # type: ignore[override]
        def __ne__(self, other: object) -> NDArray[np.bool]: ...  # type: ignore[override]
        def __lt__(self, other: Any) -> NDArray[np.bool]: ...
        def __le__(self, other: Any) -> NDArray[np.bool]: ...
        def __gt__(self, other: Any) -> NDArray[np.bool]: ...
        def __ge__(self, other: Any) -> NDArray[np.bool]: ...

    def __setattr__(self, name: str, value: Any) -> None:
        raise bad_type(
            "Tensor",
            f"tensor.{name} = … would change what a tape recorded",
            "make another one, Tensor(array)",
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """How many entries there are."""
        return self.data.size

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return self.data.nbytes

    @property
    def itemsize(self) -> int:
        """Bytes of one entry."""
        return self.data.itemsize

    @property
    def T(self) -> Tensor:
        """The axes reversed."""
        return direct.transpose(self)

    @property
    def mT(self) -> Tensor:
        """The last two axes interchanged."""
        return direct.matrix_transpose(self)

    def __len__(self) -> int:
        return len(self.data)

    def __contains__(self, item: Any) -> bool:
        return unwrap(item) in self.data

    def __bool__(self) -> bool:
        return bool(self.data)

    def __float__(self) -> float:
        return float(self._number(sys._getframe(1)))

    def __int__(self) -> int:
        return int(self._number(sys._getframe(1)))

    def __complex__(self) -> complex:
        return complex(self._number(sys._getframe(1)))

    def __trunc__(self) -> int:
        return int(self._number(sys._getframe(1)))

    def __index__(self) -> int:
        return operator.index(self.data)

    def _number(self, caller: Any) -> Any:
        if self._is_recorded() and not is_conversion(caller):
            self._refuse("number", "np.exp and its like (not math.exp), np.stack or np.where")
        return self.data

    def _is_recorded(self) -> bool:
        return any(tape.records(self) for tape in TAPES.get())

    def _refuse(self, what: str, instead: str) -> NoReturn:
        raise bad_type(
            type(self).__name__,
            f"one of shape {self.shape} would become a plain {what} while a tape records it, and its "
            "gradient would be lost",
            f"use {instead}; tensor.data or tensor.item() detaches it",
        )

    def __round__(self, digits: int | None = None) -> Tensor | float:
        return round(self.data.item(), digits) if not self.ndim else direct.round(self.data, digits or 0)

    def __format__(self, spec: str) -> str:
        return format(self.data, spec) if spec else str(self)

    def item(self, *index: Any) -> float:
        return self.data.item(*index)

    def tolist(self) -> list[Any] | float:
        return self.data.tolist()

    def numpy(self) -> Array:
        return moved(self.data, "cpu")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({np.array2string(self.data, separator=', ')}, dtype={self.dtype})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.data,)

    def __copy__(self) -> Tensor:
        """A copy is recorded, as np.copy."""
        return direct.copy(self) if is_float(self.dtype) else type(self)(self.data.copy())

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return memo.setdefault(id(self), self.__copy__())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if is_product(sys._getframe(1)):
            return boxed(self)
        if self._is_recorded():
            self._refuse(
                "array",
                "np.stack for a list, np.where for an assignment, sparse @ tensor for a product, ng.softmax "
                "and its like for SciPy's",
            )
        return np.array(self.data, dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        for x in inputs:
            kind = type(x)
            if kind in PLAIN or isinstance(x, Tensor):
                continue
            if hasattr(kind, "__elementary__"):
                return NotImplemented  # a message symbol, which takes Tensors as constants
            if isinstance(x, np.ndarray) and not isinstance(x, np.memmap):
                raise bad_type(
                    name_of(ufunc),
                    f"a Tensor meets a {kind.__name__}",
                    "convert it, np.asarray(array) or array.filled(value)",
                )
            if ufunc is not np.matmul and is_sparse(x):
                return RULES["sparse"](name_of(ufunc), *inputs)
            if isinstance(x, list | tuple):
                inputs = tuple([np.asarray(y) if y is x else y for y in inputs])
        key = ufunc if method == "__call__" else (ufunc, method)
        implementation = RULES.get(key) or of_scipy(key)
        if implementation is None:
            raise no_rule(key)
        if options.get("out") is not None:
            raise bad_type(
                name_of(ufunc), "out= is not possible where an argument is a Tensor", "use the returned value"
            )
        return implementation(*inputs, **options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        for kind in types:
            if kind is not Tensor and hasattr(kind, "__elementary__") and not issubclass(kind, Tensor):
                return NotImplemented
        implementation = RULES.get(function)
        if implementation is None:
            raise no_rule(function)
        if not args:  # a rule may call its first parameter otherwise
            first = next(iter(inspect.signature(function).parameters))
            args, options = (
                (options[first],),
                {name: value for name, value in options.items() if name != first},
            )
        try:
            return implementation(*args, **options)
        except TypeError as error:
            option = re.fullmatch(r".*\(\) got an unexpected keyword argument '(\w+)'", str(error))
            if option is None or option[1] not in options:
                raise
            problem = f"{option[1]}= is not possible where an argument is a Tensor"
            raise bad_type(name_of(function), problem, "leave it out, or pass tensor.data") from None

    @staticmethod
    def __elementary__(row: Any, operands: Sequence[Any]) -> Any:
        return RULES["elementary"](row, *operands)

    def __getitem__(self, index: Any) -> Tensor:
        return RULES["getitem"](self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise bad_type(
            "Tensor",
            "x[...] = value would change what the tape recorded",
            "build a new one, e.g. with np.where",
        )

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise bad_type(
                "Tensor", "one of shape () has no entries to go over", "tensor.item() is its number"
            )
        return (self[i] for i in range(len(self)))

    def astype(self, dtype: Any) -> Tensor:
        return RULES["astype"](self, dtype)

    def copy(self) -> Tensor:
        return direct.copy(self)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return direct.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return direct.mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return direct.max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return direct.min(self, axis=axis, keepdims=keepdims)

    def prod(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return direct.prod(self, axis=axis, keepdims=keepdims)

    def var(self, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
        return direct.var(self, axis=axis, ddof=ddof, keepdims=keepdims)

    def std(self, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
        return direct.std(self, axis=axis, ddof=ddof, keepdims=keepdims)

    def cumsum(self, axis: int | None = None) -> Tensor:
        return direct.cumsum(self, axis=axis)

    def cumprod(self, axis: int | None = None) -> Tensor:
        return direct.cumprod(self, axis=axis)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        return direct.trace(self, offset, axis1, axis2)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        return direct.diagonal(self, offset, axis1, axis2)

    def detach(self) -> Tensor:
        y = RULES["elementary"](DETACHED, self)
        return y if isinstance(y, Tensor) else Tensor(y)

    def clip(self, min: Any = None, max: Any = None) -> Tensor:
        return direct.clip(self, min, max)

    def dot(self, other: Any) -> Tensor:
        return direct.dot(self, other)

    def reshape(self, *shape: Any) -> Tensor:
        return direct.reshape(self, shape[0] if len(shape) == 1 else shape)

    def ravel(self) -> Tensor:
        return direct.ravel(self)

    flatten = ravel

    def squeeze(self, axis: Any = None) -> Tensor:
        return direct.squeeze(self, axis)

    def transpose(self, *axes: Any) -> Tensor:
        return direct.transpose(self, (axes[0] if len(axes) == 1 else axes) or None)

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        return direct.swapaxes(self, axis1, axis2)

    def take(self, indices: Any, axis: int | None = None) -> Tensor:
        return direct.take(self, indices, axis)

    def repeat(self, repeats: Any, axis: int | None = None) -> Tensor:
        return direct.repeat(self, repeats, axis)

    def argmax(self, axis: Any = None, keepdims: bool = False) -> NDArray[np.intp]:
        return self.data.argmax(axis, keepdims=keepdims)

    def argmin(self, axis: Any = None, keepdims: bool = False) -> NDArray[np.intp]:
        return self.data.argmin(axis, keepdims=keepdims)

    def argsort(self, axis: int | None = -1, kind: Any = None) -> NDArray[np.intp]:
        return self.data.argsort(axis, kind)

    def any(self, axis: Any = None, keepdims: bool = False) -> np.bool | NDArray[np.bool]:
        return self.data.any(axis, keepdims=keepdims)

    def all(self, axis: Any = None, keepdims: bool = False) -> np.bool | NDArray[np.bool]:
        return self.data.all(axis, keepdims=keepdims)

    def nonzero(self) -> tuple[NDArray[np.intp], ...]:
        return self.data.nonzero()

    def searchsorted(self, v: Any, side: Any = "left") -> NDArray[np.intp]:
        return self.data.searchsorted(unwrap(v), side)

    def round(self, decimals: int = 0) -> Tensor:
        return direct.round(self, decimals)

    if not TYPE_CHECKING:  # a checker knows the names

        def __getattr__(self, name: str) -> Any:
            """Only what is not there comes here."""
            if hasattr(np.ndarray, name) and not name.startswith("__") and name != "data":
                raise AttributeError(
                    f"Tensor: .{name} has no derivative rule; tensor.data.{name} is the detached array's"
                )
            raise no_attribute(f"a {type(self).__name__}", name)


describe(Tensor)
operate(Tensor)
_set_data = Tensor.__dict__["data"].__set__


def _not_in_place(self: Any, other: Any) -> NoReturn:
    raise bad_type(
        "Parameter",
        "p += x (and -=, *=, …) would bind the name to another array and leave the parameter as it is",
        "p.data += x changes the parameter, y = p + x computes with it",
    )


class Parameter(Tensor):
    """A Tensor that every active tape tracks without ``watch``. Optimisers update ``data`` in place.

    Where no tape is active, what is computed from Parameters and arrays is a plain array.

    Parameters
    ----------
    data : the array, of floating-point numbers
    name : what errors and ``state_dict`` call it; ``Module.parameters`` gives one

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> w = ng.Parameter(np.array([1.0, 2.0]))
    >>> with ng.Tape() as tape:
    ...     loss = (w * w).sum()
    >>> tape.gradient(loss, w)
    array([2., 4.])
    """

    __slots__ = ("name", "version")

    name: str | None
    version: int

    def __init__(self, data: Any, name: str | None = None) -> None:
        super().__init__(data)
        check_float("Parameter", self)
        self.name = name
        self.version = 0

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "data":
            value = as_array("Parameter", "data", unwrap(value))
            if not is_float(value.dtype):
                raise bad_type(
                    "Parameter",
                    f"data of dtype {value.dtype} has no gradient",
                    "convert it with .astype(np.float32)",
                )
            self.version += 1
        object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.data, self.name)

    def __copy__(self) -> Parameter:
        return type(self)(self.data, self.name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        return memo.setdefault(id(self), type(self)(self.data.copy(), self.name))

    def changed(self) -> None:
        """Told after ``data`` was written: a tape that recorded it before refuses to replay, however large
        the array is.
        """
        self.version += 1

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ifloordiv__ = __imod__ = __ipow__ = __imatmul__ = (
        _not_in_place
    )


def unwrap(x: Any) -> Any:
    """A Tensor's array; anything else as it is."""
    return x.data if isinstance(x, Tensor) else x


def check_float(op: str, x: Tensor) -> None:
    if not is_float(x.dtype):
        raise bad_type(
            op,
            f"an array of dtype {x.dtype} and shape {x.shape} has no gradient",
            "convert it with .astype(np.float32)",
        )
