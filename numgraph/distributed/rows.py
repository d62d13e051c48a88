"""Rows of features of which each process has some: those that a batch needs are fetched from their owners,
all at once.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numgraph.arrays import recycling
from numgraph.arrays.inputs import as_array
from numgraph.distributed.halo import Meter
from numgraph.distributed.processes import communicator, mpi, together
from numgraph.errors import bad_value
from numgraph.graph.sorting import frozen
from numgraph.runtime.mapping import mapping_of


def one_copy(x: Any, comm: Any) -> Any:
    """x, which all processes have alike, in memory that those of a machine share, read-only; a map of a file
    is that already.

    The memory is MPI's, until the program ends. A collective call.
    """
    if not isinstance(x, np.ndarray) or mapping_of(x) is not None or comm.size == 1:
        return x
    local = comm.Split_type(mpi().COMM_TYPE_SHARED)
    window = mpi().Win.Allocate_shared(x.nbytes if local.rank == 0 else 0, x.itemsize, comm=local)
    memory, _ = window.Shared_query(0)
    made: NDArray[Any] = np.ndarray(x.shape, x.dtype, memory)
    if local.rank == 0:
        made[...] = x
    local.Barrier()
    local.Free()
    return frozen(made)


class SharedRows:
    """``rows(ids)`` are the rows of any nodes; every process calls it at the same time, each with ids of its
    own.

    Parameters
    ----------
    own : [own, …] rows of the nodes that this process owns, an array, also one that is mapped from a file
    owned : their ids; each node is owned by one process
    comm : mpi4py's communicator
    hot : ids, the same on all processes, whose rows each keeps, as those with the most out-edges:
        samples have them most often

    Attributes
    ----------
    meter : bytes of rows that this process has sent, and seconds that it has waited

    Examples
    --------
    A loader whose features are divided among the processes::

        rows = ng.distributed.SharedRows(x_own, owned, comm, hot=np.argsort(-g.out_degrees())[:10_000])
        whole = ng.NeighborLoader((g, {}), [10, 10], input_nodes=train)
        loader = ng.distributed.divide(whole, comm, rows=rows)
    """

    def __init__(self, own: ArrayLike, owned: ArrayLike, comm: Any, *, hot: ArrayLike = ()) -> None:
        op = "SharedRows"
        self.comm, self.meter = communicator(op, comm), Meter()
        self.own, ids = as_array(op, "own", own), np.asarray(owned, np.int64)
        parts = self.comm.allgather((ids, len(self.own), self.own.shape[1:], self.own.dtype))
        count = sum(len(part) for part, *_ in parts)
        self.shape, self.dtype = (count, *self.own.shape[1:]), self.own.dtype
        self._owner, self._place = np.full(count, -1, np.int32), np.empty(count, np.int64)

        def check() -> None:
            for rank, (part, rows, *kind) in enumerate(parts):
                if len(part) != rows or kind != [self.own.shape[1:], self.own.dtype]:
                    problem = (
                        f"process {rank} has {len(part)} ids, {rows} rows of {list(kind[0])} in {kind[1]}"
                    )
                    raise bad_value(
                        op, problem, f"give a row for each id, {list(self.own.shape[1:])} in {self.own.dtype}"
                    )
                if len(part) and not 0 <= part.min() <= part.max() < count:
                    raise bad_value(
                        op,
                        f"process {rank} owns ids up to {part.max()} of {count} nodes",
                        "each node is owned by one process",
                    )
                self._owner[part], self._place[part] = rank, np.arange(len(part))
            if (self._owner < 0).any():
                raise bad_value(
                    op, f"nobody owns node {int(np.argmin(self._owner))}", "each node is owned by one process"
                )

        together(self.comm, check)
        self._slot, self._kept = np.full(count, -1, np.int32), self.own[:0]
        hot = np.unique(np.asarray(hot, np.int64))
        self._kept = self(hot)
        self._slot[hot] = np.arange(len(hot))

    def keep(self) -> None:
        """What a loader asks of rows before it starts: the hot ones are here."""

    def __call__(self, ids: NDArray[Any]) -> NDArray[Any]:
        rows: NDArray[Any] = recycling.empty((len(ids), *self.shape[1:]), self.dtype)
        slots, owners = self._slot[ids], self._owner[ids]
        kept = slots >= 0
        here = ~kept & (owners == self.comm.rank)
        rows[kept] = self._kept[slots[kept]]
        rows[here] = self.own[self._place[ids[here]]]
        far = np.flatnonzero(~kept & ~here)
        far = far[np.argsort(owners[far], kind="stable")]
        rows[far] = self._fetched(self._place[ids[far]], np.bincount(owners[far], minlength=self.comm.size))
        return rows

    def _fetched(self, places: NDArray[Any], wanted: NDArray[Any]) -> NDArray[Any]:
        """Rows by their places at their owners, in the order of these."""
        asked = np.empty_like(wanted)
        start = time.perf_counter()
        self.comm.Alltoall(wanted, asked)
        requests = np.empty(int(asked.sum()), np.int64)
        self.comm.Alltoallv([places, wanted], [requests, asked])
        self.meter.seconds += time.perf_counter() - start
        sent = np.ascontiguousarray(self.own[requests])
        found = np.empty((len(places), *self.shape[1:]), self.dtype)
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        if not size:
            return found
        kind = mpi().BYTE.Create_contiguous(size).Commit()
        start = time.perf_counter()
        self.comm.Alltoallv([sent, (asked, None), kind], [found, (wanted, None), kind])
        self.meter.seconds += time.perf_counter() - start
        self.meter.bytes += sent.nbytes
        kind.Free()
        return found
