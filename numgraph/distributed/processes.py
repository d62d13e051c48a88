"""What processes agree on: errors, which are everyone's, and the cores of a machine, which they share."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

from numgraph.dense.blas import limit_threads
from numgraph.errors import bad_type, bad_value, missing, shown

T = TypeVar("T")


def mpi() -> Any:
    """The module mpi4py.MPI."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: there is no library of MPI
        fix = "pip install numgraph[mpi], with an MPI of the machine, or beside it pip install mpich"
        raise missing("numgraph.distributed", f"it needs mpi4py and an MPI library ({error})", fix) from error
    return MPI


def communicator(op: str, comm: Any) -> Any:
    """A communicator of mpi4py: itself, that of a DistGraph, or of None all processes."""
    comm = getattr(comm, "comm", comm)
    if comm is None:
        return mpi().COMM_WORLD
    if not hasattr(comm, "Create_dist_graph_adjacent"):
        raise bad_type(op, f"comm is {shown(comm)}", "give mpi4py's communicator, as MPI.COMM_WORLD")
    return comm


def together(comm: Any, make: Callable[[], T]) -> T:
    """``make()`` on every process; an error of one is raised on all, by the lowest that has one, so that none
    waits for it.
    """
    made, error = None, None
    try:
        made = make()
    except Exception as caught:
        error = caught
    failed = comm.allreduce(comm.size if error is None else comm.rank, op=mpi().MIN)
    if failed < comm.size:
        told = comm.bcast(None if error is None else _told(error), root=failed)
        if error is not None:
            raise error
        raise told
    return made  # type: ignore[return-value]


def from_first(comm: Any, make: Callable[[], T]) -> T:
    """What process 0 makes, on every process; an error there is everyone's."""
    made = together(comm, lambda: make() if comm.rank == 0 else None)
    found: T = comm.bcast(made, root=0)
    return found


def agreed(op: str, name: str, comm: Any, value: Any, fix: str) -> None:
    """Compare what must be the same on all processes, by its text, in one message of 16 bytes.

    Raises
    ------
    ValueError : on all processes, where one has another
    """
    mine = zlib.crc32(repr(value).encode())
    ends = np.empty(2, np.int64)
    comm.Allreduce(np.array([mine, -mine], np.int64), ends, op=mpi().MIN)
    if ends[0] != -ends[1]:
        values = comm.allgather(f"{value!r:.200}")
        other = next((rank for rank, text in enumerate(values) if text != values[0]), 0)
        raise bad_value(op, f"{name} is {values[0]} on process 0, {values[other]} on process {other}", fix)


def _told(error: Exception) -> Exception:
    """The error as it can be sent: by its kind and text."""
    kinds = (ModuleNotFoundError, OSError, IndexError, TypeError, ValueError)
    return next((kind for kind in kinds if isinstance(error, kind)), RuntimeError)(str(error))


def share_cores(comm: Any) -> int:
    """Threads of this process: the cores that it may run on, divided by the processes that may run on them,
    unless the environment says how many (NUMBA_NUM_THREADS). Numba's kernels and BLAS take so many from now
    on."""
    local = comm.Split_type(mpi().COMM_TYPE_SHARED)
    mine = (
        tuple(sorted(os.sched_getaffinity(0)))
        if hasattr(os, "sched_getaffinity")
        else tuple(range(os.cpu_count() or 1))
    )
    sharing = sum(1 for cores in local.allgather(mine) if not set(cores).isdisjoint(mine))
    local.Free()
    count = numba.get_num_threads()
    if "NUMBA_NUM_THREADS" not in os.environ:
        count = max(1, min(numba.config.NUMBA_NUM_THREADS, len(mine) // sharing))
        numba.set_num_threads(count)
    limit_threads(count)
    found: int = count
    return found
