"""Values that are the same on all processes, such as parameters: replicate and allreduce, adjoints of each
other on the tape.

A value is shared (equal on all processes, it counts once) or a process's own. ``replicate`` makes own copies
of a shared value, ``allreduce`` one shared value of own ones. A loss is a process's own, its part of the
whole: so parameters are replicated before they meet its rows, and their gradients come back summed.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.inputs import given, kind_of
from numgraph.arrays.typed import Array
from numgraph.autodiff.tape import record, unwrap
from numgraph.autodiff.tensor import Tensor
from numgraph.distributed.processes import agreed, communicator, from_first, mpi, share_cores
from numgraph.errors import bad_type, bad_value
from numgraph.expressions.precision import is_half


class Divided(Protocol):
    """A loader whose seeds processes divide."""

    processes: Any

    def take_rows(self, rows: Any) -> None: ...


L = TypeVar("L", bound=Divided)
T = TypeVar("T")


@overload
def replicate(w: list[T], comm: Any) -> list[T]: ...
@overload
def replicate(w: Tensor, comm: Any) -> Tensor: ...
@overload
def replicate(w: NDArray[Any] | float, comm: Any) -> Array: ...
def replicate(w: Any, comm: Any) -> Any:
    """A shared value as each process's own: w itself, whose gradient is the sum over the processes'.

    Parameters
    ----------
    w : array, Tensor or Parameter, equal on all processes;
        of a list all are replicated, and their gradients summed at once
    comm : mpi4py's communicator, or a DistGraph

    Returns
    -------
    The same numbers

    Notes
    -----
    The adjoint of ``allreduce``: with copies w_r = w, ∂L/∂w = Σ_r ∂L/∂w_r.
    """
    return _each("replicate", w, communicator("replicate", comm))


@overload
def allreduce(x: list[T], comm: Any) -> list[T]: ...
@overload
def allreduce(x: Tensor, comm: Any) -> Tensor: ...
@overload
def allreduce(x: NDArray[Any] | float, comm: Any) -> Array: ...
def allreduce(x: Any, comm: Any) -> Any:
    """Σ_r x_r over the processes, a shared value: the same bits on all.

    Parameters
    ----------
    x : array or Tensor, of the same shape and dtype on all processes; of a list all are summed at once
    comm : mpi4py's communicator, or a DistGraph

    Returns
    -------
    of x's shape and dtype, or a list of such

    Notes
    -----
    The adjoint of ``replicate``: the result counts once, and so does a loss that is computed of it alone.
    Where a process's part of the loss is computed of it and the process's own rows, replicate it before.
    """
    return _each("allreduce", x, communicator("allreduce", comm))


class Processes:
    """What a training asks of several processes (``numgraph.training.alone`` has it for one): all of them
    call each method together.

    Parameters
    ----------
    comm : mpi4py's communicator

    Attributes
    ----------
    bytes : of arrays that this process has given to sums
    seconds : in sums
    """

    several = True

    def __init__(self, comm: Any) -> None:
        self.comm, self.rank, self.size = comm, comm.rank, comm.size
        self.first = comm.rank == 0
        self.bytes, self.seconds = 0, 0.0

    def generator(self, seed: int, epoch: int, rng: np.random.Generator) -> np.random.Generator:
        """Each process draws other numbers, anew in each epoch: what is drawn does not depend on where a
        training was taken up.
        """
        return np.random.default_rng([seed, epoch, self.rank])

    def agreed(self, flag: bool) -> bool:
        """Whether any process says so."""
        return bool(self.comm.allreduce(bool(flag), op=mpi().LOR))

    def total(self, number: Any) -> Any:
        """The sum of the processes' numbers."""
        return self.comm.allreduce(number)

    def summed(self, arrays: list[Any]) -> list[Any]:
        """The sums of the processes' arrays."""
        start = time.perf_counter()
        found = list(summed(arrays, self.comm))
        self.bytes += sum(array.nbytes for array in arrays)
        self.seconds += time.perf_counter() - start
        return found

    def from_first(self, make: Callable[[], Any]) -> Any:
        """What process 0 makes."""
        return from_first(self.comm, make)

    def alike(self, op: str, values: Mapping[str, Any]) -> None:
        """An error of all where a number or an array is another on one of them."""
        mine = {name: _digest(value) for name, value in values.items()}
        every = self.comm.allgather(mine)
        for rank, theirs in enumerate(every):
            if theirs != every[0]:
                name = next(name for name in every[0] | theirs if every[0].get(name) != theirs.get(name))
                problem = f"{name} is {every[0].get(name)} on process 0, {theirs.get(name)} on process {rank}"
                raise bad_value(
                    op, problem, "make the same model, and give the same options, on all processes"
                )


