"""Reads the pickles of the Planetoid format, and nothing else.

A pickle is a program. These files are Python 2 pickles of three things: NumPy arrays of numbers, SciPy CSR
matrices, and a defaultdict from a node to the list of its neighbours. The machine below has just the opcodes
and the names that such files use. It leads the names of NumPy and SciPy to classes of this module, so that
none of their constructors ever sees the file's state, and it builds nothing deep, nothing cyclic and nothing
out of proportion to the file. A CSR matrix comes out as a dense array, its indices checked on the way (SciPy
trusts them, and would write outside its buffers)."""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from numgraph.errors import bad_value

DENSER = 1024
"""How many times its file's size a matrix may take (Planetoid's sparsest, of Citeseer, takes 68 times)."""
_LONGEST = 16
"""Items of a tuple: a shape, the arguments of a call, a state."""
_NUMBERS = re.compile(r"[<>=|]?([biuf][1248]|\?)")
_SCALARS = (int, float, str, bytes, bool, type(None))


class Forbidden(Exception):
    """What the format does not need."""


class _DType:
    """Stands for numpy.dtype: a number's type code, and its byte order set by the state."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise Forbidden(f"dtype {code!r:.50}")
        self.dtype = np.dtype(code)

    def set(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "=", "|"):
            raise ValueError("a dtype without a byte order")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for numpy.ndarray: state (version, shape, dtype, Fortran order, bytes)."""

    value: np.ndarray | None = None

    def set(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, raw = state
        if not isinstance(kind, _DType) or not isinstance(raw, (str, bytes)):
            raise ValueError("an array's state without dtype or bytes")
        if (
            not isinstance(shape, tuple)
            or len(shape) > 2
            or not all(type(size) is int and size >= 0 for size in shape)
        ):
            raise ValueError("an array of a shape that no matrix has")
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        value = np.frombuffer(data, np.uint8 if kind.dtype == np.bool_ else kind.dtype).reshape(
            shape, order="F" if fortran else "C"
        )
        self.value = value != 0 if kind.dtype == np.bool_ else value.astype(kind.dtype.newbyteorder("="))


class _Csr:
    """Stands for scipy.sparse.csr_matrix: state {data, indices, indptr, _shape}."""

    state: dict[Any, Any] | None = None

    def set(self, state: dict[Any, Any]) -> None:
        self.state = state

    def dense(self, most: int) -> np.ndarray:
        """The matrix, of `most` bytes or fewer."""
        if not isinstance(self.state, dict):
            raise ValueError("a CSR matrix without content")
        data, indices, indptr = (_content(self.state[part]) for part in ("data", "indices", "indptr"))
        rows, columns = self.state["_shape"]
        if type(rows) is not int or type(columns) is not int or rows < 0 or columns < 0:
            raise ValueError("a CSR matrix without a shape")
        if (
            any(part.ndim != 1 for part in (data, indices, indptr))
            or indices.dtype.kind != "i"
            or indptr.dtype.kind != "i"
        ):
            raise ValueError(
                "data, indices and indptr of a CSR matrix are one-dimensional, the last two of integers"
            )
        count, starts = len(data), indptr.astype(np.int64)
        rises = (
            len(starts) == rows + 1
            and starts[0] == 0
            and starts[-1] == count
            and starts.min() >= 0
            and starts.max() <= count
        )
        if not rises or (np.diff(starts) < 0).any() or len(indices) != count:
            raise ValueError(
                f"indptr of a CSR matrix with {rows} rows and {count} values does not rise from 0 to {count}"
            )
        if count and not 0 <= indices.min() <= indices.max() < columns:
            raise ValueError(
                f"a CSR matrix with {columns} columns has indices from {indices.min()} to {indices.max()}"
            )
        if rows * columns * data.itemsize > most:
            raise ValueError(
                f"a CSR matrix of {rows} x {columns} takes more than {DENSER} times its file's size"
            )
        matrix = np.zeros((rows, columns), data.dtype)
        with np.errstate(all="ignore"):
            np.add.at(matrix, (np.repeat(np.arange(rows), np.diff(starts)), indices), data)
        return matrix


def _content(value: Any) -> np.ndarray:
    if not isinstance(value, _Array) or value.value is None:
        raise ValueError("an array without content")
    return value.value


class _Neighbors(dict[Any, Any]):
    """Stands for a defaultdict."""

    def __init__(self, *_: Any) -> None:
        super().__init__()


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """_codecs.encode: how Python 3 writes bytes into a pickle of protocol 2."""
    if encoding != "latin1":
        raise Forbidden(f"encoding {encoding!r:.50}")
    return text.encode("latin1")


def _no_bytes(*arguments: Any) -> bytes:
    """bytes: how Python 3 writes none of them."""
    if arguments:
        raise Forbidden("bytes of something")
    return b""


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("scipy.sparse.csr", "csr_matrix"): _Csr,
    ("scipy.sparse._csr", "csr_matrix"): _Csr,
    ("collections", "defaultdict"): _Neighbors,
    ("__builtin__", "list"): list,
    ("builtins", "list"): list,
    ("__builtin__", "int"): int,
    ("builtins", "int"): int,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
}
_CALLED = (_DType, _reconstruct, _Neighbors, _encode, _no_bytes)


