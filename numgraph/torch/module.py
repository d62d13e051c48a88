"""``Module``: a module of numgraph as one of torch's, whose gradients are those of numgraph's tape."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from numgraph import nn
from numgraph.arrays.inputs import kind_of
from numgraph.autodiff.tape import Parameter, Tape, Tensor, unwrap
from numgraph.bridges.torch import LIBRARY
from numgraph.errors import bad_type
from numgraph.torch.compiling import outside

Function = Callable[[Sequence[Any]], list[Any]]


class Module(torch.nn.Module):
    """A module of numgraph as a torch Module: ``Module(ng.nn.GCN(…))(g, x)`` takes tensors and gives tensors.

    Its parameters are the module's own, in the same memory, under their own names: a torch optimiser trains
    both, and what numgraph loads or saves is what torch sees. Buffers, such as running statistics, are
    torch's buffers. Gradients of every order come from numgraph's tape. ``train()`` and ``eval()`` act on
    both.

    Parameters
    ----------
    module : a ``numgraph.nn.Module``

    Notes
    -----
    While training, random numbers (dropout) come from torch's generator: ``torch.manual_seed`` fixes them,
    and whatever computes a call again (``torch.utils.checkpoint``, second derivatives) finds the same masks.
    Without gradients no tape is made. Arguments are given to the module as they are, tensors in them as
    arrays; tuples, lists and dicts of results come back as such.

    Raises
    ------
    TypeError : it is no module of numgraph

    Examples
    --------
    >>> import torch, numgraph as ng, numgraph.torch
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> model = numgraph.torch.Module(ng.nn.GCN(4, 8, 2))
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> model(g, torch.ones(3, 4)).sum().backward()
    >>> optimizer.step()
    """

    wrapped: nn.Module

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise bad_type(
                "numgraph.torch.Module",
                f"module is {kind_of(module)}",
                "pass a numgraph.nn.Module, such as numgraph.nn.GCN(…)",
            )
        self.wrapped = module
        self._trained = [(*self._holder(name), p) for name, p in module.named_parameters()]
        for holder, name, p in self._trained:
            holder.register_parameter(name, torch.nn.Parameter(LIBRARY.constant(p.data)))
        self._buffered: list[tuple[torch.nn.Module, str, nn.Module, str]] = []
        for prefix, inner in module._named_modules(""):
            for attribute in inner.buffers:
                if getattr(inner, attribute, None) is not None:
                    holder, name = self._holder(prefix + attribute)
                    holder.register_buffer(name, LIBRARY.constant(getattr(inner, attribute)))
                    self._buffered.append((holder, name, inner, attribute))
        super().train(module.training)

    def _holder(self, path: str) -> tuple[torch.nn.Module, str]:
        """The torch module that has what numgraph calls ``layers.0.weight``, and its name there."""
        *prefix, name = path.split(".")
        holder: torch.nn.Module = self
        for part in prefix:
            if part not in holder._modules:
                holder.add_module(part, torch.nn.Module())
            holder = holder._modules[part]  # type: ignore[assignment]
        return holder, name

    def train(self, mode: bool = True) -> Module:
        """Training mode of both; returns the module."""
        self.wrapped.train(mode)
        return super().train(mode)

    def forward(self, *args: Any, **options: Any) -> Any:
        """What the module gives for these arguments, as tensors."""
        return self._call(args, options)

    @outside(
        "a numgraph.torch.Module runs as it is, between compiled parts; numgraph.torch.nn has layers that "
        "are compiled"
    )
    def _call(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if torch._C._are_functorch_transforms_active():
            problem = "a transform of torch.func (grad, vmap, jvp, …) cannot look into a module of numgraph"
            raise bad_type(
                "numgraph.torch.Module",
                problem,
                "use torch.autograd, numgraph.torch.nn, or update_all with tensors",
            )
        self._share()
        inputs: list[torch.Tensor] = []
        call = _Call(self.wrapped, _lifted((args, options), torch.Tensor, inputs), self._buffered)
        weights = [holder._parameters[name] for holder, name, _ in self._trained]
        if torch.is_grad_enabled() and any(x.requires_grad for x in (*inputs, *weights)):  # type: ignore[union-attr]
            results = _Replay.apply(call, tuple([p for *_, p in self._trained]), *inputs, *weights)
        else:
            results = [
                LIBRARY.constant(np.asarray(unwrap(y))) for y in call([LIBRARY.plain(x) for x in inputs])
            ]
        return _lowered(call.result, results)

    def _share(self) -> None:
        """One memory for both again, if torch's tensors have moved, as by ``to`` or a copy of the module."""
        for holder, name, parameter in self._trained:
            array = LIBRARY.plain(holder._parameters[name])
            if not _is_same(array, parameter.data):
                parameter.data = array
        for holder, name, inner, attribute in self._buffered:
            array = LIBRARY.plain(holder._buffers[name])
            if not _is_same(array, getattr(inner, attribute)):
                setattr(inner, attribute, array)