def _digest(value: Any) -> str:
    """A text that is the same for the same number, or the same array."""
    if not isinstance(value, np.ndarray):
        return str(value)
    return f"{value.dtype} {list(value.shape)} with the checksum {zlib.crc32(value.tobytes()):08x}"


def divide(loader: L, comm: Any, *, rows: Any = None) -> L:
    """The loader, whose batches' seeds the processes divide among them from now on: each draws and gathers
    for its own.

    Parameters
    ----------
    loader : numgraph.NeighborLoader, made alike on every process
    comm : mpi4py's communicator
    rows : SharedRows, from which the features come in place of the loader's own: in one exchange a batch,
        made when it is asked for

    Returns
    -------
    The loader

    Raises
    ------
    TypeError : what is no loader

    Notes
    -----
    Every process has the whole graph, and without ``rows`` the features, or maps their files. Batches are the
    same as of one process, for what is drawn for a node depends on nothing else in them. ``numgraph.fit``
    adds up the gradients, ``model.inference`` the rows."""
    if not hasattr(loader, "over_all") or not hasattr(loader, "sampler"):
        raise bad_type("divide", f"loader is {kind_of(loader)}", "give a numgraph.NeighborLoader")
    comm = communicator("divide", comm)
    share_cores(comm)
    loader.processes = Processes(comm)
    if rows is not None:
        loader.take_rows(rows)
    return loader


def _each(op: str, x: Any, comm: Any) -> Any:
    if isinstance(x, list | tuple):
        return list(_many(op, [given(op, f"[{i}]", one) for i, one in enumerate(x)], comm))
    return _many(op, [given(op, "x", x)], comm)[0]


def _many(op: str, values: Sequence[Any], comm: Any) -> Sequence[Any]:
    if not values:
        return ()
    arrays = [unwrap(value) for value in values]
    made = summed(arrays, comm) if op == "allreduce" else tuple([array.view() for array in arrays])
    adjoint = "replicate" if op == "allreduce" else "allreduce"

    def vjp(grads: Sequence[Any], *_: Any) -> Sequence[Any]:
        return _many(adjoint, grads, comm)

    found: Sequence[Any] = record(
        op, tuple(values), tuple(made), vjp, _explain(adjoint, comm.size), collective=True
    )
    return found


def _explain(adjoint: str, size: int) -> Callable[[Sequence[bool]], list[str]]:
    return lambda needs: [f"replayed as {adjoint} over {size} processes"]


def summed(arrays: Sequence[Any], comm: Any) -> tuple[Any, ...]:
    """The sums over the processes, in one message for each dtype; float16 and bfloat16 are added in
    float32.
    """
    made: list[Any] = [None] * len(arrays)
    groups: dict[np.dtype[Any], list[int]] = {}
    for i, array in enumerate(arrays):
        if array.dtype.kind not in "iu" and not is_half(array.dtype) and array.dtype.char not in "fd":
            raise bad_type("allreduce", f"x has dtype {array.dtype}", "give real numbers")
        groups.setdefault(np.dtype(np.float32) if is_half(array.dtype) else array.dtype, []).append(i)
    if arrays:
        kinds = [(array.dtype.name, array.shape) for array in arrays]
        agreed(
            "allreduce",
            "x",
            comm,
            kinds,
            "give arrays of the same shapes and dtypes, in the same order, on all processes",
        )
    for dtype, members in groups.items():
        whole = np.concatenate([np.asarray(arrays[i], dtype).reshape(-1) for i in members])
        total = np.empty_like(whole)
        comm.Allreduce(whole, total)
        ends = np.cumsum([arrays[i].size for i in members])
        for i, part in zip(members, np.split(total, ends[:-1])):
            made[i] = part.reshape(arrays[i].shape).astype(arrays[i].dtype)
    return tuple(made)
