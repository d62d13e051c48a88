"""Where a compiler traces Python: torch.compile runs the public functions symbolically, and a call becomes
one node of its graph.

A function that may be traced begins with
``if "torch" in MODULES and is_traced(): return TRACED["torch"](function, args, options)``, which costs the
others 0.03 µs a call."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

MODULES = sys.modules

TRACED: dict[str, Callable[..., Any]] = {}
"""By compiler, what makes a node of a call: a function, its positional arguments, and those by name; and what
runs a call uncompiled, for functions that make graphs."""


def is_traced() -> bool:
    """Whether torch.compile is tracing the caller. torch must be imported."""
    return MODULES["torch"].compiler.is_dynamo_compiling() and _is_ready()


def _is_ready() -> bool:
    bridge = importlib.import_module("numgraph.bridges.torch_compile")
    TRACED["torch"], TRACED["torch, between its parts"] = bridge.traced, bridge.between
    return True


_is_ready._dynamo_marked_constant = True  # type: ignore[attr-defined]  # run by torch.compile, not traced
