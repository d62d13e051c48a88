"""What is kept on disk because it can be made again: where, who may have written it, and whether it is still
whole.

Code that is kept runs in this process. So a folder or a file counts only if nobody but this user (or root)
can change it, and a file only if its last 32 bytes are the hash of what it should be for and of its content.
Anything else is made again."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
import stat
import tempfile
import time
import warnings
from pathlib import Path

import llvmlite
import numba

from numgraph.runtime import atomic

UNUSED = 90 * 86400
"""Seconds after which a kernel that no process has read goes."""
LARGEST = 512 << 20
"""Bytes of all kernels together, beyond which those that were not read for longest go. A kernel takes about
40 kB.
"""
DAY = 86400
"""Seconds between two notes of a file's use, which is its time of modification."""

_SEAL = hashlib.sha256().digest_size
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def cache_root() -> Path:
    """Where the package keeps what it can make or fetch again: NUMGRAPH_CACHE_DIR, else numgraph under
    XDG_CACHE_HOME or ~/.cache.
    """
    try:
        given = os.environ.get("NUMGRAPH_CACHE_DIR")
        default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numgraph"
        return (Path(given).expanduser() if given else default).absolute()
    except (
        RuntimeError,
        OSError,
    ):  # a user without a home, as containers have them; a working folder that is gone
        return Path(os.devnull) / "numgraph"


def place() -> Path:
    """The cache folder of the kernels, whether or not it is there."""
    return cache_root() / f"kernels-{fingerprint()}"


@functools.cache
def folder() -> Path:
    """The cache folder, made if it is not there; a temporary one where it cannot be written or trusted."""
    path = place()
    if private(path):
        return path
    try:
        temporary = Path(tempfile.mkdtemp(prefix="numgraph-"))
    except OSError:
        return Path(os.devnull) / path.name
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(temporary, ignore_errors=True) if os.getpid() == owner else None)
    return temporary


@functools.cache
def fingerprint() -> str:
    """A hash of what gives generated text its meaning."""
    digest = hashlib.sha256(
        f"{numba.__version__} {llvmlite.__version__} {numba.config.BOUNDSCHECK} sealed".encode()
    )
    package = Path(__file__).parents[1]
    called = (f"compiler/cpu/{name}.py" for name in ("memory", "vectors", "row_lanes"))
    for path in (
        *sorted((package / "compiler" / "llvm").glob("*.py")),
        *(package / one for one in (*called, "runtime/compiling.py")),
    ):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def private(path: Path) -> bool:
    """Whether files can be kept in a folder, which is made if it is not there; says once why not where others
    may change them.
    """
    try:
        _make(path)
        problem, fix = _open_to_others(path)
        usable = os.access(path, os.W_OK | os.X_OK)
    except OSError:
        return False
    if problem:
        with contextlib.suppress(
            RuntimeWarning
        ):  # where warnings are errors: the results are right without a cache
            warnings.warn(
                f"numgraph: compiled code is not kept in {path}, for {problem}: code put there by others "
                f"would run as this user; {fix}, "
                f"or set NUMGRAPH_CACHE_DIR and NUMBA_CACHE_DIR to folders of your own",
                RuntimeWarning,
                stacklevel=2,
            )
    return usable and not problem


def _make(path: Path) -> None:
    """Make a folder and those above it, for this user alone."""
    if path.is_dir():
        return
    if path.parent != path:
        _make(path.parent)
    try:
        path.mkdir(0o700)
        path.chmod(0o700)  # whatever the umask took
    except FileExistsError:
        if not path.is_dir():
            raise


def _open_to_others(path: Path) -> tuple[str, str]:
    """What lets others change the files of a folder, and what to do about it; empty where nothing does."""
    if not hasattr(os, "geteuid"):
        return "", ""
    state = os.lstat(path)
    if stat.S_ISLNK(state.st_mode):
        return "it is a link", "remove it"
    if not _trusted(state):
        mode = stat.S_IMODE(state.st_mode)
        if state.st_mode & _OTHERS:
            return (
                f"others may write there (mode {mode:o})",
                f"delete it, or empty it and `chmod go-w {path}`",
            )
        return f"user {state.st_uid} owns it", "delete it"
    for above in Path(os.path.realpath(path)).parents:
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"others may replace it (mode of {above}: {stat.S_IMODE(mode):o})", f"`chmod o-w {above}`"
    return "", ""


