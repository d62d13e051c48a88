"""``rule``, the door through which NumPy functions learn to act on Tensors (dense fills the table)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.arrays.inputs import named
from numgraph.errors import bad_type, bad_value, did_you_mean

RULES: dict[Any, Callable[..., Any]] = {}


def rule(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: where an argument is a Tensor, the function acts in place of these; ``(ufunc, "reduce")``
    names a ufunc's method.
    """

    def register(implementation: Callable[..., Any]) -> Callable[..., Any]:
        for function in dict.fromkeys(functions):  # NumPy has several names for one function
            if function in RULES:
                raise bad_value("rule", f"{name_of(function)} has a rule already")
            RULES[function] = implementation
        return implementation

    return register


def rule_of(name: str) -> Callable[..., Any]:
    """The function that has registered for what a name stands for, for callers in rooms below its own."""
    return RULES[name]


def name_of(function: Any) -> str:
    return f"np.{function.__name__}" if hasattr(function, "__name__") else str(function)


def no_rule(function: Any) -> TypeError:
    name = f"np.{function[0].__name__}.{function[1]}" if isinstance(function, tuple) else named(function)
    known = {f.__name__: f for f in RULES if hasattr(f, "__name__")}
    near = did_you_mean(name.split(".")[-1], known)
    fix = (
        "build it from functions that have one, or pass tensor.data for the numbers alone, without a gradient"
    )
    return bad_type(name, f"has no derivative rule, and an argument is a Tensor{near}", fix)


def of_scipy(key: Any) -> Callable[..., Any] | None:
    """The rule of a ufunc of scipy.special, which goes by its name."""
    name = getattr(key, "__name__", "")
    if getattr(sys.modules.get("scipy.special"), name, None) is not key:
        return None
    return RULES.get(f"scipy.special.{name}")


class _Direct:
    """NumPy's functions of Tensors: the rules themselves, which NumPy's dispatch would find after a
    microsecond or two.
    """

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)

        def call(*args: Any, **options: Any) -> Any:
            return RULES.get(function, function)(*args, **options)  # a profile may have put another in

        self.__dict__[name] = call
        return call


direct: Any = _Direct()
