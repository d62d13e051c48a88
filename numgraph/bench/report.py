"""Results for people: lines of the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_PASS = {"forward": "fwd", "both": "fwd+bwd"}
_COLUMN = 19


def kernel_header(peers: Iterable[str]) -> str:
    left = f"{'row':<19}{'F':>5} {'pass':<8}{'ms':>9}{'Gedge/s':>9}{'bandwidth':>10}"
    return left + _peer_titles(peers)


def kernel_line(result: Mapping[str, Any], peers: Iterable[str]) -> str:
    left = (
        f"{result['row']:<19}{result['features']:>5} {_PASS[result['pass']]:<8}{result['numgraph_ms']:>9.2f}"
        f"{result['edges_per_second'] / 1e9:>9.3f}{100 * result['bandwidth_share']:>8.0f} %"
    )
    return left + _peer_cells(result["peers"], peers)


def epoch_header(peers: Iterable[str]) -> str:
    return f"{'row':<19}{'':>14}{'ms an epoch':>27}" + _peer_titles(peers)


def epoch_line(result: Mapping[str, Any], peers: Iterable[str]) -> str:
    return f"{result['row']:<33}{result['numgraph_ms']:>27.2f}" + _peer_cells(result["peers"], peers)


def _peer_titles(peers: Iterable[str]) -> str:
    return "".join(f"{name + ' ×':>{_COLUMN}}" for name in peers)


def _peer_cells(compared: Mapping[str, Any], peers: Iterable[str]) -> str:
    """ratio [quartiles], and whether a goal was reached (+) or not (−); nothing where a peer does not have the row."""
    cells = []
    for name in peers:
        if name not in compared:
            cells.append(f"{'·':>{_COLUMN}}")
            continue
        one = compared[name]
        low, high = one["ratio_quartiles"]
        mark = {True: "+", False: "−", None: " "}[one.get("met")]
        cells.append(f"{_short(one['ratio'])} [{_short(low)}–{_short(high)}]{mark}".rjust(_COLUMN))
    return "".join(cells)


def _short(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 9.95 else f"{ratio:.1f}" if ratio < 99.5 else f"{ratio:.0f}"
