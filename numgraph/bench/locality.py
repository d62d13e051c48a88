"""The suite of locality: what ``g.reorder`` brings, and after how many kernels it has paid for itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from numgraph.bench import graphs, measure
from numgraph.bench.kernels import ROWS, make_operands
from numgraph.bench.session import Disagreement, Request, Session, difference
from numgraph.graph import Graph
from numgraph.graph.transforms import ORDERS

FEATURES = 64

GRAPHS: dict[str, Callable[[Request], Graph]] = {
    "rmat": lambda request: graphs.shuffled(
        graphs.rmat(request.nodes_log2, request.edges, request.seed), request.seed
    ),
    "grid": lambda request: graphs.grid(math.isqrt(2**request.nodes_log2), request.seed),
}
"""Nodes numbered at random: a graph with hubs and without locality, and one where neighbours could all be
near.
"""


def run(session: Session) -> list[dict[str, Any]]:
    """copy_u_sum, forward, on each graph in each order, beside the random one; ratio: random / reordered."""
    session.say(
        "\nlocality: copy_u_sum, forward, after g.reorder(method) of a graph with random node numbers"
    )
    session.say(
        f"{'graph':<8}{'method':<10}{'F':>5}{'reorder ms':>12}{'random ms':>11}"
        f"{'ms':>9}{'ratio':>20}{'pays after':>16}"
    )
    results = []
    for name, make in GRAPHS.items():
        g = make(session.request)
        for method in ORDERS:
            for result in _measure(session, name, g, method):
                session.say(_line(result))
                results.append(result)
    return results


def _measure(session: Session, name: str, g: Graph, method: str) -> Iterator[dict[str, Any]]:
    copy_u_sum = ROWS["copy_u_sum"].numgraph
    g.reorder(method)  # compiles
    reorder_seconds = measure.sample(lambda: g.reorder(method))
    reordered, permutation = g.reorder(method)
    graphs.built(reordered)
    for features in session.request.features or (FEATURES,):
        (x,) = make_operands(ROWS["copy_u_sum"], g, features).values()
        moved = x[permutation]
        after, before = partial(copy_u_sum, reordered, moved), partial(copy_u_sum, g, x)
        try:
            gap = difference(f"{name} by {method}", "the random order", [after()], [before()[permutation]])
        except Disagreement as error:
            session.wrong(error)
            continue
        pair = session.pair(after, before)
        facts, saved = pair.facts(), float(np.median(pair.theirs - pair.ours))
        yield {
            "graph": name,
            "nodes": g.num_nodes,
            "edges": g.num_edges,
            "method": method,
            "features": features,
            "reorder_seconds": reorder_seconds,
            "random_ms": facts["ms"],
            "ms": facts["numgraph_ms"],
            "ratio": facts["ratio"],
            "ratio_quartiles": facts["ratio_quartiles"],
            "pays_after_calls": reorder_seconds / saved if saved > 0 else None,
            "difference": gap,
        }


def _line(result: dict[str, Any]) -> str:
    low, high = result["ratio_quartiles"]
    calls = result["pays_after_calls"]
    pays = "never" if calls is None else f"{math.ceil(calls):,} calls"
    ratio = f"{result['ratio']:.2f} [{low:.2f}–{high:.2f}]"
    return (
        f"{result['graph']:<8}{result['method']:<10}{result['features']:>5}"
        f"{1e3 * result['reorder_seconds']:>12.1f}"
        f"{result['random_ms']:>11.2f}{result['ms']:>9.2f}{ratio:>20}{pays:>16}"
    )
