"""Sets of graphs in the TU format (Morris et al., TUDataset, 2020): a folder of text files, a line for each
edge, node or graph.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.inputs import kind_of
from numgraph.data.graph_set import GraphDataset, SetColumns, degree_features
from numgraph.data.record import TASKS, Targets
from numgraph.errors import bad_type, bad_value, check_name, shown
from numgraph.graph import Graph

MOST_KINDS = 4096
"""Features that labels of nodes or edges may become."""
Read = tuple[int, tuple[tuple[int, ...], ...]]
"""How many attributes there are, and the values of each column of labels."""
_WHOLE = 2.0**53
"""Whole numbers below it are exact in float64."""


def read_tu(
    folder: str | os.PathLike[str],
    *,
    name: str | None = None,
    task: str | None = None,
    target: int = 0,
    degrees: bool | None = None,
    split: Any = (0.8, 0.1, 0.1),
    rng: int | np.random.Generator | None = 0,
    columns: SetColumns | None = None,
) -> GraphDataset:
    """Read a set of graphs in the TU format, as https://chrsmrrs.github.io/datasets has them.

    Parameters
    ----------
    folder : has NAME_A.txt (an edge a line: source, target),
        NAME_graph_indicator.txt (the graph of each node), and NAME_graph_labels.txt (a class for each graph)
        or NAME_graph_attributes.txt (numbers for each); NAME_node_labels.txt, NAME_node_attributes.txt,
        NAME_edge_labels.txt and NAME_edge_attributes.txt are read where they are there
    name : NAME; by default that of the folder's one file NAME_A.txt
    task : "classification" of the labels, "regression" of the attributes, or of labels where there are none;
        by default classification where there are labels
    target : of a regression, which column of the attributes, from 0 on
    degrees : a feature for each in-degree beside the others;
        by default only where nodes have neither labels nor attributes
    split, rng : the shares for training, validation and test, each class by itself as far as numbers let it,
        and the seed that deals
    columns : ``columns`` of another set: features and classes are as there,
        and ``degrees`` and ``split`` say nothing. Labels of nodes that set had not are 0 in every column;
        graphs with a label are for the test, those with one that it had not have none

    Returns
    -------
    GraphDataset : features are the attributes,
        then a column for each label of nodes (each column of labels by itself), then degrees; ``edge_attr``
        the same of edges. Edges are those of the file, in its order; ``classes`` are the file's labels, from
        the lowest on. Without labels and attributes of graphs none has a label.

    Raises
    ------
    FileNotFoundError : a file that must be there
    ValueError : what is wrong in a file, with its line

    Notes
    -----
    Ids count from 1, or from 0 where the file has a 0. A file has not to end in a new line.

    Examples
    --------
    >>> import tempfile, pathlib, numgraph as ng
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> texts = {"A": "1, 2\\n2, 1\\n3, 4\\n4, 3"}
    >>> texts |= {"graph_indicator": "1\\n1\\n2\\n2", "graph_labels": "-1\\n1"}
    >>> texts["node_labels"] = "0\\n0\\n1\\n0"
    >>> for file, text in texts.items():
    ...     _ = (folder / f"two_{file}.txt").write_text(text)
    >>> ng.data.read_tu(folder, split=(1, 0, 0))
    GraphDataset('two', graphs=2, features=2, classes=2, split=2/0/0)
    """
    op, files = "read_tu", _Files.of("read_tu", folder, name)
    if task is not None:
        check_name(op, "task", task, TASKS)
    pairs, node_graph = files.numbers("A", 2, whole=True), files.numbers("graph_indicator", 1, whole=True)
    if pairs is None or node_graph is None:
        raise FileNotFoundError(
            f"{op}: there is no file {files.path('A' if pairs is None else 'graph_indicator')}; a set of "
            "graphs has one"
        )
    labels, classes = files.targets(task, target, columns)
    indicator = node_graph[:, 0].astype(np.int64)
    indicator -= int(not (indicator == 0).any())
    count = len(labels) if labels is not None else int(indicator.max(initial=-1)) + 1
    if labels is None and count > len(indicator):
        line = int(indicator.argmax()) + 1
        raise files.bad(
            "graph_indicator",
            line,
            f"is graph {node_graph[line - 1, 0]:.0f} of {len(indicator)} nodes",
            "graphs count from 1",
        )
    files.within("graph_indicator", indicator[:, None], node_graph, count, "graph")
    if not count:
        raise bad_value(op, f"{files.path('graph_indicator')} has no line", "a set has one graph or more")
    ends = pairs.astype(np.int64)
    zero_based = bool((ends == 0).any()) or bool((node_graph == 0).any() and (ends < len(indicator)).all())
    ends -= int(not zero_based)
    files.within("A", ends, pairs, len(indicator), "node")
    across = np.flatnonzero(indicator[ends[:, 0]] != indicator[ends[:, 1]])
    if len(across):
        row = int(across[0])
        between = " and ".join(f"{node_graph[node, 0]:.0f}" for node in ends[row])
        raise files.bad("A", row + 1, f"joins nodes of the graphs {between}", "an edge is in one graph")
    by_graph = np.argsort(indicator, kind="stable")
    sizes = np.bincount(indicator, minlength=count)
    first = np.cumsum(sizes) - sizes
    place = np.empty(len(indicator), np.int64)
    place[by_graph] = np.arange(len(indicator)) - np.repeat(first, sizes)
    edge_graph = indicator[ends[:, 0]]
    edges = np.argsort(edge_graph, kind="stable")
    cuts = np.cumsum(np.bincount(edge_graph, minlength=count))[:-1]
    local = np.split(place[ends[edges]], cuts)
    graphs = [Graph(pair[:, 0], pair[:, 1], size) for pair, size in zip(local, sizes.tolist(), strict=True)]
    x, of_nodes = files.features(
        "node", len(indicator), (columns.attributes, columns.kinds) if columns else None
    )
    read_edges = (columns.edge_attributes, columns.edge_kinds) if columns and columns.edge_width else None
    edge_attr, of_edges = files.features("edge", len(ends), read_edges)
    features = None if x is None else np.split(x[by_graph], first[1:])
    width = 0
    if columns.degrees if columns else degrees or (degrees is None and x is None):
        known = degree_features(graphs, columns.degrees if columns else None)
        width = known[0].shape[1]
        features = (
            known if features is None else [np.hstack(both) for both in zip(features, known, strict=True)]
        )
    elif features is None:
        features = [np.ones((size, 1), np.float32) for size in sizes.tolist()]
    if columns:
        learnt = _tested(columns, labels, count, task)
    else:
        learnt = Targets.none(count) if labels is None else Targets.of(op, labels, count, split, rng, "graph")
    columns = columns or SetColumns(of_nodes[0], of_nodes[1], width, classes, of_edges[0], of_edges[1])
    by_edges = None if edge_attr is None else np.split(edge_attr[edges], cuts)
    return GraphDataset.of(files.name, graphs, features, learnt, by_edges, classes, columns)


def _tested(columns: SetColumns, labels: NDArray[Any] | None, count: int, task: str | None) -> Targets:
    """Labels of graphs for a model of another set: all that are known are for the test."""
    if task == "regression":
        labels = np.full(count, np.nan, np.float32) if labels is None else labels.astype(np.float32)
    labels = np.full(count, -1) if labels is None else labels
    nothing, known = np.zeros(count, bool), ~np.isnan(labels) if labels.dtype.kind == "f" else labels >= 0
    return Targets(labels, (nothing, nothing, known), len(columns.classes), task or "classification")


@dataclass(frozen=True)
class _Files:
    """The files of a set, NAME_….txt in a folder."""

    op: str
    folder: Path
    name: str

    @classmethod
    def of(cls, op: str, folder: Any, name: str | None) -> _Files:
        if not isinstance(folder, str | os.PathLike):
            raise bad_type(op, f"folder is {kind_of(folder)}", "give the path of a folder")
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{op}: there is no folder {folder}; give one with the files NAME_A.txt, "
                "NAME_graph_indicator.txt, …"
            )
        if name is None:
            found = sorted(path.name.removesuffix("_A.txt") for path in folder.glob("*_A.txt"))
            if len(found) != 1:
                problem = f"{len(found)} files NAME_A.txt" + (f", of {', '.join(found[:8])}" if found else "")
                kind = ValueError if found else FileNotFoundError
                raise kind(
                    f"{op}: the folder {folder} has {problem}; "
                    f"{'say which by name' if found else 'give one of the TU format'}"
                )
            name = found[0]
        return cls(op, folder, name)

    def path(self, kind: str) -> Path:
        return self.folder / f"{self.name}_{kind}.txt"

    def bad(self, kind: str, line: int, problem: str, fix: str) -> ValueError:
        return bad_value(self.op, f"{self.path(kind)}, line {line} {problem}", fix)

    def numbers(
        self, kind: str, columns: int | None = None, rows: int | None = None, *, whole: bool = False
    ) -> NDArray[np.float64] | None:
        """[lines, columns] the numbers of a file, None where it is not there; rows: how many lines it must
        have.
        """
        path = self.path(kind)
        if not path.exists():
            return None
        try:
            lines = path.read_text("utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise bad_value(
                self.op, f"{path} is no text ({error.reason} at byte {error.start})", "save it in UTF-8"
            ) from error
        while lines and not lines[-1].strip():
            lines.pop()
        if rows is not None and len(lines) != rows:
            of, what = ("A", "edge") if kind.startswith("edge") else ("graph_indicator", "node")
            problem = f"{path} has {len(lines)} lines, {self.path(of).name} has {rows}"
            raise bad_value(self.op, problem, f"it has a line for each {what}")
        wanted = columns if columns is not None else lines[0].count(",") + 1 if lines else 1
        if not lines:
            return np.empty((0, wanted))
        try:
            made = np.loadtxt(lines, np.float64, comments=None, delimiter=",", ndmin=2)
        except ValueError:
            made = None
        if made is None or made.shape != (len(lines), wanted):  # loadtxt leaves out empty lines
            made = np.array(
                [self._parsed(kind, number, line, wanted) for number, line in enumerate(lines, 1)]
            )
        if whole:
            wrong = np.argwhere(~(np.abs(made) < _WHOLE) | (made != np.rint(made)))
            if len(wrong):
                row, column = wrong[0].tolist()
                raise self.bad(kind, row + 1, f"has {made[row, column]:g}", "it has whole numbers")
        return made

    def _parsed(self, kind: str, number: int, line: str, columns: int) -> list[float]:
        words = line.split(",")
        fix = (
            "every line has a number" if columns == 1 else f"every line has {columns} numbers, between commas"
        )
        if len(words) != columns or not line.strip():
            raise self.bad(kind, number, f"has {len(words)} numbers" if line.strip() else "is empty", fix)
        try:
            return [float(word) for word in words]
        except ValueError:
            raise self.bad(kind, number, f"is {shown(line.strip())}", fix) from None

    def within(
        self, kind: str, ids: NDArray[np.int64], given: NDArray[np.float64], count: int, what: str
    ) -> None:
        """An error with its line where an id is outside of 0 … count − 1."""
        wrong = np.argwhere((ids < 0) | (ids >= count))
        if len(wrong):
            row, column = wrong[0].tolist()
            raise self.bad(
                kind,
                row + 1,
                f"has {what} {given[row, column]:.0f}",
                f"there are {count} {what}s, which count from 1 (or 0)",
            )

    def targets(
        self, task: str | None, target: int, columns: SetColumns | None
    ) -> tuple[Any, tuple[Any, ...]]:
        """What is learnt of each graph, and what its classes are in the file; None where there is neither
        label nor attribute. columns: of another set, of which the classes are."""
        path = self.path("graph_labels")
        if (
            columns is not None
            and not path.exists()
            and (task == "classification" or not self.path("graph_attributes").exists())
        ):
            return None, columns.classes
        if task == "classification" or (task is None and path.exists()):
            found = self.numbers("graph_labels", 1, whole=True)
            if found is None:
                raise FileNotFoundError(f"{self.op}: there is no file {path}; classification needs it")
            if columns is not None:
                number = {one: k for k, one in enumerate(columns.classes)}
                return np.array([number.get(int(one), -1) for one in found[:, 0]], np.int64), columns.classes
            classes, labels = np.unique(found[:, 0], return_inverse=True)
            return labels.astype(np.int64), tuple(int(one) for one in classes)
        kind = "graph_attributes" if self.path("graph_attributes").exists() else "graph_labels"
        numbers = self.numbers(kind)
        if numbers is None:
            if task is not None:
                raise FileNotFoundError(
                    f"{self.op}: there is no file {self.path('graph_attributes')}; regression needs it"
                )
            return None, ()
        if (
            isinstance(target, bool)
            or not isinstance(target, int | np.integer)
            or not 0 <= target < numbers.shape[1]
        ):
            problem = f"target is {shown(target)}, and {self.path(kind)} has {numbers.shape[1]} columns"
            raise bad_value(self.op, problem, f"columns count from 0 to {numbers.shape[1] - 1}")
        self._check_range(kind, numbers[:, [target]], missing=True)
        return numbers[:, target], ()

    def _check_range(self, kind: str, numbers: NDArray[np.float64], missing: bool = False) -> None:
        """An error for what float32 has no number for; missing: NaN is one that is not known."""
        wrong = np.argwhere(~(np.abs(numbers) <= np.finfo(np.float32).max) & ~(missing & np.isnan(numbers)))
        if len(wrong):
            row, column = wrong[0].tolist()
            raise self.bad(
                kind,
                row + 1,
                f"has {numbers[row, column]:g}",
                "give finite numbers, within the range of float32",
            )

    def features(self, what: str, count: int, other: Read | None) -> tuple[NDArray[np.float32] | None, Read]:
        """[count, features] of nodes or edges: attributes, then a column for each value of each column of
        labels; how many attributes, and the values. other: those of another set, which are taken then."""
        parts: list[NDArray[np.float32]] = []
        numbers = self.numbers(f"{what}_attributes", rows=count)
        labels = self.numbers(f"{what}_labels", rows=count, whole=True)
        if other is not None:
            for kind, found, wanted in (("attributes", numbers, other[0]), ("labels", labels, len(other[1]))):
                width = 0 if found is None else found.shape[1]
                if width != wanted:
                    problem = (
                        f"{self.path(f'{what}_{kind}')} has {width} columns, the model's set had {wanted}"
                    )
                    raise bad_value(self.op, problem, "give a set with the same files")
        if numbers is not None:
            self._check_range(f"{what}_attributes", numbers)
            parts.append(numbers.astype(np.float32))
        kinds = []
        for k, column in enumerate(() if labels is None else labels.T):
            values = np.unique(column) if other is None else np.array(other[1][k], np.float64)
            if len(values) > MOST_KINDS:
                problem = f"{self.path(f'{what}_labels')} has {len(values):,} different labels"
                raise bad_value(
                    self.op, problem, f"each is a feature: numbers that are quantities are {what}_attributes"
                )
            kinds.append(tuple(int(value) for value in values))
            parts.append((column[:, None] == values).astype(np.float32))
        return np.hstack(parts) if parts else None, (0 if numbers is None else numbers.shape[1], tuple(kinds))
