"""Commands one after another under one limit of time, each in a process group of its own. What a command
wrote is kept, whatever becomes of it. The standard library is all that this needs, so nothing that a command
breaks on can break it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

HEAD, TAIL = 1 << 19, 1 << 17
"""Bytes of a command's output that are kept: its beginning, and its end where there is more."""

RESULTS = 1 << 18
"""Bytes of a command's results at most: larger ones are left out, so that everything together stays small."""

DIGEST = 20_000
"""Characters of a stage's digest that are kept, the last ones."""

GRACE = 8.0
"""Seconds at most between the interrupt at a command's limit, at which a test run prints its failures, and
its end. Within the limit.
"""


@dataclass(frozen=True)
class Stage:
    """command: of the file that it may write its results to, as JSON, any number of times; None where it
    cannot run here, which ``missing`` explains. share: of the whole time, at most. digest: what a report
    shows of the output."""

    name: str
    title: str
    command: Callable[[Path], Sequence[str] | None]
    share: float
    environment: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""
    digest: Callable[[str], str] = lambda text: text


@dataclass
class Outcome:
    """status: passed, failed, stopped (at its limit), missing (see ``why``) or "no time"."""

    name: str
    title: str
    status: str
    why: str = ""
    seconds: float = 0.0
    limit: float = 0.0
    exit_status: int | None = None
    results: Any = None
    digest: str = ""


class Clock:
    """How much of a limit is left."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._end = seconds, time.monotonic() + seconds

    def left(self) -> float:
        return self._end - time.monotonic()


def run(stage: Stage, clock: Clock, folder: Path, log: Path, reserve: float) -> Outcome:
    """The stage within its share and what the clock has left but for ``reserve``. log: a file to which its
    output is added.
    """
    results = folder / "results.json"
    command = stage.command(results)
    if command is None:
        return Outcome(stage.name, stage.title, "missing", stage.missing)
    limit = min(stage.share * clock.seconds, clock.left() - reserve)
    if limit < 1:
        return Outcome(stage.name, stage.title, "no time")
    begin = time.monotonic()
    with log.open("ab", buffering=0) as file:
        file.write(f"\n===== {stage.name}: {' '.join(command)}\n".encode())
        status, output = _run(command, {**os.environ, **stage.environment}, limit, file)
    outcome = Outcome(
        stage.name, stage.title, "stopped", limit=round(limit, 1), seconds=round(time.monotonic() - begin, 1)
    )
    if status is not None:
        outcome.status, outcome.exit_status = ("passed" if status == 0 else "failed"), status
    outcome.results, outcome.why = _read(results)
    results.unlink(missing_ok=True)
    try:
        outcome.digest = stage.digest(output).strip()[-DIGEST:]
    except Exception as error:  # a text that nobody has foreseen must not end the run
        outcome.why = f"{outcome.why} its output could not be read: {error!r}".strip()
    return outcome


def _run(
    command: Sequence[str], environment: Mapping[str, str], limit: float, log: Any
) -> tuple[int | None, str]:
    """Exit status, None where it was stopped, and what it printed. Nothing of its process group is left."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        log.write(f"{error}\n".encode())
        return 127, str(error)
    output = _Output(process.stdout, log)
    end = time.monotonic() + limit
    status: int | None = None
    try:
        with suppress(subprocess.TimeoutExpired):
            status = process.wait(max(0.0, limit - min(GRACE, limit / 4)))
        if status is None:
            _signal(process, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
    finally:
        _signal(process, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # a process that waits for a driver may not die
            process.wait(2)
        output.close()
    return status, output.text()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """To the whole group, whose number is its first process's."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


class _Output:
    """What a process and its children print: read by a thread, so that nobody waits for anybody."""

    def __init__(self, stream: Any, log: Any) -> None:
        self._stream, self._log = stream, log
        self._head, self._tail, self._more = bytearray(), bytearray(), 0
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._pump, daemon=True)
        self._thread.start()

    def _pump(self) -> None:
        with self._stream:
            while chunk := os.read(self._stream.fileno(), 1 << 16):
                with self._lock:
                    if self._closed:
                        return
                    self._add(chunk)

    def _add(self, chunk: bytes) -> None:
        kept = chunk[: HEAD - len(self._head)]
        self._head += kept
        with suppress(OSError):
            self._log.write(kept)
        self._more += len(chunk) - len(kept)
        self._tail = (self._tail + chunk[len(kept) :])[-TAIL:]

    def close(self) -> None:
        """What was printed until now is all; who still holds the pipe, prints for nobody."""
        self._thread.join(1)
        with self._lock:
            self._closed = True
            if self._more:
                with suppress(OSError):
                    self._log.write(
                        f"\n… {self._more - len(self._tail)} bytes left out …\n".encode() + bytes(self._tail)
                    )

    def text(self) -> str:
        return (bytes(self._head) + b"\n" * bool(self._more) + bytes(self._tail)).decode(errors="replace")


def _read(path: Path) -> tuple[Any, str]:
    """Results and what is wrong with them, if there is anything."""
    try:
        if path.stat().st_size > RESULTS:
            return None, f"its results are larger than {RESULTS} bytes"
        return json.loads(path.read_text("utf-8")), ""
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError) as error:
        return None, f"its results cannot be read: {error}"


def write(path: Path, text: str) -> None:
    """At once or not at all, whatever happens meanwhile."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, "utf-8")
    os.replace(temporary, path)
