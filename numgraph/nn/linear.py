"""Linear, and the containers Sequential and MLP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgraph.arrays.inputs import generator, given, is_sparse, kind_of
from numgraph.dense import elu, gelu, leaky_relu, matmul, relu, silu, softplus
from numgraph.dense.activations import biased
from numgraph.errors import bad_type, bad_value, check_name, shown
from numgraph.expressions.precision import floating
from numgraph.nn import init
from numgraph.nn.module import Module, check_activation, check_size
from numgraph.nn.norm import normalisation
from numgraph.nn.typed import of_features


class Linear(Module):
    """y = x W + b.

    Parameters
    ----------
    in_features, out_features : widths
    bias : have b
    rng, dtype : of the parameters' first values;
        weight, [in_features, out_features], begins with ``init.glorot``, bias, [out_features], with zeros

    Notes
    -----
    Called as ``linear(x)``: x [..., in_features], an array, a Tensor, or a constant SciPy sparse matrix.
    Returns [..., out_features].

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.nn.Linear(4, 2, rng=0)(np.ones((3, 4), np.float32)).shape
    (3, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        check_size("Linear", in_features=in_features, out_features=out_features)
        self.weight = init.glorot(generator(type(self).__name__, rng), (in_features, out_features), dtype)
        self.bias = init.zeros((out_features,), dtype) if bias else None

    @of_features
    def forward(self, x: Any) -> Any:
        y = self.project(x)
        return biased(y, self.bias)

    def project(self, x: Any) -> Any:
        """x W, without the bias."""
        x = x if is_sparse(x) else given("Linear", "x", x)
        if x.shape[-1:] != self.weight.shape[:1]:
            width = self.weight.shape[0]
            raise bad_value(
                "Linear", f"x has shape {list(x.shape)} and in_features is {width}", f"x is [..., {width}]"
            )
        return matmul(floating(x, self.weight.dtype), self.weight)


class Sequential(Module):
    """The steps one after the other.

    Parameters
    ----------
    steps : each a Module or a function of one array, such as ``numgraph.relu``

    Notes
    -----
    Called as ``model(x)``; returns what the last step does.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> model = ng.nn.Sequential(ng.nn.Linear(4, 8, rng=0), ng.relu, ng.nn.Linear(8, 2, rng=1))
    >>> model(np.ones((3, 4), np.float32)).shape
    (3, 2)
    """

    def __init__(self, *steps: Callable[[Any], Any]) -> None:
        for i, step in enumerate(steps):
            if not callable(step) or isinstance(step, type):
                fix = (
                    "pass them one by one, Sequential(*steps)"
                    if isinstance(step, list | tuple)
                    else "a step is a Module or a function"
                )
                raise bad_type(type(self).__name__, f"step {i} is {kind_of(step)}", fix)
        self.steps = list(steps)

    @of_features
    def forward(self, x: Any) -> Any:
        return self.run(x)

    def run(self, x: Any, start: int = 0) -> Any:
        """The steps from number ``start`` on."""
        for step in self.steps[start:]:
            x = step(x)
        return x


_ACTIVATIONS = {f.__name__: f for f in (relu, leaky_relu, elu, gelu, silu, softplus)} | {"tanh": np.tanh}


def activation_of(op: str, act: Any) -> Callable[[Any], Any] | None:
    """The function that ``act`` names, or is; None is none."""
    if isinstance(act, str):
        check_name(op, "act", act, _ACTIVATIONS)
        return _ACTIVATIONS[act]
    found: Callable[[Any], Any] | None = check_activation(op, act)
    return found


class MLP(Sequential):
    """Linear layers of the given widths with an activation between them, ``MLP([in, hidden, out])``.

    Parameters
    ----------
    widths : of the input, of what is between, and of the output
    norm : None, or "batch" (also True), "layer" or a function of a width that makes a Module,
        which stands before each activation
    act : a function, or its name
    rng, dtype : of the parameters' first values

    Notes
    -----
    Called as ``mlp(x)``: x [..., in]. Returns [..., out].

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.nn.MLP([4, 16, 2], norm="layer", rng=0)(np.ones((3, 4), np.float32)).shape
    (3, 2)
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        norm: Any = None,
        act: Any = relu,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        if not hasattr(widths, "__len__") or isinstance(widths, str):
            raise bad_type(
                "MLP", f"widths is {shown(widths)}", "give the widths of all layers, [in, hidden, out]"
            )
        rng, act = generator(type(self).__name__, rng), activation_of("MLP", act)
        norm = {True: "batch", False: None}[norm] if isinstance(norm, bool) else norm
        steps: list[Callable[[Any], Any]] = []
        for i in range(len(widths) - 1):
            if steps:
                if norm is not None:
                    steps.append(normalisation("MLP", norm, widths[i], dtype))
                if act is not None:
                    steps.append(act)
            steps.append(Linear(widths[i], widths[i + 1], rng=rng, dtype=dtype))
        super().__init__(*steps)
