"""What a training prints: at its start, while it runs, and at its end."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from numgraph.data import Dataset, Links
    from numgraph.training import History, Metrics
    from numgraph.training.recipes import Recipe

MEASURES = {
    "accuracy": "accuracy",
    "r2": "R²",
    "rmse": "RMSE",
    "mae": "MAE",
    "auc": "AUC",
    "average_precision": "average precision",
}


def shown(measure: str, value: float, named: bool = True) -> str:
    """A measure as it is printed: "accuracy 93.1 %", "R² 0.912"."""
    text = f"{100 * value:.1f} %" if measure == "accuracy" else f"{value:.4g}"
    return f"{MEASURES[measure]} {text}" if named else text


def print_start(chosen: Recipe, dataset: Dataset | Links, parameters: int, out: TextIO) -> None:
    """Two lines: the data, and the model with its settings."""
    from numgraph.data import Links, StoredDataset

    if isinstance(dataset, Links):
        data, what = dataset.data, "links"
        edges = f"{data.graph.num_edges:,} edges in the graph"
        split = [len(part) for part in (dataset.train, dataset.val, dataset.test)]
    else:
        data, what, edges = dataset, "nodes", f"{dataset.graph.num_edges:,} edges"
        split = [int(mask.sum()) for mask in (data.train_mask, data.val_mask, data.test_mask)]
    kind = (
        ""
        if isinstance(dataset, Links)
        else ", regression"
        if data.task == "regression"
        else f", {data.num_classes} classes"
    )
    if isinstance(data, StoredDataset):
        print(f"{data.path}: edges and features stay on disk, and are read where they are used", file=out)
    heads = f" × {chosen.heads} heads" if chosen.heads > 1 else ""
    print(
        f"{data.name}: {data.num_nodes:,} nodes, {edges}, {data.num_features:,} features{kind}; "
        f"{split[0]:,} {what} train, {split[1]:,} validate, {split[2]:,} test\n"
        f"{chosen.model}: {chosen.layers} layers, hidden {chosen.hidden}{heads}, {parameters:,} parameters; "
        f"lr {chosen.lr:g}, weight decay {chosen.weight_decay:g}, dropout {chosen.dropout:g}",
        file=out,
        flush=True,
    )


def print_checkpoint(checkpoint: str | None, out: TextIO) -> None:
    """A line where the training goes on from a file, so that fewer epochs than asked are no riddle."""
    if checkpoint and os.path.exists(checkpoint):
        print(f"{checkpoint} is there: the training goes on from it", file=out, flush=True)


def result_line(history: History, val: Metrics | None, test: Metrics | None) -> str:
    """The measures of the test part, and the validation's score in the best epoch."""
    why = {
        "epochs": "",
        "patience": ", stopped early",
        "callback": ", stopped",
        "interrupted": ", interrupted",
    }[history.stopped]
    tested = (
        "no test"
        if test is None
        else "test " + ", ".join(shown(name, value) for name, value in test.values.items())
    )
    validated = "best"
    if val is not None:
        named = history.score != "accuracy"
        validated = f"validation {shown(history.score, val.values[history.score], named=named)}"
    return (
        f"{tested}   ({validated} in epoch {history.best_epoch} of {history.epochs}{why}; "
        f"{history.seconds:.1f} s)"
    )


def compiling_told(quiet: bool, out: TextIO) -> contextlib.AbstractContextManager[None]:
    """A block in which a line says when kernels are compiled, for that takes seconds in which nothing else is
    seen.
    """
    from numgraph.runtime import compiling

    told = lambda: print(
        "compiling kernels: seconds that the next run saves, as they are kept", file=out, flush=True
    )
    return contextlib.nullcontext() if quiet else compiling.announced(told)


def print_sampling(loader: Any, fanouts: Sequence[int], out: TextIO) -> None:
    """One line: what a step sees, and what is measured."""
    drawn = ", ".join("all" if fanout < 0 else str(fanout) for fanout in fanouts)
    what = "links and as many pairs without one" if hasattr(loader, "negatives") else "nodes"
    steps = f"{len(loader):,} step{'s' if len(loader) > 1 else ''}"
    print(
        f"sampled: {steps} an epoch, of {min(loader.batch_size, len(loader.ids)):,} {what}; "
        f"in-edges of a node that are drawn, by layer: {drawn}; measured with all of them, layer by layer",
        file=out,
        flush=True,
    )


@contextlib.contextmanager
def progress(epochs: int, quiet: bool, out: TextIO) -> Iterator[Callable[[int, History], None] | None]:
    """A reporter for ``fit``: a bar on a terminal (with tqdm, the extra ``cli``), else ten lines."""
    if quiet:
        yield None
        return
    bar = _bar(epochs) if sys.stderr.isatty() else None
    if bar is None:
        yield lambda epoch, history: _print_line(epoch, epochs, history, out)
        return

    def advance(epoch: int, history: History) -> None:
        judged = (
            f", validation {shown(history.score, history.val_score[-1], named=False)}"
            if history.val_score
            else ""
        )
        bar.set_postfix_str(f"loss {history.train_loss[-1]:.3f}{judged}", refresh=False)
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
    if epoch != 1 and epoch != epochs and epoch % max(1, epochs // 10):
        return
    part, losses, scores = "training", history.train_loss, history.train_score
    if history.val_score:
        part, losses, scores = "validation", history.val_loss, history.val_score
    best = shown(history.score, scores[history.best_epoch - 1], named=False) if history.best_epoch else "none"
    print(
        f"epoch {epoch:>{len(str(epochs))}}/{epochs}   loss {history.train_loss[-1]:.4f}   "
        f"{part} loss {losses[-1]:.4f}, "
        f"{shown(history.score, scores[-1])}   (best {best})",
        file=out,
        flush=True,
    )
