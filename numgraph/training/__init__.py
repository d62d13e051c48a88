"""Training: epochs with a best model kept (fit), cross-validation, what is minimised and measured, recipes,
saved models, pictures.
"""

from numgraph.errors import no_attribute
from numgraph.training.fit import Diverged, evaluate, fit
from numgraph.training.folds import CrossValidation, cross_validate
from numgraph.training.metrics import Metrics
from numgraph.training.predictor import Predictor
from numgraph.training.standing import History
from numgraph.training.triples import fit_triples, rank_triples

__all__ = [
    "CrossValidation",
    "Diverged",
    "History",
    "Metrics",
    "Predictor",
    "cross_validate",
    "evaluate",
    "fit",
    "fit_triples",
    "rank_triples",
]


def __getattr__(name: str) -> object:
    """The part for MPI, imported when it is asked for."""
    if name == "SharedDataset":
        from numgraph.training.shared import SharedDataset

        return SharedDataset
    raise no_attribute("numgraph.training", name, __all__)
