"""``numgraph train --task triples``: a scorer of the triples of a knowledge graph, and how it ranks those
that it has not seen.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, TextIO

from numgraph.cli.options import INTERRUPTED, Refused, noted, output, print_result, refusing
from numgraph.cli.progress import compiling_told

if TYPE_CHECKING:
    from numgraph.training import History
    from numgraph.training.answers import Answers

MEASURES = ("mrr", "hits@1", "hits@3", "hits@10", "mean_rank")
_OTHERS = (
    "dataset",
    "data_dir",
    "layers",
    "heads",
    "dropout",
    "weight_decay",
    "num_neighbors",
    "edges",
    "nodes",
    "target",
    "features",
)
_OF_TABLES = ("categories", "directed", "inductive", "shards", "checkpoint")
"""Options of graphs' nodes and links, which say nothing of triples."""


def train_triples(options: argparse.Namespace, scorers: tuple[str, ...]) -> int:
    """The command."""
    from numgraph.data import load_triples
    from numgraph.optim import Adam
    from numgraph.training import Diverged, fit_triples, rank_triples
    from numgraph.training.answers import SCORERS, Answers
    from numgraph.training.triples import SETTINGS, Truth

    model_name = _checked(options, scorers)
    given = {
        "dim": options.hidden,
        **{name: getattr(options, name) for name in ("epochs", "batch_size", "lr", "patience")},
    }
    chosen = SETTINGS[model_name] | {name: value for name, value in given.items() if value is not None}
    with refusing():
        if options.save:
            from numgraph.serialize import check_target

            check_target(options.save)
        if options.plot:
            from numgraph.training.plots import check_plot

            check_plot(options.plot)
        with noted("train"):
            data = load_triples(options.data, rng=options.seed)
    out = output(options)
    model = SCORERS[model_name](
        data.num_entities,
        data.num_relations,
        chosen["dim"],
        reciprocal=chosen["reciprocal"],
        rng=options.seed,
    )
    with refusing():
        model.to(options.device)
    if not options.quiet:
        print(
            f"{data.name}: {data.num_entities:,} entities, {data.num_relations:,} relations; "
            f"{len(data.train):,} triples train, "
            f"{len(data.val):,} validate, {len(data.test):,} test\n"
            f"{model_name}: {chosen['dim']} {'complex ' if model.parts else ''}numbers a row, "
            f"{sum(one.size for one in model.parameters()):,} parameters; lr {chosen['lr']:g}, penalty "
            f"{chosen['penalty']:g}, "
            f"{chosen['batch_size']} triples a step",
            file=out,
            flush=True,
        )
    optimizer = Adam(model.parameters(), lr=chosen["lr"])
    settings = {name: chosen[name] for name in ("epochs", "batch_size", "penalty", "patience")}
    with compiling_told(options.quiet, out), refusing((Diverged,)):
        report = (
            None
            if options.quiet
            else lambda epoch, history: _print_epoch(epoch, chosen["epochs"], history, out)
        )
        history = fit_triples(model, data, optimizer, seed=options.seed, callback=report, **settings)
    truth = Truth(data)
    measured = {part: rank_triples(model, getattr(data, part), truth) for part in ("test", "val")}
    print(_result_line(history, measured), file=out)
    if options.save:
        with refusing():
            Answers.of(model, data).save(options.save)
        print(f"model: {options.save}", file=out)
    if options.plot and history.val_score:
        from numgraph.training.plots import plot_training

        with refusing():
            plot_training(
                history, options.plot, f"{model_name} on {data.name}: test MRR {measured['test']['mrr']:.3f}"
            )
        print(f"plot: {options.plot}", file=out)
    result: dict[str, Any] = {
        "dataset": data.name,
        "task": "triples",
        "model": model_name,
        "seed": options.seed,
    }
    result["device"] = options.device
    result |= {f"{part}_{name}": values[name] for part, values in measured.items() for name in MEASURES}
    result |= {"best_epoch": history.best_epoch, "epochs_run": history.epochs, "stopped": history.stopped}
    result |= {
        "seconds": round(history.seconds, 3),
        "parameters": sum(one.size for one in model.parameters()),
    }
    print_result(options, result | {"settings": chosen, "save": options.save, "plot": options.plot})
    return INTERRUPTED if history.stopped == "interrupted" else 0


def answer(options: argparse.Namespace, answers: Answers) -> int:
    """What ``numgraph predict`` does with a scorer of triples."""
    from numgraph.data.files import write_table
    from numgraph.data.triples import read_questions

    for name in ("edges", "nodes", "features", "pairs"):
        if getattr(options, name):
            raise Refused(f"--{name} was given, and {options.model} is a scorer of triples; give --questions")
    if options.questions is None:
        raise Refused(
            f"{options.model} is a scorer of triples; give --questions, a file with a head and a relation in "
            "each line"
        )
    with refusing():
        heads, relations = read_questions(options.questions)
        columns = answers.tails(heads, relations, options.top)
        write_table("predict", options.out, columns)
    out = output(options)
    if not options.quiet:
        known = sum(columns["known"])
        print(
            f"{len(columns['tail']):,} answers to {len(heads):,} questions, {known:,} of them known before: "
            f"{options.out}",
            file=out,
        )
    print_result(
        options,
        {"task": "triples", "questions": len(heads), "predictions": len(columns["tail"]), "out": options.out},
    )
    return 0


def _checked(options: argparse.Namespace, scorers: tuple[str, ...]) -> str:
    """The model's name; an error for options that do not fit."""
    if options.task != "triples":
        raise Refused(f"--model {options.model} is one of triples; give --task triples and --data")
    if options.data is None:
        raise Refused(
            "give --data, a folder with train.txt, valid.txt and test.txt, or a file, a triple a line"
        )
    model: str = options.model or scorers[0]
    if model not in scorers:
        raise Refused(f"--model {model} is none of triples; choose from {', '.join(scorers)}")
    given = [name for name in (*_OTHERS, *_OF_TABLES) if getattr(options, name, None)]
    if given:
        raise Refused(
            f"--{given[0].replace('_', '-')} was given beside --task triples, of which it says nothing; "
            "leave it out"
        )
    return model


def _print_epoch(epoch: int, epochs: int, history: History, out: TextIO) -> None:
    if epoch != 1 and epoch != epochs and epoch % max(1, epochs // 10):
        return
    judged = (
        f"   validation MRR {history.val_score[-1]:.4f} (best {max(history.val_score):.4f})"
        if history.val_score
        else ""
    )
    print(
        f"epoch {epoch:>{len(str(epochs))}}/{epochs}   loss {history.train_loss[-1]:.4f}{judged}",
        file=out,
        flush=True,
    )


def _result_line(history: History, measured: dict[str, dict[str, float]]) -> str:
    why = {
        "epochs": "",
        "patience": ", stopped early",
        "callback": ", stopped",
        "interrupted": ", interrupted",
    }[history.stopped]
    test, val = measured["test"], measured["val"]
    hits = ", ".join(f"hits@{k} {100 * test[f'hits@{k}']:.1f} %" for k in (1, 3, 10))
    tested = f"test MRR {test['mrr']:.4f}, {hits}, filtered" if test["mrr"] == test["mrr"] else "no test"
    best = f"validation MRR {val['mrr']:.4f}" if val["mrr"] == val["mrr"] else "last"
    return (
        f"{tested}   ({best} in epoch {history.best_epoch} of {history.epochs}{why}; {history.seconds:.1f} s)"
    )
