"""The operator ``numgraph::walk``: what torch's tracers (torch.compile, export, make_fx) see of a walk.
Everything static in it is text.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

import torch

from numgraph.arrays.lookup import framework
from numgraph.bridges import torch_text
from numgraph.bridges.torch_arrays import run, tensor, torch_dtype
from numgraph.dense.masks import fill
from numgraph.message.propagate import Walk

_LIBRARY = torch.library.Library("numgraph", "DEF")
_LIBRARY.define("kept(Tensor key, SymInt[] shape, float p) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))
_LIBRARY.define(
    "walk(Tensor[] fields, str walk, str keys, str graph) -> Tensor[]", tags=(torch.Tag.pt2_compliant_tag,)
)


@functools.lru_cache(maxsize=1024)
def _walk(walk: str, keys: str, graph: str) -> Walk:
    return Walk(
        "walk", torch_text.graph_of(graph), torch_text.read(walk), tuple(map(tuple, json.loads(keys))), False
    )


@functools.lru_cache(maxsize=1024)
def _written(keys: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(keys)


def call(walk: Walk, fields: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The walk as a call of the operator."""
    texts = torch_text.written(walk.outputs), _written(walk.keys), torch_text.name_of(walk.graph)
    return tuple(torch.ops.numgraph.walk.default(list(fields), *texts))


def _run(fields: list[torch.Tensor], walk: str, keys: str, graph: str) -> list[torch.Tensor]:
    return list(run(_walk(walk, keys, graph), fields))


def _fake(fields: list[torch.Tensor], walk: str, keys: str, graph: str) -> list[torch.Tensor]:
    return [
        fields[0].new_empty(shape, dtype=torch_dtype(dtype))
        for shape, dtype in _walk(walk, keys, graph).results()
    ]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[torch.Tensor]) -> None:
    fields, *texts = inputs
    ctx.walk = walk = _walk(*texts)
    ctx.num = len(output)
    ctx.set_materialize_grads(False)
    ctx.needs = tuple([x.requires_grad for x in fields])
    wanted = tuple([key for key, need in zip(walk.keys, ctx.needs, strict=True) if need])
    ctx.kept = walk.reads(wanted) if wanted else ((), ())
    ctx.save_for_backward(*[fields[i] for i in ctx.kept[0]], *[output[i] for i in ctx.kept[1]])
    integers = [y for y in output if not y.is_floating_point()]
    if integers:
        ctx.mark_non_differentiable(*integers)


def _backward(ctx: Any, grads: Sequence[torch.Tensor | None]) -> tuple[Any, ...]:
    saved = iter(ctx.saved_tensors)
    values: list[Any] = [None] * len(ctx.walk.keys)
    made: list[Any] = [None] * ctx.num
    for kept, into in zip(ctx.kept, (values, made), strict=True):
        for i in kept:
            into[i] = next(saved)
    return ctx.walk.gradients(framework("torch"), values, grads, made, ctx.needs), None, None, None


def _vmap(
    info: Any, dims: tuple[Any, ...], fields: list[torch.Tensor], *texts: str
) -> tuple[list[torch.Tensor], list[int]]:
    walk = _walk(*texts)
    which = {key for key, dim in zip(walk.keys, dims[0], strict=True) if dim is not None}
    moved = [
        x if dim is None else x.movedim(dim, 0 if key[0] == "shared" else 1)
        for key, x, dim in zip(walk.keys, fields, dims[0], strict=True)
    ]
    made = call(walk.batched(info.batch_size, which), moved)
    return list(made), [1] * len(made)


def _kept(key: torch.Tensor, shape: Sequence[int], p: float) -> torch.Tensor:
    """The mask of dropout, by a key that is known when it runs."""
    return tensor(fill(int(key.item()) % 2**64, tuple(shape), p))


def _kept_batch(
    info: Any, dims: tuple[Any, ...], key: torch.Tensor, shape: Sequence[int], p: float
) -> tuple[torch.Tensor, int]:
    return torch.stack([torch.ops.numgraph.kept(one, shape, p) for one in key.unbind(dims[0])]), 0


_LIBRARY.impl("kept", _kept, "CPU")
torch.library.register_fake(
    "numgraph::kept", lambda key, shape, p: key.new_empty(shape, dtype=torch.bool), lib=_LIBRARY
)
torch.library.register_vmap("numgraph::kept", _kept_batch, lib=_LIBRARY)
for _device in ("CPU", "CUDA"):
    _LIBRARY.impl("walk", _run, _device)
torch.library.register_fake("numgraph::walk", _fake, lib=_LIBRARY)
torch.library.register_autograd("numgraph::walk", _backward, setup_context=_keep, lib=_LIBRARY)
torch.library.register_vmap("numgraph::walk", _vmap, lib=_LIBRARY)
