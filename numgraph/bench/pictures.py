"""The pictures of a run: ratios to the peers, a roofline of the kernels, time and memory per edge, speed by
threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from numgraph.training.plots import new_figure, save_figure

COLOURS = {"scipy": "#7a9a3a", "mkl": "#1f5fa8", "torch": "#c8501e", "dgl": "#6a4c9c", "pyg": "#b8860b"} | {
    "cusparse": "#1f5fa8",
    "scatter": "#6a4c9c",
    "cpu": "#555555",
}
_GRID = "#e4e4e4"


def draw(results: Mapping[str, Any], folder: str | os.PathLike[str]) -> list[Path]:
    """Draw what the results have into the folder; the paths of the pictures."""
    paths = []
    for name, picture in PICTURES.items():
        figure = picture(results)
        if figure is not None:
            paths.append(Path(folder) / f"{name}.png")
            save_figure(figure, paths[-1])
    return paths


def ratios(results: Mapping[str, Any]) -> Any:
    """A bar for each row and peer: peer's time / numgraph's, quartiles as whiskers, goals as ticks; on a
    logarithmic axis.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    groups = list(_compared(results))
    if not groups:
        return None
    bars = sum(len(peers) for _, peers in groups)
    figure = new_figure(9, 1.2 + 0.17 * bars + 0.12 * len(groups))
    axes = figure.subplots()
    place, ticks, seen = 0.0, [], set()
    for title, peers in groups:
        top = place
        for name, one in peers.items():
            low, high = one["ratio_quartiles"]
            whiskers = [[max(0.0, one["ratio"] - low)], [max(0.0, high - one["ratio"])]]
            label = None if name in seen else name
            seen.add(name)
            axes.barh(
                place,
                one["ratio"] - 1,
                0.8,
                left=1,
                color=COLOURS.get(name),
                xerr=whiskers,
                error_kw={"linewidth": 0.8},
                label=label,
            )
            axes.text(
                max(1, one["ratio"], high) * 1.04, place, f"{one['ratio']:.3g}", va="center", fontsize=6.5
            )
            if "goal" in one:
                axes.plot([one["goal"]] * 2, [place - 0.45, place + 0.45], color="black", linewidth=1.4)
            place += 1
        ticks.append(((top + place - 1) / 2, title))
        place += 0.8
    axes.axvline(1, color="#666666", linewidth=0.9)
    axes.set_xscale("log")
    axes.set_xlim(_ends(peers for _, peers in groups))
    axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("peer's time / numgraph's (above 1: numgraph is faster; black tick: goal)")
    axes.set_yticks([at for at, _ in ticks], [title for _, title in ticks], fontsize=7.5)
    axes.set_ylim(place, -1)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(seen), frameon=False, fontsize=8)
    _tidy(axes, "x")
    figure.suptitle(_caption(results), fontsize=9)
    return figure


def _ends(groups: Iterable[Mapping[str, Any]]) -> tuple[float, float]:
    """Where the axis of ratios begins and ends: all bars, whiskers, goals and the numbers behind them are
    inside.
    """
    found = [1.0]
    for peers in groups:
        for one in peers.values():
            found += [one["ratio"], *one["ratio_quartiles"], one.get("goal", 1.0)]
    low, high = min(found), max(found)
    return low / 1.1, high * (high / low) ** 0.12


