"""Tensors of torch on a CUDA device, without one: they say that they are there, their numbers are in the
host's memory, and torch's autograd differentiates them as any others. Nobody can read them as the host's:
without storage ``numpy()`` and ``data_ptr()`` raise.

They meet the library of device.py as torch's and CuPy's arrays meet: by ``from_dlpack`` in either direction,
and ``ExternalStream``. Every such meeting is in ``events``. What cannot be seen here: the transforms of
torch.func, which hide what a tensor says of itself."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from device import DeviceArray
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from numgraph.bridges import torch as bridge
from numgraph.compiler import cuda as kernels

events: list[tuple[str, int, int]] = []
"""What happened, CuPy's stream at that time (0, or the one of an ExternalStream), and the address of what was
passed.
"""
_cupy_stream = [0]
_current = {"stream": 11, "device": 0}
"""What torch.cuda says."""


class CudaTensor(torch.Tensor):
    """A tensor on the device of a number."""

    host: torch.Tensor
    index: int

    @staticmethod
    def __new__(cls, host: torch.Tensor, index: int = 0) -> CudaTensor:
        layout = {"strides": host.stride(), "storage_offset": host.storage_offset(), "dtype": host.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, host.shape, **layout)
        made.host, made.index = host, index
        return made

    is_cpu = property(lambda self: False)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    device = property(lambda self: torch.device("cuda", self.index))  # type: ignore[assignment]

    def cpu(self) -> torch.Tensor:
        return self.host

    def __repr__(self, *args: Any, **options: Any) -> str:
        return f"CudaTensor({list(self.shape)}, {self.dtype})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given: list[CudaTensor] = []

        def host(x: torch.Tensor) -> torch.Tensor:
            if isinstance(x, CudaTensor):
                given.append(x)
                return x.host
            if x.ndim:  # torch takes numbers from the host alone
                raise RuntimeError(f"Expected all tensors to be on the same device, in {func}")
            return x

        args, kwargs = tree_map_only(torch.Tensor, host, (args, kwargs or {}))
        if len({x.index for x in given}) > 1:
            raise RuntimeError(f"Expected all tensors to be on the same device, in {func}")
        out = func(*args, **kwargs)
        return tree_map_only(torch.Tensor, lambda x: CudaTensor(x, given[0].index), out)


class _There(TorchFunctionMode):
    """Functions that make a tensor on "cuda" make one here."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        place = kwargs.pop("device", None)
        if place is None and getattr(func, "__name__", "") == "to" and isinstance(args[1], torch.device):
            place, args = args[1], args[:1]
            made = args[0].host if isinstance(args[0], CudaTensor) else args[0]
        elif place is None or torch.device(place).type != "cuda":
            return func(*args, **kwargs, **({} if place is None else {"device": place}))
        else:
            made = func(*args, **kwargs)
        return CudaTensor(made, place.index or 0) if torch.device(place).type == "cuda" else made


class _ExternalStream:
    def __init__(self, pointer: int) -> None:
        self.pointer = pointer

    def __enter__(self) -> None:
        self.before = _cupy_stream[0]
        _cupy_stream[0] = self.pointer

    def __exit__(self, *error: Any) -> None:
        _cupy_stream[0] = self.before


def _to_cupy(x: Any) -> DeviceArray:
    """cupy.from_dlpack."""
    assert type(x) is CudaTensor
    assert not x.requires_grad, "torch does not export what needs a gradient"
    assert x.dtype is not torch.bfloat16, "CuPy has no such dtype in DLPack"
    events.append(("in", _cupy_stream[0], x.host.data_ptr()))
    return DeviceArray(x.host.numpy())


def _to_torch(x: Any) -> CudaTensor:
    """torch.from_dlpack."""
    assert isinstance(x, DeviceArray)
    events.append(("out", _cupy_stream[0], x._host.ctypes.data))
    return CudaTensor(torch.from_numpy(x._host), _current["device"])


def cupy_stream() -> int:
    """The stream on which CuPy works now."""
    return _cupy_stream[0]


@contextmanager
def on(stream: int = 11, device: int = 0) -> Any:
    """torch.cuda.stream and torch.cuda.device."""
    before = dict(_current)
    _current.update(stream=stream, device=device)
    try:
        yield
    finally:
        _current.update(before)


def cuda(x: Any, index: int = 0) -> CudaTensor:
    """A tensor or array as a leaf on the device."""
    host = torch.from_numpy(x) if isinstance(x, np.ndarray) else x
    return CudaTensor(host.detach().clone(), index).requires_grad_(host.requires_grad)


@contextmanager
def tensors(monkeypatch: pytest.MonkeyPatch, device: Any) -> Any:
    """While a test runs on ``device``, device.py's, these are tensors of its kind."""
    execute = kernels.execute

    def watched(*args: Any) -> Any:
        events.append(("run", _cupy_stream[0], 0))
        return execute(*args)

    monkeypatch.setattr(kernels, "execute", watched)
    monkeypatch.setattr(device, "from_dlpack", _to_cupy, raising=False)
    monkeypatch.setattr(device.cuda, "ExternalStream", _ExternalStream, raising=False)
    monkeypatch.setattr(torch, "from_dlpack", _to_torch)
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda: type("Stream", (), {"cuda_stream": _current["stream"]})
    )
    monkeypatch.setattr(torch.cuda, "current_device", lambda: _current["device"])
    monkeypatch.setattr(bridge, "_PLAIN", bridge._PLAIN | {CudaTensor})
    events.clear()
    with _There():
        yield
