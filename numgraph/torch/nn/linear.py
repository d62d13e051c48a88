"""Linear maps of layers: torch's, with PyG's initial values, and of any number of inputs where that is not
known yet.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from numgraph.errors import bad_value


class Linear(torch.nn.Linear):
    """``torch.nn.Linear`` whose weight may begin as Glorot and Bengio (AISTATS 2010) have it."""

    def __init__(self, in_features: int, out_features: int, bias: bool, glorot: bool = False) -> None:
        self.glorot = glorot
        super().__init__(in_features, out_features, bias)

    def reset_parameters(self) -> None:
        torch.nn.Linear.reset_parameters(self)
        if self.glorot:
            glorot(self.weight)


class LazyLinear(torch.nn.LazyLinear):
    """A Linear whose number of inputs is that of the first array it meets, or of the state that it loads."""

    cls_to_become = Linear  # type: ignore[assignment]

    def __init__(self, out_features: int, bias: bool, glorot: bool = False) -> None:
        self.glorot = glorot
        super().__init__(out_features, bias)

    def reset_parameters(self) -> None:
        if not self.has_uninitialized_params() and self.in_features:
            Linear.reset_parameters(self)  # type: ignore[arg-type]


def linear(in_features: int, out_features: int, bias: bool, glorot: bool = False) -> torch.nn.Module:
    """A linear map; in_features is −1 where the first call tells."""
    if in_features == -1:
        return LazyLinear(out_features, bias, glorot)
    return Linear(in_features, out_features, bias, glorot)


def glorot(weight: torch.Tensor) -> None:
    """Uniform numbers up to √(6 / (rows + columns)), in place."""
    bound = math.sqrt(6 / (weight.shape[-2] + weight.shape[-1]))
    torch.nn.init.uniform_(weight, -bound, bound)


def pair_of(op: str, in_channels: Any) -> tuple[int, int]:
    """The widths of sources and destinations: a pair, or one number for both."""
    pair = (in_channels, in_channels) if isinstance(in_channels, int) else tuple(in_channels)
    if len(pair) != 2:
        raise bad_value(
            op,
            f"in_channels is {in_channels}",
            "a pair has the widths of the sources and of the destinations",
        )
    return pair


def extra_repr(layer: Any, *names: str) -> str:
    """in_channels, out_channels and the named options of a layer."""
    options = [f"{name}={getattr(layer, name)}" for name in names]
    return ", ".join([str(layer.in_channels), str(layer.out_channels), *options])
