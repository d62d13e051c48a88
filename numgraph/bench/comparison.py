"""The suite of kernels: every row of the table, forward, and forward with backward, beside every peer that
has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from numgraph.arrays.devices import moved
from numgraph.bench import gpu, graphs
from numgraph.bench.kernels import HEADS, ROWS, Row, Traffic, make_operands, numgraph_runs, output_gradient
from numgraph.bench.peers import Peer, Runs
from numgraph.bench.report import kernel_header, kernel_line
from numgraph.bench.session import Disagreement, Session, against, difference
from numgraph.graph import Graph

PASSES = ("forward", "both")


def run(session: Session) -> list[dict[str, Any]]:
    """One result a row, F and pass; see ``_result``."""
    request = session.request
    rows = session.chosen(ROWS)
    for nodes_log2, edges in _sizes(session) if rows else ():
        g = graphs.built(graphs.rmat(nodes_log2, edges, request.seed, request.edge_order))
        held = {}
        for name, peer in session.peers.items():
            try:
                held[name] = peer.prepare(g)
            except Exception as error:
                session.failed(error, f"R-MAT, {g.num_edges:,} edges: {name} is left out")
        session.say(
            f"\nkernels: R-MAT, {g.num_nodes:,} nodes, {g.num_edges:,} edges in {request.edge_order} order, "
            "float32"
        )
        session.say(kernel_header(session.peers))
        for row in rows:
            for features in _features(row, request.features, session.device):
                try:
                    made = _measure(session, row, g, features, held)
                except Exception as error:
                    session.failed(error, f"{row.name}, F = {features} is left out")
                    continue
                for result in made:
                    session.say(kernel_line(result, session.peers))
                    session.add("kernels", result)
    return session.results.get("kernels", [])


def _sizes(session: Session) -> tuple[tuple[int, int], ...]:
    """log2 of nodes, and edges: those that were asked for, on a device by default those of gpu.py."""
    return (
        gpu.SIZES
        if session.device != "cpu" and session.at_goal_size()
        else ((session.request.nodes_log2, session.request.edges),)
    )


def _features(row: Row, asked: Any, device: str = "cpu") -> tuple[int, ...]:
    """A row by heads takes the multiples of 8 among the asked ones; a row whose width is the heads themselves
    has no other.
    """
    own = row.features if device == "cpu" else row.device_features
    if asked is None or own == (HEADS,):
        return own
    by_head = any(HEADS in shape for _, shape in row.operands(16 * HEADS).values())
    return tuple(f for f in asked if not by_head or f % HEADS == 0)


def _measure(
    session: Session, row: Row, g: Graph, features: int, held: Mapping[str, Any]
) -> list[dict[str, Any]]:
    if session.device != "cpu":
        gpu.release()  # what the row before needed is not kept from the peers
    operands = make_operands(row, g, features, session.request.seed)
    there, placed = (
        g.to(session.device),
        {name: moved(array, session.device) for name, array in operands.items()},
    )
    seed = output_gradient(g, row.numgraph(there, *placed.values()))
    ours = numgraph_runs(row, there, placed, moved(seed, session.device))
    found = {
        name: peer
        for name, peer in session.peers.items()
        if name in held and getattr(row, peer.formulation) is not None
    }
    results = {kind: [moved(one, "cpu") for one in getattr(ours, kind)()] for kind in PASSES if found}
    peers = {}
    for name, peer in found.items():
        try:
            theirs = peer.runs(row, held[name], operands, seed)
            peers[name] = theirs, _agree(row, peer, results, theirs)
        except Disagreement as error:
            session.wrong(error)
        except Exception as error:
            session.failed(error, f"{row.name}, F = {features}: {name} is left out")
    del results
    return [_result(session, row, g, features, kind, ours, peers) for kind in PASSES]


def _agree(row: Row, peer: Peer, results: Mapping[str, Any], theirs: Runs) -> dict[str, float]:
    """Largest difference from numgraph's results by pass. It is also what warms the peer up."""
    gaps = {}
    for kind, mine in results.items():
        other = getattr(theirs, kind)
        if other is not None:
            made = [peer.array(result) for result in other()]
            gaps[kind] = difference(f"{row.name}, {kind}", peer.name, mine, made)
    return gaps


def _result(
    session: Session,
    row: Row,
    g: Graph,
    features: int,
    kind: str,
    ours: Runs,
    peers: Mapping[str, tuple[Runs, Mapping[str, float]]],
) -> dict[str, Any]:
    """Times in milliseconds, medians. Shares are of the measured read bandwidth: of all bytes (Traffic), and
    of nnz · F · 4 alone.
    """
    mine = getattr(ours, kind)
    mine()
    compared: dict[str, Any] = {}
    for name, (theirs, gaps) in peers.items():
        other = getattr(theirs, kind)
        if other is None:
            continue
        facts = session.pair(mine, other).facts()
        goal = row.goal(name, kind, features, session.device) if session.at_goal_size() else None
        compared[name] = facts | {"difference": gaps[kind]} | against(facts["ratio"], goal)
    ms = [one["numgraph_ms"] for one in compared.values()]
    seconds = float(np.median(ms)) / 1e3 if ms else session.alone(mine)
    traffic: Traffic = (
        row.forward(features) if kind == "forward" else row.forward(features) + row.backward(features)
    )
    moved = traffic.bytes(g, session.request.edge_order == "destination")
    return {
        "row": row.name,
        "formula": row.formula,
        "nodes": g.num_nodes,
        "edges": g.num_edges,
        "features": features,
        "pass": kind,
        "numgraph_ms": 1e3 * seconds,
        "edges_per_second": g.num_edges / seconds,
        "bytes": moved,
        "bandwidth_share": moved / seconds / session.bandwidth,
        "gathered_share": 4 * g.num_edges * traffic.gathered / seconds / session.bandwidth,
        "flops": traffic.flops * g.num_edges,
        **({} if session.device == "cpu" else {"memory_bytes": gpu.peak_memory(mine)}),
        "peers": compared,
    }
