"""What a table of nodes says of each: features, labels, and the part of the data that it is in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.inputs import as_array
from numgraph.data.columns import Column, Columns, Notes, as_numbers, encode, labels_of, learn, task_of
from numgraph.data.files import Names, Source
from numgraph.data.record import as_features
from numgraph.data.split import parts_of
from numgraph.errors import bad_value, did_you_mean

WEIGHT, SPLIT = "weight", "split"
"""Columns that mean something by their name."""
PARTS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


def meaning(columns: Sequence[str], word: str) -> str | None:
    """The column that means something by its name, in letters of either case."""
    return next((name for name in columns if name.strip().lower() == word), None)


def node_features(
    op: str,
    table: Source | None,
    names: Any,
    given: Any,
    target: str | None,
    identity: bool | None,
    categories: Sequence[str],
    columns: Columns | None,
    notes: Notes,
) -> tuple[Any, Columns]:
    """The features of all nodes, and how they were made: as `columns` says, or as is learnt here."""
    extra = None if given is None else as_features(op, _array(op, given), len(names))
    width = 0 if extra is None else extra.shape[1]
    if columns is None:
        inputs: tuple[Column, ...] = ()
        if table is not None:
            first = table.columns[0]
            if first in (target, *categories):
                problem = f"{table.name}: the column {first!r} is the first, which has the names of the nodes"
                raise bad_value(
                    op,
                    problem,
                    "choose another one as " + ("the target" if first == target else "categories"),
                )
            for name, what in ((target, "target"), *((name, "column") for name in categories)):
                if name is not None:
                    table.column(op, name, what)
            wanted = [
                name for name in table.columns[1:] if name not in (target, meaning(table.columns[1:], SPLIT))
            ]
            inputs = learn(op, table, wanted, categories, notes)
        alone = not (inputs or width)
        columns = Columns(inputs, Names(names) if alone or identity else None, width, target)
    elif columns.extra != width:
        fix = "give the .npy file of these nodes" if columns.extra else "leave them out"
        raise bad_value(
            op,
            f"there are {width} features beside the table, the model was trained with {columns.extra}",
            fix,
        )
    if columns.inputs and table is None:
        raise bad_value(
            op,
            "there is no table of nodes",
            f"give one with the columns {', '.join(one.name for one in columns.inputs)}",
        )
    blocks = [encode(op, table, columns, notes)] if table is not None and columns.inputs else []
    blocks += [] if extra is None else [extra]
    if columns.names is None:
        return np.concatenate([np.zeros((len(names), 0), np.float32), *blocks], axis=1), columns
    from scipy.sparse import csr_matrix, hstack

    own = _known_names(table, names, columns.names.array, notes)
    return csr_matrix(hstack([*blocks, own], dtype=np.float32)) if blocks else own, columns


def _array(op: str, given: Any) -> Any:
    """Features from a .npy file, or an array."""
    if not isinstance(given, str | os.PathLike):
        return as_array(op, "features", given)
    path = os.fspath(given)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{op}: there is no file {path}; np.save writes one")
    try:
        with open(path, "rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise bad_value(
            op, f"{path} is no .npy file of numbers: {error!s:.200}", "write it by np.save"
        ) from error


def _known_names(table: Source | None, names: Any, known: Any, notes: Notes) -> Any:
    """[nodes, known] the features of nodes that are told by their names alone; those that are new have
    none.
    """
    import pyarrow.compute as pc
    from scipy.sparse import csr_matrix, identity

    if names is known:
        return csr_matrix(identity(len(names), np.float32, "csr"))
    places = pc.index_in(names, known)
    new = places.is_null().to_numpy(zero_copy_only=False)
    if new.any():
        node = int(np.flatnonzero(new)[0])
        where = f"{table.at(node)}: " if table else ""
        text = (
            f"{where}the node {names[node].as_py()!r} was not there in training; only its neighbours tell of "
            "it"
        )
        notes.add("new", text, int(new.sum()))
    rows, ids = np.flatnonzero(~new), places.drop_null().to_numpy()
    return csr_matrix((np.ones(len(rows), np.float32), (rows, ids)), shape=(len(names), len(known)))


def node_labels(
    op: str, table: Source | None, count: int, columns: Columns, task: str | None, again: bool
) -> tuple[NDArray[Any], Columns, str]:
    """The labels of the target, how they are made, and the task that they ask for."""
    target = columns.target
    if table is None or target is None or (again and target not in table.columns):
        none = np.full(count, np.nan, np.float32) if task == "regression" else np.full(count, -1)
        return none, columns, task or "classification"
    column = table.column(op, target, "target")
    task = task_of(op, table, column, target, task)
    if task == "classification":
        labels, classes = labels_of(op, column, columns.classes if again else None)
        return labels, replace(columns, classes=classes), task
    labels = as_numbers(op, table, column, target).astype(np.float32)
    infinite = np.flatnonzero(np.isinf(labels))
    if len(infinite):
        row = int(infinite[0])
        raise bad_value(
            op, f"{table.at(row, target)}: {labels[row]} is not finite", "correct it, or leave it empty"
        )
    return labels, columns, task


def node_masks(
    op: str,
    table: Source | None,
    labels: NDArray[Any],
    columns: Columns,
    split: Any,
    rng: Any,
    notes: Notes,
    again: bool,
) -> Sequence[NDArray[np.bool_]]:
    """Which labelled nodes are for training, validation and test; of tables for a trained model all are for
    test.
    """
    labelled = ~np.isnan(labels) if labels.dtype.kind == "f" else labels >= 0
    nobody = np.zeros(len(labels), bool)
    if again or table is None or columns.target is None:
        return nobody, nobody, labelled
    if not labelled.any():
        raise bad_value(
            op,
            f"{table.name}: the target {columns.target!r} is empty in every row",
            "some rows need a label to learn from",
        )
    if labels.dtype.kind in "iu" and len(columns.classes) == 1:
        problem = f"{table.name}: every label in {columns.target!r} is {columns.classes[0]!r}"
        raise bad_value(op, problem, "there is nothing to tell apart; choose another target")
    parts = meaning(table.columns[1:], SPLIT)
    if parts is not None and parts != columns.target:
        return _split_column(op, table, parts, labelled, notes)
    return parts_of(op, labels, labelled, split, rng)


def _split_column(
    op: str, table: Source, name: str, labelled: NDArray[np.bool_], notes: Notes
) -> list[NDArray[np.bool_]]:
    """The masks that the words of the column `split` tell; rows without a word are in none."""
    words = [None if word is None else word.strip().lower() for word in table.table[name].to_pylist()]
    strange = next((row for row, word in enumerate(words) if word and word not in PARTS), None)
    if strange is not None:
        near = did_you_mean(words[strange], PARTS)
        raise bad_value(
            op,
            f"{table.at(strange, name)}: {words[strange]!r} is no part",
            f"write train, val or test, or nothing{near}",
        )
    parts = np.array([PARTS.get(word or "", -1) for word in words])
    empty = np.flatnonzero(~labelled & ((parts == 0) | (parts == 1)))
    if len(empty):
        row = int(empty[0])
        notes.add(
            "split",
            f"{table.at(row, name)}: it is for {words[row]}, but has no label, and is left out",
            len(empty),
        )
    if not (labelled & (parts == 0)).any():
        raise bad_value(
            op,
            f"{table.name}: no row with a label is for training",
            f"write train into the column {name} of some rows",
        )
    return [labelled & (parts == part) for part in range(3)]
