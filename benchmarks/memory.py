"""Peak memory of a message over edges × features, on top of its inputs: what an array [num_edges, features]
would take, and what is taken.

python benchmarks/memory.py                    20 million edges × 64 float32, forward and backward: about 6 GB
of memory are enough python benchmarks/memory.py --edges 2000000
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

import numpy as np

import numgraph as ng

MIB = 2**20


def peak() -> int:
    """The process's largest resident memory so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def relu(g, x, y, w):
    return ng.update_all(
        g, lambda u, v, e: ng.relu(u.x - v.y) * e.w, "sum", u={"x": x}, v={"y": y}, e={"w": w}
    )


def attention(g, x, y, w):
    return ng.attend(
        g, lambda u, v: ng.leaky_relu(u.a + v.b, 0.2), lambda u: u.x, u={"x": x, "a": y}, v={"b": w}
    )


def extreme(g, x, y, w):
    return ng.update_all(g, lambda u, v, e: (u.x + v.y) * e.w, "max", u={"x": x}, v={"y": y}, e={"w": w})


MESSAGES = {"relu": relu, "attention": attention, "extreme": extreme}
TITLES = {"relu": "Σ relu(u − v) · w", "attention": "attention of 8 heads", "extreme": "max (u + v) · w"}


def step(message, g, inputs):
    with ng.Tape() as tape:
        watched = [tape.watch(array) for array in inputs]
        loss = message(g, *watched).sum()
    return tape.gradient(loss, watched)


def measure(name: str, edges: int, nodes: int, features: int) -> None:
    """Print one line; in a process of its own, because a peak never falls."""
    rng = np.random.default_rng(0)

    def floats(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    def inputs(count):
        if name == "attention":
            return [floats(nodes, 8, features // 8), floats(nodes, 8, 1), floats(nodes, 8, 1)]
        return [floats(nodes, features), floats(nodes, features), floats(count, 1)]

    step(
        MESSAGES[name], ng.Graph([0, 1], [1, 0], nodes), inputs(2)
    )  # what the compiler takes is not the question
    g = ng.Graph(
        rng.integers(0, nodes, edges, dtype=np.int32), rng.integers(0, nodes, edges, dtype=np.int32), nodes
    )
    assert len(g.in_edges.indices) == len(g.out_edges.indices)
    arrays = inputs(edges)
    before = peak()
    gradients = step(MESSAGES[name], g, arrays)
    used = peak() - before
    results = sum(array.nbytes for array in gradients)
    print(
        f"{TITLES[name]:24} {edges * features * 4 / MIB:>14.0f} {used / MIB:>18.0f} {results / MIB:>21.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edges", type=int, default=20_000_000)
    parser.add_argument("--nodes", type=int, default=500_000)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--message", choices=MESSAGES, help="this one only, in this process")
    given = parser.parse_args()
    if given.message:
        measure(given.message, given.edges, given.nodes, given.features)
        return
    print(
        f"{given.edges:,} edges, {given.nodes:,} nodes, {given.features} features of float32; MiB on top of "
        "the graph and the inputs\n"
    )
    print(
        f"{'forward and backward':24} {'edges × features':>14} {'peak, on top':>18} "
        f"{'of it the gradients':>21}",
        flush=True,
    )
    for name in MESSAGES:
        sizes = [f"--{key}={getattr(given, key)}" for key in ("edges", "nodes", "features")]
        subprocess.run([sys.executable, __file__, f"--message={name}", *sizes], check=True)


if __name__ == "__main__":
    main()
