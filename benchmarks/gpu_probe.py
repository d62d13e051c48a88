"""What gpu_report.py asks for in processes of their own: ``python gpu_probe.py driver``, or ``facts`` or
``walks`` and a file for results.

driver, with the standard library alone: the first CUDA device, or what is missing, as JSON. facts: that,
nvidia-smi, versions, and what CuPy, numba-cuda and torch do here, each asked in another process. walks: a few
small walks, for compute-sanitizer."""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PACKAGES = (
    *(
        "numpy",
        "scipy",
        "numba",
        "llvmlite",
        "numba-cuda",
        "cuda-bindings",
        "cupy-cuda12x",
        "cupy-cuda13x",
        "torch",
        "torch-geometric",
    ),
    *("jax", "ml-dtypes", "hypothesis", "pytest", "pytest-xdist", "nvidia-nvjitlink", "nvidia-cuda-nvrtc"),
)
SMI = (
    *(
        "name",
        "driver_version",
        "memory.total",
        "memory.used",
        "utilization.gpu",
        "pstate",
        "temperature.gpu",
        "power.draw",
        "power.limit",
    ),
    *("clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "mig.mode.current", "ecc.mode.current"),
)
SECONDS = 40
"""For each of the processes that are asked."""


def driver(load: Callable[[str], Any] = ctypes.CDLL) -> dict[str, Any]:
    """Name, compute capability and memory of the first device, and the driver's version of CUDA; ``problem``
    where there is none.
    """
    try:
        cuda = load("libcuda.so.1")
    except OSError:
        return {"problem": "no NVIDIA driver: libcuda.so.1 is not found"}
    number, capability, total = ctypes.c_int(), (ctypes.c_int(), ctypes.c_int()), ctypes.c_size_t()
    if (code := cuda.cuInit(0)) != 0:
        return {"problem": f"no NVIDIA device can be used: cuInit says {code}"}
    if cuda.cuDeviceGetCount(ctypes.byref(number)) != 0 or number.value == 0:
        return {
            "problem": "the NVIDIA driver finds no device; see what nvidia-smi and CUDA_VISIBLE_DEVICES say"
        }
    count, device, name = number.value, ctypes.c_int(), ctypes.create_string_buffer(200)
    cuda.cuDeviceGet(ctypes.byref(device), 0)
    cuda.cuDeviceGetName(name, len(name), device)
    for value, attribute in zip(capability, (75, 76)):
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device)
    cuda.cuDriverGetVersion(ctypes.byref(number))
    return {
        "name": name.value.decode(errors="replace"),
        "compute_capability": f"{capability[0].value}.{capability[1].value}",
        "memory_bytes": total.value,
        "cuda_driver": f"{number.value // 1000}.{number.value % 1000 // 10}",
        "devices": count,
    }


