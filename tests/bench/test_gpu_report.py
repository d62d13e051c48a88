"""``make gpu-report``: stages end in time and what they wrote is kept, with stand-ins for the stages; the
real ones' commands on the double of a device, as far as that goes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest
import test_cuda_hardware
from device import HARDWARE, device, double_only
from test_device_bench import Sparse, gpu_here

from numgraph.arrays import devices
from numgraph.bench import gpupeers
from numgraph.cli import main as numgraph

__all__ = ["device", "gpu_here"]

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu_probe  # noqa: E402
import gpu_report  # noqa: E402
import stages  # noqa: E402
from stages import Clock, Stage  # noqa: E402

HERE = {"name": "Test device", "compute_capability": "9.0"}


def script(text, share=1.0, **options):
    """A stage that runs a script; RESULTS is the file for its results."""

    def command(results):
        return [sys.executable, "-c", f"RESULTS = {str(results)!r}\n{textwrap.dedent(text)}"]

    name = options.pop("name", "script")
    return Stage(name, f"The {name}", command, share, **options)


def run(stage, tmp_path, seconds=60.0):
    return stages.run(stage, Clock(seconds), tmp_path, tmp_path / "log", 0.0)


def report(tmp_path, *chosen, seconds=60.0):
    """Exit status, report.json, and the outcomes by name."""
    status = gpu_report.report(chosen, seconds, tmp_path, HERE)
    found = json.loads((tmp_path / "report.json").read_text("utf-8"))
    return status, found, {one["name"]: one for one in found["stages"]}


# One stage


@pytest.mark.parametrize(("status", "word"), [(0, "passed"), (3, "failed")])
def test_a_stage_that_ends(tmp_path, status, word):
    found = run(
        script(f"open(RESULTS, 'w').write('[1, 2]'); print('printed'); raise SystemExit({status})"), tmp_path
    )
    assert (found.status, found.exit_status, found.results, found.digest.strip(), found.why) == (
        word,
        status,
        [1, 2],
        "printed",
        "",
    )
    assert "printed" in (tmp_path / "log").read_text("utf-8")
    assert not (tmp_path / "results.json").exists(), "the next stage would find it"


HANGS = """
import os, signal, subprocess, sys
open(RESULTS, "w").write('{"kept": true}')
child = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print('child', flush=True); signal.pause()"
subprocess.Popen([sys.executable, "-c", child], stdout=open(FIFO, "w"))
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("started", flush=True)
signal.pause()
"""
"""A stage that never ends, nor does its child, which holds the write end of a named pipe; neither heeds an
interrupt.
"""


@pytest.fixture
def fifo(tmp_path):
    """Its path, and a function that reads from it until no process holds its other end."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    yield path, lambda: b"".join(iter(lambda: os.read(reader, 100), b""))
    os.close(reader)


def test_a_stage_that_hangs_is_killed_with_its_children_and_leaves_what_it_had(tmp_path, fifo):
    path, read = fifo
    found = run(script(f"FIFO = {str(path)!r}\n{HANGS}", share=0.05), tmp_path)
    assert (found.status, found.exit_status, found.results) == ("stopped", None, {"kept": True})
    assert "started" in found.digest
    assert found.limit == 3.0
    assert found.seconds < 10
    assert read() == b"child\n", "the end of the pipe: nobody writes there any more"


def test_a_stage_is_interrupted_before_it_is_killed(tmp_path):
    text = """
    import signal
    try:
        print("started", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        print("what failed until now")
    """
    found = run(script(text, share=0.05), tmp_path)
    assert found.status == "stopped"
    assert found.digest.split("\n")[:2] == ["started", "what failed until now"]
    assert found.seconds < found.limit, "the interrupt came before the limit"


def test_a_child_that_outlives_its_stage_ends_with_it(tmp_path, fifo):
    path, read = fifo
    text = f"""
    import subprocess, sys
    subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], stdout=open({str(path)!r}, "w"))
    """
    assert run(script(text), tmp_path).status == "passed"
    assert read() == b""


def test_what_is_no_command_and_what_cannot_be_read(tmp_path):
    gone = run(Stage("gone", "Gone", lambda results: [str(tmp_path / "none")], 1.0), tmp_path)
    assert (gone.status, gone.exit_status) == ("failed", 127)
    assert "No such file" in gone.digest
    absent = run(
        Stage("absent", "Absent", lambda results: None, 1.0, missing="it is not installed"), tmp_path
    )
    assert (absent.status, absent.why) == ("missing", "it is not installed")
    broken = run(script("open(RESULTS, 'w').write('{')"), tmp_path)
    assert (broken.status, broken.results) == ("passed", None)
    assert broken.why.startswith("its results cannot be read")
    odd = run(script("", digest=lambda text: 1 / 0), tmp_path)
    assert (odd.status, odd.digest) == ("passed", "")
    assert "division by zero" in odd.why


