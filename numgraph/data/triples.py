"""Knowledge graphs: triples (head, relation, tail) of names, from files."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.inputs import as_array, generator, kind_of
from numgraph.data.split import shares_of
from numgraph.errors import bad_type, bad_value, shown
from numgraph.graph import HeteroGraph

PARTS = {"train": ("train",), "val": ("valid", "val", "validation", "dev"), "test": ("test",)}
"""What the files of a folder are called, before the extension."""
SUFFIXES = (".txt", ".tsv", ".csv", ".del")
ROLES = {
    "h": ("head", "subject", "source", "from", "src", "h"),
    "r": ("relation", "predicate", "relationship", "edge", "rel", "r"),
    "t": ("tail", "object", "target", "to", "dst", "t"),
}
"""Names of columns that a first line may have, which is no triple then."""


def _roles(row: Sequence[str]) -> str:
    """What the columns of a header are, as "hrt"; "?" for a word that is none of a header."""
    return "".join(
        next((role for role, names in ROLES.items() if word.strip().lower() in names), "?") for word in row
    )


@dataclass(frozen=True, eq=False, repr=False)
class Triples:
    """The triples of a knowledge graph, dealt out for training, validation and test.

    Attributes
    ----------
    name : what messages call it
    train, val, test : int64 arrays [n, 3] of ids, (head, relation, tail)
    entities, relations : their names; entity i is entities[i]

    Raises
    ------
    TypeError : triples that are no integers [n, 3]
    ValueError : an id without a name

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> none = np.zeros((0, 3), np.int64)
    >>> triples = ng.data.Triples("family", np.array([[0, 0, 1]]), none, none, ["ann", "ben"], ["knows"])
    >>> triples.num_entities, triples.num_relations
    (2, 1)
    """

    name: str
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    entities: Sequence[str]
    relations: Sequence[str]

    def __post_init__(self) -> None:
        counts = np.array([len(self.entities), len(self.relations), len(self.entities)])
        for part in ("train", "val", "test"):
            ids = as_array("Triples", part, getattr(self, part))
            if ids.ndim != 2 or ids.shape[1] != 3 or (ids.dtype.kind not in "iu" and ids.size):
                raise bad_type(
                    "Triples",
                    f"{part} has dtype {ids.dtype} and shape {list(ids.shape)}",
                    "give ids, integers [n, 3]",
                )
            wrong = np.argwhere((ids < 0) | (ids >= counts))
            if len(wrong):
                row, column = wrong[0].tolist()
                problem = f"{part}[{row}, {column}] is {ids[row, column]}"
                raise bad_value(
                    "Triples", problem, f"ids run from 0 to {counts[column] - 1}, by the names given"
                )
            object.__setattr__(self, part, ids.astype(np.int64))

    @property
    def num_entities(self) -> int:
        """How many entities there are."""
        return len(self.entities)

    @property
    def num_relations(self) -> int:
        """How many relations there are."""
        return len(self.relations)

    @property
    def known(self) -> NDArray[np.int64]:
        """[n, 3] the triples of all parts: what is no wrong answer to any question."""
        return np.concatenate([self.train, self.val, self.test])

    def to_hetero(self) -> HeteroGraph:
        """The triples for training as a HeteroGraph of one type of nodes, "entity", and a relation for each
        that has any.
        """
        h, r, t = self.train.T
        edges = {
            ("entity", self.relations[k], "entity"): (h[r == k], t[r == k]) for k in np.unique(r).tolist()
        }
        return HeteroGraph(edges, {"entity": self.num_entities})

    def __repr__(self) -> str:
        parts = "/".join(str(len(part)) for part in (self.train, self.val, self.test))
        return (
            f"Triples({self.name!r}, entities={self.num_entities}, relations={self.num_relations}, "
            f"triples={parts})"
        )


def load_triples(
    path: str | os.PathLike[str],
    valid: str | os.PathLike[str] | None = None,
    test: str | os.PathLike[str] | None = None,
    *,
    split: Any = (0.8, 0.1, 0.1),
    rng: int | np.random.Generator | None = 0,
    order: str = "hrt",
    name: str | None = None,
) -> Triples:
    """Read a knowledge graph from text files, a triple a line: head, relation and tail, between tabs, or
    commas in a .csv.

    Parameters
    ----------
    path : a folder with train, valid and test files (train.txt, valid.txt, test.txt, or .tsv, .csv);
        or the file for training; or, without `valid` and `test`, one file that is dealt out
    valid, test : files, beside a file for training
    split, rng : the shares for training, validation and test of a single file, and the seed that deals
    order : of the columns, as "hrt" or "htr"
    name : what messages call it; by default the folder's or file's name

    Returns
    -------
    Triples : names are numbered as they first appear, from training on

    Raises
    ------
    FileNotFoundError : a file that is not there
    ValueError : a line that has not three columns, by its number; no triple for training

    Warns
    -----
    UserWarning : entities or relations that training never sees: their rows are not learnt

    Examples
    --------
    >>> import tempfile, numgraph as ng
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with open(f"{folder}/family.txt", "w") as file:
    ...         _ = file.write("ann\\tmother of\\tben\\nben\\tson of\\tann\\n")
    ...     triples = ng.data.load_triples(f"{folder}/family.txt", split=(1, 0, 0))
    >>> triples.num_entities, triples.num_relations, triples.train.shape
    (2, 2, (2, 3))
    """
    op = "load_triples"
    if not isinstance(path, str | os.PathLike):
        raise bad_type(
            op,
            f"path is {kind_of(path)}",
            "give a folder or a file with a triple a line, as to_csv(path, index=False) writes it",
        )
    path = Path(path)
    if sorted(order) != ["h", "r", "t"]:
        raise bad_value(op, f"order is {shown(order)}", 'name the columns by three letters, as "hrt"')
    files = _files(op, path, valid, test)
    columns = [order.index(letter) for letter in "hrt"]
    entities: dict[str, int] = {}
    relations: dict[str, int] = {}
    read = {part: _read(op, file, columns, entities, relations) for part, file in files.items()}
    if len(files) == 1:
        shares, (rows,) = shares_of(op, split), read.values()
        ends = np.round(np.cumsum(shares) * len(rows) + 1e-9).astype(int)
        dealt = generator(op, rng).permutation(len(rows))
        read = {
            part: rows[np.sort(dealt[start:end])] for part, start, end in zip(PARTS, (0, *ends[:-1]), ends)
        }
    parts = {part: read.get(part, np.empty((0, 3), np.int64)) for part in PARTS}
    if not len(parts["train"]):
        raise bad_value(op, f"{path} has no triple for training", "give some, or another split")
    made = Triples(
        name or path.stem, parts["train"], parts["val"], parts["test"], list(entities), list(relations)
    )
    _warn_of_unseen(made)
    return made


def read_questions(path: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """Heads and relations, of a file as ``load_triples`` reads them, with two columns or three, of which the
    last is left.
    """
    op, file = "predict", Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"{op}: there is no file {file}; give one with a head and a relation in each line"
        )
    heads, relations = [], []
    for place, (line, row) in enumerate(_rows(op, file)):
        if len(row) not in (2, 3) or not all(row[:2]):
            raise bad_value(
                op, f"{file}, line {line} has {len(row)} columns", "a question has a head and a relation"
            )
        if place == 0 and _roles(row[:2]) == "hr":
            continue
        heads.append(row[0])
        relations.append(row[1])
    return heads, relations


def _files(op: str, path: Path, valid: Any, test: Any) -> dict[str, Path]:
    """The file of each part; of one file that is dealt out that of "train" alone."""
    if not path.is_dir():
        found = {"train": path} | {
            part: Path(file) for part, file in (("val", valid), ("test", test)) if file is not None
        }
        for file in found.values():
            if not file.is_file():
                raise FileNotFoundError(
                    f"{op}: there is no file {file}; give one, or a folder with train.txt, valid.txt and "
                    "test.txt"
                )
        return found
    if valid is not None or test is not None:
        raise bad_value(
            op, f"{path} is a folder, and files were given beside it", "give the folder alone, or three files"
        )
    found = {}
    for part, stems in PARTS.items():
        files = sorted(
            file for file in path.iterdir() if file.stem.lower() in stems and file.suffix.lower() in SUFFIXES
        )
        if len(files) > 1:
            raise bad_value(
                op,
                f"{path} has {files[0].name} and {files[1].name}",
                "leave one of them there, or give the files",
            )
        if files:
            found[part] = files[0]
    if "train" not in found:
        raise FileNotFoundError(
            f"{op}: the folder {path} has no train.txt, train.tsv or train.csv; give such a one, or the files"
        )
    if len(found) == 1:
        raise FileNotFoundError(
            f"{op}: the folder {path} has {found['train'].name} alone; add valid.txt and test.txt, or give "
            "the file"
        )
    return found


def _read(
    op: str, file: Path, columns: list[int], entities: dict[str, int], relations: dict[str, int]
) -> NDArray[np.int64]:
    """[n, 3] ids; new names are added."""
    head, relation, tail = columns
    found: list[tuple[int, int, int]] = []
    for place, (line, row) in enumerate(_rows(op, file)):
        if len(row) != 3 or not all(row):
            problem = (
                f"{file}, line {line} has {len(row)} columns"
                if len(row) != 3
                else f"{file}, line {line} has an empty name"
            )
            kind = "commas" if file.suffix.lower() == ".csv" else "tabs"
            raise bad_value(op, problem, f"a triple has three names between {kind}: head, relation, tail")
        if place == 0 and set(roles := _roles(row)) == set(ROLES):
            if [roles[k] for k in columns] != list(ROLES):
                raise bad_value(op, f"{file} has the columns {', '.join(row)}", f"give order={roles!r}")
            continue
        ids = [
            table.setdefault(row[k], len(table))
            for k, table in ((head, entities), (relation, relations), (tail, entities))
        ]
        found.append((ids[0], ids[1], ids[2]))
    return np.array(found, np.int64).reshape(-1, 3)


def _rows(op: str, file: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and columns of each line that is not empty."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            if file.suffix.lower() == ".csv":
                reader = csv.reader(lines)
                yield from ((reader.line_num, row) for row in reader if row)
                return
            for number, line in enumerate(lines, 1):
                text = line.rstrip("\r\n")
                if text.strip():
                    yield (
                        number,
                        [column.strip() for column in (text.split("\t") if "\t" in text else text.split())],
                    )
    except UnicodeDecodeError as error:
        raise bad_value(
            op, f"{file} is no text in UTF-8 ({error.reason} at byte {error.start})", "save it in UTF-8"
        ) from error


def _warn_of_unseen(made: Triples) -> None:
    for what, names, ids in (
        ("entities", made.entities, made.train[:, [0, 2]]),
        ("relations", made.relations, made.train[:, 1]),
    ):
        unseen = np.setdiff1d(np.arange(len(names)), ids)
        if len(unseen):
            text = (
                f"{len(unseen)} of {len(names)} {what}, {names[unseen[0]]!r} first, are in no triple for "
                "training and are not learnt"
            )
            warnings.warn(f"load_triples: {made.name}: {text}", UserWarning, stacklevel=3)
