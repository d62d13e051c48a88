"""Rows that go from the processes that own them to those that have edges from them, and back: MPI's
neighbourhood collectives on arrays.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays import recycling
from numgraph.arrays.inputs import is_sparse
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

    def __init__(
        self, halo: Halo, label: Label | None, request: Any, result: Any, held: tuple[Any, ...]
    ) -> None:
        self._halo, self._label, self._request, self.result, self._held = halo, label, request, result, held

    def progress(self) -> None:
        """Let MPI go on."""
        if self._request is not None:
            try:
                self._request.Test()
            except mpi().Exception:  # as rows of other lengths are one, which the labels tell in words
                self.wait()
                raise

    def wait(self) -> Any:
        """The result, complete."""
        start = time.perf_counter()
        if self._label is not None:
            try:
                self._label.check()
            except ValueError:
                self._halo.abandoned.append(self)  # MPI may still write into its arrays
                raise
            self._label = None
        if self._request is not None:
            self._request.Wait()
            self._request, self._held = None, ()
        self._halo.meter.seconds += time.perf_counter() - start
        return self.result


class Label:
    """What a process exchanges, on its way to its neighbours beside the rows, whose bytes alone would fit
    other shapes and dtypes too.
    """

    BYTES = 64

    def __init__(self, comm: Any, neighbours: list[int], op: str, array: Any) -> None:
        self._op, self._neighbours = op, neighbours
        text = f"{op} of {'sparse ' * is_sparse(array)}rows {list(array.shape[1:])} in {array.dtype.name}"
        text = (
            text if len(text) <= self.BYTES else f"{text[: self.BYTES - 9]} {zlib.crc32(text.encode()):08x}"
        )
        self._mine = text.ljust(self.BYTES).encode()
        self._theirs = bytearray(self.BYTES * len(neighbours))
        self._request = comm.Ineighbor_allgather([self._mine, mpi().BYTE], [self._theirs, mpi().BYTE])

    def check(self) -> None:
        """Wait for the neighbours' labels.

        Raises
        ------
        ValueError : a neighbour exchanges something else
        """
        self._request.Wait()
        if self._theirs != self._mine * len(self._neighbours):
            for i, rank in enumerate(self._neighbours):
                theirs = bytes(self._theirs[i * self.BYTES : (i + 1) * self.BYTES])
                if theirs != self._mine:
                    problem = (
                        f"process {rank} has {theirs.decode().rstrip()!r} here, this one "
                        f"{self._mine.decode().rstrip()!r}"
                    )
                    fix = (
                        "give the same features and dtype, and make the same calls in the same order, on all "
                        "processes"
                    )
                    raise bad_value(f"DistGraph.{self._op}", problem, fix)


class Halo:
    """Who sends which rows to whom. Every process makes one at the same time, and calls its methods in the
    same order.

    Parameters
    ----------
    comm : mpi4py's communicator
    owned : [own] ids of this process's nodes
    ghosts : ids of other processes' nodes whose rows it needs, grouped by owner, ascending in each group
    owners : the ghosts' owners
    """

    def __init__(
        self, op: str, comm: Any, owned: NDArray[Any], ghosts: NDArray[Any], owners: NDArray[Any]
    ) -> None:
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
                problem = (
                    f"process {asking} has edges from node {requests[first]}, as if process {comm.rank} "
                    "owned it, which does not"
                )
                raise bad_value(
                    op, problem, "the parts are of different partitions: make all of them from one"
                )

        together(comm, check)
        senders, receivers = np.flatnonzero(wanted), np.flatnonzero(asked)
        self._from, self._to = wanted[senders], asked[receivers]
        self.ends = np.concatenate([[0], np.cumsum(self._to)])
        self._forward = comm.Create_dist_graph_adjacent(senders.tolist(), receivers.tolist())
        self._backward = comm.Create_dist_graph_adjacent(receivers.tolist(), senders.tolist())
        self._neighbours = np.union1d(senders, receivers).tolist()
        self._labels = comm.Create_dist_graph_adjacent(self._neighbours, self._neighbours)
        self.abandoned: list[Pending] = []
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
        if self._idle:
            return Pending(self, None, None, out, ())
        label = Label(self._labels, self._neighbours, "exchange", x)
        if not math.prod(x.shape[1:]):
            return Pending(self, label, None, out, ())
        sent, received = np.take(x, self.rows, axis=0), out[self.num_owned :]
        kind = self._row(out)
        request = self._forward.Ineighbor_alltoallv(
            [sent, (self._to, None), kind], [received, (self._from, None), kind]
        )
        self.meter.bytes += sent.nbytes
        return Pending(self, label, request, out, (sent, received))

    def sparse(self, x: Any) -> Any:
        """``start`` of a SciPy sparse matrix, complete."""
        from scipy.sparse import csr_matrix, vstack

        x = csr_matrix(x)
        Label(self._labels, self._neighbours, "exchange", x).check()
        sent = [x[self.rows[start:end]] for start, end in zip(self.ends[:-1], self.ends[1:])]
        self.meter.bytes += sum(part.data.nbytes + part.indices.nbytes + part.indptr.nbytes for part in sent)
        start = time.perf_counter()
        received = self._forward.neighbor_alltoall(sent)
        self.meter.seconds += time.perf_counter() - start
        return vstack([x, *received], format="csr") if received else x

    def back(
        self, y: NDArray[Any], meanwhile: Callable[[Callable[[], None]], None] | None = None
    ) -> NDArray[Any]:
        """[owned + ghosts, …] → [owned, …]: each owner adds up its rows and those of its ghosts, in the order
        of processes.

        meanwhile : completes the owned rows of y, which nothing reads before, and calls what lets MPI go on
        """
        pending = None if self._idle else self._send_back(y)
        if meanwhile is not None:
            meanwhile(pending.progress if pending else lambda: None)
        wide = np.float32 if is_half(y.dtype) else y.dtype
        out = recycling.empty((self.num_owned, *y.shape[1:]), wide)
        out[...] = y[: self.num_owned]
        if pending is not None:
            received = pending.wait()
            for start, end in zip(self.ends[:-1], self.ends[1:]):  # the rows of one neighbour differ
                out[self.rows[start:end]] += received[start:end]
        found: NDArray[Any] = out if wide == y.dtype else out.astype(y.dtype)
        return found

    def _send_back(self, y: NDArray[Any]) -> Pending:
        """The rows that other processes have for this one's nodes, on their way."""
        label = Label(self._labels, self._neighbours, "collect", y)
        received = np.empty((len(self.rows), *y.shape[1:]), y.dtype)
        if not math.prod(y.shape[1:]):
            return Pending(self, label, None, received, ())
        sent, kind = np.ascontiguousarray(y[self.num_owned :]), self._row(received)
        request = self._backward.Ineighbor_alltoallv(
            [sent, (self._from, None), kind], [received, (self._to, None), kind]
        )
        self.meter.bytes += sent.nbytes
        return Pending(self, label, request, received, (sent,))

    def close(self) -> None:
        """Give MPI's objects back; a collective call."""
        for kind in self._kinds.values():
            kind.Free()
        self._forward.Free()
        self._backward.Free()
        self._labels.Free()
