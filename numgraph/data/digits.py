"""1,797 images of handwritten digits as a graph of nearest neighbours.

E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998),
CC BY 4.0: the test set of 13 writers, 8 × 8 pixels from 0 to 16, as scikit-learn ships it. ``make_digits.py``
wrote digits.npz."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from numgraph.data.record import Dataset, mask_of, undirected
from numgraph.errors import bad_value, shown


def load_digits(
    *, neighbors: int = 8, labels_per_class: int = 10, val_per_class: int = 30, seed: int = 0
) -> Dataset:
    """Every image is joined with its ``neighbors`` nearest ones by Euclidean distance of the pixels, in both
    directions.

    Features are the pixels from 0 to 1. The first ``labels_per_class`` images of each digit in a seeded order
    train, the next ``val_per_class`` validate, the others test.
    """
    from scipy.spatial import cKDTree

    with (
        files("numgraph.data").joinpath("digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as archive,
    ):
        pixels, labels = archive["pixels"], archive["labels"].astype(np.int64)
    count = len(pixels)
    smallest = int(np.bincount(labels).min())
    _whole("neighbors", neighbors, 1, count - 1)
    _whole("labels_per_class", labels_per_class, 1, smallest - 2)
    _whole("val_per_class", val_per_class, 1, smallest - 1 - labels_per_class)
    _whole("seed", seed, 0, 2**32 - 1)

    nearest = cKDTree(pixels.astype(np.float64)).query(pixels, k=neighbors + 1)[1]
    graph = undirected(np.repeat(np.arange(count), neighbors + 1), nearest.ravel(), count)

    # RandomState, not Generator: its stream is promised never to change, so the split is the same under every
    # NumPy.
    order = np.random.RandomState(seed).permutation(count)
    by_class = [order[labels[order] == label] for label in range(10)]
    stop = labels_per_class + val_per_class
    return Dataset(
        name="digits",
        graph=graph,
        features=(pixels / np.float32(16)).astype(np.float32),
        labels=labels,
        train_mask=mask_of(np.concatenate([nodes[:labels_per_class] for nodes in by_class]), count),
        val_mask=mask_of(np.concatenate([nodes[labels_per_class:stop] for nodes in by_class]), count),
        test_mask=mask_of(np.concatenate([nodes[stop:] for nodes in by_class]), count),
        num_classes=10,
    )


def _whole(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not low <= value <= high:
        raise bad_value(
            "load digits", f"{name} is {shown(value)}", f"give a whole number from {low} to {high}"
        )
