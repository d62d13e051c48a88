"""What torch.compile does not look into."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

_OUTSIDE: dict[str, Callable[..., Any]] = {}


def outside(reason: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: torch.compile calls the function as it is, between two of its graphs; with fullgraph=True
    its error gives the reason.

    It is ``torch.compiler.disable`` from the first time that it matters: that imports the compiler.
    """
    return functools.partial(_outside, reason)


def _outside(reason: str, function: Callable[..., Any]) -> Callable[..., Any]:
    name = f"{function.__module__}.{function.__qualname__}"

    def is_ready() -> bool:
        if name not in _OUTSIDE:
            _OUTSIDE[name] = torch.compiler.disable(function, reason=reason)
        return True

    is_ready._dynamo_marked_constant = True  # type: ignore[attr-defined]  # run by torch.compile, not traced

    @functools.wraps(function)
    def called(*args: Any, **options: Any) -> Any:
        if torch.compiler.is_dynamo_compiling() and is_ready():
            return _OUTSIDE[name](*args, **options)
        return function(*args, **options)

    return called
