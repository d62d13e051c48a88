"""Datasets that are written piece by piece, with memory for the nodes alone."""

from __future__ import annotations

import json
import os
import weakref
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numgraph.arrays.inputs import as_array
from numgraph.data import manifest, npy
from numgraph.data.columns import Columns
from numgraph.data.record import Targets
from numgraph.data.storage import begun, finish
from numgraph.errors import bad_index, bad_type, bad_value, shown
from numgraph.graph.external import group_into
from numgraph.graph.sorting import INT32_LIMIT, checked_ids, given_ids, ids_dtype, node_count, one_past, tally
from numgraph.runtime.folders import NewFolder

OP = "GraphWriter"
BUCKET_EDGES = 1 << 20
"""Edges that are sorted in memory at once, or the number of nodes, if that is more."""


class GraphWriter:
    """Writes a dataset of edges and features that come in pieces, as one that ``open_dataset`` opens.

    Memory is for the nodes alone, about 60 bytes each: edges go to disk as they come and are sorted there.
    The folder is at its path after ``close``, or the end of a ``with`` block; after an exception, a crash or
    a full disk what was there before is there.

    Parameters
    ----------
    path : the folder; the one that it is in must be there
    num_nodes : number of nodes;
        by default the rows of features or labels if there are some, else one more than the largest id
    name : what the dataset is called in messages
    overwrite : replace a dataset that is there

    Raises
    ------
    FileExistsError : something is there
    OSError : the system's, as of a full disk

    Examples
    --------
    >>> import tempfile, numpy as np, numgraph as ng
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with ng.data.GraphWriter(f"{folder}/ring", num_nodes=6) as writer:
    ...         for first in (0, 3):
    ...             src = np.arange(first, first + 3)
    ...             writer.add_edges(src, (src + 1) % 6, length=np.ones(3))
    ...         writer.add_features(np.eye(6, dtype=np.float32))
    ...         writer.set_labels([0, 1, 0, 1, 0, 1])
    ...     print(ng.data.open_dataset(f"{folder}/ring"))
    Dataset('graph', nodes=6, edges=6, features=6, classes=2, split=4/1/1)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        num_nodes: int | None = None,
        *,
        name: str = "graph",
        overwrite: bool = False,
    ) -> None:
        self._num_nodes = None if num_nodes is None else node_count(OP, "num_nodes", num_nodes)
        if not isinstance(name, str):
            raise bad_type(OP, f"name is {shown(name)}", "give a text")
        self._name, self._folder = name, begun(path, overwrite)
        self._files: list[npy.Growing] = []
        self._discard = weakref.finalize(
            self, _discarded, self._folder, self._files
        )  # also of a writer that nobody closes
        dtype = np.dtype(np.int32) if num_nodes is None else ids_dtype(num_nodes)
        self._ends = [self._growing(column, dtype) for column in ("src", "dst")]
        self._degrees = [np.zeros(self._num_nodes or 0, np.int64) for _ in self._ends]
        self._last = [-1, -1]
        self._data: dict[str, npy.Growing] | None = None
        self._features: npy.Growing | None = None
        self._targets: tuple[Any, Any, Any] | None = None

    def add_edges(
        self, src: ArrayLike, dst: ArrayLike, weight: ArrayLike | None = None, **data: ArrayLike
    ) -> None:
        """The next edges; edge ids count on through all pieces.

        Parameters
        ----------
        src, dst : [edges] source and destination of each
        weight : [edges] numbers, the dataset's ``edge_weight``
        **data : [edges, …] further data, by name, the dataset's ``edge_data``; the same names in all pieces

        Raises
        ------
        ValueError : pieces that do not fit
        IndexError : an id out of range, or of 2**31 - 1 and more where `num_nodes` is not given
        """
        op = f"{OP}.add_edges"
        ends = [given_ids(op, name, ids) for name, ids in (("src", src), ("dst", dst))]
        if len(ends[0]) != len(ends[1]):
            raise bad_value(
                op,
                f"src has {len(ends[0])} entries and dst has {len(ends[1])}",
                "edge e runs from src[e] to dst[e]",
            )
        counts = [
            self._num_nodes if self._num_nodes is not None else one_past(op, *given)
            for given in zip(("src", "dst"), ends)
        ]
        if self._num_nodes is None and max(counts) >= INT32_LIMIT:
            raise bad_index(
                op,
                f"an id is {max(counts) - 1}",
                "give num_nodes to the GraphWriter, so that ids are stored in 8 bytes",
            )
        checked = [
            checked_ids(op, name, ids, "num_nodes", count, self._ends[0].dtype)
            for name, ids, count in zip(("src", "dst"), ends, counts, strict=True)
        ]
        given = {"edge_weight": weight} if weight is not None else {}
        self._data, arrays = self._edge_data(
            op, given | {f"edge_data_{name}": array for name, array in data.items()}, len(checked[0])
        )
        for side, ids in enumerate(checked):
            self._make_room(side, counts[side])
            self._last[side] = tally(ids, self._degrees[side], self._last[side])
            self._append(self._ends[side], ids)
        for name, array in arrays.items():
            self._append(self._data[name], array)

    def add_features(self, x: ArrayLike) -> None:
        """The features of the next nodes.

        Parameters
        ----------
        x : [nodes, features] real numbers; floats are stored as they are, other numbers as float32

        Raises
        ------
        TypeError : another dtype or number of axes
        ValueError : rows unlike those before, more rows than nodes, a number that is not finite
        """
        op = f"{OP}.add_features"
        rows = as_array(op, "x", x)
        if rows.dtype.kind not in "biuf" or rows.dtype.itemsize > 8 or rows.ndim != 2:
            raise bad_type(
                op,
                f"x has dtype {rows.dtype} and shape {list(rows.shape)}",
                "features are real numbers [nodes, features]",
            )
        dtype = rows.dtype.newbyteorder("<") if rows.dtype.kind == "f" else np.dtype(np.float32)
        before = self._features
        if before is not None and (before.row, before.dtype) != (rows.shape[1:], dtype):
            problem = (
                f"x has dtype {dtype} and {rows.shape[1]} features, those before have dtype {before.dtype} "
                f"and {before.row[0]}"
            )
            raise bad_value(op, problem, "give the same kind of rows in all pieces")
        bad = np.argwhere(~np.isfinite(rows))
        if len(bad):
            place = [int(i) for i in bad[0]]
            raise bad_value(op, f"x{place} is {rows[tuple(bad[0])]}", "features are finite numbers")
        done = 0 if before is None else before.rows
        if self._num_nodes is not None and done + len(rows) > self._num_nodes:
            raise bad_value(
                op,
                f"with these there are {done + len(rows)} rows, num_nodes is {self._num_nodes}",
                "give one row a node",
            )
        if before is None:
            before = self._features = self._growing("features", dtype, rows.shape[1:])
        self._append(before, rows)

    def set_labels(
        self, y: ArrayLike, split: Any = (0.6, 0.2, 0.2), rng: int | np.random.Generator | None = 0
    ) -> None:
        """The labels of all nodes, and how they are split: as ``Dataset.from_arrays`` takes them.

        Parameters
        ----------
        y : labels [nodes]
        split : three shares, or three boolean masks
        rng : a seed or a generator, from which the split is drawn
        """
        self._targets = y, split, rng

    def close(self) -> None:
        """Sort the edges and move the folder to its place. A writer that is closed, or that has failed,
        cannot be closed again.
        """
        self._check_open()
        try:
            self._finish()
        finally:
            self.discard()

    def discard(self) -> None:
        """Leave nothing of what was written; what stands at the path stays. After ``close`` nothing
        happens.
        """
        self._discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._discard.alive:
            self.close()
        else:
            self.discard()

    # --- files that grow ---

    def _growing(self, name: str, dtype: Any, row: tuple[int, ...] = ()) -> npy.Growing:
        self._check_open()
        self._files.append(npy.Growing(self._folder.path / f"{name}.npy", dtype, row))
        return self._files[-1]

    def _append(self, file: npy.Growing, rows: NDArray[Any]) -> None:
        self._check_open()
        try:
            file.append(rows)
        except BaseException:  # part of the rows may be there
            self.discard()
            raise

    def _check_open(self) -> None:
        if not self._discard.alive:
            raise bad_value(
                OP, f"the writer of {self._folder.target} is closed, or has failed", "begin with a new one"
            )

    def _edge_data(
        self, op: str, given: dict[str, Any], count: int
    ) -> tuple[dict[str, npy.Growing], dict[str, NDArray[Any]]]:
        """The files, and the arrays of a piece, which fit its edges and the pieces before."""
        arrays = {}
        for name, value in given.items():
            shown_name = name.removeprefix("edge_data_").replace("edge_weight", "weight")
            array = as_array(op, shown_name, value)
            if not (name == "edge_weight" or manifest.EDGE_DATA.fullmatch(name)):
                raise bad_value(
                    op, f"the name {shown_name!r} is no name of a file", "use letters, digits and _"
                )
            if (
                array.dtype.kind not in manifest.NUMBERS
                or array.dtype.itemsize > 8
                or not 1 <= array.ndim <= manifest.MOST_AXES
            ):
                problem = f"{shown_name} has dtype {array.dtype} and shape {list(array.shape)}"
                raise bad_type(
                    op, problem, f"give real numbers, a row an edge, of at most {manifest.MOST_AXES} axes"
                )
            if len(array) != count or (name == "edge_weight" and array.ndim != 1):
                raise bad_value(
                    op,
                    f"{shown_name} has shape {list(array.shape)}, there are {count} edges",
                    "give one row an edge",
                )
            arrays[name] = array.astype(np.float32) if name == "edge_weight" else array
            if name == "edge_weight" and len(bad := np.flatnonzero(~np.isfinite(arrays[name]))):
                raise bad_value(op, f"weight[{bad[0]}] is {array[bad[0]]}", "weights are finite numbers")
        files = self._data
        if files is None:
            files = {
                name: self._growing(name, array.dtype.newbyteorder("<"), array.shape[1:])
                for name, array in arrays.items()
            }
        if arrays.keys() != files.keys():
            problem = f"the data are {sorted(arrays)}, those of the pieces before {sorted(files)}"
            raise bad_value(op, problem, "give the same names in all pieces")
        for name, array in arrays.items():
            file = files[name]
            if array.shape[1:] != file.row or not np.can_cast(array.dtype, file.dtype, "safe"):
                problem = f"{name} has dtype {array.dtype} and rows of shape {list(array.shape[1:])}"
                raise bad_value(
                    op,
                    f"{problem}, before {file.dtype} and {list(file.row)}",
                    "give the same kind of rows in all pieces",
                )
        return files, arrays

    def _make_room(self, side: int, count: int) -> None:
        have = len(self._degrees[side])
        if count > have:
            self._degrees[side] = np.concatenate(
                [self._degrees[side], np.zeros(max(count, have * 3 // 2) - have, np.int64)]
            )

    # --- the end ---

    def _finish(self) -> None:
        count = self._count()
        degrees = [
            np.concatenate([made[:count], np.zeros(max(count - len(made), 0), np.int64)])
            for made in self._degrees
        ]
        targets = (
            Targets.none(count)
            if self._targets is None
            else Targets.of(f"{OP}.set_labels", self._targets[0], count, *self._targets[1:])
        )
        if self._features is None:
            self._features = self._growing("features", np.float32, (0,))
            self._features.rows = count
        width = self._features.row[0]
        for file in self._files:
            file.close()
        arrays = {file.path.stem: (file.dtype, (file.rows, *file.row)) for file in self._files}
        whole: dict[str, NDArray[Any]] = {"labels": targets.labels}
        whole |= dict(zip(("train_mask", "val_mask", "test_mask"), targets.masks, strict=True))
        if targets.classes:
            columns = Columns(extra=width, classes=targets.classes)
            whole["columns"] = np.frombuffer(json.dumps(columns.as_dict()).encode(), np.uint8)
        for side, name in ((0, "out"), (1, "in")):
            whole[f"{name}_indptr"] = starts = np.zeros(count + 1, np.int64)
            np.cumsum(degrees[side], out=starts[1:])
            if self._last[side] == -2:
                arrays |= self._sorted(name, side, starts)
        for name, array in whole.items():
            npy.write(self._folder.path / f"{name}.npy", array)
            arrays[name] = array.dtype, array.shape
        about = {
            "name": self._name,
            "task": targets.task,
            "num_nodes": count,
            "num_edges": self._ends[0].rows,
            "num_features": width,
        }
        about |= {"num_classes": targets.num_classes, "label_scale": [0.0, 1.0]}
        finish(self._folder, about, arrays)

    def _count(self) -> int:
        """The number of nodes, which rows of features and labels must agree with."""
        largest = max(
            int(np.flatnonzero(degrees)[-1]) + 1 if degrees.any() else 0 for degrees in self._degrees
        )
        rows = None if self._features is None else self._features.rows
        count = self._num_nodes
        if count is None:
            labelled = None if self._targets is None else np.size(self._targets[0])
            count = rows if rows is not None else labelled if labelled is not None else largest
        if largest > count:
            raise bad_index(
                OP,
                f"an edge has the node {largest - 1}, features or labels are of {count} nodes",
                "give a row for each node",
            )
        if rows is not None and rows != count:
            raise bad_value(OP, f"there are {rows} rows of features and {count} nodes", "give one row a node")
        return count

    def _sorted(
        self, name: str, side: int, starts: NDArray[np.int64]
    ) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """The files of the edges grouped by one end."""
        folder, num_edges = self._folder.path, self._ends[0].rows
        keys, values = (
            npy.opened(self._ends[end].path, self._ends[end].dtype, (num_edges,)) for end in (side, 1 - side)
        )
        shapes = {
            f"{name}_indices": self._ends[0].dtype,
            f"{name}_edge_ids": ids_dtype(len(starts) - 1, num_edges),
        }
        indices, edge_ids = (
            npy.create(folder / f"{file}.npy", dtype, (num_edges,)) for file, dtype in shapes.items()
        )
        dealt = npy.create(folder / "dealt.npy", keys.dtype, (num_edges,))
        (folder / "dealt.npy").unlink()  # the system frees it with the mapping
        group_into(keys, values, starts, indices, edge_ids, dealt, max(BUCKET_EDGES, len(starts)))
        for array in (indices, edge_ids):
            npy.flushed(array)
        return {file: (dtype, (num_edges,)) for file, dtype in shapes.items()}


def _discarded(folder: NewFolder, files: list[npy.Growing]) -> None:
    for file in files:
        file.abandon()
    folder.discard()
