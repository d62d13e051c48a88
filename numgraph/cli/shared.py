"""``numgraph train`` under mpiexec: processes that share the nodes. Process 0 prints and writes files."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numba
import numpy as np

from numgraph.cli import train
from numgraph.cli.graphs import train_graphs
from numgraph.cli.options import INTERRUPTED, Refused, output, print_result
from numgraph.cli.progress import compiling_told, print_checkpoint, print_start, progress
from numgraph.cli.train_options import SCORERS
from numgraph.cli.triples import train_triples

if TYPE_CHECKING:
    from numgraph.training.recipes import Recipe

T = TypeVar("T")

STARTERS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
"""What mpiexec sets in the environment of what it starts."""


def started_by_mpi() -> bool:
    """Whether this is ``python -m mpi4py``, by which an error of one process ends all; it is an error to
    leave that out under mpiexec.
    """
    if "mpi4py.run" in sys.modules:
        return True
    if any(int(os.environ[name]) > 1 for name in STARTERS if os.environ.get(name, "").isdigit()):
        raise Refused(
            "mpiexec started this without mpi4py; write mpiexec -n N python -m mpi4py -m numgraph train …"
        )
    return False


def run_train(options: argparse.Namespace) -> int:
    """The command, of one process or of several."""
    if options.task == "triples" or options.model in SCORERS:
        if started_by_mpi():
            raise Refused("triples are learnt by one process; leave out mpiexec")
        return train_triples(options, SCORERS)
    if options.task == "graph":
        if started_by_mpi():
            raise Refused("sets of graphs are learnt by one process; leave out mpiexec")
        return train_graphs(options)
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


class _Plan(NamedTuple):
    """What the processes train: by shares of the nodes, or of the seeds of batches.

    data : for ``fit``; named : with name and columns, for files; meter : of bytes and seconds;
        ghosts : of all processes
    """

    chosen: Recipe
    task: str
    data: Any
    named: Any
    options: dict[str, Any]
    counts: list[int]
    threads: int
    meter: Any
    ghosts: int
    told: str


def _train(options: argparse.Namespace, comm: Any) -> int:
    from numgraph.training import fit
    from numgraph.training.objectives import objective_of
    from numgraph.training.recipes import build

    first = comm.rank == 0
    out: Any = output(options)
    if options.device != "cpu":
        raise Refused(f"--device is {options.device}; several processes train on the host")
    _together(comm, lambda: train.check_targets(options) if first else None)
    plan = _by_batches(options, comm) if options.batch_size else _by_nodes(options, comm)
    chosen, data, quiet = plan.chosen, plan.data, options.quiet or not first
    model, optimizer = build(chosen, data, options.seed)
    count = sum(parameter.size for parameter in optimizer.parameters)
    if not quiet:
        masks = {
            f"{part}_mask": SimpleNamespace(sum=lambda n=n: n)
            for part, n in zip(("train", "val", "test"), plan.counts)
        }
        fields = ("name", "graph", "num_nodes", "num_features", "num_classes", "task")
        shown: Any = SimpleNamespace(**{name: getattr(data, name) for name in fields}, **masks)
        print_start(chosen, shown, count, out)
        print_checkpoint(options.checkpoint, out)
        print(f"{comm.size} processes of {plan.threads} threads: {plan.told}", file=out, flush=True)
    try:
        with compiling_told(quiet, out), progress(chosen.epochs, quiet, out) as report:
            history = fit(
                model, data, optimizer, callback=report, **plan.options, **train.fit_settings(options, chosen)
            )
    except train.ends(options) as error:  # the same on all processes
        raise Refused(str(error)) from error
    objective = objective_of("train", data, **plan.options)
    measured = dict(zip(("train", "val", "test"), objective.evaluate(model, ("train", "val", "test"))))
    sent, waited = comm.reduce(plan.meter.bytes), comm.gather(plan.meter.seconds)
    if first:
        told = SimpleNamespace(data=plan.named, score=objective.score)
        train.written(options, chosen, plan.task, model, told, history, measured, out)
        result = train.result_of(options, chosen, plan.task, told, history, measured, count)
        result |= {"processes": comm.size, "threads": plan.threads, "ghosts": plan.ghosts}
        print_result(options, result | {"bytes_exchanged": sent, "seconds_waited": round(max(waited), 6)})
    comm.Barrier()  # who ends later than the others is not taken for one that failed
    return INTERRUPTED if history.stopped == "interrupted" else 0


def _read(options: argparse.Namespace, comm: Any) -> tuple[Recipe, Any, str]:
    """The recipe, the dataset, which every process reads, and the task."""
    from numgraph.data import Links

    with (
        contextlib.nullcontext() if comm.rank == 0 else contextlib.redirect_stderr(io.StringIO())
    ):  # the same warnings once
        chosen, whole, task = _together(comm, lambda: train.chosen_by(options))
    if isinstance(whole, Links):
        raise Refused("links are learnt by one process; leave out mpiexec")
    return chosen, whole, task


def _by_batches(options: argparse.Namespace, comm: Any) -> _Plan:
    """Every process has the dataset and draws for its part of each batch's seeds."""
    from numgraph.distributed import divide
    from numgraph.distributed.rows import one_copy
    from numgraph.training.recipes import sampling, training_features

    if options.shards:
        raise Refused(
            f"--batch-size was given beside --shards {options.shards}; give --data, whose files all "
            "processes map"
        )
    chosen, whole, task = _read(options, comm)
    given = training_features(whole)
    features = one_copy(given, comm)
    whole = replace(whole, features=features) if given is whole.features else whole
    loader = divide(sampling(whole, features, options.num_neighbors, options.batch_size, options.seed), comm)
    counts = [int(getattr(whole, f"{part}_mask").sum()) for part in ("train", "val", "test")]
    told = f"each has {-(-options.batch_size // comm.size):,} seeds or fewer of a batch"
    threads = numba.get_num_threads()
    return _Plan(
        chosen,
        task,
        whole,
        whole,
        {"loader": loader, "features": features},
        counts,
        threads,
        loader.processes,
        0,
        told,
    )


