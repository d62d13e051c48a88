"""Rows that go from the processes that own them to those that have edges from them, and back: MPI's neighbourhood collectives on arrays."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays import recycling
from numgraph.distributed.processes import mpi, together
from numgraph.errors import bad_value
from numgraph.expressions.precision import is_half


class Meter:
    """What a process has sent to its neighbours, and how long it has waited for them.

    bytes : of rows sent, by ``exchange`` and ``collect``
    seconds : between the moment when there was nothing else to do and the arrival of the rows
    """

    def __init__(self) -> None:
        self.bytes, self.seconds = 0, 0.0


class Pending:
    """Rows on their way."""

    def __init__(self, halo: Halo, request: Any, result: Any, held: tuple[Any, ...]) -> None:
        self._halo, self._request, self.result, self._held = halo, request, result, held

    def progress(self) -> None:
        """Let MPI go on."""
        if self._request is not None:
            self._request.Test()

    def wait(self) -> Any:
        """The result, complete."""
        if self._request is not None:
            start = time.perf_counter()
            self._request.Wait()
            self._halo.meter.seconds += time.perf_counter() - start
            self._request, self._held = None, ()
        return self.result


class Halo:
    """Who sends which rows to whom. Every process makes one at the same time, and calls its methods in the same order.

    Parameters
    ----------
    comm : mpi4py's communicator
    owned : [own] ids of this process's nodes
    ghosts : ids of other processes' nodes whose rows it needs, grouped by owner, ascending in each group
    owners : the ghosts' owners
    """

    def __init__(self, op: str, comm: Any, owned: NDArray[Any], ghosts: NDArray[Any], owners: NDArray[Any]) -> None:
        self.meter, self.num_owned, self.num_ghosts = Meter(), len(owned), len(ghosts)
        wanted = np.bincount(owners, minlength=comm.size).astype(np.int64)
        asked = np.empty(comm.size, np.int64)
        comm.Alltoall(wanted, asked)
        requests = np.empty(int(asked.sum()), np.int64)
        comm.Alltoallv([np.ascontiguousarray(ghosts, np.int64), wanted], [requests, asked])
        order = np.argsort(owned, kind="stable")
        place = np.searchsorted(owned[order], requests)
        self.rows = order[np.minimum(place, max(len(owned) - 1, 0))] if len(owned) else place
        """[sent] the rows that others need, by process, in the order of their ghosts."""

        def check() -> None:
            found = np.zeros(len(requests), bool)
            inside = self.rows < len(owned)
            found[inside] = owned[self.rows[inside]] == requests[inside]
            if not found.all():
                first = int(np.flatnonzero(~found)[0])
                asking = int(np.searchsorted(np.cumsum(asked), first, side="right"))
                problem = f"process {asking} has edges from node {requests[first]}, as if process {comm.rank} owned it, which does not"
                raise bad_value(op, problem, "the parts are of different partitions: make all of them from one")

        together(comm, check)
        senders, receivers = np.flatnonzero(wanted), np.flatnonzero(asked)
        self._from, self._to = wanted[senders], asked[receivers]
        self.ends = np.concatenate([[0], np.cumsum(self._to)])
        self._forward = comm.Create_dist_graph_adjacent(senders.tolist(), receivers.tolist())
        self._backward = comm.Create_dist_graph_adjacent(receivers.tolist(), senders.tolist())
        self._kinds: dict[int, Any] = {}
        self._idle = comm.allreduce(len(ghosts), op=mpi().MAX) == 0
        """Nobody needs anything of anyone."""

    def _row(self, array: NDArray[Any]) -> Any:
        """MPI's type of a row."""
        size = math.prod(array.shape[1:]) * array.itemsize
        kind = self._kinds.get(size)
        if kind is None:
            kind = self._kinds[size] = mpi().BYTE.Create_contiguous(size).Commit()
        return kind

    def start(self, x: NDArray[Any]) -> Pending:
        """[owned, …] → [owned + ghosts, …]: rows of the sources; those of ghosts are on their way."""
        out = recycling.empty((self.num_owned + self.num_ghosts, *x.shape[1:]), x.dtype)
        out[: self.num_owned] = x
        if self._idle or not math.prod(x.shape[1:]):
            return Pending(self, None, out, ())
        sent, received = np.take(x, self.rows, axis=0), out[self.num_owned :]
        kind = self._row(out)
        request = self._forward.Ineighbor_alltoallv([sent, (self._to, None), kind], [received, (self._from, None), kind])
        self.meter.bytes += sent.nbytes
        return Pending(self, request, out, (sent, received))

    def sparse(self, x: Any) -> Any:
        """``start`` of a SciPy sparse matrix, complete."""
        from scipy.sparse import csr_matrix, vstack

        x = csr_matrix(x)
        sent = [x[self.rows[start:end]] for start, end in zip(self.ends[:-1], self.ends[1:])]
        self.meter.bytes += sum(part.data.nbytes + part.indices.nbytes + part.indptr.nbytes for part in sent)
        start = time.perf_counter()
        received = self._forward.neighbor_alltoall(sent)
        self.meter.seconds += time.perf_counter() - start
        return vstack([x, *received], format="csr") if received else x

    def back(self, y: NDArray[Any]) -> NDArray[Any]:
        """[owned + ghosts, …] → [owned, …]: each owner adds up its rows and those of its ghosts, in the order of processes."""
        wide = np.float32 if is_half(y.dtype) else y.dtype
        out = recycling.empty((self.num_owned, *y.shape[1:]), wide)
        out[...] = y[: self.num_owned]
        if not self._idle and math.prod(y.shape[1:]):
            sent = np.ascontiguousarray(y[self.num_owned :])
            received = np.empty((len(self.rows), *y.shape[1:]), y.dtype)
            kind = self._row(received)
            request = self._backward.Ineighbor_alltoallv([sent, (self._from, None), kind], [received, (self._to, None), kind])
            self.meter.bytes += sent.nbytes
            Pending(self, request, received, (sent,)).wait()
            for start, end in zip(self.ends[:-1], self.ends[1:]):  # the rows of one neighbour differ
                out[self.rows[start:end]] += received[start:end]
        found: NDArray[Any] = out if wide == y.dtype else out.astype(y.dtype)
        return found

    def close(self) -> None:
        """Give MPI's objects back; a collective call."""
        for kind in self._kinds.values():
            kind.Free()
        self._forward.Free()
        self._backward.Free()
