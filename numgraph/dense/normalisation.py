"""dropout, layer_norm and batch_norm."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np

from numgraph.arrays import Library, library_of
from numgraph.arrays.devices import same_device
from numgraph.arrays.inputs import given, is_sparse, kind_of, number
from numgraph.arrays.traced import MODULES, TRACED, is_traced
from numgraph.autodiff.sums import unbroadcast
from numgraph.autodiff.tape import record, unwrap
from numgraph.autodiff.typed import of_array, of_features
from numgraph.compiler.rows import blocks, pays
from numgraph.dense.masks import fill, kept
from numgraph.dense.reductions import mean
from numgraph.errors import bad_type, bad_value, shown
from numgraph.expressions.expr import Expr, field
from numgraph.expressions.precision import floating, narrowed, widened
from numgraph.expressions.walk import Output
from numgraph.message.propagate import propagate
from numgraph.message.rowwise import apply


@of_array
def dropout(x: Any, p: float, rng: Any = None, training: bool = True) -> Any:
    """Zero each element with probability p and scale the others by 1 / (1 − p) (Srivastava et al., JMLR
    2014); x itself where not training.

    Parameters
    ----------
    x : array or Tensor of any shape, or a constant SciPy sparse matrix, whose stored elements are dropped
    p : the probability, in [0, 1)
    rng : a numpy.random.Generator, which gives one number, the key of the mask;
        of a tensor of torch a torch.Generator, or None for torch's own; of an array of JAX a key of
        jax.random
    training : drop at all

    Returns
    -------
    x's shape

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> sorted(set(ng.dropout(np.ones(100), 0.75, np.random.default_rng(0)).tolist()))
    [0.0, 4.0]
    """
    p = _probability(p, rng)
    if not training or p == 0:
        return x
    if "torch" in MODULES and is_traced():
        return TRACED["torch"](dropout, (x, p, rng), {})
    library = library_of(x)
    if library.has_autodiff:
        return _dropped_by(library, rng, library.taken("dropout", "x", x), p)
    if not isinstance(rng, np.random.Generator):
        raise bad_type("dropout", f"rng is a {type(rng).__name__}", "pass numpy.random.default_rng(seed)")
    if is_sparse(x):
        if x.format not in ("csr", "csc"):
            x = x.tocsr()
        dropped = copy.copy(
            x
        )  # of one structure with x, whose graph is known; SciPy's constructor takes 30 µs to check it again
        dropped.data = dropout(x.data, p, rng)
        return dropped
    if isinstance(x, Expr):
        raise bad_type(
            "dropout",
            f"x is a symbol, {x!r}, and every edge would drop the same features",
            "drop the field before the call",
        )
    x = floating(given("dropout", "x", x))
    data = unwrap(x)
    mask, scale = kept(rng, data.shape, p, data), 1 / (1 - p)

    def masked(x: Any) -> Any:
        return apply("dropout", _dropped, (x, mask), constants=(scale,))

    return record("dropout", (x,), masked(data), lambda g, *_: (masked(g),))


def _probability(p: Any, rng: Any) -> float:
    """p as a number; arrays and tensors without axes may give it, where they have one."""
    if isinstance(p, int | float | np.number):
        if 0 <= p < 1:
            return p  # type: ignore[return-value]
        raise bad_value("dropout", f"p is {shown(p)}", "p is a probability, 0 ≤ p < 1")
    if kind_of(p).endswith("Generator"):
        raise bad_type(
            "dropout", f"p is {kind_of(p)} and rng is {kind_of(rng)}", "the order is dropout(x, p, rng)"
        )
    if getattr(p, "shape", None) == ():
        try:
            return _probability(float(p), rng)
        except (
            TypeError,
            RuntimeError,
        ) as error:  # keys of jax.random, and what has no number yet, within tracers
            raise _no_probability(p) from error
    raise _no_probability(p)


def _no_probability(p: Any) -> ValueError:
    library = library_of(p)
    if not library.has_autodiff:
        return bad_value("dropout", f"p is {shown(p)}", "p is a probability, 0 ≤ p < 1")
    fix = (
        "p is a Python number, as float(p) is, and where functions are traced a static argument; what is "
        "random is rng"
    )
    return bad_value(
        "dropout", f"p is {shown(p)}, an array of {library.name}", f"{fix}: dropout(x, 0.5, rng=key)"
    )


def _dropped_by(library: Library, rng: Any, x: Any, p: float) -> Any:
    """By a library's own autodiff; large arrays by a walk over their rows, whose backward reads the mask
    alone.
    """
    dtype = library.dtype(x)
    x = library.cast(x, np.dtype(np.float64)) if dtype.kind in "biu" else x
    mask, scale = library.kept("dropout", rng, tuple(x.shape), p, x, fill), 1 / (1 - p)
    if not pays(tuple(x.shape), dtype):
        return library.where(mask, x * scale, 0)
    fields = {("e", "x"): x, ("e", "mask"): mask}
    row, keep = (field(*key, tuple(array.shape[1:]), library.dtype(array)) for key, array in fields.items())
    walk = (Output((_dropped(row, keep, scale),), "e", "edge"),)
    return propagate("dropout", blocks(x.shape[0], library.device(x)), walk, fields, told=False)[0]


def _dropped(x: Any, mask: Any, scale: float) -> Any:
    return x * mask * scale


def _check_scale(op: str, x: Any, name: str, value: Any) -> None:
    if value is not None and tuple(value.shape) != x.shape[-1:]:
        raise bad_value(
            op, f"x has shape {x.shape}, {name} {tuple(value.shape)}", f"{name} has shape ({x.shape[-1]},)"
        )


def _prepared(op: str, x: Any, weight: Any, bias: Any) -> tuple[Any, Any]:
    """x in the dtype that it is computed in, and the result's dtype."""
    same_device(op, x=unwrap(x), weight=unwrap(weight), bias=unwrap(bias))
    _check_scale(op, x, "weight", weight)
    _check_scale(op, x, "bias", bias)
    scales = [p for p in (weight, bias) if p is not None]
    x = floating(x, scales[0].dtype if scales else None)
    return widened(x), np.result_type(x.dtype, *[p.dtype for p in scales])


