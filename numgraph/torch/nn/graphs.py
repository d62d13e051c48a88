"""The graphs that layers walk over: of PyG's edge_index, remembered as long as that tensor lives, and with
PyG's self loops.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.utils.weak import WeakIdKeyDictionary

from numgraph.arrays.inputs import kind_of
from numgraph.bridges.torch import LIBRARY
from numgraph.errors import bad_type, bad_value
from numgraph.graph import Graph
from numgraph.nn.graphs import once
from numgraph.torch.compiling import outside

_known: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""By edge_index: its version, and its graphs by their numbers of sources and destinations."""

REDUCES = {"add": "sum", "sum": "sum", "mean": "mean", "max": "max", "min": "min", "mul": "prod"}
"""numgraph's names of PyG's aggregations."""


MAKE_GRAPH = (
    "make the graph outside, g = numgraph.Graph.from_edge_index(edge_index, num_nodes), and call conv(g, x)"
)


@outside(f"numgraph makes a graph of an edge_index, which cannot be a part of a compiled one; {MAKE_GRAPH}")
def graph_of(op: str, edges: Any, num_src: int, num_dst: int) -> Graph:
    """The graph of an edge_index [2, num_edges], which is made once as long as the tensor is not changed in
    place.
    """
    if not isinstance(edges, torch.Tensor) or edges.layout is not torch.strided:
        what = f"a tensor of layout {edges.layout}" if isinstance(edges, torch.Tensor) else kind_of(edges)
        raise bad_type(
            op,
            f"the edges are {what}",
            "pass a numgraph.Graph, conv(g, x), or an integer tensor, conv(x, edge_index)",
        )
    if type(edges) is not torch.Tensor:
        raise bad_type(op, "the edges are traced, and have no numbers yet", MAKE_GRAPH)
    if edges.is_inference():  # whose changes torch does not count
        return _made(edges, num_src, num_dst)
    found = _known.get(edges)
    if found is None or found[0] != edges._version:
        found = _known[edges] = (edges._version, {})
    graphs = found[1]
    if (num_src, num_dst) not in graphs:
        graphs[num_src, num_dst] = _made(edges, num_src, num_dst)
    return graphs[num_src, num_dst]


def _made(edges: torch.Tensor, num_src: int, num_dst: int) -> Graph:
    with temporarily_clear_interpreter_stack():  # torch.func would wrap it, without memory
        ids = edges.cpu().numpy()
    if num_src == num_dst:
        return Graph.from_edge_index(ids, num_src).to(edges.device.type)
    return Graph.from_edge_index(ids, num_src=num_src, num_dst=num_dst).to(edges.device.type)


def arranged(first: Any, second: Any) -> tuple[Any, Any]:
    """Features and edges, of a call conv(g, x) or conv(x, edge_index)."""
    return (second, first) if isinstance(first, Graph) else (first, second)


def sides(op: str, x: Any, edges: Any, size: Any) -> tuple[torch.Tensor, torch.Tensor | None, Graph]:
    """The features of sources and of destinations, and the graph. The latter are None in a pair without them.

    size: (num_src, num_dst), or None for as many as there are features; without those of destinations these
    are as many as sources."""
    pair = (x, x) if isinstance(x, torch.Tensor) else x
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise bad_type(
            op, f"x is {kind_of(x)}", "give a tensor, as torch.from_numpy(x), or a pair of tensors"
        )
    x_src, x_dst = pair
    for name, features in (("x", x_src), ("x[1]", x_dst)):
        if not (isinstance(features, torch.Tensor) or (features is None and name == "x[1]")):
            raise bad_type(op, f"{name} is {kind_of(features)}", "give a tensor, as torch.from_numpy(x)")
        if features is not None and features.dim() != 2:
            raise bad_value(op, f"{name} has shape {list(features.shape)}", "it must be [nodes, features]")
    if isinstance(edges, Graph):
        _check_rows(op, edges, x_src, x_dst, x is x_src)
        return x_src, x_dst, edges
    if torch.jit.is_tracing():
        raise bad_type(op, "torch.jit.trace cannot hold a graph", MAKE_GRAPH)
    num_src, num_dst = (None, None) if size is None else size
    num_src = len(x_src) if num_src is None else num_src
    if num_dst is None:
        num_dst = num_src if x_dst is None else len(x_dst)
    g = graph_of(op, edges, int(num_src), int(num_dst))
    _check_rows(op, g, x_src, x_dst, False)
    return x_src, x_dst, g


