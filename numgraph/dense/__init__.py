"""What NumPy functions do to Tensors, one rule each, and the dense functions that training needs beside them.

Importing this package fills the tape's table of rules.
"""

from __future__ import annotations

from numgraph.dense import decompositions as _decompositions  # noqa: F401  (these fill the table of rules)
from numgraph.dense import moves as _moves  # noqa: F401
from numgraph.dense import nans as _nans  # noqa: F401
from numgraph.dense import ordered as _ordered  # noqa: F401
from numgraph.dense import products as _products  # noqa: F401
from numgraph.dense import refused as _refused  # noqa: F401
from numgraph.dense import series as _series  # noqa: F401
from numgraph.dense import ufuncs as _ufuncs  # noqa: F401
from numgraph.dense.activations import elu, erf, gelu, leaky_relu, relu, sigmoid, silu, softplus
from numgraph.dense.algebra import einsum, matmul
from numgraph.dense.losses import binary_cross_entropy_with_logits, cross_entropy, huber, mae, mse
from numgraph.dense.normalisation import batch_norm, dropout, layer_norm
from numgraph.dense.reductions import logsumexp
from numgraph.dense.shapes import gather, scatter_add
from numgraph.dense.softmaxes import log_softmax, softmax
from numgraph.dense.tables import take

__all__ = [
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dropout",
    "einsum",
    "elu",
    "erf",
    "gather",
    "gelu",
    "huber",
    "layer_norm",
    "leaky_relu",
    "log_softmax",
    "logsumexp",
    "mae",
    "matmul",
    "mse",
    "relu",
    "scatter_add",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "take",
]
