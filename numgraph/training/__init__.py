"""Training: epochs with a best model kept (fit), what is minimised and measured, recipes of models, saved models that predict, pictures."""

from numgraph.training.fit import Diverged, History, evaluate, fit
from numgraph.training.metrics import Metrics

__all__ = ["Diverged", "History", "Metrics", "evaluate", "fit"]
