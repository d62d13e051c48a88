"""What torch's functions and methods mean in a message: rows and combinations of rows, found by name. Dtypes
promote as NumPy's do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from numgraph import errors
from numgraph.bridges.torch_arrays import numpy_dtype
from numgraph.expressions import elementary, features
from numgraph.expressions.advice import instead
from numgraph.expressions.expr import Expr
from numgraph.expressions.functions import built

_ROWS = {
    "mul": "multiply",
    "sub": "subtract",
    "div": "divide",
    "true_divide": "divide",
    "neg": "negative",
    "pow": "power",
    "abs": "absolute",
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    **{f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan", "tan2", "sinh", "cosh", "tanh")},
    "round": "rint",
    "fix": "trunc",
    "special_expit": "sigmoid",
    "special_erf": "erf",
    "special_expm1": "expm1",
    "special_log1p": "log1p",
    "special_exp2": "exp2",
    "__and__": "bitwise_and",
    "__or__": "bitwise_or",
    "__xor__": "bitwise_xor",
    "__floordiv__": "floor_divide",
    "bitwise_left_shift": "left_shift",
    "bitwise_right_shift": "right_shift",
    **{name: name for name in elementary.TABLE},
}
"""torch's names of rows."""


def _scaled(row: Any) -> Callable[..., Any]:
    """add and sub have a factor of the second operand."""
    return lambda x, y, alpha=1: row(x, y if alpha == 1 else y * alpha)


