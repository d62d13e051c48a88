"""Central differences: what every gradient is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from numgraph.autodiff.tape import Tape


def weights_like(shape: tuple[int, ...], seed: int = 7) -> np.ndarray:
    """Fixed random weights, away from 0, by which an output becomes a scalar: every element counts, each
    differently.
    """
    return _weights(tuple(shape), seed).copy()


@cache
def _weights(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Kept, for central differences ask for the same ones at every step."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)


def scalar(y: Any) -> Any:
    """Σ weights · y, over every output where y is a tuple or a list."""
    if isinstance(y, tuple | list):
        total = scalar(y[0])
        for k, part in enumerate(y[1:], start=1):
            total = total + (part * weights_like(part.shape, 7 + k)).sum()
        return total
    return (y * weights_like(y.shape)).sum()


def gradients(f: Callable[..., Any], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The tape's gradients of ``scalar(f(*arrays))``."""
    with Tape() as tape:
        watched = [tape.watch(np.array(a)) for a in arrays]
        loss = scalar(f(*watched))
    return tape.gradient(loss, watched)


def products(f: Callable[..., Any], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The tape's gradients of Σ weights · (gradient of ``scalar(f(*arrays))``): every second derivative,
    mixed ones too.
    """
    with Tape() as outer:
        watched = [outer.watch(np.array(a)) for a in arrays]
        with Tape() as inner:
            for x in watched:
                inner.watch(x)
            loss = scalar(f(*watched))
        first = inner.gradient(loss, watched)
        combined = scalar(first)
    return outer.gradient(combined, watched)


def differences(
    f: Callable[..., float], arrays: Sequence[np.ndarray], step: float = 1e-3
) -> list[np.ndarray]:
    """Central differences of the float ``f(*arrays)`` in float64, extrapolated to an error of step⁶ (7-point
    stencil).
    """
    arrays = [np.array(a, np.float64) for a in arrays]
    found = []
    for x in arrays:
        gradient = np.empty_like(x)
        for i in np.ndindex(x.shape):
            at = x[i]
            slopes = []
            for k in (1, 2, 3):
                x[i] = at + k * step
                up = float(f(*arrays))
                x[i] = at - k * step
                slopes.append((up - float(f(*arrays))) / (2 * k * step))
            x[i] = at
            gradient[i] = 1.5 * slopes[0] - 0.6 * slopes[1] + 0.1 * slopes[2]
        found.append(gradient)
    return found


def assert_close(got: Sequence[Any], want: Sequence[Any], rtol: float) -> None:
    """Largest error relative to the largest value of all, input by input."""
    assert len(got) == len(want)
    scale = max([1e-3, *[np.abs(w).max() for w in want if np.size(w)]])
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        g = np.asarray(g)
        assert g.shape == w.shape, f"input {i}: gradient of shape {g.shape} for an input of shape {w.shape}"
        if not g.size:
            continue
        error = np.abs(g - w)
        worst = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape)
        assert error[worst] <= rtol * scale, (
            f"input {i} at {worst}: gradient {g[worst]!r}, central difference {w[worst]!r}"
        )


def check_gradient(
    f: Callable[..., Any],
    arrays: Sequence[np.ndarray],
    order: int = 1,
    rtol: float = 1e-6,
    step: float = 1e-3,
) -> None:
    """Compare the tape's gradients of f with central differences in float64, and with ``order=2`` the second
    derivatives with central differences of the gradients.

    f takes as many arrays or Tensors as there are ``arrays`` and returns one, or a tuple of them. It must be
    smooth within 3 steps of them. Raises AssertionError that says where the two differ.
    """
    arrays = [np.array(a, np.float64) for a in arrays]
    assert_close(gradients(f, arrays), differences(lambda *xs: scalar(f(*xs)), arrays, step), rtol)
    if order == 2:
        assert_close(
            products(f, arrays), differences(lambda *xs: scalar(gradients(f, xs)), arrays, step), rtol
        )


def check_float32(f: Callable[..., Any], arrays: Sequence[np.ndarray], rtol: float = 1e-4) -> None:
    """Gradients of float32 inputs are float32, and within ``rtol`` of those of float64."""
    single = gradients(f, [np.array(a, np.float32) for a in arrays])
    assert all(g.dtype == np.float32 for g in single)
    assert_close(single, gradients(f, [np.array(a, np.float32).astype(np.float64) for a in arrays]), rtol)
