"""Starting a kernel: its argument block, its code on the device, the caller's stream; or the simulator, where
NUMBA_ENABLE_CUDASIM is set.

A kernel's parameters are the words of the argument block, one 64-bit number each, so a launch is an array of
numbers and one driver call."""

from __future__ import annotations

import functools
import threading
from array import array as array_of
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgraph.arrays import devices
from numgraph.compiler.cuda import compiling
from numgraph.compiler.cuda.planning import Kernel
from numgraph.compiler.storage import memory_of

BLOCK = 128
"""Threads of a block: it ends with the slowest of its groups, and 16 such blocks fill a multiprocessor."""


@dataclass(frozen=True, slots=True)
class Operand:
    """An array as [rows, features]: rows at any stride (in bytes), features contiguous."""

    array: Any
    rows: int
    stride: int


def operand_of(array: Any, shared: bool = False) -> Operand:
    """A field or a result as kernels read and write it; a copy only where the input needs one."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    memory = memory_of(array.dtype)
    if array.dtype != memory:
        array = array.view(memory)
    features = array.shape if shared else array.shape[1:]
    if not array.flags.c_contiguous and not _contiguous(
        features, array.strides[array.ndim - len(features) :], array.dtype.itemsize
    ):
        array = array.copy()
    return Operand(array, 1, array.nbytes) if shared else Operand(array, array.shape[0], array.strides[0])


def _contiguous(shape: Sequence[int], strides: Sequence[int], step: int) -> bool:
    """Whether axes lie in C order without gaps."""
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length != 1 and stride != step:
            return False
        step *= length
    return True


class _Thread(threading.local):
    entered: tuple[int, ...] = ()  # devices whose context this thread has


_THREAD = _Thread()


def launch(kernel: Kernel, operands: Sequence[Any], count: int) -> None:
    """Run a kernel for ``count`` tasks. operands: for every slot an Operand, an index array, or a number."""
    if count == 0:
        return
    if simulating():
        _simulate(kernel, operands, count)
        return
    words: list[int] = []
    copies = []
    for number, operand in enumerate(operands):
        if isinstance(operand, int):
            words.append(operand)
        elif isinstance(operand, Operand):
            array, stride = operand.array, operand.stride
            if number in kernel.aligned and (array.data.ptr | stride) % (
                kernel.shape.vector * array.dtype.itemsize
            ):
                array = array.copy()
                stride = array.nbytes // max(operand.rows, 1)
                copies.append(array)
            words += (array.data.ptr, operand.rows, stride)
        else:
            words += (operand.data.ptr, len(operand))
    block = array_of("q", words)
    address = block.buffer_info()[0]
    pointers = array_of("Q", range(address, address + 8 * len(words), 8))
    cupy = devices.cupy()
    device = cupy.cuda.runtime.getDevice()
    if device not in _THREAD.entered:
        # a call of the runtime gives a thread the device's context; the driver's launch wants one
        cupy.cuda.runtime.memGetInfo()
        _THREAD.entered += (device,)
    function = _function(kernel.text, kernel.words, device)
    blocks = -(-count * kernel.shape.threads // BLOCK)
    stream = cupy.cuda.get_current_stream().ptr
    cupy.cuda.driver.launchKernel(
        function.ptr, blocks, 1, 1, BLOCK, 1, 1, 0, stream, pointers.buffer_info()[0], 0
    )


@functools.cache
def _function(text: str, words: int, device: int) -> Any:
    """The kernel's code, loaded into the context of a device."""
    cupy = devices.cupy()
    major, minor = divmod(int(cupy.cuda.Device(device).compute_capability), 10)
    module = cupy.cuda.Module()
    module.load(compiling.cubin_of(text, words, (major, minor)))
    return module.get_function(compiling.ENTRY)


# --- the simulator ---


@functools.cache
def simulating() -> bool:
    """Whether kernels run in Numba's simulator."""
    from numba.core import config

    return bool(config.ENABLE_CUDASIM)


def host_memory(array: Any) -> Any:
    """The NumPy array that stands for a device's array in the simulator."""
    return array


def _simulate(kernel: Kernel, operands: Sequence[Any], count: int) -> None:
    args: list[Any] = [0] * kernel.words
    for offset, operand in zip(kernel.offsets, operands, strict=True):
        if isinstance(operand, Operand):
            array = host_memory(operand.array)
            shape, strides = (
                (operand.rows, array.size // max(operand.rows, 1)),
                (operand.stride, array.itemsize),
            )
            args[offset] = np.lib.stride_tricks.as_strided(array, shape, strides)
        else:
            args[offset] = operand if isinstance(operand, int) else host_memory(operand)
    compiling.simulated(kernel.text)[count, 1](tuple(args))
