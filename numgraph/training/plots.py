"""Pictures. matplotlib (the extra ``plot``) is imported by the functions that draw; its global state is not
touched.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numgraph.errors import missing
from numgraph.runtime import atomic

if TYPE_CHECKING:
    from numgraph.training import History

_TRAIN, _VAL, _BEST = "#1f5fa8", "#c8501e", "#666666"


def check_plot(path: str | os.PathLike[str]) -> None:
    """An error if a picture cannot be written to ``path``: matplotlib, its file formats, the folder."""
    figure = new_figure(1, 1)
    figure.canvas.get_supported_filetypes()
    known = sorted(figure.canvas.get_supported_filetypes())
    suffix = Path(path).suffix.lower().lstrip(".")
    if suffix not in known:
        raise ValueError(f"plot: unknown file extension {'.' + suffix!r}; choose from {', '.join(known)}")
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"plot: {path}: there is no folder {folder}; make it first")


def plot_training(history: History, path: str | os.PathLike[str], title: str = "") -> None:
    """Loss and score by epoch, two panels, the best epoch marked. The file's extension chooses the format
    (.png, .svg, .pdf).
    """
    figure = new_figure(9, 3.6)
    epochs = range(1, history.epochs + 1)
    loss, accuracy = figure.subplots(1, 2)
    percent, label = (
        (100, "accuracy, %")
        if history.score == "accuracy"
        else (
            1,
            {"r2": "R²", "auc": "area under the ROC curve", "mrr": "mean reciprocal rank"}[history.score],
        )
    )
    loss.plot(epochs, history.train_loss, color=_TRAIN, linewidth=1.4, label="training (with dropout)")
    loss.set_ylabel("mean squared error" if history.score == "r2" else "cross entropy")
    if history.train_score:
        accuracy.plot(
            epochs,
            [percent * value for value in history.train_score],
            color=_TRAIN,
            linewidth=1.4,
            label="training",
        )
    if history.val_loss:
        loss.plot(epochs, history.val_loss, color=_VAL, linewidth=1.4, label="validation")
    if history.val_score:
        accuracy.plot(
            epochs,
            [percent * value for value in history.val_score],
            color=_VAL,
            linewidth=1.4,
            label="validation",
        )
    loss.set_ylim(bottom=0)
    accuracy.set_ylabel(label)
    if history.best_epoch:
        best = percent * (history.val_score or history.train_score)[history.best_epoch - 1]
        text = f"{best:.1f} %" if history.score == "accuracy" else f"{best:.3f}"
        label = f"best: {text} in epoch {history.best_epoch}"
        accuracy.plot(
            [history.best_epoch], [best], "o", color=_BEST, markersize=6, markerfacecolor="white", label=label
        )
    for panel, place in ((loss, "upper right"), (accuracy, "lower right")):
        panel.set_xlabel("epoch")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="#e4e4e4", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.legend(loc=place, frameon=False)
    if title:
        figure.suptitle(title)
    save_figure(figure, path)


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a picture in the format of the file's extension."""
    atomic.write(
        path, lambda file: figure.savefig(file, dpi=160, format=Path(path).suffix.lower().lstrip("."))
    )


def new_figure(width: float, height: float) -> Any:
    """A figure of its own: no pyplot, so no backend is chosen and no window can open."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise missing(
            "plot", "a picture needs the package matplotlib", "pip install 'numgraph[plot]'"
        ) from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
