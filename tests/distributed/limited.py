"""What a test runs on four ranks: they train on shards, with so little memory each that none could have the
whole. Prints JSON.
"""

from __future__ import annotations

import ctypes
import json
import resource
import sys
from pathlib import Path

import numpy as np
from mpi4py import MPI

import numgraph as ng
from numgraph.distributed import DistGraph, write_shards
from numgraph.distributed.rows import one_copy
from numgraph.training import SharedDataset

COMM = MPI.COMM_WORLD
FEATURES, CLASSES, MARGIN = 256, 4, 36 << 20


def ring(nodes):
    """Each node with its neighbours; features tell the classes."""
    ids, rng = np.arange(nodes), np.random.default_rng(0)
    labels = ids * CLASSES // nodes
    x = rng.standard_normal((nodes, FEATURES), np.float32)
    x[ids, labels] += 3
    around = [(ids + step) % nodes for step in (-2, -1, 1, 2)]
    return ng.Dataset.from_arrays(ng.Graph(np.concatenate(around), np.tile(ids, 4), nodes), x, labels)


def shards(folder, nodes):
    """Of one part and of four, neighbours together."""
    if COMM.rank == 0:
        for parts in (1, 4):
            write_shards(
                folder / f"{nodes}-{parts}", ring(nodes), parts, method=np.arange(nodes) * parts // nodes
            )
    COMM.Barrier()


def trained(folder, comm):
    """The losses."""
    data = SharedDataset.stored(DistGraph.load(folder, comm, verify="sizes"))
    return ng.fit(ng.nn.GCN(FEATURES, 16, CLASSES, dropout=0, rng=0), data, epochs=5).train_loss


def data_bytes():
    """What RLIMIT_DATA counts: memory that is no file's, touched or not."""
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmData"].split()[0]) * 1024


def fails(make):
    try:
        make()
    except MemoryError:
        return True
    return False


def is_one_memory():
    """Whether all ranks see what the first writes to its copy."""
    x = np.arange(12.0).reshape(4, 3)
    made = one_copy(x, COMM)
    same = made is not x and np.array_equal(made, x) and not made.flags.writeable
    COMM.Barrier()
    if COMM.rank == 0:
        writable = np.frombuffer(memory_of(made), np.float64)
        writable[7] = -1
    COMM.Barrier()
    return COMM.allreduce(bool(same and made[2, 1] == -1), MPI.LAND)


def memory_of(array):
    """Its memory, which is read-only for users alone."""
    return (ctypes.c_char * array.nbytes).from_address(array.ctypes.data)


def main():
    one = is_one_memory()
    folder = Path(sys.argv[1])
    for nodes in (10000, 40000):
        shards(folder, nodes)
    for parts, comm in (1, MPI.COMM_SELF), (4, COMM):
        trained(
            folder / f"10000-{parts}", comm
        )  # compiles, and makes what libraries keep; of as many rows as a quarter has
    limit = data_bytes() + MARGIN
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
    whole, enforced = COMM.rank == 0, fails(lambda: np.empty(1 << 30, np.uint8))
    if whole and enforced:
        whole = not fails(lambda: trained(folder / "40000-1", MPI.COMM_SELF))
    losses = trained(folder / "40000-4", COMM)
    if COMM.rank == 0:
        print(json.dumps({"enforced": enforced, "whole": whole, "losses": losses, "one": one}), flush=True)


if __name__ == "__main__":
    main()
