"""Normalisation layers with their learnt scale and shift."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.autodiff.tensor import unwrap
from numgraph.dense import batch_norm, layer_norm
from numgraph.dense.reductions import sum as summed
from numgraph.errors import bad_type, check_name, shown
from numgraph.expressions.precision import narrowed, wide, widened
from numgraph.graph import Spread
from numgraph.nn import init
from numgraph.nn.module import Module, check_size
from numgraph.nn.typed import of_features


class LayerNorm(Module):
    """(x − mean) / √(var + eps) · weight + bias over the last axis (Ba, Kiros and Hinton, 2016).

    Parameters
    ----------
    features : the width of x
    eps : what is added to the variance
    dtype : of the parameters

    Notes
    -----
    Called as ``norm(x)``: x [..., features]. Returns x's shape.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.nn.LayerNorm(2)(np.array([[1.0, 3.0]], np.float32)).round(3).tolist()
    [[-1.0, 1.0]]
    """

    def __init__(self, features: int, *, eps: float = 1e-5, dtype: Any = np.float32) -> None:
        check_size("LayerNorm", features=features)
        self.eps = eps
        self.weight, self.bias = init.ones((features,), dtype), init.zeros((features,), dtype)

    @of_features
    def forward(self, x: Any) -> Any:
        return layer_norm(x, self.weight, self.bias, self.eps)


class BatchNorm(Module):
    """(x − mean) / √(var + eps) · weight + bias for each feature over all rows (Ioffe and Szegedy, ICML
    2015).

    Parameters
    ----------
    features : the width of x
    momentum : how far the running mean and variance move towards the batch's at a step of training
    eps : what is added to the variance
    dtype : of the parameters; the running statistics are float32 where it is float16 or bfloat16

    Notes
    -----
    Called as ``norm(x)``: x [rows, features]. Returns x's shape. While training, mean and variance are the
    batch's, else the running ones.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.nn.BatchNorm(1)(np.array([[1.0], [3.0]], np.float32)).round(3).tolist()
    [[-1.0], [1.0]]
    """

    buffers = ("running_mean", "running_var")

    def __init__(
        self, features: int, *, momentum: float = 0.1, eps: float = 1e-5, dtype: Any = np.float32
    ) -> None:
        check_size("BatchNorm", features=features)
        self.momentum, self.eps = momentum, eps
        self.weight, self.bias = init.ones((features,), dtype), init.zeros((features,), dtype)
        self.running_mean, self.running_var = (
            np.zeros(features, wide(np.dtype(dtype))),
            np.ones(features, wide(np.dtype(dtype))),
        )

    @of_features
    def forward(self, x: Any) -> Any:
        if self.training and self._spread is not None:
            return self._over_processes(x, self._spread)
        return batch_norm(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            self.training,
            self.momentum,
            self.eps,
        )

    def _over_processes(self, x: Any, spread: Spread) -> Any:
        """With the mean and the variance of all processes' rows."""
        like, x = x.dtype, widened(x)
        num = float(spread.total(np.array([x.shape[0]], np.float64))[0])
        mean = spread.total(summed(x, 0)) / num
        centred = x - mean
        variance = spread.total(summed(centred * centred, 0)) / num
        momentum, unbiased = self.momentum, unwrap(variance) * (num / max(num - 1, 1))
        for running, now in ((self.running_mean, unwrap(mean)), (self.running_var, unbiased)):
            running += (momentum * (now - running)).astype(running.dtype)
        return narrowed(centred / np.sqrt(variance + self.eps) * self.weight + self.bias, like)


_NORMS: dict[str, Callable[..., Module]] = {"batch": BatchNorm, "layer": LayerNorm}


def normalisation(op: str, norm: Any, features: int, dtype: Any) -> Module:
    """The Module that ``norm`` stands for: "batch", "layer", or a function of a width that makes one."""
    if isinstance(norm, str):
        check_name(op, "norm", norm, _NORMS)
        return _NORMS[norm](features, dtype=dtype)
    made = (
        norm(features, dtype=dtype) if norm in _NORMS.values() else norm(features) if callable(norm) else None
    )
    if not isinstance(made, Module):
        raise bad_type(
            op,
            f"norm is {shown(norm)}",
            'choose "batch" or "layer", or give a function of a width that makes a Module',
        )
    return made
