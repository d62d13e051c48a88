"""``numgraph bench``, ``train`` and ``info`` with a device: what is measured and written, on
support/device.py's; and without one.
"""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
from device import DeviceArray, asarray, device, double_only

from numgraph.arrays import devices
from numgraph.bench import Request, bench, gpu, gpupeers
from numgraph.bench.comparison import _features, _sizes
from numgraph.bench.kernels import ROWS
from numgraph.bench.report import side_by_side, summary
from numgraph.cli import main
from numgraph.compiler import cuda

__all__ = ["device"]

pytestmark = double_only

TINY = {"nodes_log2": 5, "edges": 120, "repeats": 1, "seconds": 0.0, "bandwidth_bytes": 1 << 16}
PROPERTIES = {
    "name": b"Test device",
    "major": 9,
    "minor": 0,
    "multiProcessorCount": 132,
    "totalGlobalMem": 2**37,
    "l2CacheSize": 50 * 2**20,
}


class Event:
    """A moment on the only clock that there is here."""

    def record(self):
        self.at = time.perf_counter()

    def synchronize(self):
        assert self.at


class Pool:
    bytes = 0

    def free_all_blocks(self):
        Pool.bytes = 0

    def total_bytes(self):
        Pool.bytes += 1000
        return Pool.bytes


@pytest.fixture
def gpu_here(device, monkeypatch):
    """The device with what the benchmark asks CuPy for beside arrays."""
    device.cuda.Event = Event
    device.cuda.get_elapsed_time = lambda start, end: 1e3 * (end.at - start.at)
    runtime = device.cuda.runtime
    runtime.getDevice, runtime.getDeviceProperties = lambda: 0, lambda number: PROPERTIES
    runtime.driverGetVersion, runtime.runtimeGetVersion = lambda: 13010, lambda: 12090
    device.get_default_memory_pool = Pool
    device.empty_like = lambda x: DeviceArray(np.empty_like(x._host))
    device.copyto = lambda target, source: np.copyto(target._host, source._host)
    device.asfortranarray = lambda x: DeviceArray(np.asfortranarray(x._host))
    monkeypatch.setattr(gpu, "product_rate", lambda: 1e12)
    return device


class Sparse(gpupeers.CuSparse):
    """A peer on the device without cuSPARSE: a SciPy matrix."""

    def __init__(self):
        from scipy.sparse import csr_matrix

        self.cupy = SimpleNamespace(asarray=lambda x: x, asfortranarray=asarray, __version__="0")
        self.csr_matrix = csr_matrix

    def product(self, matrix, x):
        return DeviceArray(matrix @ x._host)


def test_both_sets_the_host_beside_the_device(gpu_here, monkeypatch):
    monkeypatch.setattr(gpupeers, "DEVICE_PEERS", {"cusparse": Sparse})
    monkeypatch.setattr("numgraph.bench.run.DEVICE_PEERS", {"cusparse": Sparse})
    lines = []
    results = bench(Request(suites=("kernels",), device="both", features=(8,), **TINY), lines.append)
    assert [(one["row"], one["pass"]) for one in results["kernels"]] == [
        (name, kind) for name in ROWS for kind in ("forward", "both")
    ]
    for one in results["kernels"]:
        assert one["peers"]["cpu"]["difference"] == 0, "the double's kernels are the host's"
        assert one["memory_bytes"] == 1000
        assert (one["nodes"], one["edges"]) == (32, 120)
        assert ("cusparse" in one["peers"]) == (
            one["row"] == "copy_u_sum" or (one["row"], one["pass"]) == ("u_mul_e_sum", "forward")
        )
    assert results["machine"]["device"]["name"] == "Test device"
    assert results["peers"] == {"cusparse": "of CuPy 0", "cpu": results["machine"]["versions"]["numgraph"]}
    assert any(
        "Test device, 132 multiprocessors, sm_90, 128 GiB, L2 50 MiB, CUDA 12.9, driver for 13.1" in line
        for line in lines
    )
    assert any("copy on the device" in line for line in lines)
    table = side_by_side(results).splitlines()
    assert lines[-1].strip().splitlines() == table
    assert len(table) == 1 + len(results["kernels"])
    assert table[1].split()[:4] == ["copy_u_sum", "8", "fwd", "120"]
    assert table[1].endswith("0.0e+00")
    json.dumps(results)


