"""Shapes of public functions, for checkers of types: what an array, a Tensor or another library's array in
gives out.

Each decorator returns its function as it is. What it says is the same for a hundred functions: a Tensor among
the arrays that decide gives a Tensor, NumPy's arrays and lists an ``Array``, an array of another library one
of the same. The arguments after those keep their types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

from numpy.typing import NDArray

from numgraph.arrays.typed import Array, F, Plain
from numgraph.autodiff.tensor import Tensor

P = ParamSpec("P")
G_contra = TypeVar("G_contra", contravariant=True)
G = TypeVar("G")
T = TypeVar("T")

Result: TypeAlias = Array | Tensor
"""What a function of Parameters returns for an array: a Tensor while a tape records, else an array."""


class OfArray(Protocol[P]):
    """f(x, …)"""

    __name__: str

    @overload
    def __call__(self, x: Tensor, /, *args: P.args, **options: P.kwargs) -> Tensor: ...
    @overload
    def __call__(self, x: Plain, /, *args: P.args, **options: P.kwargs) -> Array: ...
    @overload
    def __call__(self, x: F, /, *args: P.args, **options: P.kwargs) -> F: ...


class OfTwo(Protocol[P]):
    """f(x, y, …)"""

    __name__: str

    @overload
    def __call__(self, x: Tensor, y: Tensor | Plain, /, *args: P.args, **options: P.kwargs) -> Tensor: ...
    @overload
    def __call__(self, x: Plain, y: Tensor, /, *args: P.args, **options: P.kwargs) -> Tensor: ...
    @overload
    def __call__(self, x: Plain, y: Plain, /, *args: P.args, **options: P.kwargs) -> Array: ...
    @overload
    def __call__(self, x: F, y: F | Plain, /, *args: P.args, **options: P.kwargs) -> F: ...


class OfGraph(Protocol[G_contra, P]):
    """f(g, x, …)"""

    __name__: str

    @overload
    def __call__(self, g: G_contra, x: Tensor, /, *args: P.args, **options: P.kwargs) -> Tensor: ...
    @overload
    def __call__(self, g: G_contra, x: Plain, /, *args: P.args, **options: P.kwargs) -> Array: ...
    @overload
    def __call__(self, g: G_contra, x: F, /, *args: P.args, **options: P.kwargs) -> F: ...


class OfGraphAndTwo(Protocol[G_contra, P]):
    """f(g, x, y, …)"""

    __name__: str

    @overload
    def __call__(
        self, g: G_contra, x: Tensor, y: Tensor | Plain, /, *args: P.args, **options: P.kwargs
    ) -> Tensor: ...
    @overload
    def __call__(self, g: G_contra, x: Plain, y: Tensor, /, *args: P.args, **options: P.kwargs) -> Tensor: ...
    @overload
    def __call__(self, g: G_contra, x: Plain, y: Plain, /, *args: P.args, **options: P.kwargs) -> Array: ...
    @overload
    def __call__(self, g: G_contra, x: F, y: F | Plain, /, *args: P.args, **options: P.kwargs) -> F: ...


def of_array(function: Callable[Concatenate[Any, P], Any]) -> OfArray[P]:
    return cast("OfArray[P]", function)


def of_array_in_class(method: Callable[Concatenate[Any, Any, P], Any]) -> OfArray[P]:
    return cast("OfArray[P]", method)


def of_two(function: Callable[Concatenate[Any, Any, P], Any]) -> OfTwo[P]:
    return cast("OfTwo[P]", function)


def of_graph(function: Callable[Concatenate[G, Any, P], Any]) -> OfGraph[G, P]:
    return cast("OfGraph[G, P]", function)


def of_graph_and_two(function: Callable[Concatenate[G, Any, Any, P], Any]) -> OfGraphAndTwo[G, P]:
    return cast("OfGraphAndTwo[G, P]", function)


class OfFeatures(Protocol[P]):
    """f(x, …) that computes with Parameters, too"""

    __name__: str

    @overload
    def __call__(self, x: Tensor, /, *args: P.args, **options: P.kwargs) -> Tensor: ...
    @overload
    def __call__(self, x: Plain, /, *args: P.args, **options: P.kwargs) -> Result: ...
    @overload
    def __call__(self, x: F, /, *args: P.args, **options: P.kwargs) -> F: ...


def of_features(function: Callable[Concatenate[Any, P], Any]) -> OfFeatures[P]:
    return cast("OfFeatures[P]", function)


class HasParameters(Protocol):
    """A Module."""

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]: ...


class Gradient(Protocol[P]):
    """What ``grad`` and ``jacobian`` return: of the form of the argument, a dict of arrays by name for a
    Module; the arguments after it are those of the function, P.
    """

    @overload
    def __call__(self, x: Tensor | NDArray[Any] | float, /, *args: P.args, **options: P.kwargs) -> Array: ...
    @overload
    def __call__(self, x: HasParameters, /, *args: P.args, **options: P.kwargs) -> dict[str, Array]: ...
    @overload
    def __call__(self, x: T, /, *args: P.args, **options: P.kwargs) -> T: ...


class ValueAndGradient(Protocol[P]):
    """What ``value_and_grad`` returns."""

    @overload
    def __call__(
        self, x: Tensor | NDArray[Any] | float, /, *args: P.args, **options: P.kwargs
    ) -> tuple[Array, Array]: ...
    @overload
    def __call__(
        self, x: HasParameters, /, *args: P.args, **options: P.kwargs
    ) -> tuple[Array, dict[str, Array]]: ...
    @overload
    def __call__(self, x: T, /, *args: P.args, **options: P.kwargs) -> tuple[Array, T]: ...
