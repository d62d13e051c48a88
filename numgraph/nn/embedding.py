"""Rows of a table for categories."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph.arrays.inputs import as_array, generator
from numgraph.autodiff.tape import unwrap
from numgraph.dense import gather
from numgraph.dense.shapes import as_ids
from numgraph.errors import bad_index, bad_type
from numgraph.nn import init
from numgraph.nn.module import Module, check_size
from numgraph.nn.typed import of_features


class Embedding(Module):
    """y = W[ids]: a learnt row for each of ``num`` categories, such as the types of nodes or of edges.

    Parameters
    ----------
    num : how many categories there are
    features : width of a row
    rng, dtype : of the first values, normal with variance 1

    Notes
    -----
    Called as ``embedding(ids)``: ids integers of any shape, 0 ≤ id < num. Returns [*ids.shape, features].
    Several columns of categories are embedded each for itself and put side by side,
    ``np.concatenate([of_type(t), of_country(c)], 1)``.

    Examples
    --------
    >>> import numgraph as ng
    >>> ng.nn.Embedding(3, 4, rng=0)([0, 2, 2, 1]).shape
    (4, 4)
    """

    def __init__(self, num: int, features: int, *, rng: init.Seed = None, dtype: Any = np.float32) -> None:
        check_size("Embedding", num=num, features=features)
        self.weight = init.Parameter(
            generator(type(self).__name__, rng).standard_normal((num, features)).astype(dtype)
        )

    @of_features
    def forward(self, ids: Any) -> Any:
        """The rows."""
        ids = unwrap(ids) if hasattr(ids, "shape") else as_array("Embedding", "ids", ids)
        if ids.dtype.kind not in "iu" and ids.size:
            raise bad_type(
                "Embedding", f"ids have dtype {ids.dtype}", "they are numbers of categories, integers"
            )
        ids, num = as_ids(ids.astype(np.int64), self.weight, "Embedding"), self.weight.shape[0]
        wrong = (ids < 0) | (ids >= num)
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            place = ", ".join(map(str, at))
            raise bad_index(
                "Embedding", f"ids[{place}] is {int(ids[at])}", f"categories run from 0 to {num - 1}"
            )
        return gather(self.weight, ids.ravel()).reshape(*ids.shape, self.weight.shape[1])
