"""The command line, ``numgraph`` or ``python -m numgraph``."""

from numgraph.cli.main import main

__all__ = ["main"]
