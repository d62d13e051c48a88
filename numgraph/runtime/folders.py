"""The one way a folder is written: beside its place, then moved there in one step.

A crash, a full disk or an interrupt leaves what was there; a reader finds the old folder or the new one, and
whoever has files of the old one open keeps them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from numgraph.runtime.atomic import PathLike
from numgraph.runtime.interrupts import deferred

_EXCHANGE = 2  # RENAME_EXCHANGE of Linux's renameat2
_HERE = -100  # AT_FDCWD


class NewFolder:
    """A folder under a name of its own, to be filled; ``commit`` makes it the one at a path, ``discard``
    leaves nothing of it.

    A link stays a link: the folder it leads to is replaced. Permissions are those of any new folder, by the
    umask.

    Parameters
    ----------
    path : where the folder will be
    may_replace : is called with what stands there, when the folder is begun and before it is moved;
        raises to keep it

    Raises
    ------
    FileNotFoundError, PermissionError : the folder that it will be in
    """

    def __init__(self, path: PathLike, may_replace: Callable[[Path], None]) -> None:
        self.target, self._may_replace = Path(os.path.realpath(path)), may_replace
        if self._there():
            may_replace(self.target)
        self.path = self.target.with_name(f"{self.target.name}.tmp-{os.urandom(8).hex()}")
        self.path.mkdir()

    def _there(self) -> bool:
        """Whether there is anything that a move would hide; an empty folder is nothing."""
        return self.target.exists() and not (self.target.is_dir() and not any(self.target.iterdir()))

    def commit(self) -> None:
        """Move the folder to its place; its files are on the disk already (``durable``)."""
        try:
            synced(self.path)
            with deferred():
                if self._there():
                    self._may_replace(self.target)
                    _exchange(self.path, self.target)
                else:
                    os.rename(self.path, self.target)
                synced(self.target.parent)
        finally:
            self.discard()  # the old one

    def discard(self) -> None:
        """Delete what stands under the folder's own name."""
        with deferred():
            shutil.rmtree(self.path, ignore_errors=True)


def synced(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    with contextlib.suppress(PermissionError):  # Windows opens no folders
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EBADF):  # file systems without names on a disk
                raise
        finally:
            os.close(descriptor)


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders, in one step where the system can; else there is a moment without one, and the old one
    is never deleted before.
    """
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(_HERE, os.fsencode(new), _HERE, os.fsencode(old), _EXCHANGE) == 0:
            return
    aside = old.with_name(f"{new.name}-old")
    os.rename(old, aside)
    try:
        os.rename(new, old)
    except BaseException:
        os.rename(aside, old)
        raise
    os.rename(aside, new)
