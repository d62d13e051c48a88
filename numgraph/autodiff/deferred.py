"""Gradients that are computed when they are read, so that what reads them may have them in parts."""

from __future__ import annotations

from typing import Any

import numpy as np


class Deferred:
    """What a vjp may return in place of an array, where no tape records: the tape computes it when something
    reads it, and gives it as it is to a record that ``takes_deferred``.

    work : what computes it; ``work.whole()[place]`` is the array
    """

    __slots__ = ("dtype", "place", "shape", "work")

    def __init__(self, work: Any, place: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.work, self.place, self.shape, self.dtype = work, place, shape, dtype


def computed(g: Any) -> Any:
    """A gradient as an array; anything else as it is."""
    return g.work.whole()[g.place] if type(g) is Deferred else g