def _check_rows(op: str, g: Graph, x_src: torch.Tensor, x_dst: torch.Tensor | None, is_one: bool) -> None:
    """One row would be broadcast, and those of sources taken for those of as many destinations."""
    if torch.jit.is_tracing():
        return
    counts = f"{g.num_src} sources and {g.num_dst} destinations"
    if is_one and g.is_bipartite:
        problem = f"the graph is bipartite, with {counts}, and x is one tensor"
        raise bad_value(op, problem, "give a pair, (x_src, x_dst)")
    for name, x, count in (("x", x_src, g.num_src), ("x[1]", x_dst, g.num_dst)):
        if x is not None and x.shape[0] != count:
            problem = f"{name} has shape {list(x.shape)}, the graph {counts}"
            raise bad_value(op, problem, f"the first axis must be {count}")


def check_features(op: str, widths: Any, x_src: torch.Tensor, x_dst: torch.Tensor | None) -> None:
    """Features are floats of the widths that the layer was made for; −1 is any."""
    if torch.jit.is_tracing():  # whose shapes are tensors; it is an error where the walk is met
        return
    pair = (widths, widths) if isinstance(widths, int) else widths
    for name, x, width in (("x", x_src, pair[0]), ("x[1]", x_dst, pair[1])):
        if x is None:
            continue
        if not x.is_floating_point():
            raise bad_type(op, f"{name} has dtype {str(x.dtype).removeprefix('torch.')}", "give x.float()")
        if width != -1 and x.shape[1] != width:
            problem = f"{name} has shape {list(x.shape)}, the layer was made for {width} features"
            raise bad_value(op, problem, f"the last axis must be {width}")


def rows(x: torch.Tensor, ids: np.ndarray) -> torch.Tensor:
    """Rows of a tensor by ids, also while a compiler traces."""
    return x[LIBRARY.constant(ids).to(x.device)]


class Looped(NamedTuple):
    """A graph whose loops were replaced by one v → v for each node v that is source and destination.

    graph: the other edges in their order, then the loops in the order of nodes. ids: [edges of graph] their
    ids in the graph before, for a loop that of the node's last one; the number of edges there where it had
    none. num_kept: how many edges are no loops."""

    graph: Graph
    ids: np.ndarray
    num_kept: int


def looped(g: Graph) -> Looped:
    """With the self loops that PyG's layers add; made once for each graph."""
    return once(g, "loops of PyG", _looped)


def _looped(g: Graph) -> Looped:
    host = g.to("cpu")
    src, dst = np.asarray(host.src), np.asarray(host.dst)
    nodes = min(g.num_src, g.num_dst)
    is_loop = src == dst
    last = np.full(nodes, g.num_edges, np.int64)
    last[src[is_loop]] = np.flatnonzero(is_loop)  # NumPy assigns in order: the last one stays
    kept = np.flatnonzero(~is_loop)
    loops = np.arange(nodes, dtype=src.dtype)
    counts = {"num_src": g.num_src, "num_dst": g.num_dst} if g.is_bipartite else {"num_nodes": nodes}
    made = Graph(np.concatenate([src[kept], loops]), np.concatenate([dst[kept], loops]), **counts)
    return Looped(made.to(g.device), np.concatenate([kept, last]), len(kept))


def without_loops(g: Graph) -> Graph:
    """The edges that ``looped`` keeps, in their order; made once for each graph."""
    return once(g, "no loops of PyG", _without_loops)


def _without_loops(g: Graph) -> Graph:
    host = g.to("cpu")
    kept = host.src != host.dst
    counts = {"num_src": g.num_src, "num_dst": g.num_dst} if g.is_bipartite else {"num_nodes": g.num_src}
    return Graph(host.src[kept], host.dst[kept], **counts).to(g.device)
