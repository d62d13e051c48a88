"""What would lose a gradient without a word: results that no tape can follow, and threads that do not know
the tape.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import Any

from numgraph.autodiff.tensor import RECORDING, Off, Tensor
from numgraph.errors import bad_type, bad_value


def plain(name: str, y: Any, inputs: Sequence[Any]) -> Any:
    """A result without a gradient, as integers are; complex numbers and objects have one, which would be
    lost.
    """
    if y.dtype.kind in "cO":
        for x in inputs:
            if isinstance(x, Tensor) and x._is_recorded():
                problem = (
                    f"the result has dtype {y.dtype}, and the gradient of an argument of shape {x.shape} "
                    "would be lost"
                )
                raise bad_type(
                    name,
                    problem,
                    "compute with real numbers, real and imaginary part apart; tensor.data detaches it",
                )
    return y


def check_thread(name: str, inputs: Sequence[Any], tapes: tuple[Any, ...]) -> None:
    """What a tape tracks is not used by another thread, where no operation gets on it: part of its gradient
    would be lost.
    """
    if isinstance(tapes, Off):
        return
    for x in inputs:
        if type(x) is not Tensor or any(tape.reached(x) for tape in tapes):
            continue
        for tape in tuple(RECORDING):
            if tape._thread != get_ident() and tape not in tapes and tape.records(x):
                problem = (
                    f"a Tensor of shape {x.shape} that a tape of another thread records is used, and its "
                    "gradient would be lost"
                )
                fix = (
                    "let the thread run contextvars.copy_context().run(function, …), which knows the tape; "
                    "tensor.detach() is a constant"
                )
                raise bad_value(name, problem, fix)
