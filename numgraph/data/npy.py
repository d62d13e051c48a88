"""Arrays as .npy files that are mapped into memory: headers of one page, so that rows begin where pages
do.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import mmap
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numgraph.runtime.mapping import mapping_of

HEADER = 4096
"""Bytes before the first row."""
CHUNK = 1 << 24
"""Bytes that are written or read at once."""


def header(dtype: DTypeLike, shape: Sequence[int]) -> bytes:
    """The first page of a .npy file, version 1.0."""
    about = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": tuple(int(n) for n in shape)}
    text = f"{about!r}".encode("latin1")
    start = np.lib.format.magic(1, 0)
    length = HEADER - len(start) - 2
    return start + length.to_bytes(2, "little") + text.ljust(length - 1) + b"\n"


def reserved(file: BinaryIO, size: int) -> None:
    """Take so many bytes of the disk: a full one says so here, and not where a mapped page is written."""
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
        file.truncate(size)  # a system that reserves nothing


def write(path: Path, array: NDArray[Any]) -> None:
    """Write an array, and wait until the disk has it."""
    with path.open("xb") as file:
        reserved(file, HEADER + array.nbytes)
        file.write(header(array.dtype, array.shape))
        rows = max(CHUNK // max(array.nbytes // max(len(array), 1), 1), 1)
        for first in range(0, len(array) if array.size else 0, rows):
            file.write(_bytes(array[first : first + rows]))
        file.flush()
        os.fsync(file.fileno())


def _bytes(array: NDArray[Any]) -> Any:
    """What a file is to have of an array that is not empty."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def create(path: Path, dtype: DTypeLike, shape: Sequence[int]) -> NDArray[Any]:
    """A new file as an array that is written by writing to it."""
    dtype = np.dtype(dtype)
    with path.open("x+b") as file:
        reserved(file, HEADER + math.prod(shape) * dtype.itemsize)
        file.write(header(dtype, shape))
        file.flush()
        return np.ndarray(tuple(shape), dtype, mmap.mmap(file.fileno(), 0), HEADER)


class Growing:
    """A file that rows are appended to; ``close`` writes its header, for the rows that came."""

    def __init__(self, path: Path, dtype: DTypeLike, row: Sequence[int] = ()) -> None:
        self.path, self.dtype, self.row, self.rows = path, np.dtype(dtype), tuple(row), 0
        self._file = path.open("xb")
        self._file.write(bytes(HEADER))

    def append(self, rows: NDArray[Any]) -> None:
        """Rows of the file's own shape, cast to its dtype."""
        rows = rows.astype(self.dtype, copy=False)
        if rows.size:
            self._file.write(_bytes(rows))
        self.rows += len(rows)

    def close(self) -> None:
        self._file.seek(0)
        self._file.write(header(self.dtype, (self.rows, *self.row)))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


def flushed(array: NDArray[Any]) -> None:
    """Wait until the disk has what was written to an array of ``create``."""
    mapping = mapping_of(array)
    assert mapping is not None
    mapping.flush()


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain_file(path: Path) -> BinaryIO:
    """A file opened for reading that is no link, folder or pipe."""
    descriptor = os.open(
        path,
        os.O_RDONLY
        | getattr(os, "O_NOFOLLOW", 0)
        | getattr(os, "O_NONBLOCK", 0)
        | getattr(os, "O_BINARY", 0),
    )
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def opened(path: Path, dtype: np.dtype[Any], shape: Sequence[int]) -> NDArray[Any]:
    """The array of a file, mapped and read-only, if it is a plain file with just this dtype and shape.

    Raises
    ------
    ValueError, OSError : what is wrong, without the file's name
    """
    with plain_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"it has version {version} of the format, 1.0 and 2.0 are read")
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        found, by_columns, kind = read(file)
        start = file.tell()
        if kind != dtype:
            raise ValueError(f"it has dtype {kind}, graph.json says {dtype}")
        if found != tuple(shape):
            raise ValueError(f"it has shape {list(found)}, graph.json says {list(shape)}")
        if by_columns and len(shape) > 1:
            raise ValueError("it is stored by columns, in Fortran's order")
        if start + math.prod(shape) * dtype.itemsize != size:
            raise ValueError(f"it has {size} bytes, {start + math.prod(shape) * dtype.itemsize} are needed")
        if start % dtype.alignment:
            raise ValueError(f"its numbers begin at byte {start}, which is no multiple of {dtype.alignment}")
        array: NDArray[Any] = np.ndarray(
            tuple(shape), dtype, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), start
        )
    array.flags.writeable = False
    return array
