"""Citation networks in the Planetoid format: cora, citeseer, pubmed.

Z. Yang, W. Cohen and R. Salakhutdinov, Revisiting Semi-Supervised Learning with Graph Embeddings, ICML 2016.
A dataset is eight files, ind.NAME.PART, with n labelled training nodes, m ≥ n nodes outside the test set, t
test nodes, F features and C classes:

==================  ==========================================================================================
x, y                [n, F] and [n, C]: the nodes 0 … n − 1, which train
allx, ally          [m, F] and [m, C]: the nodes 0 … m − 1; those after the training nodes validate, 500 at
most
tx, ty              [t, F] and [t, C]: the test nodes, in the order of test.index
test.index          t lines: the test nodes' ids, shuffled, m or larger
graph               {node: [neighbour, …]}, not symmetric, with repetitions
==================  ==========================================================================================
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from numgraph.data.fetch import find_files
from numgraph.data.record import Dataset, mask_of, undirected
from numgraph.data.unpickle import DENSER, read_pickle
from numgraph.errors import bad_value
from numgraph.graph import Graph


def load_planetoid(
    name: str, data_dir: str | os.PathLike[str] | None = None, *, row_normalize: bool = True
) -> Dataset:
    """The public split: 20 nodes a class train, 500 validate, 1,000 test.

    ``row_normalize`` divides each node's features by their sum, as the GCN paper does. Edges are made
    symmetric, without repetitions and without self loops. Ids between the first and last test node that
    test.index leaves out (citeseer has 15) become isolated nodes with zero features, label −1, and no place
    in a mask."""
    op = f"load {name}"
    paths = find_files(name, data_dir)
    test = _read_index(paths["test.index"], op)
    arrays = {part: _matrix(paths[part], op) for part in ("x", "y", "tx", "ty", "allx", "ally")}
    neighbors = read_pickle(paths["graph"], op)
    _, y, tx, ty, allx, ally = arrays.values()
    _check(paths, op, arrays, test)

    train_count, known = len(y), len(allx)
    num_nodes = int(test.max()) + 1
    with np.errstate(all="ignore"):  # what is not finite then is an error below
        features = np.zeros((num_nodes, allx.shape[1]), np.float32)
        features[:known], features[test] = allx, tx
        if row_normalize:
            sums = features.sum(1, keepdims=True, dtype=np.float64)
            np.divide(features, sums, out=features, where=sums != 0, casting="same_kind")
    bad = np.flatnonzero(~np.isfinite(features).all(1))
    if bad.size:
        path = paths["allx" if bad[0] < known else "tx"]
        raise bad_value(
            op, f"{path} has features of node {bad[0]} that are too large for float32", "get it anew"
        )
    classes = np.zeros((num_nodes, ally.shape[1]))
    classes[:known], classes[test] = ally, ty
    labels = np.where(classes.any(1), classes.argmax(1), -1)

    return Dataset(
        name=name,
        graph=_graph(neighbors, num_nodes, paths["graph"], op),
        features=features,
        labels=labels,
        train_mask=mask_of(slice(0, train_count), num_nodes),
        val_mask=mask_of(slice(train_count, min(train_count + 500, known)), num_nodes),
        test_mask=mask_of(test, num_nodes),
        num_classes=ally.shape[1],
    )


def _read_index(path: Path, op: str) -> np.ndarray:
    try:
        test = np.array([int(line) for line in path.read_text("ascii").split()], np.int64)
    except (ValueError, OverflowError) as error:
        raise bad_value(
            op, f"{path} is damaged: {error!s:.200}", "it has one node id a line; get it anew"
        ) from error
    if not test.size:
        raise bad_value(op, f"{path} is empty", "it has one node id a line; get it anew")
    return test


def _matrix(path: Path, op: str) -> np.ndarray:
    value = read_pickle(path, op)
    if not isinstance(value, np.ndarray) or value.ndim != 2 or not value.shape[1]:
        found = f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise bad_value(op, f"{path} holds {found}", "it should hold a matrix; get it anew")
    bad = np.argwhere(~np.isfinite(value))
    if bad.size:
        raise bad_value(
            op,
            f"{path} has {value[tuple(bad[0])]} at {tuple(bad[0].tolist())}",
            "all values must be finite; get it anew",
        )
    return value


def _check(paths: dict[str, Path], op: str, arrays: dict[str, np.ndarray], test: np.ndarray) -> None:
    """Whether the files belong together."""
    x, y, tx, ty, allx, ally = arrays.values()
    fix = "the eight files do not belong together; get them anew"
    for rows, columns, (first, one), (second, other) in (
        (True, False, ("x", x), ("y", y)),
        (True, False, ("allx", allx), ("ally", ally)),
        (True, False, ("tx", tx), ("ty", ty)),
        (False, True, ("allx", allx), ("tx", tx)),
        (False, True, ("ally", ally), ("ty", ty)),
        (False, True, ("ally", ally), ("y", y)),
    ):
        if (rows and len(one) != len(other)) or (columns and one.shape[1] != other.shape[1]):
            raise bad_value(
                op, f"{paths[first]} has shape {one.shape}, {paths[second].name} {other.shape}", fix
            )
    if len(test) != len(tx):
        raise bad_value(
            op, f"{paths['test.index']} has {len(test)} ids, {paths['tx'].name} {len(tx)} rows", fix
        )
    for part, whole, beginning, array in (("x", "allx", x, allx), ("y", "ally", y, ally)):
        if not np.array_equal(beginning, array[: len(beginning)]):
            raise bad_value(op, f"{paths[part]} is not the beginning of {paths[whole].name}", fix)
    for part in ("y", "ally", "ty"):
        classes = arrays[part]
        marked = (classes != 0).sum(1)
        split = len(y) + 500 if part == "ally" else len(classes)
        bad = np.flatnonzero(
            ((classes != 0) & (classes != 1)).any(1)
            | (marked > 1)
            | ((marked == 0) & (np.arange(len(classes)) < split))
        )
        if bad.size:
            row = np.array2string(classes[bad[0]], separator=", ", threshold=20)
            raise bad_value(
                op, f"{paths[part]} row {bad[0]} is {row}", "a row marks one class with a 1; get it anew"
            )
    if test.min() < len(allx) or len(np.unique(test)) != len(test):
        raise bad_value(op, f"{paths['test.index']} repeats an id or has one below {len(allx)}", fix)
    if test.max() >= len(allx) + 10 * len(test) + 1000:  # before an array of that many rows is made
        raise bad_value(
            op, f"{paths['test.index']} has the id {test.max()}, for {len(allx)} + {len(test)} nodes", fix
        )
    size = sum(path.stat().st_size for path in paths.values())
    if (test.max() + 1) * (4 * allx.shape[1] + 8 * ally.shape[1]) > 2 * DENSER * size:
        problem = (
            f"{paths['allx']} and its companions describe {test.max() + 1} nodes of {allx.shape[1]} features "
            f"in {size} bytes"
        )
        raise bad_value(op, problem, "that is out of all proportion; get them anew")


def _graph(neighbors: object, num_nodes: int, path: Path, op: str) -> Graph:
    if not isinstance(neighbors, dict) or not all(isinstance(near, list) for near in neighbors.values()):
        raise bad_value(op, f"{path} holds no lists of neighbours", "get it anew")
    ends = [(node, other) for node, near in neighbors.items() for other in near]
    for pair in ends:
        for node in pair:
            if type(node) is not int or not 0 <= node < num_nodes:
                raise bad_value(
                    op,
                    f"{path} has the edge {pair!r:.100}",
                    f"node ids are whole numbers from 0 to {num_nodes - 1}; get it anew",
                )
    src, dst = np.array(ends, np.int64).reshape(-1, 2).T
    return undirected(src, dst, num_nodes)
