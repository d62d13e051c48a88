"""``numgraph train --task graph``: a class or a number for each graph of a set, by one split or by
cross-validation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from numgraph.cli import train
from numgraph.cli.options import INTERRUPTED, Refused, noted, output, print_result, refusing
from numgraph.cli.progress import compiling_told, print_checkpoint, progress, shown

if TYPE_CHECKING:
    from numgraph.data import GraphDataset
    from numgraph.training import History
    from numgraph.training.recipes import Recipe

BATCH = 32
_OTHERS = (
    "dataset",
    "data_dir",
    "num_neighbors",
    "edges",
    "nodes",
    "features",
    "categories",
    "directed",
    "inductive",
    "shards",
)
"""Options that say nothing of a set of graphs."""
_OF_ONE = ("save", "checkpoint", "plot", "patience")
"""Options that folds, which are several trainings of all epochs, have no use for."""


def train_graphs(options: argparse.Namespace) -> int:
    """The command."""
    from numgraph.training import fit
    from numgraph.training.recipes import READOUTS, build_of_graphs, recipe

    _check(options)
    options.model, options.batch_size = options.model or "gin", options.batch_size or BATCH
    options.readout = options.readout or READOUTS[options.model]
    train.check_targets(options)
    with refusing():
        names = ("hidden", "layers", "heads", "dropout", "epochs", "lr", "weight_decay", "patience")
        chosen = recipe(options.model, "graph", **{name: getattr(options, name) for name in names})
        with noted("train"):
            data = _read(options)
        if not data.train_mask.any():
            raise Refused(f"no graph of {options.data} has a label; there is nothing to learn")
    out = output(options)
    model, optimizer, halve = build_of_graphs(chosen, data, options.readout, options.seed)
    count = sum(parameter.size for parameter in optimizer.parameters)
    if not options.quiet:
        _print_start(options, chosen, data, count, out)
        print_checkpoint(options.checkpoint, out)
    if options.folds:
        return _by_folds(options, chosen, data, count, out)
    from numgraph.data import GraphLoader
    from numgraph.training.objectives import objective_of

    loader = GraphLoader(
        data, options.batch_size, input_graphs=data.train_mask, shuffle=True, seed=options.seed
    )
    told = compiling_told(options.quiet, out)
    with (
        told,
        progress(chosen.epochs, options.quiet, out) as report,
        refusing(train.ends(options)),
        noted("train"),
    ):
        callbacks = [halve] if report is None else [halve, report]
        history = fit(
            model, data, optimizer, loader=loader, callback=callbacks, **train.fit_settings(options, chosen)
        )
    objective = objective_of("train", data, loader=loader)
    measured = dict(zip(("train", "val", "test"), objective.evaluate(model, ("train", "val", "test"))))
    train.written(options, chosen, data.task, model, objective, history, measured, out)
    result = train.result_of(options, chosen, data.task, objective, history, measured, count)
    print_result(options, result | {"task": "graph", "target": data.task, "readout": options.readout})
    return INTERRUPTED if history.stopped == "interrupted" else 0


def _check(options: argparse.Namespace) -> None:
    if options.data is None:
        raise Refused(
            "give --data, a folder with NAME_A.txt, NAME_graph_indicator.txt and NAME_graph_labels.txt"
        )
    for names, beside, why in (
        (_OTHERS, "--task graph", "of which it says nothing"),
        (_OF_ONE if options.folds else (), "--folds", "which trains a model for each fold, for all epochs"),
    ):
        given = [name for name in names if getattr(options, name, None)]
        if given:
            raise Refused(f"--{given[0].replace('_', '-')} was given beside {beside}, {why}; leave it out")
    if options.device != "cpu":
        raise Refused(f"--device is {options.device}; sets of graphs are learnt on the host")
    if options.target is not None and not options.target.isdecimal():
        raise Refused(
            f"--target is {options.target!r}; of graphs it is a column of NAME_graph_attributes.txt, a "
            "number from 0 on"
        )


def _read(options: argparse.Namespace) -> GraphDataset:
    """The folder's graphs; with --target those numbers are learnt."""
    from numgraph.data import read_tu

    task = None if options.target is None else "regression"
    return read_tu(options.data, task=task, target=int(options.target or 0), rng=options.seed)


