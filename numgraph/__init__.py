"""numgraph: message passing for graph neural networks in the NumPy world."""

import importlib
import warnings

from numgraph import data, dense, extend, nn, ops, optim, sampling, training
from numgraph.arrays.typed import Array
from numgraph.autodiff.functional import detach, grad, jacobian, no_grad, value_and_grad
from numgraph.autodiff.tape import Parameter, Tape, Tensor
from numgraph.autodiff.watching import debug
from numgraph.data import Dataset, GraphDataset, GraphLoader
from numgraph.dense import (
    batch_norm,
    binary_cross_entropy_with_logits,
    cross_entropy,
    dropout,
    einsum,
    elu,
    erf,
    gather,
    gelu,
    huber,
    layer_norm,
    leaky_relu,
    log_softmax,
    logsumexp,
    mae,
    matmul,
    mse,
    relu,
    scatter_add,
    sigmoid,
    silu,
    softmax,
    softplus,
    take,
)
from numgraph.errors import no_attribute
from numgraph.graph import Adjacency, EdgeMap, Graph, GraphBatch, HeteroGraph, batch, unbatch
from numgraph.message import apply_edges, attend, multi_update_all, readout, update_all
from numgraph.profiling import Profile, profile
from numgraph.sampling import ClusterLoader, LinkLoader, NeighborLoader
from numgraph.serialize import load, save
from numgraph.training import fit

__version__ = "0.2.0"

__all__ = [
    "Adjacency",
    "Array",
    "ClusterLoader",
    "Dataset",
    "EdgeMap",
    "Graph",
    "GraphBatch",
    "GraphDataset",
    "GraphLoader",
    "HeteroGraph",
    "LinkLoader",
    "NeighborLoader",
    "Parameter",
    "Profile",
    "Tape",
    "Tensor",
    "apply_edges",
    "attend",
    "batch",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "data",
    "debug",
    "dense",
    "detach",
    "dropout",
    "einsum",
    "elu",
    "erf",
    "extend",
    "fit",
    "gather",
    "gelu",
    "grad",
    "huber",
    "jacobian",
    "layer_norm",
    "leaky_relu",
    "load",
    "log_softmax",
    "logsumexp",
    "mae",
    "matmul",
    "mse",
    "multi_update_all",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "profile",
    "readout",
    "relu",
    "sampling",
    "save",
    "scatter_add",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "take",
    "unbatch",
    "update_all",
    "value_and_grad",
]


def __getattr__(name: str) -> object:
    """The parts for PyTorch users and for MPI, imported when they are asked for; for other names an error
    that says where they are.
    """
    if name == "distributed":
        return importlib.import_module("numgraph.distributed")
    if name == "torch":
        try:
            return importlib.import_module("numgraph.torch")
        except ModuleNotFoundError as error:
            raise AttributeError(
                f"numgraph.torch needs PyTorch ({error}); pip install numgraph[torch]"
            ) from error
    if name == "recycling":
        message = "numgraph.recycling is numgraph.arrays.recycling since 0.2; the old name goes with 0.3"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return importlib.import_module("numgraph.arrays.recycling")
    if not name.startswith("_"):
        for place in (nn, optim, ops, data, training, sampling):
            if name in place.__all__:
                raise AttributeError(f"numgraph has no {name!r}; it is {place.__name__}.{name}")
    raise no_attribute("numgraph", name, __all__)
