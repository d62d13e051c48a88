"""Initial values of parameters, drawn from a NumPy Generator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from numgraph.autodiff.tensor import Parameter as Parameter

Seed = np.random.Generator | int | None
"""What ``np.random.default_rng`` takes: a Generator, a whole number, or None for a seed of the system's."""


def glorot(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    dtype: Any = np.float32,
    fans: tuple[int, int] | None = None,
) -> Parameter:
    """Uniform in ±√(6 / (fan_in + fan_out)) (Glorot and Bengio, AISTATS 2010); ``fans`` are the last two
    axes' lengths by default.
    """
    fan_in, fan_out = fans or (shape[-2], shape[-1])
    return _uniform(rng, shape, math.sqrt(6 / max(fan_in + fan_out, 1)), dtype)


def kaiming(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: Any = np.float32, fan_in: int | None = None
) -> Parameter:
    """Uniform in ±√(6 / fan_in), for layers before a relu (He et al., ICCV 2015); ``fan_in`` is the second to
    last axis's length.
    """
    return _uniform(rng, shape, math.sqrt(6 / max(shape[-2] if fan_in is None else fan_in, 1)), dtype)


def zeros(shape: tuple[int, ...], dtype: Any = np.float32) -> Parameter:
    """All zeros."""
    return Parameter(np.zeros(shape, dtype))


def ones(shape: tuple[int, ...], dtype: Any = np.float32) -> Parameter:
    """All ones."""
    return Parameter(np.ones(shape, dtype))


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], bound: float, dtype: Any) -> Parameter:
    return Parameter(rng.uniform(-bound, bound, shape).astype(dtype))
