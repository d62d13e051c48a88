"""A set larger than the memory of the process: written in pieces, trained in batches for an epoch, its cold
rows read.

python benchmarks/disk.py FOLDER                 2^20 nodes, 16 million edges, 128 features: 0.9 GB, in a
folder that is deleted at the end python benchmarks/disk.py FOLDER --rows-gb 4     also cold rows of 512 bytes
out of a file of 4 GB

Each step is a process of its own, whose memory, the pages of files included, is limited to half of the data
by a control group where one can be made (Linux, mostly root). RLIMIT_DATA would count what is only reserved:
64 MB each for the BLAS libraries of NumPy and SciPy."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

import numgraph as ng
from numgraph.bench.graphs import rmat_edges
from numgraph.data import npy
from numgraph.sampling.rows import rows_of

MIB = 2**20
PIECE = 1 << 20
CLASSES = 16
GROUPS = Path("/sys/fs/cgroup")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where there is room; a folder is made in it")
    parser.add_argument("--nodes-log2", type=int, default=20)
    parser.add_argument("--edges", type=int, default=16_000_000)
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--fanouts", type=int, nargs="+", default=[10, 5])
    parser.add_argument(
        "--train", type=float, default=0.05, help="share of the nodes that an epoch has (default 0.05)"
    )
    parser.add_argument("--cache-mb", type=int, default=64)
    parser.add_argument(
        "--rows-gb", type=float, default=0, help="also read cold rows of 512 bytes out of a file of this size"
    )
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        STEPS[options.step](options)
        return 0
    ids = 6 * 4 * options.edges + 2 * 8 * 2**options.nodes_log2
    size = ids + 4 * options.features * 2**options.nodes_log2
    what = f"2^{options.nodes_log2} nodes, {options.edges:,} edges, {options.features} features"
    print(f"{what}: {size / MIB:.0f} MiB of data, {size / 2 / MIB:.0f} MiB of memory")
    options.folder = options.folder / f"numgraph-disk-{os.getpid()}"
    options.folder.mkdir()
    try:
        for step in ["write", "train", *(["rows"] if options.rows_gb else [])]:
            limited(step, options, size // 2 if step != "rows" else 0)
    finally:
        shutil.rmtree(options.folder)
    return 0


def limited(step: str, options: argparse.Namespace, most: int) -> None:
    """A step in a process whose memory is limited; 0: it is not."""
    command = [sys.executable, __file__, str(options.folder), "--step", step]
    for name in ("nodes_log2", "edges", "features", "train", "cache_mb", "rows_gb"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    command += ["--fanouts", *map(str, options.fanouts)]
    group = control_group(most) if most else None

    def enter() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    try:
        subprocess.run(command, check=True, preexec_fn=enter)
        if group is not None:
            peak = next(
                (
                    group / name
                    for name in ("memory.max_usage_in_bytes", "memory.peak")
                    if (group / name).exists()
                ),
                None,
            )
            print(
                "  limit by a control group; its peak, files' pages included, "
                f"{int(peak.read_text()) / MIB if peak else 0:.0f} MiB"
            )
        elif most:
            print(
                "  no control group can be made here, so nothing is limited: compare anonymous memory with "
                f"{most / MIB:.0f} MiB"
            )
    finally:
        if group is not None:
            group.rmdir()


def control_group(most: int) -> Path | None:
    """A new control group inside of this process's own, with a limit on memory; None where that is not
    allowed.
    """
    try:
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        old = next((path for _, names, path in lines if names == "memory"), None)
        own = GROUPS / "memory" / old.lstrip("/") if old is not None else GROUPS / lines[0][2].lstrip("/")
        group = own / f"numgraph-disk-{os.getpid()}"
        group.mkdir()
    except OSError:
        return None
    try:
        (group / ("memory.limit_in_bytes" if old is not None else "memory.max")).write_text(str(most))
    except OSError:
        group.rmdir()
        return None
    return group


class Peak:
    """The most memory that was no file's, looked at 50 times a second."""

    def __enter__(self) -> Peak:
        self.most, self._stop, self.begin = 0, threading.Event(), time.perf_counter()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    self.most = max(self.most, int(line.split()[1]) * 1024)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.seconds = time.perf_counter() - self.begin