class _Machine:
    """Runs a pickle. room: bytes that its strings and arrays may still take; each is in the file, so a few
    copies of it are enough.
    """

    def __init__(self, raw: bytes) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.room = 2 * len(raw)

    def run(self, raw: bytes) -> Any:
        for opcode, value, _ in pickletools.genops(raw):
            step = _STEPS.get(opcode.name)
            if step is None:
                raise (Forbidden if opcode.name in _CALLING else ValueError)(f"the opcode {opcode.name}")
            step(self, value)
        (result,) = self.stack
        return result

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def push(self, value: Any) -> None:
        if type(value) is int and value.bit_length() > 64:
            raise ValueError(f"an integer of {value.bit_length()} bits")
        self.stack.append(value)

    def popped(self) -> list[Any]:
        """What was pushed since the last mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def taken(self, count: int) -> list[Any]:
        items = [self.stack.pop() for _ in range(count)]
        return items[::-1]

    def put(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def tuple(self, items: Sequence[Any]) -> None:
        if len(items) > _LONGEST or any(_holds_more(item) for item in items):
            raise ValueError("a tuple that is long or deep")
        self.stack.append(tuple(items))

    def append(self, items: Sequence[Any]) -> None:
        if type(self.stack[-1]) is not list or any(type(item) not in _SCALARS for item in items):
            raise ValueError("a list of something else than numbers")
        self.stack[-1].extend(items)

    def set_items(self, items: Sequence[Any]) -> None:
        target, keys, values = self.stack[-1], items[::2], items[1::2]
        if (
            not isinstance(target, dict)
            or len(keys) != len(values)
            or any(type(key) not in (int, str) for key in keys)
        ):
            raise ValueError("keys that are neither numbers nor names")
        if any(isinstance(value, dict) for value in values):
            raise ValueError("a table in a table")
        target.update(zip(keys, values))

    def name(self, module: Any, name: Any) -> None:
        try:
            self.stack.append(_ADMITTED[module, name])
        except KeyError:
            raise Forbidden(f"{module}.{name}") from None

    def call(self, _: Any) -> None:
        function, arguments = self.taken(2)
        if function not in _CALLED or type(arguments) is not tuple:
            raise Forbidden(f"a call of {function!r:.50}")
        if function is _encode:
            self.spend(len(arguments[0]))
        self.stack.append(function(*arguments))

    def new(self, _: Any) -> None:
        kind, arguments = self.taken(2)
        if kind is not _Csr or arguments != ():
            raise Forbidden(f"a new {kind!r:.50}")
        self.stack.append(_Csr())

    def build(self, _: Any) -> None:
        target, state = self.taken(2)
        if not isinstance(target, (_DType, _Array, _Csr)):
            raise ValueError(f"a state for {type(target).__name__}")
        if isinstance(target, _Array):
            self.spend(len(state[-1]))
        target.set(state)
        self.stack.append(target)

    def spend(self, size: int) -> None:
        self.room -= size
        if self.room < 0:
            raise ValueError("arrays of more bytes than the file has")


def _holds_more(item: Any) -> bool:
    """Whether it is a container with containers in it, or one that may get some later."""
    return isinstance(item, (list, dict)) or (
        type(item) is tuple and any(type(inner) not in _SCALARS for inner in item)
    )


_CALLING = ("INST", "OBJ", "NEWOBJ_EX", "PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4")
"""Opcodes beside those below that run or look up something of the reader's. Any other is a sign of damage, or
of another kind of file.
"""
_NUMBER = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_TEXT = ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys((*_NUMBER, *_TEXT, *_BYTES), _Machine.push),
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": _Machine.mark,
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "TUPLE": lambda machine, _: machine.tuple(machine.popped()),
    "TUPLE1": lambda machine, _: machine.tuple(machine.taken(1)),
    "TUPLE2": lambda machine, _: machine.tuple(machine.taken(2)),
    "TUPLE3": lambda machine, _: machine.tuple(machine.taken(3)),
    "APPEND": lambda machine, _: machine.append(machine.taken(1)),
    "APPENDS": lambda machine, _: machine.append(machine.popped()),
    "SETITEM": lambda machine, _: machine.set_items(machine.taken(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.popped()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    **dict.fromkeys(
        ("GET", "BINGET", "LONG_BINGET"), lambda machine, place: machine.push(machine.memo[place])
    ),
    "GLOBAL": lambda machine, name: machine.name(*name.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.taken(2)),
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.new,
    "BUILD": _Machine.build,
}


def read_pickle(path: Path, op: str) -> Any:
    """The content of one file: an array for arrays and CSR matrices, a dict for the neighbour lists; any
    other thing is an error.
    """
    raw = path.read_bytes()
    if raw[:60].startswith(b"version https://git-lfs"):
        raise bad_value(
            op,
            f"{path} is a Git LFS pointer",
            "fetch the content with `git lfs pull`, or download the file itself",
        )
    try:
        value = _Machine(raw).run(raw)
        if isinstance(value, _Csr):
            return value.dense(DENSER * len(raw))
        if isinstance(value, dict) and sum(
            len(near) for near in value.values() if isinstance(near, list)
        ) > len(raw):
            raise ValueError("more neighbours than the file has bytes")
        return _content(value) if isinstance(value, _Array) else value
    except Forbidden as error:
        raise bad_value(
            op,
            f"{path} asks for {error!s:.200}, which the Planetoid format has no use for",
            "do not trust this file; get it anew",
        ) from None
    except Exception as error:  # whatever a damaged pickle makes the machine do ends here
        problem = f"{path} ({len(raw)} bytes) is damaged: {type(error).__name__}: {error!s:.200}"
        raise bad_value(op, problem, "delete it and get it anew") from error
