"""``numgraph train``: on a dataset by name, or on tables of your own."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from numgraph.cli.options import INTERRUPTED, Refused, noted, output, print_result, refusing
from numgraph.cli.progress import (
    compiling_told,
    print_checkpoint,
    print_sampling,
    print_start,
    progress,
    result_line,
)
from numgraph.cli.train_options import FANOUT

if TYPE_CHECKING:
    from numgraph.data import Dataset, Links
    from numgraph.training import History, Metrics
    from numgraph.training.recipes import Recipe


def refuse_options_of_graphs(options: argparse.Namespace) -> None:
    """An error for what only sets of graphs take."""
    given = [name for name in ("folds", "readout") if getattr(options, name, None)]
    if given:
        raise Refused(f"--{given[0]} was given without --task graph; it is for sets of graphs")


def check_task(options: argparse.Namespace, task: str, path: str) -> None:
    """An error where --task is not what a folder is for."""
    if getattr(options, "task", None) not in (None, task):
        raise Refused(f"--task is {options.task}, the labels in {path} are for {task}")


def _loaded(options: argparse.Namespace) -> tuple[Dataset | Links, str]:
    """What to learn from, and the task."""
    refuse_options_of_graphs(options)
    from numgraph.data import load, open_dataset, read_tables, split_links

    if options.data is not None:
        tables = ("edges", "nodes", "target", "features", "categories", "directed", "inductive")
        for name in ("dataset", *tables):
            if getattr(options, name, None):
                raise Refused(f"--{name} was given beside --data {options.data}; choose one of them")
        opened = open_dataset(options.data)
        if getattr(options, "task", None) == "link":
            return split_links(opened, rng=options.seed), "link"
        check_task(options, opened.task, options.data)
        return opened, opened.task
    if options.edges is None:
        names = ("nodes", "target", "features", "task", "categories", "directed", "inductive")
        given = [f"--{name}" for name in names if getattr(options, name, None)]
        if given:
            raise Refused(f"{given[0]} was given without --edges; it is for tables of your own: --edges FILE")
        return load(options.dataset or options.default_dataset, options.data_dir), "classification"
    if options.dataset:
        raise Refused(f"--edges was given beside --dataset {options.dataset}; choose one of them")
    linked = options.task == "link"
    if not linked and (options.nodes is None or options.target is None):
        missing = (
            "--nodes, the file of nodes"
            if options.nodes is None
            else "--target, the column of --nodes to learn"
        )
        raise Refused(f"give {missing}, or --task link to learn the edges")
    data = read_tables(
        options.edges,
        options.nodes,
        target=options.target,
        features=options.features,
        task=None if linked else options.task,
        rng=options.seed,
        directed=options.directed,
        identity=not options.inductive,
        categories=options.categories,
    )
    return (split_links(data, rng=options.seed), "link") if linked else (data, data.task)


def chosen_by(options: argparse.Namespace) -> tuple[Recipe, Dataset | Links, str]:
    """The recipe with the options' changes, what to learn from, and the task; warnings about the data are
    lines on stderr.
    """
    with refusing():
        check_sampling(options, recipe_by(options))  # a bad choice is told before minutes of reading
        with noted(options.command):
            dataset, task = _loaded(options)
        return recipe_by(options, task), dataset, task


def recipe_by(options: argparse.Namespace, task: str = "classification") -> Recipe:
    """The recipe of the model for a task, with the options' changes."""
    from numgraph.training.recipes import Recipe, recipe

    changes = {
        name: getattr(options, name)
        for name in Recipe.__dataclass_fields__
        if name != "model" and hasattr(options, name)
    }
    return recipe(options.model, task, **changes)


def check_sampling(options: argparse.Namespace, chosen: Recipe) -> None:
    """The number of in-edges for each layer, where there are batches; an error for what cannot be."""
    if getattr(options, "batch_size", None) is None:
        if getattr(options, "num_neighbors", None) is not None:
            raise Refused(
                "--num-neighbors was given without --batch-size; the whole graph is one step then, and "
                "nothing is drawn"
            )
        return
    if options.device != "cpu":
        raise Refused(
            f"--batch-size was given beside --device {options.device}; neighbours are sampled on the host, "
            "leave out one of them"
        )
    if options.num_neighbors is None:
        options.num_neighbors = (FANOUT,) * chosen.layers
    if len(options.num_neighbors) != chosen.layers:
        raise Refused(
            f"--num-neighbors has {len(options.num_neighbors)} numbers for {chosen.layers} layers; give one "
            "for each"
        )


def check_targets(options: argparse.Namespace) -> None:
    """Errors of the files that are to be written, before the training and not after it."""
    if options.checkpoint_every and not options.checkpoint:
        raise Refused("--checkpoint-every was given without --checkpoint, the file that is written")
    with refusing():
        from numgraph.serialize import check_target

        for target in (options.save, options.checkpoint):
            if target:
                check_target(target)
        if options.plot:
            from numgraph.training.plots import check_plot

            check_plot(options.plot)


