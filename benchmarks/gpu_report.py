"""What an NVIDIA GPU has to show, in one command that ends in time: ``make gpu-report MINUTES=9 OUT=DIR``.

The most is learnt first: what is here, the tests of hardware, times beside cuSPARSE, torch and PyG, the host
beside the device, the sanitizer, then all other tests. DIR gets report.md to read, report.json with every
number, and log.txt; the first two are written anew after each stage, so what was learnt stays, whatever
happens then. Installs nothing and works offline; packages that are missing are named."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import stages
from stages import ROOT, Clock, Outcome, Stage

PROBE = ROOT / "benchmarks" / "gpu_probe.py"
PYTHON = sys.executable
RESERVE = 3.0
"""Seconds of the whole that are kept for the end."""

DEVICE_TESTS = (
    "cuda/test_cuda_hardware.py",
    "cuda/test_device_layers.py",
    "cuda/test_device_options.py",
    "cuda/test_device_dense.py",
    "cuda/test_device_relations.py",
    "project/test_docs.py",
)
HOST_TESTS = (
    *(
        "compiler/test_kernels.py",
        "compiler/test_half.py",
        "compiler/test_kernel_inputs.py",
        "message/test_messages.py",
        "ops/test_ops.py",
        "message/test_policies.py",
    ),
    "support/atomic_walks.py",
)
"""Files of the host whose every walk runs on the device, by the plugin tests/support/cuda_route.py."""

ROWS = "copy_u_sum,u_mul_e_sum,gat,relu_sub_mul"
LARGE = ("--nodes-log2", "20", "--edges", "16000000", "--peers", "cusparse,torch,pyg,atomic")
TOOLS = {"memcheck": 0.1, "initcheck": 0.05, "synccheck": 0.04, "racecheck": 0.04}
"""Tools of compute-sanitizer, and their shares of the time."""


# Stages


def planned() -> list[Stage]:
    """Everything, in order, with the share of the time that each may take. What ends early leaves its time to
    those after it.
    """
    return [
        Stage("facts", "The device and what is installed", partial(_probe, "facts"), 0.1),
        _tested("tests", "Tests on the device", 0.28, DEVICE_TESTS, "not the_host_on_the_device"),
        _timed(
            "kernels",
            "Kernels beside cuSPARSE, torch and PyG, 2 million edges",
            0.15,
            "cuda",
            "--features",
            "64,128",
        ),
        _timed("kernels-large", "The same, 16 million edges", 0.2, "cuda", "--features", "64", *LARGE),
        _timed("host", "The host beside the device", 0.1, "both", "--features", "64", "--peers", "none"),
        *(
            Stage(
                tool,
                f"compute-sanitizer {tool}",
                partial(_sanitizer, tool),
                share,
                missing="compute-sanitizer is not found",
            )
            for tool, share in TOOLS.items()
        ),
        _timed("kernels-wide", "16 million edges, 128 features", 0.2, "cuda", "--features", "128", *LARGE),
        _tested(
            "more-tests",
            "The host's tests of kernels on the device",
            1.0,
            HOST_TESTS,
            _OF_KERNELS,
            "-p",
            "cuda_route",
        ),
    ]


_OF_KERNELS = "not lengths_share_kernels"  # which is of the host's alone
_API_ERRORS = ("--report-api-errors", "no")  # what libraries try when they are loaded


def _tested(name: str, title: str, share: float, files: Sequence[str], chosen: str, *options: str) -> Stage:
    command = partial(_tests, [f"tests/{file}" for file in files], chosen, options)
    environment = {"NUMGRAPH_TEST_DEVICE": "hardware", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return Stage(name, title, command, share, environment, "pytest is not installed", tally)


def _timed(name: str, title: str, share: float, device: str, *options: str) -> Stage:
    return Stage(name, title, partial(_bench, device, options), share)


def _probe(what: str, results: Path) -> list[str]:
    return [PYTHON, str(PROBE), what, str(results)]


def _tests(files: Sequence[str], chosen: str, options: Sequence[str], results: Path) -> list[str] | None:
    """Of pytest's plugins xdist alone: others that are installed warn of it, and a warning is an error."""
    if importlib.util.find_spec("pytest") is None:
        return None
    workers = (
        ("-p", "xdist", "-n", str(min(16, _cores())), "--dist", "worksteal")
        if importlib.util.find_spec("xdist")
        else ()
    )
    command = [
        PYTHON,
        "-m",
        "pytest",
        "-v",
        "--color=no",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        *options,
        *workers,
        *files,
    ]
    return [*command, "-k", chosen]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _bench(device: str, options: Sequence[str], results: Path) -> list[str]:
    command = (
        "bench",
        "--device",
        device,
        "--suite",
        "kernels",
        "--rows",
        ROWS,
        "--seconds",
        "2",
        "--repeats",
        "7",
    )
    return [PYTHON, "-m", "numgraph", *command, *options, "--json", str(results)]


