"""Training: epochs with a best model kept (fit), recipes of models for datasets, and pictures of runs."""

from numgraph.training.fit import *  # noqa: F403
