"""What records read that no record made: arrays of the caller, who may change them before the replay, which
is then an error.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph.arrays.fingerprint import EXACT, fingerprint, sparse_fingerprint
from numgraph.arrays.inputs import is_sparse
from numgraph.autodiff.tensor import Parameter, Tensor, unwrap
from numgraph.errors import bad_value

Leaf = tuple[Any, Any, Any, int | None]
"""An array that was read: itself or its Tensor, the array, its fingerprint, and a Parameter's version."""


def leaf_of(x: Any) -> Leaf | None:
    """None for what cannot change, and for arrays on a device, whose bits are not looked at."""
    array = x.data if isinstance(x, Tensor) else x
    found = _print(array)
    return None if found is None else (x, array, found, x.version if isinstance(x, Parameter) else None)


def _print(array: Any) -> Any:
    if isinstance(array, np.ndarray):
        return fingerprint(array)
    return sparse_fingerprint(array) if is_sparse(array) else None


def changed_of(leaves: dict[int, Leaf | None]) -> set[int]:
    """Ids of those that are other arrays than they were, or have other bits."""
    changed = set()
    for key, leaf in leaves.items():
        if leaf is None:
            continue
        x, before, found, version = leaf
        array = x.data if isinstance(x, Tensor) else x
        if (
            (array is not before and (array.shape != before.shape or array.dtype != before.dtype))
            or (version is not None and x.version != version and array.nbytes > EXACT)
            or _print(array) != found
        ):
            changed.add(key)
    return changed


def check_unchanged(entry: Any, changed: set[int]) -> None:
    """What a record read that is needed is what it was."""
    for place, x in enumerate((*entry.inputs, *entry.held)):
        if id(x) in changed:
            what = "row ids" if place >= len(entry.inputs) else f"input {place}"
            name = (
                f"parameter {x.name!r}"
                if isinstance(x, Parameter) and x.name
                else f"the {type(unwrap(x)).__name__}"
            )
            raise bad_value(
                "gradient",
                f"{name} of shape {tuple(x.shape)}, {what} of {entry.name}, was changed after the tape "
                "recorded it",
                "compute the gradient before the optimiser's step (or whatever changes it), or record again",
            )
