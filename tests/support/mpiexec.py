"""Starting ranks: the programs of the tests under a real mpiexec."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def mpiexec() -> str:
    """The program that starts ranks, of this environment or of the machine."""
    found = shutil.which(
        "mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    )
    if found is None:
        pytest.skip("there is no mpiexec: pip install mpich")
    return found


def started(ranks, *arguments, **environment):
    """A running ``mpiexec -n ranks python -m mpi4py arguments``, in a group of its own."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "NUMBA_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    command = [mpiexec(), "-n", str(ranks), sys.executable, "-m", "mpi4py", *map(str, arguments)]
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def run(ranks, *arguments, seconds=300, **environment):
    """The same when it has finished: (exit status, stdout, stderr)."""
    with started(ranks, *arguments, **environment) as process:
        try:
            out, error = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, out, error


@pytest.fixture(scope="module")
def starts():
    """Skips where no rank can be started."""
    for name in ("mpi4py", "pymetis"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    status, out, error = run(2, "-c", "from mpi4py import MPI; print(MPI.COMM_WORLD.size)", seconds=60)
    if status or "".join(out.split()) != "22":
        pytest.skip(f"mpiexec starts no two ranks here: {(error or out)[-300:]}")


def descendants(pid):
    """Processes that a process has started, and that these have, by Linux's /proc."""
    parents = {}
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
    return found


def is_rank(pid):
    try:
        return (
            b"-m\0mpi4py" in Path(f"/proc/{pid}/cmdline").read_bytes()
            and b"mpiexec" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
    except OSError:
        return False
