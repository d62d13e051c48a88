"""``ng.profile``: where the time goes, by operation and by the line of the caller, forward and backward,
beside what memory allows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from numgraph.autodiff import rules
from numgraph.autodiff.tape import unwrap
from numgraph.errors import bad_value
from numgraph.runtime import spans
from numgraph.training.plots import new_figure, save_figure

_BANDWIDTH_BYTES = 1 << 27
"""Of the array whose reading tells the bandwidth: several times what caches hold."""

_FORWARD, _BACKWARD = "#1f5fa8", "#c8501e"


@dataclass(frozen=True)
class Entry:
    """What was measured of one operation or kernel, in one direction, at one line.

    Attributes
    ----------
    name : str
    backward : whether it ran in a backward pass
    line : the caller's, as "file.py:12  its text", or ""
    calls : how many
    seconds : without what other entries have
    bytes : of operands and results, each once, and of gathered rows once an edge
    """

    name: str
    backward: bool
    line: str
    calls: int
    seconds: float
    bytes: int


class Profile:
    """What ``profile`` measured. ``print`` shows the tables; ``plot`` draws them.

    Attributes
    ----------
    entries : the operations and kernels by name, direction and line, the slowest first
    seconds : of the whole block

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> with ng.profile() as p, ng.Tape() as tape:
    ...     loss = tape.watch(np.ones(4)).sum()
    >>> [(entry.name, entry.calls, entry.backward) for entry in p.entries]
    [('sum', 1, False)]
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.seconds = 0.0
        self._bandwidth: float | None = None

    @property
    def bandwidth(self) -> float:
        """Bytes a second that this machine reads from memory with all threads, measured when it is first
        asked for (0.1 s).
        """
        if self._bandwidth is None:
            from numgraph.runtime.bandwidth import read_bandwidth

            self._bandwidth = read_bandwidth(_BANDWIDTH_BYTES, 5)
        return self._bandwidth

    def by(self, *fields: str) -> list[Entry]:
        """The entries added up over what they have in common; what differs in a sum is "" (or False).

        Parameters
        ----------
        *fields : "name", "line", "backward": ``by("name")``, ``by("name", "backward")``

        Returns
        -------
        list of entries, the slowest first

        Raises
        ------
        ValueError : an unknown field
        """
        unknown = set(fields) - {"name", "line", "backward"}
        if unknown:
            raise bad_value(
                "Profile.by",
                f"unknown {', '.join(sorted(unknown))}",
                "entries are added up by name, line, backward",
            )
        groups: dict[tuple[Any, ...], list[Entry]] = {}
        for entry in self.entries:
            groups.setdefault(tuple(getattr(entry, one) for one in fields), []).append(entry)
        made = []
        for key, entries in groups.items():
            known: dict[str, Any] = {
                "name": "",
                "line": "",
                "backward": False,
                **dict(zip(fields, key, strict=True)),
            }
            sums = (
                sum(entry.calls for entry in entries),
                sum(entry.seconds for entry in entries),
                sum(entry.bytes for entry in entries),
            )
            made.append(Entry(known["name"], known["backward"], known["line"], *sums))
        return sorted(made, key=lambda entry: -entry.seconds)

    def table(self, rows: int = 12) -> str:
        """Two tables, by operation and by line.

        Parameters
        ----------
        rows : how many each has, at most

        Returns
        -------
        str
        """
        inside = sum(entry.seconds for entry in self.entries)
        lines = [
            (
                f"{1e3 * self.seconds:.2f} ms, {1e3 * inside:.2f} of it in operations; memory is read at "
                f"{self.bandwidth / 1e9:.1f} GB/s"
            ),
            "",
        ]
        lines += self._listed("operation", self.by("name", "backward"), lambda entry: entry.name, rows)
        lines += [
            "",
            *self._listed(
                "line", self.by("line", "backward"), lambda entry: entry.line or "(no line of a file)", rows
            ),
        ]
        return "\n".join(lines)

    def _listed(
        self, title: str, entries: list[Entry], label: Callable[[Entry], str], rows: int
    ) -> list[str]:
        lines = [
            f"{'ms':>9} {'share':>6} {'calls':>6} {'MB':>8} {'GB/s':>6} {'of peak':>7}  {'pass':<8}  {title}"
        ]
        for entry in entries[:rows]:
            rate = entry.bytes / entry.seconds if entry.seconds > 0 else 0.0
            known = (
                (f"{entry.bytes / 1e6:.2f}", f"{rate / 1e9:.1f}", f"{rate / self.bandwidth:.0%}")
                if entry.bytes
                else ("", "", "")
            )
            share = f"{entry.seconds / self.seconds:.1%}" if self.seconds else ""
            moved = f"{known[0]:>8} {known[1]:>6} {known[2]:>7}"
            way = "backward" if entry.backward else "forward"
            written = label(entry) if len(label(entry)) <= 76 else label(entry)[:75].rstrip("…") + "…"
            lines.append(
                f"{1e3 * entry.seconds:9.3f} {share:>6} {entry.calls:6} {moved}  {way:<8}  {written}"
            )
        rest = entries[rows:]
        if rest:
            lines.append(
                f"{1e3 * sum(entry.seconds for entry in rest):9.3f} {'':>6} {sum(e.calls for e in rest):6}  "
                f"… {len(rest)} more"
            )
        return lines

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return (
            f"<Profile: {1e3 * self.seconds:.2f} ms, {len(self.entries)} entries; print it, or .plot(path)>"
        )

    def plot(self, path: str | os.PathLike[str], rows: int = 12) -> None:
        """The slowest operations and lines as bars, forward and backward.

        Parameters
        ----------
        path : the file; its extension chooses the format (.png, .svg, .pdf)
        rows : how many bars, at most
        """
        figure = new_figure(
            9, 1.2 + 0.32 * (min(rows, len(self.by("name"))) + min(rows, len(self.by("line"))))
        )
        panels = figure.subplots(
            2, 1, height_ratios=[max(1, min(rows, len(self.by(field)))) for field in ("name", "line")]
        )
        for panel, field in zip(panels, ("name", "line"), strict=True):
            labels = [getattr(entry, field) or "(no line)" for entry in self.by(field)[:rows]]
            left = dict.fromkeys(labels, 0.0)
            for backward, color in ((False, _FORWARD), (True, _BACKWARD)):
                times = {
                    getattr(e, field) or "(no line)": 1e3 * e.seconds
                    for e in self.by(field, "backward")
                    if e.backward is backward
                }
                widths = [max(times.get(label, 0.0), 0.0) for label in labels]
                panel.barh(
                    range(len(labels)),
                    widths,
                    left=list(left.values()),
                    color=color,
                    label="backward" if backward else "forward",
                )
                left = {label: left[label] + width for label, width in zip(labels, widths, strict=True)}
            panel.set_yticks(
                range(len(labels)),
                [label if len(label) <= 56 else label[:55].rstrip("…") + "…" for label in labels],
                fontsize=8,
            )
            panel.invert_yaxis()
            panel.set_xlabel("milliseconds")
            panel.spines[["top", "right"]].set_visible(False)
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False
        )
        save_figure(figure, path)


