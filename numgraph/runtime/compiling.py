"""Numba's decorator as this package uses it: nogil, kept on disk, and safe from what may happen while it
compiles.

Numba and LLVM keep state that all compiled functions of a process share, behind locks. An exception of a
signal's handler must not come in between, and a child of a fork must find the state whole and the locks free:
signals wait for the end of a compilation, and so does a fork."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite.binding import ffi
from numba.core import compiler, serialize
from numba.core import typed_passes as typed
from numba.core import untyped_passes as untyped
from numba.core.compiler_lock import global_compiler_lock

from numgraph.runtime import caches
from numgraph.runtime.interrupts import deferred

_LOCKS = (global_compiler_lock, ffi.lib._lock)
"""In the order in which whoever needs both takes them."""


class _Plain(compiler.CompilerBase):
    """Numba's passes without those that look for closures, overloads to inline and expressions of arrays."""

    def define_pipelines(self) -> list[Any]:
        passes = compiler.PassManager("plain")
        for one in (
            *(untyped.TranslateByteCode, untyped.FixupArgs, untyped.IRProcessing, untyped.ReconstructSSA),
            *(typed.NopythonTypeInference, typed.PreLowerStripPhis, typed.IRLegalization),
            *(typed.NativeLowering, typed.NoPythonBackend),
        ):
            passes.add_pass(one, one.__name__)
        passes.finalize()
        return [passes]


_GENERATED = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": _Plain, "_nrt": False}


def njit(*signature: Any, **options: Any) -> Callable[..., Any]:
    """``numba.njit`` with ``nogil`` and a disk cache. With NUMBA_DISABLE_JIT=1 the function, uncompiled.

    With signatures it is generated text that calls nothing but primitives: compiled for them at once, to be
    called by its address alone. A third of the work would be for other callers and other texts."""
    options = {"nogil": True, **(_GENERATED if signature else {}), **options}

    def decorate(function: Callable[..., Any]) -> Any:
        if numba.config.DISABLE_JIT:
            return np.errstate(all="ignore")(
                function
            )  # numbers overflow in silence, as they do in compiled code
        made: Any = numba.njit(**options)(function)
        made._cache = Kept(function, options)
        for step in ("compile", "_compile_for_args"):
            setattr(made, step, _undisturbed(getattr(made, step)))
        for one in signature:
            made.compile(one)
            made.disable_compile()
        return made

    return decorate


_listeners: list[Callable[[], None]] = []
"""Called before a function is compiled."""


@contextlib.contextmanager
def announced(listener: Callable[[], None]) -> Iterator[None]:
    """A block in which `listener` is called once, before the first function that no cache has is compiled."""

    def once() -> None:
        if once in _listeners:
            _listeners.remove(once)
            listener()

    _listeners.append(once)
    try:
        yield
    finally:
        if once in _listeners:
            _listeners.remove(once)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """A block that compiles: one thread at a time, signals wait for its end, and so does a fork."""
    with deferred(), global_compiler_lock:
        yield


def _undisturbed(step: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step)
    def run(*args: Any, **options: Any) -> Any:
        with deferred():
            return step(*args, **options)

    return run


class Kept:
    """The compiled code of one function on disk, as Numba's dispatcher asks for it.

    An index (.nbi) leads from a signature, a processor and the options to a file of code (.nbc). They are in
    NUMBA_CACHE_DIR if it is set, else in the __pycache__ beside the source, else in the package's cache
    folder."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self._function, self._options = function, options

    @property
    def cache_path(self) -> str:
        return str(self._place[0].parent)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for a signature, or None."""
        target_context.refresh()
        try:
            key = self._key(sig, target_context)
            name = self._index()[key]
            return compiler.CompileResult._rebuild(target_context, *pickle.loads(self._kept(name, key)))
        except Exception:  # nothing there, or whatever is wrong with it: it is compiled, and kept anew
            for listener in list(_listeners):
                listener()
            return None

    def save_overload(self, sig: Any, result: Any) -> None:
        """Keep a compiled function, if that is possible."""
        if result.library.has_dynamic_globals:  # addresses that hold in this process only
            return
        try:
            key, index = self._key(sig, result.target_context), self._index()
            name = index.get(key, f"{len(index) + 1}.nbc")
            self._keep(name, serialize.dumps(result._reduce()), key)
            self._keep("nbi", json.dumps({**index, key: name}).encode(), "index")
        except OSError:  # no source to tell one version from another
            pass

    def _index(self) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads(self._kept("nbi", "index"))
            return found
        except OSError:
            return {}

    def _keep(self, name: str, content: bytes, purpose: str) -> None:
        path, shared = self._place
        caches.keep(path.with_name(f"{path.name}.{name}"), content, self._version + purpose.encode(), shared)

    def _kept(self, name: str, purpose: str) -> bytes:
        path, shared = self._place
        return caches.kept(path.with_name(f"{path.name}.{name}"), self._version + purpose.encode(), shared)

    def _key(self, sig: Any, target_context: Any) -> str:
        checked = bool(numba.config.BOUNDSCHECK)
        text = f"{sig} {target_context.codegen().magic_tuple()} {sorted(self._options.items())} {checked}"
        return hashlib.sha256(text.encode()).hexdigest()

    @functools.cached_property
    def _version(self) -> bytes:
        """What the code is compiled from, and by what."""
        read = getattr(self._function.__globals__.get("__loader__"), "get_data", None)
        if read is None:
            raise FileNotFoundError(f"{self._function.__module__} has no source")
        return hashlib.sha256(
            f"{sys.version} {caches.fingerprint()}".encode() + read(self._function.__code__.co_filename)
        ).digest()

    @functools.cached_property
    def _place(self) -> tuple[Path, bool]:
        """The folder and the beginning of the files' names, and whether that folder belongs to an
        installation.
        """
        code = self._function.__code__
        source = Path(code.co_filename)
        function = code.co_qualname.replace("<", "").replace(">", "")
        name = f"{source.stem}.{function}-{code.co_firstlineno}.{sys.implementation.cache_tag}"
        apart = f"{source.parent.name}_{hashlib.sha256(bytes(source.parent)).hexdigest()[:20]}"
        if numba.config.CACHE_DIR and caches.private(
            chosen := Path(numba.config.CACHE_DIR).absolute() / apart
        ):
            return chosen / name, False
        beside = source.parent / "__pycache__"
        if source.parent == caches.folder():
            return beside / name, False
        if os.access(beside if beside.is_dir() else source.parent, os.W_OK):
            return beside / name, True
        return caches.folder() / apart / name, False


def _before_fork() -> None:
    with deferred():
        for lock in _LOCKS:
            lock.__enter__()


def _after_fork() -> None:
    with deferred():
        for lock in reversed(_LOCKS):
            lock.__exit__(None, None, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
