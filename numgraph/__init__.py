"""numgraph: message passing for graph neural networks in the NumPy world."""

from numgraph import data, dense, nn, ops, optim
from numgraph.elementary import elu, erf, gelu, leaky_relu, relu, sigmoid, silu, softplus
from numgraph.graph import Adjacency, Graph
from numgraph.message import apply_edges, attend, update_all
from numgraph.tape import Parameter, Tape, Tensor

__version__ = "0.1.0"

__all__ = [
    "Adjacency",
    "Graph",
    "Parameter",
    "Tape",
    "Tensor",
    "apply_edges",
    "attend",
    "data",
    "dense",
    "elu",
    "erf",
    "gelu",
    "leaky_relu",
    "nn",
    "ops",
    "optim",
    "relu",
    "sigmoid",
    "silu",
    "softplus",
    "update_all",
]
