"""dropout, layer_norm and batch_norm."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph.dense.elementwise import unbroadcast
from numgraph.dense.masks import kept
from numgraph.devices import same_device
from numgraph.errors import bad_type, bad_value
from numgraph.inputs import is_sparse
from numgraph.rowwise import apply
from numgraph.tape import record, unwrap


def dropout(x: Any, p: float, rng: np.random.Generator, training: bool = True) -> Any:
    """Zero each element with probability p and scale the others by 1 / (1 − p) (Srivastava et al., JMLR 2014); x itself where not training.

    x: array or Tensor of any shape, or a constant SciPy sparse matrix, whose stored elements are dropped; p in [0, 1); rng: a
    numpy.random.Generator, which gives one number, the key of the mask (``masks.kept``). The record keeps the mask.
    """
    if not 0 <= p < 1:
        raise bad_value("dropout", f"p is {p}", "p is a probability, 0 ≤ p < 1")
    if not training or p == 0:
        return x
    if not isinstance(rng, np.random.Generator):
        raise bad_type("dropout", f"rng is a {type(rng).__name__}", "pass numpy.random.default_rng(seed)")
    if is_sparse(x):
        if x.format not in ("csr", "csc"):
            x = x.tocsr()
        return type(x)((dropout(x.data, p, rng), x.indices, x.indptr), shape=x.shape)  # of one structure with x, whose graph is known
    data = unwrap(x)
    mask, scale = kept(rng, data.shape, p, data), 1 / (1 - p)

    def masked(x: Any) -> Any:
        return apply("dropout", _dropped, (x, mask), constants=(scale,))

    return record("dropout", (x,), masked(data), lambda g, *_: (masked(g),))


def _dropped(x: Any, mask: Any, scale: float) -> Any:
    return x * mask * scale


def _check_scale(op: str, x: Any, name: str, value: Any) -> None:
    if value is not None and tuple(value.shape) != x.shape[-1:]:
        raise bad_value(op, f"x has shape {x.shape}, {name} {tuple(value.shape)}", f"{name} has shape ({x.shape[-1]},)")


def _normalise(op: str, x: Any, weight: Any, bias: Any, axis: Any, eps: float) -> Any:
    """(x − mean) / √(var + eps) over ``axis``, times weight, plus bias: one record that keeps nothing but its operands."""

    def hat(x: Any) -> tuple[Any, Any]:
        centred = x - np.mean(x, axis=axis, keepdims=True)
        scale = 1 / np.sqrt(np.mean(centred * centred, axis=axis, keepdims=True) + eps)
        return centred * scale, scale

    def vjp(g: Any, operands: Any, y: Any, needs: Any) -> list[Any]:
        x, weight, bias = operands
        normal, scale = hat(x)
        grads: list[Any] = [None, None, None]
        if needs[0]:
            h = g if weight is None else g * weight
            through = normal * np.mean(h * normal, axis=axis, keepdims=True)
            grads[0] = scale * (h - np.mean(h, axis=axis, keepdims=True) - through)
        if needs[1]:
            grads[1] = unbroadcast(g * normal, weight.shape)
        if needs[2]:
            grads[2] = unbroadcast(g, bias.shape)
        return grads

    same_device(op, x=unwrap(x), weight=unwrap(weight), bias=unwrap(bias))
    y = hat(unwrap(x))[0]
    y = y if weight is None else y * unwrap(weight)
    y = y if bias is None else y + unwrap(bias)
    return record(op, (x, weight, bias), y, vjp)


def layer_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """(x − mean) / √(var + eps) · weight + bias, mean and variance over the last axis (Ba, Kiros and Hinton, 2016).

    x: array or Tensor [..., features]; weight, bias: [features] or None for 1 and 0. Returns x's shape.
    """
    if x.ndim == 0 or x.shape[-1] == 0:
        raise bad_value("layer_norm", f"x has shape {x.shape}", "the last axis holds the features, at least one")
    _check_scale("layer_norm", x, "weight", weight)
    _check_scale("layer_norm", x, "bias", bias)
    return _normalise("layer_norm", x, weight, bias, -1, eps)


def batch_norm(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    running_mean: Any = None,
    running_var: Any = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """(x − mean) / √(var + eps) · weight + bias for each feature, over all other axes (Ioffe and Szegedy, ICML 2015).

    x: array or Tensor [..., features]; weight, bias: [features] or None for 1 and 0. While training, mean and (biased) variance are the
    batch's, and the arrays running_mean and running_var [features], if given, are moved in place by ``momentum`` towards the batch's
    mean and unbiased variance. Otherwise the running ones are used. Returns x's shape.
    """
    op = "batch_norm"
    if x.ndim < 2:
        raise bad_value(op, f"x has shape {x.shape}", "x is [rows, features], or has more axes before the features")
    for name, value in (("weight", weight), ("bias", bias), ("running_mean", running_mean), ("running_var", running_var)):
        _check_scale(op, x, name, value)
    if (running_mean is None) != (running_var is None) or (not training and running_mean is None):
        raise bad_value(op, "running_mean and running_var are not both given", "pass both, or neither while training")
    same_device(op, x=unwrap(x), running_mean=unwrap(running_mean), running_var=unwrap(running_var))
    if not training:
        scale = 1 / np.sqrt(unwrap(running_var) + eps)
        y = (x - unwrap(running_mean).astype(x.dtype)) * scale.astype(x.dtype)
        y = y if weight is None else y * weight
        return y if bias is None else y + bias
    num = x.size // max(x.shape[-1], 1)
    if num < 2:
        raise bad_value(op, f"x of shape {x.shape} has {num} rows", "a batch's variance needs at least 2; or pass training=False")
    axis = tuple(range(x.ndim - 1))
    if running_mean is not None:
        data, mean, variance = unwrap(x), unwrap(running_mean), unwrap(running_var)
        mean += momentum * (np.mean(data, axis=axis) - mean)
        variance += momentum * (np.var(data, axis=axis) * (num / (num - 1)) - variance)
    return _normalise(op, x, weight, bias, axis, eps)
