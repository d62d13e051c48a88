"""What a result was measured on: processor, caches, memory, threads, versions, load."""

from __future__ import annotations

import datetime
import os
import platform
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from numgraph.bench import gpu, measure
from numgraph.info import info


def machine(device: str = "cpu") -> dict[str, Any]:
    """Plain data, ready for JSON. Asked after the peers were imported, it lists their threading runtimes too.
    device: described too.
    """
    facts = info()
    return {
        **({} if device == "cpu" else {"device": gpu.facts()}),
        "cpu": _model(),
        "cores": measure.cores(),
        "vectors": facts["devices"]["cpu"]["vectors"],
        "caches": _caches(),
        "memory_bytes": _memory(),
        "platform": facts["platform"],
        "threads": facts["threads"],
        "runtimes": [Path(path).name for path in measure.runtimes()],
        "versions": {name: version for name, version in facts["versions"].items() if version},
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def describe(facts: dict[str, Any]) -> str:
    """The same in two lines."""
    caches = ", ".join(f"{name} {size}" for name, size in facts["caches"].items())
    memory = f"{facts['memory_bytes'] / 2**30:.0f} GiB" if facts["memory_bytes"] else "memory unknown"
    load = f"load {facts['load_average'][0]:.1f}" if facts["load_average"] else "load unknown"
    layer = facts["threads"]["layer"]
    device = f"{gpu.describe(facts['device'])}\n" if "device" in facts else ""
    host = (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['vectors']}, {caches or 'caches unknown'}, {memory}"
    )
    return f"{device}{host}\n{layer} threads, {load}"


def _model() -> str:
    with suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def _caches() -> dict[str, str]:
    """Name → size of the caches of the first core."""
    sizes = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        with suppress(OSError):
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
            sizes[f"L{level}{ {'Data': 'd', 'Instruction': 'i'}.get(kind, '') }"] = size
    return sizes


def _memory() -> int | None:
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None
