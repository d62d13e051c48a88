"""XLA runs a walk through its interface of foreign functions: a handler of one argument, the call frame,
whose buffers are XLA's own.

The frame is read by the offsets of its C structs (xla/ffi/api/c_api.h, version 0.x, where fields are only
ever added at the end). Where their sizes are not those that are known here, ``jax.pure_callback`` runs the
walks: slower, with copies, and a warning says so."""

from __future__ import annotations

import ctypes
import functools
import itertools
import secrets
import threading
import warnings
import weakref
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.interpreters import mlir

from numgraph import errors
from numgraph.bridges import jax_native
from numgraph.compiler.cpu.programs import program
from numgraph.message.propagate import Walk

_TARGET = "numgraph_walk"
_FRAME_WORDS = 21
"""A call frame up to its attributes, in words of 8 bytes: size, extensions, API, context, stage, arguments,
results, attributes.
"""
_EXTENSION, _API, _ARGS, _RETS, _ATTRS = 1, 2, 5, 10, 15
_SIZES = {_ARGS: 40, _RETS: 40, _ATTRS: 48}
"""Bytes of the structs in the frame. Each begins with its size."""
_ARG_LIST, _RET_LIST, _ATTR_LIST = 9, 14, 20
_BUFFER_BYTES, _DATA = 48, 3
"""A buffer, and the word that is its address."""
_API_VERSION, _ERROR_CREATE = 32, 48
"""Bytes into the API: its version, two int32, and the function that makes an error."""
_METADATA, _VERSION = 1, 24
"""The extension by which XLA asks a new handler for the API's version, and bytes into what it asks for: the
version.
"""
_INTERNAL = 13
"""The code of an error."""

_calls: weakref.WeakValueDictionary[int, Call] = weakref.WeakValueDictionary()
_handles = itertools.count(secrets.randbits(60))
"""From a random number on: JAX keeps executables on disk, and one of another process must find nothing here
rather than another walk.
"""


class Call:
    """A walk in executables: the shapes and dtypes of XLA's buffers, and the number that stands in the
    program.

    An executable keeps it, and so does the graph: one that runs in the background while Python has let go of
    it keeps nothing any more."""

    def __init__(self, walk: Walk, operands: Sequence[Any], results: Sequence[Any]) -> None:
        self.walk = walk
        self.operands = [_block(aval) for aval in operands]
        self.results = [_block(aval) for aval in results]
        self.handle = next(_handles)
        _calls[self.handle] = self
        dtypes = [dtype for _, dtype, _ in self.operands], [dtype for _, dtype, _ in self.results]
        self.program = program(walk.graph, walk.outputs, walk.keys, *dtypes)
        self.slot = -1 if self.program is None else jax_native.place(self, self.handle, self.program)

    def __reduce__(self) -> Any:
        fix = "another process compiles the function again; JAX's cache on disk may stay on"
        raise errors.not_possible(
            self.walk.name, "an executable of JAX that calls numgraph cannot be serialised", fix
        )

    def run(self, operands: Sequence[int], results: Sequence[int]) -> None:
        """The walk on memory at these addresses."""
        arrays = [
            np.ndarray(shape, dtype, memory.from_address(address))
            for (shape, dtype, memory), address in zip(self.operands, operands)
        ]
        out = [
            np.ndarray(shape, dtype, memory.from_address(address))
            for (shape, dtype, memory), address in zip(self.results, results)
        ]
        run(self.walk, arrays, out)


def run(walk: Walk, arrays: Sequence[Any], out: Sequence[Any]) -> None:
    """The walk on NumPy's arrays of JAX's dtypes: where JAX has 64 bits off, a walk may still compute with
    them.
    """
    walk.run(
        [x if x.dtype == dtype else x.astype(dtype) for x, dtype in zip(arrays, walk.dtypes(), strict=True)],
        out,
    )


def _block(aval: Any) -> tuple[tuple[int, ...], np.dtype[Any], Any]:
    """Shape, dtype and the memory of a buffer."""
    dtype = np.dtype(aval.dtype)
    return aval.shape, dtype, ctypes.c_char * (aval.size * dtype.itemsize)


