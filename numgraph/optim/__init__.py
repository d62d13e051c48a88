"""Optimisers, schedules of their learning rates, and clipping of gradients.

To import from outside: what stands here.
"""

from numgraph.errors import no_attribute
from numgraph.optim.clipping import clip_gradients
from numgraph.optim.optimizers import SGD, Adam, AdamW, Optimizer
from numgraph.optim.schedules import CosineAnnealing, ReduceOnPlateau, Schedule, StepLR, Warmup

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "CosineAnnealing",
    "Optimizer",
    "ReduceOnPlateau",
    "Schedule",
    "StepLR",
    "Warmup",
    "clip_gradients",
]


def __getattr__(name: str) -> object:
    raise no_attribute("numgraph.optim", name, __all__)
