"""``numgraph train``: on a dataset by name, or on tables of your own."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numgraph.cli.options import (
    DEVICES,
    INTERRUPTED,
    Refused,
    add_json,
    fanouts,
    names,
    natural,
    noted,
    number,
    output,
    path,
    positive,
    print_result,
    rate,
    refusing,
    share,
)
from numgraph.cli.progress import compiling_told, print_sampling, print_start, progress, result_line

if TYPE_CHECKING:
    from numgraph.data import Dataset, Links
    from numgraph.training import History, Metrics
    from numgraph.training.recipes import Recipe

MODELS = ("gcn", "sage", "gat", "gin")
DATASETS = ("digits", "karate", "cora", "citeseer", "pubmed")
SCORERS = ("complex", "distmult", "transe")
_TASKS = ("classification", "regression", "link", "graph", "triples")
_READOUTS = ("sum", "mean", "max")
FANOUT = 10


def add_model_options(command: argparse.ArgumentParser, dataset: str, scorers: tuple[str, ...] = ()) -> None:
    command.add_argument(
        "--dataset", choices=DATASETS, help=f"default {dataset}; digits and karate are embedded"
    )
    command.add_argument(
        "--data",
        type=path,
        metavar="PATH",
        help="in place of --dataset, a folder that numgraph.data.save or GraphWriter wrote; its edges and "
        "features stay on disk"
        + (
            "; with --task triples a folder with train.txt, valid.txt and test.txt, or a file, a triple a "
            "line; with --task graph a folder "
            "in the TU format, NAME_A.txt, NAME_graph_indicator.txt, NAME_graph_labels.txt"
            if scorers
            else ""
        ),
    )
    command.add_argument(
        "--data-dir",
        type=path,
        metavar="DIR",
        help="DIR/planetoid has the citation networks' files; default NUMGRAPH_DATA_DIR or a download",
    )
    of_triples = f", of graphs gin; of triples {', '.join(scorers)} (default {scorers[0]})" if scorers else ""
    command.add_argument(
        "--model",
        choices=(*MODELS, *scorers),
        default=None if scorers else "gcn",
        help=f"default gcn{of_triples}",
    )
    command.add_argument(
        "--hidden",
        type=positive,
        metavar="N",
        help="features of a hidden layer, of one head for gat (default 16, gat 8, gin 64)",
    )
    command.add_argument("--layers", type=positive, metavar="N", help="default 2, of graphs 5")
    command.add_argument("--heads", type=positive, metavar="N", help="of gat's hidden layers (default 8)")
    command.add_argument(
        "--dropout", type=share, metavar="P", help="default 0.5, gat 0.6; 0 for regression and links"
    )
    command.add_argument(
        "--seed",
        type=natural,
        default=0,
        metavar="N",
        help="of the first parameters and of dropout (default 0)",
    )
    command.set_defaults(default_dataset=dataset)


def _add_table_options(command: argparse.ArgumentParser) -> None:
    own = command.add_argument_group(
        "your own data",
        "Tables in .csv, .tsv, .parquet or .arrow files (the extra tables); docs/data.md has their form.",
    )
    own.add_argument(
        "--edges", type=path, metavar="FILE", help="a row an edge: two columns of names, and weight, if there"
    )
    own.add_argument(
        "--nodes", type=path, metavar="FILE", help="a row a node: its name, then the target, features, split"
    )
    own.add_argument(
        "--target",
        metavar="COLUMN",
        help="the column to learn; where it is empty it is to be predicted; of graphs its number",
    )
    own.add_argument(
        "--features", type=path, metavar="X.npy", help="more features, a row a node in the order of --nodes"
    )
    own.add_argument(
        "--task",
        choices=_TASKS,
        help="default: what the target is; link needs none; graph: a set of graphs in --data; triples: a "
        "knowledge graph",
    )
    own.add_argument(
        "--categories",
        type=names,
        default=(),
        metavar="C,…",
        help="columns of numbers that are kinds, not quantities",
    )
    own.add_argument(
        "--directed", action="store_true", help="messages go along edges only (default: both ways)"
    )
    own.add_argument(
        "--inductive",
        action="store_true",
        help="learn nothing of single nodes, for a model that is for other ones (default: nodes are known)",
    )


def add_train(commands: Any, run: Callable[[argparse.Namespace], int]) -> None:
    command = commands.add_parser(
        "train",
        help="train a model of nodes, links, graphs or triples",
        description="Train a model, by default as its paper does. Ctrl-C ends it with the best parameters "
        "so far.",
    )
    add_model_options(command, "digits", SCORERS)
    command.add_argument(
        "--epochs", type=positive, metavar="N", help="at most (default 200, gat 1000; 300 for regression)"
    )
    command.add_argument(
        "--lr", type=rate, metavar="X", help="Adam's learning rate (default 0.01, gat 0.005)"
    )
    command.add_argument(
        "--weight-decay",
        type=rate,
        metavar="X",
        help="default 0.0005, 0 for links; for gcn on its first layer alone, as in the paper",
    )
    command.add_argument(
        "--patience",
        type=natural,
        metavar="N",
        help="stop after N epochs without a better validation loss or score (default 0: never; gat and "
        "regression 100)",
    )
    command.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help="train on sampled neighbours of N nodes, or N links, at a step (default: the whole graph is one "
        "step); with --task graph on N "
        "graphs (default 32)",
    )
    command.add_argument(
        "--num-neighbors",
        type=fanouts,
        metavar="F,…",
        help="for each layer, how many in-edges of a node are drawn, the last layer's last, -1 for all "
        f"(default {FANOUT} each)",
    )
    command.add_argument("--device", choices=DEVICES, default="cpu", help="where it is trained (default cpu)")
    add_json(command)
    command.add_argument("--plot", type=path, metavar="FILE.png", help="draw loss and score by epoch")
    command.add_argument(
        "--save",
        type=path,
        metavar="FILE",
        help="write .npz or .safetensors: of your own data all that predict needs, of a dataset the "
        "parameters",
    )
    command.add_argument(
        "--checkpoint",
        type=path,
        metavar="FILE",
        help="go on from it where it is there; written, .npz or .safetensors, while it trains",
    )
    command.add_argument(
        "--checkpoint-every",
        type=positive,
        default=10,
        metavar="N",
        help="epochs between two writings (default 10)",
    )
    command.add_argument("--quiet", action="store_true", help="print the result alone")
    _add_table_options(command)
    _add_graph_options(command)
    _add_process_options(command)
    command.set_defaults(run=run)


def _add_graph_options(command: argparse.ArgumentParser) -> None:
    graphs = command.add_argument_group(
        "sets of graphs",
        "--task graph --data FOLDER: a class or a number for each; docs/graph_classification.md.",
    )
    graphs.add_argument(
        "--folds",
        type=number(int, 2, 1000),
        metavar="K",
        help="cross-validation in K parts, as GIN's paper (10), in place of one split",
    )
    graphs.add_argument(
        "--readout",
        choices=_READOUTS,
        help="what makes a graph's row of its nodes' (default of gin sum, of others mean)",
    )


def _add_process_options(command: argparse.ArgumentParser) -> None:
    several = command.add_argument_group(
        "several processes",
        "mpiexec -n 4 python -m mpi4py -m numgraph train …: they share the nodes (the extra mpi); "
        "docs/distributed.md.",
    )
    several.add_argument(
        "--shards", type=path, metavar="FOLDER", help="what numgraph partition wrote, a part for each process"
    )
    several.add_argument(
        "--partition",
        choices=("metis", "random"),
        default="metis",
        help="who owns which node, without --shards",
    )


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
        for name in ("dataset", "edges", "nodes", "target", "features", "categories"):
            if getattr(options, name, None):
                raise Refused(f"--{name} was given beside --data {options.data}; choose one of them")
        opened = open_dataset(options.data)
        if getattr(options, "task", None) == "link":
            return split_links(opened, rng=options.seed), "link"
        check_task(options, opened.task, options.data)
        return opened, opened.task
    if options.edges is None:
        given = [
            f"--{name}"
            for name in ("nodes", "target", "features", "task", "categories")
            if getattr(options, name, None)
        ]
        if given:
            raise Refused(f"{given[0]} was given without --edges; the edges of your own data are a file too")
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
    kept = {"checkpoint": options.checkpoint, "checkpoint_every": options.checkpoint_every}
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
