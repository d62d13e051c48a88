"""Sampling, batches and whole training steps beside DGL: ``python benchmarks/sampling.py`` writes
benchmarks/results/sampling.json.

R-MAT graph, batches of 1,024 seeds without replacement; DGL's sampler is the plain one, as the fused one of
1.1.3 returns blocks that are none on graphs of int32. Both are timed alternately in one process, whose OpenMP
threads sleep when they have nothing to do. A ratio is the other's time over numgraph's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import numgraph as ng
from numgraph.bench import graphs, measure
from numgraph.bench.machine import describe, machine
from numgraph.runtime import atomic
from numgraph.sampling.rows import rows_of

SLEEPING = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0", "DGLBACKEND": "pytorch"}
"""The environment, before DGL and torch are imported."""
SEEDS, FEATURES, HIDDEN, CLASSES = 1024, 128, 128, 40
FANOUTS = ([10, 10], [15, 10, 5])
TOLERANCE = 0.02
"""Relative difference of the numbers of edges that both draw, on average over some batches."""

Row = tuple[str, str, Callable[[], Any], Callable[[], Any]]
"""What is timed, the other, numgraph's call and the other's."""


class Setting:
    """A graph in both libraries, features, and seeds of batch after batch."""

    def __init__(self, nodes_log2: int, edges: int) -> None:
        import dgl
        import torch

        self.graph = graphs.built(graphs.rmat(nodes_log2, edges))
        self.nodes = self.graph.num_nodes
        ends = torch.from_numpy(self.graph.src.copy()), torch.from_numpy(self.graph.dst.copy())
        self.peer = dgl.graph(ends, num_nodes=self.nodes, idtype=torch.int32).formats("csc")
        self.peer.create_formats_()
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((self.nodes, FEATURES), np.float32)
        self.labels = rng.integers(0, CLASSES, self.nodes)
        self.x_peer, self.labels_peer = torch.from_numpy(self.x), torch.from_numpy(self.labels)
        self.batches = [rng.choice(self.nodes, SEEDS, replace=False).astype(np.int32) for _ in range(100)]

    def seeds(self) -> Iterator[tuple[int, np.ndarray]]:
        """Number and seeds of batch after batch, without end."""
        number = 0
        while True:
            yield number, self.batches[number % len(self.batches)]
            number += 1


def sampled(setting: Setting, fanouts: list[int]) -> Row:
    """One batch after the other, each when it is asked for."""
    import dgl
    import torch

    sampler, peer = (
        ng.sampling.NeighborSampler(fanouts),
        dgl.dataloading.NeighborSampler(fanouts, fused=False),
    )
    own, other = setting.seeds(), setting.seeds()

    def ours() -> int:
        number, seeds = next(own)
        return sum(block.num_edges for block in sampler.sample(setting.graph, seeds, seed=number).blocks)

    def theirs() -> int:
        return sum(
            block.num_edges() for block in peer.sample(setting.peer, torch.from_numpy(next(other)[1]))[2]
        )

    drawn, expected = (sum(draw() for _ in range(20)) for draw in (ours, theirs))
    if abs(drawn / expected - 1) > TOLERANCE:
        raise SystemExit(f"numgraph draws {drawn} edges, DGL {expected}")
    return f"sample {fanouts}", f"DGL {dgl.__version__}", ours, theirs


def loaded(setting: Setting, fanouts: list[int], threads: int) -> Row:
    """16 batches of a loader, of which as many are made at once as there are threads; DGL has its threads in
    one batch after the other.
    """
    import dgl
    import torch

    ids = np.random.default_rng(1).choice(setting.nodes, 16 * SEEDS, replace=False).astype(np.int32)
    loader = ng.NeighborLoader(
        (setting.graph, {}),
        fanouts,
        input_nodes=ids,
        batch_size=SEEDS,
        prefetch=threads if threads > 1 else 0,
    )
    peer = dgl.dataloading.NeighborSampler(fanouts, fused=False)
    parts = torch.from_numpy(ids).split(SEEDS)

    def theirs() -> None:
        for part in parts:
            peer.sample(setting.peer, part)

    return f"16 batches {fanouts}", f"DGL {dgl.__version__}", lambda: list(loader), theirs


def stepped(setting: Setting, fanouts: list[int], threads: int) -> Iterator[Row]:
    """Sample, gather, forward, backward and Adam of a GraphSAGE without dropout: steps by themselves, and 16
    of each library's loader.
    """
    import dgl
    import torch

    model = ng.nn.SAGE(FEATURES, HIDDEN, CLASSES, layers=len(fanouts), dropout=0.0, rng=0)
    optimizer = ng.optim.Adam(model.parameters(), lr=1e-3)
    widths = [FEATURES, *[HIDDEN] * (len(fanouts) - 1), CLASSES]
    layers = torch.nn.ModuleList([dgl.nn.SAGEConv(*pair, "mean") for pair in itertools.pairwise(widths)])
    peer_optimizer = torch.optim.Adam(layers.parameters(), lr=1e-3)
    sampler, peer = (
        ng.sampling.NeighborSampler(fanouts),
        dgl.dataloading.NeighborSampler(fanouts, fused=False),
    )
    own, other = setting.seeds(), setting.seeds()
    ids = np.random.default_rng(4).choice(setting.nodes, 16 * SEEDS, replace=False).astype(np.int32)
    data = setting.graph, {"x": setting.x, "labels": setting.labels}
    loader = ng.NeighborLoader(
        data, fanouts, input_nodes=ids, batch_size=SEEDS, prefetch=threads if threads > 1 else 0
    )
    peer_loader = dgl.dataloading.DataLoader(setting.peer, torch.from_numpy(ids), peer, batch_size=SEEDS)

    def learn(batch: Any, x: Any, labels: Any) -> None:
        with ng.Tape() as tape:
            loss = ng.cross_entropy(model(batch.blocks, x), labels)
        optimizer.step(tape.gradient(loss, optimizer.parameters))

    def learn_peer(inputs: Any, seeds: Any, blocks: Any) -> None:
        h = setting.x_peer[inputs.long()]
        for place, (layer, block) in enumerate(zip(layers, blocks)):
            h = layer(block, h) if place == 0 else layer(block, torch.relu(h))
        peer_optimizer.zero_grad()
        torch.nn.functional.cross_entropy(h, setting.labels_peer[seeds.long()]).backward()
        peer_optimizer.step()

    def ours() -> None:
        number, seeds = next(own)
        batch = sampler.sample(setting.graph, seeds, seed=number)
        learn(batch, rows_of(setting.x, batch.nodes), setting.labels[seeds])

    def theirs() -> None:
        learn_peer(*peer.sample(setting.peer, torch.from_numpy(next(other)[1])))

    def epoch() -> None:
        for batch in loader:
            learn(batch, batch.x, batch.labels)

    def peer_epoch() -> None:
        for inputs, seeds, blocks in peer_loader:
            learn_peer(inputs, seeds, blocks)

    yield f"SAGE step {fanouts}", f"DGL {dgl.__version__}", ours, theirs
    yield "16 SAGE steps, loader", f"DGL {dgl.__version__}", epoch, peer_epoch


def gathered(setting: Setting) -> Row:
    """100,000 rows of 512 bytes of an array that no cache holds."""
    ids = np.random.default_rng(2).choice(setting.nodes, min(100_000, setting.nodes // 2), replace=False)
    if not np.array_equal(rows_of(setting.x, ids), setting.x[ids]):
        raise SystemExit("rows differ from NumPy's")
    return f"{len(ids):,} rows", "x[ids]", lambda: rows_of(setting.x, ids), lambda: setting.x[ids]


def batched(count: int) -> Row:
    """Graphs of 20 to 60 nodes as one."""
    import dgl
    import torch

    rng, own, other = np.random.default_rng(3), [], []
    for _ in range(count):
        nodes = int(rng.integers(20, 60))
        src, dst = rng.integers(0, nodes, (2, 4 * nodes))
        own.append(ng.Graph(src, dst, nodes))
        other.append(dgl.graph((torch.from_numpy(src), torch.from_numpy(dst)), num_nodes=nodes))
    if not np.array_equal(ng.batch(own).graph.src, dgl.batch(other).edges()[0].numpy()):
        raise SystemExit("batches differ from DGL's")
    return (
        f"batch of {count} graphs",
        f"DGL {dgl.__version__}",
        lambda: ng.batch(own),
        lambda: dgl.batch(other),
    )


def rows(setting: Setting, threads: int) -> Iterator[Row]:
    for fanouts in FANOUTS:
        yield sampled(setting, fanouts)
    yield loaded(setting, FANOUTS[1], threads)
    yield from stepped(setting, FANOUTS[0], threads)
    yield gathered(setting)
    yield batched(32)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes-log2", type=int, default=20)
    parser.add_argument("--edges", type=int, default=16_000_000)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, measure.cores()}))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=4.0, help="about the longest for one comparison")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "sampling.json")
    options = parser.parse_args()
    for name, value in SLEEPING.items():
        os.environ.setdefault(name, value)
    import dgl
    import torch

    print(describe(facts := machine("cpu")))
    setting, results = Setting(options.nodes_log2, options.edges), []
    for threads in options.threads:
        with measure.threads(threads):
            torch.set_num_threads(threads)
            for what, peer, ours, theirs in rows(setting, threads):
                ours(), theirs()
                found = measure.alternate(ours, theirs, options.repeats, options.seconds).facts()
                results.append({"what": what, "threads": threads, "peer": peer} | found)
                low, high = found["ratio_quartiles"]
                times = f"{found['numgraph_ms']:9.3f} ms, {peer} {found['ms']:9.3f} ms"
                print(
                    f"{threads} threads  {what:<24}{times}: {found['ratio']:.2f} [{low:.2f}–{high:.2f}]",
                    flush=True,
                )
    about = {
        "machine": facts,
        "dgl": dgl.__version__,
        "torch": torch.__version__,
        "nodes": setting.nodes,
        "edges": options.edges,
    }
    atomic.write(options.output, (json.dumps(about | {"results": results}, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