def _trusted(state: os.stat_result) -> bool:
    """Whether only this user, or root, can have written it."""
    return not hasattr(os, "geteuid") or (state.st_uid in (os.geteuid(), 0) and not state.st_mode & _OTHERS)


def _seal(purpose: bytes, content: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(purpose).digest() + content).digest()


def keep(path: Path, content: bytes, purpose: bytes, shared: bool = False) -> None:
    """Keep content for a purpose, if that is possible here. shared: in a folder that belongs to an
    installation, not to the user.

    The first that a process keeps makes it look for what can go.
    """
    _used.add(_unit(path))
    if not shared:
        _prune_once()
    with contextlib.suppress(
        OSError
    ):  # no room, no permission, no folder any more: whoever needs it makes it again
        if shared:
            path.parent.mkdir(exist_ok=True)
        else:
            _make(path.parent)
        atomic.write(path, content + _seal(purpose, content), mode=0o666 if shared else 0o600, durable=False)


def show(path: Path, text: bytes) -> None:
    """Have a text on disk for people and tracebacks, if that is possible. Nothing reads it back."""
    with contextlib.suppress(OSError):
        if path.is_file() and path.read_bytes() == text:
            return
    with contextlib.suppress(OSError):
        _make(path.parent)
        atomic.write(path, text, mode=0o600, durable=False)


def kept(path: Path, purpose: bytes, shared: bool = False) -> bytes:
    """What was kept for this purpose.

    Raises
    ------
    OSError
        Nothing, or nothing that can be trusted.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode) or not (shared or _trusted(state)):
            raise PermissionError(f"{path} may come from someone else")
        whole = file.read()
        if not shared and state.st_mtime < time.time() - DAY:
            with contextlib.suppress(OSError):  # a file that only root may change
                os.utime(path)
    content, seal = whole[:-_SEAL], whole[-_SEAL:]
    if seal != _seal(purpose, content):
        raise FileNotFoundError(f"{path} is not what was kept for this purpose")
    _used.add(_unit(path))
    return content


_used: set[str] = set()
"""The units that this process has read or kept."""


def _unit(path: Path) -> str:
    """What the files of one kernel, its text, byte code, index and machine code, have in common."""
    folder = path.parent.parent if path.parent.name == "__pycache__" else path.parent
    return str(folder / path.name.partition(".")[0])


@functools.cache
def _prune_once() -> None:
    with contextlib.suppress(OSError):
        prune(cache_root())


def prune(root: Path, unused: float = UNUSED, largest: int = LARGEST) -> None:
    """Delete kernels that no process has read for long, then those that were not read for longest until the
    others fit.

    What this process has read or kept stays. Another process that finds a file gone compiles the kernel
    again; none ever sees half a file. Only folders that this package made, and that nobody else can change,
    are looked at; kernels of other versions are there too."""
    now, units = time.time(), []
    for folder in _kernel_folders(root):
        if _open_to_others(folder)[0]:
            continue
        found: dict[str, list[tuple[Path, os.stat_result]]] = {}
        for path, state in _files(folder):
            found.setdefault(_unit(path), []).append((path, state))
        units += [
            (max(state.st_mtime for _, state in files), unit, files)
            for unit, files in found.items()
            if unit not in _used
        ]
    total = sum(size_of(root))
    for last, _, files in sorted(units, key=lambda one: one[:2]):
        if now - last < unused and total <= largest:
            break
        total -= sum(state.st_size for _, state in files)
        for path, _ in files:
            with contextlib.suppress(OSError):
                path.unlink()
    for folder in _kernel_folders(root):
        for empty in (folder / "__pycache__", folder):
            with contextlib.suppress(OSError):  # it has files
                if folder != place():
                    empty.rmdir()


def size_of(root: Path) -> list[int]:
    """The bytes of every file of kernels below a cache root."""
    return [state.st_size for folder in _kernel_folders(root) for _, state in _files(folder)]


def _kernel_folders(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as found:
            return [
                root / entry.name
                for entry in found
                if entry.name.startswith("kernels-") and entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """The regular files in a folder and in the folders in it, with their states; links are not followed."""
    found: list[tuple[Path, os.stat_result]] = []
    for below, _, names in os.walk(folder):
        for name in names:
            path = Path(below, name)
            with contextlib.suppress(OSError):  # another process was quicker
                state = os.lstat(path)
                if stat.S_ISREG(state.st_mode):
                    found.append((path, state))
    return found


def _without_waiting(path: str, flags: int) -> int:
    """Opens a file; a pipe in its place is no reason to wait for somebody who writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
