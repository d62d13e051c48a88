"""A partitioned dataset on disk: a folder with a folder for each part, which the process that owns it opens
alone.

``part-00002`` has a .npy file for each array and shard.json, which says what belongs to it: the version of
the format, the partition, the part's number, dtype, shape and SHA-256 of every array. All of a folder is
written beside its place, and moved there when it is complete."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.inputs import is_sparse, kind_of
from numgraph.data.npy import plain_file
from numgraph.data.record import TASKS, Dataset
from numgraph.errors import bad_type, bad_value
from numgraph.graph import Adjacency
from numgraph.graph.partition import partition
from numgraph.runtime.atomic import PathLike
from numgraph.runtime.folders import NewFolder

FORMAT, VERSION = "numgraph shard", 1
ABOUT = "shard.json"
CHUNK = 1 << 22
"""Edges, or numbers of features, that are looked at at once."""
OF_NODES = ("features", "labels", "train_mask", "val_mask", "test_mask")
ABOUT_ALL = ("num_nodes", "num_edges", "name", "task", "num_classes", "label_scale")
"""What every part says of the whole."""
OF_GRAPH = ("owned", "ghosts", "owners", "indptr", "indices", "edge_ids")
NUMBERS = ("num_nodes", "num_edges", "num_classes", "part", "parts")
KINDS = {
    **dict.fromkeys(OF_GRAPH, ("i", 1)),
    **dict.fromkeys(("train_mask", "val_mask", "test_mask"), ("b", 1)),
    "features": ("biuf", 2),
    "labels": ("if", 1),
    "edge_weight": ("biuf", 1),
}
"""Kinds of dtype, and axes, that arrays may have."""


def write_shards(
    path: str | os.PathLike[str],
    dataset: Dataset,
    parts: int,
    *,
    method: Any = "metis",
    objective: str = "cut",
) -> NDArray[np.int64]:
    """Partition a dataset and write each part's edges, features and labels; what ``numgraph partition`` does.

    Parameters
    ----------
    path : the folder that is made; it must not be there
    dataset : Dataset; its arrays may be mapped from files
    parts, method, objective : ``partition``'s

    Returns
    -------
    [parts] numbers of ghosts

    Notes
    -----
    Beside the dataset it needs memory for a few numbers a node; METIS itself needs the graph. Parts are
    written one after the other, edges in chunks.

    Raises
    ------
    FileExistsError : something is at path
    """
    if not isinstance(dataset, Dataset):
        raise bad_type("write_shards", f"dataset is {kind_of(dataset)}", "give a numgraph.Dataset")
    target = Path(os.path.realpath(path))
    if target.exists():
        _refuse(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"write_shards: {path}: there is no folder {target.parent}; make it first")
    data = dataset.to("cpu")
    part = partition(data.graph, parts, method=method, objective=objective)
    new = NewFolder(target, _refuse)
    try:
        identity = _identity(part, data.graph.in_edges)
        counts = [_write(new.path / folder_of(i), data, part, i, parts, identity) for i in range(parts)]
    except BaseException:
        new.discard()
        raise
    new.commit()
    return np.array(counts, np.int64)


def _refuse(path: PathLike) -> None:
    raise FileExistsError(f"write_shards: {path} is there; give another path, or move it away")


def folder_of(number: int) -> str:
    return f"part-{number:05d}"


def _identity(part: NDArray[Any], rows: Adjacency) -> str:
    """The partition's name: a hash of who owns what, and of the edges."""
    made = hashlib.sha256(np.array([len(part), rows.num_edges]).tobytes())
    for array in (part, rows.indptr, rows.indices):
        for start in range(0, len(array), CHUNK):
            made.update(np.ascontiguousarray(array[start : start + CHUNK], "<i8").tobytes())
    return made.hexdigest()[:32]


