"""Write the README's table of speed from a run's JSON:
``python benchmarks/readme_table.py benchmarks/results/bench.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from numgraph.runtime import atomic

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def cell(one: dict[str, Any] | None) -> str:
    if one is None:
        return "—"
    low, high = one["ratio_quartiles"]
    return f"{one['ratio']:.3g} ({low:.3g}–{high:.3g})"


def row(title: str, kind: str, ms: float, compared: dict[str, Any], peers: list[str]) -> str:
    return f"| {title} | {kind} | {ms:.3g} | " + " | ".join(cell(compared.get(peer)) for peer in peers) + " |"


def table(results: dict[str, Any]) -> str:
    """Milliseconds of numgraph, and for each peer its time over numgraph's: the median, and in brackets the
    quartiles.
    """
    peers, request, machine = list(results["peers"]), results["request"], results["machine"]
    lines = [
        "| | pass | numgraph, ms | " + " | ".join(f"{peer} {results['peers'][peer]}" for peer in peers) + " |"
    ]
    lines.append("|---|---|---|" + "---|" * len(peers))
    for one in results.get("kernels", ()):
        kind = "forward" if one["pass"] == "forward" else "forward + backward"
        lines.append(
            row(f"{one['formula']}, F = {one['features']}", kind, one["numgraph_ms"], one["peers"], peers)
        )
    for one in results.get("epochs", ()):
        lines.append(row(one["title"], "epoch", one["numgraph_ms"], one["peers"], peers))
    where = (
        f"{machine['cpu']}, {results['threads']} threads, {machine['vectors']}; read bandwidth "
        f"{results['bandwidth'] / 1e9:.0f} GB/s"
    )
    graph = f"R-MAT graph of 2^{request['nodes_log2']} nodes and {request['edges']:,} edges, float32"
    how = "For each peer: its time / numgraph's, median and quartiles; above 1 numgraph is faster."
    return f"{where}. {graph}. {how}\n\n" + "\n".join(lines)


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python benchmarks/readme_table.py RESULTS.json", file=sys.stderr)
        return 2
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    written = table(json.loads(Path(sys.argv[1]).read_text("utf-8")))
    atomic.write(readme, f"{before}{BEGIN}\n{written}\n{END}{after}".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
