"""PyTorch: a walk is an autograd.Function, whose backward is walks again."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from numgraph import errors
from numgraph.arrays import Library
from numgraph.propagate import Walk


@functools.lru_cache(maxsize=64)
def _numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    name = str(dtype).removeprefix("torch.")
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


@functools.lru_cache(maxsize=64)
def _torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    found: torch.dtype = getattr(torch, dtype.name)
    return found


def _from_numpy(array: Any) -> torch.Tensor:
    if array.dtype.name == "bfloat16":
        return _from_numpy(array.view(np.int16)).view(torch.bfloat16)
    if not array.flags.writeable:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numgraph does not write to it either
            return torch.from_numpy(array)
    return torch.from_numpy(array)


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(walk: Walk, *values: Any) -> tuple[torch.Tensor, ...]:
        return tuple([_from_numpy(array) for array in walk.run([LIBRARY.plain(x) for x in values])])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], made: tuple[Any, ...]) -> None:
        walk, *values = inputs
        ctx.walk, ctx.num = walk, len(made)
        ctx.set_materialize_grads(False)
        wanted = tuple([key for key, need in zip(walk.keys, ctx.needs_input_grad[1:], strict=True) if need])
        if wanted:
            ctx.kept = fields, results = walk.reads(wanted)
            ctx.constants = {i: values[i] for i in fields if not isinstance(values[i], torch.Tensor)}
            tensors = [values[i] for i in fields if i not in ctx.constants]
            ctx.save_for_backward(*tensors, *[made[i] for i in results])
        integers = [y for y in made if not y.is_floating_point()]
        if integers:
            ctx.mark_non_differentiable(*integers)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        fields, results = ctx.kept
        saved = iter(ctx.saved_tensors)
        values: list[Any] = [None] * len(ctx.walk.keys)
        for i in fields:
            values[i] = ctx.constants[i] if i in ctx.constants else next(saved)
        made: list[Any] = [None] * ctx.num
        for i in results:
            made[i] = next(saved)
        return (None, *ctx.walk.gradients(LIBRARY, values, grads, made, ctx.needs_input_grad[1:]))


class Torch(Library):
    """torch.Tensor and its subclasses."""

    name = "torch"
    has_autodiff = True

    def owns(self, kind: type) -> bool:
        return issubclass(kind, torch.Tensor)

    def device(self, x: Any) -> str:
        return x.device.type

    def dtype(self, x: Any) -> np.dtype[Any]:
        return _numpy_dtype(x.dtype) if isinstance(x, torch.Tensor) else x.dtype

    def taken(self, op: str, what: str, x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        if x.is_complex():
            raise errors.bad_type(op, f"{what} has dtype {x.dtype}", "use real numbers")
        return x

    def plain(self, x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        x = x.detach()
        return x.view(torch.int16).numpy().view(self.dtype(x)) if x.dtype is torch.bfloat16 else x.numpy()

    def constant(self, array: Any) -> Any:
        return _from_numpy(array)

    def detached(self, x: Any) -> Any:
        return x.detach()

    def cast(self, x: Any, dtype: Any) -> Any:
        return x.to(_torch_dtype(dtype)) if isinstance(x, torch.Tensor) else x.astype(dtype)

    def sum(self, x: Any, axes: tuple[int, ...], keepdims: bool = False) -> Any:
        return x.sum(dim=axes, keepdim=keepdims) if axes else x

    def take(self, x: Any, ids: np.ndarray) -> Any:
        return x[_from_numpy(ids)]

    def concatenated(self, parts: Sequence[Any]) -> Any:
        return torch.cat(list(parts))

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        return torch.where(condition, x, y)

    def kept(self, op: str, rng: Any, shape: tuple[int, ...], p: float, like: Any, fill: Callable[..., Any]) -> Any:
        raise NotImplementedError

    def propagate(self, walk: Walk, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return _Function.apply(walk, *values)


LIBRARY = Torch()
