"""Times of a few kernels beside SciPy's and NumPy's way to the same numbers, for ``numgraph bench``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.graph import Graph
from numgraph.message import apply_edges, attend, update_all
from numgraph.tape import Tape


def time_kernels(num_nodes: int, num_edges: int, features: int, repeats: int = 9) -> list[dict[str, Any]]:
    """One row a kernel: its median time and the peer's, in milliseconds, float32, on a random graph with a heavy tail of degrees.

    Each kernel and its peer run in turn, after one run of each that is not counted; a peer's result is compared first.
    """
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(0)
    src = (num_nodes * rng.random(num_edges) ** 3).astype(np.int64)  # ids near 0 are the hubs
    dst = rng.integers(0, num_nodes, num_edges)
    graph = Graph(src, dst, num_nodes)
    x, y = (rng.standard_normal((num_nodes, features), dtype=np.float32) for _ in range(2))
    w = rng.standard_normal((num_edges, 1), dtype=np.float32)
    into = csr_matrix((np.ones(num_edges, np.float32), (dst, src)), shape=(num_nodes, num_nodes))
    weighted = csr_matrix((w[:, 0], (dst, src)), shape=(num_nodes, num_nodes))

    def sum_and_gradient() -> Any:
        with Tape() as tape:
            u = tape.watch(x)
            loss = update_all(graph, lambda u: u.x, "sum", u={"x": u}).sum()
        return tape.gradient(loss, u)

    def peer_sum_and_gradient() -> Any:
        z = into @ x
        return into.T @ np.ones_like(z)

    cases: list[tuple[str, Callable[[], Any], str | None, Callable[[], Any] | None]] = [
        ("sum of x_u", lambda: update_all(graph, lambda u: u.x, "sum", u={"x": x}), "SciPy CSR @ dense", lambda: into @ x),
        (
            "sum of x_u · w_e",
            lambda: update_all(graph, lambda u, e: u.x * e.w, "sum", u={"x": x}, e={"w": w}),
            "SciPy CSR @ dense",
            lambda: weighted @ x,
        ),
        ("sum of x_u, and its gradient", sum_and_gradient, "SciPy CSR @ dense, twice", peer_sum_and_gradient),
        (
            "x_u · y_v on edges",
            lambda: apply_edges(graph, lambda u, v: (u.x * v.y).sum(-1, keepdims=True), u={"x": x}, v={"y": y}),
            "NumPy gather, einsum",
            lambda: np.einsum("ef,ef->e", x[src], y[dst])[:, None],
        ),
        ("max of x_u", lambda: update_all(graph, lambda u: u.x, "max", u={"x": x}), None, None),
        (
            "softmax of w_e over in-edges, times x_u",
            lambda: attend(graph, lambda e: e.w, lambda u: u.x, u={"x": x}, e={"w": w}),
            None,
            None,
        ),
    ]
    return [_row(name, kernel, peer_name, peer, repeats) for name, kernel, peer_name, peer in cases]


def _row(name: str, kernel: Callable[[], Any], peer_name: str | None, peer: Callable[[], Any] | None, repeats: int) -> dict[str, Any]:
    result = kernel()
    if peer is not None:
        expected = peer()
        difference = np.abs(result - expected).max() / max(1.0, float(np.abs(expected).max()))
        if not difference < 1e-4:
            raise AssertionError(f"{name}: differs from {peer_name} by {difference:.1e}")
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(repeats):
        ours.append(_milliseconds(kernel))
        if peer is not None:
            theirs.append(_milliseconds(peer))
    row = {"kernel": name, "ms": float(np.median(ours)), "spread_ms": [min(ours), max(ours)], "peer": peer_name}
    if theirs:
        row |= {"peer_ms": float(np.median(theirs)), "peer_spread_ms": [min(theirs), max(theirs)]}
    return row


def _milliseconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - start)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people: times, and how many times faster than the peer."""
    lines = [f"{'kernel':<42}{'ms':>9}{'peer ms':>10}{'ratio':>8}   peer"]
    for row in rows:
        peer = f"{row['peer_ms']:>10.2f}{row['peer_ms'] / row['ms']:>8.2f}   {row['peer']}" if row["peer"] else f"{'':>10}{'':>8}   none"
        lines.append(f"{row['kernel']:<42}{row['ms']:>9.2f}{peer}")
    return "\n".join(lines)
