"""The command line: ``numgraph train | explain | bench | info``."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

if TYPE_CHECKING:
    from numgraph.data import Dataset
    from numgraph.training import History
    from numgraph.training.recipes import Recipe

_MODELS = ("gcn", "sage", "gat", "gin")
_DATASETS = ("digits", "karate", "cora", "citeseer", "pubmed")
_SUITES = ("kernels", "epochs", "scaling", "locality", "frameworks")
_PEERS = ("scipy", "mkl", "torch", "dgl", "pyg")
_DEVICE_PEERS = ("cusparse", "torch", "scatter", "pyg", "atomic")
_DEVICES = ("cpu", "cuda")
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class _Refused(Exception):
    """What the user asked for cannot be done; its text is the whole message."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 cannot be done, 2 a bad option, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # formulas have letters that an ASCII terminal has not
            stream.reconfigure(errors="replace")
    options = _parser().parse_args(argv)
    try:
        status = options.run(options)
        sys.stdout.flush()
        return status
    except _Refused as error:
        print(f"numgraph {options.command}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"numgraph {options.command}: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except MemoryError as error:
        print(f"numgraph {options.command}: error: there is not enough memory ({error})", file=sys.stderr)
        return 1
    except OSError as error:  # stdout cannot be written; Python would complain once more when it closes it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # whose reader has left
            print(f"numgraph {options.command}: error: {error}", file=sys.stderr)
        return 1


@contextlib.contextmanager
def _refusing(kinds: tuple[type[Exception], ...] = (ValueError, TypeError, OSError, ImportError)) -> Iterator[None]:
    """Errors that speak to the user (by default: a file or package that is missing, a bad value) end the command with their text alone."""
    try:
        yield
    except kinds as error:
        raise _Refused(str(error)) from error


# Options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _number(kind: type, low: float, high: float, *, open_high: bool = False) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high or (open_high and value == high):
            whole = "a whole number" if kind is int else "a number"
            upper = "" if high == float("inf") else f" and {'below' if open_high else 'at most'} {high:g}"
            raise argparse.ArgumentTypeError(f"{text!r} is not {whole}, at least {low:g}{upper}")
        return value

    return parse


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_positive(name) for name in _names(text))


_INF = float("inf")
_positive, _natural = _number(int, 1, 10**9), _number(int, 0, 2**32 - 1)
_rate, _share = _number(float, 0, _INF, open_high=True), _number(float, 0, 1, open_high=True)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="numgraph", description="Message passing on graphs for NumPy.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="train|explain|bench|info")
    _add_train(commands)
    _add_explain(commands)
    _add_bench(commands)
    command = commands.add_parser("info", help="versions, threads, threading layer, cache folders, devices")
    command.add_argument("--json", action="store_true", help="as one JSON line")
    command.set_defaults(run=_info)
    return parser


def _add_model_options(command: argparse.ArgumentParser, dataset: str) -> None:
    command.add_argument("--dataset", choices=_DATASETS, default=dataset, help=f"default {dataset}; digits and karate are embedded")
    command.add_argument(
        "--data-dir",
        type=_path,
        metavar="DIR",
        help="DIR/planetoid has the citation networks' files; default NUMGRAPH_DATA_DIR or a download",
    )
    command.add_argument("--model", choices=_MODELS, default="gcn", help="default gcn")
    command.add_argument(
        "--hidden", type=_positive, metavar="N", help="features of a hidden layer, of one head for gat (default 16, gat 8, gin 64)"
    )
    command.add_argument("--layers", type=_positive, metavar="N", help="default 2")
    command.add_argument("--heads", type=_positive, metavar="N", help="of gat's hidden layers (default 8)")
    command.add_argument("--dropout", type=_share, metavar="P", help="default 0.5, gat 0.6")
    command.add_argument("--seed", type=_natural, default=0, metavar="N", help="of the first parameters and of dropout (default 0)")


