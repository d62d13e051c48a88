"""What to write in a message in place of what it cannot have."""

from __future__ import annotations

from numgraph.errors import did_you_mean
from numgraph.expressions import elementary

INSTEAD = {
    "matmul": "multiply the nodes' features by the matrix before the call, as u={'x': x @ weight}",
    "dot": "write (u.x * v.y).sum(-1)",
    "vdot": "write (u.x * v.y).sum(-1)",
    "inner": "write (u.x * v.y).sum(-1)",
    "vecdot": "write (u.x * v.y).sum(-1)",
    "einsum": "write (u.x * v.y).sum(-1), with axes aligned by [..., None]",
    "norm": "write np.sqrt(np.square(u.x).sum(-1))",
    "std": "write np.sqrt(np.square(u.x - u.x.mean(-1, keepdims=True)).mean(-1))",
    "var": "write np.square(u.x - u.x.mean(-1, keepdims=True)).mean(-1)",
    "prod": "write np.exp(np.log(x).sum(-1)) for positive x",
    "any": "write (condition).max(-1)",
    "all": "write (condition).min(-1)",
    "concatenate": "call once for each part and join the results, or join the fields before the call",
    "stack": "call once for each part and join the results, or join the fields before the call",
    "arcsin": "write np.arctan(x / np.sqrt(1 - x * x))",
    "reshape": "reshape the field before the call; [..., None] adds axes",
    "T": "transpose the field before the call",
    "transpose": "transpose the field before the call",
    "clip": "write np.clip(x, low, high)",
    "exp": "write np.exp(x)",
    "squeeze": "leave keepdims out of the sum or maximum before it",
    "abs": "write np.abs(x)",
    "astype": "write x.astype(np.float32)",
}
"""What a message says in place of functions that it cannot have."""


def instead(name: str) -> str:
    """What to write in place of a function or attribute that a message cannot have, as the end of an error's text."""
    if name in INSTEAD:
        return f"; {INSTEAD[name]}"
    near = did_you_mean(name, (*elementary.TABLE, "sum", "max", "min", "mean", "clip"))
    return (
        f"; known are arithmetic, comparisons and NumPy's elementary functions{near}; or compute it before the call and pass it as a field"
    )
