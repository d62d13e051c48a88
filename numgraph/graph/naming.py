"""Names and attributes of other libraries' nodes and edges, as arrays: names to ids, values to columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.inputs import as_array
from numgraph.errors import bad_type, bad_value, shown
from numgraph.graph.sorting import Ids
from numgraph.runtime.compiling import njit

_ABSENT = object()

LONGEST = 64
"""Characters of names that are compared as words of one width, which would waste memory on few long ones."""


def as_objects(values: Sequence[Any]) -> NDArray[Any]:
    """[n] the values themselves; NumPy would make two axes of tuples and text of numbers beside text."""
    return np.fromiter(values, object, len(values))


def as_names(op: str, what: str, values: Any) -> NDArray[Any]:
    """[n] names: numbers and dates in their dtype, text and everything else as objects; a missing one is an
    error.
    """
    if isinstance(values, list | tuple | range):
        names = _of_list(values)
        names = names if names.ndim == 1 else as_objects(values)  # tuples
    else:
        names = as_array(op, what, values)
        names = names.astype(object) if names.dtype.kind in "USTV" else names
    if names.ndim != 1:
        raise bad_value(
            op, f"{what} has shape {list(names.shape)}", "names are a list or a column, one name for each"
        )
    position = _first_missing(names)
    if position is not None:
        raise bad_value(
            op,
            f"{what}[{position}] is {names[position]}",
            "each needs a name: fill it in, or leave this one out",
        )
    return names


def _first_missing(names: NDArray[Any]) -> int | None:
    """The first name that is None, NaN, NaT or pandas' NA."""
    if names.dtype.kind in "biu":
        return None
    if names.dtype != object:
        found = np.flatnonzero(np.isnat(names) if names.dtype.kind in "mM" else names != names)
        return int(found[0]) if len(found) else None
    listed = names.tolist()
    if set(map(type, listed)) <= {str, int}:
        return None
    return next((i for i, name in enumerate(listed) if is_missing(name)), None)


def is_missing(value: Any) -> bool:
    """Whether a table has nothing there: None, NaN, NaT, or pandas' NA, which knows no truth."""
    return (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or (isinstance(value, float | np.generic) and bool(value != value))
    )


