"""Reads the pickles of the Planetoid format, and nothing else.

A pickle is a program. These files are Python 2 pickles of three things: NumPy arrays of numbers, SciPy CSR matrices, and a defaultdict
from a node to the list of its neighbours. The machine below admits just the names that such files mention, and leads those of NumPy and
SciPy to classes of this module, so that none of their constructors ever sees the file's state. A CSR matrix comes out as a dense array,
its indices checked on the way (SciPy trusts them, and would write outside its buffers).
"""

from __future__ import annotations

import collections
import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

from numgraph.errors import bad_value

_NUMBERS = re.compile(r"[<>=|]?([biuf][1248]|\?)")


class Forbidden(Exception):
    """A name that the format does not need."""


class _DType:
    """Stands for numpy.dtype: a number's type code, and its byte order set by the state."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise Forbidden(f"dtype {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for numpy.ndarray: state (version, shape, dtype, Fortran order, bytes)."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, raw = state
        if not isinstance(kind, _DType) or not isinstance(raw, (str, bytes)):
            raise ValueError("an array's state without dtype or bytes")
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        value = np.frombuffer(data, kind.dtype).reshape(shape, order="F" if fortran else "C")
        self.value = value.astype(kind.dtype.newbyteorder("="))


class _Csr:
    """Stands for scipy.sparse.csr_matrix: state {data, indices, indptr, _shape}."""

    state: dict | None = None

    def __setstate__(self, state: dict) -> None:
        self.state = state

    def dense(self) -> np.ndarray:
        if not isinstance(self.state, dict):
            raise ValueError("a CSR matrix without content")
        data, indices, indptr = (np.asarray(_plain(self.state[part])) for part in ("data", "indices", "indptr"))
        rows, columns = (int(size) for size in self.state["_shape"])
        if any(part.ndim != 1 for part in (data, indices, indptr)) or indices.dtype.kind != "i" or indptr.dtype.kind != "i":
            raise ValueError("data, indices and indptr of a CSR matrix are one-dimensional, the last two of integers")
        if len(indptr) != rows + 1 or indptr[0] != 0 or (np.diff(indptr) < 0).any() or not len(data) == len(indices) == indptr[-1]:
            raise ValueError(f"indptr of a CSR matrix with {rows} rows and {len(data)} values does not rise from 0 to {len(data)}")
        if len(indices) and not 0 <= indices.min() <= indices.max() < columns:
            raise ValueError(f"a CSR matrix with {columns} columns has indices from {indices.min()} to {indices.max()}")
        matrix = np.zeros((rows, columns), data.dtype)
        np.add.at(matrix, (np.repeat(np.arange(rows), np.diff(indptr)), indices), data)
        return matrix


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """_codecs.encode: how Python 3 writes bytes into a pickle of protocol 2."""
    if encoding != "latin1":
        raise Forbidden(f"encoding {encoding!r}")
    return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("scipy.sparse.csr", "csr_matrix"): _Csr,
    ("scipy.sparse._csr", "csr_matrix"): _Csr,
    ("collections", "defaultdict"): collections.defaultdict,
    ("__builtin__", "list"): list,
    ("builtins", "list"): list,
    ("__builtin__", "int"): int,
    ("builtins", "int"): int,
    ("_codecs", "encode"): _encode,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise Forbidden(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise Forbidden(f"persistent id {pid!r}")


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without content")
        return value.value
    return value.dense() if isinstance(value, _Csr) else value


def read_pickle(path: Path, op: str) -> Any:
    """The content of one file: an array for arrays and CSR matrices, a dict for the neighbour lists; any other thing is an error."""
    raw = path.read_bytes()
    if raw[:60].startswith(b"version https://git-lfs"):
        raise bad_value(op, f"{path} is a Git LFS pointer", "fetch the content with `git lfs pull`, or download the file itself")
    try:
        return _plain(_Reader(io.BytesIO(raw), encoding="latin1").load())
    except Forbidden as error:
        raise bad_value(
            op, f"{path} asks for {error}, which the Planetoid format has no use for", "do not trust this file; get it anew"
        ) from None
    except Exception as error:  # whatever a damaged pickle makes the machine do ends here
        problem = f"{path} ({len(raw)} bytes) is damaged: {type(error).__name__}: {error}"
        raise bad_value(op, problem, "delete it and get it anew") from error
