"""16-bit storage beside float32: ``python benchmarks/storage.py`` times copy_u sum, forward, and writes
benchmarks/results/storage.json.

float16 and bfloat16 are read as 16 bits and summed in float32. The types are timed alternately; a ratio is
float32's time over the other's."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from pathlib import Path

import ml_dtypes
import numpy as np

import numgraph as ng
from numgraph.bench import graphs, measure
from numgraph.runtime import atomic

STORAGES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes-log2", type=int, default=20)
    parser.add_argument("--edges", type=int, default=15_400_000)
    parser.add_argument("--features", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "storage.json")
    options = parser.parse_args()
    g = graphs.built(graphs.rmat(options.nodes_log2, options.edges, 0, "random"))
    results = []
    for features in options.features:
        wide = np.random.default_rng(0).standard_normal((g.num_nodes, features), np.float32)
        for name, dtype in STORAGES.items():
            narrow = wide.astype(dtype)
            expected = ng.ops.copy_u_sum(g, narrow.astype(np.float32))
            gap = float(
                np.abs(ng.ops.copy_u_sum(g, narrow).astype(np.float32) - expected).max()
                / np.abs(expected).max()
            )
            copy_u = functools.partial(ng.ops.copy_u_sum, g)
            facts = measure.alternate(
                functools.partial(copy_u, narrow), functools.partial(copy_u, wide), options.repeats, 30.0
            ).facts()
            one = {
                "storage": name,
                "features": features,
                "ms": facts["numgraph_ms"],
                "float32_ms": facts["ms"],
                "ratio": facts["ratio"],
            }
            results.append(one | {"ratio_quartiles": facts["ratio_quartiles"], "difference": gap})
            low, high = facts["ratio_quartiles"]
            times = f"{one['ms']:8.1f} ms, float32 {one['float32_ms']:8.1f} ms"
            print(f"F {features:>4} {name:<9} {times}: {one['ratio']:.2f} [{low:.2f}–{high:.2f}]")
    text = json.dumps({"nodes": g.num_nodes, "edges": g.num_edges, "results": results}, indent=1) + "\n"
    atomic.write(options.output, text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
