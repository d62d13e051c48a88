"""Datasets on disk: a folder with a .npy file for each array and graph.json, which says what belongs to it.

Arrays are mapped when the folder is opened, so a graph and its features may be larger than memory. A folder
is written whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.inputs import is_sparse, kind_of
from numgraph.data import manifest, npy
from numgraph.data.columns import Columns
from numgraph.data.record import Dataset
from numgraph.errors import bad_type, bad_value, check_name
from numgraph.graph.mapped import check_graph_files, graph_of
from numgraph.graph.sorting import ids_dtype
from numgraph.runtime.folders import NewFolder


@dataclass(frozen=True, eq=False, repr=False)
class StoredDataset(Dataset):
    """A Dataset whose edges and features are mapped files.

    Attributes
    ----------
    name, graph, features, labels, train_mask, val_mask, test_mask, num_classes : as of ``Dataset``
    edge_weight, names, task, label_scale, columns : as of ``Dataset``
    path : the folder
    edge_data : arrays with a row for each edge, by name, as ``GraphWriter.add_edges`` took them;
        none where the graph has become another

    Examples
    --------
    >>> import tempfile, numgraph as ng
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ng.data.save(f"{folder}/club", ng.data.load("karate"))
    ...     data = ng.data.open_dataset(f"{folder}/club")
    ...     print(data.graph.num_edges, data.path.endswith("club"), dict(data.edge_data))
    156 True {}
    """

    path: str = ""
    edge_data: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(len(array) != self.graph.num_edges for array in self.edge_data.values()):
            object.__setattr__(self, "edge_data", {})


def save(path: str | os.PathLike[str], dataset: Dataset, *, overwrite: bool = False) -> None:
    """Write a dataset as a folder, which ``open_dataset`` opens without reading it into memory.

    Both groupings of the edges are made here and written too, so that nothing is sorted later. The folder is
    written beside its place and moved there when the disk has all of it: a crash or a full disk leaves what
    was there before. (``numgraph.save`` writes models.)

    Parameters
    ----------
    path : the folder; the one that it is in must be there
    dataset : Dataset
    overwrite : replace a dataset that is there; who has it open goes on with it.
        A folder with anything else in it is never replaced

    Returns
    -------
    nothing

    Raises
    ------
    FileExistsError : something is there
    TypeError : names of nodes that are neither text nor whole numbers
    OSError : the system's, as of a full disk; nothing is left behind

    Examples
    --------
    >>> import tempfile, numgraph as ng
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ng.data.save(f"{folder}/club", ng.data.load("karate"))
    ...     print(ng.data.open_dataset(f"{folder}/club", verify="full"))
    Dataset('karate', nodes=34, edges=156, features=34, classes=2, split=2/8/24)
    """
    if not isinstance(dataset, Dataset):
        fix = (
            "numgraph.save(path, model) writes models"
            if hasattr(dataset, "parameters")
            else "Dataset.from_arrays makes one of arrays"
        )
        raise bad_type("save", f"dataset is {kind_of(dataset)}", f"give a Dataset; {fix}")
    data = dataset.to("cpu")
    arrays = {**_graph_arrays(data), **_node_arrays(data)}
    folder = begun(path, overwrite)
    try:
        for name, array in arrays.items():
            npy.write(folder.path / f"{name}.npy", array)
        finish(folder, about_of(data), {name: (array.dtype, array.shape) for name, array in arrays.items()})
    except BaseException:
        folder.discard()
        raise


def begun(path: str | os.PathLike[str], overwrite: bool) -> NewFolder:
    """A new folder beside the place of a dataset, where there is none or one that may be replaced."""
    if not isinstance(path, str | os.PathLike):
        raise bad_type("save", f"path is {kind_of(path)}", "the name of the folder comes first")
    parent = Path(os.path.realpath(path)).parent
    if not parent.is_dir():
        raise FileNotFoundError(f"save: {path}: there is no folder {parent}; make it first")

    def may_replace(there: Path) -> None:
        fix = "give another path, or move it away"
        if not there.is_dir():
            raise FileExistsError(f"save: {path} is there, and is no folder; {fix}")
        try:
            known = {f"{name}.npy" for name in manifest.read(there)["arrays"]} | {manifest.ABOUT}
        except (ValueError, OSError):
            raise FileExistsError(f"save: {path} is there, and is no dataset of numgraph; {fix}") from None
        if others := sorted({one.name for one in there.iterdir()} - known):
            raise FileExistsError(
                f"save: {path} has {others[0]!r}, which is not of the dataset there and would be lost; {fix}"
            )
        if not overwrite:
            raise FileExistsError(
                f"save: {path} is there; give overwrite=True to replace it, or another path"
            )

    return NewFolder(path, may_replace)


def finish(
    folder: NewFolder, about: dict[str, Any], arrays: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
) -> None:
    """Write graph.json, the last of a folder's files, and move the folder to its place."""
    with ThreadPoolExecutor(min(len(arrays), os.cpu_count() or 1)) as pool:
        digests = dict(
            zip(arrays, pool.map(lambda name: npy.digest(folder.path / f"{name}.npy"), arrays), strict=True)
        )
    entries = {
        name: {"dtype": dtype.str, "shape": list(shape), "sha256": digests[name]}
        for name, (dtype, shape) in arrays.items()
    }
    text = json.dumps(
        {"format": manifest.FORMAT, "version": manifest.VERSION, **about, "arrays": entries},
        indent=1,
        allow_nan=False,
    )
    with (folder.path / manifest.ABOUT).open("x", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    folder.commit()


def about_of(data: Dataset) -> dict[str, Any]:
    """What graph.json says besides the arrays."""
    return {
        "name": data.name,
        "task": data.task,
        "num_nodes": data.num_nodes,
        "num_edges": data.graph.num_edges,
        "num_features": int(data.num_features),
        "num_classes": int(data.num_classes),
        "label_scale": [float(number) for number in data.label_scale],
    }


def _graph_arrays(data: Dataset) -> dict[str, NDArray[Any]]:
    g, ids = data.graph, ids_dtype(data.num_nodes)
    arrays: dict[str, NDArray[Any]] = {
        "src": g.src.astype(ids, copy=False),
        "dst": g.dst.astype(ids, copy=False),
    }
    for name, rows in (("in", g.in_edges), ("out", g.out_edges)):
        arrays[f"{name}_indptr"] = rows.indptr.astype(np.int64)
        if not rows.ordered:
            arrays |= {
                f"{name}_indices": rows.indices.astype(ids, copy=False),
                f"{name}_edge_ids": rows.edge_ids,
            }
    if data.edge_weight is not None:
        arrays["edge_weight"] = data.edge_weight
    if isinstance(data, StoredDataset):
        arrays |= {f"edge_data_{name}": array for name, array in data.edge_data.items()}
    return {name: _native(name, array) for name, array in arrays.items()}


def _node_arrays(data: Dataset) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {
        name: getattr(data, name) for name in ("labels", "train_mask", "val_mask", "test_mask")
    }
    features: Any = data.features
    if is_sparse(features):
        x = features.tocsr()
        arrays |= {
            "features_data": x.data,
            "features_indices": x.indices.astype(np.int64),
            "features_indptr": x.indptr.astype(np.int64),
        }
    else:
        arrays["features"] = features
    if data.names is not None:
        arrays |= _names(list(data.names))
    if data.columns is not None:
        arrays["columns"] = np.frombuffer(json.dumps(data.columns.as_dict()).encode(), np.uint8)
    return {name: _native(name, array) for name, array in arrays.items()}


def _native(name: str, array: Any) -> NDArray[Any]:
    array = np.asarray(array)
    if array.dtype.kind not in manifest.NUMBERS or array.dtype.itemsize > 8:
        raise bad_type(
            "save", f"{name} has dtype {array.dtype}", "a dataset on disk has real numbers of up to 8 bytes"
        )
    found: NDArray[Any] = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return found


def _names(names: list[Any]) -> dict[str, NDArray[Any]]:
    if all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in names):
        for i, one in enumerate(names):
            if not -(2**63) <= one < 2**63:
                raise bad_value(
                    "save", f"names[{i}] is {one}", "whole numbers are stored in 8 bytes: give texts"
                )
        return {"names": np.array(names, np.int64)}
    if not all(isinstance(one, str) for one in names):
        i = next(i for i, one in enumerate(names) if not isinstance(one, str))
        raise bad_type(
            "save", f"names[{i}] is {kind_of(names[i])}", "names on disk are all texts, or all whole numbers"
        )
    texts = [one.encode("utf-8", "surrogatepass") for one in names]
    ends = np.cumsum([len(one) for one in texts], dtype=np.int64)
    return {"names_text": np.frombuffer(b"".join(texts), np.uint8), "names_ends": ends}