def _arrays(op: str, **values: Any) -> list[Any]:
    return [value if value is None else given(op, name, value) for name, value in values.items()]


def _row_normal(x: Any, eps: float) -> tuple[Any, Any]:
    """(x − mean) / √(var + eps) of every row, and 1 / √(var + eps). The mean is rounded, so what is left of
    it is taken off too.
    """
    near = x - _row_mean(x)
    centred = near - _row_mean(near)
    scale = 1 / np.sqrt(_row_mean(centred * centred) + eps)
    return centred * scale, scale


def _row_mean(x: Any) -> Any:
    """As np.mean, in half its time on small arrays."""
    return x.sum(axis=-1, keepdims=True) / x.shape[-1]


def _row_gradient(h: Any, normal: Any, scale: Any) -> Any:
    return scale * (h - _row_mean(h) - normal * _row_mean(h * normal))


def _scaled_row_gradient(g: Any, normal: Any, scale: Any, weight: Any) -> Any:
    return _row_gradient(g * weight, normal, scale)


@of_features
def layer_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """(x − mean) / √(var + eps) · weight + bias, mean and variance over the last axis (Ba, Kiros and Hinton,
    2016).

    Parameters
    ----------
    x : array or Tensor [..., features]
    weight, bias : [features], or None for 1 and 0
    eps : what is added to the variance

    Returns
    -------
    x's shape

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.layer_norm(np.array([[1.0, 3.0]]), weight=np.array([1.0, 2.0])).round(3).tolist()
    [[-1.0, 2.0]]
    """
    op = "layer_norm"
    x, weight, bias, eps = given(op, "x", x), *_arrays(op, weight=weight, bias=bias), number(op, "eps", eps)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise bad_value(op, f"x has shape {x.shape}", "the last axis holds the features, at least one")
    x, dtype = _prepared(op, x, weight, bias)

    def vjp(g: Any, operands: Any, y: Any, needs: Any) -> list[Any]:
        x, weight, bias = operands
        normal, scale = apply(op, _row_normal, (x,), constants=(eps,))
        grads: list[Any] = [None, None, None]
        if needs[0] and weight is None:
            grads[0] = apply(f"∇ {op}", _row_gradient, (g, normal, scale))
        elif needs[0]:
            grads[0] = apply(f"∇ {op}", _scaled_row_gradient, (g, normal, scale), (weight,))
        if needs[1]:
            grads[1] = unbroadcast(g * normal, weight.shape)
        if needs[2]:
            grads[2] = unbroadcast(g, bias.shape)
        return grads

    with np.errstate(invalid="ignore", over="ignore"):
        y = apply(op, _row_normal, (unwrap(x),), constants=(eps,))[0]
        return narrowed(record(op, (x, weight, bias), _shifted(y, unwrap(weight), unwrap(bias)), vjp), dtype)


