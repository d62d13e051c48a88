"""Ranks that share a graph beside one process with as many threads: time, waiting, memory and bytes of a step
of training.

    python benchmarks/ranks.py FOLDER --graph knn --prepare     write the shards: nearest neighbours in space,
    100,000 nodes, 16 each python benchmarks/ranks.py FOLDER --graph rmat --prepare    the same of R-MAT, 2^20
    nodes, 16 million edges python benchmarks/ranks.py FOLDER --graph knn               time them; writes
    benchmarks/results/ranks_knn_64.json

Times one rank of two threads, two ranks of one and four of one, in turns, each start a round. A step is a
GCN's forward, backward and Adam's step; its time, and what is waited, is that of the slowest rank, and has
all that ranks are apart. The share of an exchange that is hidden is 1 − what its layer waits, forward and
backward, over what the exchange takes alone, when all ranks begin both at once."""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scale_model import Setting, pass_bytes
from scipy.spatial import cKDTree

import numgraph as ng
from numgraph.bench.graphs import rmat_edges

SETTINGS = {"1 rank, 2 threads": (1, 2), "2 ranks, 1 thread": (2, 1), "4 ranks, 1 thread": (4, 1)}
FEATURES, CLASSES, LAYERS = 64, 16, 3
RESULTS = Path(__file__).parent / "results"


def knn(nodes: int = 100_000, neighbours: int = 16) -> ng.Graph:
    """The nearest neighbours of points in a cube, those at hand numbered at random."""
    points = np.random.default_rng(0).random((nodes, 3))
    _, found = cKDTree(points).query(points, neighbours + 1, workers=-1)
    return ng.Graph(found[:, 1:].reshape(-1), np.repeat(np.arange(nodes), neighbours), nodes)


def rmat() -> ng.Graph:
    return ng.Graph(*rmat_edges(20, 16_000_000), 2**20)


GRAPHS = {"knn": knn, "rmat": rmat}


def prepare(options: argparse.Namespace) -> None:
    g, rng = GRAPHS[options.graph](), np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, g.num_nodes)
    x = rng.standard_normal((g.num_nodes, FEATURES), np.float32)
    x[np.arange(len(x)), labels] += 2
    data = ng.Dataset.from_arrays(g, x, labels, name=options.graph)
    for ranks, _ in SETTINGS.values():
        start = time.perf_counter()
        ghosts = ng.distributed.write_shards(options.folder / f"{options.graph}-{ranks}", data, ranks)
        print(
            f"{ranks} parts in {time.perf_counter() - start:.1f} s: {ghosts.sum() / g.num_nodes:.3f} ghosts "
            "a node",
            flush=True,
        )


