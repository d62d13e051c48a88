"""Results for people (lines of the tables) and for programs (JSON). The pictures are in pictures.py."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numgraph.runtime import atomic
from numgraph.training.plots import check_plot

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
    """ratio [quartiles], and whether a goal was reached (+) or not (−); nothing where a peer does not have
    the row.
    """
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


def side_by_side(results: Mapping[str, Any]) -> str:
    """Host and device in one table: milliseconds of both, how many times the device is faster, the largest
    difference of the results.
    """
    lines = [
        (
            f"{'host and device':<19}{'F':>5} {'pass':<8}{'edges':>12}"
            f"{'host ms':>11}{'device ms':>11}{'×':>8}  "
            "largest difference"
        )
    ]
    for one in (*results.get("kernels", ()), *results.get("epochs", ())):
        beside = one["peers"].get("cpu")
        if beside is not None:
            width, kind = one.get("features", ""), _PASS.get(one.get("pass"), "epoch")
            times = f"{beside['ms']:>11.2f}{beside['numgraph_ms']:>11.3f}{_short(beside['ratio']):>8}"
            lines.append(
                f"{one['row']:<19}{width:>5} {kind:<8}{one['edges']:>12,}{times}  {beside['difference']:.1e}"
            )
    return "\n".join(lines)


def summary(results: Mapping[str, Any]) -> str:
    """How many of the goals that could be measured were reached, and the rows that missed theirs."""
    judged = [
        (_label(result), peer, one)
        for suite in ("kernels", "epochs", "frameworks")
        for result in results.get(suite, ())
        for peer, one in result["peers"].items()
        if "goal" in one
    ]
    if not judged:
        return "no goals were measured"
    missed = [
        f"  {row}: {_short(one['ratio'])} × {peer}, goal {one['goal']:g}"
        for row, peer, one in judged
        if not one["met"]
    ]
    return "\n".join(
        [
            f"goals reached: {len(judged) - len(missed)} of {len(judged)}" + (", missed:" if missed else ""),
            *missed,
        ]
    )


def _label(result: Mapping[str, Any]) -> str:
    if "pass" not in result:
        found: str = result["row"]
        return found
    edges = (
        f" {result['edges']:,} edges" if "memory_bytes" in result else ""
    )  # on a device there are two graphs
    return f"{result['row']} F={result['features']} {_PASS[result['pass']]}{edges}"


def check_targets(plot_folder: str | None) -> None:
    """An error if the pictures could not be written there."""
    if plot_folder is not None:
        if not Path(plot_folder).is_dir():
            raise FileNotFoundError(f"bench: there is no folder {plot_folder}; make it first")
        check_plot(Path(plot_folder) / "ratios.png")


def write_json(results: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """What is no file (/dev/stdout) gets complete results alone: it keeps whatever is written to it."""
    if results["complete"] or not Path(path).exists() or Path(path).is_file():
        atomic.write(path, (json.dumps(results, indent=1, ensure_ascii=False) + "\n").encode())
