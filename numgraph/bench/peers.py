"""The other libraries, one class each: how it is found, how it holds a graph, and how it runs a row of a
table.

A row names its formulation for each peer that has one: an expression of tensors for DGL and PyG, a matrix
product for the libraries that have only that. What a library prepares once for a graph (formats, transposes,
weights inside the matrix) is prepared outside of the time."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from numgraph.errors import unknown
from numgraph.graph import Graph

if TYPE_CHECKING:
    from numgraph.bench.kernels import Row

Operands = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Runs:
    """What is timed. Each call gives its results as arrays: the output, then with ``both`` the gradients of
    the operands it has one for.
    """

    forward: Callable[[], list[Any]]
    both: Callable[[], list[Any]] | None


class Peer:
    """Made once a run: the constructor imports the library, and raises ImportError where it cannot.

    ``distribution`` is the package that `pip` knows; ``formulation`` what a row has to define for this peer.
    """

    name: str
    distribution: str
    formulation: str
    install: str

    def version(self) -> str:
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:  # installed under another name
            return "of unknown version"

    def prepare(self, g: Graph) -> Any:
        """The graph as the library holds it."""
        raise NotImplementedError

    def runs(self, row: Row, graph: Any, operands: Operands, seed: np.ndarray) -> Runs:
        """The row on a prepared graph. seed: the gradient of the output, from which the backward starts."""
        raise NotImplementedError

    def array(self, result: Any) -> np.ndarray:
        """A result as NumPy array."""
        return np.asarray(result)


# Libraries that have a product of a sparse and a dense matrix


class Matrices(Peer):
    """z = A x with A [num_dst, num_src], and its gradient Aᵀ g with the transpose as a second matrix by
    rows.
    """

    formulation = "product"

    def prepare(self, g: Graph) -> Graph:
        return g

    def matrix(self, rows: Any, values: np.ndarray, shape: tuple[int, int]) -> Any:
        raise NotImplementedError

    def product(self, matrix: Any, x: Any) -> Any:
        return matrix @ x

    def tensor(self, array: np.ndarray) -> Any:
        return array

    def runs(self, row: Row, graph: Graph, operands: Operands, seed: np.ndarray) -> Runs:
        assert row.product is not None
        weights = (
            np.ones(graph.num_edges, np.float32)
            if row.product.values is None
            else operands[row.product.values].reshape(-1)
        )
        into = graph.in_edges
        a = self.matrix(into, weights[np.asarray(into.edge_ids)], (graph.num_dst, graph.num_src))
        x = self.tensor(operands[row.product.x])
        if row.product.values is not None:  # the gradient of a matrix's values is no product
            return Runs(lambda: [self.product(a, x)], None)
        out = graph.out_edges
        transposed = self.matrix(out, weights[np.asarray(out.edge_ids)], (graph.num_src, graph.num_dst))
        g = self.tensor(seed)
        return Runs(lambda: [self.product(a, x)], lambda: [self.product(a, x), self.product(transposed, g)])


class SciPy(Matrices):
    name, distribution, install = "scipy", "scipy", "pip install scipy"

    def __init__(self) -> None:
        from scipy.sparse import csr_matrix

        self.csr_matrix = csr_matrix

    def matrix(self, rows: Any, values: np.ndarray, shape: tuple[int, int]) -> Any:
        return self.csr_matrix((values, np.array(rows.indices), np.array(rows.indptr)), shape=shape)


class MKL(SciPy):
    """Through sparse-dot-mkl."""

    name, distribution, install = "mkl", "mkl", "pip install sparse-dot-mkl mkl"

    def __init__(self) -> None:
        super().__init__()
        if "MKL_RT" not in os.environ:
            found = sorted((Path(sys.prefix) / "lib").glob("libmkl_rt*"))
            if found:
                os.environ["MKL_RT"] = str(found[0])
        import sparse_dot_mkl

        self.dot = sparse_dot_mkl.dot_product_mkl

    def version(self) -> str:
        from sparse_dot_mkl import get_version_string

        return str(get_version_string()).split("Version ")[-1].split("-")[0]

    def product(self, matrix: Any, x: Any) -> Any:
        return self.dot(matrix, x)


class TorchCSR(Matrices):
    name, distribution, install, device = "torch", "torch", "pip install torch", "cpu"

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def tensor(self, array: np.ndarray) -> Any:
        return self.torch.from_numpy(array).to(self.device)

    def array(self, result: Any) -> np.ndarray:
        found: np.ndarray = result.cpu().numpy()
        return found

    def matrix(self, rows: Any, values: np.ndarray, shape: tuple[int, int]) -> Any:
        indptr, indices = (self.tensor(np.array(ids)) for ids in (rows.indptr, rows.indices))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that CSR is in beta
            return self.torch.sparse_csr_tensor(
                indptr, indices, self.tensor(values), shape, check_invariants=False
            )


# Libraries of message passing on torch


class Tensors(Peer):
    """A row is a function of the graph and the operands as tensors; its gradients are torch's."""

    device = "cpu"

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def tensor(self, array: np.ndarray) -> Any:
        return self.torch.from_numpy(array).to(self.device)

    def runs(self, row: Row, graph: Any, operands: Operands, seed: np.ndarray) -> Runs:
        torch, function = self.torch, getattr(row, self.formulation)
        plain = {name: self.tensor(array) for name, array in operands.items()}
        watched = {name: tensor.clone().requires_grad_() for name, tensor in plain.items()}
        g = self.tensor(seed)

        def both() -> list[Any]:
            z = function(graph, *watched.values())
            return [z, *torch.autograd.grad(z, list(watched.values()), g)]

        return Runs(lambda: [function(graph, *plain.values())], both)

    def array(self, result: Any) -> np.ndarray:
        found: np.ndarray = result.detach().cpu().numpy()
        return found


