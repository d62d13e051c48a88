"""What a HeteroGraph is made of, checked: names of types and relations, ids, numbers of nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.inputs import kind_of
from numgraph.errors import bad_index, bad_type, bad_value, shown
from numgraph.graph.graph import Graph
from numgraph.graph.sorting import checked_ids, frozen, given_ids, ids_dtype, node_count, one_past

Relation = tuple[str, str, str]
"""(type of the sources, name, type of the destinations)."""


def relation_of(op: str, key: Any) -> Relation:
    if (
        not isinstance(key, tuple | list)
        or len(key) != 3
        or not all(isinstance(name, str) and name for name in key)
    ):
        raise bad_type(
            op, f"a relation is {shown(key)}", "name it by a triple, ('author', 'writes', 'paper')"
        )
    return (key[0], key[1], key[2])


def ends_of(op: str, relation: Any, value: Any) -> Any:
    """A Graph, or two arrays of ids."""
    if isinstance(value, Graph):
        if relation[0] == relation[2] and value.is_bipartite:
            raise bad_value(
                op,
                f"of {relation} the graph is {value!r}",
                "give one of one set of nodes, Graph(src, dst, num_nodes)",
            )
        if relation[0] != relation[2] and not value.is_bipartite:
            raise bad_value(
                op,
                f"of {relation} the graph is {value!r}",
                "give one of two sets, Graph(src, dst, num_src=…, num_dst=…)",
            )
        return value
    if isinstance(value, Mapping | str) or not hasattr(value, "__len__") or len(value) != 2:
        raise bad_type(
            op, f"of {relation} there is {shown(value)}", "give two arrays of ids, (src, dst), or a Graph"
        )
    return tuple(given_ids(f"{op}, {relation}", name, ids) for name, ids in zip(("src", "dst"), value))


def counted(op: str, given: Mapping[Relation, Any], num_nodes: Any) -> dict[str, int]:
    """The number of nodes of each type."""
    if num_nodes is None:
        num_nodes = {}
    if not isinstance(num_nodes, Mapping):
        raise bad_type(op, f"num_nodes is {kind_of(num_nodes)}", "give a dict, {'author': 5, 'paper': 7}")
    fixed = {}
    for name, count in num_nodes.items():
        if not isinstance(name, str) or not name:
            raise bad_type(op, f"num_nodes has the key {shown(name)}", "types of nodes are named by text")
        fixed[name] = node_count(op, f"num_nodes[{name!r}]", count)
    free: dict[str, int] = {}
    for relation, ends in given.items():
        for side, name in ((0, relation[0]), (1, relation[2])):
            if isinstance(ends, Graph):
                count = (ends.num_src, ends.num_dst)[side]
                if fixed.setdefault(name, count) != count:
                    fix = "give graphs and num_nodes that agree"
                    raise bad_value(
                        op,
                        f"of {relation} the graph has {count} nodes of type {name!r}, elsewhere there are "
                        f"{fixed[name]}",
                        fix,
                    )
            else:
                free[name] = max(free.get(name, 0), one_past(op, ("src", "dst")[side], ends[side]))
    return free | fixed


def numbers_of_types(op: str, name: str, values: Any, rows: int, kinds: int) -> NDArray[Any]:
    """[rows] numbers of types."""
    numbers = given_ids(op, name, values)
    if len(numbers) != rows:
        raise bad_value(op, f"{name} has {len(numbers)} entries", f"give one for each of the graph's {rows}")
    wrong = np.flatnonzero((numbers < 0) | (numbers >= kinds))
    if len(wrong):
        raise bad_index(
            op, f"{name}[{wrong[0]}] is {numbers[wrong[0]]}", f"there are {kinds} types, numbered from 0"
        )
    return numbers


def distinct(op: str, name: str, values: Any, count_name: str, count: int) -> NDArray[Any]:
    """Ids of nodes, each in range and there once."""
    ids = checked_ids(op, name, given_ids(op, name, values), count_name, count, ids_dtype(count))
    order = np.argsort(ids, kind="stable")
    again = np.flatnonzero(ids[order[1:]] == ids[order[:-1]])
    if len(again):
        first, second = order[again[0]], order[again[0] + 1]
        raise bad_value(
            op, f"{name}[{first}] and {name}[{second}] are both {ids[first]}", "give each node once"
        )
    return ids


def offsets_of(lengths: list[int]) -> NDArray[np.int64]:
    return frozen(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64))


def joined(parts: list[Any]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def listed(relations: Iterable[Relation]) -> str:
    return ", ".join(map(str, relations)) or "none: there are no relations"


def counting(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
