"""Time, memory and bandwidth. Pairs are measured alternately (A B A B …), so that what slows the machine for
a while slows both.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np

from numgraph.arrays import recycling

SHORTEST = 0.02
"""Seconds that one sample takes at least: a faster function is called several times in a row for it."""

PAUSE = 0.005
"""Seconds of sleep before each sample. OpenMP's threads spin for some milliseconds when their work is done,
on cores the next one needs.
"""


@dataclass(frozen=True)
class Pair:
    """Seconds a call, sample by sample, of numgraph and of a peer that ran right after it."""

    ours: np.ndarray
    theirs: np.ndarray

    def facts(self) -> dict[str, Any]:
        """Medians in milliseconds; ratio: the median of peer / numgraph over the pairs, and its quartiles."""
        low, middle, high = np.percentile(self.theirs / self.ours, (25, 50, 75))
        return {
            "ms": 1e3 * float(np.median(self.theirs)),
            "numgraph_ms": 1e3 * float(np.median(self.ours)),
            "ratio": float(middle),
            "ratio_quartiles": [float(low), float(high)],
            "samples": len(self.ours),
        }


Timer = Callable[[Callable[[], Any], int], float]
"""Seconds a call of a function that is called so many times."""


def alternate(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    repeats: int,
    seconds: float,
    timer: Timer | None = None,
) -> Pair:
    """`repeats` pairs of samples, fewer (3 at least, if so many are asked for) where they would take longer
    than `seconds`.

    Both have run before, so that nothing compiles here. One more call of each, not counted, says how many
    calls make a sample."""
    timer = timer or sample
    functions = ours, theirs
    calls = [_calls(function, timer) for function in functions]
    samples: list[list[float]] = [[], []]
    start = time.perf_counter()
    for pair in range(repeats):
        if pair >= min(3, repeats) and time.perf_counter() - start > seconds:
            break
        for function, count, times in zip(functions, calls, samples):
            time.sleep(PAUSE)
            times.append(timer(function, count))
    return Pair(np.array(samples[0]), np.array(samples[1]))


def median_time(
    function: Callable[[], Any], repeats: int = 5, seconds: float = 10.0, timer: Timer | None = None
) -> float:
    """Median seconds of a call that has run before; fewer than `repeats` samples where they would take longer
    than `seconds`.
    """
    timer = timer or sample
    count = _calls(function, timer)
    times: list[float] = []
    while len(times) < repeats and (not times or sum(times) * count < seconds):
        times.append(timer(function, count))
    return float(np.median(times))


def _calls(function: Callable[[], Any], timer: Timer) -> int:
    return max(1, int(SHORTEST / max(timer(function, 1), 1e-7)))


def sample(function: Callable[[], Any], calls: int = 1) -> float:
    """Seconds a call."""
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def peak_memory(function: Callable[[], Any]) -> int | None:
    """Calls; bytes that the process's resident memory grew by at its highest meanwhile, None where the system
    does not tell (not Linux).
    """
    gc.collect()
    recycling.release()
    with suppress(
        OSError, AttributeError
    ):  # glibc gives back what it keeps for reuse, which would hide that much growth
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak, see proc(5)
        before = _status("VmRSS")
    except OSError:
        function()
        return None
    function()
    return max(0, _status("VmHWM") - before)


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def available_memory() -> int | None:
    """Bytes that can be taken without swapping."""
    with suppress(OSError):
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
        return 1024 * int(found[1]) if found else None
    return None


# The roofs


def product_rate(size: int = 2048, repeats: int = 5) -> float:
    """Floating-point operations a second of NumPy's float32 matrix product: the compute roof that programs
    reach.
    """
    a = np.ones((size, size), np.float32)
    a @ a
    return 2 * size**3 / min(sample(lambda: a @ a) for _ in range(repeats))


# Threads


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_RUNTIMES = {  # library → (the names of its functions that set the number of threads)
    "libgomp": ("omp_set_num_threads",),
    "libiomp5": ("omp_set_num_threads",),
    "libomp": ("omp_set_num_threads",),
    "openblas": tuple(
        f"{before}openblas_set_num_threads{after}" for before in ("scipy_", "") for after in ("64_", "")
    ),
    "libmkl_rt": ("MKL_Set_Num_Threads",),
}


def runtimes() -> list[str]:
    """Paths of the threading runtimes and BLAS libraries that are loaded now."""
    with suppress(OSError):
        lines = Path("/proc/self/maps").read_text().splitlines()
        paths = {line.split(maxsplit=5)[5] for line in lines if line.count("/")}
        names = (*_RUNTIMES, "libtbb")
        return sorted(
            path
            for path in paths
            if any(Path(path).name.startswith((name, f"lib{name}", f"libscipy_{name}")) for name in names)
        )
    return []


@contextmanager
def threads(count: int) -> Iterator[None]:
    """`count` threads for Numba and for every runtime that is loaded, whichever library uses it; all cores
    again afterwards.
    """
    before = numba.get_num_threads()
    _set_threads(count)
    try:
        yield
    finally:
        _set_threads(before)


def _set_threads(count: int) -> None:
    numba.set_num_threads(count)
    for path in runtimes():
        names = next((names for name, names in _RUNTIMES.items() if name in Path(path).name), ())
        with suppress(OSError):
            library = ctypes.CDLL(path)
            for name in names:
                if hasattr(library, name):
                    getattr(library, name)(ctypes.c_int(count))
                    break