@contextmanager
def profile() -> Iterator[Profile]:
    """Measure what numgraph does in a block: time, bytes, and the share of the memory's bandwidth, by kernel
    and by the caller's line.

    Forward operations on Tensors, matrix products, every kernel of a walk, and the replay of every record of
    a tape that was made inside of the block, which counts for the line that recorded it. What is computed by
    one operation inside of another counts for the inner one. The rest of the block is Python, and NumPy
    outside of a tape. Only the thread that opens a profile is measured, and nothing is while none is open.
    The first call compiles: run the block once before. On a CUDA device a kernel's time is that of its
    launch, which does not wait.

    Bytes are those of operands and results, each once, and of rows that a kernel gathers once an edge; a
    share above 100 % says that the cache served them.

    Returns
    -------
    A context manager that gives a Profile, which is filled at the end of the block.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> graph, x = ng.Graph([0, 1], [1, 0]), np.ones((2, 4))
    >>> with ng.profile() as p:
    ...     with ng.Tape() as tape:
    ...         loss = ng.update_all(graph, lambda u: u.x, "sum", u={"x": tape.watch(x)}).sum()
    ...     dx = tape.gradient(loss, [])
    >>> [entry.name for entry in p.by("name") if entry.name.startswith("kernel")]
    ['kernel: sum of u.x into v']
    """
    recorder, made = spans.Recorder(), Profile()
    _open(recorder)
    start = perf_counter()
    try:
        yield made
    finally:
        made.seconds = perf_counter() - start
        _close(recorder)
        groups: dict[tuple[str, bool, str], list[spans.Span]] = {}
        for span in recorder.spans:
            groups.setdefault((span.name or "interrupted", span.backward, span.line), []).append(span)
        entries = [
            Entry(*key, len(found), sum(span.seconds for span in found), sum(span.bytes for span in found))
            for key, found in groups.items()
        ]
        made.entries = sorted(entries, key=lambda entry: -entry.seconds)


_untimed: dict[Any, Callable[..., Any]] = {}
"""The rules of Tensors as they are while no profile is open."""


def _open(recorder: spans.Recorder) -> None:
    """The first profile puts timed rules in the place of the tape's."""
    if not spans.OPEN:
        _untimed.update(rules.RULES)
        rules.RULES.update({key: _timed(key, rule) for key, rule in _untimed.items()})
    spans.OPEN.append(recorder)


def _close(recorder: spans.Recorder) -> None:
    spans.OPEN.remove(recorder)
    if not spans.OPEN:
        rules.RULES.update(_untimed)
        _untimed.clear()


def _timed(key: Any, rule: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        def name() -> str:
            function = key[0] if isinstance(key, tuple) else key
            return args[0].name if key == "elementary" else getattr(function, "__name__", str(function))

        def moved(result: Any) -> int:
            return sum([unwrap(x).nbytes for x in (*args, result) if hasattr(unwrap(x), "nbytes")])

        return spans.timed(name, moved, lambda: rule(*args, **options))

    return call