def _add_train(commands: Any) -> None:
    command = commands.add_parser(
        "train",
        help="train a node classifier",
        description="Train a node classifier, by default as the model's paper does. Ctrl-C ends it with the best parameters so far.",
    )
    _add_model_options(command, "digits")
    command.add_argument("--epochs", type=_positive, metavar="N", help="at most (default 200, gat 1000)")
    command.add_argument("--lr", type=_rate, metavar="X", help="Adam's learning rate (default 0.01, gat 0.005)")
    command.add_argument(
        "--weight-decay", type=_rate, metavar="X", help="default 0.0005; for gcn on its first layer alone, as in the paper"
    )
    command.add_argument(
        "--patience",
        type=_natural,
        metavar="N",
        help="stop after N epochs without a better validation loss or accuracy (default 0: never; gat 100)",
    )
    command.add_argument("--device", choices=_DEVICES, default="cpu", help="where it is trained (default cpu)")
    command.add_argument("--json", action="store_true", help="print one JSON line last, on stdout; progress goes to stderr")
    command.add_argument("--plot", type=_path, metavar="FILE.png", help="draw loss and accuracy by epoch")
    command.add_argument("--save", type=_path, metavar="FILE", help="write the best parameters: .safetensors or .npz")
    command.add_argument("--quiet", action="store_true", help="print the result alone")
    command.set_defaults(run=_train)


def _add_explain(commands: Any) -> None:
    command = commands.add_parser(
        "explain",
        help="print the tape of one training step: each record, and how its gradient is computed",
        description="Print the tape of one training step: each record, and which kernel replays it, on the graph or on the reversed graph.",
    )
    _add_model_options(command, "karate")
    command.set_defaults(run=_explain)


def _add_bench(commands: Any) -> None:
    command = commands.add_parser(
        "bench",
        help="time kernels and training epochs beside SciPy, MKL, torch, DGL and PyG",
        description="Time kernels and training epochs beside the peers that are installed, alternately, after a check that the results "
        "agree. A ratio above 1 means that numgraph is faster. By default a few minutes.",
    )
    command.add_argument("--suite", type=_names, default=("kernels", "epochs"), metavar="S,…", help=f"{', '.join(_SUITES)} or all")
    command.add_argument("--rows", type=_names, metavar="R,…", help="rows of the tables, for example copy_u_sum,gat,cora_gcn (default all)")
    command.add_argument("--features", type=_counts, metavar="F,…", help="widths of the kernels (default: each row's own)")
    command.add_argument(
        "--nodes-log2", type=_number(int, 1, 30), default=17, metavar="N", help="2^N nodes of the R-MAT graph (default 17)"
    )
    command.add_argument("--edges", type=_positive, default=2_000_000, metavar="N", help="its edges (default 2000000)")
    command.add_argument("--edge-order", choices=("random", "destination"), default="random", help="of its edge ids (default random)")
    command.add_argument(
        "--max-edges", type=_positive, default=10_000_000, metavar="N", help="largest of the scaling series (default 10^7)"
    )
    command.add_argument(
        "--peers",
        type=_names,
        metavar="P,…",
        help=f"{', '.join(_PEERS)}; on a device {', '.join(_DEVICE_PEERS)}; or none (default all that are installed)",
    )
    command.add_argument("--repeats", type=_positive, default=9, metavar="N", help="pairs of samples at most (default 9)")
    command.add_argument("--seconds", type=_rate, default=10.0, metavar="X", help="about the longest for one comparison (default 10)")
    command.add_argument("--threads", type=_positive, metavar="N", help="of numgraph and of the peers (default: all cores)")
    command.add_argument("--seed", type=_natural, default=0, metavar="N", help="of the graph and the operands (default 0)")
    command.add_argument("--data-dir", type=_path, metavar="DIR", help="DIR/planetoid has Cora's files, for the epochs")
    command.add_argument(
        "--device",
        choices=(*_DEVICES, "both"),
        default="cpu",
        help="cuda: on a GPU; both: with the host beside it (default cpu)",
    )
    command.add_argument("--json", type=_path, metavar="FILE", help="write everything that was measured")
    command.add_argument("--plot", type=_path, metavar="DIR", help="draw a roofline and the ratios into DIR")
    command.set_defaults(run=_bench)


