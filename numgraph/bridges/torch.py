"""PyTorch: a walk is an autograd.Function, whose backward is walks again.

Only what the backward reads is saved, so that results may be changed in place where it reads none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad
from torch.utils._pytree import register_pytree_node

from numgraph import errors
from numgraph.arrays import Library
from numgraph.arrays.devices import cupy
from numgraph.arrays.inputs import kind_of
from numgraph.autodiff.leaves import Leaf, changed_of, leaf_of
from numgraph.bridges import torch_messages
from numgraph.bridges.torch_arrays import NUMPY_DTYPES, numpy_dtype, plain, run, tensor, torch_dtype
from numgraph.graph import Graph
from numgraph.message.propagate import Walk

_functorch_is_active = torch._C._are_functorch_transforms_active
_functorch = torch._C._functorch
_num_modes = torch._C._len_torch_dispatch_stack
_is_jit_tracing = torch._C._is_tracing
_is_grad_enabled = torch.is_grad_enabled
_PLAIN = frozenset((torch.Tensor, torch.nn.Parameter))


def _keep(ctx: Any, walk: Walk, values: Sequence[Any], made: Sequence[torch.Tensor]) -> None:
    """Note for the backward what it reads."""
    ctx.walk, ctx.num = walk, len(made)
    ctx.set_materialize_grads(False)
    wanted = tuple([key for key, need in zip(walk.keys, ctx.needs_input_grad[1:], strict=True) if need])
    if wanted:
        fields, results = walk.reads(wanted)
        ctx.constants = {i: values[i] for i in fields if not isinstance(values[i], torch.Tensor)}
        ctx.leaves = {i: leaf_of(x) for i, x in ctx.constants.items()}
        ctx.kept = fields, results = tuple([i for i in fields if i not in ctx.constants]), results
        ctx.save_for_backward(*[values[i] for i in fields], *[made[i] for i in results])
    integers = [y for y in made if not y.is_floating_point()]
    if integers:
        ctx.mark_non_differentiable(*integers)


def _check_unchanged(walk: Walk, leaves: dict[int, Leaf | None]) -> None:
    """Arrays of NumPy are what they were: torch watches its tensors alone."""
    for i in changed_of(leaves):
        target, field = walk.keys[i]
        name = "an array that the message captures" if target == "shared" else f"field {target}.{field}"
        shape = list(leaves[i][1].shape)  # type: ignore[index]
        problem = f"{name}, of shape {shape}, was changed between the call and its backward"
        raise errors.bad_value(walk.name, problem, "change it after the backward, or pass a copy")


class _Recorded(torch.autograd.Function):
    """What autograd alone needs, called by ``_apply``."""

    @staticmethod
    def forward(ctx: Any, walk: Walk, *values: Any) -> tuple[torch.Tensor, ...]:
        made = run(walk, values)
        _keep(ctx, walk, values, made)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        (fields, results), saved = ctx.kept, ctx.saved_tensors
        _check_unchanged(ctx.walk, ctx.leaves)
        values: list[Any] = [ctx.constants.get(i) for i in range(len(ctx.walk.keys))]
        for i, x in zip(fields, saved, strict=False):
            values[i] = x
        made: list[Any] = [None] * ctx.num
        for i, x in zip(results, saved[len(fields) :], strict=True):
            made[i] = x
        needs = ctx.needs_input_grad[1:]
        if any(g is not None and _is_batch(g) for g in grads):
            return (
                None,
                *_of_batch(lambda grads: ctx.walk.gradients(LIBRARY, values, grads, made, needs), grads),
            )
        return (None, *ctx.walk.gradients(LIBRARY, values, grads, made, needs))


_is_batch = _functorch.is_legacy_batchedtensor


def _of_batch(derivative: Callable[[Sequence[Any]], Sequence[Any]], seeds: Sequence[Any]) -> list[Any]:
    """A derivative for a batch of seeds, as ``is_grads_batched`` and ``vectorize`` give it: by torch.func's
    vmap in place of theirs.
    """
    level = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    which = [i for i, seed in enumerate(seeds) if seed is not None and _is_batch(seed)]
    there: list[bool] = []

    def of_one(*batched: Any) -> tuple[Any, ...]:
        given = list(seeds)
        for i, seed in zip(which, batched, strict=True):
            given[i] = seed
        found = derivative(given)
        there[:] = [x is not None for x in found]
        return tuple([x for x in found if x is not None])

    made = iter(torch.func.vmap(of_one)(*[torch._remove_batch_dim(seeds[i], level, 0, 0) for i in which]))
    return [
        torch._add_batch_dim(next(made).contiguous(), 0, level) if one else None for one in there
    ]  # as forward mode wants them


_apply = torch._C._FunctionBase.__dict__["apply"].__get__(None, _Recorded)
"""Without what torch's own ``apply`` does for the transforms of torch.func, which with a ``setup_context``
costs 20 µs a call.
"""


class _Transformed(torch.autograd.Function):
    """The same for vmap, grad and jvp of torch.func, and for forward mode."""

    @staticmethod
    def forward(walk: Walk, *values: Any) -> tuple[torch.Tensor, ...]:
        return _by_operator(walk, values) if _num_modes() else run(walk, values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], made: tuple[Any, ...]) -> None:
        walk, *values = inputs
        _keep(ctx, walk, values, made)
        ctx.given = [None if isinstance(x, torch.Tensor) else x for x in values]
        ctx.save_for_forward(*[x for x in values if isinstance(x, torch.Tensor)], *made)

    backward = staticmethod(_Recorded.backward)

    @staticmethod
    def jvp(ctx: Any, _: Any, *tangents: Any) -> tuple[Any, ...]:
        with forward_ad._set_fwd_grad_enabled(
            True
        ):  # torch turns forward mode off here, also for the levels around this one
            saved = [forward_ad.unpack_dual(x).primal for x in ctx.saved_tensors]
            rest = iter(saved)
            values = [next(rest) if x is None else x for x in ctx.given]
            made = saved[len(saved) - ctx.num :]
            if any(t is not None and _is_batch(t) for t in tangents):
                return tuple(
                    _of_batch(lambda tangents: _tangents(ctx.walk, values, made, tangents), tangents)
                )
            return _tangents(ctx.walk, values, made, tangents)

    @staticmethod
    def vmap(info: Any, dims: tuple[Any, ...], walk: Walk, *values: Any) -> tuple[Any, Any]:
        """One walk over the batch: it is the first feature axis of the fields that have it, and of all
        results.
        """
        which = {key for key, dim in zip(walk.keys, dims[1:], strict=True) if dim is not None}
        moved = [
            x if dim is None else x.movedim(dim, 0 if key[0] == "shared" else 1)
            for key, x, dim in zip(walk.keys, values, dims[1:], strict=True)
        ]
        made = _Transformed.apply(walk.batched(info.batch_size, which), *moved)
        return made, (1,) * len(made)


def _tangents(
    walk: Walk, values: Sequence[Any], made: Sequence[Any], tangents: Sequence[Any]
) -> tuple[Any, ...]:
    """J·t: the transpose Jᵀ·g of a walk is linear in g, and J·t is the transpose of that."""
    needs = [t is not None for t in tangents]

    def transposed(*grads: Any) -> tuple[Any, ...]:
        arrived = iter(grads)
        given = [next(arrived) if y.is_floating_point() else None for y in made]
        found = walk.gradients(LIBRARY, values, given, made, needs)
        return tuple(
            [
                torch.zeros_like(x) if g is None else g
                for x, g, need in zip(values, found, needs, strict=True)
                if need
            ]
        )

    pull = torch.func.vjp(transposed, *[torch.zeros_like(y) for y in made if y.is_floating_point()])[1]
    out = iter(pull(tuple([t for t in tangents if t is not None])))
    return tuple([next(out) if y.is_floating_point() else None for y in made])


def _by_operator(walk: Walk, values: Sequence[Any]) -> tuple[torch.Tensor, ...]:
    """For tracers and other modes that see torch's operators."""
    from numgraph.bridges import torch_operator

    if any(isinstance(x, torch.Tensor) and type(x) not in _PLAIN for x in values):
        for key, x in zip(walk.keys, values, strict=True):
            if key[0] == "shared" and type(x) in _PLAIN:
                problem = (
                    f"a message captures a tensor of shape {list(x.shape)}, which a compiled function cannot"
                )
                raise errors.bad_type(
                    "torch.compile", problem, "pass it as a field, expanded to a row for each node or edge"
                )
    return torch_operator.call(
        walk, [x if isinstance(x, torch.Tensor) else LIBRARY.constant(x) for x in values]
    )


