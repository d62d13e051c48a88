"""Activation functions of arrays, Tensors and message symbols; on large arrays each is one pass, and so is
its derivative.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from numgraph.arrays.inputs import given
from numgraph.autodiff.tensor import Tensor
from numgraph.autodiff.typed import of_array
from numgraph.dense.elementwise import elementwise, select, where
from numgraph.expressions import elementary
from numgraph.expressions.elementary import Elementwise
from numgraph.message.rowwise import apply


@of_array
def relu(x: Any) -> Any:
    """max(x, 0) elementwise; NaN stays NaN, the derivative at 0 is 0.

    Parameters
    ----------
    x : array, Tensor or a message's symbol, of any shape

    Returns
    -------
    x's shape

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.relu(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return apply("relu", elementary.relu, (x,))


@of_array
def leaky_relu(x: Any, negative_slope: Any = 0.01) -> Any:
    """x where x > 0, else negative_slope · x, elementwise.

    Parameters
    ----------
    x : array, Tensor or a message's symbol, of any shape
    negative_slope : a number, an array or a Tensor

    Returns
    -------
    x's shape

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.leaky_relu(np.array([-1.0, 2.0]), 0.1).tolist()
    [-0.1, 2.0]
    """
    if type(negative_slope) not in (int, float):
        return elementary.leaky_relu(
            x if isinstance(x, int | float) else given("leaky_relu", "x", x),
            given("leaky_relu", "negative_slope", negative_slope),
        )
    return apply("leaky_relu", elementary.leaky_relu, (x,), constants=(negative_slope,))


@of_array
def elu(x: Any, alpha: Any = 1.0) -> Any:
    """x where x > 0, else alpha · (eˣ − 1), elementwise (Clevert et al., ICLR 2016).

    Parameters
    ----------
    x : array, Tensor or a message's symbol, of any shape
    alpha : a number, an array or a Tensor

    Returns
    -------
    x's shape

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.elu(np.array([-1.0, 2.0])).round(3).tolist()
    [-0.632, 2.0]
    """
    if type(alpha) not in (int, float):
        return elementary.elu(
            x if isinstance(x, int | float) else given("elu", "x", x), given("elu", "alpha", alpha)
        )
    return apply("elu", elementary.elu, (x,), constants=(alpha,))


@of_array
def gelu(x: Any) -> Any:
    """x · Φ(x) with the normal distribution function Φ, elementwise, exact (Hendrycks and Gimpel, 2016).

    Parameters
    ----------
    x : array, Tensor or a message's symbol, of any shape

    Returns
    -------
    x's shape

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.gelu(np.array([-1.0, 2.0])).round(3).tolist()
    [-0.159, 1.954]
    """
    return apply("gelu", elementary.gelu, (x,))


@of_array
def silu(x: Any) -> Any:
    """x · sigmoid(x), elementwise.

    Parameters
    ----------
    x : array, Tensor or a message's symbol, of any shape

    Returns
    -------
    x's shape

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.silu(np.array([-1.0, 2.0])).round(3).tolist()
    [-0.269, 1.762]
    """
    return apply("silu", elementary.silu, (x,))


@of_array
def softplus(x: Any) -> Any:
    """log(1 + eˣ) elementwise, without overflow.

    Parameters
    ----------
    x : array, Tensor or a message's symbol, of any shape

    Returns
    -------
    x's shape

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.softplus(np.array([0.0, 800.0])).round(3).tolist()
    [0.693, 800.0]
    """
    return apply("softplus", elementary.softplus, (x,))


@of_array
def sigmoid(x: Any) -> Any:
    """1 / (1 + e⁻ˣ) elementwise, without overflow.

    Parameters
    ----------
    x : array, Tensor or a message's symbol, of any shape

    Returns
    -------
    x's shape

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.sigmoid(np.array([0.0, 2.0])).round(3).tolist()
    [0.5, 0.881]
    """
    return elementary.sigmoid(x)


@of_array
def erf(x: Any) -> Any:
    """The error function 2/√π ∫₀ˣ exp(−t²) dt, elementwise; by SciPy on arrays, within 2 ulp in messages.

    Parameters
    ----------
    x : array, Tensor or a message's symbol, of any shape

    Returns
    -------
    x's shape

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.erf(np.array([0.0, 1.0])).round(3).tolist()
    [0.0, 0.843]
    """
    return elementary.erf(x)


_FORMULAS: dict[int, Callable[[Any], Any]] = {
    id(function): getattr(elementary, function.__name__)
    for function in (relu, leaky_relu, elu, gelu, silu, softplus)
}


def biased(x: Any, bias: Any, activation: Callable[[Any], Any] | None = None) -> Any:
    """activation(x + bias), where None stands for no bias and for no activation; with the functions above one
    pass on large arrays.

    x: array or Tensor [..., features]; bias: [features]. Returns x's shape.
    """
    formula = _FORMULAS.get(id(activation))
    if bias is not None and formula is not None:
        return apply(f"bias, {activation.__name__}", _shifted, (x,), (bias,), (formula,))  # type: ignore[union-attr]
    x = x if bias is None else apply("bias", operator.add, (x,), (bias,))
    return x if activation is None else activation(x)


def _shifted(x: Any, bias: Any, formula: Callable[[Any], Any]) -> Any:
    if formula is elementary.relu and isinstance(bias, Tensor):
        return elementwise(_SHIFTED_RELU, x, bias)
    return formula(x + bias)


def _shifted_relu(x: Any, bias: Any) -> Any:
    y = x + bias
    return select(y <= 0, 0, y)


def _shifted_relu_vjp(g: Any, y: Any, x: Any, bias: Any) -> tuple[Any, Any]:
    d = where(y <= 0, 0, g)
    return d, d


_SHIFTED_RELU = Elementwise("bias, relu", (), _shifted_relu, _shifted_relu_vjp)
"""One record in place of three."""