def test_sizes_are_bounded(tmp_path):
    text = """
    import sys
    sys.stdout.write("begin\\n" + "x" * 9_000_000 + "\\nend")
    open(RESULTS, "w").write("[" + "1," * 400_000 + "1]")
    """
    found = run(script(text), tmp_path)
    log = (tmp_path / "log").read_bytes()
    assert len(log) < stages.HEAD + stages.TAIL + 2_000_000 // 2
    assert log.endswith(b"end")
    assert b"begin\n" in log
    assert b"bytes left out" in log
    assert found.results is None
    assert found.why == f"its results are larger than {stages.RESULTS} bytes"
    every = len(gpu_report.planned())
    assert every * (stages.HEAD + stages.TAIL + 2 * stages.RESULTS) < 16 * 2**20


# All of them


def test_the_report_is_written_anew_after_each_stage(tmp_path):
    reading = f"""
    import json, pathlib
    print([one["name"] for one in json.loads(pathlib.Path({str(tmp_path / "report.json")!r}).read_text("utf-8"))["stages"]])
    """
    first = script("print('one')", name="first")
    status, found, stage = report(
        tmp_path,
        first,
        script(reading, name="second"),
        script("raise SystemExit(1)", name="third"),
        script("", name="last"),
    )
    assert status == 1
    assert {name: one["status"] for name, one in stage.items()} == {
        "first": "passed",
        "second": "passed",
        "third": "failed",
        "last": "passed",
    }
    assert stage["second"]["digest"].strip() == "['first']"
    assert found["device"] == HERE
    assert found["seconds"] < found["seconds_limit"] == 60
    text = (tmp_path / "report.md").read_text("utf-8")
    assert text.startswith("# Test device\n\ncompute_capability: 9.0\n")
    assert "| The third | failed |" in text
    assert "## The first\n\n```\none\n```" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.txt", "report.json", "report.md"]


def test_the_whole_ends_in_time(tmp_path):
    """Stages that hang, each of which may take all the time, and more of them than there is time for."""
    begin = time.monotonic()
    hang = partial(script, "import signal; signal.pause()")
    status, _, stage = report(
        tmp_path, hang(0.3, name="a"), hang(name="b"), hang(name="c"), seconds=gpu_report.RESERVE + 3
    )
    assert time.monotonic() - begin < gpu_report.RESERVE + 3
    assert status == 1
    assert [one["status"] for one in stage.values()] == ["stopped", "stopped", "no time"]


def test_time_that_is_not_used_is_left_to_those_after(tmp_path):
    _, _, stage = report(tmp_path, script("", 0.5, name="a"), script("", name="b"), seconds=100)
    assert stage["a"]["limit"] == 50
    assert 90 < stage["b"]["limit"] < 100


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_children_and_what_there_is_is_written(tmp_path, fifo, number):
    path, _ = fifo
    text = f"""
    import sys
    sys.path.insert(0, {str(ROOT / "benchmarks")!r})
    from pathlib import Path
    import gpu_report
    from stages import Stage
    def command(text):
        return lambda results: [sys.executable, "-c", f"RESULTS = {{str(results)!r}}\\n" + text]
    chosen = [Stage("quick", "Quick", command("print(1)"), 1.0), Stage("hangs", "Hangs", command({f"FIFO = {str(path)!r}" + HANGS!r}), 1.0)]
    sys.exit(gpu_report.report(chosen, 300.0, Path({str(tmp_path / "out")!r}), {HERE!r}))
    """
    (tmp_path / "out").mkdir()
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # it would be ignored where the tests run in the background
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(text)], stdout=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with path.open("rb") as child:
        assert child.readline() == b"child\n"
        process.send_signal(number)
        assert child.read() == b"", "nobody writes there any more"
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "report.md" in printed
    found = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert [one["name"] for one in found["stages"]] == ["quick"]
    assert found["ended"] == f"signal {number} during the stage after quick"
    assert "signal" in (tmp_path / "out" / "report.md").read_text("utf-8")


# Without a GPU