def _is_same(x: np.ndarray, y: Any) -> bool:
    """Whether two arrays are the same numbers in the same memory."""
    return bool(
        x.dtype == y.dtype
        and x.__array_interface__["data"] == y.__array_interface__["data"]
        and x.strides == y.strides
    )


class _Place(NamedTuple):
    """Where the array with this number stands."""

    number: int


def _lifted(value: Any, kinds: Any, found: list[Any]) -> Any:
    """The value with places for its arrays, which are added to ``found``."""
    if isinstance(value, kinds):
        found.append(value)
        return _Place(len(found) - 1)
    if type(value) in (tuple, list):
        return type(value)([_lifted(item, kinds, found) for item in value])
    if type(value) is dict:
        return {key: _lifted(item, kinds, found) for key, item in value.items()}
    return value


def _lowered(value: Any, arrays: Sequence[Any]) -> Any:
    """The value with the arrays in their places."""
    if type(value) is _Place:
        return arrays[value.number]
    if type(value) in (tuple, list):
        return type(value)([_lowered(item, arrays) for item in value])
    if type(value) is dict:
        return {key: _lowered(item, arrays) for key, item in value.items()}
    return value


class _Call:
    """A call of a module as a function of its arrays, which gives the same results each time: random states
    are kept, and buffers change the first time only. ``result``: the last results, with places for arrays."""

    def __init__(
        self, module: nn.Module, arguments: Any, buffered: Sequence[tuple[Any, str, nn.Module, str]]
    ) -> None:
        self.module, self.arguments, self.is_first = module, arguments, True
        self.buffered = [(inner, attribute) for *_, inner, attribute in buffered]
        self.result: Any = None
        given: list[np.random.Generator] = []
        _lifted(arguments, np.random.Generator, given)
        self.given = [(generator, generator.bit_generator.state) for generator in given]
        self.own: list[tuple[np.random.Generator, Any]] = []
        generators = module._generators() if module.training else {}
        if generators:
            key = int(torch.randint(2**63 - 1, ()))
            for i, generator in enumerate(generators.values()):
                kind: Any = type(generator.bit_generator)
                self.own.append((generator, kind(np.random.SeedSequence([key, i])).state))

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        found: list[Any] = []
        with contextlib.ExitStack() as stack:
            stack.enter_context(_drawing(self.own if self.is_first else self.own + self.given))
            if not self.is_first:
                stack.enter_context(_unchanged(self.buffered))
            args, options = _lowered(self.arguments, arrays)
            self.result = _lifted(self.module(*args, **options), (Tensor, np.ndarray, np.generic), found)
        self.is_first = False
        return found


