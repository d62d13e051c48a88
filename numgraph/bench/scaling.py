"""The suite of scaling: 10^5 to 10^8 edges (time and memory per edge should stay flat), and 1 to all threads
(same bits, less time).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from numgraph.bench import graphs, measure
from numgraph.bench.kernels import ROWS, Row, make_operands, numgraph_runs, output_gradient
from numgraph.bench.session import Disagreement, Request, Session
from numgraph.graph import Graph

SCALED = ("copy_u_sum", "gat")
"""Rows of the kernel table, forward + backward."""

FEATURES = 16
DEGREE = 16  # edges a node, of every size
SMALLEST = 100_000


def run(session: Session) -> list[dict[str, Any]]:
    """Results of two series, "edges" and "threads"."""
    names = [name for name in SCALED if session.request.rows is None or name in session.request.rows]
    return [*_edges(session, names), *_threads(session, names)]


def sizes(request: Request) -> Iterator[tuple[int, int]]:
    """(edges, log2 of nodes): powers of ten up to the request's largest."""
    edges = min(SMALLEST, request.max_edges)
    while edges <= request.max_edges:
        yield edges, max(1, round(math.log2(edges / DEGREE)))
        edges *= 10


def _edges(session: Session, names: list[str]) -> list[dict[str, Any]]:
    session.say(
        f"\nscaling with edges: R-MAT of {DEGREE} edges a node, F = {FEATURES}, forward + backward; ns and "
        "bytes an edge"
    )
    session.say(f"{'edges':>12}{'nodes':>11}  {'step':<22}{'ns/edge':>9}{'SciPy':>9}{'bytes/edge':>12}")
    results = []
    for num_edges, nodes_log2 in sizes(session.request):
        need = 40 * num_edges + 16 * 4 * FEATURES * 2**nodes_log2
        free = measure.available_memory()
        if free is not None and need > 0.9 * free:
            session.note(
                f"{num_edges:,} edges are left out: about {need / 2**30:.0f} GiB, free are {free / 2**30:.0f}"
            )
            break
        for step, seconds, peer_seconds, memory in _steps(session, num_edges, nodes_log2, names):
            result = {
                "series": "edges",
                "edges": num_edges,
                "nodes": 2**nodes_log2,
                "step": step,
                "seconds": seconds,
                "scipy_seconds": peer_seconds,
                "ns_per_edge": 1e9 * seconds / num_edges,
                "bytes_per_edge": None if memory is None else memory / num_edges,
            }
            results.append(result)
            scipy, bytes_ = peer_seconds and 1e9 * peer_seconds / num_edges, result["bytes_per_edge"]
            session.say(
                f"{num_edges:>12,}{2**nodes_log2:>11,}  "
                f"{step:<22}{result['ns_per_edge']:>9.2f}{_cell(scipy, 9)}{_cell(bytes_, 12)}"
            )
    return results


def _cell(value: float | None, width: int) -> str:
    return f"{'·':>{width}}" if value is None else f"{value:>{width}.1f}"


Step = tuple[str, float, float | None, int | None]


def _steps(session: Session, num_edges: int, nodes_log2: int, names: list[str]) -> Iterator[Step]:
    """Making the graph and its groupings beside SciPy's conversions, then the kernels: step, seconds, SciPy's
    seconds, peak memory.

    Memory is what the process grew by at its highest during the step: for a kernel its results, gradients and
    scratch, no operands."""
    src, dst = graphs.rmat_edges(nodes_log2, num_edges, session.request.seed)
    graphs.built(Graph(src[:SMALLEST], dst[:SMALLEST], 2**nodes_log2))  # compiles what these sizes run
    made: list[Graph] = []

    def make() -> None:
        made.append(Graph(src, dst, 2**nodes_log2))

    yield _once("graph", make, None)
    g = made[0]
    scipy = _scipy_conversions(g) if "scipy" in session.peers else (None, None)
    yield _once("in_edges (CSC)", lambda: g.in_edges, scipy[0])
    yield _once("out_edges (CSR)", lambda: g.out_edges, scipy[1])
    for name in names:
        both = _prepared(ROWS[name], g)
        memory = measure.peak_memory(both)
        yield name, session.alone(both), None, memory


def _once(step: str, function: Callable[[], Any], peer_seconds: float | None) -> Step:
    """A step that can run only once: what it makes, it keeps."""
    seconds = 0.0

    def timed() -> None:
        nonlocal seconds
        seconds = measure.sample(function)

    memory = measure.peak_memory(timed)
    return step, seconds, peer_seconds, memory


def _scipy_conversions(g: Graph) -> tuple[float, float]:
    """Seconds of SciPy's coo → csr (by destination) and csr → csc, on the same 32-bit ids, with edge ids as
    values.
    """
    from scipy.sparse import coo_matrix

    ids = np.arange(g.num_edges, dtype=np.int32)
    coo = coo_matrix((ids, (np.array(g.dst), np.array(g.src))), shape=(g.num_dst, g.num_src))
    to_rows = measure.sample(coo.tocsr)
    rows = coo.tocsr()
    return to_rows, measure.sample(rows.tocsc)


def _prepared(row: Row, g: Graph) -> Callable[[], list[Any]]:
    """The row forward and backward, compiled and run once."""
    operands = make_operands(row, g, FEATURES)
    both = numgraph_runs(row, g, operands, output_gradient(g, row.numgraph(g, *operands.values()))).both
    assert both is not None
    both()
    return both


def _threads(session: Session, names: list[str]) -> list[dict[str, Any]]:
    """1, 2, 4, … threads and all of them; an error if the results' bits depend on it."""
    request = session.request
    most = request.threads or measure.cores()
    counts = sorted({*(2**i for i in range(most.bit_length()) if 2**i <= most), most})
    g = graphs.built(graphs.rmat(request.nodes_log2, request.edges, request.seed, request.edge_order))
    session.say(
        f"\nscaling with threads: {g.num_nodes:,} nodes, {g.num_edges:,} edges, F = {FEATURES}, forward + "
        "backward"
    )
    session.say(f"{'row':<19}{'threads':>8}{'ms':>10}{'speed-up':>10}")
    results: list[dict[str, Any]] = []
    for name in names:
        both = _prepared(ROWS[name], g)
        first: tuple[float, list[Any]] | None = None
        for count in counts:
            with measure.threads(count):
                made = both()
                seconds = session.alone(both)
            first = first or (seconds, made)
            if not all(np.array_equal(a, b) for a, b in zip(first[1], made)):
                session.wrong(Disagreement(f"{name}: {count} threads give other bits than one"))
            results.append(
                {
                    "series": "threads",
                    "row": name,
                    "threads": count,
                    "seconds": seconds,
                    "speed_up": first[0] / seconds,
                }
            )
            session.say(f"{name:<19}{count:>8}{1e3 * seconds:>10.2f}{first[0] / seconds:>10.2f}")
    return results