# Commands


def _info(options: argparse.Namespace) -> int:
    from numgraph.info import describe, info

    facts = info()
    print(json.dumps(facts) if options.json else describe(facts))
    return 0


def _bench(options: argparse.Namespace) -> int:
    from numgraph.bench import Request, bench
    from numgraph.bench.report import check_targets, summary, write_json

    asked = {name: getattr(options, name) for name in Request.__dataclass_fields__ if hasattr(options, name)}
    asked["suites"] = (_SUITES if options.device == "cpu" else _SUITES[:2]) if "all" in options.suite else options.suite
    asked["peers"] = () if options.peers == ("none",) else options.peers
    with _refusing():
        check_targets(options.json, options.plot)  # before minutes of measuring, not after them
        keep: Callable[[dict[str, Any]], None] = lambda results: write_json(results, options.json) if options.json else None
        results = bench(Request(**asked), lambda line: print(line, flush=True), keep)
        print(f"\n{summary(results)}")
        if options.json:
            keep(results)
            print(f"results: {options.json}")
        if options.plot:
            from numgraph.bench.pictures import draw

            for path in draw(results, options.plot):
                print(f"plot: {path}")
    return 1 if results["errors"] else 0


def _chosen(options: argparse.Namespace) -> tuple[Recipe, Dataset]:
    from numgraph.data import load
    from numgraph.training.recipes import Recipe, recipe

    names = [name for name in Recipe.__dataclass_fields__ if name != "model" and hasattr(options, name)]
    with _refusing():
        return recipe(options.model, **{name: getattr(options, name) for name in names}), load(options.dataset, options.data_dir)


def _explain(options: argparse.Namespace) -> int:
    import numpy as np

    from numgraph.autodiff.tape import Tape
    from numgraph.dense import cross_entropy
    from numgraph.training.recipes import build

    chosen, dataset = _chosen(options)
    model, _ = build(chosen, dataset, options.seed)
    with Tape() as tape:
        logits = model(dataset.graph, dataset.features, rng=np.random.default_rng(options.seed))
        loss = cross_entropy(logits, dataset.labels, dataset.train_mask)
    tape.gradient(loss, list(model.parameters()))
    print(tape.explain())
    return 0


def _train(options: argparse.Namespace) -> int:
    from numgraph.training import Diverged, evaluate, fit
    from numgraph.training.recipes import build, training_features

    chosen, dataset = _chosen(options)
    with _refusing():  # before the training, not after it
        dataset = dataset.to(options.device)
        if options.save:
            from numgraph.serialize import check_target

            check_target(options.save)
        if options.plot:
            from numgraph.training.plots import check_plot

            check_plot(options.plot)
    out = sys.stderr if options.json else sys.stdout
    model, optimizer = build(chosen, dataset, options.seed)
    model.to(options.device)
    if not options.quiet:
        _print_start(chosen, dataset, optimizer, out)
    features = training_features(dataset)
    with _progress(chosen.epochs, options.quiet, out) as report, _refusing((Diverged,)):
        history = fit(
            model, dataset, optimizer, epochs=chosen.epochs, patience=chosen.patience, seed=options.seed, features=features, callback=report
        )
    train, val, test = evaluate(model, dataset, features, dataset.train_mask, dataset.val_mask, dataset.test_mask)
    print(_result_line(history, val.accuracy, test.accuracy), file=out)
    with _refusing():
        if options.save:
            from numgraph.serialize import save_parameters

            save_parameters(options.save, model.state_dict())
            print(f"parameters: {options.save}", file=out)
        if options.plot and history.epochs:
            from numgraph.training.plots import plot_training

            plot_training(history, options.plot, f"{chosen.model} on {dataset.name}: test accuracy {100 * test.accuracy:.1f} %")
            print(f"plot: {options.plot}", file=out)
    if options.json:
        settings = {name: value for name, value in vars(chosen).items() if name not in ("model", "decay")}
        result = {
            "dataset": dataset.name,
            "model": chosen.model,
            "seed": options.seed,
            "device": options.device,
            "test_accuracy": test.accuracy,
            "val_accuracy": val.accuracy,
            "train_accuracy": train.accuracy,
            "test_loss": test.loss,
            "best_epoch": history.best_epoch,
            "epochs_run": history.epochs,
            "stopped": history.stopped,
            "seconds": round(history.seconds, 3),
            "parameters": sum(parameter.size for parameter in optimizer.parameters),
            "settings": settings,
            "save": options.save,
            "plot": options.plot,
        }
        print(json.dumps(result), flush=True)
    return _INTERRUPTED if history.stopped == "interrupted" else 0