class DGL(Tensors):
    name, distribution, formulation = "dgl", "dgl", "dgl"
    install = "pip install --no-deps dgl==1.1.3 && pip install scipy networkx psutil requests tqdm"

    def __init__(self) -> None:
        super().__init__()
        os.environ.setdefault("DGLBACKEND", "pytorch")  # else the import writes a file that says so
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                import dgl
                import dgl.ops
            except (
                OSError,
                RuntimeError,
            ) as error:  # a library that its wheel was built against is not there
                raise ImportError(str(error)) from error
        self.dgl = dgl

    def prepare(self, g: Graph) -> Any:
        """32-bit ids, both groupings made."""
        src, dst = (self.torch.from_numpy(np.array(ids, np.int32)) for ids in (g.src, g.dst))
        graph = self.dgl.graph((src, dst), num_nodes=g.num_nodes, idtype=self.torch.int32)
        graph.create_formats_()
        return graph


class PyG(Tensors):
    name, distribution, formulation, install = "pyg", "torch-geometric", "pyg", "pip install torch-geometric"

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch_geometric.utils

        self.geometric = torch_geometric

    def prepare(self, g: Graph) -> Any:
        """64-bit ids, which PyG's gather and scatter take."""
        src, dst = (self.tensor(np.array(ids, np.int64)) for ids in (g.src, g.dst))
        utils = self.geometric.utils
        return SimpleNamespace(
            src=src,
            dst=dst,
            num_nodes=g.num_nodes,
            scatter=utils.scatter,
            softmax=_pyg_softmax(utils.softmax),
        )


def _pyg_softmax(softmax: Callable[..., Any]) -> Callable[..., Any]:
    return lambda scores, index, num_nodes: softmax(scores, index, num_nodes=num_nodes)


PEERS: dict[str, type[Peer]] = {kind.name: kind for kind in (SciPy, MKL, TorchCSR, DGL, PyG)}


PASSIVE = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
"""What OpenMP's libraries read when they are loaded: threads that have no work sleep. Else they spin on the
cores of whoever is measured next, those of GCC's library for 5 to 10 ms, those of Intel's (MKL) for 200."""


def load(
    names: Iterable[str] | None, known: Mapping[str, type[Peer]]
) -> tuple[dict[str, Peer], dict[str, str]]:
    """The peers that are here, of these or all the known ones, and of the others name → how to install them.
    Their threads are passive, unless the user has chosen otherwise or they were loaded before."""
    for name, value in PASSIVE.items():
        os.environ.setdefault(name, value)
    found: dict[str, Peer] = {}
    left_out: dict[str, str] = {}
    for name in known if names is None else names:
        if name not in known:
            raise unknown("bench", "peer", name, known)
        try:
            found[name] = known[name]()
        except (
            Exception
        ) as error:  # a library that does not fit another one raises anything when it is imported
            left_out[name] = f"{error} ({known[name].install})"
    return found, left_out
