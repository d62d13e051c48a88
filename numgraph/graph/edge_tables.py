"""Tables of edges, read: a row is an edge, and columns name its ends."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.inputs import as_array, kind_of
from numgraph.errors import bad_type, bad_value, shown, unknown
from numgraph.graph.formats import Parts, both_ways, wrong_kind
from numgraph.graph.naming import as_column, as_names, ids_among, is_missing, numbered, together

ENDS = (
    ("source", "target"),
    ("source", "destination"),
    ("src", "dst"),
    ("src", "dest"),
    ("from", "to"),
    ("sender", "receiver"),
    ("u", "v"),
)
"""What the columns of sources and of targets are usually called, also with one of the suffixes, in letters of
either case.
"""
SUFFIXES = ("", "id", "node", "nodeid")


def usual_ends(names: Sequence[Any]) -> tuple[Any, Any] | None:
    """The columns of a table that are named as the ends of edges usually are; None if there are no two."""
    plain = {re.sub(r"[\W_]", "", name).lower(): name for name in reversed(names) if isinstance(name, str)}
    pairs = (
        (plain.get(source + suffix), plain.get(target + suffix))
        for source, target in ENDS
        for suffix in SUFFIXES
    )
    return next((pair for pair in pairs if None not in pair), None)


def table(
    op: str, given: Any, source: Any, target: Any, edge_attr: Any, names: Any, directed: bool, bipartite: bool
) -> Parts:
    """Rows are edges. Columns are read by name through NumPy's ``__array__``, which all tables' columns
    have.
    """
    known, given = _opened(op, given)
    if len(known) < 2:
        raise bad_value(
            op, f"the table has columns {known}", "it needs two, with the names of sources and of targets"
        )
    usual = usual_ends(known)
    chosen = [
        one if by_name is None else by_name for one, by_name in zip(usual or known[:2], (source, target))
    ]
    if chosen[0] == chosen[1] and None in (source, target):
        raise bad_value(
            op, f"source and target would both be column {chosen[0]!r}", "name both, source= and target="
        )
    wanted = (
        known
        if edge_attr is True
        else []
        if edge_attr in (None, False)
        else edge_attr
        if isinstance(edge_attr, list)
        else [edge_attr]
    )
    for what, name in (
        ("source", chosen[0]),
        ("target", chosen[1]),
        *(("edge_attr", name) for name in wanted),
    ):
        if name not in known:
            raise unknown(op, f"column {what} =" if what != "edge_attr" else "column", name, known)
    ends = [as_names(op, f"column {name!r}", given[name]) for name in chosen]
    doubtful = next(
        (i for i in (0, 1) if usual is None and (source, target)[i] is None and ends[i].dtype.kind == "f"),
        None,
    )
    if doubtful is not None:
        problem = (
            f"column {chosen[doubtful]!r}, one of the first two, has {ends[doubtful].dtype} numbers, which "
            "are rarely names of nodes"
        )
        raise bad_value(op, problem, f"name the columns, source= and target=, among {known}")
    edges = {name: _values(op, name, given[name]) for name in wanted if name not in chosen}
    for name, values in edges.items():
        if len(values) != len(ends[0]):
            raise bad_value(
                op,
                f"column {name!r} has {len(values)} rows, {chosen[0]!r} has {len(ends[0])}",
                "give one for each edge",
            )
    if len(ends[0]) != len(ends[1]):
        raise bad_value(
            op,
            f"column {chosen[0]!r} has {len(ends[0])} rows, {chosen[1]!r} has {len(ends[1])}",
            "a row is an edge",
        )
    if bipartite:
        if not directed or (names is not None and len(names) != 2):
            problem = "directed=False was given" if not directed else f"names has {len(names)} entries"
            raise bad_value(
                op,
                f"{problem} beside bipartite=True",
                "edges go from sources to targets, and names is a pair, one list for each",
            )
        sides = zip(chosen, ends, (None, None) if names is None else names)
        ((src,), sources), ((dst,), targets) = (
            _named(op, [what], [one], listed) for what, one, listed in sides
        )
        return Parts(
            src, dst, {"num_src": len(sources), "num_dst": len(targets)}, ({}, {}), edges, (sources, targets)
        )
    (src, dst), found = _named(op, chosen, ends, names)
    if not directed:
        src, dst, edges = both_ways(np.stack([src, dst], 1), edges)
    return Parts(src, dst, {"num_nodes": len(found)}, {}, edges, found)


def ends_of_pairs(op: str, pairs: Any) -> dict[str, Any]:
    """Pairs as a table of sources and targets."""
    if hasattr(pairs, "shape") and hasattr(pairs, "dtype"):
        array = as_array(op, "pairs", pairs)
        if array.ndim != 2 or array.shape[1] != 2:
            fix = (
                "transpose it, as pairs.T"
                if array.ndim == 2 and array.shape[0] == 2
                else "a row is an edge, its source and its target"
            )
            raise bad_value(op, f"pairs has shape {list(array.shape)}, it must be [num_edges, 2]", fix)
        return {"source": array[:, 0], "target": array[:, 1]}
    if isinstance(pairs, str | bytes | Mapping) or not hasattr(pairs, "__iter__"):
        raise bad_type(
            op, f"pairs is {kind_of(pairs)}", "give a list of pairs, as [('ann', 'ben'), ('ben', 'cid')]"
        )
    ends: tuple[list[Any], list[Any]] = [], []
    for i, pair in enumerate(pairs):
        if isinstance(pair, str) or not hasattr(pair, "__len__") or len(pair) != 2:
            raise bad_value(op, f"pairs[{i}] is {shown(pair)}", "each is a pair, (source, target)")
        for side, name in zip(ends, pair):
            side.append(name)
    return {"source": ends[0], "target": ends[1]}


def _opened(op: str, given: Any) -> tuple[list[Any], Any]:
    """The names of a table's columns, and what gives a column by its name."""
    kind = type(given)  # an attribute of a table of pandas may be a column
    if hasattr(kind, "collect"):
        raise bad_type(
            op, f"the table is {kind_of(given)}, which has not been computed", "give table.collect()"
        )
    if isinstance(given, Mapping):
        return list(given), given
    if isinstance(given, np.ndarray) and given.dtype.names:
        return list(given.dtype.names), given
    if hasattr(kind, "__arrow_c_stream__") and not hasattr(kind, "__array__"):
        import pyarrow

        given = pyarrow.table(given)
        kind = type(given)
    names = getattr(
        given, "column_names" if hasattr(kind, "column_names") else "columns", None
    )  # Arrow's `columns` are the arrays
    if names is None or not hasattr(kind, "__getitem__"):
        raise wrong_kind(op, "the table", given, "a table of pandas, Polars or Arrow, or a dict of columns")
    names = list(names)
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise bad_value(op, f"the table has two columns {twice[0]!r}", "rename one")
    return names, given


def _values(op: str, name: Any, given: Any) -> NDArray[Any]:
    """A column of edge data; where numbers are missing they are NaN."""
    values = as_column(given if isinstance(given, list) else as_array(op, f"column {name!r}", given))
    if values.dtype == object and any(map(is_missing, listed := values.tolist())):
        there = as_column([value for value in listed if not is_missing(value)])
        if there.dtype.kind in "biuf" and there.ndim == 1:
            return np.array([np.nan if is_missing(value) else value for value in listed], np.float64)
    return values


def _named(op: str, whats: list[Any], ends: list[NDArray[Any]], names: Any) -> tuple[list[NDArray[Any]], Any]:
    """The ids of each column's names, and the names by id: the given ones, or in the order of the rows, each
    row from left to right.
    """
    if names is not None:
        known = as_names(op, "names", names)
        return [ids_among(op, f"column {what!r}", one, known) for what, one in zip(whats, ends)], known
    every = together(ends).reshape(len(ends), -1).T.ravel()
    ids, firsts = numbered(op, f"column {whats[0]!r}", every)
    return list(ids.reshape(-1, len(ends)).T), every[firsts]
