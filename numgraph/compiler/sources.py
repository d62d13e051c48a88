"""Generated source on disk: a kernel's text is written once to a cache folder, imported from there, and
compiled with Numba's disk cache.

The file's name is a hash of the text, the folder's one of all that the text's meaning depends on (this
package's kernels, Numba, llvmlite). What runs is the text that was generated, never the file, which is there
to be read."""

from __future__ import annotations

import hashlib
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from numgraph.runtime import caches
from numgraph.runtime.compiling import undisturbed

_modules: dict[str, ModuleType] = {}


class _Loader(SourceFileLoader):
    """Imports a text that is here already; its byte code is kept."""

    def __init__(self, name: str, path: str, text: bytes) -> None:
        super().__init__(name, path)
        self._text = text

    def path_stats(self, path: Any) -> dict[str, Any]:
        return {"mtime": 0, "size": len(self._text)}

    def get_data(self, path: Any) -> bytes:
        return self._text if path == self.path else caches.kept(Path(path), self._text)

    def set_data(self, path: Any, data: Any, *, _mode: int = 0) -> None:
        caches.keep(Path(path), bytes(data), self._text)


def name_of(text: str) -> str:
    """The name of a text's module and file."""
    return "numgraph_kernel_" + hashlib.sha256(text.encode()).hexdigest()[:20]


def load(text: str) -> ModuleType:
    """The module of a generated text; its ``body`` is compiled, from the disk cache if another process did so
    before.
    """
    name = name_of(text)
    module = _modules.get(name)
    if module is not None:
        return module
    with undisturbed():
        if name in _modules:
            return _modules[name]
        path = caches.folder() / f"{name}.py"
        loader = _Loader(name, str(path), text.encode())
        caches.show(path, text.encode())
        spec = spec_from_loader(name, loader)
        assert spec is not None
        module = module_from_spec(spec)
        sys.modules[name] = module  # Numba finds a function's module by its name
        try:
            loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        _modules[name] = module
        return module
