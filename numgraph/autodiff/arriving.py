"""Gradients as they arrive in a replay: the loss's own, their sums, and what the caller gets."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph.arrays import recycling
from numgraph.arrays.devices import same_device, writeable
from numgraph.arrays.inputs import as_array
from numgraph.autodiff.deferred import computed
from numgraph.autodiff.tensor import TAPES, Tensor, is_float, unwrap
from numgraph.errors import bad_type, bad_value


def seed_of(loss: Tensor, seed: Any, taped: bool) -> Any:
    """The gradient that arrives at the loss. An array of the caller enters as a view, so that no result is
    taken for the tape's own.
    """
    if seed is None:
        return np.ones_like(loss.data) if type(loss.data) is not np.ndarray else np.array(1, loss.dtype)
    if isinstance(seed, int | float):
        return np.full_like(loss.data, seed)
    if not isinstance(seed, Tensor):
        seed = as_array("gradient", "seed", seed)
    if seed.shape != loss.shape:
        raise bad_value(
            "gradient",
            f"seed has shape {seed.shape}, the loss {loss.shape}",
            "give a number for each of the loss's",
        )
    if seed.dtype.kind not in "biu" and not is_float(seed.dtype):
        raise bad_type("gradient", f"seed has dtype {seed.dtype}", "give real numbers")
    same_device("gradient", loss=loss.data, seed=unwrap(seed))
    if seed.dtype != loss.dtype:
        seed = seed.astype(loss.dtype)
    return seed if taped and isinstance(seed, Tensor) else unwrap(seed).view()


def nothing_of(y: Tensor, taped: bool) -> Any:
    """The gradient of a result that this process's loss does not depend on; a Tensor where a tape records,
    which then takes what is made of it."""
    zeros = np.zeros_like(y.data)
    return Tensor(zeros) if taped else zeros


def add(grads: dict[int, Any], owned: set[int], x: Any, g: Any, taped: bool, name: str) -> None:
    """Add g to x's gradient, in place where the tape made the sum itself: an array from a vjp may be
    somebody's.
    """
    if type(g) is not np.ndarray and not taped:
        g = unwrap(g)
    data = x.data
    if g.shape != data.shape:
        raise bad_value(
            name,
            f"its vjp gave a gradient of shape {g.shape} for an input of shape {data.shape}",
            "the vjp is wrong",
        )
    if g.dtype is not data.dtype and g.dtype != data.dtype:
        g = computed(g).astype(data.dtype)
    key = id(x)
    before = grads.get(key)
    if before is None:
        grads[key] = g
    elif key in owned:
        np.add(before, computed(g), out=before)
    else:
        grads[key] = computed(before) + computed(g)
        if not taped and g.shape:  # a sum of 0-d arrays is a scalar, which has no place
            owned.add(key)


def results_of(grads: dict[int, Any], inputs: list[Tensor], taped: bool) -> list[Any]:
    """One gradient per input; plain ones are arrays that share memory with nothing, so that callers may scale
    them in place.
    """
    results: list[Any] = []
    given: set[int] = set()
    for x in inputs:
        g = computed(grads.get(id(x)))
        if g is None:
            g = np.zeros_like(x.data)
        elif isinstance(g, np.generic):
            g = np.asarray(g)
        elif not isinstance(g, Tensor) and (not recycling.owns(g) or not writeable(g) or id(g) in given):
            g = g.copy()
        if taped and not isinstance(g, Tensor):
            g = Tensor(g)
            for tape in TAPES.get():  # it does not depend on what the other tapes track
                tape._flat[id(g)] = g
        given.add(id(g))
        results.append(g)
    return results