def _chunks(degrees: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Ranges of rows with about CHUNK edges."""
    ends, start = np.cumsum(degrees), 0
    while start < len(degrees):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + CHUNK, side="right")))
        yield start, stop
        start = stop


def _positions(starts: NDArray[Any], degrees: NDArray[Any]) -> NDArray[Any]:
    """The positions of rows that begin at starts, one row after the other."""
    ends = np.cumsum(degrees)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - (ends - degrees), degrees) + np.arange(total)


def _write(folder: Path, data: Dataset, part: NDArray[Any], number: int, parts: int, identity: str) -> int:
    """Write a part; how many ghosts it has."""
    folder.mkdir()
    rows = data.graph.in_edges
    owned = np.flatnonzero(part == number)
    crossing = _crossing(rows, part, owned, number)
    owned = np.concatenate([owned[~crossing], owned[crossing]])  # those without ghosts first
    starts, degrees = rows.indptr[owned].astype(np.int64), np.diff(rows.indptr).astype(np.int64)[owned]
    total = int(degrees.sum())
    touched = np.zeros(len(part), bool)
    ids = _created(folder, "edge_ids", np.int64, (total,))
    sources = _created(folder, "indices", np.int64, (total,))
    weight = None if data.edge_weight is None else np.asarray(data.edge_weight)
    weights = (
        None if weight is None else _created(folder, "edge_weight", weight.dtype, (total, *weight.shape[1:]))
    )
    done = 0
    for start, stop in _chunks(degrees):
        positions = _positions(starts[start:stop], degrees[start:stop])
        here = slice(done, done := done + len(positions))
        sources[here] = rows.indices[positions]
        ids[here] = positions if rows.ordered else rows.edge_ids[positions]
        touched[sources[here]] = True
        if weights is not None and weight is not None:
            weights[here] = weight[ids[here]]
    touched[owned] = False
    ghosts = np.flatnonzero(touched)
    ghosts = ghosts[np.argsort(part[ghosts], kind="stable")]
    place = np.empty(len(part), np.int64)
    place[np.concatenate([owned, ghosts])] = np.arange(len(owned) + len(ghosts))
    for start in range(0, total, CHUNK):
        sources[start : start + CHUNK] = place[sources[start : start + CHUNK]]
    small = {
        "owned": owned,
        "ghosts": ghosts,
        "owners": part[ghosts].astype(np.int64),
        "indptr": np.concatenate([[0], np.cumsum(degrees)]),
    }
    small |= {name: np.asarray(getattr(data, name)[owned]) for name in OF_NODES[1:]}
    for name, array in small.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    _write_features(folder, data, owned)
    for mapped in (sources, ids, weights):
        if isinstance(mapped, np.memmap):
            mapped.flush()
    about = {
        "format": FORMAT,
        "version": VERSION,
        "partition": identity,
        "part": number,
        "parts": parts,
        "num_nodes": len(part),
        "num_edges": rows.num_edges,
        "name": data.name,
        "task": data.task,
        "num_classes": data.num_classes,
        "label_scale": [float(one) for one in data.label_scale],
        "arrays": {file.stem: _entry(file) for file in sorted(folder.glob("*.npy"))},
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    return len(ghosts)


def _crossing(rows: Adjacency, part: NDArray[Any], owned: NDArray[Any], number: int) -> NDArray[np.bool_]:
    """Which of a part's nodes have in-edges from other parts."""
    starts, degrees = rows.indptr[owned].astype(np.int64), np.diff(rows.indptr).astype(np.int64)[owned]
    found = np.zeros(len(owned), bool)
    for start, stop in _chunks(degrees):
        others = part[rows.indices[_positions(starts[start:stop], degrees[start:stop])]] != number
        found[start + np.repeat(np.arange(stop - start), degrees[start:stop])[others]] = True
    return found


def _created(folder: Path, name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
    """A new file as an array; one without numbers cannot be mapped."""
    path = folder / f"{name}.npy"
    if 0 in shape:
        made = np.empty(shape, dtype)
        np.save(path, made)
        return made
    return np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)


def _write_features(folder: Path, data: Dataset, owned: NDArray[Any]) -> None:
    x = data.features
    made = _created(folder, "features", x.dtype, (len(owned), x.shape[1]))
    step = max(1, CHUNK // max(x.shape[1], 1))
    for start in range(0, len(owned), step):
        rows = x[owned[start : start + step]]
        made[start : start + step] = rows.toarray() if is_sparse(rows) else rows
    if isinstance(made, np.memmap):
        made.flush()


def _entry(path: Path) -> dict[str, Any]:
    array = np.load(path, mmap_mode="r" if path.stat().st_size else None, allow_pickle=False)
    return {"dtype": array.dtype.str, "shape": list(array.shape), "sha256": _digest(path)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_shard(
    path: str | os.PathLike[str], number: int, parts: int, verify: str = "full"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """shard.json and the arrays of a part, features mapped, after all that can be seen here was checked.

    Raises
    ------
    FileNotFoundError, ValueError : no shard, a damaged one, one of another format,
        or of another number of parts
    """
    op, folder = "DistGraph.load", Path(path) / folder_of(number)
    if not folder.is_dir():
        there = len(list(Path(path).glob("part-*"))) if Path(path).is_dir() else 0
        fix = f"start {there} processes, one for each part" if there else "numgraph partition writes it"
        raise FileNotFoundError(f"{op}: {folder} is not there; {fix}")
    try:
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        entries = about["arrays"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(folder, f"{ABOUT}: {error!r:.200}") from error
    if about.get("format") != FORMAT or about.get("version") != VERSION:
        problem = (
            f"{folder} has format {about.get('format')!r}, version {about.get('version')!r}; this numgraph "
            f"reads {FORMAT!r}, {VERSION}"
        )
        raise bad_value(op, problem, "partition the data again")
    if about.get("parts") != parts or about.get("part") != number:
        problem = (
            f"{folder} is part {about.get('part')} of {about.get('parts')}, this is process {number} of "
            f"{parts}"
        )
        raise bad_value(op, problem, f"start {about.get('parts')} processes, or partition for {parts}")
    for name in (*NUMBERS, *ABOUT_ALL):
        if name not in about or not _is_fact(name, about[name]):
            raise _damaged(folder, f"{ABOUT}: {name} is {about.get(name)!r:.100}")
    arrays: dict[str, Any] = {}
    for name in (*OF_GRAPH, *OF_NODES, *(["edge_weight"] if "edge_weight" in entries else [])):
        if name not in entries:
            raise _damaged(folder, f"{ABOUT} has no array {name!r}")
        file = folder / f"{name}.npy"
        try:
            plain_file(file).close()
            array = np.load(
                file, mmap_mode="r" if 0 not in entries[name]["shape"] else None, allow_pickle=False
            )
            found = {"dtype": array.dtype.str, "shape": list(array.shape)}
            if any(found[key] != entries[name][key] for key in found):
                raise ValueError(f"it has {found}")
            if (
                array.dtype.kind not in KINDS[name][0]
                or array.ndim != KINDS[name][1]
                or array.dtype.itemsize > 8
            ):
                raise ValueError(f"it has {found}, which no shard has")
            if verify == "full" and _digest(file) != entries[name]["sha256"]:
                raise ValueError("its content is not what was written")
        except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
            raise _damaged(folder, f"{name}.npy: {error!s:.200}") from error
        arrays[name] = array if name == "features" else np.array(array)
    _check(folder, about, arrays)
    return about, arrays


def _is_fact(name: str, value: Any) -> bool:
    """Whether shard.json may say this."""
    if name in NUMBERS:
        return type(value) is int and 0 <= value < 2**62
    if name == "label_scale":
        return (
            isinstance(value, list)
            and len(value) == 2
            and all(type(one) in (int, float) and math.isfinite(one) for one in value)
        )
    return isinstance(value, str) and (name != "task" or value in TASKS)


def _damaged(folder: Path, problem: str) -> ValueError:
    return bad_value(
        "DistGraph.load", f"{folder} is damaged: {problem}", "copy it again, or partition the data again"
    )


def _below(ids: NDArray[Any], end: int) -> bool:
    return not len(ids) or bool(ids.min() >= 0 and ids.max() < end)


def _check(folder: Path, about: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Numbers that no kernel may trust: lengths, the order of the owned nodes, ids of nodes and owners. Graph
    checks those of edges.
    """
    owned, ghosts, owners = (arrays[name] for name in ("owned", "ghosts", "owners"))
    ids = np.concatenate([owned, ghosts])
    facts = {
        "rows of nodes are not as many as the nodes": all(
            len(arrays[name]) == len(owned) for name in OF_NODES
        ),
        "indptr, indices and edge_ids do not fit": len(arrays["indptr"]) == len(owned) + 1
        and len(arrays["indices"]) == len(arrays["edge_ids"]),
        "a node is there twice": len(np.unique(ids)) == len(ids),
        "ids of nodes are out of range": _below(ids, about["num_nodes"]),
        "ids of edges are out of range": _below(arrays["edge_ids"], about["num_edges"]),
        "edge_weight does not fit": len(arrays.get("edge_weight", arrays["edge_ids"]))
        == len(arrays["edge_ids"]),
        "labels have another dtype": arrays["labels"].dtype.kind
        == ("i" if about["task"] == "classification" else "f"),
        "labels are out of range": about["task"] != "classification"
        or bool((arrays["labels"] < about["num_classes"]).all()),
        "owners do not fit": len(owners) == len(ghosts)
        and _below(owners, about["parts"])
        and bool((np.diff(owners) >= 0).all()),
    }
    for problem, fits in facts.items():
        if not fits:
            raise _damaged(folder, problem)