def train(options: argparse.Namespace) -> int:
    """The command, of one process."""
    from numgraph.data import Links
    from numgraph.training import fit
    from numgraph.training.objectives import objective_of
    from numgraph.training.recipes import build, sampling, training_features

    check_targets(options)
    chosen, dataset, task = chosen_by(options)
    with refusing():
        dataset = dataset.to(options.device)
    out = output(options)
    model, optimizer = build(chosen, dataset, options.seed)
    model.to(options.device)
    features = training_features(dataset.data if isinstance(dataset, Links) else dataset)
    loader = None
    if options.batch_size:
        loader = sampling(dataset, features, options.num_neighbors, options.batch_size, options.seed)
    if not options.quiet:
        print_start(chosen, dataset, sum(parameter.size for parameter in optimizer.parameters), out)
        print_checkpoint(options.checkpoint, out)
        if loader is not None:
            print_sampling(loader, options.num_neighbors, out)
    settings = fit_settings(options, chosen)
    told = compiling_told(options.quiet, out)
    with told, progress(chosen.epochs, options.quiet, out) as report, refusing(ends(options)), noted("train"):
        history = fit(
            model, dataset, optimizer, features=features, loader=loader, callback=report, **settings
        )
    objective = objective_of("train", dataset, features, loader)
    measured = dict(zip(("train", "val", "test"), objective.evaluate(model, ("train", "val", "test"))))
    written(options, chosen, task, model, objective, history, measured, out)
    count = sum(parameter.size for parameter in optimizer.parameters)
    print_result(options, result_of(options, chosen, task, objective, history, measured, count))
    return INTERRUPTED if history.stopped == "interrupted" else 0


def ends(options: argparse.Namespace) -> tuple[type[Exception], ...]:
    """Errors of a training that are told without a traceback: numbers that diverge, and of a checkpoint
    whatever does not fit.
    """
    from numgraph.training import Diverged

    return (ValueError, OSError) if options.checkpoint else (Diverged,)


def fit_settings(options: argparse.Namespace, chosen: Recipe) -> dict[str, Any]:
    """The options of ``fit``."""
    kept = {"checkpoint": options.checkpoint, "checkpoint_every": options.checkpoint_every or 10}
    return {"epochs": chosen.epochs, "patience": chosen.patience, "seed": options.seed, **kept}


def written(
    options: argparse.Namespace,
    chosen: Recipe,
    task: str,
    model: Any,
    objective: Any,
    history: History,
    measured: Any,
    out: Any,
) -> None:
    """Print what was reached, and write the files that were asked for."""
    print(result_line(history, measured["val"], measured["test"]), file=out)
    with refusing():
        if options.save:
            _save(options, chosen, task, model, objective, out)
        if options.plot and history.epochs:
            from numgraph.cli.progress import shown
            from numgraph.training.plots import plot_training

            tested = measured["test"]
            score = f": test {shown(history.score, tested.values[history.score])}" if tested else ""
            plot_training(history, options.plot, f"{chosen.model} on {objective.data.name}{score}")
            print(f"plot: {options.plot}", file=out)


def _save(
    options: argparse.Namespace, chosen: Recipe, task: str, model: Any, objective: Any, out: Any
) -> None:
    data = objective.data
    if options.task == "graph":
        from numgraph.training.graph_predictor import GraphPredictor

        GraphPredictor.of(model, chosen, options.readout, int(options.target or 0), data).save(options.save)
        print(f"model: {options.save}", file=out)
        return
    if options.edges is None:
        from numgraph.serialize import save_parameters

        save_parameters(options.save, model.state_dict())
        print(f"parameters: {options.save}", file=out)
        return
    from numgraph.training.predictor import Predictor

    assert data.columns is not None
    Predictor(model, chosen, task, data.columns, data.label_scale, options.directed).save(options.save)
    print(f"model: {options.save}", file=out)


def result_of(
    options: argparse.Namespace,
    chosen: Recipe,
    task: str,
    objective: Any,
    history: History,
    measured: dict[str, Metrics | None],
    parameters: int,
) -> dict[str, Any]:
    """What --json prints; null is what there is nothing to measure it by."""
    measures = {
        "classification": ("accuracy",),
        "regression": ("r2", "rmse", "mae"),
        "link": ("auc", "average_precision"),
    }[task]
    result: dict[str, Any] = {
        "dataset": objective.data.name,
        "task": task,
        "model": chosen.model,
        "seed": options.seed,
    }
    result |= {
        "device": options.device,
        "batch_size": options.batch_size,
        "num_neighbors": options.num_neighbors,
    }
    for part in ("test", "val", "train"):
        metrics = measured[part]
        for name in measures:
            result[f"{part}_{name}"] = None if metrics is None else metrics.values[name]
    test = measured["test"]
    return result | {
        "test_loss": None if test is None else test.loss,
        "best_epoch": history.best_epoch,
        "epochs_run": history.epochs,
        "stopped": history.stopped,
        "seconds": round(history.seconds, 3),
        "parameters": parameters,
        "settings": {name: value for name, value in vars(chosen).items() if name not in ("model", "decay")},
        "save": options.save,
        "plot": options.plot,
    }
