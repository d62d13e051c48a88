"""What an epoch costs when ranks share a graph: bytes exchanged, memory and time a rank, up to 10^11 edges.

    python benchmarks/scale_model.py --kind communities --hidden 256 --classes 47 --layers 3

The bytes are exact for GCN, and SAGE with sum or mean, trained by ``numgraph train``: tests/distributed
compares them with what ranks sent. The times are lower bounds, from bandwidths that you give.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from itertools import pairwise

GHOSTS = {
    "rmat": {4: 0.61, 16: 2.01, 64: 4.42},
    "communities": {4: 1.35, 16: 2.13, 64: 2.35},
    "neighbours in space": {4: 0.10, 16: 0.24, 64: 0.46},
    "grid": {4: 0.01, 16: 0.04, 64: 0.10},
}
"""Ghosts for each node, by kind of graph and ranks, of METIS's partitions (measured on graphs of 10^5 to 10^6
nodes).
"""


@dataclass(frozen=True)
class Setting:
    """A training; ghosts: of all ranks together. Features are float32."""

    nodes: float
    edges: float
    ranks: int
    ghosts: float
    features: int = 128
    hidden: int = 256
    classes: int = 47
    layers: int = 3

    @property
    def widths(self) -> list[int]:
        """Input of each layer, and the result."""
        return [self.features, *[self.hidden] * (self.layers - 1), self.classes]

    @property
    def exchanged(self) -> list[int]:
        """Numbers of a ghost that go before each layer but the first, whose features are there: the narrower
        of its two sides.
        """
        return [min(pair) for pair in pairwise(self.widths[1:])]


def setup_bytes(s: Setting) -> float:
    """Once, over all ranks: features, and degrees there and back in float64."""
    return s.ghosts * (4 * s.features + 2 * 8)


def pass_bytes(s: Setting) -> float:
    """Of one forward pass, over all ranks; the backward sends as much the other way."""
    return s.ghosts * 4 * sum(s.exchanged)


def training_bytes(s: Setting, epochs: int) -> float:
    """Of a training: an epoch is a forward, a backward and an evaluation, and there is an evaluation at its
    end.
    """
    return setup_bytes(s) + pass_bytes(s) * (3 * epochs + 1)


def memory(s: Setting) -> float:
    """Bytes of a rank: two groupings of its edges, rows of its nodes and ghosts for every layer with their
    gradients.
    """
    nodes, ghosts, edges = s.nodes / s.ranks, s.ghosts / s.ranks, s.edges / s.ranks
    index = 4 if s.edges / s.ranks < 2**31 else 8
    graph = 3 * index * edges + 8 * (
        nodes + ghosts
    )  # sources; destinations and edge ids of the other grouping
    features = 4 * s.features * (nodes + ghosts)
    between = 4 * sum(s.widths[1:]) * nodes * 3 + 4 * sum(s.exchanged) * (nodes + ghosts) * 2
    return graph + features + between


def seconds(s: Setting, memory_rate: float, network_rate: float, flops: float) -> tuple[float, float]:
    """(computing, exchanging) of an epoch, neither overlapped with the other."""
    passes = 3
    walks = 4 * s.edges / s.ranks * sum(min(pair) for pair in pairwise(s.widths)) * passes
    products = 2 * s.nodes / s.ranks * sum(a * b for a, b in pairwise(s.widths)) * (passes + 1)
    return walks / memory_rate + products / flops, pass_bytes(s) * passes / s.ranks / network_rate


def ghosts_per_node(kind: str, ranks: int) -> float:
    """Between measured numbers of ranks, and beyond them, along straight lines of logarithms, by the last
    slope at most that of ranks^½.
    """
    known = sorted(GHOSTS[kind].items())
    if ranks == 1:
        return 0.0
    (p, a), (q, b) = next((pair for pair in pairwise(known) if ranks <= pair[1][0]), tuple(known[-2:]))
    slope = min(math.log(b / a) / math.log(q / p), 0.5) if ranks > q else math.log(b / a) / math.log(q / p)
    return b * (ranks / q) ** slope


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=GHOSTS, default="communities")
    parser.add_argument("--degree", type=float, default=50.0, help="edges of a node (default 50)")
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--classes", type=int, default=47)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--memory", type=float, default=100.0, help="GB/s that a rank reads (default 100)")
    parser.add_argument("--network", type=float, default=12.5, help="GB/s between ranks (default 12.5)")
    parser.add_argument("--tflops", type=float, default=1.0, help="of a rank's products (default 1)")
    options = parser.parse_args()
    start = Setting(0, 0, 1, 0, options.features, options.hidden, options.classes, options.layers)
    print(f"{options.kind}, {options.degree:g} edges a node, widths {start.widths}")
    print(
        f"{'edges':>8} {'ranks':>6} {'ghosts/N':>9} {'memory/rank':>12} {'sent/rank/epoch':>16} "
        f"{'computing':>10} {'exchange':>9}"
    )
    for edges, all_ranks in (
        (1e7, (1, 4)),
        (1e8, (4, 16)),
        (1e9, (16, 64)),
        (1e10, (64, 256)),
        (1e11, (256, 1024)),
    ):
        for ranks in all_ranks:
            nodes, share = edges / options.degree, ghosts_per_node(options.kind, ranks)
            s = replace(start, nodes=nodes, edges=edges, ranks=ranks, ghosts=nodes * share)
            computing, exchange = seconds(
                s, options.memory * 1e9, options.network * 1e9, options.tflops * 1e12
            )
            sent = 3 * pass_bytes(s) / ranks / 1e9
            facts = (
                f"{share:>9.2f} {memory(s) / 1e9:>9.2f} GB {sent:>13.3f} GB {computing:>8.2f} s "
                f"{exchange:>7.2f} s"
            )
            print(f"{edges:>8.0e} {ranks:>6} {facts}")


if __name__ == "__main__":
    main()