# What is printed


def _print_start(chosen: Recipe, dataset: Dataset, optimizer: Any, out: TextIO) -> None:
    split = [int(mask.sum()) for mask in (dataset.train_mask, dataset.val_mask, dataset.test_mask)]
    heads = f" × {chosen.heads} heads" if chosen.heads > 1 else ""
    count = sum(parameter.size for parameter in optimizer.parameters)
    print(
        f"{dataset.name}: {dataset.num_nodes:,} nodes, {dataset.graph.num_edges:,} edges, {dataset.num_features:,} features, "
        f"{dataset.num_classes} classes; {split[0]:,} nodes train, {split[1]:,} validate, {split[2]:,} test\n"
        f"{chosen.model}: {chosen.layers} layers, hidden {chosen.hidden}{heads}, {count:,} parameters; "
        f"lr {chosen.lr:g}, weight decay {chosen.weight_decay:g}, dropout {chosen.dropout:g}",
        file=out,
        flush=True,
    )


def _result_line(history: History, val: float, test: float) -> str:
    why = {"epochs": "", "patience": ", stopped early", "interrupted": ", interrupted"}[history.stopped]
    return (
        f"test accuracy {100 * test:.1f} %   (validation {100 * val:.1f} % in epoch {history.best_epoch} of {history.epochs}{why}; "
        f"{history.seconds:.1f} s)"
    )


@contextlib.contextmanager
def _progress(epochs: int, quiet: bool, out: TextIO) -> Iterator[Callable[[int, History], None] | None]:
    """A reporter for ``fit``: a bar on a terminal (with tqdm, the extra ``cli``), else ten lines."""
    if quiet:
        yield None
        return
    bar = _bar(epochs) if sys.stderr.isatty() else None
    if bar is None:
        yield lambda epoch, history: _print_line(epoch, epochs, history, out)
        return

    def advance(epoch: int, history: History) -> None:
        bar.set_postfix_str(f"loss {history.train_loss[-1]:.3f}, validation {100 * history.val_accuracy[-1]:.1f} %", refresh=False)
        bar.update()

    with bar:
        yield advance


def _bar(epochs: int) -> Any:
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return None
    tqdm.monitor_interval = 0  # no thread that watches the bar
    wide = os.get_terminal_size(sys.stderr.fileno()).columns > 0  # some terminals in containers say 0
    return tqdm(total=epochs, unit="epoch", file=sys.stderr, dynamic_ncols=wide, ncols=None if wide else 80)


def _print_line(epoch: int, epochs: int, history: History, out: TextIO) -> None:
    if epoch == 1 or epoch == epochs or epoch % max(1, epochs // 10) == 0:
        print(
            f"epoch {epoch:>{len(str(epochs))}}/{epochs}   loss {history.train_loss[-1]:.4f}   validation loss {history.val_loss[-1]:.4f}, "
            f"accuracy {100 * history.val_accuracy[-1]:.1f} %   (best {100 * history.val_accuracy[history.best_epoch - 1]:.1f} %)",
            file=out,
            flush=True,
        )
