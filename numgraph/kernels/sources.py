"""Generated source on disk: a kernel's text is written once to a cache folder, imported from there, and compiled with Numba's disk cache.

The file's name is a hash of the text and of everything its meaning depends on (this package's kernels, Numba, llvmlite). Files are written
atomically, so processes may race. Without a writable folder the kernels go to a folder of the process.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from types import ModuleType

import llvmlite
import numba

_lock = threading.Lock()
_modules: dict[str, ModuleType] = {}


def cache_root() -> Path:
    """Where the package keeps what it can make or fetch again: NUMGRAPH_CACHE_DIR, else numgraph under XDG_CACHE_HOME or ~/.cache."""
    given = os.environ.get("NUMGRAPH_CACHE_DIR")
    if given:
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numgraph"
    except RuntimeError:  # a user without a home, as containers have them: a folder that cannot be made
        return Path(os.devnull) / "numgraph"


def place() -> Path:
    """The cache folder of the kernels, whether or not it is there."""
    return cache_root() / f"kernels-{_fingerprint()}"


@functools.cache
def folder() -> Path:
    """The cache folder, made if it is not there; a temporary one where it cannot be written."""
    path = place()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError:
        temporary = Path(tempfile.mkdtemp(prefix="numgraph-"))
        owner = os.getpid()
        atexit.register(lambda: shutil.rmtree(temporary, ignore_errors=True) if os.getpid() == owner else None)
        return temporary


@functools.cache
def _fingerprint() -> str:
    """A hash of what gives generated text its meaning."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {numba.config.BOUNDSCHECK}".encode())
    for name in ("lanes", "memory", "arithmetic", "vectormath", "vectorvalues"):
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return digest.hexdigest()[:12]


def _holds(path: Path, text: str) -> bool:
    """Whether the file is there with this text: after a crash of the machine it may be there without."""
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _written(name: str, text: str) -> Path:
    path = folder() / f"{name}.py"
    if not _holds(path, text):
        handle, temporary = tempfile.mkstemp(dir=folder(), suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    return path


def name_of(text: str) -> str:
    """The name of a text's module and file."""
    return "numgraph_kernel_" + hashlib.sha256(text.encode()).hexdigest()[:20]


def load(text: str) -> ModuleType:
    """The module of a generated text; its ``body`` is compiled, from the disk cache if another process did so before."""
    name = name_of(text)
    module = _modules.get(name)
    if module is not None:
        return module
    with _lock:
        if name in _modules:
            return _modules[name]
        try:
            path = _written(name, text)
        except OSError:  # a full disk, or not even a temporary folder: this kernel is compiled by every process
            module = sys.modules[name] = ModuleType(name)
            exec(compile(text, f"<{name}>", "exec"), module.__dict__)
        else:
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module  # Numba's cache finds a function's module by its name
            spec.loader.exec_module(module)
        _modules[name] = module
        return module
