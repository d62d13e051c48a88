"""Graphs that processes share give one process's results and gradients: program.py under a real mpiexec with 1, 2, 3 and 4 ranks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mpi4py", reason="mpi4py is not installed")
pytest.importorskip("pymetis", reason="pymetis is not installed")
HERE = Path(__file__).parent


def mpiexec() -> str:
    """The program that starts ranks, of this environment or of the machine."""
    found = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip("there is no mpiexec: pip install mpich")
    return found


def run(ranks, *arguments, seconds=300, **environment):
    """The finished process of ``mpiexec -n ranks python -m mpi4py arguments``."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **environment}
    command = [mpiexec(), "-n", str(ranks), sys.executable, "-m", "mpi4py", *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=seconds)


@pytest.fixture(scope="module", autouse=True)
def starts():
    """Skips the file where no rank can be started."""
    tried = run(2, "-c", "from mpi4py import MPI; print(MPI.COMM_WORLD.size)", seconds=60)
    if tried.returncode or "".join(tried.stdout.split()) != "22":
        pytest.skip(f"mpiexec starts no two ranks here: {(tried.stderr or tried.stdout)[-300:]}")


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_ranks_give_one_process_results_and_gradients(ranks):
    """Of two orders, for models, layers and a message, whatever the partition; the bytes sent are the formula's."""
    done = run(ranks, HERE / "program.py", *(["layers"] if ranks == 3 else []))
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert len(report) > 150
    assert {name: pair for name, pair in report.items() if not pair[0] <= pair[1]} == {}
