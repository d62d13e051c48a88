"""The options of ``numgraph train``, and those of a model, which other commands have too."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from numgraph.cli.options import (
    DEVICES,
    add_json,
    fanouts,
    names,
    natural,
    number,
    path,
    positive,
    rate,
    share,
)

MODELS = ("gcn", "sage", "gat", "gin")
DATASETS = ("digits", "karate", "cora", "citeseer", "pubmed")
SCORERS = ("complex", "distmult", "transe")
_TASKS = ("classification", "regression", "link", "graph", "triples")
_READOUTS = ("sum", "mean", "max")
FANOUT = 10


def add_model_options(command: argparse.ArgumentParser, dataset: str, scorers: tuple[str, ...] = ()) -> None:
    """scorers: of triples, where the command is for them, for sets of graphs, links and regression too."""
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
    command.add_argument(
        "--layers", type=positive, metavar="N", help=f"default 2{', of graphs 5' if scorers else ''}"
    )
    command.add_argument("--heads", type=positive, metavar="N", help="of gat's hidden layers (default 8)")
    command.add_argument(
        "--dropout",
        type=share,
        metavar="P",
        help=f"default 0.5, gat 0.6{'; 0 for regression and links' if scorers else ''}",
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
        help="who owns which node, without --shards (default metis)",
    )
