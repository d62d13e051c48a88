"""How long a new process takes: to import numgraph (on top of numba), and to the end of its first training
step of a GAT.

python benchmarks/start.py             the medians of 5 processes, after one that fills the caches
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

SCRIPT = """
import json, time
start = time.perf_counter()
import numba
numba_there = time.perf_counter()
import numgraph as ng
there = time.perf_counter()
import numpy as np
from numba.core import event
compiled = event.RecordingListener()
event.register("numba:compile", compiled)
rng = np.random.default_rng(0)
x = rng.standard_normal((2708, 1433)).astype(np.float32)
src, dst = rng.integers(0, 2708, 10556), rng.integers(0, 2708, 10556)
labels = rng.integers(0, 7, 2708)
begin = time.perf_counter()
g = ng.Graph(src, dst, 2708)
model = ng.nn.GAT(1433, 8, 7)
optimiser = ng.optim.Adam(model.parameters(), lr=5e-3, weight_decay=5e-4)
with ng.Tape() as tape:
    loss = ng.dense.cross_entropy(model(g, x), labels)
optimiser.step(tape.gradient(loss, optimiser.parameters))
end = time.perf_counter()
count = sum(1 for _, found in compiled.buffer if found.is_start)
times = {
    "import numba": numba_there - start,
    "import numgraph after it": there - numba_there,
    "first GAT step": end - begin,
}
print(json.dumps({**times, "compilations": count}))
"""


def process() -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=5)
    given = parser.parse_args()
    process()
    found = [process() for _ in range(given.processes)]
    for name in found[0]:
        value = statistics.median(each[name] for each in found)
        print(f"{name:26} {value:.0f}" if name == "compilations" else f"{name:26} {value * 1000:6.0f} ms")


if __name__ == "__main__":
    main()