def lowered(context: Any, operands: Sequence[Any], walk: Walk) -> Any:
    """A walk in XLA's program."""
    if getattr(context.module_context.lowering_parameters, "for_export", False):
        fix = (
            "its graph and kernels are of this process; export what is around it, or use the function here, "
            "under jit"
        )
        raise errors.not_possible(
            walk.name, "jax.export cannot export a function of JAX that calls numgraph", fix
        )
    if not _registered():
        return mlir.lower_fun(functools.partial(_by_callback, walk), multiple_results=True)(
            context, *operands
        )
    avals = tuple(context.avals_in), tuple(context.avals_out)
    call = walk.graph.remembered(("jax", walk.outputs, walk.keys, avals), lambda *_: Call(walk, *avals))
    context.module_context.add_keepalive(call)
    return jax.ffi.ffi_lowering(_TARGET)(
        context, *operands, handle=np.int64(call.handle), slot=np.int64(call.slot)
    )


def _by_callback(walk: Walk, *values: Any) -> Any:
    like = [
        jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype)) for shape, dtype in walk.results()
    ]

    def called(*arrays: Any) -> Any:
        made = [np.empty(y.shape, y.dtype) for y in like]
        run(walk, [np.asarray(array) for array in arrays], made)
        return made

    return jax.pure_callback(called, like, *values)


# --- the handler --------------------------------------------------------------------------------------------


def _words(address: int, count: int) -> Any:
    return (ctypes.c_int64 * count).from_address(address)


def _addresses(pointers: int, count: int) -> list[int]:
    """Where the memory of so many buffers is."""
    return [_words(buffer, _DATA + 1)[_DATA] for buffer in _words(pointers, count)] if count else []


def _handle(address: int) -> int:
    """What XLA calls. Returns an error of XLA's, or 0."""
    frame = _words(address, _FRAME_WORDS)
    try:
        if frame[_EXTENSION]:
            extension = _words(frame[_EXTENSION], 4)
            if extension[1] & 0xFFFFFFFF == _METADATA:
                if _known(frame):
                    ctypes.memmove(extension[3] + _VERSION, frame[_API] + _API_VERSION, 8)
                return 0
        scalar = _words(_words(frame[_ATTR_LIST], 1)[0], 2)
        handle = _words(scalar[1], 1)[0]
        call = _calls.get(handle)
        if call is None:
            raise RuntimeError(
                "numgraph: the graph of this executable is gone, or it was made by another process; compile "
                "the function again"
            )
        if call.program is not None:
            jax_native.run(call.program, address)
            return 0
        call.run(
            _addresses(frame[_ARG_LIST], frame[_ARGS + 2]), _addresses(frame[_RET_LIST], frame[_RETS + 2])
        )
    except BaseException as error:  # nothing may leave a function that C calls
        return _error(frame[_API], f"{type(error).__name__}: {error}")
    return 0


def _known(frame: Any) -> bool:
    """Whether the frame is laid out as it is read here."""
    whole = frame[0] >= 8 * _FRAME_WORDS - 8 and all(frame[place] == size for place, size in _SIZES.items())
    return whole and (ctypes.c_int32 * 2).from_address(frame[_API] + _API_VERSION)[0] == 0


def _error(api: int, text: str) -> int:
    message = ctypes.create_string_buffer(text.encode())
    args = (ctypes.c_int64 * 4)(32, 0, ctypes.addressof(message), _INTERNAL)
    create = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(_words(api + _ERROR_CREATE, 1)[0])
    found: int = create(ctypes.addressof(args))
    return found


_HANDLER = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_ssize_t)(_handle)
_registering = threading.Lock()
_outcome: list[bool] = []
_kept: list[Any] = []


def _registered() -> bool:
    """Whether XLA has the handler, which is offered to it once."""
    with _registering:
        if not _outcome:
            jax.local_devices(
                backend="cpu"
            )  # a handler that is refused while the backend starts would keep it from starting
            try:
                handler = jax_native.handler(_HANDLER)
                _kept.append(handler)
                address = ctypes.cast(getattr(handler, "ctypes", handler), ctypes.c_void_p).value
                jax.ffi.register_ffi_target(_TARGET, jax.ffi.pycapsule(address), platform="cpu")
                _outcome.append(True)
            except Exception as error:
                _outcome.append(False)
                first = str(error).splitlines()[0]
                warnings.warn(
                    f"numgraph runs by jax.pure_callback, slower: jaxlib {jax.lib.__version__}: {first}",
                    stacklevel=2,
                )
        return _outcome[0]
