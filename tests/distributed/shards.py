"""What the tests of shards run under mpiexec: what was written is loaded, and what does not fit is an error
on every rank.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from mpi4py import MPI

import numgraph as ng
from numgraph.distributed import DistGraph, partition, write_shards
from numgraph.distributed.shards import ABOUT

COMM = MPI.COMM_WORLD
RNG = np.random.default_rng(0)
N, E = 50, 300
G = ng.Graph.from_csc(np.sort(np.append(RNG.integers(0, E, N - 1), [0, E])), RNG.integers(0, N, E), num_src=N)
G = ng.Graph(G.dst, G.src, N)  # so that edge ids are not the order of in-edges
DATA = ng.Dataset.from_arrays(
    G, RNG.standard_normal((N, 3)), RNG.integers(0, 3, N), edge_weight=RNG.random(E), name="random"
)


def on_first(make):
    if COMM.rank == 0:
        make()
    COMM.Barrier()


def same_as_from_graph(folder):
    """Owned nodes, edges, features and a sum over in-edges are those of from_graph with the same owners."""
    d, other = DistGraph.load(folder, COMM), DistGraph.from_graph(G, COMM)
    assert np.array_equal(d.owned, other.owned)
    assert np.array_equal(d.edge_ids, other.edge_ids)
    assert np.array_equal(d.graph.nodes[d.graph.src], G.src[d.edge_ids])
    assert np.array_equal(d.owned[d.graph.dst], G.dst[d.edge_ids])
    assert np.array_equal(d.arrays["features"], DATA.features[d.owned])
    assert np.array_equal(d.arrays["edge_weight"], DATA.edge_weight[d.edge_ids])
    x = RNG.standard_normal((N, 3))
    z = ng.update_all(
        d.graph,
        lambda u, e: u.x * e.w,
        "sum",
        u={"x": d.exchange(x[d.owned])},
        e={"w": d.arrays["edge_weight"][:, None]},
    )
    whole = np.zeros((N, 3))
    np.add.at(whole, G.dst, x[G.src] * DATA.edge_weight[:, None])
    assert np.abs(z - whole[d.owned]).max(initial=0) < 1e-12
    gathered = d.gather(z)
    assert (gathered is None) == (COMM.rank > 0)
    assert gathered is None or np.abs(gathered - whole).max() < 1e-12


def damages(folder, other):
    """What is done to a copy of the folder, and what the error says."""
    part = folder / "part-00001"

    def edit(key, value):
        about = json.loads((part / ABOUT).read_text())
        (part / ABOUT).write_text(json.dumps(about | {key: value}))

    def flip():
        raw = bytearray((part / "indices.npy").read_bytes())
        raw[-1] ^= 1
        (part / "indices.npy").write_bytes(raw)

    def put(name, change):
        """Another array, of which shard.json knows."""
        array = np.asarray(change(np.load(part / f"{name}.npy")))
        np.save(part / f"{name}.npy", array)
        about = json.loads((part / ABOUT).read_text())
        digest = hashlib.sha256((part / f"{name}.npy").read_bytes()).hexdigest()
        edit(
            "arrays",
            about["arrays"]
            | {name: {"dtype": array.dtype.str, "shape": list(array.shape), "sha256": digest}},
        )

    def pipe():
        (part / "labels.npy").unlink()
        os.mkfifo(part / "labels.npy")

    for key, value in {
        "num_nodes": "50",
        "num_edges": None,
        "task": "none",
        "label_scale": ["x", 1],
        "num_classes": -1,
    }.items():
        yield key, lambda key=key, value=value: edit(key, value), f"shard.json: {key} is"
    yield "depth", lambda: (part / ABOUT).write_text("[" * 200_000), "shard.json: RecursionError"
    for name in ("owned", "owners", "indptr", "indices", "edge_ids"):
        yield f"{name} as floats", lambda name=name: put(name, lambda x: x + 0.5), f"{name}.npy: it has"
    yield "axes", lambda: put("owned", lambda x: x[:, None]), "owned.npy: it has"
    yield "masks of numbers", lambda: put("train_mask", lambda x: x * 7), "train_mask.npy: it has"
    yield "text", lambda: put("features", lambda x: x.astype("S1")), "features.npy: it has"
    yield "edge ids", lambda: put("edge_ids", lambda x: x - E), "ids of edges are out of range"
    yield "weights", lambda: put("edge_weight", lambda x: x[1:]), "edge_weight does not fit"
    yield "labels as floats", lambda: put("labels", lambda x: x * 1.0), "labels have another dtype"
    yield "labels", lambda: put("labels", lambda x: x + 99), "labels are out of range"
    yield "owners", lambda: put("owners", lambda x: x + 99), "owners do not fit"
    yield "a pipe", pipe, "labels.npy: it is no regular file"
    yield "a bit", flip, "part-00001 is damaged: indices.npy: its content is not"
    yield (
        "cut",
        lambda: (part / "labels.npy").write_bytes((part / "labels.npy").read_bytes()[:-3]),
        "labels.npy",
    )
    yield "version", lambda: edit("version", 99), "version 99"
    yield "no manifest", lambda: (part / ABOUT).unlink(), "part-00001 is damaged: shard.json"
    yield (
        "other partition",
        lambda: (shutil.rmtree(part), shutil.copytree(other / part.name, part)),
        "different partitions",
    )
    yield "not there", lambda: shutil.rmtree(part), "part-00001 is not there"


def main():
    folder = Path(sys.argv[1])
    on_first(lambda: write_shards(folder / "whole", DATA, COMM.size))
    same_as_from_graph(folder / "whole")
    on_first(lambda: write_shards(folder / "other", DATA, COMM.size, method="random"))
    report = {}
    for name, damage, text in damages(folder / "copy", folder / "other"):
        on_first(lambda damage=damage: (shutil.copytree(folder / "whole", folder / "copy"), damage()))
        try:
            DistGraph.load(folder / "copy", COMM)
            told = "nothing"
        except (ValueError, OSError) as error:
            told = str(error)
        report[name] = COMM.gather((text in told, told))
        on_first(lambda: shutil.rmtree(folder / "copy"))
    pair = COMM.Split(COMM.rank < 2)
    for name, make in {
        "fewer processes": lambda: DistGraph.load(folder / "whole", pair),
        "an error of one": lambda: DistGraph.from_graph(G if COMM.rank else None, COMM),
        "owners that differ": lambda: DistGraph.from_graph(G, COMM, method=np.full(N, 7)),
    }.items():
        try:
            make()
            told = "nothing"
        except (ValueError, TypeError, OSError) as error:
            told = str(error)
        report[name] = COMM.gather((told != "nothing", told))
    assert partition(G, COMM.size, method="random").max() == COMM.size - 1
    if COMM.rank == 0:
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
