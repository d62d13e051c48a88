"""torch.compile: a call of a public function is one node of the traced graph, which is traced in its turn as
walks (torch_operator).
"""

from __future__ import annotations

import operator
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from numgraph.bridges.torch_reads import varying

_CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {}
"""Functions and their arguments by names that no other process has, with places where the tensors stand."""


class _Place:
    """Where an argument is a tensor: the number of it."""

    def __init__(self, number: int) -> None:
        self.number = number


def traced(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    options: dict[str, Any],
    messages: tuple[Any, ...] = (),
) -> Any:
    """A node for function(*args, **options). This is itself traced: it takes the tensors out of the
    arguments.

    Where one of the messages reads what may change unseen, the call runs as it is between two compiled parts.
    """
    for message in messages:
        found = varying(message)
        if found is not None:
            # with fullgraph=True this is torch's error, and shows the text
            torch._dynamo.graph_break(
                msg=f"numgraph.{function.__name__}: the message reads {found} from outside; {_FIX}"
            )
            return between(function, *args, **options)
    tensors: list[torch.Tensor] = []
    described = [_described(x, tensors) for x in (*args, *options.values())]
    name = _named(function, tuple(options), *described)
    return _called(name, tensors)


@torch.compiler.disable(
    reason="numgraph reads numbers here that compiled code has not: give lists of offsets and ids, make "
    "graphs outside"
)
def between(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """The call as it is, between two compiled parts."""
    return function(*args, **options)


_FIX = (
    "pass it as a field, such as v={'a': a.expand(num_dst, …)}, a constant as a plain number; or compile "
    "without fullgraph=True"
)


def _described(x: Any, tensors: list[torch.Tensor]) -> Any:
    if isinstance(x, np.ndarray):  # of which torch makes a tensor wherever it traces
        x = torch.as_tensor(x)
    if isinstance(x, torch.Tensor):
        for length in x.shape:
            operator.index(length)  # dynamic lengths become fixed ones: kernels are planned for them
        tensors.append(x)
        return ("tensor", len(tensors) - 1)
    if isinstance(x, dict):
        return ("dict", tuple(x), tuple([_described(y, tensors) for y in x.values()]))
    return operator.index(x) if isinstance(x, int) and not isinstance(x, bool) else x


@torch.compiler.assume_constant_result
def _named(function: Callable[..., Any], names: tuple[str, ...], *described: Any) -> str:
    """Keep a call under a name."""
    values = [_placed(x) for x in described]
    split = len(values) - len(names)
    name = uuid.uuid4().hex
    _CALLS[name] = function, tuple(values[:split]), dict(zip(names, values[split:], strict=True))
    return name


def _placed(x: Any) -> Any:
    if isinstance(x, tuple) and x and x[0] == "tensor":
        return _Place(x[1])
    if isinstance(x, tuple) and x and x[0] == "dict":
        return dict(zip(x[1], map(_placed, x[2]), strict=True))
    return x


@torch.compiler.allow_in_graph
def _called(name: str, tensors: list[torch.Tensor]) -> Any:
    function, args, options = _CALLS[name]

    def filled(x: Any) -> Any:
        if isinstance(x, _Place):
            found = tensors[x.number]
            return (
                found.view([int(n) for n in found.shape])
                if any(isinstance(n, torch.SymInt) for n in found.shape)
                else found
            )
        return {key: filled(y) for key, y in x.items()} if isinstance(x, dict) else x

    return function(*map(filled, args), **{key: filled(x) for key, x in options.items()})
