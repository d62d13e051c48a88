"""Datasets: ``load("digits")`` and ``load("karate")`` are embedded, cora, citeseer and pubmed are read from
files or downloaded; ``read_tables`` makes one of your own tables, ``Dataset.from_arrays`` of arrays,
``read_tu`` a set of graphs of a folder; ``save`` writes a folder that ``open_dataset`` maps."""

from __future__ import annotations

import inspect
import os
from typing import Any

from numgraph.data.digits import load_digits
from numgraph.data.graph_set import GraphDataset, degree_features
from numgraph.data.karate import load_karate
from numgraph.data.links import Links, split_links
from numgraph.data.loader import GraphLoader, LoadedBatch
from numgraph.data.planetoid import load_planetoid
from numgraph.data.record import Dataset
from numgraph.data.storage import StoredDataset, open_dataset, save
from numgraph.data.tables import read_tables
from numgraph.data.triples import Triples, load_triples
from numgraph.data.tu import read_tu
from numgraph.data.writer import GraphWriter
from numgraph.errors import bad_type, check_name

__all__ = [
    "NAMES",
    "Dataset",
    "GraphDataset",
    "GraphLoader",
    "GraphWriter",
    "Links",
    "LoadedBatch",
    "StoredDataset",
    "Triples",
    "degree_features",
    "load",
    "load_triples",
    "open_dataset",
    "read_tables",
    "read_tu",
    "save",
    "split_links",
]

_EMBEDDED = {"digits": load_digits, "karate": load_karate}
_PLANETOID = ("cora", "citeseer", "pubmed")
NAMES = (*_EMBEDDED, *_PLANETOID)


def load(name: str, data_dir: str | os.PathLike[str] | None = None, **options: Any) -> Dataset:
    """A dataset by name.

    Parameters
    ----------
    name
        ``digits``: 1,797 images of digits, joined with their 8 nearest neighbours, 10 labels a class.
        ``karate``: a club of 34. ``cora``, ``citeseer``, ``pubmed``: citation networks with the public split.
    data_dir
        For the citation networks: the folder that has planetoid/ind.NAME.x and its seven companions. By
        default NUMGRAPH_DATA_DIR, then what was downloaded before, then a download (the extra ``data``),
        checked by SHA-256 and kept in the user's cache folder.
    **options
        digits: ``neighbors=8, labels_per_class=10, val_per_class=30, seed=0``; karate: ``communities=2`` (or
        4); citation networks: ``row_normalize=True`` (features of a node sum to 1).

    Returns
    -------
    Dataset

    Raises
    ------
    FileNotFoundError
        Files that are neither here nor to be had; the message says which, where, and how to provide them.
    ValueError
        An unknown name, a bad option, or a damaged file, by its path.

    Examples
    --------
    >>> import numgraph as ng
    >>> ng.data.load("karate", communities=4)
    Dataset('karate', nodes=34, edges=156, features=34, classes=4, split=4/8/22)
    """
    check_name("load", "dataset", name, NAMES)
    loader: Any = _EMBEDDED.get(name, load_planetoid)
    known = [
        option
        for option, kind in inspect.signature(loader).parameters.items()
        if kind.kind is kind.KEYWORD_ONLY
    ]
    for option in options:
        if option not in known:
            raise bad_type(f"load {name}", f"unknown option {option!r}", f"it takes {', '.join(known)}")
    found: Dataset = loader(**options) if name in _EMBEDDED else loader(name, data_dir, **options)
    return found