# --- opening ------------------------------------------------------------------------------------------------


def open_dataset(path: str | os.PathLike[str], *, verify: str = "sizes") -> StoredDataset:
    """The dataset of a folder that ``save`` or ``GraphWriter`` wrote; edges and features stay on disk and are
    read where they are used.

    Parameters
    ----------
    path : the folder
    verify : "sizes": that graph.json is whole and every file has the dtype,
        the shape and the size that it says. "full": also that the bytes are those that were written
        (SHA-256), that ids are in range, and that both groupings are of the same edges; reads everything

    Returns
    -------
    StoredDataset

    Raises
    ------
    FileNotFoundError : there is no such folder
    ValueError, IndexError : it is no dataset, is damaged, or of a newer version; the message has the file

    Notes
    -----
    Ids are checked in any case before a kernel uses them: those of the whole graph when they are first asked
    for, those that are sampled as they are drawn. Nothing is unpickled, links are not followed. Row starts,
    labels, masks and names are read into memory, 8 to 40 bytes a node without the names. Nobody must write
    into a folder's files while it is open; ``save`` makes new ones, and the old ones stay.

    Examples
    --------
    >>> import tempfile, numgraph as ng
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ng.data.save(f"{folder}/club", ng.data.load("karate"))
    ...     print(ng.data.open_dataset(f"{folder}/club").num_nodes)
    34
    """
    check_name("open_dataset", "verify", verify, ("sizes", "full"))
    if not isinstance(path, str | os.PathLike):
        raise bad_type("open_dataset", f"path is {kind_of(path)}", "give the name of a folder")
    folder = Path(path)
    if not folder.exists():
        raise FileNotFoundError(f"open_dataset: there is no folder {path}; numgraph.data.save writes one")
    about = manifest.read(folder)
    wanted = manifest.layout(folder, about)
    arrays = {}
    for name, (dtype, shape) in wanted.items():
        try:
            arrays[name] = npy.opened(folder / f"{name}.npy", dtype, shape)
        except Exception as error:  # whatever a damaged file makes NumPy's reader do
            raise manifest.damaged(folder, f"{name}.npy: {manifest.said(error)}") from error
    if verify == "full":
        _check_digests(folder, about["arrays"])
    graph = graph_of(folder, about["num_nodes"], about["num_edges"], arrays)
    if verify == "full":
        check_graph_files(graph)
    try:
        return _dataset(folder, about, graph, arrays)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise manifest.damaged(folder, manifest.said(error)) from error


