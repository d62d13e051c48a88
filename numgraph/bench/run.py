"""One run: peers, machine, roofs, then the suites that were asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from numgraph.arrays.devices import known
from numgraph.bench import gpu, measure
from numgraph.bench.comparison import run as run_kernels
from numgraph.bench.epochs import ROWS as EPOCHS
from numgraph.bench.epochs import run as run_epochs
from numgraph.bench.frameworks import ROWS as FRAMEWORKS
from numgraph.bench.frameworks import run as run_frameworks
from numgraph.bench.gpupeers import DEVICE_PEERS, OnHost
from numgraph.bench.kernels import ROWS as KERNELS
from numgraph.bench.locality import run as run_locality
from numgraph.bench.machine import describe, machine
from numgraph.bench.peers import PEERS, load
from numgraph.bench.report import side_by_side
from numgraph.bench.scaling import run as run_scaling
from numgraph.bench.session import Request, Session
from numgraph.errors import bad_value, unknown
from numgraph.runtime.bandwidth import read_bandwidth

SUITES: dict[str, Callable[[Session], list[dict[str, Any]]]] = {
    "kernels": run_kernels,
    "epochs": run_epochs,
    "frameworks": run_frameworks,
    "scaling": run_scaling,
    "locality": run_locality,
}


ON_DEVICE = ("kernels", "epochs")
DEVICES = ("cpu", "cuda", "both")


def _roofs(request: Request, device: str) -> tuple[float, float]:
    """Bandwidth of memory in bytes a second, and rate of a matrix product in operations a second."""
    if device == "cpu":
        return read_bandwidth(request.bandwidth_bytes), measure.product_rate()
    return gpu.copy_bandwidth(request.bandwidth_bytes), gpu.product_rate()


def bench(
    request: Request,
    say: Callable[[str], None] = print,
    keep: Callable[[dict[str, Any]], None] = lambda results: None,
) -> dict[str, Any]:
    """Measure, telling `say` line by line; the results as plain data, ready for JSON. `keep` gets what there
    is after each of them.

    Keys: request, machine, bandwidth (bytes a second), product_rate (operations a second), peers (name →
    version), left_out (name → why), notes, errors (peers whose numbers differ, which are not timed, and what
    failed), complete (False for what `keep` gets), and a list of results for each suite.

    On a device ("cuda") numgraph and the peers compute there; "both" adds the host's kernels as the peer
    "cpu".

    Raises ValueError for an unknown suite, row, peer or device, ImportError or OSError where there is no
    device.
    """
    if request.device not in DEVICES:
        raise unknown("bench", "device", request.device, DEVICES)
    device = "cpu" if request.device == "cpu" else "cuda"
    for suite in request.suites:
        if suite not in SUITES:
            raise unknown("bench", "suite", suite, (*SUITES, "all"))
        if device != "cpu" and suite not in ON_DEVICE:
            raise bad_value(
                "bench",
                f"the suite {suite!r} is measured on the host",
                f"on a device choose from {', '.join(ON_DEVICE)}",
            )
    for row in request.rows or ():
        if row not in KERNELS and row not in EPOCHS and row not in FRAMEWORKS:
            raise unknown("bench", "row", row, (*KERNELS, *EPOCHS, *FRAMEWORKS))
    if device != "cpu":
        known("bench", device)
    peers, left_out = load(request.peers, PEERS if device == "cpu" else DEVICE_PEERS)
    if request.device == "both":
        peers["cpu"] = OnHost()
    count = request.threads or measure.cores()
    with measure.threads(count):
        bandwidth, product_rate = _roofs(request, device)
        versions = {name: peer.version() for name, peer in peers.items()}
        session = Session(
            request, peers, bandwidth, measure.sample if device == "cpu" else gpu.sample, device, say
        )
        facts = machine(device)
        say(describe(facts))
        kind = "sequential read" if device == "cpu" else "copy on the device"
        say(
            f"{count} threads; {kind} {bandwidth / 1e9:.1f} GB/s; float32 matrix product "
            f"{product_rate / 1e9:.0f} GFLOP/s"
        )
        say(f"peers: {', '.join(f'{name} {version}' for name, version in versions.items()) or 'none'}")
        for name, reason in left_out.items():
            say(f"left out: {name}: {reason}")
        if facts["load_average"] and facts["load_average"][0] > 0.5:
            session.note(
                f"load average {facts['load_average'][0]:.1f} at the start: others compute here, times mean "
                "little"
            )
        about = {
            "request": {
                key: value for key, value in dataclasses.asdict(request).items() if key != "data_dir"
            },
            "machine": facts | {"load_average_at_start": facts["load_average"]},
            "threads": count,
            "bandwidth": bandwidth,
            "product_rate": product_rate,
            "peers": versions,
            "left_out": left_out,
            "notes": session.notes,
            "errors": session.errors,
        }
        session.keep = lambda: keep(about | {"complete": False} | session.results)
        results = {suite: SUITES[suite](session) for suite in request.suites}
    if request.device == "both":
        say(f"\n{side_by_side(results)}")
    return (
        about
        | {"machine": machine(device) | {"load_average_at_start": facts["load_average"]}, "complete": True}
        | results
    )
