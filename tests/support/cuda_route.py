"""A pytest plugin (-p cuda_route): every walk of a host graph runs on the CUDA target: hardware, Numba's
simulator, or ptx.py's machine.

A walk's arrays are copied to the device and its results back, so tests that know nothing of devices test the
kernels there. Rows of more than 12 edges are cut into chunks of 6. In the simulator the device's arrays are
those of device.py, on memory of the host."""

from __future__ import annotations

import sys

import checks
import device
import driver
import numpy as np
import pytest
import scripts

from numgraph.arrays import cupy as cupy_arrays
from numgraph.arrays import devices
from numgraph.arrays.lookup import CUPY
from numgraph.compiler import cuda
from numgraph.compiler.cpu import running as cpu
from numgraph.compiler.cuda import compiling, launching, tasks
from numgraph.message import propagate


def on_device(graph, outputs, fields, out=None):
    """cpu.execute, by the CUDA target."""
    assert out is None
    moved = {key: devices.moved(np.asarray(array), "cuda") for key, array in fields.items()}
    return [devices.moved(array, "cpu") for array in cuda.execute(graph.to("cuda"), tuple(outputs), moved)]


if launching.simulating():
    sys.setswitchinterval(
        1e-5
    )  # the simulator's manager polls its threads in a loop, and each would wait 5 ms for its turn
elif not device.HARDWARE:
    compiling.linked = lambda ptx, capability: (ptx.encode(), "")  # code for the machine is the PTX itself
if not device.HARDWARE:
    device.execute = (
        cuda.execute
    )  # tests of device arrays get the CUDA target, in place of the host's kernels


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """One in SHARE of every test's parameters, and one at least: which, their names decide."""
    if not device.HARDWARE:
        chosen = scripts.sampled(items, scripts.SHARE)
        items[:] = [item for item in items if item in chosen]


def by_the_host(differences, host):
    """Central differences of what the host computes: hundreds of walks for a gradient, which is what the
    device is asked for.
    """

    def computed(*args):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(propagate, "execute", host[0])
            patch.setattr(cpu, "execute", host[1])
            return differences(*args)

    return computed


@pytest.fixture(autouse=True)
def route(request, monkeypatch):
    if request.path.name.startswith("test_device"):
        return
    if not device.HARDWARE:
        made = device.library()
        monkeypatch.setattr(cupy_arrays, "module", lambda: made)
        monkeypatch.setattr(CUPY, "kinds", {device.DeviceArray})
        monkeypatch.setattr(devices, "_problem", lambda: None)
        monkeypatch.setattr(
            checks, "differences", by_the_host(checks.differences, (propagate.execute, cpu.execute))
        )
    monkeypatch.setattr(propagate, "execute", on_device)
    monkeypatch.setattr(cpu, "execute", on_device)
    monkeypatch.setattr(tasks, "CHUNK", 6)


def pytest_terminal_summary(terminalreporter):
    if not (device.HARDWARE or launching.simulating()):
        terminalreporter.write_line(f"{driver.launched} kernels ran on the machine")
