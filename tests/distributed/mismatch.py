"""What the test of calls that do not fit each other runs on two ranks: each is an error on both, in place of
other numbers or a wait.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse
from mpi4py import MPI

import numgraph as ng
from numgraph.distributed import DistGraph, allreduce, replicate

COMM = MPI.COMM_WORLD
FIRST = COMM.rank == 0
G = ng.Graph([0, 1, 2, 3, 4, 5, 0, 2, 2, 0], [1, 2, 3, 4, 5, 0, 3, 5, 2, 3])
OWNERS = [0, 0, 0, 1, 1, 1]
OWN = 3


def ones(rows, width, dtype=np.float64):
    return np.ones((rows, width), dtype)


def by_rank(first, other):
    return first if FIRST else other


def walk(d, h):
    return ng.update_all(d.graph, lambda u: u.h, "sum", u={"h": d.exchange_ahead(h)})


def gradient(d):
    """Rows that only one process widens before a second exchange."""
    with ng.Tape() as tape:
        x = tape.watch(ones(OWN, 2))
        z = d.exchange(x)[:OWN]
        loss = d.exchange(by_rank(z, np.concatenate([z, z], 1))).sum()
    return tape.gradient(loss, [x])


DATA = ng.Dataset.from_arrays(G, np.eye(6, 3, dtype=np.float32), [0, 1] * 3)


def fit(d, seed=0, hidden=4, epochs=1, **options):
    return ng.fit(
        ng.nn.GCN(3, hidden, 2, rng=seed), ng.training.SharedDataset.of(DATA, d), epochs=epochs, **options
    )


def fit_and_lose_the_folder(d):
    """Only one process writes the checkpoint."""
    folder = Path(COMM.bcast(tempfile.mkdtemp() if FIRST else None))
    return fit(
        d, checkpoint=folder / "point.npz", callback=lambda *_: shutil.rmtree(folder, ignore_errors=True)
    )


CASES = {
    "widths": lambda d: d.exchange(ones(OWN, by_rank(1, 2))),
    "a width of zero": lambda d: d.exchange(ones(OWN, by_rank(0, 1))),
    "dtypes": lambda d: d.exchange(ones(OWN, 2, by_rank(np.float32, np.float64))),
    "as many bytes": lambda d: d.exchange(by_rank(ones(OWN, 1), ones(OWN, 2, np.float32))),
    "numbers of one size": lambda d: d.exchange(ones(OWN, 2, by_rank(np.int64, np.float64))),
    "axes": lambda d: d.exchange(by_rank(np.ones((OWN, 4)), np.ones((OWN, 2, 2)))),
    "many axes": lambda d: d.exchange(by_rank(np.ones((OWN, *[1] * 29, 2)), np.ones((OWN, *[1] * 28, 2, 1)))),
    "widths back": lambda d: d.collect(ones(d.graph.num_src, by_rank(1, 2))),
    "ahead": lambda d: walk(d, ones(OWN, by_rank(1, 2))),
    "sparse widths": lambda d: d.exchange(scipy.sparse.eye(OWN, by_rank(4, 5), format="csr")),
    "sparse and dense": lambda d: d.exchange(by_rank(scipy.sparse.eye(OWN, 4, format="csr"), ones(OWN, 4))),
    "another call": lambda d: by_rank(d.exchange, d.collect)(ones(by_rank(OWN, d.graph.num_src), 2)),
    "a call too many": lambda d: [d.exchange(ones(OWN, width)) for width in by_rank((2, 3), (3,))],
    "on a tape": gradient,
    "sums of shapes": lambda d: allreduce(np.ones(by_rank(2, 3)), COMM),
    "sums of as many bytes": lambda d: allreduce(by_rank(np.ones(2), np.ones(4, np.float32)), COMM),
    "sums of more": lambda d: allreduce([np.ones(4)] * by_rank(1, 2), d),
    "sums in another order": lambda d: allreduce(
        [np.ones(4), np.ones(3, np.float32)][:: by_rank(1, -1)], COMM
    ),
    "gathered dtypes": lambda d: d.gather(ones(OWN, 2, by_rank(np.float32, np.float64))),
    "gathered widths": lambda d: d.gather(ones(OWN, by_rank(1, 2))),
    "gathered by nobody": lambda d: d.gather(ones(OWN, 1), root=2),
    "graphs of one size": lambda d: DistGraph.from_graph(
        by_rank(G, ng.Graph(G.dst, G.src)), COMM, method=OWNERS
    ),
    "edges in another order": lambda d: DistGraph.from_graph(
        by_rank(G, ng.Graph(G.src[::-1], G.dst[::-1])), COMM, method=OWNERS
    ),
    "graphs": lambda d: DistGraph.from_graph(by_rank(G, ng.Graph([0], [1])), COMM, method="random"),
    "parameters": lambda d: fit(d, seed=by_rank(0, 1)),
    "shapes of parameters": lambda d: fit(d, hidden=by_rank(4, 5)),
    "epochs": lambda d: fit(d, epochs=by_rank(1, 2)),
    "patience": lambda d: fit(d, patience=by_rank(1, 2)),
    "a checkpoint of one": lambda d: fit(d, checkpoint=by_rank("point.npz", None)),
    "a checkpoint that cannot be written": fit_and_lose_the_folder,
}
FINE = {
    "a training": fit,
    "nothing to exchange": lambda d: d.exchange(ones(OWN, 0)),
    "ids of another dtype": lambda d: DistGraph.from_graph(
        ng.Graph(*[one.astype(by_rank("i4", "i8")) for one in (G.src, G.dst)]), COMM
    ),
    "values that are nobody else's": lambda d: replicate(np.ones(by_rank(1, 2)), COMM),
}


def main():
    report = {}
    for name, call in {**CASES, **FINE}.items():
        d = DistGraph.from_graph(G, COMM, method=OWNERS)  # an error leaves messages on their way
        try:
            call(d)
            told = ""
        except (ValueError, OSError) as error:
            told = str(error)
        report[name] = COMM.gather(told)
    if FIRST:
        print(json.dumps([{name: report[name] for name in table} for table in (CASES, FINE)]), flush=True)


if __name__ == "__main__":
    main()
