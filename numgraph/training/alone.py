"""What a training asks of the processes that take part, where it is one: ``numgraph.distributed.Processes``
is the same for several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


class Alone:
    """One process."""

    several = False
    first = True
    """Whether it writes files."""

    def generator(self, seed: int, epoch: int, rng: np.random.Generator) -> np.random.Generator:
        """What an epoch draws from: the training's generator, which goes on."""
        return rng

    def agreed(self, flag: bool) -> bool:
        """Whether any process says so."""
        return flag

    def total(self, number: Any) -> Any:
        """The sum of the processes' numbers."""
        return number

    def summed(self, arrays: list[Any]) -> list[Any]:
        """The sums of the processes' arrays."""
        return arrays

    def from_first(self, make: Callable[[], Any]) -> Any:
        """What the first process makes."""
        return make()

    def alike(self, op: str, values: Mapping[str, Any]) -> None:
        """An error of all where a number or an array is another on one of them."""