def facts() -> Iterator[dict[str, Any]]:
    """What is known so far, again and again."""
    found: dict[str, Any] = {
        "driver": driver(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }
    yield found
    row_stack = str(Path(__file__).parent / "numpy_names")
    names = os.pathsep.join([row_stack, *filter(None, [os.environ.get("PYTHONPATH")])])
    asked = {"numba_cuda": _ask("numba_cuda"), "with_row_stack": _ask("numba_cuda", PYTHONPATH=names)}
    asked |= {name: _ask(name) for name in ("cupy", "torch")}
    found["nvidia_smi"] = nvidia_smi()
    yield found
    for name, process in asked.items():
        found[name] = _answer(process)
        yield found


def nvidia_smi() -> dict[str, str]:
    """The device's state, clocks among it, as nvidia-smi words it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {"problem": "nvidia-smi is not found"}
    try:
        command = [tool, f"--query-gpu={','.join(SMI)}", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"problem": str(error)}
    values = [value.strip() for value in done.stdout.splitlines()[0].split(",")] if done.stdout else []
    return (
        dict(zip(SMI, values)) if len(values) == len(SMI) else {"problem": (done.stdout + done.stderr)[:500]}
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _ask(what: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, what]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return {"problem": f"no answer within {SECONDS} s"}
    try:
        return json.loads(out)
    except ValueError:
        return {
            "problem": f"exit status {process.returncode}: {(err.strip().splitlines() or ['no output'])[-1]}"
        }


def cupy() -> dict[str, Any]:
    import cupy as library

    runtime = library.cuda.runtime
    properties = runtime.getDeviceProperties(runtime.getDevice())
    names = (
        "multiProcessorCount",
        "l2CacheSize",
        "totalGlobalMem",
        "sharedMemPerMultiprocessor",
        "regsPerMultiprocessor",
    )
    ones = library.ones(1 << 20, library.float32)
    assert float(ones.sum()) == 1 << 20
    return {
        "version": library.__version__,
        "cuda_runtime": int(runtime.runtimeGetVersion()),
        "cuda_driver": int(runtime.driverGetVersion()),
        **{name: int(properties[name]) for name in names if name in properties},
    }


def numba_cuda() -> dict[str, Any]:
    """Whether a kernel can be compiled, which needs no device."""
    import numba_cuda as library
    from numba import cuda, types

    def body(x):
        x[cuda.grid(1)] = 2

    ptx, _ = cuda.compile_ptx(body, types.void(types.float32[::1]), cc=(8, 0))
    return {"version": library.__version__, "works": ".entry" in ptx}


def torch() -> dict[str, Any]:
    import torch as library

    if not library.cuda.is_available():
        return {"version": library.__version__, "problem": "this torch sees no CUDA device"}
    assert float(library.ones(1 << 20, device="cuda").sum()) == 1 << 20
    return {
        "version": library.__version__,
        "cuda": library.version.cuda,
        "name": library.cuda.get_device_name(0),
    }


def walks() -> dict[str, Any]:
    """Small walks of every kind on the device, compared with the host's. Each array has memory of its own, so
    that a sanitizer sees its ends; a row of the graph is long enough for chunks."""
    import numpy as np

    import numgraph as ng
    from numgraph.arrays import devices

    library = devices.cupy()
    library.cuda.set_allocator(None)
    rng = np.random.default_rng(0)
    nodes, edges = 301, 3001
    destinations = rng.integers(0, nodes - 1, edges)
    destinations[:700] = 7
    host = ng.Graph(rng.integers(0, nodes, edges), destinations, nodes)
    worst: dict[str, float] = {}
    for width in (33, 64):
        arrays = {
            name: rng.standard_normal((rows, size), np.float32)
            for name, rows, size in (("x", nodes, width), ("y", nodes, width), ("w", edges, 1))
        }
        here, there = (
            _walks(host.to(device), {k: devices.moved(a, device) for k, a in arrays.items()})
            for device in ("cpu", "cuda")
        )
        for name, result in here.items():
            gap = float(
                np.abs(result - devices.moved(there[name], "cpu")).max()
                / max(1.0, float(np.abs(result).max()))
            )
            worst[f"{name}, F = {width}"] = gap
            assert gap < 1e-4, f"{name}, F = {width}: host and device differ by {gap}"
    return {"largest differences": worst}


def _walks(g: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    import numgraph as ng
    from numgraph.arrays.devices import atomics

    found: dict[str, Any] = {}
    for reduce in ("sum", "max"):
        with ng.Tape() as tape:
            x, y, w = (tape.watch(array) for array in arrays.values())
            z = ng.update_all(
                g, lambda u, v, e: ng.relu(u.x - v.y) * e.w, reduce, u={"x": x}, v={"y": y}, e={"w": w}
            )
            loss = (z * z).sum()
        found[reduce] = z.data
        found |= {
            f"{reduce}, gradient of {name}": gradient
            for name, gradient in zip("xyw", tape.gradient(loss, [x, y, w]))
        }
    x, y, w = arrays.values()
    found["attention"] = ng.attend(
        g,
        lambda u, v, e: (u.x * v.y).sum(-1, keepdims=True) * e.w,
        lambda u: u.x,
        u={"x": x},
        v={"y": y},
        e={"w": w},
    )
    found["edges"] = ng.apply_edges(g, lambda u, v: u.x * v.y, u={"x": x}, v={"y": y})
    with atomics():
        found["atomic sum"] = ng.update_all(g, lambda u, e: u.x * e.w, "sum", u={"x": x}, e={"w": w})
    return found


def main(what: str, results: str | None = None) -> None:
    answers = {function.__name__: function for function in (driver, facts, cupy, numba_cuda, torch, walks)}[
        what
    ]()
    for answer in answers if isinstance(answers, Iterator) else [answers]:
        if results:
            Path(results + ".new").write_text(json.dumps(answer, indent=1), "utf-8")
            os.replace(results + ".new", results)
    print(json.dumps(answer, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