def _sanitizer(tool: str, results: Path) -> list[str] | None:
    found, options = sanitizer(), _API_ERRORS if tool == "memcheck" else ()
    return found and [
        found,
        "--tool",
        tool,
        *options,
        "--error-exitcode",
        "9",
        PYTHON,
        str(PROBE),
        "walks",
        str(results),
    ]


def sanitizer() -> str | None:
    """Where compute-sanitizer is: on the path, or where CUDA is installed."""
    folders = [
        Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")),
        *sorted(Path("/usr/local").glob("cuda-*"), reverse=True),
    ]
    places = [
        os.environ.get("PATH", ""),
        *(str(folder / place) for folder in folders for place in ("bin", "compute-sanitizer")),
    ]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(places))


def tally(text: str) -> str:
    """How many tests passed, failed and were skipped until it ended, and pytest's last section, or what
    failed where it has none.
    """
    word = r"(PASSED|FAILED|ERROR|SKIPPED|XFAIL)"
    beside_others = re.findall(rf"^\[gw\d+\] \[ *\d+%\] {word} (.*)$", text, re.MULTILINE)
    alone = [
        (ended, test) for test, ended in re.findall(rf"^(\S.*?) {word} .*\[ *\d+%\]$", text, re.MULTILINE)
    ]
    words = [ended for ended, _ in beside_others or alone]
    counts = (
        ", ".join(f"{words.count(word)} {word.lower()}" for word in sorted(set(words))) or "no test ended"
    )
    _, section, summary = text.rpartition(" short test summary info ")
    if section:
        return f"{counts}\n{summary.partition(chr(10))[2]}"
    failed = [f"{ended} {test}" for ended, test in beside_others or alone if ended in ("FAILED", "ERROR")]
    return "\n".join([counts, *failed[:50], _last(text, 5)])


def _last(text: str, lines: int = 15) -> str:
    return "\n".join(text.splitlines()[-lines:])


# The run


class Ended(BaseException):
    """A signal asked for the end."""

    def __init__(self, number: int) -> None:
        self.number = number


def report(chosen: Sequence[Stage], seconds: float, out: Path, device: dict[str, Any]) -> int:
    """Run the stages within so many seconds, writing to the folder as each ends; 0 if all that ran passed.
    device: to be written too.
    """
    clock, outcomes = Clock(seconds), []
    running = out / "running"
    running.mkdir(exist_ok=True)
    facts = {
        "device": device,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds_limit": seconds,
    }
    names: dict[str, str] = {}
    (out / "log.txt").write_bytes(b"")
    ended = None
    try:
        with _told():
            for stage in chosen:
                stage = dataclasses.replace(stage, environment=_environment(stage.environment, names))
                outcome = stages.run(stage, clock, running, out / "log.txt", RESERVE)
                outcomes.append(outcome)
                if stage.name == "facts":
                    names = _numpy_names(outcome.results, facts)
                _keep(out, facts, outcomes)
                print(
                    f"{outcome.name:<14} {outcome.status:<8} "
                    f"{outcome.seconds:6.1f} s  {outcome.why}".rstrip(),
                    flush=True,
                )
    except Ended as signalled:
        ended = signalled.number
        facts["ended"] = f"signal {ended} during the stage after {outcomes[-1].name if outcomes else 'none'}"
    facts["seconds"] = round(seconds - clock.left(), 1)
    _keep(out, facts, outcomes)
    shutil.rmtree(running, ignore_errors=True)
    print(f"{out / 'report.md'}", flush=True)
    if ended is not None:
        return 128 + ended
    return 0 if all(outcome.status in ("passed", "missing", "no time") for outcome in outcomes) else 1