def _by_nodes(options: argparse.Namespace, comm: Any) -> _Plan:
    """Every process owns some of the nodes."""
    from numgraph.distributed import DistGraph
    from numgraph.training.recipes import training_features
    from numgraph.training.shared import SharedDataset

    if options.shards is None:
        chosen, whole, task = _read(options, comm)
        try:
            d = DistGraph.from_graph(whole.graph, comm, method=options.partition or "metis")
        except (ValueError, ImportError) as error:
            raise Refused(str(error)) from error
        data = SharedDataset.of(whole, d, training_features(whole))
    else:
        data, whole = _loaded(options, comm), None
        d, task = data.graph, data.task
        train.check_task(options, task, options.shards)
        chosen = _together(comm, lambda: train.recipe_by(options, task))
    most = np.empty(3, np.int64)
    comm.Allreduce(np.array([len(d.owned), len(d.edge_ids), len(d.ghosts)]), most, op=_mpi().MAX)
    told = f"up to {most[0]:,} nodes, {most[1]:,} edges and {most[2]:,} ghosts each"
    counts, ghosts = [data.count(part) for part in ("train", "val", "test")], comm.allreduce(len(d.ghosts))
    return _Plan(
        chosen, task, data, data if whole is None else whole, {}, counts, d.threads, d.meter, ghosts, told
    )


def _mpi() -> Any:
    from numgraph.distributed.processes import mpi

    return mpi()


def _loaded(options: argparse.Namespace, comm: Any) -> Any:
    """This process's shard."""
    from numgraph.distributed import DistGraph
    from numgraph.training.shared import SharedDataset

    for name in (
        "dataset",
        "data",
        "edges",
        "nodes",
        "target",
        "features",
        "categories",
        "directed",
        "inductive",
    ):
        if getattr(options, name, None):
            raise Refused(f"--{name} was given beside --shards {options.shards}; choose one of them")
    train.refuse_options_of_graphs(options)
    train.check_sampling(options, train.recipe_by(options))
    try:
        return SharedDataset.stored(DistGraph.load(options.shards, comm))
    except (ValueError, OSError) as error:
        raise Refused(str(error)) from error
