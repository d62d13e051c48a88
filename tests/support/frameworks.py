"""The libraries of arrays that numgraph's functions take, each with what the conformance suite asks of it; a
new one is a class here.

The libraries that are not installed stand in MISSING with the reason.
"""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext

import numpy as np

import numgraph as ng

BFLOAT16 = "bfloat16"


class NumPyArrays:
    """NumPy, with the tape's gradients."""

    name = "NumPy"

    def scope(self):
        """In which everything of a test happens."""
        return nullcontext()

    def make(self, array):
        return np.array(array)

    def is_own(self, x):
        return type(x) is np.ndarray

    def numpy(self, x):
        return np.asarray(x)

    def dtype(self, x):
        return x.dtype.name

    def gradients(self, function, arrays, seed):
        """Σ seed · ∂function/∂arrays, as NumPy's arrays."""
        with ng.Tape() as tape:
            watched = [tape.watch(x) for x in arrays]
            y = function(*watched)
        return tape.gradient(y, watched, seed=seed)

    def second(self, function, arrays, seed, directions):
        """∂/∂arrays of Σ directions · gradients."""
        with ng.Tape() as outer:
            watched = [outer.watch(x) for x in arrays]
            with ng.Tape() as inner:
                marked = [inner.watch(x) for x in watched]
                y = function(*marked)
            first = inner.gradient(y, marked, seed=seed)
            total = sum((d * g).sum() for d, g in zip(directions, first, strict=True))
        return outer.gradient(total, watched)


class TorchArrays(NumPyArrays):
    name = "torch"

    def __init__(self):
        import torch

        self.torch = torch

    def make(self, array):
        array = np.array(array)
        if array.dtype.name == BFLOAT16:
            return self.torch.from_numpy(array.astype(np.float32)).to(self.torch.bfloat16)
        return self.torch.from_numpy(array)

    def is_own(self, x):
        return type(x) is self.torch.Tensor

    def numpy(self, x):
        x = x.detach()
        return (x.float() if x.dtype is self.torch.bfloat16 else x).numpy()

    def dtype(self, x):
        return str(x.dtype).removeprefix("torch.")

    def _leaves(self, arrays):
        return [self.make(x).requires_grad_() for x in arrays]

    def gradients(self, function, arrays, seed):
        leaves = self._leaves(arrays)
        found = self.torch.autograd.grad(function(*leaves), leaves, self.make(seed), allow_unused=True)
        return [np.zeros_like(x) if g is None else g.numpy() for x, g in zip(arrays, found, strict=True)]

    def second(self, function, arrays, seed, directions):
        leaves = self._leaves(arrays)
        first = self.torch.autograd.grad(function(*leaves), leaves, self.make(seed), create_graph=True)
        total = sum((self.make(d) * g).sum() for d, g in zip(directions, first, strict=True))
        linear = not total.requires_grad  # the first derivatives are constants
        found = [None] * len(leaves) if linear else self.torch.autograd.grad(total, leaves, allow_unused=True)
        return [np.zeros_like(x) if g is None else g.numpy() for x, g in zip(arrays, found, strict=True)]


class JaxArrays(NumPyArrays):
    name = "JAX"

    def __init__(self):
        import jax

        self.jax = jax

    def scope(self):
        return self.jax.enable_x64(True)

    def make(self, array):
        return self.jax.numpy.asarray(np.array(array))

    def is_own(self, x):
        return isinstance(x, self.jax.Array)

    def gradients(self, function, arrays, seed):
        _, pull = self.jax.vjp(function, *[self.make(x) for x in arrays])
        return [np.asarray(g) for g in pull(self.make(seed))]

    def second(self, function, arrays, seed, directions):
        def total(*leaves):
            _, pull = self.jax.vjp(function, *leaves)
            return sum(
                (self.make(d) * g).sum() for d, g in zip(directions, pull(self.make(seed)), strict=True)
            )

        return [
            np.asarray(g)
            for g in self.jax.grad(total, argnums=tuple(range(len(arrays))))(*[self.make(x) for x in arrays])
        ]


class JittedArrays(JaxArrays):
    """JAX, with every function compiled by jit."""

    name = "JAX under jit"

    def gradients(self, function, arrays, seed):
        return super().gradients(self.jax.jit(function), arrays, seed)

    def second(self, function, arrays, seed, directions):
        return super().second(self.jax.jit(function), arrays, seed, directions)


KINDS = {"numpy": NumPyArrays, "torch": TorchArrays, "jax": JaxArrays, "jit": JittedArrays}
_MODULES = {"numpy": "numpy", "torch": "torch", "jax": "jax", "jit": "jax"}
MISSING = {
    kind: f"{module} is not installed"
    for kind, module in _MODULES.items()
    if importlib.util.find_spec(module) is None
}
