"""How the columns of a table of nodes become features and labels, learnt from one table and kept for the
next.

Numbers are standardised, x ← (x − mean) / deviation, with 0 for what is missing; texts are categories, one
feature for each (one-hot), 0 where nothing stands or where the text was not seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.data.files import Names, Source, arrow
from numgraph.errors import bad_value, shown

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "-")
"""What stands in tables where there is no number."""
FEW = 20
"""So many different whole numbers, at most, are classes; more of them are a quantity."""

_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


@dataclass(frozen=True)
class Column:
    """A column that gives features: numbers with their mean and deviation, or texts with their categories."""

    name: str
    mean: float = 0.0
    scale: float = 1.0
    categories: tuple[str, ...] | None = None

    @property
    def width(self) -> int:
        return 1 if self.categories is None else len(self.categories)


@dataclass(frozen=True)
class Columns:
    """What is learnt from a table of nodes.

    Attributes
    ----------
    inputs : the columns that give features
    names : the nodes that are a feature each, the last ones; None where none is
    extra : how many features came beside the table, from an array
    target : the column of labels, or None
    classes : the labels as text, class k being classes[k]; empty for a regression
    """

    inputs: tuple[Column, ...] = ()
    names: Names | None = None
    extra: int = 0
    target: str | None = None
    classes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """The number of features of a node."""
        return sum(column.width for column in self.inputs) + self.extra + len(self.names or ())

    def as_dict(self) -> dict[str, Any]:
        """The same as lists, dicts, numbers and text, for JSON; ``Columns.from_dict`` is its inverse."""
        names = None if self.names is None else list(self.names)
        inputs = [asdict(column) for column in self.inputs]
        return {
            "inputs": inputs,
            "names": names,
            "extra": self.extra,
            "target": self.target,
            "classes": list(self.classes),
        }

    @classmethod
    def from_dict(cls, made: dict[str, Any]) -> Columns:
        inputs = [
            Column(
                one["name"],
                float(one["mean"]),
                float(one["scale"]),
                None if one["categories"] is None else tuple(one["categories"]),
            )
            for one in made["inputs"]
        ]
        names = None
        if made["names"] is not None:
            pa = arrow("Columns")
            names = Names(pa.array(made["names"], pa.string()))
        return cls(tuple(inputs), names, int(made["extra"]), made["target"], tuple(made["classes"]))


@dataclass
class Notes:
    """Warnings about one file, each with how often it applied; shown once for each kind, with the first
    place.
    """

    op: str
    first: dict[str, tuple[str, int]] = field(default_factory=dict)

    def add(self, kind: str, text: str, count: int) -> None:
        self.first.setdefault(kind, (text, count))

    def show(self, stacklevel: int) -> None:
        for text, count in self.first.values():
            more = f" (and {count - 1:,} more of this kind)" if count > 1 else ""
            warnings.warn(f"{self.op}: {text}{more}", UserWarning, stacklevel=stacklevel + 1)


def as_numbers(op: str, source: Source, column: Any, name: str) -> NDArray[np.float64]:
    """[rows] a column as numbers, NaN where there is none; an error with the line of a value that is no
    number.
    """
    pa = arrow(op)
    import pyarrow.compute as pc

    if not pa.types.is_string(column.type):
        if pa.types.is_temporal(column.type):
            column = column.cast(pa.timestamp("us")).cast(pa.int64())
        return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    text = _trimmed(column)
    bad = pc.invert(pc.or_(pc.is_null(text), pc.fill_null(_looks_numeric(text), True)))
    if (row := pc.index(bad, True).as_py()) >= 0:
        raise bad_value(
            op,
            f"{source.at(row, name)}: {shown(column[row].as_py())} is no number",
            "correct it, or leave it empty",
        )
    return np.asarray(text.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _trimmed(text: Any) -> Any:
    """Texts without spaces around them and without the plus that Arrow's numbers have not, null where nothing
    is meant.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_ltrim(pc.utf8_trim_whitespace(text), "+")
    return pc.if_else(pc.is_in(text, pa.array(MISSING)), None, text)


def _looks_numeric(text: Any) -> Any:
    import pyarrow.compute as pc

    return pc.or_(
        pc.match_substring_regex(text, _NUMBER), pc.match_substring_regex(text, r"(?i)^-?inf(inity)?$")
    )


