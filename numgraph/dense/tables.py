"""Rows of tables by ids, of arrays and in messages: embeddings of relations and types."""

from __future__ import annotations

from typing import Any

from numgraph.autodiff.typed import of_array
from numgraph.dense.shapes import gather
from numgraph.expressions import expr, tables


@of_array
def take(table: Any, ids: Any) -> Any:
    """The rows of a table by number: y = table[ids].

    Parameters
    ----------
    table : array or Tensor [rows, …].
    ids : integers [n], 0 ≤ id < rows; in a message a field of integers, one for each edge or node.

    Returns
    -------
    [n, …]; in a message the row of the edge, [...]. The table has a gradient: the sum over all that took a
    row, in the order of ids.

    Raises
    ------
    IndexError where an id is out of range; it names the edge or node.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 2])
    >>> scale = np.array([[1.0], [10.0]])
    >>> fields = {"u": {"x": np.ones((3, 2))}, "e": {"kind": np.array([0, 1, 1])}}
    >>> ng.update_all(g, lambda u, e: u.x * ng.take(scale, e.kind), "sum", **fields)
    array([[ 0.,  0.],
           [ 1.,  1.],
           [20., 20.]])
    """
    return tables.take(table, ids) if isinstance(ids, expr.Expr) else gather(table, ids)