def _dataset(folder: Path, about: dict[str, Any], graph: Any, arrays: dict[str, Any]) -> StoredDataset:
    masks = {name: _mask(name, arrays[name]) for name in ("train_mask", "val_mask", "test_mask")}
    mean, deviation = about["label_scale"]
    return StoredDataset(
        name=about["name"],
        graph=graph,
        features=arrays["features"] if "features" in arrays else _sparse(about, arrays),
        labels=np.array(arrays["labels"]),
        **masks,
        num_classes=about["num_classes"],
        edge_weight=arrays.get("edge_weight"),
        names=_names_of(arrays),
        task=about["task"],
        label_scale=(float(mean), float(deviation)),
        columns=Columns.from_dict(json.loads(arrays["columns"].tobytes())) if "columns" in arrays else None,
        path=os.fspath(folder),
        edge_data={
            name.removeprefix("edge_data_"): array
            for name, array in arrays.items()
            if manifest.EDGE_DATA.fullmatch(name)
        },
    )


def _mask(name: str, array: NDArray[Any]) -> NDArray[np.bool_]:
    copy = np.array(array)
    if copy.view(np.uint8).max(initial=0) > 1:
        raise ValueError(f"{name}.npy has bytes that are neither 0 nor 1")
    return copy


def _sparse(about: dict[str, Any], arrays: dict[str, Any]) -> Any:
    from scipy.sparse import csr_matrix

    parts = [np.array(arrays[f"features_{part}"]) for part in ("data", "indices", "indptr")]
    data, indices, indptr = parts
    if indptr[0] != 0 or indptr[-1] != len(data) or (np.diff(indptr) < 0).any():
        raise ValueError("features_indptr.npy does not rise from 0 to the number of entries")
    if len(indices) and (indices.min() < 0 or indices.max() >= about["num_features"]):
        raise ValueError(
            f"features_indices.npy has {indices.min()} or {indices.max()}, num_features is "
            f"{about['num_features']}"
        )
    return csr_matrix((data, indices, indptr), shape=(about["num_nodes"], about["num_features"]))


def _names_of(arrays: dict[str, Any]) -> list[Any] | None:
    if "names" in arrays:
        found: list[Any] | None = arrays["names"].tolist()
        return found
    if "names_ends" not in arrays:
        return None
    ends, text = arrays["names_ends"].tolist(), arrays["names_text"].tobytes()
    starts = [0, *ends[:-1]]
    if (ends[-1] if ends else 0) != len(text) or any(end < start for start, end in zip(starts, ends)):
        raise ValueError("names_ends.npy does not rise to the length of names_text.npy")
    return [text[start:end].decode("utf-8", "surrogatepass") for start, end in zip(starts, ends)]


def _check_digests(folder: Path, entries: dict[str, Any]) -> None:
    with ThreadPoolExecutor(min(len(entries), os.cpu_count() or 1)) as pool:
        found = pool.map(lambda name: npy.digest(folder / f"{name}.npy"), entries)
        for name, sha256 in zip(entries, found, strict=True):
            if sha256 != entries[name]["sha256"]:
                raise manifest.damaged(folder, f"{name}.npy is not what was written: its SHA-256 is {sha256}")