def rank(options: argparse.Namespace) -> None:
    """What mpiexec starts: process 0 prints a line of JSON."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    d = ng.distributed.DistGraph.load(options.folder / f"{options.graph}-{comm.size}", comm, verify="sizes")
    model = ng.nn.GCN(FEATURES, options.hidden, CLASSES, layers=LAYERS, dropout=0, rng=0)
    optimizer = ng.optim.Adam(model.parameters(), lr=0.01)
    labels, x = d.arrays["labels"], d.exchange(np.array(d.arrays["features"]))

    def step() -> float:
        with ng.Tape() as tape:
            loss = ng.cross_entropy(model(d.graph, x), labels, reduction="sum") / d.num_nodes
        optimizer.step(tape.gradient(loss, optimizer.parameters))
        return float(loss.item())

    def waited_in(*calls: Any) -> list[float]:
        """In each call, by the rank that waits longest, when all begin at once."""
        found = np.zeros((options.repeats, len(calls)))
        for i, j in np.ndindex(found.shape):
            comm.Barrier()
            before = d.meter.seconds
            calls[j]()
            found[i, j] = comm.allreduce(d.meter.seconds - before, MPI.MAX)
        return list(np.median(found, 0))

    losses = [step() for _ in range(2)]
    sent, seconds, waited = d.meter.bytes, [], []
    for _ in range(options.steps):
        comm.Barrier()
        before, start = d.meter.seconds, time.perf_counter()
        losses.append(step())
        mine = np.array([time.perf_counter() - start, d.meter.seconds - before])
        comm.Allreduce(MPI.IN_PLACE, mine, MPI.MAX)
        seconds.append(mine[0])
        waited.append(mine[1])
    sent = comm.allreduce(d.meter.bytes - sent) // options.steps
    setting = Setting(
        d.num_nodes,
        d.num_edges,
        comm.size,
        comm.allreduce(len(d.ghosts)),
        FEATURES,
        options.hidden,
        CLASSES,
        LAYERS,
    )
    assert sent == 2 * pass_bytes(setting), (sent, 2 * pass_bytes(setting))
    alone, in_layers = 0.0, 0.0
    for width in setting.exchanged:
        rows = np.ones((len(d.owned) + len(d.ghosts), width), np.float32)
        own, conv = rows[: len(d.owned)], ng.nn.GCNConv(width, width, rng=0)
        made: list[Any] = []

        def forward(own: Any = own, conv: Any = conv, made: list[Any] = made) -> None:
            with ng.Tape() as tape:
                x = tape.watch(own.copy())
                made[:] = tape, conv(d, x), x

        def backward(made: list[Any] = made) -> None:
            tape, z, x = made
            tape.gradient(z, x, seed=z.data)

        alone += sum(waited_in(lambda own=own: d.exchange(own), lambda rows=rows: d.collect(rows)))
        in_layers += sum(waited_in(forward, backward))
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    memory = comm.gather(int(status["VmHWM"].split()[0]) / 1024)
    first, last = comm.allreduce(losses[0]), comm.allreduce(losses[-1])
    if comm.rank == 0:
        found = {
            "step_ms": [1e3 * one for one in seconds],
            "waited_ms": [1e3 * one for one in waited],
            "alone_ms": 1e3 * alone,
            "in_layers_ms": 1e3 * in_layers,
        }
        facts = {
            "bytes_a_step": sent,
            "ghosts_a_node": setting.ghosts / d.num_nodes,
            "memory_mib": memory,
            "loss": [first, last],
        }
        print(json.dumps(found | facts), flush=True)


def timed(options: argparse.Namespace) -> None:
    kept = options.folder / f"runs_{options.graph}_{options.hidden}.jsonl"
    for _ in range(options.rounds):
        for name in options.only or SETTINGS:
            ranks, threads = SETTINGS[name]
            env = {**os.environ, "NUMBA_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
            command = [
                "mpiexec",
                "-n",
                str(ranks),
                sys.executable,
                "-m",
                "mpi4py",
                __file__,
                str(options.folder),
                "--rank",
            ]
            for option in ("graph", "hidden", "steps", "repeats"):
                command += [f"--{option}", str(getattr(options, option))]
            made = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
            with kept.open("a") as file:
                file.write(json.dumps([name, json.loads(made.stdout.splitlines()[-1])]) + "\n")
    runs: dict[str, list[Any]] = {name: [] for name in SETTINGS}
    for name, run in map(json.loads, kept.read_text().splitlines()):
        runs[name].append(run)
    report: dict[str, Any] = {
        "graph": options.graph,
        "features": FEATURES,
        "hidden": options.hidden,
        "classes": CLASSES,
        "layers": LAYERS,
    }
    runs = {name: some for name, some in runs.items() if some}
    base = statistics.median(one for run in runs["1 rank, 2 threads"] for one in run["step_ms"])
    for name, some in runs.items():
        steps = [one for run in some for one in run["step_ms"]]
        waited, alone, layers = (
            statistics.median(all_of(some, key)) for key in ("waited_ms", "alone_ms", "in_layers_ms")
        )
        apart = math.prod(SETTINGS[name]) <= len(
            os.sched_getaffinity(0)
        )  # ranks that share a core compute in turns
        step, quarters = statistics.median(steps), statistics.quantiles(steps, n=4)
        report[name] = {
            "step_ms": round(step, 2),
            "step_ms_quartiles": [round(quarters[0], 2), round(quarters[2], 2)],
            "ratio_to_one_rank": round(step / base, 3),
            "waited_ms": round(waited, 3),
            "waited_share_of_step": round(waited / step, 4),
            "exchange_alone_ms": round(alone, 3),
            "waited_in_layers_ms": round(layers, 3),
            "hidden_share": round(1 - layers / alone, 3) if some[0]["bytes_a_step"] and apart else None,
            "memory_mib": [
                round(max(run["memory_mib"][i] for run in some), 1) for i in range(len(some[0]["memory_mib"]))
            ],
            **{key: some[0][key] for key in ("bytes_a_step", "ghosts_a_node", "loss")},
        }
        print(f"{name}: {json.dumps(report[name])}", flush=True)
    (options.out or RESULTS / f"ranks_{options.graph}_{options.hidden}.json").write_text(
        json.dumps(report, indent=1) + "\n"
    )


def all_of(runs: list[Any], key: str) -> list[float]:
    """One number a run, or many."""
    return [one for run in runs for one in (run[key] if isinstance(run[key], list) else [run[key]])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the shards")
    parser.add_argument("--graph", choices=GRAPHS, default="knn")
    parser.add_argument("--prepare", action="store_true", help="write the shards")
    parser.add_argument("--hidden", type=int, default=64, help="width")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=15, help="of the exchanges alone and of layers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", choices=SETTINGS, nargs="+", help="time these; the report is of all runs that FOLDER keeps"
    )
    parser.add_argument("--out", type=Path, help="the file of results")
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    (prepare if options.prepare else rank if options.rank else timed)(options)


if __name__ == "__main__":
    main()
