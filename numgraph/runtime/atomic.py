"""The one way a file is written: beside its target, then moved over it in one step.

A crash, a full disk or an interrupt leaves the old file as it was, a reader finds the old content or the new
one, and any number of threads and processes may write to one path: the last one wins.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numgraph.runtime.interrupts import deferred

PathLike = str | os.PathLike[str]


def write(
    path: PathLike, content: bytes | Callable[[Any], None], mode: int | None = None, durable: bool = True
) -> None:
    """Replace a file, or make it.

    A link stays a link: the file it leads to is replaced. A file that is there keeps its permissions and,
    where the system allows it, its owner and group; another hard link to it keeps the old content. What is no
    regular file (a pipe, /dev/stdout) is written to directly. Signals that Python code handles (Ctrl-C) wait
    for the end, but not for a pipe's reader.

    Parameters
    ----------
    content
        The bytes, or a function that writes them to a binary file.
    mode
        Permissions, less the umask: then whatever is there, a link too, is replaced, and nothing of it is
        kept.
    durable
        Wait until the disk has it, so that a crash of the machine leaves the old file or the new one.

    Raises
    ------
    OSError
        The system's, with the name of the file; nothing is left behind.
    """
    target, before = Path(path), None
    if mode is None:
        target = Path(os.path.realpath(path))
        with contextlib.suppress(FileNotFoundError):
            before = target.stat()
        mode = 0o666 if before is None else 0o600
    try:
        if before is not None and not stat.S_ISREG(before.st_mode) and not stat.S_ISDIR(before.st_mode):
            whole = io.BytesIO()
            with deferred():
                _fill(whole, content)
            with target.open("wb") as file:
                file.write(whole.getbuffer())
        else:
            with deferred():
                _replace(target, content, mode, before, durable)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(
            error.errno, error.strerror, os.fspath(path)
        ) from error  # not the name of the file beside


def _replace(
    target: Path,
    content: bytes | Callable[[Any], None],
    mode: int,
    before: os.stat_result | None,
    durable: bool,
) -> None:
    beside = target.with_name(f".numgraph-{os.urandom(8).hex()}.tmp")
    descriptor = os.open(
        beside,
        os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0),
        mode,
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            _fill(file, content)
            if before is not None and hasattr(os, "fchown"):
                os.fchmod(descriptor, _kept(descriptor, before))
            if durable:
                file.flush()
                os.fsync(descriptor)
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _fill(file: Any, content: bytes | Callable[[Any], None]) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content)


def _kept(descriptor: int, before: os.stat_result) -> int:
    """Give the new file the owner and the group of the old one, as far as the system lets us; the permissions
    it then may have.
    """
    mode = stat.S_IMODE(before.st_mode) & 0o777
    for owner in (before.st_uid, -1):
        try:
            os.fchown(descriptor, owner, before.st_gid)
            return mode
        except OSError:
            continue
    return mode & ~0o070  # what the old group might do is not for another one
