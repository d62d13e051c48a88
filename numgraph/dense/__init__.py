"""What NumPy functions do to Tensors, one rule each, and the dense functions that training needs beside them.

Importing this package fills the tape's table of rules.
"""

from __future__ import annotations

from numgraph.dense.algebra import einsum, matmul
from numgraph.dense.reductions import logsumexp
from numgraph.dense.shapes import gather, scatter_add

__all__ = ["einsum", "gather", "logsumexp", "matmul", "scatter_add"]
