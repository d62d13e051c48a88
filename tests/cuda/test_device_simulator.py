"""Layers, attention and their gradients on the device's arrays (device.py) with the device's own kernels, in
Numba's simulator.

The simulator is a setting of the process, so they run in one of their own.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None,
    reason="numba-cuda is not installed (pip install 'numgraph[dev]')",
)

CHOSEN = "(test_layers and odd) or test_attention or test_edge_softmax or test_segments"


def test_layers_in_the_simulator():
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
    env = {
        **os.environ,
        "NUMBA_ENABLE_CUDASIM": "1",
        "PYTHONPATH": path,
        "NUMGRAPH_TEST_SAMPLE": "1",
    }  # CHOSEN is the sample
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-q",
        str(here / "test_device_layers.py"),
        "-k",
        CHOSEN,
    ]
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) >= 28
    assert "skipped" not in run.stdout
