"""What to write in a message in place of what it cannot have."""

from __future__ import annotations

from numgraph.errors import did_you_mean
from numgraph.expressions import elementary

INSTEAD = {
    "dot": "write np.dot(x, y)",
    "vdot": "write (u.x * v.y).sum(-1)",
    "std": "write np.std(x, -1)",
    "var": "write np.var(x, -1)",
    "take": "write x[..., [2, 0]]; of the rows of a table, ng.take(table, ids)",
    "prod": "write np.exp(np.log(x).sum(-1)) for positive x",
    "any": "write (condition).max(-1)",
    "all": "write (condition).min(-1)",
    "reshape": "reshape the field before the call; [..., None] adds axes",
    "T": "write np.transpose(x)",
    "transpose": "write np.transpose(x)",
    "clip": "write np.clip(x, low, high)",
    "exp": "write np.exp(x)",
    "squeeze": "write np.squeeze(x)",
    "abs": "write np.abs(x)",
    "astype": "write x.astype(np.float32)",
}
"""What a message says in place of functions that it cannot have."""


def instead(name: str) -> str:
    """What to write in place of a function or attribute that a message cannot have, as the end of an error's
    text.
    """
    if name in INSTEAD:
        return f"; {INSTEAD[name]}"
    near = did_you_mean(name, (*elementary.TABLE, "sum", "max", "min", "mean", "clip"))
    return (
        f"; known are arithmetic, comparisons and NumPy's elementary functions{near}; or compute it before "
        "the call and pass it as a field"
    )


def instead_of_scipy(name: str) -> str:
    """The same for a function of scipy.special."""
    near = did_you_mean(name, elementary.SCIPY)
    return (
        f"; of scipy.special it has {', '.join(elementary.SCIPY)}{near}; compute others of nodes' or edges' "
        f"rows before the call, y = {name}(x), and pass that as a field, u={{'y': y}}"
    )
