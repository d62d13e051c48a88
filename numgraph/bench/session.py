"""What was asked for, what is here, and what every suite does alike: check that results agree, then
measure.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numgraph.bench import gpu, measure
from numgraph.bench.peers import Peer

TOLERANCE = 1e-4
"""Largest difference of two results, relative to the largest number in them: float32 sums over hubs, in two
orders.
"""

GOAL_SIZE = (17, 2_000_000)
"""log2 of nodes, and edges, of the R-MAT graph that the rows' goals are set for; it is the default."""


class Disagreement(Exception):
    """numgraph and a peer computed different numbers: a time would mean nothing."""


@dataclass(frozen=True)
class Request:
    """The command line's options. ``rows``, ``features`` and ``peers`` None: all rows, each with its own
    features, all peers.
    """

    suites: Sequence[str] = ("kernels", "epochs")
    rows: Sequence[str] | None = None
    features: Sequence[int] | None = None
    nodes_log2: int = GOAL_SIZE[0]
    edges: int = GOAL_SIZE[1]
    edge_order: str = "random"
    peers: Sequence[str] | None = None
    repeats: int = 9
    seconds: float = 10.0
    threads: int | None = None
    max_edges: int = 10_000_000
    bandwidth_bytes: int = 1 << 30
    data_dir: str | None = None
    seed: int = 0
    device: str = "cpu"  # or "cuda", or "both"


@dataclass
class Session:
    """A run: the request, the peers that were found, the measured roofs, and where lines for people go."""

    request: Request
    peers: Mapping[str, Peer]
    bandwidth: float  # bytes a second
    timer: measure.Timer = measure.sample
    device: str = "cpu"  # where numgraph's side of a comparison runs
    say: Callable[[str], None] = print
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    results: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    keep: Callable[[], None] = lambda: None

    def add(self, suite: str, result: dict[str, Any]) -> None:
        """One more result of a suite. It is kept now, for a run may be ended before its time."""
        self.results.setdefault(suite, []).append(result)
        self.keep()

    def note(self, text: str) -> None:
        """Something that the reader of the results must know: printed now, kept in the JSON."""
        self.notes.append(text)
        self.say(f"note: {text}")

    def wrong(self, error: Disagreement) -> None:
        """Results that differ: told now, and the run ends as failed, but with what else it measured."""
        self.errors.append(str(error))
        self.say(f"ERROR: {error}")

    def failed(self, error: Exception, what: str) -> None:
        """Go on without something: with a note where the device's memory was used up, else with an error, as
        above.
        """
        if gpu.out_of_memory(error):
            self.note(f"{what}: the device has not enough memory")
        else:
            self.errors.append(f"{what}: {type(error).__name__}: {error}")
            self.say("ERROR: " + what + "\n" + "".join(traceback.format_exception(error)))
        error.__traceback__ = None  # its frames hold arrays
        if self.device != "cpu":
            gpu.release()

    def at_goal_size(self) -> bool:
        """Whether the R-MAT graph is the one that the goals are set for; ratios on another are told without
        them.
        """
        return (self.request.nodes_log2, self.request.edges) == GOAL_SIZE

    def chosen(self, table: Mapping[str, Any]) -> list[Any]:
        """The suite's rows that were asked for, in the table's order; a row that is not among the defaults
        only by its name.
        """
        rows = self.request.rows
        return [
            row
            for name, row in table.items()
            if (getattr(row, "default", True) if rows is None else name in rows)
        ]

    def pair(self, ours: Callable[[], Any], theirs: Callable[[], Any]) -> measure.Pair:
        return measure.alternate(ours, theirs, self.request.repeats, self.request.seconds, self.timer)

    def alone(self, function: Callable[[], Any]) -> float:
        return measure.median_time(function, self.request.repeats, self.request.seconds, self.timer)


def difference(what: str, peer: str, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """The largest difference of two lists of results, each relative to its largest number (1 at least); too
    large is an error.

    Rows of a max that have no in-edges are ±inf in DGL's result and 0 here: a peer's infinite values are not
    compared where ours are 0."""
    worst = 0.0
    for position, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        scale = max(1.0, float(a.max(initial=0)), -float(a.min(initial=0)))
        gap = np.atleast_1d(b.reshape(a.shape) - a)
        largest = float(np.abs(gap, out=gap).max(initial=0))
        if np.isinf(largest):
            gap[np.isinf(gap) & (a == 0)] = 0
            largest = float(gap.max(initial=0))
        worst = max(worst, relative := largest / scale)
        if not relative <= TOLERANCE:
            result = "the result" if position == 0 else f"gradient {position}"
            raise Disagreement(
                f"{what}: {result} differs from {peer}'s by {relative:.1e} of the largest number; at most "
                f"{TOLERANCE:g}"
            )
    return worst


def against(ratio: float, goal: float | None) -> dict[str, Any]:
    """The goal beside a measured ratio, where the row has one."""
    return {} if goal is None else {"goal": goal, "met": ratio >= goal}
