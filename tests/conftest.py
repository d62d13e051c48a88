"""What differs where tests run side by side (pytest -n): a worker computes with its share of the cores, but with two threads at least, for
there are tests of threads; and threads that wait for work leave the cores to others.
"""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before Numba and OpenMP are loaded
    _cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    _workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, _cores // _workers)))
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
