"""The part of CuPy's module ``cuda`` that starts kernels, for the library of device.py: they run in ptx.py's
machine.

A kernel may touch the arrays whose addresses stand in its argument block, and nothing else.
"""

from __future__ import annotations

import ctypes
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import ptx

CAPABILITY = "90"
STREAM = 0
launched = 0
"""Kernels that ran."""
_functions: list[str] = []


_asked: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()
"""The arrays whose addresses were asked for, by these, as long as they live."""


def pointer_of(host: np.ndarray) -> int:
    """The address of an array, which launches that are given it may touch."""
    address: int = host.__array_interface__["data"][0]
    if host.size:
        _asked[address] = host
    return address


class Module:
    """What cupy.cuda.Module does."""

    def load(self, code: bytes) -> None:
        self._ptx = code.decode()

    def get_function(self, name: str) -> Any:
        assert f".entry {name}(" in self._ptx
        _functions.append(self._ptx)
        return SimpleNamespace(ptr=len(_functions))


def launch_kernel(function: int, *numbers: int) -> None:
    """cupy.cuda.driver.launchKernel."""
    global launched
    (blocks, *_), (threads, *_) = numbers[:3], numbers[3:6]
    assert len(numbers) == 10
    assert numbers[1:3] == numbers[4:6] == (1, 1)
    assert numbers[6:8] == (0, STREAM)
    code = _functions[function - 1]
    count = len(ptx.parsed(code).parameters)
    pointers = ctypes.cast(numbers[8], ctypes.POINTER(ctypes.POINTER(ctypes.c_int64)))
    words = [pointers[i][0] for i in range(count)]
    arrays = [array for array in map(_asked.get, words) if array is not None]
    ptx.launch(code, blocks, threads, words, [np.lib.array_utils.byte_bounds(array) for array in arrays])
    launched += 1


def cuda() -> Any:
    """What stands for cupy.cuda."""
    runtime = SimpleNamespace(getDeviceCount=lambda: 1, getDevice=lambda: 0, memGetInfo=lambda: (0, 0))
    device = lambda number: SimpleNamespace(compute_capability=CAPABILITY)
    stream = lambda: SimpleNamespace(ptr=STREAM)
    driver = SimpleNamespace(launchKernel=launch_kernel)
    return SimpleNamespace(
        runtime=runtime, driver=driver, Module=Module, Device=device, get_current_stream=stream
    )
