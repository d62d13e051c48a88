"""``numgraph train`` under mpiexec: processes that share the nodes. Process 0 prints and writes files."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

from numgraph.cli import train
from numgraph.cli.options import INTERRUPTED, Refused
from numgraph.cli.progress import compiling_told, print_start, progress
from numgraph.cli.triples import train_triples

T = TypeVar("T")

STARTERS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
"""What mpiexec sets in the environment of what it starts."""


def started_by_mpi() -> bool:
    """Whether this is ``python -m mpi4py``, by which an error of one process ends all; it is an error to leave that out under mpiexec."""
    if "mpi4py.run" in sys.modules:
        return True
    if any(int(os.environ[name]) > 1 for name in STARTERS if os.environ.get(name, "").isdigit()):
        raise Refused("mpiexec started this without mpi4py; write mpiexec -n N python -m mpi4py -m numgraph train …")
    return False


def run_train(options: argparse.Namespace) -> int:
    """The command, of one process or of several."""
    if options.task == "triples" or options.model in train.SCORERS:
        if started_by_mpi():
            raise Refused("triples are learnt by one process; leave out mpiexec")
        return train_triples(options, train.SCORERS)
    options.model = options.model or "gcn"
    if not started_by_mpi():
        if options.shards:
            problem = f"--shards {options.shards} is for several processes"
            raise Refused(f"{problem}; start them by mpiexec -n N python -m mpi4py -m numgraph train")
        return train.train(options)
    from numgraph.distributed.processes import communicator

    comm = communicator("numgraph train", None)
    try:
        return _train(options, comm)
    except Refused:
        if comm.rank == 0:
            raise
        return 1


def _together(comm: Any, make: Callable[[], T]) -> T:
    """``make()`` on all; what the user is told of one is told by process 0."""
    from numgraph.distributed.processes import together

    try:
        return together(comm, make)
    except (Refused, ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        raise Refused(str(error)) from error


def _train(options: argparse.Namespace, comm: Any) -> int:
    from numgraph.data import Links
    from numgraph.training import fit
    from numgraph.training.recipes import build

    first = comm.rank == 0
    out: Any = sys.stderr if options.json else sys.stdout
    if options.device != "cpu":
        raise Refused(f"--device is {options.device}; several processes train on the host")
    if options.batch_size is not None:
        raise Refused("batches are trained by one process; leave out --batch-size, or mpiexec")
    _together(comm, lambda: train.check_targets(options) if first else None)
    chosen, whole, task, shared = _dataset(options, comm)
    if isinstance(whole, Links):
        raise Refused("links are learnt by one process; leave out mpiexec")
    model, optimizer = build(chosen, shared, options.seed)
    d, quiet = shared.graph, options.quiet or not first
    facts = comm.gather((len(d.owned), len(d.edge_ids), len(d.ghosts)))
    counts = [shared.count(part) for part in ("train", "val", "test")]
    if not quiet:
        assert facts is not None
        masks = {f"{part}_mask": SimpleNamespace(sum=lambda count=count: count) for part, count in zip(("train", "val", "test"), counts)}
        fields = ("name", "graph", "num_nodes", "num_features", "num_classes", "task")
        shown: Any = SimpleNamespace(**{name: getattr(shared, name) for name in fields}, **masks)
        print_start(chosen, shown, sum(parameter.size for parameter in optimizer.parameters), out)
        most = [max(column) for column in zip(*facts)]
        print(
            f"{comm.size} processes of {d.threads} threads: up to {most[0]:,} nodes, {most[1]:,} edges and {most[2]:,} ghosts each",
            file=out,
            flush=True,
        )
    try:
        with compiling_told(quiet, out), progress(chosen.epochs, quiet, out) as report:
            history = fit(model, shared, optimizer, callback=report, **train.fit_settings(options, chosen))
    except train.ends(options) as error:  # the same on all processes
        raise Refused(str(error)) from error
    objective = shared.objective()
    measured = dict(zip(("train", "val", "test"), objective.evaluate(model, ("train", "val", "test"))))
    sent, waited = comm.reduce(d.meter.bytes), comm.gather(d.meter.seconds)
    if first:
        told = SimpleNamespace(data=shared if whole is None else whole, score=objective.score)
        train.written(options, chosen, task, model, told, history, measured, out)
        if options.json:
            count = sum(parameter.size for parameter in optimizer.parameters)
            result = train.result_of(options, chosen, task, told, history, measured, count)
            of_processes = {"processes": comm.size, "threads": d.threads, "ghosts": sum(one[2] for one in facts)}
            result |= {**of_processes, "bytes_exchanged": sent, "seconds_waited": round(max(waited), 6)}
            print(json.dumps(result), flush=True)
    comm.Barrier()  # who ends later than the others is not taken for one that failed
    return INTERRUPTED if history.stopped == "interrupted" else 0


def _dataset(options: argparse.Namespace, comm: Any) -> tuple[Any, Any, str, Any]:
    """The recipe, the whole dataset (None where there are shards), the task, and this process's part."""
    from numgraph.data import Links
    from numgraph.distributed import DistGraph
    from numgraph.training.recipes import Recipe, recipe
    from numgraph.training.shared import SharedDataset

    if options.shards is None:
        chosen, whole, task = _together(comm, lambda: train.chosen_by(options))
        if isinstance(whole, Links):
            return chosen, whole, task, None
        try:
            d = DistGraph.from_graph(whole.graph, comm, method=options.partition)
        except (ValueError, ImportError) as error:
            raise Refused(str(error)) from error
        return chosen, whole, task, SharedDataset.of(whole, d)
    for name in ("dataset", "edges", "nodes", "target", "features", "categories"):
        if getattr(options, name, None):
            raise Refused(f"--{name} was given beside --shards {options.shards}; choose one of them")
    try:
        d = DistGraph.load(options.shards, comm)
    except (ValueError, OSError) as error:
        raise Refused(str(error)) from error
    shared = SharedDataset.stored(d)
    changes = {name: getattr(options, name) for name in Recipe.__dataclass_fields__ if name != "model" and hasattr(options, name)}
    return _together(comm, lambda: recipe(options.model, shared.task, **changes)), None, shared.task, shared
