"""What differs where tests run side by side (pytest -n): a worker computes with its share of the cores, but with two threads at least, for
there are tests of threads; and threads that wait for work leave the cores to others.
"""

from __future__ import annotations

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before Numba and OpenMP are loaded
    _cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    _workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, _cores // _workers)))
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

SLOW = frozenset(
    [
        "test_bench",
        "test_cache_damage",
        "test_caches",
        "test_cli",
        "test_cuda_machine",
        "test_cuda_ptx",
        "test_cuda_simulator",
        "test_device_bench",
        "test_device_simulator",
        "test_docs",
        "test_fork_compile",
        "test_gpu_report",
        "test_hostile_files",
        "test_interrupts",
        "test_packaging",
        "test_process",
        "test_random_shapes",
        "test_verify",
    ]
)
"""Files of tests that start processes, or compile for devices: `make quick` leaves them out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)
