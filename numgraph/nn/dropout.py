"""Dropout of features, and of attention coefficients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from numgraph.arrays.inputs import generator
from numgraph.autodiff.tape import unwrap
from numgraph.dense import dropout
from numgraph.dense.masks import kept
from numgraph.errors import bad_value, shown
from numgraph.expressions.precision import narrowed
from numgraph.graph import Graph
from numgraph.message import apply_edges, attend, update_all
from numgraph.nn.init import Seed
from numgraph.nn.module import Module
from numgraph.nn.typed import of_features
from numgraph.ops import edge_softmax


def check_dropout(op: str, p: float) -> float:
    if not isinstance(p, int | float | np.number) or not 0 <= p < 1:
        raise bad_value(op, f"dropout is {shown(p)}", "it is a probability, 0 ≤ dropout < 1")
    return float(p)


class Dropout(Module):
    """While training, each element is 0 with probability p, and the others are scaled by 1 / (1 − p)
    (Srivastava et al., JMLR 2014).

    Parameters
    ----------
    p : the probability, in [0, 1)
    rng : a seed or a Generator, which draws the masks

    Notes
    -----
    Called as ``dropout(x)``: an array, Tensor or SciPy sparse matrix, whose stored elements are dropped.
    Returns x's shape. ``rng`` at a call draws instead of the layer's own.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> layer = ng.nn.Dropout(0.5, rng=0)
    >>> sorted(set(layer(np.ones(100)).tolist())), layer.eval()(np.ones(2)).tolist()
    ([0.0, 2.0], [1.0, 1.0])
    """

    def __init__(self, p: float = 0.5, *, rng: Seed = None) -> None:
        self.p = check_dropout("Dropout", p)
        self.rng = generator(type(self).__name__, rng)

    @of_features
    def forward(self, x: Any, *, rng: np.random.Generator | None = None) -> Any:
        return dropout(x, self.p, self.rng if rng is None else rng, self.training)


def attend_dropping(
    g: Graph,
    score: Callable[..., Any],
    p: float,
    rng: np.random.Generator,
    *,
    u: Mapping[str, Any],
    v: Mapping[str, Any],
    e: Mapping[str, Any] | None = None,
    value: Callable[..., Any] | None = None,
    weights: bool = False,
) -> tuple[Any, Any]:
    """z_v = Σ_e α_e · keep_e / (1 − p) · φ_e with α = softmax_v(score): attention whose coefficients are
    dropped with probability p.

    u["h"]: [num_src, heads, features]; score: [heads, 1] an edge; value: φ, a function of u and e, or None
    for u.h. Returns [num_dst, heads, features] in h's dtype, and with ``weights`` what each edge's φ was
    multiplied by, [num_edges, heads], else None. The mask is one byte for each edge and head; weights are
    made only if they are asked for."""
    dtype, fields = u["h"].dtype, dict(e or {})
    if p:
        fields["kept"], scale = kept(rng, (g.num_edges, u["h"].shape[1], 1), p, unwrap(u["h"])), 1 / (1 - p)
    if weights:
        alpha = edge_softmax(g, apply_edges(g, score, u=u, v=v, e=e))
        alpha = np.where(fields["kept"], alpha * scale, 0) if p else alpha
        product = (lambda u, e: u.h * e.alpha) if value is None else (lambda u, e: value(u, e) * e.alpha)
        z = update_all(g, product, "sum", u=u, e={**(e or {}), "alpha": alpha})
        return narrowed(z, dtype), narrowed(alpha.reshape(alpha.shape[:2]), dtype)
    if p:
        whole = _of_h if value is None else value
        return narrowed(
            attend(g, score, lambda u, e: np.where(e.kept, whole(u, e) * scale, 0), u=u, v=v, e=fields), dtype
        ), None
    return narrowed(attend(g, score, (lambda u: u.h) if value is None else value, u=u, v=v, e=e), dtype), None


def _of_h(u: Any, e: Any) -> Any:
    return u.h
