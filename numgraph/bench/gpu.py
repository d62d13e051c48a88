"""Time, memory and roofs of the current CUDA device, by CuPy. Samples lie between two events on the default
stream, torch's too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from numgraph.arrays import devices

SIZES = ((17, 2_000_000), (20, 16_000_000))
"""log2 of nodes, and edges, of the R-MAT graphs that the kernels are measured on; features of the second's
nodes fit in no cache.
"""

FEATURES = (32, 64, 128, 256)
"""Widths of the rows that have goals on a device."""


def sample(function: Callable[[], Any], calls: int = 1) -> float:
    """Seconds a call, on the device's clock: from an event before the first call's work to one after the last
    call's.
    """
    cupy = devices.cupy()
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    for _ in range(calls):
        function()
    end.record()
    end.synchronize()
    found: float = cupy.cuda.get_elapsed_time(start, end) / 1e3 / calls
    return found


def copy_bandwidth(size: int = 1 << 30, repeats: int = 10) -> float:
    """Bytes a second that a copy from device memory to device memory reads and writes: the best of some
    runs.
    """
    cupy = devices.cupy()
    source = cupy.zeros(max(1, size // 4), cupy.float32)
    target = cupy.empty_like(source)
    copy: Callable[[], Any] = lambda: cupy.copyto(target, source)
    sample(copy, 3)
    found: float = 2 * source.nbytes / min(sample(copy, 3) for _ in range(repeats))
    return found


def product_rate(size: int = 8192, repeats: int = 5) -> float:
    """Floating-point operations a second of CuPy's float32 matrix product."""
    cupy = devices.cupy()
    a = cupy.ones((size, size), cupy.float32)
    sample(lambda: a @ a, 2)
    return 2 * size**3 / min(sample(lambda: a @ a) for _ in range(repeats))


def release() -> None:
    """Give back the memory that CuPy and torch keep for reuse, each from the other."""
    devices.cupy().get_default_memory_pool().free_all_blocks()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def peak_memory(function: Callable[[], Any]) -> int:
    """Calls; bytes of device memory that CuPy's pool had to add for it."""
    pool = devices.cupy().get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    function()
    return max(0, int(pool.total_bytes() - before))


def out_of_memory(error: Exception) -> bool:
    """Whether an exception, CuPy's or torch's, says that the device's memory is used up."""
    return type(error).__name__ == "OutOfMemoryError"


def facts() -> dict[str, Any]:
    """Name, memory and versions of the device, ready for JSON."""
    cupy = devices.cupy()
    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(runtime.getDevice())
    return {
        "name": properties["name"].decode(),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": int(properties["multiProcessorCount"]),
        "memory_bytes": int(properties["totalGlobalMem"]),
        "l2_bytes": int(properties["l2CacheSize"]),
        "cuda_driver": int(runtime.driverGetVersion()),
        "cuda_runtime": int(runtime.runtimeGetVersion()),
    }


def describe(found: dict[str, Any]) -> str:
    """The same in a line."""
    driver, runtime = (
        f"{found[key] // 1000}.{found[key] % 1000 // 10}" for key in ("cuda_driver", "cuda_runtime")
    )
    return (
        f"{found['name']}, {found['multiprocessors']} multiprocessors, "
        f"sm_{found['compute_capability'].replace('.', '')}, "
        f"{found['memory_bytes'] / 2**30:.0f} GiB, L2 {found['l2_bytes'] / 2**20:.0f} MiB, CUDA {runtime}, "
        f"driver for {driver}"
    )
