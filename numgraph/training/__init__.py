"""Training: epochs with a best model kept (fit), what is minimised and measured, recipes of models, saved models that predict, pictures."""

from numgraph.training.fit import Diverged, evaluate, fit
from numgraph.training.metrics import Metrics
from numgraph.training.predictor import Predictor
from numgraph.training.standing import History
from numgraph.training.triples import fit_triples, rank_triples

__all__ = ["Diverged", "History", "Metrics", "Predictor", "evaluate", "fit", "fit_triples", "rank_triples"]


def __getattr__(name: str) -> object:
    """The part for MPI, imported when it is asked for."""
    if name == "SharedDataset":
        from numgraph.training.shared import SharedDataset

        return SharedDataset
    raise AttributeError(f"module 'numgraph.training' has no attribute {name!r}")
