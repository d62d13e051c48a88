"""Starting a kernel: its argument block, its code on the device, the caller's stream; or the simulator, where
NUMBA_ENABLE_CUDASIM is set.

A kernel's parameters are the words of the argument block, one 64-bit number each, so a launch is an array of
numbers and one driver call. What stays the same from launch to launch is in place before the first."""

from __future__ import annotations

import functools
import threading
from array import array as array_of
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from numgraph.arrays import devices
from numgraph.compiler.cuda import compiling
from numgraph.compiler.cuda.planning import Kernel, Operand
from numgraph.compiler.target import Buffers, Place
from numgraph.expressions.walk import Arrays

BLOCK = 128
"""Threads of a block: it ends with the slowest of its groups, and 16 such blocks fill a multiprocessor."""


@dataclass(frozen=True, slots=True, eq=False)
class Launch:
    """A kernel over ``count`` tasks: the words of its argument block, but for the addresses of fields and of
    buffers, which are another call's. fields: those; made: of each buffer its first word, its place, and at
    which of its bytes the kernel sees it begin; held: the arrays whose addresses are in the words."""

    kernel: Kernel
    count: int
    words: list[int]
    fields: list[Operand]
    made: list[tuple[int, Place, int]]
    held: list[Any]


def launch_of(
    kernel: Kernel,
    count: int,
    ids: Callable[[str], Any],
    rows: Mapping[Any, int],
) -> Launch:
    """The launch of a kernel. ids: its index arrays by their names; rows: of fields by their targets, of
    results by the numbers of their outputs.
    """
    words, held = kernel.block.copy(), []
    for (kind, what), at in zip(kernel.slots, kernel.offsets, strict=True):
        if kind == "count":
            words[at] = count
        elif kind == "ids":
            array = ids(what)
            words[at : at + 2] = array.data.ptr, len(array)
            held.append(array)
    for operand in (*kernel.fields, *kernel.outs):
        words[operand.at + 1] = rows[operand.key[0]]
    made = [(operand.at, operand.key, 0) for operand in kernel.outs]
    return Launch(kernel, count, words, kernel.fields, made, held)


def start(launch: Launch, fields: Arrays, buffers: Buffers) -> None:
    """Run a kernel. fields: arrays in any layout, copied only where a kernel could not read them; buffers:
    arrays without gaps.
    """
    words, kept = launch.words.copy(), []
    for at, key, _, stride, vector in launch.fields:
        array = fields[key]
        if not array.flags.c_contiguous or not array.dtype.isnative:
            array, words[at + 2] = in_rows(array, key[0] == "shared", stride)
            kept.append(array)
        address = array.data.ptr
        if vector > 1 and (address | words[at + 2]) % vector:
            array = array.copy()
            kept.append(array)
            address, words[at + 2] = array.data.ptr, stride
        words[at] = address
    for at, place, begin in launch.made:
        words[at] = buffers[place].data.ptr + begin
    run(launch.kernel, words, launch.count)


def in_rows(array: Any, shared: bool, stride: int) -> tuple[Any, int]:
    """An array with features in C order, and the bytes from row to row, ``stride`` where there are no gaps; a
    copy only where it needs one.
    """
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    features = array.shape if shared else array.shape[1:]
    if not _contiguous(features, array.strides[array.ndim - len(features) :], array.dtype.itemsize):
        array = array.copy()
    return array, stride if shared or array.flags.c_contiguous else array.strides[0]


def _contiguous(shape: Sequence[int], strides: Sequence[int], step: int) -> bool:
    """Whether axes lie in C order without gaps."""
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length != 1 and stride != step:
            return False
        step *= length
    return True


class _Thread(threading.local):
    """What a thread has: the devices whose context it has entered, and memory for an argument block and the
    addresses of its words.
    """

    def __init__(self) -> None:
        self.entered: set[int] = set()
        self.make_room(64)

    def make_room(self, size: int) -> None:
        self.words = array_of("q", bytes(8 * size))
        first = self.words.buffer_info()[0]
        self.addresses = array_of("Q", range(first, first + 8 * size, 8))
        self.block = self.addresses.buffer_info()[0]


_THREAD = _Thread()


def run(kernel: Kernel, words: list[int], count: int) -> None:
    """Run a kernel for ``count`` tasks with an argument block."""
    if count == 0:
        return
    if simulating():
        _simulate(kernel, words, count)
        return
    cuda, thread = devices.cupy().cuda, _THREAD
    device = cuda.runtime.getDevice()
    if device not in thread.entered:
        # a call of the runtime gives a thread the device's context; the driver's launch wants one
        cuda.runtime.memGetInfo()
        thread.entered.add(device)
    size = len(words)
    if size > len(thread.words):
        thread.make_room(2 * size)
    thread.words[:size] = array_of("q", words)
    function = _function(kernel.text, size, device)
    blocks = -(-count * kernel.shape.threads // BLOCK)
    stream = cuda.get_current_stream().ptr
    cuda.driver.launchKernel(function.ptr, blocks, 1, 1, BLOCK, 1, 1, 0, stream, thread.block, 0)


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


def _simulate(kernel: Kernel, words: list[int], count: int) -> None:
    """The kernel's arguments are views of the memory that the words speak of."""
    args: list[Any] = words.copy()
    for (kind, _), at in zip(kernel.slots, kernel.offsets, strict=True):
        if kind == "ids":
            args[at] = _memory(words[at], (words[at + 1],), (kernel.ids.itemsize,), kernel.ids)
    for at, _, dtype, stride, _ in (*kernel.fields, *kernel.outs):
        rows, step = words[at + 1 : at + 3]
        args[at] = _memory(words[at], (rows, stride // dtype.itemsize), (step, dtype.itemsize), dtype)
    compiling.simulated(kernel.text)[count, 1](tuple(args))


def _memory(address: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """The array of the host at an address."""
    facts = {"data": (address, False), "shape": shape, "strides": strides, "typestr": dtype.str, "version": 3}
    return np.asarray(SimpleNamespace(__array_interface__=facts))