def _shifted(y: Any, weight: Any, bias: Any) -> Any:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _moments(x: Any, axis: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """The mean of each feature in two parts, rounded and what is left of it, and the variance. Differences of
    far larger numbers have their accuracy so. The rounded part is a constant: variance and normalised numbers
    do not depend on what is subtracted first."""
    near = mean(unwrap(x), axis=axis)
    centred = x - near
    left = mean(centred, axis=axis)
    return near, left, np.maximum(mean(centred * centred, axis=axis) - left * left, 0)


def _normal(x: Any, near: Any, left: Any, scale: Any) -> Any:
    return ((x - near) - left) * scale


def _column_gradient(g: Any, normal: Any, total: Any, product: Any, scale: Any) -> Any:
    return scale * (g - total - normal * product)


@of_features
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
    """(x − mean) / √(var + eps) · weight + bias for each feature, over all other axes (Ioffe and Szegedy,
    ICML 2015).

    Parameters
    ----------
    x : array or Tensor [..., features]
    weight, bias : [features], or None for 1 and 0
    running_mean, running_var : arrays [features] or None;
        while training they are moved in place towards the batch's mean and unbiased variance, else they are
        used
    training : mean and (biased) variance are the batch's
    momentum : how far the running ones are moved
    eps : what is added to the variance

    Returns
    -------
    x's shape

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.batch_norm(np.array([[1.0], [3.0]])).round(3).tolist()
    [[-1.0], [1.0]]
    """
    op = "batch_norm"
    x, weight, bias, eps = given(op, "x", x), *_arrays(op, weight=weight, bias=bias), number(op, "eps", eps)
    momentum = number(op, "momentum", momentum)
    for name, running in (("running_mean", running_mean), ("running_var", running_var)):
        if running is not None and not hasattr(running, "dtype"):
            raise bad_type(
                op, f"{name} is {kind_of(running)}", "give an array [features], which is changed in place"
            )
    if x.ndim < 2:
        raise bad_value(
            op, f"x has shape {x.shape}", "x is [rows, features], or has more axes before the features"
        )
    x, dtype = _prepared(op, x, weight, bias)
    for name, value in (("running_mean", running_mean), ("running_var", running_var)):
        _check_scale(op, x, name, value)
    if (running_mean is None) != (running_var is None) or (not training and running_mean is None):
        raise bad_value(
            op, "running_mean and running_var are not both given", "pass both, or neither while training"
        )
    same_device(op, x=unwrap(x), running_mean=unwrap(running_mean), running_var=unwrap(running_var))
    if not training:
        scale = 1 / np.sqrt(widened(unwrap(running_var)) + eps)
        y = (x - unwrap(running_mean).astype(x.dtype)) * scale.astype(x.dtype)
        return narrowed(_shifted(y, weight, bias), dtype)
    num = math.prod(x.shape[:-1])
    if num < 2:
        raise bad_value(
            op,
            f"x of shape {x.shape} has {num} rows",
            "a batch's variance needs at least 2; or pass training=False",
        )
    axis = tuple(range(x.ndim - 1))

    def vjp(g: Any, operands: Any, y: Any, needs: Any) -> list[Any]:
        x, weight, _ = operands
        near, left, variance = _moments(x, axis)
        scale = 1 / np.sqrt(variance + eps)
        normal = apply(op, _normal, (x,), (near, left, scale))
        into_bias = unbroadcast(g, x.shape[-1:]) if needs[0] or needs[2] else None
        into_weight = unbroadcast(g * normal, x.shape[-1:]) if needs[0] or needs[1] else None
        into_x = None
        if needs[0]:
            factor = scale if weight is None else scale * weight
            into_x = apply(
                f"∇ {op}", _column_gradient, (g, normal), (into_bias / num, into_weight / num, factor)
            )
        return [into_x, into_weight if needs[1] else None, into_bias if needs[2] else None]

    with np.errstate(invalid="ignore", over="ignore"):
        near, left, variance = _moments(unwrap(x), axis)
        if running_mean is not None:
            running_mean, running_var = unwrap(running_mean), unwrap(running_var)
            running_mean += (momentum * (near - running_mean + left)).astype(running_mean.dtype)
            running_var += (momentum * (variance * (num / (num - 1)) - running_var)).astype(running_var.dtype)
        y = apply(op, _normal, (unwrap(x),), (near, left, 1 / np.sqrt(variance + eps)))
        return narrowed(record(op, (x, weight, bias), _shifted(y, unwrap(weight), unwrap(bias)), vjp), dtype)
