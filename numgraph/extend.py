"""What others add: an operation of the tape, a NumPy function of Tensors, an elementary function, a reduce.

Public, and promised as the rest of the API is. docs/extending.md has an example of each.
"""

from __future__ import annotations

from numgraph.autodiff.rules import rule
from numgraph.autodiff.tape import record, unwrap
from numgraph.compiler.reduces import REDUCES as _RUNS
from numgraph.compiler.reduces import Part
from numgraph.compiler.reduces import Reduce as Steps
from numgraph.errors import bad_value
from numgraph.expressions.elementary import Row
from numgraph.expressions.reduces import NAMES as _NAMES
from numgraph.expressions.reduces import REDUCES as _MEANINGS
from numgraph.expressions.reduces import Reduce
from numgraph.expressions.reduces import one as one_result

__all__ = ["Part", "Reduce", "Row", "Steps", "one_result", "record", "reduce", "rule", "unwrap"]


def reduce(name: str, meaning: Reduce, steps: Steps) -> None:
    """Add a reduce of ``update_all``, and of whatever takes a reduce by its name: ``ops``, ``readout``,
    layers' ``aggr``.

    Parameters
    ----------
    name : what it is called.
    meaning : its results, their definition in NumPy, its derivative, and what a node without in-edges has.
        Results of one array with the message's shape and dtype are ``arrays=one_result``.
    steps : how a kernel runs it, edge by edge: the state, a step,
        how states of edges that were side by side become one, what is stored.

    Raises
    ------
    ValueError
        There is a reduce of this name.
    """
    if name in _MEANINGS:
        raise bad_value("extend.reduce", f"there is a reduce {name!r} already", "take another name")
    _MEANINGS[name], _RUNS[name] = meaning, steps
    _NAMES.append(name)
