"""Shapes of layers, for checkers of types: a layer is called as its ``forward``, and a Tensor or an array in
decides what comes out.

Each decorator returns the ``forward`` that it is given. Users' own layers need none: their calls have the
types of their ``forward``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

from numgraph.arrays.typed import Plain
from numgraph.autodiff.tensor import Tensor
from numgraph.autodiff.typed import OfFeatures, Result
from numgraph.graph import Graph, GraphBatch, Shard, Spread

P = ParamSpec("P")
C = TypeVar("C")
G_contra = TypeVar("G_contra", contravariant=True)
C_co = TypeVar("C_co", covariant=True)

Graphs: TypeAlias = Graph | Spread | Shard | Sequence[Graph]
"""What a layer is called with: a graph, one that processes share, or the blocks of a batch, the outermost
first.
"""

Features: TypeAlias = Plain | tuple[Any, Any]
"""Features of nodes, or a pair: those of sources and those of destinations."""


class HasForward(Protocol[C_co]):
    @property
    def forward(self) -> C_co: ...


class Called(Protocol):
    """The type of ``Module.__call__``: that of the module's own ``forward``."""

    def __get__(self, module: HasForward[C], owner: object) -> C: ...


class Layer(Protocol[G_contra, P]):
    """layer(g, x, …)"""

    @overload
    def __call__(
        self, g: G_contra, x: Tensor | tuple[Tensor, Any], /, *args: P.args, **options: P.kwargs
    ) -> Tensor: ...
    @overload
    def __call__(self, g: G_contra, x: Features, /, *args: P.args, **options: P.kwargs) -> Result: ...


class Attention(Protocol):
    """layer(g, x, …), and the weights of the edges beside the result where they are asked for"""

    @overload
    def __call__(
        self,
        g: Graphs,
        x: Tensor | tuple[Tensor, Any],
        edge_attr: Any = ...,
        edge_weight: Any = ...,
        *,
        rng: Any = ...,
        return_attention_weights: Literal[False] = ...,
    ) -> Tensor: ...
    @overload
    def __call__(
        self,
        g: Graphs,
        x: Features,
        edge_attr: Any = ...,
        edge_weight: Any = ...,
        *,
        rng: Any = ...,
        return_attention_weights: Literal[False] = ...,
    ) -> Result: ...
    @overload
    def __call__(
        self,
        g: Graphs,
        x: Tensor | Features,
        edge_attr: Any = ...,
        edge_weight: Any = ...,
        *,
        rng: Any = ...,
        return_attention_weights: Literal[True],
    ) -> tuple[Result, tuple[Graph, Result]]: ...


def of_graph(forward: Callable[Concatenate[Any, Any, Any, P], Any]) -> Layer[Graphs, P]:
    return cast("Layer[Graphs, P]", forward)


def of_batch(forward: Callable[Concatenate[Any, Any, Any, P], Any]) -> Layer[GraphBatch, P]:
    return cast("Layer[GraphBatch, P]", forward)


def of_features(forward: Callable[Concatenate[Any, Any, P], Any]) -> OfFeatures[P]:
    return cast("OfFeatures[P]", forward)


def attention(forward: Callable[..., Any]) -> Attention:
    return cast(Attention, forward)
