"""Where arrays live: the host ("cpu": NumPy) or the current CUDA device ("cuda": CuPy).

What runs on both is written with NumPy functions, which find CuPy's through NumPy's protocols; a function
that makes an array from numbers alone (zeros, arange, eye) is taken from ``namespace_of`` an array at hand.
CuPy is imported when a device is first asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from numgraph.arrays import cupy as cupy_arrays
from numgraph.arrays import library_of
from numgraph.errors import bad_type, bad_value, check_name, missing, no_device

DEVICES = ("cpu", "cuda")

ATOMICS = ContextVar("ATOMICS", default=False)
"""Whether walks on a device may add with atomic operations (see atomics)."""


def namespace_of(*arrays: Any) -> Any:
    """The module, numpy or cupy, that makes arrays where these are: cupy if one of them is on the device."""
    for array in arrays:
        if type(array) is not np.ndarray:
            found = library_of(array).namespace(array)
            if found is not np:
                return found
    return np


def cupy() -> Any:
    """The module."""
    return cupy_arrays.module()


def device_of(*arrays: Any) -> str:
    """ "cuda" if one of the arrays is there, else "cpu"."""
    return "cpu" if namespace_of(*arrays) is np else "cuda"


def adopted(array: Any) -> Any:
    """An array of another library on the device (torch, numba, …) as CuPy array of the same memory; anything
    else as it is.
    """
    return library_of(array).adopted(array)


MOVE = "bring both to one device: graph.to(device), module.to(device), cupy.asarray(array) or array.get()"


def same_device(op: str, **arrays: Any) -> None:
    """An error if some of the arrays are on the host and others on the device; numbers, lists and None may be
    anywhere.
    """
    for x in arrays.values():
        if type(x) is not np.ndarray and x is not None:
            break
    else:  # as nearly always
        return
    places = {
        name: device_of(x)
        for name, x in arrays.items()
        if hasattr(x, "shape") and not isinstance(x, np.generic)
    }
    if len(set(places.values())) > 1:
        raise bad_type(op, ", ".join(f"{name} is on {place}" for name, place in places.items()), MOVE)


def computed(op: str, function: Callable[..., Any], *operands: Any) -> Any:
    """``function(*operands)``; where it fails, the error says what the operands are, also where host and
    device arrays meet in it.
    """
    try:
        return function(*operands)
    except (TypeError, ValueError) as error:
        if any(
            hasattr(type(x), "__elementary__") for x in operands
        ):  # a message's symbol, which says itself what is wrong
            raise
        same_device(op, **{f"operand {number}": x for number, x in enumerate(operands)})
        told = ", ".join(
            f"{x.dtype}{list(x.shape)}" if hasattr(x, "dtype") else f"{type(x).__name__} {x!r:.40}"
            for x in operands
        )
        if isinstance(error, ValueError):
            raise bad_value(
                op, f"the shapes of {told} do not fit", "axes align from the last; length-1 axes broadcast"
            ) from error
        raise bad_type(
            op, f"it is not defined for {told}", "give numbers: bool, integer or floating arrays"
        ) from error


def problem() -> str | None:
    """What is missing to use a CUDA device, as one sentence; None if nothing is."""
    found = _problem()
    return found and f"{found[0]} ({found[1]})"


def _problem() -> tuple[str, str, bool] | None:
    """What is missing, what to do about it, and whether it is a package."""
    for module, name in (("cupy", "CuPy"), ("numba_cuda", "numba-cuda")):
        if importlib.util.find_spec(module) is None:
            return f"{name} is not installed", cupy_arrays.INSTALL, True
    try:
        count = cupy().cuda.runtime.getDeviceCount()
    except ImportError as error:
        return f"CuPy cannot be imported: {_line(error)}", cupy_arrays.INSTALL, True
    except RuntimeError as error:  # CuPy's CUDARuntimeError
        if "NoDevice" not in str(error):
            return (
                f"no usable NVIDIA driver: {_line(error)}",
                "install it from nvidia.com/drivers; nvidia-smi must list a device",
                False,
            )
        count = 0
    return (
        None
        if count
        else ("the NVIDIA driver finds no device", "see what nvidia-smi and CUDA_VISIBLE_DEVICES say", False)
    )


def names() -> list[str]:
    """Names of the CUDA devices, in their order; none where they cannot be used."""
    if _problem() is not None:
        return []
    runtime = cupy().cuda.runtime
    return [
        runtime.getDeviceProperties(number)["name"].decode() for number in range(runtime.getDeviceCount())
    ]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def known(op: str, device: str) -> str:
    """The device, which is one of DEVICES and can be used here, or an error."""
    check_name(op, "device", device, DEVICES)
    found = _problem() if device == "cuda" else None
    if found is not None:
        what, fix, package = found
        raise (missing if package else no_device)(op, f"{device!r} cannot be used, {what}", fix)
    return device


@contextmanager
def atomics() -> Iterator[None]:
    """Within it, walks on a CUDA device add the chunks of long rows with atomic operations:
    ``with atomics():``.

    It concerns sums and means of floats, gradients among them, of graphs with rows of more than 256 edges.
    Chunks are added in the order in which they are ready, so the last bits of these rows may differ from run
    to run. Everything else, and the host, computes as ever. It holds for what the calling thread (or asyncio
    task) computes."""
    token = ATOMICS.set(True)
    try:
        yield
    finally:
        ATOMICS.reset(token)


def writeable(array: Any) -> bool:
    """Whether the array may be written; CuPy's always may."""
    found: bool = (
        array.flags.writeable if type(array) is np.ndarray else getattr(array.flags, "writeable", True)
    )
    return found


def uniform(rng: np.random.Generator, shape: tuple[int, ...], like: Any) -> Any:
    """Random float32 numbers in [0, 1) on the device where ``like`` is: those of CuPy's Philox, whose seed is
    drawn from ``rng``.
    """
    return library_of(like).uniform(rng, shape)


def moved(array: Any, device: str) -> Any:
    """The array on a device; itself if it is there."""
    here = namespace_of(array)
    if device == "cpu":
        return array if here is np else array.get()
    return array if here is not np else cupy().asarray(array)


def host_copy(array: Any) -> np.ndarray:
    """A copy of the array on the host."""
    return np.array(array) if namespace_of(array) is np else array.get()
