"""The CUDA target: whether it can be used here, and walks over graphs whose arrays are on a device."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from numgraph.graph import Graph
from numgraph.kernels.walk import Arrays, Output


def available() -> str | None:
    """None if kernels can run on a CUDA device here, else what is missing, as one sentence."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "the package numba-cuda is not installed (pip install 'numgraph[cuda]')"
    from numba import cuda

    if cuda.is_available():
        return None
    problem = cuda.cuda_error()
    if problem is None:
        return "numba-cuda finds no libNVVM (pip install 'numgraph[cuda]' brings it)"
    return f"there is no usable NVIDIA driver or device ({' '.join(str(problem).split()).rstrip('.: ')})"


def devices() -> list[str]:
    """Names of the CUDA devices, in their order; empty where the target is not available."""
    if available() is not None:
        return []
    from numba import cuda

    names = [getattr(device, "name", "CUDA simulator") for device in cuda.gpus]
    return [name.decode() if isinstance(name, bytes) else name for name in names]


def execute(graph: Graph, outputs: Sequence[Output], fields: Arrays) -> list[Any]:
    """All arrays of all outputs, in order (see Output.results): those of cpu.execute, read and made on the graph's device."""
    raise NotImplementedError("kernels of the CUDA target")