def test_atomic_additions_beside_the_fixed_order(gpu_here, monkeypatch):
    """The peer ``atomic`` is numgraph on the device within devices.atomics(): what it computes, and nothing
    else.
    """
    asked, execute = [], cuda.execute
    monkeypatch.setattr(cuda, "execute", lambda *args: asked.append(devices.ATOMICS.get()) or execute(*args))
    monkeypatch.setattr("numgraph.bench.run.DEVICE_PEERS", {"atomic": gpupeers.Atomic})
    rows = ("copy_u_sum", "u_mul_e_sum", "u_dot_v")
    results = bench(
        Request(suites=("kernels",), rows=rows, device="cuda", features=(8,), **TINY), lambda line: None
    )
    assert [set(one["peers"]) for one in results["kernels"]] == [{"atomic"}] * 4 + [set()] * 2
    assert {one["peers"]["atomic"]["difference"] for one in results["kernels"][:4]} == {0}, (
        "the double's kernels are the host's"
    )
    assert set(asked) == {True, False}


def test_epochs_on_the_device(gpu_here):
    results = bench(
        Request(suites=("epochs",), rows=("rmat_gcn", "rmat_gat"), peers=(), device="both", **TINY),
        lambda line: None,
    )
    assert [one["row"] for one in results["epochs"]] == ["rmat_gcn", "rmat_gat"]
    for one in results["epochs"]:
        assert one["losses"][0] > one["losses"][-1] > 0
        assert one["peers"]["cpu"]["formulation"] == "numgraph"
        assert one["peers"]["cpu"]["difference"] < 1e-5
    assert "rmat_gat" in side_by_side(results)


def test_a_peer_without_memory_is_left_out(gpu_here, monkeypatch):
    class OutOfMemoryError(Exception):
        pass

    class Hungry(Sparse):
        def runs(self, *args):
            raise OutOfMemoryError

    monkeypatch.setattr("numgraph.bench.run.DEVICE_PEERS", {"cusparse": Hungry})
    results = bench(
        Request(suites=("kernels",), rows=("copy_u_sum",), device="cuda", features=(8,), **TINY),
        lambda line: None,
    )
    assert results["notes"][-1] == "copy_u_sum, F = 8: cusparse is left out: the device has not enough memory"
    assert [one["peers"] for one in results["kernels"]] == [{}, {}]
    assert results["errors"] == []

    def full(*args):
        raise OutOfMemoryError

    monkeypatch.setattr("numgraph.bench.comparison.numgraph_runs", full)
    results = bench(
        Request(suites=("kernels",), rows=("copy_u_sum",), device="cuda", features=(8,), peers=(), **TINY),
        lambda line: None,
    )
    assert results["notes"][-1] == "copy_u_sum, F = 8 is left out: the device has not enough memory"
    assert results["kernels"] == []
    monkeypatch.setattr("numgraph.bench.comparison.numgraph_runs", lambda *args: 1 / 0)
    lines = []
    rows = ("copy_u_sum", "rmat_gcn")
    results = bench(Request(rows=rows, device="cuda", features=(8,), peers=(), **TINY), lines.append)
    assert results["errors"] == ["copy_u_sum, F = 8 is left out: ZeroDivisionError: division by zero"]
    assert any("Traceback" in line and "ZeroDivisionError" in line for line in lines)
    assert [one["row"] for one in results["epochs"]] == ["rmat_gcn"], "what else is there is measured"


def test_a_peer_that_fails_is_an_error_and_the_others_are_measured(gpu_here, monkeypatch):
    class Fails(Sparse):
        def prepare(self, g):
            raise RuntimeError("no graphs")

    class Breaks(Sparse):
        def runs(self, *args):
            raise RuntimeError("no products")

    class Unimportable(Sparse):
        def __init__(self):
            raise AttributeError("module has no attribute")

    monkeypatch.setattr(
        "numgraph.bench.run.DEVICE_PEERS", {"fails": Fails, "breaks": Breaks, "unimportable": Unimportable}
    )
    results = bench(
        Request(suites=("kernels",), rows=("copy_u_sum",), device="both", features=(8,), **TINY),
        lambda line: None,
    )
    assert results["errors"] == [
        "R-MAT, 120 edges: fails is left out: RuntimeError: no graphs",
        "copy_u_sum, F = 8: breaks is left out: RuntimeError: no products",
    ]
    assert list(results["left_out"]) == ["unimportable"]
    assert [list(one["peers"]) for one in results["kernels"]] == [["cpu"], ["cpu"]]


