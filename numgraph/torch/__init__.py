"""numgraph for PyTorch users: layers with PyG's parameters and results, numgraph's own modules as torch's,
PyG's models on these kernels.

``numgraph.update_all`` and its kin take tensors as they are; this package is imported only by name, and
imports torch."""

from numgraph.torch import nn
from numgraph.torch.acceleration import Report, accelerate, restore
from numgraph.torch.module import Module

__all__ = ["Module", "Report", "accelerate", "nn", "restore"]