@contextmanager
def _told() -> Iterator[None]:
    """SIGTERM, SIGHUP and Ctrl-C end the run once, at once, and what there is gets written."""

    def end(number: int, frame: Any) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise Ended(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _environment(given: Any, names: dict[str, str]) -> dict[str, str]:
    """The repository, and for its tests their plugins, can be imported, and what NumPy lacks for numba-cuda
    is there if it must be.
    """
    tests = [str(ROOT / "tests" / "support")] if "NUMGRAPH_TEST_DEVICE" in given else []
    path = [*names.values(), str(ROOT), *tests, os.environ.get("PYTHONPATH", "")]
    return {"PYTHONUNBUFFERED": "1", **given, "PYTHONPATH": os.pathsep.join(entry for entry in path if entry)}


def _numpy_names(results: Any, facts: dict[str, Any]) -> dict[str, str]:
    """The folder to import numpy.row_stack from where numba-cuda needs it, and a word of that in the
    report.
    """
    compiler, then = ((results or {}).get(name, {}) for name in ("numba_cuda", "with_row_stack"))
    if compiler.get("works"):
        return {}
    folder = str(ROOT / "benchmarks" / "numpy_names")
    if "problem" in compiler:
        does = "does" if then.get("works") else f"does not ({then.get('problem', 'no answer')})"
        facts["numba_cuda"] = (
            f"numba-cuda does not compile here by itself ({compiler['problem']}). In this report's processes "
            "numpy.row_stack, which "
            f"NumPy 2.5 has no longer, is set to numpy.vstack; then it {does}."
        )
    else:
        facts["numba_cuda"] = (
            "Whether numba-cuda compiles here is not known; numpy.row_stack is set to numpy.vstack where "
            "NumPy lacks it."
        )
    return {"row_stack": folder}


def _keep(out: Path, facts: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    made = facts | {"stages": [dataclasses.asdict(outcome) for outcome in outcomes]}
    stages.write(out / "report.json", json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    stages.write(out / "report.md", described(facts, outcomes))


def described(facts: dict[str, Any], outcomes: Sequence[Outcome]) -> str:
    """The report for people."""
    device = facts["device"]
    title = device.get("name") or "no GPU"
    lines = [
        f"# {title}",
        "",
        ", ".join(f"{key}: {value}" for key, value in device.items() if key != "name"),
        "",
    ]
    lines += [f"{facts[key]}\n" for key in ("numba_cuda", "ended") if key in facts]
    lines += [
        f"Started {facts['started']}, limit {facts['seconds_limit']:g} s.",
        "",
        "| stage | | seconds | |",
        "|---|---|---|---|",
    ]
    lines += [f"| {one.title} | {one.status} | {one.seconds:g} | {one.why} |" for one in outcomes]
    for one in outcomes:
        if one.digest:
            lines += ["", f"## {one.title}", "", "```", one.digest, "```"]
    return "\n".join(lines) + "\n"


# The command


def found_device(seconds: float) -> dict[str, Any]:
    """What the driver says of the first device: name and more, or ``problem``. Asked in a process of its own,
    for the driver may hang.
    """
    command = [PYTHON, str(PROBE), "driver"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False
        )
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return {"problem": f"the NVIDIA driver did not answer within {seconds:g} s"}
    except ValueError:
        return {"problem": f"the NVIDIA driver could not be asked: {_last(done.stderr, 1)}"}


def main(
    arguments: Sequence[str] | None = None, look: Callable[[float], dict[str, Any]] = found_device
) -> int:
    parser = argparse.ArgumentParser(
        prog="gpu_report.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="the whole ends in this time (default 9)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("gpu-report"),
        help="a folder, made if it is not there (default gpu-report)",
    )
    options = parser.parse_args(arguments)
    if not options.minutes > 0:
        parser.error(f"--minutes {options.minutes:g}: must be above 0")
    begin, out = time.monotonic(), options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    device = look(min(60.0, 30 * options.minutes))
    if "problem" in device:
        facts = {
            "device": device,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "seconds_limit": 60 * options.minutes,
        }
        _keep(out, facts, ())
        print(f"gpu_report.py: error: {device['problem']}; nothing was measured", file=sys.stderr)
        return 2
    print(f"{device['name']}: {options.minutes:g} minutes at most", flush=True)
    return report(planned(), 60 * options.minutes - (time.monotonic() - begin), out, device)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
