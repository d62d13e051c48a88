"""``python -m numgraph``."""

from numgraph.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
