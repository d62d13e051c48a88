"""What the tests run under mpiexec: every check on every partition, compared with one process's results.
Prints one JSON line.

Each check gives pairs of what the processes found and what one process does; what counts is the largest
difference on any of them."""

from __future__ import annotations

import json
import select
import sys
from pathlib import Path

import numpy as np
from mpi4py import MPI

import numgraph as ng
from numgraph import nn
from numgraph.distributed import DistGraph, SharedRows, allreduce, divide, partition, replicate
from numgraph.graph import shard
from numgraph.graph.partition import ghosts as ghosts_of

sys.path.insert(0, str(Path(__file__).parents[1] / "sampling"))
from test_blocks import LAYERS, F, G, N, W, X

COMM = MPI.COMM_WORLD
shard.PIECE_EDGES = 16  # small parts in several pieces too
RNG = np.random.default_rng(1)
R = RNG.standard_normal((N, 3))
Y = RNG.integers(0, 3, N)
WITH_LAYERS = "layers" in sys.argv
PARTITIONS = {
    "metis": partition(G, COMM.size, objective="volume" if COMM.size == 3 else "cut"),
    "one owns all": np.full(N, COMM.size - 1),
    "uneven": np.minimum(np.arange(N) // (N - 6), COMM.size - 1),
}
DTYPES = [np.float64, np.float32]


class One:
    """What a DistGraph is, for one process and the whole graph."""

    graph, owned, edge_ids = G, np.arange(N), np.arange(G.num_edges)

    def exchange(self, x):
        return x

    def shared(self, w):
        return w


class Many(One):
    def __init__(self, d):
        self.graph, self.owned, self.edge_ids, self.exchange = d.graph, d.owned, d.edge_ids, d.exchange

    def shared(self, w):
        return replicate(w, COMM)


def arbitrary(on, dtype):
    """Two messages and a maximum, gradients, and gradients of their squares."""
    x, w, of_edges = (
        X.astype(dtype),
        np.linspace(-1, 1, F * 3, dtype=dtype).reshape(F, 3),
        W.astype(dtype)[:, None],
    )
    with ng.Tape() as outer:
        features, weight = outer.watch(x[on.owned]), outer.watch(w)
        with ng.Tape() as inner:
            inner.watch(features), inner.watch(weight)
            h = on.exchange(ng.matmul(np.tanh(features), on.shared(weight)))
            e = {"w": of_edges[on.edge_ids]}
            z = ng.update_all(
                on.graph,
                lambda u, v, e: np.tanh(u.h - v.h) * e.w,
                "sum",
                u={"h": h},
                v={"h": h[: len(on.owned)]},
                e=e,
            )
            z = ng.update_all(on.graph, lambda u: u.h * u.h, "max", u={"h": on.exchange(z)})
            loss = (z * R[on.owned].astype(dtype)).sum()
        dx, dw = inner.gradient(loss, [features, weight])
        second = (dx * dx).sum() + (dw * dw).sum()
    return {
        "output": z.data,
        "dx": dx.data,
        "dw": dw.data,
        **dict(zip(("ddx", "ddw"), outer.gradient(second, [features, weight]))),
    }


def of_model(g, on, make, dtype, order):
    """A model's logits, its loss's gradients, and the gradients of the squares of those of the features."""
    model = make(rng=0, dtype=dtype).eval()
    with ng.Tape() as outer:
        x = outer.watch(X.astype(dtype)[on.owned])
        with ng.Tape() as inner:
            inner.watch(x)
            logits = model(g, x)
            loss = ng.cross_entropy(logits, Y[on.owned], reduction="sum") / N
        (dx,) = inner.gradient(loss, [x])
        second = (dx * dx).sum()
    names = [name for name, _ in model.named_parameters()]
    with ng.Tape() as tape:
        plain = ng.cross_entropy(model(g, X.astype(dtype)[on.owned]), Y[on.owned], reduction="sum") / N
    found = dict(zip(names, tape.gradient(plain, model.parameters())))
    found |= {"logits": logits.data, "dx": dx.data}
    if order == 2:
        found |= {
            f"second {name}": one
            for name, one in zip(["x", *names], outer.gradient(second, [x, *model.parameters()]))
        }
    return found


MODELS = {
    "gcn": lambda **o: nn.GCN(F, 5, 3, **o),
    "gat": lambda **o: nn.GAT(F, 2, 3, heads=2, **o),
    "sage max": lambda **o: nn.SAGE(F, 5, 3, aggr="max", **o),
    "gin": lambda **o: nn.GIN(F, 5, 3, **o),
    "gcn jk": lambda **o: nn.GCN(F, 5, 3, jk="cat", layers=3, **o),
}


def of_layer(g, on, name):
    """A layer's result and the gradients of a sum of it."""
    layer, data = LAYERS[name]
    data = tuple(one[on.edge_ids] for one in data)
    with ng.Tape() as tape:
        x = tape.watch(X[on.owned])
        z = layer(g, x, *data)
        z = z[0] if isinstance(z, tuple) else z
        loss = (np.tanh(z) * np.resize(R, (N, z.shape[1]))[on.owned]).sum()
    parameters = [x, *layer.parameters()]
    return {"z": z.data, **{f"gradient {i}": one for i, one in enumerate(tape.gradient(loss, parameters))}}


def differences(found, wanted, owned):
    """The largest difference over all processes, by name, relative to the largest number there, or a
    thousandth of the largest at all.
    """
    made, most = {}, max(float(np.abs(array).max(initial=0)) for array in wanted.values())
    for name, array in found.items():
        whole = wanted[name]
        here = whole[owned] if whole.ndim and len(whole) == N and len(array) == len(owned) else whole
        assert (array.shape, array.dtype) == (here.shape, here.dtype), name
        scale = max(float(np.abs(whole).max(initial=0)), most / 1000)
        made[name] = COMM.allreduce(float(np.abs(array - here).max(initial=0)), MPI.MAX) / scale
    return made


def norm():
    """BatchNorm in training: statistics over all processes' rows."""

    class Net(nn.Module):
        def __init__(self):
            self.first, self.norm = (
                nn.SAGEConv(F, 3, bias=False, rng=0, dtype=np.float64),
                nn.BatchNorm(3, dtype=np.float64),
            )

        def forward(self, g, x):
            return self.norm(self.first(g, x))

    def of(g, on):
        net = Net()
        with ng.Tape() as tape:
            x = tape.watch(X[on.owned])
            loss = (np.tanh(net(g, x)) * R[on.owned]).sum()
        dx, *others = tape.gradient(loss, [x, *net.parameters()])
        return {
            "dx": dx,
            **{f"d{i}": one for i, one in enumerate(others)},
            "mean": net.norm.running_mean,
            "var": net.norm.running_var,
        }

    return of


def uneven_programs(d):
    """Processes whose losses depend on nothing exchanged, or on the first exchange alone, are met all the
    same, in both orders.
    """
    on = Many(d)
    with ng.Tape() as outer:
        x = outer.watch(X[on.owned])
        with ng.Tape() as inner:
            inner.watch(x)
            h = d.exchange(x * x)
            z = d.exchange(ng.update_all(d.graph, lambda u: u.x * u.x, "sum", u={"x": h}))
            loss = (z * z).sum() if COMM.rank == 0 else (x * 1.0).sum()
        (dx,) = inner.gradient(loss, [x])
        second = (dx * dx).sum() if COMM.rank == 0 else dx.sum() * 0.0
    (ddx,) = outer.gradient(second, [x])
    return {"dx": dx.data, "ddx": ddx}


def one_process_of_uneven(part, ghosts):
    """What ``uneven_programs`` gives: process 0's loss is of its nodes and ghosts, that of the others of
    their nodes.
    """
    seen = np.concatenate([np.flatnonzero(part == 0), ghosts])
    others = np.flatnonzero(part != 0)
    with ng.Tape() as outer:
        x = outer.watch(X)
        with ng.Tape() as inner:
            inner.watch(x)
            z = ng.update_all(G, lambda u: u.x * u.x, "sum", u={"x": x * x})[seen]
            loss = (z * z).sum() + x[others].sum()
        (dx,) = inner.gradient(loss, [x])
        own = dx[np.flatnonzero(part == 0)]
        second = (own * own).sum()
    return {"dx": dx.data, "ddx": outer.gradient(second, [x])[0]}


def adjoints(d):
    """⟨exchange(x), y⟩ = ⟨x, collect(y)⟩, and the same of replicate and allreduce, summed over the
    processes.
    """
    x, y = X[d.owned], np.random.default_rng(COMM.rank).standard_normal((d.graph.num_src, F))
    left, right = (
        COMM.allreduce(float((d.exchange(x) * y).sum())),
        COMM.allreduce(float((x * d.collect(y)).sum())),
    )
    w, own = R[:2], R[:2] * (COMM.rank + 1)
    above, below = (
        COMM.allreduce(float((replicate(w, COMM) * own).sum())),
        float((w * allreduce(own, d)).sum()),
    )
    return {"exchange": abs(left - right) / abs(left), "replicate": abs(above - below) / abs(above)}


def ahead(d):
    """What begins before the rows of ghosts are there is what waits for them, and the interior has no
    ghosts.
    """
    x, w, made = X[d.owned], W[d.edge_ids][:, None], {}
    assert d.graph.src[d.graph.dst < d.interior].max(initial=-1) < len(d.owned)
    for name in ("sum", "max", "std", "attend", "edges"):

        def walk(h, name=name):
            if name == "attend":
                return ng.attend(
                    d.graph,
                    lambda u, v: (u.h * v.y).sum(-1, keepdims=True),
                    lambda u: u.h,
                    u={"h": h},
                    v={"y": x},
                )
            if name == "edges":
                return ng.apply_edges(
                    d.graph, lambda u, v, e: u.h * v.y * e.w, u={"h": h}, v={"y": x}, e={"w": w}
                )
            return ng.update_all(
                d.graph, lambda u, v, e: (u.h + v.y) * e.w, name, u={"h": h}, v={"y": x}, e={"w": w}
            )

        made[name] = float(np.abs(walk(d.exchange_ahead(x)) - walk(d.exchange(x))).max(initial=0))
        assert not d.in_flight
    return made


def remote(d):
    """Rows that others own, and batches of them, are the rows of the whole; what is asked twice, kept or by
    nobody is no matter.
    """
    rows = SharedRows(X[d.owned], d.owned, COMM, hot=[3, 17])
    ids = np.random.default_rng(COMM.rank).integers(0, N, 30 * (COMM.rank < 3))
    model = nn.SAGE(F, 5, 3, rng=0, dtype=np.float64)
    plain, divided = (ng.NeighborLoader((G, fields), [3, 3], batch_size=16) for fields in ({"x": X}, {}))
    wanted, made = list(divide(plain, COMM)), list(divide(divided, COMM, rows=rows))
    assert all(np.array_equal(one.nodes, other.nodes) for one, other in zip(wanted, made, strict=True))
    found = {
        "rows": np.abs(rows(ids) - X[ids]),
        "batches": np.concatenate([np.abs(a.x - b.x) for a, b in zip(wanted, made)]),
    }
    found["inference"] = np.abs(model.inference(divided) - model.inference(plain))
    return {name: float(one.max(initial=0)) for name, one in found.items()}


def bytes_of(d, part):
    """What all processes send in a step of two layers, less ghosts × (3 + 3) × 8: x goes once, before, h W
    forward, its gradient back.
    """
    model, x = nn.SAGE(F, 5, 3, aggr="sum", rng=0, dtype=np.float64, dropout=0), d.exchange(X[d.owned])
    before = d.meter.bytes
    with ng.Tape() as tape:
        loss = ng.cross_entropy(model(d.graph, x), Y[d.owned], reduction="sum")
    tape.gradient(loss, model.parameters())
    sent = COMM.allreduce(d.meter.bytes - before)
    ghosts = int(ghosts_of(G, part, COMM.size).sum())
    return {"bytes": float(abs(sent - 8 * ghosts * (3 + 3)))}


def after_the_first():
    """The first rank goes on, the others when it has compiled the kernels, so that this is done once; they
    wait without taking a core.
    """
    request = COMM.Ibarrier() if COMM.rank else None
    while request is not None and not request.Test():
        select.select([], [], [], 0.05)


def main():
    one, report = One(), {}
    after_the_first()
    wanted = {("arbitrary", dtype): arbitrary(one, dtype) for dtype in DTYPES}
    orders = {"gcn": 2, "gat": 2, "sage max": 2}
    models = [
        (name, dtype, orders.get(name, 1))
        for name in MODELS
        for dtype in (DTYPES if name == "gcn" else DTYPES[:1])
    ]
    layers = list(LAYERS) if WITH_LAYERS else []
    wanted |= {(name, dtype): of_model(G, one, MODELS[name], dtype, order) for name, dtype, order in models}
    wanted |= {("layer", name): of_layer(G, one, name) for name in layers}
    wanted["norm"] = norm()(G, one)
    if COMM.rank == 0:
        COMM.Ibarrier().Wait()
    for label, part in PARTITIONS.items():
        d = DistGraph.from_graph(G, COMM, method=part)
        on = Many(d)
        found = {("arbitrary", dtype): arbitrary(on, dtype) for dtype in DTYPES}
        found |= {(name, dtype): of_model(d, on, MODELS[name], dtype, order) for name, dtype, order in models}
        found |= {("layer", name): of_layer(d, on, name) for name in layers}
        found["norm"] = norm()(d, on)
        ghosts = COMM.bcast(d.ghosts)
        wanted["uneven"], found["uneven"] = one_process_of_uneven(part, ghosts), uneven_programs(d)
        for key, arrays in found.items():
            narrow = isinstance(key, tuple) and key[1] is np.float32
            name = (
                key
                if isinstance(key, str)
                else " ".join(one if isinstance(one, str) else one.__name__ for one in key)
            )
            for what, error in differences(arrays, wanted[key], d.owned).items():
                report[f"{label}: {name}: {what}"] = (error, 1e-5 if narrow else 1e-12)
        report |= {f"{label}: ahead: {name}": (error, 0.0) for name, error in ahead(d).items()}
        report |= {f"{label}: remote: {name}": (error, 0.0) for name, error in remote(d).items()}
        report |= {f"{label}: adjoint: {name}": (error, 1e-12) for name, error in adjoints(d).items()}
        report |= {f"{label}: {name}": (error, 0.0) for name, error in bytes_of(d, part).items()}
    if COMM.rank == 0:
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