def _over(name: str) -> Callable[..., Any]:
    def reduced(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
        axis = tuple(dim) if isinstance(dim, list | tuple) else dim
        return getattr(x, name)(axis or None if isinstance(axis, tuple) else axis, keepdims=keepdim)

    return reduced


def _extreme(name: str) -> Callable[..., Any]:
    """max(x) is over all features, max(x, y) one of two; max(x, dim) would give places too."""

    def extreme(x: Any, other: Any = None, **options: Any) -> Any:
        if options or isinstance(other, int):
            fix = f"write torch.a{name}(x, dim), which gives the values alone"
            raise errors.bad_type("message", f"torch.{name} over an axis cannot be part of a message", fix)
        return getattr(x, name)() if other is None else elementary.TABLE[f"{name}imum"](x, other)

    return extreme


def _gelu(x: Any, approximate: str = "none") -> Any:
    if approximate != "none":
        raise errors.bad_type(
            "message", f"gelu with approximate={approximate!r} cannot be part of a message", "leave it out"
        )
    return elementary.gelu(x)


def _softplus(x: Any, beta: float = 1, threshold: float = 20) -> Any:
    return elementary.softplus(x) if beta == 1 else elementary.softplus(x * beta) / beta


def _to(x: Any, dtype: Any) -> Any:
    found = numpy_dtype(dtype) if isinstance(dtype, torch.dtype) else None
    if found is None:
        raise errors.bad_type(
            "message",
            f"to({dtype}) cannot be part of a message",
            "give a dtype of torch, and move the field before the call",
        )
    return x.astype(found)


def _clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    return elementary.clip(x, min, max)


_COMPOSED: dict[str, Callable[..., Any]] = {
    "add": _scaled(elementary.TABLE["add"]),
    "sub": _scaled(elementary.TABLE["subtract"]),
    "subtract": _scaled(elementary.TABLE["subtract"]),
    "rsub": lambda x, y, alpha=1: _scaled(elementary.TABLE["subtract"])(y, x, alpha),
    "__rsub__": lambda x, y: y - x,
    "__rpow__": lambda x, y: y**x,
    "__rdiv__": lambda x, y: y / x,
    "__rfloordiv__": lambda x, y: y // x,
    "__rmod__": lambda x, y: y % x,
    "sum": _over("sum"),
    "mean": _over("mean"),
    "amax": _over("max"),
    "amin": _over("min"),
    "max": _extreme("max"),
    "min": _extreme("min"),
    "unsqueeze": lambda x, dim: np.expand_dims(x, dim),
    "broadcast_to": lambda x, size: np.broadcast_to(x, tuple(size)),
    "relu": lambda x: elementary.relu(x),
    "leaky_relu": elementary.leaky_relu,
    "elu": lambda x, alpha=1.0: elementary.elu(x, alpha),
    "gelu": _gelu,
    "silu": lambda x: elementary.silu(x),
    "softplus": _softplus,
    "log_sigmoid": lambda x: -elementary.softplus(-x),
    "prelu": lambda x, weight: np.where(x > 0, x, x * weight),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": lambda x, min: elementary.clip(x, min),
    "clamp_max": lambda x, max: elementary.clip(x, None, max),
    "masked_fill": lambda x, mask, value: np.where(mask, value, x),
    "where": lambda condition, x, y: np.where(condition, x, y),
    "lerp": lambda x, end, weight: x + weight * (end - x),
    "float_power": elementary.float_power,
    **dict.fromkeys(
        ("cat", "concat", "concatenate"), lambda tensors, dim=0: features.concatenate(tensors, dim)
    ),
    "stack": lambda tensors, dim=0: features.stack(tensors, dim),
    "einsum": features.einsum,
    "matmul": features.matmul,
    "__rmatmul__": lambda x, y: features.matmul(y, x),
    "dot": features.dot,
    "linalg_vecdot": lambda x, y, *, dim=-1: features.vecdot(x, y, dim),
    "norm": lambda x, p=2, dim=None, keepdim=False: features.norm(x, p, dim, keepdim),
    "linalg_norm": lambda x, ord=None, dim=None, keepdim=False: features.norm(x, ord, dim, keepdim),
    "linalg_vector_norm": lambda x, ord=2, dim=None, keepdim=False: features.norm(x, ord, dim, keepdim),
    "softmax": lambda x, dim, _stacklevel=3, dtype=None: features.softmax(
        x if dtype is None else _to(x, dtype), dim
    ),
    "log_softmax": lambda x, dim, _stacklevel=3, dtype=None: features.log_softmax(
        x if dtype is None else _to(x, dtype), dim
    ),
    "logsumexp": lambda x, dim, keepdim=False: features.logsumexp(x, dim, keepdim),
    "transpose": lambda x, dim0, dim1: np.swapaxes(x, dim0, dim1),
    "isnan": elementary.COMPOSED[np.isnan],
    "isinf": elementary.COMPOSED[np.isinf],
    "isfinite": elementary.COMPOSED[np.isfinite],
    "clone": lambda x: x,
    "to": _to,
    "float": lambda x: _to(x, torch.float32),
    "double": lambda x: _to(x, torch.float64),
    "half": lambda x: _to(x, torch.float16),
}
"""Functions that are no rows, by torch's names; ``self`` or ``input`` is the first."""


def apply(function: Any, operands: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """What a function of torch gives for operands of which one is a symbol."""
    name = function if isinstance(function, str) else getattr(function, "__name__", str(function))
    if (
        options.pop("inplace", False)
        or options.pop("out", None) is not None
        or (name.endswith("_") and not name.endswith("__"))
    ):
        problem = f"torch's {name} would change a symbol in place"
        raise errors.bad_type(
            "message", problem, "use the function that returns a new value, without inplace and out"
        )
    build = _COMPOSED.get(name) or elementary.TABLE.get(_ROWS.get(name, ""))
    if build is None:
        raise errors.bad_type("message", f"torch's {name} cannot be part of a message{instead(name)}")
    for first in ("input", "self"):
        if first in options:
            operands = (options.pop(first), *operands)
    if "other" in options:
        operands = (*operands, options.pop("other"))
    return built(f"torch's {name}", build, operands, options)


def method(symbol: Expr, name: str) -> Callable[..., Any] | None:
    """A tensor's method as a symbol has it, among fields that are tensors."""
    if not hasattr(torch.Tensor, name) or (name not in _COMPOSED and name not in _ROWS):
        return None
    return lambda *operands, **options: apply(name, (symbol, *operands), options)