@contextlib.contextmanager
def _drawing(states: Sequence[tuple[np.random.Generator, Any]]) -> Iterator[None]:
    """Generators in the given states, then as they were."""
    before = [(generator, generator.bit_generator.state) for generator, _ in states]
    for generator, state in states:
        generator.bit_generator.state = state
    try:
        yield
    finally:
        for generator, state in before:
            generator.bit_generator.state = state


@contextlib.contextmanager
def _unchanged(buffered: Sequence[tuple[nn.Module, str]]) -> Iterator[None]:
    """Buffers are copies, then what they were."""
    before = [(inner, attribute, getattr(inner, attribute)) for inner, attribute in buffered]
    for inner, attribute, array in before:
        setattr(inner, attribute, array.copy())
    try:
        yield
    finally:
        for inner, attribute, array in before:
            setattr(inner, attribute, array)


class _Replay(torch.autograd.Function):
    """A function of arrays and Parameters, whose backward replays its tape; where that is differentiated it
    is a _Replay again.
    """

    @staticmethod
    def forward(
        ctx: Any, function: Function, parameters: tuple[Parameter, ...], *values: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        num, needs = len(values) - len(parameters), ctx.needs_input_grad[2:]
        tape = Tape(persistent=True)  # as torch may ask again, with retain_graph
        with tape:
            arrays, wanted = _watched(tape, [LIBRARY.plain(x) for x in values[:num]], needs, parameters)
            made = function(arrays)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*values)  # torch's check that they were not changed
        ctx.function, ctx.parameters, ctx.tape, ctx.made, ctx.wanted = (
            function,
            parameters,
            tape,
            made,
            wanted,
        )
        # copies: torch's in-place functions may change results, and the tape reads them
        results = tuple([LIBRARY.constant(np.array(unwrap(y))) for y in made])
        ctx.mark_non_differentiable(
            *[z for y, z in zip(made, results, strict=True) if not isinstance(y, Tensor)]
        )
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        values, needs, parameters, function = (
            ctx.saved_tensors,
            ctx.needs_input_grad[2:],
            ctx.parameters,
            ctx.function,
        )
        live = [i for i, grad in enumerate(grads) if grad is not None and isinstance(ctx.made[i], Tensor)]
        if not live:
            return (None,) * (2 + len(needs))
        if not torch.is_grad_enabled():
            seeds = [LIBRARY.plain(grads[i]) for i in live]
            found = [
                LIBRARY.constant(x) for x in _pulled(ctx.tape, [ctx.made[i] for i in live], seeds, ctx.wanted)
            ]
        else:
            num = len(values) - len(parameters)

            def vjp(arrays: Sequence[Any]) -> list[Any]:
                tape = Tape(persistent=True)
                with tape:
                    watched, wanted = _watched(tape, arrays[:num], needs, parameters)
                    made = function(watched)
                return _pulled(tape, [made[i] for i in live], arrays[num:], wanted)

            found = list(
                _Replay.apply(vjp, parameters, *values[:num], *[grads[i] for i in live], *values[num:])
            )
        left = iter(found)
        return (None, None, *[next(left) if need else None for need in needs])


def _watched(
    tape: Tape, arrays: Sequence[Any], needs: Sequence[bool], parameters: Sequence[Parameter]
) -> tuple[list[Any], list[Tensor]]:
    """The arrays, those that need gradients as Tensors of the tape; and all that needs gradients, in
    order.
    """
    watched = [tape.watch(x) if need else x for x, need in zip(arrays, needs[: len(arrays)], strict=True)]
    candidates = [*watched, *parameters]
    return watched, [x for x, need in zip(candidates, needs, strict=True) if need]


def _pulled(tape: Tape, made: Sequence[Any], seeds: Sequence[Any], wanted: list[Tensor]) -> list[Any]:
    """Σ seed · ∂made/∂wanted."""
    if len(made) == 1:
        return tape.gradient(made[0], wanted, seed=seeds[0])
    with tape:
        total = sum(np.sum(y * seed) for y, seed in zip(made, seeds, strict=True))
    return tape.gradient(total, wanted)