def test_sizes_widths_and_goals_of_a_device():
    def session(device, **asked):
        request = Request(**asked)
        goal = (request.nodes_log2, request.edges) == (17, 2_000_000)
        return SimpleNamespace(device=device, request=request, at_goal_size=lambda: goal)

    assert _sizes(session("cuda")) == ((17, 2_000_000), (20, 16_000_000))
    assert _sizes(session("cpu")) == ((17, 2_000_000),)
    assert _sizes(session("cuda", nodes_log2=10, edges=5000)) == ((10, 5000),)
    assert _features(ROWS["copy_u_sum"], None, "cuda") == (32, 64, 128, 256)
    assert _features(ROWS["gat"], None, "cuda") == (32, 64, 128, 256)
    assert _features(ROWS["copy_e_sum"], None, "cuda") == (64,)
    assert _features(ROWS["edge_softmax"], None, "cuda") == (8,)
    assert _features(ROWS["u_mul_e_sum"], (16,), "cuda") == (16,)
    assert ROWS["gat"].goal("pyg", "both", 64, "cuda") == 5
    assert ROWS["gat"].goal("pyg", "both", 64) is None
    assert ROWS["copy_u_sum"].goal("cusparse", "forward", 32, "cuda") == 1
    assert ROWS["copy_u_sum"].goal("dgl", "forward", 64, "cuda") is None
    judged = {"row": "gat", "features": 64, "pass": "both", "edges": 16_000_000, "memory_bytes": 0}
    results = {"kernels": [{**judged, "peers": {"pyg": {"ratio": 2.0, "goal": 5, "met": False}}}]}
    assert "gat F=64 fwd+bwd 16,000,000 edges: 2.00 × pyg, goal 5" in summary(results)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "gpu"}, "unknown device 'gpu'; choose from 'cpu', 'cuda', 'both'"),
        (
            {"suites": ("scaling",), "device": "cuda"},
            "the suite 'scaling' is measured on the host; on a device choose from kernels, epochs",
        ),
        (
            {"peers": ("dgl",), "device": "cuda"},
            "unknown peer 'dgl'; choose from 'cusparse', 'torch', 'scatter', 'pyg', 'atomic'",
        ),
    ],
)
def test_what_a_device_does_not_have(gpu_here, change, message):
    with pytest.raises(ValueError, match=message):
        bench(Request(**{**TINY, **change}), lambda line: None)


def test_peers_of_the_device_say_what_they_need(gpu_here, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cupyx", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    lines = []
    results = bench(
        Request(suites=("kernels",), rows=("u_dot_v",), device="cuda", features=(8,), **TINY), lines.append
    )
    assert set(results["left_out"]) == {"cusparse", "torch", "scatter", "pyg"}
    assert any("left out: torch:" in line and "a build for CUDA" in line for line in lines)


def test_pictures_of_a_device(gpu_here, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib draws the pictures")
    command = (
        "bench --device both --suite kernels --rows copy_u_sum,gat --features 8 --nodes-log2 4 --edges 40 "
        "--repeats 1 --seconds 0"
    )
    target = tmp_path / "results.json"
    assert main([*command.split(), "--peers", "none", "--json", str(target), "--plot", str(tmp_path)]) == 0
    assert "largest difference" in capsys.readouterr().out
    assert json.loads(target.read_text("utf-8"))["request"]["device"] == "both"
    for name in ("ratios", "roofline"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


# Without a device


@pytest.fixture
def no_gpu(monkeypatch):
    problem = "no usable NVIDIA driver: cudaErrorInsufficientDriver", "nvidia-smi must list a device", False
    monkeypatch.setattr(devices, "_problem", lambda: problem)


@pytest.mark.parametrize(
    "command", ["bench --device cuda", "bench --device both", "train --device cuda --quiet"]
)
def test_without_a_device_the_command_line_says_so(no_gpu, capsys, command):
    assert main(command.split()) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"numgraph {command.split()[0]}: error: ")
    assert (
        "'cuda' cannot be used, no usable NVIDIA driver: cudaErrorInsufficientDriver; nvidia-smi must list a "
        "device" in err
    )


def test_info_lists_devices_or_says_why_there_are_none(gpu_here, no_gpu, capsys, monkeypatch):
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["devices"]["cuda"] == {
        "devices": [],
        "problem": "no usable NVIDIA driver: cudaErrorInsufficientDriver (nvidia-smi must list a device)",
    }
    assert main(["info"]) == 0
    assert "cuda:          no device: no usable NVIDIA driver" in capsys.readouterr().out
    monkeypatch.setattr(devices, "_problem", lambda: None)
    assert main(["info"]) == 0
    assert "cuda:          Test device" in capsys.readouterr().out


def test_train_on_the_device(gpu_here, tmp_path, capsys):
    command = "train --dataset karate --device cuda --epochs 5 --dropout 0 --seed 3 --json --quiet --save"
    assert main([*command.split(), str(tmp_path / "there.npz")]) == 0
    there = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert main([*command.replace("cuda", "cpu").split(), str(tmp_path / "here.npz")]) == 0
    here = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (there["device"], here["device"]) == ("cuda", "cpu")
    assert there["test_accuracy"] == here["test_accuracy"]
    assert there["test_loss"] == pytest.approx(here["test_loss"], rel=1e-5)
    with np.load(tmp_path / "there.npz") as a, np.load(tmp_path / "here.npz") as b:
        for name in b.files:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-3, atol=1e-5)