def _is_functionalized() -> bool:
    """Whether the next of torch.func's transforms is functionalize, which has a rule for operators alone."""
    top = _functorch.peek_interpreter_stack()
    return top is not None and top.key() == _functorch.TransformType.Functionalize


class Torch(Library):
    """torch.Tensor and its subclasses."""

    name = "torch"
    has_autodiff = True
    moving = "bring both to one device: graph.to(device), tensor.to(device)"
    fetching = "cpu()"

    def owns(self, kind: type) -> bool:
        return issubclass(kind, torch.Tensor | torch.fx.Proxy)

    def namespace(self, x: Any) -> Any:
        return cupy() if x.is_cuda else np

    def adopted(self, x: Any) -> Any:
        return plain(x) if x.is_cuda else x

    def device(self, x: Any) -> str:
        return "cpu" if not isinstance(x, torch.Tensor) or x.is_cpu else x.device.type

    def dtype(self, x: Any) -> np.dtype[Any]:
        found = NUMPY_DTYPES.get(x.dtype) or (
            numpy_dtype(x.dtype) if isinstance(x, torch.Tensor) else x.dtype
        )
        assert found is not None, "``taken`` has seen it"
        return found

    def fits(self, x: Any, device: str) -> bool:
        if (
            type(x) not in _PLAIN
            or _is_jit_tracing()
            or x.dtype not in NUMPY_DTYPES
            or x.layout is not torch.strided
            or x.is_nested
        ):
            return False
        return x.is_cpu if device == "cpu" else x.is_cuda and x.device.index == torch.cuda.current_device()

    def taken(self, op: str, what: str, x: Any) -> Any:
        if isinstance(x, torch.fx.Proxy) or _is_jit_tracing():
            tracer = "torch.fx.symbolic_trace" if isinstance(x, torch.fx.Proxy) else "torch.jit.trace"
            raise errors.bad_type(
                op,
                f"{what} is a tensor within {tracer}, which cannot hold a walk",
                "use torch.compile or torch.export",
            )
        if not isinstance(x, torch.Tensor):
            return x
        if isinstance(x, torch.masked.MaskedTensor):
            raise errors.bad_type(
                op,
                f"{what} is a MaskedTensor",
                "give x.to_tensor(value), with a number where the mask is False",
            )
        if x.layout is not torch.strided:
            raise errors.bad_type(
                op,
                f"{what} is a tensor of layout {str(x.layout).removeprefix('torch.')}",
                "give x.to_dense()",
            )
        if x.is_nested:
            raise errors.bad_type(
                op, f"{what} is a nested tensor", "give one tensor of all rows, as torch.cat(x.unbind())"
            )
        if any(isinstance(n, torch.SymInt) for n in x.shape):
            raise errors.bad_type(
                op,
                f"{what} has a shape with symbols, {list(x.shape)}",
                "trace with fixed shapes, as tracing_mode='fake'",
            )
        if x.is_meta:
            raise errors.bad_type(
                op, f"{what} is a tensor on the device meta, without numbers", "give one that has them"
            )
        if x.is_cuda and x.device.index != torch.cuda.current_device():
            now = f"the current device is cuda:{torch.cuda.current_device()}"
            raise errors.bad_type(
                op, f"{what} is on {x.device}, {now}", f"call it within torch.cuda.device({x.device.index})"
            )
        if numpy_dtype(x.dtype) is None:
            fix = "give x.dequantize()" if x.is_quantized else "convert it, as in x.float()"
            raise errors.bad_type(op, f"{what} has dtype {str(x.dtype).removeprefix('torch.')}", fix)
        return x

    def plain(self, x: Any) -> Any:
        return plain(x)

    def constant(self, array: Any) -> Any:
        made = tensor(array)
        return torch.ops.aten.lift_fresh_copy(made) if _num_modes() else made

    def detached(self, x: Any) -> Any:
        return x.detach()

    def cast(self, x: Any, dtype: Any) -> Any:
        return x.to(torch_dtype(dtype)) if isinstance(x, torch.Tensor) else x.astype(dtype)

    def sum(self, x: Any, axes: tuple[int, ...], keepdims: bool = False) -> Any:
        return x.sum(dim=axes, keepdim=keepdims) if axes else x

    def take(self, x: Any, ids: np.ndarray) -> Any:
        return x[self.constant(ids)]

    def concatenated(self, parts: Sequence[Any], axis: int = 0) -> Any:
        return torch.cat(list(parts), axis)

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        return torch.where(condition, x, y)

    def in_message(self, function: Any, operands: tuple[Any, ...], options: dict[str, Any]) -> Any:
        return torch_messages.apply(function, operands, options)

    def method(self, symbol: Any, name: str) -> Any:
        return torch_messages.method(symbol, name)

    def kept(
        self, op: str, rng: Any, shape: tuple[int, ...], p: float, like: Any, fill: Callable[..., Any]
    ) -> Any:
        if isinstance(rng, np.random.Generator):
            return tensor(fill(rng.bit_generator.random_raw(), shape, p)).to(like.device)
        if rng is not None and not isinstance(rng, torch.Generator):
            raise errors.bad_type(
                op,
                f"rng is {kind_of(rng)}",
                "pass torch.Generator().manual_seed(seed), or leave it out for torch's own",
            )
        if not like.is_cpu:
            return torch.rand(shape, generator=rng, device=like.device) >= p
        key = torch.randint(-(2**63), 2**63 - 1, (), generator=rng, device="cpu")
        if (
            _num_modes() or _functorch_is_active()
        ):  # where the key may have no value yet, or one for each of a batch
            from numgraph.bridges import torch_operator  # noqa: F401  (defines the operator)

            return torch.ops.numgraph.kept(key, shape, p)
        return tensor(fill(key.item() % 2**64, shape, p))

    def propagate(self, walk: Walk, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if _functorch_is_active() or forward_ad._current_level >= 0:
            if _is_functionalized():
                return _by_operator(walk, values)
            return _Transformed.apply(walk, *values)
        if _num_modes():
            return _by_operator(walk, values)
        if _is_grad_enabled():
            for x in values:
                if isinstance(x, torch.Tensor) and x.requires_grad:
                    return _apply(walk, *values)
        return run(walk, values)


LIBRARY = Torch()

# torch.export and vmap take a graph among their arguments as a constant
register_pytree_node(Graph, lambda g: ([], g), lambda _, g: g, flatten_with_keys_fn=lambda g: ([], g))
