"""The other libraries on a CUDA device: cuSPARSE through CuPy and through torch, torch's scatter, PyG; and
numgraph with atomic additions, or on the host.

They are found, hold graphs and run rows as those of the host do (peers.py). Operands are copied to the device
outside of the time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from numgraph import __version__
from numgraph.arrays import devices
from numgraph.bench.peers import Matrices, Operands, Peer, PyG, Runs, Tensors, TorchCSR
from numgraph.graph import Graph

if TYPE_CHECKING:
    from numgraph.bench.kernels import Row


class CuSparse(Matrices):
    """cuSPARSE's SpMM as ``csr_matrix @ dense`` of cupyx runs it, on a dense matrix in the column order that
    it asks for.
    """

    name, distribution, install = "cusparse", "cupy", "pip install 'numgraph[cuda]'"

    def __init__(self) -> None:
        from cupyx.scipy.sparse import csr_matrix

        self.cupy, self.csr_matrix = devices.cupy(), csr_matrix

    def version(self) -> str:
        return f"of CuPy {self.cupy.__version__}"

    def tensor(self, array: np.ndarray) -> Any:
        return self.cupy.asfortranarray(self.cupy.asarray(array))

    def matrix(self, rows: Any, values: np.ndarray, shape: tuple[int, int]) -> Any:
        indptr, indices = (self.cupy.asarray(np.array(ids, np.int32)) for ids in (rows.indptr, rows.indices))
        made = self.csr_matrix((self.cupy.asarray(values), indices, indptr), shape=shape)
        made.has_canonical_format = True  # else the first product would merge parallel edges
        return made

    def array(self, result: Any) -> np.ndarray:
        found: np.ndarray = result.get()
        return found


def _cuda_torch() -> Any:
    import torch

    if not torch.cuda.is_available():
        raise ImportError("this torch sees no CUDA device")
    return torch


class TorchOnDevice(TorchCSR):
    """cuSPARSE's SpMM as ``torch.sparse.mm`` runs it, on a dense matrix in row order."""

    install, device = "pip install torch, a build for CUDA", "cuda"

    def __init__(self) -> None:
        self.torch = _cuda_torch()

    def product(self, matrix: Any, x: Any) -> Any:
        return self.torch.sparse.mm(matrix, x)


class Scatter(Tensors):
    """Gather and scatter in plain torch: ``index_select``, ``index_add``, ``scatter_reduce``."""

    name, distribution, formulation, device = "scatter", "torch", "pyg", "cuda"
    install = "pip install torch, a build for CUDA"

    def __init__(self) -> None:
        self.torch = _cuda_torch()

    def prepare(self, g: Graph) -> Any:
        src, dst = (self.tensor(np.array(ids, np.int64)) for ids in (g.src, g.dst))
        return SimpleNamespace(src=src, dst=dst, num_nodes=g.num_nodes, scatter=_scatter, softmax=_softmax)


def _scatter(messages: Any, index: Any, dim: int, size: int, reduce: str = "sum") -> Any:
    out = messages.new_zeros(size, *messages.shape[1:])
    if reduce == "sum":
        return out.index_add(0, index, messages)
    return out.scatter_reduce(0, _wide(index, messages), messages, "amax", include_self=False)


def _softmax(scores: Any, index: Any, num_nodes: int) -> Any:
    top = scores.new_zeros(num_nodes, *scores.shape[1:])
    top = top.scatter_reduce(0, _wide(index, scores), scores.detach(), "amax", include_self=False)
    weights = (scores - top.index_select(0, index)).exp()
    return weights / _scatter(weights, index, 0, num_nodes).index_select(0, index)


def _wide(index: Any, like: Any) -> Any:
    return index.view(-1, *[1] * (like.dim() - 1)).expand_as(like)


class PyGOnDevice(PyG):
    """PyG's own scatter and softmax; the row ``gat`` is the core of its GATConv."""

    device = "cuda"

    def __init__(self) -> None:
        _cuda_torch()
        super().__init__()


class OnHost(Peer):
    """numgraph's own kernels of the host, beside those of the device."""

    name, distribution, formulation, install = "cpu", "numgraph", "numgraph", "pip install numgraph"

    def version(self) -> str:
        return __version__  # of the very code that is measured, which need not be installed

    def prepare(self, g: Graph) -> Graph:
        return g

    def runs(self, row: Row, graph: Graph, operands: Operands, seed: np.ndarray) -> Runs:
        from numgraph.bench.kernels import numgraph_runs

        return numgraph_runs(row, graph, operands, seed)


class Atomic(OnHost):
    """numgraph on the device as well, with atomic additions (devices.atomics); for the products alone."""

    name, formulation = "atomic", "product"

    def prepare(self, g: Graph) -> Graph:
        return g.to("cuda")

    def runs(self, row: Row, graph: Graph, operands: Operands, seed: np.ndarray) -> Runs:
        placed = {name: devices.moved(array, "cuda") for name, array in operands.items()}
        made = super().runs(row, graph, placed, devices.moved(seed, "cuda"))
        return Runs(devices.atomics()(made.forward), made.both and devices.atomics()(made.both))

    def array(self, result: Any) -> np.ndarray:
        found: np.ndarray = devices.moved(result, "cpu")
        return found


DEVICE_PEERS: dict[str, type[Peer]] = {
    kind.name: kind for kind in (CuSparse, TorchOnDevice, Scatter, PyGOnDevice, Atomic)
}
