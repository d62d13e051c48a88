"""What ``numgraph info`` prints: versions, threads, cache folders, devices. Asking starts no threads and
writes no files.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

import numgraph

_DISTRIBUTIONS = (
    "numba",
    "llvmlite",
    "numpy",
    "scipy",
    "tqdm",
    "pooch",
    "matplotlib",
    "safetensors",
    "numba-cuda",
    "cupy",
    "torch",
    "jax",
)


def info() -> dict[str, Any]:
    """Everything as plain data, ready for JSON."""
    return {
        "versions": {
            "python": platform.python_version(),
            "numgraph": numgraph.__version__,
            **{name: _version(name) for name in _DISTRIBUTIONS},
        },
        "platform": platform.platform(),
        "threads": _threads(),
        "folders": _folders(),
        "devices": {"cpu": _cpu(), "cuda": _cuda()},
    }


def describe(facts: dict[str, Any]) -> str:
    """The same for people."""
    versions = facts["versions"]
    present = [f"{name} {version}" for name, version in versions.items() if version]
    absent = [name for name, version in versions.items() if not version]
    threads, folders, cpu, cuda = (
        facts["threads"],
        facts["folders"],
        facts["devices"]["cpu"],
        facts["devices"]["cuda"],
    )
    rows = [
        ("versions", ", ".join(present)),
        ("not installed", ", ".join(absent) or "nothing"),
        ("platform", facts["platform"]),
        ("threads", f"{threads['count']} of {threads['cores']} cores; layer {threads['layer']}"),
        (
            "kernel cache",
            f"{folders['kernels']}; {folders['kernels_bytes'] / 1e6:.1f} MB with those of other versions",
        ),
        ("downloads", folders["downloads"]),
        ("data", folders["data"] or "NUMGRAPH_DATA_DIR is not set"),
        ("cpu", f"{cpu['name']}, {cpu['vectors']}"),
        ("cuda", "; ".join(cuda["devices"]) or f"no device: {cuda['problem']}"),
    ]
    return "\n".join(f"{title + ':':<15}{text}" for title, text in rows)


def _version(name: str) -> str | None:
    for distribution in (name, *(f"cupy-cuda{major}x" for major in (11, 12, 13) if name == "cupy")):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _threads() -> dict[str, Any]:
    import numba

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        layer = numba.threading_layer()
    except ValueError:  # it is chosen when the first parallel kernel runs
        layer = f"{_likely_layer(numba.config)} (not started yet)"
    return {"count": numba.config.NUMBA_NUM_THREADS, "cores": cores, "layer": layer}


def _likely_layer(config: Any) -> str:
    if config.THREADING_LAYER not in ("default", "safe", "threadsafe", "forksafe"):
        return config.THREADING_LAYER
    for name in config.THREADING_LAYER_PRIORITY:
        try:
            found = importlib.util.find_spec(
                f"numba.np.ufunc.{name}pool" if name in ("tbb", "omp") else "numba.np.ufunc.workqueue"
            )
        except ImportError:
            continue
        if found and (name != "tbb" or importlib.util.find_spec("tbb")):
            return name
    return "unknown"


def _folders() -> dict[str, Any]:
    from numgraph.data.fetch import download_folder
    from numgraph.runtime import caches

    return {
        "kernels": str(caches.place()),
        "kernels_bytes": sum(caches.size_of(caches.cache_root())),
        "downloads": str(download_folder()),
        "data": os.environ.get("NUMGRAPH_DATA_DIR") or None,
    }


def _cpu() -> dict[str, str]:
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    widths = (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("avx", "AVX"), ("sse2", "SSE2"), ("neon", "NEON"))
    vectors = next((title for flag, title in widths if features.get(flag)), "no vector units known")
    return {"name": binding.get_host_cpu_name(), "vectors": vectors}


def _cuda() -> dict[str, Any]:
    """Names of the devices, or what is missing to see any."""
    from numgraph.arrays import devices

    return {"devices": devices.names(), "problem": devices.problem()}