def write(options: argparse.Namespace) -> None:
    nodes, done = 2**options.nodes_log2, 0
    labels = np.random.default_rng(0).integers(0, CLASSES, nodes)
    with Peak() as peak, ng.data.GraphWriter(options.folder / "data", nodes) as writer:
        while done < options.edges:
            count = min(PIECE, options.edges - done)
            writer.add_edges(*rmat_edges(options.nodes_log2, count, seed=done))
            done += count
        for first in range(0, nodes, PIECE // 8):
            part = labels[first : first + PIECE // 8]
            rows = np.random.default_rng(first).standard_normal((len(part), options.features), np.float32)
            rows[np.arange(len(part)), part % options.features] += 2
            writer.add_features(rows)
        writer.set_labels(labels, split=(options.train, 0, 1 - options.train))
    size = sum(path.stat().st_size for path in (options.folder / "data").iterdir())
    print(
        f"written: {size / MIB:.0f} MiB in {peak.seconds:.1f} s; anonymous memory at most "
        f"{peak.most / MIB:.0f} MiB"
    )


def train(options: argparse.Namespace) -> None:
    for path in (options.folder / "data").iterdir():
        forget(path)
    with Peak() as peak:
        data = ng.data.open_dataset(options.folder / "data")
    print(f"opened in {1e3 * peak.seconds:.0f} ms: {data}")
    model = ng.nn.SAGE(options.features, 64, CLASSES, layers=len(options.fanouts), dropout=0.0, rng=0)
    optimizer = ng.optim.Adam(model.parameters(), lr=0.01)
    seeds, cache = data.train_mask, options.cache_mb * MIB
    loader = ng.NeighborLoader(
        data, options.fanouts, input_nodes=seeds, batch_size=1024, shuffle=True, cache_bytes=cache
    )
    losses, rows, before = [], 0, read_bytes()
    with Peak() as peak:
        for batch in loader:
            with ng.Tape() as tape:
                loss = ng.cross_entropy(model(batch.blocks, batch.x), batch.labels)
            optimizer.step(tape.gradient(loss, model.parameters()))
            losses.append(loss.item())
            rows += len(batch.nodes)
    print(
        f"epoch: {len(loader)} batches, {rows:,} rows, {peak.seconds:.1f} s, loss {losses[0]:.3f} → "
        f"{losses[-1]:.3f}"
    )
    print(
        f"  anonymous memory at most {peak.most / MIB:.0f} MiB; read from disk "
        f"{(read_bytes() - before) / MIB:.0f} MiB"
    )


def cold_rows(options: argparse.Namespace) -> None:
    """The same rows by NumPy from a map and by a loader's reader, alternately, the file's pages dropped
    before.
    """
    path, count = options.folder / "rows.npy", int(options.rows_gb * 2**30) // 512
    block = np.random.default_rng(0).standard_normal((1 << 15, 128), np.float32)
    file = npy.Growing(path, np.float32, (128,))
    for first in range(0, count, len(block)):
        file.append(block[: count - first])
    file.close()
    rows_of(np.load(path, mmap_mode="r"), np.arange(1000))  # compiled
    for repeat in range(3):
        ids, seconds, found = np.random.default_rng(repeat).integers(0, count, 20_000), [], []
        for read in (lambda x, ids: x[ids], rows_of):
            forget(path)
            x = np.load(path, mmap_mode="r")
            begin = time.perf_counter()
            found.append(read(x, ids))
            seconds.append(time.perf_counter() - begin)
            del x
        assert np.array_equal(*found)
        rates = [len(ids) / one for one in seconds]
        print(
            f"cold rows: map {rates[0]:,.0f} a second, loader {rates[1]:,.0f}: {rates[1] / rates[0]:.1f} "
            "times"
        )


def forget(path: Path) -> None:
    """Have the system drop a file's pages."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def read_bytes() -> int:
    return int(
        dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["read_bytes"]
    )


STEPS = {"write": write, "train": train, "rows": cold_rows}

if __name__ == "__main__":
    sys.exit(main())
