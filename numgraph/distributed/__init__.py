"""Graphs that several processes share, by MPI: each owns some nodes, has their in-edges, and fetches rows of
its neighbours' nodes.

Programs run under ``mpiexec -n 4 python -m mpi4py program.py``. mpi4py and pymetis, the extra ``mpi``, are
imported by the functions that need them.
"""

from __future__ import annotations

from numgraph.distributed.graph import DistGraph
from numgraph.distributed.rows import SharedRows
from numgraph.distributed.shards import write_shards
from numgraph.distributed.shared import Processes, allreduce, divide, replicate
from numgraph.errors import no_attribute
from numgraph.graph.partition import partition

__all__ = [
    "DistGraph",
    "Processes",
    "SharedRows",
    "allreduce",
    "divide",
    "partition",
    "replicate",
    "write_shards",
]


def __getattr__(name: str) -> object:
    raise no_attribute("numgraph.distributed", name, __all__)