def _compared(results: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for one in results.get("kernels", ()):
        if one["peers"]:
            size = (
                f", {one['edges']:,} edges" if "memory_bytes" in one else ""
            )  # on a device there are two graphs
            yield (
                f"{one['row']} {one['features']}{' + backward' if one['pass'] == 'both' else ''}{size}",
                one["peers"],
            )
    for one in results.get("epochs", ()):
        if one["peers"]:
            yield f"epoch: {one['row']}", one["peers"]


def roofline(results: Mapping[str, Any]) -> Any:
    """Operations a second of each kernel row over its operations a byte, under the two measured roofs
    (Williams et al., CACM 2009).

    A point above the slanted roof found part of what it gathered in cache: the bytes are counted as if
    nothing were reused."""
    rows = [one for one in results.get("kernels", ()) if one["flops"]]
    if not rows:
        return None
    figure = new_figure(9, 5)
    axes = figure.subplots()
    points = [(one["flops"] / one["bytes"], one["flops"] / one["numgraph_ms"] / 1e6, one) for one in rows]
    low, high = min(x for x, _, _ in points) / 2, max(x for x, _, _ in points) * 4
    steps = [low * (high / low) ** (i / 200) for i in range(201)]
    axes.plot(
        steps,
        [min(results["product_rate"], results["bandwidth"] * x) / 1e9 for x in steps],
        color="black",
        linewidth=1.2,
    )
    names = list(dict.fromkeys(one["row"] for _, _, one in points))
    markers = {"forward": ("o", "forward"), "both": ("s", "forward + backward")}
    for marker, label in markers.values():
        axes.plot([], [], marker, color="#666666", markersize=5, label=label)
    for number, name in enumerate(names):
        mine = [point for point in points if point[2]["row"] == name]
        for x, y, one in mine:
            axes.plot([x], [y], markers[one["pass"]][0], color=f"C{number}", markersize=5)
            axes.annotate(
                str(one["features"]),
                (x, y),
                textcoords="offset points",
                xytext=(4, 3),
                fontsize=6,
                color=f"C{number}",
            )
        axes.plot([], [], color=f"C{number}", linewidth=4, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations a byte that must be moved")
    axes.set_ylabel("GFLOP/s")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=7)
    _tidy(axes, "both")
    roofs = (
        f"read {results['bandwidth'] / 1e9:.1f} GB/s, matrix product {results['product_rate'] / 1e9:.0f} "
        "GFLOP/s"
    )
    figure.suptitle(f"{_caption(results)}\nroofs: {roofs}; small numbers: F", fontsize=9)
    return figure


def scaling(results: Mapping[str, Any]) -> Any:
    """ns and bytes an edge over the number of edges, and speed-up over threads."""
    rows = results.get("scaling", ())
    if not rows:
        return None
    figure = new_figure(12, 3.8)
    time, memory, threads = figure.subplots(1, 3)
    by_edges = [one for one in rows if one["series"] == "edges"]
    for step in dict.fromkeys(one["step"] for one in by_edges):
        mine = [one for one in by_edges if one["step"] == step]
        time.plot(
            [one["edges"] for one in mine],
            [one["ns_per_edge"] for one in mine],
            "o-",
            markersize=3,
            label=step,
        )
        held = [one for one in mine if one["bytes_per_edge"] is not None]
        memory.plot(
            [one["edges"] for one in held],
            [one["bytes_per_edge"] for one in held],
            "o-",
            markersize=3,
            label=step,
        )
    by_threads = [one for one in rows if one["series"] == "threads"]
    for name in dict.fromkeys(one["row"] for one in by_threads):
        mine = [one for one in by_threads if one["row"] == name]
        threads.plot(
            [one["threads"] for one in mine],
            [one["speed_up"] for one in mine],
            "o-",
            markersize=3,
            label=name,
        )
    for axes, label in ((time, "ns an edge"), (memory, "bytes an edge, peak growth")):
        axes.set_xscale("log")
        axes.set_xlabel("edges")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
    threads.set_xlabel("threads")
    threads.set_ylabel("speed-up")
    threads.xaxis.get_major_locator().set_params(integer=True)
    for axes in (time, memory, threads):
        axes.legend(frameon=False, fontsize=7)
        _tidy(axes, "y")
    figure.suptitle(_caption(results), fontsize=9)
    return figure


def _tidy(axes: Any, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def _caption(results: Mapping[str, Any]) -> str:
    request, machine = results["request"], results["machine"]
    graph = f"R-MAT of 2^{request['nodes_log2']} nodes and {request['edges']:,} edges, float32"
    host = f"{machine['cpu']}, {results['threads']} threads, {machine['vectors']}"
    if "device" not in machine:
        return f"{graph}\n{host}"
    sizes = {(one["nodes"], one["edges"]): None for one in results.get("kernels", ())}
    graph = "; ".join(f"R-MAT of {nodes:,} nodes and {edges:,} edges" for nodes, edges in sizes) or graph
    return f"{graph}\n{machine['device']['name']}" + (
        f" beside {host}" if request["device"] == "both" else ""
    )


PICTURES: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "ratios": ratios,
    "roofline": roofline,
    "scaling": scaling,
}
"""File name → picture; None where the results have nothing for it."""
