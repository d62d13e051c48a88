"""GraphModel: a row for each graph of a batch, from a model of nodes and a readout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.arrays.inputs import kind_of
from numgraph.errors import bad_type, bad_value, check_name
from numgraph.expressions.reduces import NAMES
from numgraph.graph import GraphBatch, check_batch
from numgraph.message import readout as readout_of
from numgraph.nn.dropout import Dropout
from numgraph.nn.init import Seed
from numgraph.nn.models import Stack
from numgraph.nn.module import Module
from numgraph.nn.typed import of_batch


class GraphModel(Module):
    """z_g = head(dropout(⊕ h_i)) over the nodes i of graph g, where h = gnn(graph, x).

    Parameters
    ----------
    gnn : a model of nodes, as ``numgraph.nn.GIN(…)``
    readout : ⊕, a name as that of ``numgraph.readout``, or a Module or function of (batch, h),
        such as AttentionPooling
    head : a Module or function of [graphs, features].
        None, of a gnn with ``jk``: the rows of the graphs are read out of every layer, and then joined as jk
        says, and gnn's own Linear is the head: with ``jk="cat"`` the readout of all layers of GIN (Xu et al.,
        ICLR 2019, eq. 4.2)
    dropout : of what is read out
    rng : draws dropout

    Notes
    -----
    ``model(batch, x, edge_weight=None, edge_attr=None)``: a GraphBatch and x [nodes, features]; returns what
    the head gives, [graphs, out_features]. ``numgraph.fit`` trains it on a GraphDataset.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> b = ng.batch([ng.Graph([0, 1], [1, 0]), ng.Graph([0, 1, 2], [1, 2, 0])])
    >>> gnn = ng.nn.GIN(4, 8, 2, layers=3, norm="batch", jk="cat", dropout=0, rng=0)
    >>> ng.nn.GraphModel(gnn)(b, np.ones((5, 4), np.float32)).shape
    (2, 2)
    """

    def __init__(
        self,
        gnn: Any,
        readout: str | Callable[[GraphBatch, Any], Any] = "sum",
        head: Callable[[Any], Any] | None = None,
        *,
        dropout: float = 0.0,
        rng: Seed = None,
    ) -> None:
        for name, value in (("gnn", gnn), ("readout", readout), ("head", head)):
            if not (
                callable(value)
                or (name == "readout" and isinstance(value, str))
                or (name == "head" and value is None)
            ):
                raise bad_type("GraphModel", f"{name} is {kind_of(value)}", "give a Module or a function")
        if isinstance(readout, str):
            check_name("GraphModel", "readout", readout, NAMES)
        if head is None and (not isinstance(gnn, Stack) or gnn.out is None):
            raise bad_value(
                "GraphModel",
                "there is no head, and gnn has no jk",
                'give head=numgraph.nn.Linear(…), or a GIN(…, jk="cat")',
            )
        self.gnn, self.readout, self.head, self.dropout = gnn, readout, head, Dropout(dropout, rng=rng)

    @property
    def takes_edge_attr(self) -> bool:
        """Whether gnn's layers have parameters for features of edges."""
        return any(
            getattr(layer, "weight_edge", None) is not None for layer in getattr(self.gnn, "layers", ())
        )

    @of_batch
    def forward(
        self, b: GraphBatch, x: Any, edge_weight: Any = None, edge_attr: Any = None, *, rng: Any = None
    ) -> Any:
        """The model."""
        check_batch("GraphModel", b)
        of_edges = {
            name: value
            for name, value in (("edge_weight", edge_weight), ("edge_attr", edge_attr))
            if value is not None
        }
        if self.head is None:
            rows = [self._read(b, h, rng) for h in self.gnn.between(b.graph, x, **of_edges, rng=rng)]
            return self.gnn.jumped(rows)
        h = self.gnn(b.graph, x, **of_edges, **({"rng": rng} if isinstance(self.gnn, Stack) else {}))
        return self.head(self._read(b, h, rng))

    def _read(self, b: GraphBatch, h: Any, rng: np.random.Generator | None) -> Any:
        return self.dropout(
            readout_of(b, h, self.readout) if isinstance(self.readout, str) else self.readout(b, h), rng=rng
        )
