"""CuPy: arrays of the CUDA device, and those of other libraries there that say where their memory is."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph.arrays.library import Library
from numgraph.errors import missing

INSTALL = "pip install 'numgraph[cuda]'"


def module() -> Any:
    """CuPy, imported when a device is first asked for."""
    try:
        import cupy
    except ModuleNotFoundError:
        raise missing("cuda", "arrays on a CUDA device need CuPy, which is not installed", INSTALL) from None
    return cupy


class CuPy(Library):
    """What exposes ``__cuda_array_interface__``: CuPy's arrays, and those of Numba and others, which
    ``adopted`` makes CuPy's.
    """

    name = "CuPy"

    def __init__(self) -> None:
        self.kinds: set[type] = set()  # CuPy's own types that were met, which need not be asked

    def owns(self, kind: type) -> bool:
        return hasattr(kind, "__cuda_array_interface__")

    def namespace(self, x: Any) -> Any:
        """Other libraries' types may have the attribute where an array of the host raises at it."""
        if type(x) in self.kinds:
            return module()
        library = module() if hasattr(x, "__cuda_array_interface__") else np
        if library is not np and isinstance(x, library.ndarray):
            self.kinds.add(type(x))
        return library

    def adopted(self, x: Any) -> Any:
        library = self.namespace(x)
        return x if library is np or isinstance(x, library.ndarray) else library.asarray(x)

    def uniform(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        """Those of CuPy's Philox, whose seed is drawn from ``rng``."""
        random = module().random
        return random.Generator(random.Philox4x3210(int(rng.integers(2**63)))).random(shape, np.float32)