def _print_start(
    options: argparse.Namespace, chosen: Recipe, data: GraphDataset, parameters: int, out: TextIO
) -> None:
    """What is learnt from, the model with its settings, and what a step sees."""
    from numgraph.training.recipes import edge_width

    nodes, edges = sum(g.num_nodes for g in data.graphs), sum(g.num_edges for g in data.graphs)
    kind = "regression" if data.task == "regression" else f"{data.num_classes} classes"
    sizes = [int(mask.sum()) for mask in (data.train_mask, data.val_mask, data.test_mask)]
    heads = f" × {chosen.heads} heads" if chosen.heads > 1 else ""
    taken, has = edge_width(chosen, data), 0 if data.edge_attr is None else data.edge_attr[0].shape[1]
    of_edges = (
        f", {has} of edges"
        if taken
        else f"; the edges' {has} features are left out, as {chosen.model} takes none"
        if has
        else ""
    )
    if options.folds:
        split, learnt = f"{options.folds} folds", sum(sizes) - sum(sizes) // options.folds
    else:
        split, learnt = f"{sizes[0]:,} graphs train, {sizes[1]:,} validate, {sizes[2]:,} test", sizes[0]
    steps = -(-learnt // options.batch_size)
    print(
        f"{data.name}: {len(data):,} graphs, {nodes:,} nodes, {edges:,} edges, {data.num_features} "
        f"features{of_edges}, {kind}; {split}\n"
        f"{chosen.model}: {chosen.layers} layers, hidden {chosen.hidden}{heads}, {options.readout} over the "
        "nodes of every layer, "
        f"{parameters:,} parameters; lr {chosen.lr:g}, weight decay {chosen.weight_decay:g}, dropout "
        f"{chosen.dropout:g}\n"
        f"{steps:,} step{'s' if steps > 1 else ''} an epoch, of {min(options.batch_size, learnt):,} graphs",
        file=out,
        flush=True,
    )


def _by_folds(
    options: argparse.Namespace, chosen: Recipe, data: GraphDataset, parameters: int, out: TextIO
) -> int:
    """The protocol of GIN's paper: of all epochs the one whose validation score, as the mean over the folds,
    is the best.
    """
    from numgraph.training import Diverged, cross_validate
    from numgraph.training.recipes import build_of_graphs

    def told(fold: int, history: History) -> None:
        if not options.quiet:
            score = shown(history.score, history.val_score[history.best_epoch - 1])
            print(
                f"fold {fold + 1}/{options.folds}   {score} in epoch {history.best_epoch}   "
                f"({history.seconds:.1f} s)",
                file=out,
                flush=True,
            )

    def make(fold: int) -> Any:
        return build_of_graphs(chosen, data, options.readout, options.seed + fold)

    settings = {
        "folds": options.folds,
        "epochs": chosen.epochs,
        "batch_size": options.batch_size,
        "seed": options.seed,
    }
    with compiling_told(options.quiet, out), refusing((Diverged, ValueError)), noted("train"):
        found = cross_validate(make, data, callback=told, **settings)
    measure = found.histories[0].score
    percent: Callable[[float], str] = (
        (lambda value: f"{100 * value:.1f}") if measure == "accuracy" else (lambda value: f"{value:.4f}")
    )
    unit = " %" if measure == "accuracy" else ""
    seconds, done = sum(history.seconds for history in found.histories), len(found.histories)
    print(
        f"{done} folds: {'accuracy' if unit else 'R²'} {percent(found.mean)} ± {percent(found.std)}{unit}   "
        "(validation, in epoch "
        f"{found.best_epoch} of {chosen.epochs}, the best for all folds together; {seconds:.1f} s)",
        file=out,
    )
    result: dict[str, Any] = {
        "dataset": data.name,
        "task": "graph",
        "target": data.task,
        "model": chosen.model,
        "seed": options.seed,
    }
    result |= {
        "folds": done,
        f"val_{measure}": found.mean,
        f"val_{measure}_std": found.std,
        "of_folds": found.of_folds.tolist(),
    }
    result |= {
        "best_epoch": found.best_epoch,
        "epochs_run": chosen.epochs,
        "seconds": round(seconds, 3),
        "parameters": parameters,
    }
    settings = {name: value for name, value in vars(chosen).items() if name not in ("model", "decay")}
    print_result(
        options, result | {"readout": options.readout, "batch_size": options.batch_size, "settings": settings}
    )
    return 0 if done == options.folds else INTERRUPTED
