"""Layers and models over sampled blocks and over graphs that processes share: which is whose, and the edges'
data for each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numgraph.arrays.inputs import kind_of
from numgraph.dense import gather
from numgraph.errors import bad_type, bad_value
from numgraph.graph import Block, Graph, Shard, Spread, check_graph
from numgraph.nn.module import Module


class Convolution(Module):
    """A layer of one hop, called with a graph, a block, a list of one block, or a graph that processes share
    and the owned nodes' rows.

    projects : forward takes a shared graph too, and exchanges what passes its edges,
        where that is narrower than x (``hop``)
    """

    projects = False

    if not TYPE_CHECKING:

        def __call__(self, g: Any, *args: Any, **options: Any) -> Any:
            if isinstance(g, list | tuple):
                ((g,),) = per_hop(type(self).__name__, g, 1)
            if isinstance(g, Spread) and not self.projects:
                if args:
                    args = (_of_sources(g, args[0]), *args[1:])
                elif "x" in options:
                    options["x"] = _of_sources(g, options["x"])
                g = g.graph
            return super().__call__(g, *args, **options)


def _of_sources(g: Spread, x: Any) -> Any:
    """The sources' rows of what is given for the owned nodes; of a pair its first."""
    return (g.exchange(x[0]), *x[1:]) if isinstance(x, tuple) else g.exchange(x)


def hop(g: Any) -> tuple[Any, str, Callable[[Any], Any]]:
    """The graph, which of its rows x has (the sources', "u", or those that the process owns, "v"), and what
    makes the former of x.
    """
    return (g.graph, "v", g.exchange_ahead) if isinstance(g, Spread) else (g, "u", _as_they_are)


def _as_they_are(x: Any) -> Any:
    return x


def per_hop(op: str, g: Any, hops: int, *of_edges: Any) -> list[tuple[Any, ...]]:
    """(graph, edge data…) for each hop: the same for all on a graph, one block after the other of a list.

    Of a process's shard the first hop gets the sources' rows, the others exchange theirs.

    of_edges: None, an array of the whole graph's edges, or for blocks also a list of an array for each.
    """
    if isinstance(g, Spread):
        return [(g, *of_edges)] * hops
    if isinstance(g, Shard):
        return [(g, *of_edges)] + [(g.spread, *of_edges)] * (hops - 1)
    if not isinstance(g, list | tuple):
        check_graph(op, "the first argument", g)
        if not isinstance(g, Block):
            return [(g, *of_edges)] * hops
        if hops > 1:
            raise bad_value(
                op,
                f"there is one block and there are {hops} hops",
                "give a list of blocks, one for each, as a sampler does",
            )
        return [(g, *of_edges)]
    if len(g) != hops:
        raise bad_value(
            op, f"there are {len(g)} blocks for {hops} hops", f"sample {hops} hops: a fanout for each layer"
        )
    for i, block in enumerate(g):
        if not isinstance(block, Graph):
            raise bad_type(op, f"block {i} is {kind_of(block)}", "give the blocks of a sampler or a loader")
    return list(zip(g, *(_by_block(op, g, data) for data in of_edges)))


def _by_block(op: str, blocks: Any, data: Any) -> list[Any]:
    if data is None:
        return [None] * len(blocks)
    if isinstance(data, list | tuple):
        if len(data) != len(blocks):
            raise bad_value(
                op,
                f"there are {len(data)} arrays of edge data for {len(blocks)} blocks",
                "give one for each, or the graph's",
            )
        return list(data)
    lacking = [i for i, block in enumerate(blocks) if not isinstance(block, Block)]
    if lacking:
        raise bad_type(
            op,
            f"block {lacking[0]} is a graph without edge_ids",
            "give edge data as a list, an array for each block",
        )
    for block in blocks:
        whole = block.origin.graph
        if hasattr(data, "shape") and tuple(data.shape[:1]) != (whole.num_edges,):
            problem = (
                f"edge data have shape {list(data.shape)}, the graph that the blocks are of has "
                f"{whole.num_edges} edges"
            )
            raise bad_value(
                op, problem, "give a row for each of its edges, or a list of an array for each block"
            )
    return [gather(data, block.edge_ids) for block in blocks]


def rows_given(g: Any) -> int | None:
    """How many rows a model's features need; None where a layer says it itself, by sides."""
    if isinstance(g, Spread):
        return g.graph.num_dst
    return None if g.is_bipartite and not isinstance(g, Block) else g.num_src


def first_rows(g: Any, x: Any) -> Any:
    """The features of a block's destinations, of those of its sources; of a graph x itself."""
    return x[: g.num_dst] if isinstance(g, Block) else x
