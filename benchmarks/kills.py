"""Kill a rank of a training at a random moment, again and again:
``python benchmarks/kills.py FOLDER --kills 20``.

Every time all ranks must end within 30 seconds, the checkpoint, if there is one, must be whole, and the same
command, given again, must end with the loss and the accuracy of a training that nobody disturbed. Stops at
the first time that this is not so. Linux alone."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ENDS_WITHIN = 30
ENVIRONMENT = {**os.environ, "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def command(options: argparse.Namespace, point: Path) -> list[str]:
    """A training with dropout that writes a checkpoint after every epoch."""
    train = ["train", "--dataset", "digits", "--epochs", str(options.epochs), "--json", "--quiet"]
    start = ["mpiexec", "-n", str(options.ranks), sys.executable, "-m", "mpi4py", "-m", "numgraph"]
    return [*start, *train, "--checkpoint", str(point), "--checkpoint-every", "1"]


def finished(options: argparse.Namespace, point: Path) -> Any:
    """What a training prints that nobody disturbs."""
    made = subprocess.run(
        command(options, point), env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(made.stdout.splitlines()[-1])


def ranks_of(pid: int) -> list[int]:
    """The ranks among the processes that one has started, and that these have."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents.setdefault(
                    int((folder / "stat").read_text().rpartition(")")[2].split()[1]), []
                ).append(int(folder.name))
            except OSError:
                continue
    found = list(parents.get(pid, []))
    for child in found:  # which grows meanwhile
        found += parents.get(child, [])
    return [one for one in found if is_rank(one)]


def is_rank(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"-m\0mpi4py" in words and b"mpiexec" not in words


def kill_one(options: argparse.Namespace, point: Path, after: float, rng: random.Random) -> dict[str, Any]:
    """Start, wait, kill: how long the others took to end, and the epochs of the checkpoint."""
    with subprocess.Popen(
        command(options, point), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after)
        ranks = ranks_of(process.pid) if process.poll() is None else []
        if ranks:
            os.kill(rng.choice(ranks), signal.SIGKILL)
        start = time.perf_counter()
        try:
            process.communicate(timeout=ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        seconds = time.perf_counter() - start
        while alive := [pid for pid in ranks if is_rank(pid)]:
            if time.perf_counter() - start > ENDS_WITHIN:
                raise RuntimeError(f"ranks {alive} are there {ENDS_WITHIN} s after the kill")
            time.sleep(0.05)
    epochs = None
    if point.exists():
        with np.load(point, allow_pickle=False) as arrays:
            whole = {
                name: arrays[name] for name in arrays.files
            }  # zip compares every array with its checksum
        epochs = len(json.loads(whole["standing"].tobytes())["history"]["train_loss"])
    return {
        "killed_after_s": round(after, 2),
        "ranks_there": len(ranks),
        "status": process.returncode,
        "ended_in_s": round(seconds, 2),
        "epochs": epochs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for checkpoints; what is made there is deleted")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where to write JSON of all")
    options = parser.parse_args()
    folder, rng = options.folder / f"kills-{os.getpid()}", random.Random(options.seed)
    folder.mkdir(parents=True)
    report: list[dict[str, Any]] = []
    try:
        finished(options, folder / "warm.npz")  # kernels are compiled
        start = time.perf_counter()
        wanted = finished(options, folder / "whole.npz")
        lasts = time.perf_counter() - start
        print(
            f"undisturbed: {lasts:.1f} s, accuracy {wanted['test_accuracy']:.4f}, loss "
            f"{wanted['test_loss']:.6f}",
            flush=True,
        )
        for i in range(options.kills):
            killed: dict[str, Any] = {"ranks_there": 0}
            while not killed["ranks_there"]:  # it had not started, or had ended: another moment
                point = folder / f"{i}.npz"
                point.unlink(missing_ok=True)
                killed = kill_one(options, point, rng.uniform(0, lasts), rng)
            found = finished(options, point)
            same = (
                found["test_accuracy"] == wanted["test_accuracy"]
                and abs(found["test_loss"] - wanted["test_loss"]) < 1e-5
            )
            report.append(
                {
                    "kill": i,
                    **killed,
                    "accuracy": found["test_accuracy"],
                    "loss": found["test_loss"],
                    "same": same,
                }
            )
            print(json.dumps(report[-1]), flush=True)
            if not same:
                raise SystemExit(
                    f"kill {i}: the resumed training ended with {found['test_accuracy']}, "
                    f"{found['test_loss']}"
                )
        if options.out:
            whole = {name: wanted[name] for name in ("test_accuracy", "test_loss", "processes", "epochs_run")}
            lines = ",\n  ".join(json.dumps(one) for one in report)
            options.out.write_text(f'{{"undisturbed": {json.dumps(whole)},\n "kills": [\n  {lines}]}}\n')
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
