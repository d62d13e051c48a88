"""``numgraph predict``: what a saved model says of the nodes, or pairs of nodes, in tables, or of the graphs
of a folder.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numgraph.cli.options import Refused, add_json, noted, output, path, positive, print_result, refusing
from numgraph.cli.progress import shown
from numgraph.cli.triples import answer

if TYPE_CHECKING:
    from numgraph.data import Dataset
    from numgraph.training.graph_predictor import GraphPredictor
    from numgraph.training.predictor import Predictor


def add_predict(commands: Any) -> None:
    command = commands.add_parser(
        "predict",
        help="predict with a model that train --save wrote",
        description="Predict the target of every node, or the probability of links, with a model that train "
        "--edges … --save wrote; "
        "of a scorer that train --task triples --save wrote, the best tails; of a model that train --task "
        "graph --save wrote, the target "
        "of each graph.",
    )
    command.add_argument(
        "--model", type=path, required=True, metavar="FILE", help="the saved model, .npz or .safetensors"
    )
    command.add_argument("--edges", type=path, metavar="FILE", help="as in training, also of other nodes")
    command.add_argument(
        "--nodes", type=path, metavar="FILE", help="with the columns of the training; needs no target"
    )
    command.add_argument("--features", type=path, metavar="X.npy", help="if the model was trained with it")
    command.add_argument(
        "--pairs",
        type=path,
        metavar="FILE",
        help="of a model of links: the pairs of names (default: the edges)",
    )
    command.add_argument(
        "--data",
        type=path,
        metavar="DIR",
        help="of a model of graphs: a folder with the files of the training's",
    )
    command.add_argument(
        "--questions",
        type=path,
        metavar="FILE",
        help="of a scorer of triples: a head and a relation in each line",
    )
    command.add_argument(
        "--top",
        type=positive,
        default=10,
        metavar="K",
        help="of a scorer of triples: tails for each (default 10)",
    )
    command.add_argument(
        "--out",
        type=path,
        required=True,
        metavar="FILE",
        help="the predictions: .csv, .tsv, .parquet or .arrow",
    )
    add_json(command)
    command.add_argument("--quiet", action="store_true", help="print nothing but warnings, and the JSON line")
    command.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> int:
    from numgraph.data.files import check_table, write_table
    from numgraph.training.answers import Answers
    from numgraph.training.graph_predictor import GraphPredictor
    from numgraph.training.predictor import Predictor

    with refusing(), noted("predict"):
        check_table("predict", options.out)
        for name in ("model", "edges", "nodes", "features", "pairs", "questions"):
            given = getattr(options, name)
            if (
                given
                and os.path.exists(options.out)
                and os.path.exists(given)
                and os.path.samefile(options.out, given)
            ):
                raise Refused(
                    f"--out is the file of --{name}, {given}; give the predictions a file of their own"
                )
        answers = Answers.load(options.model)
        if answers is not None:
            return answer(options, answers)
        if options.questions:
            raise Refused(f"--questions is for scorers of triples, and {options.model} is none; leave it out")
        of_graphs = GraphPredictor.load(options.model)
        if of_graphs is not None:
            return _graphs(options, of_graphs)
        if options.data:
            raise Refused(
                f"--data is for models of graphs, and {options.model} is none; give --edges, a file as in "
                "training"
            )
        if options.edges is None:
            raise Refused("give --edges, a file as in training")
        predictor = Predictor.load(options.model)
        if options.pairs and predictor.task != "link":
            raise Refused(
                f"--pairs is for models of links, and {options.model} is one of {predictor.task}; leave it "
                "out"
            )
        data = predictor.read(options.edges, options.nodes, features=options.features)
        columns = _links(predictor, data, options) if predictor.task == "link" else predictor.predict(data)
        measured = predictor.measure(data)
        write_table("predict", options.out, columns)
    _told(options, predictor.recipe.model, predictor.task, columns, int(data.test_mask.sum()), measured)
    return 0


def _told(
    options: argparse.Namespace,
    model: str,
    task: str,
    columns: Mapping[str, Any],
    labelled: int,
    measured: Mapping[str, float],
) -> None:
    """Print how many predictions there are, and how good they are where the truth is known."""
    rows = len(columns["prediction"])
    if not options.quiet:
        known = ", ".join(shown(name, value) for name, value in measured.items() if value == value)
        more = f"   ({labelled:,} rows have a label, which training may have seen: {known})" if known else ""
        print(f"{rows:,} predictions: {options.out}{more}", file=output(options))
    result = {"model": model, "task": task, "predictions": rows, "out": options.out}
    print_result(options, result | {"labelled": labelled} | dict(measured))


def _graphs(options: argparse.Namespace, predictor: GraphPredictor) -> int:
    """The graphs of a folder."""
    from numgraph.data.files import write_table

    given = [name for name in ("edges", "nodes", "features", "pairs") if getattr(options, name)]
    if given:
        raise Refused(
            f"--{given[0]} is for models of nodes, and {options.model} is one of graphs; leave it out"
        )
    if options.data is None:
        raise Refused("give --data, a folder with the files of the training's")
    data = predictor.read(options.data)
    columns = predictor.predict(data)
    write_table("predict", options.out, columns)
    _told(
        options,
        predictor.recipe.model,
        "graph",
        columns,
        int(data.test_mask.sum()),
        predictor.measure(data, columns),
    )
    return 0


def _links(predictor: Predictor, data: Dataset, options: argparse.Namespace) -> dict[str, Any]:
    """The columns of predictions for pairs of nodes."""
    from numgraph.data.tables import read_pairs

    names, pairs = read_pairs(options.pairs or options.edges, data)
    probability = predictor.predict_links(data, pairs)
    return {
        "source": names[0],
        "target": names[1],
        "prediction": (probability >= 0.5).astype(int),
        "probability": probability,
    }
