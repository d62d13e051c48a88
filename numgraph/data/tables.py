"""Datasets of your own tables: one of edges, one of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.data.columns import Columns, Notes, as_numbers
from numgraph.data.files import Names, Source, arrow, read
from numgraph.data.node_tables import WEIGHT, meaning, node_features, node_labels, node_masks
from numgraph.data.record import TASKS, Dataset
from numgraph.errors import bad_type, bad_value, check_name, did_you_mean, shown
from numgraph.graph import Graph


def read_tables(
    edges: Any,
    nodes: Any = None,
    *,
    target: str | None = None,
    features: Any = None,
    task: str | None = None,
    split: Any = (0.6, 0.2, 0.2),
    rng: int | np.random.Generator | None = 0,
    directed: bool = True,
    identity: bool | None = None,
    categories: Sequence[str] = (),
    columns: Columns | None = None,
) -> Dataset:
    """A dataset of a table of edges and a table of nodes, read by pyarrow (the extra ``tables``).

    Parameters
    ----------
    edges : the path of a .csv, .tsv, .parquet or .arrow file, also a compressed one (edges.csv.gz),
        or a table in memory (pandas, Polars, Arrow, a dict of columns)
        The first two columns are the names of the nodes, text or numbers, a row for each edge; a column
        ``weight``, if there, has numbers from 0 on. Other columns are not read. Files of text begin with a
        line of the columns' names.
    nodes : the same with a row for each node, or None for the nodes that edges have
        The first column is the name. A column ``split``, if there, says train, val or test. The others but
        the target are features: numbers are standardised, texts are categories, one feature each.
    target : the column of labels; where it is empty, or None, they are to be predicted
    features : the path of a .npy file, or an array, [nodes, F] in the order of ``nodes``;
        used as they are, beside those of the columns
    task : "classification" or "regression";
        by default what the target is: text, or at most 20 different whole numbers, are classes
    split, rng : as in ``Dataset.from_arrays``, for the labelled nodes of a table without a column ``split``
    directed : False for messages both ways: each edge's reverse is added where it is not there
    identity : whether each node is a feature of its own, so that what its neighbours are can be learnt of it;
        by default where there are no other features. The features are a SciPy sparse matrix then. Of nodes
        that were not there in training these features are 0.
    categories : columns of numbers which are kinds, not quantities, such as postal codes
    columns : what an earlier dataset has as ``.columns``: the features are then made as they were there,
        the labelled nodes are for test

    Returns
    -------
    Dataset
        With ``names``, ``edge_weight``, ``columns``, and for a regression ``label_scale``. Node i is row i of
        ``nodes``.

    Raises
    ------
    ValueError
        What is wrong in the tables, with file, line and value: a name that is missing, unknown or there
        twice, a weight or feature that is no number, a target that is not there, text that is no UTF-8, …
    ModuleNotFoundError
        pyarrow is not installed.

    Warns
    -----
    UserWarning
        What can be gone on with, the same way: nodes without edges, edges that are there twice, values that
        are missing, columns left out.

    Examples
    --------
    >>> import numgraph as ng
    >>> edges = {"from": ["ann", "ben", "cid"], "to": ["ben", "cid", "dan"], "weight": [1.0, 0.5, 2.0]}
    >>> nodes = {"name": ["ann", "ben", "cid", "dan"], "age": [31, 42, 55, 18]}
    >>> nodes["team"] = ["red", "blue", "red", None]
    >>> ng.data.read_tables(edges, nodes, target="team")
    Dataset('tables', nodes=4, edges=3, features=1, classes=2, split=2/0/1)
    """
    op = "read_tables"
    if task is not None:
        check_name(op, "task", task, TASKS)
    if target is not None and not isinstance(target, str):
        raise bad_type(op, f"target is {shown(target)}", "give the name of a column of the table of nodes")
    if nodes is None and target is not None:
        raise bad_value(
            op,
            f"the target {target!r} is a column of the nodes, and there is no table of nodes",
            "give one, nodes=",
        )
    notes = Notes(op)
    links = read(op, "edges", edges, _edge_types)
    if nodes is None:
        table, names = None, None
    else:
        table = read(op, "nodes", nodes, _node_types)
        names = _node_names(op, table)
    if not links.rows:
        raise bad_value(
            op, f"{links.name} has no edges, only the names of columns", "give a row for each edge"
        )
    src, dst, names = _ends(op, links, names, table)
    graph, weight = _graph(op, links, src, dst, names, directed, notes)
    _note_isolated(graph, table, names, notes)
    x, made = node_features(op, table, names, features, target, identity, categories, columns, notes)
    labels, made, task = node_labels(op, table, len(names), made, task, again=columns is not None)
    masks = node_masks(op, table, labels, made, split, rng, notes, again=columns is not None)
    notes.show(stacklevel=2)
    scale = (0.0, 1.0)
    if task == "regression" and masks[0].any():
        learnt = labels[masks[0]].astype(np.float64)
        scale = (float(learnt.mean()), float(learnt.std()) or 1.0)
    train, val, test = masks
    return Dataset(
        "tables",
        graph,
        x,
        labels,
        train,
        val,
        test,
        len(made.classes),
        weight,
        Names(names),
        task,
        scale,
        made,
    )


def read_pairs(pairs: Any, data: Dataset) -> tuple[tuple[Any, Any], NDArray[np.int64]]:
    """The pairs of nodes in a table's first two columns: the columns, and [pairs, 2] ids in a dataset that
    ``read_tables`` made.
    """
    op = "read_pairs"
    assert isinstance(data.names, Names)
    table = read(op, "pairs", pairs, lambda found: dict(list(_edge_types(found).items())[:2]))
    first, second = (table.table[name] for name in table.columns)
    src, dst, _ = _ends(op, table, data.names.array, None)
    return (first, second), np.stack([src, dst], axis=1).astype(np.int64)


def _edge_types(found: list[str]) -> dict[str, Any]:
    import pyarrow as pa

    weight = meaning(found[2:], WEIGHT)
    return dict.fromkeys(found[:2], pa.string()) | ({} if weight is None else {weight: pa.float64()})


def _node_types(found: list[str]) -> dict[str, Any]:
    import pyarrow as pa

    return dict.fromkeys(found, pa.string())


def _node_names(op: str, table: Source) -> Any:
    """The names of nodes by row, each there once."""
    if not table.columns:
        raise bad_value(op, f"{table.name} has no columns", "its first one is the name of each node")
    name = table.columns[0]
    names = table.table[name].combine_chunks()
    if len(names) == 0:
        raise bad_value(
            op, f"{table.name} has no nodes, only the names of columns", "give a row for each node"
        )
    _check_there(op, table, names, name)
    codes = names.dictionary_encode()
    if len(codes.dictionary) < len(names):
        ids = codes.indices.to_numpy()
        firsts = np.unique(ids, return_index=True)[1]
        again = int(np.setdiff1d(np.arange(len(ids)), firsts)[0])
        first = int(firsts[ids[again]])
        raise bad_value(
            op,
            f"{table.at(again)}: the node {names[again].as_py()!r} is there twice, first in "
            f"{table.at(first)}",
            "keep one",
        )
    return names


def _check_there(op: str, table: Source, column: Any, name: str) -> None:
    """An error for a row without a name."""
    if column.null_count:
        import pyarrow.compute as pc

        row = pc.index(pc.is_null(column), True).as_py()
        raise bad_value(
            op, f"{table.at(row, name)}: the name of the node is missing", "fill it in, or take the line out"
        )


def _ends(op: str, links: Source, names: Any, table: Source | None) -> tuple[NDArray[Any], NDArray[Any], Any]:
    """The ids of both ends of each edge, and the names by id: given ones, or those of the edges as they first
    appear.
    """
    pa = arrow(op)
    import pyarrow.compute as pc

    if len(links.columns) < 2:
        has = ", ".join(map(repr, links.columns))
        raise bad_value(
            op,
            f"{links.name} has one column, {has}",
            "it needs two, the names of the nodes at both ends, between commas",
        )
    ends = [links.table[name] for name in links.columns[:2]]
    for name, column in zip(links.columns, ends):
        _check_there(op, links, column, name)
    # Arrow's dictionaries of blocks, unified afterwards, would take as long and more memory.
    both = pa.chunked_array([chunk for column in ends for chunk in column.chunks], pa.string())
    links.forget(links.columns[:2])
    del ends, column
    coded = both.dictionary_encode()
    found = coded.chunk(0).dictionary if coded.num_chunks else pa.array([], pa.string())
    del both
    ids = np.concatenate([chunk.indices.to_numpy() for chunk in coded.chunks] or [np.zeros(0, np.int32)])
    del coded
    pa.default_memory_pool().release_unused()
    count = len(ids) // 2
    _check_header(op, links, found if names is None else names)
    if names is not None:
        places = pc.index_in(found, names)
        if places.null_count:
            stranger = int(np.flatnonzero(places.is_null().to_numpy(zero_copy_only=False)[ids])[0])
            row, side = stranger % count, stranger // count
            name, others = found[int(ids[stranger])].as_py(), table.name if table else "the data"
            near = did_you_mean(name, names.to_pylist()) if len(names) < 20_000 else ""
            problem = f"{links.at(row, links.columns[side])}: the node {name!r} is not in {others}"
            first = ", ".join(map(repr, links.columns[:2]))
            fix = f"add it there, or take the edge out{near}"
            if row == 0 and not near:
                fix += f"; the first two columns, {first}, name the ends of an edge"
            raise bad_value(op, problem, fix)
        ids = places.to_numpy()[ids]
    return ids[:count], ids[count:], found if names is None else names


def _check_header(op: str, links: Source, names: Any) -> None:
    """An error where the first line has names of nodes, not of columns: an edge would be lost."""
    import pyarrow as pa
    import pyarrow.compute as pc

    header = links.columns[:2]
    numbers = all(one.strip().lstrip("-").isdigit() for one in header)
    if numbers or (len(names) and pc.all(pc.is_in(pa.array(header), names)).as_py()):
        problem = (
            f"{links.name} begins with the nodes {header[0]!r} and {header[1]!r}, not with names of columns"
        )
        raise bad_value(op, problem, "put a line such as source,target before them")


def _graph(
    op: str, links: Source, src: NDArray[Any], dst: NDArray[Any], names: Any, directed: bool, notes: Notes
) -> tuple[Graph, NDArray[np.float32] | None]:
    """The graph with its weights, and notes on edges that are there twice."""
    weight: NDArray[np.float32] | None = None
    name = meaning(links.columns[2:], WEIGHT)
    if name is not None:
        column = links.table[name].combine_chunks()
        values = as_numbers(op, links, column, name)
        bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
        if len(bad):
            row, value = int(bad[0]), values[bad[0]]
            problem = "the weight is missing" if column[row].as_py() is None else f"the weight is {value:g}"
            raise bad_value(op, f"{links.at(row, name)}: {problem}", "weights are finite numbers, at least 0")
        weight = values.astype(np.float32)
    count = len(names)
    keys = src.astype(np.int64) * count + dst
    ordered = np.sort(keys)
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(twice):
        first, again = (int(row) for row in np.flatnonzero(keys == ordered[twice[0]])[:2])
        ends = f"{names[int(src[first])].as_py()!r} → {names[int(dst[first])].as_py()!r}"
        notes.add(
            "edge",
            f"{links.at(again)}: the edge {ends} is there already, in {links.at(first)}; each counts",
            len(twice),
        )
    if not directed:
        turned = np.flatnonzero(src != dst)
        backwards = dst[turned].astype(np.int64) * count + src[turned]
        places = np.minimum(np.searchsorted(ordered, backwards), max(len(ordered) - 1, 0))
        turned = turned[ordered[places] != backwards]
        src, dst = np.concatenate([src, dst[turned]]), np.concatenate([dst, src[turned]])
        weight = None if weight is None else np.concatenate([weight, weight[turned]])
    return Graph(src, dst, count), weight


def _note_isolated(graph: Graph, table: Source | None, names: Any, notes: Notes) -> None:
    if table is None:
        return
    degrees = np.bincount(graph.src, minlength=graph.num_nodes) + np.bincount(
        graph.dst, minlength=graph.num_nodes
    )
    alone = np.flatnonzero(degrees == 0)
    if len(alone):
        node = int(alone[0])
        notes.add("alone", f"{table.at(node)}: the node {names[node].as_py()!r} has no edges", len(alone))
