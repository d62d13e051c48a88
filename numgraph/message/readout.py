"""readout: rows of nodes to a row of each graph of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph import errors
from numgraph.arrays.inputs import as_array
from numgraph.arrays.traced import MODULES, TRACED, is_traced
from numgraph.autodiff.typed import of_graph
from numgraph.expressions.dtypes import check_dtype
from numgraph.expressions.reduces import NAMES
from numgraph.graph import GraphBatch, check_batch
from numgraph.message.passing import update_all


@of_graph
def readout(b: GraphBatch, x: Any, reduce: str = "sum") -> Any:
    """z_g = ⊕ x_i over the nodes i of graph g.

    Parameters
    ----------
    b : what ``batch`` or a GraphLoader returns
    x : [nodes, …] an array or Tensor, of NumPy, torch or JAX; of bipartite graphs a row for each destination
    reduce : ⊕, "sum", "mean", "max" or another one of update_all

    Returns
    -------
    [graphs, …]; graphs without nodes give what rows without in-edges do in update_all, 0 for most. Gradients
    of every order.

    Raises
    ------
    TypeError : b is no batch
    ValueError : an unknown reduce, or x has not a row for each node

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> b = ng.batch([ng.Graph([0], [1]), ng.Graph([], [], 1)])
    >>> ng.readout(b, np.array([[1.0, 5.0], [3.0, 2.0], [7.0, 8.0]]), "max")
    array([[3., 5.],
           [7., 8.]])
    """
    if "torch" in MODULES and is_traced():
        return TRACED["torch"](readout, (b, x, reduce), {})
    check_batch("readout", b)
    errors.check_name("readout", "reduce", reduce, NAMES)
    rows = node_rows("readout", b, x)
    if isinstance(rows.dtype, np.dtype):
        check_dtype("readout", "x", rows.dtype)
    return update_all(b.pool, _of_node, reduce, e={"x": rows})


def node_rows(op: str, b: GraphBatch, x: Any) -> Any:
    """x with a row for each node of a batch."""
    x = x if hasattr(x, "shape") else as_array(op, "x", x)
    nodes = int(b.node_offsets[-1])
    if len(x.shape) == 0 or x.shape[0] != nodes:
        raise errors.bad_value(
            op,
            f"x has shape {list(x.shape)}, the batch's graphs have {nodes} nodes",
            f"the first axis must be {nodes}",
        )
    return x


def _of_node(e: Any) -> Any:
    return e.x