@pytest.mark.skipif(devices.problem() is None, reason="there is a GPU")
def test_without_a_gpu_it_says_so_at_once(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu_report.py"), "--out", str(tmp_path / "new" / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "nothing was measured" in done.stderr
    assert (
        "NVIDIA"
        in json.loads((tmp_path / "new" / "out" / "report.json").read_text("utf-8"))["device"]["problem"]
    )
    assert "# no GPU" in (tmp_path / "new" / "out" / "report.md").read_text("utf-8")


def test_the_parent_needs_the_standard_library_alone():
    text = f"""
    import sys
    sys.path.insert(0, {str(ROOT / "benchmarks")!r})
    import gpu_report, gpu_probe
    print(sorted({{name.partition(".")[0] for name in sys.modules}} - sys.stdlib_module_names - {{"gpu_report", "gpu_probe", "stages"}}))
    """
    done = subprocess.run(
        [sys.executable, "-S", "-c", textwrap.dedent(text)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['__main__']"


class Driver:
    """libcuda's functions, as ctypes calls them."""

    def __init__(self, devices=1, status=0):
        self.devices, self.status = devices, status

    def cuInit(self, flags):
        return self.status

    def cuDeviceGetCount(self, count):
        count._obj.value = self.devices
        return 0

    def cuDeviceGet(self, device, number):
        device._obj.value = number

    def cuDeviceGetName(self, name, length, device):
        name.value = b"Test device"

    def cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = {75: 9, 76: 0}[attribute]

    def cuDeviceTotalMem_v2(self, total, device):
        total._obj.value = 2**36

    def cuDriverGetVersion(self, number):
        number._obj.value = 13010


def test_what_the_driver_says():
    assert gpu_probe.driver(lambda name: Driver()) == {
        "name": "Test device",
        "compute_capability": "9.0",
        "memory_bytes": 2**36,
        "cuda_driver": "13.1",
        "devices": 1,
    }
    assert "finds no device" in gpu_probe.driver(lambda name: Driver(devices=0))["problem"]
    assert "cuInit says 100" in gpu_probe.driver(lambda name: Driver(status=100))["problem"]


# The stages themselves


def command(name, tmp_path):
    stage = next(stage for stage in gpu_report.planned() if stage.name == name)
    return [str(part) for part in stage.command(tmp_path / "results.json")]


def test_facts(tmp_path):
    """They are asked for on any machine; here each that needs a device says so."""
    found = run(next(stage for stage in gpu_report.planned() if stage.name == "facts"), tmp_path, 600)
    assert found.status == "passed", found.digest
    assert found.results["packages"]["numpy"]
    assert {"driver", "nvidia_smi", "cupy", "numba_cuda", "torch"} <= set(found.results)
    if not HARDWARE:
        assert "problem" in found.results["cupy"]


@pytest.mark.parametrize(
    ("results", "said", "folder"),
    [
        ({"numba_cuda": {"works": True}}, "", False),
        (
            {"numba_cuda": {"problem": "no row_stack"}, "with_row_stack": {"works": True}},
            "then it does.",
            True,
        ),
        (
            {"numba_cuda": {"problem": "no row_stack"}, "with_row_stack": {"works": True}},
            "by itself (no row_stack). In this",
            True,
        ),
        (
            {"numba_cuda": {"problem": "none"}, "with_row_stack": {"problem": "no compiler"}},
            "then it does not (no compiler).",
            True,
        ),
        ({}, "is not known", True),
        (None, "is not known", True),
    ],
)
def test_numba_cuda_with_a_numpy_that_it_cannot_be_imported_with(results, said, folder):
    facts = {}
    names = gpu_report._numpy_names(results, facts)
    assert said in facts.get("numba_cuda", "")
    path = gpu_report._environment({}, names)["PYTHONPATH"].split(os.pathsep)
    assert (str(ROOT / "benchmarks" / "numpy_names") in path) == folder
    assert str(ROOT) in path


def test_the_name_that_numpy_lacks_is_there_where_the_folder_is_on_the_path():
    text = "import numpy; print(numpy.row_stack is numpy.vstack or hasattr(numpy, 'row_stack'))"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "benchmarks" / "numpy_names"), "PYTHONWARNINGS": "ignore"}
    assert (
        subprocess.run(
            [sys.executable, "-c", text], env=env, capture_output=True, text=True, check=True
        ).stdout
        == "True\n"
    )


@pytest.mark.parametrize("name", ["tests", "more-tests"])
def test_the_files_of_tests_are_there(name, tmp_path):
    files = [part for part in command(name, tmp_path) if part.startswith("tests/")]
    assert files
    assert all((ROOT / file).is_file() for file in files)


@pytest.mark.parametrize("name", ["tests", "more-tests"])
def test_what_is_left_out_is_the_name_of_a_test_that_is_there(name, tmp_path):
    """An expression without ``not``, or with a name that no test has, would choose no test or all."""
    made = command(name, tmp_path)
    files = [ROOT / part for part in made if part.startswith("tests/")]
    word, left_out = made[made.index("-k") + 1].split()
    assert word == "not"
    assert any(
        re.search(rf"^def test_\w*{left_out}", file.read_text("utf-8"), re.MULTILINE) for file in files
    )


def test_every_file_that_the_device_runs_is_among_the_stages():
    assert gpu_report.HOST_TESTS == test_cuda_hardware.FILES
    assert {gpu_report._OF_KERNELS} == set(test_cuda_hardware.CPU_ALONE.values())
    of_a_device = {
        str(path.relative_to(ROOT / "tests")) for path in (ROOT / "tests").rglob("test_device_*.py")
    }
    of_its_doubles = {"cuda/test_device_simulator.py", "bench/test_device_bench.py"}
    assert of_a_device - of_its_doubles <= set(gpu_report.DEVICE_TESTS)


@double_only
@pytest.mark.parametrize("name", ["kernels", "kernels-wide", "host"])
def test_the_measurements_on_the_double(name, tmp_path, gpu_here, monkeypatch, capsys):
    """The very commands, but for a small graph: everything around CuPy's, torch's and PyG's own functions."""
    monkeypatch.setattr("numgraph.bench.run.DEVICE_PEERS", gpupeers.DEVICE_PEERS | {"cusparse": Sparse})
    python, dash, module, *arguments = command(name, tmp_path)
    assert (python, dash, module) == (sys.executable, "-m", "numgraph")
    small = ["--nodes-log2", "5", "--edges", "120", "--features", "8,16", "--repeats", "1", "--seconds", "0"]
    monkeypatch.setattr("numgraph.bench.gpu.copy_bandwidth", lambda size: 1e12)
    assert numgraph([*arguments, *small]) == 0
    found = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert found["complete"]
    assert {one["row"] for one in found["kernels"]} == set(gpu_report.ROWS.split(","))
    assert {one["features"] for one in found["kernels"]} == {8, 16}
    beside = {peer for one in found["kernels"] for peer in one["peers"]}
    assert (
        beside
        == {"kernels": {"cusparse", "atomic"}, "kernels-wide": {"cusparse", "atomic"}, "host": {"cpu"}}[name]
    )
    assert "relu_sub_mul" in capsys.readouterr().out


@double_only
def test_the_sanitizers_walks_on_the_double(device):
    device.cuda.set_allocator = lambda allocator: None
    worst = gpu_probe.walks()["largest differences"]
    assert set(worst.values()) == {0.0}, "the double's kernels are the host's"
    assert {"max, gradient of x, F = 33", "attention, F = 64", "edges, F = 33", "atomic sum, F = 64"} <= set(
        worst
    )


def test_where_the_sanitizer_is_looked_for(tmp_path, monkeypatch):
    tool = tmp_path / "cuda" / "compute-sanitizer" / "compute-sanitizer"
    tool.parent.mkdir(parents=True)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    if gpu_report.sanitizer() is None:
        assert gpu_report._sanitizer("memcheck", tmp_path) is None
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert gpu_report.sanitizer() == str(tool)
    assert command("racecheck", tmp_path)[:3] == [str(tool), "--tool", "racecheck"]


ALONE = """
tests/test_a.py::test_one[a b] PASSED                                    [  5%]
tests/test_a.py::test_two FAILED                                         [ 10%]
tests/test_a.py::test_three SKIPPED (no GPU: none here)                  [ 15%]
tests/test_a.py::test_four PASSED                                        [100%]
"""
"""pytest -v in one process."""


def test_a_tally_of_tests(tmp_path):
    """Counted line by line, so that a run that was stopped has one as well."""
    pytest.importorskip("xdist", reason="pytest-xdist runs tests side by side")
    file = tmp_path / "test_three.py"
    file.write_text(
        "import pytest\ndef test_a(): pass\ndef test_b(): assert 0\n@pytest.mark.skip\ndef test_c(): pass\n"
    )
    asked = command("tests", tmp_path)
    options = asked[1 : asked.index("tests/cuda/test_cuda_hardware.py")]
    done = subprocess.run(
        [sys.executable, *options, "-n1", "-ra", str(file)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    first, *rest = gpu_report.tally(done.stdout).splitlines()
    assert first == "1 failed, 1 passed, 1 skipped"
    assert any(line.startswith("FAILED") and "test_b" in line for line in rest)
    stopped, _, _ = done.stdout.partition("= FAILURES =")
    assert gpu_report.tally(stopped).splitlines()[:2] == [first, "FAILED test_three.py::test_b "]
    assert gpu_report.tally(ALONE).startswith(
        "1 failed, 2 passed, 1 skipped\nFAILED tests/test_a.py::test_two\n"
    )
    assert gpu_report.tally("").startswith("no test ended")


def test_the_options(tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu_report.main(["--minutes", "0"])
    assert "--minutes 0: must be above 0" in capsys.readouterr().err
    asked = []
    assert (
        gpu_report.main(
            ["--out", str(tmp_path), "--minutes", "1"],
            lambda seconds: asked.append(seconds) or {"problem": "none"},
        )
        == 2
    )
    assert asked == [30]
