"""A walk as text and back, what compiled code keeps of it: on disk too, where another process finds it.
Nothing in it is of one process.
"""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any

import numpy as np

from numgraph import errors
from numgraph.compiler.rows import blocks
from numgraph.expressions import expr
from numgraph.expressions.traversal import topological
from numgraph.expressions.walk import Output, ids_of_ends, rows_of
from numgraph.graph import Graph

_GRAPHS: dict[str, Graph] = {}
"""Graphs by their content. Compiled code walks over them as long as the process runs."""


@functools.lru_cache(maxsize=1024)
def written(outputs: tuple[Output, ...]) -> str:
    """The outputs of a walk: the nodes of their expressions, operands first, and which of them each output
    takes.
    """
    order = topological([expression for output in outputs for expression in output.expressions])
    place = {id(node): i for i, node in enumerate(order)}
    nodes = [
        [node.op, [place[id(arg)] for arg in node.args], node.attrs, node.shape, node.dtype.name]
        for node in order
    ]
    made = [
        [[place[id(expression)] for expression in output.expressions], output.to, output.reduce]
        for output in outputs
    ]
    return json.dumps([nodes, made], separators=(",", ":"))


@functools.lru_cache(maxsize=1024)
def read(text: str) -> tuple[Output, ...]:
    """The outputs that ``written`` has written."""
    nodes, made = json.loads(text)
    order: list[expr.Expr] = []
    for op, args, attrs, shape, dtype in nodes:
        order.append(
            expr.node(op, tuple([order[i] for i in args]), tuple(attrs), tuple(shape), _dtype(dtype))
        )
    return tuple([Output(tuple([order[i] for i in roots]), to, reduce) for roots, to, reduce in made])


def _dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def name_of(g: Graph) -> str:
    """A name of the graph's content, by which ``graph_of`` finds it."""
    if g.num_src == 1 and blocks(g.num_edges, g.device) is g:
        return f"rows {g.num_edges} {g.device}"
    name: str = g.remembered(("name", g.device), _named)
    _GRAPHS.setdefault(name, g)
    return name


def _named(g: Graph, key: Any) -> str:
    host = g.to("cpu")
    content = hashlib.sha256(repr((g.num_src, g.num_dst, g.num_edges, g.is_bipartite, g.device)).encode())
    ends = ids_of_ends(host)
    content.update(repr([(name, rows_of(host, name)) for name in ends]).encode() if ends else b"")
    for ids in (host.src, host.dst, *ends.values()):
        content.update(np.ascontiguousarray(ids).astype(np.int64, copy=False).data)
    return content.hexdigest()


def graph_of(name: str) -> Graph:
    """The graph of a name."""
    if name.startswith("rows "):
        _, num, device = name.split()
        return blocks(int(num), device)
    if name not in _GRAPHS:
        problem = f"the graph {name[:12]}… of compiled code is not in this process"
        raise errors.bad_value("torch.compile", problem, "compile the function here, with the graph")
    return _GRAPHS[name]
