"""Nodes dealt out for training, validation and test."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.inputs import as_array, generator
from numgraph.errors import bad_type, bad_value, shown

Mask = NDArray[np.bool_]


def shares_of(op: str, split: Any) -> tuple[float, ...]:
    """Three shares, at least 0 and together at most 1."""
    if not isinstance(split, tuple | list | np.ndarray) or len(split) != 3:
        raise bad_type(
            op, f"split is {shown(split)}", "give three shares, (0.6, 0.2, 0.2), or three boolean masks"
        )
    try:
        shares = tuple(float(share) for share in split)
    except (TypeError, ValueError) as error:
        raise bad_type(
            op, f"split is {shown(split)}", "give three shares, (0.6, 0.2, 0.2), or three boolean masks"
        ) from error
    if not all(0 <= share <= 1 for share in shares) or sum(shares) > 1 + 1e-9:
        raise bad_value(op, f"split is {shown(split)}", "shares are at least 0, and together at most 1")
    return shares


def parts_of(
    op: str,
    labels: NDArray[Any],
    labelled: Mask,
    split: Any,
    rng: int | np.random.Generator | None,
    what: str = "node",
) -> tuple[Mask, ...]:
    """Three masks of labelled nodes (or graphs, ``what``): given ones, or drawn by shares.

    Each class is dealt out by itself as far as numbers let it.

    labels: [nodes] class numbers, or real numbers, which are one class.
    """
    if isinstance(split, tuple | list) and len(split) == 3 and all(np.ndim(part) == 1 for part in split):
        masks = tuple(as_array(op, f"split[{i}]", part) for i, part in enumerate(split))
        for i, mask in enumerate(masks):
            if mask.dtype != np.bool_ or mask.shape != labels.shape:
                problem = f"split[{i}] has dtype {mask.dtype} and shape {list(mask.shape)}"
                raise bad_type(
                    op, problem, f"a mask has one True or False for each of the {len(labels)} {what}s"
                )
            bare = np.flatnonzero(mask & ~labelled)
            if len(bare):
                raise bad_value(
                    op, f"{what} {bare[0]} is in split[{i}], but has no label", "take it out of the mask"
                )
        return masks
    shares = shares_of(op, split)
    nodes = generator(op, rng).permutation(np.flatnonzero(labelled))
    classes = labels[nodes] if labels.dtype.kind in "iu" else np.zeros(len(nodes), np.int64)
    order = np.argsort(classes, kind="stable")
    starts = np.searchsorted(classes[order], classes[order])
    sizes = np.searchsorted(classes[order], classes[order], side="right") - starts
    depth = np.empty(len(nodes))  # how far down its class a node is, from 0 to 1
    depth[order] = (np.arange(len(nodes)) - starts + 0.5) / sizes
    nodes = nodes[np.argsort(depth, kind="stable")]
    ends = np.round(np.cumsum(shares) * len(nodes) + 1e-9).astype(int)
    masks = tuple(np.zeros(len(labels), bool) for _ in shares)
    for mask, start, end in zip(masks, (0, *ends[:-1]), ends):
        mask[nodes[start:end]] = True
    return masks