def together(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The names of several arrays in one; of different kinds as objects, so that 1 stays 1 beside "1"."""
    if len({names.dtype.kind for names in parts}) > 1:
        parts = [as_objects(names.tolist()) for names in parts]
    return np.concatenate(parts)


def numbered(op: str, what: str, names: NDArray[Any]) -> tuple[Ids, Ids]:
    """[n] the number of each name, in the order in which they first appear, and [distinct] the positions
    where they do.

    names: [n] as ``as_names`` gives them. Objects are equal as in a dict: 1, 1.0 and True are one name.
    """
    if names.dtype == object or len(names) == 0:
        listed = names.tolist()
        words = _text_words(names, listed)
        return _numbered_objects(op, what, listed) if words is None else _numbered_words(words)
    if names.dtype.kind == "f":
        names = names.astype(np.float64) + 0.0  # -0.0 is 0.0
    elif names.dtype.kind in "biu":
        names = names.astype(np.uint64)
    return _numbered_words(np.ascontiguousarray(names).view(np.uint64).reshape(len(names), -1))


def _text_words(names: NDArray[Any], listed: list[Any]) -> NDArray[np.uint64] | None:
    """Short texts as [n, words]; None where there is something else."""
    if set(map(type, listed)) != {str}:
        return None
    lengths = np.fromiter(map(len, listed), np.int64, len(listed))
    if lengths.max() >= LONGEST:
        return None
    width = -(-int(lengths.max() + 1) // 8) * 8
    try:
        fixed = names.astype(f"S{width}")
    except UnicodeEncodeError:
        fixed = names.astype(f"U{width}")
    if not np.array_equal(np.strings.str_len(fixed), lengths):  # "a" and "a\0" would be the same words
        return None
    return fixed.view(np.uint64).reshape(len(listed), -1)


def _numbered_objects(op: str, what: str, listed: list[Any]) -> tuple[Ids, Ids]:
    numbers: dict[Any, int] = {}
    firsts: list[int] = []
    ids = np.empty(len(listed), np.int64)
    for i, name in enumerate(listed):
        try:
            number = numbers.setdefault(name, len(firsts))
        except TypeError as error:
            raise bad_type(
                op,
                f"{what}[{i}] is {shown(name)}, which cannot be hashed",
                "names are text, numbers or tuples",
            ) from error
        if number == len(firsts):
            firsts.append(i)
        ids[i] = number
    return ids, np.array(firsts, np.int64)


def _numbered_words(words: NDArray[np.uint64]) -> tuple[Ids, Ids]:
    """By a hash table of positions; the hashes are made by NumPy, whose arrays wrap round without a
    warning.
    """
    hashes = np.zeros(len(words), np.uint64)
    for column in words.T:
        hashes ^= column
        for shift in (32, 29):  # twice: of doubles that are whole numbers the lower half is 0
            hashes *= np.uint64(0x9E3779B97F4A7C15)
            hashes ^= hashes >> np.uint64(shift)
    ids, firsts = np.empty(len(words), np.int64), np.empty(len(words), np.int64)
    count = _number(words, (hashes >> np.uint64(1)).view(np.int64), ids, firsts)
    return ids, firsts[:count].copy()


@njit()
def _number(words, hashes, ids, firsts):
    """Open addressing with at most half of the slots taken; returns the number of distinct rows of
    `words`.
    """
    count, mask = 0, 1023
    table = np.full(mask + 1, -1, np.int64)
    for i in range(len(hashes)):
        slot = hashes[i] & mask
        while table[slot] >= 0:
            known = table[slot]
            same = hashes[known] == hashes[i]
            for word in range(words.shape[1]):
                same = same and words[known, word] == words[i, word]
            if same:
                break
            slot = (slot + 1) & mask
        if table[slot] >= 0:
            ids[i] = ids[table[slot]]
            continue
        table[slot], ids[i], firsts[count] = i, count, i
        count += 1
        if 2 * count > mask:
            mask = 4 * mask + 3
            table = np.full(mask + 1, -1, np.int64)
            for number in range(count):
                slot = hashes[firsts[number]] & mask
                while table[slot] >= 0:
                    slot = (slot + 1) & mask
                table[slot] = firsts[number]
    return count


def ids_among(op: str, what: str, names: NDArray[Any], known: NDArray[Any]) -> Ids:
    """[n] the position in `known` of each name; an error that says which one is not there, or twice."""
    ids, _ = numbered(op, what, together([known, names]))
    check_distinct(op, "names", known, ids[: len(known)])
    strange = np.flatnonzero(ids[len(known) :] >= len(known))
    if len(strange):
        first = int(strange[0])
        raise bad_value(
            op,
            f"{what}[{first}] is {shown(names[first])}, which is not in names",
            "names has all nodes, by their ids",
        )
    return ids[len(known) :]


def check_distinct(op: str, what: str, names: NDArray[Any], ids: Ids | None = None) -> None:
    """A ValueError where two nodes have one name."""
    ids = numbered(op, what, names)[0] if ids is None else ids
    repeats = np.flatnonzero(ids != np.arange(len(ids)))
    if len(repeats):
        first = int(repeats[0])
        raise bad_value(
            op,
            f"{what}[{ids[first]}] and {what}[{first}] are both {shown(names[first])}",
            "give each node its own name",
        )


def as_column(values: Any) -> NDArray[Any]:
    """[n, …] the values of an attribute: numbers, dates and vectors of one length as an array, everything
    else as objects.
    """
    array = values if isinstance(values, np.ndarray) else _of_list(values)
    if array.dtype.kind in "UST":
        return array.astype(object)
    if array.dtype == object and array.ndim == 1 and len(array) and isinstance(array[0], np.ndarray | list):
        return _of_list(array.tolist())  # tables hold vectors as objects
    return array


def _of_list(values: Sequence[Any]) -> NDArray[Any]:
    kinds = set(map(type, values))
    if not kinds or str in kinds:  # NumPy would make text of numbers beside text
        return as_objects(values)
    try:
        array = np.array(values)
    except (ValueError, TypeError, RuntimeError):  # of several lengths, or what cannot be read as an array
        return as_objects(values)
    lost = array.dtype.kind == "f" and kinds == {int}  # NumPy makes floats of integers beyond 64 bits
    return array if array.dtype.kind in "biufcmM" and not lost else as_objects(values)


def columns(
    op: str,
    what: str,
    label: Callable[[int], Any],
    records: Sequence[Mapping[Any, Any]],
    fill: Mapping[Any, Any],
) -> dict[Any, NDArray[Any]]:
    """Of attributes given as a dict for each node or edge: an array for each attribute; where it is absent
    stands its `fill`.
    """
    made = {}
    for name in dict.fromkeys(name for record in records for name in record):
        values = [record.get(name, fill.get(name, _ABSENT)) for record in records]
        absent = next((i for i, value in enumerate(values) if value is _ABSENT), None)
        if absent is not None:
            fix = f"say what it is for those without, as in fill={{{name!r}: 0}}"
            raise bad_value(op, f"{what} {shown(label(absent))} has no {name!r}, which others have", fix)
        made[name] = as_column(values)
    return made