def share_of_numbers(column: Any) -> float:
    """The share of numbers among the values that are there; 1 of a column whose type is one of numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(column.type):
        return 1.0
    text = _trimmed(column).drop_null()
    return float(pc.mean(_looks_numeric(text).cast(pa.int8())).as_py()) if len(text) else 0.0


def learn(
    op: str, source: Source, names: Sequence[str], categories: Sequence[str], notes: Notes
) -> tuple[Column, ...]:
    """The columns of the given names as features; those that say nothing are left out, with a warning.

    categories: columns of numbers that are names of kinds (postal codes and the like).
    """
    found = []
    for name in names:
        column = source.column(op, name, "column")
        distinct = column.drop_null().unique()
        if len(distinct) == 0:
            notes.add(f"empty {name}", f"{source.name}: the column {name!r} is empty and is left out", 1)
        elif name not in categories and share_of_numbers(column) > 0.5:
            values = as_numbers(op, source, column, name)
            values = values[np.isfinite(values)]
            if len(values):
                with np.errstate(over="ignore", invalid="ignore"):
                    scale = float(values.std())
                if not np.isfinite(scale):
                    row = int(np.nanargmax(np.abs(as_numbers(op, source, column, name))))
                    problem = (
                        f"{source.at(row, name)}: {shown(column[row].as_py())} is too large for a deviation"
                    )
                    raise bad_value(op, problem, "correct it, or give the column in another unit")
                found.append(Column(name, float(values.mean()), scale if scale > 0 else 1.0))
        elif len(distinct) > max(FEW, len(column) // 2):
            text = (
                f"{source.name}: the column {name!r} has {len(distinct):,} different texts in "
                f"{len(column):,} rows, "
            )
            notes.add(f"many {name}", f"{text}too many for categories, and is left out", 1)
        else:
            found.append(Column(name, categories=tuple(sorted(texts(distinct)))))
    return tuple(found)


def texts(column: Any) -> list[str]:
    """A column's values as text."""
    import pyarrow as pa

    return list(column.cast(pa.string()).to_pylist())


def encode(op: str, source: Source, columns: Columns, notes: Notes) -> NDArray[np.float32]:
    """[nodes, features] the features that the columns of a table give."""
    pa = arrow(op)
    import pyarrow.compute as pc

    x = np.zeros((source.table.num_rows, sum(column.width for column in columns.inputs)), np.float32)
    start = 0
    for column in columns.inputs:
        given = source.column(op, column.name, "column")
        block = x[:, start : start + column.width]
        start += column.width
        if column.categories is None:
            values = as_numbers(op, source, given, column.name)
            if np.isinf(values).any():
                row = int(np.flatnonzero(np.isinf(values))[0])
                raise bad_value(
                    op,
                    f"{source.at(row, column.name)}: {values[row]} is not finite",
                    "correct it, or leave it empty",
                )
            absent = np.flatnonzero(np.isnan(values))
            block[:, 0] = (np.where(np.isnan(values), column.mean, values) - column.mean) / column.scale
            what = "there is no number; the mean stands for it"
        else:
            codes = pc.index_in(given.cast(pa.string()), pa.array(column.categories))
            known = codes.is_valid().to_numpy(zero_copy_only=False)
            block[np.flatnonzero(known), codes.drop_null().to_numpy()] = 1
            there = given.is_valid().to_numpy(zero_copy_only=False)
            new = np.flatnonzero(there & ~known)
            if len(new):
                value = shown(given[int(new[0])].as_py())
                text = (
                    f"{source.at(int(new[0]), column.name)}: {value} was not seen in training and counts as "
                    "no category"
                )
                notes.add(f"new {column.name}", text, len(new))
            absent, what = np.flatnonzero(~there), "nothing is there; it counts as no category"
        if len(absent):
            notes.add(
                f"absent {column.name}", f"{source.at(int(absent[0]), column.name)}: {what}", len(absent)
            )
    return x


def task_of(op: str, source: Source, column: Any, name: str, task: str | None) -> str:
    """What a target asks for: "classification", or "regression" where it is numbers, not all whole or more
    than a few different ones.
    """
    if task is not None:
        return task
    distinct = column.drop_null().unique()
    share = share_of_numbers(column)
    if share < 1:
        if share > 0.5 and len(distinct) > FEW:
            as_numbers(op, source, column, name)  # an error with the line of the first that is none
        return "classification"
    values = as_numbers(op, source, distinct, name)
    values = values[~np.isnan(values)]
    return "regression" if len(values) > FEW or (values != np.floor(values)).any() else "classification"


def labels_of(
    op: str, column: Any, classes: Sequence[str] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """[rows] the class of each row, −1 where the target is empty or no class, and the classes: given ones, or
    the column's, sorted.
    """
    pa = arrow(op)
    import pyarrow.compute as pc

    text = column.cast(pa.string())
    found = text.drop_null().unique()
    numeric = share_of_numbers(found) == 1
    nothing = pa.array(MISSING if numeric else ("",))
    text = pc.if_else(pc.is_in(pc.utf8_trim_whitespace(text), nothing), None, text)
    if classes is None:
        found = text.drop_null().unique()
        classes = sorted(texts(found), key=lambda one: (float(one.strip()) if numeric else 0.0, one))
    codes = pc.index_in(text, pa.array(classes, pa.string()))
    return pc.fill_null(codes, -1).to_numpy().astype(np.int64), tuple(classes)
